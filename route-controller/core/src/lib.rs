//! The route controller's core.
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
//! 6. Outputs and queues are bounded; an overflow is a counted drop.
//! 7. The same configuration, seed and inputs give the same outputs.
//! 8. No bytes from the wire can panic.

mod api;
mod controller;
mod cost;
mod damping;
mod directory;
mod effect;
mod ids;
mod links;
mod planes;
mod recovery;
mod relays;
mod rollout;
mod topology;
mod view;

pub use api::{ControllerConfig, CostConfig, Input, NodeRecord, Output, SessionId, StoreUpdate};
pub use controller::Controller;
pub use view::{Counters, LinkView, NodeState, NodeView, RouteFilter, RouteView, StatusView, StreamView};
