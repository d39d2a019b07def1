//! A scenario as plain data: who is there, what the network does, what goes wrong and when, and what must hold.
//! Written as TOML (see `read`), and legal once it exists: every name is resolved to a place in one of its lists.

mod keys;
mod policies;
mod read;
mod rhythm;
mod rooms;
mod routes;
mod routing;
mod spread;

pub use read::ScenarioError;
pub use rhythm::{Recorded, Rhythm};
pub(crate) use rooms::bits_per_s;
pub use rooms::{RoomMedia, Rooms, Visit, Visits};
pub use routes::RouteLimits;
pub use routing::Routing;

use crate::topology::Topology;
use link_model::{LinkSchedule, LinkSpec};
use relay_core::ClientRights;
use route_core::{EgressPrice, Place, Policies};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use wire_format::control::Position;
use wire_format::{MediaKind, PolicyIndex, Priority};

/// A relay, by its place in [`Scenario::relays`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RelayId(pub u16);

/// A client, by its place in [`Scenario::clients`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientId(pub u16);

/// A stream, by its place in [`Scenario::streams`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamNumber(pub u16);

/// A host that has a port and a core.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Host {
    /// A relay.
    Relay(RelayId),
    /// A client.
    Client(ClientId),
}

/// Everything a run depends on, but for its seed.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What people call it.
    pub name: String,
    /// Seed of runs that name none.
    pub seed: u64,
    /// How closely it is looked at.
    pub grain: Grain,
    /// When the run ends; media stops a little earlier.
    pub run_for: Duration,
    /// All relays.
    pub relays: Vec<RelaySpec>,
    /// All clients.
    pub clients: Vec<ClientSpec>,
    /// Each direction of the network between two hosts. Hosts without one cannot reach each other.
    pub paths: BTreeMap<(Host, Host), LinkSchedule>,
    /// Where the relays that no table names come from. At packet grain its links are among [`Scenario::paths`], at flow
    /// grain they are not.
    pub topology: Option<Backdrop>,
    /// Calls whose users come and go; at packet grain they are among clients, streams and subscriptions.
    pub rooms: Vec<Rooms>,
    /// Up to so many relays all link to each other; `None`: as many as controllers do unless told otherwise.
    pub mesh_max: Option<usize>,
    /// At flow grain: how often relays report their links, beside changes of state.
    pub report_every: Duration,
    /// At flow grain: how often routes and streams are looked at.
    pub sample_every: Duration,
    /// What routes must be like.
    pub routes: RouteLimits,
    /// One way between a relay and the controller.
    pub controller_delay: Duration,
    /// How long the index of a relay that left is given to no other.
    pub index_quarantine: Duration,
    /// What a relay that feeds others must spare; `None`: ingresses feed everyone.
    pub feed_gain: Option<Duration>,
    /// Number of the first datagram of each link that a relay sends on.
    pub packets_from: u64,
    /// Clocks of hosts gain or lose at most so many millionths, each as the seed says.
    pub clock_drift_ppm: u32,
    /// Relays' hosts are busy with other things, too.
    pub stalls: Option<Stalls>,
    /// What is published.
    pub streams: Vec<StreamSpec>,
    /// What is wanted.
    pub subscriptions: Vec<SubscriptionSpec>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// What counts as a good route, for which namespaces.
    pub policies: Policies,
    /// When the controller is told; before that there is the default policy alone, which weighs as it does by itself.
    pub policies_from: Duration,
    /// What traffic between regions costs.
    pub egress: Vec<EgressPrice>,
    /// How streams are led.
    pub routing: Routing,
    /// What must hold.
    pub expect: Expect,
}

/// How closely a scenario is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grain {
    /// Every datagram goes through the cores of relays, SFUs and the controller.
    Packet,
    /// The controller's core alone is real. Relays say what their links are like and hold what they are told; links are
    /// formulas, streams are rates.
    Flow,
}

/// Relays and links that a scenario names by their source.
#[derive(Clone, Debug)]
pub struct Backdrop {
    /// Where they are, and how far apart.
    pub topology: Topology,
    /// What every link does beside taking its time.
    pub is: LinkSpec,
    /// The first of its relays among [`Scenario::relays`]; the others follow.
    pub first: usize,
}

/// How a busy host keeps the process of a relay from running, again and again: how long each time, and how far apart the
/// times are in the mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stalls {
    /// The shortest.
    pub shortest: Duration,
    /// The longest.
    pub longest: Duration,
    /// From the end of one to the beginning of the next, in the mean.
    pub apart: Duration,
}

/// A relay.
#[derive(Clone, Debug)]
pub struct RelaySpec {
    /// Unique name.
    pub name: String,
    /// Region.
    pub region: String,
    /// Where it stands, as it tells the controller.
    pub position: Option<Position>,
}

/// An SFU.
#[derive(Clone, Debug)]
pub struct ClientSpec {
    /// Unique name, the subject of its token.
    pub name: String,
    /// The relay that it links to.
    pub relay: RelayId,
    /// Where it goes when that sends it away: to the next of these, and to the first one after the last.
    pub others: Vec<RelayId>,
    /// What its token grants.
    pub rights: ClientRights,
}

/// A stream that a client publishes.
#[derive(Clone, Debug)]
pub struct StreamSpec {
    /// Who publishes.
    pub client: ClientId,
    /// Call.
    pub room: String,
    /// Participant.
    pub user: String,
    /// The participant's stream.
    pub name: String,
    /// What it carries.
    pub kind: MediaKind,
    /// When its packets leave, and how long they are.
    pub rhythm: Rhythm,
    /// Delay budget on top of the path's own delay; `None` takes the default of the kind.
    pub budget: Option<Duration>,
    /// It asks for two disjoint ways at once.
    pub protect: bool,
    /// How urgent its packets are; `None` is what its kind is.
    pub priority: Option<Priority>,
    /// First packet.
    pub from: Duration,
    /// Unpublished then.
    pub until: Duration,
}

/// What a client wants to receive.
#[derive(Clone, Debug)]
pub struct SubscriptionSpec {
    /// Who wants it.
    pub client: ClientId,
    /// Call.
    pub room: String,
    /// Only this participant.
    pub user: Option<String>,
    /// Only the stream of this name.
    pub stream: Option<String>,
    /// Asked then.
    pub from: Duration,
    /// Ended then.
    pub until: Duration,
}

/// Clocks of hosts drift by no more.
pub(crate) const CLOCK_DRIFT_PPM_MAX: u32 = 1_000;

/// Something that goes wrong.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// When it begins.
    pub at: Duration,
    /// When it is over, if ever.
    pub until: Option<Duration>,
}

/// What goes wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// Directions of the network lose everything.
    Cut(Vec<(Host, Host)>),
    /// A relay's process dies without a goodbye, and loses all state but its certificate.
    Crash(RelayId),
    /// A relay is told to stop, and stops.
    Leave(RelayId),
    /// A relay and the controller cannot reach each other.
    Isolate(RelayId),
    /// Nothing passes between a relay and the controller, and neither notices that the session is dead: the relay's
    /// part that talks to the controller hangs, while its port goes on.
    Mute(RelayId),
    /// A relay's process is stopped for a while and goes on where it was, knowing nothing of it.
    Freeze(RelayId),
    /// A relay sends its neighbours, beside all else, requests for everything and parity and repairs that cannot be.
    Hostile(RelayId),
    /// An operator empties a relay, and lets it be used again. Nothing goes wrong at all.
    Drain(RelayId),
    /// The controller's process dies and loses all state but its store.
    ControllerCrash,
}

impl FaultKind {
    /// It disturbs the way of media. Without the controller, media keeps its way.
    pub fn hurts_media(&self) -> bool {
        match self {
            FaultKind::Cut(_) | FaultKind::Crash(_) | FaultKind::Leave(_) | FaultKind::Freeze(_) => true,
            FaultKind::Isolate(_)
            | FaultKind::Mute(_)
            | FaultKind::Hostile(_)
            | FaultKind::Drain(_)
            | FaultKind::ControllerCrash => false,
        }
    }
}

/// What must hold, beyond what always must.
#[derive(Clone, Debug)]
pub struct Expect {
    /// A subscriber that can be reached receives everything from so long after the last disturbance on.
    pub recover_within: Duration,
    /// The same where a way existed before the disturbance and another, or still the same, exists after it.
    pub reroute_within: Duration,
    /// Longest silence of any stream at any subscriber, from its first delivery to the end of sending.
    pub gap_max: Option<Duration>,
    /// From the beginning of the run, of the stream or of the subscription, whichever is last, everything arrives.
    pub join_within: Duration,
    /// From so long after the last disturbance on, every packet takes the way of least delay, and no other.
    pub settled_within: Option<Duration>,
    /// Least packets delivered in all: a scenario in which nothing happens proves nothing.
    pub delivered_min: u64,
}

impl Scenario {
    /// Media stops so long before the end, to see what was under way arrive.
    pub const TAIL: Duration = Duration::from_secs(1);

    /// Name of a host.
    pub fn host_name(&self, host: Host) -> &str {
        match host {
            Host::Relay(relay) => &self.relays[usize::from(relay.0)].name,
            Host::Client(client) => &self.clients[usize::from(client.0)].name,
        }
    }

    /// All relays.
    pub fn relay_ids(&self) -> impl Iterator<Item = RelayId> + use<> {
        (0..self.relays.len() as u16).map(RelayId)
    }

    /// All clients.
    pub fn client_ids(&self) -> impl Iterator<Item = ClientId> + use<> {
        (0..self.clients.len() as u16).map(ClientId)
    }

    /// All streams.
    pub fn stream_numbers(&self) -> impl Iterator<Item = StreamNumber> + use<> {
        (0..self.streams.len() as u16).map(StreamNumber)
    }

    /// A client.
    pub fn client(&self, client: ClientId) -> &ClientSpec {
        &self.clients[usize::from(client.0)]
    }

    /// Whether a stream may enter the overlay at a relay.
    pub fn may_enter(&self, stream: StreamNumber, relay: RelayId) -> bool {
        let client = self.client(self.stream(stream).client);
        client.relay == relay || client.others.contains(&relay)
    }

    /// Whether a stream and a subscriber of it stay at their relays, as far as nothing goes wrong.
    pub fn stays(&self, stream: StreamNumber, subscriber: ClientId) -> bool {
        [self.stream(stream).client, subscriber]
            .into_iter()
            .all(|client| self.client(client).others.is_empty())
    }

    /// A stream.
    pub fn stream(&self, stream: StreamNumber) -> &StreamSpec {
        &self.streams[usize::from(stream.0)]
    }

    /// The tenant that a stream belongs to.
    pub fn namespace(&self, stream: StreamNumber) -> &str {
        &self.client(self.stream(stream).client).rights.namespace
    }

    /// The policy of a stream's namespace.
    pub fn policy(&self, stream: StreamNumber) -> PolicyIndex {
        self.policies.of_namespace(self.namespace(stream))
    }

    /// Whether streams may leave their namespace's policy for another, because a link is loaded.
    pub fn relieves(&self) -> bool {
        self.policies.iter().any(|(_, policy)| policy.relief.is_some())
    }

    /// Whether a relay is one of those.
    pub fn is_in(&self, relay: RelayId, places: &[Place]) -> bool {
        let spec = &self.relays[usize::from(relay.0)];
        places.iter().any(|place| match place {
            Place::Region(region) => *region == spec.region,
            Place::Node(name) => *name == spec.name,
            // Relays of a scenario have neither.
            Place::Isp(_) | Place::Tag(_) => false,
        })
    }

    /// The stream of that name in a tenant's room, if it is in the scenario.
    pub fn stream_named(
        &self,
        namespace: &str,
        room: &str,
        user: &str,
        stream: &str,
    ) -> Option<StreamNumber> {
        self.stream_numbers().find(|number| {
            let spec = self.stream(*number);
            self.namespace(*number) == namespace
                && spec.room == room
                && spec.user == user
                && spec.name == stream
        })
    }

    /// When media stops.
    pub fn media_end(&self) -> Duration {
        self.run_for - Scenario::TAIL
    }
}

impl fmt::Display for RelayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "relay {}", self.0)
    }
}
