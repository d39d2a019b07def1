//! The simulator's command line.

#[path = "main/clock.rs"]
mod clock;
#[path = "main/compare.rs"]
mod compare;
#[path = "main/failover.rs"]
mod failover;
#[path = "main/flow.rs"]
mod flow;
#[path = "main/loss.rs"]
mod loss;
#[path = "main/pcap.rs"]
mod pcap;
#[path = "main/replay.rs"]
mod replay;
#[path = "main/shrink.rs"]
mod shrink;
#[path = "main/swarm.rs"]
mod swarm;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use sim::{Outcome, Routing, Scenario};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Runs the overlay's real cores in a simulated network and judges what happened.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:
  sim run sim/scenarios/ring-cut.toml
  sim run sim/scenarios/line.toml --seed 7 --json
  sim run sim/scenarios/line.toml --events
  CASCADE_DATA=~/data sim run sim/scenarios/cities-measured.toml
  sim run sim/scenarios/line.toml --routing tree
  sim compare sim/compare/oceans.toml --out page.html
  sim failover sim/compare/failover.toml --failures 1000
  sim swarm --seeds 0..200 --jobs 4
  sim swarm --seeds 17..18 --show > seventeen.toml
  sim shrink seventeen.toml --out small.toml
  sim pcap sim/scenarios/ring-cut.toml --out ring.pcapng
  sim replay controller.rec
  sim loss
  sim loss --row rtt40-trace5 --row no-loss --packets 100000 --json

Exit status: 0 when no judge objects, all rows of loss stand and a replay did what was recorded, 1 otherwise, 2 for bad arguments."
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
        /// Lead streams otherwise than the scenario says: overlay, direct, tree.
        #[arg(long, value_name = "HOW")]
        routing: Option<Routing>,
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
    /// Hold runs of two scenarios, or of one under two policies, against each other and against a CDN.
    #[command(after_help = compare::HELP)]
    Compare(compare::CompareArgs),
    /// Let one link or relay after the other fail, and say how long streams fall silent.
    #[command(after_help = failover::HELP)]
    Failover(failover::FailoverArgs),
    /// Run scenarios that are drawn from seeds, and make those that fail small.
    #[command(after_help = swarm::HELP)]
    Swarm(swarm::SwarmArgs),
    /// Make a scenario that fails small.
    #[command(after_help = shrink::HELP)]
    Shrink(shrink::ShrinkArgs),
    /// Measure what repair leaves of a link's losses, and at what price, row by row of sim/loss/rows.toml.
    #[command(after_help = loss::HELP)]
    Loss(loss::LossArgs),
    /// Run one scenario and write what crosses its links, for Wireshark.
    #[command(after_help = pcap::HELP)]
    Pcap(pcap::PcapArgs),
    /// Run a recording of a real controller or relay again, and show what its decisions came from.
    #[command(after_help = replay::HELP)]
    Replay(replay::ReplayArgs),
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
        Command::Run { scenario, seed, routing, events, media, json } => {
            let scenario = load(&scenario)?;
            if let Some(routing) = routing.filter(|_| scenario.grain == sim::Grain::Flow) {
                anyhow::bail!("--routing {routing}: it takes a scenario of grain packet");
            }
            let scenario = routing.map_or(scenario.clone(), |routing| scenario.routed(routing));
            let seed = seed.unwrap_or(scenario.seed);
            if scenario.grain == sim::Grain::Flow {
                return flow::run(&scenario, seed, json);
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
        Command::Compare(args) => compare::run(&args),
        Command::Failover(args) => failover::run(&args),
        Command::Swarm(args) => swarm::run(&args),
        Command::Shrink(args) => shrink::run(&args),
        Command::Loss(args) => loss::run(&args),
        Command::Pcap(args) => pcap::run(&args, load).map(|()| true),
        Command::Replay(args) => replay::run(&args),
    }
}

/// Runs at the same time: as many as asked for, or as the machine has cores.
fn jobs(asked: Option<usize>) -> usize {
    asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// Writes what `--out` names.
fn write_page(out: &Path, page: &str) -> anyhow::Result<()> {
    std::fs::write(out, page).with_context(|| format!("--out {}: cannot be written", out.display()))
}

fn load(path: &Path) -> anyhow::Result<Scenario> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    // Files are named from where the scenario is, or from the folder of measured data.
    let folder = path.parent().unwrap_or(Path::new("."));
    Scenario::parse(&text, &mut |file| sim::read_named(folder, file))
        .with_context(|| path.display().to_string())
}
