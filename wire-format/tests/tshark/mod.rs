//! Runs Wireshark's `tshark` with the dissector, and writes captures for it. Part of the tests of several crates.

use std::path::Path;
use std::process::{Command, Stdio};

/// What a packet is asked for: each field's values, in their order.
pub type Row = Vec<Vec<String>>;

/// Between several values of a field.
const BETWEEN: &str = "|";

/// Whether tshark is here. Where it is not, the test is skipped and says so; with CI=true it fails.
#[allow(clippy::disallowed_methods, reason = "a test may know whether CI runs it; the crate may not")]
pub fn has_tshark() -> bool {
    let version =
        Command::new("tshark").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = version.is_ok_and(|status| status.success());
    if !found {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "tshark is not installed (package tshark), and CI skips nothing"
        );
        eprintln!("SKIPPED: tshark is not installed (package tshark)");
    }
    found
}

/// These fields of every packet that the filter lets pass. Fails if the dissector has an error.
pub fn dissect(script: &Path, file: &Path, filter: &str, fields: &[&str]) -> Vec<Row> {
    let mut command = Command::new("tshark");
    command.arg("-X").arg(format!("lua_script:{}", script.display())).arg("-n").arg("-r").arg(file);
    command.args(["-Y", filter, "-T", "fields", "-E", "separator=/t", "-E"]);
    command.arg(format!("aggregator={BETWEEN}"));
    for field in fields.iter().chain(&["_ws.expert.message"]) {
        command.args(["-e", field]);
    }
    let output = command.output().expect("tshark starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("Lua"), "{said}");
    let out = String::from_utf8(output.stdout).expect("tshark prints UTF-8");
    let rows = out.lines().map(|line| {
        let mut row: Row = line
            .split('\t')
            .map(|values| values.split(BETWEEN).filter(|value| !value.is_empty()).map(plain).collect())
            .collect();
        let told = row.pop().expect("asked for as the last field");
        assert!(!told.iter().any(|message| message.contains("Lua Error")), "{line}");
        assert_eq!(row.len(), fields.len(), "{line}");
        row
    });
    rows.collect()
}

/// A value as all versions of tshark might have printed it.
fn plain(value: &str) -> String {
    match value {
        "True" => "1".to_owned(),
        "False" => "0".to_owned(),
        _ => value.to_owned(),
    }
}
