//! What a relay tells whoever watches it, beside what it reports to the controller. Nothing depends on a notice being
//! heard.

use crate::{PeerView, PlainId};
use wire_format::control::{LinkState, StreamName};
use wire_format::{Incarnation, MediaKind, SubscriptionId};

/// Something that operators and SFUs may want to know at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// A stream enters the overlay here, or is wanted here.
    StreamUp {
        /// The stream.
        name: StreamName,
        /// What it carries.
        kind: MediaKind,
        /// Which publication of it.
        incarnation: Incarnation,
    },
    /// It does no longer.
    StreamDown {
        /// The stream.
        name: StreamName,
    },
    /// A link stands, changed, or is gone.
    Link {
        /// The other end.
        peer: PeerView,
        /// `None`: it is gone.
        state: Option<LinkState>,
    },
    /// The controller has given a plain publication its ids: its packets flow from now on.
    Granted {
        /// The registration.
        id: PlainId,
    },
    /// A plain registration ended by itself.
    Ended {
        /// The registration.
        id: PlainId,
        /// Why.
        reason: EndReason,
    },
    /// A stream is not sent to a plain subscriber, because another with the same SSRC already goes to its address.
    Collision {
        /// The registration.
        subscription: SubscriptionId,
        /// The stream that is held back.
        name: StreamName,
        /// Of both.
        ssrc: u32,
    },
    /// The relay is to be empty, or about to stop: SFUs go to others.
    Draining,
}

/// Why a plain registration ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EndReason {
    /// Nobody renewed its lease.
    Lease,
    /// The controller refused it, in its words.
    Refused(String),
    /// A limit is reached, of its namespace or of this relay; which, in words.
    Limit(String),
}
