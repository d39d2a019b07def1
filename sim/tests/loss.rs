//! `sim loss`: what it measures can be measured otherwise, and what it prints scripts rely on.

use sim::{Limits, LossRow, RowResult, run_rows};
use std::process::{Command, Output};

fn row(name: &str, hops: u8, link: &str) -> LossRow {
    let (name, link) = (name.to_owned(), link.to_owned());
    LossRow { name, hops, link, budget: "100ms".to_owned(), recording: None, limits: Limits::default() }
}

fn results(rows: &[LossRow], jobs: usize) -> Vec<RowResult> {
    run_rows(rows, 5_000, 3, jobs, &mut |_| Ok(format!("{}1", "0".repeat(49))), |_| {}).expect("legal rows")
}

#[test]
fn every_packet_has_one_fate_and_two_runs_are_the_same() {
    let rows = [
        row("clean", 2, "delay=10ms"),
        row("trace", 1, "delay=10ms,loss=trace:one-in-fifty"),
        row("jitter", 1, "delay=10ms,jitter=150ms"),
    ];
    let all = results(&rows, 2);
    assert_eq!(all, results(&rows, 1), "however many threads");
    for result in &all {
        assert!(result.sent >= 5_000);
        assert_eq!(result.sent, result.delivered + result.late + result.lost, "{result:?}");
        assert_eq!(result.wrong, 0, "{result:?}");
    }
    let [clean, trace, jitter] = &all[..] else { panic!("three rows") };
    assert_eq!((clean.late, clean.lost), (0, 0), "{clean:?}");
    // Alone and well apart, each loss can be repaired within 100 ms on a path of 20.
    assert_eq!((trace.late, trace.bound_pct, trace.bound_by_arrival_pct), (0, 0.0, 0.0), "{trace:?}");
    assert!(jitter.late > 0, "jitter beyond the budget: {jitter:?}");
}

/// Small enough for every run of the tests, with limits that leave room for chance; `sim loss` is for the real ones.
#[test]
fn repair_leaves_little_at_a_price() {
    let limited =
        |name: &str, link: &str, budget: &str, residual_max_pct: f64, overhead_max_pct: f64| LossRow {
            budget: budget.to_owned(),
            limits: Limits {
                residual_max_pct: Some(residual_max_pct),
                overhead_max_pct: Some(overhead_max_pct),
                ..Limits::default()
            },
            ..row(name, 1, link)
        };
    let rows = [
        limited("bursts", "delay=10ms,loss=2%,burst=3", "100ms", 0.02, 7.0),
        limited("many", "delay=20ms,loss=20%", "200ms", 0.1, 42.0),
        limited("none", "delay=20ms", "200ms", 0.0, 2.0),
    ];
    let all = run_rows(&rows, 20_000, 1, 2, &mut |_| unreachable!("no trace"), |_| {}).expect("legal rows");
    for result in &all {
        assert!(result.failures.is_empty(), "{result}");
        assert_eq!(result.links_made, 0, "{result}");
    }
    let [bursts, many, none] = &all[..] else { panic!("three rows") };
    assert!(bursts.repair.recovered > 300 && many.repair.recovered > 3_000, "{bursts}\n{many}");
    assert_eq!((none.repair.retransmitted, none.repair.parity), (0, 0), "nothing lost, nothing sent: {none}");
}

/// Round trips of half a second and more, and budgets for some of them: what may still be asked for is still there.
#[test]
fn where_round_trips_are_long_all_that_fit_are_used() {
    let rows = [("far", "delay=300ms,loss=5%", "2s"), ("often", "delay=150ms,loss=20%", "1500ms")]
        .map(|(name, link, budget)| LossRow { budget: budget.to_owned(), ..row(name, 1, link) });
    let all = run_rows(&rows, 12_000, 1, 2, &mut |_| unreachable!("no trace"), |_| {}).expect("legal rows");
    for result in &all {
        assert!(result.residual_pct < 0.05, "{result}");
        assert!(result.overhead_pct < 45.0, "{result}");
    }
}

fn sim(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    command.args(arguments).env_remove("CASCADE_DATA").output().expect("sim starts")
}

#[test]
fn json_is_the_last_line_and_rows_are_chosen_by_name() {
    let output = sim(&["loss", "--row", "no-loss", "--packets", "1000", "--json"]);
    let out = String::from_utf8_lossy(&output.stdout);
    let json: serde_json::Value = serde_json::from_str(out.lines().last().expect("a line")).expect("JSON");
    assert_eq!(json["rows"].as_array().map(Vec::len), Some(1), "{out}");
    let row = &json["rows"][0];
    assert_eq!(
        (&row["name"], &row["lost"], &row["residual_pct"]),
        (&"no-loss".into(), &0.into(), &0.0.into())
    );
    assert!(row["sent"].as_u64() >= Some(1_000));
    for key in ["bound_pct", "overhead_pct", "overhead_max_pct", "repair", "failures", "links_made"] {
        assert!(!row[key].is_null(), "{key}: {out}");
    }
    let failed = json["failed"].as_u64().expect("a count");
    assert_eq!(output.status.code(), Some(i32::from(failed > 0)), "{out}");
}

#[test]
fn mistakes_are_status_2_and_say_what_to_do() {
    for (arguments, words) in [
        (&["loss", "--row", "nowhere"][..], "rows are rtt20-trace2, rtt40-trace5"),
        (&["loss", "--row", "rtt20-trace2"], "set CASCADE_DATA to the folder of measured data"),
        (&["loss", "--packets", "10"], "--packets"),
    ] {
        let output = sim(arguments);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{complaint}");
        assert!(complaint.contains(words), "{complaint}");
    }
}
