//! Whole overlays in this process: real sockets, real handshakes, real media.

mod codecs;
mod encoders;
mod media;
mod refusals;
mod relays;
