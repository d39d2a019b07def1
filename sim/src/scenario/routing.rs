//! How streams are led: by the overlay, or by what it is compared with.
//!
//! The baselines are made of the same relays, links, transport and repair, so that only the routing differs. Policies, feeding
//! by relays that have a stream, and two ways at once belong to the overlay's routing: baselines have none of them.
//!
//! - **Direct**: each stream goes straight from the relay where it enters to each where it leaves. A hop is priced so
//!   high that another relay is passed only where no link leads there, or while that link is down.
//! - **Tree**: a CDN of two levels, as LiveNet (SIGCOMM 2022) describes what it replaced. Every relay hangs on the nearest of a few
//!   hubs, these on one centre; there are no other links, so a stream goes from leaf to hub to centre to hub to leaf, or turns
//!   round at a hub. About `sqrt(n / 2)` hubs, two at least, are chosen so that the relays' round trips to their hubs sum up to
//!   little (k-medians: greedily, then by exchange; Kaufman and Rousseeuw's PAM); the centre is the hub nearest to all hubs.
//!   Where two relays of the tree have no link of their own, the links of the fastest way between them stand for it.

use super::{Host, RelayId, Scenario, ScenarioError};
use route_core::{CostConfig, Policies, Policy};
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;
use wire_format::control::limits;

/// Far more than a detour may spare.
const DIRECT_HOP: Duration = Duration::from_secs(1);
/// Between relays that no way connects.
const APART: Duration = Duration::from_secs(3_600);
/// Exchanges of a hub for another relay, at most.
const EXCHANGES_MAX: usize = 100;

/// How streams are led.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Routing {
    /// By the overlay.
    #[default]
    Overlay,
    /// Straight.
    Direct,
    /// By a CDN's tree of two levels.
    Tree,
}

impl Routing {
    /// All, as they are written.
    pub const NAMES: [(&str, Routing); 3] =
        [("overlay", Routing::Overlay), ("direct", Routing::Direct), ("tree", Routing::Tree)];
}

impl std::str::FromStr for Routing {
    type Err = String;

    fn from_str(text: &str) -> Result<Routing, String> {
        let found = Routing::NAMES.into_iter().find(|(name, _)| *name == text);
        found.map(|(_, routing)| routing).ok_or_else(|| "overlay, direct and tree are possible".to_owned())
    }
}

impl fmt::Display for Routing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, _) = Routing::NAMES[*self as usize];
        f.write_str(name)
    }
}

impl Scenario {
    /// The same, with streams led otherwise.
    #[must_use]
    pub fn routed(&self, routing: Routing) -> Scenario {
        let mut scenario = self.clone();
        scenario.routing = routing;
        if routing == Routing::Overlay {
            return scenario;
        }
        scenario.policies = Policies::default();
        scenario.policies_from = Duration::ZERO;
        scenario.feed_gain = None;
        // Every link that there is.
        scenario.mesh_max = Some(limits::NEIGHBOURS);
        for stream in &mut scenario.streams {
            stream.protect = false;
        }
        if routing == Routing::Tree {
            let links = tree(self);
            scenario.paths.retain(|(from, to), _| match (*from, *to) {
                (Host::Relay(from), Host::Relay(to)) => links.contains(&(from.min(to), from.max(to))),
                (Host::Relay(_) | Host::Client(_), Host::Relay(_) | Host::Client(_)) => true,
            });
        }
        scenario
    }

    /// The same, with every namespace mapped to the policy of that name.
    ///
    /// # Errors
    /// If there is none.
    pub fn under_policy(&self, name: &str) -> Result<Scenario, ScenarioError> {
        let mut all: Vec<Policy> = self.policies.iter().map(|(_, policy)| policy.clone()).collect();
        if all.iter().all(|policy| policy.name != name) {
            let known: Vec<_> = all.iter().map(|policy| policy.name.as_str()).collect();
            return Err(ScenarioError::UnknownName {
                place: "[[policy]]",
                what: "policy",
                name: name.to_owned(),
                known: known.join(", "),
            });
        }
        for policy in &mut all {
            policy.namespaces = if policy.name == name { vec!["*".to_owned()] } else { Vec::new() };
        }
        Ok(Scenario { policies: Policies::new(all)?, ..self.clone() })
    }

    /// How the controller prices links.
    pub(crate) fn cost_config(&self) -> CostConfig {
        match self.routing {
            Routing::Overlay | Routing::Tree => {
                CostConfig { egress: self.egress.clone(), ..CostConfig::default() }
            }
            Routing::Direct => CostConfig { hop: DIRECT_HOP, ..CostConfig::default() },
        }
    }

    /// Round trips between relays as the scenario begins, of their own link or of the fastest way; by both relays.
    pub(crate) fn round_trips_ms(&self) -> Vec<Vec<f64>> {
        let ways = FastestWays::of(self);
        let from = |from: usize| (0..ways.count).map(|to| ways.time(from, to).as_secs_f64() * 1e3).collect();
        (0..ways.count).map(from).collect()
    }

    /// What a gigabyte from region to region costs; the first price that fits counts, and what none fits is free.
    pub fn price_micro_dollars(&self, from: &str, to: &str) -> u64 {
        let price = self.egress.iter().find(|price| price.fits(from, to));
        price.map_or(0, |price| price.micro_dollars_per_gb)
    }
}

/// Links of the tree, the lower relay first.
fn tree(scenario: &Scenario) -> BTreeSet<(RelayId, RelayId)> {
    let ways = FastestWays::of(scenario);
    let count = scenario.relays.len();
    let wanted = ((count as f64 / 2.0).sqrt().round() as usize).max(2).min(count);
    let hubs = medians(&ways, wanted);
    let sum = |hub: usize| hubs.iter().map(|other| ways.time(hub, *other)).sum::<Duration>();
    let centre = hubs.iter().copied().min_by_key(|hub| (sum(*hub), *hub)).expect("a scenario has relays");
    let mut links = BTreeSet::new();
    for relay in 0..count {
        let above = if hubs.contains(&relay) { centre } else { ways.nearest(relay, &hubs) };
        ways.links(relay, above, &mut links);
    }
    links
}

/// Relays to which the others have the shortest round trips in sum, ascending.
fn medians(ways: &FastestWays, wanted: usize) -> Vec<usize> {
    let count = ways.count;
    let cost = |hubs: &[usize]| {
        (0..count).map(|relay| ways.time(relay, ways.nearest(relay, hubs))).sum::<Duration>()
    };
    let mut hubs: Vec<usize> = Vec::new();
    while hubs.len() < wanted {
        let with = |relay: usize| cost(&[&hubs[..], &[relay]].concat());
        let free = (0..count).filter(|relay| !hubs.contains(relay));
        let next = free.min_by_key(|relay| (with(*relay), *relay)).expect("fewer hubs than relays");
        hubs.push(next);
    }
    for _ in 0..EXCHANGES_MAX {
        let others: Vec<_> = (0..count).filter(|relay| !hubs.contains(relay)).collect();
        let exchanges = (0..hubs.len()).flat_map(|place| others.iter().map(move |other| (place, *other)));
        let exchanged = exchanges.map(|(place, other)| {
            let mut changed = hubs.clone();
            changed[place] = other;
            (cost(&changed), changed)
        });
        match exchanged.min().filter(|(best, _)| *best < cost(&hubs)) {
            Some((_, better)) => hubs = better,
            None => break,
        }
    }
    hubs.sort_unstable();
    hubs
}

/// Round trips between relays as the scenario begins: of their own link, or of the fastest way where they have none.
struct FastestWays {
    count: usize,
    /// By both relays.
    times: Vec<Duration>,
    /// By both relays: who comes next on the way from the first to the second.
    next: Vec<usize>,
}

impl FastestWays {
    fn of(scenario: &Scenario) -> FastestWays {
        let count = scenario.relays.len();
        let delay = |from: usize, to: usize| {
            let hosts = [from, to].map(|relay| Host::Relay(RelayId(relay as u16)));
            scenario.paths.get(&(hosts[0], hosts[1])).map(|schedule| schedule.first().delay)
        };
        let mut own = vec![APART; count * count];
        for from in 0..count {
            own[from * count + from] = Duration::ZERO;
            for to in (0..count).filter(|to| *to != from) {
                if let Some((there, back)) = delay(from, to).zip(delay(to, from)) {
                    own[from * count + to] = there + back;
                }
            }
        }
        let mut times = own.clone();
        let mut next: Vec<usize> = (0..count * count).map(|place| place % count).collect();
        if own.contains(&APART) {
            // Floyd and Warshall.
            for via in 0..count {
                for from in 0..count {
                    for to in 0..count {
                        let way = times[from * count + via] + times[via * count + to];
                        if way < times[from * count + to] {
                            times[from * count + to] = way;
                            next[from * count + to] = next[from * count + via];
                        }
                    }
                }
            }
        }
        for (place, own) in own.into_iter().enumerate().filter(|(_, own)| *own < APART) {
            (times[place], next[place]) = (own, place % count);
        }
        FastestWays { count, times, next }
    }

    fn time(&self, from: usize, to: usize) -> Duration {
        self.times[from * self.count + to]
    }

    fn nearest(&self, relay: usize, hubs: &[usize]) -> usize {
        let nearest = hubs.iter().copied().min_by_key(|hub| (self.time(relay, *hub), *hub));
        nearest.expect("there is a hub")
    }

    /// Adds the links of the way.
    fn links(&self, from: usize, to: usize, links: &mut BTreeSet<(RelayId, RelayId)>) {
        let mut at = from;
        for _ in 0..self.count {
            if at == to || self.time(at, to) >= APART {
                return;
            }
            let next = self.next[at * self.count + to];
            links.insert((RelayId(at.min(next) as u16), RelayId(at.max(next) as u16)));
            at = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three relays near each other, three others, and one between; a mesh of the distances on a line.
    fn line() -> Scenario {
        let places = [0_u32, 1, 2, 20, 21, 22, 10];
        let mut text = "name = \"t\"\nrun_for = \"3s\"\n".to_owned();
        for relay in 0..places.len() {
            text += &format!("[[relay]]\nname = \"r{relay}\"\n");
        }
        for (a, at) in places.iter().enumerate() {
            for (b, other) in places.iter().enumerate().skip(a + 1) {
                let delay = at.abs_diff(*other);
                text += &format!("[[link]]\nbetween = \"r{a}-r{b}\"\nis = \"delay={delay}ms\"\n");
            }
        }
        text += "[[client]]\nname = \"c\"\nrelay = \"r0\"\n[[stream]]\nclient = \"c\"\nroom = \"r\"\nuser = \"u\"\n\
                 stream = \"s\"\nkind = \"audio\"\nbursts_per_s = 50\nbytes = 100\nprotect = true\n\
                 [[subscription]]\nclient = \"c\"\nroom = \"r\"\n[expect]\nrecover_within = \"1s\"\ndelivered_min = 0\n";
        Scenario::parse(&text, &mut |_| unreachable!("no file")).expect("legal")
    }

    fn names(links: &BTreeSet<(RelayId, RelayId)>) -> Vec<(u16, u16)> {
        links.iter().map(|(a, b)| (a.0, b.0)).collect()
    }

    #[test]
    fn a_tree_has_hubs_in_the_middle_of_those_that_hang_on_them() {
        let scenario = line();
        // Two hubs: one in the middle of each three. The one between is as far from the left one (9 ms) as from none else.
        assert_eq!(medians(&FastestWays::of(&scenario), 2), [1, 4]);
        assert_eq!(names(&tree(&scenario)), [(0, 1), (1, 2), (1, 4), (1, 6), (3, 4), (4, 5)]);
        let routed = scenario.routed(Routing::Tree);
        let between =
            routed.paths.keys().filter(|(from, to)| matches!((from, to), (Host::Relay(_), Host::Relay(_))));
        assert_eq!(between.count(), 12);
        assert!(!routed.streams[0].protect);
        assert_eq!(routed.routed(Routing::Tree).paths, routed.paths, "of a tree the same tree");
    }

    #[test]
    fn where_there_is_no_link_the_way_stands_for_it() {
        let mut scenario = line();
        let [one, four] = [1, 4].map(|relay| Host::Relay(RelayId(relay)));
        for direction in [(one, four), (four, one)] {
            scenario.paths.remove(&direction);
        }
        // Of the ways from 1 to 4, all of 20 ms, the one by relay 2 is found first.
        assert_eq!(names(&tree(&scenario)), [(0, 1), (1, 2), (1, 6), (2, 4), (3, 4), (4, 5)]);
    }
}
