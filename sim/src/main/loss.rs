//! `sim loss`.

use anyhow::{Context as _, bail};
use sim::{LossRow, RowResult};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where traces of loss lie within the folder of measured data.
const TRACES: &str = "loss";

pub(crate) const HELP: &str = "Traces are read from the folder loss/ of CASCADE_DATA.

Examples:
  CASCADE_DATA=~/data sim loss
  sim loss --row rtt40-trace5 --packets 100000
  sim loss --row three-hops --seed 7 --jobs 2 --json | tail -n 1

Exit status: 0 when every row stands, 1 when one does not, 2 for bad arguments.";

#[derive(clap::Args)]
pub(crate) struct LossArgs {
    /// Only the row of this name; may be repeated. A row that is measured against another brings it along.
    #[arg(long = "row", value_name = "NAME")]
    rows: Vec<String>,
    /// Media packets of each row.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    packets: u64,
    /// Seed of everything random.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Runs at the same time; by default as many as the machine has cores.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// End with one compact JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Json<'a> {
    packets: u64,
    seed: u64,
    rows: &'a [RowResult],
    failed: usize,
}

/// Whether every row stands.
pub(crate) fn run(args: &LossArgs) -> anyhow::Result<bool> {
    let rows = chosen(&args.rows)?;
    let jobs = super::jobs(args.jobs);
    let done = AtomicUsize::new(0);
    let results = sim::run_rows(&rows, args.packets, args.seed, jobs, &mut trace, |row| {
        let done = 1 + done.fetch_add(1, Ordering::Relaxed);
        // Progress that cannot be shown is no reason to stop.
        let _ = writeln!(std::io::stderr().lock(), "run {done}: of {}", row.name);
    })?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "seed: {}\n{}", args.seed, RowResult::TITLES)?;
    for result in &results {
        writeln!(out, "{result}")?;
    }
    let failed = results.iter().filter(|result| !result.failures.is_empty()).count();
    writeln!(out, "{} rows, {failed} not met", results.len())?;
    if args.json {
        let json = Json { packets: args.packets, seed: args.seed, rows: &results, failed };
        writeln!(out, "{}", serde_json::to_string(&json).context("plain values")?)?;
    }
    Ok(failed == 0)
}

fn chosen(names: &[String]) -> anyhow::Result<Vec<LossRow>> {
    let all = sim::loss_rows();
    if let Some(unknown) = names.iter().find(|name| all.iter().all(|row| row.name != **name)) {
        let known: Vec<_> = all.iter().map(|row| row.name.as_str()).collect();
        bail!("--row {unknown}: there is no such row; rows are {}", known.join(", "));
    }
    let wanted = |row: &&LossRow| names.is_empty() || names.contains(&row.name);
    let others: Vec<_> = all.iter().filter(wanted).filter_map(|row| row.limits.other.clone()).collect();
    let brought = |row: &LossRow| others.contains(&row.name);
    Ok(all.iter().filter(|row| wanted(row) || brought(row)).cloned().collect())
}

fn trace(file: &str) -> std::io::Result<String> {
    let data = std::env::var_os("CASCADE_DATA").ok_or_else(|| {
        std::io::Error::other("set CASCADE_DATA to the folder of measured data, in which loss/ holds traces")
    })?;
    let path = PathBuf::from(data).join(TRACES).join(file);
    std::fs::read_to_string(&path)
        .map_err(|error| std::io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}
