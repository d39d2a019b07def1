//! control-proto.

#[cfg(feature = "cli")]
pub mod cli;

mod names;
pub use names::{CONTROLLER_TLS_NAME, RELAY_NAME_BYTES, RelayNameError, check_relay_name};
