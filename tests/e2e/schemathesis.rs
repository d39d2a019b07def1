//! The HTTP APIs under requests that a machine draws from their own descriptions: legal ones, and ones that break a rule
//! each. Every answer must be one that the description has, and none a server's error.
//!
//! Needs the program `schemathesis` (PyPI). Where it is absent the test is skipped and says so; with CI=true it fails. A
//! longer run: `CASCADE_SCHEMATHESIS_EXAMPLES=1000 cargo test -p e2e --test schemathesis`.

use e2e::{Process, executable};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};

/// Requests drawn for each operation, in each phase.
const EXAMPLES: &str = "25";

#[test]
fn the_admin_api_obeys_its_description() {
    if !installed() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let (_controller, admin) = controller(&directory);
    obeys(&directory, &format!("http://{admin}"), &[]);
}

#[test]
fn the_local_api_of_a_relay_obeys_its_description() {
    if !installed() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let (_controller, admin) = controller(&directory);
    let (_relay, api) = relay(directory.path(), admin);
    // Events never end; `relay-node`'s own tests hold them to the description.
    obeys(&directory, &format!("http://{api}"), &["--exclude-path", "/v1/events"]);
}

fn controller(directory: &tempfile::TempDir) -> (Process, SocketAddr) {
    let (grpc, admin) = (free(), free());
    let mut command = Command::new(executable("route-controller"));
    command.args(["--listen", &grpc.to_string(), "--advertise", &grpc.to_string()]);
    command.args(["--admin-listen", &admin.to_string(), "--log-format", "json", "--state-dir"]);
    command.arg(directory.path().join("controller")).env_remove("RUST_LOG");
    (Process::start(command, "the route controller runs"), admin)
}

/// A relay that has joined.
fn relay(directory: &Path, admin: SocketAddr) -> (Process, SocketAddr) {
    let mut command = Command::new(executable("relayctl"));
    command.args(["--controller", &format!("http://{admin}"), "join-token", "create", "--name", "r1"]);
    let output =
        command.args(["--region", "local"]).env_remove("CASCADE_TOKEN_FILE").output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let token = directory.join("r1.token");
    std::fs::write(&token, output.stdout).expect("written");
    let (port, api) = (free(), free());
    let mut command = Command::new(executable("relay-node"));
    command.args(["--name", "r1", "--listen", &port.to_string(), "--api-listen", &api.to_string()]);
    command.args(["--log-format", "json", "--log", "info"]).env_remove("RUST_LOG");
    command.arg("--state-dir").arg(directory.join("r1")).arg("--join-token-file").arg(token);
    (Process::start(command, "relay port open"), api)
}

/// Draws requests, the same on every run.
fn obeys(directory: &tempfile::TempDir, api: &str, options: &[&str]) {
    let examples = std::env::var("CASCADE_SCHEMATHESIS_EXAMPLES").unwrap_or_else(|_| EXAMPLES.to_owned());
    let mut command = Command::new("schemathesis");
    command.args(["run", &format!("{api}/openapi.json"), "--no-color", "--generation-deterministic"]);
    command.args(["--max-examples", &examples, "--seed", "1", "--request-timeout", "10"]);
    command.args(options);
    // It leaves what it found where it runs.
    let output = command.current_dir(directory.path()).stdin(Stdio::null()).output().expect("it runs");
    let report = String::from_utf8_lossy(&output.stdout);
    let tail: Vec<_> = report.lines().rev().take(20).collect();
    assert!(output.status.success(), "{api}: {report}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(tail.iter().any(|line| line.contains("generated")), "requests were drawn: {report}");
}

fn installed() -> bool {
    let version = Command::new("schemathesis").arg("--version").stdout(Stdio::null()).status();
    if version.is_ok_and(|status| status.success()) {
        return true;
    }
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "schemathesis is not installed (`pip install schemathesis`), and CI skips nothing"
    );
    eprintln!("skipped: schemathesis is not installed");
    false
}

/// A port that nobody listens on: given back a moment ago.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}
