//! How relays and the route controller talk over gRPC.
//!
//! Both cores work with the enums of [`wire_format::control`]; [`proto`] holds the messages that travel, compiled from
//! `proto/cascade/control/v1/control.proto` with protox. The two are converted here, and only here: `From` towards the
//! wire, `TryFrom` from it. The latter believes nothing: every list and name is checked against
//! [`wire_format::control::limits`] (and [`limits`] for what is only bounded here), every number against the width of
//! its id. What does not pass is a [`ConvertError`] that names the field, and ends the session.
//!
//! [`JoinToken`] is what an operator carries from the controller to a new relay. It names the relay, where the
//! controllers are and the hash of their CA, so that nothing else must be trusted, and a secret that works once.
//!
//! Without the feature `grpc` there are only messages and conversions, so that a simulator can check that everything
//! its cores say survives the wire.

mod certificates;
#[cfg(feature = "cli")]
pub mod cli;
mod convert;
mod error;
mod join_token;
pub mod limits;
mod names;
mod outcome;
#[cfg(feature = "cli")]
pub mod recorder;

/// Messages, and with the feature `grpc` the stubs, generated from the .proto.
pub mod proto {
    #![allow(
        missing_docs,
        rust_2018_idioms,
        clippy::all,
        clippy::wildcard_enum_match_arm,
        reason = "generated: documented in the .proto, not written to our taste"
    )]
    include!(concat!(env!("OUT_DIR"), "/cascade.control.v1.rs"));
}

pub use certificates::{CERTIFICATE_BACKDATING, CERTIFICATE_GRACE, SERIAL_BYTES, renewal_due_unix_s};
pub use error::ConvertError;
pub use join_token::{JoinSecret, JoinToken, JoinTokenError};
pub use names::{CONTROLLER_TLS_NAME, LEADER_METADATA, RELAY_NAME_BYTES, RelayNameError, check_relay_name};
pub use outcome::{note_to_controller, note_to_relay};
