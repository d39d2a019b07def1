//! `sim swarm`.

use crate::shrink;
use anyhow::Context as _;
use sim::{Regression, SwarmResult};
use std::io::Write;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

pub(crate) const HELP: &str = "\
A seed that fails is shrunk to a small scenario, which is written to the folder of failures and printed with the command that
replays it. With a list of regressions, all that it names is run first, and what fails now is added to it.

Examples:
  sim swarm --seeds 0..200 --jobs 4
  sim swarm --seeds 17..18 --show > seventeen.toml
  sim swarm --seeds 0..1000 --regressions sim/regressions.txt
  sim swarm --seeds 1000..9000 --regressions sim/regressions.txt --failures sim/tests/seeds

Exit status: 0 when nothing fails, 1 otherwise, 2 for bad arguments.";

/// Failing seeds that are shrunk. Where more fail, they mostly do for the same reason.
const SHRUNK_MAX: usize = 5;

#[derive(clap::Args)]
pub(crate) struct SwarmArgs {
    /// From the first seed to before the last.
    #[arg(long, value_name = "A..B", value_parser = seeds, required_unless_present = "regressions")]
    seeds: Option<Range<u64>>,
    /// Runs at the same time; by default as many as the machine has cores.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Do not run: print the scenarios.
    #[arg(long)]
    show: bool,
    /// Where small scenarios of failing seeds are written.
    #[arg(long, value_name = "DIR", default_value = "sim-failures")]
    failures: PathBuf,
    /// Runs that shrinking one seed may take; with 0 nothing is shrunk.
    #[arg(long, value_name = "N", default_value_t = shrink::RUNS)]
    shrink_runs: usize,
    /// A list of what was found before.
    #[arg(long, value_name = "FILE")]
    regressions: Option<PathBuf>,
}

/// Whether nothing fails.
pub(crate) fn run(args: &SwarmArgs) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    let seeds = args.seeds.clone().unwrap_or(0..0);
    if args.show {
        for seed in seeds {
            writeln!(out, "{}", sim::drawn_text(seed))?;
        }
        return Ok(true);
    }
    let known = args.regressions.as_deref().map(|list| replayed(&mut out, list)).transpose()?;
    if seeds.is_empty() {
        return Ok(known == Some(0));
    }
    let jobs = super::jobs(args.jobs);
    let results = results(seeds, jobs);
    let mut failed = 0;
    for result in &results {
        if let Ok(outcome) = &result.outcome {
            writeln!(out, "seed: {}", result.seed)?;
            writeln!(out, "trace hash: {:016x}", outcome.hash)?;
        }
        if !result.is_good() {
            failed += 1;
            let shrinks = failed <= SHRUNK_MAX && args.shrink_runs > 0;
            let scenario = shrinks.then(|| sim::drawn_text(result.seed));
            failing(&mut out, args, result, scenario.as_deref())?;
        }
    }
    let delivered: usize =
        results.iter().flat_map(|result| &result.outcome).map(|outcome| outcome.delivered).sum();
    writeln!(out, "{} seeds, {delivered} packets delivered, {failed} failed", results.len())?;
    Ok(failed == 0 && known.unwrap_or(0) == 0)
}

fn results(seeds: Range<u64>, jobs: usize) -> Vec<SwarmResult> {
    let count = seeds.end - seeds.start;
    let done = std::sync::atomic::AtomicU64::new(0);
    sim::run_seeds(seeds, jobs, |result| {
        let done = 1 + done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut progress = std::io::stderr().lock();
        // Progress that cannot be shown is no reason to stop.
        let _ = match result.is_good() {
            true if done.is_multiple_of(10) || done == count => writeln!(progress, "{done} of {count} seeds"),
            true => Ok(()),
            false => writeln!(progress, "seed {} failed", result.seed),
        };
    })
}

/// Says what is wrong with a seed, and makes its scenario small, if it is given, and keeps it.
fn failing(
    out: &mut dyn Write,
    args: &SwarmArgs,
    result: &SwarmResult,
    scenario: Option<&str>,
) -> anyhow::Result<()> {
    let seed = result.seed;
    match &result.outcome {
        Ok(outcome) => {
            for objection in &outcome.objections {
                writeln!(out, "OBJECTION of {objection}")?;
            }
        }
        Err(panic) => writeln!(out, "PANIC with seed {seed}: {panic}")?,
    }
    let Some(scenario) = scenario else {
        writeln!(out, "replay: sim swarm --seeds {seed}..{} --shrink-runs 0", seed + 1)?;
        return Ok(());
    };
    let mut no_files = |_: &str| -> std::io::Result<String> { unreachable!("what is drawn names no files") };
    let name = format!("the scenario of seed {seed}");
    let shrunk = shrink::shrink(&name, scenario, seed, args.shrink_runs, &mut no_files)?
        .with_context(|| format!("{name} failed once and does not fail again: runs differ"))?;
    let file = args.failures.join(format!("seed-{seed}.toml"));
    shrink::write(&shrunk, &name, seed, &file)?;
    shrink::tell(out, &shrunk, seed, &file)?;
    match &args.regressions {
        Some(list) => Ok(add(list, seed, &file)?),
        None => Ok(()),
    }
}

/// Runs all that a list names; returns how much of it fails.
fn replayed(out: &mut dyn Write, list: &Path) -> anyhow::Result<usize> {
    let regressions = read(list)?;
    let mut failed = 0;
    for regression in &regressions {
        let file = folder(list).join(&regression.file);
        let named = || format!("{} names {}", list.display(), regression.file);
        let scenario = crate::load(&file).with_context(named)?;
        let failures = sim::failures_of(&scenario, regression.seed);
        for failure in &failures {
            writeln!(out, "{}: {failure}", file.display())?;
        }
        if !failures.is_empty() {
            failed += 1;
            writeln!(out, "replay: {}", shrink::replay(&file, regression.seed))?;
        }
    }
    writeln!(out, "{} regressions, {failed} failed", regressions.len())?;
    Ok(failed)
}

fn read(list: &Path) -> anyhow::Result<Vec<Regression>> {
    let text = std::fs::read_to_string(list).with_context(|| format!("cannot read {}", list.display()))?;
    Regression::list(&text).with_context(|| list.display().to_string())
}

/// Adds a line, unless there is one of that scenario.
fn add(list: &Path, seed: u64, file: &Path) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", list.display());
    let from = std::path::absolute(folder(list)).with_context(failed)?;
    let file = relative(&from, &std::path::absolute(file).with_context(failed)?);
    if read(list)?.iter().any(|known| known.file == file) {
        return Ok(());
    }
    let line = Regression { seed, version: env!("CARGO_PKG_VERSION").to_owned(), file };
    let mut end = std::fs::OpenOptions::new().append(true).open(list).with_context(failed)?;
    writeln!(end, "{line}").with_context(failed)
}

fn folder(list: &Path) -> &Path {
    list.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The way from a folder to a file, both absolute.
fn relative(from: &Path, to: &Path) -> String {
    let parts = |path: &Path| -> Vec<String> {
        let parts = path.components().filter(|part| *part != Component::CurDir);
        parts.map(|part| part.as_os_str().to_string_lossy().into_owned()).collect()
    };
    let (from, to) = (parts(from), parts(to));
    let same = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
    let up = from.iter().skip(same).map(|_| "..");
    up.chain(to.iter().skip(same).map(String::as_str)).collect::<Vec<_>>().join("/")
}

pub(crate) fn seeds(text: &str) -> Result<Range<u64>, String> {
    let parsed =
        text.split_once("..").and_then(|(from, to)| Some(from.trim().parse().ok()?..to.trim().parse().ok()?));
    let expected =
        || format!("{text:?} is no range of seeds; expected for instance 0..200, where 200 is not run");
    parsed.filter(|range: &Range<u64>| range.start < range.end).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(folder: &Path) -> SwarmArgs {
        SwarmArgs {
            seeds: Some(3..4),
            jobs: Some(1),
            show: false,
            failures: folder.join("found"),
            shrink_runs: 1,
            regressions: Some(folder.join("regressions.txt")),
        }
    }

    #[test]
    fn a_list_grows_by_what_is_found_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let list = folder.path().join("regressions.txt");
        std::fs::write(&list, Regression::HEAD).expect("written");
        let file = folder.path().join("found/seed-17.toml");
        for _ in 0..2 {
            add(&list, 17, &file).expect("added");
        }
        let line = Regression {
            seed: 17,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            file: "found/seed-17.toml".to_owned(),
        };
        assert_eq!(read(&list).expect("a list"), [line]);
    }

    #[test]
    fn a_seed_that_does_not_fail_again_is_a_failure_of_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("regressions.txt"), "").expect("written");
        let result = SwarmResult { seed: 3, outcome: Err("once".to_owned()) };
        let mut out = Vec::new();
        let error = failing(&mut out, &args(folder.path()), &result, Some(&sim::drawn_text(3)))
            .expect_err("it is sound");
        assert!(error.to_string().contains("runs differ"), "{error}");
        assert!(String::from_utf8_lossy(&out).starts_with("PANIC with seed 3: once\n"));
        out.clear();
        failing(&mut out, &args(folder.path()), &result, None).expect("told");
        assert!(String::from_utf8_lossy(&out).ends_with("replay: sim swarm --seeds 3..4 --shrink-runs 0\n"));
    }

    #[test]
    fn a_failing_seed_leaves_a_small_scenario_and_a_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let list = folder.path().join("regressions.txt");
        std::fs::write(&list, Regression::HEAD).expect("written");
        // What nobody can do.
        let scenario = sim::drawn_text(3) + "gap_max = \"1ms\"\n";
        let objections = vec!["complete at 2s: silence".to_owned()];
        let outcome = Ok(sim::SeedOutcome { hash: 1, delivered: 1, objections });
        let args = SwarmArgs { shrink_runs: 40, ..args(folder.path()) };
        let mut out = Vec::new();
        failing(&mut out, &args, &SwarmResult { seed: 3, outcome }, Some(&scenario)).expect("it is shrunk");
        let out = String::from_utf8(out).expect("UTF-8");
        let file = folder.path().join("found/seed-3.toml");
        assert!(out.starts_with("OBJECTION of complete at 2s: silence\nshrunk in "), "{out}");
        assert!(out.ends_with(&format!("replay: sim run {} --seed 3\n", file.display())), "{out}");
        assert_eq!(read(&list).expect("a list")[0].file, "found/seed-3.toml");
        let small = std::fs::read_to_string(&file).expect("it was written");
        assert!(small.starts_with("# Shrunk from the scenario of seed 3 by sim "), "{small}");
        let tables = |text: &str| text.matches("[[").count();
        assert!(tables(&small) * 2 < tables(&scenario), "{small}");
        let mut replay = Vec::new();
        assert_eq!(replayed(&mut replay, &list).expect("it runs"), 1);
        let replay = String::from_utf8(replay).expect("UTF-8");
        assert!(
            replay.contains("OBJECTION of complete") && replay.ends_with("1 regressions, 1 failed\n"),
            "{replay}"
        );
    }

    #[test]
    fn ways_between_folders() {
        let way = |from: &str, to: &str| relative(Path::new(from), Path::new(to));
        assert_eq!(way("/a/sim", "/a/sim/tests/seeds/x.toml"), "tests/seeds/x.toml");
        assert_eq!(way("/a/sim", "/a/sim-failures/x.toml"), "../sim-failures/x.toml");
        assert_eq!(way("/a/./sim", "/a/sim/x.toml"), "x.toml");
    }
}
