//! A relay, and an SFU's end of a link, as sans-IO cores: bytes, messages and time go in; datagrams, messages and
//! deadlines come out. The same code runs under a port's worker thread and under the simulator.
//!
//! # What a packet meets
//!
//! An SFU's [`Client`] numbers the packet and sends it under the handle that its relay granted. The ingress [`Relay`]
//! looks the stream up once, hands the packet to its own subscribers, and stamps the header that carries it from then
//! on: stream, sequence, slack, epoch, and the set of relays still to reach. Every relay splits that set by next hop and
//! sends one copy per link, so transit relays know nothing about streams and a push of tables repairs all of them at
//! once. At an egress the packet is judged against the stream's duplicate window before it is delivered.
//!
//! Nothing on that way allocates, once the queues have grown to their working size: packets stay in the driver's arena
//! until they are copied into the train that leaves, and a frame's head is built on the stack.
//!
//! # Why it may be trusted
//!
//! - A frame that exceeds its hop limit is dropped, so tables that disagree cost bandwidth for a moment, never forever.
//! - A link is judged by authenticated datagrams alone. Silence makes it suspect, then down; whoever dials starts anew.
//! - What the controller pushes is state: it replaces what was there. Without a controller the last state stays, and a
//!   subscription at a relay that already has the stream is served.
//! - The path of every link and direction is probed, and a frame too large for it crosses in two halves.
//! - A link that queues is given what arrives at its other end; what cannot leave goes by whole layers and frames.
//! - Every queue and table has a bound, and every drop has a counter.
//!
//! [`Endpoint`] states the contract, once, as numbered laws.

mod annex;
mod api;
mod backlog;
mod client;
mod clients;
mod control;
mod counters;
mod duplicates;
mod endpoint;
mod forward;
mod keyframes;
mod leaving;
mod link;
mod liveness;
mod measure;
mod notice;
mod pacer;
mod path_mtu;
mod plain;
mod protection;
mod quality;
mod queue;
mod queueing;
mod rate;
mod rate_control;
mod rejoin;
mod relay;
mod repair;
mod resend;
mod room_pattern;
mod sending;
mod shedding;
mod sizes;
mod stream_index;
mod streams;
mod switches;
mod table;
mod tenants;
mod timers;
mod token_terms;
mod trace;
mod train;
mod trial;
mod views;
mod waiting;
mod workers;

pub use annex::packet_bytes;
pub use api::{ClientCommand, ClientConfig, ClientEvent, RelayCommand, RelayConfig, RelayEvent};
pub use client::Client;
pub use counters::Counters;
pub use endpoint::{
    ClientRights, Delivery, Endpoint, Input, LinkId, Outgoing, Output, Peer, Received, TokenTerms,
};
pub use link::LinkStats;
pub use notice::{EndReason, Notice};
pub use plain::{
    PlainId, PlainLocal, PlainPort, PlainPublicationView, PlainPublish, PlainReceived, PlainRefusal,
    PlainSource, PlainStreamView, PlainSubscribe, PlainSubscriptionView, PlainTransmit, ReceptionView,
};
pub use rate::{RateLimit, RateMeter};
pub use relay::Relay;
pub use repair::{LateHistogram, Parity, RepairMode, RepairStats};
pub use train::{Train, TrainSlot};
pub use views::{LinkView, PeerView, StreamView, TablesView};
pub use workers::{HandOver, Worker, WorkerSet};
