//! Planes over random overlays, judged by removing relays and links one by one and looking who still reaches whom.

use super::*;
use crate::executor::Executor;
use crate::topology::{Risk, Transit};
use petgraph::graph::{DiGraph, NodeIndex as GraphIndex, UnGraph};
use petgraph::visit::{EdgeFiltered, EdgeRef, NodeFiltered};
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::BTreeSet;
use wire_format::PlanePair;

/// An overlay: whether each relay may be passed, and links with their costs there and back.
#[derive(Clone, Debug)]
pub(super) struct Overlay {
    pub(super) transit: Vec<Transit>,
    pub(super) links: Vec<(usize, usize, u64, u64)>,
    /// What each relay may fail together with others of; groups by number.
    pub(super) groups: Vec<Option<u8>>,
    graph: UnGraph<(), ()>,
}

/// Indices have gaps, as after years of relays that came and went.
pub(super) fn index(relay: usize) -> NodeIndex {
    NodeIndex(3 * u16::try_from(relay).expect("small") + 1)
}

fn place(index: NodeIndex) -> usize {
    usize::from((index.0 - 1) / 3)
}

impl Overlay {
    /// Links come once per pair, the first one counts.
    pub(super) fn new(count: usize, links: impl IntoIterator<Item = (usize, usize, u64, u64)>) -> Overlay {
        let mut seen = BTreeSet::new();
        let links = links.into_iter().filter(|(a, b, ..)| a != b && seen.insert((*a.min(b), *a.max(b))));
        let links: Vec<_> = links.collect();
        let mut graph = UnGraph::new_undirected();
        let nodes: Vec<GraphIndex> = (0..count).map(|_| graph.add_node(())).collect();
        for (a, b, ..) in &links {
            graph.add_edge(nodes[*a], nodes[*b], ());
        }
        Overlay { transit: vec![Transit::Willing; count], links, groups: vec![None; count], graph }
    }

    pub(super) fn len(&self) -> usize {
        self.transit.len()
    }

    fn topology(&self) -> Topology {
        let mut topology = Topology::default();
        for (relay, transit) in self.transit.iter().enumerate() {
            topology.add_relay(index(relay), *transit);
            self.add_risk(relay, &mut topology);
        }
        for (a, b, out_us, back_us) in &self.links {
            topology.add_link(index(*a), index(*b), *out_us);
            topology.add_link(index(*b), index(*a), *back_us);
        }
        topology
    }

    pub(super) fn add_risk(&self, relay: usize, topology: &mut Topology) {
        if let Some(group) = self.groups[relay] {
            topology.add_risk(index(relay), Risk::Named(group.to_string()));
        }
    }

    /// Groups of those whom a path passes, but for those of its ends; groups of one relay, and of all, are none.
    pub(super) fn passed_groups(&self, path: &[usize]) -> BTreeSet<u8> {
        let (from, to) = (self.groups[path[0]], self.groups[path[path.len() - 1]]);
        let counts = |group: &u8| {
            let members = self.groups.iter().filter(|own| **own == Some(*group)).count();
            members > 1 && members < self.len() && ![from, to].contains(&Some(*group))
        };
        path[1..path.len() - 1].iter().filter_map(|relay| self.groups[*relay]).filter(counts).collect()
    }

    fn routes(&self) -> Routes {
        Routes::compute(Timestamp::ZERO, &self.topology(), None, Executor::INLINE)
    }

    /// Whether a way leads from one relay to another that passes nobody who must not be passed, nor what is gone.
    pub(super) fn reaches(&self, from: usize, to: usize, gone: Option<Gone>) -> bool {
        let relays = NodeFiltered::from_fn(&self.graph, |node| {
            let relay = node.index();
            let passable = relay == from || relay == to || self.transit[relay] != Transit::Never;
            passable && gone != Some(Gone::Relay(relay))
        });
        let links = EdgeFiltered::from_fn(&relays, |edge| {
            gone.is_none_or(|gone| !gone.is_link(edge.source().index(), edge.target().index()))
        });
        petgraph::algo::has_path_connecting(&links, GraphIndex::new(from), GraphIndex::new(to), None)
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let count = self.len();
        (0..count).flat_map(move |from| (0..count).filter(move |to| *to != from).map(move |to| (from, to)))
    }

    /// Everything that can fail alone.
    fn parts(&self) -> Vec<Gone> {
        let links = self.links.iter().map(|(a, b, ..)| Gone::Link(*a.min(b), *a.max(b)));
        (0..self.len()).map(Gone::Relay).chain(links).collect()
    }

    /// What every way from one relay to another passes.
    pub(super) fn narrows(&self, from: usize, to: usize) -> BTreeSet<Gone> {
        let between =
            self.parts().into_iter().filter(|part| *part != Gone::Relay(from) && *part != Gone::Relay(to));
        between.filter(|part| !self.reaches(from, to, Some(*part))).collect()
    }

    fn cost_us(&self, path: &[usize]) -> u64 {
        let hop_us = |from: usize, to: usize| {
            let forward = self.links.iter().find(|(a, b, ..)| (*a, *b) == (from, to)).map(|link| link.2);
            let backward = self.links.iter().find(|(a, b, ..)| (*b, *a) == (from, to)).map(|link| link.3);
            forward.or(backward).expect("a path follows links")
        };
        path.windows(2).map(|hop| hop_us(hop[0], hop[1])).sum()
    }
}

/// What has failed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Gone {
    Relay(usize),
    /// The lower end first.
    Link(usize, usize),
}

impl Gone {
    fn is_link(self, one: usize, other: usize) -> bool {
        self == Gone::Link(one.min(other), one.max(other))
    }

    pub(super) fn is_on(self, path: &[usize]) -> bool {
        match self {
            Gone::Relay(relay) => path.contains(&relay),
            Gone::Link(..) => path.windows(2).any(|hop| self.is_link(hop[0], hop[1])),
        }
    }
}

/// Everything between the ends of a path.
pub(super) fn between(path: &[usize]) -> BTreeSet<Gone> {
    let relays = path[1..path.len() - 1].iter().map(|relay| Gone::Relay(*relay));
    let links = path.windows(2).map(|hop| Gone::Link(hop[0].min(hop[1]), hop[0].max(hop[1])));
    relays.chain(links).collect()
}

pub(super) fn way(routes: &Routes, from: usize, plane: Plane, to: usize) -> Option<Vec<usize>> {
    let path = routes.path(index(from), plane, index(to))?;
    let path: Vec<usize> = path.into_iter().map(place).collect();
    assert_eq!(path.iter().collect::<BTreeSet<_>>().len(), path.len(), "{path:?} passes a relay twice");
    Some(path)
}

/// Costs with many ties.
fn costs() -> impl Strategy<Value = (u64, u64)> {
    prop_oneof![
        (1..6_u64, 1..6_u64).prop_map(|(out, back)| (out * 10_000, back * 10_000)),
        (1_000..200_000_u64, 1_000..200_000_u64),
    ]
}

/// All relays reach each other: each is tied to an earlier one, and then further links are added.
pub(super) fn connected(relays: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Overlay> {
    relays.prop_flat_map(|count| {
        let ties = proptest::collection::vec((any::<Index>(), costs()), count - 1);
        let more = proptest::collection::vec((0..count, 0..count, costs()), 0..=2 * count);
        (ties, more).prop_map(move |(ties, more)| {
            let tie =
                |(at, (to, (out, back))): (usize, (Index, (u64, u64)))| (at + 1, to.index(at + 1), out, back);
            let ties = ties.into_iter().enumerate().map(tie);
            Overlay::new(count, ties.chain(more.into_iter().map(|(a, b, (out, back))| (a, b, out, back))))
        })
    })
}

/// No relay and no link is indispensable: a circle, and further circles closed over two relays that are there.
fn biconnected() -> impl Strategy<Value = Overlay> {
    let ears = proptest::collection::vec((0..6_usize, any::<Index>(), any::<Index>()), 0..12);
    (3..=10_usize, ears, proptest::collection::vec(costs(), 200), any::<u64>()).prop_map(
        |(circle, ears, costs, shuffle)| {
            let mut links: Vec<(usize, usize)> = (0..circle).map(|at| (at, (at + 1) % circle)).collect();
            let mut count = circle;
            for (length, from, to) in ears {
                let length = length.min(40 - count);
                let from = from.index(count);
                let to = (from + 1 + to.index(count - 1)) % count;
                let stations: Vec<usize> =
                    [from].into_iter().chain(count..count + length).chain([to]).collect();
                links.extend(stations.windows(2).map(|hop| (hop[0], hop[1])));
                count += length;
            }
            // So that indices say nothing about the order of construction.
            let mut names: Vec<usize> = (0..count).collect();
            names.sort_by_key(|name| (*name as u64 + 1).wrapping_mul(shuffle | 1) >> 7);
            let costs = costs.into_iter().cycle();
            let priced =
                links.into_iter().zip(costs).map(|((a, b), (out, back))| (names[a], names[b], out, back));
            Overlay::new(count, priced)
        },
    )
}

/// Some relays must not be passed, or only where nothing else leads on; some may fail together.
pub(super) fn with_unwilling(overlays: impl Strategy<Value = Overlay>) -> impl Strategy<Value = Overlay> {
    let transits =
        prop_oneof![6 => Just(Transit::Willing), 1 => Just(Transit::Reluctant), 1 => Just(Transit::Never)];
    let groups = proptest::collection::vec(proptest::option::weighted(0.7, 0..5_u8), 40);
    (overlays, proptest::collection::vec(transits, 40), groups).prop_map(|(overlay, transits, groups)| {
        let (transit, groups) = (transits[..overlay.len()].to_vec(), groups[..overlay.len()].to_vec());
        Overlay { transit, groups, ..overlay }
    })
}

/// No relay of a path but its ends must not be passed.
fn check_transits(overlay: &Overlay, path: &[usize]) -> Result<(), TestCaseError> {
    let passed = &path[1..path.len() - 1];
    prop_assert!(passed.iter().all(|relay| overlay.transit[*relay] != Transit::Never), "{:?}", path);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_plane_leads_everywhere(overlay in with_unwilling(connected(2..=40))) {
        let routes = overlay.routes();
        for (from, to) in overlay.pairs() {
            for plane in PLANES {
                let path = way(&routes, from, plane, to);
                prop_assert_eq!(path.is_some(), overlay.reaches(from, to, None), "{} to {} on {:?}", from, to, plane);
                let Some(path) = path else { continue };
                prop_assert_eq!(path.last(), Some(&to));
                check_transits(&overlay, &path)?;
            }
        }
    }

    #[test]
    fn whatever_fails_alone_red_or_blue_survives(overlay in biconnected()) {
        let routes = overlay.routes();
        for (from, to) in overlay.pairs() {
            let [red, blue] = [RED, BLUE].map(|plane| way(&routes, from, plane, to).expect("all are connected"));
            for part in overlay.parts() {
                if part != Gone::Relay(from) && part != Gone::Relay(to) {
                    prop_assert!(!part.is_on(&red) || !part.is_on(&blue), "{part:?} is on {red:?} and {blue:?}");
                }
            }
            prop_assert!(routes.backup(index(from), index(to)).is_some(), "{} to {}", from, to);
        }
        prop_assert_eq!(routes.weak_points(), WeakPoints::default());
    }

    #[test]
    fn a_backup_avoids_the_next_hop_and_is_the_cheaper_of_two(overlay in with_unwilling(connected(2..=24))) {
        let routes = overlay.routes();
        for (from, to) in overlay.pairs() {
            let Some(primary) = way(&routes, from, Plane::PRIMARY, to) else {
                prop_assert_eq!(routes.backup(index(from), index(to)), None);
                continue;
            };
            let next = primary[1];
            let link = Gone::Link(from.min(next), from.max(next));
            let price_us = |path: &[usize]| -> u64 {
                path[1..path.len() - 1].iter().map(|relay| overlay.transit[*relay].price_us()).sum()
            };
            let good = [RED, BLUE].into_iter().filter_map(|plane| {
                let path = way(&routes, from, plane, to)?;
                let avoids = !link.is_on(&path) && (next == to || !path.contains(&next));
                // What may have failed with the next hop comes after what may not.
                let suspected = if next == to { None } else { overlay.groups[next] };
                let shares = suspected.is_some_and(|group| overlay.passed_groups(&path).contains(&group));
                avoids.then(|| (shares, overlay.cost_us(&path) + price_us(&path), plane))
            });
            let best = good.min().map(|(.., plane)| plane);
            prop_assert_eq!(routes.backup(index(from), index(to)), best, "{} to {}", from, to);
            // Where neither serves, nothing does.
            let failed = if next == to { link } else { Gone::Relay(next) };
            prop_assert_eq!(best.is_some(), overlay.reaches(from, to, Some(failed)), "{} to {}", from, to);
            // The relay's table says the same.
            let table = routes.table(index(from));
            prop_assert_eq!(table.backup(index(to)), best);
            for plane in PLANES {
                let path = way(&routes, from, plane, to);
                prop_assert_eq!(table.next_hop(plane, index(to)).map(place), path.map(|path| path[1]));
            }
        }
    }

    #[test]
    fn red_and_blue_share_what_they_must_and_nothing_else(overlay in with_unwilling(connected(2..=16))) {
        let routes = overlay.routes();
        for (from, to) in overlay.pairs().filter(|(from, to)| overlay.reaches(*from, *to, None)) {
            let [red, blue] = [RED, BLUE].map(|plane| way(&routes, from, plane, to).expect("there is a way"));
            let shared: BTreeSet<Gone> = between(&red).intersection(&between(&blue)).copied().collect();
            prop_assert_eq!(shared, overlay.narrows(from, to), "{:?} and {:?}", red, blue);
        }
    }

    #[test]
    fn a_pair_shares_what_every_way_passes_and_nothing_else(overlay in with_unwilling(connected(2..=16))) {
        let routes = overlay.routes();
        for (from, to) in overlay.pairs() {
            let narrows = overlay.narrows(from, to);
            let bridged = narrows.iter().any(|part| matches!(part, Gone::Link(..)));
            let protection = routes.protection(index(from), index(to));
            let pushed = routes.table(index(from)).pair(index(to));
            prop_assert_eq!(protection.pair(), pushed);
            match protection {
                Protection::Unreachable => prop_assert!(!overlay.reaches(from, to, None)),
                Protection::Bridge(one, other) => {
                    let (one, other) = (place(one), place(other));
                    prop_assert!(narrows.contains(&Gone::Link(one.min(other), one.max(other))));
                }
                Protection::Apart(_) | Protection::Through(_, _) => {
                    prop_assert!(!bridged && overlay.reaches(from, to, None));
                    let pair = pushed.expect("that of the protection");
                    let [one, other] = pair.planes().map(|plane| way(&routes, from, plane, to).expect("a way"));
                    let shared: BTreeSet<Gone> = between(&one).intersection(&between(&other)).copied().collect();
                    prop_assert_eq!(shared, narrows, "{:?} and {:?}", one, other);
                }
            }
        }
    }

    #[test]
    fn the_willing_pass_the_reluctant_only_where_there_are_no_two_other_ways(overlay in with_unwilling(connected(3..=16))) {
        let routes = overlay.routes();
        let willing = |relay: usize| overlay.transit[relay] == Transit::Willing;
        for (from, to) in overlay.pairs().filter(|(from, _)| willing(*from)) {
            let mut willing = overlay.clone();
            for relay in (0..overlay.len()).filter(|relay| *relay != from && *relay != to) {
                if willing.transit[relay] == Transit::Reluctant {
                    willing.transit[relay] = Transit::Never;
                }
            }
            if !willing.reaches(from, to, None) || !willing.narrows(from, to).is_empty() {
                continue;
            }
            for plane in PLANES {
                let path = way(&routes, from, plane, to).expect("there is a way");
                let passed = &path[1..path.len() - 1];
                prop_assert!(passed.iter().all(|relay| overlay.transit[*relay] == Transit::Willing), "{:?}", path);
            }
        }
    }

    #[test]
    fn weak_points_are_what_someone_would_miss(overlay in with_unwilling(connected(1..=12)), cut: bool) {
        let mut overlay = overlay;
        if cut {
            // Overlays in several parts too.
            let half = overlay.links[..overlay.links.len() / 2].to_vec();
            overlay = Overlay { transit: overlay.transit.clone(), ..Overlay::new(overlay.len(), half) };
        }
        let weak = overlay.routes().weak_points();
        let missed = |part: Gone| {
            overlay.pairs().any(|(from, to)| {
                part != Gone::Relay(from)
                    && part != Gone::Relay(to)
                    && overlay.reaches(from, to, None)
                    && !overlay.reaches(from, to, Some(part))
            })
        };
        for part in overlay.parts() {
            let said = match part {
                Gone::Relay(relay) => weak.cut_vertices.contains(&index(relay)),
                Gone::Link(low, high) => weak.bridges.contains(&(index(low), index(high))),
            };
            prop_assert_eq!(said, missed(part), "{:?}", part);
        }
    }
}

/// From relay 0 to relay 1 by four others, the further the dearer: two that stand together, and two that do not.
fn four_ways(together: [u8; 2]) -> Overlay {
    let ways = [(2, 10_000), (3, 12_000), (4, 18_000), (5, 19_000)];
    let links = ways.into_iter().flat_map(|(by, us)| [(0, by, us, us), (by, 1, us, us)]);
    let mut overlay = Overlay::new(6, links);
    overlay.groups = vec![None, None, Some(together[0]), Some(together[1]), Some(7), Some(8)];
    overlay
}

#[test]
fn what_may_fail_together_is_on_one_of_two_ways_alone() {
    let ways = |overlay: &Overlay| {
        let routes = overlay.routes();
        let by = |plane| way(&routes, 0, plane, 1).expect("a way")[1];
        let pair = routes.protection(index(0), index(1)).pair().expect("two ways");
        let pair_by: BTreeSet<usize> = pair.planes().into_iter().map(by).collect();
        let shared = routes.shared_risks(index(0), index(1), PlanePair::RedBlue);
        (BTreeSet::from([by(RED), by(BLUE)]), pair_by, routes.backup(index(0), index(1)).map(by), shared)
    };
    // Apart, the two shortest ways serve.
    let apart = ways(&four_ways([1, 2]));
    assert_eq!(apart, (BTreeSet::from([2, 3]), BTreeSet::from([2, 3]), Some(3), Vec::new()));
    let together = ways(&four_ways([1, 1]));
    assert_eq!(together, (BTreeSet::from([2, 4]), BTreeSet::from([2, 4]), Some(4), Vec::new()));
    // What is further away than that is worth is not taken, and said.
    let mut far = four_ways([1, 1]);
    for link in &mut far.links[4..] {
        (link.2, link.3) = (40_000, 40_000);
    }
    let far = ways(&far);
    let group = Risk::Named("1".into());
    assert_eq!(far, (BTreeSet::from([2, 3]), BTreeSet::from([2, 3]), Some(3), vec![group]));
}

#[test]
fn groups_beyond_the_most_are_counted() {
    let mut topology = Topology::default();
    for relay in 0..400 {
        topology.add_relay(index(relay), Transit::Willing);
        topology.add_risk(index(relay), Risk::Isp((relay % 130).to_string()));
    }
    let routes = Routes::compute(Timestamp::ZERO, &topology, None, Executor::INLINE);
    assert_eq!(routes.risks_left_out(), 2);
}

/// Relays on a plane, each linked to the nearest ones and to a few others; links cost their length, a little unequally.
fn spread_out(count: usize) -> impl Strategy<Value = Overlay> {
    let spots = proptest::collection::vec((0..10_000_i64, 0..10_000_i64), count);
    (spots, proptest::collection::vec((0..count, 0..count, 0..500_u64), count)).prop_map(
        move |(spots, more)| {
            let far_us = |a: usize, b: usize| {
                let ((ax, ay), (bx, by)) = (spots[a], spots[b]);
                1_000 + 10 * u64::try_from((ax - bx).pow(2) + (ay - by).pow(2)).expect("a square").isqrt()
            };
            let near = (0..count).flat_map(|a| {
                let mut others: Vec<usize> = (0..count).filter(|b| *b != a).collect();
                others.sort_by_key(|b| far_us(a, *b));
                others.truncate(5);
                others.into_iter().map(move |b| (a, b, 0))
            });
            let circle = (0..count).map(|a| (a, (a + 1) % count, 0));
            let links = near.chain(circle).chain(more).filter(|(a, b, _)| a != b);
            Overlay::new(count, links.map(|(a, b, uneven_us)| (a, b, far_us(a, b) + uneven_us, far_us(a, b))))
        },
    )
}

/// How many pairs have red and blue ways with a group in common, and what all those ways cost.
fn sharing(overlay: &Overlay, routes: &Routes) -> (usize, u64) {
    let (mut sharing, mut cost_us) = (0, 0);
    for (from, to) in overlay.pairs() {
        let [red, blue] = [RED, BLUE].map(|plane| way(routes, from, plane, to).expect("all are connected"));
        let shared = overlay.passed_groups(&red).intersection(&overlay.passed_groups(&blue)).count();
        let said = routes.shared_risks(index(from), index(to), PlanePair::RedBlue).len();
        if routes.risks_known() {
            assert_eq!(said, shared, "{red:?} and {blue:?}");
        }
        sharing += usize::from(shared > 0);
        cost_us += overlay.cost_us(&red) + overlay.cost_us(&blue);
    }
    (sharing, cost_us)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn red_and_blue_share_few_regions_and_are_hardly_longer(overlay in spread_out(48), groups in proptest::collection::vec(0..8_u8, 48)) {
        let mut overlay = overlay;
        let (_, unaware_us) = sharing(&overlay, &overlay.routes());
        let unaware_routes = overlay.routes();
        overlay.groups = groups.into_iter().map(Some).collect();
        let (unaware, _) = sharing(&overlay, &unaware_routes);
        let (aware, aware_us) = sharing(&overlay, &overlay.routes());
        prop_assert!(
            aware * 2 <= unaware && aware_us * 100 <= unaware_us * 125,
            "{aware} instead of {unaware} pairs, {} % of the cost", aware_us * 100 / unaware_us
        );
    }

    #[test]
    fn backup_paths_are_hardly_longer_than_they_must_be(overlay in spread_out(48)) {
        let routes = overlay.routes();
        let both_ways = |(a, b, out_us, back_us): &(usize, usize, u64, u64)| {
            [(*a as u32, *b as u32, *out_us), (*b as u32, *a as u32, *back_us)]
        };
        let directed = DiGraph::<(), u64>::from_edges(overlay.links.iter().flat_map(both_ways));
        let mut percents = Vec::new();
        for (from, to) in overlay.pairs() {
            let next = way(&routes, from, Plane::PRIMARY, to).expect("all are connected")[1];
            let Some(plane) = routes.backup(index(from), index(to)) else { continue };
            let backup = way(&routes, from, plane, to).expect("it was promised");
            // The best that avoids what failed, whichever trees others need: no tables could do better.
            let failed = if next == to { Gone::Link(from.min(to), from.max(to)) } else { Gone::Relay(next) };
            let rest = EdgeFiltered::from_fn(&directed, |edge| {
                !failed.is_on(&[edge.source().index(), edge.target().index()])
            });
            let (start, goal) = (GraphIndex::new(from), GraphIndex::new(to));
            let best_us = petgraph::algo::dijkstra(&rest, start, Some(goal), |edge| *edge.weight())[&goal];
            percents.push((overlay.cost_us(&backup) - best_us) * 100 / best_us);
        }
        percents.sort_unstable();
        let quantile = |share: usize| percents[percents.len() * share / 100];
        prop_assert!(quantile(50) <= 2 && quantile(95) <= 40, "{} %, {} %", quantile(50), quantile(95));
    }
}
