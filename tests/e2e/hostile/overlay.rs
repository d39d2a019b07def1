//! A controller and three relays in a line, each a process, on loopback.

use e2e::{Process, executable};
use serde_json::Value;
use sfu_link::{Config, Fingerprint, SfuLink};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);
/// What the link of one SFU may bring: what the camera of the call sends and some, a tenth of what the flood does.
const CLIENT_PACKETS_PER_S: u64 = 600;
/// Nobody listens here: the discard port.
const NOWHERE: &str = "127.0.0.1:9";

/// What a relay has counted, by the counter's name; zero if it is not there.
#[derive(Clone, Debug, Default)]
pub struct Counters(BTreeMap<String, u64>);

impl std::ops::Index<&str> for Counters {
    type Output = u64;

    fn index(&self, name: &str) -> &u64 {
        self.0.get(name).unwrap_or_else(|| panic!("no counter {name:?} among {:?}", self.0.keys()))
    }
}

pub struct Overlay {
    relays: BTreeMap<&'static str, Relay>,
    controller: Process,
    admin: SocketAddr,
    directory: tempfile::TempDir,
}

struct Relay {
    process: Process,
    port: SocketAddr,
    api: SocketAddr,
}

impl Overlay {
    /// Returns when every relay has a route to every other; from r1 to r3 it leads over r2.
    pub async fn start() -> Overlay {
        let directory = tempfile::tempdir().expect("a directory");
        let (grpc, admin) = (free(), free());
        let mut command = Command::new(executable("route-controller"));
        command.args(["--listen", &grpc.to_string(), "--advertise", &grpc.to_string()]);
        command.args(["--admin-listen", &admin.to_string(), "--log-format", "json", "--state-dir"]);
        command.arg(directory.path().join("controller")).env_remove("RUST_LOG");
        let controller = Process::start(command, "the route controller runs");
        let mut overlay = Overlay { relays: BTreeMap::new(), controller, admin, directory };
        for name in ["r1", "r2", "r3"] {
            overlay.start_relay(name);
        }
        overlay.routed().await;
        overlay
    }

    fn start_relay(&mut self, name: &'static str) {
        let token = self.relayctl(&["join-token", "create", "--name", name, "--region", "local"]);
        let file = self.path(&format!("{name}.token"));
        std::fs::write(&file, token).expect("written");
        let (port, api) = (free(), free());
        let mut command = Command::new(executable("relay-node"));
        command.args(["--name", name, "--listen", &port.to_string(), "--api-listen", &api.to_string()]);
        command.args(["--log-format", "json", "--log", "info"]).env_remove("RUST_LOG");
        command.arg("--state-dir").arg(self.path(name)).arg("--join-token-file").arg(file);
        if name == "r1" {
            command.args(["--neighbour-address", &format!("r3={NOWHERE}")]);
        }
        command.args(["--client-packet-rate", &CLIENT_PACKETS_PER_S.to_string()]);
        let process = Process::start(command, "relay port open");
        self.relays.insert(name, Relay { process, port, api });
    }

    async fn routed(&self) {
        let found = async {
            loop {
                let routes = self.relayctl(&["routes", "dump", "-o", "json"]);
                let routes: Value = serde_json::from_str(&routes).expect("JSON");
                let rows = routes["routes"].as_array().cloned().unwrap_or_default();
                // Of the primary plane: there may be others.
                if rows.iter().filter(|row| row["plane"] == 0).count() == 6 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect("every relay has a route to every other");
    }

    pub fn port(&self, relay: &str) -> SocketAddr {
        self.relays[relay].port
    }

    /// An SFU linked to the relay at an address, with rights to everything.
    pub async fn sfu(&self, address: SocketAddr) -> SfuLink {
        let arguments = ["token", "create", "--namespace", "demo", "--room", "*", "--publish", "--subscribe"];
        let answer = self.relayctl(&[&arguments[..], &["-o", "json"]].concat());
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let text = |key: &str| answer[key].as_str().expect("a text").to_owned();
        let fingerprint: Fingerprint = text("ca_sha256").parse().expect("a hash");
        let linking = SfuLink::connect(Config::new([address.to_string()], text("token"), fingerprint));
        tokio::time::timeout(PATIENCE, linking).await.expect("in time").expect("let in")
    }

    /// Counters of a relay: `port ...` and `core ...`, drops with their prefix.
    pub fn counters(&self, relay: &str) -> Counters {
        let mut stream = TcpStream::connect(self.relays[relay].api).expect("the API listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("legal");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n").expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let counters = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (name, labels) = series.split_once('{')?;
            let label = labels.split('"').nth(1)?;
            let name = match name {
                "cascade_relay_port_total" => format!("port {label}"),
                "cascade_relay_port_drops_total" => format!("port drop_{label}"),
                "cascade_relay_core_total" => format!("core {label}"),
                "cascade_relay_core_drops_total" => format!("core drop_{label}"),
                _ => return None,
            };
            Some((name, value.parse().ok()?))
        });
        Counters(counters.collect())
    }

    /// Asks a relay for its counters until they are as wanted.
    pub async fn until(&self, what: &str, relay: &str, wanted: impl Fn(&Counters) -> bool) -> Counters {
        let asking = async {
            loop {
                let counters = tokio::task::block_in_place(|| self.counters(relay));
                if wanted(&counters) {
                    return counters;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, asking).await;
        found.unwrap_or_else(|_| panic!("waited in vain until {what}: {:?}", self.counters(relay)))
    }

    /// What the kernel dropped because the relay port's receive buffer was full.
    pub fn kernel_drops(&self, relay: &str) -> u64 {
        let port = format!(":{:04X}", self.relays[relay].port.port());
        let table = std::fs::read_to_string("/proc/net/udp").expect("Linux");
        let drops = table.lines().skip(1).filter_map(|line| {
            let mut words = line.split_whitespace();
            let local = words.nth(1)?;
            local.ends_with(&port).then(|| words.last().and_then(|drops| drops.parse::<u64>().ok()))?
        });
        drops.sum()
    }

    /// Memory of a relay that is resident, KiB.
    pub fn rss_kib(&self, relay: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.relays[relay].process.id()))
            .expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number of KiB")
    }

    /// SIGTERM for everyone; everyone ends well.
    pub fn stop(self) {
        for relay in self.relays.into_values() {
            relay.process.terminate();
        }
        self.controller.terminate();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn relayctl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(executable("relayctl"));
        command.args(arguments).env("CASCADE_CONTROLLER", format!("http://{}", self.admin));
        let output = command.env_remove("CASCADE_TOKEN_FILE").output().expect("it runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "relayctl {}: {errors}", arguments.join(" "));
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}

/// A port that nobody listens on: given back a moment ago.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}
