//! Frames larger than a path cross it in two halves and go on as one; the path is measured in each direction, and a path
//! that becomes narrower is noticed.

mod lab;

use lab::{Lab, entry, table};
use std::time::Duration;
use wire_format::control::ToRelay;
use wire_format::{Epoch, FrameKind, RTP_BYTES_MAX};

/// 0 - 1 - 2, publisher at 0 and a subscriber at 2. From 1 to 2 the path takes `width` bytes of UDP payload.
fn line(width: usize) -> (Lab, usize, usize) {
    let mut lab = Lab::new(3);
    lab.widths.insert((1, 2), width);
    lab.link(0, 1);
    lab.link(1, 2);
    lab.push(0, table(1, &[(1, 1), (2, 1)]));
    lab.push(1, table(1, &[(0, 0), (2, 2)]));
    lab.push(2, table(1, &[(0, 1), (1, 1)]));
    for node in 0..3 {
        lab.push(node, ToRelay::Stamp { epoch: Epoch(1) });
    }
    let publisher = lab.publisher(0);
    let (subscriber, subscription) = lab.subscriber(2);
    lab.push(2, ToRelay::Stream(entry(0, vec![subscription], &[])));
    lab.push(0, ToRelay::Stream(entry(0, Vec::new(), &[2])));
    lab.run(Duration::from_secs(2));
    lab.crossings.clear();
    (lab, publisher, subscriber)
}

fn mtu(lab: &mut Lab, at: u16, other: usize) -> u16 {
    let link = lab.link_id(usize::from(at), other);
    let views = lab.relay_mut(at).1.link_views();
    views.iter().find(|view| view.link == link).expect("linked").stats.mtu_bytes
}

/// Frames of a kind from one core to another.
fn crossed(lab: &Lab, from: usize, to: usize, kind: FrameKind) -> usize {
    lab.crossings.iter().filter(|c| (c.from, c.to, c.kind) == (from, to, kind)).count()
}

fn packets(sizes: &[usize]) -> Vec<Vec<u8>> {
    sizes.iter().map(|bytes| (0..*bytes).map(|i| (i * 7 + bytes) as u8 | 0x80).collect()).collect()
}

fn send(lab: &mut Lab, publisher: usize, packets: &[Vec<u8>]) {
    let slices: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
    lab.send(publisher, 1, &slices);
}

fn delivered(lab: &Lab) -> Vec<Vec<u8>> {
    lab.delivered.iter().map(|(_, _, bytes)| bytes.clone()).collect()
}

#[test]
fn each_direction_is_known_and_large_packets_cross_in_halves_where_they_must() {
    let (mut lab, publisher, _) = line(1252);
    assert_eq!((mtu(&mut lab, 0, 1), mtu(&mut lab, 1, 2), mtu(&mut lab, 2, 1)), (1472, 1252, 1472));
    let sent = packets(&[1472, 20, 1200, RTP_BYTES_MAX, 1100, 1473]);
    send(&mut lab, publisher, &sent);
    assert_eq!(delivered(&lab), sent, "bit for bit and in order");
    // From the SFU and between the first two, all but three fit; then only those of 20 and 1,100 bytes.
    assert_eq!((crossed(&lab, 0, 1, FrameKind::Media), crossed(&lab, 0, 1, FrameKind::Fragment)), (3, 6));
    assert_eq!((crossed(&lab, 1, 2, FrameKind::Media), crossed(&lab, 1, 2, FrameKind::Fragment)), (2, 8));
    let counters = *lab.relay_mut(1).1.counters();
    assert_eq!((counters.frames_rejoined, counters.frames_cut, counters.drop_half), (3, 4, 0));
    assert_eq!(counters.media_forwarded, 6);
}

#[test]
fn a_packet_larger_than_a_frame_is_refused_and_counted() {
    let (mut lab, publisher, _) = line(1472);
    send(&mut lab, publisher, &packets(&[RTP_BYTES_MAX + 1]));
    assert!(lab.delivered.is_empty());
    let lab::Core::Client(client) = &lab.cores[publisher] else { panic!("the publisher is a client") };
    assert_eq!(client.counters().drop_oversize, 1);
}

#[test]
fn lost_probes_are_no_loss_of_the_link() {
    let (mut lab, _, _) = line(1300);
    lab.run(Duration::from_secs(70));
    for (node, other) in [(1, 2), (2, 1)] {
        let link = lab.link_id(usize::from(node), other);
        let views = lab.relay_mut(node).1.link_views();
        let stats = &views.iter().find(|view| view.link == link).expect("linked").stats;
        assert_eq!((stats.loss_in_ppm, stats.loss_out_ppm), (0, 0), "at {node}");
    }
    assert!(lab.relay_mut(1).1.counters().mtu_probes_sent > 20, "they were sent, and lost");
}

#[test]
fn a_path_that_becomes_narrower_costs_media_for_a_moment_only() {
    let (mut lab, publisher, _) = line(1472);
    lab.widths.insert((1, 2), 1400);
    let sent = packets(&[1390]);
    let mut lost_for = Duration::ZERO;
    for _ in 0..100 {
        let before = lab.delivered.len();
        send(&mut lab, publisher, &sent);
        lab.run(Duration::from_millis(5));
        if lab.delivered.len() == before {
            lost_for += Duration::from_millis(5);
        }
    }
    assert!(lost_for > Duration::ZERO, "the path is narrower");
    assert!(lost_for <= Duration::from_millis(100), "lost for {lost_for:?}");
    assert_eq!(mtu(&mut lab, 1, 2), 1392);
    assert_eq!(lab.relay_mut(1).1.counters().mtu_fallbacks, 1);
    // It becomes wider again, and that is found out.
    lab.widths.clear();
    lab.run(Duration::from_secs(62));
    assert_eq!(mtu(&mut lab, 1, 2), 1472);
}

#[test]
fn a_half_whose_other_half_is_lost_is_given_up_and_counted() {
    let (mut lab, _, _) = line(1472);
    let link = lab.link_id(1, 0);
    let mut plain = vec![0, 0, 1];
    plain.extend(wire_format::frame_header(FrameKind::Fragment, 53));
    plain.extend([0, 1, 0]);
    plain.extend([0x55; 50]);
    lab.inject(1, link, 1 << 20, plain);
    lab.run(Duration::from_secs(2));
    assert_eq!(lab.relay_mut(1).1.counters().drop_half, 1);
}
