//! What can go wrong.

use link_io::LinkError;
use std::time::Duration;
use wire_format::session::RefusalCode;
use wire_format::{BudgetError, DescriptionError};

/// No link to the overlay.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// `relays` is empty.
    #[error("no relay is configured: name at least one as host:port")]
    NoRelays,
    /// The UDP socket cannot be set up.
    #[error("{0}")]
    Port(#[from] link_io::PortError),
    /// Every relay was tried; the last one's error for each.
    #[error("no relay could be reached: {}", list(.0))]
    Relays(Vec<(String, RelayError)>),
}

impl ConnectError {
    /// The refusal of the first relay that refused (rather than not answering), if any did.
    pub fn refusal(&self) -> Option<(RefusalCode, &str)> {
        let ConnectError::Relays(relays) = self else { return None };
        relays.iter().find_map(|(_, error)| match error {
            RelayError::Link(LinkError::Refused { address: _, code, reason }) => {
                Some((*code, reason.as_str()))
            }
            RelayError::Link(_) | RelayError::Resolve(_) | RelayError::NoAddress => None,
        })
    }
}

fn list(relays: &[(String, RelayError)]) -> String {
    relays.iter().map(|(relay, error)| format!("{relay}: {error}")).collect::<Vec<_>>().join("; ")
}

/// Why one relay could not be linked to.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// Its name cannot be resolved.
    #[error("cannot resolve the name: {0}")]
    Resolve(std::io::Error),
    /// Its name has no address.
    #[error("the name has no address")]
    NoAddress,
    /// No link.
    #[error("{0}")]
    Link(#[from] LinkError),
}

/// A publication or subscription could not be made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RequestError {
    /// The overlay refused it.
    #[error("refused ({code:?}): {reason}")]
    Refused {
        /// For programs.
        code: RefusalCode,
        /// For people.
        reason: String,
    },
    /// The delay budget is too short or too long.
    #[error("{0}")]
    Budget(#[from] BudgetError),
    /// The description of its RTP does not suit the stream.
    #[error("{0}")]
    Description(#[from] DescriptionError),
    /// No answer in time: no link, or a relay without its controller.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// As many publications and subscriptions as a client may have.
    #[error("{0} publications and subscriptions are the limit")]
    TooMany(usize),
    /// The link was closed by this side.
    #[error("the link is closed")]
    Closed,
}

/// A packet was not sent; it is counted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SendError {
    /// Packets come faster than they are sent.
    #[error("queue full: packets come faster than they are sent")]
    Full,
    /// Larger than the overlay carries.
    #[error("packet of {0} bytes; the overlay carries at most {max}: lower the encoder's packet size", max = wire_format::RTP_BYTES_MAX)]
    TooLarge(usize),
    /// Neither RTP nor RTCP.
    #[error("not a packet of RTP version 2")]
    NotRtp,
    /// The overlay took the publication back.
    #[error("refused ({code:?}): {reason}")]
    Refused {
        /// For programs.
        code: RefusalCode,
        /// For people.
        reason: String,
    },
    /// The link was closed by this side.
    #[error("the link is closed")]
    Closed,
}
