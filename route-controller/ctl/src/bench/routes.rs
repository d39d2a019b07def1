//! `relayctl bench routes`: what computing the routes of all relays takes, from nothing and after one link has changed, beside
//! petgraph's all-pairs shortest paths on the same graph.
//!
//! The overlays are drawn from a seed: relays on a square, links that cost their length and a little by chance in each
//! direction; a quarter of each relay's links lead to the nearest others, the rest anywhere. Ours are all three planes with
//! backups, petgraph's the distances of one. Both must agree on those, or the bench fails. What is left out because it would
//! take too long is marked.

mod draw;
mod plot;

use anyhow::{Context as _, ensure};
use draw::Drawing;
use route_core::Overlay;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use wire_format::{NodeIndex, Plane};

/// Arguments of `relayctl bench routes`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct RoutesBenchArgs {
    /// How many relays, separated by commas.
    #[arg(long, value_name = "COUNTS", value_delimiter = ',', default_value = "50,100,200,500,1000")]
    #[arg(value_parser = clap::value_parser!(u16).range(2..=20_000))]
    pub sizes: Vec<u16>,
    /// The same for overlays in which each relay has a link to each other.
    #[arg(long, value_name = "COUNTS", value_delimiter = ',')]
    #[arg(value_parser = clap::value_parser!(u16).range(2..=2_000))]
    pub full_mesh: Vec<u16>,
    /// On how many threads ours are computed. Petgraph has one.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub threads: u8,
    /// How many links each relay has, on average; where there are not that many others, one to each.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(4..))]
    pub links: u16,
    /// How many links change, one after the other, in each way.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub changes: u16,
    /// The largest overlay that petgraph searches from every relay.
    #[arg(long, value_name = "RELAYS", default_value_t = 1_000)]
    pub dijkstra_up_to: u16,
    /// The largest overlay for petgraph's floyd_warshall, whose time grows with the third power.
    #[arg(long, value_name = "RELAYS", default_value_t = 200)]
    pub floyd_up_to: u16,
    /// Where routes.svg, routes.md and routes.json are written; the folder is made if it is not there.
    #[arg(long, value_name = "FOLDER", default_value = "bench-routes")]
    pub out: PathBuf,
    /// Seed of the overlays and of the choice of links.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Ends with one line of JSON on stdout.
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "Times are processor time of the process, so that others on the machine disturb them little; `elapsed_s` in the JSON is what
passed on the clock.

Examples:
  relayctl bench routes
  relayctl bench routes --sizes 10000 --threads 2 --changes 50 --json
  relayctl bench routes --sizes 50,200,1000 --full-mesh 50,200,1000 --changes 50

Exit status: 0 when everything was measured, 1 when something was not, 2 for bad arguments.";

/// How a link changes, and changes back.
const KINDS: [(&str, Option<u64>); 3] =
    [("half as dear again", Some(150)), ("a quarter cheaper", Some(75)), ("gone", None)];

/// Updates after one change, in milliseconds.
#[derive(Clone, PartialEq, Debug, Serialize)]
struct Updates {
    change: &'static str,
    p50_ms: f64,
    p99_ms: f64,
}

/// One overlay. What was not run is `None`.
#[derive(Clone, PartialEq, Debug, Serialize)]
struct Measured {
    relays: u16,
    full_mesh: bool,
    /// Each direction by itself.
    links: usize,
    /// All three planes from nothing, processor time.
    full_s: f64,
    /// The same on the clock.
    elapsed_s: f64,
    updates: Vec<Updates>,
    dijkstra_s: Option<f64>,
    floyd_warshall_s: Option<f64>,
    /// Most memory of the process while it was measured, in bytes.
    peak_bytes: Option<u64>,
}

impl Measured {
    fn update_p99_ms(&self) -> f64 {
        self.updates.iter().map(|updates| updates.p99_ms).fold(0.0, f64::max)
    }
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct Report {
    links: u16,
    changes: u16,
    seed: u64,
    threads: u8,
    overlays: Vec<Measured>,
}

/// `relayctl bench routes`.
pub(crate) fn command(args: &RoutesBenchArgs) -> ExitCode {
    match bench(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::output::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn bench(args: &RoutesBenchArgs) -> anyhow::Result<()> {
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    let mut overlays = Vec::new();
    let meshes = args.full_mesh.iter().map(|relays| (*relays, true));
    for (relays, full_mesh) in args.sizes.iter().map(|relays| (*relays, false)).chain(meshes) {
        // Progress that cannot be shown is no reason to stop.
        let _ = writeln!(std::io::stderr(), "{relays} relays{}", if full_mesh { ", full mesh" } else { "" });
        overlays.push(measure(args, relays, full_mesh)?);
    }
    let RoutesBenchArgs { links, changes, seed, threads, .. } = *args;
    let report = Report { links, changes, seed, threads, overlays };
    let json = serde_json::to_string(&report).context("no JSON")?;
    let table = table(&report);
    for (file, text) in [
        ("routes.svg", plot::svg(&report)),
        ("routes.md", table.clone()),
        ("routes.json", json.clone() + "\n"),
    ] {
        let path = args.out.join(file);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut out = std::io::stdout().lock();
    // Whoever closed the other end of a pipe does not want to see it.
    let _ = out.write_all(table.as_bytes());
    if args.json {
        let _ = writeln!(out, "{json}");
    }
    Ok(())
}

fn measure(args: &RoutesBenchArgs, relays: u16, full_mesh: bool) -> anyhow::Result<Measured> {
    forget_peak();
    let mut drawing = Drawing::new(relays, if full_mesh { relays - 1 } else { args.links }, args.seed);
    let directed = drawing.directed();
    let ends = |&(from, to, cost_us): &(u16, u16, u64)| (NodeIndex(from), NodeIndex(to), cost_us);
    let mut overlay = Overlay::new(relays, directed.iter().map(ends))
        .with_executor(route_controller::on_threads(usize::from(args.threads)));
    let ((), full) = timed(|| overlay.compute());
    let dijkstra = (relays <= args.dijkstra_up_to).then(|| timed(|| overlay.all_by_dijkstra()));
    let floyd = (relays <= args.floyd_up_to).then(|| timed(|| overlay.all_by_floyd_warshall()));
    for (distances, _) in dijkstra.iter().chain(&floyd) {
        agree(&overlay, distances)?;
    }
    let mut updates = Vec::new();
    for (change, percent) in KINDS {
        let mut times_ms = Vec::new();
        for _ in 0..args.changes {
            let (a, b, costs) = drawing.any_link();
            let mut set = |percent: Option<u64>| {
                for (from, to, cost_us) in [(a, b, costs[0]), (b, a, costs[1])] {
                    let cost_us = percent.map(|percent| cost_us * percent / 100);
                    overlay.set_link(NodeIndex(from), NodeIndex(to), cost_us);
                }
                timed(|| overlay.update()).1.processor_s * 1_000.0
            };
            // There and back: both are changes of one link.
            times_ms.extend([set(percent), set(Some(100))]);
        }
        times_ms.sort_by(f64::total_cmp);
        let quantile = |share: usize| times_ms[(times_ms.len() * share / 100).min(times_ms.len() - 1)];
        updates.push(Updates { change, p50_ms: quantile(50), p99_ms: quantile(99) });
    }
    Ok(Measured {
        relays,
        full_mesh,
        links: directed.len(),
        full_s: full.processor_s,
        elapsed_s: full.elapsed_s,
        updates,
        dijkstra_s: dijkstra.map(|(_, spent)| spent.processor_s),
        floyd_warshall_s: floyd.map(|(_, spent)| spent.processor_s),
        peak_bytes: peak_bytes(),
    })
}

/// Both find ways of the same cost.
fn agree(overlay: &Overlay, distances: &[Vec<Option<u64>>]) -> anyhow::Result<()> {
    for (to, row) in distances.iter().enumerate() {
        for (from, theirs) in row.iter().enumerate().filter(|(from, _)| *from != to) {
            let ours = overlay.cost_us(NodeIndex(from as u16), Plane::PRIMARY, NodeIndex(to as u16));
            ensure!(ours == *theirs, "from {from} to {to}: {ours:?}, and {theirs:?} by petgraph");
        }
    }
    Ok(())
}

#[derive(Clone, Copy, Debug)]
struct Spent {
    processor_s: f64,
    elapsed_s: f64,
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Spent) {
    let now = |clock| {
        let time = clock_gettime(clock);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    };
    let (processor, elapsed) = (now(ClockId::ProcessCPUTime), now(ClockId::Monotonic));
    let done = work();
    let spent = Spent {
        processor_s: now(ClockId::ProcessCPUTime) - processor,
        elapsed_s: now(ClockId::Monotonic) - elapsed,
    };
    (done, spent)
}

/// The most memory is counted from now on, if the kernel lets us.
fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// What the kernel says, where it says it.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

fn table(report: &Report) -> String {
    let mut text = String::from(
        "| relays | links, directed | three planes from nothing | on the clock | one link changed, p50 | p99 | petgraph dijkstra \
         from every relay | petgraph floyd_warshall | peak memory |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for overlay in &report.overlays {
        let p50_ms = overlay.updates.iter().map(|updates| updates.p50_ms).fold(0.0, f64::max);
        let rival =
            |seconds: Option<f64>| seconds.map_or("not run".to_owned(), |s| format!("{:.1} ms", s * 1e3));
        let peak =
            overlay.peak_bytes.map_or("unknown".to_owned(), |bytes| format!("{} MB", bytes / 1_000_000));
        let _ = writeln!(
            text,
            "| {} | {} | {:.1} ms | {:.1} ms | {p50_ms:.2} ms | {:.2} ms | {} | {} | {peak} |",
            overlay.relays,
            overlay.links,
            overlay.full_s * 1e3,
            overlay.elapsed_s * 1e3,
            overlay.update_p99_ms(),
            rival(overlay.dijkstra_s),
            rival(overlay.floyd_warshall_s),
        );
    }
    text
}
