//! `relayctl bench` as scripts see it.

use serde_json::Value;
use std::process::{Command, Output};

fn bench(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relayctl"));
    command.args(["bench", "loss"]).args(arguments.split_whitespace()).env_remove("CASCADE_DATA");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Programs of others may be absent on somebody's machine, and may not where changes are checked.
fn has(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed =
        |program: &&str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    let all = programs.iter().all(installed);
    assert!(
        all || std::env::var("CI").as_deref() != Ok("true"),
        "CI=true and one of {programs:?} is not installed"
    );
    all
}

#[test]
fn a_link_without_loss_loses_nothing_in_any_system() {
    if !has(&["srt-live-transmit", "ristsender", "ristreceiver"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("new");
    let mut command = bench("--row no-loss --for 2s --json --out");
    let Output { status, stdout, stderr } = command.arg(&out).output().expect("it runs");
    let (stdout, stderr) = (text(&stdout), text(&stderr));
    assert!(status.success(), "{stdout}{stderr}");
    let report: Value = serde_json::from_str(stdout.lines().last().expect("a line")).expect("JSON");
    let measured = report["measured"].as_array().expect("a list");
    assert_eq!(measured.len(), 3, "{stdout}");
    for run in measured {
        // Two seconds and what follows of 280 packets a second.
        assert!(run["sent"].as_u64() > Some(400), "{run}");
        // A busy machine may keep one packet or another for longer than 200 ms.
        assert!(run["residual_pct"].as_f64() < Some(1.0), "{run}");
        let overhead = run["overhead_pct"].as_f64().expect("a number");
        assert!(overhead > 0.2 && overhead < 5.0, "acknowledgements, no more: {run}");
    }
    let read = |file: &str| std::fs::read_to_string(out.join(file)).expect(file);
    assert!(stdout.starts_with(&read("loss.md")) && read("loss.md").contains("| no-loss | 200 ms |"));
    assert!(read("loss.svg").contains(">RIST<"));
    assert_eq!(serde_json::from_str::<Value>(&read("loss.json")).expect("JSON"), report);
}

#[test]
fn what_is_missing_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    for (arguments, words) in [
        (
            "--row no-loss --systems srt",
            "install the package srt-tools (Debian), or leave it out with --systems",
        ),
        ("--row no-loss --systems rist", "ristsender is not installed: install the package rist-tools"),
        ("--row nowhere --systems cascade", "there are rtt20-trace2, rtt40-trace5"),
        ("--row rtt20-trace2 --systems cascade", "set CASCADE_DATA to the folder of measured data"),
        ("--systems quic", "invalid value 'quic'"),
    ] {
        // Nothing is installed there.
        let output = bench(arguments).env("PATH", folder.path()).output().expect("it runs");
        let complaint = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {complaint}");
        assert!(complaint.contains(words), "{arguments}: {complaint}");
    }
}

#[test]
fn routes_are_measured_beside_those_of_petgraph() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_relayctl"));
    command.args("bench routes --sizes 12,40 --links 8 --changes 3 --floyd-up-to 12 --json --out".split(' '));
    let Output { status, stdout, stderr } = command.arg(folder.path()).output().expect("it runs");
    let (stdout, stderr) = (text(&stdout), text(&stderr));
    // Where both do not find the same distances, it fails.
    assert!(status.success(), "{stdout}{stderr}");
    let report: Value = serde_json::from_str(stdout.lines().last().expect("a line")).expect("JSON");
    let [small, large] = [&report["overlays"][0], &report["overlays"][1]];
    assert_eq!((small["links"].as_u64(), large["links"].as_u64()), (Some(96), Some(320)));
    assert!(small["floyd_warshall_s"].is_f64() && large["floyd_warshall_s"].is_null());
    assert!(large["full_s"].as_f64() > Some(0.0) && large["dijkstra_s"].is_f64());
    assert_eq!(large["updates"].as_array().map(Vec::len), Some(3));
    let read = |file: &str| std::fs::read_to_string(folder.path().join(file)).expect(file);
    assert!(stdout.starts_with(&read("routes.md")) && read("routes.md").contains("| not run |"));
    assert!(read("routes.svg").contains(">three planes, all<"));
}
