//! Tables over random graphs: no loops, consistent suffixes, and the distances of an independent search.

mod lab;

use lab::{Lab, ms};
use petgraph::graph::{DiGraph, NodeIndex as Place};
use proptest::prelude::*;
use route_core::RouteFilter;
use std::collections::BTreeMap;
use wire_format::Plane;

/// A link: its ends, its round trip in ms, its loss there and back in parts per million.
type Link = (usize, usize, u64, u32, u32);

/// A graph of up to 9 relays: which pairs have a link, with round trip in ms and loss in each direction.
fn graphs() -> impl Strategy<Value = (usize, Vec<Link>)> {
    (2..=9_usize).prop_flat_map(|count| {
        // Few round trips, so that ties are common.
        let link = (0..count, 0..count, 1..6_u64, 0..3_u32, 0..3_u32)
            .prop_map(|(a, b, rtt, out, back)| (a, b, rtt * 10, out * 100_000, back * 100_000));
        (Just(count), proptest::collection::vec(link, 0..30))
    })
}

fn lab_of(count: usize, links: &[Link]) -> Lab {
    let mut lab = Lab::relays(count);
    let name = |i: &usize| format!("r{}", i + 1);
    for (a, b, rtt_ms, loss_out, loss_back) in links.iter().filter(|(a, b, ..)| a != b) {
        let (a, b) = (name(a), name(b));
        let up = wire_format::control::LinkState::Up;
        lab.station(&a).links.insert(b.clone(), (up, ms(*rtt_ms), *loss_out));
        lab.station(&b).links.insert(a, (up, ms(*rtt_ms), *loss_back));
    }
    lab.run(ms(5_000));
    lab
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn tables_are_shortest_paths((count, links) in graphs()) {
        let lab = lab_of(count, &links);
        let mut oracle = DiGraph::<(), u64>::new();
        let places: Vec<Place> = (0..count).map(|_| oracle.add_node(())).collect();
        for link in lab.controller.links(lab.now) {
            let cost_us = link.cost_us.expect("all links are up");
            prop_assert!(cost_us > 0);
            let (from, to) = (places[usize::from(link.from_node.0)], places[usize::from(link.to_node.0)]);
            oracle.add_edge(from, to, cost_us);
        }
        let primary = RouteFilter { plane: Some(Plane::PRIMARY), ..RouteFilter::default() };
        let rows = lab.controller.routes(lab.now, primary);
        let paths: BTreeMap<_, _> =
            rows.iter().map(|row| ((row.node.clone(), row.destination.clone()), row)).collect();
        for from in 0..count {
            let distances = petgraph::algo::dijkstra(&oracle, places[from], None, |edge| *edge.weight());
            let name = |i: usize| format!("r{}", i + 1);
            for to in (0..count).filter(|to| *to != from) {
                let row = paths.get(&(name(from), name(to)));
                prop_assert_eq!(row.map(|row| row.cost_us), distances.get(&places[to]).copied());
                let Some(row) = row else { continue };
                // The path ends where it should, passes nobody twice, and its rest is the next relay's own path.
                prop_assert_eq!(row.path.last(), Some(&name(to)));
                prop_assert_eq!(row.path.iter().collect::<std::collections::BTreeSet<_>>().len(), row.path.len());
                if row.next_hop != row.destination {
                    let rest = &paths[&(row.next_hop.clone(), row.destination.clone())];
                    prop_assert_eq!(&row.path[1..], &rest.path[..]);
                    prop_assert!(rest.cost_us < row.cost_us);
                }
                // What the relays hold is what the view tells.
                prop_assert_eq!(&lab.way(&name(from), &name(to)), &row.path);
            }
        }
    }

    #[test]
    fn equal_alternatives_do_not_flap(noise in proptest::collection::vec(0..3_u64, 60)) {
        // Two ways of equal length, whose measurements tremble within a tenth or so.
        let mut lab = Lab::relays(4);
        lab.chain(&[("r1", "r2", 40), ("r2", "r4", 40), ("r1", "r3", 40), ("r3", "r4", 40)]);
        lab.run(ms(5_000));
        let (epoch, path) = (lab.epoch(), lab.path("r1", "r4"));
        prop_assert_eq!(path.as_ref().map(|path| path[1].as_str()), Some("r2"), "the lower index wins a tie");
        for (second, noise_ms) in noise.into_iter().enumerate() {
            let (a, b) = [("r1", "r2"), ("r2", "r4"), ("r1", "r3"), ("r3", "r4")][second % 4];
            lab.link(a, b, 39 + noise_ms);
            lab.run(ms(1_000));
        }
        prop_assert_eq!(lab.epoch(), epoch);
    }
}

#[test]
fn a_better_way_is_taken_once_and_kept() {
    let mut lab = Lab::relays(4);
    lab.chain(&[("r1", "r2", 40), ("r2", "r4", 40), ("r1", "r3", 40), ("r3", "r4", 40)]);
    lab.run(ms(5_000));
    let epochs = lab.controller.status().counters.epochs;
    lab.link("r1", "r2", 80);
    lab.run(ms(15_000));
    assert_eq!(lab.path("r1", "r4").expect("a way")[1], "r3");
    let age = lab.controller.routes(lab.now, RouteFilter::default());
    assert!(age.iter().all(|row| row.age <= ms(20_000)) && age.iter().any(|row| row.age > ms(15_000)));
    lab.run(ms(60_000));
    assert!(lab.controller.status().counters.epochs <= epochs + 2);
}

#[test]
fn a_link_that_swings_around_another_way_for_ten_minutes_moves_a_route_four_times_at_most() {
    for period_s in [10, 30, 60, 120, 300] {
        let mut lab = Lab::relays(4);
        lab.chain(&[("r1", "r2", 40), ("r2", "r4", 40), ("r1", "r3", 50), ("r3", "r4", 50)]);
        lab.run(ms(5_000));
        let (mut changes, mut path) = (0, lab.path("r1", "r4"));
        for second in 0..600 {
            if second % (period_s / 2) == 0 {
                lab.link("r1", "r2", if second % period_s == 0 { 80 } else { 40 });
            }
            lab.run(ms(1_000));
            let now = lab.path("r1", "r4");
            changes += u32::from(now != path);
            path = now;
        }
        assert!((1..=4).contains(&changes), "period {period_s} s: {changes} changes");
    }
}

#[test]
fn a_link_that_carries_all_it_can_gives_way_to_one_that_is_nearly_as_short() {
    let mut lab = Lab::relays(4);
    lab.chain(&[("r1", "r2", 40), ("r2", "r4", 40), ("r1", "r3", 46), ("r3", "r4", 46)]);
    lab.run(ms(5_000));
    lab.load("r1", "r2", 900, 1_000);
    lab.run(ms(10_000));
    assert_eq!(lab.path("r1", "r4").expect("a way")[1], "r3");
    let terms = |lab: &Lab, from: &str| {
        let links = lab.controller.links(lab.now);
        links.iter().find(|link| link.from == from && link.to == "r2").and_then(|link| link.terms)
    };
    assert_eq!(terms(&lab, "r1").map(|terms| terms.load_us), Some(10_000));
    assert_eq!(terms(&lab, "r4").map(|terms| terms.load_us), Some(0));
    lab.load("r1", "r2", 0, 1_000);
    lab.run(ms(30_000));
    assert_eq!(lab.path("r1", "r4").expect("a way")[1], "r3", "not at once");
    lab.run(ms(60_000));
    assert_eq!(lab.path("r1", "r4").expect("a way")[1], "r2");
}

#[test]
fn money_makes_a_short_way_dear() {
    let price = |from: &str, micro_dollars_per_gb| route_core::EgressPrice {
        from: from.into(),
        to: "*".into(),
        micro_dollars_per_gb,
    };
    let mut config = route_core::ControllerConfig::new(1, 1);
    config.cost.egress = vec![price("r1", 20_000), price("r2", 200_000)];
    let mut lab = Lab::with_config(config, lab::Store::default());
    for relay in ["r1", "r2", "r3", "r4"] {
        let station = lab::Station { region: relay.to_owned(), ..lab::Station::default() };
        lab.stations.insert(relay.to_owned(), station);
        lab.connect(relay);
    }
    lab.run(ms(3_000));
    lab.chain(&[("r1", "r2", 40), ("r2", "r4", 40), ("r1", "r3", 50), ("r3", "r4", 50)]);
    lab.run(ms(5_000));
    // A dollar is worth 100 ms: two cents are 2 ms whichever way r1 sends, twenty are 20 ms for r2.
    assert_eq!(lab.path("r1", "r4").expect("a way"), ["r1", "r3", "r4"]);
    assert_eq!(lab.path("r4", "r1").expect("a way"), ["r4", "r3", "r1"]);
    let links = lab.controller.links(lab.now);
    let money = |from: &str| links.iter().find(|link| link.from == from).and_then(|link| link.terms);
    assert_eq!(
        ["r1", "r2", "r3"].map(|from| money(from).map(|terms| terms.money_us)),
        [2_000, 20_000, 0].map(Some)
    );
}

#[test]
fn a_link_that_flaps_is_avoided_until_it_keeps_quiet() {
    let mut lab = Lab::relays(3);
    lab.chain(&[("r1", "r2", 10), ("r1", "r3", 20), ("r3", "r2", 20)]);
    lab.run(ms(4_000));
    for _ in 0..3 {
        lab.cut("r1", "r2");
        lab.run(ms(2_000));
        lab.link("r1", "r2", 10);
        lab.run(ms(2_000));
    }
    assert_eq!(lab.path("r1", "r2").expect("a way"), ["r1", "r3", "r2"]);
    // With nothing else left it serves.
    lab.cut("r1", "r3");
    lab.run(ms(500));
    assert_eq!(lab.path("r1", "r2").expect("a way"), ["r1", "r2"]);
    lab.link("r1", "r3", 20);
    lab.run(ms(80_000));
    assert_eq!(lab.path("r1", "r2").expect("a way"), ["r1", "r2"]);
}

#[test]
fn directions_are_priced_apart() {
    let mut lab = Lab::relays(3);
    lab.chain(&[("r1", "r2", 20), ("r2", "r3", 20), ("r1", "r3", 30)]);
    lab.run(ms(4_000));
    assert_eq!(lab.way("r1", "r3"), ["r1", "r3"]);
    // Heavy loss in one direction only.
    lab.station("r1").links.get_mut("r3").expect("linked").2 = 400_000;
    lab.run(ms(15_000));
    assert_eq!(lab.way("r1", "r3"), ["r1", "r2", "r3"]);
    assert_eq!(lab.way("r3", "r1"), ["r3", "r1"]);
}
