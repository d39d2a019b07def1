//! Whole overlays in this process: real sockets, real handshakes, real media.

mod codecs;
mod fanout;
mod issuer;
mod keys;
mod media;
mod namespaces;
mod refusals;
mod relays;
mod renewal;
mod workers;
