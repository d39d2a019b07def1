//! relay-core.

mod api;
mod endpoint;
mod train;

pub use api::{ClientCommand, ClientConfig, ClientEvent, RelayCommand, RelayConfig, RelayEvent};
pub use endpoint::{ClientRights, Delivery, Endpoint, Input, LinkId, Outgoing, Output, Peer, Received};
pub use train::{Train, TrainSlot};
