//! What people ask the core: plain rows with names, for the admin API and tools. Reading changes nothing.

use crate::cost::CostTerms;
use crate::feeding::FeedingQuality;
use crate::guard::Doubt;
use std::net::SocketAddr;
use std::time::Duration;
use wire_format::control::{LinkQuality, LinkState, Position, StreamName};
use wire_format::{Epoch, Incarnation, MediaKind, NodeIndex, Plane, PlanePair, PolicyIndex, StreamKey};

/// What the controller makes of a relay.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum NodeState {
    /// In session.
    Connected,
    /// No session, but a neighbour reports a working link to it: a destination, never a transit.
    Silent,
    /// Said goodbye and is about to stop: never a transit.
    Leaving,
    /// No session and no working link, or known only from the store.
    Offline,
    /// Cut off by an operator: it may join anew, with a new join token.
    Revoked,
}

/// A relay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// Its index.
    pub node: NodeIndex,
    /// Whether it works.
    pub state: NodeState,
    /// Time in that state.
    pub state_age: Duration,
    /// Region, for instance `eu-central`.
    pub region: String,
    /// Internet provider or cloud, empty if not told.
    pub isp: String,
    /// Free labels.
    pub tags: Vec<String>,
    /// Where its relay port is reached.
    pub addresses: Vec<SocketAddr>,
    /// Software version, empty if not connected since the controller started.
    pub version: String,
    /// Newest epoch whose tables it acknowledged.
    pub epoch: Option<Epoch>,
    /// Without it, relays that reach each other now would not.
    pub cut_vertex: bool,
    /// Neighbours with a usable link.
    pub links_usable: usize,
    /// Publications held there.
    pub publications: usize,
    /// Subscriptions held there.
    pub subscriptions: usize,
    /// Where it says it stands.
    pub position: Option<Position>,
    /// An operator wants routes to avoid it.
    pub cordoned: bool,
    /// An operator wants it empty: SFUs are sent to other relays.
    pub draining: bool,
    /// It became a hub all of a sudden, by its own links' prices: routes avoid it until they have held for a while.
    pub hub_quarantined: bool,
    /// It left or was revoked, and its index is in quarantine: the time until another relay may be given it.
    pub index_free_in: Option<Duration>,
}

/// One direction of a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkView {
    /// The relay that sends, and whose measurements these are.
    pub from: String,
    /// The relay that receives.
    pub to: String,
    /// Index of `from`.
    pub from_node: NodeIndex,
    /// Index of `to`.
    pub to_node: NodeIndex,
    /// What `from` reports, `None` if it has not.
    pub state: Option<LinkState>,
    /// Routes may use it: both ends agree, or the one that is in session says so.
    pub usable: bool,
    /// Without it, relays that reach each other now would not.
    pub bridge: bool,
    /// Cost that routes are computed with, in microseconds; `None` while not usable.
    pub cost_us: Option<u64>,
    /// Cost of the latest measurement, before smoothing and hysteresis, in microseconds.
    pub cost_raw_us: Option<u64>,
    /// What the cost is made of; `None` while not usable.
    pub terms: Option<CostTerms>,
    /// Why the measurement of `from` is not believed as it is.
    pub doubt: Option<Doubt>,
    /// Round trip of the last second or so, without the moments in which a host was busy.
    pub rtt: Option<Duration>,
    /// Least round trip of late.
    pub rtt_min: Option<Duration>,
    /// Interarrival jitter at `to`.
    pub jitter: Option<Duration>,
    /// Lost from `from` to `to`, parts per million.
    pub loss_ppm: Option<u32>,
    /// Bytes per second from `from` to `to`.
    pub rate: Option<u64>,
    /// Age of the measurement.
    pub age: Option<Duration>,
    /// What `from` says of it beside that, `None` if it has not.
    pub sender: Option<LinkQuality>,
    /// What `to` says of it, which sees what arrives; `None` if it has not.
    pub receiver: Option<LinkQuality>,
}

/// A stream that is published, or was until a moment ago.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamView {
    /// What people call it.
    pub name: StreamName,
    /// Its ids.
    pub key: StreamKey,
    /// What it carries.
    pub kind: MediaKind,
    /// Which publication of it.
    pub incarnation: Incarnation,
    /// Name of the relay where it enters.
    pub ingress: String,
    /// Names of the relays that the ingress stamps as destinations.
    pub destinations: Vec<String>,
    /// Names of the relays with subscribers, the ingress among them if it has some.
    pub egresses: Vec<String>,
    /// Subscriptions that match it, everywhere.
    pub subscriptions: usize,
    /// The policy by which it travels.
    pub policy: String,
    /// That is so because a link is loaded: its namespace's policy is another.
    pub relieved: bool,
    /// Its publisher asks for two disjoint ways at once, or its policy does.
    pub protect: bool,
    /// If so: what comes of it, by the tables that ingresses stamp now; one for each of `destinations`.
    pub protection: Vec<ProtectionView>,
    /// Who feeds whom: one for each relay that gets it from another, by index.
    pub feeds: Vec<FeedView>,
    /// What copies of it that takes, by the newest tables.
    pub quality: FeedingQuality,
}

/// How one relay is fed with a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FeedView {
    /// The relay that is fed.
    pub egress: String,
    /// The relay that stamps it as a destination: the ingress, or a holder.
    pub feeder: String,
    /// The one that fed it until now and stops in a moment.
    pub former: Option<String>,
    /// Holders between ingress and this relay.
    pub holders: usize,
    /// What the whole way costs, in microseconds; `None` while it is not certain.
    pub delay_us: Option<u64>,
    /// What the way from the ingress alone would cost.
    pub direct_us: Option<u64>,
}

/// How a stream that asks for two ways at once gets to one relay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProtectionView {
    /// Name of the relay where it leaves.
    pub egress: String,
    /// The planes that its two copies travel on; `None` if it goes there once.
    pub pair: Option<PlanePair>,
    /// The relays that each copy passes, ends included, in the order of the planes.
    pub ways: Vec<Vec<String>>,
    /// Names of relays that both copies pass: if one of these fails, nothing protects.
    pub shared: Vec<String>,
    /// Groups of relays that may fail together of which both copies pass some, like `region eu`, `ISP x` or `risk cable`.
    pub shared_risks: Vec<String>,
    /// The same of the redundant planes, red and blue.
    pub redundant_share: Vec<String>,
    /// If it goes there once: the link that all ways pass, `None` if there is no way.
    pub bridge: Option<(String, String)>,
}

/// Which routes to show. `None` shows all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RouteFilter {
    /// Only the table of this relay.
    pub node: Option<NodeIndex>,
    /// Only routes to this relay.
    pub destination: Option<NodeIndex>,
    /// Only this plane.
    pub plane: Option<Plane>,
    /// Only this epoch, one of the last hundred; `None` shows the newest that is stamped.
    pub epoch: Option<Epoch>,
    /// By this policy. One that is not in use has no routes of its own.
    pub policy: PolicyIndex,
}

impl RouteFilter {
    pub(crate) fn wants(&self, node: NodeIndex, plane: Plane, destination: NodeIndex) -> bool {
        self.node.is_none_or(|wanted| wanted == node)
            && self.destination.is_none_or(|wanted| wanted == destination)
            && self.plane.is_none_or(|wanted| wanted == plane)
    }
}

/// A row of a route table, with the path that follows from everyone's tables.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteView {
    /// The relay whose table it is.
    pub node: String,
    /// Where to.
    pub destination: String,
    /// On which plane.
    pub plane: Plane,
    /// The neighbour that comes next.
    pub next_hop: String,
    /// All relays of the path, `node` first, `destination` last.
    pub path: Vec<String>,
    /// Cost of the path at the present costs of its links, in microseconds; if one of them has failed since, or relays do
    /// not hold the epoch any more, what it was when the epoch was computed.
    pub cost_us: u64,
    /// In a row of the primary plane: the plane that frames are moved to when the next hop fails, if there is one.
    pub backup: Option<Plane>,
    /// The epoch of the table.
    pub epoch: Epoch,
    /// Time since this path was first computed; of an epoch that relays do not hold any more, since it was stamped.
    pub age: Duration,
}

/// The controller as a whole.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StatusView {
    /// Leadership term.
    pub term: u64,
    /// The epoch that relays were last told to stamp.
    pub epoch: Option<Epoch>,
    /// The epoch being prepared.
    pub preparing: Option<Epoch>,
    /// Still waiting after a start for relays of the store to report.
    pub recovering: bool,
    /// What happened so far.
    pub counters: Counters,
}

/// Counts since the start of this controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Sessions opened.
    pub sessions: u64,
    /// Sessions ended by the core.
    pub kicked: u64,
    /// Sessions among them that were refused because another process was in session under their name.
    pub names_contested: u64,
    /// Messages of sessions that are not a relay's own: not known, not any more, or waiting as rivals.
    pub strays: u64,
    /// Reports that named unknown relays, publications or subscriptions, or broke a limit.
    pub reports_refused: u64,
    /// Reports on links that nobody was told to have: those that ended a moment ago.
    pub reports_unasked: u64,
    /// Neighbour lists sent.
    pub neighbour_lists: u64,
    /// Times the routes were computed.
    pub recomputes: u64,
    /// Tables computed that were never pushed, because newer ones took their place.
    pub epochs_merged: u64,
    /// Tables sent to relays, whole.
    pub tables_whole: u64,
    /// Tables sent to relays as what is new in them.
    pub tables_changed: u64,
    /// Relays asked for all of the tables instead of changes.
    pub tables_wanted: u64,
    /// Epochs prepared.
    pub epochs: u64,
    /// Epochs that did not wait a full second for the one before, because tables had become wrong.
    pub epochs_urgent: u64,
    /// Rows of the primary plane of stamped tables whose next hop changed.
    pub route_changes: u64,
    /// Times that a relay was left out because it did not acknowledge in time.
    pub acks_missed: u64,
    /// Publications granted.
    pub publications_granted: u64,
    /// Publications refused.
    pub publications_refused: u64,
    /// Subscriptions refused.
    pub subscriptions_refused: u64,
    /// Of the refused ones, those whose namespace had reached a limit.
    pub limits_reached: u64,
    /// Groups of relays that may fail together which a computation of routes did not look at, since there were more than 128.
    pub risks_left_out: u64,
    /// Published link costs that changed.
    pub cost_changes: u64,
    /// Links that failed.
    pub links_failed: u64,
    /// Reports whose round trip was not believed: faster than light, or far below what the other end measures.
    pub reports_doubted: u64,
    /// Times that a relay became a hub all of a sudden and was avoided for it.
    pub hubs_quarantined: u64,
    /// Streams moved to the policy that relieves theirs, because a link was loaded.
    pub streams_relieved: u64,
    /// Streams moved back.
    pub streams_returned: u64,
}

/// A route that is another by another policy, or by a policy that is another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PolicyRouteView {
    /// The policy.
    pub policy: String,
    /// Where from.
    pub from: String,
    /// Where to.
    pub to: String,
    /// All relays of the shortest path that its streams are on, ends included; `None` if there is none.
    pub before: Option<Vec<String>>,
    /// The same afterwards.
    pub after: Option<Vec<String>>,
    /// What the former path cost when its routes were computed.
    pub before_us: Option<u64>,
    /// What the later one costs.
    pub after_us: Option<u64>,
}

/// A stream that travels by another policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PolicyChangeView {
    /// What people call it.
    pub name: StreamName,
    /// By which policy so far.
    pub before: String,
    /// By which one then.
    pub after: String,
}

/// What other policies would change.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DryRunView {
    /// Whether every relay knows policies; while one does not, all routes are those of the default policy.
    pub understood: bool,
    /// Routes that would be others.
    pub routes_changed: usize,
    /// The first ten thousand of them, by policy and destination.
    pub routes: Vec<PolicyRouteView>,
    /// Streams that would travel by another policy.
    pub streams_changed: usize,
    /// The first ten thousand of them, by name.
    pub streams: Vec<PolicyChangeView>,
}
