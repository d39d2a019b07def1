//! Which two planes a packet of a protected stream takes at once: two whose paths share no link, and no relay where that
//! can be had.
//!
//! The shortest path is one of them wherever red or blue is apart from it, so that protection does not make a call
//! slower while nothing fails. Where both meet it, at different places, it is red and blue, which share only what they
//! must. Paths are compared whole and both ways: a cable that is cut takes both directions with it.

use super::risks::{Groups, Risks};
use super::{BLUE, RED, Routes};
use crate::topology::Risk;
use wire_format::{NodeIndex, Plane, PlanePair};

/// What keeps a stream from harm on its way to one relay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Protection {
    /// Two ways that share nothing but their ends.
    Apart(PlanePair),
    /// Two ways that share no link, but these relays.
    Through(PlanePair, Vec<NodeIndex>),
    /// All ways pass this link.
    Bridge(NodeIndex, NodeIndex),
    /// There is no way.
    Unreachable,
}

impl Protection {
    pub(crate) fn pair(&self) -> Option<PlanePair> {
        match self {
            Protection::Apart(pair) | Protection::Through(pair, _) => Some(*pair),
            Protection::Bridge(_, _) | Protection::Unreachable => None,
        }
    }
}

/// Paths of the three planes from one relay to one destination, by place, ends included.
#[derive(Clone, Debug, Default)]
pub(super) struct Paths([Vec<usize>; 3]);

impl Paths {
    fn of(&self, plane: Plane) -> &[usize] {
        self.0.get(usize::from(plane.0)).map_or(&[], |path| path)
    }

    fn both(&self, pair: PlanePair) -> [&[usize]; 2] {
        pair.planes().map(|plane| self.of(plane))
    }

    /// Relays on both paths, their ends not counted.
    fn shared_relays(&self, pair: PlanePair) -> impl Iterator<Item = usize> + '_ {
        let [one, other] = self.both(pair).map(inner);
        one.iter().copied().filter(|place| other.contains(place))
    }

    /// A link on both paths, in whichever direction.
    fn shared_link(&self, pair: PlanePair) -> Option<(usize, usize)> {
        let [one, other] = self.both(pair);
        let shared =
            |hop: &&[usize]| other.windows(2).any(|own| own == *hop || (own[0], own[1]) == (hop[1], hop[0]));
        one.windows(2).find(shared).map(|hop| (hop[0], hop[1]))
    }

    /// Groups that both paths pass.
    fn shared_groups(&self, pair: PlanePair, risks: &Risks) -> Groups {
        let [one, other] = self.both(pair);
        match one {
            [from, .., to] => risks.shared([*from, *to], [inner(one), inner(other)]),
            [] | [_] => 0,
        }
    }

    fn exist(&self, pair: PlanePair) -> bool {
        self.both(pair).iter().all(|path| path.len() > 1)
    }

    /// The pair that shares no link, the fewest relays, and then the fewest groups; the first of several.
    fn pair(&self, backup: u8, risks: &Risks) -> Option<PlanePair> {
        let preferred = if Plane(backup) == BLUE {
            [PlanePair::PrimaryBlue, PlanePair::PrimaryRed, PlanePair::RedBlue]
        } else {
            [PlanePair::PrimaryRed, PlanePair::PrimaryBlue, PlanePair::RedBlue]
        };
        let links_apart = |pair: &PlanePair| self.exist(*pair) && self.shared_link(*pair).is_none();
        preferred.into_iter().filter(links_apart).min_by_key(|pair| {
            (self.shared_relays(*pair).count(), self.shared_groups(*pair, risks).count_ones())
        })
    }
}

fn inner(path: &[usize]) -> &[usize] {
    path.get(1..path.len().saturating_sub(1)).unwrap_or_default()
}

impl Routes {
    /// What protects a stream from `relay` to `destination`.
    pub(crate) fn protection(&self, relay: NodeIndex, destination: NodeIndex) -> Protection {
        let (Some(from), Some(to)) = (self.mesh.place(relay), self.mesh.place(destination)) else {
            return Protection::Unreachable;
        };
        let mut paths = Paths::default();
        match self.pair_at(from, to, &mut paths) {
            Some(pair) => {
                let shared: Vec<_> = paths.shared_relays(pair).map(|place| self.mesh.relay(place)).collect();
                if shared.is_empty() { Protection::Apart(pair) } else { Protection::Through(pair, shared) }
            }
            None => match paths.shared_link(PlanePair::RedBlue) {
                Some((one, other)) => Protection::Bridge(self.mesh.relay(one), self.mesh.relay(other)),
                None => Protection::Unreachable,
            },
        }
    }

    /// What relays of both of two planes may fail with together; nothing where there is no way on one of them.
    pub(crate) fn shared_risks(
        &self,
        relay: NodeIndex,
        destination: NodeIndex,
        pair: PlanePair,
    ) -> Vec<Risk> {
        let mut paths = Paths::default();
        let places = self.mesh.place(relay).zip(self.mesh.place(destination));
        if let Some((from, to)) = places.filter(|(from, to)| from != to) {
            self.pair_at(from, to, &mut paths);
        }
        self.mesh.risks().named(paths.shared_groups(pair, self.mesh.risks())).cloned().collect()
    }

    /// How many groups of relays that may fail together are not looked at, since there are too many.
    pub(crate) fn risks_left_out(&self) -> usize {
        self.mesh.risks().left_out()
    }

    #[cfg(test)]
    pub(super) fn risks_known(&self) -> bool {
        !self.mesh.risks().is_empty()
    }

    /// The pair of planes from one place to another; `paths` are room to work in, and then what they are.
    pub(super) fn pair_at(&self, from: usize, to: usize, paths: &mut Paths) -> Option<PlanePair> {
        for plane in [Plane::PRIMARY, RED, BLUE] {
            let path = paths.0.get_mut(usize::from(plane.0))?;
            path.clear();
            path.push(from);
            let mut at = from;
            while at != to {
                // Tables in which a way runs in a circle are never made; one that ends nowhere is no way.
                let next = self.next(plane, at, to).filter(|_| path.len() <= self.mesh.len());
                let Some(next) = next else {
                    path.clear();
                    break;
                };
                path.push(next);
                at = next;
            }
        }
        paths.pair(self.destinations.get(to)?.backups[from], self.mesh.risks())
    }
}
