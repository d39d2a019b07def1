//! A fixed swarm: two hundred networks drawn from their seeds, no judge objects to any.

use sim::run_seeds;

const SEEDS: std::ops::Range<u64> = 0..200;

#[test]
fn no_judge_objects_to_any_of_the_seeds() {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let results = run_seeds(SEEDS, jobs, |_| {});
    let bad: Vec<_> = results.iter().filter(|result| !result.is_good()).collect();
    let commands: Vec<_> = bad
        .iter()
        .map(|result| {
            let seed = result.seed;
            format!(
                "cargo run --release --bin sim -- swarm --seeds {seed}..{}\n{:?}",
                seed + 1,
                result.outcome
            )
        })
        .collect();
    assert_eq!(results.len() as u64, SEEDS.end - SEEDS.start);
    assert!(bad.is_empty(), "replay:\n{}", commands.join("\n"));
}

#[test]
fn a_seed_is_the_same_every_time() {
    for seed in [3, 17, 42] {
        assert_eq!(sim::drawn_text(seed), sim::drawn_text(seed));
        let hash = |seed| sim::run_seed(seed).outcome.expect("no panic").0;
        assert_eq!(hash(seed), hash(seed));
    }
}
