//! The names that numbers carry on the wire. Each is a type of its own, so that no two can be swapped.

use crate::Slack;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A relay's index in the overlay, given by the controller and quarantined before reuse.
    NodeIndex(u16)
}
id! {
    /// A room, unique across namespaces, given by the controller.
    RoomId(u32)
}
id! {
    /// A participant within its room, given by the controller.
    UserId(u32)
}
id! {
    /// One RTP stream of a user, given by the controller. A simulcast layer is a stream of its own.
    StreamId(u16)
}
id! {
    /// Distinguishes one publication of a stream from the next one under the same ids, so that a publisher that
    /// starts again at sequence 0 is not taken for a duplicate. Wraps.
    Incarnation(u8)
}
id! {
    /// The publisher's count of packets of one stream and incarnation; wraps after 2^32.
    Sequence(u32)
}
id! {
    /// Version of all route tables together. On the wire a media frame carries its low 16 bits.
    Epoch(u32)
}
id! {
    /// A complete, loop-free set of routes of a policy: 0 primary, 1 red, 2 blue. At most 3 (two bits on the wire).
    Plane(u8)
}
id! {
    /// Names one receiving association (link and lane) of a port; random, chosen by the receiver.
    ReceiverIndex(u32)
}
id! {
    /// Number of a sealed datagram of one link and direction. Never repeats under one key.
    PacketNumber(u64)
}
id! {
    /// Names a stream on the link between an SFU and its relay; chosen by the relay, meaningless elsewhere.
    StreamHandle(u16)
}
id! {
    /// A publication as its ingress relay counts them; meaningless at other relays.
    PublicationId(u32)
}
id! {
    /// A subscription as its egress relay counts them; meaningless at other relays.
    SubscriptionId(u32)
}

/// Names a policy: what counts as a good route for some streams. At most [`PolicyIndex::COUNT`] of them (three bits on
/// the wire).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PolicyIndex(u8);

impl PolicyIndex {
    /// The policy of everything that no other is meant for.
    pub const DEFAULT: PolicyIndex = PolicyIndex(0);
    /// So many policies there can be.
    pub const COUNT: usize = 8;

    /// The policy of this number, `None` if it is too large.
    pub fn new(number: u8) -> Option<PolicyIndex> {
        (usize::from(number) < PolicyIndex::COUNT).then_some(PolicyIndex(number))
    }

    /// From the 3 bits on the wire; higher bits are ignored.
    pub fn from_bits(bits: u8) -> PolicyIndex {
        PolicyIndex(bits & 0x07)
    }

    /// The 3 bits on the wire.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The same as a place in an array.
    pub fn place(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for PolicyIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Plane {
    /// Shortest paths.
    pub const PRIMARY: Plane = Plane(0);
    /// First redundant tree.
    pub const RED: Plane = Plane(1);
    /// Second redundant tree, disjoint from red.
    pub const BLUE: Plane = Plane(2);
}

impl Epoch {
    /// The part that travels in a media frame.
    pub fn tag(self) -> u16 {
        self.0 as u16
    }
}

/// A stream anywhere in the overlay.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct StreamKey {
    /// The call.
    pub room: RoomId,
    /// The participant.
    pub user: UserId,
    /// The participant's stream.
    pub stream: StreamId,
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.room, self.user, self.stream)
    }
}

/// A random number that a client keeps to itself and says on each of its links: who repeats it is the same client. Never
/// logged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClientKey(pub [u8; 16]);

impl ClientKey {
    /// By what a publication of this client is known to be the same on another of its links.
    pub fn publisher(self, request: u32) -> PublisherKey {
        PublisherKey(u128::from_be_bytes(self.0).wrapping_add(request.into()).to_be_bytes())
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientKey")
    }
}

/// A publication of a [`ClientKey`], whichever link it is made on: a secret like that one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublisherKey(pub [u8; 16]);

impl fmt::Debug for PublisherKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublisherKey")
    }
}

/// What a stream carries; decides default priority and delay budget.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MediaKind {
    /// A voice or music stream.
    Audio,
    /// A camera or screen stream.
    Video,
}

impl MediaKind {
    /// The delay budget of a stream whose publisher names none. Both kinds have the same: what is heard and what is seen
    /// belong together.
    pub fn budget_default(self) -> Duration {
        match self {
            MediaKind::Audio | MediaKind::Video => Duration::from_millis(200),
        }
    }

    /// What the packets of a stream with this delay budget begin with; `None` takes the default.
    ///
    /// # Errors
    /// [`BudgetError`] if it is shorter than [`BUDGET_MIN`] or longer than [`BUDGET_MAX`].
    pub fn slack(self, budget: Option<Duration>) -> Result<Slack, BudgetError> {
        let budget = budget.unwrap_or(self.budget_default());
        if (BUDGET_MIN..=BUDGET_MAX).contains(&budget) {
            Ok(Slack::from_duration(budget))
        } else {
            Err(BudgetError(budget))
        }
    }
}

/// Shortest delay budget. So little is rarely of use: hosts alone take a few milliseconds now and then.
pub const BUDGET_MIN: Duration = Duration::from_millis(1);
/// Longest delay budget: about what [`Slack`] holds.
pub const BUDGET_MAX: Duration = Duration::from_millis(6000);

/// A delay budget that no stream can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a delay budget of {0:?}: it must be {BUDGET_MIN:?} to {BUDGET_MAX:?}")]
pub struct BudgetError(Duration);
