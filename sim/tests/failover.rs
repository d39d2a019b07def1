//! What single failures do to streams, with protection and without.

use sim::{Scenario, failovers};
use std::time::Duration;

fn scenario(text: &str) -> Scenario {
    Scenario::parse(text, &mut |_| unreachable!("names no files")).expect("legal")
}

/// Unprotected: at most 100 ms and half a round trip, which is 130 ms across this world, and an allowance for what is lost besides.
/// Protected: what the other way takes longer, and that is all.
#[test]
fn a_failure_silences_streams_for_a_moment_and_protected_ones_for_none() {
    let scenario = scenario(include_str!("../compare/failover.toml"));
    let failover = failovers(&scenario, 6, 2, |_| {}).expect("there are streams");
    let (links, relays) = failover.failures;
    assert!(links > 0 && relays > 0 && links + relays == 6, "{failover}");
    let [unprotected, protected] = [&failover.unprotected, &failover.protected];
    assert!(
        unprotected.gaps.total() >= 10 && unprotected.gaps.total() == protected.gaps.total(),
        "{failover}"
    );
    let at = |side: &sim::Side, share| side.gaps.quantile(share).expect("some");
    // It shows: what passes what fails is silent.
    assert!(at(unprotected, 0.5) > Duration::from_millis(40), "{failover}");
    assert!(unprotected.gaps.longest() < Duration::from_millis(250), "{failover}");
    assert!(at(protected, 0.5) < Duration::from_millis(10), "{failover}");
    assert!(protected.gaps.longest() < Duration::from_millis(100), "{failover}");
    assert!(protected.heard * 5 <= protected.gaps.total(), "{failover}");
    // The same again, however many work at it.
    let [one, two] = [1, 2].map(|jobs| failovers(&scenario, 1, jobs, |_| {}).expect("as before").json());
    assert_eq!(one, two);
    let page = failover.page(&scenario.name, "sim failover x.toml");
    assert!(page.contains("<svg") && page.contains("sim failover x.toml"));
}

#[test]
fn where_no_stream_passes_a_link_nothing_can_fail() {
    let text = "name = \"alone\"\nrun_for = \"12s\"\n[[relay]]\nname = \"r1\"\n[[client]]\nname = \"a\"\nrelay = \"r1\"\n\
                [[client]]\nname = \"b\"\nrelay = \"r1\"\n[[stream]]\nclient = \"a\"\nroom = \"x\"\nuser = \"u\"\nstream = \"s\"\n\
                kind = \"audio\"\nbursts_per_s = 50\nbytes = 100\n[[subscription]]\nclient = \"b\"\nroom = \"x\"\n\
                [expect]\nrecover_within = \"1s\"\ndelivered_min = 0\n";
    assert!(failovers(&scenario(text), 3, 1, |_| {}).is_none());
}
