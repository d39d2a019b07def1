//! Judges. Each reads the scenario and the trace, nothing else: what the simulator or a core believes of itself does not
//! count. A judge says what it objects to; whether it would notice is tested with a bug planted for it.

mod complete;
mod copies;
mod entitled;
mod epochs;
mod intact;
mod laws;
mod loops;
mod outlook;
mod pairs;
mod planes;
mod protected;
mod reroute;
mod routes;
mod settled;
mod stamps;
mod tables;
mod twice;

pub(crate) use outlook::disturbances;
pub(crate) use pairs::pairs;

use crate::scenario::Scenario;
use crate::trace::{Delivered, Frame, Trace};
use std::fmt;
use std::time::Duration;

/// Something that must not be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Objection {
    /// Who objects.
    pub judge: &'static str,
    /// When it happened.
    pub at: Duration,
    /// What happened, in the words of the scenario.
    pub what: String,
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:?}: {}", self.judge, self.at, self.what)
    }
}

type Judge = fn(&Scenario, &Trace, &mut Verdict);

const JUDGES: [(&str, Judge); 15] = [
    ("laws", laws::check),
    ("loops", loops::check),
    ("copies", copies::check),
    ("stamps", stamps::check),
    ("planes", planes::check),
    ("epochs", epochs::check),
    ("tables", tables::check),
    ("twice", twice::check),
    ("entitled", entitled::check),
    ("intact", intact::check),
    ("complete", complete::check),
    ("reroute", reroute::check),
    ("protected", protected::check),
    ("routes", routes::check),
    ("settled", settled::check),
];

/// Objections that one judge may put down; more of the same tell nothing new.
const OBJECTIONS_MAX: usize = 5;

/// Where a judge puts down its objections.
#[derive(Debug)]
pub(crate) struct Verdict {
    judge: &'static str,
    objections: Vec<Objection>,
    count: usize,
}

impl Verdict {
    pub(crate) fn object(&mut self, at: Duration, what: impl Into<String>) {
        self.count += 1;
        if self.objections.len() < OBJECTIONS_MAX {
            self.objections.push(Objection { judge: self.judge, at, what: what.into() });
        }
    }
}

/// All objections of all judges, at most a few of each.
pub fn judge(scenario: &Scenario, trace: &Trace) -> Vec<Objection> {
    let mut objections = Vec::new();
    for (judge, check) in JUDGES {
        let mut verdict = Verdict { judge, objections: Vec::new(), count: 0 };
        check(scenario, trace, &mut verdict);
        let left_out = verdict.count - verdict.objections.len();
        if let Some(last) = verdict.objections.last_mut().filter(|_| left_out > 0) {
            last.what.push_str(&format!(" (and {left_out} more of this judge)"));
        }
        objections.extend(verdict.objections);
    }
    objections
}

/// Media frames between relays, in order.
fn frames(trace: &Trace) -> impl Iterator<Item = (Duration, &Frame)> {
    trace.events().iter().filter_map(|(at, event)| Some((*at, event.frame()?)))
}

/// Deliveries, in order.
fn deliveries(trace: &Trace) -> impl Iterator<Item = (Duration, &Delivered)> {
    trace.events().iter().filter_map(|(at, event)| Some((*at, event.delivered()?)))
}
