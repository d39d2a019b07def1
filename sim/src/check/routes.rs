//! In the end media takes the best way: petgraph's shortest paths over what the scenario says of the links, an account
//! that shares nothing with the controller's but the formula of what a link costs. Each stream is judged by the prices of the
//! policy that its frames bear.
//!
//! The controller measures, smooths and waits before it believes; so a link costs somewhere between a least and a most,
//! and the way taken, at its least, must not be dearer than the best way at its most. Where a relay is fed by another, that is
//! so for the way between these two, and the whole way may be a detour as long as the controller promises. Packets that a relay moved around a
//! link which it missed for a moment are another judge's business.

use super::outlook::{Outlook, controlled_spans, disturbances};
use super::pairs::pairs;
use super::stamps::Stamps;
use super::{Verdict, deliveries, frames};
use crate::scenario::{Fault, FaultKind, Host, RelayId, Routing, Scenario, StreamNumber};
use crate::trace::{Frame, Packet, Trace};
use link_model::{LinkSpec, Loss};
use petgraph::algo::dijkstra;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;
use route_core::Policy;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A feeder that has become a long detour is left within this, though few change in a minute.
const FEEDERS_WITHIN: Duration = Duration::from_secs(15);
/// A way by other relays may be a fifth longer when it is chosen, and half as much again later.
const DETOUR_MAX: f64 = 1.3;
/// After the last disturbance, measurements settle.
const SETTLES_WITHIN: Duration = Duration::from_secs(6);
/// A link that has become better is believed slowly.
const FORGETS_WITHIN: Duration = Duration::from_secs(40);
/// One that has changed before, and may have become worse soon after it had become better, much more slowly.
const FORGETS_SWINGS_WITHIN: Duration = Duration::from_secs(340);
/// Relays report the loss of so long.
const LOSS_WINDOW_S: f64 = 10.0;
/// A link whose ends both hear nothing for longer is made anew.
const OUTLIVED: Duration = Duration::from_secs(1);
/// The plane of the shortest paths.
const PRIMARY: u8 = 0;
const HOP_US: f64 = 1_000.0;
/// A link that carries nearly all it can.
const LOAD_US: f64 = 10_000.0;
const REACTION_US: f64 = 10_000.0;
/// What is lost in a burst waits for its end, a slot for each that is lost, and no longer than this.
const SLOT_US: f64 = 5_000.0;
const BURST_WAIT_MAX_US: f64 = 50_000.0;
/// What processes and their timers add to a round trip at most.
const LATENESS_US: f64 = 1_500.0;
/// A published cost may be away from the measured one by a tenth or this, and is rounded.
const HYSTERESIS_US: f64 = 1_000.0;
const ROUNDING_US: f64 = 500.0;
/// More than any path.
const AVOIDED_US: f64 = 1e9;
/// More than any path that passes what is avoided.
const FORBIDDEN_US: f64 = 1e13;
/// What saves a dollar per gigabyte may take so much longer.
const DOLLAR_US: f64 = 100_000.0;
const PINNED_US: f64 = 1.0;

pub(super) fn check(scenario: &Scenario, trace: &Trace, verdict: &mut Verdict) {
    // Straight ways are not the best ones, and are not meant to be.
    if scenario.routing == Routing::Direct {
        return;
    }
    let end = scenario.media_end();
    let pairs = pairs(scenario);
    let joins = pairs.values().flatten().map(|(from, _)| *from);
    let last = disturbances(scenario).into_iter().chain(joins).max().unwrap_or_default();
    // The controller that is there in the end has been there long enough.
    let Some((since, _)) = controlled_spans(scenario).last().copied().filter(|(_, left)| *left >= end) else {
        return;
    };
    let settled = last.max(since).max(scenario.policies_from) + SETTLES_WITHIN;
    if settled >= end {
        return;
    }
    let stamps = Stamps::new(scenario, trace);
    for (index, policy) in scenario.policies.iter() {
        let prices = Prices::new(scenario, settled, policy);
        let own = |frame: &Frame| frame.policy == index.bits();
        let ways = Ways::new(trace, settled, |frame| frame.plane == PRIMARY && !frame.marked && own(frame));
        check_policy(scenario, trace, settled, (&prices, &ways, &stamps), verdict);
    }
}

/// Streams whose frames bear one policy.
fn check_policy(
    scenario: &Scenario,
    trace: &Trace,
    settled: Duration,
    (prices, ways, stamps): (&Prices<'_>, &Ways, &Stamps),
    verdict: &mut Verdict,
) {
    for (client, stream) in pairs(scenario).keys() {
        let from = scenario.client(scenario.stream(*stream).client).relay;
        let to = scenario.client(*client).relay;
        if from == to || !scenario.stays(*stream, *client) {
            continue;
        }
        let own = deliveries(trace).filter(|(at, delivered)| *at >= settled && delivered.client == *client);
        let packets = own.filter_map(|(at, delivered)| Some((at, delivered.packet?)));
        let mut packets: Vec<_> = packets.filter(|(_, packet)| packet.stream == *stream).collect();
        let seen = std::iter::from_fn(|| packets.pop()).find_map(|(at, packet)| {
            let mut stampers = stamps.stampers(*stream, to, at).into_iter();
            stampers.find_map(|stamper| Some((at, packet, stamper, ways.path(packet, stamper, to)?)))
        });
        let Some((at, packet, stamper, path)) = seen else { continue };
        check_detour(prices, stamps, (*stream, from, to), (settled, at), verdict);
        let Some((taken_us, best_us)) = prices.compare(&path, stamper, to) else { continue };
        if taken_us > best_us {
            let path: Vec<_> = path.iter().map(|relay| scenario.host_name(Host::Relay(*relay))).collect();
            verdict.object(
                at,
                format!("{packet:?} went {}: {taken_us:.0} us at least, the best way takes {best_us:.0} us at most", path.join(" ")),
            );
        }
    }
}

/// A relay that was fed by others for long is not much further from the ingress that way than by the best way.
fn check_detour(
    prices: &Prices<'_>,
    stamps: &Stamps,
    (stream, from, to): (StreamNumber, RelayId, RelayId),
    (settled, at): (Duration, Duration),
    verdict: &mut Verdict,
) {
    if settled + FEEDERS_WITHIN > at {
        return;
    }
    let Some(chain) = stamps.chain(stream, from, to, (settled, settled, at)).filter(|chain| chain.len() > 2)
    else {
        return;
    };
    let parts = chain.windows(2).map(|part| prices.best_least(part[0], part[1]));
    let Some(taken_us) = parts.sum::<Option<f64>>() else { return };
    let Some(best_us) = prices.best_most(from, to) else { return };
    if taken_us > best_us * DETOUR_MAX {
        verdict.object(
            at,
            format!(
                "{to} is fed by {chain:?}: {taken_us:.0} us at least, {best_us:.0} us at most from {from}"
            ),
        );
    }
}

fn relay_at(place: NodeIndex) -> RelayId {
    RelayId(u16::try_from(place.index()).expect("few relays"))
}

/// What each direction costs, at least and at most.
struct Prices<'a> {
    scenario: &'a Scenario,
    policy: &'a Policy,
    least: BTreeMap<(RelayId, RelayId), f64>,
    /// A relay's place is its place in the scenario.
    most: DiGraph<(), f64>,
}

impl Prices<'_> {
    fn new<'a>(scenario: &'a Scenario, at: Duration, policy: &'a Policy) -> Prices<'a> {
        let outlook = Outlook::new(scenario, at);
        let mut prices = Prices { scenario, policy, least: BTreeMap::new(), most: DiGraph::new() };
        for _ in scenario.relay_ids() {
            prices.most.add_node(());
        }
        for (from, to) in scenario.paths.keys() {
            let (Host::Relay(a), Host::Relay(b)) = (*from, *to) else { continue };
            if !outlook.link_works(*from, *to) {
                continue;
            }
            let late = price_of_late(scenario, (*from, *to), at, policy);
            let (least, most) = prices.by_policy((a, b), late);
            prices.least.insert((a, b), least);
            let dear = is_distrusted(scenario, *from, *to);
            let place = |relay: RelayId| NodeIndex::new(usize::from(relay.0));
            prices.most.add_edge(place(a), place(b), if dear { AVOIDED_US } else { most });
        }
        prices
    }

    /// Cost of the path at its least, and of the best way at its most.
    fn compare(&self, path: &[RelayId], from: RelayId, to: RelayId) -> Option<(f64, f64)> {
        let passed = self.passed_between(from, to);
        let hops = path.windows(2).map(|hop| Some(self.least.get(&(hop[0], hop[1]))? + passed(hop[1])));
        let taken: Option<f64> = hops.sum();
        Some((taken?, self.best_most(from, to)?))
    }

    /// What passing each relay costs on the way between two.
    fn passed_between(&self, from: RelayId, to: RelayId) -> impl Fn(RelayId) -> f64 + '_ {
        move |relay| if relay == from || relay == to { 0.0 } else { self.passing_us(relay) }
    }

    fn best_most(&self, from: RelayId, to: RelayId) -> Option<f64> {
        let passed = self.passed_between(from, to);
        let [from, to] = [from, to].map(|relay| NodeIndex::new(usize::from(relay.0)));
        let cost =
            |edge: petgraph::graph::EdgeReference<'_, f64>| edge.weight() + passed(relay_at(edge.target()));
        dijkstra(&self.most, from, Some(to), cost).get(&to).copied()
    }

    fn best_least(&self, from: RelayId, to: RelayId) -> Option<f64> {
        let passed = self.passed_between(from, to);
        let [from, to] = [from, to].map(|relay| NodeIndex::new(usize::from(relay.0)));
        let least = self.most.map(
            |_, _| (),
            |edge, _| {
                let (a, b) = self.most.edge_endpoints(edge).expect("an edge has ends");
                self.least.get(&(relay_at(a), relay_at(b))).copied().unwrap_or(f64::INFINITY)
            },
        );
        let cost =
            |edge: petgraph::graph::EdgeReference<'_, f64>| edge.weight() + passed(relay_at(edge.target()));
        dijkstra(&least, from, Some(to), cost).get(&to).copied()
    }

    /// What passing a relay costs beside its links.
    fn passing_us(&self, relay: RelayId) -> f64 {
        if self.scenario.is_in(relay, &self.policy.forbid) {
            FORBIDDEN_US
        } else if self.scenario.is_in(relay, &self.policy.emergency) {
            AVOIDED_US
        } else {
            0.0
        }
    }

    /// Money, and what pins make of a price.
    fn by_policy(&self, (from, to): (RelayId, RelayId), (least, most): (f64, f64)) -> (f64, f64) {
        let spec = |relay: RelayId| &self.scenario.relays[usize::from(relay.0)];
        let (from, to) = (spec(from), spec(to));
        let pinned = self.policy.pins.iter().any(|pin| {
            pin.path().windows(2).any(|link| (link[0].as_str(), link[1].as_str()) == (&from.name, &to.name))
        });
        if pinned {
            return (PINNED_US, PINNED_US);
        }
        let fits = |pattern: &str, region: &str| pattern == "*" || pattern == region;
        let mut prices = self.scenario.egress.iter();
        let price = prices.find(|price| fits(&price.from, &from.region) && fits(&price.to, &to.region));
        let dollars = price.map_or(0.0, |price| price.micro_dollars_per_gb as f64 / 1e6);
        let money = dollars * DOLLAR_US * f64::from(self.policy.weights.money_pct) / 100.0;
        (least + money, most + money)
    }
}

/// A link that failed twice, and a relay that the controller missed, are avoided for a while.
fn is_distrusted(scenario: &Scenario, from: Host, to: Host) -> bool {
    let ends = |relay: &RelayId| [from, to].contains(&Host::Relay(*relay));
    let failed = |kind: &FaultKind| match kind {
        FaultKind::Cut(directions) => directions.contains(&(from, to)) || directions.contains(&(to, from)),
        FaultKind::Crash(relay) | FaultKind::Leave(relay) | FaultKind::Freeze(relay) => ends(relay),
        FaultKind::Isolate(_)
        | FaultKind::Mute(_)
        | FaultKind::Hostile(_)
        | FaultKind::Drain(_)
        | FaultKind::ControllerCrash => false,
    };
    let missed = |kind: &FaultKind| match kind {
        FaultKind::Isolate(relay) | FaultKind::Mute(relay) | FaultKind::Freeze(relay) => ends(relay),
        FaultKind::Cut(_)
        | FaultKind::Crash(_)
        | FaultKind::Leave(_)
        | FaultKind::Hostile(_)
        | FaultKind::Drain(_)
        | FaultKind::ControllerCrash => false,
    };
    let kinds = || scenario.faults.iter().map(|fault| &fault.kind);
    kinds().filter(|kind| failed(kind)).count() > 1 || kinds().any(missed)
}

/// The price of a direction as the controller may see it: what the link did a while ago is not forgotten at once.
fn price_of_late(scenario: &Scenario, (from, to): (Host, Host), at: Duration, policy: &Policy) -> (f64, f64) {
    let changes = |direction| scenario.paths.get(&direction).into_iter().flat_map(|path| path.later());
    let changed = || changes((from, to)).chain(changes((to, from))).map(|(time, _)| *time);
    let swings = changed().filter(|time| *time <= at).count() > 1;
    let recent = at.saturating_sub(if swings { FORGETS_SWINGS_WITHIN } else { FORGETS_WITHIN })..=at;
    let outage = outage_of_late(scenario, (from, to), (*recent.start(), at));
    let times = changed().filter(|time| recent.contains(time)).chain([*recent.start(), at]);
    let prices = times.filter_map(|time| {
        let outlook = Outlook::new(scenario, time);
        Some(price(outlook.spec(from, to)?, outlook.spec(to, from)?, outage, policy))
    });
    prices.fold((f64::INFINITY, 0.0), |(least, most), price| (price.0.min(least), price.1.max(most)))
}

/// The share of a relay's window of losses that outages took which the link may have outlived: what is lost in them is loss
/// like any other.
fn outage_of_late(scenario: &Scenario, (from, to): (Host, Host), late: (Duration, Duration)) -> f64 {
    let back = outages(scenario, (to, from));
    let meets =
        |(begin, end): (Duration, Duration), other: &(Duration, Duration)| begin < other.1 && other.0 < end;
    let outlived = |span: &(Duration, Duration)| {
        span.1 - span.0 <= OUTLIVED || !back.iter().any(|other| meets(*span, other))
    };
    let spans = outages(scenario, (from, to)).into_iter().filter(outlived);
    let lost = spans.map(|(begin, end)| end.min(late.1).saturating_sub(begin.max(late.0)).as_secs_f64());
    (lost.sum::<f64>() / LOSS_WINDOW_S).min(0.9)
}

/// When a direction of the network lost everything.
fn outages(scenario: &Scenario, direction: (Host, Host)) -> Vec<(Duration, Duration)> {
    let cut = |fault: &&Fault| match &fault.kind {
        FaultKind::Cut(directions) => directions.contains(&direction),
        FaultKind::Crash(_)
        | FaultKind::Leave(_)
        | FaultKind::Freeze(_)
        | FaultKind::Isolate(_)
        | FaultKind::Mute(_)
        | FaultKind::Hostile(_)
        | FaultKind::Drain(_)
        | FaultKind::ControllerCrash => false,
    };
    let cuts = scenario.faults.iter().filter(cut);
    let cuts = cuts.map(|fault| (fault.at, fault.until.unwrap_or(scenario.run_for)));
    let steps = scenario.paths.get(&direction).map_or(&[][..], |path| path.later());
    let ends = steps.iter().skip(1).map(|(at, _)| *at).chain([scenario.run_for]);
    let downs = steps.iter().zip(ends).filter(|((_, spec), _)| spec.down);
    cuts.chain(downs.map(|((begin, _), end)| (*begin, end))).collect()
}

fn price(out: &LinkSpec, back: &LinkSpec, outage: f64, policy: &Policy) -> (f64, f64) {
    let share = |pct: u32| f64::from(pct) / 100.0;
    let (delay_share, load_share) = (share(policy.weights.delay_pct), share(policy.weights.load_pct));
    let micros = |time: Duration| time.as_micros() as f64;
    let rtt_least = micros(out.delay + back.delay);
    // What a round trip takes beyond the least may all be counted against one of its directions.
    let queue = |spec: &LinkSpec| spec.rate.map_or(0.0, |_| micros(spec.queue));
    let beyond = micros(out.jitter + back.jitter) + LATENESS_US + queue(out) + queue(back);
    let load = out.rate.map_or(0.0, |_| LOAD_US * load_share);
    let rtt_most = rtt_least + beyond;
    let least = rtt_least / 2.0 * delay_share + HOP_US;
    let loss = loss_most(&out.loss).max(outage);
    let burst_wait = if outage > 0.0 { BURST_WAIT_MAX_US } else { burst_wait_most(&out.loss) };
    let wait = rtt_most + REACTION_US + burst_wait;
    let most = rtt_least / 2.0 * delay_share + beyond + wait * loss / (1.0 - loss) + HOP_US + load;
    // Hysteresis is on what is measured, before any of it is weighed.
    let unweighted = rtt_least / 2.0 * (1.0 - delay_share).max(0.0);
    let away =
        |cost: f64| ((cost + unweighted) / 9.0).max(HYSTERESIS_US) * delay_share.max(1.0) + ROUNDING_US;
    ((least - away(least)).max(1.0), most + away(most))
}

/// A few samples in ten seconds tell little about a loss.
fn loss_most(loss: &Loss) -> f64 {
    let (probability, burst) = match loss {
        Loss::Alone(probability) => (f64::from(probability.as_ppm()) / 1e6, 1.0),
        Loss::Bursts(bursts) => {
            (f64::from(bursts.probability().as_ppm()) / 1e6, f64::from(bursts.mean().thousandths()) / 1e3)
        }
        Loss::States(states) => (f64::from(states.probability().as_ppm()) / 1e6, states.burst()),
        Loss::Trace(_) => (0.1, 2.0),
    };
    if probability == 0.0 { 0.0 } else { (probability + 4.0 * (probability * burst / 10.0).sqrt()).min(0.9) }
}

/// A burst of independent loss ends with the next slot; for one of a mean length the wait is that long, and may have been
/// several times as long of late.
fn burst_wait_most(loss: &Loss) -> f64 {
    match loss {
        Loss::Alone(_) => BURST_WAIT_MAX_US.min(4.0 * SLOT_US),
        Loss::Bursts(bursts) => {
            (4.0 * SLOT_US * f64::from(bursts.mean().thousandths()) / 1e3).min(BURST_WAIT_MAX_US)
        }
        Loss::States(_) | Loss::Trace(_) => BURST_WAIT_MAX_US,
    }
}

/// The ways that packets took.
pub(super) struct Ways {
    hops: BTreeMap<Packet, BTreeSet<(RelayId, RelayId, RelayId)>>,
}

impl Ways {
    /// Of frames from a time on that are `wanted`.
    pub(super) fn new(trace: &Trace, since: Duration, wanted: impl Fn(&Frame) -> bool) -> Ways {
        let mut hops: BTreeMap<Packet, BTreeSet<_>> = BTreeMap::new();
        for (_, frame) in frames(trace).filter(|(at, frame)| *at >= since && wanted(frame)) {
            let own = hops.entry(frame.packet).or_default();
            own.extend(frame.destinations.iter().map(|destination| (*destination, frame.from, frame.to)));
        }
        Ways { hops }
    }

    /// The relays that the packet crossed, if it was seen on its whole way.
    pub(super) fn path(&self, packet: Packet, from: RelayId, to: RelayId) -> Option<Vec<RelayId>> {
        let hops = self.hops.get(&packet)?;
        let mut path = vec![from];
        while *path.last()? != to {
            let here = *path.last()?;
            let (_, _, next) =
                hops.iter().find(|(destination, sender, _)| (*destination, *sender) == (to, here))?;
            if path.contains(next) {
                return None;
            }
            path.push(*next);
        }
        Some(path)
    }
}
