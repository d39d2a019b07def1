//! Every byte on the relay port, and the words both cores share.
//!
//! `SPEC.md` beside this crate is the norm; a change of the wire changes it, the hex vectors and this code in one
//! commit. Decoders are total: any bytes give a value or a small error, nothing is allocated, the packet is borrowed.

pub mod codec;
pub mod control;
mod id;
mod route;
mod sealed;
pub mod session;
mod time;

pub use id::{
    Epoch, Incarnation, MediaKind, NodeIndex, PacketNumber, Plane, PublicationId, ReceiverIndex, RoomId, Sequence,
    StreamHandle, StreamId, StreamKey, SubscriptionId, UserId,
};
pub use route::RouteTable;
pub use sealed::{
    DATAGRAM_BYTES_MAX, DatagramKind, SEAL_OVERHEAD_BYTES, SEALED_HEADER_BYTES, SealedHeader, TAG_BYTES,
};
pub use time::{Slack, Timestamp, WireTime};
