//! Hosts and cables: Linux network namespaces, joined two by two by veth pairs, and what befalls cables.
//!
//! Every host has one address of each family, the same on all of its cables, and one route for each cable: to the host at
//! its other end. Nothing is forwarded unless a test asks for it, so a cut cable is cut, and no packet finds a way that
//! the overlay does not know.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// What all our namespaces begin with; the number of the process that made them follows.
const PREFIX: &str = "cascade-test-";

/// Whether namespaces can be made here. Where they cannot, the test is skipped and says so; with CI=true it fails.
pub(crate) fn possible() -> bool {
    let problem = if !rustix::process::geteuid().is_root() {
        Some("only root can make network namespaces")
    } else if !runs("ip") {
        Some("ip is not installed (package iproute2)")
    } else if !runs("nft") {
        Some("nft is not installed (package nftables)")
    } else {
        None
    };
    if let Some(problem) = problem {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{problem}, and CI skips nothing");
        eprintln!("SKIPPED: {problem}");
    }
    problem.is_none()
}

fn runs(program: &str) -> bool {
    let mut command = Command::new(program);
    command
        .arg("-V")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Which family of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Hosts and the cables between them. Dropped, also in a panic, it takes them away.
pub(crate) struct Network {
    prefix: String,
    family: Family,
    /// Number of each host, the last part of its address.
    hosts: BTreeMap<String, u8>,
}

impl Network {
    /// Without hosts.
    pub(crate) fn new(family: Family) -> Network {
        static NETWORKS: AtomicU32 = AtomicU32::new(0);
        sweep();
        let prefix = format!("{PREFIX}{}-{}-", std::process::id(), NETWORKS.fetch_add(1, Ordering::Relaxed));
        Network { prefix, family, hosts: BTreeMap::new() }
    }

    /// Adds a host, with a loopback of its own.
    pub(crate) fn host(&mut self, name: &str) {
        let number = u8::try_from(self.hosts.len() + 1).expect("a handful of hosts");
        // Known before it is made, so that one half made is taken away as well.
        self.hosts.insert(name.to_owned(), number);
        run(Command::new("ip").args(["netns", "add", &self.namespace(name)]));
        self.ip(name, "link set lo up");
    }

    /// Joins two hosts. The interface at each end has the name of the other host.
    pub(crate) fn cable(&self, a: &str, b: &str) {
        let (there, line) = (self.namespace(b), format!("link add name {b} type veth peer name {a} netns"));
        self.ip(a, &format!("{line} {there}"));
        self.plug(a, b);
        self.plug(b, a);
    }

    /// All of them.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &str> {
        self.hosts.keys().map(String::as_str)
    }

    /// The only address of a host that others know.
    pub(crate) fn address(&self, host: &str) -> IpAddr {
        let number = self.hosts[host];
        match self.family {
            Family::V4 => Ipv4Addr::new(10, 77, 0, number).into(),
            Family::V6 => Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, number.into()).into(),
        }
    }

    /// Pulls the plug of a cable at one end: the other end has no carrier, this one no route.
    pub(crate) fn unplug(&self, at: &str, towards: &str) {
        self.ip(at, &format!("link set dev {towards} down"));
    }

    /// Puts it in, again: routes and addresses go with the interface.
    pub(crate) fn plug(&self, at: &str, towards: &str) {
        let (here, there) = (self.address(at), self.address(towards));
        let bits = if here.is_ipv4() { 32 } else { 128 };
        // Without duplicate address detection, during which IPv6 is deaf for a second.
        let at_once = if here.is_ipv4() { "" } else { " nodad" };
        self.ip(at, &format!("link set dev {towards} up"));
        self.ip(at, &format!("address replace {here}/{bits} dev {towards}{at_once}"));
        self.ip(at, &format!("route replace {there}/{bits} dev {towards} src {here}"));
    }

    /// The largest packet of a cable, at both ends.
    pub(crate) fn narrow(&self, a: &str, b: &str, bytes: u16) {
        self.ip(a, &format!("link set dev {b} mtu {bytes}"));
        self.ip(b, &format!("link set dev {a} mtu {bytes}"));
    }

    /// From now on `at` hears nothing that `from` sends to it over UDP; nobody is told.
    pub(crate) fn deafen(&self, at: &str, from: &str) {
        let (family, source) = (if self.family == Family::V4 { "ip" } else { "ip6" }, self.address(from));
        self.nft(
            at,
            &format!(
                "table inet deaf {{ chain input {{ type filter hook input priority 0; \
                 {family} saddr {source} meta l4proto udp drop; }}; }}"
            ),
        );
    }

    /// Hears again.
    pub(crate) fn hear(&self, at: &str) {
        self.nft(at, "delete table inet deaf");
    }

    /// From now on this host passes on what is not for it.
    pub(crate) fn forward(&self, host: &str) {
        self.on(host, || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")).expect("only root gets here");
    }

    /// `ip` on a host; the line is split at spaces.
    pub(crate) fn ip(&self, host: &str, line: &str) {
        run(Command::new("ip").args(["-n", &self.namespace(host)]).args(line.split_whitespace()));
    }

    /// Rules of nftables on a host.
    pub(crate) fn nft(&self, host: &str, rules: &str) {
        let mut command = self.command(host, Path::new("nft"));
        let mut nft = command.args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft runs");
        nft.stdin.take().expect("piped").write_all(rules.as_bytes()).expect("it reads");
        assert!(nft.wait().expect("it ends").success(), "nft on {host}: {rules}");
    }

    /// A program on a host.
    pub(crate) fn command(&self, host: &str, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(host)]).arg(program);
        command
    }

    /// Does something on a host, from within this process. Sockets made there stay there.
    pub(crate) fn on<T: Send>(&self, host: &str, act: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(Path::new("/run/netns").join(self.namespace(host))).expect("the host");
        // A thread of its own, which ends: no other must find itself on that host.
        std::thread::scope(|scope| {
            let there = scope.spawn(|| {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("only root gets here");
                act()
            });
            there.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn namespace(&self, host: &str) -> String {
        assert!(self.hosts.contains_key(host), "no host {host}");
        format!("{}{host}", self.prefix)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in self.hosts.keys() {
            // One that could not be made cannot be removed either. Cables go with either end.
            let _ = Command::new("ip")
                .args(["netns", "delete", &self.namespace(host)])
                .stderr(Stdio::null())
                .status();
        }
    }
}

/// Takes away what test processes left behind that were killed.
fn sweep() {
    let Ok(namespaces) = std::fs::read_dir("/run/netns") else { return };
    for name in namespaces.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let maker = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if maker.is_some_and(|maker| !Path::new("/proc").join(maker).exists()) {
            // Another test may be doing the same.
            let _ = Command::new("ip").args(["netns", "delete", &name]).stderr(Stdio::null()).status();
        }
    }
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
}

#[test]
fn hosts_are_taken_away_when_a_test_panics() {
    if !possible() {
        return;
    }
    let mut network = Network::new(Family::V4);
    network.host("a");
    network.host("b");
    network.cable("a", "b");
    let there = [
        Path::new("/run/netns").join(network.namespace("a")),
        Path::new("/run/netns").join(network.namespace("b")),
    ];
    assert!(there.iter().all(|host| host.exists()));
    let test = std::thread::spawn(move || {
        let _network = network;
        panic!("as a test does that fails");
    });
    assert!(test.join().is_err());
    assert!(!there.iter().any(|host| host.exists()));
}
