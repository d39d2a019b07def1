//! Route tables of all relays together: what an epoch is a version of.
//!
//! The primary plane is shortest paths under strictly positive costs. Every hop of such a path brings the destination
//! strictly nearer, so no set of tables computed from one topology can loop, and the rest of a path is the path of its
//! second relay. The red and blue planes are two trees towards each destination that share only what they must
//! ([`redundant`], [`forest`]): whichever single link or relay fails, one of them is whole, unless the overlay itself
//! falls apart there ([`blocks`]).
//!
//! Shortest paths move with every change of a cost, and that is their purpose. Red and blue are for bad moments, and
//! whether they are a little longer than they could be hardly matters: as long as the relays hang together in the same
//! blocks, a destination's trees stay as they are, but for those who lose a link ([`forest`]), until others would be cheaper
//! by a tenth, over all relays together, or would keep apart what may fail together for no more than that is worth. To know
//! that, others must be made, which is most of the work in a large overlay: there each computation looks at the trees of
//! some destinations, taking turns. Nor does a relay turn to its other
//! redundant plane for a gain, but when the one that it has avoids its next hop no longer.
//!
//! Relays that share a region, an ISP or what an operator names may fail together. Where the graph allows, red and blue go
//! through different such groups, and so do the two ways of a protected stream; what that means stands in [`risks`].
//!
//! What is kept of one computation for the next is kept for each destination by itself and shared between both, so that a
//! change costs what hangs on it, in time and in memory, and tables that are the same are seen to be ([`update`]).

mod blocks;
mod deltas;
mod forest;
mod mesh;
mod order;
mod pairs;
mod queue;
mod redundant;
mod risks;
mod shortest;
#[cfg(test)]
mod tests;
mod update;

pub(crate) use blocks::WeakPoints;
pub(crate) use pairs::Protection;

use crate::history::PriceChange;
use crate::topology::Topology;
use blocks::Blocks;
use forest::Trees;
use mesh::Mesh;
use redundant::Side;
use shortest::Ways;
use std::sync::Arc;
use wire_format::{NodeIndex, Plane, PolicyTable, Timestamp};

/// The first of the redundant planes.
pub(crate) const RED: Plane = Plane(1);
/// The second of the redundant planes.
pub(crate) const BLUE: Plane = Plane(2);
const PLANES: [Plane; 3] = [Plane::PRIMARY, RED, BLUE];
/// No relay has this place.
const NOWHERE: u16 = u16::MAX;

/// A row of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Route {
    /// The neighbour that comes next.
    pub next_hop: NodeIndex,
    /// When this path, all of it, was first computed.
    pub since: Timestamp,
}

/// A row that is another in newer tables; `None` where there was none, or is none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct RowChange {
    pub relay: NodeIndex,
    pub plane: Plane,
    pub destination: NodeIndex,
    pub before: Option<NodeIndex>,
    pub after: Option<NodeIndex>,
}

/// Tables of all relays.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes {
    mesh: Arc<Mesh>,
    /// Of the relays that may be passed.
    blocks: Arc<Blocks>,
    /// By place.
    destinations: Vec<Towards>,
    /// By place: how many pairs of others have a primary way through the relay.
    passing: Vec<u64>,
    /// The place of the destination whose trees are looked at next.
    turn: usize,
}

/// What leads to one destination, by place of the relay; shared by all routes in which it is the same.
#[derive(Clone, Debug)]
struct Towards {
    primary: Arc<Ways>,
    trees: Arc<Trees>,
    /// The number of the plane to turn to, or 0.
    backups: Arc<Vec<u8>>,
    /// By plane.
    births: [Arc<Births>; 3],
}

/// When each row of a plane towards one destination became what it is, by place of the relay.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Births(Vec<u32>);

impl Births {
    /// A sixteenth of a second: four bytes last for eight years.
    const TICK_US: u64 = 62_500;

    fn tick(now: Timestamp) -> u32 {
        u32::try_from(now.as_micros() / Births::TICK_US).unwrap_or(u32::MAX)
    }

    fn at(&self, relay: usize) -> Timestamp {
        Timestamp::from_micros(u64::from(self.0[relay]) * Births::TICK_US)
    }
}

impl Towards {
    fn next(&self, plane: Plane) -> Option<&[u16]> {
        match plane {
            Plane::PRIMARY => Some(&self.primary.next),
            RED => Some(self.trees.next(Side::Red)),
            BLUE => Some(self.trees.next(Side::Blue)),
            Plane(3..) => None,
        }
    }
}

impl Routes {
    /// The row of `relay` for `destination`.
    pub(crate) fn route(&self, relay: NodeIndex, plane: Plane, destination: NodeIndex) -> Option<Route> {
        self.route_at(plane, self.mesh.place(relay)?, self.mesh.place(destination)?)
    }

    /// The redundant plane that `relay` turns to when its primary next hop for `destination` fails.
    pub(crate) fn backup(&self, relay: NodeIndex, destination: NodeIndex) -> Option<Plane> {
        let relay = self.mesh.place(relay)?;
        let plane = self.destinations[self.mesh.place(destination)?].backups[relay];
        (plane != 0).then_some(Plane(plane))
    }

    /// All rows: relay, plane, destination, row.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (NodeIndex, Plane, NodeIndex, Route)> + '_ {
        (0..self.mesh.len()).flat_map(move |relay| {
            PLANES.into_iter().flat_map(move |plane| {
                (0..self.mesh.len()).filter_map(move |destination| {
                    let route = self.route_at(plane, relay, destination)?;
                    Some((self.mesh.relay(relay), plane, self.mesh.relay(destination), route))
                })
            })
        })
    }

    /// The table of one relay as it is pushed; empty for a relay that was not there when the routes were computed.
    pub(crate) fn table(&self, relay: NodeIndex) -> PolicyTable {
        let Some(relay) = self.mesh.place(relay) else { return PolicyTable::default() };
        let destinations = || self.destinations.iter().enumerate().map(|(at, to)| (self.mesh.relay(at), to));
        let next_hops = PLANES.into_iter().flat_map(|plane| {
            destinations().filter_map(move |(destination, towards)| {
                let next = towards.next(plane)?[relay];
                (next != NOWHERE).then(|| ((plane, destination), self.mesh.relay(usize::from(next))))
            })
        });
        let mut paths = pairs::Paths::default();
        let pair = |(to, destination)| Some((destination, self.pair_at(relay, to, &mut paths)?));
        let others = (0..self.mesh.len()).filter(|to| *to != relay);
        let pairs = others.map(|to| (to, self.mesh.relay(to))).filter_map(pair).collect();
        let backups = destinations().map(|(destination, towards)| (destination, towards.backups[relay]));
        PolicyTable {
            next_hops: next_hops.collect(),
            backups: backups
                .filter(|(_, plane)| *plane != 0)
                .map(|(destination, plane)| (destination, Plane(plane)))
                .collect(),
            pairs,
        }
    }

    /// All relays from `relay` to `destination`, both included, or `None` if there is no way.
    pub(crate) fn path(
        &self,
        relay: NodeIndex,
        plane: Plane,
        destination: NodeIndex,
    ) -> Option<Vec<NodeIndex>> {
        follow(relay, destination, |at| Some(self.route(at, plane, destination)?.next_hop))
    }

    /// What a path cost when it was computed.
    pub(crate) fn cost_us(&self, path: &[NodeIndex]) -> u64 {
        let hop_us =
            |hop: &[NodeIndex]| self.mesh.cost_us(self.mesh.place(hop[0])?, self.mesh.place(hop[1])?);
        path.windows(2).filter_map(hop_us).sum()
    }

    /// Rows of `self` whose next hop is another in `newer`, or that are missing in one of them: relay, plane,
    /// destination, next hop before.
    pub(crate) fn changes(&self, newer: &Routes) -> Vec<(NodeIndex, Plane, NodeIndex, Option<NodeIndex>)> {
        if self.mesh.has_relays_of(&newer.mesh) {
            return self.changes_among_the_same(newer);
        }
        let changed_or_gone = self.rows().filter_map(|(relay, plane, destination, route)| {
            let now = newer.route(relay, plane, destination).map(|route| route.next_hop);
            (now != Some(route.next_hop)).then_some((relay, plane, destination, Some(route.next_hop)))
        });
        let new = newer.rows().filter_map(|(relay, plane, destination, _)| {
            self.route(relay, plane, destination).is_none().then_some((relay, plane, destination, None))
        });
        changed_or_gone.chain(new).collect()
    }

    /// The same with the next hop afterwards.
    pub(crate) fn row_changes(&self, newer: &Routes) -> Vec<RowChange> {
        let changes = self.changes(newer).into_iter();
        changes
            .map(|(relay, plane, destination, before)| {
                let after = newer.route(relay, plane, destination).map(|route| route.next_hop);
                RowChange { relay, plane, destination, before, after }
            })
            .collect()
    }

    /// The relays that were there, ascending. A relay's place is its rank among them.
    pub(crate) fn relays(&self) -> impl Iterator<Item = NodeIndex> + '_ {
        (0..self.mesh.len()).map(|place| self.mesh.relay(place))
    }

    /// What primary ways to the relay at a place cost, by the place of where they begin; more than any way costs where
    /// there is none.
    pub(crate) fn distances_us(&self, destination: usize) -> &[u64] {
        &self.destinations[destination].primary.distances_us
    }

    /// Whether any row of a relay on a plane leads over its link to another.
    pub(crate) fn leads_over(&self, relay: NodeIndex, next_hop: NodeIndex, plane: Plane) -> bool {
        let (Some(relay), Some(next_hop)) = (self.mesh.place(relay), self.mesh.place(next_hop)) else {
            return false;
        };
        let leads = |next: &[u16]| usize::from(next[relay]) == next_hop;
        self.destinations.iter().any(|towards| towards.next(plane).is_some_and(leads))
    }

    /// What links cost when the routes were computed: from, to, cost.
    pub(crate) fn prices(&self) -> impl Iterator<Item = (NodeIndex, NodeIndex, u64)> + '_ {
        self.mesh.links()
    }

    /// Links whose price is another in `newer`.
    pub(crate) fn price_changes(&self, newer: &Routes) -> Vec<PriceChange> {
        self.mesh.price_changes(&newer.mesh)
    }

    fn changes_among_the_same(
        &self,
        newer: &Routes,
    ) -> Vec<(NodeIndex, Plane, NodeIndex, Option<NodeIndex>)> {
        let mut changes = Vec::new();
        for plane in PLANES {
            for (destination, (before, now)) in self.destinations.iter().zip(&newer.destinations).enumerate()
            {
                if before.is_shared(plane, now) {
                    continue;
                }
                let (Some(before), Some(now)) = (before.next(plane), now.next(plane)) else { continue };
                let rows = before.iter().zip(now).enumerate();
                for (relay, (before, _)) in rows.filter(|(_, (before, now))| before != now) {
                    let before = (*before != NOWHERE).then(|| self.mesh.relay(usize::from(*before)));
                    changes.push((self.mesh.relay(relay), plane, self.mesh.relay(destination), before));
                }
            }
        }
        changes
    }

    /// For each relay, how many pairs of others have a primary way through it.
    pub(crate) fn transit_pairs(&self) -> Vec<(NodeIndex, u64)> {
        self.passing.iter().enumerate().map(|(place, pairs)| (self.mesh.relay(place), *pairs)).collect()
    }

    /// What a link cost when the routes were computed.
    pub(crate) fn link_cost_us(&self, from: NodeIndex, to: NodeIndex) -> Option<u64> {
        self.mesh.cost_us(self.mesh.place(from)?, self.mesh.place(to)?)
    }

    /// What the primary way from one relay to another cost when it was computed, reluctance included; `None` if there is none.
    pub(crate) fn way_cost_us(&self, from: NodeIndex, to: NodeIndex) -> Option<u64> {
        let (from, to) = (self.mesh.place(from)?, self.mesh.place(to)?);
        let way_us = self.destinations[to].primary.distances_us[from];
        (from == to || self.next(Plane::PRIMARY, from, to).is_some()).then_some(way_us)
    }

    /// The links of that way, in order.
    pub(crate) fn hops(
        &self,
        from: NodeIndex,
        to: NodeIndex,
    ) -> impl Iterator<Item = (NodeIndex, NodeIndex)> + '_ {
        let ends = self.mesh.place(from).zip(self.mesh.place(to));
        let mut at = ends.map(|(from, _)| from);
        std::iter::from_fn(move || {
            let (here, (_, to)) = at.zip(ends)?;
            at = self.next(Plane::PRIMARY, here, to).filter(|_| here != to);
            Some((self.mesh.relay(here), self.mesh.relay(at?)))
        })
    }

    /// Whether anybody's way to somebody else passes a relay, on any plane.
    pub(crate) fn pass(&self, relay: NodeIndex) -> bool {
        let Some(place) = self.mesh.place(relay) else { return false };
        let passes = |(at, next): (usize, &u16)| at != place && usize::from(*next) == place;
        self.destinations.iter().enumerate().filter(|(destination, _)| *destination != place).any(
            |(_, towards)| {
                let mut planes = PLANES.into_iter().filter_map(|plane| towards.next(plane));
                planes.any(|next| next.iter().enumerate().any(passes))
            },
        )
    }

    /// Whether the plane that a relay turns to when its primary next hop fails leads to the destination without
    /// misgivings, by what is known now.
    pub(crate) fn turns_soundly(
        &self,
        relay: NodeIndex,
        destination: NodeIndex,
        topology: &Topology,
    ) -> bool {
        let path = self.backup(relay, destination).and_then(|plane| self.path(relay, plane, destination));
        path.is_some_and(|path| path.windows(2).all(|hop| topology.is_sound(hop[0], hop[1], destination)))
    }

    /// Whether some relay would turn to another plane by `newer` when a next hop fails.
    pub(crate) fn turns_otherwise(&self, newer: &Routes) -> bool {
        let turns = |(before, now): (&Towards, &Towards)| {
            !Arc::ptr_eq(&before.backups, &now.backups) && before.backups != now.backups
        };
        !self.mesh.has_relays_of(&newer.mesh) || self.destinations.iter().zip(&newer.destinations).any(turns)
    }

    /// What no route goes around in the topology of these routes.
    pub(crate) fn weak_points(&self) -> WeakPoints {
        WeakPoints::of(&self.mesh, &self.blocks)
    }

    fn next(&self, plane: Plane, relay: usize, destination: usize) -> Option<usize> {
        let next = self.destinations[destination].next(plane)?[relay];
        (next != NOWHERE).then_some(usize::from(next))
    }

    fn route_at(&self, plane: Plane, relay: usize, destination: usize) -> Option<Route> {
        let next = self.next(plane, relay, destination)?;
        let births = &self.destinations[destination].births[usize::from(plane.0)];
        // A path is as old as the youngest row on it.
        let mut since = births.at(relay);
        let mut at = next;
        while let Some(next) = self.next(plane, at, destination) {
            since = since.max(births.at(at));
            at = next;
        }
        Some(Route { next_hop: self.mesh.relay(next), since })
    }
}

impl Towards {
    /// Whether a plane is the same in both without looking.
    fn is_shared(&self, plane: Plane, newer: &Towards) -> bool {
        match plane {
            Plane::PRIMARY => Arc::ptr_eq(&self.primary, &newer.primary),
            Plane(1..) => Arc::ptr_eq(&self.trees, &newer.trees),
        }
    }
}

/// What shortest ways cost, by destination and beginning, relays ascending.
#[cfg(test)]
pub(crate) fn distances_us(topology: &Topology) -> (Vec<NodeIndex>, Vec<u64>) {
    let mesh = Mesh::of(topology);
    let mut shortest = shortest::Shortest::new(&mesh);
    let us = (0..mesh.len()).flat_map(|to| shortest.towards(to).distances_us).collect();
    ((0..mesh.len()).map(|place| mesh.relay(place)).collect(), us)
}

/// The relays on the way that `next` hops make, ends included; `None` where the way ends, or runs in a circle.
pub(crate) fn follow(
    relay: NodeIndex,
    destination: NodeIndex,
    next: impl Fn(NodeIndex) -> Option<NodeIndex>,
) -> Option<Vec<NodeIndex>> {
    let mut path = vec![relay];
    let mut at = relay;
    while at != destination {
        at = next(at)?;
        if path.contains(&at) {
            return None;
        }
        path.push(at);
    }
    Some(path)
}

/// Everyone who has a next hop, next hops before those who name them.
fn outwards(next: &[u16]) -> Vec<usize> {
    let mut done = vec![false; next.len()];
    let mut line = Vec::with_capacity(next.len());
    let mut way = Vec::new();
    for start in 0..next.len() {
        let mut at = start;
        while !done[at] && next[at] != NOWHERE {
            done[at] = true;
            way.push(at);
            at = usize::from(next[at]);
        }
        line.extend(way.drain(..).rev());
    }
    line
}
