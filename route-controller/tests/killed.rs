//! What the process has acknowledged outlives it, however it ends.

use control_proto::JoinToken;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

/// The process with its log.
struct Process {
    child: Child,
    log: BufReader<ChildStderr>,
    admin: String,
}

impl Process {
    fn start(state_dir: &Path) -> Process {
        let mut child = Command::new(env!("CARGO_BIN_EXE_route-controller"))
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log-format", "json"])
            .arg("--state-dir")
            .arg(state_dir)
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        let mut line = String::new();
        let admin = loop {
            line.clear();
            assert_ne!(log.read_line(&mut line).expect("a log"), 0, "it ended before it ran");
            let entry: serde_json::Value = serde_json::from_str(&line).expect("JSON lines");
            if let Some(admin) = entry["admin"].as_str() {
                break admin.to_owned();
            }
        };
        Process { child, log, admin }
    }

    fn post(&self, path: &str, body: &str) -> String {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(&self.admin).expect("it listens");
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        let rest = format!("Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(format!("{head}{rest}").as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).expect("a body")
    }

    fn join_token(&self, name: &str) -> JoinToken {
        let body = self.post("/v1/join-tokens", &format!("{{\"name\":{name:?}}}"));
        let answer: route_controller::JoinTokenAnswer = serde_json::from_str(&body).expect("an answer");
        answer.token.parse().expect("a join token")
    }

    /// SIGKILL, as the kernel does when memory runs out.
    fn kill(mut self) {
        self.child.kill().expect("it ran");
        self.child.wait().expect("it ended");
    }

    /// SIGTERM, as systemd does. Returns the exit status and the rest of the log.
    fn terminate(mut self) -> (std::process::ExitStatus, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill(1)").success());
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.log, &mut rest).expect("a log");
        (self.child.wait().expect("it ended"), rest)
    }
}

#[test]
fn the_ca_and_join_tokens_outlive_a_kill() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let process = Process::start(folder.path());
    let first = process.join_token("fra-1");
    process.kill();
    let process = Process::start(folder.path());
    let second = process.join_token("sin-1");
    assert_eq!(second.ca_sha256, first.ca_sha256);
    assert_ne!(second.secret, first.secret);
    let (status, log) = process.terminate();
    assert!(status.success(), "{log}");
    assert!(log.contains("stopping on SIGTERM"), "{log}");
}

#[test]
fn without_its_key_file_the_store_is_not_used() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    Process::start(folder.path()).kill();
    std::fs::remove_file(folder.path().join("ca.key-encryption")).expect("it was made");
    let output = Command::new(env!("CARGO_BIN_EXE_route-controller"))
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--state-dir"])
        .arg(folder.path())
        .output()
        .expect("it runs");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("restore it from the backup"), "{log}");
    assert!(!folder.path().join("ca.key-encryption").exists(), "no new key is made for an old store");
}
