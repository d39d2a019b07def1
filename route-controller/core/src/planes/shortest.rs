//! Shortest paths towards one relay after the other, over plain arrays (Dijkstra, "A note on two problems in connexion with
//! graphs", 1959). What [`Topology`](crate::topology::Topology) finds with petgraph, many times as fast where all relays
//! are asked for.

use super::mesh::Mesh;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// No way leads from there.
const FAR: u64 = u64::MAX;
/// No relay has this place.
const NOBODY: usize = usize::MAX;

/// Searches of one mesh.
pub(super) struct Shortest<'a> {
    mesh: &'a Mesh,
    /// Links by where they lead: for the relay at place `to`, those from `begins[to]` to `begins[to + 1]`.
    begins: Vec<usize>,
    /// Where each begins, and what it costs.
    links: Vec<(usize, u64)>,
    distances: Vec<u64>,
    next: Vec<usize>,
    heap: BinaryHeap<Reverse<(u64, usize)>>,
}

impl<'a> Shortest<'a> {
    pub(super) fn new(mesh: &'a Mesh) -> Shortest<'a> {
        let mut begins = vec![0; mesh.len() + 1];
        for (_, to, _) in mesh.links_by_place() {
            begins[to + 1] += 1;
        }
        for to in 0..mesh.len() {
            begins[to + 1] += begins[to];
        }
        let mut filled = begins.clone();
        let mut links = vec![(0, 0); begins[mesh.len()]];
        for (from, to, cost_us) in mesh.links_by_place() {
            links[filled[to]] = (from, cost_us);
            filled[to] += 1;
        }
        let (distances, next) = (vec![FAR; mesh.len()], vec![NOBODY; mesh.len()]);
        Shortest { mesh, begins, links, distances, next, heap: BinaryHeap::new() }
    }

    /// For every relay that reaches `destination`: the place of its next hop. The next hop's own path is the rest of that
    /// path; of several equally short ones the next hop with the lowest index is taken, by everyone.
    pub(super) fn towards(&mut self, destination: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.distances.fill(FAR);
        self.next.fill(NOBODY);
        self.distances[destination] = 0;
        self.heap.push(Reverse((0, destination)));
        while let Some(Reverse((distance_us, at))) = self.heap.pop() {
            let is_goal = at == destination;
            if distance_us > self.distances[at] || !(is_goal || self.mesh.is_passable(at)) {
                continue;
            }
            let through_us = distance_us + if is_goal { 0 } else { self.mesh.price_us(at) };
            for &(from, cost_us) in &self.links[self.begins[at]..self.begins[at + 1]] {
                let whole_us = through_us + cost_us;
                if whole_us < self.distances[from] {
                    self.distances[from] = whole_us;
                    self.next[from] = at;
                    self.heap.push(Reverse((whole_us, from)));
                } else if whole_us == self.distances[from] {
                    // Links cost something, so whoever is on an equally short path comes before its end.
                    self.next[from] = self.next[from].min(at);
                }
            }
        }
        let next = self.next.iter().enumerate().filter(|(_, next)| **next != NOBODY);
        next.map(|(relay, next)| (relay, *next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Topology, Transit};
    use proptest::prelude::*;
    use wire_format::NodeIndex;

    /// Few costs, so that ties are common, and one of three relays that must or should not be passed.
    fn topologies() -> impl Strategy<Value = Topology> {
        let transit = prop_oneof![
            4 => Just(Transit::Willing), 1 => Just(Transit::Reluctant), 1 => Just(Transit::Never)
        ];
        let relays = proptest::collection::vec(transit, 1..14);
        relays.prop_flat_map(|relays| {
            let count = relays.len();
            let link = ((0..count, 0..count), 1..6_u64);
            let links = proptest::collection::btree_map(link.0, link.1, 0..60);
            links.prop_map(move |links| {
                let node = |place: usize| NodeIndex(3 * place as u16);
                let mut topology = Topology::default();
                for (place, transit) in relays.iter().enumerate() {
                    topology.add_relay(node(place), *transit);
                }
                for ((from, to), cost) in links.into_iter().filter(|((from, to), _)| from != to) {
                    topology.add_link(node(from), node(to), cost * 500);
                }
                topology
            })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

        #[test]
        fn next_hops_are_those_that_petgraphs_distances_give(topology in topologies()) {
            let mesh = Mesh::of(&topology);
            let mut shortest = Shortest::new(&mesh);
            for destination in 0..mesh.len() {
                let paths = topology.paths_to(mesh.relay(destination)).into_iter();
                let expected: Vec<_> = paths.map(|(relay, (next, _))| (relay, next)).collect();
                let found = shortest.towards(destination);
                let found: Vec<_> = found.map(|(relay, next)| (mesh.relay(relay), mesh.relay(next))).collect();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
