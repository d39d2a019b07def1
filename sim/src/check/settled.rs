//! Where the scenario says so, routes settle soon and stay: from a time on, every packet takes the way of least delay
//! and hops by petgraph's account, from whoever stamped it for its egress, however busy the relays' hosts are with other things.

use super::outlook::{Outlook, disturbances};
use super::pairs::pairs;
use super::planes::asks_for_two;
use super::routes::Ways;
use super::stamps::Stamps;
use super::{Verdict, deliveries};
use crate::scenario::{Host, RelayId, Routing, Scenario};
use crate::trace::Trace;
use petgraph::algo::dijkstra;
use petgraph::graph::{DiGraph, NodeIndex};
use std::time::Duration;

/// What each hop costs besides its delay.
const HOP: Duration = Duration::from_millis(1);

pub(super) fn check(scenario: &Scenario, trace: &Trace, verdict: &mut Verdict) {
    let straight = scenario.routing == Routing::Direct;
    let Some(within) = scenario.expect.settled_within.filter(|_| !straight) else { return };
    let pairs = pairs(scenario);
    let joins = pairs.values().flatten().map(|(from, _)| *from);
    let settled = disturbances(scenario).into_iter().chain(joins).max().unwrap_or_default() + within;
    let graph = graph(scenario, settled);
    let stamps = Stamps::new(scenario, trace);
    let ways = Ways::new(trace, settled, |_| true);
    for (at, delivered) in deliveries(trace) {
        let Some(packet) = delivered.packet else { continue };
        // Two ways at once: one of them is the other's alternative.
        if asks_for_two(scenario, packet.stream) || !scenario.stays(packet.stream, delivered.client) {
            continue;
        }
        let to = scenario.client(delivered.client).relay;
        // Packets that set out before are not seen on their whole way.
        let stampers = stamps.stampers(packet.stream, to, at);
        let mut paths = stampers.into_iter().filter_map(|from| Some((from, ways.path(packet, from, to)?)));
        let Some((from, path)) = paths.find(|(_, path)| path.len() > 1) else { continue };
        let taken = cost(&graph, &path);
        let best =
            dijkstra(&graph, place(from), Some(place(to)), |edge| *edge.weight()).get(&place(to)).copied();
        if taken.is_none() || taken > best {
            let path: Vec<_> = path.iter().map(|relay| scenario.host_name(Host::Relay(*relay))).collect();
            verdict.object(
                at,
                format!("{packet:?} went {}: {taken:?}, the best takes {best:?}", path.join(" ")),
            );
        }
    }
}

/// What each direction costs; a relay's place is its place in the scenario.
fn graph(scenario: &Scenario, at: Duration) -> DiGraph<(), Duration> {
    let outlook = Outlook::new(scenario, at);
    let mut graph = DiGraph::new();
    for _ in scenario.relay_ids() {
        graph.add_node(());
    }
    for (from, to) in scenario.paths.keys() {
        let (Host::Relay(a), Host::Relay(b)) = (*from, *to) else { continue };
        if outlook.link_works(*from, *to)
            && let Some(spec) = outlook.spec(*from, *to)
        {
            graph.add_edge(place(a), place(b), spec.delay + HOP);
        }
    }
    graph
}

fn cost(graph: &DiGraph<(), Duration>, path: &[RelayId]) -> Option<Duration> {
    path.windows(2).map(|hop| Some(graph[graph.find_edge(place(hop[0]), place(hop[1]))?])).sum()
}

fn place(relay: RelayId) -> NodeIndex {
    NodeIndex::new(usize::from(relay.0))
}
