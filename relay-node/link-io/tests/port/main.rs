//! Ports over real sockets: one behaviour a file.

mod hostile;
mod lab;
mod link;
mod moving;
mod refusals;
mod rekey;
mod workers;
