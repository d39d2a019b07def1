//! What the controller pushes as one epoch is sound as a whole, by brute force over the topology that it knew then.
//!
//! On each plane the rows for a destination lead there, relay after relay, over links that it believed in, and never to
//! the same relay twice. Where every relay was there and trusted, more must hold:
//!
//! - whoever can reach a destination has a primary row for it;
//! - whatever single link or relay in between fails without parting the two, the red or the blue path is spared;
//! - a backup's path avoids the primary next hop, unless that is the destination, and the link to it; and there is
//!   one whenever the red or the blue path does;
//! - the two ways of protected streams share nothing but relays that every way passes, and there are two unless every way
//!   passes one link.
//!
//! All of that holds for each policy by itself, among the relays that it may pass; those that it keeps for emergencies are
//! passed, if nothing else leads on, and then nothing is said of redundancy.
//!
//! petgraph says what is connected with what.

use super::Verdict;
use crate::scenario::{FaultKind, RelayId, Scenario};
use crate::trace::{Beliefs, Event, PushedTable, Trace};
use petgraph::algo::has_path_connecting;
use petgraph::graph::{NodeIndex, UnGraph};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use wire_format::PolicyIndex;

/// Routes are computed from what was known this long before they are pushed, at most.
const COALESCE: Duration = Duration::from_millis(6);
/// A relay that was slow to acknowledge is avoided for a while.
const DISTRUST: Duration = Duration::from_secs(12);
/// Slower than this is slow.
const ACK_WAIT: Duration = Duration::from_millis(500);

/// Tables of the default policy may be those of before for so long after a change of policies.
const SETTLES_WITHIN: Duration = Duration::from_secs(2);

const PRIMARY: u8 = 0;
const REDUNDANT: [u8; 2] = [1, 2];

pub(super) fn check(scenario: &Scenario, trace: &Trace, verdict: &mut Verdict) {
    for generation in generations(scenario, trace).values() {
        generation.check_rows(verdict);
        if generation.is_clean() {
            generation.check_redundancy(verdict);
        }
    }
}

/// All tables of an epoch and policy.
#[derive(Clone)]
struct Generation {
    epoch: u32,
    policy: u8,
    at: Duration,
    beliefs: Beliefs,
    tables: BTreeMap<RelayId, Table>,
    /// Nothing had changed for long enough for the beliefs to be those that the tables were computed from.
    stable: bool,
    /// No relay had been slow to acknowledge of late.
    trusted: bool,
    /// Relays that the policy never passes.
    forbidden: BTreeSet<RelayId>,
    /// It keeps some for emergencies.
    spares: bool,
}

#[derive(Clone, Default)]
struct Table {
    next_hops: BTreeMap<(u8, RelayId), RelayId>,
    backups: BTreeMap<RelayId, u8>,
    pairs: BTreeMap<RelayId, [u8; 2]>,
}

impl From<&PushedTable> for Table {
    fn from(pushed: &PushedTable) -> Table {
        let rows = pushed.rows.iter().map(|row| ((row.plane, row.destination), row.next_hop));
        Table {
            next_hops: rows.collect(),
            backups: pushed.backups.iter().copied().collect(),
            pairs: pushed.pairs.iter().copied().collect(),
        }
    }
}

fn generations(scenario: &Scenario, trace: &Trace) -> BTreeMap<(u32, u8), Generation> {
    let mut generations: BTreeMap<(u32, u8), Generation> = BTreeMap::new();
    let mut news_at = Duration::ZERO;
    let mut distrusted_until = Duration::ZERO;
    let mut unacknowledged: BTreeMap<(RelayId, u32), Duration> = BTreeMap::new();
    for (at, event) in trace.events() {
        let at = *at;
        if matches!(event, Event::Introduced(_) | Event::Dismissed(_) | Event::Reported { .. }) {
            news_at = at;
        }
        if let Event::Introduced(relay) | Event::Dismissed(relay) = event {
            unacknowledged.retain(|(other, _), _| other != relay);
        }
        if let Event::FaultBegins(place) = event
            && scenario.faults[*place].kind == FaultKind::ControllerCrash
        {
            unacknowledged.clear();
            distrusted_until = Duration::ZERO;
        }
        if let Event::TableAcked { relay, epoch } = event
            && let Some(pushed_at) = unacknowledged.remove(&(*relay, *epoch))
            && at > pushed_at + ACK_WAIT / 2
        {
            distrusted_until = at + DISTRUST;
        }
        if let Event::Believed { epoch, beliefs } = event {
            let silent = unacknowledged.values().any(|pushed_at| at > *pushed_at + ACK_WAIT / 10);
            let (forbidden, spares) = passing(scenario, 0);
            let told = scenario.policies_from;
            let settling = told > Duration::ZERO && at < told + SETTLES_WITHIN;
            let generation = Generation {
                epoch: *epoch,
                policy: 0,
                at,
                beliefs: beliefs.clone(),
                tables: BTreeMap::new(),
                stable: at >= news_at + COALESCE,
                trusted: !silent && at >= distrusted_until,
                forbidden: if settling { BTreeSet::new() } else { forbidden },
                spares: spares || settling,
            };
            generations.insert((*epoch, 0), generation);
        }
        if let Event::Pushed(table) = event
            && let Some(first) = generations.get(&(table.epoch, 0))
        {
            let empty = || {
                let (forbidden, spares) = passing(scenario, table.policy);
                let (policy, tables) = (table.policy, BTreeMap::new());
                Generation { policy, tables, forbidden, spares, ..first.clone() }
            };
            let generation = if table.policy == 0 { None } else { Some(empty()) };
            let place = generations.entry((table.epoch, table.policy));
            let generation = place.or_insert_with(|| generation.expect("the default policy's comes first"));
            generation.tables.insert(table.relay, Table::from(table));
            unacknowledged.insert((table.relay, table.epoch), at);
        }
    }
    generations
}

/// Whom a policy never passes, and whether it keeps relays for emergencies.
fn passing(scenario: &Scenario, policy: u8) -> (BTreeSet<RelayId>, bool) {
    let policy = scenario.policies.policy(PolicyIndex::from_bits(policy));
    let forbidden = scenario.relay_ids().filter(|relay| scenario.is_in(*relay, &policy.forbid)).collect();
    (forbidden, !policy.emergency.is_empty())
}

/// Where a path ends.
enum End {
    Arrives,
    /// At a relay whose table is not known, because it was not there.
    Unknown,
    Astray(String),
}

impl Generation {
    fn name(&self) -> String {
        let Generation { epoch, policy, .. } = self;
        if *policy == 0 { format!("epoch {epoch}") } else { format!("epoch {epoch}, policy {policy}") }
    }

    /// The relays from `from` on, by the rows of the plane, and how that ends.
    fn path(&self, from: RelayId, plane: u8, destination: RelayId) -> (Vec<RelayId>, End) {
        let mut path = vec![from];
        let mut here = from;
        while here != destination {
            let Some(table) = self.tables.get(&here) else { return (path, End::Unknown) };
            let Some(next) = table.next_hops.get(&(plane, destination)) else {
                return (path, End::Astray(format!("{here} has no row")));
            };
            if path.contains(next) {
                return (path, End::Astray(format!("{next} comes twice")));
            }
            path.push(*next);
            here = *next;
        }
        (path, End::Arrives)
    }

    fn arriving(&self, from: RelayId, plane: u8, destination: RelayId) -> Option<Vec<RelayId>> {
        let (path, end) = self.path(from, plane, destination);
        matches!(end, End::Arrives).then_some(path)
    }

    fn check_rows(&self, verdict: &mut Verdict) {
        let links: BTreeSet<_> = self.beliefs.links.iter().copied().collect();
        for (relay, table) in &self.tables {
            for ((plane, destination), next_hop) in &table.next_hops {
                let row = format!("{}: {relay} to {destination} on plane {plane}", self.name());
                if self.stable && !links.contains(&(*relay, *next_hop)) {
                    verdict.object(self.at, format!("{row}: the link to {next_hop} may not be used"));
                }
                let (path, end) = self.path(*relay, *plane, *destination);
                let inner = path.iter().filter(|passed| *passed != relay && *passed != destination);
                if let Some(passed) = inner.clone().find(|passed| self.forbidden.contains(passed)) {
                    verdict.object(self.at, format!("{row}: {path:?} passes {passed}, which is forbidden"));
                }
                if let End::Astray(why) = end {
                    verdict.object(self.at, format!("{row}: {path:?}, then {why}"));
                }
            }
        }
    }

    /// Every relay was there and trusted, so that nothing kept routes from any of them.
    fn is_clean(&self) -> bool {
        self.stable
            && !self.spares
            && self.trusted
            && self.beliefs.others.is_empty()
            && self.beliefs.connected.iter().all(|relay| self.tables.contains_key(relay))
    }

    fn check_redundancy(&self, verdict: &mut Verdict) {
        for from in &self.beliefs.connected {
            for to in self.beliefs.connected.iter().filter(|to| *to != from) {
                if self.connected_without(Element::None, *from, *to) {
                    self.check_pair(*from, *to, verdict);
                    self.check_protection(*from, *to, verdict);
                }
            }
        }
    }

    /// Whether there is a way between two relays once something has failed.
    fn connected_without(&self, failed: Element, from: RelayId, to: RelayId) -> bool {
        let passable = |relay: &RelayId| *relay == from || *relay == to || !self.forbidden.contains(relay);
        let links = self.beliefs.links.iter().filter(|(a, b)| passable(a) && passable(b));
        let spared = links.filter(|(a, b)| !failed.takes(*a, *b));
        let edges = spared.map(|(a, b)| (u32::from(a.0), u32::from(b.0)));
        let mut graph: UnGraph<(), (), u32> = UnGraph::from_edges(edges);
        let ends = [from, to].map(|relay| NodeIndex::new(usize::from(relay.0)));
        while graph.node_count() <= ends[0].index().max(ends[1].index()) {
            graph.add_node(());
        }
        has_path_connecting(&graph, ends[0], ends[1], None)
    }

    fn check_pair(&self, from: RelayId, to: RelayId, verdict: &mut Verdict) {
        let pair = format!("{}: {from} to {to}", self.name());
        let Some(primary) = self.arriving(from, PRIMARY, to) else {
            verdict.object(self.at, format!("{pair}: no primary path, though there is a way"));
            return;
        };
        let [red, blue] = REDUNDANT.map(|plane| self.arriving(from, plane, to));
        for element in common(red.as_deref(), blue.as_deref()) {
            if self.connected_without(element, from, to) {
                verdict.object(
                    self.at,
                    format!("{pair}: red {red:?} and blue {blue:?} need {element:?}, though there is a way around it"),
                );
            }
        }
        let next_hop = primary[1];
        let avoids = |path: &Option<Vec<RelayId>>| {
            path.as_ref().is_some_and(|path| {
                let passes = next_hop != to && path.contains(&next_hop);
                !passes && !path.windows(2).any(|hop| is_link(hop, from, next_hop))
            })
        };
        let backup = self.tables[&from].backups.get(&to);
        match backup.map(|plane| REDUNDANT.iter().position(|redundant| redundant == plane)) {
            None if avoids(&red) || avoids(&blue) => {
                verdict.object(
                    self.at,
                    format!("{pair}: no backup, with {primary:?}, red {red:?}, blue {blue:?}"),
                );
            }
            None => {}
            Some(Some(place)) if avoids([&red, &blue][place]) => {}
            Some(_) => {
                verdict.object(
                    self.at,
                    format!(
                        "{pair}: backup {backup:?} does not avoid {next_hop}: red {red:?}, blue {blue:?}"
                    ),
                );
            }
        }
    }

    fn check_protection(&self, from: RelayId, to: RelayId, verdict: &mut Verdict) {
        let name = format!("{}: {from} to {to}, protected", self.name());
        let pair = self.tables[&from].pairs.get(&to);
        let [one, other] = pair.unwrap_or(&REDUNDANT).map(|plane| self.arriving(from, plane, to));
        let shared = common(one.as_deref(), other.as_deref());
        let bridge = shared.iter().any(|element| matches!(element, Element::Link(..)));
        match pair {
            None if !bridge && one.is_some() && other.is_some() => {
                verdict.object(self.at, format!("{name}: once, though {one:?} and {other:?} are apart"));
            }
            None => {}
            Some(_) => {
                let spared = |element: &&Element| self.connected_without(**element, from, to);
                if bridge || shared.iter().any(|element| spared(&element)) {
                    verdict.object(self.at, format!("{name}: {one:?} and {other:?} share {shared:?}"));
                }
            }
        }
    }
}

fn is_link(hop: &[RelayId], a: RelayId, b: RelayId) -> bool {
    hop == [a, b] || hop == [b, a]
}

/// Something that may fail.
#[derive(Clone, Copy, Debug)]
enum Element {
    None,
    Relay(RelayId),
    Link(RelayId, RelayId),
}

impl Element {
    /// Its failure takes the link between these two.
    fn takes(self, a: RelayId, b: RelayId) -> bool {
        match self {
            Element::None => false,
            Element::Relay(relay) => relay == a || relay == b,
            Element::Link(c, d) => is_link(&[a, b], c, d),
        }
    }
}

/// What both paths need, their ends aside. A path that is not there needs everything, and what it needs is nothing that
/// can be gone around.
fn common(red: Option<&[RelayId]>, blue: Option<&[RelayId]>) -> Vec<Element> {
    let (Some(one), other) = (red.or(blue), red.and(blue)) else { return vec![Element::None] };
    let relays = one[1..one.len() - 1].iter().filter(|relay| other.is_none_or(|other| other.contains(relay)));
    let links = one
        .windows(2)
        .filter(|hop| other.is_none_or(|other| other.windows(2).any(|own| is_link(own, hop[0], hop[1]))));
    let relays = relays.map(|relay| Element::Relay(*relay));
    relays.chain(links.map(|hop| Element::Link(hop[0], hop[1]))).collect()
}
