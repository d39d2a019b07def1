//! A fixed swarm: two hundred networks drawn from their seeds, no judge objects to any. In four parts, so that they run
//! beside each other.

use sim::run_seeds;
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

/// Loops through tables of two ages: a relay that the controller cannot reach, a controller that died between two phases,
/// two urgent epochs in a row.
#[test]
fn seeds_that_once_looped() {
    for seed in [2062, 2168, 2194, 2341, 2403, 2552, 2761] {
        nobody_objects(seed..seed + 1);
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
