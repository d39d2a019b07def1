//! Several workers of one relay: frames change hands only where they must, and every subscriber gets each once.

mod lab;

use lab::{KEY, Lab, entry, table};
use relay_core::{ClientCommand, ClientEvent, Endpoint, Input, Peer, RelayCommand};
use std::time::Duration;
use wire_format::control::ToRelay;
use wire_format::{Epoch, FrameKind, NodeIndex};

/// 0 - 1 - 2, two workers each, as many lanes as `lanes`. A publisher at the second worker of 0, subscribers at both
/// workers of 2 and at the first of 0.
fn line(lanes: u8) -> (Lab, usize, Vec<usize>) {
    let mut lab = Lab::with_workers(3, 2);
    for lane in 0..lanes {
        for (a, b) in [(0, 1), (1, 2)] {
            lab.link(lab.worker(a, lane), lab.worker(b, lane));
        }
    }
    lab.push(0, table(1, &[(1, 1), (2, 1)]));
    lab.push(1, table(1, &[(0, 0), (2, 2)]));
    lab.push(2, table(1, &[(0, 1), (1, 1)]));
    for node in 0..3 {
        lab.push(node, ToRelay::Stamp { epoch: Epoch(1) });
    }
    let publisher = lab.publisher(lab.worker(0, 1));
    let (near, near_subscription) = lab.subscriber(0);
    let (first, first_subscription) = lab.subscriber(lab.worker(2, 0));
    let (second, second_subscription) = lab.subscriber(lab.worker(2, 1));
    lab.push(2, ToRelay::Stream(entry(0, vec![first_subscription, second_subscription], &[])));
    lab.push(0, ToRelay::Stream(entry(0, vec![near_subscription], &[2])));
    lab.crossings.clear();
    lab.reports.clear();
    (lab, publisher, vec![near, first, second])
}

fn receivers(lab: &Lab) -> Vec<usize> {
    let mut receivers: Vec<_> = lab.delivered.iter().map(|(client, _, _)| *client).collect();
    receivers.sort_unstable();
    receivers
}

#[test]
fn a_frame_stays_on_the_lane_of_its_worker_and_reaches_subscribers_of_every_worker() {
    let (mut lab, publisher, clients) = line(2);
    lab.send(publisher, 1, &[b"\x80\x60one"]);
    let second = |node| usize::from(lab.worker(node, 1));
    assert_eq!(lab.media_crossings(), [(second(0), second(1)), (second(1), second(2))]);
    assert_eq!(receivers(&lab), clients);
    assert!(lab.delivered.iter().all(|(_, _, bytes)| bytes == b"\x80\x60one"));
    assert!(lab.reports.is_empty(), "{:?}", lab.reports);
}

#[test]
fn a_worker_without_a_lane_leaves_the_frame_to_the_first() {
    let (mut lab, publisher, clients) = line(1);
    lab.send(publisher, 1, &[b"\x80\x60one", b"\x80\x60two"]);
    assert!(lab.media_crossings().iter().all(|crossing| [(0, 1), (1, 2)].contains(crossing)));
    assert_eq!(receivers(&lab).len(), 2 * clients.len());
    let (_, transit) = lab.relay_mut(1);
    assert_eq!((transit.counters().drop_no_route, transit.counters().media_forwarded), (0, 2));
}

#[test]
fn a_frame_that_comes_to_two_workers_is_delivered_once() {
    let (mut lab, publisher, clients) = line(2);
    lab.send(publisher, 1, &[b"\x80\x60one"]);
    let crossing = lab.crossings.iter().rfind(|crossing| crossing.kind == FrameKind::Media);
    let crossing = crossing.expect("a frame crossed").clone();
    assert_eq!(crossing.to, usize::from(lab.worker(2, 1)));
    // The same frame once more, by the lane of the first worker, as after a change of path.
    let mut plain = vec![0; 3];
    plain.extend_from_slice(&((1_u16 << 11) | crossing.body.len() as u16).to_be_bytes());
    plain.extend_from_slice(&crossing.body);
    lab.inject(2, lab.link_id(2, 1), 10_000, plain);
    assert_eq!(receivers(&lab), clients);
    // The first worker knew it from the second, and hands it to nobody again.
    let duplicates =
        [lab.worker(2, 0), lab.worker(2, 1)].map(|core| lab.relay_mut(core).1.counters().drop_duplicate);
    assert_eq!(duplicates, [1, 0]);
}

#[test]
fn a_keyframe_request_finds_the_worker_of_the_publisher() {
    let (mut lab, publisher, clients) = line(2);
    // Joining asked already: let that second pass.
    lab.run(Duration::from_secs(3));
    lab.client_events.clear();
    let handle = lab.delivered_handle(clients[1], publisher);
    lab.ask(clients[1], ClientCommand::RequestKeyframe { handle });
    let asked = |lab: &Lab| {
        let wanted = (publisher, ClientEvent::KeyframeRequested { request: 1 });
        lab.client_events.iter().filter(|event| **event == wanted).count()
    };
    assert_eq!(asked(&lab), 1);
    // Merged at the publisher's worker, however many workers pass it on.
    let near = lab.delivered_handle(clients[0], publisher);
    lab.ask(clients[0], ClientCommand::RequestKeyframe { handle: near });
    assert_eq!(asked(&lab), 1);
    lab.run(Duration::from_secs(2));
    assert_eq!(asked(&lab), 2);
}

#[test]
fn without_a_controller_a_subscription_at_another_worker_is_served() {
    let (mut lab, publisher, _) = line(2);
    for index in 0..2 {
        lab.relay(lab.worker(2, index), RelayCommand::ControllerDown);
    }
    // Frames come by the second worker's lane; the new subscriber is the first worker's.
    let late = lab.client(lab.worker(2, 0));
    lab.ask(late, ClientCommand::Subscribe { request: 1, room: "room".into(), user: None, stream: None });
    lab.send(publisher, 1, &[b"\x80\x60one"]);
    assert!(receivers(&lab).contains(&late));
}

#[test]
fn garbage_from_another_worker_is_counted() {
    let (mut lab, _, _) = line(2);
    let (now, relay) = lab.relay_mut(0);
    let before = relay.counters().drop_malformed;
    for bytes in [&b""[..], &[0], &[1, 0], &[2, 1, 2], &[3], &[9, 9, 9]] {
        let place = 0..bytes.len();
        relay.handle_input(now, bytes, Input::HandedOver(std::slice::from_ref(&place)));
    }
    assert_eq!(relay.counters().drop_malformed - before, 6);
    // Its entries stay whole.
    assert!(relay.stream_views().iter().any(|view| view.key == KEY));
    let stranger = Input::LinkUp {
        link: relay_core::LinkId(77),
        peer: Peer::Relay { node: NodeIndex(9) },
        max_datagram: 1452,
    };
    relay.handle_input(now, &[], stranger);
    assert!(relay.poll_output().is_some(), "strangers are refused by every worker");
}
