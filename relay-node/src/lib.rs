//! The relay process of Cascade.
//!
//! Around the relay core ([`relay_core::Relay`], which decides everything about media) and the relay port
//! ([`link_io::Port`], which moves the bytes) this crate puts what needs files, names and patience:
//!
//! - [`Cli`], [`Settings`], [`Config`]: settings from a file and flags, checked before anything starts.
//! - The join: with a one-time token the relay gets its certificate; later starts find it in the state directory.
//! - The session with the controller, renewed for as long as the relay runs. Everything that a session carries is state
//!   that the next one repeats, so a session that lost anything simply ends. Without a controller the relay keeps
//!   forwarding by its last tables.
//! - Diallers, which keep up the links to neighbours of a higher node index, and admission, which judges whoever dials
//!   this relay: relays by certificate and neighbour list, clients by their token, checked offline.
//! - The local HTTP API: health, metrics, links, tables, streams, and registrations of plain RTP.
//!
//! [`run`] is the process; [`RelayNode`] is the same for programs that hold several relays. Nothing here is global:
//! relays of one process share no state.

mod api;
mod backoff;
mod client_token;
mod clock;
mod config;
mod diallers;
mod error;
mod identity;
mod join;
mod limits;
mod node;
mod overlay;
mod plain;
mod recording;
mod renewal;
mod session;
mod silence;
mod telemetry;
mod tls;
mod workers;

pub use config::{ApiConfig, Cli, Config, LogConfig, Settings};
pub use error::RelayError;
pub use limits::{LimitSettings, Limits};
pub use node::{RelayNode, run};
pub use plain::{Network, PlainConfig};
pub use recording::RecordedRelay;

use std::io::{Write as _, stderr};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Resolves when the process is asked to stop: SIGTERM or SIGINT.
///
/// # Errors
/// If the signals cannot be caught.
pub fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// The end of the process. What went wrong is told in plain words, whatever the log looks like: wrong settings fail
/// before there is one. Exit status 2 for wrong settings, 1 for everything else.
pub fn exit_code(outcome: Result<(), RelayError>) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    // Nobody is left to tell if stderr is closed.
    let _ = writeln!(stderr(), "relay-node: {error}");
    ExitCode::from(if let RelayError::Config(_) = error { 2 } else { 1 })
}
