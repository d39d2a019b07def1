//! Scenarios at flow grain: the figures that routes are held to on measured networks, and what must hold of any network.
//! Data is found through `CASCADE_DATA`; without it what needs it says so and is skipped.

use sim::{FlowOutcome, Grain, Scenario};
use std::io::Write as _;
use std::path::Path;

/// `None`, and a loud word, where a scenario needs measured data that is not there.
fn scenario(name: &str) -> Option<Scenario> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let text = std::fs::read_to_string(folder.join(format!("{name}.toml"))).expect("a scenario");
    assert!(text.starts_with("# Proves that "), "{name}");
    if text.contains("\nmatrix = ") && std::env::var_os(sim::DATA).is_none() {
        let _ = writeln!(std::io::stderr(), "SKIPPED: {name} needs {}", sim::DATA);
        return None;
    }
    let scenario = parse(&text, &folder);
    assert_eq!(name.rsplit('/').next(), Some(scenario.name.as_str()), "a scenario is called like its file");
    assert_eq!(scenario.grain, Grain::Flow, "{name}");
    Some(scenario)
}

fn parse(text: &str, folder: &Path) -> Scenario {
    let parsed = Scenario::parse(text, &mut |file| sim::read_named(folder, file));
    parsed.unwrap_or_else(|error| panic!("{error}"))
}

/// Plays it; no judge objects.
fn play(name: &str) -> Option<FlowOutcome> {
    let outcome = FlowOutcome::of(&scenario(name)?, 1, &mut |_| ());
    let _ = writeln!(std::io::stderr(), "{outcome}");
    assert_eq!(
        outcome.objections,
        [],
        "replay: cargo run --release --bin sim -- run sim/scenarios/{name}.toml"
    );
    Some(outcome)
}

#[test]
fn routes_find_what_measured_cities_have_to_give() {
    let Some(outcome) = play("cities-measured") else { return };
    assert_eq!(outcome.relays, 217);
    assert!(outcome.routes.gain_pct >= 29.0, "{:?}", outcome.routes);
}

#[test]
fn false_reports_attract_nothing() {
    let Some(outcome) = play("cities-false") else { return };
    assert!((outcome.routes.gain_pct - 29.3).abs() <= 1.0, "{:?}", outcome.routes);
}

#[test]
fn no_gain_is_claimed_on_one_clouds_backbone() {
    let Some(outcome) = play("cloud-backbone") else { return };
    assert!(outcome.routes.gain_pct < 1.05, "{:?}", outcome.routes);
}

#[test]
fn routes_follow_a_network_that_changes() {
    let Some(outcome) = play("slices") else { return };
    assert!(outcome.routes.oracle_kept_pct >= 75.0 && outcome.routes.worse_pct < 2.0, "{:?}", outcome.routes);
    assert!(outcome.routes.changes_per_hour_pct > 1.0, "the slices differ: {:?}", outcome.routes);
}

#[test]
fn calls_of_a_model_world_are_served_through_failures() {
    let outcome = play("world-calls").expect("it needs no data");
    assert!(outcome.deliveries > 100_000 && outcome.unserved_pct < 1.0, "{outcome}");
    assert!(outcome.delay_us.p95 < outcome.direct_us.p95, "{outcome}");
}

#[test]
fn long_scenarios_are_legal() {
    for name in ["long/slices-all", "long/world-day"] {
        let _ = scenario(name);
    }
}

#[test]
fn two_runs_of_a_seed_are_the_same_and_another_seed_is_not() {
    let text = "name = \"small\"\ngrain = \"flow\"\nrun_for = \"3m\"\nsample_every = \"10s\"\n[topology]\nworld = true\n\
                relays = 12\n[[rooms]]\nname = \"call\"\ncount = 5\nusers = \"3\"\nstay = \"40s\"\n[[fault]]\nat = \"60s\"\n\
                until = \"90s\"\ncrash = \"controller\"\n";
    let scenario = parse(text, Path::new("."));
    let run = |seed| FlowOutcome::of(&scenario, seed, &mut |_| ());
    let (one, again, other) = (run(1), run(1), run(2));
    assert_eq!(one.json(), again.json());
    assert_eq!(one.objections, []);
    assert_ne!(one.trace_hash, other.trace_hash);
}

#[test]
fn a_partition_that_stays_is_objected_to() {
    // The judge of reachability sees what really happens: the only link of a relay is gone, and nobody says so in time.
    let text = "name = \"apart\"\ngrain = \"flow\"\nrun_for = \"3m\"\nsample_every = \"10s\"\n[[relay]]\nname = \"a\"\n\
                [[relay]]\nname = \"b\"\n[[relay]]\nname = \"c\"\n[[link]]\nbetween = \"a-b\"\nis = \"delay=10ms\"\n\
                [[link]]\nbetween = \"b-c\"\nis = \"delay=10ms\"\n[[client]]\nname = \"x\"\nrelay = \"a\"\n[[client]]\n\
                name = \"y\"\nrelay = \"c\"\n[[stream]]\nclient = \"x\"\nroom = \"r\"\nuser = \"u\"\nstream = \"s\"\n\
                kind = \"audio\"\nbursts_per_s = 50\nbytes = 100\n[[subscription]]\nclient = \"y\"\nroom = \"r\"\n";
    let whole = FlowOutcome::of(&parse(text, Path::new(".")), 1, &mut |_| ());
    assert_eq!((whole.objections.len(), whole.unserved_pct), (0, 0.0), "{whole}");
    let late = format!("{text}[[link]]\nbetween = \"b-c\"\nis = \"down\"\nfrom = \"60s\"\n");
    let apart = FlowOutcome::of(&parse(&late, Path::new(".")), 1, &mut |_| ());
    assert!(apart.objections.iter().any(|objection| objection.judge == "complete"), "{apart}");
}
