//! What the scenario says about the state of the network at a time: an account of its own, not the simulator's.

use crate::scenario::{FaultKind, Host, RelayId, Scenario};
use link_model::{LinkSpec, Loss, Ppm};
use std::collections::BTreeSet;
use std::time::Duration;

/// The scenario as seen from a time at which nothing changes for a while.
pub(super) struct Outlook<'a> {
    scenario: &'a Scenario,
    at: Duration,
}

impl<'a> Outlook<'a> {
    pub(super) fn new(scenario: &'a Scenario, at: Duration) -> Outlook<'a> {
        Outlook { scenario, at }
    }

    fn is_on(&self, fault_at: Duration, until: Option<Duration>) -> bool {
        fault_at <= self.at && until.is_none_or(|until| self.at < until)
    }

    fn faults_on(&self) -> impl Iterator<Item = &'a FaultKind> + '_ {
        self.scenario.faults.iter().filter(|fault| self.is_on(fault.at, fault.until)).map(|fault| &fault.kind)
    }

    fn is_alive(&self, host: Host) -> bool {
        self.faults_on().all(|kind| match kind {
            FaultKind::Crash(relay) | FaultKind::Leave(relay) | FaultKind::Freeze(relay) => {
                host != Host::Relay(*relay)
            }
            FaultKind::Cut(_)
            | FaultKind::Isolate(_)
            | FaultKind::Mute(_)
            | FaultKind::Hostile(_)
            | FaultKind::Drain(_)
            | FaultKind::ControllerCrash => true,
        })
    }

    /// What a direction does now, faults aside.
    pub(super) fn spec(&self, from: Host, to: Host) -> Option<&'a LinkSpec> {
        let schedule = self.scenario.paths.get(&(from, to))?;
        let mut past = schedule.later().iter().filter(|(at, _)| *at <= self.at);
        Some(past.next_back().map_or(schedule.first(), |(_, spec)| spec))
    }

    fn direction_works(&self, from: Host, to: Host) -> bool {
        self.spec(from, to).is_some_and(|spec| !spec.down)
            && self.faults_on().all(|kind| match kind {
                FaultKind::Cut(directions) => !directions.contains(&(from, to)),
                FaultKind::Crash(_)
                | FaultKind::Leave(_)
                | FaultKind::Freeze(_)
                | FaultKind::Isolate(_)
                | FaultKind::Mute(_)
                | FaultKind::Hostile(_)
                | FaultKind::Drain(_)
                | FaultKind::ControllerCrash => true,
            })
    }

    /// Both ends live and reach each other both ways: with one way alone nobody is sure of the other.
    pub(super) fn link_works(&self, a: Host, b: Host) -> bool {
        self.is_alive(a) && self.is_alive(b) && self.direction_works(a, b) && self.direction_works(b, a)
    }

    /// Some chain of working links leads from one relay to the other.
    pub(super) fn connected(&self, from: RelayId, to: RelayId) -> bool {
        let mut known = BTreeSet::from([from]);
        let mut frontier = vec![from];
        while let Some(relay) = frontier.pop() {
            for next in self.scenario.relay_ids() {
                if !known.contains(&next) && self.link_works(Host::Relay(relay), Host::Relay(next)) {
                    known.insert(next);
                    frontier.push(next);
                }
            }
        }
        known.contains(&to) && self.is_alive(Host::Relay(from)) && self.is_alive(Host::Relay(to))
    }
}

/// When the way of media is disturbed: faults that hurt it begin and end, links change.
pub(crate) fn disturbances(scenario: &Scenario) -> BTreeSet<Duration> {
    let faults = scenario.faults.iter().filter(|fault| fault.kind.hurts_media());
    let faults = faults.flat_map(|fault| std::iter::once(fault.at).chain(fault.until));
    let changes = scenario.paths.values().flat_map(|schedule| schedule.later().iter().map(|(at, _)| *at));
    faults.chain(changes).collect()
}

/// Spans in which the controller lives and every relay can reach it, ascending.
pub(super) fn controlled_spans(scenario: &Scenario) -> Vec<(Duration, Duration)> {
    let mut absences: Vec<_> = scenario
        .faults
        .iter()
        .filter(|fault| match fault.kind {
            FaultKind::ControllerCrash | FaultKind::Isolate(_) | FaultKind::Mute(_) => true,
            FaultKind::Cut(_)
            | FaultKind::Crash(_)
            | FaultKind::Leave(_)
            | FaultKind::Freeze(_)
            | FaultKind::Hostile(_)
            | FaultKind::Drain(_) => false,
        })
        .map(|fault| (fault.at, fault.until.unwrap_or(scenario.run_for)))
        .collect();
    absences.sort_unstable();
    let mut spans = Vec::new();
    let mut from = Duration::ZERO;
    for (begin, end) in absences {
        if from < begin {
            spans.push((from, begin));
        }
        from = from.max(end);
    }
    if from < scenario.run_for {
        spans.push((from, scenario.run_for));
    }
    spans
}

/// No link ever loses anything by itself.
pub(super) fn is_lossless(scenario: &Scenario) -> bool {
    let specs = scenario.paths.values().flat_map(|schedule| {
        std::iter::once(schedule.first()).chain(schedule.later().iter().map(|(_, spec)| spec))
    });
    specs.into_iter().all(|spec| spec.loss == Loss::Alone(Ppm::NEVER) && spec.rate.is_none())
}
