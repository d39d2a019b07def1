//! The binaries as separate processes, from the example configurations in deploy/, with `relayctl` beside them: what the
//! README shows. Only ports and directories differ from the examples, so that tests can run beside each other.

use serde_json::Value;
use sfu_link::{
    Config, Fingerprint, MediaKind, Publication, PublishOptions, SfuLink, SubscribeOptions, Subscription,
};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Everything here happens on loopback; whatever takes longer is broken.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two packets: 500 a second.
const PACE: Duration = Duration::from_millis(2);

#[tokio::test(flavor = "multi_thread")]
async fn streams_cross_an_overlay_of_separate_processes() {
    let overlay = Overlay::start().await;
    let (sender, receiver) = (overlay.sfu("r1").await, overlay.sfu("r3").await);
    let mut subscription = receiver.subscribe(SubscribeOptions::room("standup")).await.expect("granted");
    let publication = sender.publish(camera()).await.expect("granted");
    let stream = Stream::flowing(publication, &mut subscription).await;

    let streams = overlay.list(&["streams"], "streams");
    assert_eq!(streams.len(), 1);
    assert_eq!((&streams[0]["ingress"], &streams[0]["stream"]), (&"r1".into(), &"camera".into()));
    assert_eq!(streams[0]["destinations"], serde_json::json!(["r3"]));
    let nodes = overlay.list(&["nodes"], "nodes");
    let states: Vec<&str> = nodes.iter().filter_map(|node| node["state"].as_str()).collect();
    assert_eq!(states, ["connected"; 3]);
    assert_eq!(overlay.list(&["links"], "links").len(), 6);
    let routes = overlay.list(&["routes", "dump", "--node", "r1"], "routes");
    let mut destinations: Vec<&str> = routes.iter().filter_map(|row| row["destination"].as_str()).collect();
    destinations.sort_unstable();
    assert_eq!(destinations, ["r2", "r3"]);

    stream.run(&mut subscription, 500, async {}).await;
    sender.close().await;
    receiver.close().await;
    overlay.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_killed_and_restarted_costs_no_packet() {
    let mut overlay = Overlay::start().await;
    let (sender, receiver) = (overlay.sfu("r1").await, overlay.sfu("r3").await);
    let mut subscription = receiver.subscribe(SubscribeOptions::room("standup")).await.expect("granted");
    let publication = sender.publish(camera()).await.expect("granted");
    let stream = Stream::flowing(publication, &mut subscription).await;

    // Two seconds without a controller, then four with the new one: all of its grace periods and first tables.
    let restart = async {
        overlay.kill_controller();
        tokio::time::sleep(Duration::from_secs(2)).await;
        overlay.start_controller();
        let whole = |overlay: &Overlay| {
            overlay.list(&["nodes"], "nodes").iter().filter(|node| node["state"] == "connected").count() == 3
        };
        overlay.until("all relays are back", whole).await;
    };
    let stream = stream.run(&mut subscription, 3000, restart).await;

    // What comes new finds the overlay whole.
    let late = overlay.sfu("r2").await;
    let mut other = late.subscribe(SubscribeOptions::room("standup").user("alice")).await.expect("granted");
    let stream = Stream::flowing(stream.publication, &mut other).await;
    stream.run(&mut other, 200, async {}).await;
    for sfu in [sender, receiver, late] {
        sfu.close().await;
    }
    overlay.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_token_lets_one_process_in() {
    let overlay = Overlay::start().await;
    let stolen = overlay.path("r1.token");
    let mut thief = overlay.command("relay-node");
    thief.arg("--config").arg(deploy("relay-node.toml")).arg("--join-token-file").arg(stolen);
    thief.args(["--listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0"]);
    thief.arg("--state-dir").arg(overlay.path("thief"));
    let output =
        tokio::task::spawn_blocking(move || thief.output()).await.expect("no panic").expect("it runs");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && log.contains("unknown, used or expired"), "{log}");
    overlay.stop();
}

fn camera() -> PublishOptions {
    PublishOptions::new("standup", "alice", "camera", MediaKind::Video)
}

/// A publication whose packets arrive.
struct Stream {
    publication: Publication,
    sent: u32,
}

impl Stream {
    /// Sends until the first packet arrives, then waits for all that are still under way.
    async fn flowing(publication: Publication, subscription: &mut Subscription) -> Stream {
        let mut stream = Stream { publication, sent: 0 };
        let mut pace = tokio::time::interval(PACE);
        let mut last = loop {
            tokio::select! {
                _ = pace.tick() => stream.send(),
                packet = subscription.recv() => break packet.expect("it stands").bytes,
            }
            assert!(stream.sent < 5_000, "nothing arrives");
        };
        while number(&last) + 1 != stream.sent {
            last = soon(subscription.recv()).await.expect("it stands").bytes;
        }
        stream
    }

    fn send(&mut self) {
        self.publication.send(&packet(self.sent)).expect("the link stands");
        self.sent += 1;
    }

    /// Sends `packets` while `disturbance` runs, and checks that every one arrives once, whole and in order.
    async fn run(
        mut self,
        subscription: &mut Subscription,
        packets: u32,
        disturbance: impl Future<Output = ()>,
    ) -> Stream {
        let first = self.sent;
        let sending = async {
            let mut pace = tokio::time::interval(PACE);
            for _ in 0..packets {
                pace.tick().await;
                self.send();
            }
        };
        let receiving = async {
            for expected in first..first + packets {
                let received = soon(subscription.recv()).await.expect("it stands");
                assert_eq!(number(&received.bytes), expected, "lost, repeated or out of order");
                assert_eq!(received.bytes, packet(expected), "damaged");
            }
        };
        tokio::join!(sending, receiving, disturbance);
        self
    }
}

/// RTP with its number inside, of a length that varies with it.
fn packet(number: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend_from_slice(&(number as u16).to_be_bytes());
    packet.extend_from_slice(&(number * 180).to_be_bytes());
    packet.extend_from_slice(&0x0CA5_CADE_u32.to_be_bytes());
    packet.extend_from_slice(&number.to_be_bytes());
    packet.resize(200 + (number as usize * 37) % 900, number as u8);
    packet
}

fn number(packet: &[u8]) -> u32 {
    u32::from_be_bytes(packet[12..16].try_into().expect("four bytes"))
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

/// A controller and the relays r1, r2 and r3.
struct Overlay {
    directory: tempfile::TempDir,
    grpc: SocketAddr,
    admin: SocketAddr,
    controller: Option<Process>,
    relays: BTreeMap<&'static str, Process>,
}

impl Overlay {
    async fn start() -> Overlay {
        let directory = tempfile::tempdir().expect("a directory");
        let mut overlay =
            Overlay { directory, grpc: free(), admin: free(), controller: None, relays: BTreeMap::new() };
        overlay.start_controller();
        for (name, example) in
            [("r1", "relay-node.toml"), ("r2", "relay-node-2.toml"), ("r3", "relay-node-3.toml")]
        {
            let token = overlay.relayctl(&["join-token", "create", "--name", name, "--region", "local"]);
            std::fs::write(overlay.path(&format!("{name}.token")), token).expect("written");
            let mut command = overlay.command("relay-node");
            command.arg("--config").arg(deploy(example)).args(["--listen", "127.0.0.1:0"]);
            command.args(["--api-listen", "127.0.0.1:0", "--log-format", "json", "--log", "info"]);
            command.arg("--state-dir").arg(overlay.path(name));
            command.arg("--join-token-file").arg(overlay.path(&format!("{name}.token")));
            overlay.relays.insert(name, Process::start(command, "relay port open"));
        }
        let whole = |overlay: &Overlay| overlay.list(&["routes", "dump"], "routes").len() == 6;
        overlay.until("every relay has a route to every other", whole).await;
        overlay
    }

    fn start_controller(&mut self) {
        let mut command = self.command("route-controller");
        command.arg("--config").arg(deploy("route-controller.toml")).args(["--log-format", "json"]);
        command.args(["--listen", &self.grpc.to_string(), "--advertise", &self.grpc.to_string()]);
        command.args(["--admin-listen", &self.admin.to_string(), "--state-dir"]).arg(self.path("controller"));
        self.controller = Some(Process::start(command, "the route controller runs"));
    }

    fn kill_controller(&mut self) {
        let mut controller = self.controller.take().expect("it runs");
        controller.child.kill().expect("it ran");
        controller.child.wait().expect("it ended");
    }

    /// SIGTERM for everyone; everyone ends well.
    fn stop(self) {
        for process in self.relays.into_values().chain(self.controller) {
            process.terminate();
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, binary: &str) -> Command {
        let mut command = Command::new(executable(binary));
        command.current_dir(self.directory.path()).env_remove("RUST_LOG").env_remove("CASCADE_TOKEN_FILE");
        command.env("CASCADE_CONTROLLER", format!("http://{}", self.admin));
        command
    }

    fn relayctl(&self, arguments: &[&str]) -> String {
        let output = self.command("relayctl").args(arguments).output().expect("it runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "relayctl {}: {errors}", arguments.join(" "));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn list(&self, arguments: &[&str], name: &str) -> Vec<Value> {
        let answer = self.relayctl(&[arguments, &["-o", "json"]].concat());
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        answer[name].as_array().unwrap_or_else(|| panic!("no list of {name}: {answer}")).clone()
    }

    async fn until(&self, what: &str, wanted: impl Fn(&Overlay) -> bool) {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        let asking = async {
            while !tokio::task::block_in_place(|| wanted(self)) {
                ticks.tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, asking)
            .await
            .unwrap_or_else(|_| panic!("waited in vain until {what}"));
    }

    /// An SFU linked to a relay, with a token from `relayctl`.
    async fn sfu(&self, relay: &str) -> SfuLink {
        let arguments = ["token", "create", "--namespace", "demo", "--room", "*", "--publish", "--subscribe"];
        let answer = self.relayctl(&[&arguments[..], &["-o", "json"]].concat());
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let text = |key: &str| answer[key].as_str().expect("a text").to_owned();
        let fingerprint: Fingerprint = text("ca_sha256").parse().expect("a hash");
        let address = self.relays[relay].said["address"].as_str().expect("an address").to_owned();
        soon(SfuLink::connect(Config::new([address], text("token"), fingerprint))).await.expect("let in")
    }
}

/// A running binary.
struct Process {
    child: Child,
    /// The log line that said it was ready.
    said: Value,
}

impl Process {
    /// Starts it and waits until it logs `ready`.
    fn start(mut command: Command, ready: &str) -> Process {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it runs");
        let log = BufReader::new(child.stderr.take().expect("piped"));
        let (sender, lines) = mpsc::channel();
        // Reads on until the process ends, so that it never waits for its log to be read; the test's output has it all.
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                eprintln!("{line}");
                let _ = sender.send(line);
            }
        });
        let mut seen = Vec::new();
        let said = loop {
            let line =
                lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("not ready: {}", seen.join("\n")));
            match serde_json::from_str::<Value>(&line) {
                Ok(entry) if entry["message"] == ready => break entry,
                Ok(_) | Err(_) => seen.push(line),
            }
        };
        Process { child, said }
    }

    fn terminate(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill(1)").success());
        let status = self.child.wait().expect("it ended");
        assert!(status.success(), "{status} after {}", self.said);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A test that failed leaves nothing behind. Fails if it has ended, which is well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens on: given back a moment ago.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file)
}

/// A binary of this workspace. A test run of the whole workspace has built it; one of this package alone may not have.
fn executable(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    let folder = test.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST");
    let file = folder.join(name);
    if !file.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "-p", name, "--bin", name]).current_dir(env!("CARGO_MANIFEST_DIR"));
        if folder.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo runs").success(), "{name} does not build");
    }
    file
}
