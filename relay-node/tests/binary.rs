//! The process as its supervisor sees it: arguments, exit status, signals.

use std::process::{Command, Output, Stdio};

fn relay_node(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_relay-node")).args(arguments).output().expect("it runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn help_has_examples_and_every_setting() {
    let output = relay_node(&["--help"]);
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout);
    for part in
        ["Examples:", "relayctl join-token create", "--neighbour-address", "--log-format", "--api-listen"]
    {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    let version = relay_node(&["--version"]);
    assert_eq!(
        String::from_utf8_lossy(&version.stdout),
        format!("relay-node {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn wrong_settings_are_told_on_stderr_with_status_2() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("relay.toml");
    std::fs::write(&file, "adverise = []").expect("written");
    let output = relay_node(&["--config", file.to_str().expect("plain")]);
    assert_eq!(output.status.code(), Some(2));
    let expected =
        format!("relay-node: {}: unknown key `adverise`; did you mean `advertise`?\n", file.display());
    assert_eq!(stderr(&output), expected);
    assert!(output.stdout.is_empty());

    let output = relay_node(&["--listen", "127.0.0.1:0", "--log", "nonsense=loud"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("log = \"nonsense=loud\""), "{}", stderr(&output));
}

#[test]
fn what_cannot_start_ends_with_status_1() {
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path().join("r1");
    let output = relay_node(&[
        "--listen",
        "127.0.0.1:0",
        "--api-listen",
        "127.0.0.1:0",
        "--state-dir",
        state.to_str().expect("plain"),
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("relay-node: this relay has no certificate"), "{}", stderr(&output));
}

#[test]
fn sigterm_ends_it_with_status_0_even_while_it_waits_to_join() {
    let directory = tempfile::tempdir().expect("a directory");
    let token = control_proto::JoinToken {
        // Nobody listens at the discard port of loopback.
        controllers: vec!["127.0.0.1:9".to_owned()],
        ca_sha256: [7; 32],
        name: "r1".to_owned(),
        region: None,
        secret: control_proto::JoinSecret([9; 32]),
    };
    let file = directory.path().join("r1.token");
    std::fs::write(&file, token.to_text()).expect("written");
    let mut relay = Command::new(env!("CARGO_BIN_EXE_relay-node"))
        .args(["--listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0", "--log-format", "json"])
        .arg("--state-dir")
        .arg(directory.path().join("r1"))
        .arg("--join-token-file")
        .arg(&file)
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    // Its first log line says that it is under way: signals are caught by then.
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(relay.stderr.take().expect("piped")));
    let line = lines.next().expect("a line").expect("text");
    let logged: serde_json::Value =
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert_eq!((&logged["level"], &logged["controller"]), (&"WARN".into(), &"127.0.0.1:9".into()), "{line}");
    let killed = Command::new("kill").args(["-TERM", &relay.id().to_string()]).status().expect("kill runs");
    assert!(killed.success());
    assert_eq!(relay.wait().expect("it ends").code(), Some(0));
}
