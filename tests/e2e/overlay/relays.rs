//! `relayctl dev` as a library: every packet of the recording arrives over every topology, and again after a relay or a
//! link has died.

use relayctl::dev::{Kill, Options, Outcome, Topology, Victim, run};
use std::time::Duration;

async fn watch(options: Options) -> Outcome {
    run(&options).await.expect("it runs")
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Everything that was sent has arrived, once and whole, and it was about as much as the recording holds.
fn assert_complete(outcome: &Outcome, seconds: u64) {
    let summary = &outcome.summary;
    assert!(outcome.success, "{summary:?}");
    assert_eq!(summary.delivered, summary.sent, "{summary:?}");
    assert_eq!((summary.lost, summary.duplicated, summary.corrupted), (0, 0, 0), "{summary:?}");
    assert_eq!(summary.residual_loss, 0.0, "{summary:?}");
    // 838 packets in three seconds.
    let expected = 838 * seconds / 3;
    assert!(summary.sent.abs_diff(expected) < expected / 8, "{summary:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_packet_crosses_a_line_of_four() {
    let options = Options { topology: Topology::Line, duration: Some(seconds(3)), ..Options::default() };
    let outcome = watch(options).await;
    assert_complete(&outcome, 3);
    assert_eq!(outcome.summary.path, ["r1", "r2", "r3", "r4"]);
    assert!(outcome.summary.latency_us.p50 >= 30_000, "three links of 10 ms: {:?}", outcome.summary);
    assert_eq!(outcome.summary.control.path_changes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_packet_crosses_a_ring_the_short_way() {
    let options = Options { topology: Topology::Ring, duration: Some(seconds(3)), ..Options::default() };
    let outcome = watch(options).await;
    assert_complete(&outcome, 3);
    assert_eq!(outcome.summary.path, ["r1", "r2", "r3", "r4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_packet_crosses_a_mesh_over_a_transit() {
    let outcome = watch(Options { duration: Some(seconds(3)), ..Options::default() }).await;
    assert_complete(&outcome, 3);
    assert_eq!(outcome.summary.path, ["r1", "r2", "r4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_relay_and_a_single_hop_are_overlays_too() {
    for (relays, path) in [(1, &["r1"][..]), (2, &["r1", "r2"])] {
        let options =
            Options { relays, topology: Topology::Line, duration: Some(seconds(2)), ..Options::default() };
        let outcome = watch(options).await;
        assert_complete(&outcome, 2);
        assert_eq!(outcome.summary.path, path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_transit_is_replaced() {
    let kill = Kill { victim: Victim::Transit, at: seconds(2) };
    let outcome =
        watch(Options { duration: Some(seconds(6)), kills: vec![kill], ..Options::default() }).await;
    let summary = &outcome.summary;
    assert!(outcome.success, "{summary:?}");
    assert_eq!(summary.path, ["r1", "r3", "r4"]);
    assert!(summary.gap_ms <= 150, "{summary:?}");
    assert_eq!((summary.duplicated, summary.corrupted), (0, 0), "{summary:?}");
    assert!(summary.control.path_changes >= 1, "{summary:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_transit_costs_a_protected_call_nothing() {
    let kill = Kill { victim: Victim::Transit, at: seconds(2) };
    let options = Options {
        relays: 6,
        duration: Some(seconds(6)),
        kills: vec![kill],
        protect: true,
        ..Options::default()
    };
    let outcome = watch(options).await;
    let summary = &outcome.summary;
    assert!(outcome.success, "{summary:?}");
    assert!(summary.sent > 0 && summary.path.len() >= 3, "{summary:?}");
    assert_eq!((summary.lost, summary.duplicated, summary.corrupted), (0, 0, 0), "{summary:?}");
    assert!(summary.gap_ms <= 150, "{summary:?}");
    let protection = summary.protection.as_ref().expect("it was asked for");
    assert_eq!(protection.streams, 2, "{summary:?}");
    // The first tables may be of an overlay whose links were not all up.
    assert!(protection.second_copies > summary.sent / 2, "{summary:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_falls_silent_is_withdrawn() {
    let mut no_file = |_: &str| Err(std::io::ErrorKind::NotFound.into());
    let down = link_model::LinkOption::parse("r1-r2:down@2s", &mut no_file).expect("legal");
    let outcome =
        watch(Options { duration: Some(seconds(6)), links: vec![down], ..Options::default() }).await;
    let summary = &outcome.summary;
    assert!(outcome.success, "{summary:?}");
    assert_eq!(summary.path, ["r1", "r3", "r4"]);
    // 100 ms of silence make it suspect, and traffic moves at once.
    assert!(summary.gap_ms <= 300, "{summary:?}");
    assert_eq!((summary.duplicated, summary.corrupted), (0, 0), "{summary:?}");
}
