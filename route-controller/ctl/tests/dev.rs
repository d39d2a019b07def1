//! `relayctl dev` as scripts see it: exit status, and what goes where.

use serde_json::Value;
use std::process::{Command, Output, Stdio};

fn dev(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relayctl"));
    command.arg("dev").args(arguments.split_whitespace()).env_remove("RUST_LOG");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The keys of an object, in the order in which they were written.
fn keys(json: &str) -> Vec<String> {
    let value: Value = serde_json::from_str(json).expect("JSON");
    let mut keys: Vec<String> = value.as_object().expect("an object").keys().cloned().collect();
    keys.sort_by_key(|key| json.find(&format!("\"{key}\":")));
    keys
}

#[test]
fn json_is_one_line_on_stdout() {
    let Output { status, stdout, stderr } = dev("--for 1s --relays 3 --json").output().expect("it runs");
    let (stdout, stderr) = (text(&stdout), text(&stderr));
    assert!(status.success(), "{stdout}{stderr}");
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    let expected = [
        "relays",
        "path",
        "streams",
        "sent",
        "delivered",
        "lost",
        "duplicated",
        "reordered",
        "corrupted",
        "latency_us",
        "gap_ms",
        "residual_loss",
        "repair",
        "control",
    ];
    assert_eq!(keys(&stdout), expected);
    let summary: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(summary["path"], serde_json::json!(["r1", "r2", "r3"]));
    assert_eq!((&summary["relays"], &summary["streams"]), (&3.into(), &2.into()));
    assert_eq!(summary["delivered"], summary["sent"]);
    assert!(stderr.contains("r1 > r2 > r3"), "people read stderr: {stderr}");
}

#[test]
fn without_json_people_read_stdout() {
    let Output { status, stdout, stderr } = dev("--for 1s --relays 2").output().expect("it runs");
    let (stdout, stderr) = (text(&stdout), text(&stderr));
    assert!(status.success() && stderr.is_empty(), "{stdout}{stderr}");
    for part in [
        "routes dump",
        "/v1/links",
        "ffmpeg -re",
        "gst-launch-1.0 udpsrc",
        "path       r1 > r2\n",
        "0 lost",
        "\nok\n",
    ] {
        assert!(stdout.contains(part), "no {part} in\n{stdout}");
    }
    assert!(!stdout.contains('\x1b'), "nothing is redrawn where there is no terminal");
}

#[test]
fn arguments_that_make_no_sense_have_status_2() {
    for arguments in ["--relays 0", "--link r1-r9:down", "--kill-relay r7@1s", "--for never", "--lonk x"] {
        let Output { status, stdout, stderr } = dev(arguments).output().expect("it runs");
        assert_eq!(status.code(), Some(2), "{arguments}: {}", text(&stderr));
        assert!(stdout.is_empty() && !stderr.is_empty(), "{arguments}");
    }
}

#[test]
fn media_that_does_not_come_back_has_status_1() {
    let outcome =
        dev("--relays 3 --topology line --for 3s --kill-relay transit@1s --json").output().expect("it runs");
    let (stdout, stderr) = (text(&outcome.stdout), text(&outcome.stderr));
    assert_eq!(outcome.status.code(), Some(1), "{stdout}{stderr}");
    let summary: Value = serde_json::from_str(&stdout).expect("JSON");
    assert!(summary["gap_ms"].as_u64() >= Some(1_500), "silence counts up to the end: {stdout}");
    assert!(summary["lost"].as_u64() > Some(0), "{stdout}");
}

#[test]
fn an_interrupt_ends_it_with_the_summary() {
    use std::io::{BufRead as _, BufReader, Read as _};
    let mut child = dev("--relays 2").stdout(Stdio::piped()).spawn().expect("it runs");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let mut seen = String::new();
    // The first line about packets: media flows.
    while !seen.contains(" kbit/s ") {
        assert_ne!(stdout.read_line(&mut seen).expect("readable"), 0, "ended early: {seen}");
    }
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill(1)");
    assert!(interrupted.success());
    stdout.read_to_string(&mut seen).expect("readable");
    assert!(child.wait().expect("it ended").success(), "{seen}");
    assert!(seen.contains("0 lost") && seen.ends_with("ok\n"), "{seen}");
}

#[test]
fn a_stream_is_traced_and_drawn_while_it_flows_and_its_past_is_kept() {
    use std::io::{BufRead as _, BufReader, Read as _};
    let mut child = dev("--relays 4").stdout(Stdio::piped()).spawn().expect("it runs");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let mut seen = String::new();
    while !seen.contains(" kbit/s ") {
        assert_ne!(stdout.read_line(&mut seen).expect("readable"), 0, "ended early: {seen}");
    }
    let url =
        seen.split_whitespace().find(|word| word.starts_with("http://")).expect("the controller's address");
    let ask = |arguments: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_relayctl"));
        let Output { status, stdout, stderr } =
            command.args(["--controller", url]).args(arguments.split_whitespace()).output().expect("it runs");
        (status.success(), text(&stdout), text(&stderr))
    };
    let (ok, out, err) = ask("trace demo/dev/alice --for 500ms -o json");
    assert!(ok, "{err}");
    let traced: Value = serde_json::from_str(&out).expect("JSON");
    let streams = traced["streams"].as_array().expect("a list");
    assert_eq!(streams.len(), 2, "video and audio: {out}");
    for stream in streams {
        let hops: Vec<_> = stream["hops"].as_array().expect("a list").iter().collect();
        let names: Vec<_> = hops.iter().map(|hop| (hop["from"].as_str(), hop["to"].as_str())).collect();
        assert_eq!(names.first(), Some(&(Some("sfu-a"), Some("r1"))), "{out}");
        assert!(names.contains(&(Some("r4"), Some("sfu-b"))) && names.len() >= 4, "{out}");
        for hop in hops.iter().filter(|hop| hop["to"] == "r4" || hop["to"] == "r1") {
            let came = &hop["came"];
            assert!(came["packets"].as_u64() >= Some(5), "{hop}");
            assert!(came["one_way_us"].is_u64(), "{hop}");
        }
        // Built-in delays: from r1 to r2 takes longer than nothing, and not for ever.
        let ways = stream["ways"].as_array().expect("a list");
        let one_way_us: Vec<_> = ways.iter().filter_map(|way| way["one_way_us"].as_u64()).collect();
        assert!(one_way_us.iter().any(|us| (5_000..500_000).contains(us)), "{out}");
        assert!(stream["relays"].as_array().expect("a list").iter().all(|relay| relay["answer"] == "traced"));
    }
    let (ok, out, _) = ask("trace demo/dev/alice/camera --for 200ms -o svg");
    assert!(ok && out.starts_with("<svg ") && out.contains(">sfu-b</text>"), "{out}");
    let (ok, _, err) = ask("trace demo/dev/alise");
    assert!(!ok && err.contains("nobody publishes") && err.contains("demo/dev/alice"), "{err}");

    // The first moments are kept within a second or two of the first look at a stamped epoch.
    let past = |from: &str, to: &str, at: &str| ask(&format!("routes explain {from} {to} --at {at} -o json"));
    let mut kept = past("r1", "r4", "-1s");
    for _ in 0..100 {
        if kept.0 && serde_json::from_str::<Value>(&kept.1).expect("JSON")["chosen"].is_object() {
            break;
        }
        let young = ["the history has nothing of", "no relay was called"];
        assert!(kept.0 || young.iter().any(|word| kept.2.contains(word)), "{}", kept.2);
        kept = past("r1", "r4", "-1s");
    }
    let row: Value = serde_json::from_str(&kept.1).expect("JSON");
    let path = row["chosen"]["path"].as_array().expect("a list");
    assert_eq!((&path[0], &path[path.len() - 1]), (&Value::from("r1"), &Value::from("r4")), "{}", kept.1);
    assert!(row["as_of_unix_s"].is_f64() && row["chosen"]["hops"][0]["terms"].is_object(), "{}", kept.1);
    let (ok, out, err) = ask("links --at -1s");
    assert!(ok && out.lines().count() > 6, "{out}{err}");
    let (ok, _, err) = past("r1", "r4", "2020-01-01T00:00:00Z");
    assert!(!ok && err.contains("it begins at"), "{err}");
    let (ok, _, err) = past("r1", "r9", "-1s");
    assert!(!ok && err.contains("there were r1, r2, r3, r4"), "{err}");

    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill(1)");
    assert!(interrupted.success());
    stdout.read_to_string(&mut seen).expect("readable");
    assert!(child.wait().expect("it ended").success(), "{seen}");
}

#[test]
fn packets_beyond_their_budget_are_residual_loss() {
    let run = |budget: &str| -> Value {
        let arguments =
            format!("--relays 2 --topology line --for 2s --link r1-r2:jitter=60ms --budget {budget} --json");
        let Output { status: _, stdout, stderr } = dev(&arguments).output().expect("it runs");
        serde_json::from_str(&text(&stdout)).unwrap_or_else(|error| panic!("{error}: {}", text(&stderr)))
    };
    let (tight, wide) = (run("video=1ms,audio=1s"), run("1s"));
    assert!(tight["residual_loss"].as_f64() > Some(0.1), "{tight}");
    assert_eq!(wide["residual_loss"], 0.0, "{wide}");
    let repair = wide["repair"].as_object().expect("an object");
    let keys: Vec<_> = repair.keys().map(String::as_str).collect();
    assert_eq!(keys, ["overhead_pct", "parity", "recovered", "recovered_late_us", "retransmitted"]);
}

#[test]
fn what_a_lossy_link_loses_is_restored_and_counted() {
    let arguments =
        "--relays 2 --topology line --for 4s --link r1-r2:delay=10ms,loss=5% --budget 500ms --json";
    let Output { status, stdout, stderr } = dev(arguments).output().expect("it runs");
    let (stdout, stderr) = (text(&stdout), text(&stderr));
    assert!(status.success(), "{stdout}{stderr}");
    let summary: Value = serde_json::from_str(&stdout).expect("JSON");
    let repair = &summary["repair"];
    let count = |key: &str| repair[key].as_u64().expect("a count");
    // One in twenty of a thousand packets and more, none of which has to stay lost.
    assert!(count("recovered") > 20, "{stdout}");
    assert!(count("retransmitted") + count("parity") >= count("recovered"), "{stdout}");
    assert!(summary["residual_loss"].as_f64() < Some(0.01), "{stdout}");
    let late = &repair["recovered_late_us"];
    assert!(late["p50"].as_u64() > Some(10_000) && late["max"].as_u64() >= late["p50"].as_u64(), "{stdout}");
    let overhead = repair["overhead_pct"].as_f64().expect("a number");
    assert!(overhead > 3.0 && overhead < 30.0, "{stdout}");
}
