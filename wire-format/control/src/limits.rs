//! Bounds of the gRPC transport, beside those of [`wire_format::control::limits`].

/// Bytes of one encoded message, either way: set it as the decoding limit of clients and servers. Room for a `Hello`
/// of a relay that holds tens of thousands of streams.
pub const MESSAGE_BYTES: usize = 16 * 1024 * 1024;
/// Streams that a relay may report as held.
pub const HELD_STREAMS: usize = 65_536;
/// Links in one report.
pub const LINKS: usize = wire_format::control::limits::NEIGHBOURS;
/// Subscriptions of one relay that match one stream.
pub const SUBSCRIPTIONS: usize = 65_536;
/// Labels of a relay.
pub const TAGS: usize = 64;
/// Planes of a table: the field on the wire has two bits.
pub const PLANES: usize = 3;
/// Bytes of a reason for people.
pub const REASON_BYTES: usize = 1024;
/// Bytes of a software version.
pub const VERSION_BYTES: usize = 64;
/// Bytes of a token key's id.
pub const KEY_ID_BYTES: usize = 64;
/// Bytes of a certificate or a certificate request, DER.
pub const CERTIFICATE_BYTES: usize = 8 * 1024;
/// Bytes of a join token in its text form.
pub const JOIN_TOKEN_BYTES: usize = 4096;
/// Controller addresses in a join token.
pub const CONTROLLERS: usize = 16;
/// Bytes of a controller's address: a name, a colon and a port.
pub const CONTROLLER_BYTES: usize = 253 + 6;
