//! Writes down what crosses the links of a run, for Wireshark: a capture file that grows while the run goes on, whatever
//! its length, and nothing of which is kept.
//!
//! Each plain datagram and each message of a reliable stream is a packet of its own, IPv4 and UDP between the addresses of
//! its two hosts, as it enters the network. Before it stands a record (SPEC section 14) that says what no receiver could:
//! its number, and what the network made of it. The file names the hosts, times are those of the run.
//! `wire-format/cascade.lua` reads both.
//!
//! Not in it: handshakes and what closes a connection, which have no bytes here, and what passes between relays and the
//! controller.

mod pcapng;

use crate::connection::{ConnectionId, End};
use crate::scenario::{Host, Scenario};
use crate::trace::RunHash;
use crate::world::{Observer, World};
use link_model::{DropReason, Fate, Seed, Selector, SpecError};
use pcapng::Pcapng;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::time::Duration;
use wire_format::SEAL_OVERHEAD_BYTES;

/// How long a run goes on before somebody looks whether the file can still be written.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// First byte of a record before a plain datagram.
const OPENED: u8 = 0x04;
/// First byte of a record before messages of a reliable stream.
const SAID: u8 = 0x05;
/// Version of the record.
const RECORD_VERSION: u8 = 1;
/// As many as sealing adds, so that a datagram is as long in the file as on the wire.
const RECORD_BYTES: usize = SEAL_OVERHEAD_BYTES;
/// A host that has no node index.
const NO_NODE: u16 = u16::MAX;
/// Names of links that an error tells.
const LINKS_TOLD: usize = 40;

/// A selector that names no link of the scenario.
#[derive(Debug, thiserror::Error)]
pub enum LinkNameError {
    /// It is written as none can be.
    #[error(transparent)]
    Selector(#[from] SpecError),
    /// Nothing is called so.
    #[error("there is no link {name}; links are {known}, and `all`")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
}

/// What was written of a run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Captured {
    /// Plain datagrams.
    pub datagrams: u64,
    /// Those of them that the network lost.
    pub datagrams_lost: u64,
    /// Messages of reliable streams, each as often as it was sent.
    pub messages: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// The trace's hash, as of any run of the same scenario and seed.
    pub hash: u64,
}

/// The directions that a selector names, `A-B`, `A>B` or `all`; all are those of clients, too.
///
/// # Errors
/// If there is no such link; the message tells which there are.
pub fn links_named(scenario: &Scenario, selector: &str) -> Result<BTreeSet<(Host, Host)>, LinkNameError> {
    let chosen = Selector::parse(selector)?;
    let name = |host| scenario.host_name(host);
    let named = scenario.paths.keys().copied();
    let links: BTreeSet<_> = match chosen {
        Selector::All => named.collect(),
        Selector::Directed { .. } | Selector::Both(_) => {
            named.filter(|(from, to)| chosen.matches(name(*from), name(*to))).collect()
        }
    };
    if !links.is_empty() {
        return Ok(links);
    }
    let mut known: Vec<_> = scenario
        .paths
        .keys()
        .filter(|(from, to)| from < to || !scenario.paths.contains_key(&(*to, *from)))
        .map(|(from, to)| format!("{}-{}", name(*from), name(*to)))
        .collect();
    let more = known.len().saturating_sub(LINKS_TOLD);
    known.truncate(LINKS_TOLD);
    let mut known = known.join(", ");
    if more > 0 {
        known.push_str(&format!(" and {more} more"));
    }
    Err(LinkNameError::Unknown { name: selector.to_owned(), known })
}

/// Runs a scenario and writes what crosses these directions.
///
/// # Errors
/// If `out` cannot be written to; the run ends soon after.
pub fn capture(
    scenario: &Scenario,
    seed: u64,
    links: &BTreeSet<(Host, Host)>,
    out: &mut dyn Write,
) -> io::Result<Captured> {
    let mut file = Pcapng::new(out);
    file.section(concat!("cascade sim ", env!("CARGO_PKG_VERSION")), &comment(scenario, seed))?;
    let hosts: BTreeSet<_> = links.iter().flat_map(|(from, to)| [*from, *to]).collect();
    file.names(hosts.into_iter().map(|host| (address(host), scenario.host_name(host))))?;
    let mut world = World::new(scenario, Seed(seed), Observer::Hash(RunHash::default()));
    let captured = Captured::default();
    world.tap = Some(Tap { file, links: links.clone(), captured, failed: None });
    let mut until = Duration::ZERO;
    while until < scenario.run_for {
        until = scenario.run_for.min(until + LOOK_EVERY);
        world.run_until(until);
        if let Some(error) = world.tap.as_mut().and_then(|tap| tap.failed.take()) {
            return Err(error);
        }
    }
    world.record_all_counters();
    let hash = match &world.observer {
        Observer::Hash(hash) => hash.value(),
        Observer::Trace(_) | Observer::Meter(_) | Observer::Survey(_) => unreachable!("made with a hash"),
    };
    let tap = world.tap.take().expect("it was put there above");
    let bytes = tap.file.finish()?;
    Ok(Captured { bytes, hash, ..tap.captured })
}

fn comment(scenario: &Scenario, seed: u64) -> String {
    format!("scenario {}, seed {seed}; times are those of the run", scenario.name)
}

/// The address under which a host stands in the file.
fn address(host: Host) -> Ipv4Addr {
    let (kind, place) = match host {
        Host::Relay(relay) => (0, relay.0),
        Host::Client(client) => (1, client.0),
    };
    let [high, low] = (place + 1).to_be_bytes();
    Ipv4Addr::new(10, kind, high, low)
}

/// What is written down.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Crossing<'a> {
    /// A plain datagram, under its packet number.
    Datagram(u64, &'a [u8]),
    /// A message of the reliable stream, length and body, under its place.
    Message(u64, &'a [u8]),
}

/// Where a run is written down.
pub(crate) struct Tap<'a> {
    file: Pcapng<'a>,
    links: BTreeSet<(Host, Host)>,
    captured: Captured,
    failed: Option<io::Error>,
}

impl std::fmt::Debug for Tap<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tap").field("links", &self.links).field("captured", &self.captured).finish()
    }
}

impl World<'_> {
    /// Somebody wants to know what crosses that direction.
    pub(crate) fn is_tapped(&self, direction: (Host, Host)) -> bool {
        self.tap.as_ref().is_some_and(|tap| tap.links.contains(&direction))
    }

    /// Something enters the network.
    pub(crate) fn tap(&mut self, connection: ConnectionId, from: End, crossing: Crossing<'_>, fate: Fate) {
        let hosts = (self.host_at(connection, from), self.host_at(connection, from.other()));
        if !self.is_tapped(hosts) {
            return;
        }
        let node = |host| self.nodes.get(&host).and_then(|node| node.relay.node);
        let nodes = [hosts.0, hosts.1].map(|host| node(host).map_or(NO_NODE, |node| node.0));
        let record = record(self.now, connection, from, nodes, crossing, fate);
        let Some(tap) = &mut self.tap else { return };
        let (Crossing::Datagram(_, bytes) | Crossing::Message(_, bytes)) = crossing;
        match crossing {
            Crossing::Datagram(..) => {
                tap.captured.datagrams += 1;
                tap.captured.datagrams_lost += u64::from(matches!(fate, Fate::Dropped(_)));
            }
            Crossing::Message(..) => tap.captured.messages += 1,
        }
        let written = tap.file.packet(self.now, address(hosts.0), address(hosts.1), &[&record, bytes]);
        if let Err(error) = written {
            tap.failed.get_or_insert(error);
        }
    }
}

/// The record of SPEC section 14.
fn record(
    now: Duration,
    ConnectionId(connection): ConnectionId,
    from: End,
    [from_node, to_node]: [u16; 2],
    crossing: Crossing<'_>,
    fate: Fate,
) -> [u8; RECORD_BYTES] {
    let (kind, number) = match crossing {
        Crossing::Datagram(number, _) => (OPENED, number),
        Crossing::Message(place, _) => (SAID, place),
    };
    let (fate, took_ns, copied) = match fate {
        Fate::Delivered { at, copy_at } => {
            (0, u64::try_from((at - now).as_nanos()).unwrap_or(u64::MAX), copy_at.is_some())
        }
        Fate::Dropped(DropReason::Down) => (1, u64::MAX, false),
        Fate::Dropped(DropReason::QueueFull) => (2, u64::MAX, false),
        Fate::Dropped(DropReason::Lost) => (3, u64::MAX, false),
        Fate::Dropped(DropReason::TooLarge) => (4, u64::MAX, false),
    };
    let flags = u8::from(from == End::Acceptor) | u8::from(copied) << 1;
    let mut record = [0; RECORD_BYTES];
    record[..4].copy_from_slice(&[kind, RECORD_VERSION, flags, fate]);
    record[4..8].copy_from_slice(&connection.to_be_bytes());
    record[8..16].copy_from_slice(&number.to_be_bytes());
    record[16..24].copy_from_slice(&took_ns.to_be_bytes());
    record[24..26].copy_from_slice(&from_node.to_be_bytes());
    record[26..28].copy_from_slice(&to_node.to_be_bytes());
    record
}
