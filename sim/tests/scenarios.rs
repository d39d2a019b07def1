//! Every scenario of the folder: it says what it proves, no judge objects, and two runs are the same to the last event.

use sim::{Event, FlowOutcome, Grain, Objection, Outcome, Scenario};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

fn scenarios() -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut all: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder of scenarios")
        .map(|entry| entry.expect("an entry of it").path())
        // Those that take minutes are in a folder of their own.
        .filter(|path| path.is_file())
        .map(|path| (path.display().to_string(), std::fs::read_to_string(&path).expect("a scenario")))
        .collect();
    all.sort();
    assert!(all.len() >= 3, "{all:?}");
    all
}

/// `None`, and a loud word, where a scenario needs measured data that is not there.
fn parse(name: &str, text: &str) -> Option<Scenario> {
    let needs_data = text.contains("\nmatrix = ") || text.contains("\nbackbone = ");
    if needs_data && std::env::var_os(sim::DATA).is_none() {
        assert!(std::env::var_os("CI").is_none(), "{name} needs {}", sim::DATA);
        let _ = writeln!(std::io::stderr(), "SKIPPED: {name} needs {}", sim::DATA);
        return None;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let parsed = Scenario::parse(text, &mut |file| sim::read_named(&folder, file));
    Some(parsed.unwrap_or_else(|error| panic!("{name}: {error}")))
}

/// What the judges say, and the hash.
fn play(scenario: &Scenario, seed: u64) -> (Vec<Objection>, String) {
    match scenario.grain {
        Grain::Packet => {
            let outcome = Outcome::of(scenario, seed);
            let hash = outcome.trace.hash();
            (outcome.objections, format!("{hash:016x}"))
        }
        Grain::Flow => {
            let outcome = FlowOutcome::of(scenario, seed, &mut |_| ());
            (outcome.objections, outcome.trace_hash)
        }
    }
}

#[test]
fn each_says_first_what_it_proves() {
    for (name, text) in scenarios() {
        assert!(text.starts_with("# Proves that "), "{name}");
        let stem = PathBuf::from(&name).file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let Some(scenario) = parse(&name, &text) else { continue };
        assert_eq!(Some(scenario.name), stem, "a scenario is called like its file");
    }
}

#[test]
fn no_judge_objects_and_two_runs_are_the_same() {
    for (name, text) in scenarios() {
        let Some(scenario) = parse(&name, &text) else { continue };
        let (objections, hash) = play(&scenario, scenario.seed);
        assert_eq!(objections, [], "replay: cargo run --release --bin sim -- run {name}");
        if scenario.grain == Grain::Flow {
            assert_eq!(play(&scenario, scenario.seed).1, hash, "{name}: two runs of one seed differ");
            continue;
        }
        let again = sim::run(&scenario, scenario.seed);
        assert_eq!(format!("{:016x}", again.hash()), hash, "{name}: two runs of one seed differ");
    }
}

#[test]
fn the_index_of_a_relay_that_left_is_given_to_the_next() {
    let (name, text) =
        scenarios().into_iter().find(|(name, _)| name.ends_with("index-reuse.toml")).expect("it is there");
    let scenario = parse(&name, &text).expect("it names no file");
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
        let Some(scenario) = parse(&name, &text) else { continue };
        let mut hashes = std::collections::BTreeSet::new();
        for seed in 100..102 {
            let (objections, hash) = play(&scenario, seed);
            assert_eq!(objections, [], "replay: cargo run --release --bin sim -- run {name} --seed {seed}");
            hashes.insert(hash);
        }
        assert_eq!(hashes.len(), 2, "{name}: the seed changes nothing");
    }
}
