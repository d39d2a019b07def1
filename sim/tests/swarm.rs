//! A fixed swarm: two hundred networks drawn from their seeds, no judge objects to any. In four parts, so that they run
//! beside each other.

use sim::{Regression, Scenario, failures_of, run_seeds};
use std::ops::Range;

fn nobody_objects(seeds: Range<u64>) {
    let results = run_seeds(seeds.clone(), 1, |_| {});
    assert_eq!(results.len() as u64, seeds.end - seeds.start);
    let delivering =
        results.iter().filter(|result| result.outcome.as_ref().is_ok_and(|o| o.delivered > 0)).count();
    assert!(
        delivering * 10 >= results.len() * 8,
        "only {delivering} of {} seeds deliver anything",
        results.len()
    );
    let bad = results.iter().filter(|result| !result.is_good());
    let replays: Vec<_> = bad
        .map(|result| {
            let (from, to) = (result.seed, result.seed + 1);
            format!("cargo run --release --bin sim -- swarm --seeds {from}..{to}\n{:?}", result.outcome)
        })
        .collect();
    assert!(replays.is_empty(), "replay:\n{}", replays.join("\n"));
}

#[test]
fn seeds_0_to_50() {
    nobody_objects(0..50);
}

#[test]
fn seeds_50_to_100() {
    nobody_objects(50..100);
}

#[test]
fn seeds_100_to_150() {
    nobody_objects(100..150);
}

#[test]
fn seeds_150_to_200() {
    nobody_objects(150..200);
}

/// Every scenario of the list was drawn from a seed once, and an objection to it was right.
#[test]
fn what_swarms_have_found_stays_mended() {
    let here = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let list = std::fs::read_to_string(here.join("regressions.txt")).expect("the list");
    assert!(list.starts_with(Regression::HEAD));
    let list = Regression::list(&list).expect("a list");
    let mut files: Vec<_> = std::fs::read_dir(here.join("tests/seeds"))
        .expect("the folder of seeds")
        .map(|entry| format!("tests/seeds/{}", entry.expect("an entry of it").file_name().display()))
        .collect();
    files.sort();
    let mut listed: Vec<_> = list.iter().map(|regression| regression.file.clone()).collect();
    listed.sort();
    assert_eq!(listed, files, "the list names what is in the folder, and nothing else");
    for Regression { seed, file, version: _ } in list {
        let text = std::fs::read_to_string(here.join(&file)).expect("a scenario");
        assert!(text.starts_with("# Once "), "{file} says what was wrong");
        let scenario = Scenario::parse(&text, &mut |_| unreachable!("drawn scenarios name no files"))
            .unwrap_or_else(|error| panic!("{file}: {error}"));
        let failures = failures_of(&scenario, seed);
        assert_eq!(failures, [], "replay: cargo run --release --bin sim -- run sim/{file} --seed {seed}");
    }
}

#[test]
fn a_seed_is_the_same_every_time() {
    for seed in [3, 17, 42] {
        assert_eq!(sim::drawn_text(seed), sim::drawn_text(seed));
        let hash = |seed| sim::run_seed(seed).outcome.expect("no panic").hash;
        assert_eq!(hash(seed), hash(seed));
    }
}
