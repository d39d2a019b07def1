//! The dissector for Wireshark, `cascade.lua`, reads the vectors as `vectors.rs` does, and marks what must be refused. Needs
//! tshark.

mod hex;
mod tshark;

use hex::{Expected, Vector};
use std::path::{Path, PathBuf};
use tshark::{Row, dissect, has_tshark};
use wire_format::{FrameKind, frame_header};

/// A record of the simulator (SPEC section 14) before a datagram or a message.
const RECORD_BYTES: usize = 29;
const OPENED: u8 = 4;
const SAID: u8 = 5;

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cascade.lua")
}

fn record(kind: u8) -> Vec<u8> {
    let mut record = vec![0; RECORD_BYTES];
    record[..2].copy_from_slice(&[kind, 1]);
    record
}

fn framed(kind: FrameKind, body: &[u8]) -> Vec<u8> {
    [&record(OPENED)[..], &[0; 3], &frame_header(kind, body.len()), body].concat()
}

/// A capture of UDP payloads in the classic format, each from one port 4700 to another.
fn capture(payloads: &[Vec<u8>]) -> tempfile::NamedTempFile {
    let mut file = Vec::new();
    // Magic number of nanoseconds, version 2.4, no time zone, nothing cut, LINKTYPE_IPV4.
    for word in [0xA1B2_3C4D_u32, 0x0004_0002, 0, 0, 65_535, 228] {
        file.extend(word.to_le_bytes());
    }
    for (number, payload) in payloads.iter().enumerate() {
        let length = 28 + payload.len();
        for word in [0, number as u32, length as u32, length as u32] {
            file.extend(word.to_le_bytes());
        }
        file.extend([0x45, 0]);
        file.extend((length as u16).to_be_bytes());
        file.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        for word in [4700, 4700, (8 + payload.len()) as u16, 0] {
            file.extend(word.to_be_bytes());
        }
        file.extend(payload);
    }
    let out = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(out.path(), file).expect("it can be written");
    out
}

/// The packets of a capture with these fields and how they are malformed, one row each.
fn rows(payloads: &[Vec<u8>], fields: &[&str]) -> Vec<Row> {
    let file = capture(payloads);
    let asked = [fields, &["cascade.malformed"]].concat();
    let rows = dissect(&script(), file.path(), "udp", &asked);
    assert_eq!(rows.len(), payloads.len());
    rows
}

/// A field of a vector, and how its value follows from fields of the dissector.
type Told = (&'static str, &'static [&'static str], fn(&[Vec<String>]) -> String);

fn list(values: &[Vec<String>]) -> String {
    values.concat().join(" ")
}

/// Microseconds of a time that tshark prints in seconds with nine digits.
fn micros(seconds: &str) -> u64 {
    let (whole, nanos) = seconds.split_once('.').unwrap_or_else(|| panic!("no time: {seconds:?}"));
    assert_eq!(nanos.len(), 9, "{seconds}");
    let number = |digits: &str| digits.parse::<u64>().unwrap_or_else(|_| panic!("no time: {seconds:?}"));
    number(whole) * 1_000_000 + number(nanos) / 1_000
}

fn us(values: &[Vec<String>]) -> String {
    micros(&values[0][0]).to_string()
}

fn stream(values: &[Vec<String>]) -> String {
    values.concat().join("/")
}

/// Fields of a group that may be absent.
fn group(values: &[Vec<String>]) -> String {
    if values.concat().is_empty() { "-".to_owned() } else { list(values) }
}

/// A time of a group that may be absent, and the value beside it.
fn time_and(values: &[Vec<String>]) -> String {
    if values[0].is_empty() { "-".to_owned() } else { format!("{} {}", us(values), values[1][0]) }
}

fn echo(values: &[Vec<String>]) -> String {
    match (values[0].first(), values[1].first()) {
        (Some(time), Some(delay)) => format!("{}+{}", micros(time), micros(delay)),
        (_, _) => "-".to_owned(),
    }
}

/// Ranges as the vectors write them: one alone by its ends, several number by number.
fn missing(values: &[Vec<String>]) -> String {
    let ranges: Vec<&str> = values[0].iter().flat_map(|ranges| ranges.split(' ')).collect();
    let ends = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        [first, last].map(|number| number.parse::<u64>().expect("a number"))
    };
    match ranges[..] {
        [] => "-".to_owned(),
        [one] => ends(one).map(|end| end.to_string()).join(".."),
        _ => {
            let numbers = ranges.into_iter().map(ends).flat_map(|[first, last]| first..=last);
            numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(" ")
        }
    }
}

const STREAM: &[&str] = &["cascade.stream.room", "cascade.stream.user", "cascade.stream.stream"];

/// By vector file: the kind of frame whose bodies it holds, and its fields.
const BODIES: &[(&str, FrameKind, &[Told])] = &[
    (
        "media",
        FrameKind::Media,
        &[
            ("stream", STREAM, stream),
            ("incarnation", &["cascade.media.incarnation"], list),
            ("sequence", &["cascade.media.sequence"], list),
            ("slack-us", &["cascade.media.slack"], us),
            ("priority", &["cascade.media.priority"], list),
            ("hop-limit", &["cascade.media.hop_limit"], list),
            ("epoch", &["cascade.media.epoch"], list),
            ("plane", &["cascade.media.plane"], list),
            ("marked", &["cascade.media.marked"], list),
            ("rtcp", &["cascade.media.rtcp"], list),
            ("protected", &["cascade.media.protected"], list),
            ("policy", &["cascade.media.policy"], list),
            ("destinations", &["cascade.destinations.node"], list),
            ("packet", &["cascade.packet"], list),
        ],
    ),
    (
        "heartbeat",
        FrameKind::Heartbeat,
        &[
            ("in-use", &["cascade.heartbeat.in_use"], list),
            ("highest", &["cascade.heartbeat.highest"], list),
            ("received", &["cascade.heartbeat.received"], list),
            ("echo", &["cascade.heartbeat.echo_time", "cascade.heartbeat.echo_delay"], echo),
            ("jitter-us", &["cascade.heartbeat.jitter"], us),
            (
                "sizes",
                &[
                    "cascade.heartbeat.probes_sent",
                    "cascade.heartbeat.probes_received",
                    "cascade.heartbeat.large_received",
                ],
                group,
            ),
            ("arrival", &["cascade.heartbeat.queueing_delay", "cascade.heartbeat.bytes_received"], time_and),
            ("media", &["cascade.heartbeat.media_through", "cascade.heartbeat.media_sent"], group),
            ("repairs", &["cascade.heartbeat.repairs"], list),
        ],
    ),
    (
        "keyframe-request",
        FrameKind::KeyframeRequest,
        &[
            ("ingress", &["cascade.keyframe_request.ingress"], list),
            ("stream", STREAM, stream),
            ("hop-limit", &["cascade.keyframe_request.hop_limit"], list),
        ],
    ),
    (
        "edge",
        FrameKind::Edge,
        &[
            ("handle", &["cascade.edge.handle"], list),
            ("sequence", &["cascade.edge.sequence"], list),
            ("slack-us", &["cascade.edge.slack"], us),
            ("priority", &["cascade.edge.priority"], list),
            ("rtcp", &["cascade.edge.rtcp"], list),
            ("packet", &["cascade.packet"], list),
        ],
    ),
    (
        "edge-keyframe-request",
        FrameKind::EdgeKeyframeRequest,
        &[("handle", &["cascade.edge_keyframe_request.handle"], list)],
    ),
    (
        "fragment",
        FrameKind::Fragment,
        &[
            ("id", &["cascade.fragment.id"], list),
            ("second", &["cascade.fragment.second"], list),
            ("share", &["cascade.fragment.share"], list),
        ],
    ),
    (
        "mtu-probe",
        FrameKind::MtuProbe,
        &[
            ("answer", &["cascade.mtu_probe.kind"], list),
            ("bytes", &["cascade.mtu_probe.bytes"], list),
            ("count", &["cascade.mtu_probe.count"], list),
        ],
    ),
    (
        "path-challenge",
        FrameKind::PathChallenge,
        &[
            ("answer", &["cascade.path_challenge.kind"], list),
            ("token", &["cascade.path_challenge.token"], list),
        ],
    ),
    (
        "repair-request",
        FrameKind::RepairRequest,
        &[
            ("silent", &["cascade.repair_request.silent"], list),
            ("through", &["cascade.repair_request.through"], list),
            ("missing", &["cascade.repair_request.missing"], missing),
        ],
    ),
    ("repair", FrameKind::Repair, &[("number", &["cascade.repair.number"], list)]),
    (
        "parity",
        FrameKind::Parity,
        &[
            ("row", &["cascade.parity.row"], list),
            ("covers", &["cascade.parity.covers"], list),
            ("sum", &["cascade.parity.sum"], list),
        ],
    ),
];

/// Every vector is dissected to its fields, or marked with its error.
fn check(file: &str, wrap: impl Fn(&Vector) -> Vec<u8>, told: &[Told], passed_over: &[&str]) {
    let vectors: Vec<_> =
        hex::read(file).into_iter().filter(|vector| !passed_over.contains(&vector.name.as_str())).collect();
    let payloads: Vec<_> = vectors.iter().map(wrap).collect();
    let fields: Vec<&str> = told.iter().flat_map(|(_, fields, _)| fields.iter().copied()).collect();
    for (vector, row) in vectors.iter().zip(rows(&payloads, &fields)) {
        let name = &vector.name;
        let malformed = row.last().expect("asked for");
        let wanted = match &vector.expected {
            Expected::Error(error) => {
                let marked = malformed.iter().any(|how| how == error || error == "refused");
                assert!(marked, "{file}: {name}: {error}, not {malformed:?}");
                continue;
            }
            Expected::Fields(wanted) => wanted,
        };
        assert!(malformed.is_empty(), "{file}: {name}: {malformed:?}");
        let mut at = 0;
        for (field, from, read) in told {
            let value = read(&row[at..at + from.len()]);
            at += from.len();
            let (_, expected) = wanted
                .iter()
                .find(|(other, _)| other == field)
                .unwrap_or_else(|| panic!("{file}: {name}: lacks {field}"));
            assert_eq!(value, *expected, "{file}: {name}: {field}");
        }
    }
}

#[test]
fn bodies_of_frames() {
    if !has_tshark() {
        return;
    }
    for (file, kind, told) in BODIES {
        // What the receiver has is not in the bytes.
        let passed_over = ["from before the counter's low half wrapped it is nothing"];
        check(file, |vector| framed(*kind, &vector.bytes), told, &passed_over);
    }
}

#[test]
fn destination_sets() {
    if !has_tshark() {
        return;
    }
    let wrap = |vector: &Vector| {
        let packet: &[u8] = match &vector.expected {
            Expected::Error(error) if error == "truncated" => &[],
            Expected::Error(_) | Expected::Fields(_) => &[0x80],
        };
        framed(FrameKind::Media, &[&[0; 21], &vector.bytes[..], packet].concat())
    };
    let form = |values: &[Vec<String>]| match values[0][0].as_str() {
        "0" => "list".to_owned(),
        "1" => "bitmap".to_owned(),
        _ => "blocks".to_owned(),
    };
    let told: [Told; 2] =
        [("form", &["cascade.destinations.form"], form), ("nodes", &["cascade.destinations.node"], list)];
    check("destination-set", wrap, &told, &[]);
}

#[test]
fn plain_datagrams_to_their_end() {
    if !has_tshark() {
        return;
    }
    let vectors = hex::read("plain-datagram");
    let payloads: Vec<_> =
        vectors.iter().map(|vector| [&record(OPENED)[..], &vector.bytes].concat()).collect();
    let fields = ["cascade.send_time", "cascade.frame.type", "cascade.frame.length", "cascade.padding"];
    for (vector, row) in vectors.iter().zip(rows(&payloads, &fields)) {
        let [times, types, lengths, padding, malformed] = &row[..] else { panic!("five were asked for") };
        let Expected::Fields(wanted) = &vector.expected else {
            assert_eq!(malformed[..], ["truncated"], "{}", vector.name);
            continue;
        };
        assert_eq!(micros(&times[0]).to_string(), wanted[0].1, "{}", vector.name);
        let mut seen = wanted[1].1.split(' ').filter(|frame| *frame != "-").collect::<Vec<_>>();
        let cut = seen.last() == Some(&"truncated");
        if cut {
            seen.pop();
        }
        assert_eq!(!malformed.is_empty(), cut, "{}", vector.name);
        let number = |frame: &str| match frame.split('@').next() {
            Some("EdgeKeyframeRequest") => "5".to_owned(),
            Some(unknown) => unknown.trim_start_matches("Unknown(").trim_end_matches(')').to_owned(),
            None => panic!("a frame has a kind: {frame}"),
        };
        assert_eq!(*types, seen.into_iter().map(number).collect::<Vec<_>>(), "{}", vector.name);
        let bodies: usize = lengths.iter().map(|length| 2 + length.parse::<usize>().expect("a number")).sum();
        let all = 3 + bodies + padding.iter().map(|padding| padding.len() / 2).sum::<usize>();
        assert!(cut || all == vector.bytes.len(), "{}: {all} bytes are dissected", vector.name);
    }
}

#[test]
fn session_messages() {
    if !has_tshark() {
        return;
    }
    let vectors = hex::read("session");
    let payloads: Vec<_> = vectors.iter().map(|vector| [&record(SAID)[..], &vector.bytes].concat()).collect();
    let fields =
        ["_ws.col.Info", "cascade.session.request", "cascade.session.ready", "cascade.session.message"];
    for (vector, row) in vectors.iter().zip(rows(&payloads, &fields)) {
        let [info, requests, ready, messages, malformed] = &row[..] else { panic!("five were asked for") };
        match &vector.expected {
            Expected::Error(_) if vector.name.contains("ready sign") => assert_eq!(ready[..], ["1"]),
            Expected::Error(error) => assert_eq!(malformed[..], [error.as_str()], "{}", vector.name),
            Expected::Fields(wanted) => {
                assert!(malformed.is_empty() && messages.len() == 1, "{}: {malformed:?}", vector.name);
                let (_, debug) = &wanted[0];
                let name = debug.split([' ', '{']).next().expect("a name");
                assert!(info[0].split(' ').any(|word| word == name), "{}: {info:?}", vector.name);
                let request = debug.split_once("request: ").map(|(_, rest)| {
                    let digits: String =
                        rest.trim_start_matches("Some(").chars().take_while(char::is_ascii_digit).collect();
                    digits
                });
                let request: Vec<_> = request.into_iter().filter(|digits| !digits.is_empty()).collect();
                assert_eq!(*requests, request, "{}", vector.name);
            }
        }
    }
}

#[test]
fn sealed_headers() {
    if !has_tshark() {
        return;
    }
    let told: [Told; 2] =
        [("receiver", &["cascade.sealed.receiver"], list), ("number", &["cascade.sealed.number"], list)];
    let as_it_is = |vector: &Vector| vector.bytes.clone();
    check("sealed", as_it_is, &told, &[]);
    let phase: Told = ("key-phase", &["cascade.sealed.key_phase"], list);
    check(
        "sealed-header",
        as_it_is,
        &[&[phase][..], &told].concat(),
        &["RTP is not sealed", "nothing at all"],
    );
}

/// All that the vectors hold, as the dissector may meet it.
fn everything() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (file, kind, _) in BODIES {
        all.extend(hex::read(file).iter().map(|vector| framed(*kind, &vector.bytes)));
    }
    for vector in hex::read("plain-datagram") {
        all.push([&record(OPENED)[..], &vector.bytes].concat());
    }
    for vector in hex::read("session") {
        all.push([&record(SAID)[..], &vector.bytes].concat());
    }
    for file in ["sealed", "sealed-header", "stun", "first-byte"] {
        all.extend(hex::read(file).into_iter().map(|vector| vector.bytes));
    }
    all
}

#[test]
fn bytes_that_end_early_or_are_others_are_no_error_of_the_script() {
    if !has_tshark() {
        return;
    }
    let all = everything();
    let cut: Vec<Vec<u8>> = all
        .iter()
        .flat_map(|payload| {
            (RECORD_BYTES.min(payload.len())..payload.len()).map(|end| payload[..end].to_vec())
        })
        .chain((0..RECORD_BYTES).map(|end| record(OPENED)[..end].to_vec()))
        .collect();
    let marked = rows(&cut, &[]).iter().filter(|row| !row[0].is_empty()).count();
    assert!(marked * 2 > cut.len(), "{marked} of {} are marked as malformed", cut.len());
    // Every byte behind the type of each payload becomes others, one at a time: a multiplicative generator (Lehmer).
    let mut state = 1_u64;
    let mut changed = Vec::new();
    for payload in all.iter().filter(|payload| payload.len() > 1) {
        for at in 1..payload.len() {
            state = state * 48_271 % 0x7FFF_FFFF;
            let mut other = payload.clone();
            other[at] = (state >> 16) as u8;
            changed.push(other);
        }
    }
    rows(&changed, &[]);
}
