//! Epochs come in two phases: an ingress never stamps one that a relay which is there has not acknowledged, the next
//! is not prepared before the last is stamped everywhere, and who stays silent delays this by half a second at most.
//! Relays hold two epochs; a frame of any other is forwarded, but marked.
//!
//! The judge keeps an account of its own of sessions, acknowledgements and silences, from what arrived at the
//! controller and left it.

use super::Verdict;
use crate::scenario::{CLOCK_DRIFT_PPM_MAX, FaultKind, RelayId, Scenario};
use crate::trace::{Event, Packet, Trace};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use wire_format::control::LinkState;

/// How long the controller waits for an acknowledgement ...
const ACK_WAIT: Duration = Duration::from_millis(500);
/// ... and for that of a relay that a neighbour says is not there.
const ACK_WAIT_DOUBTED: Duration = Duration::from_millis(50);
/// From the order to stamp one epoch to the preparation of the next, at least.
const DRAIN_MIN: Duration = Duration::from_millis(50);
/// A relay that answers again is trusted again after this.
const HOLD_DOWN: Duration = Duration::from_secs(10);
/// Until the controller has drawn its conclusions from a wait that is over.
const LATENESS: Duration = Duration::from_millis(12);

/// How long an answer is waited for.
fn wait(doubted: bool) -> Duration {
    by_a_fast_clock(if doubted { ACK_WAIT_DOUBTED } else { ACK_WAIT })
}

/// What a clock takes for so long that gains as much as any may.
fn by_a_fast_clock(time: Duration) -> Duration {
    time * (1_000 - CLOCK_DRIFT_PPM_MAX / 1_000) / 1_000
}

pub(super) fn check(scenario: &Scenario, trace: &Trace, verdict: &mut Verdict) {
    let mut account = Account::default();
    for (at, event) in trace.events() {
        account.take(scenario, *at, event, verdict);
    }
    account.not_stuck(scenario.run_for, verdict);
    check_relays(scenario, trace, verdict);
}

/// What the controller has been told and has ordered, since it started.
#[derive(Default)]
struct Account {
    /// Relays that neighbours say are not there: neighbour, relay.
    down: BTreeSet<(RelayId, RelayId)>,
    /// The phase under way.
    phase: Option<Phase>,
    newest: Option<u32>,
    acked: BTreeSet<(RelayId, u32)>,
    stamp_acked: BTreeSet<(RelayId, u32)>,
    /// Relays left out of a wait, and since when they have answered again.
    left_out: BTreeMap<RelayId, Option<Duration>>,
}

/// Tables, or the order to stamp them, are on their way.
struct Phase {
    epoch: u32,
    /// The order has been given.
    ordered_at: Option<Duration>,
    /// When each relay was told, and whether anybody has doubted since that it is there.
    told: BTreeMap<RelayId, (Duration, bool)>,
}

impl Account {
    fn take(&mut self, scenario: &Scenario, at: Duration, event: &Event, verdict: &mut Verdict) {
        // The controller's clock knows nothing finer.
        let at = Duration::from_micros(at.as_micros() as u64);
        if let Event::FaultBegins(place) = event
            && scenario.faults[*place].kind == FaultKind::ControllerCrash
        {
            self.not_stuck(at, verdict);
            *self = Account::default();
        }
        if let Event::Introduced(relay) = event {
            self.forget(*relay);
        }
        if let Event::Dismissed(relay) = event {
            self.forget(*relay);
        }
        if let Event::Reported { relay, neighbour, state } = event {
            self.reported(*relay, *neighbour, *state);
        }
        if let Event::Pushed(table) = event {
            self.pushed(at, table.relay, table.epoch, verdict);
        }
        if let Event::Ordered { relay, epoch } = event {
            self.ordered(at, *relay, *epoch, verdict);
        }
        if let Event::TableAcked { relay, epoch } | Event::StampAcked { relay, epoch } = event {
            self.too_late(at, *relay, *epoch);
            if self.newest == Some(*epoch)
                && let Some(since @ None) = self.left_out.get_mut(relay)
            {
                *since = Some(at);
            }
        }
        if let Event::TableAcked { relay, epoch } = event {
            self.acked.insert((*relay, *epoch));
        }
        if let Event::StampAcked { relay, epoch } = event {
            self.stamp_acked.insert((*relay, *epoch));
        }
    }

    /// A relay's session begins or ends: nothing is held against it, and nothing it said counts any more.
    fn forget(&mut self, relay: RelayId) {
        self.left_out.remove(&relay);
        self.acked.retain(|(other, _)| *other != relay);
        self.stamp_acked.retain(|(other, _)| *other != relay);
        if let Some(phase) = &mut self.phase {
            phase.told.remove(&relay);
        }
    }

    fn reported(&mut self, relay: RelayId, neighbour: RelayId, state: LinkState) {
        if state != LinkState::Down {
            self.down.remove(&(relay, neighbour));
            return;
        }
        self.down.insert((relay, neighbour));
        if let Some((_, doubted)) = self.phase.as_mut().and_then(|phase| phase.told.get_mut(&neighbour)) {
            *doubted = true;
        }
    }

    /// Who answers when the wait is over, which is short for a relay in doubt, may not be waited for the next time.
    fn too_late(&mut self, at: Duration, relay: RelayId, epoch: u32) {
        let told =
            self.phase.as_ref().filter(|phase| phase.epoch == epoch).and_then(|phase| phase.told.get(&relay));
        if told.is_some_and(|(told_at, doubted)| at + LATENESS > *told_at + wait(*doubted)) {
            self.left_out.entry(relay).or_insert(None);
        }
    }

    fn is_doubted(&self, relay: RelayId) -> bool {
        self.down.iter().any(|(_, other)| *other == relay)
    }

    fn pushed(&mut self, at: Duration, relay: RelayId, epoch: u32, verdict: &mut Verdict) {
        if self.newest.is_none_or(|newest| newest < epoch) {
            self.may_prepare(at, epoch, verdict);
            self.newest = Some(epoch);
            self.phase = Some(Phase { epoch, ordered_at: None, told: BTreeMap::new() });
        }
        let doubted = self.is_doubted(relay);
        let phase = self.phase.as_mut().filter(|phase| phase.epoch == epoch && phase.ordered_at.is_none());
        if let Some(phase) = phase {
            phase.told.insert(relay, (at, doubted));
        }
    }

    /// Preparing an epoch makes relays forget the one before the last.
    fn may_prepare(&mut self, at: Duration, epoch: u32, verdict: &mut Verdict) {
        let Some(phase) = self.phase.take() else { return };
        let Some(ordered_at) = phase.ordered_at else {
            return self.replaced(at, &phase, epoch, verdict);
        };
        if at < ordered_at + by_a_fast_clock(DRAIN_MIN) {
            let after = at - ordered_at;
            verdict
                .object(at, format!("epoch {epoch} is prepared {after:?} after {} was ordered", phase.epoch));
        }
        let stamp_acked = std::mem::take(&mut self.stamp_acked);
        self.answered(at, &phase, &stamp_acked, "stamped", verdict);
    }

    /// Tables that were never stamped give way to others only because somebody did not acknowledge them in time. Nothing
    /// is over yet for others who have not, because they were told later: they get a whole wait with the next tables, and
    /// nobody will ever stamp these.
    fn replaced(&mut self, at: Duration, phase: &Phase, epoch: u32, verdict: &mut Verdict) {
        self.trust_again(at);
        let acked = std::mem::take(&mut self.acked);
        let has_acked = |relay: &RelayId| acked.contains(&(*relay, phase.epoch));
        let over = |relay: &RelayId, (told_at, doubted): (Duration, bool)| {
            at >= told_at + wait(doubted) || self.left_out.contains_key(relay)
        };
        let told = phase.told.iter().map(|(relay, told)| (*relay, *told));
        let told: BTreeMap<_, _> =
            told.filter(|(relay, told)| has_acked(relay) || over(relay, *told)).collect();
        if told.keys().all(has_acked) {
            verdict.object(at, format!("epoch {epoch} is prepared before {} was stamped", phase.epoch));
        }
        let decided = Phase { epoch: phase.epoch, ordered_at: None, told };
        self.answered(at, &decided, &acked, "acknowledged", verdict);
        self.acked = acked;
    }

    fn trust_again(&mut self, at: Duration) {
        self.left_out.retain(|_, since| since.is_none_or(|since| at < since + HOLD_DOWN + LATENESS));
    }

    fn ordered(&mut self, at: Duration, relay: RelayId, epoch: u32, verdict: &mut Verdict) {
        let Some(mut phase) = self.phase.take_if(|phase| phase.epoch == epoch) else { return };
        if phase.ordered_at.is_none() {
            let acked = std::mem::take(&mut self.acked);
            self.answered(at, &phase, &acked, "acknowledged", verdict);
            self.acked = acked;
            phase.ordered_at = Some(at);
            phase.told.clear();
        }
        // Whoever joins after the order stamps what it is told; nobody waits for that once all others have answered.
        if phase.ordered_at == Some(at) {
            phase.told.insert(relay, (at, self.is_doubted(relay)));
        }
        self.phase = Some(phase);
    }

    /// A phase ends: everyone told has answered or had time to. Who has not is left out from now on.
    fn answered(
        &mut self,
        at: Duration,
        phase: &Phase,
        answers: &BTreeSet<(RelayId, u32)>,
        what: &str,
        verdict: &mut Verdict,
    ) {
        self.trust_again(at);
        for (relay, (told_at, doubted)) in &phase.told {
            if answers.contains(&(*relay, phase.epoch)) {
                continue;
            }
            if let Some(since) = self.left_out.get_mut(relay) {
                // It may have been waited for once more, in vain.
                *since = None;
                continue;
            }
            if at < *told_at + wait(*doubted) {
                let after = at - *told_at;
                verdict.object(
                    at,
                    format!("{relay} has not {what} epoch {} and had only {after:?}", phase.epoch),
                );
            }
            self.left_out.insert(*relay, None);
        }
        self.in_time(at, phase, verdict);
    }

    /// Nobody delays a phase for longer than an acknowledgement is waited for.
    fn in_time(&self, at: Duration, phase: &Phase, verdict: &mut Verdict) {
        // The second phase is followed by a pause and by the next need for tables.
        if phase.ordered_at.is_some() {
            return;
        }
        let last_told = phase.told.values().map(|(told_at, _)| *told_at).max();
        if let Some(delay) =
            last_told.map(|told_at| at - told_at).filter(|delay| *delay > ACK_WAIT + LATENESS)
        {
            verdict.object(at, format!("epoch {} was prepared for {delay:?}", phase.epoch));
        }
    }

    /// Whatever ends the account: an epoch that was prepared has been stamped, unless it is too early.
    fn not_stuck(&self, at: Duration, verdict: &mut Verdict) {
        if let Some(phase) = &self.phase {
            self.in_time(at, phase, verdict);
        }
    }
}

/// What one relay holds, as far as it was told.
#[derive(Default)]
struct Held {
    /// Epochs whose tables came in this life.
    tags: BTreeSet<u16>,
    /// It was told what to stamp.
    told_to_stamp: bool,
    /// When tables came last.
    tables_at: Duration,
    /// Epochs of frames that it forwarded without a mark by what it has held since then.
    in_use: BTreeSet<u16>,
    /// When packets came, from other relays.
    came: BTreeMap<Packet, Duration>,
}

impl Held {
    /// The packet was not here yet when tables came last. One that was may have left later, for it waits where a link
    /// carries less than it is given: it goes the way that was chosen when it came.
    fn chose_since(&self, packet: Packet, sent: &BTreeMap<Packet, Duration>) -> bool {
        let times = [self.came.get(&packet), sent.get(&packet)];
        times.into_iter().flatten().any(|at| *at > self.tables_at)
    }
}

fn check_relays(scenario: &Scenario, trace: &Trace, verdict: &mut Verdict) {
    let mut relays: BTreeMap<RelayId, Held> = BTreeMap::new();
    let mut ordered: BTreeSet<u16> = BTreeSet::new();
    let mut sent: BTreeMap<Packet, Duration> = BTreeMap::new();
    for (at, event) in trace.events() {
        if let Event::Sent { packet, .. } = event {
            sent.insert(*packet, *at);
        }
        if let Event::FaultEnds(place) = event
            && let FaultKind::Crash(relay) | FaultKind::Leave(relay) = &scenario.faults[*place].kind
        {
            // A new process knows nothing.
            relays.remove(relay);
        }
        if let Event::Table { relay, epoch, rows: _ } = event {
            let held = relays.entry(*relay).or_default();
            held.tags.insert(*epoch as u16);
            held.tables_at = *at;
            held.in_use.clear();
        }
        if let Event::Ordered { relay: _, epoch } = event {
            ordered.insert(*epoch as u16);
        }
        if let Event::Stamp { relay, epoch: _ } = event {
            relays.entry(*relay).or_default().told_to_stamp = true;
        }
        if let Some(frame) = event.frame()
            && let Ok(came) = frame.fate
        {
            relays.entry(frame.to).or_default().came.entry(frame.packet).or_insert(came);
        }
        let Some(frame) = event.frame().filter(|frame| !frame.marked) else { continue };
        let held = relays.entry(frame.from).or_default();
        if held.chose_since(frame.packet, &sent) {
            held.in_use.insert(frame.epoch);
        }
        let (packet, from, epoch) = (frame.packet, frame.from, frame.epoch);
        if !held.tags.contains(&epoch) {
            verdict.object(
                *at,
                format!("{packet:?} leaves {from} unmarked by epoch {epoch}, which it never had"),
            );
        }
        if held.in_use.len() > 2 {
            let epochs = &held.in_use;
            verdict.object(*at, format!("{from} forwards by the tables of epochs {epochs:?} at one time"));
        }
        if scenario.may_enter(packet.stream, from) && held.told_to_stamp && !ordered.contains(&epoch) {
            verdict.object(*at, format!("{from} stamps epoch {epoch}, which nobody was ordered to"));
        }
    }
}
