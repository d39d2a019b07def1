//! Policies in the life of an overlay: routes of their own, streams that travel by them, and other policies in their place.

mod lab;

use lab::{Lab, ms, stream};
use proptest::prelude::*;
use route_core::{Avoidance, Input, Pin, Place, Policies, Policy, PolicyError, Verdict, Weights};
use std::time::Duration;
use wire_format::control::StreamName;
use wire_format::{NodeIndex, Plane, PolicyIndex, RouteTable};

fn node(name: &str) -> Place {
    Place::Node(name.to_owned())
}

fn pin(path: &[&str]) -> Pin {
    Pin::new(path.iter().map(|&name| name.to_owned()).collect()).expect("a path")
}

fn named(policies: Vec<Policy>) -> Policies {
    Policies::new(policies).expect("legal")
}

/// A policy for `demo`.
fn for_demo(policy: Policy) -> Policies {
    named(vec![Policy { namespaces: vec!["demo".to_owned()], ..policy }])
}

const OWN: u8 = 1;

fn index(number: u8) -> PolicyIndex {
    PolicyIndex::new(number).expect("a policy")
}

/// r1 to r4 by r2 (20 ms), by r3 (30 ms), or by r5 (50 ms).
fn overlay() -> Lab {
    let mut lab = Lab::relays(5);
    for (via, rtt_ms) in [("r2", 10), ("r3", 15), ("r5", 25)] {
        lab.link("r1", via, rtt_ms);
        lab.link(via, "r4", rtt_ms);
    }
    lab.run(ms(4_000));
    assert_eq!(lab.way("r1", "r4"), ["r1", "r2", "r4"]);
    lab
}

fn set(lab: &mut Lab, policies: Policies) {
    lab.input(Input::Policies(policies));
    lab.run(ms(4_000));
}

fn way(lab: &Lab) -> Vec<String> {
    lab.way_by(index(OWN), "r1", "r4")
}

fn newest<'a>(lab: &'a Lab, relay: &str) -> &'a RouteTable {
    lab.stations[relay].tables.last().expect("tables")
}

#[test]
fn each_policy_has_routes_of_its_own_and_one_that_nobody_is_mapped_to_has_none() {
    let mut lab = overlay();
    let forbidding = Policy { forbid: vec![node("r2")], ..Policy::new("own") };
    set(&mut lab, named(vec![forbidding.clone()]));
    assert!(!newest(&lab, "r1").has(index(OWN)), "no namespace is mapped to it");
    set(&mut lab, for_demo(forbidding));
    assert_eq!(way(&lab), ["r1", "r3", "r4"]);
    assert_eq!(lab.way("r1", "r4"), ["r1", "r2", "r4"], "others keep theirs");
    // Forbidden relays are destinations, and send.
    for (from, to) in [("r1", "r2"), ("r2", "r4"), ("r3", "r2")] {
        assert_eq!(lab.way_by(index(OWN), from, to).last().map(String::as_str), Some(to));
    }
    set(&mut lab, Policies::default());
    assert!(!newest(&lab, "r1").has(index(OWN)));
}

#[test]
fn weights_preferences_emergencies_and_pins_turn_routes() {
    let mut lab = overlay();
    for (policy, via) in [
        (Policy { emergency: vec![node("r2")], ..Policy::new("own") }, "r3"),
        (Policy { emergency: vec![node("r2"), node("r3")], ..Policy::new("own") }, "r5"),
        (Policy { emergency: ["r2", "r3", "r5"].map(node).to_vec(), ..Policy::new("own") }, "r2"),
        (Policy { prefer: vec![node("r3")], ..Policy::new("own") }, "r3"),
        (Policy { prefer: vec![node("r3")], prefer_pct: 90, ..Policy::new("own") }, "r2"),
        (Policy { pins: vec![pin(&["r1", "r5", "r4"])], ..Policy::new("own") }, "r5"),
        (Policy::new("own"), "r2"),
    ] {
        set(&mut lab, for_demo(policy.clone()));
        assert_eq!(way(&lab), ["r1", via, "r4"], "{policy:?}");
    }
    // A pin is for its direction, and for as long as it is there.
    set(&mut lab, for_demo(Policy { pins: vec![pin(&["r1", "r5", "r4"])], ..Policy::new("own") }));
    assert_eq!(lab.way_by(index(OWN), "r4", "r1"), ["r4", "r2", "r1"]);
    lab.cut("r5", "r4");
    lab.run(ms(3_000));
    assert_eq!(way(&lab), ["r1", "r2", "r4"]);
}

#[test]
fn forbidding_every_way_leaves_none_and_says_why() {
    let mut lab = overlay();
    set(&mut lab, for_demo(Policy { forbid: ["r2", "r3", "r5"].map(node).to_vec(), ..Policy::new("own") }));
    assert_eq!(way(&lab), ["r1"]);
    let (r1, r4) = (lab.node("r1"), lab.node("r4"));
    let why = lab.controller.why_not(lab.now, index(OWN), (r1, r4), lab.node("r2"));
    assert_eq!(why.verdict, Verdict::Avoided(Avoidance::Forbidden));
    let explained = lab.controller.explain(lab.now, index(OWN), r1, r4);
    assert!(explained.chosen.is_none() && explained.policy == "own");
    assert!(lab.controller.explain(lab.now, PolicyIndex::DEFAULT, r1, r4).chosen.is_some());
}

#[test]
fn a_stream_travels_by_the_policy_of_its_namespace_and_audio_two_ways_if_it_says_so() {
    let mut lab = overlay();
    let name = stream("alice", "video");
    lab.publish("r1", 1, &name);
    lab.subscribe("r4", 1, "demo", "call", None);
    lab.run(ms(1_000));
    let row = |lab: &Lab| lab.row("r1", &name).map(|row| (row.policy, row.protect, row.destinations.len()));
    assert_eq!(row(&lab), Some((PolicyIndex::DEFAULT, false, 1)));
    set(&mut lab, for_demo(Policy { protect_audio: true, ..Policy::new("own") }));
    assert_eq!(row(&lab), Some((index(OWN), false, 1)), "video as before");
    assert_eq!(lab.controller.streams()[0].policy, "own");
    // Only what takes its place is told, and destinations stay while it is.
    let rows = lab.stations["r1"].heard.iter().filter_map(|(_, message)| {
        if let wire_format::control::ToRelay::Stream(entry) = message {
            Some(entry.destinations.len())
        } else {
            None
        }
    });
    assert_eq!(rows.skip_while(|count| *count == 0).filter(|count| *count == 0).count(), 0);
}

#[test]
fn while_a_relay_does_not_know_policies_all_tables_are_of_the_default_one() {
    let mut lab = overlay();
    set(&mut lab, for_demo(Policy { forbid: vec![node("r2")], ..Policy::new("own") }));
    assert_eq!(way(&lab), ["r1", "r3", "r4"]);
    lab.disconnect("r5");
    lab.station("r5").speaks = Some(3);
    lab.connect("r5");
    lab.run(ms(3_000));
    assert!(!lab.controller.policies_are_understood());
    assert!(["r1", "r2", "r3", "r4", "r5"].iter().all(|relay| !newest(&lab, relay).has(index(OWN))));
    assert_eq!(way(&lab), ["r1", "r2", "r4"], "like all others, at every relay");
    lab.disconnect("r5");
    lab.station("r5").speaks = None;
    lab.connect("r5");
    lab.run(ms(3_000));
    assert_eq!(way(&lab), ["r1", "r3", "r4"]);
}

#[test]
fn a_dry_run_tells_what_then_happens() {
    let mut lab = overlay();
    let name = stream("alice", "video");
    lab.publish("r1", 1, &name);
    lab.subscribe("r4", 1, "demo", "call", None);
    lab.run(ms(1_000));
    let policies = for_demo(Policy { forbid: vec![node("r2")], ..Policy::new("own") });
    let told = lab.controller.dry_run(lab.now, &policies);
    assert_eq!(lab.way("r1", "r4"), ["r1", "r2", "r4"], "nothing has changed");
    assert!(told.understood && told.routes_changed == told.routes.len() && told.routes_changed > 0);
    assert_eq!(told.streams.len(), 1);
    assert_eq!((told.streams[0].before.as_str(), told.streams[0].after.as_str()), ("default", "own"));
    let before: Vec<_> = told.routes.iter().map(|route| lab.way(&route.from, &route.to)).collect();
    set(&mut lab, policies.clone());
    for (route, before) in told.routes.iter().zip(before) {
        assert_eq!(route.before.as_ref(), Some(&before), "{route:?}");
        assert_eq!(route.after, Some(lab.way_by(index(OWN), &route.from, &route.to)), "{route:?}");
    }
    // What is not named stays.
    for from in ["r1", "r2", "r3", "r4", "r5"] {
        for to in ["r1", "r2", "r3", "r4", "r5"] {
            if from != to && !told.routes.iter().any(|route| (&*route.from, &*route.to) == (from, to)) {
                assert_eq!(lab.way_by(index(OWN), from, to), lab.way(from, to));
            }
        }
    }
    let again = lab.controller.dry_run(lab.now, &policies);
    assert_eq!((again.routes_changed, again.streams_changed), (0, 0), "{again:?}");
}

#[test]
fn policies_keep_their_numbers_and_history_tells_them_apart() {
    let mut lab = overlay();
    let policy = |name: &str| Policy {
        namespaces: vec![name.to_owned()],
        forbid: vec![node("r2")],
        ..Policy::new(name)
    };
    set(&mut lab, named(vec![policy("one"), policy("two")]));
    let first = lab.epoch().expect("an epoch");
    set(&mut lab, named(vec![policy("zero"), policy("two")]));
    let policies = lab.controller.policies();
    let numbers = ["zero", "two"].map(|name| policies.index(name));
    assert_eq!(numbers, [Some(index(1)), Some(index(2))]);
    lab.cut("r3", "r4");
    lab.run(ms(3_000));
    let last = lab.epoch().expect("an epoch");
    let rows = |policy| lab.controller.routes_diff(policy, first, last).expect("both known").routes;
    assert!(!rows(index(2)).is_empty());
    let own = |policy| {
        rows(policy).into_iter().any(|row| {
            row.plane == Plane::PRIMARY && (row.node.as_str(), row.destination.as_str()) == ("r1", "r4")
        })
    };
    assert!(own(index(2)) && !own(PolicyIndex::DEFAULT), "only those who had gone by r3 turned");
}

#[test]
fn conflicting_pins_are_refused_by_name() {
    let pins = |pins: &[&[&str]]| {
        let policy = Policy { pins: pins.iter().map(|path| pin(path)).collect(), ..Policy::new("own") };
        Policies::new(vec![policy])
    };
    let refused: [&[&[&str]]; 4] = [
        // Two ways between the same ends.
        &[&["a", "b", "d"], &["a", "c", "d"]],
        // A shorter one for the last part.
        &[&["a", "b", "c", "d"], &["b", "d"]],
        // One that is as short by links of both.
        &[&["a", "b", "c", "d"], &["x", "b", "e", "d"]],
        &[&["a", "b", "c"], &["a", "e"], &["e", "c"]],
    ];
    for paths in refused {
        match pins(paths) {
            Err(PolicyError::Conflict { policy, pin, other }) => {
                assert_eq!(policy, "own");
                assert!(pin != other && pin.contains(" > ") && other.contains(" > "), "{pin} {other}");
            }
            outcome => panic!("{paths:?}: {outcome:?}"),
        }
    }
    for paths in [
        &[&["a", "b", "c"][..], &["c", "b", "a"]][..],
        &[&["a", "b", "c", "d"], &["b", "c", "d"]],
        &[&["a", "b", "c"], &["a", "b", "d"]],
        &[&["a", "b"], &["a", "b"]],
    ] {
        assert!(pins(paths).is_ok(), "{paths:?}");
    }
}

#[test]
fn namespaces_travel_by_the_most_particular_pattern() {
    let policy = |name: &str, patterns: &[&str]| Policy {
        namespaces: patterns.iter().map(|&pattern| pattern.to_owned()).collect(),
        ..Policy::new(name)
    };
    let policies =
        named(vec![policy("all", &["*"]), policy("free", &["free-*"]), policy("vip", &["free-vip"])]);
    for (namespace, name) in [("demo", "all"), ("free-1", "free"), ("free-vip", "vip"), ("free", "all")] {
        assert_eq!(policies.policy(policies.of_namespace(namespace)).name, name, "{namespace}");
    }
    let twice = Policies::new(vec![policy("a", &["x"]), policy("b", &["x"])]);
    assert!(matches!(twice, Err(PolicyError::Mapped { .. })), "{twice:?}");
}

/// `demo` by r2; what a loaded link has no room for by r3.
fn relieved() -> Policies {
    let own = Policy {
        namespaces: vec!["demo".to_owned()],
        relief: Some("other".to_owned()),
        weights: Weights { load_pct: 0, ..Weights::default() },
        ..Policy::new("own")
    };
    let other = Policy { weights: Weights { load_pct: 1_000, ..Weights::default() }, ..Policy::new("other") };
    named(vec![own, other])
}

#[test]
fn relief_moves_streams_one_by_one_and_brings_them_back_slowly() {
    let mut lab = overlay();
    set(&mut lab, relieved());
    let names: Vec<StreamName> = (0..10).map(|number| stream("alice", &format!("video-{number}"))).collect();
    for (publication, name) in (1..).zip(&names) {
        lab.publish("r1", publication, name);
    }
    lab.subscribe("r4", 1, "demo", "call", None);
    lab.run(ms(2_000));
    let relieved = |lab: &Lab| lab.controller.streams().iter().filter(|stream| stream.relieved).count();
    // Each stream is a tenth of what the link carries at most, and leaves with its load.
    let mut history = Vec::new();
    let mut most_in_a_minute = 0;
    for second in 0..900 {
        let moved = relieved(&lab);
        if second < 600 {
            lab.load("r1", "r2", 100 * (names.len() - moved) as u64, 1_000);
        } else {
            lab.load("r1", "r2", 0, 1_000);
        }
        lab.run(Duration::from_secs(1));
        history.push(relieved(&lab));
        let counters = lab.controller.status().counters;
        let moves = counters.streams_relieved + counters.streams_returned;
        most_in_a_minute = most_in_a_minute.max(moves);
        assert_eq!(lab.way_by(index(OWN), "r1", "r4"), ["r1", "r2", "r4"], "routes stay");
    }
    let changes = |part: &[usize]| part.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert_eq!(history[60], 2, "until it is below four fifths: {:?}", &history[..60]);
    assert!(changes(&history[..600]) <= 8, "it does not swing: {history:?}");
    assert!(history[..60].windows(2).all(|pair| pair[1] <= pair[0] + 1), "one at a time");
    assert_eq!(history.last(), Some(&0), "when the load is gone all come back");
    let by: Vec<_> = lab.stations["r1"].rows.values().map(|row| row.policy).collect();
    assert!(by.iter().all(|policy| *policy == index(OWN)));
    let counters = lab.controller.status().counters;
    assert_eq!(counters.streams_relieved, counters.streams_returned);
    assert!(most_in_a_minute >= 4);
}

#[test]
fn relief_is_bounded_in_a_minute_whatever_presses() {
    let mut lab = overlay();
    set(&mut lab, relieved());
    for number in 0..60 {
        lab.publish("r1", number + 1, &stream("alice", &format!("video-{number:02}")));
    }
    lab.subscribe("r4", 1, "demo", "call", None);
    lab.load("r1", "r2", 1_000, 1_000);
    lab.load("r2", "r4", 1_000, 1_000);
    let mut moved = Vec::new();
    for _ in 0..180 {
        lab.run(Duration::from_secs(1));
        moved.push(lab.controller.status().counters.streams_relieved);
    }
    assert!(moved.windows(60).all(|minute| minute[59] - minute[0] <= 12), "{moved:?}");
    assert!(moved[179] >= 24, "{moved:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Each policy's tables lead everywhere by themselves, never twice to a relay, and never through one that it forbids.
    #[test]
    fn tables_of_each_policy_are_consistent(
        links in prop::collection::btree_map((0usize..7, 0usize..7), 1u64..60, 8..20),
        forbidden in 0usize..7,
        preferred in 0usize..7,
    ) {
        let mut lab = Lab::relays(7);
        let name = |relay: usize| format!("r{}", relay + 1);
        for ((a, b), rtt_ms) in links.iter().filter(|((a, b), _)| a < b) {
            lab.link(&name(*a), &name(*b), *rtt_ms);
        }
        lab.run(ms(3_000));
        let demo = Policy {
            namespaces: vec!["demo".to_owned()],
            forbid: vec![node(&name(forbidden))],
            prefer: vec![node(&name(preferred))],
            ..Policy::new("own")
        };
        set(&mut lab, named(vec![demo, Policy {
            namespaces: vec!["free".to_owned()],
            emergency: vec![node(&name(forbidden))],
            ..Policy::new("free")
        }]));
        let all: Vec<String> = (0..7).map(name).collect();
        for from in &all {
            for to in all.iter().filter(|to| *to != from) {
                let ways = [0, 1, 2].map(|number| lab.way_by(index(number), from, to));
                for way in &ways {
                    prop_assert!(way.len() < 8, "{way:?} goes round");
                }
                let arrives = |way: &[String]| way.last() == Some(to);
                prop_assert_eq!(arrives(&ways[0]), arrives(&ways[2]), "emergencies are passed where nothing else leads on");
                if arrives(&ways[1]) {
                    prop_assert!(arrives(&ways[0]));
                    prop_assert!(!ways[1][1..ways[1].len() - 1].contains(&all[forbidden]), "{:?}", ways[1]);
                }
            }
        }
        for (relay, station) in &lab.stations {
            let table = station.tables.last().expect("tables");
            for (policy, rows) in table.policies() {
                for (destination, plane) in &rows.backups {
                    prop_assert!(rows.next_hop(*plane, *destination).is_some(), "{relay} {policy} {destination}");
                }
                prop_assert!(rows.next_hops.keys().all(|(_, to)| *to != NodeIndex(u16::MAX)));
            }
        }
    }
}
