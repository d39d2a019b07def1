//! The route controller's core: from what relays report, it decides who links to whom, which way media goes, and who
//! gets which stream, and tells every relay its part.
//!
//! [`Controller`] is driven like the relay core, without IO and clocks:
//!
//! ```text
//! handle_input(now, input)    then until None: poll_output()    then poll_timeout()
//! ```
//!
//! The laws, which the simulator's driver asserts on every step:
//!
//! 1. `now` never goes back.
//! 2. One input, then drain, then the next.
//! 3. After [`Input::Timeout`] and a drain the next deadline is later than `now`.
//! 4. Nothing waits that the deadline does not announce.
//! 5. The driver re-reads the deadline after each drain.
//! 6. Outputs and queues are bounded; an overflow is a counted drop. (What one input causes is bounded by the relays,
//!    streams and rows that exist, and those by named limits; all of it is drained before the next input.)
//! 7. The same configuration, seed and inputs give the same outputs.
//! 8. No bytes from the wire can panic.
//!
//! Outputs are in order: what [`Output::Persist`] says must be durable before anything after it leaves the process.
//!
//! # What it knows, and for how long
//!
//! Almost everything is soft state that relays report when a session begins and that dies with this process. The store
//! holds only what must never be given twice (indices, epochs, room ids) and how silent relays are reached.
//!
//! A relay's session and its links fail apart, and media depends on links alone. So a lost session withdraws nothing:
//! for five seconds the relay counts as before, except that routes pass through it only where nothing else leads on;
//! after that it is a destination as long as a neighbour reports a working link, and never a transit. With neither
//! session nor links it is offline, and after five more seconds its publications and subscriptions are over.
//!
//! When the controller knows less than its relays do, after its own start or when half the sessions break together, it
//! pushes no routes and no neighbour lists until those relays that are alive have reported, or fifteen seconds have
//! passed; relays that only the store names are given three. Rows of stream tables are sent to relays that have
//! reported everything, and destinations stamped since before the start stay until the relay in question has reported,
//! or for a minute. Thus a controller that is killed and started again loses no packet.
//!
//! # Who links to whom
//!
//! Up to 256 relays all link to each other. Of more each has 32 links at most, chosen so that shortest ways are nearly as
//! short as they would be with all links, and changed a few at a time; the source of `neighbours` tells how.
//!
//! # From a report to a route
//!
//! A link may be used while no end says it is down and at least one says it is up. Each direction has a cost
//! in microseconds, smoothed, with hysteresis, never zero; what it is made of stays apart, so that it can be explained.
//! What reports claim against physics or against the other end's word is not believed, and a relay that becomes a hub
//! all of a sudden by its own word waits before it is one. Shortest paths to every destination give tables whose
//! suffixes agree; ties fall to the lower index, and tables that say what the last ones said are not pushed. Whatever
//! changes within five milliseconds is one change; changes of costs alone are looked at once a second.
//!
//! Beside them, for every destination, stand two trees, red and blue, that share nothing but what every way must pass:
//! the bridges and cut vertices, which are reported as such. For each row of the primary plane the table names the tree
//! that avoids its next hop, so that a relay which suspects that hop turns there without asking. The trees change when
//! links come and go, and with costs only when that is well worth it; none of this is urgent.
//!
//! New tables are an epoch, prepared and stamped in two phases. How that copes with silence and urgency stands in the
//! source of the rollout, how streams join and leave in that of the directory.
//!
//! A stream is stamped where it enters, and where that spares long links by relays that receive it, each for some others: how
//! one of them is chosen stands in the source of feeding, how that changes without a gap in that of the directory's feeds.
//!
//! Of several controllers one leads; [`Election`] is how they agree which, and is driven beside [`Controller`].

mod api;
mod controller;
mod cost;
mod damping;
mod directory;
mod effect;
mod election;
mod executor;
mod explain;
mod feeding;
mod guard;
mod history;
mod hubs;
mod ids;
mod links;
mod load;
mod neighbours;
mod overlay;
mod past;
mod planes;
mod policy;
mod recovery;
mod relays;
mod rollout;
mod route_set;
mod topology;
mod trace;
mod view;

pub use api::{
    CertificateRule, ControllerConfig, CostConfig, EgressPrice, INDEX_QUARANTINE, Input, KickCause,
    NodeRecord, Output, SessionId, StoreUpdate,
};
pub use controller::Controller;
pub use cost::CostTerms;
pub use directory::{LimitsConfig, NamespaceLimits, NamespaceView};
pub use election::{
    CallId, Election, ElectionAnswer, ElectionInput, ElectionOutput, ElectionRequest, LEASE, LeaseId,
};
pub use executor::{Executor, Work};
pub use explain::{
    Avoidance, DrainView, EpochView, ExplainView, HopView, PriceChangeView, RouteChangeView, RoutesDiffView,
    TurnView, Verdict, WayView, WhyNotView,
};
pub use feeding::{FeedingConfig, FeedingQuality};
pub use guard::Doubt;
pub use neighbours::{NeighbourConfig, NeighbourConfigError};
pub use overlay::Overlay;
pub use past::{LinkFact, Moment, NodeFact, StepFact, TableFacts};
pub use policy::{
    DEFAULT_POLICY, HOP_MAX, PIN_RELAYS_MAX, POLICY_LIST_MAX, Pin, Place, Policies, Policy, PolicyError,
    WEIGHT_PCT_MAX, Weights,
};
pub use trace::{LegView, TraceView, TracedRelayView};
pub use view::{
    Counters, DryRunView, FeedView, LinkView, NodeState, NodeView, PolicyChangeView, PolicyRouteView,
    ProtectionView, RouteFilter, RouteView, StatusView, StreamView,
};
