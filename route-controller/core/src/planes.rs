//! Route tables of all relays together: what an epoch is a version of.
//!
//! The primary plane is shortest paths under strictly positive costs. Every hop of such a path brings the destination
//! strictly nearer, so no set of tables computed from one topology can loop, and the rest of a path is the path of its
//! second relay. The two redundant planes find their place here.

use crate::topology::Topology;
use std::collections::BTreeMap;
use wire_format::{Epoch, NodeIndex, Plane, RouteTable, Timestamp};

/// A row of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Route {
    /// The neighbour that comes next.
    pub next_hop: NodeIndex,
    /// Cost of the whole path in microseconds.
    pub cost_us: u64,
    /// When this path, all of it, was first computed.
    pub since: Timestamp,
}

/// Tables of all relays.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes {
    tables: BTreeMap<NodeIndex, BTreeMap<(Plane, NodeIndex), Route>>,
}

impl Routes {
    /// Shortest paths between all relays. Paths that stood in `before` keep their age.
    pub(crate) fn compute(now: Timestamp, topology: &Topology, before: Option<&Routes>) -> Routes {
        let mut tables: BTreeMap<NodeIndex, BTreeMap<(Plane, NodeIndex), Route>> =
            topology.relays().map(|relay| (relay, BTreeMap::new())).collect();
        for destination in topology.relays() {
            let paths = topology.paths_to(destination);
            // Nearest first, so that the age of the rest of a path is known before the path's own.
            let mut by_cost: Vec<_> =
                paths.into_iter().map(|(relay, (next, cost))| (cost, relay, next)).collect();
            by_cost.sort_unstable();
            for (cost_us, relay, next_hop) in by_cost {
                let row = (Plane::PRIMARY, destination);
                let rest_since =
                    tables.get(&next_hop).and_then(|table| table.get(&row)).map(|rest| rest.since);
                let known = before.and_then(|before| before.route(relay, Plane::PRIMARY, destination));
                let since = known
                    .filter(|known| {
                        known.next_hop == next_hop && rest_since.is_none_or(|rest| rest <= known.since)
                    })
                    .map_or(now, |known| known.since);
                let route = Route { next_hop, cost_us: Topology::measured_us(cost_us), since };
                tables.entry(relay).or_default().insert(row, route);
            }
        }
        Routes { tables }
    }

    /// The row of `relay` for `destination`.
    pub(crate) fn route(&self, relay: NodeIndex, plane: Plane, destination: NodeIndex) -> Option<&Route> {
        self.tables.get(&relay)?.get(&(plane, destination))
    }

    /// All rows: relay, plane, destination, row.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (NodeIndex, Plane, NodeIndex, &Route)> {
        self.tables.iter().flat_map(|(relay, table)| {
            table.iter().map(|((plane, destination), route)| (*relay, *plane, *destination, route))
        })
    }

    /// The table of one relay as it is pushed; empty for a relay that was not there when the routes were computed.
    pub(crate) fn table(&self, epoch: Epoch, relay: NodeIndex) -> RouteTable {
        let rows = self.tables.get(&relay).into_iter().flatten();
        RouteTable { epoch, next_hops: rows.map(|(row, route)| (*row, route.next_hop)).collect() }
    }

    /// All relays from `relay` to `destination`, both included, or `None` if there is no way.
    pub(crate) fn path(
        &self,
        relay: NodeIndex,
        plane: Plane,
        destination: NodeIndex,
    ) -> Option<Vec<NodeIndex>> {
        let mut path = vec![relay];
        let mut at = relay;
        while at != destination {
            at = self.route(at, plane, destination)?.next_hop;
            path.push(at);
            if path.len() > self.tables.len() {
                return None;
            }
        }
        Some(path)
    }

    /// Rows of `self` whose next hop is another in `newer`, or that are missing in one of them: relay, plane,
    /// destination, next hop before.
    pub(crate) fn changes<'a>(
        &'a self,
        newer: &'a Routes,
    ) -> impl Iterator<Item = (NodeIndex, Plane, NodeIndex, Option<NodeIndex>)> + 'a {
        let changed_or_gone = self.rows().filter_map(|(relay, plane, destination, route)| {
            let now = newer.route(relay, plane, destination).map(|route| route.next_hop);
            (now != Some(route.next_hop)).then_some((relay, plane, destination, Some(route.next_hop)))
        });
        let new = newer.rows().filter_map(|(relay, plane, destination, _)| {
            self.route(relay, plane, destination).is_none().then_some((relay, plane, destination, None))
        });
        changed_or_gone.chain(new)
    }
}
