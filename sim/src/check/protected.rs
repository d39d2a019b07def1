//! A protected stream loses nothing: one link or one relay fails, all else is well, and every packet is delivered by the
//! way that is spared, with no silence but what the two ways differ by.
//!
//! Judged as local reroute is, where nothing else interferes and the tables in force name two planes for the stream. From
//! these tables follow the planes that packets must have left on, and both ways, by an account of this judge's own; it holds the controller to two ways of which a
//! single failure spares one, unless no relay but one leads on.

use super::outlook::{Outlook, is_lossless};
use super::pairs::pairs;
use super::planes::asks_for_two;
use super::reroute::{CALM_AFTER, Failure, delay_max, single_failures};
use super::{Verdict, deliveries, frames};
use crate::scenario::{Host, RelayId, Scenario};
use crate::trace::{Event, Packet, Trace};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What hosts, timers and the SFUs' own links add to what two packets are apart.
const UNEVEN: Duration = Duration::from_millis(15);
/// So long before a failure the tables of then are stamped.
const BEFORE: Duration = Duration::from_millis(200);

pub(super) fn check(scenario: &Scenario, trace: &Trace, verdict: &mut Verdict) {
    if !is_lossless(scenario) {
        return;
    }
    for single in single_failures(scenario, trace) {
        for ((client, stream), spans) in pairs(scenario) {
            let failure = single.seen_by(scenario, client, stream);
            if !asks_for_two(scenario, stream) || !failure.is_watched(&spans) {
                continue;
            }
            let Some((ingress, egress)) = failure.ends() else { continue };
            let Some(tables) = single.tables.of(scenario, stream) else { continue };
            let Some(pair) = tables.pair(ingress, egress) else { continue };
            let ways = pair.map(|plane| tables.path(ingress, plane, egress));
            let [Some(one), Some(other)] = ways else {
                verdict.object(failure.at, format!("{}: a plane of {pair:?} leads nowhere", failure.names()));
                continue;
            };
            check_planes(&failure, (ingress, egress), pair, trace, verdict);
            let links_shared = one
                .windows(2)
                .any(|hop| other.windows(2).any(|own| own == hop || (own[0], own[1]) == (hop[1], hop[0])));
            if links_shared {
                verdict.object(failure.at, format!("{}: {one:?} and {other:?} meet", failure.names()));
            }
            let stopped = |way: &[RelayId]| way.windows(2).any(|hop| failure.failed.touches(hop[0], hop[1]));
            if !(stopped(&one) && stopped(&other)) {
                check_stream(&failure, [&one, &other], single.settled, trace, verdict);
            }
        }
    }
}

/// Just before the failure every packet left its ingress on both planes.
fn check_planes(
    failure: &Failure<'_>,
    (ingress, egress): (RelayId, RelayId),
    pair: [u8; 2],
    trace: &Trace,
    verdict: &mut Verdict,
) {
    let watched = failure.at.saturating_sub(BEFORE)..failure.at;
    let mut planes: BTreeMap<Packet, BTreeSet<(u8, bool)>> = BTreeMap::new();
    for (_, frame) in frames(trace).filter(|(at, _)| watched.contains(at)) {
        let own = frame.packet.stream == failure.stream && frame.from == ingress;
        if own && frame.destinations.contains(&egress) {
            planes.entry(frame.packet).or_default().insert((frame.plane, frame.protected));
        }
    }
    let both = BTreeSet::from(pair.map(|plane| (plane, true)));
    // The last one may be between its two copies.
    planes.pop_last();
    if let Some((packet, left)) = planes.iter().find(|(_, left)| **left != both) {
        let names = failure.names();
        verdict.object(failure.at, format!("{names}: {packet:?} left on {left:?}, not on {both:?}"));
    }
}

fn check_stream(
    failure: &Failure<'_>,
    ways: [&[RelayId]; 2],
    settled: bool,
    trace: &Trace,
    verdict: &mut Verdict,
) {
    let Failure { scenario, at: failed_at, client, stream, .. } = failure;
    let (Some(one), Some(other)) = (failure.delays(ways[0]), failure.delays(ways[1])) else { return };
    let mut came: BTreeMap<Packet, Duration> = BTreeMap::new();
    for (at, delivered) in deliveries(trace).filter(|(_, delivered)| delivered.client == *client) {
        if let Some(packet) = delivered.packet.filter(|packet| packet.stream == *stream) {
            came.entry(packet).or_insert(at);
        }
    }
    let watched = failed_at.saturating_sub(CALM_AFTER)..*failed_at + CALM_AFTER;
    let sent =
        trace.events().iter().filter(|(at, _)| watched.contains(at)).filter_map(|(_, event)| {
            if let Event::Sent { packet, .. } = event { Some(*packet) } else { None }
        });
    let sent: Vec<Packet> = sent.filter(|packet| packet.stream == *stream).collect();
    let lost: Vec<_> = sent.iter().filter(|packet| !came.contains_key(packet)).collect();
    if let Some(first) = lost.first() {
        let (names, count) = (failure.names(), lost.len());
        verdict.object(*failed_at, format!("{names}: {count} packets from {first:?} on lost, protected"));
    }
    // By newer tables packets go ways that take as long as they take.
    if !settled {
        return;
    }
    let publisher = scenario.stream(*stream).client;
    let outlook = Outlook::new(scenario, *failed_at);
    let edges = [
        (Host::Client(publisher), Host::Relay(scenario.client(publisher).relay)),
        (Host::Relay(scenario.client(*client).relay), Host::Client(*client)),
    ];
    let uneven = edges.into_iter().filter_map(|(from, to)| outlook.spec(from, to));
    let edges: Duration = uneven.map(|spec| delay_max(spec) - spec.delay).sum();
    let interval = crate::media::interval(scenario, *stream);
    let gap_max = interval + one.1.max(other.1) - one.0.min(other.0) + edges + UNEVEN;
    let mut arrivals: Vec<Duration> = sent.iter().filter_map(|packet| came.get(packet)).copied().collect();
    arrivals.sort_unstable();
    for gap in arrivals.windows(2).filter(|gap| gap[1] - gap[0] > gap_max) {
        let (names, silent) = (failure.names(), gap[1] - gap[0]);
        verdict.object(gap[0], format!("{names}: silent for {silent:?}, protected, {gap_max:?} allowed"));
    }
}
