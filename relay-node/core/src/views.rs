//! What operators see of a relay: plain copies, made on request, never on the media path.

use crate::{LinkId, LinkStats};
use wire_format::control::StreamName;
use wire_format::{Epoch, Incarnation, MediaKind, NodeIndex, RouteTable, StreamKey};

/// Who is at the other end of a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerView {
    /// A relay.
    Relay {
        /// Its index.
        node: NodeIndex,
    },
    /// An SFU.
    Client {
        /// Subject of its token.
        subject: String,
        /// Its tenant.
        namespace: String,
        /// Streams it publishes.
        publications: usize,
        /// Subscriptions it holds.
        subscriptions: usize,
        /// Datagrams dropped because it sends faster than it may.
        over_rate: u64,
    },
}

/// A link of a relay.
#[derive(Clone, PartialEq, Debug)]
pub struct LinkView {
    /// The link.
    pub link: LinkId,
    /// The other end.
    pub peer: PeerView,
    /// Measurements.
    pub stats: LinkStats,
}

/// The tables of a relay, newest first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TablesView {
    /// This relay, once the controller has said so.
    pub node: Option<NodeIndex>,
    /// The epoch that new frames carry.
    pub stamp: Epoch,
    /// Tables of up to two epochs.
    pub tables: Vec<RouteTable>,
}

/// A row of the stream table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamView {
    /// The stream.
    pub key: StreamKey,
    /// What people call it.
    pub name: StreamName,
    /// What it carries.
    pub kind: MediaKind,
    /// The current publication.
    pub incarnation: Incarnation,
    /// Where it enters the overlay.
    pub ingress: NodeIndex,
    /// Relays stamped here.
    pub destinations: Vec<NodeIndex>,
    /// SFU links that get it here.
    pub local_subscribers: usize,
    /// Plain RTP subscriptions that get it here.
    pub plain_subscribers: usize,
    /// Packets of it seen here.
    pub packets: u64,
    /// Bytes of those packets.
    pub bytes: u64,
}
