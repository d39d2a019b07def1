//! Shortest paths towards one relay after the other, over plain arrays (Dijkstra, "A note on two problems in connexion with
//! graphs", 1959). What [`Topology`](crate::topology::Topology) finds with petgraph, many times as fast where all relays
//! are asked for.
//!
//! Where links changed, only that part of a tree is sought anew that hangs on them (Ramalingam and Reps, "An incremental
//! algorithm for a generalization of the shortest-path problem", 1996). The next hop of a relay follows from the distances
//! alone, so both give the same tree.

use super::NOWHERE;
use super::mesh::{LinkChange, Mesh};
use super::queue::Queue;

/// The furthest relay is sought once for so many that are settled.
const HORIZON_EVERY: usize = 64;
/// No way leads from there.
const FAR: u64 = u64::MAX;

/// The shortest ways of all relays to one, by place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Ways {
    /// Places of next hops, or [`NOWHERE`]. The next hop's own way is the rest of that way; of several equally short ones the
    /// next hop with the lowest index is taken, by everyone.
    pub next: Vec<u16>,
    /// What the ways cost, in microseconds, reluctance included; or [`FAR`].
    pub distances_us: Vec<u64>,
}

/// Searches of one mesh.
pub(super) struct Shortest<'a> {
    mesh: &'a Mesh,
    queue: Queue,
    /// The same for repairs, in which few are in a queue at once.
    repairs: Queue,
    /// How many are [`FAR`].
    unreached: usize,
    /// Relays whose ways were looked at, in a repair.
    touched: Vec<u32>,
}

impl<'a> Shortest<'a> {
    pub(super) fn new(mesh: &'a Mesh) -> Shortest<'a> {
        let (queue, repairs) = (Queue::new(mesh.mean_us()), Queue::plain());
        Shortest { mesh, queue, repairs, unreached: 0, touched: Vec::new() }
    }

    /// All ways to `destination`.
    pub(super) fn towards(&mut self, destination: usize) -> Ways {
        let len = self.mesh.len();
        let mut ways = Ways { next: vec![NOWHERE; len], distances_us: vec![FAR; len] };
        ways.distances_us[destination] = 0;
        self.unreached = len - 1;
        self.queue.push(0, destination as u32);
        self.settle(destination, &mut ways);
        self.touched.clear();
        ways
    }

    /// What `ways` are after some links have changed, and the relays that have another next hop, ascending; `None` if the
    /// changes mean nothing to them.
    pub(super) fn repair(
        &mut self,
        destination: usize,
        ways: &Ways,
        changes: &[LinkChange],
    ) -> Option<(Ways, Vec<u32>)> {
        let matters = |change: &LinkChange| {
            let (from, to) = (change.from, change.to);
            if change.is_worse() {
                return usize::from(ways.next[from]) == to;
            }
            self.offer(destination, ways, change).is_some_and(|offer_us| {
                let distance_us = ways.distances_us[from];
                offer_us < distance_us || offer_us == distance_us && to < usize::from(ways.next[from])
            })
        };
        if !changes.iter().any(matters) {
            return None;
        }
        std::mem::swap(&mut self.queue, &mut self.repairs);
        let mut repaired = ways.clone();
        self.unreached = repaired.distances_us.iter().filter(|us| **us == FAR).count();
        self.cut_off(&mut repaired, changes);
        for change in changes {
            if let Some(offer_us) = self.offer(destination, &repaired, change) {
                self.relax(&mut repaired, change.from, change.to, offer_us);
            }
        }
        for at in 0..self.touched.len() {
            let from = self.touched[at] as usize;
            for link in self.mesh.links_from(from) {
                let to = link.other as usize;
                if let Some(onwards_us) = self.onwards_us(destination, &repaired, to) {
                    self.relax(&mut repaired, from, to, onwards_us + u64::from(link.cost_us));
                }
            }
        }
        self.settle(destination, &mut repaired);
        std::mem::swap(&mut self.queue, &mut self.repairs);
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        touched.retain(|relay| ways.next[*relay as usize] != repaired.next[*relay as usize]);
        Some((repaired, touched))
    }

    /// Forgets the ways of those who took a link that is gone or dearer now, and of all that came by them.
    fn cut_off(&mut self, ways: &mut Ways, changes: &[LinkChange]) {
        for change in changes {
            if !change.is_worse() || usize::from(ways.next[change.from]) != change.to {
                continue;
            }
            let first = self.touched.len();
            self.forget(ways, change.from);
            let mut at = first;
            while at < self.touched.len() {
                let gone = self.touched[at] as usize;
                at += 1;
                for link in self.mesh.links_to(gone) {
                    if usize::from(ways.next[link.other as usize]) == gone {
                        self.forget(ways, link.other as usize);
                    }
                }
            }
        }
    }

    fn forget(&mut self, ways: &mut Ways, relay: usize) {
        self.unreached += usize::from(ways.distances_us[relay] != FAR);
        ways.next[relay] = NOWHERE;
        ways.distances_us[relay] = FAR;
        self.touched.push(relay as u32);
    }

    /// What the way from the near end of a changed link costs over it, if one leads on.
    fn offer(&self, destination: usize, ways: &Ways, change: &LinkChange) -> Option<u64> {
        Some(self.onwards_us(destination, ways, change.to)? + u64::from(change.after_us?))
    }

    /// What the way costs from a relay that it passes or ends at, the passing included; `None` if none leads on.
    fn onwards_us(&self, destination: usize, ways: &Ways, to: usize) -> Option<u64> {
        if to == destination {
            return Some(0);
        }
        let leads_on = ways.distances_us[to] != FAR && self.mesh.is_passable(to);
        leads_on.then(|| ways.distances_us[to] + self.mesh.price_us(to))
    }

    fn relax(&mut self, ways: &mut Ways, from: usize, to: usize, whole_us: u64) {
        let distance_us = &mut ways.distances_us[from];
        if whole_us < *distance_us {
            self.unreached -= usize::from(*distance_us == FAR);
            *distance_us = whole_us;
            ways.next[from] = to as u16;
            self.queue.push(whole_us, from as u32);
        } else if whole_us == *distance_us && (to as u16) < ways.next[from] {
            // Links cost something, so whoever is on an equally short way comes before its end.
            ways.next[from] = to as u16;
            self.touched.push(from as u32);
        }
    }

    /// Relaxes everything. Once all are reached, nobody is further away than the furthest is now, and links that lead beyond
    /// need not be looked at: in a full mesh most.
    fn settle(&mut self, destination: usize, ways: &mut Ways) {
        let mut horizon_us = FAR;
        let mut settled = 0_usize;
        while let Some((distance_us, at)) = self.queue.pop() {
            let at = at as usize;
            if distance_us > ways.distances_us[at] {
                continue;
            }
            self.touched.push(at as u32);
            if self.unreached == 0 && settled.is_multiple_of(HORIZON_EVERY) {
                horizon_us = ways.distances_us.iter().copied().max().unwrap_or(FAR);
            }
            settled += 1;
            let Some(onwards_us) = self.onwards_us(destination, ways, at) else { continue };
            for link in self.mesh.links_to(at) {
                let whole_us = onwards_us + u64::from(link.cost_us);
                if whole_us > horizon_us {
                    break;
                }
                self.relax(ways, link.other as usize, at, whole_us);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Topology, Transit};
    use proptest::prelude::*;
    use wire_format::NodeIndex;

    fn node(place: usize) -> NodeIndex {
        NodeIndex(3 * place as u16)
    }

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
                let ways = shortest.towards(destination);
                let found = ways.next.iter().enumerate().filter(|(_, next)| **next != NOWHERE);
                let found: Vec<_> =
                    found.map(|(relay, next)| (mesh.relay(relay), mesh.relay(usize::from(*next)))).collect();
                prop_assert_eq!(found, expected);
            }
        }

        /// Links come and go in one direction alone, too, and several at once.
        #[test]
        fn repaired_ways_are_those_found_from_nothing(
            topology in topologies(),
            steps in proptest::collection::vec(
                proptest::collection::vec((0..14_usize, 0..14_usize, proptest::option::of(1..6_u64)), 1..5), 1..12
            ),
        ) {
            let mut topology = topology;
            let mut mesh = Mesh::of(&topology);
            let mut ways: Vec<Ways> = (0..mesh.len()).map(|to| Shortest::new(&mesh).towards(to)).collect();
            for step in steps {
                for (from, to, cost) in step {
                    let (from, to) = (from % mesh.len(), to % mesh.len());
                    if from != to {
                        topology.set_link(node(from), node(to), cost.map(|cost| cost * 500));
                    }
                }
                let newer = Mesh::of(&topology);
                let changes = mesh.changes(&newer);
                let mut shortest = Shortest::new(&newer);
                for (destination, ways) in ways.iter_mut().enumerate() {
                    let expected = Shortest::new(&newer).towards(destination);
                    match shortest.repair(destination, ways, &changes) {
                        None => prop_assert_eq!(&*ways, &expected),
                        Some((repaired, turned)) => {
                            let differs = |relay: &usize| ways.next[*relay] != expected.next[*relay];
                            let differing = (0..newer.len()).filter(differs).map(|relay| relay as u32);
                            prop_assert_eq!(turned, differing.collect::<Vec<_>>());
                            prop_assert_eq!(&repaired, &expected);
                            *ways = repaired;
                        }
                    }
                }
                mesh = newer;
            }
        }
    }
}
