//! Runs a recording again: the same core, made from the same, told the same at the same times.
//!
//! What comes out is held against what the recording notes of it ([`Outcome`]), input by input: it is *reproduced*, or differs
//! from a record on. On the way it is written down what was decided and what that came from: for a controller every epoch
//! with the reports and decisions that gave reason for it, and each route that it moved with what both ways cost before and
//! after (`controller`); for each worker of a relay what became of its links and where its destinations went (`relay`).

mod controller;
mod controller_input;
mod relay;
mod relay_input;
mod routes;

use controller::ControllerReplay;
use relay::RelayReplay;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use wire_format::Timestamp;
use wire_format::recording::{Body, Header, Outcome, Recording, RecordingError, Source};

/// Something that happened in a replay, and the record that brought it about.
#[derive(Clone, PartialEq, Debug)]
pub struct Happened {
    /// The record's number, from 1.
    pub record: u64,
    /// The worker of a relay; 0 of a controller.
    pub worker: u8,
    /// When, by the clock of whoever recorded.
    pub at: Timestamp,
    /// What kind of thing, for programs.
    pub kind: &'static str,
    /// What, for people: some lines.
    pub text: String,
    /// What, for programs.
    pub detail: Value,
}

/// Whether a replay did what was recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// All of it.
    Reproduced,
    /// Something else, from this record on.
    Differs {
        /// The first input with another outcome.
        record: u64,
        /// When.
        at: Timestamp,
        /// What the recording notes.
        recorded: Outcome,
        /// What came out.
        replayed: Outcome,
    },
    /// All decisions, and other counts from this record on.
    Miscounts {
        /// The first record of counts that are others.
        record: u64,
        /// When.
        at: Timestamp,
    },
    /// All of it as far as that can be told: records are missing.
    Gap {
        /// The record that says so.
        record: u64,
        /// How many are missing.
        records: u64,
    },
}

/// A recording that was run again.
#[derive(Clone, PartialEq, Debug)]
pub struct Replay {
    /// What it begins with.
    pub header: Header,
    /// How many records it has.
    pub records: u64,
    /// Inputs among them that were run.
    pub inputs: u64,
    /// Outputs that came of them.
    pub outputs: u64,
    /// The last record ends early: the process was killed while it was written.
    pub torn: bool,
    /// It reached its bound.
    pub full: bool,
    /// What happened.
    pub happened: Vec<Happened>,
    /// Whether it is what was recorded.
    pub verdict: Verdict,
}

/// Why a recording cannot be run again.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReplayError {
    /// It is none.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// A record makes no sense.
    #[error("record {record}: {problem}")]
    Record {
        /// Its number, from 1.
        record: u64,
        /// What is wrong.
        problem: String,
    },
}

/// Where in a recording.
#[derive(Clone, Copy, Debug)]
struct At {
    record: u64,
    worker: u8,
    now: Timestamp,
}

impl At {
    fn happened(self, kind: &'static str, text: String, detail: Value) -> Happened {
        Happened { record: self.record, worker: self.worker, at: self.now, kind, text, detail }
    }

    fn error(self, problem: impl fmt::Display) -> ReplayError {
        ReplayError::Record { record: self.record, problem: problem.to_string() }
    }
}

/// Runs a recording again, to its end or until this time of its clock.
///
/// # Errors
/// If it is none, or makes no sense.
pub fn replay(bytes: &[u8], until: Option<Duration>) -> Result<Replay, ReplayError> {
    let mut recording = Recording::new(bytes)?;
    let header = recording.header().clone();
    let mut run = Run {
        replay: Replay {
            records: 0,
            inputs: 0,
            outputs: 0,
            torn: false,
            full: false,
            happened: Vec::new(),
            verdict: Verdict::Reproduced,
            header,
        },
        cores: BTreeMap::new(),
    };
    let until = until.map(|until| Timestamp::ZERO + until);
    for record in recording.by_ref() {
        let record = record.map_err(|error| ReplayError::Record {
            record: run.replay.records + 1,
            problem: error.to_string(),
        })?;
        if until.is_some_and(|until| record.at > until) {
            break;
        }
        run.replay.records += 1;
        let at = At { record: run.replay.records, worker: record.worker, now: record.at };
        run.take(at, record.body)?;
    }
    run.end();
    run.replay.torn = recording.bytes_left() > 0 && until.is_none();
    Ok(run.replay)
}

/// A recording that is being run.
struct Run {
    replay: Replay,
    /// By worker.
    cores: BTreeMap<u8, Running>,
}

/// A core, and what came of its last input, until it is known what the recording says of it.
struct Running {
    core: Core,
    due: Option<(At, Outcome)>,
}

enum Core {
    Controller(Box<ControllerReplay>),
    Relay(Box<RelayReplay>),
}

impl Run {
    fn take(&mut self, at: At, body: Body<'_>) -> Result<(), ReplayError> {
        let happened = &mut self.replay.happened;
        match body {
            Body::Start(start) => {
                let core = match self.replay.header.source {
                    Source::Controller => {
                        Core::Controller(Box::new(ControllerReplay::begin(at, start, happened)?))
                    }
                    Source::Relay => Core::Relay(Box::new(RelayReplay::begin(at, start, happened)?)),
                };
                // Whoever was deposed in the middle of an input noted nothing of it.
                self.cores.insert(at.worker, Running { core, due: None });
            }
            Body::Input(input) => {
                self.judge(at.worker, None);
                let happened = &mut self.replay.happened;
                let running = self.cores.get_mut(&at.worker);
                let running = running.ok_or_else(|| at.error("an input before any start"))?;
                let outcome = match &mut running.core {
                    Core::Controller(core) => core.input(at, input, happened)?,
                    Core::Relay(core) => core.input(at, input, happened)?,
                };
                running.due = Some((at, outcome));
                self.replay.inputs += 1;
                self.replay.outputs += u64::from(outcome.outputs);
            }
            // One that stands alone is of an input that is missing.
            Body::Outcome(outcome) => self.judge(at.worker, Some(outcome)),
            Body::Counts(counts) => {
                self.judge(at.worker, None);
                self.compare_counts(at, counts)?;
            }
            Body::Lost { records } => {
                // What is missing may be the outcome.
                if let Some(running) = self.cores.get_mut(&at.worker) {
                    running.due = None;
                }
                let text = format!("{records} records are missing here: what follows may be another story");
                self.replay.happened.push(at.happened("lost", text, json!({ "records": records })));
                if self.replay.verdict == Verdict::Reproduced {
                    self.replay.verdict = Verdict::Gap { record: at.record, records };
                }
            }
            Body::Full => {
                self.replay.full = true;
                let text = "the recording is full: nothing is known of what came then".to_owned();
                happened.push(at.happened("full", text, json!({})));
            }
        }
        Ok(())
    }

    fn compare_counts(&mut self, at: At, counts: &[u8]) -> Result<(), ReplayError> {
        let running = self.cores.get(&at.worker);
        let Some(Core::Relay(core)) = running.map(|running| &running.core) else {
            return Err(at.error("counts of no relay"));
        };
        let differing = core.differs(at, counts)?;
        if differing.is_empty() || self.replay.verdict != Verdict::Reproduced {
            return Ok(());
        }
        let texts = differing.iter().map(|(name, there, here)| format!("{name} {there}, here {here}"));
        let text = format!("counts differ: {}", texts.collect::<Vec<_>>().join("; "));
        self.replay.happened.push(at.happened("differs", text, json!({})));
        self.replay.verdict = Verdict::Miscounts { record: at.record, at: at.now };
        Ok(())
    }

    /// What relays counted in all.
    fn end(&mut self) {
        let record = self.replay.records;
        for (worker, running) in &self.cores {
            if let Core::Relay(core) = &running.core {
                let totals = core.totals();
                let text = totals
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(name, count)| format!("\n  {name} {count}"));
                let text = format!("counted by worker {worker}:{}", text.collect::<String>());
                let at = At { record, worker: *worker, now: core.now() };
                self.replay.happened.push(at.happened("totals", text, totals));
            }
        }
    }

    /// Holds what came of the last input against what was recorded of it: nothing, if nothing was.
    fn judge(&mut self, worker: u8, recorded: Option<Outcome>) {
        let due = self.cores.get_mut(&worker).and_then(|running| running.due.take());
        let Some((at, replayed)) = due else { return };
        let same = match recorded {
            Some(recorded) => recorded == replayed,
            None => replayed.outputs == 0,
        };
        if same || self.replay.verdict != Verdict::Reproduced {
            return;
        }
        let recorded = recorded.unwrap_or_default();
        let text = format!(
            "differs: {} outputs were recorded, fingerprint {:016x}, and here are {}, fingerprint {:016x}",
            recorded.outputs, recorded.fingerprint, replayed.outputs, replayed.fingerprint
        );
        self.replay.happened.push(at.happened("differs", text, json!({})));
        self.replay.verdict = Verdict::Differs { record: at.record, at: at.now, recorded, replayed };
    }
}

impl Replay {
    /// Whether everything came out as it was recorded.
    pub fn is_reproduced(&self) -> bool {
        self.verdict == Verdict::Reproduced
    }

    /// What happened of a kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Happened> {
        self.happened.iter().filter(move |happened| happened.kind == kind)
    }

    /// Everything, for programs.
    pub fn json(&self) -> Value {
        let happened = self.happened.iter().map(|happened| {
            json!({
                "record": happened.record,
                "worker": happened.worker,
                "at_us": happened.at.as_micros(),
                "kind": happened.kind,
                "text": happened.text,
                "detail": happened.detail,
            })
        });
        let outcome = |outcome: &Outcome| {
            let fingerprint = format!("{:016x}", outcome.fingerprint);
            json!({ "outputs": outcome.outputs, "fingerprint": fingerprint })
        };
        let verdict = match &self.verdict {
            Verdict::Reproduced => json!({ "reproduced": true }),
            Verdict::Differs { record, at, recorded, replayed } => json!({
                "reproduced": false,
                "differs_at_record": record,
                "at_us": at.as_micros(),
                "recorded": outcome(recorded),
                "replayed": outcome(replayed),
            }),
            Verdict::Miscounts { record, at } => json!({
                "reproduced": false,
                "counts_differ_at_record": record,
                "at_us": at.as_micros(),
            }),
            Verdict::Gap { record, records } => {
                json!({ "reproduced": false, "gap_at_record": record, "records_missing": records })
            }
        };
        json!({
            "source": self.source(),
            "software": self.header.software,
            "began_unix_ms": self.header.began_unix_ms,
            "records": self.records,
            "inputs": self.inputs,
            "outputs": self.outputs,
            "torn": self.torn,
            "full": self.full,
            "happened": happened.collect::<Vec<_>>(),
            "verdict": verdict,
        })
    }

    fn source(&self) -> &'static str {
        match self.header.source {
            Source::Controller => "controller",
            Source::Relay => "relay",
        }
    }
}

impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "recording of a {}, version {}", self.source(), self.header.software)?;
        let several = self.happened.iter().any(|happened| happened.worker > 0);
        for happened in &self.happened {
            let worker = if several { format!("  worker {}", happened.worker) } else { String::new() };
            let head = format!("record {:<7} {:>14}{worker}  ", happened.record, happened.at.to_string());
            for (place, line) in happened.text.lines().enumerate() {
                let head = if place == 0 { head.as_str() } else { "" };
                writeln!(f, "{head:<32}{line}")?;
            }
        }
        writeln!(f, "records: {}, inputs: {}, outputs: {}", self.records, self.inputs, self.outputs)?;
        if self.torn {
            writeln!(f, "the last record ends early: the process was killed")?;
        }
        match self.verdict {
            Verdict::Reproduced => write!(f, "reproduced"),
            Verdict::Differs { record, at, .. } => write!(f, "differs at record {record}, {at}"),
            Verdict::Miscounts { record, at } => {
                write!(f, "decisions are reproduced, and counts differ from record {record} on, {at}")
            }
            Verdict::Gap { record, records } => {
                write!(f, "reproduced up to record {record}, where {records} records are missing")
            }
        }
    }
}
