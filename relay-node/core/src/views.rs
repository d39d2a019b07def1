//! What operators see of a relay: plain copies, made on request, never on the media path.

use crate::relay::{Relay, RelayLink, Side};
use crate::{LinkId, LinkStats};
use wire_format::control::{LinkReport, LinkState, NamespaceUsage, StreamName};
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

impl Relay {
    /// The tables held.
    pub fn tables_view(&self) -> TablesView {
        TablesView {
            node: self.node,
            stamp: self.tables.stamp(),
            tables: self.tables.held().cloned().collect(),
        }
    }

    /// What namespaces used here since the start.
    pub fn namespace_usage(&self) -> Vec<NamespaceUsage> {
        self.tenants.usage()
    }

    /// All rows of the stream table.
    pub fn stream_views(&self) -> Vec<StreamView> {
        self.streams.views()
    }
}

impl RelayLink {
    /// Who is at its other end.
    pub(crate) fn peer(&self) -> PeerView {
        match &self.side {
            Side::Relay { node } => PeerView::Relay { node: *node },
            Side::Client(client) => client.view(),
        }
    }

    /// What the controller is to know; `None` for SFUs.
    pub(crate) fn report(&self) -> Option<LinkReport> {
        let Side::Relay { node } = self.side else { return None };
        let stats = self.link.stats();
        Some(LinkReport {
            neighbour: node,
            state: if self.leaving { LinkState::Down } else { stats.state },
            rtt: stats.rtt,
            rtt_min: stats.rtt_min,
            jitter_in: stats.jitter_in,
            jitter_out: stats.jitter_out,
            loss_out_ppm: stats.loss_out_ppm,
            loss_in_ppm: stats.loss_in_ppm,
            rate_out: stats.rate_out,
            rate_in: stats.rate_in,
            samples: stats.samples,
            quality: stats.quality,
        })
    }
}
