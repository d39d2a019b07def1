//! The route controller process, as a library: `relayctl dev` and tests run it within themselves.
//!
//! [`Controller::start`] opens the store, begins a new term and serves relays (gRPC, TLS) and operators (HTTP). One event
//! loop with a thread of its own drives the sans-IO core from `route-core` and owns the store and all sessions, so that
//! what the core wants remembered is on disk before anything that depends on it leaves the process. Everything around
//! the loop is plain async that sends it requests over a bounded queue. If the store cannot be written, the process ends
//! rather than say what it would forget; relays keep forwarding on their last tables meanwhile.
//!
//! The controller is the overlay's certificate authority. At the first start it makes a root and a key that signs SFUs'
//! tokens. Both private keys lie in the store encrypted under a key file of their own. A relay joins with a one-time
//! token that carries the root's hash, so that it need trust nothing else; from then on its certificate says who it is.
//!
//! What is known about streams and links is not stored: relays report it again whenever they connect.

mod admin;
mod api_tokens;
mod ca;
mod candidate;
mod clock;
mod config;
mod controller;
mod engine;
mod etcd;
mod grpc;
mod guard;
mod history;
mod keys;
mod namespaces;
mod operations;
mod policies;
mod policy_operations;
mod ration;
mod recording;
mod refusal;
mod route_operations;
mod route_rows;
mod rows;
mod store;
mod stream_rows;
mod telemetry;
mod tenure;
mod threads;
mod tls;
mod tokens;
mod trace;
mod trace_rows;
mod trust;
mod vault;

pub use api_tokens::ApiRights;
pub use clock::{unix_ms, utc};
pub use config::{Config, Settings};
pub use controller::Controller;
pub use namespaces::{BitRate, LimitSettings, NamespaceRow, NamespaceSettings};
pub use operations::Operations;
pub use policies::{
    DryRunAnswer, PoliciesAnswer, PolicyChangeRow, PolicyDocument, PolicyRouteRow, PolicyRow, PolicyStatus,
    WeightsRow,
};
pub use refusal::{Refusal, RefusalKind};
pub use route_rows::{
    DiffAtQuery, DiffQuery, DiffRow, DrainRow, EpochRow, ExplainQuery, ExplainRow, HopRow, PriceChangeRow,
    RouteChangeRow, TermsRow, TurnRow, WayRow, WhyNotQuery, WhyNotRow,
};
pub use rows::{
    ApiTokenAnswer, ApiTokenRequest, ApiTokenRow, ErrorAnswer, JoinTokenAnswer, JoinTokenRequest,
    JoinTokenRow, LinkRow, LinksQuery, NodeRow, RouteRow, RoutesQuery, TokenAnswer, TokenKeyRequest,
    TokenKeyRow, TokenRequest,
};
pub use stream_rows::{CopiesRow, FeedRow, ProtectionRow, StreamRow};
pub use threads::{on_all_processors, on_threads};
pub use trace_rows::{
    CameRow, EndKind, LeftRow, SpreadRow, TraceAnswer, TraceHopRow, TraceQuery, TraceRelayRow, TraceRow,
    TraceWayRow,
};
