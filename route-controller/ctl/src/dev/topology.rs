//! Which relays a run has, and what lies between them before anyone impairs it.

use link_model::LinkSpec;
use std::time::Duration;

/// How the relays are connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Topology {
    /// Every pair of relays has a link; the direct one from first to last is the longest.
    #[default]
    Mesh,
    /// Each relay has a link to the next.
    Line,
    /// A line whose ends meet over a long link.
    Ring,
}

/// One way from r1 to its neighbours in a line or ring, and the shortest within a mesh.
const SHORT: Duration = Duration::from_millis(10);
/// How much farther each further transit of a mesh is from both ends.
const STEP: Duration = Duration::from_millis(2);
/// Between first and last relay of a mesh, and between transits: dearer than any detour over one transit.
const TRANSIT_TO_TRANSIT: Duration = Duration::from_millis(15);

/// Most relays of a run.
pub const RELAYS_MAX: usize = 16;

/// The name of a relay, counted from 0.
pub fn relay_name(relay: usize) -> String {
    format!("r{}", relay + 1)
}

impl Topology {
    /// Pairs of relays (counted from 0, the lower first) that have a link, with what it does in each direction.
    ///
    /// The path of least delay from the first to the last relay crosses at least one other where there are three, in
    /// every topology; in a mesh or ring of four a second path shares no transit with it.
    pub fn links(self, relays: usize) -> Vec<((usize, usize), LinkSpec)> {
        let pairs = (0..relays).flat_map(|a| (a + 1..relays).map(move |b| (a, b)));
        let delayed = pairs.filter_map(|pair| Some((pair, self.delay(relays, pair)?)));
        delayed.map(|(pair, delay)| (pair, LinkSpec { delay, ..LinkSpec::default() })).collect()
    }

    fn delay(self, relays: usize, (a, b): (usize, usize)) -> Option<Duration> {
        let last = relays - 1;
        let hops = u32::try_from(last).expect("at most RELAYS_MAX");
        match self {
            Topology::Line => (b == a + 1).then_some(SHORT),
            Topology::Ring if b == a + 1 => Some(SHORT),
            // Twice as far as the other way round.
            Topology::Ring => ((a, b) == (0, last)).then_some(2 * hops * SHORT),
            Topology::Mesh if relays <= 2 => Some(SHORT),
            // Longer than over the farthest transit.
            Topology::Mesh if (a, b) == (0, last) => Some(3 * SHORT + 2 * hops * STEP),
            Topology::Mesh if a == 0 || b == last => {
                let transit = if a == 0 { b } else { a };
                Some(SHORT + u32::try_from(transit - 1).expect("at most RELAYS_MAX") * STEP)
            }
            Topology::Mesh => Some(TRANSIT_TO_TRANSIT),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Least delay over all simple paths that avoid some relays, by trying them all; a hop costs a millisecond.
    fn shortest(
        links: &BTreeMap<(usize, usize), Duration>,
        path: &mut Vec<usize>,
        last: usize,
        avoid: &[usize],
        best: &mut Option<(Duration, Vec<usize>)>,
    ) {
        let here = path[path.len() - 1];
        if here == last {
            let cost = path.windows(2).map(|hop| links[&(hop[0].min(hop[1]), hop[0].max(hop[1]))]);
            let cost = cost.sum::<Duration>() + Duration::from_millis(1) * (path.len() as u32 - 1);
            if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                *best = Some((cost, path.clone()));
            }
            return;
        }
        for next in 0..=last {
            let link = (here.min(next), here.max(next));
            if !path.contains(&next) && !avoid.contains(&next) && links.contains_key(&link) {
                path.push(next);
                shortest(links, path, last, avoid, best);
                path.pop();
            }
        }
    }

    fn best_path(topology: Topology, relays: usize, avoid: &[usize]) -> Option<Vec<usize>> {
        let links = topology.links(relays).into_iter().map(|(pair, spec)| (pair, spec.delay)).collect();
        let mut best = None;
        shortest(&links, &mut vec![0], relays - 1, avoid, &mut best);
        best.map(|(_, path)| path)
    }

    #[test]
    fn the_best_path_crosses_a_transit() {
        for topology in [Topology::Mesh, Topology::Line, Topology::Ring] {
            for relays in 3..=7 {
                let path = best_path(topology, relays, &[]).expect("connected");
                assert!(path.len() >= 3, "{topology:?} of {relays}: {path:?}");
            }
        }
        assert_eq!(best_path(Topology::Mesh, 4, &[]), Some(vec![0, 1, 3]));
        assert_eq!(best_path(Topology::Line, 2, &[]), Some(vec![0, 1]));
    }

    #[test]
    fn there_is_a_disjoint_alternative() {
        for topology in [Topology::Mesh, Topology::Ring] {
            for relays in 4..=7 {
                let path = best_path(topology, relays, &[]).expect("connected");
                let transits = &path[1..path.len() - 1];
                assert!(best_path(topology, relays, transits).is_some(), "{topology:?} of {relays}");
            }
        }
    }

    #[test]
    fn a_mesh_loses_its_transit_and_keeps_three_relays() {
        assert_eq!(best_path(Topology::Mesh, 4, &[1]), Some(vec![0, 2, 3]));
    }
}
