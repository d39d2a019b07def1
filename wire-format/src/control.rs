//! What a relay and the route controller say to each other, as both cores see it. `control-proto` carries these over
//! gRPC.
//!
//! Everything a relay reports is state it holds: after a reconnect it says all of it again (`Hello`, then one
//! `Published` and `Subscribed` for each registration, then `Links`, ending with `ReportsComplete`), and a controller
//! that has just started is whole again. What the controller pushes is state too: a `Stream` entry or a `Table`
//! replaces what was there for its key.

mod trace;

pub use trace::{TraceReport, TraceRequest, TracedIn, TracedOut, TracedPeer, TracedSpread};

use crate::{
    Epoch, Incarnation, MediaKind, NodeIndex, PolicyIndex, PublicationId, PublisherKey, RouteTable,
    StreamKey, SubscriptionId, TableDelta,
};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Limits on what either side believes of the other. What exceeds them is refused and counted.
pub mod limits {
    /// Bytes of a name (namespace, room, user, stream, relay, region).
    pub const NAME_BYTES: usize = 255;
    /// Advertised addresses of a relay.
    pub const ADDRESSES: usize = 16;
    /// Neighbours of a relay.
    pub const NEIGHBOURS: usize = 1024;
    /// Destinations in one stream entry.
    pub const DESTINATIONS: usize = 16_384;
    /// Namespaces that a relay counts and limits apart.
    pub const NAMESPACES: usize = 1024;
    /// Token keys known at once.
    pub const TOKEN_KEYS: usize = 64;
    /// Longest time for which a stream is traced at once.
    pub const TRACE_DURATION: std::time::Duration = std::time::Duration::from_secs(10);
    /// Streams that a relay traces at once.
    pub const TRACES: usize = 16;
    /// Links that a trace tells apart, in each direction.
    pub const TRACED_PEERS: usize = 64;
}

/// From a relay to the controller.
#[derive(Clone, PartialEq, Debug)]
pub enum ToController {
    /// First message of a session.
    Hello(RelayHello),
    /// Everything held has been reported again; the controller may draw conclusions from what is absent.
    ReportsComplete,
    /// The state of links, measured; absent neighbours are unchanged since the last report.
    Links(Vec<LinkReport>),
    /// An SFU publishes a stream here, or did so before a reconnect (then `granted` says what it was given).
    Published(PublicationReport),
    /// A publication ended.
    Unpublished {
        /// Which.
        publication: PublicationId,
    },
    /// An SFU wants streams here.
    Subscribed(SubscriptionReport),
    /// A subscription ended.
    Unsubscribed {
        /// Which.
        subscription: SubscriptionId,
    },
    /// The tables of this epoch are in place; frames that carry it will be forwarded by them.
    TableAck {
        /// The epoch.
        epoch: Epoch,
    },
    /// New media frames carry this epoch from now on.
    StampAck {
        /// The epoch.
        epoch: Epoch,
    },
    /// The stream entry is in place.
    StreamAck {
        /// The stream.
        key: StreamKey,
        /// The revision that was acknowledged.
        revision: u64,
    },
    /// The changes that should lead to the tables of this epoch are changes of tables that are not held: all of them are
    /// wanted.
    TableWanted {
        /// The epoch.
        epoch: Epoch,
    },
    /// The relay is about to stop: route around it now.
    Goodbye,
    /// What namespaces sent and received at this relay since it started; absent ones are unchanged since the last report.
    Usage(Vec<NamespaceUsage>),
    /// Answer to `Trace`, when its time is over.
    Traced(TraceReport),
}

/// Who a relay is, and what it still holds.
#[derive(Clone, PartialEq, Debug)]
pub struct RelayHello {
    /// Unique name, the subject of its certificate.
    pub name: String,
    /// Index given before, from its certificate or its last session.
    pub node: Option<NodeIndex>,
    /// Region, for instance `eu-central`.
    pub region: String,
    /// Internet provider or cloud, empty if not told.
    pub isp: String,
    /// Free labels.
    pub tags: Vec<String>,
    /// Where on earth it stands, if it was told.
    pub position: Option<Position>,
    /// Where other relays and SFUs reach its relay port.
    pub addresses: Vec<SocketAddr>,
    /// Software version, for people.
    pub version: String,
    /// Lowest and highest version of the link protocol understood.
    pub wire_versions: (u8, u8),
    /// Newest epoch whose tables are in place.
    pub epoch: Option<Epoch>,
    /// It understands changes of tables, [`ToRelay::TableDelta`]. Relays before 0.3 do not say so.
    pub table_deltas: bool,
    /// Stream entries in place at this moment: what is stamped today must not be lost because a controller restarted.
    pub streams: Vec<HeldStream>,
    /// It understands `Trace`. Relays before 0.2 do not say so, and end a session in which they are sent one.
    pub traces: bool,
}

/// A place on earth, to a millionth of a degree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Position {
    lat_micro_degrees: i32,
    lon_micro_degrees: i32,
}

impl Position {
    /// Millionths of a degree, north and east; `None` if there is no such place.
    pub fn new(lat_micro_degrees: i32, lon_micro_degrees: i32) -> Option<Position> {
        let is_place = (-90_000_000..=90_000_000).contains(&lat_micro_degrees)
            && (-180_000_000..=180_000_000).contains(&lon_micro_degrees);
        is_place.then_some(Position { lat_micro_degrees, lon_micro_degrees })
    }

    /// Degrees, north and east; `None` if there is no such place.
    pub fn from_degrees(lat: f64, lon: f64) -> Option<Position> {
        let is_place = (-90.0..=90.0).contains(&lat) && (-180.0..=180.0).contains(&lon);
        let micro_degrees = |degrees: f64| (degrees * 1e6).round() as i32;
        if is_place { Position::new(micro_degrees(lat), micro_degrees(lon)) } else { None }
    }

    /// North of the equator, in millionths of a degree.
    pub fn lat_micro_degrees(self) -> i32 {
        self.lat_micro_degrees
    }

    /// East of Greenwich, in millionths of a degree.
    pub fn lon_micro_degrees(self) -> i32 {
        self.lon_micro_degrees
    }
}

/// A stream entry that a relay still holds, in a `Hello`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeldStream {
    /// The stream.
    pub key: StreamKey,
    /// Destinations stamped here, as its ingress or as a holder.
    pub destinations: Vec<NodeIndex>,
}

/// Whether a link can carry media.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LinkState {
    /// Authenticated datagrams arrive.
    Up,
    /// Silent for longer than its heartbeats allow, still believed.
    Suspect,
    /// Silent for so long that it must not be used, or not connected.
    Down,
}

/// One relay's measurements of its link to a neighbour. `out` is from the reporter to the neighbour.
#[derive(Clone, PartialEq, Debug)]
pub struct LinkReport {
    /// The other end.
    pub neighbour: NodeIndex,
    /// Whether it can be used.
    pub state: LinkState,
    /// Round trip of the last second or so, `None` before the first sample: what the path and its queues take, without
    /// the moments in which a host was busy with other things.
    pub rtt: Option<Duration>,
    /// Least round trip of the last 10 s or so.
    pub rtt_min: Option<Duration>,
    /// Interarrival jitter of what arrives here (RFC 3550 section 6.4.1).
    pub jitter_in: Duration,
    /// The neighbour's measure of the same for what was sent.
    pub jitter_out: Duration,
    /// Datagrams lost towards the neighbour, parts per million, smoothed over about 10 s.
    pub loss_out_ppm: u32,
    /// Datagrams lost from the neighbour, parts per million.
    pub loss_in_ppm: u32,
    /// Bytes per second sent, headers included.
    pub rate_out: u64,
    /// Bytes per second received.
    pub rate_in: u64,
    /// Samples behind `rtt` and the loss figures since the link came up.
    pub samples: u64,
    /// What people want to know beside that; it does not price the link.
    pub quality: LinkQuality,
}

/// Buckets of [`LinkQuality::bursts_in`].
pub const LOSS_BURSTS: usize = 7;
/// As many datagrams in a row, at most, are missing in a burst of a bucket; the last has no end.
pub const LOSS_BURST_ENDS: [u64; LOSS_BURSTS] = [1, 2, 4, 8, 16, 32, u64::MAX];
/// How many datagrams in a row are missing, by bucket.
pub const LOSS_BURST_NAMES: [&str; LOSS_BURSTS] = ["1", "2", "3-4", "5-8", "9-16", "17-32", "33+"];

/// How well a link carries media. `in` is what arrives at the reporter, `out` what it sends.
///
/// No clocks are compared: the delay of one direction alone cannot be seen, only by how much it exceeds the least that it
/// was of late. Half of `rtt_min` and that excess are what a direction takes, if the path is the same both ways.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LinkQuality {
    /// Smoothed round trip (RFC 6298), moments in which a host was busy included.
    pub rtt_smoothed: Option<Duration>,
    /// Its mean deviation (RFC 6298).
    pub rtt_variation: Option<Duration>,
    /// What datagrams wait in queues on their way here: delay beyond the least of the last 10 to 20 s.
    pub queueing_in: Duration,
    /// The same towards the neighbour, as it says.
    pub queueing_out: Duration,
    /// Bytes per second that the way to the neighbour was found to carry; `None` while nothing shows a limit.
    pub deliverable_out: Option<u64>,
    /// How often so many datagrams in a row were missing here since the link came up: 1, 2, 3 to 4, 5 to 8, 9 to 16, 17
    /// to 32, and more. What comes late after all was missing for a while, and counts.
    pub bursts_in: [u64; LOSS_BURSTS],
    /// Datagrams with media that did not come here, neither late nor again nor from parity: parts per million of those that
    /// were sent, over about 10 s.
    pub residual_in_ppm: u32,
    /// What repair did and cost here.
    pub repair: RepairTotals,
    /// What is done here against loss of what is sent: of audio, and of all other media.
    pub repair_audio: RepairPlan,
    /// See [`LinkQuality::repair_audio`].
    pub repair_other: RepairPlan,
}

/// What a link does against loss of what it sends, for one class of media. The dearer comes later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum RepairPlan {
    /// Nothing stands, because nothing is lost.
    #[default]
    Nothing,
    /// What is lost is sent again, and so many round trips fit into the delay budget.
    Retransmission {
        /// Round trips.
        rounds: u32,
    },
    /// No round trip fits: parity beforehand.
    Parity {
        /// Share of what it protects, parts per million.
        share_ppm: u32,
        /// Datagrams that a row of it covers at most.
        window: u32,
    },
    /// No round trip fits, and datagrams are too few or too small for parity: each is sent twice.
    Twice,
}

impl RepairPlan {
    /// A word for it.
    pub fn method(&self) -> &'static str {
        match self {
            RepairPlan::Nothing => "nothing",
            RepairPlan::Retransmission { .. } => "retransmission",
            RepairPlan::Parity { .. } => "parity",
            RepairPlan::Twice => "twice",
        }
    }

    /// Why that, for people.
    pub fn reason(&self) -> String {
        match self {
            RepairPlan::Nothing => "hardly anything is lost".to_owned(),
            RepairPlan::Retransmission { rounds: 1 } => {
                "one round trip fits into the delay budget".to_owned()
            }
            RepairPlan::Retransmission { rounds } => {
                format!("{rounds} round trips fit into the delay budget")
            }
            RepairPlan::Parity { share_ppm, window } => format!(
                "no round trip fits into the delay budget: {}.{}% in rows over up to {window} datagrams",
                share_ppm / 10_000,
                share_ppm / 1_000 % 10
            ),
            RepairPlan::Twice => {
                "no round trip fits into the delay budget, and datagrams are few or small".to_owned()
            }
        }
    }
}

/// What repair did at one end of a link since it came up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RepairTotals {
    /// Bytes of datagrams with media, sent for the first time (UDP payload).
    pub first_bytes: u64,
    /// Bytes of repairs, parity, requests, feedback and probes.
    pub overhead_bytes: u64,
    /// Datagrams sent again.
    pub retransmitted: u64,
    /// Datagrams of parity sent.
    pub parity: u64,
    /// Requests sent for what is missing.
    pub requests: u64,
    /// Datagrams that were missing here, for a while or for good.
    pub missing: u64,
    /// Of these, those that came late by themselves.
    pub reordered: u64,
    /// Of these, those that repair restored.
    pub recovered: u64,
}

impl RepairTotals {
    /// With what another end or lane did.
    #[must_use]
    pub fn plus(&self, more: &RepairTotals) -> RepairTotals {
        RepairTotals {
            first_bytes: self.first_bytes.saturating_add(more.first_bytes),
            overhead_bytes: self.overhead_bytes.saturating_add(more.overhead_bytes),
            retransmitted: self.retransmitted.saturating_add(more.retransmitted),
            parity: self.parity.saturating_add(more.parity),
            requests: self.requests.saturating_add(more.requests),
            missing: self.missing.saturating_add(more.missing),
            reordered: self.reordered.saturating_add(more.reordered),
            recovered: self.recovered.saturating_add(more.recovered),
        }
    }
}

impl LinkQuality {
    /// With a further lane of the same link: counts add up, and of the rest the worse counts.
    #[must_use]
    pub fn with_lane(&self, lane: &LinkQuality) -> LinkQuality {
        let mut bursts_in = self.bursts_in;
        for (sum, more) in bursts_in.iter_mut().zip(lane.bursts_in) {
            *sum = sum.saturating_add(more);
        }
        LinkQuality {
            rtt_smoothed: self.rtt_smoothed.max(lane.rtt_smoothed),
            rtt_variation: self.rtt_variation.max(lane.rtt_variation),
            queueing_in: self.queueing_in.max(lane.queueing_in),
            queueing_out: self.queueing_out.max(lane.queueing_out),
            deliverable_out: match (self.deliverable_out, lane.deliverable_out) {
                (Some(own), Some(more)) => Some(own.saturating_add(more)),
                (None, _) | (_, None) => None,
            },
            bursts_in,
            residual_in_ppm: self.residual_in_ppm.max(lane.residual_in_ppm),
            repair: self.repair.plus(&lane.repair),
            repair_audio: self.repair_audio.max(lane.repair_audio),
            repair_other: self.repair_other.max(lane.repair_other),
        }
    }
}

/// Names of a stream as people see them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamName {
    /// Tenant.
    pub namespace: String,
    /// Call.
    pub room: String,
    /// Participant.
    pub user: String,
    /// The participant's stream.
    pub stream: String,
}

/// A publication held at its ingress relay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicationReport {
    /// The ingress relay's own number for it.
    pub publication: PublicationId,
    /// What it is called.
    pub name: StreamName,
    /// What it carries.
    pub kind: MediaKind,
    /// What an earlier session was granted for it.
    pub granted: Option<(StreamKey, Incarnation)>,
    /// Its publisher asks for 1+1 protection: two disjoint ways at once. Relays before 0.2 do not say so.
    pub protect: bool,
    /// Who publishes: who reports the same name with the same key at another relay has moved there. `None` for who cannot
    /// move.
    pub publisher: Option<PublisherKey>,
}

/// A subscription held at its egress relay. `None` matches every user, or every stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubscriptionReport {
    /// The egress relay's own number for it.
    pub subscription: SubscriptionId,
    /// Tenant.
    pub namespace: String,
    /// Call.
    pub room: String,
    /// Only this participant.
    pub user: Option<String>,
    /// Only the stream of this name.
    pub stream: Option<String>,
}

/// From the controller to a relay.
#[derive(Clone, PartialEq, Debug)]
pub enum ToRelay {
    /// Answer to `Hello`.
    Welcome(Welcome),
    /// All neighbours to link to; the association with anyone else ends.
    Neighbours(Vec<Neighbour>),
    /// Hold these tables beside those of the epoch before.
    Table(RouteTable),
    /// The same by what is new in them. Only for relays that say they understand it; one that does not hold the tables that
    /// these are changes of says `TableWanted`.
    TableDelta(TableDelta),
    /// Stamp new media frames with this epoch. Sent when every live relay has its tables.
    Stamp {
        /// The epoch.
        epoch: Epoch,
    },
    /// A publication has its ids; frames may flow.
    PublicationGranted {
        /// The ingress relay's own number for it.
        publication: PublicationId,
        /// Its ids.
        key: StreamKey,
        /// Which publication under these ids.
        incarnation: Incarnation,
    },
    /// A publication is refused; the SFU is told the reason.
    PublicationRefused {
        /// The ingress relay's own number for it.
        publication: PublicationId,
        /// A limit is reached. Controllers before 0.2 do not say so.
        limit: bool,
        /// For people: what is wrong and what to do.
        reason: String,
    },
    /// A subscription is refused; the SFU is told the reason.
    SubscriptionRefused {
        /// The egress relay's own number for it.
        subscription: SubscriptionId,
        /// For people: what is wrong and what to do.
        reason: String,
    },
    /// The stream table's row for one stream, whole. To be acknowledged with `StreamAck`.
    Stream(StreamEntry),
    /// The stream has neither subscribers nor destinations here any more. Not acknowledged.
    StreamGone {
        /// The stream.
        key: StreamKey,
    },
    /// Public keys of token issuers, whole.
    TokenKeys(Vec<TokenKey>),
    /// How fast namespaces may publish, whole.
    Namespaces(NamespaceRates),
    /// Whether this relay is to be empty: its SFUs are sent to others, and none is taken in. Relays of link versions before 4
    /// are not told.
    Drain {
        /// It is.
        draining: bool,
    },
    /// Watch a stream for a moment. To be answered with `Traced`.
    Trace(TraceRequest),
}

/// How fast each namespace may publish at one relay, all of its streams together. What comes faster is dropped and
/// counted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NamespaceRates {
    /// Bits per second of those that are not named; `None` for no limit.
    pub default: Option<u64>,
    /// Bits per second of those that are.
    pub named: Vec<(String, Option<u64>)>,
}

/// What a namespace used at one relay since that relay started.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NamespaceUsage {
    /// Which.
    pub namespace: String,
    /// Packets that its publishers sent and that somebody wanted.
    pub packets_in: u64,
    /// Bytes of RTP in them.
    pub bytes_in: u64,
    /// Packets handed to subscribers, one for each.
    pub packets_out: u64,
    /// Bytes of RTP in them.
    pub bytes_out: u64,
    /// Packets dropped because the namespace sent faster than it may.
    pub packets_over_rate: u64,
}

/// The controller's answer to `Hello`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Welcome {
    /// The relay's index.
    pub node: NodeIndex,
    /// Leadership term of this controller; what an older term pushes is ignored.
    pub term: u64,
}

/// A relay to link to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Neighbour {
    /// Its index.
    pub node: NodeIndex,
    /// Its name, which its certificate must carry.
    pub name: String,
    /// Where to reach its relay port, in order of preference.
    pub addresses: Vec<SocketAddr>,
    /// Certificates of that name issued before this are void, seconds since 1970: it joined anew since then. When it
    /// grows, the link made with an older one ends.
    pub certificates_from_unix_s: u64,
}

/// A row of a relay's stream table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamEntry {
    /// The stream.
    pub key: StreamKey,
    /// What people call it; announced to subscribers.
    pub name: StreamName,
    /// What it carries.
    pub kind: MediaKind,
    /// The current publication.
    pub incarnation: Incarnation,
    /// Where it enters the overlay: keyframe requests go there.
    pub ingress: NodeIndex,
    /// Subscriptions held at this relay that match it.
    pub subscriptions: Vec<SubscriptionId>,
    /// Relays to stamp as destinations where the stream enters or is held here; ascending, without this relay. A relay other
    /// than the ingress stamps each packet that comes to it for the first time: it feeds them. Relays of link versions before 4
    /// do not.
    pub destinations: Vec<NodeIndex>,
    /// Grows with every change of this row.
    pub revision: u64,
    /// Wherever it is stamped, each packet leaves on two planes at once for all relays that the tables name a pair of planes
    /// for. Controllers before 0.2 do not say so.
    pub protect: bool,
    /// Whose planes the stream travels on from here.
    pub policy: PolicyIndex,
}

/// A public key that signs client tokens. Logs show its id alone.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenKey {
    /// `kid` of the tokens it signs.
    pub id: String,
    /// Ed25519 public key.
    pub public_key: [u8; 32],
    /// The only namespace it may grant, or `None` for all.
    pub namespace: Option<String>,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TokenKey { id, public_key: _, namespace } = self;
        f.debug_struct("TokenKey").field("id", id).field("namespace", namespace).finish_non_exhaustive()
    }
}
