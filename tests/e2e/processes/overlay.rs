//! A controller and three relays as processes on loopback.

use crate::{PATIENCE, soon};
use e2e::{Process, executable};
use serde_json::Value;
use sfu_link::{Config, ConnectError, Fingerprint, SfuLink};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Each relay with its example.
pub(crate) const RELAYS: [(&str, &str); 3] =
    [("r1", "relay-node.toml"), ("r2", "relay-node-2.toml"), ("r3", "relay-node-3.toml")];

/// A fourth one, where a test wants it.
const FOURTH: (&str, &str) = ("r4", "relay-node.toml");

/// A controller and the relays r1, r2 and r3, or others.
pub(crate) struct Overlay {
    directory: tempfile::TempDir,
    grpc: SocketAddr,
    admin: SocketAddr,
    /// The controller's state directory.
    state: PathBuf,
    controller: Option<Process>,
    relays: BTreeMap<&'static str, Process>,
    /// Relay ports, which stay the same when a relay is started again.
    ports: BTreeMap<&'static str, SocketAddr>,
    /// Directions of links that stand when it is whole.
    links: usize,
}

impl Overlay {
    pub(crate) async fn start() -> Overlay {
        Overlay::start_with(|relay| relay).await
    }

    /// The same with relays that `start` changes before they start.
    pub(crate) async fn start_with(change: fn(Command) -> Command) -> Overlay {
        let relays = RELAYS.map(|(name, _)| name);
        Overlay::start_of(&relays, relays.len() * (relays.len() - 1), change).await
    }

    /// The same with these relays, which join in this order, and so many directions of links between them.
    pub(crate) async fn start_of(
        relays: &[&'static str],
        links: usize,
        change: fn(Command) -> Command,
    ) -> Overlay {
        Overlay::start_under(|controller| controller, relays, links, change).await
    }

    /// The same with a controller that `change_controller` changes before it starts.
    pub(crate) async fn start_under(
        change_controller: fn(Command) -> Command,
        relays: &[&'static str],
        links: usize,
        change: fn(Command) -> Command,
    ) -> Overlay {
        let directory = tempfile::tempdir().expect("a directory");
        let state = directory.path().join("controller");
        let ports = relays.iter().map(|name| (*name, free_udp())).collect();
        let (grpc, admin) = (free(), free());
        let mut overlay = Overlay {
            directory,
            grpc,
            admin,
            state,
            controller: None,
            relays: BTreeMap::new(),
            ports,
            links,
        };
        overlay.start_controller_with(change_controller);
        for name in relays.iter().copied() {
            let token = overlay.relayctl(&["join-token", "create", "--name", name, "--region", "local"]);
            std::fs::write(overlay.path(&format!("{name}.token")), token).expect("written");
            overlay.start_relay(name, change);
        }
        overlay.until("every relay has a route to every other", Overlay::is_whole).await;
        overlay
    }

    /// Whether every relay has a route to every other.
    pub(crate) fn is_whole(&self) -> bool {
        let relays = self.ports.len();
        self.list(&["routes", "dump", "--plane", "0"], "routes").len() == relays * (relays - 1)
            && self.list(&["links"], "links").iter().filter(|link| link["usable"] == true).count()
                == self.links
    }

    /// Starts a relay that does not run.
    pub(crate) fn start_relay(&mut self, name: &'static str, change: fn(Command) -> Command) {
        let mut known = RELAYS.into_iter().chain([FOURTH]);
        let (_, example) = known.find(|(relay, _)| *relay == name).expect("one of four");
        let mut command = self.command("relay-node");
        command.arg("--config").arg(deploy(example)).args([
            "--name",
            name,
            "--listen",
            &self.ports[name].to_string(),
        ]);
        command.args(["--api-listen", "127.0.0.1:0", "--log-format", "json", "--log", "info"]);
        command.arg("--state-dir").arg(self.path(name));
        command.arg("--join-token-file").arg(self.path(&format!("{name}.token")));
        self.relays.insert(name, Process::start(change(command), "relay port open"));
    }

    /// A relay is gone without a word.
    pub(crate) fn kill_relay(&mut self, name: &str) {
        self.relays.remove(name).expect("it runs").kill();
    }

    /// SIGTERM for a relay; it ends well.
    pub(crate) fn stop_relay(&mut self, name: &str) {
        self.relays.remove(name).expect("it runs").terminate();
    }

    /// The controller's admin API.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// A counter or gauge of a relay, by its name and labels as they stand in /metrics; 0 if it is not there.
    pub(crate) fn metric(&self, relay: &str, series: &str) -> u64 {
        let metrics = e2e::get(self.api(relay), "/metrics");
        let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        value.unwrap_or(0)
    }

    /// The local API of a relay.
    pub(crate) fn api(&self, relay: &str) -> SocketAddr {
        let api = self.relays[relay].said()["api"].as_str().and_then(|api| api.parse().ok());
        api.expect("an address")
    }

    pub(crate) fn start_controller(&mut self) {
        self.start_controller_with(|command| command);
    }

    /// The same with a controller that `change` changes before it starts.
    pub(crate) fn start_controller_with(&mut self, change: fn(Command) -> Command) {
        let mut command = change(self.command("route-controller"));
        command.arg("--config").arg(deploy("route-controller.toml")).args(["--log-format", "json"]);
        command.args(["--listen", &self.grpc.to_string(), "--advertise", &self.grpc.to_string()]);
        command.args(["--admin-listen", &self.admin.to_string(), "--state-dir"]).arg(&self.state);
        self.controller = Some(Process::start(command, "the route controller runs"));
    }

    /// SIGTERM for the controller; it ends well.
    pub(crate) fn stop_controller(&mut self) {
        self.controller.take().expect("it runs").terminate();
    }

    /// Where the controller keeps its state; another place from its next start on.
    pub(crate) fn state(&mut self) -> &mut PathBuf {
        &mut self.state
    }

    pub(crate) fn kill_controller(&mut self) {
        self.controller.take().expect("it runs").kill();
    }

    /// SIGTERM for everyone; everyone ends well.
    pub(crate) fn stop(self) {
        for process in self.relays.into_values().chain(self.controller) {
            process.terminate();
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn command(&self, binary: &str) -> Command {
        let mut command = Command::new(executable(binary));
        command.current_dir(self.directory.path()).env_remove("RUST_LOG").env_remove("CASCADE_TOKEN_FILE");
        command.env("CASCADE_CONTROLLER", format!("http://{}", self.admin));
        command
    }

    pub(crate) fn relayctl(&self, arguments: &[&str]) -> String {
        let output = self.command("relayctl").args(arguments).output().expect("it runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "relayctl {}: {errors}", arguments.join(" "));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    pub(crate) fn list(&self, arguments: &[&str], name: &str) -> Vec<Value> {
        let answer = self.relayctl(&[arguments, &["-o", "json"]].concat());
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        answer[name].as_array().unwrap_or_else(|| panic!("no list of {name}: {answer}")).clone()
    }

    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&Overlay) -> bool) {
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
    pub(crate) async fn sfu(&self, relay: &str) -> SfuLink {
        self.sfu_of(&[relay]).await
    }

    /// An SFU that may use any of these relays.
    pub(crate) async fn sfu_of(&self, relays: &[&str]) -> SfuLink {
        self.sfu_for("demo", relays).await.expect("let in")
    }

    /// An SFU of a namespace, if it is let in.
    pub(crate) async fn sfu_for(&self, namespace: &str, relays: &[&str]) -> Result<SfuLink, ConnectError> {
        let arguments =
            ["token", "create", "--namespace", namespace, "--room", "*", "--publish", "--subscribe"];
        let answer = self.relayctl(&[&arguments[..], &["-o", "json"]].concat());
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let text = |key: &str| answer[key].as_str().expect("a text").to_owned();
        let fingerprint: Fingerprint = text("ca_sha256").parse().expect("a hash");
        let addresses = relays.iter().map(|relay| self.ports[*relay].to_string());
        soon(SfuLink::connect(Config::new(addresses, text("token"), fingerprint))).await
    }
}

/// A port that nobody listens on: given back a moment ago.
pub(crate) fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

pub(crate) fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file)
}

/// The same for UDP.
pub(crate) fn free_udp() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port")
}
