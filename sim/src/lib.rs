//! Runs the real cores of relays, SFUs and the controller in a world that is made of a seed, and judges what happened.
//!
//! A [`Scenario`] says who is there, what the network does, what goes wrong and what must hold. [`run`] plays it: one
//! queue of events ordered by time, and within one instant by who announced them first; no thread, no clock, no global
//! randomness. The cores are driven by the laws of their contract, and each step is watched for a broken one (`drive`).
//! Their datagrams cross modelled links (`link-model`), unsealed but for the bytes that sealing adds; session messages
//! cross the same links as retransmitted flights, encoded as on the wire; messages to and from the controller are
//! encoded as gRPC would and delayed. The simulator plays the shells: it dials, verifies names, redials with backoff,
//! restarts what died. Every host has a clock of its own origin and rate, and notices everything a little late.
//!
//! What happened is a [`Trace`], whose hash two runs of the same scenario and seed share. [`judge`] asks the judges, who
//! see only scenario and trace. [`capture()`] writes down what crosses links instead. What fails is made
//! small by [`shrink()`].
//!
//! What a run was like for those who used it is measured beside that ([`measure()`]), and runs are held against each other and
//! against a CDN's routing ([`compare()`]). What single failures do to streams is asked one by one ([`failovers()`]).
//!
//! What a real controller or relay recorded of its inputs is run through its core again by [`replay()`], without a world.
//!
//! Simulated are our protocols, not QUIC, TLS, gRPC and the kernel: those are tested on real sockets.

mod capture;
mod check;
mod compare;
mod connection;
mod control_channel;
mod controller;
mod datagrams;
mod draw;
mod drive;
mod failover;
mod files;
mod flow;
mod freeze;
mod graph;
mod host_clock;
mod hostile;
mod jobs;
mod loss;
mod measure;
mod media;
mod network;
mod node;
mod observe;
mod play;
mod queue;
mod regressions;
mod replay;
mod report;
mod scenario;
mod shrink;
mod store;
mod swarm;
pub mod topology;
mod trace;
mod world;

pub use capture::{Captured, LinkNameError, capture, links_named};
pub use check::{Objection, judge};
pub use compare::{
    Comparison, Difference, METRICS, Measured, Metric, Plan, Variant, Versus, Wish, compare,
    json as comparison_json, page, table,
};
pub use draw::{drawn, drawn_text};
pub use failover::{Failover, Side, failovers};
pub use files::{DATA, read_named};
pub use flow::{FlowOutcome, RouteShares, Spread};
pub use loss::{Cost, Limits, LossRow, RowResult, loss_rows, run_rows};
pub use measure::{Fastest, Figures, Histogram, LinkLoad, Playback, measure};
pub use regressions::{Regression, RegressionError};
pub use replay::{Happened, Replay, ReplayError, Verdict, replay};
pub use report::Outcome;
pub use scenario::{
    Backdrop, ClientId, ClientSpec, Expect, Fault, FaultKind, Grain, Host, Recorded, RelayId, RelaySpec,
    Rhythm, RoomMedia, Rooms, RouteLimits, Routing, Scenario, ScenarioError, Stalls, StreamNumber,
    StreamSpec, SubscriptionSpec, Visit, Visits,
};
pub use shrink::{Failure, Shrunk, Size, failures_of, outcome_of, shrink};
pub use swarm::{SeedOutcome, SwarmResult, run_seed, run_seeds};
pub use trace::{
    Beliefs, Datagram, Delivered, Digest, Event, Frame, Packet, Purpose, PushedTable, Row, Trace,
};
pub use world::run;
