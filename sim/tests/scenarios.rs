//! Every scenario of the folder: it says what it proves, no judge objects, and two runs are the same to the last event.

use sim::{Event, Outcome, Scenario};
use std::collections::BTreeMap;
use std::path::PathBuf;

fn scenarios() -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut all: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder of scenarios")
        .map(|entry| entry.expect("an entry of it").path())
        // Those that take minutes are in a folder of their own, and those of flows in another test.
        .filter(|path| path.is_file())
        .map(|path| (path.display().to_string(), std::fs::read_to_string(&path).expect("a scenario")))
        .filter(|(_, text)| !text.contains("\ngrain = \"flow\""))
        .collect();
    all.sort();
    assert!(all.len() >= 3, "{all:?}");
    all
}

fn parse(name: &str, text: &str) -> Scenario {
    let parsed = Scenario::parse(text, &mut |file| panic!("{name} names {file}"));
    parsed.unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn each_says_first_what_it_proves() {
    for (name, text) in scenarios() {
        assert!(text.starts_with("# Proves that "), "{name}");
        let stem = PathBuf::from(&name).file_stem().map(|stem| stem.to_string_lossy().into_owned());
        assert_eq!(Some(parse(&name, &text).name), stem, "a scenario is called like its file");
    }
}

#[test]
fn no_judge_objects_and_two_runs_are_the_same() {
    for (name, text) in scenarios() {
        let scenario = parse(&name, &text);
        let outcome = Outcome::of(&scenario, scenario.seed);
        assert_eq!(outcome.objections, [], "replay: cargo run --release --bin sim -- run {name}");
        let again = sim::run(&scenario, scenario.seed);
        assert_eq!(outcome.trace.hash(), again.hash(), "{name}: two runs of one seed differ");
        let first_difference =
            outcome.trace.events().iter().zip(again.events()).position(|(one, other)| one != other);
        assert_eq!(first_difference, None, "{name}");
    }
}

#[test]
fn the_index_of_a_relay_that_left_is_given_to_the_next() {
    let (name, text) =
        scenarios().into_iter().find(|(name, _)| name.ends_with("index-reuse.toml")).expect("it is there");
    let scenario = parse(&name, &text);
    for seed in 0..8 {
        let trace = sim::run(&scenario, seed);
        let mut indices = BTreeMap::new();
        for (_, event) in trace.events() {
            if let Event::Joined { relay, index } = event {
                indices.insert(scenario.relays[usize::from(relay.0)].name.as_str(), *index);
            }
        }
        assert_eq!(indices["r5"], 4, "seed {seed}: the one that left is still in quarantine: {indices:?}");
        assert_eq!(indices["r6"], indices["r2"], "seed {seed}: {indices:?}");
    }
}

#[test]
fn other_seeds_go_otherwise_and_as_well() {
    for (name, text) in scenarios() {
        let scenario = parse(&name, &text);
        let mut hashes = std::collections::BTreeSet::new();
        for seed in 100..102 {
            let outcome = Outcome::of(&scenario, seed);
            assert_eq!(
                outcome.objections,
                [],
                "replay: cargo run --release --bin sim -- run {name} --seed {seed}"
            );
            hashes.insert(outcome.trace.hash());
        }
        assert_eq!(hashes.len(), 2, "{name}: the seed changes nothing");
    }
}
