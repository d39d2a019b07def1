//! Streams as the admin API shows them.

use route_core::{FeedView, FeedingQuality, ProtectionView, StreamView};
use serde::{Deserialize, Serialize};
use wire_format::MediaKind;

/// A stream, in `GET /v1/streams`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct StreamRow {
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
    /// Number of the room.
    pub room_id: u32,
    /// Number of the participant within the room.
    pub user_id: u32,
    /// Number of the stream within the room's participant.
    pub stream_id: u16,
    /// Which publication of it.
    pub incarnation: u8,
    /// The relay where it enters the overlay.
    pub ingress: String,
    /// Relays that the ingress stamps as destinations.
    pub destinations: Vec<String>,
    /// Relays with subscribers, the ingress among them if it has some.
    pub egresses: Vec<String>,
    /// Subscriptions that match it, everywhere.
    pub subscriptions: usize,
    /// The policy by which it travels. Controllers before 0.2 do not say so.
    #[serde(default)]
    pub policy: String,
    /// That is so because a link is loaded: its namespace's policy is another.
    #[serde(default)]
    pub relieved: bool,
    /// Its publisher asks for two disjoint ways at once, or its policy does. Controllers before 0.2 do not say so.
    #[serde(default)]
    pub protect: bool,
    /// If so: what comes of it, for each of `destinations`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub protection: Vec<ProtectionRow>,
    /// Who feeds whom: one for each relay that gets it from another. Controllers before 0.2 do not say so.
    #[serde(default)]
    pub feeds: Vec<FeedRow>,
    /// What copies of it that takes.
    #[serde(default)]
    pub copies: CopiesRow,
}

/// How one relay is fed with a stream.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct FeedRow {
    /// The relay that is fed.
    pub egress: String,
    /// The relay that sends it there: the ingress, or another that receives it.
    pub feeder: String,
    /// The one that did so until now and stops in a moment; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<String>,
    /// Relays that feed, between the ingress and this one.
    pub holders: usize,
    /// What the whole way costs, in microseconds; absent while that is not certain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_us: Option<u64>,
    /// What the ingress's own way there would cost; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct_us: Option<u64>,
}

/// Copies of each packet of a stream, beside what they would be if the ingress fed everyone, and the least that is possible.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CopiesRow {
    /// Copies that cross links between relays.
    pub total: usize,
    /// If the ingress fed everyone.
    pub direct: usize,
    /// No fewer are possible.
    pub bound: usize,
    /// The cost of the links that carry them, added up, in microseconds.
    pub haul_us: u64,
    /// If the ingress fed everyone.
    pub haul_us_direct: u64,
    /// No less is possible.
    pub haul_us_bound: u64,
}

impl From<FeedView> for FeedRow {
    fn from(view: FeedView) -> FeedRow {
        let FeedView { egress, feeder, former, holders, delay_us, direct_us } = view;
        FeedRow { egress, feeder, former, holders, delay_us, direct_us }
    }
}

impl From<FeedingQuality> for CopiesRow {
    fn from(quality: FeedingQuality) -> CopiesRow {
        CopiesRow {
            total: quality.copies,
            direct: quality.copies_direct,
            bound: quality.copies_bound,
            haul_us: quality.haul_us,
            haul_us_direct: quality.haul_us_direct,
            haul_us_bound: quality.haul_us_bound,
        }
    }
}

/// How a stream that asks for two ways at once gets to one relay.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ProtectionRow {
    /// The relay where it leaves.
    pub egress: String,
    /// It goes there on two planes at once.
    pub protected: bool,
    /// These: 0 primary, 1 red, 2 blue. Empty if it goes there once.
    pub planes: Vec<u8>,
    /// The relays that each of the two copies passes, ends included, in the order of the planes.
    pub ways: Vec<Vec<String>>,
    /// What is not protected, for people; absent if nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Groups of relays that may fail together which both redundant planes, red and blue, pass: a region, an ISP, or what a
    /// tag `risk:NAME` names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redundant_share: Vec<String>,
}

impl From<StreamView> for StreamRow {
    fn from(view: StreamView) -> StreamRow {
        StreamRow {
            namespace: view.name.namespace,
            room: view.name.room,
            user: view.name.user,
            stream: view.name.stream,
            kind: view.kind,
            room_id: view.key.room.0,
            user_id: view.key.user.0,
            stream_id: view.key.stream.0,
            incarnation: view.incarnation.0,
            ingress: view.ingress,
            destinations: view.destinations,
            egresses: view.egresses,
            subscriptions: view.subscriptions,
            policy: view.policy,
            relieved: view.relieved,
            protect: view.protect,
            protection: view.protection.into_iter().map(Into::into).collect(),
            feeds: view.feeds.into_iter().map(Into::into).collect(),
            copies: view.quality.into(),
        }
    }
}

impl From<ProtectionView> for ProtectionRow {
    fn from(view: ProtectionView) -> ProtectionRow {
        let risks = view.shared_risks.iter().map(|risk| format!("relays of {risk}"));
        let shared: Vec<String> = view.shared.into_iter().chain(risks).collect();
        let reason = match (view.pair, view.bridge) {
            (Some(_), _) if shared.is_empty() => None,
            (Some(_), _) => Some(format!("both ways pass {}", shared.join(" and "))),
            (None, Some((one, other))) => Some(format!("every way passes the link {one}-{other}")),
            (None, None) => Some("there is no way".to_owned()),
        };
        let planes = view.pair.into_iter().flat_map(|pair| pair.planes()).map(|plane| plane.0);
        ProtectionRow {
            egress: view.egress,
            protected: view.pair.is_some(),
            planes: planes.collect(),
            ways: view.ways,
            reason,
            redundant_share: view.redundant_share,
        }
    }
}
