//! One copy per link, whatever the number of destinations; delivered once to every subscriber, bytes untouched.

mod lab;

use lab::{Lab, entry, table};
use wire_format::control::ToRelay;
use wire_format::{Epoch, FrameKind};

/// 0 - 1 - {2, 3}, publisher at 0, subscribers at 1, 2 and 3 (two there).
fn tree() -> (Lab, usize, Vec<usize>) {
    let mut lab = Lab::new(4);
    for (a, b) in [(0, 1), (1, 2), (1, 3)] {
        lab.link(a, b);
    }
    lab.push(0, table(1, &[(1, 1), (2, 1), (3, 1)]));
    lab.push(1, table(1, &[(0, 0), (2, 2), (3, 3)]));
    lab.push(2, table(1, &[(0, 1), (1, 1), (3, 1)]));
    lab.push(3, table(1, &[(0, 1), (1, 1), (2, 1)]));
    for node in 0..4 {
        lab.push(node, ToRelay::Stamp { epoch: Epoch(1) });
    }
    let publisher = lab.publisher(0);
    let mut clients = Vec::new();
    for egress in [1, 2, 3] {
        let mut subscriptions = Vec::new();
        for _ in 0..if egress == 3 { 2 } else { 1 } {
            let (client, subscription) = lab.subscriber(egress);
            clients.push(client);
            subscriptions.push(subscription);
        }
        lab.push(egress, ToRelay::Stream(entry(0, subscriptions, &[])));
    }
    lab.push(0, ToRelay::Stream(entry(0, Vec::new(), &[1, 2, 3])));
    lab.crossings.clear();
    (lab, publisher, clients)
}

#[test]
fn each_link_carries_one_copy_and_each_subscriber_gets_the_packet() {
    let (mut lab, publisher, clients) = tree();
    let packet = b"\x80\x60opaque to the overlay";
    lab.send(publisher, 1, &[packet]);
    let mut crossed = lab.media_crossings();
    crossed.sort_unstable();
    assert_eq!(crossed, [(0, 1), (1, 2), (1, 3)]);
    let mut receivers: Vec<_> = lab.delivered.iter().map(|(client, _, _)| *client).collect();
    receivers.sort_unstable();
    assert_eq!(receivers, clients);
    for (_, delivery, bytes) in &lab.delivered {
        assert_eq!(bytes, packet);
        assert_eq!(delivery.sequence.0, 0);
    }
}

#[test]
fn sequences_grow_by_one_and_order_is_kept() {
    let (mut lab, publisher, clients) = tree();
    let packets: Vec<Vec<u8>> = (0..200u16).map(|i| vec![0x80; usize::from(i) * 6 % 1200 + 12]).collect();
    let slices: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
    lab.send(publisher, 1, &slices);
    for client in clients {
        let got: Vec<_> = lab.delivered.iter().filter(|(at, _, _)| *at == client).collect();
        assert!(got.iter().map(|(_, delivery, _)| delivery.sequence.0).eq(0..200));
        assert!(got.iter().zip(&packets).all(|((_, _, bytes), sent)| bytes == sent));
    }
}

#[test]
fn a_frame_that_comes_twice_is_delivered_once() {
    let (mut lab, publisher, clients) = tree();
    lab.send(publisher, 1, &[b"\x80once"]);
    let before = lab.delivered.len();
    let copy =
        lab.crossings.iter().find(|c| c.kind == FrameKind::Media && c.to == 2).expect("crossed").clone();
    let mut plain = vec![0, 0, 0];
    plain.extend(wire_format::frame_header(FrameKind::Media, copy.body.len()));
    plain.extend(copy.body);
    let link = lab.link_id(2, 1);
    lab.inject(2, link, 1 << 20, plain);
    assert_eq!((before, lab.delivered.len()), (clients.len(), clients.len()));
    assert_eq!(lab.relay_mut(2).1.counters().drop_duplicate, 1);
}

#[test]
fn tables_that_loop_are_ended_by_the_hop_limit() {
    let (mut lab, publisher, _) = tree();
    // 1 sends what is for 2 back to 0, and 0 to 1.
    lab.push(1, table(2, &[(0, 0), (2, 0), (3, 3)]));
    lab.push(0, table(2, &[(1, 1), (2, 1), (3, 1)]));
    lab.push(0, ToRelay::Stamp { epoch: Epoch(2) });
    lab.send(publisher, 1, &[b"\x80round"]);
    let between = lab.media_crossings().iter().filter(|hop| matches!(hop, (0, 1) | (1, 0))).count();
    assert_eq!(between, usize::from(wire_format::HOP_LIMIT));
    let dropped = lab.relay_mut(0).1.counters().drop_hop_limit + lab.relay_mut(1).1.counters().drop_hop_limit;
    assert_eq!(dropped, 1);
}

#[test]
fn a_frame_of_an_unknown_epoch_goes_by_the_newest_tables_marked() {
    let (mut lab, publisher, clients) = tree();
    lab.push(0, table(2, &[(1, 1), (2, 1), (3, 1)]));
    lab.push(0, ToRelay::Stamp { epoch: Epoch(2) });
    lab.send(publisher, 1, &[b"\x80early"]);
    assert_eq!(lab.delivered.len(), clients.len());
    assert_eq!(lab.relay_mut(1).1.counters().media_epoch_unknown, 1);
    let marked = |c: &&lab::Crossing| c.from == 1 && c.kind == FrameKind::Media;
    let crossing = lab.crossings.iter().find(marked).expect("forwarded");
    let (header, _) = wire_format::MediaHeader::decode(&crossing.body).expect("well-formed");
    assert!(header.marked);
}

#[test]
fn without_a_controller_the_last_tables_stay_and_a_late_subscriber_joins_what_is_here() {
    let (mut lab, publisher, clients) = tree();
    for node in 0..4 {
        lab.relay(node, relay_core::RelayCommand::ControllerDown);
    }
    let late = lab.client(3);
    let wish =
        relay_core::ClientCommand::Subscribe { request: 7, room: "room".into(), user: None, stream: None };
    lab.ask(late, wish);
    lab.send(publisher, 1, &[b"\x80on"]);
    assert_eq!(lab.delivered.len(), clients.len() + 1);
    assert!(lab.delivered.iter().any(|(client, _, _)| *client == late));
}
