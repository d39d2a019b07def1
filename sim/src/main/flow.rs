//! `sim run` at flow grain.

use crate::clock::Stopwatch;
use sim::{FlowOutcome, Scenario};
use std::io::Write as _;
use std::time::Duration;

/// How often a long run says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Whether no judge objects.
pub(crate) fn run(scenario: &Scenario, seed: u64, json: bool) -> anyhow::Result<bool> {
    let started = Stopwatch::start();
    let mut told = started;
    let outcome = FlowOutcome::of(scenario, seed, &mut |now| {
        if told.elapsed() >= PROGRESS_EVERY {
            told = Stopwatch::start();
            let share = now.as_secs_f64() * 100.0 / scenario.run_for.as_secs_f64();
            // Progress that cannot be shown is no reason to stop.
            let _ = writeln!(std::io::stderr().lock(), "{share:.0}% of {:?}", scenario.run_for);
        }
    });
    let took_s = started.elapsed().as_secs_f64();
    let rate = outcome.events as f64 / took_s.max(1e-9);
    let _ = writeln!(std::io::stderr().lock(), "{took_s:.1} s, {rate:.0} events a second");
    let mut out = std::io::stdout().lock();
    writeln!(out, "{outcome}")?;
    if json {
        writeln!(out, "{}", outcome.json())?;
    }
    Ok(outcome.objections.is_empty())
}
