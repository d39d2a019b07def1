//! What can go wrong for a caller.

use std::io;
use std::net::SocketAddr;
use wire_format::session::RefusalCode;

/// A port cannot be opened, or its identity not be changed.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The socket cannot be bound.
    #[error("cannot bind UDP {address}: {source}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused something else.
    #[error("cannot set up the port: {0}")]
    System(#[from] io::Error),
    /// The certificates or keys are unusable.
    #[error("unusable certificate or key: {0}")]
    Tls(String),
    /// A setting makes no sense.
    #[error("{0}")]
    Config(String),
}

/// A link could not be made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LinkError {
    /// Nobody answered in time.
    #[error("no answer from {0}")]
    Timeout(SocketAddr),
    /// One side does not believe the other's certificate.
    #[error("{address}: {reason}")]
    Untrusted {
        /// Who was dialled.
        address: SocketAddr,
        /// What is wrong with the certificate.
        reason: String,
    },
    /// The other side refused, with its reason.
    #[error("{address} refused the link ({code:?}): {reason}")]
    Refused {
        /// Who was dialled.
        address: SocketAddr,
        /// For programs.
        code: RefusalCode,
        /// For people.
        reason: String,
    },
    /// The other side broke the protocol, or the connection was lost meanwhile.
    #[error("{address}: {reason}")]
    Failed {
        /// Who was dialled.
        address: SocketAddr,
        /// How.
        reason: String,
    },
    /// As many links as allowed stand already.
    #[error("this port holds {0} links, as many as it may")]
    TooManyLinks(usize),
    /// The port is closed.
    #[error("the port is closed")]
    PortClosed,
}

/// The port's worker is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the port is closed")]
pub struct PortClosed;

/// A local packet was not taken; it is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SendError {
    /// The worker does not keep up.
    #[error("queue full: packets come faster than they are sent")]
    Full,
    /// Larger than any frame.
    #[error("packet of {0} bytes is larger than the overlay carries")]
    TooLarge(usize),
    /// The port is closed.
    #[error("the port is closed")]
    Closed,
}
