//! `sim shrink`, and what it shares with `sim swarm`.

use anyhow::Context as _;
use sim::Shrunk;
use std::io::Write as _;
use std::path::{Path, PathBuf};

pub(crate) const HELP: &str = "\
Whatever can go goes, as long as the judge that objected first still objects, or the same panic comes. What must hold
([expect]) stays. The same scenario and seed shrink to the same. Loss traces and recordings that a scenario names are
looked for from where it is: write beside it what names some.

Examples:
  sim shrink failing.toml --out small.toml
  sim shrink failing.toml --out small.toml --seed 7 --runs 1000

Exit status: 0 when the small scenario is written, 1 when no judge objects to the scenario, 2 for bad arguments.";

/// Runs that one scenario may take.
pub(crate) const RUNS: usize = 300;

#[derive(clap::Args)]
pub(crate) struct ShrinkArgs {
    /// The scenario.
    scenario: PathBuf,
    /// The file to write; one that is there is replaced.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Another seed than the scenario's own.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Runs at most.
    #[arg(long, value_name = "N", default_value_t = RUNS)]
    runs: usize,
}

/// Whether there was something to shrink.
pub(crate) fn run(args: &ShrinkArgs) -> anyhow::Result<bool> {
    let path = &args.scenario;
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let seed = match args.seed {
        Some(seed) => seed,
        None => crate::load(path)?.seed,
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut read = |file: &str| std::fs::read_to_string(folder.join(file));
    let name = path.display().to_string();
    let shrunk = shrink(&name, &text, seed, args.runs, &mut read).with_context(|| name.clone())?;
    let mut out = std::io::stdout().lock();
    let Some(shrunk) = shrunk else {
        writeln!(out, "{name} does not fail with seed {seed}; there is nothing to shrink")?;
        return Ok(false);
    };
    write(&shrunk, &format!("{name}, seed {seed},"), seed, &args.out)?;
    tell(&mut out, &shrunk, seed, &args.out)?;
    Ok(true)
}

/// Shrinks, and says how far it is.
pub(crate) fn shrink(
    name: &str,
    text: &str,
    seed: u64,
    runs_max: usize,
    read: &mut dyn FnMut(&str) -> std::io::Result<String>,
) -> Result<Option<Shrunk>, sim::ScenarioError> {
    // A panic that is looked for need not be told each time.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let shrunk = sim::shrink(text, seed, runs_max, read, &mut |runs, size| {
        // Progress that cannot be shown is no reason to stop.
        let _ = writeln!(std::io::stderr().lock(), "shrinking {name}, run {runs} of {runs_max}: {size}");
    });
    std::panic::set_hook(hook);
    shrunk
}

/// Writes the small scenario, and says in it where it comes from.
pub(crate) fn write(shrunk: &Shrunk, from: &str, seed: u64, to: &Path) -> anyhow::Result<()> {
    let [before, after] = shrunk.sizes;
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!("# Shrunk from {from} by sim {version} in {} runs", shrunk.runs);
    text.push_str(if shrunk.smallest { ".\n" } else { ", of which it had no more.\n" });
    text.push_str(&format!("# Before: {before}.\n# Now:    {after}.\n"));
    for line in shrunk.failure.to_string().lines() {
        text.push_str(&format!("# {line}\n"));
    }
    text.push_str(&format!("# replay: {}\n\n{}", replay(to, seed), shrunk.text));
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    std::fs::write(to, text).with_context(|| format!("cannot write {}", to.display()))
}

/// Says what came of it.
pub(crate) fn tell(
    out: &mut dyn std::io::Write,
    shrunk: &Shrunk,
    seed: u64,
    file: &Path,
) -> std::io::Result<()> {
    let [before, after] = shrunk.sizes;
    let end = if shrunk.smallest { "" } else { " (no more were allowed: it may become smaller yet)" };
    writeln!(out, "shrunk in {} runs{end}", shrunk.runs)?;
    writeln!(out, "  from {before}\n  to   {after}")?;
    writeln!(out, "{}", shrunk.failure)?;
    writeln!(out, "replay: {}", replay(file, seed))
}

/// The one command that shows it.
pub(crate) fn replay(file: &Path, seed: u64) -> String {
    format!("sim run {} --seed {seed}", file.display())
}
