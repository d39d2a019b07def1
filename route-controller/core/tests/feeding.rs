//! Relays that receive a stream feed others: who is chosen, and that nobody misses a packet when that changes.

mod lab;

use lab::{Lab, ms, stream};
use proptest::prelude::*;
use route_core::{FeedView, StreamView};
use std::collections::BTreeSet;
use wire_format::control::{LinkState, PublicationReport, ToController, ToRelay};
use wire_format::{MediaKind, PublicationId};

/// Frankfurt, London, New York, Boston, São Paulo: the last is nearer to New York than to Europe.
const CITIES: [(&str, &str, u64); 10] = [
    ("fra", "lon", 14),
    ("fra", "nyc", 84),
    ("fra", "bos", 92),
    ("fra", "sao", 200),
    ("lon", "nyc", 76),
    ("lon", "bos", 84),
    ("lon", "sao", 190),
    ("nyc", "bos", 10),
    ("nyc", "sao", 116),
    ("bos", "sao", 124),
];

fn cities() -> Lab {
    let mut lab = Lab::new();
    for city in ["fra", "lon", "nyc", "bos", "sao"] {
        lab.connect(city);
    }
    lab.run(ms(100));
    lab.chain(&CITIES);
    lab.run(ms(5_000));
    lab
}

fn view(lab: &Lab) -> StreamView {
    lab.controller.streams().pop().expect("one stream")
}

/// Egress and feeder of each feed.
fn feeds(lab: &Lab) -> Vec<(String, String)> {
    view(lab).feeds.into_iter().map(|feed| (feed.egress, feed.feeder)).collect()
}

fn feed(lab: &Lab, egress: &str) -> FeedView {
    view(lab).feeds.into_iter().find(|feed| feed.egress == egress).expect("it is fed")
}

/// Relays that get the stream of `ingress` by the rows that relays hold.
fn reached(lab: &Lab, ingress: &str) -> BTreeSet<String> {
    let camera = stream("alice", "camera");
    let mut reached = BTreeSet::from([ingress.to_owned()]);
    let mut open = vec![ingress.to_owned()];
    while let Some(relay) = open.pop() {
        for next in lab.stamped(&relay, &camera) {
            if reached.insert(next.to_owned()) {
                open.push(next.to_owned());
            }
        }
    }
    reached
}

/// Lets time pass; whoever was reached and is subscribed stays reached, all the time.
fn run_whole(lab: &mut Lab, time_ms: u64, stay: &[&str]) {
    for _ in 0..time_ms {
        lab.run(ms(1));
        let reached = reached(lab, "fra");
        for relay in stay {
            assert!(reached.contains(*relay), "{relay} is cut off: {reached:?}");
        }
    }
}

fn call(lab: &mut Lab, egresses: &[&str]) {
    lab.publish("fra", 1, &stream("alice", "camera"));
    for egress in egresses {
        lab.subscribe(egress, 7, "demo", "call", None);
        lab.run(ms(50));
    }
    lab.run(ms(5_000));
}

#[test]
fn one_copy_crosses_the_ocean() {
    let mut lab = cities();
    call(&mut lab, &["nyc", "bos", "lon", "sao"]);
    let expected = [("lon", "fra"), ("nyc", "fra"), ("bos", "nyc"), ("sao", "nyc")];
    assert_eq!(feeds(&lab), expected.map(|(egress, feeder)| (egress.to_owned(), feeder.to_owned())));
    let boston = feed(&lab, "bos");
    assert_eq!((boston.holders, boston.former), (1, None));
    assert!(boston.delay_us.zip(boston.direct_us).is_some_and(|(by, direct)| by <= direct * 6 / 5));
    let quality = view(&lab).quality;
    assert_eq!((quality.copies, quality.copies_bound), (4, 4));
    assert!(
        quality.haul_us_bound <= quality.haul_us && quality.haul_us < quality.haul_us_direct * 6 / 10,
        "{quality:?}"
    );
    assert_eq!(lab.stamped("nyc", &stream("alice", "camera")), ["bos", "sao"]);
}

#[test]
fn the_first_to_come_need_not_stay_what_feeds_the_rest() {
    let mut lab = cities();
    // Boston is there first and is fed from Europe; New York comes by way of it, for a while.
    call(&mut lab, &["bos", "nyc", "sao"]);
    run_whole(&mut lab, 6_000, &["bos", "nyc", "sao"]);
    let quality = view(&lab).quality;
    assert!(quality.haul_us < quality.haul_us_direct * 6 / 10, "{quality:?} {:?}", feeds(&lab));
}

#[test]
fn where_links_are_short_the_ingress_feeds_everyone() {
    let mut lab = Lab::relays(4);
    lab.chain(&[
        ("r1", "r2", 10),
        ("r1", "r3", 10),
        ("r1", "r4", 12),
        ("r2", "r3", 4),
        ("r2", "r4", 4),
        ("r3", "r4", 4),
    ]);
    lab.run(ms(2_000));
    lab.publish("r1", 1, &stream("alice", "camera"));
    for egress in ["r2", "r3", "r4"] {
        lab.subscribe(egress, 7, "demo", "call", None);
    }
    lab.run(ms(5_000));
    assert!(feeds(&lab).iter().all(|(_, feeder)| feeder == "r1"), "{:?}", feeds(&lab));
}

#[test]
fn a_way_that_is_much_longer_is_none() {
    let mut lab = Lab::relays(3);
    // By r2 it would take twice as long, however dear the second copy is.
    lab.chain(&[("r1", "r2", 100), ("r1", "r3", 110), ("r2", "r3", 100)]);
    lab.run(ms(2_000));
    lab.publish("r1", 1, &stream("alice", "camera"));
    for egress in ["r2", "r3"] {
        lab.subscribe(egress, 7, "demo", "call", None);
        lab.run(ms(50));
    }
    lab.run(ms(5_000));
    assert_eq!(feed(&lab, "r3").feeder, "r1");
}

#[test]
fn relays_of_older_versions_feed_nobody() {
    let mut lab = cities();
    lab.disconnect("nyc");
    lab.station("nyc").old = true;
    lab.run(ms(100));
    lab.connect("nyc");
    lab.run(ms(2_000));
    call(&mut lab, &["nyc", "bos"]);
    assert!(feeds(&lab).iter().all(|(_, feeder)| feeder == "fra"), "{:?}", feeds(&lab));
}

#[test]
fn a_protected_stream_hangs_on_no_holder() {
    let mut lab = cities();
    let report = PublicationReport {
        publication: PublicationId(1),
        name: stream("alice", "camera"),
        kind: MediaKind::Video,
        granted: None,
        protect: true,
        publisher: None,
    };
    lab.say("fra", ToController::Published(report));
    for egress in ["nyc", "bos"] {
        lab.subscribe(egress, 7, "demo", "call", None);
    }
    lab.run(ms(5_000));
    assert!(feeds(&lab).iter().all(|(_, feeder)| feeder == "fra"));
}

#[test]
fn a_holder_that_nobody_watches_at_goes_when_those_behind_it_have_another() {
    let mut lab = cities();
    call(&mut lab, &["nyc", "bos", "sao"]);
    let camera = stream("alice", "camera");
    assert_eq!(lab.stamped("nyc", &camera), ["bos", "sao"]);
    lab.unsubscribe("nyc", 7);
    run_whole(&mut lab, 400, &["bos", "sao", "nyc"]);
    assert!(lab.row("nyc", &camera).is_some(), "it passes on what is under way");
    run_whole(&mut lab, 6_000, &["bos", "sao"]);
    assert!(lab.row("nyc", &camera).is_none(), "then it has nothing to do with the stream");
    assert!(!lab.stamped("fra", &camera).contains(&"nyc"));
}

#[test]
fn a_new_feeder_stamps_for_a_while_before_the_former_stops() {
    let mut lab = cities();
    call(&mut lab, &["nyc", "bos"]);
    let camera = stream("alice", "camera");
    let since = lab.now;
    lab.unsubscribe("nyc", 7);
    lab.run(ms(3_000));
    let told = |relay: &str, named: bool| {
        let heard = lab.stations[relay].heard.iter().filter(|(at, _)| *at > since);
        let mut heard = heard.filter_map(|(at, message)| {
            let says = if let ToRelay::Stream(row) = message {
                row.name == camera && row.destinations.contains(&lab.node("bos")) == named
            } else {
                matches!(message, ToRelay::StreamGone { .. }) && !named
            };
            says.then_some(*at)
        });
        heard.next().expect("it was told")
    };
    assert!(told("nyc", false).since(told("fra", true)) >= ms(500), "packets may be under way as long");
}

#[test]
fn a_holder_that_leaves_or_is_cordoned_is_relieved_first() {
    for cordon in [true, false] {
        let mut lab = cities();
        call(&mut lab, &["nyc", "bos", "sao"]);
        if cordon {
            lab.input(route_core::Input::Cordon { name: "nyc".into(), cordoned: true });
        } else {
            lab.say("nyc", ToController::Goodbye);
        }
        run_whole(&mut lab, 3_000, &["bos", "sao", "nyc"]);
        assert!(feeds(&lab).iter().all(|(_, feeder)| feeder != "nyc"), "{:?}", feeds(&lab));
        assert!(lab.stamped("nyc", &stream("alice", "camera")).is_empty());
    }
}

#[test]
fn a_holder_that_dies_is_replaced_when_its_neighbours_miss_it() {
    let mut lab = cities();
    call(&mut lab, &["nyc", "bos", "sao"]);
    let camera = stream("alice", "camera");
    // One neighbour alone may be deaf itself.
    lab.set_link_end("fra", "nyc", LinkState::Suspect);
    lab.run(ms(20));
    assert_eq!(lab.stamped("fra", &camera), ["nyc"]);
    // Two of four are not: the others' links may be idle, and notice late.
    lab.set_link_end("bos", "nyc", LinkState::Suspect);
    lab.run(ms(5));
    let stamped = lab.stamped("fra", &camera).len() + lab.stamped("bos", &camera).len();
    assert_eq!(stamped, 3, "a way to the controller and back later the others have another feeder");
    // It was a false alarm: it feeds nobody again until it has been well for a while, and there is no to and fro.
    for neighbour in ["fra", "bos"] {
        lab.set_link_end(neighbour, "nyc", LinkState::Up);
    }
    lab.run(ms(5_000));
    assert!(lab.stamped("nyc", &camera).is_empty());
}

#[test]
fn a_holder_whose_session_breaks_is_replaced_when_anyone_misses_it() {
    let mut lab = cities();
    call(&mut lab, &["nyc", "bos", "sao"]);
    let camera = stream("alice", "camera");
    // A session alone says nothing: media does not depend on it.
    lab.disconnect("nyc");
    lab.run(ms(1_000));
    assert_eq!(lab.stamped("nyc", &camera), ["bos", "sao"]);
    assert_eq!(lab.stamped("fra", &camera), ["nyc"]);
    lab.set_link_end("fra", "nyc", LinkState::Suspect);
    lab.run(ms(5));
    let stamped = lab.stamped("fra", &camera).len() + lab.stamped("bos", &camera).len();
    assert_eq!(stamped, 3);
}

#[test]
fn a_holder_that_starts_anew_feeds_again_what_it_fed() {
    let mut lab = cities();
    call(&mut lab, &["nyc", "bos"]);
    let camera = stream("alice", "camera");
    lab.disconnect("nyc");
    lab.station("nyc").rows.clear();
    lab.connect("nyc");
    lab.run(ms(20));
    assert!(reached(&lab, "fra").contains("bos"), "by one or the other");
    run_whole(&mut lab, 5_000, &["bos", "nyc"]);
    assert!(lab.row("bos", &camera).is_some());
}

#[test]
fn a_controller_that_starts_anew_breaks_nothing() {
    for order in [
        ["fra", "nyc", "bos", "sao", "lon"],
        ["sao", "bos", "nyc", "lon", "fra"],
        ["bos", "fra", "sao", "lon", "nyc"],
    ] {
        let mut lab = cities();
        call(&mut lab, &["nyc", "bos", "sao"]);
        lab.restart_controller(2);
        for relay in order {
            lab.connect(relay);
            run_whole(&mut lab, 300, &["nyc", "bos", "sao"]);
        }
        run_whole(&mut lab, 8_000, &["nyc", "bos", "sao"]);
        assert_eq!(feeds(&lab).len(), 3, "{order:?}");
        let quality = view(&lab).quality;
        assert!(quality.haul_us < quality.haul_us_direct * 7 / 10, "{order:?} {quality:?} {:?}", feeds(&lab));
    }
}

#[test]
fn another_feeder_is_taken_only_for_a_gain_and_not_too_often() {
    let mut lab = cities();
    call(&mut lab, &["nyc", "bos", "sao"]);
    let camera = stream("alice", "camera");
    let moves = |lab: &Lab| {
        let rows = lab.stations["sao"].heard.len() + lab.stations["nyc"].heard.len();
        (rows, feeds(lab))
    };
    let (_, before) = moves(&lab);
    // A little more here, a little less there.
    lab.link("nyc", "sao", 120);
    lab.run(ms(20_000));
    assert_eq!(feeds(&lab), before);
    // America is far away from São Paulo now, and London is not, by which the ingress itself reaches it.
    lab.link("bos", "sao", 200);
    lab.link("nyc", "sao", 190);
    lab.link("lon", "sao", 110);
    run_whole(&mut lab, 40_000, &["nyc", "bos", "sao"]);
    assert_eq!(feed(&lab, "sao").feeder, "fra");
    // To and fro for five minutes.
    let since = lab.now;
    for turn in 0..30 {
        let (near, far) = if turn % 2 == 0 { ("nyc", "lon") } else { ("lon", "nyc") };
        lab.link(near, "sao", 90);
        lab.link(far, "sao", 190);
        lab.run(ms(10_000));
    }
    let rows = ["nyc", "bos", "fra"].map(|relay| {
        let heard = lab.stations[relay].heard.iter().filter(|(at, _)| *at > since);
        heard.filter(|(_, message)| matches!(message, ToRelay::Stream(row) if row.name == camera)).count()
    });
    // Each change takes two rows or three.
    assert!(rows.iter().sum::<usize>() <= 3 * 6 * 5, "{rows:?}");
}

#[derive(Clone, Debug)]
enum Step {
    Subscribe(usize),
    Unsubscribe(usize),
    Goodbye(usize),
    Cordon(usize, bool),
    Missed(usize, bool),
    Reconnect(usize, bool),
    Restart,
    Reprice(usize, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0usize..5).prop_map(Step::Subscribe),
        3 => (0usize..5).prop_map(Step::Unsubscribe),
        1 => (1usize..5).prop_map(Step::Goodbye),
        2 => ((1usize..5), any::<bool>()).prop_map(|(city, on)| Step::Cordon(city, on)),
        2 => ((1usize..5), any::<bool>()).prop_map(|(city, on)| Step::Missed(city, on)),
        2 => ((1usize..5), any::<bool>()).prop_map(|(city, empty)| Step::Reconnect(city, empty)),
        1 => Just(Step::Restart),
        3 => ((0usize..10), 4u64..200).prop_map(|(link, rtt)| Step::Reprice(link, rtt)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_feeding_is_a_tree_that_reaches_everyone(
        steps in prop::collection::vec((step(), 1u64..3_000), 1..24)
    ) {
        const NAMES: [&str; 5] = ["fra", "lon", "nyc", "bos", "sao"];
        let mut lab = cities();
        lab.publish("fra", 1, &stream("alice", "camera"));
        let mut term = 1;
        for (step, pause) in steps {
            match step {
                Step::Subscribe(city) => lab.subscribe(NAMES[city], 7, "demo", "call", None),
                Step::Unsubscribe(city) => lab.unsubscribe(NAMES[city], 7),
                Step::Goodbye(city) => lab.say(NAMES[city], ToController::Goodbye),
                Step::Cordon(city, cordoned) => {
                    lab.input(route_core::Input::Cordon { name: NAMES[city].into(), cordoned });
                }
                Step::Missed(city, missed) => {
                    let state = if missed { LinkState::Suspect } else { LinkState::Up };
                    for other in NAMES.iter().filter(|other| **other != NAMES[city]) {
                        lab.set_link_end(other, NAMES[city], state);
                    }
                }
                Step::Reconnect(city, empty) => {
                    lab.disconnect(NAMES[city]);
                    if empty {
                        lab.station(NAMES[city]).rows.clear();
                    }
                    lab.connect(NAMES[city]);
                }
                Step::Restart => {
                    term += 1;
                    lab.restart_controller(term);
                    NAMES.iter().for_each(|city| lab.connect(city));
                }
                Step::Reprice(link, rtt) => {
                    let (a, b, _) = CITIES[link];
                    lab.link(a, b, rtt);
                }
            }
            lab.run(ms(pause));
        }
        // Everything is well again.
        for city in NAMES {
            for other in NAMES.iter().filter(|other| **other != city) {
                lab.set_link_end(other, city, LinkState::Up);
            }
        }
        lab.run(ms(70_000));
        let wanted: BTreeSet<String> = NAMES
            .iter()
            .filter(|city| **city != "fra" && !lab.stations[**city].subscriptions.is_empty())
            .map(|city| (*city).to_owned())
            .collect();
        let feeds = feeds(&lab);
        prop_assert_eq!(feeds.iter().map(|(egress, _)| egress.clone()).collect::<BTreeSet<_>>(), wanted.clone());
        let mut reached = reached(&lab, "fra");
        reached.remove("fra");
        prop_assert_eq!(&reached, &wanted, "{:?}", feeds);
        // One feeder each, by the rows that relays hold.
        for egress in &wanted {
            let camera = stream("alice", "camera");
            let stampers = NAMES.iter().filter(|relay| lab.stamped(relay, &camera).contains(&egress.as_str()));
            prop_assert_eq!(stampers.count(), 1);
        }
        for city in NAMES {
            let row = lab.row(city, &stream("alice", "camera"));
            let concerned = wanted.contains(city)
                || city == "fra" && (!wanted.is_empty() || !lab.stations["fra"].subscriptions.is_empty());
            prop_assert_eq!(row.is_some(), concerned, "{}", city);
        }
    }
}
