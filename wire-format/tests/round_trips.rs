//! Whatever is encoded decodes to the same, and no bytes panic a decoder.

use proptest::prelude::*;
use wire_format::codec::{self, CodecError, MESSAGE_BYTES_MAX, PREFIX_BYTES};
use wire_format::rtp::RtpHeader;
use wire_format::session::{Cipher, Message, RefusalCode, Role};
use wire_format::{
    Arrival, ClientKey, DatagramKind, DestinationSet, EDGE_HEADER_BYTES, Echo, EdgeHeader,
    EdgeKeyframeRequest, FRAME_BODY_MAX, FRAME_HEADER_BYTES, FragmentHeader, FrameError, FrameKind,
    Heartbeat, Incarnation, KeyframeRequest, MEDIA_FIXED_BYTES, MEDIA_HEADER_MAX, MediaHeader, MediaKind,
    MediaSent, MtuProbe, NodeIndex, PacketNumber, PathChallenge, Plane, PolicyIndex, Priority, RawFrame,
    ReceiverIndex, RoomId, SEND_TIME_BYTES, SealedHeader, Sequence, SizeCounts, Slack, StreamHandle,
    StreamId, StreamKey, TAG_BYTES, UserId, WireTime, frame_header, frames, send_time, send_time_bytes,
};

fn key() -> impl Strategy<Value = StreamKey> {
    any::<(u32, u32, u16)>().prop_map(|(room, user, stream)| StreamKey {
        room: RoomId(room),
        user: UserId(user),
        stream: StreamId(stream),
    })
}

fn destinations() -> impl Strategy<Value = DestinationSet> {
    prop_oneof![
        prop::collection::btree_set(0u16..64, 1..64),
        prop::collection::btree_set(0u16..2048, 1..200),
        prop::collection::btree_set(any::<u16>(), 1..40),
    ]
    .prop_map(|raw| DestinationSet::take(&raw.into_iter().map(NodeIndex).collect::<Vec<_>>()).0)
}

fn media_header() -> impl Strategy<Value = MediaHeader> {
    (
        (key(), any::<u8>(), any::<u32>(), any::<u16>()),
        (0u8..8, 0u8..32, any::<u16>(), 0u8..3, any::<u8>()),
        any::<(bool, bool, bool)>(),
        destinations(),
    )
        .prop_map(|(what, how, (marked, rtcp, protected), destinations)| MediaHeader {
            key: what.0,
            incarnation: Incarnation(what.1),
            sequence: Sequence(what.2),
            slack: Slack(what.3),
            priority: Priority::from_bits(how.0),
            hop_limit: how.1,
            epoch: how.2,
            plane: Plane(how.3),
            marked,
            rtcp,
            protected,
            policy: PolicyIndex::from_bits(how.4),
            destinations,
        })
}

fn heartbeat() -> impl Strategy<Value = Heartbeat> {
    let echo = (any::<u32>(), 0u32..1 << 24)
        .prop_map(|(time, delay)| Echo { time: WireTime::from_bits(time), delay });
    let sizes = any::<(u16, u16, u16)>().prop_map(|(probes_sent, probes_received, large_received)| {
        SizeCounts { probes_sent, probes_received, large_received }
    });
    let arrival = any::<(u16, u32)>().prop_map(|(queueing, bytes)| Arrival { queueing, bytes });
    let media = any::<(u16, u32)>().prop_map(|(through, datagrams)| MediaSent { through, datagrams });
    let tail = prop::option::of((sizes, prop::option::of((arrival, prop::option::of(media)))));
    (any::<((bool, bool), u32, u32, u16)>(), prop::option::of(echo), tail).prop_map(
        |(((in_use, repairs), highest, received, jitter), echo, tail)| Heartbeat {
            in_use,
            repairs,
            highest,
            received,
            echo,
            jitter,
            sizes: tail.map(|(sizes, _)| sizes),
            arrival: tail.and_then(|(_, more)| more).map(|(arrival, _)| arrival),
            media: tail.and_then(|(_, more)| more).and_then(|(_, media)| media),
        },
    )
}

fn packet() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 1..1500)
}

fn name() -> impl Strategy<Value = String> {
    "\\PC{0,60}"
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![
        any::<u16>().prop_map(|node| Role::Relay { node: NodeIndex(node) }),
        name().prop_map(|token| Role::Client { token }),
    ]
}

fn cipher() -> impl Strategy<Value = Cipher> {
    prop_oneof![Just(Cipher::Aes128Gcm), Just(Cipher::ChaCha20Poly1305)]
}

fn kind() -> impl Strategy<Value = MediaKind> {
    prop_oneof![Just(MediaKind::Audio), Just(MediaKind::Video)]
}

fn refusal_code() -> impl Strategy<Value = RefusalCode> {
    prop::sample::select(vec![
        RefusalCode::Version,
        RefusalCode::NotANeighbour,
        RefusalCode::Token,
        RefusalCode::Rights,
        RefusalCode::Limit,
        RefusalCode::Invalid,
        RefusalCode::Unavailable,
    ])
}

fn message() -> impl Strategy<Value = Message> {
    let request = any::<u32>;
    prop_oneof![
        (any::<((u8, u8), u32, u16)>(), prop::collection::vec(cipher(), 0..5), role()).prop_map(
            |((versions, receiver, max_datagram), ciphers, role)| Message::Hello {
                versions,
                receiver,
                ciphers,
                max_datagram,
                role
            }
        ),
        (any::<(u8, u32, u16)>(), cipher()).prop_map(|((version, receiver, max_datagram), cipher)| {
            Message::Accept { version, receiver, cipher, max_datagram }
        }),
        (any::<Option<u32>>(), refusal_code(), name()).prop_map(|(request, code, reason)| Message::Refuse {
            request,
            code,
            reason
        }),
        (request(), name(), name(), name(), kind(), any::<Option<u32>>()).prop_map(
            |(request, room, user, stream, kind, budget_ms)| Message::Publish {
                request,
                room,
                user,
                stream,
                kind,
                budget_ms
            }
        ),
        (request(), name(), name(), name(), kind(), any::<Option<u32>>()).prop_map(
            |(request, room, user, stream, kind, budget_ms)| Message::PublishProtected {
                request,
                room,
                user,
                stream,
                kind,
                budget_ms
            }
        ),
        (request(), any::<u16>())
            .prop_map(|(request, handle)| Message::Published { request, handle: StreamHandle(handle) }),
        request().prop_map(|request| Message::Unpublish { request }),
        (request(), name(), prop::option::of(name()), prop::option::of(name()))
            .prop_map(|(request, room, user, stream)| Message::Subscribe { request, room, user, stream }),
        request().prop_map(|request| Message::Subscribed { request }),
        request().prop_map(|request| Message::Unsubscribe { request }),
        (any::<(u16, u8)>(), prop::collection::vec(any::<u32>(), 0..50), name(), name(), name(), kind())
            .prop_map(|((handle, incarnation), subscriptions, room, user, stream, kind)| {
                Message::Announce {
                    handle: StreamHandle(handle),
                    subscriptions,
                    room,
                    user,
                    stream,
                    kind,
                    incarnation: Incarnation(incarnation),
                }
            }),
        any::<u16>().prop_map(|handle| Message::Ended { handle: StreamHandle(handle) }),
        Just(Message::Goodbye),
        proptest::collection::vec(any::<u32>(), 0..16).prop_map(|receivers| Message::Lanes { receivers }),
        any::<[u8; 16]>().prop_map(|key| Message::Client { key: ClientKey(key) }),
    ]
}

proptest! {
    #[test]
    fn media(header in media_header(), packet in packet()) {
        let mut body = vec![0xEE; MEDIA_HEADER_MAX];
        let used = header.encode(&mut body);
        prop_assert_eq!(used, MEDIA_FIXED_BYTES + header.destinations.wire_bytes());
        body.truncate(used);
        body.extend(&packet);
        prop_assert_eq!(MediaHeader::decode(&body), Ok((header, used)));
        for cut in 0..=used {
            prop_assert_eq!(MediaHeader::decode(&body[..cut]), Err(FrameError::Truncated), "cut at {}", cut);
        }
    }

    #[test]
    fn heartbeats_and_keyframe_requests(
        beat in heartbeat(), ingress in any::<u16>(), key in key(), hop_limit in any::<u8>(), handle in any::<u16>(),
        tail in prop::collection::vec(any::<u8>(), 0..9),
    ) {
        let request = KeyframeRequest { ingress: NodeIndex(ingress), key, hop_limit };
        let edge = EdgeKeyframeRequest { handle: StreamHandle(handle) };
        let longer = |body: &[u8]| [body, &tail[..]].concat();
        let mut body = vec![0xEE; Heartbeat::BYTES_MAX];
        let used = beat.encode(&mut body);
        body.truncate(used);
        // Six bytes more would be the counts that an older sender does not know.
        let behind = &tail[..tail.len().min(5)];
        prop_assert_eq!(Heartbeat::decode(&[&body, behind].concat()), Ok(beat));
        prop_assert_eq!(KeyframeRequest::decode(&longer(&request.encode())), Ok(request));
        prop_assert_eq!(EdgeKeyframeRequest::decode(&longer(&edge.encode())), Ok(edge));
        for cut in 0..Heartbeat::BYTES_MIN {
            prop_assert_eq!(Heartbeat::decode(&body[..cut]), Err(FrameError::Truncated));
        }
        for cut in 0..KeyframeRequest::BYTES {
            prop_assert_eq!(KeyframeRequest::decode(&request.encode()[..cut]), Err(FrameError::Truncated));
        }
    }

    #[test]
    fn fragments_probes_and_challenges(
        (id, second, answer) in any::<(u16, bool, bool)>(), (bytes, count) in any::<(u16, u16)>(),
        token in any::<[u8; 8]>(), tail in prop::collection::vec(any::<u8>(), 1..9),
    ) {
        let fragment = FragmentHeader { id, second };
        let probe = MtuProbe { answer, bytes, count };
        let challenge = PathChallenge { answer, token };
        let longer = |body: &[u8]| [body, &tail[..]].concat();
        prop_assert_eq!(FragmentHeader::decode(&longer(&fragment.encode())), Ok(fragment));
        prop_assert_eq!(FragmentHeader::decode(&fragment.encode()), Err(FrameError::Truncated));
        prop_assert_eq!(MtuProbe::decode(&longer(&probe.encode())), Ok(probe));
        prop_assert_eq!(PathChallenge::decode(&longer(&challenge.encode())), Ok(challenge));
        for cut in 0..MtuProbe::BYTES {
            prop_assert_eq!(MtuProbe::decode(&probe.encode()[..cut]), Err(FrameError::Truncated));
        }
        for cut in 0..PathChallenge::BYTES {
            prop_assert_eq!(PathChallenge::decode(&challenge.encode()[..cut]), Err(FrameError::Truncated));
        }
    }

    #[test]
    fn edge(
        (handle, sequence, slack, rtcp) in any::<(u16, u32, u16, bool)>(), priority in 0u8..8, packet in packet()
    ) {
        let header = EdgeHeader {
            handle: StreamHandle(handle),
            sequence: Sequence(sequence),
            slack: Slack(slack),
            priority: Priority::from_bits(priority),
            rtcp,
        };
        let body = [&header.encode(), &packet[..]].concat();
        prop_assert_eq!(EdgeHeader::decode(&body), Ok(header));
        for cut in 0..=EDGE_HEADER_BYTES {
            prop_assert_eq!(EdgeHeader::decode(&body[..cut]), Err(FrameError::Truncated));
        }
    }

    #[test]
    fn sealed_headers((key_phase, receiver, number) in any::<(bool, u32, u64)>(), rest in 0usize..100) {
        let header = SealedHeader { key_phase, receiver: ReceiverIndex(receiver), number: PacketNumber(number) };
        let datagram = [&header.encode()[..], &vec![0; rest]].concat();
        let expected = (rest >= TAG_BYTES).then_some(header);
        prop_assert_eq!(SealedHeader::decode(&datagram), expected);
        prop_assert_eq!(DatagramKind::of(&datagram), DatagramKind::Sealed);
    }

    #[test]
    fn plain_datagrams(
        time in any::<u32>(),
        bodies in prop::collection::vec((1u16..32, prop::collection::vec(any::<u8>(), 0..300)), 0..6),
        padding in 0usize..33,
    ) {
        let time = WireTime::from_bits(time);
        let mut plain = send_time_bytes(time).to_vec();
        for (number, body) in &bodies {
            // Through the wire: only the decoder makes kinds of numbers.
            let header = (number << 11).to_be_bytes();
            let kind = frames(&[&[0; SEND_TIME_BYTES][..], &header].concat())
                .next().expect("a frame").expect("whole").kind;
            plain.extend(frame_header(kind, body.len()));
            plain.extend(body);
        }
        plain.resize(plain.len() + padding, 0);
        prop_assert_eq!(send_time(&plain), Ok(time));
        let seen: Result<Vec<_>, _> = frames(&plain).collect();
        let seen = seen.expect("all are whole");
        prop_assert_eq!(seen.len(), bodies.len());
        for (RawFrame { kind: _, body }, (_, wanted)) in seen.into_iter().zip(&bodies) {
            prop_assert_eq!(&plain[body], &wanted[..]);
        }
    }

    #[test]
    fn messages(message in message()) {
        let mut wire = vec![0xEE];
        codec::encode(&message, &mut wire).expect("short enough");
        prop_assert_eq!(wire[0], 0xEE, "appended");
        let (prefix, body) = wire[1..].split_first_chunk::<PREFIX_BYTES>().expect("a prefix");
        prop_assert_eq!(codec::body_length(*prefix), Ok(body.len()));
        prop_assert_eq!(codec::decode(body), Ok(message));
        for cut in 0..body.len() {
            prop_assert_eq!(codec::decode(&body[..cut]), Err(CodecError::Malformed), "cut at {}", cut);
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
        let _ = DatagramKind::of(&bytes);
        let _ = SealedHeader::decode(&bytes);
        let _ = RtpHeader::parse(&bytes);
        let _ = codec::decode(&bytes);
        decode_as_all(&bytes);
        for frame in frames(&bytes).flatten() {
            prop_assert!(frame.body.start >= SEND_TIME_BYTES + FRAME_HEADER_BYTES);
            prop_assert!(frame.body.end <= bytes.len() && frame.body.len() <= FRAME_BODY_MAX);
            decode_as_all(&bytes[frame.body]);
        }
    }

    #[test]
    fn no_change_of_a_legal_frame_panics(
        header in media_header(), packet in packet(), at in any::<prop::sample::Index>(), bit in 0u8..8,
        message in message(),
    ) {
        let mut body = vec![0; MEDIA_HEADER_MAX];
        let used = header.encode(&mut body);
        body.truncate(used);
        body[at.index(used)] ^= 1 << bit;
        body.extend(packet);
        decode_as_all(&body);
        let mut wire = Vec::new();
        codec::encode(&message, &mut wire).expect("short enough");
        let body = &mut wire[PREFIX_BYTES..];
        body[at.index(body.len())] ^= 1 << bit;
        let _ = codec::decode(body);
    }
}

fn decode_as_all(body: &[u8]) {
    if let Ok((header, at)) = MediaHeader::decode(body) {
        assert!(at < body.len(), "a packet follows");
        assert!(header.destinations.iter().next().is_some(), "a set is never empty");
    }
    let _ = Heartbeat::decode(body);
    let _ = KeyframeRequest::decode(body);
    let _ = EdgeHeader::decode(body);
    let _ = EdgeKeyframeRequest::decode(body);
    let _ = FragmentHeader::decode(body);
    let _ = MtuProbe::decode(body);
    let _ = PathChallenge::decode(body);
    let _ = DestinationSet::decode(body);
}

#[test]
fn a_message_beyond_the_limit_is_neither_written_nor_read() {
    let token = "t".repeat(MESSAGE_BYTES_MAX);
    let hello = Message::Hello {
        versions: (1, 1),
        receiver: 1,
        ciphers: vec![Cipher::Aes128Gcm],
        max_datagram: 1452,
        role: Role::Client { token },
    };
    let mut wire = vec![0xEE];
    assert!(matches!(codec::encode(&hello, &mut wire), Err(CodecError::TooLong(_))));
    assert_eq!(wire, [0xEE]);
    assert!(matches!(codec::decode(&vec![0; MESSAGE_BYTES_MAX + 1]), Err(CodecError::TooLong(_))));
    let limit = u32::try_from(MESSAGE_BYTES_MAX).expect("a small number");
    assert_eq!(codec::body_length(limit.to_be_bytes()), Ok(MESSAGE_BYTES_MAX));
    assert!(codec::body_length((limit + 1).to_be_bytes()).is_err());
}

#[test]
fn unknown_kinds_keep_their_number() {
    for number in [9, 17, 31] {
        let header = frame_header(FrameKind::Unknown(number), 3);
        assert_eq!(u16::from_be_bytes(header) >> 11, u16::from(number));
    }
}
