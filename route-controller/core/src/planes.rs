//! Route tables of all relays together: what an epoch is a version of.
//!
//! The primary plane is shortest paths under strictly positive costs. Every hop of such a path brings the destination
//! strictly nearer, so no set of tables computed from one topology can loop, and the rest of a path is the path of its
//! second relay. The red and blue planes are two trees towards each destination that share only what they must
//! ([`redundant`], [`forest`]): whichever single link or relay fails, one of them is whole, unless the overlay itself
//! falls apart there ([`blocks`]).
//!
//! Shortest paths move with every change of a cost, and that is their purpose. Red and blue are for bad moments, and
//! whether they are a little longer than they could be hardly matters: as long as the same links join the same relays,
//! a destination's trees stay as they are until others would be cheaper by a tenth, over all relays together.

mod blocks;
mod forest;
mod mesh;
mod order;
mod redundant;
mod shortest;
#[cfg(test)]
mod tests;

pub(crate) use blocks::WeakPoints;

use crate::history::PriceChange;
use crate::topology::Topology;
use forest::{Forester, Trees};
use mesh::Mesh;
use redundant::{Branch, Side};
use shortest::Shortest;
use wire_format::{Epoch, NodeIndex, Plane, RouteTable, Timestamp};

/// The first of the redundant planes.
pub(crate) const RED: Plane = Plane(1);
/// The second of the redundant planes.
pub(crate) const BLUE: Plane = Plane(2);
const PLANES: [Plane; 3] = [Plane::PRIMARY, RED, BLUE];
/// New trees replace old ones when they cost less than this share of them.
const BETTER_PCT: u64 = 90;
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
    mesh: Mesh,
    /// By plane.
    planes: [Rows; 3],
    /// By destination and relay: the number of the plane to turn to, or 0.
    backups: Vec<u8>,
}

/// One plane of all tables, by place of the destination times the number of relays plus place of the relay: routes are
/// computed one destination after the other.
#[derive(Clone, Debug, Default)]
struct Rows {
    /// Places of the next hops, or [`NOWHERE`].
    next: Vec<u16>,
    since: Vec<Timestamp>,
}

impl Routes {
    /// Shortest paths and redundant trees between all relays. Paths that stood in `before` keep their age, and trees
    /// their shape as long as it is good enough.
    pub(crate) fn compute(now: Timestamp, topology: &Topology, before: Option<&Routes>) -> Routes {
        let mesh = Mesh::of(topology);
        let pairs = mesh.len() * mesh.len();
        let rows = Rows { next: vec![NOWHERE; pairs], since: vec![now; pairs] };
        let planes = [rows.clone(), rows.clone(), rows];
        let mut routes = Routes { mesh, planes, backups: vec![0; pairs] };
        let mesh = routes.mesh.clone();
        let mut forester = Forester::new(&mesh);
        let mut shortest = Shortest::new(&mesh);
        // By place: where each relay was before.
        let places_before = before.map(|before| {
            (0..mesh.len()).map(|relay| before.mesh.place(mesh.relay(relay))).collect::<Vec<_>>()
        });
        let unchanged = before.filter(|before| before.mesh.is_joined_like(&mesh));
        for destination in 0..mesh.len() {
            for (relay, next) in shortest.towards(destination) {
                routes.set(Plane::PRIMARY, relay, destination, next);
            }
            let fresh = forester.towards(destination);
            let kept = unchanged.and_then(|before| before.trees_worth_keeping(&mesh, destination, &fresh));
            let trees = kept.unwrap_or(fresh);
            for relay in 0..mesh.len() {
                for (plane, side) in [(RED, Side::Red), (BLUE, Side::Blue)] {
                    if let Some(branch) = trees.of(side)[relay] {
                        routes.set(plane, relay, destination, branch.next);
                    }
                }
            }
            routes.choose_backups(destination, &trees);
            if let (Some(before), Some(places)) = (before, &places_before) {
                routes.keep_ages(before, places, destination);
            }
        }
        routes
    }

    /// The row of `relay` for `destination`.
    pub(crate) fn route(&self, relay: NodeIndex, plane: Plane, destination: NodeIndex) -> Option<Route> {
        self.route_at(plane, self.mesh.place(relay)?, self.mesh.place(destination)?)
    }

    /// The redundant plane that `relay` turns to when its primary next hop for `destination` fails.
    pub(crate) fn backup(&self, relay: NodeIndex, destination: NodeIndex) -> Option<Plane> {
        let at = self.at(self.mesh.place(relay)?, self.mesh.place(destination)?);
        (self.backups[at] != 0).then_some(Plane(self.backups[at]))
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
    pub(crate) fn table(&self, epoch: Epoch, relay: NodeIndex) -> RouteTable {
        let Some(relay) = self.mesh.place(relay) else { return RouteTable::new(epoch) };
        let to = |destination: usize| self.mesh.relay(destination);
        let destinations = 0..self.mesh.len();
        let next_hops = PLANES.into_iter().flat_map(|plane| {
            let row = move |destination| Some((destination, self.route_at(plane, relay, destination)?));
            destinations.clone().filter_map(row).map(move |(at, route)| ((plane, to(at)), route.next_hop))
        });
        let backups =
            destinations.clone().map(|destination| (destination, self.backups[self.at(relay, destination)]));
        RouteTable {
            epoch,
            next_hops: next_hops.collect(),
            backups: backups
                .filter(|(_, plane)| *plane != 0)
                .map(|(at, plane)| (to(at), Plane(plane)))
                .collect(),
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
            let number = usize::from(plane.0);
            let pairs = self.planes[number].next.iter().zip(&newer.planes[number].next).enumerate();
            for (at, (before, _)) in pairs.filter(|(_, (before, now))| before != now) {
                let (destination, relay) = (at / self.mesh.len(), at % self.mesh.len());
                let before = (*before != NOWHERE).then(|| self.mesh.relay(usize::from(*before)));
                changes.push((self.mesh.relay(relay), plane, self.mesh.relay(destination), before));
            }
        }
        changes
    }

    /// For each relay, how many pairs of others have a primary way through it.
    pub(crate) fn transit_pairs(&self) -> Vec<(NodeIndex, u64)> {
        let mut pairs = vec![0_u64; self.mesh.len()];
        for destination in 0..self.mesh.len() {
            let line = outwards(self.mesh.len(), |relay| self.next(Plane::PRIMARY, relay, destination));
            let mut beyond = vec![0_u64; self.mesh.len()];
            for &relay in line.iter().rev() {
                if let Some(next) = self.next(Plane::PRIMARY, relay, destination) {
                    pairs[relay] += beyond[relay];
                    beyond[next] += beyond[relay] + 1;
                }
            }
        }
        pairs.into_iter().enumerate().map(|(place, pairs)| (self.mesh.relay(place), pairs)).collect()
    }

    /// What a link cost when the routes were computed.
    pub(crate) fn link_cost_us(&self, from: NodeIndex, to: NodeIndex) -> Option<u64> {
        self.mesh.cost_us(self.mesh.place(from)?, self.mesh.place(to)?)
    }

    /// Whether anybody's way to somebody else passes a relay, on any plane.
    pub(crate) fn pass(&self, relay: NodeIndex) -> bool {
        let Some(place) = self.mesh.place(relay) else { return false };
        let passes = |(at, next): (usize, &u16)| usize::from(*next) == place && at / self.mesh.len() != place;
        self.planes.iter().any(|rows| rows.next.iter().enumerate().any(passes))
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
        !self.mesh.has_relays_of(&newer.mesh) || self.backups != newer.backups
    }

    /// What no route goes around in the topology of these routes.
    pub(crate) fn weak_points(&self) -> WeakPoints {
        WeakPoints::of(&self.mesh)
    }

    fn at(&self, relay: usize, destination: usize) -> usize {
        destination * self.mesh.len() + relay
    }

    fn set(&mut self, plane: Plane, relay: usize, destination: usize, next: usize) {
        let at = self.at(relay, destination);
        self.planes[usize::from(plane.0)].next[at] = u16::try_from(next).expect("indices are of 16 bits");
    }

    fn next(&self, plane: Plane, relay: usize, destination: usize) -> Option<usize> {
        let next = *self.planes.get(usize::from(plane.0))?.next.get(self.at(relay, destination))?;
        (next != NOWHERE).then_some(usize::from(next))
    }

    fn route_at(&self, plane: Plane, relay: usize, destination: usize) -> Option<Route> {
        let next = self.next(plane, relay, destination)?;
        let since = self.planes[usize::from(plane.0)].since[self.at(relay, destination)];
        Some(Route { next_hop: self.mesh.relay(next), since })
    }

    /// The trees of these routes at the costs of another mesh with the same links, unless `fresh` ones are better by so
    /// much that they should replace them.
    fn trees_worth_keeping(&self, mesh: &Mesh, destination: usize, fresh: &Trees) -> Option<Trees> {
        let tree = |plane| {
            let mut tree: Vec<Option<Branch>> = vec![None; mesh.len()];
            for relay in outwards(mesh.len(), |relay| self.next(plane, relay, destination)) {
                let next = self.next(plane, relay, destination)?;
                let rest_us = tree[next].map_or(0, |branch| branch.cost_us);
                let passing_us = if next == destination { 0 } else { mesh.price_us(next) };
                tree[relay] =
                    Some(Branch { next, cost_us: mesh.cost_us(relay, next)? + passing_us + rest_us });
            }
            Some(tree)
        };
        let kept = Trees { red: tree(RED)?, blue: tree(BLUE)? };
        let whole = |trees: &Trees| {
            let branches = trees.red.iter().chain(&trees.blue).flatten();
            branches.map(|branch| u128::from(branch.cost_us)).sum::<u128>()
        };
        (whole(fresh) * 100 >= whole(&kept) * u128::from(BETTER_PCT)).then_some(kept)
    }

    /// For each relay, the redundant plane whose way to the destination avoids the primary next hop and the link to it.
    /// If both do, the cheaper one.
    fn choose_backups(&mut self, destination: usize, trees: &Trees) {
        let ancestry = [Side::Red, Side::Blue].map(|side| Ancestry::of(trees.of(side)));
        for relay in 0..self.mesh.len() {
            let Some(suspect) = self.next(Plane::PRIMARY, relay, destination) else { continue };
            let choices = [(RED, Side::Red), (BLUE, Side::Blue)].into_iter().zip(&ancestry);
            let avoiding = choices.filter_map(|((plane, side), ancestry)| {
                let branch = trees.of(side)[relay]?;
                let avoids = branch.next != suspect
                    && (suspect == destination || !ancestry.is_on_the_way(suspect, relay));
                avoids.then_some((branch.cost_us, plane))
            });
            if let Some((_, plane)) = avoiding.min() {
                let at = self.at(relay, destination);
                self.backups[at] = plane.0;
            }
        }
    }

    /// A path is as old as the youngest row on it.
    fn keep_ages(&mut self, before: &Routes, places_before: &[Option<usize>], destination: usize) {
        let Some(destination_before) = places_before[destination] else { return };
        for plane in PLANES {
            for relay in outwards(self.mesh.len(), |relay| self.next(plane, relay, destination)) {
                let Some(next) = self.next(plane, relay, destination) else { continue };
                let known = places_before[relay]
                    .and_then(|relay| before.route_at(plane, relay, destination_before))
                    .filter(|known| known.next_hop == self.mesh.relay(next));
                let rest = (next != destination).then(|| self.at(next, destination));
                let rest_since = rest.map(|at| self.planes[usize::from(plane.0)].since[at]);
                let at = self.at(relay, destination);
                if let Some(known) = known.filter(|known| rest_since.is_none_or(|rest| rest <= known.since)) {
                    self.planes[usize::from(plane.0)].since[at] = known.since;
                }
            }
        }
    }
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
fn outwards(len: usize, next: impl Fn(usize) -> Option<usize>) -> Vec<usize> {
    let mut done = vec![false; len];
    let mut line = Vec::with_capacity(len);
    let mut way = Vec::new();
    for start in 0..len {
        let mut at = start;
        while !done[at]
            && let Some(onwards) = next(at)
        {
            done[at] = true;
            way.push(at);
            at = onwards;
        }
        line.extend(way.drain(..).rev());
    }
    line
}

/// Who is on whose way down a tree, by a tour of it: whoever passes a relay is entered after it and left before it.
struct Ancestry {
    entered: Vec<usize>,
    left: Vec<usize>,
}

impl Ancestry {
    fn of(tree: &[Option<Branch>]) -> Ancestry {
        let line = outwards(tree.len(), |place| tree[place].map(|branch| branch.next));
        // How many relays pass each, itself included; then where the part of the tour that is theirs begins.
        let mut within = vec![1; tree.len()];
        for &place in line.iter().rev() {
            if let Some(branch) = tree[place] {
                within[branch.next] += within[place];
            }
        }
        let mut entered: Vec<usize> = vec![0; tree.len()];
        let mut free: Vec<usize> = vec![1; tree.len()];
        for &place in &line {
            if let Some(branch) = tree[place] {
                entered[place] = free[branch.next];
                free[branch.next] += within[place];
                free[place] = entered[place] + 1;
            }
        }
        let left = entered.iter().zip(within).map(|(entered, within)| entered + within).collect();
        Ancestry { entered, left }
    }

    /// Whether `passed` is on the way of `relay`, or is it.
    fn is_on_the_way(&self, passed: usize, relay: usize) -> bool {
        (self.entered[passed]..self.left[passed]).contains(&self.entered[relay])
    }
}
