//! Clients of a real overlay in one process: one behaviour a file.

mod examples;
mod lab;
mod media;
mod reconnect;
mod refusals;
mod rekey;
