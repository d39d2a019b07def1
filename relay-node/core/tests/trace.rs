//! A stream that is watched for a moment: every relay on its way tells what passed, and nothing is left behind.

mod lab;

use lab::{KEY, Lab, entry, planes, publish};
use std::time::Duration;
use wire_format::control::{
    StreamEntry, ToController, ToRelay, TraceReport, TraceRequest, TracedPeer, limits::TRACES,
};
use wire_format::{Epoch, NodeIndex, PlanePair, PolicyIndex, RoomId, StreamKey};

/// 0 - 1 - 2, publisher at 0, subscriber at 2.
fn line() -> (Lab, usize) {
    let mut lab = Lab::new(3);
    lab.link(0, 1);
    lab.link(1, 2);
    lab.push(0, planes(1, &[(0, 1, 1), (0, 2, 1)], &[]));
    lab.push(1, planes(1, &[(0, 0, 0), (0, 2, 2)], &[]));
    lab.push(2, planes(1, &[(0, 0, 1), (0, 1, 1)], &[]));
    for node in 0..3 {
        lab.push(node, ToRelay::Stamp { epoch: Epoch(1) });
    }
    let publisher = lab.publisher_of(0, publish(1));
    let (_, subscription) = lab.subscriber(2);
    lab.push(2, ToRelay::Stream(entry(0, vec![subscription], &[])));
    lab.push(0, ToRelay::Stream(entry(0, Vec::new(), &[2])));
    lab.run(Duration::from_secs(3));
    (lab, publisher)
}

fn watch(lab: &mut Lab, node: u16, trace: u64, key: StreamKey) {
    let duration = Duration::from_secs(1);
    lab.push(node, ToRelay::Trace(TraceRequest { trace, key, duration }));
}

fn reports(lab: &Lab, node: usize) -> Vec<TraceReport> {
    let told = lab.reports.iter().filter(|(at, _)| *at == node);
    told.filter_map(
        |(_, report)| {
            if let ToController::Traced(report) = report { Some(report.clone()) } else { None }
        },
    )
    .collect()
}

fn send(lab: &mut Lab, publisher: usize, packets: usize) {
    for _ in 0..packets {
        lab.send(publisher, 1, &[b"\x80\x60media"]);
        lab.run(Duration::from_millis(10));
    }
}

#[test]
fn every_relay_on_the_way_tells_what_passed() {
    let (mut lab, publisher) = line();
    for node in 0..3 {
        watch(&mut lab, node, 7, KEY);
    }
    send(&mut lab, publisher, 20);
    assert!(reports(&lab, 1).is_empty(), "its time is not over");
    lab.run(Duration::from_secs(1));
    send(&mut lab, publisher, 5);
    let relay = |node| TracedPeer::Relay(NodeIndex(node));
    let sfu = || TracedPeer::Sfu("sfu".to_owned());
    for (node, from, to) in [(0, sfu(), relay(1)), (1, relay(0), relay(2)), (2, relay(1), sfu())] {
        let [report] = &reports(&lab, node)[..] else { panic!("one report of {node}") };
        assert_eq!((report.trace, report.key, report.refused), (7, KEY, false));
        assert_eq!(report.watched, Duration::from_secs(1));
        let ([came], [left]) = (&report.incoming[..], &report.outgoing[..]) else {
            panic!("one way through {node}: {report:?}")
        };
        assert_eq!((&came.peer, &left.peer), (&from, &to), "at {node}");
        assert_eq!((came.packets, came.again, came.parity, came.missing()), (20, 0, 0, 0), "at {node}");
        assert_eq!((came.excess.count, came.wait.count), (20, 0), "at {node}");
        assert_eq!((left.packets, left.again, left.residence.count), (20, 0, 20), "at {node}");
        assert_eq!(left.residence.max, Duration::ZERO, "time stands still within an input");
        assert_eq!(came.hop_limit, [24, 23, 22][node]);
        assert_eq!(came.planes, u8::from(node > 0));
        assert!(came.slack_min > Duration::from_millis(100) && came.rtt_min.is_some(), "{came:?}");
    }
}

#[test]
fn what_was_sent_again_is_told_apart_with_its_wait() {
    let (mut lab, publisher) = line();
    send(&mut lab, publisher, 20);
    watch(&mut lab, 0, 1, KEY);
    watch(&mut lab, 1, 1, KEY);
    send(&mut lab, publisher, 10);
    lab.cut.insert((0, 1));
    send(&mut lab, publisher, 1);
    lab.cut.clear();
    send(&mut lab, publisher, 10);
    lab.run(Duration::from_secs(1));
    let (sender, receiver) = (&reports(&lab, 0)[0], &reports(&lab, 1)[0]);
    let (left, came) = (&sender.outgoing[0], &receiver.incoming[0]);
    // What is asked for while the link is cut is asked for again.
    assert!((left.packets, left.again >= 1) == (21, true), "{left:?}");
    assert_eq!((came.packets, came.again, came.excess.count, came.missing()), (21, 1, 20, 0));
    assert_eq!(came.wait.count, 1);
    assert!(came.wait.max >= Duration::from_millis(1), "it came later than the others: {:?}", came.wait);
}

#[test]
fn two_copies_are_told_apart_by_their_planes() {
    let mut lab = Lab::new(4);
    for (a, b) in [(0, 1), (0, 2), (1, 3), (2, 3)] {
        lab.link(a, b);
    }
    let ToRelay::Table(mut table) = planes(1, &[(0, 3, 1), (1, 3, 2), (0, 1, 1), (0, 2, 2)], &[]) else {
        panic!("a table")
    };
    table.policy_mut(PolicyIndex::DEFAULT).pairs.insert(NodeIndex(3), PlanePair::PrimaryRed);
    lab.push(0, ToRelay::Table(table));
    for via in [1, 2] {
        lab.push(via, planes(1, &[(0, 3, 3), (1, 3, 3), (0, 0, 0)], &[]));
    }
    lab.push(3, planes(1, &[(0, 0, 1)], &[]));
    for node in 0..4 {
        lab.push(node, ToRelay::Stamp { epoch: Epoch(1) });
    }
    let publisher = lab.publisher(0);
    let (_, subscription) = lab.subscriber(3);
    let protected = |entry| StreamEntry { protect: true, ..entry };
    lab.push(3, ToRelay::Stream(protected(entry(0, vec![subscription], &[]))));
    lab.push(0, ToRelay::Stream(protected(entry(0, Vec::new(), &[3]))));
    lab.run(Duration::from_secs(3));
    watch(&mut lab, 3, 1, KEY);
    send(&mut lab, publisher, 10);
    lab.run(Duration::from_secs(1));
    let report = &reports(&lab, 3)[0];
    let rows: Vec<_> =
        report.incoming.iter().map(|row| (row.peer.clone(), row.packets, row.planes)).collect();
    let relay = |node| TracedPeer::Relay(NodeIndex(node));
    assert_eq!(rows, [(relay(1), 10, 0b01), (relay(2), 10, 0b10)]);
    assert_eq!(report.outgoing[0].packets, 10, "an SFU gets one");
}

#[test]
fn other_streams_are_not_looked_at_and_too_many_are_refused() {
    let (mut lab, publisher) = line();
    let stranger = StreamKey { room: RoomId(99), ..KEY };
    for trace in 0..TRACES as u64 {
        watch(&mut lab, 1, trace, stranger);
    }
    watch(&mut lab, 1, 100, KEY);
    let refused = reports(&lab, 1);
    assert_eq!(
        refused.iter().map(|report| (report.trace, report.refused)).collect::<Vec<_>>(),
        [(100, true)]
    );
    assert_eq!(lab.relay_mut(1).1.counters().traces_refused, 1);
    send(&mut lab, publisher, 5);
    lab.run(Duration::from_secs(1));
    let over = &reports(&lab, 1)[1..];
    assert_eq!(over.len(), TRACES);
    assert!(over.iter().all(|report| report.incoming.is_empty() && report.outgoing.is_empty()));
    watch(&mut lab, 1, 101, KEY);
    lab.run(Duration::from_secs(2));
    assert_eq!(reports(&lab, 1).last().map(|report| report.trace), Some(101), "there is room again");
}
