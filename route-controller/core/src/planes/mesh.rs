//! The overlay as the redundant planes see it: relays by their place in the order of indices, and links by their ends'
//! places. Computations over all pairs of relays run over plain arrays.

use crate::topology::{Topology, Transit};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use wire_format::NodeIndex;

/// A link that works both ways, seen from one end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hop {
    /// Place of the other end.
    pub to: usize,
    /// Cost towards it.
    pub out_us: u64,
    /// Cost back from it.
    pub back_us: u64,
}

/// Relays in ascending order, and what leads from each to others.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Mesh {
    relays: Vec<NodeIndex>,
    transit: Vec<Transit>,
    /// By place: where links lead and what they cost, ascending, whether they lead back or not.
    links: Vec<Vec<(usize, u64)>>,
    /// By place: links that lead both ways, ascending.
    hops: Vec<Vec<Hop>>,
    /// By place: from where links lead here and what they cost, ascending, whether they lead back or not.
    arrivals: Vec<Vec<(usize, u64)>>,
}

/// What a relay does on its shortest path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Step {
    /// Place of the relay that comes next.
    pub next: usize,
    /// Cost of the path, the passing of those on it included.
    pub cost_us: u64,
}

impl Mesh {
    /// All that is in a topology.
    pub(crate) fn of(topology: &Topology) -> Mesh {
        let (relays, transit): (Vec<NodeIndex>, Vec<Transit>) = topology.transits().unzip();
        let none = vec![Vec::new(); relays.len()];
        let (links, arrivals) = (none.clone(), none);
        let mut mesh = Mesh { relays, transit, links, hops: Vec::new(), arrivals };
        for (from, to, cost_us) in topology.links() {
            if let (Some(from), Some(to)) = (mesh.place(from), mesh.place(to)) {
                mesh.links[from].push((to, cost_us));
            }
        }
        for links in &mut mesh.links {
            links.sort_unstable();
            links.dedup_by_key(|(to, _)| *to);
        }
        let both_ways = |from: usize| {
            let links = mesh.links[from].iter().filter(|(to, _)| *to != from);
            links
                .filter_map(|&(to, out_us)| Some(Hop { to, out_us, back_us: mesh.cost_us(to, from)? }))
                .collect()
        };
        mesh.hops = (0..mesh.len()).map(both_ways).collect();
        for (from, links) in mesh.links.iter().enumerate() {
            for (to, cost_us) in links {
                mesh.arrivals[*to].push((from, *cost_us));
            }
        }
        mesh
    }

    /// By place: the shortest way to a destination, `None` where there is none, and for itself. The next hop's own path
    /// is the rest of it; of several equally short ones the next hop with the lowest index is taken, by everyone.
    pub(crate) fn shortest_paths(&self, destination: usize) -> Vec<Option<Step>> {
        let mut steps: Vec<Option<Step>> = vec![None; self.len()];
        let mut open = BinaryHeap::from([Reverse((0, destination))]);
        while let Some(Reverse((distance_us, at))) = open.pop() {
            if steps[at].is_some_and(|step| distance_us > step.cost_us) {
                continue;
            }
            let onwards_us = if at == destination { 0 } else { distance_us + self.price_us(at) };
            for &(from, cost_us) in &self.arrivals[at] {
                // Every cost is above zero, so who offers an equally short way does so before `from` has its turn.
                let (offered, known) = ((onwards_us + cost_us, at), steps[from]);
                if from == destination || known.is_some_and(|known| (known.cost_us, known.next) <= offered) {
                    continue;
                }
                steps[from] = Some(Step { next: at, cost_us: offered.0 });
                let shorter = known.is_none_or(|known| offered.0 < known.cost_us);
                if shorter && self.is_passable(from) {
                    open.push(Reverse((offered.0, from)));
                }
            }
        }
        steps
    }

    /// How many relays there are. Places are below this.
    pub(crate) fn len(&self) -> usize {
        self.relays.len()
    }

    /// The relay at a place.
    pub(crate) fn relay(&self, place: usize) -> NodeIndex {
        self.relays[place]
    }

    /// Where a relay is.
    pub(crate) fn place(&self, relay: NodeIndex) -> Option<usize> {
        self.relays.binary_search(&relay).ok()
    }

    /// Links of a relay that work both ways, ascending.
    pub(crate) fn hops(&self, place: usize) -> &[Hop] {
        &self.hops[place]
    }

    /// What a link costs in one direction; `None` if there is none.
    pub(crate) fn cost_us(&self, from: usize, to: usize) -> Option<u64> {
        let links = &self.links[from];
        links.binary_search_by_key(&to, |(to, _)| *to).ok().map(|at| links[at].1)
    }

    /// Whether a relay may carry what is meant for others.
    pub(crate) fn is_passable(&self, place: usize) -> bool {
        self.transit[place] != Transit::Never
    }

    /// What passing a relay costs beside the links.
    pub(crate) fn price_us(&self, place: usize) -> u64 {
        self.transit[place].price_us()
    }

    /// Whether the same relays are in both, so that places in them mean the same.
    pub(crate) fn has_relays_of(&self, other: &Mesh) -> bool {
        self.relays == other.relays
    }

    /// Whether the same relays are joined by the same links, whatever they cost.
    pub(crate) fn is_joined_like(&self, other: &Mesh) -> bool {
        let ends = |links: &[(usize, u64)], others: &[(usize, u64)]| {
            links.len() == others.len() && links.iter().zip(others).all(|(one, other)| one.0 == other.0)
        };
        self.relays == other.relays
            && self.transit == other.transit
            && self.links.iter().zip(&other.links).all(|(links, others)| ends(links, others))
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

    /// Next hop and cost of the shortest path.
    fn way(topology: &Topology, from: NodeIndex, to: NodeIndex) -> Option<(NodeIndex, u64)> {
        let mesh = Mesh::of(topology);
        let steps = mesh.shortest_paths(mesh.place(to).expect("it is there"));
        let step = steps[mesh.place(from).expect("it is there")];
        step.map(|step| (mesh.relay(step.next), step.cost_us))
    }

    #[test]
    fn ties_fall_to_the_lower_index_whatever_the_order() {
        for turned in [false, true] {
            let topology = square(Transit::Willing, Transit::Willing, turned);
            assert_eq!(way(&topology, A, D), Some((B, 20_000)));
            assert_eq!(way(&topology, B, C), Some((A, 20_000)));
        }
    }

    #[test]
    fn the_reluctant_are_passed_where_nothing_else_leads_on_and_the_never_not_at_all() {
        use Transit::{Never, Reluctant, Willing};
        let via = |b, c| way(&square(b, c, false), A, D).map(|(next, _)| next);
        assert_eq!(via(Reluctant, Willing), Some(C));
        assert_eq!(via(Reluctant, Never), Some(B));
        assert_eq!(via(Never, Never), None);
        // As destinations they are like all others.
        let topology = square(Never, Reluctant, false);
        assert_eq!(way(&topology, A, B), Some((B, 10_000)));
        assert_eq!(way(&topology, A, C), Some((C, 10_000)));
        assert_eq!(way(&topology, A, D), Some((C, 20_000 + Reluctant.price_us())));
        assert!(topology.is_sound(A, B, B) && !topology.is_sound(A, B, D) && !topology.is_sound(A, D, D));
    }
}
