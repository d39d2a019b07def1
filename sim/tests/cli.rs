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

/// A judge that always objects leaves little of a scenario, the same each time, and the one command that is printed shows it.
#[test]
fn what_fails_is_shrunk_to_a_file_that_fails_for_the_same_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let drawn = text(&sim(&["swarm", "--seeds", "42..43", "--show"]).stdout);
    let failing = drawn.trim_end().to_owned() + "\ngap_max = \"1ms\"\n";
    std::fs::write(path("failing.toml"), &failing).expect("written");
    let shrink = |to: &str| sim(&["shrink", &path("failing.toml"), "--out", &path(to), "--runs", "120"]);
    let output = shrink("small.toml");
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{out}{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("of 120: "), "progress");
    let small = std::fs::read_to_string(path("small.toml")).expect("written");
    let count = |text: &str, head: &str| text.lines().filter(|line| *line == head).count();
    assert!(small.contains("seed 42, by sim ") && small.contains("# OBJECTION of complete at "), "{small}");
    for (head, most) in [
        ("[[relay]]", 2),
        ("[[link]]", 1),
        ("[[client]]", 2),
        ("[[stream]]", 1),
        ("[[subscription]]", 1),
        ("[[fault]]", 0),
    ] {
        assert!(
            count(&small, head) <= most,
            "{head}: {} of {}\n{small}",
            count(&small, head),
            count(&failing, head)
        );
    }
    let replay = out.lines().last().expect("a line").strip_prefix("replay: sim ").expect("the command");
    let replayed = sim(&replay.split(' ').collect::<Vec<_>>());
    assert_eq!(replayed.status.code(), Some(1));
    assert!(text(&replayed.stdout).contains("OBJECTION of complete at "));
    shrink("again.toml");
    let again = std::fs::read_to_string(path("again.toml")).expect("written");
    assert_eq!(small.replace("small.toml", "again.toml"), again);
    // What does not fail is left alone.
    let output = sim(&["shrink", "scenarios/line.toml", "--out", &path("line.toml")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("does not fail with seed 1"));
}

#[test]
fn a_swarm_replays_its_regressions() {
    let folder = tempfile::tempdir().expect("a folder");
    let list = folder.path().join("list.txt").display().to_string();
    let good = include_str!("../scenarios/line.toml");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    write("good.toml", good);
    write("bad.toml", &good.replace("gap_max = \"100ms\"", "gap_max = \"1ms\""));
    write("list.txt", "# found\n1 0.1.0 good.toml\n");
    let replayed = sim(&["swarm", "--regressions", &list]);
    assert_eq!(replayed.status.code(), Some(0), "{}", text(&replayed.stderr));
    assert!(text(&replayed.stdout).contains("1 regressions, 0 failed"));
    write("list.txt", "1 0.1.0 good.toml\n9 0.1.0 bad.toml\n");
    let replayed = sim(&["swarm", "--seeds", "3..4", "--regressions", &list]);
    assert_eq!(replayed.status.code(), Some(1));
    let out = text(&replayed.stdout);
    assert!(out.contains("bad.toml: OBJECTION of complete") && out.contains("bad.toml --seed 9\n"), "{out}");
    assert!(out.contains("2 regressions, 1 failed") && out.contains("1 seeds, "), "{out}");
    for (line, told) in [("1 0.1.0 gone.toml", "names gone.toml"), ("one 0.1.0 good.toml", "line 1 is")] {
        write("list.txt", line);
        let refused = sim(&["swarm", "--regressions", &list]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(text(&refused.stderr).contains(told), "{}", text(&refused.stderr));
    }
}
