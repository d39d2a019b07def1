//! 1+1 protection: each packet leaves on two planes at once, the first copy is delivered, and no copy is moved.

mod lab;

use lab::{Lab, entry, planes, publish};
use relay_core::ClientCommand;
use std::time::Duration;
use wire_format::control::{StreamEntry, ToController, ToRelay};
use wire_format::{Epoch, MediaHeader, NodeIndex, Plane, PlanePair, PolicyIndex};

const RED: u8 = 1;
const BLUE: u8 = 2;

fn with_pairs(table: ToRelay, pairs: &[(u16, PlanePair)]) -> ToRelay {
    let ToRelay::Table(mut table) = table else { panic!("no table") };
    table.policy_mut(PolicyIndex::DEFAULT).pairs =
        pairs.iter().map(|(to, pair)| (NodeIndex(*to), *pair)).collect();
    ToRelay::Table(table)
}

/// 0 - {1, 2} - 3 - 4, publisher at 0, subscribers at the egresses: primary and blue by 1, red by 2. Nothing but 3 leads
/// to 4.
fn diamond(pairs: &[(u16, PlanePair)], egresses: &[u16]) -> (Lab, usize) {
    let mut lab = Lab::new(5);
    for (a, b) in [(0, 1), (0, 2), (1, 3), (2, 3), (3, 4)] {
        lab.link(a, b);
    }
    let rows =
        [(0, 3, 1), (RED, 3, 2), (BLUE, 3, 1), (0, 4, 1), (RED, 4, 2), (BLUE, 4, 1), (0, 1, 1), (0, 2, 2)];
    lab.push(0, with_pairs(planes(1, &rows, &[(3, RED), (4, RED)]), pairs));
    for via in [1, 2] {
        let rows = [0, RED, BLUE].map(|plane| [(plane, 3, 3), (plane, 4, 3), (plane, 0, 0)]).concat();
        lab.push(via, planes(1, &rows, &[]));
    }
    lab.push(3, planes(1, &[(0, 0, 1), (0, 1, 1), (0, 2, 2), (0, 4, 4), (RED, 4, 4), (BLUE, 4, 4)], &[]));
    lab.push(4, planes(1, &[(0, 0, 3)], &[]));
    for node in 0..5 {
        lab.push(node, ToRelay::Stamp { epoch: Epoch(1) });
    }
    let publisher = lab.publisher(0);
    for egress in egresses {
        let (_, subscription) = lab.subscriber(*egress);
        lab.push(*egress, ToRelay::Stream(protected(vec![subscription], &[])));
    }
    lab.push(0, ToRelay::Stream(protected(Vec::new(), egresses)));
    lab.run(Duration::from_secs(3));
    lab.crossings.clear();
    (lab, publisher)
}

fn protected(subscriptions: Vec<wire_format::SubscriptionId>, destinations: &[u16]) -> StreamEntry {
    StreamEntry { protect: true, ..entry(0, subscriptions, destinations) }
}

fn send(lab: &mut Lab, publisher: usize) {
    lab.send(publisher, 1, &[b"\x80media"]);
}

fn stamps(headers: &[MediaHeader]) -> Vec<(Plane, bool, bool)> {
    headers.iter().map(|header| (header.plane, header.protected, header.marked)).collect()
}

#[test]
fn a_packet_goes_two_ways_and_is_delivered_once() {
    for (pair, first) in [(PlanePair::PrimaryRed, Plane::PRIMARY), (PlanePair::RedBlue, Plane::BLUE)] {
        let (mut lab, publisher) = diamond(&[(3, pair)], &[3]);
        send(&mut lab, publisher);
        let mut ways = lab.media_crossings();
        ways.sort_unstable();
        assert_eq!(ways, [(0, 1), (0, 2), (1, 3), (2, 3)]);
        for (from, to, plane) in [(0, 1, first), (1, 3, first), (0, 2, Plane::RED), (2, 3, Plane::RED)] {
            assert_eq!(stamps(&lab.headers(from, to)), [(plane, true, false)], "{from} to {to}");
        }
        assert_eq!(lab.delivered.len(), 1);
        let egress = lab.relay_mut(3).1.counters();
        assert_eq!((egress.drop_second_copy, egress.drop_duplicate, egress.streams_switched), (1, 0, 0));
        let ingress = lab.relay_mut(0).1.counters();
        assert_eq!((ingress.media_protected, ingress.media_unprotected, ingress.media_forwarded), (1, 0, 2));
    }
}

/// Sends a packet every 10 ms for 400 ms while the links fail after 100 ms.
fn through_failure(lab: &mut Lab, publisher: usize, failure: &[(usize, usize)]) {
    for number in 0..40 {
        if number == 10 {
            lab.cut.extend(failure);
        }
        send(lab, publisher);
        lab.run(Duration::from_millis(10));
    }
}

#[test]
fn whichever_way_fails_nothing_is_lost_and_nothing_is_moved_or_sent_again() {
    for failure in [
        [(0, 1), (1, 0)],
        [(1, 3), (3, 1)],
        [(0, 2), (2, 0)],
        [(2, 3), (3, 2)],
        // One direction only.
        [(0, 1), (0, 1)],
        [(1, 3), (1, 3)],
    ] {
        let (mut lab, publisher) = diamond(&[(3, PlanePair::PrimaryRed)], &[3]);
        through_failure(&mut lab, publisher, &failure);
        assert_eq!(lab.delivered.len(), 40, "{failure:?}");
        for relay in 0..4 {
            let counters = lab.relay_mut(relay).1.counters();
            assert_eq!((counters.media_rerouted, counters.media_resent), (0, 0), "{failure:?}");
        }
        let planes = |from, to| lab.headers(from, to).into_iter().map(|header| header.plane);
        assert!(planes(0, 1).all(|plane| plane == Plane::PRIMARY));
        assert_eq!(planes(0, 2).filter(|plane| *plane == Plane::RED).count(), 40, "one copy each");
    }
}

#[test]
fn a_link_that_is_gone_stops_its_copy_alone() {
    let (mut lab, publisher) = diamond(&[(3, PlanePair::PrimaryRed)], &[3]);
    lab.unlink(0, 1);
    send(&mut lab, publisher);
    assert_eq!(lab.media_crossings(), [(0, 2), (2, 3)]);
    assert_eq!(stamps(&lab.headers(0, 2)), [(Plane::RED, true, false)]);
    let counters = lab.relay_mut(0).1.counters();
    assert_eq!((counters.drop_plane_cut, counters.drop_no_route), (1, 0));
}

#[test]
fn where_no_two_planes_are_apart_one_copy_goes_and_may_be_moved() {
    let (mut lab, publisher) = diamond(&[], &[3]);
    send(&mut lab, publisher);
    assert_eq!(lab.media_crossings(), [(0, 1), (1, 3)]);
    assert_eq!(stamps(&lab.headers(0, 1)), [(Plane::PRIMARY, false, false)]);
    let counters = lab.relay_mut(0).1.counters();
    assert_eq!((counters.media_protected, counters.media_unprotected), (0, 1));
    lab.cut.extend([(0, 1), (1, 0)]);
    lab.run(Duration::from_millis(150));
    lab.crossings.clear();
    send(&mut lab, publisher);
    assert_eq!(stamps(&lab.headers(0, 2)), [(Plane::RED, false, true)]);
}

#[test]
fn each_tree_carries_its_copy_once_whoever_is_behind_a_link() {
    let both = [(3, PlanePair::PrimaryRed), (4, PlanePair::PrimaryRed)];
    let (mut lab, publisher) = diamond(&both, &[3, 4]);
    send(&mut lab, publisher);
    for (from, to) in [(0, 1), (1, 3), (0, 2), (2, 3)] {
        let headers = lab.headers(from, to);
        assert_eq!(headers.len(), 1, "{from} to {to}");
        let destinations: Vec<_> = headers[0].destinations.iter().map(|node| node.0).collect();
        assert_eq!(destinations, [3, 4]);
    }
    // Behind the relay that both trees pass each copy goes on by itself.
    assert_eq!(lab.headers(3, 4).len(), 2);
    assert_eq!(lab.delivered.len(), 2);
    assert_eq!(lab.relay_mut(0).1.counters().media_protected, 2);
}

#[test]
fn destinations_without_a_pair_share_none_of_the_copies() {
    let (mut lab, publisher) = diamond(&[(3, PlanePair::PrimaryRed)], &[3, 4]);
    send(&mut lab, publisher);
    let mut seen = stamps(&lab.headers(0, 1));
    seen.sort_unstable();
    assert_eq!(seen, [(Plane::PRIMARY, false, false), (Plane::PRIMARY, true, false)]);
    assert_eq!(lab.headers(0, 2).len(), 1);
    assert_eq!(lab.delivered.len(), 2);
    let counters = lab.relay_mut(0).1.counters();
    assert_eq!((counters.media_protected, counters.media_unprotected), (1, 1));
}

#[test]
fn the_wish_of_a_publisher_reaches_the_controller() {
    for protect in [false, true] {
        let mut lab = Lab::new(1);
        let client = lab.client(0);
        let ClientCommand::Publish { request, room, user, stream, kind, budget, description, .. } =
            publish(1)
        else {
            panic!("not a publication")
        };
        lab.ask(
            client,
            ClientCommand::Publish { request, room, user, stream, kind, budget, protect, description },
        );
        let told: Vec<_> = lab
            .reports
            .iter()
            .filter_map(|(_, report)| {
                if let ToController::Published(report) = report { Some(report.protect) } else { None }
            })
            .collect();
        assert_eq!(told, [protect]);
    }
}
