//! The redundant planes in the life of an overlay: what is told of them, and when they change.

mod lab;

use lab::{Lab, ms};
use route_core::{RouteFilter, RouteView};
use std::collections::BTreeSet;
use wire_format::{Plane, PolicyIndex};

const RED: Plane = Plane(1);
const BLUE: Plane = Plane(2);

/// A circle of five with two chords.
fn circle() -> Lab {
    let mut lab = Lab::relays(5);
    lab.chain(&[("r1", "r2", 20), ("r2", "r3", 20), ("r3", "r4", 20), ("r4", "r5", 20), ("r5", "r1", 20)]);
    lab.chain(&[("r1", "r3", 50), ("r2", "r4", 50)]);
    lab.run(ms(4_000));
    lab
}

fn row(lab: &Lab, from: &str, plane: Plane, to: &str) -> RouteView {
    let (node, destination) = (Some(lab.node(from)), Some(lab.node(to)));
    let filter =
        RouteFilter { node, destination, plane: Some(plane), epoch: None, policy: PolicyIndex::DEFAULT };
    lab.controller.routes(lab.now, filter).pop().expect("a row")
}

fn cut_vertices(lab: &Lab) -> Vec<String> {
    lab.controller.nodes(lab.now).into_iter().filter(|node| node.cut_vertex).map(|node| node.name).collect()
}

fn bridges(lab: &Lab) -> BTreeSet<(String, String)> {
    lab.controller
        .links(lab.now)
        .into_iter()
        .filter(|link| link.bridge)
        .map(|link| (link.from, link.to))
        .collect()
}

#[test]
fn relays_are_told_all_planes_and_where_to_turn() {
    let lab = circle();
    let goal = lab.node("r3");
    let table = lab.stations["r1"].tables.last().expect("tables").policy(PolicyIndex::DEFAULT);
    let backup = table.backup(goal).expect("a circle has two ways");
    let shown = row(&lab, "r1", Plane::PRIMARY, "r3");
    assert_eq!((shown.backup, &shown.path[..]), (Some(backup), &["r1", "r2", "r3"].map(str::to_owned)[..]));
    let turned = row(&lab, "r1", backup, "r3");
    assert!(turned.path[1] != "r2" && turned.backup.is_none(), "{turned:?}");
    assert_eq!(table.next_hop(backup, goal), lab.node_of(&turned.next_hop));
    // Both redundant ways, each in everybody's tables.
    for plane in [RED, BLUE] {
        let path = row(&lab, "r1", plane, "r3").path;
        for hop in path.windows(2) {
            let table = lab.stations[&hop[0]].tables.last().expect("tables").policy(PolicyIndex::DEFAULT);
            assert_eq!(table.next_hop(plane, goal), lab.node_of(&hop[1]));
        }
    }
}

#[test]
fn what_nothing_goes_around_is_reported() {
    let mut lab = circle();
    assert_eq!((cut_vertices(&lab), bridges(&lab)), (Vec::new(), BTreeSet::new()));
    lab.connect("r6");
    lab.run(ms(10));
    lab.link("r6", "r4", 10);
    lab.run(ms(300));
    assert_eq!(cut_vertices(&lab), ["r4"]);
    let there_and_back = [("r4", "r6"), ("r6", "r4")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(bridges(&lab), BTreeSet::from(there_and_back));
    // The table of a relay behind it has no backup for what lies before it, but one for the rest.
    let table = lab.stations["r1"].tables.last().expect("tables").policy(PolicyIndex::DEFAULT);
    assert!(table.backup(lab.node("r6")).is_some());
    assert_eq!(
        lab.stations["r6"].tables.last().expect("tables").policy(PolicyIndex::DEFAULT).backups,
        Default::default()
    );
    lab.link("r6", "r5", 10);
    lab.run(ms(3_000));
    assert_eq!((cut_vertices(&lab), bridges(&lab)), (Vec::new(), BTreeSet::new()));
    assert_eq!(
        lab.stations["r6"].tables.last().expect("tables").policy(PolicyIndex::DEFAULT).backups.len(),
        5
    );
}

#[test]
fn a_relay_without_session_is_on_no_redundant_way_of_others() {
    let mut lab = circle();
    lab.disconnect("r4");
    lab.run(ms(20_000));
    let rows = lab.controller.routes(lab.now, RouteFilter::default());
    let passing = |row: &&RouteView| row.path[1..row.path.len() - 1].iter().any(|relay| relay == "r4");
    assert_eq!(rows.iter().find(passing), None);
    // It is a destination on every plane, and its own table has two ways out.
    for plane in [Plane::PRIMARY, RED, BLUE] {
        assert_eq!(row(&lab, "r1", plane, "r4").path.last().map(String::as_str), Some("r4"));
    }
    assert_ne!(row(&lab, "r4", RED, "r1").next_hop, row(&lab, "r4", BLUE, "r1").next_hop);
    // As nobody may pass it, r5 hangs on r1 alone.
    assert_eq!(cut_vertices(&lab), ["r1"]);
}

#[test]
fn only_the_primary_plane_is_urgent() {
    let mut lab = circle();
    lab.run(ms(2_000));
    // A chord that no shortest path takes.
    let primary = |lab: &Lab| {
        let filter = RouteFilter { plane: Some(Plane::PRIMARY), ..RouteFilter::default() };
        lab.controller.routes(lab.now, filter).into_iter().map(|row| row.path).collect::<Vec<_>>()
    };
    let (before, epoch) = (primary(&lab), lab.epoch());
    let counters = lab.controller.status().counters;
    lab.cut("r1", "r3");
    lab.run(ms(3_000));
    let after = lab.controller.status().counters;
    assert!(lab.epoch() > epoch, "a redundant way led over the chord");
    assert_eq!((after.epochs_urgent, after.route_changes), (counters.epochs_urgent, counters.route_changes));
    assert_eq!(primary(&lab), before);
    let rows = lab.controller.routes(lab.now, RouteFilter::default());
    assert!(rows.iter().all(|row| row.path.windows(2).all(|hop| hop != ["r1", "r3"] && hop != ["r3", "r1"])));
}

#[test]
fn redundant_ways_stay_as_they_are_while_costs_drift() {
    let redundant = |lab: &Lab| {
        let rows = lab.controller.routes(lab.now, RouteFilter::default());
        let rows = rows.into_iter().filter(|row| row.plane != Plane::PRIMARY);
        rows.map(|row| (row.node, row.plane, row.destination, row.path)).collect::<Vec<_>>()
    };
    let mut lab = circle();
    let before = redundant(&lab);
    // Dearer by a fifth, one after the other: each moves its published cost, none makes other trees much better.
    for (a, b) in [("r1", "r2"), ("r2", "r3"), ("r3", "r4"), ("r4", "r5"), ("r5", "r1")] {
        lab.link(a, b, 24);
        lab.run(ms(15_000));
    }
    assert!(lab.controller.status().counters.cost_changes >= 5);
    assert_eq!(redundant(&lab), before);
    // Ten times as dear: whoever can goes elsewhere.
    lab.link("r4", "r5", 240);
    lab.run(ms(15_000));
    let after = redundant(&lab);
    let over = |rows: &[(String, Plane, String, Vec<String>)]| {
        let hops = rows.iter().flat_map(|(.., path)| path.windows(2));
        hops.filter(|hop| *hop == ["r4", "r5"] || *hop == ["r5", "r4"]).count()
    };
    assert!(over(&after) < over(&before), "{} < {}", over(&after), over(&before));
}
