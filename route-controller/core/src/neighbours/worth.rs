//! What links are worth, by what shortest ways cost with them and without.
//!
//! Worth is a sum over ways: by how much of itself a way would be shorter (a gain), or longer (a loss). Of a link only those
//! ways are looked at that begin or end where it does; what passes through comes on top, for all links alike.

use crate::planes::Routes;
use wire_format::NodeIndex;

/// No way leads from there. Two of it are a `u32` still.
pub(super) const FAR: u32 = u32::MAX / 4;

/// What the shortest ways of all relays to all others cost.
#[derive(Clone, Debug, Default)]
pub(crate) struct Distances {
    /// Ascending: a relay's place is its rank.
    relays: Vec<NodeIndex>,
    /// By destination, then by relay.
    us: Vec<u32>,
}

impl Distances {
    /// As tables have it.
    pub(crate) fn of(routes: &Routes) -> Distances {
        let relays: Vec<NodeIndex> = routes.relays().collect();
        let near = |us: &u64| u32::try_from(*us).map_or(FAR, |us| us.min(FAR));
        let us = (0..relays.len()).flat_map(|to| routes.distances_us(to).iter().map(near)).collect();
        Distances { relays, us }
    }

    /// The same found on a topology.
    #[cfg(test)]
    pub(super) fn by_search(topology: &crate::topology::Topology) -> Distances {
        let (relays, us) = crate::planes::distances_us(topology);
        let near = |us: u64| u32::try_from(us).map_or(FAR, |us| us.min(FAR));
        Distances::new(relays, us.into_iter().map(near).collect())
    }

    #[cfg(test)]
    pub(super) fn new(relays: Vec<NodeIndex>, us: Vec<u32>) -> Distances {
        assert_eq!(us.len(), relays.len() * relays.len());
        Distances { relays, us }
    }

    pub(super) fn len(&self) -> usize {
        self.relays.len()
    }

    pub(super) fn place(&self, node: NodeIndex) -> Option<usize> {
        self.relays.binary_search(&node).ok()
    }

    pub(super) fn relay(&self, place: usize) -> NodeIndex {
        self.relays[place]
    }

    /// What ways to a relay cost, by the place of where they begin.
    pub(super) fn to(&self, place: usize) -> &[u32] {
        &self.us[place * self.relays.len()..][..self.relays.len()]
    }
}

/// What a link of this cost between two relays would gain.
pub(super) fn gain(distances: &Distances, a: usize, b: usize, cost_us: u32) -> f32 {
    let (from_a, from_b) = (distances.to(a), distances.to(b));
    if cost_us >= from_a[b] {
        return 0.0;
    }
    let saved = |own: u32, other: u32| {
        let by_link = cost_us + other;
        if by_link < own { (own - by_link) as f32 / own as f32 } else { 0.0 }
    };
    let saved_of_both = |(a, b): (&u32, &u32)| saved(*a, *b) + saved(*b, *a);
    from_a.iter().zip(from_b).map(saved_of_both).sum()
}

/// What a relay would lose with each of its links, in the order given: the other end's place, and what it costs.
pub(super) fn losses(distances: &Distances, relay: usize, links: &[(usize, u32)]) -> Vec<f32> {
    let mut best = vec![(FAR, FAR, usize::MAX); distances.len()];
    for (at, (other, cost_us)) in links.iter().enumerate() {
        for (best, onwards_us) in best.iter_mut().zip(distances.to(*other)) {
            let us = cost_us.saturating_add(*onwards_us).min(FAR);
            if us < best.0 {
                *best = (us, best.0, at);
            } else {
                best.1 = best.1.min(us);
            }
        }
    }
    let mut losses = vec![0.0; links.len()];
    for (destination, (us, second_us, at)) in best.into_iter().enumerate() {
        if destination == relay || at == usize::MAX {
            continue;
        }
        // Beyond three times a way is lost, whatever it would cost.
        let longer = second_us.min(us.saturating_mul(3)) - us;
        losses[at] += longer as f32 / us.max(1) as f32;
    }
    losses
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A square of relays, 10 ms a side.
    fn square() -> Distances {
        let side = |a: u16, b: u16| match a.abs_diff(b) {
            0 => 0,
            2 => 20_000,
            _ => 10_000,
        };
        let us = (0..4).flat_map(|to| (0..4).map(move |from| side(from, to))).collect();
        Distances::new((0..4).map(NodeIndex).collect(), us)
    }

    #[test]
    fn a_link_is_worth_what_ways_are_shorter_by_it() {
        let square = square();
        assert_eq!(gain(&square, 0, 2, 10_000), 1.0, "half of each of both diagonal ways");
        assert_eq!(gain(&square, 0, 2, 20_000), 0.0);
        assert_eq!(gain(&square, 0, 1, 9_000), 0.1 * 2.0 + 0.05 * 2.0, "and what goes on from there");
        // Without the link to 1 that relay is reached the long way around, 30 ms; the opposite one as before.
        assert_eq!(losses(&square, 0, &[(1, 10_000), (3, 10_000)]), [2.0, 2.0]);
        assert_eq!(losses(&square, 0, &[(1, 10_000), (3, 10_000), (2, 15_000)]), [1.5, 1.5, 1.0 / 3.0]);
    }
}
