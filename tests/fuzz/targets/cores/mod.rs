//! Whole cores under peers gone mad: any datagrams and messages in any order, on links that come and go. The contract of
//! `relay_core::Endpoint` is asserted on every step.

mod bench;
mod client;
mod relay;
