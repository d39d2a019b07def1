//! A traced stream as the admin API shows it.

use serde::{Deserialize, Serialize};
use wire_format::MediaKind;
use wire_format::control::TracedSpread;

/// What `GET /v1/trace` asks for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceQuery {
    /// Tenant.
    pub namespace: String,
    /// Call.
    pub room: String,
    /// Participant.
    pub user: String,
    /// One of the participant's streams; all of them if it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// How long relays watch: 100 to 10000, 2000 if it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
}

/// Delays, in microseconds: their mean, what half and 99 of a hundred do not exceed, and the longest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SpreadRow {
    /// How many were measured; the rest is 0 if none was.
    pub count: u64,
    /// Their mean.
    pub mean_us: u64,
    /// The median, to within a fifth.
    pub p50_us: u64,
    /// The 99th of a hundred, to within a fifth.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}

/// Who is at an end of a hop.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndKind {
    /// A relay.
    #[default]
    Relay,
    /// An SFU, called by the subject of its token.
    Sfu,
    /// Whoever sends plain RTP.
    Plain,
}

/// What a hop's receiving end saw.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CameRow {
    /// Packets.
    pub packets: u64,
    /// Bytes of their frames.
    pub bytes: u64,
    /// Of the packets, those that came by themselves.
    pub direct: u64,
    /// Those that came because they were sent again.
    pub again: u64,
    /// Those that parity restored.
    pub parity: u64,
    /// Packets between the first and the last of these that did not come by this hop.
    pub missing: u64,
    /// Half of the least round trip and the mean excess of those that came by themselves: what the hop takes, if its path
    /// is the same both ways. No clocks are compared. Absent where no round trip is known.
    pub one_way_us: Option<u64>,
    /// The least round trip of late.
    pub rtt_min_us: Option<u64>,
    /// Of those that came by themselves: how much longer they took than the least of the last second or so.
    pub excess: SpreadRow,
    /// The same of those that were restored: queueing and repair together.
    pub wait: SpreadRow,
    /// What the link's datagrams wait in queues, beyond the least of the last 10 to 20 s.
    pub queueing_us: u64,
    /// The least that one of them might still lose on its further way.
    pub slack_min_us: u64,
    /// What half of them might still lose at most.
    pub slack_p50_us: u64,
    /// Fewest hops that one of them could still go.
    pub hop_limit: u8,
    /// Planes that they travelled on: 0 primary, 1 red, 2 blue; none from publishers.
    pub planes: Vec<u8>,
    /// Of the packets, those that a relay had moved to another plane, or forwarded by other tables than their stamp's.
    pub marked: u64,
}

/// What a hop's sending end saw.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LeftRow {
    /// Copies that left for the first time.
    pub packets: u64,
    /// Bytes of their frames.
    pub bytes: u64,
    /// Copies that left again, because they were missed.
    pub again: u64,
    /// From when they came to the relay to when they left it.
    pub residence: SpreadRow,
    /// Planes that they left on.
    pub planes: Vec<u8>,
    /// Of the packets, those that are marked.
    pub marked: u64,
}

/// A hop that packets of the stream took.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TraceHopRow {
    /// Who sends.
    pub from: String,
    /// What that is.
    pub from_kind: EndKind,
    /// Who receives.
    pub to: String,
    /// What that is.
    pub to_kind: EndKind,
    /// What the sending end saw; absent if it did not tell.
    pub left: Option<LeftRow>,
    /// What the receiving end saw; absent if it did not tell.
    pub came: Option<CameRow>,
}

/// A relay that was asked.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TraceRelayRow {
    /// Its name.
    pub name: String,
    /// `traced`; or why there is nothing of it: `busy` (it traces too many streams), `silent` (it did not answer),
    /// `no_session`, `does_not_trace` (its software is older).
    pub answer: String,
    /// For how long it watched.
    pub watched_s: f64,
    /// Packets that came from or left for more links than are told apart.
    pub left_out: u64,
}

/// What a packet takes from the ingress to an egress, by the means of its hops.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TraceWayRow {
    /// All relays, both ends included.
    pub path: Vec<String>,
    /// The plane.
    pub plane: u8,
    /// One-way delay and residence of all hops, together; absent if something of it is not known.
    pub one_way_us: Option<u64>,
    /// Packets of the stream passed all of it.
    pub used: bool,
}

/// A traced stream.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TraceRow {
    /// Tenant.
    pub namespace: String,
    /// Call.
    pub room: String,
    /// Participant.
    pub user: String,
    /// The participant's stream.
    pub stream: String,
    /// What it carries: `audio` or `video`.
    pub kind: MediaKind,
    /// Its publisher asks for two disjoint ways at once.
    pub protect: bool,
    /// The relay where it enters the overlay.
    pub ingress: String,
    /// Relays with subscribers.
    pub egresses: Vec<String>,
    /// The epoch that ingresses stamp.
    pub epoch: Option<u32>,
    /// What was asked of each relay.
    pub relays: Vec<TraceRelayRow>,
    /// Every hop that packets took, from the publisher on.
    pub hops: Vec<TraceHopRow>,
    /// The ways by the tables.
    pub ways: Vec<TraceWayRow>,
}

/// What `GET /v1/trace` answers.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct TraceAnswer {
    /// The streams that were traced.
    pub streams: Vec<TraceRow>,
}

impl From<TracedSpread> for SpreadRow {
    fn from(spread: TracedSpread) -> SpreadRow {
        let TracedSpread { count, mean, p50, p99, max } = spread;
        let us = crate::rows::micros;
        SpreadRow { count, mean_us: us(mean), p50_us: us(p50), p99_us: us(p99), max_us: us(max) }
    }
}
