//! Incidents of real processes, from their recordings: what was decided then is decided today.
//!
//! A recording of an older version need not be *reproduced*: outputs may have become others for good reasons. What its test
//! asks for is the decision.

use sim::{Replay, Verdict};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use wire_format::recording::{Body, Recording};

fn read(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The first epoch that moves a route to another path, as its text.
fn turned<'a>(replay: &'a Replay, route: &str) -> Option<&'a str> {
    replay.of_kind("epoch").map(|epoch| epoch.text.as_str()).find(|text| text.contains(route))
}

/// Four relays, r1 and r3 without a link to each other. r2, which carried their streams, was killed: routes turned to r4 as
/// soon as its session was gone, long before its links were given up.
#[test]
fn a_relay_that_died_was_left_when_its_session_was_gone() {
    let replay = sim::replay(&read("relay-died.rec"), None).expect("it runs");
    assert!(!replay.torn && !replay.full);
    for route in ["r1 to r3: r1 > r4 > r3, was r1 > r2 > r3", "r3 to r1: r3 > r4 > r1, was r3 > r2 > r1"] {
        let text = turned(&replay, route).unwrap_or_else(|| panic!("no epoch has {route:?}: {replay}"));
        assert!(text.contains("the session of r2 is gone"), "{text}");
    }
}

/// r1 of the same four relays, with two workers, where a stream enters. Its neighbour r2, which led on, was killed: each worker
/// suspected its lane after a moment of silence, and moved what went there in the same input, without asking anybody.
#[test]
fn a_neighbour_that_fell_silent_was_left_at_once() {
    let replay = sim::replay(&read("neighbour-died.rec"), None).expect("it runs");
    for worker in 0..2 {
        let suspected = replay.of_kind("link").find(|happened| {
            happened.worker == worker && happened.text.starts_with("link to r2 is suspect: a timer")
        });
        let suspected = suspected.unwrap_or_else(|| panic!("worker {worker} suspects nobody: {replay}"));
        let moved = replay.of_kind("reroute").find(|happened| happened.record == suspected.record);
        assert!(moved.is_some_and(|moved| moved.text.starts_with("destinations_moved")), "{replay}");
    }
}

#[test]
fn a_replay_stops_where_it_is_told_to_and_says_what_is_missing() {
    let bytes = read("relay-died.rec");
    let whole = sim::replay(&bytes, None).expect("it runs");
    let half = sim::replay(&bytes, Some(Duration::from_millis(390))).expect("it runs");
    assert!(half.records < whole.records && half.is_reproduced(), "{half}");
    assert_eq!(half.happened, whole.happened[..half.happened.len()]);
    let torn = sim::replay(&bytes[..bytes.len() - 1], None).expect("it runs");
    assert!(torn.torn && torn.verdict == whole.verdict && torn.records + 1 == whole.records);

    // One input less, and the recording says so.
    let recording = Recording::new(&bytes).expect("a recording");
    let mut other = Vec::new();
    recording.header().encode(&mut other);
    let mut lost = None;
    for (number, record) in (1..).zip(recording) {
        let mut record = record.expect("legal");
        if lost.is_none() && number > 20 && matches!(record.body, Body::Input(_)) {
            record.body = Body::Lost { records: 1 };
            lost = Some(number);
        }
        record.encode(&mut other).expect("short");
    }
    let replay = sim::replay(&other, None).expect("it runs");
    assert_eq!(replay.verdict, Verdict::Gap { record: lost.expect("there are inputs"), records: 1 });
}

#[test]
fn the_command_ends_as_the_replay_did() {
    let sim = |arguments: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_sim")).arg("replay").args(arguments).output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings/relay-died.rec");
    let file = file.to_str().expect("a path");
    let (status, text) = sim(&[file]);
    let ending = text.lines().last().expect("an ending");
    assert_eq!(status, Some(i32::from(ending != "reproduced")), "{text}");
    let (_, json) = sim(&[file, "--json", "--until", "300ms"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert!(json["source"] == "controller" && json["verdict"]["reproduced"].is_boolean(), "{json}");
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    assert_eq!(sim(&[manifest.to_str().expect("a path")]).0, Some(2));
    assert_eq!(sim(&["absent.rec"]).0, Some(2));
    assert_eq!(sim(&[file, "--until", "soon"]).0, Some(2));
}
