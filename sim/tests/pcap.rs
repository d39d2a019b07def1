//! What `sim pcap` writes is what the run counted, and the dissector for Wireshark reads all of it.

#[path = "../../wire-format/tests/tshark/mod.rs"]
mod tshark;

use link_model::DropReason;
use sim::{Captured, Host, Purpose, Scenario, Trace, capture, links_named};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use wire_format::{FragmentHeader, FrameKind, frames};

const RECORD_BYTES: usize = 29;

/// Links that lose, cut frames in two and fall silent; two streams, one of them protected.
const SMALL: &str = r#"
name = "small"
run_for = "8s"
clients_link = "delay=1ms,mtu=1452"
[[relay]]
name = "r1"
[[relay]]
name = "r2"
[[relay]]
name = "r3"
[[link]]
between = "r1-r2"
is = "delay=15ms,loss=4%,mtu=1240,duplicate=1%"
[[link]]
between = "r2-r3"
is = "delay=20ms,loss=2%,burst=3"
[[link]]
between = "r1-r3"
is = "delay=60ms,rate=4mbit,queue=50ms"
[[client]]
name = "sfu-a"
relay = "r1"
[[client]]
name = "sfu-b"
relay = "r3"
[[stream]]
client = "sfu-a"
room = "lobby"
user = "ann"
stream = "cam"
kind = "video"
bursts_per_s = 20
burst = 4
bytes = 1300
budget = "90ms"
[[stream]]
client = "sfu-a"
room = "lobby"
user = "ann"
stream = "mic"
kind = "audio"
bursts_per_s = 50
bytes = 120
protect = true
[[subscription]]
client = "sfu-b"
room = "lobby"
[[subscription]]
client = "sfu-b"
room = "stage"
from = "2s"
[[fault]]
at = "4s"
cut = "r2>r3"
until = "4500ms"
[expect]
recover_within = "3s"
delivered_min = 100
"#;

fn small(text: &str) -> Scenario {
    Scenario::parse(text, &mut |_| unreachable!("names no files")).expect("legal")
}

/// What crossed the link, and the file.
fn captured(scenario: &Scenario, link: &str) -> (Captured, Vec<u8>) {
    let mut file = Vec::new();
    let links = links_named(scenario, link).expect("there is such a link");
    let captured = capture(scenario, 3, &links, &mut file).expect("a vector takes everything");
    assert_eq!(captured.bytes, file.len() as u64);
    (captured, file)
}

/// A packet of the file: the last byte of the addresses' kinds, and what UDP carries.
struct Packet {
    at_ns: u64,
    from: [u8; 4],
    to: [u8; 4],
    payload: Vec<u8>,
}

impl Packet {
    /// Between relays.
    fn is_of_relays(&self) -> bool {
        self.from[1] == 0 && self.to[1] == 0
    }

    fn plain(&self) -> Option<&[u8]> {
        (self.payload[0] == 4).then_some(&self.payload[RECORD_BYTES..])
    }

    fn fate(&self) -> u8 {
        self.payload[3]
    }
}

/// The packets of a pcapng file.
fn packets(file: &[u8]) -> Vec<Packet> {
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four bytes"));
    let (mut at, mut all) = (0, Vec::new());
    while at < file.len() {
        if word(at) == 6 {
            let ip = &file[at + 28..at + 28 + word(at + 20) as usize];
            all.push(Packet {
                at_ns: u64::from(word(at + 12)) << 32 | u64::from(word(at + 16)),
                from: ip[12..16].try_into().expect("an address"),
                to: ip[16..20].try_into().expect("an address"),
                payload: ip[28..].to_vec(),
            });
        }
        at += word(at + 4) as usize;
    }
    all
}

/// Numbers of the types of a datagram's frames.
fn types(plain: &[u8]) -> Vec<u16> {
    let mut at = 3;
    frames(plain)
        .map(|frame| {
            let frame = frame.expect("a core sends whole frames");
            let kind = u16::from_be_bytes([plain[at], plain[at + 1]]) >> 11;
            at = frame.body.end;
            kind
        })
        .collect()
}

fn run(scenario: &Scenario) -> Trace {
    sim::run(scenario, 3)
}

#[test]
fn the_file_holds_what_the_run_counted() {
    let scenario = small(SMALL);
    let (captured, file) = captured(&scenario, "all");
    let trace = run(&scenario);
    assert_eq!(captured.hash, trace.hash(), "the same run");
    let packets = packets(&file);
    assert_eq!(packets.len() as u64, captured.datagrams + captured.messages);
    assert!(packets.is_sorted_by_key(|packet| packet.at_ns));
    let between: Vec<_> = packets.iter().filter(|p| p.is_of_relays() && p.plain().is_some()).collect();
    let counted: Vec<_> =
        trace.events().iter().filter_map(|(at, event)| Some((at, event.datagram()?))).collect();
    assert_eq!(between.len(), counted.len());
    let mut purposes = BTreeMap::new();
    for (packet, (at, datagram)) in between.iter().zip(&counted) {
        let plain = packet.plain().expect("filtered");
        assert_eq!(u128::from(packet.at_ns), at.as_nanos());
        assert_eq!(
            packet.from[3..],
            [datagram.from.0 as u8 + 1],
            "addresses are in the order of the scenario"
        );
        assert_eq!(packet.payload.len(), datagram.bytes as usize, "as long as on the wire");
        let fate = match datagram.fate {
            Ok(_) => 0,
            Err(DropReason::Down) => 1,
            Err(DropReason::QueueFull) => 2,
            Err(DropReason::Lost) => 3,
            Err(DropReason::TooLarge) => 4,
        };
        assert_eq!(packet.fate(), fate);
        let took = u64::from_be_bytes(packet.payload[16..24].try_into().expect("eight bytes"));
        match datagram.fate {
            Ok(out) => assert_eq!(u128::from(took), (out - **at).as_nanos()),
            Err(_) => assert_eq!(took, u64::MAX),
        }
        let types = types(plain);
        assert_eq!(types.contains(&9), datagram.asks);
        let media = types.iter().filter(|kind| [1, 6].contains(*kind)).count();
        assert_eq!(media, datagram.media_frames as usize);
        *purposes.entry(datagram.purpose).or_insert(0_u32) += 1;
    }
    for purpose in [Purpose::Media, Purpose::Again, Purpose::Parity, Purpose::Feedback] {
        assert!(purposes.contains_key(&purpose), "nothing of {purpose:?} was sent: {purposes:?}");
    }
    let lost = packets.iter().filter(|packet| packet.plain().is_some() && packet.fate() != 0).count();
    assert_eq!(lost as u64, captured.datagrams_lost);
    assert!(
        packets.iter().any(|packet| packet.fate() == 1) && packets.iter().any(|packet| packet.fate() == 3)
    );
    // Media frames, as the run knows them: whole ones, and those that both halves make.
    let seconds = |plain: &[u8]| {
        let halves = frames(plain).flatten().filter(|frame| frame.kind == FrameKind::Fragment);
        halves
            .filter(|frame| FragmentHeader::decode(&plain[frame.body.clone()]).expect("whole").second)
            .count()
    };
    let whole: usize = between
        .iter()
        .filter_map(|p| p.plain())
        .map(|plain| types(plain).iter().filter(|kind| **kind == 1).count())
        .sum();
    let joined: usize = between.iter().filter_map(|p| p.plain()).map(seconds).sum();
    let known = trace.events().iter().filter(|(_, event)| event.frame().is_some()).count();
    assert!(joined > 100, "frames are cut");
    assert_eq!(whole + joined, known);
}

#[test]
fn one_link_alone_and_names_that_are_none() {
    let scenario = small(SMALL);
    let (one_way, file) = captured(&scenario, "r1>r2");
    let all = packets(&file);
    assert!(
        one_way.datagrams > 100 && all.iter().all(|p| (p.from[3], p.to[3]) == (1, 2) && p.is_of_relays())
    );
    let (both, _) = captured(&scenario, "r1-r2");
    assert!(both.datagrams > one_way.datagrams);
    assert_eq!(both.hash, one_way.hash, "who listens changes nothing");
    assert_eq!(captured(&scenario, "r2-r1").0, both);
    let refused = |name: &str| links_named(&scenario, name).expect_err("no such link").to_string();
    assert_eq!(
        refused("r1-r9"),
        "there is no link r1-r9; links are r1-r2, r1-r3, r1-sfu-a, r2-r3, r3-sfu-b, and `all`"
    );
    assert!(refused("r1").contains("r1"));
    assert!(
        links_named(&scenario, "sfu-a>r1")
            .expect("there")
            .contains(&(Host::Client(sim::ClientId(0)), Host::Relay(sim::RelayId(0))))
    );
}

#[test]
fn a_file_that_cannot_be_written_ends_the_run() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 =
                self.0.checked_sub(bytes.len()).ok_or_else(|| std::io::Error::other("the disk is full"))?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let scenario = small(SMALL);
    let links = links_named(&scenario, "all").expect("all");
    let error = capture(&scenario, 3, &links, &mut Full(50_000)).expect_err("it is full");
    assert_eq!(error.to_string(), "the disk is full");
}

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sim"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("sim starts")
}

#[test]
fn the_command_writes_the_run_of_sim_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("line.pcapng").display().to_string();
    let output = sim(&["pcap", "scenarios/line.toml", "--out", &file, "--seed", "5", "--link", "r1-r2"]);
    let out = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.code(), Some(0), "{out}");
    let again = String::from_utf8(sim(&["run", "scenarios/line.toml", "--seed", "5"]).stdout).expect("UTF-8");
    let hash = |text: &str| text.lines().find(|line| line.starts_with("trace hash: ")).map(ToOwned::to_owned);
    assert!(hash(&out).is_some());
    assert_eq!(hash(&out), hash(&again));
    let written = std::fs::read(&file).expect("it was written");
    assert!(out.contains(&format!("{} bytes", written.len())), "{out}");
    for (arguments, told) in [
        (["pcap", "scenarios/line.toml", "--out", &file, "--link", "r1-r9"], "links are r1-r2"),
        (
            ["pcap", "scenarios/line.toml", "--out", "/nowhere/at/all", "--seed", "1"],
            "cannot write /nowhere/at/all",
        ),
    ] {
        let output = sim(&arguments);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains(told), "{output:?}");
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire-format/cascade.lua")
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or_else(|_| panic!("no number: {text}"))
}

#[test]
fn wireshark_dissects_every_datagram_to_its_end() {
    if !tshark::has_tshark() {
        return;
    }
    let scenario = small(SMALL);
    let (captured, file) = captured(&scenario, "all");
    let on_disk = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(on_disk.path(), &file).expect("it can be written");
    let fields = [
        "cascade.frame.type",
        "cascade.frame.length",
        "cascade.padding",
        "cascade.malformed",
        "cascade.frame.rest",
        "cascade.capture.lost",
        "cascade.capture.number",
        "cascade.session.message",
        "cascade.repaired.type",
        "rtp.ssrc",
        "_ws.malformed",
        "cascade.media.sequence",
    ];
    let rows = tshark::dissect(&script(), on_disk.path(), "frame", &fields);
    let packets = packets(&file);
    assert_eq!(rows.len(), packets.len());
    let (mut of_type, mut again, mut lost, mut said, mut rtp) = (BTreeMap::new(), 0, 0, 0, 0);
    for (place, (row, packet)) in rows.iter().zip(&packets).enumerate() {
        let place = place + 1;
        assert!(row[3].is_empty() && row[4].is_empty() && row[10].is_empty(), "packet {place}: {row:?}");
        assert_eq!(row[5].len(), usize::from(packet.fate() != 0), "packet {place}");
        let numbered = u64::from_be_bytes(packet.payload[8..16].try_into().expect("eight bytes"));
        assert_eq!(row[6], [numbered.to_string()], "packet {place}");
        let Some(plain) = packet.plain() else {
            assert_eq!(row[7].len(), 1, "packet {place}: {row:?}");
            said += 1;
            continue;
        };
        let seen: Vec<u16> = row[0].iter().map(|kind| number(kind) as u16).collect();
        assert_eq!(seen, types(plain), "packet {place}");
        let frames: usize = row[1].iter().map(|length| 2 + number(length)).sum();
        let padding: usize = row[2].iter().map(|padding| padding.len() / 2).sum();
        assert_eq!(3 + frames + padding, plain.len(), "packet {place}");
        for kind in seen {
            *of_type.entry(kind).or_insert(0_usize) += 1;
        }
        again += row[8].len();
        lost += u64::from(packet.fate() != 0);
        rtp += row[9].len();
    }
    assert_eq!((said, lost), (captured.messages, captured.datagrams_lost));
    // What this run has to show.
    for kind in [1, 2, 4, 6, 7, 9, 10, 11] {
        assert!(of_type.contains_key(&kind), "no frame of type {kind}: {of_type:?}");
    }
    assert!(again > 0 && rtp > 1_000, "{again} frames are in repairs, {rtp} packets are RTP's");
    // And filters find it.
    let media =
        tshark::dissect(&script(), on_disk.path(), "cascade.frame.type == 1", &["cascade.stream.room"]);
    assert!(media.iter().flatten().flatten().all(|room| room == "1"));
    let with_media =
        packets.iter().filter_map(Packet::plain).filter(|plain| types(plain).contains(&1)).count();
    assert_eq!(media.len(), with_media);
    let lost_rows = tshark::dissect(
        &script(),
        on_disk.path(),
        "cascade.capture.lost && !cascade.session.length",
        &["ip.src"],
    );
    assert_eq!(lost_rows.len() as u64, captured.datagrams_lost);
}

#[test]
fn wireshark_marks_what_a_hostile_relay_sends() {
    if !tshark::has_tshark() {
        return;
    }
    let hostile = SMALL.replace("cut = \"r2>r3\"", "hostile = \"r3\"").replace("4500ms", "7s");
    let scenario = small(&hostile);
    let (_, file) = captured(&scenario, "r3>r2");
    let on_disk = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(on_disk.path(), &file).expect("it can be written");
    let rows = tshark::dissect(&script(), on_disk.path(), "cascade", &["cascade.malformed"]);
    assert_eq!(rows.len(), packets(&file).len());
    let marked = rows.iter().filter(|row| row[0].contains(&"field".to_owned())).count();
    assert!(marked > 10, "{marked} of {} are marked", rows.len());
}

#[test]
fn frames_that_were_cut_are_joined_again() {
    if !tshark::has_tshark() {
        return;
    }
    let scenario = small(SMALL);
    let (_, file) = captured(&scenario, "r1>r2");
    let on_disk = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(on_disk.path(), &file).expect("it can be written");
    let filter = "cascade.fragment.second == 1 && !cascade.repair.number";
    let rows = tshark::dissect(
        &script(),
        on_disk.path(),
        filter,
        &["cascade.repaired.type", "cascade.media.sequence"],
    );
    assert!(rows.len() > 50);
    let joined = rows.iter().filter(|row| row[0].contains(&"1".to_owned()) && !row[1].is_empty()).count();
    assert_eq!(joined, rows.len(), "both halves of each were sent here");
}
