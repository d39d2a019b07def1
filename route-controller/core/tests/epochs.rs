//! Epochs against silence and return: nobody passes a relay by tables that it does not have, unless nothing else leads
//! on, and whoever comes back with old ones gets those of today first.

mod lab;

use lab::{Lab, ms};
use std::collections::{BTreeMap, BTreeSet};
use wire_format::control::{ToController, ToRelay};
use wire_format::{Epoch, NodeIndex, Plane, PolicyIndex, RouteTable, Timestamp};

/// A square: r1-r2-r4 is short, r1-r3-r4 a little longer, r1-r4 directly far.
fn square() -> Lab {
    let mut lab = Lab::relays(4);
    lab.chain(&[("r1", "r2", 20), ("r2", "r4", 20), ("r1", "r3", 30), ("r3", "r4", 30), ("r1", "r4", 200)]);
    lab.run(ms(4_000));
    assert_eq!(lab.way("r1", "r4"), ["r1", "r2", "r4"]);
    lab
}

/// Every table that a relay was sent, with its time.
fn tables<'a>(lab: &'a Lab, relay: &str) -> impl Iterator<Item = (Timestamp, &'a RouteTable)> {
    lab.stations[relay].heard.iter().filter_map(|(at, message)| match message {
        ToRelay::Table(table) => Some((*at, table)),
        ToRelay::Welcome(_)
        | ToRelay::Neighbours(_)
        | ToRelay::TableDelta(_)
        | ToRelay::Stamp { .. }
        | ToRelay::PublicationGranted { .. }
        | ToRelay::PublicationRefused { .. }
        | ToRelay::SubscriptionRefused { .. }
        | ToRelay::Stream(_)
        | ToRelay::StreamGone { .. }
        | ToRelay::TokenKeys(_)
        | ToRelay::Namespaces(_)
        | ToRelay::Drain { .. }
        | ToRelay::Trace(_) => None,
    })
}

/// When anybody was first told to stamp each epoch.
fn stamped(lab: &Lab) -> BTreeMap<Epoch, Timestamp> {
    let mut first: BTreeMap<Epoch, Timestamp> = BTreeMap::new();
    for (at, message) in lab.stations.values().flat_map(|station| &station.heard) {
        if let ToRelay::Stamp { epoch } = message {
            let known = first.entry(*epoch).or_insert(*at);
            *known = (*known).min(*at);
        }
    }
    first
}

/// Relays that the primary plane of an epoch passes on the way to others.
fn passed(lab: &Lab, epoch: Epoch) -> BTreeSet<NodeIndex> {
    let all = lab.stations.keys().flat_map(|relay| tables(lab, relay));
    let rows = all
        .filter(|(_, table)| table.epoch == epoch)
        .flat_map(|(_, table)| &table.policy(PolicyIndex::DEFAULT).next_hops);
    let passing =
        rows.filter(|((plane, destination), next)| *plane == Plane::PRIMARY && destination != *next);
    passing.map(|(_, next)| *next).collect()
}

/// Whoever is passed by tables that are stamped had them when the first frame could carry their epoch.
fn check_that_the_passed_were_asked(lab: &Lab) {
    for (epoch, at) in stamped(lab) {
        for node in passed(lab, epoch) {
            let held = tables(lab, lab.name_of(node)).any(|(had, table)| table.epoch == epoch && had <= at);
            assert!(held, "{} is passed in epoch {epoch} and did not have its tables", lab.name_of(node));
        }
    }
}

#[test]
fn who_does_not_acknowledge_is_not_passed_when_the_epoch_is_stamped() {
    let mut lab = square();
    let before = lab.epoch().expect("an epoch");
    lab.station("r3").mute = true;
    let cut_at = lab.now;
    lab.cut("r1", "r2");
    lab.run(ms(600));
    let newer: Vec<Epoch> = stamped(&lab).into_keys().filter(|epoch| *epoch > before).collect();
    let when: Vec<_> = stamped(&lab).into_values().map(|at| at.since(cut_at)).collect();
    assert_eq!(newer.len(), 1, "what led through r3 was never stamped: {newer:?} {when:?}");
    assert!(!passed(&lab, newer[0]).contains(&lab.node("r3")));
    assert_eq!(lab.way("r1", "r4"), ["r1", "r4"]);
    assert!(
        lab.now.since(stamped(&lab)[&newer[0]]) >= ms(600 - 530),
        "half a second and a round trip, no more"
    );
    // Everybody still holds what was stamped before, which frames may carry.
    assert!(lab.stations.values().all(|station| station.tables.iter().any(|table| table.epoch == before)));
}

#[test]
fn a_second_silent_relay_does_not_stretch_the_wait() {
    let mut lab = square();
    let before = lab.epoch();
    // Both ways around the cut are silent, and the direct one is left.
    lab.station("r2").mute = true;
    lab.station("r3").mute = true;
    lab.cut("r1", "r2");
    lab.run(ms(530));
    assert!(lab.epoch() > before);
    assert_eq!(lab.way("r1", "r4"), ["r1", "r4"]);
    assert_eq!(lab.controller.status().counters.acks_missed, 2);
}

#[test]
fn a_failure_waits_its_second_only_where_relays_have_turned_elsewhere() {
    let far = |lab: &Lab| {
        let (r1, r4) = (&lab.stations["r1"], lab.node("r4"));
        let table = r1.tables.last().expect("tables").policy(PolicyIndex::DEFAULT);
        let plane = table.backup(r4).expect("a square has two ways");
        let hops = [Plane::PRIMARY, plane].map(|plane| table.next_hop(plane, r4).expect("a way"));
        hops.map(|hop| lab.name_of(hop).to_owned())
    };
    for both in [false, true] {
        let mut lab = square();
        // An epoch just now: r1-r3-r4 becomes the shortest way.
        lab.run(ms(5_000));
        let epoch = lab.epoch();
        lab.link("r3", "r4", 4);
        while lab.epoch() == epoch {
            lab.run(ms(10));
        }
        lab.run(ms(60));
        let before = stamped(&lab).into_iter().next_back().expect("an epoch");
        let [next, other] = far(&lab);
        lab.cut("r1", &next);
        if both {
            lab.cut("r1", &other);
        }
        lab.run(ms(1_500));
        let after = stamped(&lab).into_iter().find(|(epoch, _)| *epoch > before.0).expect("a newer epoch");
        let apart = after.1.since(before.1);
        assert_eq!(apart < ms(200), both, "{apart:?} after the epoch before; both ways cut: {both}");
        assert!(both || apart >= ms(1_000), "{apart:?}");
    }
}

#[test]
fn a_silent_relay_stays_a_destination_through_many_epochs_and_returns_in_order() {
    let mut lab = square();
    lab.disconnect("r2");
    lab.run(ms(6_000));
    let silent_at = lab.epoch();
    for rtt_ms in [20, 300, 20, 300] {
        lab.link("r1", "r4", rtt_ms);
        lab.run(ms(12_000));
        assert_eq!(lab.path("r1", "r2").expect("a way"), ["r1", "r2"]);
        assert!(!passed(&lab, lab.epoch().expect("an epoch")).contains(&lab.node("r2")));
    }
    assert!(lab.epoch() > silent_at);
    // It comes back with tables that nobody knows any more.
    let old = lab.stations["r2"].tables.last().expect("it kept them").epoch;
    lab.connect("r2");
    lab.run(ms(3_000));
    assert_eq!(lab.way("r1", "r4"), ["r1", "r2", "r4"]);
    assert!(lab.stations["r2"].tables.iter().all(|table| table.epoch > old));
    check_that_the_passed_were_asked(&lab);
}

#[test]
fn a_relay_that_missed_a_controllers_restart_returns_in_order() {
    let mut lab = square();
    lab.run(ms(2_000));
    let epoch = lab.epoch().expect("an epoch");
    lab.disconnect("r2");
    lab.restart_controller(2);
    for relay in ["r1", "r3", "r4"] {
        lab.connect(relay);
    }
    // Its neighbours say that it lives, so it is waited for, and then left out.
    lab.run(ms(14_000));
    assert!(lab.controller.status().recovering);
    lab.run(ms(3_000));
    assert_eq!(lab.way("r1", "r4"), ["r1", "r3", "r4"]);
    assert_eq!(lab.way("r1", "r2"), ["r1", "r2"]);
    assert_eq!(lab.stations["r2"].tables.last().map(|table| table.epoch), Some(epoch), "it knows of nothing");
    lab.connect("r2");
    lab.run(ms(3_000));
    assert_eq!(lab.way("r1", "r4"), ["r1", "r2", "r4"]);
    assert!(lab.stations["r2"].stamp > Some(epoch));
    check_that_the_passed_were_asked(&lab);
}

#[test]
fn tables_that_a_dead_controller_never_had_stamped_cost_nobody_those_in_use() {
    let mut lab = square();
    lab.run(ms(2_000));
    let epoch = lab.epoch().expect("an epoch");
    // Prepared, and then the controller dies before the mute relay's time is over.
    lab.station("r4").mute = true;
    lab.cut("r1", "r2");
    lab.run(ms(100));
    let prepared = lab.controller.status().preparing.expect("an epoch under preparation");
    assert!(prepared > epoch && lab.stations["r1"].stamp == Some(epoch));
    lab.station("r4").mute = false;
    lab.restart_controller(2);
    for relay in ["r1", "r2", "r3", "r4"] {
        lab.connect(relay);
    }
    // The lab refuses orders to stamp what a relay does not hold, at each step.
    lab.run(ms(5_000));
    let settled = lab.epoch().expect("an epoch");
    assert!(settled > prepared, "numbers that were given are not given again");
    assert_eq!(lab.way("r1", "r4"), ["r1", "r3", "r4"]);
    let held = |relay: &str| lab.stations[relay].tables.iter().map(|table| table.epoch).collect::<Vec<_>>();
    for relay in ["r1", "r2", "r3", "r4"] {
        assert!(held(relay).contains(&settled) && !held(relay).contains(&prepared), "{:?}", held(relay));
    }
}

#[test]
fn a_relay_with_tables_of_the_future_is_overtaken_and_one_that_lies_is_left_alone() {
    for (claimed, overtaken) in [(Epoch(5_000), true), (Epoch(u32::MAX), false)] {
        let mut lab = square();
        lab.disconnect("r2");
        lab.run(ms(200));
        // Its tables are of a controller whose store is lost.
        let mut table = lab.stations["r2"].tables.last().expect("tables").clone();
        table.epoch = claimed;
        lab.station("r2").tables = vec![table];
        lab.station("r2").stamp = None;
        lab.connect("r2");
        lab.run(ms(3_000));
        assert_eq!(lab.epoch() > Some(claimed), overtaken);
        if overtaken {
            assert_eq!(lab.way("r1", "r4"), ["r1", "r2", "r4"]);
        } else {
            // It acknowledges nothing of today: nobody passes it, and nobody waits for it.
            assert_eq!(lab.path("r1", "r4").expect("a way"), ["r1", "r3", "r4"]);
        }
    }
}

#[test]
fn an_acknowledgement_of_something_else_is_none() {
    let mut lab = square();
    let before = lab.epoch();
    lab.station("r3").mute = true;
    lab.cut("r1", "r2");
    lab.run(ms(100));
    for epoch in [0, 1, 77, u32::MAX] {
        lab.say("r3", ToController::TableAck { epoch: Epoch(epoch) });
        lab.say("r3", ToController::StampAck { epoch: Epoch(epoch) });
    }
    lab.run(ms(300));
    assert_eq!(lab.epoch(), before, "r3 is still waited for");
}
