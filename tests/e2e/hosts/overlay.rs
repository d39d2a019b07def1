//! An overlay of several hosts: a controller, relays and SFUs, each a process of its own on a host of its own, started
//! from a configuration file.

use crate::network::{Family, Network};
use e2e::{Process, example, executable};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// Everything is on this machine; whatever takes longer is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at something that does not say when it changes.
const LOOK: Duration = Duration::from_millis(10);

const CONTROLLER: &str = "ctl";
const RELAYS: [&str; 3] = ["r1", "r2", "r3"];
const RELAY_PORT: u16 = 4700;
const RELAY_API: u16 = 4701;
const GRPC: u16 = 4710;
const ADMIN: u16 = 4711;

/// Three relays, each joined to both others and to the controller.
pub(crate) struct Overlay {
    // Processes end before their hosts are taken away.
    sfus: Vec<Process>,
    relays: BTreeMap<String, Process>,
    controller: Option<Process>,
    directory: tempfile::TempDir,
    pub(crate) network: Network,
    family: Family,
}

impl Overlay {
    /// Returns when every relay has a route to every other.
    pub(crate) fn start(family: Family) -> Overlay {
        Overlay::start_on(network(family), family)
    }

    /// The same on cables that have been laid already, by [`network`].
    pub(crate) fn start_on(network: Network, family: Family) -> Overlay {
        let directory = tempfile::tempdir().expect("a directory");
        let mut overlay = Overlay {
            sfus: Vec::new(),
            relays: BTreeMap::new(),
            controller: None,
            directory,
            network,
            family,
        };
        overlay.start_controller();
        for relay in RELAYS {
            let token = overlay.relayctl(&["join-token", "create", "--name", relay, "--region", "test"]);
            std::fs::write(overlay.path(&format!("{relay}.token")), token).expect("written");
            overlay.start_relay(relay);
        }
        overlay.until("every relay has a route to every other", |overlay| overlay.routes().len() == 6);
        overlay
    }

    fn start_controller(&mut self) {
        let (grpc, admin) = (self.at(CONTROLLER, GRPC), self.loopback(ADMIN));
        let configuration = format!(
            "state_dir = {:?}\nlisten = \"{grpc}\"\nadvertise = [\"{grpc}\"]\nadmin_listen = \"{admin}\"\n\
             log_format = \"json\"\n",
            self.path(CONTROLLER)
        );
        let command = self.configured(CONTROLLER, "route-controller", &configuration);
        self.controller = Some(Process::start(command, "the route controller runs"));
    }

    /// Starts a relay, for the first time or again.
    pub(crate) fn start_relay(&mut self, relay: &str) {
        let (port, api) = (self.at(relay, RELAY_PORT), self.loopback(RELAY_API));
        let configuration = format!(
            "name = \"{relay}\"\nregion = \"test\"\nstate_dir = {:?}\njoin_token_file = {:?}\nlisten = \"{port}\"\n\
             api_listen = \"{api}\"\nlog_format = \"json\"\n",
            self.path(relay),
            self.path(&format!("{relay}.token"))
        );
        let command = self.configured(relay, "relay-node", &configuration);
        self.relays.insert(relay.to_owned(), Process::start(command, "relay port open"));
    }

    /// A binary on a host, with this in its configuration file.
    fn configured(&self, host: &str, binary: &str, configuration: &str) -> Command {
        let file = self.path(&format!("{host}.toml"));
        std::fs::write(&file, configuration).expect("written");
        let mut command = self.network.command(host, &executable(binary));
        command.arg("--config").arg(file).current_dir(self.directory.path()).env_remove("RUST_LOG");
        command
    }

    /// An SFU on a host: one of the examples of sfu-link, let into the room `call`.
    pub(crate) fn sfu(&mut self, host: &str, relay: &str, program: &str, arguments: &[&str]) {
        let wanted = ["token", "create", "--namespace", "demo", "--room", "*", "--publish", "--subscribe"];
        let answer = self.relayctl(&[&wanted[..], &["-o", "json"]].concat());
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let text = |key: &str| answer[key].as_str().expect("a text").to_owned();
        let mut command = self.network.command(host, &example("sfu-link", program));
        command.args(["--relay", &self.at(relay, RELAY_PORT).to_string(), "--ca", &text("ca_sha256")]);
        command.args(["--room", "call"]).args(arguments).env("CASCADE_CLIENT_TOKEN", text("token"));
        self.sfus.push(Process::spawn(command));
    }

    /// SIGTERM for everyone; everyone ends well.
    pub(crate) fn stop(mut self) {
        // SFUs are examples: they end when they are killed.
        self.sfus.clear();
        for process in std::mem::take(&mut self.relays).into_values().chain(self.controller.take()) {
            process.terminate();
        }
    }

    /// A local API is on loopback, of the family under test.
    pub(crate) fn loopback(&self, port: u16) -> SocketAddr {
        let ip: IpAddr = match self.family {
            Family::V4 => Ipv4Addr::LOCALHOST.into(),
            Family::V6 => Ipv6Addr::LOCALHOST.into(),
        };
        SocketAddr::new(ip, port)
    }

    fn at(&self, host: &str, port: u16) -> SocketAddr {
        SocketAddr::new(self.network.address(host), port)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `relayctl` on the controller's host.
    pub(crate) fn relayctl(&self, arguments: &[&str]) -> String {
        let mut command = self.network.command(CONTROLLER, &executable("relayctl"));
        command.args(arguments).env("CASCADE_CONTROLLER", format!("http://{}", self.loopback(ADMIN)));
        let output = command.env_remove("CASCADE_TOKEN_FILE").output().expect("it runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "relayctl {}: {errors}", arguments.join(" "));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// What an API of a process says, as text.
    fn get(&self, host: &str, port: u16, path: &str) -> String {
        let address = self.loopback(port);
        self.network.on(host, || e2e::get(address, path))
    }

    /// A list that a relay's API gives at `/v1/NAME`.
    pub(crate) fn relay(&self, relay: &str, name: &str) -> Vec<Value> {
        list(&self.get(relay, RELAY_API, &format!("/v1/{name}")), name)
    }

    /// A counter or gauge of a relay, by its name and labels as they stand in /metrics; 0 if it is not there.
    pub(crate) fn metric(&self, relay: &str, series: &str) -> u64 {
        let metrics = self.get(relay, RELAY_API, "/metrics");
        let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        value.unwrap_or(0)
    }

    /// Every route in force.
    pub(crate) fn routes(&self) -> Vec<Value> {
        list(&self.get(CONTROLLER, ADMIN, "/v1/routes?plane=0"), "routes")
    }

    /// Whether every route has an alternative that shares no link with it, every relay uses those routes, and every link
    /// is up: tables may name a link for a while that is down.
    pub(crate) fn is_protected(&self) -> bool {
        let is_up = |link: &&Value| link["peer"] == "relay" && link["state"] == "up";
        let has_both = |relay: &&str| self.relay(relay, "links").iter().filter(is_up).count() == 2;
        if !RELAYS.iter().all(has_both) {
            return false;
        }
        let routes = self.routes();
        let epoch = routes.iter().filter_map(|row| row["epoch"].as_u64()).max().unwrap_or(u64::MAX);
        let all = routes.iter().filter(|row| row["backup_plane"].is_u64() && row["epoch"] == epoch).count();
        all == 6 && self.uses(epoch)
    }

    /// Whether every relay stamps packets for the routes of an epoch: the controller has a route before they have.
    fn uses(&self, epoch: u64) -> bool {
        RELAYS.iter().all(|relay| self.metric(relay, "cascade_relay_stamp_epoch") == epoch)
    }

    /// Whether every relay uses the route from one to another that the controller has.
    pub(crate) fn route_is_used(&self, from: &str, to: &str) -> bool {
        let routes = self.routes();
        let route = routes.iter().find(|row| row["node"] == from && row["destination"] == to);
        route.and_then(|row| row["epoch"].as_u64()).is_some_and(|epoch| self.uses(epoch))
    }

    /// The relays from one to another, as the controller has it.
    pub(crate) fn path_between(&self, from: &str, to: &str) -> Vec<String> {
        let routes = self.routes();
        let route = routes.iter().find(|row| row["node"] == from && row["destination"] == to);
        let path = route.and_then(|row| row["path"].as_array());
        path.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Waits for something that nobody announces.
    pub(crate) fn until(&self, what: &str, wanted: impl Fn(&Overlay) -> bool) {
        let begin = Instant::now();
        while !wanted(self) {
            if begin.elapsed() > PATIENCE {
                let (links, routes) = (self.relayctl(&["links"]), self.relayctl(&["routes", "dump"]));
                panic!("waited in vain until {what}\n{links}\n{routes}");
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// The hosts of an overlay with an SFU at each end, and their cables.
pub(crate) fn network(family: Family) -> Network {
    network_of(family, &[("sfu-a", "r1"), ("sfu-b", "r3")])
}

/// The same with these SFUs, each beside its relay.
pub(crate) fn network_of(family: Family, sfus: &[(&str, &str)]) -> Network {
    let mut network = Network::new(family);
    network.host(CONTROLLER);
    for (number, relay) in RELAYS.into_iter().enumerate() {
        network.host(relay);
        network.cable(relay, CONTROLLER);
        for other in &RELAYS[..number] {
            network.cable(relay, other);
        }
    }
    for (sfu, relay) in sfus {
        network.host(sfu);
        network.cable(sfu, relay);
    }
    network
}

fn list(answer: &str, name: &str) -> Vec<Value> {
    let answer: Value = serde_json::from_str(answer).unwrap_or_else(|error| panic!("{error}: {answer}"));
    answer[name].as_array().unwrap_or_else(|| panic!("no list of {name}: {answer}")).clone()
}
