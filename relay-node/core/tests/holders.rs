//! A relay that receives a stream feeds others with it: each packet that is new here is stamped anew.

mod lab;

use lab::{KEY, Lab, entry, planes, table};
use relay_core::{ClientEvent, RelayCommand};
use std::time::Duration;
use wire_format::control::{HeldStream, StreamEntry, ToController, ToRelay};
use wire_format::{Epoch, NodeIndex, Plane, PlanePair, SubscriptionId};

/// 0 - 1 - 2 - 3 and 0 - 2, publisher at 0, subscribers at 1 and 3. 1 is fed by 0 and feeds 3.
struct Line {
    lab: Lab,
    publisher: usize,
    subscriptions: Vec<SubscriptionId>,
}

fn line() -> Line {
    let mut lab = Lab::new(4);
    for (a, b) in [(0, 1), (1, 2), (2, 3), (0, 2)] {
        lab.link(a, b);
    }
    for (node, rows) in [
        (0, vec![(1, 1), (2, 2), (3, 2)]),
        (1, vec![(0, 0), (2, 2), (3, 2)]),
        (2, vec![(0, 0), (1, 1), (3, 3)]),
        (3, vec![(0, 2), (1, 2), (2, 2)]),
    ] {
        lab.push(node, table(1, &rows));
        lab.push(node, ToRelay::Stamp { epoch: Epoch(1) });
    }
    let publisher = lab.publisher(0);
    let mut subscriptions = Vec::new();
    for egress in [3, 1] {
        let (_, subscription) = lab.subscriber(egress);
        subscriptions.push(subscription);
    }
    let [third, first] = subscriptions[..] else { panic!("two subscriptions") };
    lab.push(3, ToRelay::Stream(entry(0, vec![third], &[])));
    lab.push(1, ToRelay::Stream(entry(0, vec![first], &[3])));
    lab.push(0, ToRelay::Stream(entry(0, Vec::new(), &[1])));
    lab.run(Duration::from_secs(3));
    lab.crossings.clear();
    Line { lab, publisher, subscriptions }
}

impl Line {
    fn send(&mut self) {
        self.lab.send(self.publisher, 1, &[b"\x80media"]);
    }
}

#[test]
fn a_holder_stamps_its_own_destinations_and_hops_go_on_counting() {
    let mut line = line();
    // Tables of the holder may be newer than those of the ingress.
    line.lab.push(1, table(2, &[(0, 0), (2, 2), (3, 2)]));
    line.lab.push(1, ToRelay::Stamp { epoch: Epoch(2) });
    line.send();
    assert_eq!(line.lab.media_crossings(), [(0, 1), (1, 2), (2, 3)]);
    let seen: Vec<_> = [(0, 1), (1, 2), (2, 3)]
        .into_iter()
        .flat_map(|(from, to)| line.lab.headers(from, to))
        .map(|header| (header.destinations.only(), header.hop_limit, header.epoch))
        .collect();
    let to = |node| Some(NodeIndex(node));
    assert_eq!(seen, [(to(1), 23, 1), (to(3), 22, 2), (to(3), 21, 2)]);
    let (before, after) = (&line.lab.headers(0, 1)[0], &line.lab.headers(1, 2)[0]);
    let kept = |header: &wire_format::MediaHeader| {
        (header.key, header.incarnation, header.sequence, header.priority, header.slack, header.rtcp)
    };
    assert_eq!(kept(before), kept(after));
    assert_eq!(line.lab.delivered.len(), 2);
    assert_eq!(line.lab.relay_mut(1).1.counters().media_fed, 1);
    assert_eq!(line.lab.relay_mut(0).1.counters().media_fed, 0, "an ingress feeds nobody: it publishes");
}

#[test]
fn a_frame_that_is_passed_on_as_well_counts_its_hops_once() {
    let mut line = line();
    // The same frame has a destination behind the holder, which the holder feeds, too.
    line.lab.push(0, table(2, &[(1, 1), (2, 2), (3, 1)]));
    line.lab.push(0, ToRelay::Stamp { epoch: Epoch(2) });
    line.lab.push(1, table(2, &[(0, 0), (2, 2), (3, 2)]));
    line.lab.push(0, ToRelay::Stream(entry(0, Vec::new(), &[1, 3])));
    line.lab.crossings.clear();
    line.send();
    let hops: Vec<_> = line.lab.headers(1, 2).iter().map(|header| header.hop_limit).collect();
    assert_eq!(hops, [22, 22], "what was stamped at the ingress, and what is stamped here");
    assert_eq!(line.lab.delivered.len(), 2, "each subscriber has it once");
    assert_eq!(line.lab.relay_mut(3).1.counters().drop_duplicate, 1);
}

#[test]
fn what_was_here_before_is_not_stamped_again_whoever_feeds_whom() {
    let mut line = line();
    let [third, first] = line.subscriptions[..] else { panic!("two subscriptions") };
    // In the middle of changes: both are fed by the ingress, and by each other.
    line.lab.push(3, ToRelay::Stream(entry(0, vec![third], &[1])));
    line.lab.push(1, ToRelay::Stream(entry(0, vec![first], &[3])));
    line.lab.push(0, ToRelay::Stream(entry(0, Vec::new(), &[1, 3])));
    line.lab.crossings.clear();
    line.send();
    assert_eq!(line.lab.delivered.len(), 2);
    for node in [1, 3] {
        let counters = line.lab.relay_mut(node).1.counters();
        assert_eq!((counters.media_fed, counters.drop_duplicate), (1, 1), "relay {node}");
    }
}

#[test]
fn a_holder_needs_no_subscriber_of_its_own() {
    let mut line = line();
    line.lab.push(1, ToRelay::Stream(entry(0, Vec::new(), &[3])));
    line.send();
    assert_eq!(line.lab.delivered.len(), 1);
    // And none is left when its row names nobody.
    line.lab.push(1, ToRelay::Stream(entry(0, Vec::new(), &[])));
    line.send();
    assert_eq!(line.lab.delivered.len(), 1);
}

#[test]
fn what_waited_for_its_row_is_fed_on() {
    let mut line = line();
    line.lab.push(1, ToRelay::StreamGone { key: KEY });
    line.send();
    assert_eq!(line.lab.delivered.len(), 0);
    line.lab.push(1, ToRelay::Stream(entry(0, vec![line.subscriptions[1]], &[3])));
    assert_eq!(line.lab.delivered.len(), 2);
}

#[test]
fn a_destination_that_joins_at_a_holder_asks_for_a_keyframe() {
    let mut line = line();
    let asked = |lab: &Lab| {
        let wanted = |event: &&(usize, ClientEvent)| matches!(event.1, ClientEvent::KeyframeRequested { .. });
        lab.client_events.iter().filter(wanted).count()
    };
    line.send();
    let before = asked(&line.lab);
    line.lab.push(1, ToRelay::Stream(entry(0, vec![line.subscriptions[1]], &[2, 3])));
    assert_eq!(asked(&line.lab), before + 1, "its way leads to the publisher");
    line.lab.run(Duration::from_secs(2));
    line.lab.push(1, ToRelay::Stream(entry(0, vec![line.subscriptions[1]], &[3])));
    assert_eq!(asked(&line.lab), before + 1, "nobody needs one for who leaves");
}

#[test]
fn a_hello_says_what_is_fed() {
    let mut line = line();
    line.lab.relay(1, RelayCommand::ControllerDown);
    line.lab.reports.clear();
    line.lab.relay(1, RelayCommand::ControllerUp);
    let held = line.lab.reports.iter().find_map(|(_, report)| {
        if let ToController::Hello(hello) = report { Some(hello.streams.clone()) } else { None }
    });
    let fed = HeldStream { key: KEY, destinations: vec![NodeIndex(3)] };
    assert_eq!(held, Some(vec![fed]));
}

#[test]
fn a_protected_stream_leaves_a_holder_on_two_planes() {
    // 0 - 1, then 1 - {2, 3} - 4.
    let mut lab = Lab::new(5);
    for (a, b) in [(0, 1), (1, 2), (1, 3), (2, 4), (3, 4)] {
        lab.link(a, b);
    }
    lab.push(0, planes(1, &[(0, 1, 1)], &[]));
    let ToRelay::Table(mut pairs) = planes(1, &[(0, 4, 2), (1, 4, 3), (2, 4, 2)], &[]) else {
        panic!("no table")
    };
    pairs.policy_mut(wire_format::PolicyIndex::DEFAULT).pairs =
        [(NodeIndex(4), PlanePair::PrimaryRed)].into_iter().collect();
    lab.push(1, ToRelay::Table(pairs));
    for via in [2, 3] {
        lab.push(via, planes(1, &[0, 1, 2].map(|plane| (plane, 4, 4)), &[]));
    }
    for node in 0..5 {
        lab.push(node, ToRelay::Stamp { epoch: Epoch(1) });
    }
    let publisher = lab.publisher(0);
    let (_, subscription) = lab.subscriber(4);
    let protected = |entry: StreamEntry| ToRelay::Stream(StreamEntry { protect: true, ..entry });
    lab.push(4, protected(entry(0, vec![subscription], &[])));
    lab.push(1, protected(entry(0, Vec::new(), &[4])));
    lab.push(0, protected(entry(0, Vec::new(), &[1])));
    lab.send(publisher, 1, &[b"\x80media"]);
    let stamps = |from, to| {
        let headers = lab.headers(from, to).into_iter();
        headers.map(|header| (header.plane, header.protected, header.hop_limit)).collect::<Vec<_>>()
    };
    assert_eq!(stamps(0, 1), [(Plane::PRIMARY, false, 23)], "no two ways lead there");
    assert_eq!(stamps(1, 2), [(Plane::PRIMARY, true, 22)]);
    assert_eq!(stamps(1, 3), [(Plane::RED, true, 22)]);
    assert_eq!(lab.delivered.len(), 1);
}

#[test]
fn what_has_no_slack_left_is_delivered_and_feeds_nobody() {
    let mut line = line();
    line.lab.delivered.clear();
    let link = line.lab.link_id(1, 0);
    line.send();
    let header = line.lab.headers(0, 1)[0];
    let mut head = [0; wire_format::MEDIA_HEADER_MAX];
    let late = wire_format::MediaHeader {
        sequence: wire_format::Sequence(header.sequence.0 + 1),
        slack: wire_format::Slack(0),
        ..header
    };
    let head_bytes = late.encode(&mut head);
    let body = [&head[..head_bytes], b"\x80late"].concat();
    let frame = wire_format::frame_header(wire_format::FrameKind::Media, body.len());
    let plain = [&[0; 3], &frame[..], &body].concat();
    line.lab.delivered.clear();
    line.lab.inject(1, link, 1 << 20, plain);
    assert_eq!(line.lab.delivered.len(), 1, "at the holder alone");
    assert_eq!(line.lab.relay_mut(1).1.counters().drop_slack, 1);
}

#[test]
fn each_worker_stamps_what_came_to_it() {
    let mut lab = Lab::with_workers(3, 2);
    for index in 0..2 {
        for (a, b) in [(0, 1), (1, 2)] {
            let (a, b) = (lab.worker(a, index), lab.worker(b, index));
            lab.link(a, b);
        }
    }
    lab.push(0, table(1, &[(1, 1)]));
    lab.push(1, table(1, &[(0, 0), (2, 2)]));
    lab.push(2, table(1, &[(1, 1)]));
    for node in 0..3 {
        lab.push(node, ToRelay::Stamp { epoch: Epoch(1) });
    }
    // The publisher is linked to the second worker, whose lane the frames take all the way.
    let ingress = lab.worker(0, 1);
    let publisher = lab.publisher(ingress);
    let (_, subscription) = lab.subscriber(2);
    lab.push(2, ToRelay::Stream(entry(0, vec![subscription], &[])));
    lab.push(1, ToRelay::Stream(entry(0, Vec::new(), &[2])));
    lab.push(0, ToRelay::Stream(entry(0, Vec::new(), &[1])));
    lab.crossings.clear();
    lab.send(publisher, 1, &[b"\x80media"]);
    let worker = |node| usize::from(lab.worker(node, 1));
    assert_eq!(lab.media_crossings(), [(worker(0), worker(1)), (worker(1), worker(2))]);
    assert_eq!(lab.delivered.len(), 1);
}
