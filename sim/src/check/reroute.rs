//! A single failure costs little: one link or one relay between a publisher and a subscriber fails while all else is
//! well, and the stream goes around it within 150 ms and the ways' own delays. What the failed element had not yet taken,
//! and what it had taken and not passed on, is lost or sent again; nothing else is.
//!
//! Judged where nothing else interferes: links lose nothing by themselves, nothing else fails or changes for seconds
//! before and a second after, and the tables in force, which other judges hold to account, name a backup for the
//! relay before the failed element. From these tables and the scenario's delays follow both ways, the moment at
//! which that relay must have noticed, and the longest silence at the subscriber.

use super::outlook::{Outlook, disturbances, is_lossless};
use super::pairs::{Spans, pairs};
use super::planes::asks_for_two;
use super::stamps::Stamps;
use super::{Verdict, deliveries, frames};
use crate::scenario::{ClientId, Fault, FaultKind, Host, RelayId, Scenario, StreamNumber};
use crate::trace::{Event, Packet, Trace};
use link_model::{LinkSpec, Ppm};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Nothing else happens for so long before the failure ...
const CALM_BEFORE: Duration = Duration::from_secs(5);
/// ... and for so long after it.
pub(super) const CALM_AFTER: Duration = Duration::from_millis(1_000);
/// More than any packet takes.
const ON_ITS_WAY: Duration = Duration::from_millis(1_500);
/// No epoch comes into force in this time around the failure.
const ONE_EPOCH: Duration = Duration::from_millis(400);
/// From a neighbour's last datagram to the frames that avoid it, with every timer's lateness.
const NOTICED_WITHIN: Duration = Duration::from_millis(105);
/// Who still hears its neighbour learns from its heartbeats that nothing arrives there any more, which come this often.
const HEARTBEAT: Duration = Duration::from_millis(35);
/// What a failure may cost beyond the ways' own delays.
const GAP_MAX: Duration = Duration::from_millis(150);
/// A relay passes on what it received within this.
const RESIDENCE: Duration = Duration::from_millis(2);
/// Delay budget of streams whose publisher names none.
const SLACK: Duration = Duration::from_millis(200);
/// A packet that is held back falls behind by up to this, or the delay of its path.
const HELD_BACK: Duration = Duration::from_millis(10);
/// Hops of a way that may be uneven.
const HOPS: usize = 3;
/// What a frame has left when it is sent again may be a little less than what the judge reckons.
const SLACK_MARGIN: Duration = Duration::from_millis(20);

pub(super) fn check(scenario: &Scenario, trace: &Trace, verdict: &mut Verdict) {
    if !is_lossless(scenario) {
        return;
    }
    let stamps = Stamps::new(scenario, trace);
    for single in single_failures(scenario, trace).into_iter().filter(|single| single.settled) {
        for ((client, stream), spans) in pairs(scenario) {
            let failure = single.seen_by(scenario, client, stream);
            if !asks_for_two(scenario, stream)
                && failure.is_watched(&spans)
                && let Some(tables) = single.tables.of(scenario, stream)
                && let Some(ways) = failure.ways(tables, &stamps)
            {
                failure.check_gap(trace, &ways, verdict);
                failure.check_losses(trace, &ways, verdict);
            }
        }
    }
}

/// Failures of one link or relay while all else is well, with the tables in force then.
pub(super) fn single_failures(scenario: &Scenario, trace: &Trace) -> Vec<Single> {
    let single = |fault: &Fault| {
        let failed = Failed::of(&fault.kind)?;
        let disturbed = disturbances(scenario)
            .into_iter()
            .any(|at| at != fault.at && at + CALM_BEFORE > fault.at && at < fault.at + CALM_AFTER);
        let another = scenario.faults.iter().filter(|other| other.at == fault.at).count() > 1;
        if disturbed || another {
            return None;
        }
        let (tables, settled) = Tables::in_force(scenario, trace, fault.at)?;
        Some(Single { at: fault.at, failed, tables, settled })
    };
    scenario.faults.iter().filter_map(single).collect()
}

/// A failure that comes alone.
pub(super) struct Single {
    at: Duration,
    failed: Failed,
    pub(super) tables: Tables,
    /// No others came into force soon after it.
    pub(super) settled: bool,
}

impl Single {
    pub(super) fn seen_by<'a>(
        &self,
        scenario: &'a Scenario,
        client: ClientId,
        stream: StreamNumber,
    ) -> Failure<'a> {
        Failure { scenario, at: self.at, failed: self.failed, client, stream }
    }
}

/// What has failed.
#[derive(Clone, Copy)]
pub(super) enum Failed {
    Relay(RelayId),
    /// One direction, or that and the other.
    Link {
        from: RelayId,
        to: RelayId,
        both: bool,
    },
}

impl Failed {
    fn of(kind: &FaultKind) -> Option<Failed> {
        match kind {
            FaultKind::Crash(relay) | FaultKind::Freeze(relay) => Some(Failed::Relay(*relay)),
            FaultKind::Cut(directions) => match directions[..] {
                [(Host::Relay(from), Host::Relay(to))] => Some(Failed::Link { from, to, both: false }),
                [(Host::Relay(from), Host::Relay(to)), back]
                    if back == (Host::Relay(to), Host::Relay(from)) =>
                {
                    Some(Failed::Link { from, to, both: true })
                }
                _ => None,
            },
            FaultKind::Leave(_)
            | FaultKind::Isolate(_)
            | FaultKind::Mute(_)
            | FaultKind::Hostile(_)
            | FaultKind::Drain(_)
            | FaultKind::ControllerCrash => None,
        }
    }

    /// It stops what goes from one relay to the next.
    fn stops(self, a: RelayId, b: RelayId) -> bool {
        match self {
            Failed::Relay(relay) => relay == b,
            Failed::Link { from, to, both } => (a, b) == (from, to) || (both && (b, a) == (from, to)),
        }
    }

    /// It has to do with that hop at all.
    pub(super) fn touches(self, a: RelayId, b: RelayId) -> bool {
        match self {
            Failed::Relay(relay) => relay == a || relay == b,
            Failed::Link { from, to, both: _ } => (a, b) == (from, to) || (b, a) == (from, to),
        }
    }

    /// The relay at the far end of the first stopped hop still speaks to the near one.
    fn is_heard(self) -> bool {
        matches!(self, Failed::Link { both: false, .. })
    }
}

/// Tables that all relays hold and stamp.
pub(super) struct Tables {
    /// By policy.
    all: BTreeMap<u8, PolicyTables>,
}

/// Those of one policy.
#[derive(Default)]
pub(super) struct PolicyTables {
    next_hops: BTreeMap<(RelayId, u8, RelayId), RelayId>,
    backups: BTreeMap<(RelayId, RelayId), u8>,
    pairs: BTreeMap<(RelayId, RelayId), [u8; 2]>,
}

impl Tables {
    /// Those in force at a time, for a while already, and whether they are so for a while after it.
    fn in_force(scenario: &Scenario, trace: &Trace, at: Duration) -> Option<(Tables, bool)> {
        let orders = trace.events().iter().filter_map(|(when, event)| {
            if let Event::Ordered { relay: _, epoch } = event { Some((*when, *epoch)) } else { None }
        });
        let orders: Vec<_> = orders.collect();
        let changing = orders.iter().any(|(when, _)| *when + ONE_EPOCH > at && *when < at);
        let settled = !orders.iter().any(|(when, _)| *when >= at && *when < at + ONE_EPOCH);
        let (_, epoch) = orders.iter().rfind(|(when, _)| *when < at).filter(|_| !changing)?;
        let mut tables = Tables { all: BTreeMap::new() };
        let mut stamping: BTreeSet<RelayId> = BTreeSet::new();
        for (_, event) in trace.events().iter().take_while(|(when, _)| *when < at) {
            if let Event::Pushed(table) = event
                && table.epoch == *epoch
            {
                let tables = tables.all.entry(table.policy).or_default();
                let rows = table.rows.iter();
                tables
                    .next_hops
                    .extend(rows.map(|row| ((table.relay, row.plane, row.destination), row.next_hop)));
                let backups = table.backups.iter();
                tables.backups.extend(backups.map(|(to, plane)| ((table.relay, *to), *plane)));
                let pairs = table.pairs.iter();
                tables.pairs.extend(pairs.map(|(to, pair)| ((table.relay, *to), *pair)));
            }
            if let Event::Stamp { relay, epoch: told } = event
                && told == epoch
            {
                stamping.insert(*relay);
            }
            if let Event::FaultEnds(place) = event
                && let FaultKind::Crash(relay) | FaultKind::Leave(relay) = &scenario.faults[*place].kind
            {
                stamping.remove(relay);
            }
        }
        scenario.relay_ids().all(|relay| stamping.contains(&relay)).then_some((tables, settled))
    }

    /// Those by which frames of a stream go: where its policy has none of its own, those of the default one. `None` where
    /// streams may be relieved: which policy is theirs then is not to be told.
    pub(super) fn of(&self, scenario: &Scenario, stream: StreamNumber) -> Option<&PolicyTables> {
        let own = scenario.policy(stream);
        let own = (scenario.policies.relief_of(own).is_none()).then_some(own)?;
        self.all.get(&own.bits()).or(self.all.get(&0))
    }
}

impl PolicyTables {
    /// The planes that protected streams take at once from one relay to another.
    pub(super) fn pair(&self, from: RelayId, to: RelayId) -> Option<[u8; 2]> {
        self.pairs.get(&(from, to)).copied()
    }

    pub(super) fn path(&self, from: RelayId, plane: u8, to: RelayId) -> Option<Vec<RelayId>> {
        let mut path = vec![from];
        while *path.last()? != to {
            let next = self.next_hops.get(&(*path.last()?, plane, to))?;
            if path.contains(next) {
                return None;
            }
            path.push(*next);
        }
        Some(path)
    }
}

/// How a stream goes before and after.
struct Ways {
    /// The relay before the failed element, and the one behind it on the primary way.
    near: RelayId,
    far: RelayId,
    /// From when on nothing goes to the failed element any more, at the latest.
    noticed_by: Duration,
    /// Longest silence.
    gap_max: Duration,
}

/// One failure, as one subscriber of one stream sees it.
pub(super) struct Failure<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) at: Duration,
    pub(super) failed: Failed,
    pub(super) client: ClientId,
    pub(super) stream: StreamNumber,
}

impl Failure<'_> {
    /// The stream flows to the subscriber before and after, as far as this failure does not keep it from doing so.
    pub(super) fn is_watched(&self, spans: &Spans) -> bool {
        let joined = |from: Duration| from + self.scenario.expect.join_within + CALM_AFTER;
        // What is sent just before a subscription ends may arrive too late for it.
        let left = |until: Duration| self.at + CALM_AFTER + ON_ITS_WAY <= until;
        spans.iter().any(|(from, until)| joined(*from) <= self.at && left(*until))
    }

    /// The relays where the stream enters and leaves, unless these or the links of the SFUs are what fails.
    pub(super) fn ends(&self) -> Option<(RelayId, RelayId)> {
        let publisher = self.scenario.stream(self.stream).client;
        if !self.scenario.stays(self.stream, self.client) {
            return None;
        }
        let ingress = self.scenario.client(publisher).relay;
        let egress = self.scenario.client(self.client).relay;
        if let Failed::Relay(relay) = self.failed
            && [ingress, egress].contains(&relay)
        {
            return None;
        }
        let outlook = Outlook::new(self.scenario, self.at);
        let edges = [(publisher, ingress), (self.client, egress)];
        if !edges.iter().all(|(client, relay)| outlook.link_works(Host::Client(*client), Host::Relay(*relay)))
        {
            return None;
        }
        Some((ingress, egress))
    }

    /// Where relays feed others, the failure is between two of them, and what they do about it is the same.
    fn ways(&self, tables: &PolicyTables, stamps: &Stamps) -> Option<Ways> {
        let (ingress, egress) = self.ends()?;
        let outlook = Outlook::new(self.scenario, self.at);
        let watched =
            (self.at.saturating_sub(CALM_BEFORE), self.at.saturating_sub(ONE_EPOCH), self.at + CALM_AFTER);
        let chain = stamps.chain(self.stream, ingress, egress, watched)?;
        let stopped = |part: &[RelayId]| {
            let primary = tables.path(part[0], 0, part[1])?;
            let place = primary.windows(2).position(|hop| self.failed.stops(hop[0], hop[1]))?;
            Some((primary, place, part[1]))
        };
        let (primary, place, egress) = chain.windows(2).find_map(stopped)?;
        if matches!(self.failed, Failed::Relay(relay) if relay == egress) {
            // Nothing goes around who feeds others.
            return None;
        }
        let (near, far) = (primary[place], primary[place + 1]);
        let plane = tables.backups.get(&(near, egress))?;
        let detour = tables.path(near, *plane, egress)?;
        let spared = detour.windows(2).all(|hop| {
            !self.failed.touches(hop[0], hop[1])
                && outlook.link_works(Host::Relay(hop[0]), Host::Relay(hop[1]))
        });
        if !spared {
            return None;
        }
        let (_, back) = self.delay(far, near)?;
        let (there, _) = self.delays(&primary[place..])?;
        let (_, around) = self.delays(&detour)?;
        let (_, forth) = self.delay(near, far)?;
        let heard = self.failed.is_heard();
        let notice = back + if heard { forth + HEARTBEAT } else { Duration::ZERO };
        // What is missed must first be sent, and an answer that is on the edge is not yet one too late.
        let doubt = if heard { 2 * HEARTBEAT } else { Duration::ZERO };
        Some(Ways {
            near,
            far,
            noticed_by: self.at + notice + doubt + NOTICED_WITHIN,
            gap_max: GAP_MAX
                + notice
                + around.saturating_sub(there)
                + crate::media::interval(self.scenario, self.stream),
        })
    }

    /// Least and most time from a relay to the next.
    fn delay(&self, from: RelayId, to: RelayId) -> Option<(Duration, Duration)> {
        let spec = Outlook::new(self.scenario, self.at).spec(Host::Relay(from), Host::Relay(to))?;
        Some((spec.delay, delay_max(spec)))
    }

    pub(super) fn delays(&self, path: &[RelayId]) -> Option<(Duration, Duration)> {
        path.windows(2).try_fold((Duration::ZERO, Duration::ZERO), |(least, most), hop| {
            let (hop_least, hop_most) = self.delay(hop[0], hop[1])?;
            Some((least + hop_least, most + hop_most + RESIDENCE))
        })
    }

    pub(super) fn names(&self) -> String {
        let stream = self.scenario.stream(self.stream);
        format!("{} and {}/{}", self.scenario.client(self.client).name, stream.user, stream.name)
    }

    fn check_gap(&self, trace: &Trace, ways: &Ways, verdict: &mut Verdict) {
        let own =
            |at: Duration, packet: Option<Packet>| packet.filter(|p| p.stream == self.stream).map(|_| at);
        let arrivals = deliveries(trace).filter(|(_, delivered)| delivered.client == self.client);
        let mut arrivals: Vec<_> = arrivals.filter_map(|(at, delivered)| own(at, delivered.packet)).collect();
        arrivals.push(self.scenario.run_for);
        // The silence that the failure causes begins before frames that avoid it could have arrived.
        let around = |gap: &&[Duration]| gap[1] > self.at && gap[0] < ways.noticed_by;
        for gap in arrivals.windows(2).filter(around).filter(|gap| gap[1] - gap[0] > ways.gap_max) {
            let (names, silent, most) = (self.names(), gap[1] - gap[0], ways.gap_max);
            verdict.object(
                gap[0],
                format!(
                    "{names}: silent for {silent:?} when {} lost {}, {most:?} allowed",
                    ways.near, ways.far
                ),
            );
        }
    }

    fn check_losses(&self, trace: &Trace, ways: &Ways, verdict: &mut Verdict) {
        let watched = self.at.saturating_sub(CALM_AFTER)..self.at + CALM_AFTER;
        let sent = trace.events().iter().filter(|(at, _)| watched.contains(at)).filter_map(|(_, event)| {
            if let Event::Sent { packet, .. } = event { Some(*packet) } else { None }
        });
        let sent = sent.filter(|packet| packet.stream == self.stream);
        let mut missing: BTreeSet<Packet> = sent.collect();
        let spent = spent_max(self.scenario);
        for (_, delivered) in deliveries(trace).filter(|(_, delivered)| delivered.client == self.client) {
            if let Some(packet) = delivered.packet {
                missing.remove(&packet);
            }
        }
        for (at, frame) in frames(trace) {
            if (frame.from, frame.to) != (ways.near, ways.far) || !missing.contains(&frame.packet) {
                continue;
            }
            let inside = matches!(self.failed, Failed::Relay(_))
                && frame.fate.is_ok_and(|came| came <= self.at + RESIDENCE && came + RESIDENCE >= self.at);
            // When it could be sent again, it had no delay left to lose.
            let slack = self.scenario.stream(self.stream).budget.unwrap_or(SLACK);
            let too_late = at + slack < ways.noticed_by + SLACK_MARGIN + spent;
            if inside || too_late {
                missing.remove(&frame.packet);
            }
        }
        if let Some(first) = missing.first() {
            let (names, count) = (self.names(), missing.len());
            verdict.object(
                self.at,
                format!(
                    "{names}: {count} packets from {first:?} on lost when {} lost {}",
                    ways.near, ways.far
                ),
            );
        }
    }
}

/// Most time that a link takes, the queue's not counted.
pub(super) fn delay_max(spec: &LinkSpec) -> Duration {
    let held_back = spec.delay.max(Duration::from_millis(10)) + Duration::from_millis(1);
    let held_back = if spec.reorder == Ppm::NEVER { Duration::ZERO } else { held_back };
    spec.delay + spec.jitter + held_back
}

/// What a packet may lose of its slack on the hops of a way to what is uneven about their paths: jitter, and being held back.
fn spent_max(scenario: &Scenario) -> Duration {
    let uneven = |spec: &LinkSpec| {
        let held_back = if spec.reorder == Ppm::NEVER { Duration::ZERO } else { spec.delay.max(HELD_BACK) };
        spec.jitter + held_back
    };
    let mut worst: Vec<_> = scenario.paths.values().map(|schedule| uneven(schedule.first())).collect();
    worst.sort_unstable();
    // Both directions of a link are listed; a way has few hops.
    worst.into_iter().rev().step_by(2).take(HOPS).sum()
}
