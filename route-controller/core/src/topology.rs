//! The overlay as a weighted graph, at one moment. The only user of petgraph.
//!
//! Single paths are sought here; those of all relays to all others in [`crate::planes`], over plain arrays, and a test holds
//! them to what is found here.

use petgraph::graph::{DiGraph, EdgeReference, NodeIndex as GraphIndex};
use petgraph::visit::{EdgeFiltered, EdgeRef};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use wire_format::NodeIndex;

/// Whether a relay may carry what is meant for others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Transit {
    /// Yes.
    Willing,
    /// Only where nothing else leads to the destination: it may not know new tables.
    Reluctant,
    /// No: it is a destination only.
    Never,
}

impl Transit {
    /// What passing such a relay costs on top.
    pub(crate) fn price_us(self) -> u64 {
        match self {
            Transit::Willing => 0,
            Transit::Reluctant | Transit::Never => RELUCTANCE_US,
        }
    }
}

/// What passing a reluctant relay costs on top: more than any path of willing ones.
const RELUCTANCE_US: u64 = 1_000_000_000_000;

/// What takes several relays at once when it fails.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Risk {
    /// They stand in the same region.
    Region(String),
    /// The same ISP or cloud connects them.
    Isp(String),
    /// An operator says so, by a tag `risk:NAME`.
    Named(String),
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Risk::Region(name) => write!(f, "region {name}"),
            Risk::Isp(name) => write!(f, "ISP {name}"),
            Risk::Named(name) => write!(f, "risk {name}"),
        }
    }
}

/// Relays, and the directed links between them that routes may use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Topology {
    /// Edges point backwards, from the end of a link to its start: shortest paths are sought from the destination.
    reversed: DiGraph<(NodeIndex, Transit), u64>,
    places: BTreeMap<NodeIndex, GraphIndex>,
    risks: BTreeMap<Risk, BTreeSet<NodeIndex>>,
}

impl Topology {
    /// A relay, once, before its links.
    pub(crate) fn add_relay(&mut self, node: NodeIndex, transit: Transit) {
        let place = self.reversed.add_node((node, transit));
        self.places.insert(node, place);
    }

    /// A relay is in this group.
    pub(crate) fn add_risk(&mut self, node: NodeIndex, risk: Risk) {
        self.risks.entry(risk).or_default().insert(node);
    }

    /// All groups by name, and who is in them.
    pub(crate) fn risks(&self) -> impl Iterator<Item = (&Risk, &BTreeSet<NodeIndex>)> {
        self.risks.iter()
    }

    /// A link in the direction from `from` to `to`, once. Ends that are no relays of this topology are ignored.
    pub(crate) fn add_link(&mut self, from: NodeIndex, to: NodeIndex, cost_us: u64) {
        if let (Some(from), Some(to)) = (self.places.get(&from), self.places.get(&to)) {
            self.reversed.add_edge(*to, *from, cost_us.max(1));
        }
    }

    /// A link that is there or not, at this cost or none, from now on.
    pub(crate) fn set_link(&mut self, from: NodeIndex, to: NodeIndex, cost_us: Option<u64>) {
        let (Some(&from), Some(&to)) = (self.places.get(&from), self.places.get(&to)) else { return };
        match cost_us {
            Some(cost_us) => {
                self.reversed.update_edge(to, from, cost_us.max(1));
            }
            None => {
                self.reversed.find_edge(to, from).map(|edge| self.reversed.remove_edge(edge));
            }
        }
    }

    /// The same at other prices of one relay's links: what they cost by `former`, if that is more, and none where it
    /// knows none.
    pub(crate) fn with_former_prices(
        &self,
        relay: NodeIndex,
        former: impl Fn(NodeIndex, NodeIndex) -> Option<u64>,
    ) -> Topology {
        let mut other = Topology::default();
        for (node, transit) in self.transits() {
            other.add_relay(node, transit);
        }
        for (from, to, cost_us) in self.links() {
            if from != relay && to != relay {
                other.add_link(from, to, cost_us);
            } else if let Some(former_us) = former(from, to) {
                other.add_link(from, to, cost_us.max(former_us));
            }
        }
        other
    }

    /// The cheapest way that is not this one: it lacks one of its links.
    pub(crate) fn runner_up(&self, path: &[NodeIndex]) -> Option<Vec<NodeIndex>> {
        let (from, to) = (*path.first()?, *path.last()?);
        let others = path.windows(2).filter_map(|hop| self.priced_path(from, to, Some((hop[0], hop[1]))));
        others.min().map(|(_, path)| path)
    }

    /// All relays, ascending, and whether they may be passed.
    pub(crate) fn transits(&self) -> impl Iterator<Item = (NodeIndex, Transit)> + '_ {
        self.places.values().map(|place| self.reversed[*place])
    }

    /// All links in all directions: from, to, cost.
    pub(crate) fn links(&self) -> impl Iterator<Item = (NodeIndex, NodeIndex, u64)> + '_ {
        let ends =
            |edge: EdgeReference<'_, u64>| (self.reversed[edge.target()].0, self.reversed[edge.source()].0);
        self.reversed.edge_references().map(move |edge| {
            let (from, to) = ends(edge);
            (from, to, *edge.weight())
        })
    }

    /// The same with the ends' ranks among all relays instead of their indices.
    pub(crate) fn links_by_rank(&self) -> Vec<(u32, u32, u64)> {
        let mut ranks = vec![0; self.places.len()];
        for (rank, place) in (0..).zip(self.places.values()) {
            ranks[place.index()] = rank;
        }
        let edges = self.reversed.raw_edges().iter();
        edges.map(|edge| (ranks[edge.target().index()], ranks[edge.source().index()], edge.weight)).collect()
    }

    /// Whether a frame for `destination` may go from `from` to `to` without misgivings.
    pub(crate) fn is_sound(&self, from: NodeIndex, to: NodeIndex, destination: NodeIndex) -> bool {
        let (Some(&from), Some(&to_place)) = (self.places.get(&from), self.places.get(&to)) else {
            return false;
        };
        let willing = to == destination || self.reversed[to_place].1 == Transit::Willing;
        willing && self.reversed.find_edge(to_place, from).is_some()
    }

    /// By destination and relay: what petgraph's search finds the shortest way to cost.
    pub(crate) fn all_by_dijkstra(&self) -> Vec<Vec<Option<u64>>> {
        let from = |goal: &GraphIndex| {
            let found = petgraph::algo::dijkstra(&self.reversed, *goal, None, |edge| *edge.weight());
            self.places.values().map(|place| found.get(place).copied()).collect()
        };
        self.places.values().map(from).collect()
    }

    /// The same by petgraph's dynamic programming.
    pub(crate) fn all_by_floyd_warshall(&self) -> Vec<Vec<Option<u64>>> {
        // It fails on negative cycles alone.
        let Ok(found) = petgraph::algo::floyd_warshall(&self.reversed, |edge| *edge.weight()) else {
            return Vec::new();
        };
        let cost_us = |goal, relay| found.get(&(goal, relay)).copied().filter(|us| *us != u64::MAX);
        let row = |goal: &GraphIndex| self.places.values().map(|relay| cost_us(*goal, *relay)).collect();
        self.places.values().map(row).collect()
    }

    /// For every relay that reaches `destination`: its next hop and the cost of its path. The next hop's own path is
    /// the rest of that path; of several equally short ones the next hop with the lowest index is taken, by everyone.
    #[cfg(test)]
    pub(crate) fn paths_to(&self, destination: NodeIndex) -> BTreeMap<NodeIndex, (NodeIndex, u64)> {
        self.paths_without(destination, None)
    }

    /// The shortest path, both ends included, that does not take a certain link.
    pub(crate) fn path(
        &self,
        from: NodeIndex,
        to: NodeIndex,
        without: Option<(NodeIndex, NodeIndex)>,
    ) -> Option<Vec<NodeIndex>> {
        self.priced_path(from, to, without).map(|(_, path)| path)
    }

    /// The same with its cost, reluctance included.
    pub(crate) fn priced_path(
        &self,
        from: NodeIndex,
        to: NodeIndex,
        without: Option<(NodeIndex, NodeIndex)>,
    ) -> Option<(u64, Vec<NodeIndex>)> {
        let paths = self.paths_without(to, without);
        let (_, cost_us) = *paths.get(&from)?;
        let next = |at: &NodeIndex| if *at == to { None } else { paths.get(at).map(|(next, _)| *next) };
        Some((cost_us, std::iter::successors(Some(from), next).collect()))
    }

    fn paths_without(
        &self,
        destination: NodeIndex,
        without: Option<(NodeIndex, NodeIndex)>,
    ) -> BTreeMap<NodeIndex, (NodeIndex, u64)> {
        let Some(&goal) = self.places.get(&destination) else {
            return BTreeMap::new();
        };
        // What leaves a relay in the reversed graph is what arrives there on its way to the destination.
        let left_out =
            without.and_then(|(from, to)| Some((*self.places.get(&to)?, *self.places.get(&from)?)));
        let is_open = |edge: &EdgeReference<'_, u64>| {
            let passes = edge.source() == goal || self.reversed[edge.source()].1 != Transit::Never;
            passes && left_out != Some((edge.source(), edge.target()))
        };
        let passable = EdgeFiltered::from_fn(&self.reversed, |edge| is_open(&edge));
        let price = |place: GraphIndex, cost_us: u64| {
            cost_us + if place == goal { 0 } else { self.reversed[place].1.price_us() }
        };
        // Of petgraph's searches the one that keeps its distances in an array. It fails on negative cycles alone.
        let Ok(found) = petgraph::algo::spfa(&passable, goal, |edge| price(edge.source(), *edge.weight()))
        else {
            return BTreeMap::new();
        };
        let distance = |place: GraphIndex| Some(found.distances[place.index()]).filter(|us| *us != u64::MAX);
        let mut paths: BTreeMap<NodeIndex, (NodeIndex, u64)> = BTreeMap::new();
        for edge in self.reversed.edge_references() {
            let (next, relay) = (edge.source(), edge.target());
            let (Some(rest), Some(whole)) = (distance(next), distance(relay)) else {
                continue;
            };
            if !is_open(&edge) || relay == goal || rest + price(next, *edge.weight()) != whole {
                continue;
            }
            let (next, relay) = (self.reversed[next].0, self.reversed[relay].0);
            let path = paths.entry(relay).or_insert((next, whole));
            path.0 = path.0.min(next);
        }
        paths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeIndex = NodeIndex(0);
    const B: NodeIndex = NodeIndex(1);
    const C: NodeIndex = NodeIndex(2);
    const D: NodeIndex = NodeIndex(3);

    /// A square A-B-D-C-A, the upper side by B as `b`, the lower by C as `c` allows, in this order of links.
    fn square(b: Transit, c: Transit, turned: bool) -> Topology {
        let mut topology = Topology::default();
        for (node, transit) in [(A, Transit::Willing), (B, b), (C, c), (D, Transit::Willing)] {
            topology.add_relay(node, transit);
        }
        let mut links = vec![(A, B), (B, D), (A, C), (C, D)];
        if turned {
            links.reverse();
        }
        for (from, to) in links {
            topology.add_link(from, to, 10_000);
            topology.add_link(to, from, 10_000);
        }
        topology
    }

    #[test]
    fn ties_fall_to_the_lower_index_whatever_the_order() {
        for turned in [false, true] {
            let topology = square(Transit::Willing, Transit::Willing, turned);
            assert_eq!(topology.paths_to(D)[&A], (B, 20_000));
            assert_eq!(topology.paths_to(C)[&B], (A, 20_000));
        }
    }

    #[test]
    fn the_reluctant_are_passed_where_nothing_else_leads_on_and_the_never_not_at_all() {
        use Transit::{Never, Reluctant, Willing};
        let via = |b, c| square(b, c, false).paths_to(D).get(&A).map(|(next, _)| *next);
        assert_eq!(via(Reluctant, Willing), Some(C));
        assert_eq!(via(Reluctant, Never), Some(B));
        assert_eq!(via(Never, Never), None);
        // As destinations they are like all others.
        let topology = square(Never, Reluctant, false);
        assert_eq!(topology.paths_to(B)[&A], (B, 10_000));
        assert_eq!(topology.paths_to(C)[&A], (C, 10_000));
        assert_eq!(topology.paths_to(D)[&A], (C, 20_000 + RELUCTANCE_US));
        assert!(topology.is_sound(A, B, B) && !topology.is_sound(A, B, D) && !topology.is_sound(A, D, D));
    }
}
