//! `relayctl bench loss`: residual loss and overhead of this overlay, SRT and RIST over the same lossy link.
//!
//! Each system carries the recorded call that `relayctl dev` plays across one hop, over an impairment proxy with the same
//! links and seed: this overlay with two relays, SRT with two `srt-live-transmit`, RIST with `ristsender` and
//! `ristreceiver`. All runs of one link go at once, each over a proxy of its own: they need little processor time, and what
//! disturbs one disturbs all.
//!
//! *Residual loss*: packets that did not come; of this overlay, which delivers at once, also those that came later than the
//! budget on top of the path's own delay. SRT and RIST hold every packet until its budget is over and drop what is later.
//! *Overhead*: bytes that entered the link, both directions, beyond those of the packets sent for the first time with each
//! system's own headers (UDP payload). Nothing counts in the first seconds.

mod links;
mod outcome;
mod overlay;
mod plot;
pub(crate) mod routes;
mod tool;

use anyhow::{Context as _, bail, ensure};
use control_proto::cli::{LogFormat, init_logging, parse_duration};
use links::BenchLink;
use outcome::{Measured, Report, RowBounds};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tool::Tool;

/// From the first delivery until packets count.
const WARM_UP: Duration = Duration::from_secs(3);
/// For packets under way when sending has stopped.
const DRAIN: Duration = Duration::from_secs(2);
/// For the first packet to arrive.
const FIRST_DELIVERY: Duration = Duration::from_secs(15);

/// Arguments of `relayctl bench loss`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct LossArgs {
    /// How long packets count, of each system and budget.
    #[arg(long = "for", value_name = "DURATION", default_value = "20s", value_parser = parse_duration)]
    pub duration: Duration,
    /// Only this link; may be repeated.
    #[arg(long = "row", value_name = "NAME")]
    pub rows: Vec<String>,
    /// Which systems, separated by commas.
    #[arg(long, value_name = "NAMES", value_enum, value_delimiter = ',', default_value = "cascade,srt,rist")]
    pub systems: Vec<System>,
    /// Where loss.svg, loss.md and loss.json are written; the folder is made if it is not there.
    #[arg(long, value_name = "FOLDER", default_value = "bench-loss")]
    pub out: PathBuf,
    /// Seed of everything random in the links.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Ends with one line of JSON on stdout.
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "Traces of loss are read from the folder loss/ of CASCADE_DATA. SRT is srt-live-transmit (Debian: srt-tools), RIST is
ristsender and ristreceiver (rist-tools).

Examples:
  CASCADE_DATA=~/data relayctl bench loss
  relayctl bench loss --row rtt40-trace5 --for 60s --out /tmp/loss
  relayctl bench loss --systems cascade,srt --json | tail -n 1

Exit status: 0 when everything was measured, 1 when something was not, 2 for bad arguments.";

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum System {
    /// This overlay.
    Cascade,
    /// Secure Reliable Transport.
    Srt,
    /// Reliable Internet Stream Transport, main profile.
    Rist,
}

impl System {
    fn title(self) -> &'static str {
        match self {
            System::Cascade => "Cascade",
            System::Srt => "SRT",
            System::Rist => "RIST",
        }
    }

    /// The program that is not built in.
    fn tool(self) -> Option<Tool> {
        match self {
            System::Cascade => None,
            System::Srt => Some(Tool::Srt),
            System::Rist => Some(Tool::Rist),
        }
    }
}

/// One run: a system, a link, a budget.
#[derive(Clone, Debug)]
struct Run {
    system: System,
    link: BenchLink,
    budget: Duration,
    duration: Duration,
    seed: u64,
}

/// `relayctl bench loss`.
pub(crate) fn command(args: &LossArgs) -> ExitCode {
    let checked = checked(args).and_then(|links| {
        init_logging(LogFormat::Text, "error").context("the log cannot be set up")?;
        Ok(links)
    });
    let outcome = match checked {
        Ok(links) => bench(args, &links),
        Err(error) => {
            crate::output::complain(&error);
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::output::complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// The links to be measured; every program is there.
fn checked(args: &LossArgs) -> anyhow::Result<Vec<BenchLink>> {
    for tool in args.systems.iter().filter_map(|system| system.tool()) {
        tool.check()?;
    }
    let known: Vec<_> = links::names().collect();
    if let Some(unknown) = args.rows.iter().find(|row| !known.contains(&row.as_str())) {
        bail!("--row {unknown}: there is no such link; there are {}", known.join(", "));
    }
    links::links(&args.rows)
}

fn bench(args: &LossArgs, links: &[BenchLink]) -> anyhow::Result<()> {
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let systems: BTreeSet<_> = args.systems.iter().copied().collect();
    let (mut measured, mut bounds, mut failed) = (Vec::new(), Vec::new(), 0);
    for link in links {
        let (name, budgets) = (link.name, link.budgets.len());
        let text = format!("{name}: {} systems with {budgets} budgets, {:?}\n", systems.len(), args.duration);
        // Progress that cannot be shown is no reason to stop.
        let _ = std::io::stderr().write_all(text.as_bytes());
        let runs = systems.iter().flat_map(|system| {
            link.budgets.iter().map(|budget| Run {
                system: *system,
                link: link.clone(),
                budget: *budget,
                duration: args.duration,
                seed: args.seed,
            })
        });
        for run in runtime.block_on(all(runs.collect()))? {
            match run {
                Ok(run) => measured.push(run),
                // SRT's handshake, for one, does not always survive a lossy link. The other runs stand.
                Err(error) => {
                    failed += 1;
                    crate::output::complain(&error);
                }
            }
        }
        for budget in &link.budgets {
            bounds.push(RowBounds::of(link, *budget, args.seed)?);
        }
    }
    let report = Report { for_s: args.duration.as_secs_f64(), seed: args.seed, measured, bounds };
    let table = report.table();
    for (file, text) in
        [("loss.svg", plot::svg(&report)), ("loss.md", table.clone()), ("loss.json", report.json() + "\n")]
    {
        let path = args.out.join(file);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut out = std::io::stdout().lock();
    // Whoever closed the other end of a pipe does not want to see it.
    let _ = out.write_all(table.as_bytes());
    if args.json {
        let _ = writeln!(out, "{}", report.json());
    }
    ensure!(failed == 0, "{failed} runs could not be measured; try another --seed");
    Ok(())
}

/// All runs of a link at once, each with what came of it.
async fn all(runs: Vec<Run>) -> anyhow::Result<Vec<anyhow::Result<Measured>>> {
    let mut going = tokio::task::JoinSet::new();
    for (place, run) in runs.into_iter().enumerate() {
        going.spawn(async move {
            let what = format!("{} over {} with {:?}", run.system.title(), run.link.name, run.budget);
            let measured = match run.system.tool() {
                None => overlay::measure(&run).await,
                Some(tool) => tokio::task::spawn_blocking(move || tool::measure(tool, &run))
                    .await
                    .unwrap_or_else(|panic| Err(panic.into())),
            };
            (place, measured.context(what))
        });
    }
    let mut measured = Vec::new();
    while let Some(ended) = going.join_next().await {
        measured.push(ended.context("a run panicked")?);
    }
    measured.sort_by_key(|(place, _)| *place);
    Ok(measured.into_iter().map(|(_, measured)| measured).collect())
}
