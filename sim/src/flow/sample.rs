//! What routes and streams are like at a moment, over the true network.

use super::run::Flow;
use super::station::Station;
use crate::scenario::RelayId;
use crate::topology::RoundTrips;
use crate::topology::gain::{Gain, RELAY_US, is_faster};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use wire_format::control::StreamName;
use wire_format::{NodeIndex, PolicyIndex, StreamKey};

/// A way with more relays is a loop.
const HOPS_MAX: usize = 64;
/// Faster or slower by this much counts.
const COUNTS_PCT: u64 = 10;
/// Who came or left so shortly ago is not looked for.
pub(crate) const JOINS_WITHIN: Duration = Duration::from_secs(5);

/// A moment.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) at: Duration,
    /// Nothing is broken, and nothing changed of late.
    pub(crate) settled: bool,
    /// The controller has long been there for everyone.
    pub(crate) controlled: bool,
    pub(crate) routes: RouteSample,
    pub(crate) streams: StreamSample,
    /// Ways that come back to a relay, in words.
    pub(crate) loops: Vec<String>,
    /// Who gets what nobody there wants, in words.
    pub(crate) not_entitled: Vec<String>,
    /// Who does not get what is wanted, in words; the first few.
    pub(crate) not_served: Vec<String>,
}

/// All ordered pairs of relays with a link, and of them those with a route.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct RouteSample {
    pub(crate) pairs: u64,
    /// Without a route.
    pub(crate) unreachable: u64,
    /// By the oracle, with at most one, two and three relays, percent.
    pub(crate) oracle_gain_pct: [f64; 3],
    /// Faster than direct by more than a tenth.
    pub(crate) gaining: u64,
    /// Slower by more than a tenth.
    pub(crate) worse: u64,
    /// No relay makes them faster; of these, so many go direct.
    pub(crate) gainless: u64,
    pub(crate) direct_kept: u64,
    /// What routes save against direct, and what the oracle does, microseconds in all.
    pub(crate) saved_us: i64,
    pub(crate) could_save_us: i64,
    /// With no relay, one, two, and more.
    pub(crate) by_relays: [u64; 4],
    /// On another way than at the sample before.
    pub(crate) changed: u64,
    /// The longest route as a multiple of the best way.
    pub(crate) worst_factor: f64,
}

/// All deliveries that are wanted: of a stream to a relay where somebody wants it.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct StreamSample {
    pub(crate) streams: u64,
    pub(crate) wanted: u64,
    pub(crate) served: u64,
    /// Links that streams cross, each counted once a stream.
    pub(crate) copies: u64,
    pub(crate) bits_per_s: u64,
    /// One way, by relays and direct, of each delivery, microseconds.
    pub(crate) delays_us: Vec<(u32, Option<u32>)>,
    /// Bits per second on each link.
    pub(crate) loads: BTreeMap<(RelayId, RelayId), u64>,
}

/// The true network and what it allows, until it changes.
#[derive(Debug)]
pub(crate) struct Oracle {
    pub(crate) trips: RoundTrips,
    pub(crate) gain: Gain,
}

/// How a stream is known to be wanted.
#[derive(Debug, Default)]
pub(crate) struct Books {
    pub(crate) rooms: BTreeMap<(String, String), Room>,
}

#[derive(Debug, Default)]
pub(crate) struct Room {
    pub(crate) streams: BTreeMap<u32, Published>,
    pub(crate) wants: BTreeMap<u32, Want>,
}

#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) relay: RelayId,
    pub(crate) name: StreamName,
    pub(crate) bits_per_s: u64,
    pub(crate) since: Duration,
}

#[derive(Debug)]
pub(crate) struct Want {
    pub(crate) relay: RelayId,
    pub(crate) user: Option<String>,
    pub(crate) stream: Option<String>,
    pub(crate) since: Duration,
    pub(crate) until: Option<Duration>,
}

impl Want {
    fn matches(&self, name: &StreamName) -> bool {
        self.user.as_ref().is_none_or(|user| *user == name.user)
            && self.stream.as_ref().is_none_or(|stream| *stream == name.stream)
    }
}

/// A way from relay to relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Way {
    /// Round trip, relays on the way included.
    pub(crate) us: u64,
    pub(crate) relays: u32,
    /// Of the relays on it.
    digest: u64,
}

/// Why there is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum NoWay {
    /// A relay knows no next one, or the link to it is gone.
    DeadEnd,
    Loop(String),
}

/// Follows tables as frames would.
pub(crate) struct Ways<'a> {
    stations: &'a [Station],
    relay_of: &'a BTreeMap<NodeIndex, RelayId>,
    trips: &'a RoundTrips,
}

impl<'a> Ways<'a> {
    pub(crate) fn new(
        stations: &'a [Station],
        relay_of: &'a BTreeMap<NodeIndex, RelayId>,
        trips: &'a RoundTrips,
    ) -> Ways<'a> {
        Ways { stations, relay_of, trips }
    }

    pub(crate) fn station(&self, relay: RelayId) -> &'a Station {
        &self.stations[usize::from(relay.0)]
    }

    fn next(&self, from: RelayId, at: RelayId, policy: PolicyIndex, to: NodeIndex) -> Option<RelayId> {
        let epoch = self.station(from).stamp?;
        let next = self.station(at).next_hop(epoch, policy, to)?;
        self.relay_of.get(&next).copied()
    }

    pub(crate) fn way(&self, from: RelayId, to: RelayId, policy: PolicyIndex) -> Result<Way, NoWay> {
        let goal = self.station(to).node.ok_or(NoWay::DeadEnd)?;
        let mut way = Way { us: 0, relays: 0, digest: 0xCBF2_9CE4_8422_2325 };
        let mut at = from;
        while at != to {
            let next = self.next(from, at, policy, goal).ok_or(NoWay::DeadEnd)?;
            let us = self.trips.us(at.0.into(), next.0.into()).ok_or(NoWay::DeadEnd)?;
            way.us += u64::from(us) + if next == to { 0 } else { RELAY_US };
            way.relays += u32::from(next != to);
            way.digest = (way.digest ^ u64::from(next.0)).wrapping_mul(0x0100_0000_01B3);
            if way.relays as usize > HOPS_MAX {
                return Err(NoWay::Loop(format!(
                    "from relay {} to relay {} by relay {}",
                    from.0, to.0, at.0
                )));
            }
            at = next;
        }
        Ok(way)
    }
}

impl Flow<'_> {
    /// Looks at everything.
    pub(crate) fn sample(&mut self) -> Sample {
        let mut sample = Sample {
            at: self.now,
            settled: self.is_settled(),
            controlled: self.is_controlled(),
            ..Sample::default()
        };
        let oracle = self.oracle.get_or_insert_with(|| {
            let trips = self.truth.round_trips();
            let gain = Gain::of(&trips);
            Oracle { trips, gain }
        });
        let ways = Ways::new(&self.stations, &self.relay_of, &oracle.trips);
        routes(&ways, oracle, &mut self.last_ways, &mut sample);
        let alive = |relay| self.truth.is_alive(relay);
        streams(&ways, &self.books, &alive, self.scenario, &mut sample);
        sample
    }
}

fn routes(ways: &Ways<'_>, oracle: &Oracle, last: &mut Vec<u64>, sample: &mut Sample) {
    let count = oracle.trips.count();
    let first = last.is_empty();
    last.resize(count * count, 0);
    let routes = &mut sample.routes;
    routes.oracle_gain_pct = oracle.gain.share_pct(COUNTS_PCT);
    for (from, to, direct) in oracle.trips.pairs() {
        let (direct, best) = (u64::from(direct), oracle.gain.best_us(from, to).expect("there is a link"));
        routes.pairs += 1;
        let way = match ways.way(RelayId(from as u16), RelayId(to as u16), PolicyIndex::DEFAULT) {
            Ok(way) => way,
            Err(NoWay::DeadEnd) => {
                routes.unreachable += 1;
                continue;
            }
            Err(NoWay::Loop(what)) => {
                sample.loops.push(what);
                continue;
            }
        };
        let place = from * count + to;
        routes.changed += u64::from(!first && last[place] != way.digest);
        last[place] = way.digest;
        routes.gaining += u64::from(is_faster(way.us, direct, COUNTS_PCT));
        routes.worse += u64::from(way.us * 100 > direct * (100 + COUNTS_PCT));
        if best >= direct {
            routes.gainless += 1;
            routes.direct_kept += u64::from(way.relays == 0);
        }
        routes.saved_us += direct as i64 - way.us as i64;
        routes.could_save_us += direct as i64 - best as i64;
        routes.by_relays[(way.relays as usize).min(3)] += 1;
        routes.worst_factor = routes.worst_factor.max(way.us as f64 / best.max(1) as f64);
    }
}

fn streams(
    ways: &Ways<'_>,
    books: &Books,
    alive: &dyn Fn(RelayId) -> bool,
    scenario: &crate::Scenario,
    sample: &mut Sample,
) {
    let (now, joined) = (sample.at, |since: Duration| since + JOINS_WITHIN <= sample.at);
    let name = |relay: RelayId| scenario.relays[usize::from(relay.0)].name.as_str();
    let mut memory = Memory::new();
    let mut told = (Vec::new(), Vec::new(), Vec::new());
    for room in books.rooms.values() {
        for (number, published) in &room.streams {
            let ingress = published.relay;
            if !alive(ingress) {
                continue;
            }
            sample.streams.streams += 1;
            let station = ways.station(ingress);
            let granted =
                station.publications.get(&wire_format::PublicationId(*number)).and_then(|held| held.granted);
            let reached = match granted {
                Some((key, _)) => tree(ways, key, ingress, &mut memory, &mut told.0),
                None => Tree::default(),
            };
            let matching =
                room.wants.values().filter(|want| want.matches(&published.name) && want.relay != ingress);
            let wants: Vec<_> = matching.collect();
            for relay in reached.delays_us.keys() {
                let recent = |want: &&&Want| want.until.is_none_or(|until| until + JOINS_WITHIN > now);
                if !wants.iter().filter(recent).any(|want| want.relay == *relay) {
                    told.1.push(format!(
                        "{:?} goes to {}, where nobody wants it",
                        published.name,
                        name(*relay)
                    ));
                }
            }
            let due =
                wants.iter().filter(|want| want.until.is_none() && joined(want.since) && alive(want.relay));
            let due: BTreeSet<RelayId> = due.map(|want| want.relay).collect();
            for relay in due.into_iter().filter(|_| joined(published.since)) {
                sample.streams.wanted += 1;
                match reached.delays_us.get(&relay) {
                    Some(us) => {
                        sample.streams.served += 1;
                        let direct = ways.trips.us(ingress.0.into(), relay.0.into()).map(|us| us / 2);
                        sample.streams.delays_us.push(((*us / 2) as u32, direct));
                    }
                    None if told.2.len() < 5 => {
                        let what = format!(
                            "{:?} from {} does not come to {}",
                            published.name,
                            name(ingress),
                            name(relay)
                        );
                        told.2.push(what);
                    }
                    None => {}
                }
            }
            sample.streams.copies += reached.links.len() as u64;
            sample.streams.bits_per_s += published.bits_per_s;
            for link in reached.links {
                *sample.streams.loads.entry(link).or_default() += published.bits_per_s;
            }
        }
    }
    sample.loops.extend(told.0);
    sample.not_entitled = told.1;
    sample.not_served = told.2;
}

/// Where a stream comes, and by which links.
#[derive(Default)]
struct Tree {
    /// Round trips from the ingress, by relay.
    delays_us: BTreeMap<RelayId, u64>,
    links: BTreeSet<(RelayId, RelayId)>,
}

type Memory = BTreeMap<(RelayId, RelayId, PolicyIndex), Option<(Way, Vec<RelayId>)>>;

fn tree(
    ways: &Ways<'_>,
    key: StreamKey,
    ingress: RelayId,
    memory: &mut Memory,
    loops: &mut Vec<String>,
) -> Tree {
    let mut tree = Tree::default();
    let mut holders = vec![(ingress, 0_u64)];
    while let Some((holder, until_here)) = holders.pop() {
        let Some(row) = ways.station(holder).rows.get(&key) else { continue };
        for node in &row.destinations {
            let Some(to) = ways.relay_of.get(node).copied().filter(|to| *to != ingress) else { continue };
            let found = memory.entry((holder, to, row.policy)).or_insert_with(|| {
                match ways.way(holder, to, row.policy) {
                    Ok(way) => Some((way, relays_of(ways, holder, to, row.policy))),
                    Err(NoWay::DeadEnd) => None,
                    Err(NoWay::Loop(what)) => {
                        loops.push(what);
                        None
                    }
                }
            });
            let Some((way, relays)) = found else { continue };
            let processing = if until_here == 0 { 0 } else { RELAY_US };
            let us = until_here + way.us + processing;
            tree.links.extend(relays.windows(2).map(|pair| (pair[0], pair[1])));
            if tree.delays_us.insert(to, us).is_none() {
                holders.push((to, us));
            }
        }
    }
    tree
}

fn relays_of(ways: &Ways<'_>, from: RelayId, to: RelayId, policy: PolicyIndex) -> Vec<RelayId> {
    let mut relays = vec![from];
    let Some(goal) = ways.station(to).node else { return relays };
    let mut at = from;
    while at != to {
        let Some(next) = ways.next(from, at, policy, goal) else { break };
        relays.push(next);
        at = next;
    }
    relays
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire_format::control::{ToRelay, Welcome};
    use wire_format::{Epoch, Plane, RouteTable};

    /// Relays whose rows say: from, to, and the next one.
    fn stations(count: u16, rows: &[(u16, u16, u16)]) -> (Vec<Station>, BTreeMap<NodeIndex, RelayId>) {
        let relay_of: BTreeMap<_, _> = (0..count).map(|at| (NodeIndex(at), RelayId(at))).collect();
        let stations = (0..count).map(|at| {
            let mut station = Station::new(RelayId(at));
            let mut table = RouteTable::new(Epoch(1));
            for (_, to, next) in rows.iter().filter(|(from, _, _)| *from == at) {
                let table = table.policy_mut(PolicyIndex::DEFAULT);
                table.next_hops.insert((Plane::PRIMARY, NodeIndex(*to)), NodeIndex(*next));
            }
            for message in [
                ToRelay::Welcome(Welcome { node: NodeIndex(at), term: 1 }),
                ToRelay::Table(table),
                ToRelay::Stamp { epoch: Epoch(1) },
            ] {
                station.hear(message, &relay_of).expect("in order");
            }
            station
        });
        (stations.collect(), relay_of)
    }

    #[test]
    fn ways_are_followed_to_their_end_or_found_to_have_none() {
        let mut trips = RoundTrips::none(4);
        for (from, to) in [(0, 1), (1, 2), (2, 1), (1, 3), (2, 3)] {
            trips.set(from, to, 10_000);
        }
        let rows = [(0, 3, 1), (1, 3, 3), (0, 2, 1), (1, 2, 2), (2, 0, 1), (1, 0, 2), (3, 0, 0)];
        let (stations, relay_of) = stations(4, &rows);
        let ways = Ways::new(&stations, &relay_of, &trips);
        let way = |from, to| ways.way(RelayId(from), RelayId(to), PolicyIndex::DEFAULT);
        let found = way(0, 3).expect("by relay 1");
        assert_eq!((found.us, found.relays), (20_000 + RELAY_US, 1));
        assert!(matches!(way(1, 0), Err(NoWay::Loop(_))), "1 and 2 send it to each other");
        assert_eq!(way(3, 0), Err(NoWay::DeadEnd), "there is no such link");
        assert_eq!(way(3, 1), Err(NoWay::DeadEnd), "there is no row");
    }
}
