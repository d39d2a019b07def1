//! Media that comes before what announces it waits a moment, in bounds, and whoever misses some asks for a keyframe.

mod lab;

use lab::{Lab, entry, table};
use relay_core::{ClientCommand, ClientEvent};
use std::time::Duration;
use wire_format::control::{ToController, ToRelay};
use wire_format::{EdgeHeader, Epoch, FrameKind, Priority, Sequence, Slack, StreamHandle, SubscriptionId};

/// 0 - 1, publisher at 0, which already stamps 1; a subscriber at 1, whose stream no entry names there yet.
fn early() -> (Lab, usize, usize, SubscriptionId) {
    let mut lab = Lab::new(2);
    lab.link(0, 1);
    lab.push(0, table(1, &[(1, 1)]));
    lab.push(1, table(1, &[(0, 0)]));
    lab.push(0, ToRelay::Stamp { epoch: Epoch(1) });
    let publisher = lab.publisher(0);
    let (subscriber, subscription) = lab.subscriber(1);
    lab.push(0, ToRelay::Stream(entry(0, Vec::new(), &[1])));
    lab.run(Duration::from_secs(2));
    lab.client_events.clear();
    (lab, publisher, subscriber, subscription)
}

fn keyframes_asked(lab: &Lab, publisher: usize) -> usize {
    let wanted = (publisher, ClientEvent::KeyframeRequested { request: 1 });
    lab.client_events.iter().filter(|event| **event == wanted).count()
}

#[test]
fn media_that_comes_before_its_entry_is_delivered_with_it_in_order() {
    let (mut lab, publisher, subscriber, subscription) = early();
    let packets: Vec<Vec<u8>> = (0..10).map(|i| vec![0x80 + i; 100 + usize::from(i)]).collect();
    for packet in &packets {
        lab.send(publisher, 1, &[packet]);
        lab.run(Duration::from_millis(10));
    }
    assert!(lab.delivered.is_empty());
    lab.push(1, ToRelay::Stream(entry(0, vec![subscription], &[])));
    lab.send(publisher, 1, &[b"\x80now"]);
    let got: Vec<_> = lab.delivered.iter().map(|(_, delivery, _)| delivery.sequence.0).collect();
    assert_eq!(got, (0..11).collect::<Vec<_>>());
    assert!(
        lab.delivered.iter().zip(&packets).all(|((at, _, bytes), sent)| *at == subscriber && bytes == sent)
    );
    assert_eq!(keyframes_asked(&lab, publisher), 0, "nothing was missed");
    let counters = lab.relay_mut(1).1.counters();
    assert_eq!((counters.media_waited, counters.drop_unknown_stream), (10, 0));
}

#[test]
fn what_waited_for_200_ms_is_dropped_and_its_stream_gets_a_keyframe_when_it_is_known() {
    let (mut lab, publisher, _, subscription) = early();
    lab.send(publisher, 1, &[b"\x80too early"]);
    lab.run(Duration::from_millis(150));
    lab.send(publisher, 1, &[b"\x80in time"]);
    lab.run(Duration::from_millis(100));
    assert_eq!(lab.relay_mut(1).1.counters().drop_unknown_stream, 1);
    lab.push(1, ToRelay::Stream(entry(0, vec![subscription], &[])));
    assert_eq!(lab.delivered.len(), 1);
    assert_eq!(keyframes_asked(&lab, publisher), 1);
}

#[test]
fn no_more_than_64_packets_of_a_link_wait() {
    let (mut lab, publisher, _, subscription) = early();
    for _ in 0..100 {
        lab.send(publisher, 1, &[b"\x80early"]);
    }
    lab.push(1, ToRelay::Stream(entry(0, vec![subscription], &[])));
    let got: Vec<_> = lab.delivered.iter().map(|(_, delivery, _)| delivery.sequence.0).collect();
    assert_eq!(got, (0..64).collect::<Vec<_>>(), "the oldest: a keyframe comes first");
    let counters = lab.relay_mut(1).1.counters();
    assert_eq!((counters.media_waited, counters.drop_unknown_stream), (64, 36));
    assert_eq!(keyframes_asked(&lab, publisher), 1);
}

/// What its relay sends to an SFU, under a handle.
fn edge(handle: u16, sequence: u32) -> Vec<u8> {
    let header = EdgeHeader {
        handle: StreamHandle(handle),
        sequence: Sequence(sequence),
        slack: Slack(2000),
        priority: Priority::VIDEO,
        rtcp: false,
    };
    let mut plain = vec![0, 0, 0];
    plain.extend(wire_format::frame_header(FrameKind::Edge, wire_format::EDGE_HEADER_BYTES + 6));
    plain.extend(header.encode());
    plain.extend(b"\x80early");
    plain
}

#[test]
fn at_an_sfu_media_waits_for_the_announcement_that_is_under_way() {
    let (mut lab, publisher, subscriber, subscription) = early();
    let link = lab.link_id(subscriber, 1);
    for sequence in 0..3 {
        lab.inject(subscriber, link, 1 << 20 | u64::from(sequence), edge(1, sequence));
    }
    lab.inject(subscriber, link, 1 << 21, edge(9, 0));
    assert!(lab.delivered.is_empty());
    lab.push(1, ToRelay::Stream(entry(0, vec![subscription], &[])));
    let announced = lab.client_events.iter().any(|(at, event)| {
        *at == subscriber && matches!(event, ClientEvent::Announced { handle: StreamHandle(1), .. })
    });
    assert!(announced, "the first handle of a link is 1");
    let got: Vec<_> = lab.delivered.iter().map(|(_, delivery, _)| delivery.sequence.0).collect();
    assert_eq!(got, [0, 1, 2]);
    assert!(lab.delivered.iter().all(|(_, _, bytes)| bytes == b"\x80early"));
    assert_eq!(keyframes_asked(&lab, publisher), 0);
}

#[test]
fn an_sfu_that_missed_media_before_the_announcement_asks_for_a_keyframe() {
    let (mut lab, publisher, subscriber, subscription) = early();
    let link = lab.link_id(subscriber, 1);
    lab.inject(subscriber, link, 1 << 20, edge(1, 0));
    lab.run(Duration::from_millis(210));
    lab.push(1, ToRelay::Stream(entry(0, vec![subscription], &[])));
    assert!(lab.delivered.is_empty());
    assert_eq!(keyframes_asked(&lab, publisher), 1);
}

/// A client that wants all of the room, and gets it, subscribes to a user of it; returns the new subscription's id.
fn wants_twice(lab: &mut Lab, subscriber: usize, user: &str) -> SubscriptionId {
    let narrow =
        ClientCommand::Subscribe { request: 2, room: "room".into(), user: Some(user.into()), stream: None };
    lab.ask(subscriber, narrow);
    let id = |(_, report): &(_, _)| {
        if let ToController::Subscribed(report) = report { Some(report.subscription) } else { None }
    };
    lab.reports.iter().rev().find_map(id).expect("it was reported")
}

#[test]
fn who_gives_up_one_of_two_subscriptions_goes_on_getting_what_the_other_is_for() {
    for (user, goes_on) in [("alice", true), ("bob", false)] {
        let (mut lab, publisher, subscriber, subscription) = early();
        lab.push(1, ToRelay::Stream(entry(0, vec![subscription], &[])));
        // The controller hangs: it never names the second one.
        let second = wants_twice(&mut lab, subscriber, user);
        lab.send(publisher, 1, &[b"\x80by the first"]);
        lab.ask(subscriber, ClientCommand::Unsubscribe { request: 1 });
        lab.send(publisher, 1, &[b"\x80by the second"]);
        let ended =
            |lab: &Lab| lab.client_events.iter().any(|(_, event)| matches!(event, ClientEvent::Ended { .. }));
        assert_eq!((lab.delivered.len(), ended(&lab)), (1 + usize::from(goes_on), !goes_on), "{user}");
        // A controller that comes to its senses has the last word.
        lab.push(1, ToRelay::SubscriptionRefused { subscription: second, reason: "one too many".into() });
        lab.send(publisher, 1, &[b"\x80refused"]);
        assert_eq!((lab.delivered.len(), ended(&lab)), (1 + usize::from(goes_on), true), "{user}");
    }
}
