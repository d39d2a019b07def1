//! Many scenarios, each drawn from a seed, run at once.

use crate::draw::drawn;
use crate::jobs::run_all;
use crate::shrink::outcome_of;
use std::ops::Range;

/// How a seed went.
#[derive(Clone, Debug)]
pub struct SwarmResult {
    /// The seed.
    pub seed: u64,
    /// What came of it, or the message of a panic.
    pub outcome: Result<SeedOutcome, String>,
}

/// What came of a seed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeedOutcome {
    /// The trace's hash.
    pub hash: u64,
    /// Packets delivered.
    pub delivered: usize,
    /// What the judges object to.
    pub objections: Vec<String>,
}

impl SwarmResult {
    /// Nobody objects.
    pub fn is_good(&self) -> bool {
        self.outcome.as_ref().is_ok_and(|outcome| outcome.objections.is_empty())
    }
}

/// Runs the scenario of one seed.
pub fn run_seed(seed: u64) -> SwarmResult {
    let outcome = outcome_of(&drawn(seed), seed).map(|outcome| SeedOutcome {
        hash: outcome.trace.hash(),
        delivered: outcome.trace.events().iter().filter(|(_, event)| event.delivered().is_some()).count(),
        objections: outcome.objections.iter().map(ToString::to_string).collect(),
    });
    SwarmResult { seed, outcome }
}

/// Runs all seeds on `jobs` threads; `each` is told of every result as it comes. Returns all results by seed.
pub fn run_seeds(seeds: Range<u64>, jobs: usize, each: impl Fn(&SwarmResult) + Sync) -> Vec<SwarmResult> {
    let count = usize::try_from(seeds.end - seeds.start).unwrap_or(usize::MAX);
    run_all(count, jobs, |number| {
        let result = run_seed(seeds.start + number as u64);
        each(&result);
        result
    })
}
