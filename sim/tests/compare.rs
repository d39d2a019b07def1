//! `sim compare`: what differs is found, what does not is not, and the same input gives the same bytes.

use sim::{Comparison, METRICS, Plan, Scenario, compare, comparison_json, page, table};
use std::process::{Command, Output};

/// Two relays so far apart, a client at each, a voice from one to the other; the link loses some.
fn scenario(delay_ms: u32) -> Scenario {
    let text = format!(
        "name = \"near & <far>\"\nrun_for = \"5s\"\n[[relay]]\nname = \"r1\"\nregion = \"eu\"\nposition = [50.0, 0.0]\n\
         [[relay]]\nname = \"r2\"\nregion = \"us\"\nposition = [40.0, -70.0]\n\
         [[link]]\nbetween = \"r1-r2\"\nis = \"delay={delay_ms}ms,jitter=1ms,loss=2%\"\n\
         [[client]]\nname = \"a\"\nrelay = \"r1\"\n[[client]]\nname = \"b\"\nrelay = \"r2\"\n\
         [[stream]]\nclient = \"a\"\nroom = \"r\"\nuser = \"u\"\nstream = \"s\"\nkind = \"audio\"\nbursts_per_s = 50\nbytes = 120\n\
         [[subscription]]\nclient = \"b\"\nroom = \"r\"\n[[price]]\nfrom = \"eu\"\nto = \"us\"\ncents_per_gb = 10\n\
         [[policy]]\nname = \"other\"\nnamespaces = [\"nobody\"]\n\
         [expect]\nrecover_within = \"2s\"\ndelivered_min = 0\n"
    );
    Scenario::parse(&text, &mut |_| unreachable!("no file")).expect("legal")
}

fn compared(a: u32, b: Option<u32>, baselines: bool, jobs: usize) -> Comparison {
    let side = |delay_ms| (format!("{delay_ms} ms"), scenario(delay_ms));
    compare(&Plan::new(side(a), b.map(side), baselines, 1..5), jobs, |_, _| {})
}

/// A figure's difference of the first two that are held against each other: what it is in the mean, and whether it is significant.
fn difference(comparison: &Comparison, key: &str) -> (f64, bool) {
    let row = METRICS.iter().position(|metric| metric.key == key).expect("a key");
    let difference = comparison.versus[0].differences[row].expect("both have it");
    (difference.mean, difference.is_significant())
}

#[test]
fn a_slower_link_is_found_and_the_same_link_is_no_difference() {
    let slower = compared(30, Some(50), false, 2);
    let (ms, significant) = difference(&slower, "delay_p50_ms");
    assert!(significant && (ms - 20.0).abs() < 0.5, "{ms}");
    assert!(table(&slower).contains("* worse"), "{}", table(&slower));
    let same = compared(30, Some(30), false, 2);
    for (metric, difference) in METRICS.iter().zip(&same.versus[0].differences) {
        let Some(difference) = difference else { continue };
        assert_eq!((difference.mean, difference.is_significant()), (0.0, false), "{}", metric.key);
    }
    assert!(page(&same, "").contains("nothing of this differs significantly over 4 seeds"));
}

#[test]
fn figures_are_those_of_the_scenario() {
    let comparison = compared(30, None, true, 2);
    let figure = |label: &str, key: &str| {
        let measured = comparison.measured.iter().find(|measured| measured.variant.label == label);
        let metric = METRICS.iter().find(|metric| metric.key == key).expect("a key");
        measured.expect("a label").mean(metric)
    };
    for label in ["A", "direct", "tree"] {
        // Due from 2 s to 4 s, 50 packets a second; 30 ms, up to 1 of jitter, and 1 ms at either end.
        let delay = figure(label, "delay_p50_ms").expect("packets");
        assert!((32.0..33.3).contains(&delay), "{label}: {delay}");
        // Each packet crosses one link once.
        assert_eq!(figure(label, "copies"), Some(1.0), "{label}");
        assert_eq!(figure(label, "failover_p50_ms"), None, "nothing is disturbed");
        assert_eq!(figure(label, "route_changes"), Some(0.0), "{label}");
    }
    for measured in &comparison.measured {
        for run in &measured.runs {
            assert_eq!((run.due, run.due - run.lost, run.violations.len()), (100, run.delivered, 0));
            // 10 cents for each 10^9 bytes from one region to the other; the way back is free.
            let there = run.links.values().map(|load| load.bytes()).max().expect("links");
            assert!((run.dollars - there as f64 * 1e-10).abs() < 1e-15);
        }
    }
    // One link is all there is: every way of routing is the same way, and loses the same.
    assert_eq!(figure("A", "lost_pct"), figure("direct", "lost_pct"));
}

#[test]
fn the_same_input_gives_the_same_bytes_and_a_page_needs_nothing_else() {
    let (one, other) = (compared(30, Some(50), true, 1), compared(30, Some(50), true, 4));
    assert_eq!(comparison_json(&one), comparison_json(&other));
    assert_eq!(table(&one), table(&other));
    let html = page(&one, "sim compare a.toml b.toml");
    assert_eq!(html, page(&other, "sim compare a.toml b.toml"));
    for foreign in ["http:", "https:", "<script", "url(", "<link", "@import", "src="] {
        assert!(!html.contains(foreign), "{foreign}");
    }
    for part in [
        "Delay",
        "Failover",
        "Residual loss",
        "Load of links",
        "Price",
        "prefers-color-scheme",
        "sim compare a.toml b.toml",
    ] {
        assert!(html.contains(part), "{part}");
    }
    assert!(!html.contains("NaN") && !html.contains("inf\""), "{html}");
    assert_eq!(html.matches("<svg ").count(), html.matches("</svg>").count());
    // Four maps, of places, and names that HTML would misread.
    let named = "<title>r1</title>";
    assert_eq!(html.matches(named).count(), 4);
    let json: serde_json::Value = serde_json::from_str(&comparison_json(&one)).expect("JSON");
    assert_eq!(json["variants"].as_array().map(Vec::len), Some(4));
    assert_eq!(json["comparisons"][0]["metrics"]["delay_p50_ms"]["significant"], true);
    assert!(
        page(&one, "a < b").contains("<pre>a &lt; b</pre>")
            && html.contains("scenario near &amp; &lt;far&gt;")
    );
}

#[test]
fn without_positions_relays_are_laid_out_by_their_round_trips() {
    let text = include_str!("../scenarios/ring-cut.toml");
    let ring = Scenario::parse(text, &mut |_| unreachable!("no file")).expect("legal");
    let plan = Plan::new(("ring".to_owned(), ring), None, true, 1..2);
    let html = page(&compare(&plan, 2, |_, _| {}), "");
    assert!(html.contains("as far from each other as their round trips say"));
    assert!(!html.contains("NaN"));
    // One run proves nothing, and a cut is seen.
    assert!(
        html.contains("nothing of this differs significantly over 1 seeds") && !html.contains("&#9733;</")
    );
    assert!(!html.contains("Nothing is disturbed"));
}

fn sim(arguments: &[&str]) -> Output {
    let folder = env!("CARGO_MANIFEST_DIR");
    Command::new(env!("CARGO_BIN_EXE_sim")).args(arguments).current_dir(folder).output().expect("sim starts")
}

#[test]
fn the_command_writes_a_page_and_ends_with_json() {
    let folder = std::env::temp_dir().join(format!("cascade-sim-compare-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for a page");
    let out = folder.join("page.html");
    let line = "scenarios/line.toml";
    let file = out.display().to_string();
    let output = sim(&["compare", line, "--seeds", "1..3", "--no-baselines", "--out", &file, "--json"]);
    let page = std::fs::read_to_string(&out).expect("a page");
    std::fs::remove_dir_all(&folder).expect("it was made above");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    let words = String::from_utf8_lossy(&output.stdout);
    let json: serde_json::Value = serde_json::from_str(words.lines().last().expect("a line")).expect("JSON");
    assert_eq!((&json["seeds"][1], &json["variants"][0]["scenario"]), (&3.into(), &"line".into()));
    assert!(String::from_utf8_lossy(&output.stderr).contains("run 2 of 2: A, seed "), "progress");
}

#[test]
fn examples_are_legal_and_policies_are_found_by_name() {
    let output = sim(&["compare", "compare/oceans.toml", "--policy", "thrifty", "--policy", "cheap"]);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{complaint}");
    assert!(complaint.contains("there is no policy \"cheap\"; there are default, thrifty"), "{complaint}");
    let slow = include_str!("../compare/oceans-slow.toml");
    let slow = Scenario::parse(slow, &mut |_| unreachable!("no file")).expect("legal");
    let thrifty = slow.under_policy("thrifty").expect("it is there");
    assert!(
        thrifty.policies.index("thrifty").is_some_and(|index| thrifty.policies.of_namespace("any") == index)
    );
}

#[test]
fn mistakes_are_status_2_and_say_what_to_do() {
    let line = "scenarios/line.toml";
    for (arguments, words) in [
        (&["compare", "nowhere.toml"][..], "cannot read nowhere.toml"),
        (&["compare", line, "--seeds", "5..5"], "is no range of seeds"),
        (
            &["compare", line, "--policy", "a", "--policy", "b", "--policy", "c"],
            "give --policy once or twice",
        ),
        (
            &["compare", line, line, "--policy", "default", "--policy", "default"],
            "give one scenario and two policies",
        ),
        (&["compare", line, "--out", "no/such/folder/page.html"], "cannot be written"),
        (&["run", line, "--routing", "around"], "overlay, direct and tree are possible"),
    ] {
        let output = sim(arguments);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{complaint}");
        assert!(complaint.contains(words), "{complaint}");
    }
}

/// What baselines lead is judged as well.
#[test]
fn nobody_objects_to_baselines_where_nothing_goes_wrong() {
    for routing in ["direct", "tree"] {
        let output = sim(&["run", "scenarios/line.toml", "--routing", routing]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    }
}
