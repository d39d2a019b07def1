//! Decoders of the wire format. None panics; what decodes is canonical, or becomes it when it is written again.

use bolero::TypeGenerator;
use fuzz::target;
use std::num::NonZeroU8;
use wire_format::codec::{self, MESSAGE_BYTES_MAX, PREFIX_BYTES};
use wire_format::rtcp::{RtcpBody, packets};
use wire_format::rtp::{RtpHeader, extension, is_rtcp};
use wire_format::{
    BindingRequest, Codec, DatagramKind, DestinationSet, EDGE_HEADER_BYTES, EdgeHeader, EdgeKeyframeRequest,
    FRAME_BODY_MAX, FRAME_HEADER_BYTES, FragmentHeader, FrameKind, Frames, Heartbeat, Incarnation,
    KeyframeRequest, MEDIA_HEADER_MAX, MediaHeader, MediaKind, MtuProbe, NodeIndex, ParityHeader,
    PathChallenge, Plane, PolicyIndex, Prioritizer, Priority, RepairRequest, RoomId, RtpDescription,
    SEAL_OVERHEAD_BYTES, SEND_TIME_BYTES, SET_BYTES_MAX, STUN_ANSWER_BYTES_MAX, SealedHeader, Sequence,
    Slack, StreamId, StreamKey, UserId, frame_header, frames, repaired, send_time, send_time_bytes,
};

#[test]
fn sealed_header() {
    target!("sealed-header").for_each(|bytes: &[u8]| {
        let header = SealedHeader::decode(bytes);
        if let Some(header) = header {
            assert_eq!(DatagramKind::of(bytes), DatagramKind::Sealed);
            assert!(bytes.len() >= SEAL_OVERHEAD_BYTES);
            assert!(bytes.starts_with(&header.encode()), "the header is canonical");
        }
    });
}

#[test]
fn stun() {
    target!("stun").for_each(|bytes: &[u8]| {
        let Some(request) = BindingRequest::decode(bytes) else { return };
        assert_eq!(DatagramKind::of(bytes), DatagramKind::Stun);
        for source in ["192.0.2.1:4700", "[::ffff:192.0.2.1]:4700", "[2001:db8::1]:4700"] {
            let mut out = [0; STUN_ANSWER_BYTES_MAX];
            let source = source.parse().expect("an address");
            let Some(length) = request.answer(source, &mut out) else { continue };
            assert!(5 * length <= 8 * bytes.len() && length.is_multiple_of(4));
            assert_eq!(DatagramKind::of(&out), DatagramKind::Stun);
            assert_eq!(BindingRequest::decode(&out[..length]), None, "an answer asks nothing");
        }
    });
}

#[test]
fn plain_datagram() {
    target!("plain-datagram").for_each(|bytes: &[u8]| {
        match send_time(bytes) {
            Ok(time) => assert!(bytes.starts_with(&send_time_bytes(time))),
            Err(_) => assert!(bytes.len() < SEND_TIME_BYTES && frames(bytes).next().is_none()),
        }
        let mut end = SEND_TIME_BYTES;
        let mut over = false;
        for frame in frames(bytes) {
            assert!(!over, "nothing comes after an error");
            let Ok(frame) = frame else {
                over = true;
                continue;
            };
            assert_eq!(frame.body.start, end + FRAME_HEADER_BYTES, "frames are neighbours");
            assert!(frame.body.end <= bytes.len() && frame.body.len() <= FRAME_BODY_MAX);
            assert_eq!(bytes[end..frame.body.start], frame_header(frame.kind, frame.body.len()));
            end = frame.body.end;
            decode_as(frame.kind, &bytes[frame.body]);
        }
    });
}

/// A frame's body, read as what its kind says.
fn decode_as(kind: FrameKind, body: &[u8]) {
    match kind {
        FrameKind::Media => check_media(body),
        FrameKind::Heartbeat => drop(Heartbeat::decode(body)),
        FrameKind::KeyframeRequest => drop(KeyframeRequest::decode(body)),
        FrameKind::Edge => drop(EdgeHeader::decode(body)),
        FrameKind::EdgeKeyframeRequest => drop(EdgeKeyframeRequest::decode(body)),
        FrameKind::Fragment => drop(FragmentHeader::decode(body)),
        FrameKind::MtuProbe => drop(MtuProbe::decode(body)),
        FrameKind::PathChallenge => drop(PathChallenge::decode(body)),
        FrameKind::RepairRequest => drop(RepairRequest::decode(body)),
        FrameKind::Repair => drop(repaired(body, u64::MAX)),
        FrameKind::Parity => drop(ParityHeader::decode(body, u64::MAX)),
        FrameKind::Unknown(number) => assert!(number < 32),
    }
}

#[test]
fn media_header() {
    target!("media-header").for_each(check_media);
}

/// What decodes is written again as the same bytes.
fn check_media(body: &[u8]) {
    let Ok((header, used)) = MediaHeader::decode(body) else { return };
    assert!(used < body.len(), "a packet follows");
    let mut again = [0; MEDIA_HEADER_MAX];
    assert_eq!(header.encode(&mut again), used);
    assert_eq!(again[..used], body[..used]);
}

/// The fields of a media header as a generator draws them.
#[derive(Clone, Debug, TypeGenerator)]
struct Fields {
    ids: (u32, u32, u16, u8),
    sequence: u32,
    slack: u16,
    bits: (u8, u8, u16, u8, bool, bool),
    nodes: Vec<u16>,
    packet: Vec<u8>,
}

#[test]
fn media_from_fields() {
    target!("media-from-fields").with_type::<Fields>().for_each(|fields| {
        let Some(destinations) = set_of(&fields.nodes) else { return };
        let (room, user, stream, incarnation) = fields.ids;
        let (priority, hop_limit, epoch, plane, marked, rtcp) = fields.bits;
        let header = MediaHeader {
            key: StreamKey { room: RoomId(room), user: UserId(user), stream: StreamId(stream) },
            incarnation: Incarnation(incarnation),
            sequence: Sequence(fields.sequence),
            slack: Slack(fields.slack),
            priority: Priority::from_bits(priority),
            hop_limit: hop_limit % 32,
            epoch,
            plane: Plane(plane % 3),
            marked,
            rtcp,
            protected: plane & 0x80 != 0,
            policy: PolicyIndex::from_bits(plane >> 4),
            destinations,
        };
        let mut body = vec![0; MEDIA_HEADER_MAX];
        let used = header.encode(&mut body);
        body.truncate(used);
        assert!(MediaHeader::decode(&body).is_err(), "without a packet it is no frame");
        body.push(0);
        body.extend(&fields.packet);
        assert_eq!(MediaHeader::decode(&body), Ok((header, used)));
    });
}

/// As many of the nodes as one set holds; every one of them, and no other, is in it.
fn set_of(nodes: &[u16]) -> Option<DestinationSet> {
    let mut nodes: Vec<_> = nodes.iter().copied().map(NodeIndex).collect();
    nodes.sort_unstable();
    nodes.dedup();
    if nodes.is_empty() {
        return None;
    }
    let (set, taken) = DestinationSet::take(&nodes);
    assert!(taken >= 1 && set.iter().eq(nodes[..taken].iter().copied()));
    Some(set)
}

#[test]
fn destination_set() {
    target!("destination-set").for_each(|bytes: &[u8]| {
        let Ok((set, used)) = DestinationSet::decode(bytes) else { return };
        let mut again = [0; 1 + SET_BYTES_MAX];
        assert_eq!((set.encode(&mut again), set.wire_bytes()), (used, used));
        assert_eq!(again[..used], bytes[..used], "one encoding for a set");
        let members: Vec<_> = set.iter().collect();
        assert!(!members.is_empty() && members.is_sorted_by(|a, b| a < b));
        assert_eq!(
            DestinationSet::take(&members),
            (set, members.len()),
            "what is read could have been written"
        );
        assert_eq!(set.only(), (members.len() == 1).then(|| members[0]));
    });
}

#[test]
fn destination_set_from_nodes() {
    target!("destination-set-from-nodes").with_type::<Vec<u16>>().for_each(|nodes| {
        let Some(set) = set_of(nodes) else { return };
        let mut bytes = [0; 1 + SET_BYTES_MAX];
        let used = set.encode(&mut bytes);
        assert_eq!(DestinationSet::decode(&bytes), Ok((set, used)));
    });
}

#[test]
fn heartbeat() {
    target!("heartbeat").for_each(|bytes: &[u8]| {
        if let Ok(beat) = Heartbeat::decode(bytes) {
            let mut again = [0xEE; Heartbeat::BYTES_MAX];
            let used = beat.encode(&mut again);
            assert_eq!(Heartbeat::decode(&again[..used]), Ok(beat));
        }
    });
}

#[test]
fn keyframe_request() {
    target!("keyframe-request").for_each(|bytes: &[u8]| {
        if let Ok(request) = KeyframeRequest::decode(bytes) {
            assert!(bytes.starts_with(&request.encode()));
        }
        if let Ok(request) = EdgeKeyframeRequest::decode(bytes) {
            assert!(bytes.starts_with(&request.encode()));
        }
    });
}

#[test]
fn edge() {
    target!("edge").for_each(|bytes: &[u8]| {
        let Ok(header) = EdgeHeader::decode(bytes) else { return };
        assert!(bytes.len() > EDGE_HEADER_BYTES, "a packet follows");
        let mut expected = bytes[..EDGE_HEADER_BYTES].to_vec();
        expected[EDGE_HEADER_BYTES - 1] &= 0xE1;
        assert_eq!(header.encode()[..], expected);
    });
}

#[test]
fn session_message() {
    target!("session-message").for_each(|bytes: &[u8]| {
        if let Some((prefix, _)) = bytes.split_first_chunk::<PREFIX_BYTES>() {
            assert_eq!(codec::body_length(*prefix).is_ok(), u32::from_be_bytes(*prefix) <= 16_384);
        }
        let Ok(message) = codec::decode(bytes) else { return };
        let mut wire = Vec::new();
        codec::encode(&message, &mut wire).expect("what fitted fits");
        let body = &wire[PREFIX_BYTES..];
        assert!(body.len() <= bytes.len() && bytes.len() <= MESSAGE_BYTES_MAX, "written shortest");
        assert_eq!(codec::decode(body), Ok(message));
    });
}

#[test]
fn rtp() {
    target!("rtp").for_each(|bytes: &[u8]| {
        let Some(header) = RtpHeader::parse(bytes) else { return };
        assert!(!is_rtcp(bytes) && bytes[0] >> 6 == 2);
        assert!((12..=bytes.len()).contains(&header.payload_offset));
        // The header alone is a packet too, without payload.
        assert_eq!(RtpHeader::parse(&bytes[..header.payload_offset]), Some(header));
        assert_eq!(RtpHeader::parse(&bytes[..header.payload_offset - 1]), None);
    });
}

/// The first bytes say what the stream is; then packets, each behind its length.
#[test]
fn priority() {
    target!("priority").for_each(|bytes: &[u8]| {
        let Some(([codec, descriptor, marking], mut packets)) = bytes.split_first_chunk::<3>() else {
            return;
        };
        let codecs = [None, Some(Codec::Vp8), Some(Codec::Vp9), Some(Codec::H264), Some(Codec::Av1)];
        let description = RtpDescription {
            codec: codecs[usize::from(*codec) % codecs.len()],
            dependency_descriptor: NonZeroU8::new(*descriptor),
            frame_marking: NonZeroU8::new(*marking),
            priority: None,
        };
        let mut stream = Prioritizer::new(MediaKind::Video, description);
        while let Some((length, rest)) = packets.split_first() {
            let (packet, behind) = rest.split_at(usize::from(*length).min(rest.len()));
            packets = behind;
            let priority = stream.priority(packet, false);
            assert!((Priority::BASE..=Priority::ENHANCEMENT).contains(&priority), "{packet:02x?}");
            if RtpHeader::parse(packet).is_none() {
                assert_eq!(priority, Priority::VIDEO, "{packet:02x?}");
            }
            for id in [1, 5, 200] {
                let found = NonZeroU8::new(id).and_then(|id| extension(packet, id));
                assert!(found.is_none_or(|element| element.len() < packet.len()));
            }
        }
    });
}

/// The iterator over frames ends, however it is used.
#[test]
fn frames_after_the_end() {
    target!("plain-datagram").for_each(|bytes: &[u8]| {
        let mut frames: Frames<'_> = frames(bytes);
        for _ in 0..=bytes.len() {
            let _ = frames.next();
        }
        assert!(frames.next().is_none());
    });
}

#[test]
fn rtcp() {
    target!("rtcp").for_each(|bytes: &[u8]| {
        let mut end = 0;
        for packet in packets(bytes) {
            let Ok(packet) = packet else { return };
            assert_eq!(packet.range.start, end, "packets of a compound are neighbours");
            assert!(packet.range.len() >= 4 && packet.range.len().is_multiple_of(4));
            end = packet.range.end;
            // Alone it is the same packet: what is passed on without its neighbours still says what it said.
            let mut alone = packets(&bytes[packet.range.clone()]);
            assert_eq!(alone.next().map(|read| read.map(|read| read.body)), Some(Ok(packet.body)));
            assert_eq!(alone.next(), None);
            walk(&packet.body, packet.range.len());
        }
        assert_eq!(end, bytes.len(), "without an error, all of it is packets");
    });
}

/// Every list of a packet ends, and holds no more than its bytes can.
fn walk(body: &RtcpBody<'_>, bytes: usize) {
    let count = match body {
        RtcpBody::SenderReport { blocks, .. } | RtcpBody::ReceiverReport { blocks, .. } => blocks.count(),
        RtcpBody::SourceDescription { chunks } => chunks.count(),
        RtcpBody::Bye { sources } => sources.count(),
        // Each entry of four bytes names a packet and up to sixteen after it.
        RtcpBody::Nack { lost, .. } => lost.count() / 17,
        RtcpBody::FullIntraRequest { targets } => targets.count(),
        RtcpBody::PictureLoss { media: _ } | RtcpBody::Other { packet_type: _ } => 0,
    };
    assert!(4 * count <= bytes, "{body:?}");
}

#[test]
fn path_frames() {
    target!("path-frames").for_each(|bytes: &[u8]| {
        if let Ok(header) = FragmentHeader::decode(bytes) {
            let again = header.encode();
            assert!(bytes.len() > again.len(), "a share of a frame follows");
            assert_eq!(FragmentHeader::decode(&[&again[..], &[0]].concat()), Ok(header));
        }
        if let Ok(probe) = MtuProbe::decode(bytes) {
            assert_eq!(MtuProbe::decode(&probe.encode()), Ok(probe));
        }
        if let Ok(challenge) = PathChallenge::decode(bytes) {
            assert_eq!(PathChallenge::decode(&challenge.encode()), Ok(challenge));
        }
    });
}
