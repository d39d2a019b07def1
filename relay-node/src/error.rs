//! Why a relay does not start.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a relay does not start, or stops. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] control_proto::cli::ConfigError),
    /// The state directory, or a file named by a setting, cannot be used.
    #[error("{path}: {source}; {advice}")]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
        /// What to do.
        advice: &'static str,
    },
    /// What the state directory holds makes no sense, or is not for this relay.
    #[error("state_dir {path}: {problem}")]
    State {
        /// The directory.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// There is neither a certificate nor a join token.
    #[error(
        "this relay has no certificate in state_dir {state_dir} and no join token{}: create one with `relayctl \
         join-token create --name NAME --region REGION` and set join_token_file",
        .token_file.as_ref().map(|file| format!(" ({} does not exist)", file.display())).unwrap_or_default()
    )]
    NotJoined {
        /// The directory.
        state_dir: PathBuf,
        /// Where a token was looked for in vain.
        token_file: Option<PathBuf>,
    },
    /// The controller does not let this relay join.
    #[error("cannot join: {0}")]
    JoinRefused(String),
    /// The local API cannot listen.
    #[error("cannot listen on {address} for the local API: {source}; set api_listen to a free address")]
    ApiListen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The relay port cannot be opened.
    #[error("relay port: {0}; set `listen` to a free address of this host")]
    Port(#[from] link_io::PortError),
    /// The relay port's worker ended by itself.
    #[error("the relay port has stopped: the worker ended by itself, its last log lines say why")]
    PortStopped,
    /// The system does not let the process catch signals.
    #[error("cannot catch signals: {0}")]
    Signals(#[from] std::io::Error),
    /// Something in the TLS library refused our own material.
    #[error("{0}")]
    Tls(String),
}
