//! JSON shapes of the API. Names of fields carry their unit; losses are fractions of 1.

use super::{Running, Snapshot};
use crate::overlay::Overlay;
use relay_core::{LinkView, PeerView};
use serde::Serialize;
use std::time::Duration;
use wire_format::control::{LOSS_BURSTS, LinkState, RepairPlan, RepairTotals};
use wire_format::{MediaKind, NodeIndex, Plane, PolicyIndex, PolicyTable};

/// `GET /v1/links`
#[derive(Serialize)]
pub(super) struct Links {
    links: Vec<LinkRow>,
}

#[derive(Serialize)]
struct LinkRow {
    id: u32,
    #[serde(flatten)]
    peer: PeerRow,
    state: &'static str,
    /// Media or a route depends on it.
    in_use: bool,
    rtt_us: Option<u64>,
    rtt_min_us: Option<u64>,
    jitter_in_us: u64,
    jitter_out_us: u64,
    loss_in: f64,
    loss_out: f64,
    rate_in_bytes_per_s: u64,
    rate_out_bytes_per_s: u64,
    datagrams_in: u64,
    datagrams_out: u64,
    bytes_in: u64,
    bytes_out: u64,
    /// Largest datagram that is sent (UDP payload).
    mtu_bytes: u16,
    mtu_fallbacks: u64,
    rtt_smoothed_us: Option<u64>,
    rtt_variation_us: Option<u64>,
    /// Waited in queues on the way, beyond the least of the last 10 to 20 s.
    queueing_in_us: u64,
    queueing_out_us: u64,
    /// What the way out was found to carry; null while nothing shows a limit.
    deliverable_out_bytes_per_s: Option<u64>,
    /// How often that was needed, and what waits for it.
    rate_limits: u64,
    waiting_bytes: usize,
    /// How often 1, 2, 3-4, 5-8, 9-16, 17-32 and more datagrams in a row were missing here.
    loss_bursts_in: [u64; LOSS_BURSTS],
    /// Fraction of the datagrams with media that did not come here, repair taken into account, over about 10 s.
    residual_loss_in: f64,
    repair: RepairRow,
    /// What is done against loss of what is sent: of audio, and of all other media.
    repair_audio: PlanRow,
    repair_other: PlanRow,
}

/// What is done against loss, and why.
#[derive(Serialize)]
struct PlanRow {
    method: &'static str,
    reason: String,
}

impl From<RepairPlan> for PlanRow {
    fn from(plan: RepairPlan) -> PlanRow {
        PlanRow { method: plan.method(), reason: plan.reason() }
    }
}

/// Totals since the link came up.
#[derive(Serialize)]
struct RepairRow {
    first_bytes: u64,
    overhead_bytes: u64,
    retransmitted: u64,
    parity: u64,
    requests: u64,
    missing: u64,
    reordered: u64,
    recovered: u64,
}

#[derive(Serialize)]
#[serde(tag = "peer", rename_all = "lowercase")]
enum PeerRow {
    Relay {
        node: NodeIndex,
        name: Option<String>,
    },
    Client {
        subject: String,
        namespace: String,
        publications: usize,
        subscriptions: usize,
        /// Datagrams dropped because it sends faster than one link may.
        datagrams_over_rate: u64,
    },
}

/// `GET /v1/tables`
#[derive(Serialize)]
pub(super) struct Tables {
    node: Option<NodeIndex>,
    name: String,
    /// The epoch that new frames carry.
    stamp_epoch: u32,
    /// Newest first.
    tables: Vec<TableRows>,
}

#[derive(Serialize)]
struct TableRows {
    epoch: u32,
    rows: Vec<TableRow>,
}

#[derive(Serialize)]
struct TableRow {
    policy: u8,
    plane: u8,
    destination: NodeIndex,
    destination_name: Option<String>,
    next_hop: NodeIndex,
    next_hop_name: Option<String>,
}

/// `GET /v1/streams`
#[derive(Serialize)]
pub(super) struct Streams {
    streams: Vec<StreamRow>,
}

#[derive(Serialize)]
struct StreamRow {
    namespace: String,
    room: String,
    user: String,
    stream: String,
    kind: &'static str,
    room_id: u32,
    user_id: u32,
    stream_id: u16,
    incarnation: u8,
    ingress: NodeIndex,
    ingress_name: Option<String>,
    /// Relays stamped here.
    destinations: Vec<NodeIndex>,
    destination_names: Vec<Option<String>>,
    /// Links to SFUs that get it here.
    local_subscribers: usize,
    /// Plain RTP subscriptions that get it here.
    plain_subscribers: usize,
    packets: u64,
    bytes: u64,
}

pub(super) fn links(snapshot: &Snapshot, overlay: &Overlay) -> Links {
    Links { links: snapshot.links.iter().map(|link| link_row(link, overlay)).collect() }
}

fn link_row(view: &LinkView, overlay: &Overlay) -> LinkRow {
    let (stats, quality) = (&view.stats, &view.stats.quality);
    let peer = match &view.peer {
        PeerView::Relay { node } => PeerRow::Relay { node: *node, name: overlay.name_of(*node) },
        PeerView::Client { subject, namespace, publications, subscriptions, over_rate } => PeerRow::Client {
            subject: subject.clone(),
            namespace: namespace.clone(),
            publications: *publications,
            subscriptions: *subscriptions,
            datagrams_over_rate: *over_rate,
        },
    };
    LinkRow {
        id: view.link.0,
        peer,
        state: state_name(stats.state),
        in_use: stats.in_use,
        rtt_us: stats.rtt.map(micros),
        rtt_min_us: stats.rtt_min.map(micros),
        jitter_in_us: micros(stats.jitter_in),
        jitter_out_us: micros(stats.jitter_out),
        loss_in: f64::from(stats.loss_in_ppm) / 1e6,
        loss_out: f64::from(stats.loss_out_ppm) / 1e6,
        rate_in_bytes_per_s: stats.rate_in,
        rate_out_bytes_per_s: stats.rate_out,
        datagrams_in: stats.datagrams_in,
        datagrams_out: stats.datagrams_out,
        bytes_in: stats.bytes_in,
        bytes_out: stats.bytes_out,
        mtu_bytes: stats.mtu_bytes,
        mtu_fallbacks: stats.mtu_fallbacks,
        rtt_smoothed_us: quality.rtt_smoothed.map(micros),
        rtt_variation_us: quality.rtt_variation.map(micros),
        queueing_in_us: micros(quality.queueing_in),
        queueing_out_us: micros(quality.queueing_out),
        deliverable_out_bytes_per_s: quality.deliverable_out,
        rate_limits: stats.rate_limited,
        waiting_bytes: stats.waiting_bytes,
        loss_bursts_in: quality.bursts_in,
        residual_loss_in: f64::from(quality.residual_in_ppm) / 1e6,
        repair: repair_row(&quality.repair),
        repair_audio: quality.repair_audio.into(),
        repair_other: quality.repair_other.into(),
    }
}

fn repair_row(totals: &RepairTotals) -> RepairRow {
    let RepairTotals {
        first_bytes,
        overhead_bytes,
        retransmitted,
        parity,
        requests,
        missing,
        reordered,
        recovered,
    } = *totals;
    RepairRow { first_bytes, overhead_bytes, retransmitted, parity, requests, missing, reordered, recovered }
}

pub(super) fn tables(snapshot: &Snapshot, running: &Running) -> Tables {
    let view = &snapshot.tables;
    let name_of = |node| running.name_of(view.node, node);
    let rows = |table: &wire_format::RouteTable| {
        let of_policy = |(policy, table): (PolicyIndex, &PolicyTable)| {
            let row = |(&(plane, destination), &next_hop): (&(Plane, NodeIndex), &NodeIndex)| TableRow {
                policy: policy.bits(),
                plane: plane.0,
                destination,
                destination_name: name_of(destination),
                next_hop,
                next_hop_name: name_of(next_hop),
            };
            table.next_hops.iter().map(row).collect::<Vec<_>>()
        };
        TableRows { epoch: table.epoch.0, rows: table.policies().flat_map(of_policy).collect() }
    };
    Tables {
        node: view.node,
        name: running.name.to_string(),
        stamp_epoch: view.stamp.0,
        tables: view.tables.iter().map(rows).collect(),
    }
}

pub(super) fn streams(snapshot: &Snapshot, running: &Running) -> Streams {
    let name_of = |node| running.name_of(snapshot.tables.node, node);
    let row = |view: &relay_core::StreamView| StreamRow {
        namespace: view.name.namespace.clone(),
        room: view.name.room.clone(),
        user: view.name.user.clone(),
        stream: view.name.stream.clone(),
        kind: match view.kind {
            MediaKind::Audio => "audio",
            MediaKind::Video => "video",
        },
        room_id: view.key.room.0,
        user_id: view.key.user.0,
        stream_id: view.key.stream.0,
        incarnation: view.incarnation.0,
        ingress: view.ingress,
        ingress_name: name_of(view.ingress),
        destinations: view.destinations.clone(),
        destination_names: view.destinations.iter().map(|node| name_of(*node)).collect(),
        local_subscribers: view.local_subscribers,
        plain_subscribers: view.plain_subscribers,
        packets: view.packets,
        bytes: view.bytes,
    };
    Streams { streams: snapshot.streams.iter().map(row).collect() }
}

impl Running {
    /// Name of this relay or a neighbour; other relays are known here by number only.
    fn name_of(&self, this: Option<NodeIndex>, node: NodeIndex) -> Option<String> {
        if this == Some(node) { Some(self.name.to_string()) } else { self.overlay.name_of(node) }
    }
}

/// A link's state in a word.
pub(crate) fn state_name(state: LinkState) -> &'static str {
    match state {
        LinkState::Up => "up",
        LinkState::Suspect => "suspect",
        LinkState::Down => "down",
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
