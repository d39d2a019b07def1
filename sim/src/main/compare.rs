//! `sim compare`.

use anyhow::{Context as _, bail};
use sim::{Comparison, Grain, Plan, Scenario};
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) const HELP: &str = "Baselines are runs of A's network by other routing: straight from ingress to egress (direct), and by a CDN's
tree of two levels (tree). They use the same relays, links, transport and repair; only the routing differs.

Examples:
  sim compare sim/compare/oceans.toml --out page.html
  sim compare sim/compare/oceans.toml sim/compare/oceans-slow.toml --seeds 1..17 --no-baselines
  sim compare sim/compare/oceans.toml --policy default --policy thrifty --out page.html
  sim compare a.toml b.toml --jobs 2 --json | tail -n 1

Exit status: 0 when everything ran, 2 for bad arguments.";

#[derive(clap::Args)]
pub(crate) struct CompareArgs {
    /// A, and what it is compared with: B, another scenario.
    #[arg(value_name = "SCENARIO", num_args = 1..=2, required = true)]
    scenarios: Vec<PathBuf>,
    /// Every namespace of the scenario under this policy; given twice, A is under the first and B under the second.
    #[arg(long = "policy", value_name = "NAME")]
    policies: Vec<String>,
    /// From the first seed to before the last; seeds pair runs.
    #[arg(long, value_name = "A..B", default_value = "1..9", value_parser = super::swarm::seeds)]
    seeds: Range<u64>,
    /// Runs at the same time; by default as many as the machine has cores.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Run A's network straight and by a tree as well; so by default.
    #[arg(long, overrides_with = "no_baselines")]
    baselines: bool,
    /// Compare with nothing but B.
    #[arg(long)]
    no_baselines: bool,
    /// Write a page with plots, which needs nothing beside it.
    #[arg(long, value_name = "FILE.html")]
    out: Option<PathBuf>,
    /// End with one compact JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs, writes and says everything.
pub(crate) fn run(args: &CompareArgs) -> anyhow::Result<bool> {
    let (a, b) = sides(args)?;
    let plan = Plan::new(a, b, !args.no_baselines, args.seeds.clone());
    // A page that cannot be written is known before everything has run.
    if let Some(out) = &args.out {
        super::write_page(out, "")?;
    }
    let jobs = super::jobs(args.jobs);
    let all = plan.variants.len() as u64 * (args.seeds.end - args.seeds.start);
    let done = AtomicUsize::new(0);
    let comparison = sim::compare(&plan, jobs, |variant, seed| {
        let done = 1 + done.fetch_add(1, Ordering::Relaxed);
        // Progress that cannot be shown is no reason to stop.
        let _ = writeln!(std::io::stderr().lock(), "run {done} of {all}: {}, seed {seed}", variant.label);
    });
    warn(&comparison);
    if let Some(out) = &args.out {
        let page = sim::page(&comparison, &command(args));
        super::write_page(out, &page)?;
    }
    let mut out = std::io::stdout().lock();
    write!(out, "{}", sim::table(&comparison))?;
    if args.json {
        writeln!(out, "{}", sim::comparison_json(&comparison))?;
    }
    Ok(true)
}

type Side = (String, Scenario);

/// A, and B if there is one.
fn sides(args: &CompareArgs) -> anyhow::Result<(Side, Option<Side>)> {
    let titled = |path: &Path| {
        let scenario = super::load(path)?;
        if scenario.grain == Grain::Flow {
            bail!(
                "{}: `grain = \"flow\"`: what users go through is measured in packets; take `grain = \"packet\"`",
                path.display()
            );
        }
        anyhow::Ok((scenario.name.clone(), scenario))
    };
    let a = titled(&args.scenarios[0])?;
    let under = |policy: &String, (title, scenario): &Side| {
        let scenario = scenario.under_policy(policy).with_context(|| format!("--policy {policy}"))?;
        anyhow::Ok((format!("{title} under policy {policy}"), scenario))
    };
    match (&args.scenarios[1..], &args.policies[..]) {
        ([], []) => Ok((a, None)),
        ([b], []) => Ok((a, Some(titled(b)?))),
        ([], [x]) => Ok((under(x, &a)?, None)),
        ([], [x, y]) => Ok((under(x, &a)?, Some(under(y, &a)?))),
        ([b], [x]) => Ok((under(x, &a)?, Some(under(x, &titled(b)?)?))),
        ([_], [_, _]) => {
            bail!("two scenarios and two policies: compare scenarios, or give one scenario and two policies")
        }
        _ => bail!("{} policies: give --policy once or twice", args.policies.len()),
    }
}

/// What makes figures doubtful.
fn warn(comparison: &Comparison) {
    for measured in &comparison.measured {
        let label = measured.variant.label;
        let violations: usize = measured.runs.iter().map(|run| run.violations.len()).sum();
        let first = measured.runs.iter().find_map(|run| run.violations.first());
        let mut err = std::io::stderr().lock();
        if let Some(first) = first {
            let _ = writeln!(
                err,
                "warning: {label}: laws broken {violations} times, first by {first}; see `sim run`"
            );
        }
        if measured.runs.iter().all(|run| run.due == 0) {
            let _ = writeln!(
                err,
                "warning: {label}: no packet is due to anybody: streams and subscriptions meet for longer than `join_within` nowhere"
            );
        }
    }
}

/// What gives the same again.
fn command(args: &CompareArgs) -> String {
    let mut words = vec!["sim compare".to_owned()];
    words.extend(args.scenarios.iter().map(|path| path.display().to_string()));
    words.extend(args.policies.iter().map(|policy| format!("--policy {policy}")));
    words.push(format!("--seeds {}..{}", args.seeds.start, args.seeds.end));
    if args.no_baselines {
        words.push("--no-baselines".to_owned());
    }
    words.push("--out page.html".to_owned());
    words.join(" ")
}
