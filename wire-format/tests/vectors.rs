//! The hex vectors of `SPEC.md` section 13: bytes written by hand decode to the fields beside them and encode to the same
//! bytes again; bytes that must be refused are.

mod hex;

use hex::{Expected, Vector, bytes_of, read};
use wire_format::codec::{self, CodecError, PREFIX_BYTES};
use wire_format::parity::PARITY_HEADER_MAX;
use wire_format::{
    BindingRequest, DatagramKind, DestinationSet, EDGE_HEADER_BYTES, EdgeHeader, EdgeKeyframeRequest,
    FRAGMENT_HEADER_BYTES, FragmentHeader, FrameError, FrameKind, Heartbeat, KeyframeRequest,
    MEDIA_HEADER_MAX, MediaHeader, MtuProbe, PacketNumber, ParityHeader, PathChallenge, REQUEST_BYTES_MAX,
    RawFrame, RepairRequest, SET_BYTES_MAX, STUN_ANSWER_BYTES_MAX, SealedHeader, WireTime, frame_header,
    frames, repaired, send_time, send_time_bytes,
};

/// What a vector says its bytes are, and the bytes that this value encodes to.
type Decoded = Result<(Vec<(&'static str, String)>, Vec<u8>), &'static str>;

fn error(error: FrameError) -> &'static str {
    match error {
        FrameError::Truncated => "truncated",
        FrameError::Destinations => "destinations",
        FrameError::Field => "field",
    }
}

fn flag(set: bool) -> String {
    u8::from(set).to_string()
}

fn wire_us(time: WireTime) -> u64 {
    u64::from(time.bits()) * WireTime::UNIT_US
}

fn list<T: ToString>(items: impl Iterator<Item = T>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(" ")
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check(file: &str, decode: impl Fn(&[u8]) -> Decoded) {
    for Vector { name, bytes, expected } in read(file) {
        match (decode(&bytes), expected) {
            (Ok((fields, again)), Expected::Fields(wanted)) => {
                let fields: Vec<_> =
                    fields.into_iter().map(|(field, value)| (field.to_owned(), value)).collect();
                assert_eq!(fields, wanted, "{file}: {name}");
                assert_eq!(text(&again), text(&bytes), "{file}: {name}: encoded again");
            }
            (Err(error), Expected::Error(wanted)) => assert_eq!(error, wanted, "{file}: {name}"),
            (decoded, wanted) => panic!("{file}: {name}: decodes to {decoded:?}, not {wanted:?}"),
        }
    }
}

#[test]
fn first_byte() {
    check("first-byte", |bytes| {
        Ok((vec![("kind", format!("{:?}", DatagramKind::of(bytes)))], bytes.to_vec()))
    });
}

#[test]
fn sealed_header() {
    check("sealed-header", |bytes| {
        let header = SealedHeader::decode(bytes).ok_or("refused")?;
        assert_eq!(DatagramKind::of(bytes), DatagramKind::Sealed);
        let mut again = header.encode().to_vec();
        again.extend(&bytes[again.len()..]);
        Ok((
            vec![
                ("key-phase", flag(header.key_phase)),
                ("receiver", header.receiver.to_string()),
                ("number", header.number.to_string()),
            ],
            again,
        ))
    });
}

#[test]
fn stun() {
    check("stun", |bytes| {
        let request = BindingRequest::decode(bytes).ok_or("refused")?;
        assert_eq!(DatagramKind::of(bytes), DatagramKind::Stun);
        let answer = |source: &str| {
            let mut out = [0xEE; STUN_ANSWER_BYTES_MAX];
            let length = request.answer(source.parse().expect("an address"), &mut out);
            length.map_or("-".to_owned(), |length| text(&out[..length]))
        };
        let unknown = list(request.unknown().iter().map(|kind| format!("{kind:04x}")));
        Ok((
            vec![
                ("transaction", text(&request.transaction())),
                ("unknown", if unknown.is_empty() { "-".to_owned() } else { unknown }),
                ("answer-v4", answer("192.0.2.1:32853")),
                ("answer-v6", answer("[2001:db8:1234:5678:11:2233:4455:6677]:32853")),
            ],
            bytes.to_vec(),
        ))
    });
}

#[test]
fn plain_datagram() {
    check("plain-datagram", |bytes| {
        let time = send_time(bytes).map_err(error)?;
        let mut again = send_time_bytes(time).to_vec();
        let mut seen = Vec::new();
        for frame in frames(bytes) {
            match frame {
                Ok(RawFrame { kind, body }) => {
                    again.extend(frame_header(kind, body.len()));
                    again.extend(&bytes[body.clone()]);
                    seen.push(format!("{kind:?}@{}..{}", body.start, body.end));
                }
                Err(failed) => seen.push(error(failed).to_owned()),
            }
        }
        // Padding, or what a truncated frame left.
        again.extend(&bytes[again.len()..]);
        let seen = if seen.is_empty() { "-".to_owned() } else { seen.join(" ") };
        Ok((vec![("send-time-us", wire_us(time).to_string()), ("frames", seen)], again))
    });
}

fn media(bytes: &[u8]) -> Decoded {
    let (header, at) = MediaHeader::decode(bytes).map_err(error)?;
    let mut out = [0xEE; MEDIA_HEADER_MAX];
    let used = header.encode(&mut out);
    let mut again = out[..used].to_vec();
    again.extend(&bytes[at..]);
    Ok((
        vec![
            ("stream", header.key.to_string()),
            ("incarnation", header.incarnation.to_string()),
            ("sequence", header.sequence.to_string()),
            ("slack-us", header.slack.as_duration().as_micros().to_string()),
            ("priority", header.priority.bits().to_string()),
            ("hop-limit", header.hop_limit.to_string()),
            ("epoch", header.epoch.to_string()),
            ("plane", header.plane.to_string()),
            ("marked", flag(header.marked)),
            ("rtcp", flag(header.rtcp)),
            ("protected", flag(header.protected)),
            ("policy", header.policy.to_string()),
            ("destinations", list(header.destinations.iter())),
            ("packet", text(&bytes[at..])),
        ],
        again,
    ))
}

fn heartbeat(bytes: &[u8]) -> Decoded {
    let heartbeat = Heartbeat::decode(bytes).map_err(error)?;
    let echo = heartbeat.echo.map_or("-".to_owned(), |echo| {
        format!("{}+{}", wire_us(echo.time), u64::from(echo.delay) * WireTime::UNIT_US)
    });
    let sizes = heartbeat.sizes.map_or("-".to_owned(), |sizes| {
        list([sizes.probes_sent, sizes.probes_received, sizes.large_received].iter())
    });
    let arrival = heartbeat.arrival.map_or("-".to_owned(), |arrival| {
        format!("{} {}", u64::from(arrival.queueing) * WireTime::UNIT_US, arrival.bytes)
    });
    let media =
        heartbeat.media.map_or("-".to_owned(), |media| format!("{} {}", media.through, media.datagrams));
    let mut out = [0xEE; Heartbeat::BYTES_MAX];
    let used = heartbeat.encode(&mut out);
    Ok((
        vec![
            ("in-use", flag(heartbeat.in_use)),
            ("highest", heartbeat.highest.to_string()),
            ("received", heartbeat.received.to_string()),
            ("echo", echo),
            ("jitter-us", (u64::from(heartbeat.jitter) * WireTime::UNIT_US).to_string()),
            ("sizes", sizes),
            ("arrival", arrival),
            ("media", media),
            ("repairs", flag(heartbeat.repairs)),
        ],
        out[..used].to_vec(),
    ))
}

/// The next number of the sender that a request is for.
const NEXT: u64 = 1000;

fn repair_request(bytes: &[u8]) -> Decoded {
    let request = RepairRequest::decode(bytes).map_err(error)?;
    let through = request.through(NEXT).ok_or("field")?;
    let ranges: Vec<_> = request.ranges(NEXT).map(|range| (range.first.0, u64::from(range.count))).collect();
    let missing = match &ranges[..] {
        [] => "-".to_owned(),
        [(first, count)] => format!("{first}..{}", first + count - 1),
        several => list(several.iter().flat_map(|(first, count)| *first..first + count)),
    };
    let newest_first =
        ranges.iter().flat_map(|(first, count)| (*first..first + count).rev()).map(PacketNumber);
    let mut out = [0xEE; REQUEST_BYTES_MAX];
    let used = RepairRequest::encode(request.silent, through, newest_first, &mut out);
    let fields =
        vec![("silent", flag(request.silent)), ("through", through.to_string()), ("missing", missing)];
    Ok((fields, out[..used].to_vec()))
}

fn repair(bytes: &[u8]) -> Decoded {
    let (number, plain) = repaired(bytes, NEXT).map_err(error)?;
    let again = [&(number.0 as u32).to_be_bytes()[..], plain].concat();
    Ok((vec![("number", number.to_string()), ("datagram", text(plain))], again))
}

fn parity(bytes: &[u8]) -> Decoded {
    let (header, at) = ParityHeader::decode(bytes, NEXT).map_err(error)?;
    let mut out = [0xEE; PARITY_HEADER_MAX];
    let used = header.encode(&mut out);
    let fields = vec![
        ("row", header.row.to_string()),
        ("covers", list(header.numbers())),
        ("sum", text(&bytes[at..])),
    ];
    Ok((fields, [&out[..used], &bytes[at..]].concat()))
}

#[test]
fn repairs() {
    check("repair-request", repair_request);
    check("repair", repair);
    check("parity", parity);
}

fn keyframe_request(bytes: &[u8]) -> Decoded {
    let request = KeyframeRequest::decode(bytes).map_err(error)?;
    Ok((
        vec![
            ("ingress", request.ingress.to_string()),
            ("stream", request.key.to_string()),
            ("hop-limit", request.hop_limit.to_string()),
        ],
        request.encode().to_vec(),
    ))
}

fn edge(bytes: &[u8]) -> Decoded {
    let header = EdgeHeader::decode(bytes).map_err(error)?;
    let packet = &bytes[EDGE_HEADER_BYTES..];
    Ok((
        vec![
            ("handle", header.handle.to_string()),
            ("sequence", header.sequence.to_string()),
            ("slack-us", header.slack.as_duration().as_micros().to_string()),
            ("priority", header.priority.bits().to_string()),
            ("rtcp", flag(header.rtcp)),
            ("packet", text(packet)),
        ],
        [&header.encode(), packet].concat(),
    ))
}

fn edge_keyframe_request(bytes: &[u8]) -> Decoded {
    let request = EdgeKeyframeRequest::decode(bytes).map_err(error)?;
    Ok((vec![("handle", request.handle.to_string())], request.encode().to_vec()))
}

fn fragment(bytes: &[u8]) -> Decoded {
    let header = FragmentHeader::decode(bytes).map_err(error)?;
    let share = &bytes[FRAGMENT_HEADER_BYTES..];
    Ok((
        vec![("id", header.id.to_string()), ("second", flag(header.second)), ("share", text(share))],
        [&header.encode(), share].concat(),
    ))
}

fn mtu_probe(bytes: &[u8]) -> Decoded {
    let probe = MtuProbe::decode(bytes).map_err(error)?;
    Ok((
        vec![
            ("answer", flag(probe.answer)),
            ("bytes", probe.bytes.to_string()),
            ("count", probe.count.to_string()),
        ],
        probe.encode().to_vec(),
    ))
}

fn path_challenge(bytes: &[u8]) -> Decoded {
    let challenge = PathChallenge::decode(bytes).map_err(error)?;
    Ok((
        vec![("answer", flag(challenge.answer)), ("token", text(&challenge.token))],
        challenge.encode().to_vec(),
    ))
}

#[test]
fn frame_bodies() {
    check("media", media);
    check("heartbeat", heartbeat);
    check("keyframe-request", keyframe_request);
    check("edge", edge);
    check("edge-keyframe-request", edge_keyframe_request);
    check("fragment", fragment);
    check("mtu-probe", mtu_probe);
    check("path-challenge", path_challenge);
}

#[test]
fn what_is_ignored_is_written_as_zero() {
    for Vector { name, bytes, expected } in read("ignored") {
        let Expected::Fields(fields) = expected else { panic!("ignored: {name}: lacks fields") };
        let [(_, kind), (_, canonical)] = &fields[..] else { panic!("ignored: {name}: lacks fields") };
        let decode = match kind.as_str() {
            "media" => media,
            "heartbeat" => heartbeat,
            "keyframe-request" => keyframe_request,
            "edge" => edge,
            "edge-keyframe-request" => edge_keyframe_request,
            "fragment" => fragment,
            "mtu-probe" => mtu_probe,
            "path-challenge" => path_challenge,
            other => panic!("ignored: {name}: no kind {other}"),
        };
        let (fields, again) = decode(&bytes).unwrap_or_else(|error| panic!("ignored: {name}: {error}"));
        assert_eq!(text(&again), *canonical, "ignored: {name}");
        let (fields_again, _) = decode(&bytes_of(canonical)).expect("what was encoded decodes");
        assert_eq!(fields, fields_again, "ignored: {name}");
    }
}

#[test]
fn destination_set() {
    check("destination-set", |bytes| {
        let (set, used) = DestinationSet::decode(bytes).map_err(error)?;
        assert_eq!(used, set.wire_bytes());
        let mut out = [0xEE; 1 + SET_BYTES_MAX];
        assert_eq!(set.encode(&mut out), used);
        let form = match bytes[0] >> 6 {
            0 => "list",
            1 => "bitmap",
            _ => "blocks",
        };
        Ok((vec![("form", form.to_owned()), ("nodes", list(set.iter()))], out[..used].to_vec()))
    });
}

#[test]
fn session() {
    check("session", |bytes| {
        let (prefix, body) = bytes.split_first_chunk::<PREFIX_BYTES>().ok_or("truncated")?;
        let codec_error = |error| match error {
            CodecError::TooLong(_) => "too-long",
            CodecError::Malformed => "malformed",
        };
        let length = codec::body_length(*prefix).map_err(codec_error)?;
        assert_eq!(length, body.len(), "the vector's prefix is its length");
        let message = codec::decode(body).map_err(codec_error)?;
        let mut again = Vec::new();
        codec::encode(&message, &mut again).expect("what was decoded fits");
        Ok((vec![("message", format!("{message:?}"))], again))
    });
}

#[test]
fn every_frame_kind_has_a_vector() {
    let kinds = [
        (FrameKind::Media, "media"),
        (FrameKind::Heartbeat, "heartbeat"),
        (FrameKind::KeyframeRequest, "keyframe-request"),
        (FrameKind::Edge, "edge"),
        (FrameKind::EdgeKeyframeRequest, "edge-keyframe-request"),
        (FrameKind::Fragment, "fragment"),
        (FrameKind::MtuProbe, "mtu-probe"),
        (FrameKind::PathChallenge, "path-challenge"),
        (FrameKind::RepairRequest, "repair-request"),
        (FrameKind::Repair, "repair"),
        (FrameKind::Parity, "parity"),
    ];
    // A type is known if the receiver does not call it unknown; each known one is in the list above.
    for number in 1..32u16 {
        let plain = [[0; 3].as_slice(), &(number << 11).to_be_bytes()].concat();
        let kind = frames(&plain).next().expect("a frame").expect("whole").kind;
        let known = !matches!(kind, FrameKind::Unknown(_));
        assert_eq!(known, kinds.iter().any(|(listed, _)| *listed == kind), "type {number}");
    }
    for (_, file) in kinds {
        let legal = |vector: &Vector| matches!(vector.expected, Expected::Fields(_));
        assert!(read(file).iter().any(legal) && !read(file).iter().all(legal), "{file}");
    }
}
