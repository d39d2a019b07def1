//! What processes record of their inputs is run again by `sim replay`, and does what it did.

use crate::overlay::{Overlay, deploy};
use crate::stream::{Stream, camera};
use control_proto::JoinToken;
use serde_json::{Value, json};
use sfu_link::{SfuLink, SubscribeOptions};
use std::path::Path;
use std::process::Command;
use wire_format::recording::{Body, Recording};

const FILE: &str = "controller.rec";

fn recorded(mut controller: Command) -> Command {
    controller.args(["--record", FILE]);
    controller
}

/// The same with much else set that routes hang on.
fn recorded_with_settings(controller: Command) -> Command {
    let mut controller = recorded(controller);
    controller.arg("--policies").arg(deploy("policies.toml"));
    controller.args(["--egress-price", "local>*=0.05", "--money-worth-ms", "70", "--holder-gain-ms", "5"]);
    controller.args(["--namespaces", "default:streams=100;demo:relays=3,subscriptions=50,bit_rate=50Mbit/s"]);
    controller.args(["--mesh-relays", "100", "--relay-links", "16", "--index-quarantine", "1h"]);
    controller
}

/// r1 and r3 have no link to each other, so that routes between them pass r2 or r4: r3 is the only one that dials r1.
fn apart(mut command: Command) -> Command {
    command.args(["--neighbour-address", "r1=127.0.0.1:9"]);
    command
}

/// The same, and each relay, of two workers, records to a file of its name.
fn apart_and_recorded(command: Command) -> Command {
    let mut arguments = command.get_args().skip_while(|argument| *argument != "--name").skip(1);
    let mut file = arguments.next().expect("a name").to_owned();
    file.push(".rec");
    let mut command = apart(command);
    command.args(["--workers", "2"]).arg("--record").arg(file);
    command
}

/// What `sim replay` says of a recording, and whether it ends well.
fn replay(file: &Path) -> (Value, bool) {
    let output = Command::new(e2e::executable("sim")).arg("replay").arg(file).arg("--json").output();
    let output = output.expect("it runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.is_empty(), "{errors}");
    (serde_json::from_slice(&output.stdout).expect("JSON"), output.status.success())
}

fn of_kind<'a>(replay: &'a Value, kind: &str) -> Vec<&'a Value> {
    let happened = replay["happened"].as_array().expect("a list");
    happened.iter().filter(|happened| happened["kind"] == kind).collect()
}

/// The path from r1 to r3.
fn path(overlay: &Overlay) -> Value {
    let rows = overlay.list(&["routes", "dump", "--node", "r1", "--plane", "0"], "routes");
    rows.iter().find(|row| row["destination"] == "r3").map_or(Value::Null, |row| row["path"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_controller_decided_when_a_relay_died_is_reproduced_from_its_recording() {
    let mut overlay = Overlay::start_under(recorded, &["r3", "r1", "r2", "r4"], 10, apart).await;
    let before = path(&overlay);
    let (transit, other) = if before[1] == "r2" { ("r2", "r4") } else { ("r4", "r2") };
    assert_eq!(before, json!(["r1", transit, "r3"]));
    overlay.kill_relay(transit);
    let after = json!(["r1", other, "r3"]);
    overlay.until("routes go around it", |overlay| path(overlay) == after).await;
    let secrets = secrets(&mut overlay);
    overlay.stop_controller();

    let file = overlay.path(FILE);
    let (replay, ended_well) = replay(&file);
    assert!(ended_well && replay["verdict"]["reproduced"] == true, "{}", replay["verdict"]);
    assert_eq!((&replay["torn"], &replay["full"]), (&json!(false), &json!(false)));
    // The decision, and what it came from.
    let mut turns = of_kind(&replay, "epoch").into_iter().filter_map(|epoch| {
        let routes = epoch["detail"]["routes"].as_array()?;
        let turned = |route: &&Value| {
            (&route["node"], &route["destination"]) == (&json!("r1"), &json!("r3"))
                && (&route["before"]["path"], &route["after"]["path"]) == (&before, &after)
        };
        Some((epoch, routes.iter().find(turned)?))
    });
    let (epoch, route) = turns.next().expect("the epoch that turned it");
    // Its session breaks at once, and its neighbours miss it a moment later: whichever came first, each would do.
    let gone = [format!("the session of {transit} is gone"), format!("link r1>{transit}: closed")];
    let reasons = epoch["detail"]["reasons"].as_array().expect("a list");
    let text = |reason: &Value| reason["text"].as_str().unwrap_or_default().to_owned();
    let reason = reasons.iter().find(|reason| gone.iter().any(|gone| text(reason).starts_with(gone)));
    let reason = reason.unwrap_or_else(|| panic!("none is {gone:?}: {reasons:?}"));
    assert!(reason["record"].as_u64() <= epoch["detail"]["prepared_at_record"].as_u64(), "{epoch}");
    let hop = |way: &str, at: usize| route[way]["hops"][at].clone();
    assert!(hop("before", 0)["then"]["cost_us"].as_u64() > Some(0), "{route}");
    assert!(hop("after", 0)["now"]["terms"]["hop_us"].as_u64() > Some(0), "{route}");

    // Nothing in it that somebody could use.
    let bytes = std::fs::read(&file).expect("it is there");
    for (what, secret) in secrets {
        let is_there = bytes.windows(secret.len()).any(|window| window == secret);
        assert!(!is_there, "{what} is in the recording");
    }
    for (name, there) in [("r1", true), ("mallory", false)] {
        assert_eq!(bytes.windows(name.len()).any(|window| window == name.as_bytes()), there, "{name}");
    }

    // A core that does something else is told by the record from which on it does.
    let recording = Recording::new(&bytes).expect("a recording");
    let mut records: Vec<_> = recording.clone().map(|record| record.expect("legal")).collect();
    let outcome = records.iter().rposition(|record| matches!(record.body, Body::Outcome(_))).expect("one");
    if let Body::Outcome(outcome) = &mut records[outcome].body {
        outcome.fingerprint ^= 1;
    }
    let mut other = Vec::new();
    recording.header().encode(&mut other);
    for record in &records {
        record.encode(&mut other).expect("as long as it was");
    }
    let changed = overlay.path("changed.rec");
    std::fs::write(&changed, &other).expect("written");
    let (replay, ended_well) = self::replay(&changed);
    assert!(!ended_well && replay["verdict"]["differs_at_record"] == outcome, "{}", replay["verdict"]);
    overlay.stop();
}

/// Everything secret that the controller has seen, and keys.
fn secrets(overlay: &mut Overlay) -> Vec<(&'static str, Vec<u8>)> {
    let mut secrets = Vec::new();
    let token = std::fs::read_to_string(overlay.path("r1.token")).expect("it is there");
    let token: JoinToken = token.trim().parse().expect("a join token");
    secrets.push(("the secret of a join token", token.secret.0.to_vec()));
    secrets.push(("a join token", token.to_text().into_bytes()));
    let key = overlay.state().join("ca.key-encryption");
    secrets.push(("the key of keys", std::fs::read(key).expect("it is there")));
    secrets
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_was_killed_leaves_a_recording_up_to_then() {
    let mut overlay = Overlay::start_under(recorded_with_settings, &["r1", "r2"], 2, |command| command).await;
    // What operators decide is told to the core as well, and policies are written down each time.
    overlay.relayctl(&["cordon", "r2"]);
    overlay.relayctl(&["uncordon", "r2"]);
    overlay.relayctl(&["policy", "apply", deploy("policies.toml").to_str().expect("a path")]);
    overlay.kill_controller();
    let (replay, ended_well) = replay(&overlay.path(FILE));
    assert!(ended_well && replay["verdict"]["reproduced"] == true, "{}", replay["verdict"]);
    assert!(!of_kind(&replay, "epoch").is_empty());
    // Started again it begins anew, with what the store remembers, and keeps the former recording.
    overlay.start_controller_with(recorded_with_settings);
    overlay.until("it is whole again", Overlay::is_whole).await;
    overlay.stop_controller();
    let (again, ended_well) = self::replay(&overlay.path(FILE));
    assert!(ended_well && of_kind(&again, "start")[0]["detail"]["nodes"] == 2, "{}", again["verdict"]);
    assert_eq!(self::replay(&overlay.path("controller.rec.old")).0, replay);
    overlay.stop();
}

/// Where a stream enters, its transit dies: the link is suspected, and frames turn to the other way before the controller
/// says so.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_relay_did_when_its_neighbour_died_is_reproduced_from_its_recording() {
    let mut overlay = Overlay::start_of(&["r3", "r1", "r2", "r4"], 10, apart_and_recorded).await;
    let (sender, receiver) = (overlay.sfu("r1").await, overlay.sfu("r3").await);
    let mut subscription = receiver.subscribe(SubscribeOptions::room("standup")).await.expect("granted");
    let publication = sender.publish(camera()).await.expect("granted");
    let stream = Stream::flowing(publication, &mut subscription).await;
    let transit = path(&overlay)[1].as_str().expect("a name").to_owned();
    let killed = async { tokio::task::block_in_place(|| overlay.kill_relay(&transit)) };
    let (stream, subscription, passage) = stream.endure(subscription, killed).await;
    eprintln!("{transit} killed: {passage:?}");
    drop((stream, subscription));
    for sfu in [&sender, &receiver] {
        SfuLink::close(sfu).await;
    }
    let files = ["r1", "r3"].map(|relay| overlay.path(&format!("{relay}.rec")));
    let token = std::fs::read_to_string(overlay.path("r1.token")).expect("it is there");
    let token: JoinToken = token.trim().parse().expect("a join token");
    for relay in ["r1", "r3"] {
        tokio::task::block_in_place(|| overlay.stop_relay(relay));
    }

    for file in &files {
        let (replay, ended_well) = replay(file);
        let verdict = &replay["verdict"];
        assert!(ended_well && verdict["reproduced"] == true, "{}: {verdict}", file.display());
        assert_eq!(replay["source"], "relay");
    }
    let (replay, _) = replay(&files[0]);
    let suspected = of_kind(&replay, "link").into_iter().find(|happened| {
        happened["detail"]["peer"] == transit.as_str() && happened["detail"]["state"] == "suspect"
    });
    let suspected = suspected.expect("the link was suspected");
    assert_eq!(suspected["detail"]["cause"], "a timer", "silence is what a timer notices");
    let moved = of_kind(&replay, "reroute").into_iter().find(|happened| {
        happened["detail"]["counter"] == "destinations_moved" && happened["record"] == suspected["record"]
    });
    assert!(moved.is_some(), "destinations move at once: {:?}", of_kind(&replay, "reroute"));
    assert!(!of_kind(&replay, "totals").is_empty());

    let bytes = std::fs::read(&files[0]).expect("it is there");
    // Each packet of the stream is full of one byte behind its header.
    let is_media = |window: &[u8]| window[0] != 0 && window.iter().all(|byte| *byte == window[0]);
    assert!(!bytes.windows(16).any(is_media), "media is in the recording");
    for (what, secret) in [("a join secret", &token.secret.0[..]), ("a client's token", b"eyJ")] {
        let is_there = bytes.windows(secret.len()).any(|window| window == secret);
        assert!(!is_there, "{what} is in the recording");
    }
    let packets = of_kind(&replay, "totals")[0]["detail"]["media_published"].as_u64().expect("a count");
    eprintln!("{} bytes of recording, {packets} packets published", bytes.len());
    let names = |name: &str| bytes.windows(name.len()).any(|window| window == name.as_bytes());
    assert!(names("standup") && names("camera"));
    overlay.stop();
}
