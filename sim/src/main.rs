//! The simulator's command line.

#[path = "main/loss.rs"]
mod loss;
#[path = "main/pcap.rs"]
mod pcap;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use sim::{Outcome, Scenario};
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// How often a long run says how far it is.
const PROGRESS_EVERY: std::time::Duration = std::time::Duration::from_secs(5);

/// Runs the overlay's real cores in a simulated network and judges what happened.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:
  sim run sim/scenarios/ring-cut.toml
  sim run sim/scenarios/line.toml --seed 7 --json
  sim run sim/scenarios/line.toml --events
  CASCADE_DATA=~/data sim run sim/scenarios/cities-measured.toml
  sim swarm --seeds 0..200 --jobs 4
  sim swarm --seeds 17..18 --show > seventeen.toml
  sim pcap sim/scenarios/ring-cut.toml --out ring.pcapng
  sim loss
  sim loss --row rtt40-trace5 --row no-loss --packets 100000 --json

Exit status: 0 when no judge objects and all rows of loss stand, 1 otherwise, 2 for bad arguments."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one scenario.
    Run {
        /// The scenario.
        scenario: PathBuf,
        /// Another seed than the scenario's own.
        #[arg(long)]
        seed: Option<u64>,
        /// Print what happened first, all but media.
        #[arg(long)]
        events: bool,
        /// Print every packet's way, too.
        #[arg(long)]
        media: bool,
        /// End with one compact JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Run scenarios that are drawn from seeds.
    Swarm {
        /// From the first seed to before the last.
        #[arg(long, value_name = "A..B", value_parser = seeds)]
        seeds: Range<u64>,
        /// Runs at the same time; by default as many as the machine has cores.
        #[arg(long)]
        jobs: Option<usize>,
        /// Do not run: print the scenarios.
        #[arg(long)]
        show: bool,
    },
    /// Measure what repair leaves of a link's losses, and at what price, row by row of sim/loss/rows.toml.
    #[command(after_help = loss::HELP)]
    Loss(loss::LossArgs),
    /// Run one scenario and write what crosses its links, for Wireshark.
    #[command(after_help = pcap::HELP)]
    Pcap(pcap::PcapArgs),
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            // A standard error that cannot be written to leaves nobody to tell.
            let _ = writeln!(std::io::stderr(), "sim: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether no judge objects.
fn run(command: Command) -> anyhow::Result<bool> {
    match command {
        Command::Run { scenario, seed, events, media, json } => {
            let scenario = load(&scenario)?;
            let seed = seed.unwrap_or(scenario.seed);
            if scenario.grain == sim::Grain::Flow {
                return run_flow(&scenario, seed, json);
            }
            let outcome = Outcome::of(&scenario, seed);
            let mut out = std::io::stdout().lock();
            let shown = |event: &sim::Event| if event.is_media() { media } else { events };
            for (at, event) in outcome.trace.events().iter().filter(|(_, event)| shown(event)) {
                writeln!(out, "{at:?} {event:?}")?;
            }
            writeln!(out, "{outcome}")?;
            if json {
                writeln!(out, "{}", outcome.json())?;
            }
            Ok(outcome.objections.is_empty())
        }
        Command::Swarm { seeds, jobs: _, show: true } => {
            let mut out = std::io::stdout().lock();
            for seed in seeds {
                writeln!(out, "{}", sim::drawn_text(seed))?;
            }
            Ok(true)
        }
        Command::Swarm { seeds, jobs, show: false } => swarm(seeds, jobs),
        Command::Loss(args) => loss::run(&args),
        Command::Pcap(args) => pcap::run(&args, load).map(|()| true),
    }
}

fn run_flow(scenario: &Scenario, seed: u64, json: bool) -> anyhow::Result<bool> {
    let started = std::time::Instant::now();
    let mut told = started;
    let outcome = sim::FlowOutcome::of(scenario, seed, &mut |now| {
        if told.elapsed() >= PROGRESS_EVERY {
            told = std::time::Instant::now();
            let share = now.as_secs_f64() * 100.0 / scenario.run_for.as_secs_f64();
            // Progress that cannot be shown is no reason to stop.
            let _ = writeln!(std::io::stderr().lock(), "{share:.0}% of {:?}", scenario.run_for);
        }
    });
    let took = started.elapsed().as_secs_f64();
    let rate = outcome.events as f64 / took.max(1e-9);
    let _ = writeln!(std::io::stderr().lock(), "{took:.1} s, {rate:.0} events a second");
    let mut out = std::io::stdout().lock();
    writeln!(out, "{outcome}")?;
    if json {
        writeln!(out, "{}", outcome.json())?;
    }
    Ok(outcome.objections.is_empty())
}

fn swarm(seeds: Range<u64>, jobs: Option<usize>) -> anyhow::Result<bool> {
    let jobs = jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let count = seeds.end - seeds.start;
    let done = std::sync::atomic::AtomicU64::new(0);
    let results = sim::run_seeds(seeds, jobs, |result| {
        let done = 1 + done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut progress = std::io::stderr().lock();
        // Progress that cannot be shown is no reason to stop.
        let _ = match result.is_good() {
            true if done.is_multiple_of(10) || done == count => writeln!(progress, "{done} of {count} seeds"),
            true => Ok(()),
            false => writeln!(progress, "seed {} failed", result.seed),
        };
    });
    let mut out = std::io::stdout().lock();
    let mut failed = 0;
    for result in &results {
        let complaints = match &result.outcome {
            Ok(outcome) => {
                writeln!(out, "seed: {}", result.seed)?;
                writeln!(out, "trace hash: {:016x}", outcome.hash)?;
                outcome.objections.iter().map(|objection| format!("OBJECTION of {objection}")).collect()
            }
            Err(panic) => vec![format!("PANIC with seed {}: {panic}", result.seed)],
        };
        if !complaints.is_empty() {
            failed += 1;
            for complaint in complaints {
                writeln!(out, "{complaint}")?;
            }
            let seed = result.seed;
            writeln!(out, "replay: cargo run --release --bin sim -- swarm --seeds {seed}..{}", seed + 1)?;
        }
    }
    let delivered: usize =
        results.iter().flat_map(|result| &result.outcome).map(|outcome| outcome.delivered).sum();
    writeln!(out, "{} seeds, {delivered} packets delivered, {failed} failed", results.len())?;
    Ok(failed == 0)
}

fn load(path: &Path) -> anyhow::Result<Scenario> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    // Files are named from where the scenario is, or from the folder of measured data.
    let folder = path.parent().unwrap_or(Path::new("."));
    Scenario::parse(&text, &mut |file| sim::read_named(folder, file))
        .with_context(|| path.display().to_string())
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let parsed =
        text.split_once("..").and_then(|(from, to)| Some(from.trim().parse().ok()?..to.trim().parse().ok()?));
    let expected =
        || format!("{text:?} is no range of seeds; expected for instance 0..200, where 200 is not run");
    parsed.filter(|range: &Range<u64>| range.start < range.end).ok_or_else(expected)
}
