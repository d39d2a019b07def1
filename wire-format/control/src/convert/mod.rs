//! Between the messages that travel and the enums that the cores work with.

mod parts;
mod table_delta;
mod to_controller;
mod to_relay;
mod trace;

#[cfg(test)]
mod tests;
