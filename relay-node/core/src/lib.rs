//! A relay, and an SFU's end of a link, as sans-IO cores.

mod api;
mod client;
mod clients;
mod control;
mod counters;
mod duplicates;
mod endpoint;
mod forward;
mod keyframes;
mod link;
mod liveness;
mod measure;
mod queue;
mod relay;
mod stream_index;
mod streams;
mod table;
mod timers;
mod train;
mod views;

pub use api::{ClientCommand, ClientConfig, ClientEvent, RelayCommand, RelayConfig, RelayEvent};
pub use client::Client;
pub use counters::Counters;
pub use endpoint::{ClientRights, Delivery, Endpoint, Input, LinkId, Outgoing, Output, Peer, Received};
pub use link::LinkStats;
pub use relay::Relay;
pub use train::{Train, TrainSlot};
pub use views::{LinkView, PeerView, StreamView, TablesView};
