//! Messages of the reliable stream that each link has beside its sealed datagrams: who is there, what it may do, what
//! it publishes and wants. Encoded by [`crate::codec`].
//!
//! The side that dialled sends `Hello` first; the other answers `Accept` or `Refuse`. Sealed datagrams flow once both
//! sides know each other's receiver index. Requests carry a number that their answer repeats.

use crate::{ClientKey, Incarnation, MediaKind, NodeIndex, StreamHandle};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Lowest and highest version of the link protocol that this build speaks.
pub const WIRE_VERSIONS: (u8, u8) = (1, 4);
/// The first version whose relays send streams on that they receive, stamped anew.
pub const HOLDS_SINCE: u8 = 4;

/// From this version on relays say `Lanes` to each other.
pub const LANES_SINCE_VERSION: u8 = 2;

/// From this version on SFUs may say `PublishProtected`.
pub const PROTECTION_SINCE_VERSION: u8 = 3;

/// From this version on relays forward each policy's frames by tables of its own.
pub const POLICIES_SINCE_VERSION: u8 = 4;

/// From this version on SFUs say `Client`.
pub const CLIENT_SINCE_VERSION: u8 = 4;

/// Lanes of a link, at most.
pub const LANES_MAX: usize = 16;

/// How sealed datagrams are sealed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Cipher {
    /// AES-128-GCM: the fastest where the processor helps.
    Aes128Gcm,
    /// ChaCha20-Poly1305: the fastest where it does not.
    ChaCha20Poly1305,
}

/// Who dials.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// A relay; its certificate must name it.
    Relay {
        /// The index it was given.
        node: NodeIndex,
    },
    /// An SFU or a native client.
    Client {
        /// Its JWT. Never logged.
        token: String,
    },
}

impl std::fmt::Debug for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Role::Relay { node } => f.debug_struct("Relay").field("node", node).finish(),
            Role::Client { token: _ } => f.write_str("Client"),
        }
    }
}

/// Why a link, publication or subscription was refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum RefusalCode {
    /// No version in common.
    Version,
    /// The certificate does not name a neighbour of this relay.
    NotANeighbour,
    /// The token is missing, malformed, signed by an unknown key, or not valid now.
    Token,
    /// The token does not grant this.
    Rights,
    /// A limit is reached.
    Limit,
    /// The request makes no sense.
    Invalid,
    /// The relay is stopping or has no controller yet; try another or later.
    Unavailable,
}

/// Everything that is said on the reliable stream of a link.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Message {
    /// The dialling side's first message.
    Hello {
        /// Lowest and highest version spoken.
        versions: (u8, u8),
        /// Name the sealed datagrams to me so.
        receiver: u32,
        /// What I can open, best first. At most 4.
        ciphers: Vec<Cipher>,
        /// Largest datagram I accept, bytes of UDP payload.
        max_datagram: u16,
        /// Who I am.
        role: Role,
    },
    /// The link stands.
    Accept {
        /// The version to speak.
        version: u8,
        /// Name the sealed datagrams to me so.
        receiver: u32,
        /// The cipher to use in both directions.
        cipher: Cipher,
        /// Largest datagram I accept, bytes of UDP payload.
        max_datagram: u16,
    },
    /// The link, or a request on it, is refused.
    Refuse {
        /// The request, `None` for the link itself.
        request: Option<u32>,
        /// What is wrong, for programs.
        code: RefusalCode,
        /// What is wrong and what to do, for people.
        reason: String,
    },
    /// SFU to relay: a stream begins. Answered with `Published`.
    Publish {
        /// Number of this request and, from now on, of this publication on this link.
        request: u32,
        /// Call.
        room: String,
        /// Participant.
        user: String,
        /// The participant's stream.
        stream: String,
        /// What it carries.
        kind: MediaKind,
        /// Delay budget on top of the path's own delay, ms; `None` takes the default of the kind.
        budget_ms: Option<u32>,
    },
    /// Relay to SFU: send its media under this handle.
    Published {
        /// The request.
        request: u32,
        /// Handle of the stream on this link, from SFU to relay.
        handle: StreamHandle,
    },
    /// SFU to relay: the publication of that request ends.
    Unpublish {
        /// The request that began it.
        request: u32,
    },
    /// SFU to relay: announce and send what matches, now and later. Answered with `Subscribed`.
    Subscribe {
        /// Number of this request and, from now on, of this subscription on this link.
        request: u32,
        /// Call.
        room: String,
        /// Only this participant.
        user: Option<String>,
        /// Only the stream of this name.
        stream: Option<String>,
    },
    /// Relay to SFU: the subscription stands; streams are announced as they come.
    Subscribed {
        /// The request.
        request: u32,
    },
    /// SFU to relay: the subscription of that request ends.
    Unsubscribe {
        /// The request that began it.
        request: u32,
    },
    /// Relay to SFU: a stream that you subscribed to; its media comes under this handle.
    Announce {
        /// Handle of the stream on this link, from relay to SFU.
        handle: StreamHandle,
        /// Subscriptions of this link that it matches.
        subscriptions: Vec<u32>,
        /// Call.
        room: String,
        /// Participant.
        user: String,
        /// The participant's stream.
        stream: String,
        /// What it carries.
        kind: MediaKind,
        /// Which publication of it; a new one starts its sequence anew.
        incarnation: Incarnation,
    },
    /// Relay to SFU: that stream is over, or no longer wanted.
    Ended {
        /// Its handle, free for reuse.
        handle: StreamHandle,
    },
    /// This side is about to stop: the link closes as soon as the other end has no more use for it, or soon after.
    Goodbye,
    /// Between relays, since version 2: the lanes of the link beyond the first. The accepting side says it behind
    /// `Accept`, with as many as it has; the dialling side answers with as many of them as it uses too.
    Lanes {
        /// Name the sealed datagrams of lane 1, 2 ... to me so. At most 15.
        receivers: Vec<u32>,
    },
    /// SFU to relay, since version 3: as `Publish`, of a stream whose packets are to go two disjoint ways at once. Answered
    /// with `Published`.
    PublishProtected {
        /// As in `Publish`.
        request: u32,
        /// Call.
        room: String,
        /// Participant.
        user: String,
        /// The participant's stream.
        stream: String,
        /// What it carries.
        kind: MediaKind,
        /// As in `Publish`.
        budget_ms: Option<u32>,
    },
    /// SFU to relay, since version 4, before all requests: publications of this link go on with those that have the same
    /// names and numbers on another link of the same client.
    Client {
        /// The same on all links of the client, known to it alone.
        key: ClientKey,
    },
}

impl Message {
    /// The message as a peer that speaks `version` understands it: a stream that is to be protected is published without,
    /// to a relay that cannot. `None` if it is not said to such a peer.
    pub fn for_version(&self, version: u8) -> Option<Cow<'_, Message>> {
        Some(match self {
            Message::Client { .. } if version < CLIENT_SINCE_VERSION => return None,
            Message::PublishProtected { request, room, user, stream, kind, budget_ms }
                if version < PROTECTION_SINCE_VERSION =>
            {
                Cow::Owned(Message::Publish {
                    request: *request,
                    room: room.clone(),
                    user: user.clone(),
                    stream: stream.clone(),
                    kind: *kind,
                    budget_ms: *budget_ms,
                })
            }
            Message::PublishProtected { .. }
            | Message::Hello { .. }
            | Message::Accept { .. }
            | Message::Refuse { .. }
            | Message::Publish { .. }
            | Message::Published { .. }
            | Message::Unpublish { .. }
            | Message::Subscribe { .. }
            | Message::Subscribed { .. }
            | Message::Unsubscribe { .. }
            | Message::Announce { .. }
            | Message::Ended { .. }
            | Message::Goodbye
            | Message::Lanes { .. }
            | Message::Client { .. } => Cow::Borrowed(self),
        })
    }
}
