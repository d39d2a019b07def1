//! How fast a packet could be, if all knew all: over the links' delays as the scenario begins, hosts and queues aside.

use crate::check::pairs;
use crate::scenario::{ClientId, Host, Scenario, StreamNumber};
use petgraph::algo::dijkstra;
use petgraph::graph::DiGraph;
use petgraph::visit::EdgeRef;
use std::collections::BTreeMap;
use std::time::Duration;

/// Longer than any way.
const NEVER: Duration = Duration::from_secs(3_600);

/// The delay of the fastest way of each stream to each subscriber.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fastest(BTreeMap<(StreamNumber, ClientId), Duration>);

impl Fastest {
    /// In the network of a scenario.
    pub fn of(scenario: &Scenario) -> Fastest {
        let mut graph: DiGraph<Host, Duration> = DiGraph::new();
        let hosts = scenario.relay_ids().map(Host::Relay).chain(scenario.client_ids().map(Host::Client));
        let places: BTreeMap<Host, _> = hosts.map(|host| (host, graph.add_node(host))).collect();
        for ((from, to), schedule) in &scenario.paths {
            graph.add_edge(places[from], places[to], schedule.first().delay);
        }
        let mut ways = BTreeMap::new();
        let mut known = BTreeMap::new();
        for (client, stream) in pairs(scenario).into_keys() {
            let publisher = Host::Client(scenario.stream(stream).client);
            let from = known.entry(publisher).or_insert_with(|| {
                dijkstra(&graph, places[&publisher], None, |edge| {
                    // Clients pass nothing on.
                    let from = graph[edge.source()];
                    let passes = matches!(from, Host::Relay(_)) || from == publisher;
                    if passes { *edge.weight() } else { NEVER }
                })
            });
            if let Some(way) = from.get(&places[&Host::Client(client)]).filter(|way| **way < NEVER) {
                ways.insert((stream, client), *way);
            }
        }
        Fastest(ways)
    }

    /// Of one; `None` if nothing leads there.
    pub fn way(&self, stream: StreamNumber, client: ClientId) -> Option<Duration> {
        self.0.get(&(stream, client)).copied()
    }
}
