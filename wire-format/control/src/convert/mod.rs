//! Between the messages that travel and the enums that the cores work with.

mod parts;
mod to_controller;
mod to_relay;

#[cfg(test)]
mod tests;
