//! What a run comes to, for people and for programs.

use crate::check::{Objection, judge};
use crate::scenario::Scenario;
use crate::trace::{Event, Trace};
use crate::world::run;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;

/// A run and what the judges say.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// What happened.
    pub trace: Trace,
    /// What must not have.
    pub objections: Vec<Objection>,
}

impl Outcome {
    /// Runs a scenario and judges it.
    pub fn of(scenario: &Scenario, seed: u64) -> Outcome {
        let trace = run(scenario, seed);
        let objections = judge(scenario, &trace);
        Outcome { scenario: scenario.name.clone(), seed, trace, objections }
    }

    /// One compact JSON object.
    pub fn json(&self) -> String {
        let counts = Counts::of(&self.trace);
        let objections = self.objections.iter().map(|objection| ObjectionJson {
            judge: objection.judge,
            at_us: u64::try_from(objection.at.as_micros()).unwrap_or(u64::MAX),
            what: &objection.what,
        });
        let json = OutcomeJson {
            scenario: &self.scenario,
            seed: self.seed,
            trace_hash: format!("{:016x}", self.trace.hash()),
            events: self.trace.events().len(),
            counts,
            objections: objections.collect(),
        };
        serde_json::to_string(&json).expect("plain values")
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { sent, delivered, frames, frames_lost, epochs, links_up, links_down } =
            Counts::of(&self.trace);
        writeln!(f, "scenario: {}", self.scenario)?;
        writeln!(f, "seed: {}", self.seed)?;
        writeln!(f, "packets sent: {sent}, delivered: {delivered}")?;
        writeln!(f, "frames between relays: {frames}, lost by the network: {frames_lost}")?;
        writeln!(f, "epochs: {epochs}, link ends up: {links_up}, down: {links_down}")?;
        for objection in &self.objections {
            writeln!(f, "OBJECTION of {objection}")?;
        }
        write!(f, "trace hash: {:016x}", self.trace.hash())
    }
}

#[derive(Serialize)]
struct OutcomeJson<'a> {
    scenario: &'a str,
    seed: u64,
    trace_hash: String,
    events: usize,
    #[serde(flatten)]
    counts: Counts,
    objections: Vec<ObjectionJson<'a>>,
}

#[derive(Serialize)]
struct ObjectionJson<'a> {
    judge: &'static str,
    at_us: u64,
    what: &'a str,
}

#[derive(Serialize, Default)]
struct Counts {
    sent: u64,
    delivered: u64,
    frames: u64,
    frames_lost: u64,
    epochs: usize,
    links_up: u64,
    links_down: u64,
}

impl Counts {
    fn of(trace: &Trace) -> Counts {
        let mut counts = Counts::default();
        let mut epochs = BTreeSet::new();
        for (_, event) in trace.events() {
            match event {
                Event::Sent { .. } => counts.sent += 1,
                Event::Delivered(_) => counts.delivered += 1,
                Event::Frame(frame) => {
                    counts.frames += 1;
                    counts.frames_lost += u64::from(frame.fate.is_err());
                }
                Event::Stamp { relay: _, epoch } => {
                    epochs.insert(*epoch);
                }
                Event::LinkUp { .. } => counts.links_up += 1,
                Event::LinkDown { .. } => counts.links_down += 1,
                Event::FaultBegins(_)
                | Event::FaultEnds(_)
                | Event::Joined { .. }
                | Event::SessionUp(_)
                | Event::SessionDown(_)
                | Event::Table { .. }
                | Event::Row { .. }
                | Event::Introduced(_)
                | Event::Dismissed(_)
                | Event::Reported { .. }
                | Event::Believed { .. }
                | Event::Pushed(_)
                | Event::Ordered { .. }
                | Event::TableAcked { .. }
                | Event::StampAcked { .. }
                | Event::Published(_)
                | Event::Announced { .. }
                | Event::Ended { .. }
                | Event::Refused { .. }
                | Event::KeyframeRequested(_)
                | Event::Violation { .. }
                | Event::Datagram(_)
                | Event::Counter { .. } => {}
            }
        }
        counts.epochs = epochs.len();
        counts
    }
}
