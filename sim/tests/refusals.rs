//! Scenarios that are wrong are refused, in words that help.

use sim::Scenario;

fn refusal(change: impl Fn(&str) -> String) -> String {
    let text = change(include_str!("../scenarios/line.toml"));
    let parsed = Scenario::parse(&text, &mut |_| Err(std::io::Error::other("no such file")));
    parsed.expect_err("it is wrong").to_string()
}

#[test]
fn mistakes_are_named() {
    let table: [(&str, &str, &str); 15] = [
        ("run_for", "runfor", "unknown key `runfor` in the scenario; did you mean `run_for`? Keys are name,"),
        ("region = \"eu\"", "regoin = \"eu\"", "unknown key `regoin` in [[relay]]; did you mean `region`?"),
        (
            "run_for = \"8s\"",
            "run_for = \"8s\"\nrouting = \"around\"",
            "the scenario: routing = \"around\": overlay, direct and tree are possible",
        ),
        ("gap_max", "gapmax", "unknown key `gapmax` in [expect]; did you mean `gap_max`?"),
        ("run_for = \"8s\"", "run_for = \"8\"", "run_for = \"8\": expected a time"),
        ("run_for = \"8s\"", "run_for = \"1s\"", "run_for = \"1s\": 2s to 3600s are possible"),
        ("run_for = \"8s\"", "run_for = 8", "expected a string"),
        (
            "relay = \"r1\"",
            "relay = \"r9\"",
            "[[client]]: there is no relay \"r9\"; there are r1, r2, r3, r4",
        ),
        ("client = \"sfu-a\"", "client = \"sfu-x\"", "there is no client \"sfu-x\"; there are sfu-a, sfu-b"),
        ("name = \"r2\"", "name = \"r1\"", "two hosts are called \"r1\""),
        (
            "between = \"r1-r2\"",
            "between = \"r1-r9\"",
            "selector \"r1-r9\" names no link between two of r1, r2",
        ),
        ("jitter=1ms\"", "jiter=1ms\"", "unknown key \"jiter\"; did you mean \"jitter\"?"),
        ("jitter=1ms\"", "loss=trace:x\"", "loss=trace:x: no such file"),
        ("bytes = 160", "bytes = 9000", "bytes = \"9000\": 20 to "),
        ("from = \"2s\"", "from = \"20s\"", "the end comes after the beginning"),
    ];
    for (from, to, message) in table {
        let refusal = refusal(|text| {
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1)
        });
        assert!(refusal.contains(message), "{to}: {refusal}");
    }
}

#[test]
fn a_fault_says_exactly_what_goes_wrong() {
    for fault in ["at = \"1s\"", "at = \"1s\"\ncut = \"r1-r2\"\ncrash = \"r1\""] {
        let refusal = refusal(|text| format!("{text}\n[[fault]]\n{fault}\n"));
        assert!(
            refusal.contains("exactly one of cut, crash, leave, isolate, mute, freeze, hostile and drain"),
            "{refusal}"
        );
    }
    let refusal = refusal(|text| format!("{text}\n[[fault]]\nat = \"2s\"\nuntil = \"1s\"\ncrash = \"r1\"\n"));
    assert!(refusal.contains("until = \"1s\": must be later than `at`"), "{refusal}");
}
