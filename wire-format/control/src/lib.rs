//! control-proto.
