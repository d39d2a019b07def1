//! Routes without a controller: what benchmarks and tests compute them from is a graph, not what relays report.

use crate::executor::Executor;
use crate::planes::Routes;
use crate::topology::{Topology, Transit};
use wire_format::{NodeIndex, Plane, Timestamp};

/// Relays `0..count`, directed links between them, and the routes of all three planes.
#[derive(Clone, Debug)]
pub struct Overlay {
    topology: Topology,
    routes: Routes,
    executor: Executor,
}

impl Overlay {
    /// So many relays and the directed links between them, each once: from, to, what it costs in microseconds, at least one.
    /// Nothing is computed yet.
    #[must_use]
    pub fn new(count: u16, links: impl IntoIterator<Item = (NodeIndex, NodeIndex, u64)>) -> Overlay {
        let mut topology = Topology::default();
        for relay in 0..count {
            topology.add_relay(NodeIndex(relay), Transit::Willing);
        }
        for (from, to, cost_us) in links {
            topology.add_link(from, to, cost_us);
        }
        Overlay { topology, routes: Routes::default(), executor: Executor::INLINE }
    }

    /// The same, computed where this executor says.
    #[must_use]
    pub fn with_executor(self, executor: Executor) -> Overlay {
        Overlay { executor, ..self }
    }

    /// A link in one direction that costs this from now on, in microseconds, at least one; or is none. Routes stay as they
    /// are until they are computed.
    pub fn set_link(&mut self, from: NodeIndex, to: NodeIndex, cost_us: Option<u64>) {
        self.topology.set_link(from, to, cost_us);
    }

    /// Computes all routes from nothing.
    pub fn compute(&mut self) {
        self.routes = Routes::compute(Timestamp::ZERO, &self.topology, None, self.executor);
    }

    /// Brings the routes up to date, as a controller does after each change.
    pub fn update(&mut self) {
        self.routes = Routes::compute(Timestamp::ZERO, &self.topology, Some(&self.routes), self.executor);
    }

    /// The next hop of a relay, if a way leads to the destination.
    #[must_use]
    pub fn next_hop(&self, relay: NodeIndex, plane: Plane, destination: NodeIndex) -> Option<NodeIndex> {
        self.routes.route(relay, plane, destination).map(|route| route.next_hop)
    }

    /// What the whole way costs at the prices that it was computed from, in microseconds.
    #[must_use]
    pub fn cost_us(&self, relay: NodeIndex, plane: Plane, destination: NodeIndex) -> Option<u64> {
        Some(self.routes.cost_us(&self.routes.path(relay, plane, destination)?))
    }

    /// For comparison: by destination and relay, what petgraph's `dijkstra` from every relay finds the shortest way to cost.
    #[must_use]
    pub fn all_by_dijkstra(&self) -> Vec<Vec<Option<u64>>> {
        self.topology.all_by_dijkstra()
    }

    /// The same by petgraph's `floyd_warshall`.
    #[must_use]
    pub fn all_by_floyd_warshall(&self) -> Vec<Vec<Option<u64>>> {
        self.topology.all_by_floyd_warshall()
    }
}
