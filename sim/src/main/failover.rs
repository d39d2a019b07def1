//! `sim failover`.

use anyhow::bail;
use sim::Grain;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) const HELP: &str = "The scenario's own faults are left out; what fails does so 4 s before media ends. Scenarios of grain packet.

Examples:
  sim failover sim/compare/failover.toml --failures 1000
  sim failover sim/compare/failover.toml --out failover.html --json | tail -n 1

Exit status: 0 when everything ran, 2 for bad arguments.";

#[derive(clap::Args)]
pub(crate) struct FailoverArgs {
    /// Who is there, and what they send each other.
    scenario: PathBuf,
    /// How many links and relays fail, one a run.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    failures: u64,
    /// Runs at the same time; by default as many as the machine has cores.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Write a page with the distribution, which needs nothing beside it.
    #[arg(long, value_name = "FILE.html")]
    out: Option<PathBuf>,
    /// End with one compact JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs, writes and says everything.
pub(crate) fn run(args: &FailoverArgs) -> anyhow::Result<bool> {
    let scenario = super::load(&args.scenario)?;
    if scenario.grain == Grain::Flow {
        bail!(
            "{}: `grain = \"flow\"`: gaps are measured in packets; take `grain = \"packet\"`",
            args.scenario.display()
        );
    }
    // A page that cannot be written is known before everything has run.
    if let Some(out) = &args.out {
        super::write_page(out, "")?;
    }
    let jobs = super::jobs(args.jobs);
    let done = AtomicU64::new(0);
    let all = args.failures;
    let failover = sim::failovers(&scenario, all, jobs, |_| {
        let done = 1 + done.fetch_add(1, Ordering::Relaxed);
        if done.is_multiple_of(10) || done == all {
            // Progress that cannot be shown is no reason to stop.
            let _ = writeln!(std::io::stderr().lock(), "{done} of {all} failures");
        }
    });
    let Some(failover) = failover else {
        bail!(
            "{}: no stream passes a link between relays for longer than `join_within`",
            args.scenario.display()
        );
    };
    if let Some(out) = &args.out {
        let command =
            format!("sim failover {} --failures {all} --out {}", args.scenario.display(), out.display());
        super::write_page(out, &failover.page(&scenario.name, &command))?;
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{failover}")?;
    if args.json {
        writeln!(out, "{}", failover.json())?;
    }
    Ok(true)
}
