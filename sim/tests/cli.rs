//! What scripts rely on: seed, trace hash, exit status.

use std::process::{Command, Output};

fn sim(arguments: &[&str]) -> Output {
    let folder = env!("CARGO_MANIFEST_DIR");
    Command::new(env!("CARGO_BIN_EXE_sim")).args(arguments).current_dir(folder).output().expect("sim starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The line that holds the hash, which must be alone on it.
fn hash(output: &Output) -> String {
    let out = text(&output.stdout);
    let line = out.lines().find(|line| line.starts_with("trace hash: ")).unwrap_or_else(|| panic!("{out}"));
    let digits = line.trim_start_matches("trace hash: ");
    assert!(digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()), "{line}");
    digits.to_owned()
}

#[test]
fn a_run_prints_seed_and_hash_and_the_same_again() {
    let one = sim(&["run", "scenarios/line.toml"]);
    let other = sim(&["run", "scenarios/line.toml", "--seed", "1"]);
    assert_eq!(one.status.code(), Some(0), "{}", text(&one.stdout));
    assert!(text(&one.stdout).lines().any(|line| line == "seed: 1"));
    assert_eq!(hash(&one), hash(&other), "1 is the seed of a scenario that names none");
    assert_ne!(hash(&one), hash(&sim(&["run", "scenarios/line.toml", "--seed", "2"])));
}

#[test]
fn json_is_the_last_line() {
    let output = sim(&["run", "scenarios/line.toml", "--json"]);
    let out = text(&output.stdout);
    let json: serde_json::Value = serde_json::from_str(out.lines().last().expect("a line")).expect("JSON");
    assert_eq!(json["trace_hash"], hash(&output));
    assert_eq!(json["objections"].as_array().map(Vec::len), Some(0));
    assert!(json["delivered"].as_u64() > Some(1_000));
}

#[test]
fn an_objection_is_status_1_and_names_the_judge() {
    let text_of = include_str!("../scenarios/line.toml").replace("gap_max = \"100ms\"", "gap_max = \"1ms\"");
    let folder = std::env::temp_dir().join(format!("cascade-sim-cli-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for a scenario");
    let path = folder.join("impossible.toml");
    std::fs::write(&path, text_of).expect("a scenario");
    let output = sim(&["run", &path.display().to_string()]);
    std::fs::remove_dir_all(&folder).expect("it was made above");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("OBJECTION of complete at "), "{}", text(&output.stdout));
}

#[test]
fn bad_arguments_are_status_2() {
    for arguments in
        [&["run", "nowhere.toml"][..], &["swarm", "--seeds", "5"], &["swarm", "--seeds", "5..5"], &["walk"]]
    {
        let output = sim(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
    assert!(text(&sim(&["run", "nowhere.toml"]).stderr).contains("cannot read nowhere.toml"));
}

#[test]
fn a_swarm_prints_every_seed_with_its_hash() {
    let output = sim(&["swarm", "--seeds", "3..5", "--jobs", "2"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let out = text(&output.stdout);
    assert_eq!(out.lines().filter(|line| line.starts_with("trace hash: ")).count(), 2);
    assert!(
        out.contains("seed: 3\n")
            && out.contains("seed: 4\n")
            && out.contains("2 seeds, ")
            && out.contains(" 0 failed")
    );
    assert!(text(&output.stderr).contains("2 of 2 seeds"), "progress");
    assert!(text(&sim(&["swarm", "--seeds", "3..4", "--show"]).stdout).contains("name = \"swarm-3\""));
}
