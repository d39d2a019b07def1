//! Three controllers that share an etcd, and three relays, as processes on loopback.

use crate::overlay::{RELAYS, deploy, free, free_udp};
use crate::{PATIENCE, soon};
use e2e::{Cable, EtcdServer, Process, executable};
use serde_json::Value;
use sfu_link::{Config, Fingerprint, SfuLink};
use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

const CONTROLLERS: usize = 3;

/// Everything.
pub(crate) struct Controllers {
    directory: tempfile::TempDir,
    pub(crate) etcd: EtcdServer,
    places: Vec<Place>,
    relays: BTreeMap<&'static str, Process>,
    ports: BTreeMap<&'static str, SocketAddr>,
}

/// One controller, whether it runs or not.
struct Place {
    grpc: SocketAddr,
    admin: SocketAddr,
    cable: Cable,
    process: Option<Process>,
}

/// What a controller says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// Of this term.
    Leader(u64),
    Follower,
    /// It does not answer.
    Silent,
}

impl Controllers {
    pub(crate) async fn start() -> Controllers {
        let directory = tempfile::tempdir().expect("a directory");
        let etcd = EtcdServer::start(&directory.path().join("etcd"));
        let key = directory.path().join("key");
        std::fs::write(&key, [7; 32]).expect("written");
        std::fs::set_permissions(key, Permissions::from_mode(0o600)).expect("it is ours");
        let place =
            |_| Place { grpc: free(), admin: free(), cable: Cable::to(etcd.address()), process: None };
        let places = (0..CONTROLLERS).map(place).collect();
        let ports = RELAYS.into_iter().map(|(name, _)| (name, free_udp())).collect();
        let mut all = Controllers { directory, etcd, places, relays: BTreeMap::new(), ports };
        for at in 0..CONTROLLERS {
            all.start_controller(at);
        }
        all.until("one of them leads", |all| all.leader().is_some()).await;
        let (leader, _) = all.leader().expect("just now");
        for (name, example) in RELAYS {
            let token = all.relayctl(leader, &["join-token", "create", "--name", name, "--region", "local"]);
            let token_file = all.directory.path().join(format!("{name}.token"));
            std::fs::write(&token_file, token.expect("made")).expect("written");
            let mut command = all.command("relay-node");
            command.arg("--config").arg(deploy(example)).args(["--listen", &all.ports[name].to_string()]);
            command.args(["--api-listen", "127.0.0.1:0", "--log-format", "json", "--log", "info"]);
            command.arg("--state-dir").arg(all.directory.path().join(name));
            command.arg("--join-token-file").arg(token_file);
            all.relays.insert(name, Process::start(command, "relay port open"));
        }
        let is_whole = |all: &Controllers| {
            all.rows(leader, &["routes", "dump", "--plane", "0"], "routes")
                .is_some_and(|rows| rows.len() == 6)
        };
        all.until("every relay has a route to every other", is_whole).await;
        all
    }

    /// Starts a controller that does not run. It need not lead, nor even reach etcd, when this returns.
    pub(crate) fn start_controller(&mut self, at: usize) {
        let mut command = self.command("route-controller");
        let place = &self.places[at];
        command.args(["--log-format", "json", "--listen", &place.grpc.to_string()]);
        // Its own address first.
        for step in 0..CONTROLLERS {
            let other = self.places[(at + step) % CONTROLLERS].grpc;
            command.args(["--advertise", &other.to_string()]);
        }
        command.args(["--admin-listen", &place.admin.to_string()]);
        command.args(["--store", &format!("etcd://{}", place.cable.address()), "--key-encryption-file"]);
        command.arg(self.directory.path().join("key"));
        command.arg("--state-dir").arg(self.directory.path().join(format!("controller-{at}")));
        self.places[at].process = Some(Process::start(command, "the route controller runs"));
    }

    pub(crate) fn kill_controller(&mut self, at: usize) {
        self.places[at].process.take().expect("it runs").kill();
    }

    /// SIGTERM; it ends well.
    pub(crate) fn stop_controller(&mut self, at: usize) {
        self.places[at].process.take().expect("it runs").terminate();
    }

    /// STOP or CONT.
    pub(crate) fn signal(&self, at: usize, signal: &str) {
        let pid = self.places[at].process.as_ref().expect("it runs").id().to_string();
        assert!(
            Command::new("kill").args([&format!("-{signal}"), &pid]).status().expect("kill(1)").success()
        );
    }

    /// Cuts the way of a controller to etcd, or mends it.
    pub(crate) fn cut(&self, at: usize, cut: bool) {
        self.places[at].cable.cut(cut);
    }

    pub(crate) fn role(&self, at: usize) -> Role {
        let Some((200, body)) = self.get(at, "/healthz") else { return Role::Silent };
        match body.trim().strip_prefix("ok: leader of term ") {
            Some(term) => Role::Leader(term.parse().expect("a number")),
            None if body.starts_with("ok: follower") => Role::Follower,
            None => panic!("{body}"),
        }
    }

    /// Whether it does not lead, and knows who does.
    pub(crate) fn follows(&self, at: usize) -> bool {
        self.get(at, "/readyz")
            .is_some_and(|(status, body)| status == 200 && body.starts_with("ready: follower"))
    }

    /// Who leads, and its term.
    pub(crate) fn leader(&self) -> Option<(usize, u64)> {
        (0..CONTROLLERS).find_map(|at| match self.role(at) {
            Role::Leader(term) => Some((at, term)),
            Role::Follower | Role::Silent => None,
        })
    }

    /// Whether another leads than that one, with all relays.
    pub(crate) fn is_led_by_another_than(&self, at: usize) -> bool {
        self.leader().is_some_and(|(leader, _)| leader != at && self.is_whole(leader))
    }

    /// Whether all relays are in session with this controller, and it has heard everything.
    pub(crate) fn is_whole(&self, at: usize) -> bool {
        let connected = |rows: Vec<Value>| rows.iter().filter(|row| row["state"] == "connected").count();
        self.get(at, "/readyz").is_some_and(|(status, _)| status == 200)
            && self.rows(at, &["nodes"], "nodes").is_some_and(|rows| connected(rows) == RELAYS.len())
    }

    /// A counter or gauge of a controller without labels; 0 if it is not there.
    pub(crate) fn metric(&self, at: usize, name: &str) -> u64 {
        let (_, metrics) = self.get(at, "/metrics").expect("it answers");
        value(&metrics, name)
    }

    /// The epoch that each relay stamps.
    pub(crate) fn epochs(&self) -> Vec<u64> {
        let epoch = |relay: &Process| {
            let api = relay.said()["api"].as_str().and_then(|api| api.parse().ok()).expect("an address");
            value(&e2e::get(api, "/metrics"), "cascade_relay_stamp_epoch")
        };
        self.relays.values().map(epoch).collect()
    }

    /// Status and body; `None` if nobody answers at once.
    pub(crate) fn get(&self, at: usize, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.places[at].admin).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.places[at].admin).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// What `relayctl` says to a controller, or what it complains of.
    pub(crate) fn relayctl(&self, at: usize, arguments: &[&str]) -> Result<String, String> {
        let mut command = self.command("relayctl");
        command.env("CASCADE_CONTROLLER", format!("http://{}", self.places[at].admin));
        let output = command.args(arguments).output().expect("it runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    pub(crate) fn rows(&self, at: usize, arguments: &[&str], name: &str) -> Option<Vec<Value>> {
        let answer = self.relayctl(at, &[arguments, &["-o", "json"]].concat()).ok()?;
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        Some(answer[name].as_array().unwrap_or_else(|| panic!("no list of {name}: {answer}")).clone())
    }

    /// Where relays find a controller.
    pub(crate) fn grpc(&self, at: usize) -> SocketAddr {
        self.places[at].grpc
    }

    /// An SFU linked to a relay, with a token from a controller.
    pub(crate) async fn sfu(&self, at: usize, relay: &str) -> SfuLink {
        let arguments = ["token", "create", "--namespace", "demo", "--room", "*", "--publish", "--subscribe"];
        let answer = self.relayctl(at, &[&arguments[..], &["-o", "json"]].concat()).expect("a token");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let text = |key: &str| answer[key].as_str().expect("a text").to_owned();
        let fingerprint: Fingerprint = text("ca_sha256").parse().expect("a hash");
        let config = Config::new([self.ports[relay].to_string()], text("token"), fingerprint);
        soon(SfuLink::connect(config)).await.expect("let in")
    }

    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&Controllers) -> bool) {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        let asking = async {
            while !tokio::task::block_in_place(|| wanted(self)) {
                ticks.tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, asking)
            .await
            .unwrap_or_else(|_| panic!("waited in vain until {what}"));
    }

    fn command(&self, binary: &str) -> Command {
        let mut command = Command::new(executable(binary));
        command.current_dir(self.directory.path()).env_remove("RUST_LOG").env_remove("CASCADE_TOKEN_FILE");
        command
    }

    /// SIGTERM for everyone who runs; everyone ends well.
    pub(crate) fn stop(self) {
        for process in self.relays.into_values().chain(self.places.into_iter().filter_map(|p| p.process)) {
            process.terminate();
        }
    }
}

fn value(metrics: &str, name: &str) -> u64 {
    let value =
        metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok());
    value.unwrap_or(0)
}
