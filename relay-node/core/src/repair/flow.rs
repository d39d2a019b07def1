//! What leaves a link, by kind: how much time it has, how often it comes, and what is done for it.

use super::policy::{Conditions, Plan, plan};
use super::spacing::Spacing;
use super::{HURRY_REMEMBERED, Urgency};
use crate::measure::Mean;
use std::time::Duration;
use wire_format::{Priority, Timestamp};

/// Audio in a larger datagram goes with other media.
const AUDIO_BYTES_MAX: usize = 400;
/// What is in a hurry is told of if it leaves at least so often: every so-manieth datagram.
const TELLING_PART: u32 = 4;

/// Class of a datagram for budgets and parity: 0 audio, 1 others. What is as large as others counts with them.
pub(super) fn class(urgency: Urgency, bytes: usize) -> usize {
    usize::from(urgency.priority != Priority::AUDIO || bytes > AUDIO_BYTES_MAX)
}

/// Datagrams of one class that have time for a round trip, or of one that have not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    /// Slack when they leave.
    budget: Mean,
    spacing: Spacing,
    pub(super) plan: Plan,
}

impl Flow {
    pub(super) fn new() -> Flow {
        Flow { budget: Mean::default(), spacing: Spacing::default(), plan: Plan::IDLE }
    }

    /// One leaves.
    pub(super) fn left(&mut self, now: Timestamp, urgency: Urgency) {
        if self.spacing.left(now) {
            self.budget.sample(urgency.slack.as_duration().as_micros() as u64);
        }
    }

    /// When one left last.
    pub(super) fn last(&self) -> Option<Timestamp> {
        self.spacing.last
    }

    /// The mean budget, if one left of late.
    pub(super) fn budget(&self, now: Timestamp) -> Option<Duration> {
        self.last().filter(|last| now.since(*last) < HURRY_REMEMBERED)?;
        self.budget.get()
    }

    /// Makes the plan anew; `audio` if it is audio.
    pub(super) fn plan(&mut self, now: Timestamp, audio: bool, conditions: &Conditions) {
        self.plan = self.budget(now).map_or(Plan::IDLE, |budget| {
            let audio_spacing = self.spacing.mean.get().filter(|_| audio);
            plan(&Conditions { budget, audio_spacing, ..*conditions })
        });
    }

    /// How far apart what is in a hurry leaves, of all classes; `None` if that is all that leaves.
    pub(super) fn spacing(now: Timestamp, hurried: &[Flow; 2], patient: &[Flow; 2]) -> Option<Duration> {
        patient.iter().find_map(|flow| flow.budget(now))?;
        let flows = hurried.iter().filter(|flow| flow.budget(now).is_some());
        let apart = flows.filter_map(|flow| flow.spacing.mean.get());
        let a_second: u64 = apart.map(|apart| 1_000_000 / (apart.as_micros() as u64).max(1)).sum();
        1_000_000_u64.checked_div(a_second).map(Duration::from_micros)
    }

    /// Of two flows of a class the plan to tell: that of what is in a hurry, if it is a good part of all.
    pub(super) fn told(now: Timestamp, hurried: &Flow, patient: &Flow) -> Plan {
        let is_rare = || {
            let (hurried, patient) = (hurried.spacing.mean.get(), patient.spacing.mean.get());
            patient.zip(hurried).is_some_and(|(patient, hurried)| hurried > patient * TELLING_PART)
        };
        let patient_flows = patient.budget(now).is_some();
        if hurried.budget(now).is_some() && !(patient_flows && is_rare()) {
            hurried.plan
        } else {
            patient.plan
        }
    }
}
