//! What the benchmarks of the core share.

use gungraun::{Callgrind, EventKind, LibraryBenchmarkConfig};
use wire_format::control::RelayHello;
use wire_format::{
    DestinationSet, FrameKind, Incarnation, MediaHeader, Plane, PolicyIndex, Priority, RoomId, Sequence,
    Slack, StreamId, StreamKey, Timestamp, UserId, frame_header,
};

const RTP_BYTES: usize = 1200;

/// Fails the run beyond so many.
pub fn limit(instructions: u64) -> LibraryBenchmarkConfig {
    let mut callgrind = Callgrind::default();
    callgrind.hard_limits([(EventKind::Ir, instructions)]);
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(callgrind);
    config
}

/// A relay that joins for the first time.
pub fn hello() -> RelayHello {
    RelayHello {
        name: "r0".into(),
        node: None,
        region: String::new(),
        isp: String::new(),
        tags: Vec::new(),
        position: None,
        addresses: Vec::new(),
        version: String::new(),
        wire_versions: (1, 1),
        epoch: None,
        table_deltas: true,
        streams: Vec::new(),
        traces: false,
    }
}

/// Appends the plain bytes of a datagram with one packet of a user's video.
pub fn media(out: &mut Vec<u8>, sent: Timestamp, user: u64, number: u64, destinations: DestinationSet) {
    let header = MediaHeader {
        key: StreamKey { room: RoomId(1), user: UserId(user as u32), stream: StreamId(1) },
        incarnation: Incarnation(0),
        sequence: Sequence(number as u32),
        slack: Slack(2000),
        priority: Priority::VIDEO,
        hop_limit: 20,
        epoch: 1,
        plane: Plane::PRIMARY,
        marked: false,
        rtcp: false,
        protected: false,
        policy: PolicyIndex::DEFAULT,
        destinations,
    };
    let mut head = [0; wire_format::MEDIA_HEADER_MAX];
    let head_bytes = header.encode(&mut head);
    out.extend(wire_format::send_time_bytes(sent.wire()));
    out.extend(frame_header(FrameKind::Media, head_bytes + RTP_BYTES));
    out.extend(&head[..head_bytes]);
    out.resize(out.len() + RTP_BYTES, 0x80);
}
