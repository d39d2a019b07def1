//! control-proto.

#[cfg(feature = "cli")]
pub mod cli;
