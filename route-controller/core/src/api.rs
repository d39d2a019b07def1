//! What the process around the core passes in and takes out.

use crate::directory::LimitsConfig;
use crate::executor::Executor;
use crate::feeding::FeedingConfig;
use crate::neighbours::NeighbourConfig;
use crate::policy::Policies;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use wire_format::control::{RelayHello, ToController, ToRelay, TokenKey};
use wire_format::recording::Fingerprint;
use wire_format::{Epoch, NodeIndex, RoomId};

/// How long an index is in quarantine unless told otherwise.
pub const INDEX_QUARANTINE: Duration = Duration::from_secs(24 * 3600);

/// One relay's control session as the process around the core counts them; never reused within a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub u64);

/// What the core is made from: what the store held when this controller became the leader, and parameters.
#[derive(Clone, Debug)]
pub struct ControllerConfig {
    /// Leadership term, larger than that of every controller before.
    pub term: u64,
    /// Every relay that has an index, as last persisted by [`StoreUpdate::Node`].
    pub nodes: Vec<NodeRecord>,
    /// Indices among them that are in quarantine, and for how long they have been.
    pub quarantined: BTreeMap<NodeIndex, Duration>,
    /// How long the index of a relay that left or was revoked is given to no other: longer than any frame, table or
    /// epoch lives that may carry it.
    pub index_quarantine: Duration,
    /// For how long a relay that left may come back with the certificate that it has: no less is its index kept for it.
    pub return_within: Duration,
    /// As last persisted by [`StoreUpdate::EpochFloor`]; zero in a new overlay.
    pub epoch_floor: Epoch,
    /// As last persisted by [`StoreUpdate::RoomFloor`]; zero in a new overlay.
    pub room_floor: RoomId,
    /// What certificates of known relays are worth, where it is not the default.
    pub certificates: BTreeMap<String, CertificateRule>,
    /// What namespaces may hold and use.
    pub limits: LimitsConfig,
    /// How links are priced.
    pub cost: CostConfig,
    /// Where routes are computed. The outputs do not depend on it.
    pub executor: Executor,
    /// How many links a relay has.
    pub neighbours: NeighbourConfig,
    /// When relays that receive a stream feed others.
    pub feeding: FeedingConfig,
    /// What counts as a good route, for which namespaces.
    pub policies: Policies,
    /// Seed of everything random in the core. Nothing is so far: ties fall to indices and names.
    pub seed: u64,
}

impl ControllerConfig {
    /// A controller of a new overlay, with nothing in its store.
    pub fn new(term: u64, seed: u64) -> ControllerConfig {
        ControllerConfig {
            term,
            nodes: Vec::new(),
            quarantined: BTreeMap::new(),
            index_quarantine: INDEX_QUARANTINE,
            return_within: Duration::ZERO,
            epoch_floor: Epoch(0),
            room_floor: RoomId(0),
            certificates: BTreeMap::new(),
            limits: LimitsConfig::default(),
            cost: CostConfig::default(),
            executor: Executor::INLINE,
            neighbours: NeighbourConfig::default(),
            feeding: FeedingConfig::default(),
            policies: Policies::default(),
            seed,
        }
    }
}

/// What must be remembered of a relay while it has an index: that, and how its neighbours reach it while it is silent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeRecord {
    /// Its index.
    pub node: NodeIndex,
    /// Its name.
    pub name: String,
    /// Its region, as it said last.
    pub region: String,
    /// Addresses of its relay port, as it said last.
    pub addresses: Vec<SocketAddr>,
    /// An operator wants routes to avoid it.
    pub cordoned: bool,
    /// An operator wants it empty: SFUs are to leave it, too.
    pub draining: bool,
}

/// Which certificates of a name are worth something. The process around the core checks those of sessions; relays check
/// those of their neighbours by what they are told here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CertificateRule {
    /// Those issued before this are void, seconds since 1970.
    pub from_unix_s: u64,
    /// All are void: the relay is cut off until it joins anew.
    pub revoked: bool,
}

/// How links are priced and when a price changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CostConfig {
    /// Price of a hop on top of what is measured; at least 1 us, so that every hop makes a path dearer.
    pub hop: Duration,
    /// What a repair takes beyond a round trip: noticing the gap and asking.
    pub repair_reaction: Duration,
    /// Round trip assumed of a link that is up but not measured yet.
    pub rtt_unmeasured: Duration,
    /// Time constant of smoothing when the raw cost is above the smoothed one.
    pub smoothing_rise: Duration,
    /// Time constant of smoothing when the raw cost is below the smoothed one.
    pub smoothing_fall: Duration,
    /// A published cost moves only when the smoothed one is away from it by more than this many percent of it ...
    pub hysteresis_pct: u32,
    /// ... and by more than this, ...
    pub hysteresis_min: Duration,
    /// ... for this long.
    pub dwell: Duration,
    /// The same for a link whose smoothed cost has more than doubled.
    pub dwell_doubled: Duration,
    /// The same for the fall of a cost that rose within twice this time of its last fall: it swings.
    pub dwell_swinging: Duration,
    /// What a link costs on top that carries nearly all it can.
    pub load_step: Duration,
    /// Round trips of fewer samples are not believed.
    pub samples_min: u64,
    /// Prices of traffic from region to region; the first that fits counts, and what none fits is free.
    pub egress: Vec<EgressPrice>,
    /// What a US dollar per gigabyte costs on top.
    pub dollar_per_gb: Duration,
}

/// What traffic from one region to another costs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EgressPrice {
    /// Region of the relay that sends; `*` for all.
    pub from: String,
    /// Region of the relay that receives; `*` for all.
    pub to: String,
    /// Millionths of a US dollar per gigabyte (10^9 bytes).
    pub micro_dollars_per_gb: u64,
}

impl EgressPrice {
    /// Most that a price may be: a thousand dollars.
    pub const MICRO_DOLLARS_MAX: u64 = 1_000_000_000;

    /// Whether it is the price of traffic from one region to another.
    pub fn fits(&self, from: &str, to: &str) -> bool {
        let fits = |pattern: &str, region: &str| pattern == "*" || pattern == region;
        fits(&self.from, from) && fits(&self.to, to)
    }
}

impl CostConfig {
    /// What traffic between these regions costs, as time.
    pub(crate) fn money_us(&self, from: &str, to: &str) -> u64 {
        let price = self.egress.iter().find(|price| price.fits(from, to));
        let micro_dollars = price.map_or(0, |price| price.micro_dollars_per_gb);
        let micro_dollars = u128::from(micro_dollars.min(EgressPrice::MICRO_DOLLARS_MAX));
        let worth_us = self.dollar_per_gb.min(Duration::from_secs(60)).as_micros();
        u64::try_from(micro_dollars * worth_us / 1_000_000).expect("a thousand minutes at most")
    }
}

impl Default for CostConfig {
    fn default() -> CostConfig {
        CostConfig {
            hop: Duration::from_millis(1),
            repair_reaction: Duration::from_millis(10),
            rtt_unmeasured: Duration::from_millis(500),
            smoothing_rise: Duration::from_secs(1),
            smoothing_fall: Duration::from_secs(4),
            hysteresis_pct: 10,
            hysteresis_min: Duration::from_millis(1),
            dwell: Duration::from_secs(3),
            dwell_doubled: Duration::from_secs(1),
            dwell_swinging: Duration::from_secs(300),
            load_step: Duration::from_millis(10),
            samples_min: 4,
            egress: Vec::new(),
            dollar_per_gb: Duration::from_millis(100),
        }
    }
}

/// What the core is told.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// A relay presented a valid join token and needs an index for its certificate. After the drain
    /// [`crate::Controller::node_index`] knows it, or does not because no index is left.
    Join {
        /// The relay's name, from the token.
        name: String,
        /// Its region, from the token.
        region: String,
    },
    /// The worth of a relay's certificates changed: it was revoked, or joined anew. Its session, opened with a
    /// certificate that is void now, is kicked, and its neighbours cut the links that they made with such a one.
    Certificates {
        /// The relay.
        name: String,
        /// The rule from now on.
        rule: CertificateRule,
    },
    /// An operator wants routes to avoid passing a relay, or no longer. It stays so over sessions and restarts.
    Cordon {
        /// The relay; unknown ones are ignored.
        name: String,
        /// Whether they should.
        cordoned: bool,
    },
    /// An operator wants a relay empty: routes avoid passing it, and SFUs are sent to others. It stays so until
    /// [`Input::Cordon`] says that routes may pass it again.
    Drain {
        /// The relay; unknown ones are ignored.
        name: String,
    },
    /// Other policies from now on, whole. Streams are stamped by them at once; routes of policies that were not in use follow
    /// with the next epoch, and until then the default one's are taken.
    Policies(Policies),
    /// A relay opened a session and said hello. While an older session of the same relay speaks, the new one only
    /// waits, whatever it says, and in the end it is kicked in any case: [`KickCause::NameInUse`] if the older one
    /// spoke, [`KickCause::ComeAgain`] if it fell silent and was kicked itself.
    RelayUp {
        /// The session.
        session: SessionId,
        /// The name that the relay's certificate carries.
        name: String,
        /// What it said first.
        hello: RelayHello,
    },
    /// A relay said something after its hello.
    FromRelay {
        /// The session.
        session: SessionId,
        /// What it said.
        message: ToController,
    },
    /// A session ended, whoever ended it. Also after [`Output::Kick`] (harmless if the core no longer knows it).
    RelayDown {
        /// The session.
        session: SessionId,
    },
    /// Public keys of token issuers, whole: relays get them at once, and in every later session.
    TokenKeys(Vec<TokenKey>),
    /// The deadline of [`crate::Controller::poll_timeout`] has come.
    Timeout,
}

/// What the core wants done, in this order.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Send a message in a session. If the session's queue is full, end the session instead of skipping a message:
    /// the relay reports anew in its next one and is whole again.
    ToRelay {
        /// The session.
        session: SessionId,
        /// The message.
        message: ToRelay,
    },
    /// Make this durable before anything that comes after it leaves the process.
    Persist(StoreUpdate),
    /// End a session; the core has already forgotten it.
    Kick {
        /// The session.
        session: SessionId,
        /// Why, for programs.
        cause: KickCause,
        /// Why, for the log and the relay.
        reason: &'static str,
    },
}

impl Output {
    /// Adds it to the fingerprint of what a core gives out; `message` adds one to a relay, which only the process around the
    /// core can write down.
    pub fn note(
        &self,
        fingerprint: &mut Fingerprint,
        message: impl FnOnce(&mut Fingerprint, SessionId, &ToRelay),
    ) {
        match self {
            Output::ToRelay { session, message: said } => {
                fingerprint.put(b"m");
                message(fingerprint, *session, said);
            }
            Output::Persist(update) => {
                let (kind, number) = match update {
                    StoreUpdate::Node(record) => (b"n", u64::from(record.node.0)),
                    StoreUpdate::NodeQuarantined(node) => (b"q", u64::from(node.0)),
                    StoreUpdate::NodeFreed(node) => (b"f", u64::from(node.0)),
                    StoreUpdate::EpochFloor(epoch) => (b"e", u64::from(epoch.0)),
                    StoreUpdate::RoomFloor(room) => (b"r", u64::from(room.0)),
                };
                fingerprint.put(kind);
                fingerprint.put_number(number);
            }
            Output::Kick { session, cause: _, reason } => {
                fingerprint.put(b"k");
                fingerprint.put_number(session.0);
                fingerprint.put(reason.as_bytes());
            }
        }
    }
}

/// Why a session is ended, as far as a relay has to act on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum KickCause {
    /// A rule was broken or a limit reached.
    Broken,
    /// Another process is in session under the same name, and lives: coming back soon would change nothing.
    NameInUse,
    /// A newer session of the same name took the place of this one, which had been silent.
    Replaced,
    /// The place is free now.
    ComeAgain,
    /// The certificate is void.
    Void,
}

/// What must survive a restart of the controller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreUpdate {
    /// A relay was given an index, told of other addresses, or came back. Replaces the record of that index, which is not
    /// in quarantine from now on.
    Node(NodeRecord),
    /// The relay of this index left or was revoked: from now on the index is in quarantine.
    NodeQuarantined(NodeIndex),
    /// The quarantine is over and the relay forgotten: the index is free.
    NodeFreed(NodeIndex),
    /// Epochs below this may have been used.
    EpochFloor(Epoch),
    /// Room ids below this may have been used.
    RoomFloor(RoomId),
}
