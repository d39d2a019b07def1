//! Every byte on the relay port, and the words both cores share.
//!
//! `SPEC.md` beside this crate is the norm; a change of the wire changes it, the hex vectors and this code in one
//! commit. Decoders are total: any bytes give a value or a small error, nothing is allocated, the packet is borrowed.

pub mod codec;
pub mod control;
mod destinations;
mod frame;
mod heartbeat;
mod id;
pub mod parity;
mod path;
mod priority;
pub mod recording;
mod repair;
mod route;
pub mod rtcp;
pub mod rtp;
mod sealed;
pub mod session;
mod stun;
mod table_delta;
mod time;

pub use destinations::{DestinationSet, SET_BYTES_MAX};
pub use frame::{
    EDGE_HEADER_BYTES, EdgeHeader, EdgeKeyframeRequest, FRAME_BODY_MAX, FRAME_HEADER_BYTES, FrameError,
    FrameKind, Frames, HOP_LIMIT, KeyframeRequest, MEDIA_FIXED_BYTES, MEDIA_HEADER_MAX, MediaHeader,
    PARITY_ROOM_BYTES, Priority, RTP_BYTES_MAX, RawFrame, SEND_TIME_BYTES, frame_header, frames, send_time,
    send_time_bytes, whole_frame,
};
pub use heartbeat::{Arrival, Echo, Heartbeat, MediaSent, SizeCounts};
pub use id::{
    BUDGET_MAX, BUDGET_MIN, BudgetError, ClientKey, Epoch, Incarnation, MediaKind, NodeIndex, PacketNumber,
    Plane, PolicyIndex, PublicationId, PublisherKey, ReceiverIndex, RoomId, Sequence, StreamHandle, StreamId,
    StreamKey, SubscriptionId, UserId,
};
pub use parity::ParityHeader;
pub use path::{FRAGMENT_HEADER_BYTES, FragmentHeader, MtuProbe, PathChallenge};
pub use priority::{Codec, DescriptionError, Prioritizer, RtpDescription};
pub use repair::{
    MissingRange, REPAIR_HEADER_BYTES, REQUEST_BYTES_MAX, REQUEST_RANGES_MAX, RepairRequest, repaired,
};
pub use route::{PlanePair, PolicyTable, RouteTable};
pub use sealed::{
    DATAGRAM_BYTES_BASE, DATAGRAM_BYTES_MAX, DATAGRAM_BYTES_UNPROBED, DatagramKind, SEAL_OVERHEAD_BYTES,
    SEALED_HEADER_BYTES, SealedHeader, TAG_BYTES,
};
pub use stun::{BindingRequest, STUN_ANSWER_BYTES_MAX, STUN_HEADER_BYTES};
pub use table_delta::{DeltaError, PolicyDelta, TableDelta};
pub use time::{Slack, Timestamp, WireTime};
