//! A next hop that falls silent: its destinations move to the plane that the controller named, at once and without it,
//! and come back after a hold-down.

mod lab;

use lab::{Lab, entry, planes};
use relay_core::ClientEvent;
use std::time::Duration;
use wire_format::control::ToRelay;
use wire_format::{DestinationSet, Epoch, FrameKind, MediaHeader, NodeIndex, Plane};

const RED: u8 = 1;
const BLUE: u8 = 2;

/// 0 - {1, 2} - 3, publisher at 0, subscriber at 3: primary and blue by 1, red by 2.
fn diamond() -> (Lab, usize, usize) {
    let mut lab = Lab::new(4);
    for (a, b) in [(0, 1), (0, 2), (1, 3), (2, 3)] {
        lab.link(a, b);
    }
    lab.push(0, planes(1, &[(0, 3, 1), (RED, 3, 2), (BLUE, 3, 1), (0, 1, 1), (0, 2, 2)], &[(3, RED)]));
    lab.push(1, planes(1, &[(0, 3, 3), (RED, 3, 0), (BLUE, 3, 3), (0, 0, 0)], &[(3, RED)]));
    lab.push(2, planes(1, &[(0, 3, 3), (RED, 3, 3), (BLUE, 3, 0), (0, 0, 0)], &[(3, BLUE)]));
    lab.push(3, planes(1, &[(0, 0, 1), (0, 1, 1), (0, 2, 2)], &[]));
    for node in 0..4 {
        lab.push(node, ToRelay::Stamp { epoch: Epoch(1) });
    }
    let publisher = lab.publisher(0);
    let (subscriber, subscription) = lab.subscriber(3);
    lab.push(3, ToRelay::Stream(entry(0, vec![subscription], &[])));
    lab.push(0, ToRelay::Stream(entry(0, Vec::new(), &[3])));
    lab.run(Duration::from_secs(3));
    lab.crossings.clear();
    (lab, publisher, subscriber)
}

/// Both directions of a link carry nothing from now on.
fn cut(lab: &mut Lab, a: usize, b: usize) {
    lab.cut.extend([(a, b), (b, a)]);
}

fn send(lab: &mut Lab, publisher: usize) {
    lab.crossings.clear();
    lab.send(publisher, 1, &[b"\x80media"]);
}

#[test]
fn a_silent_next_hop_loses_its_destinations_at_once_and_the_copies_are_marked() {
    let (mut lab, publisher, subscriber) = diamond();
    send(&mut lab, publisher);
    assert_eq!(lab.media_crossings(), [(0, 1), (1, 3)]);
    assert!(lab.headers(0, 1).iter().all(|header| header.plane == Plane::PRIMARY && !header.marked));
    lab.run(Duration::from_millis(40));
    cut(&mut lab, 0, 1);
    lab.run(Duration::from_millis(100));
    send(&mut lab, publisher);
    assert_eq!(lab.media_crossings(), [(0, 2), (2, 3)]);
    for header in [lab.headers(0, 2), lab.headers(2, 3)].concat() {
        assert_eq!((header.plane, header.marked), (Plane(RED), true));
    }
    assert_eq!(lab.delivered.iter().filter(|(client, _, _)| *client == subscriber).count(), 2);
    let counters = lab.relay_mut(0).1.counters();
    assert_eq!((counters.media_rerouted, counters.destinations_moved), (1, 1));
}

#[test]
fn a_link_that_is_gone_loses_its_destinations_too() {
    let (mut lab, publisher, _) = diamond();
    lab.unlink(0, 1);
    send(&mut lab, publisher);
    assert_eq!(lab.media_crossings(), [(0, 2), (2, 3)]);
}

#[test]
fn a_neighbour_that_says_goodbye_is_left_before_its_link_closes() {
    let (mut lab, publisher, _) = diamond();
    lab.relay(1, relay_core::RelayCommand::Shutdown);
    send(&mut lab, publisher);
    assert_eq!(lab.media_crossings(), [(0, 2), (2, 3)]);
}

#[test]
fn a_next_hop_that_is_heard_and_does_not_hear_loses_its_destinations_too() {
    let (mut lab, publisher, subscriber) = diamond();
    lab.cut.insert((0, 1));
    for _ in 0..30 {
        lab.send(publisher, 1, &[b"\x80media"]);
        lab.run(Duration::from_millis(10));
    }
    assert_eq!(lab.delivered.iter().filter(|(client, _, _)| *client == subscriber).count(), 30);
    let counters = lab.relay_mut(0).1.counters();
    assert!(
        (10..=17).contains(&counters.media_resent),
        "{}: what left in 100 to 170 ms",
        counters.media_resent
    );
}

#[test]
fn with_no_live_alternative_frames_keep_going_to_the_silent_next_hop_while_its_link_is_there() {
    let (mut lab, publisher, _) = diamond();
    cut(&mut lab, 0, 1);
    cut(&mut lab, 0, 2);
    lab.run(Duration::from_millis(150));
    send(&mut lab, publisher);
    assert_eq!(lab.media_crossings(), [(0, 1)], "into the silence: it may be a burst of loss");
    assert!(lab.headers(0, 1).iter().all(|header| header.plane == Plane::PRIMARY && !header.marked));
    lab.cut.remove(&(2, 0));
    lab.cut.remove(&(0, 2));
    lab.run(Duration::from_millis(40));
    send(&mut lab, publisher);
    assert_eq!(lab.media_crossings(), [(0, 2), (2, 3)], "an alternative needs no hold-down");
}

#[test]
fn destinations_return_after_the_hold_down_and_not_before() {
    let (mut lab, publisher, _) = diamond();
    lab.run(Duration::from_secs(10));
    cut(&mut lab, 0, 1);
    lab.run(Duration::from_millis(200));
    lab.cut.clear();
    lab.run(Duration::from_millis(400));
    send(&mut lab, publisher);
    assert_eq!(lab.media_crossings(), [(0, 2), (2, 3)]);
    lab.run(Duration::from_millis(200));
    send(&mut lab, publisher);
    assert_eq!(lab.media_crossings(), [(0, 1), (1, 3)]);
    assert_eq!(lab.relay_mut(0).1.counters().destinations_returned, 1);
}

#[test]
fn bursts_in_a_row_move_destinations_ever_more_rarely() {
    let (mut lab, _, _) = diamond();
    for _ in 0..40 {
        cut(&mut lab, 0, 1);
        lab.run(Duration::from_millis(200));
        lab.cut.clear();
        lab.run(Duration::from_millis(800));
    }
    let counters = lab.relay_mut(0).1.counters();
    assert!((1..=3).contains(&counters.destinations_moved), "{}", counters.destinations_moved);
}

fn sequences(headers: &[MediaHeader]) -> Vec<u32> {
    headers.iter().map(|header| header.sequence.0).collect()
}

#[test]
fn what_a_link_swallowed_goes_again_and_what_arrived_does_not() {
    let (mut lab, publisher, _) = diamond();
    for _ in 0..10 {
        lab.send(publisher, 1, &[b"\x80before"]);
        lab.run(Duration::from_millis(10));
    }
    lab.run(Duration::from_millis(40));
    cut(&mut lab, 0, 1);
    lab.crossings.clear();
    for _ in 0..9 {
        lab.send(publisher, 1, &[b"\x80swallowed"]);
        lab.run(Duration::from_millis(10));
    }
    assert_eq!((lab.headers(0, 1).len(), lab.headers(0, 2).len()), (9, 0));
    lab.run(Duration::from_millis(20));
    let again = lab.headers(0, 2);
    assert_eq!(sequences(&again), (10..19).collect::<Vec<_>>(), "ten were reported by a heartbeat");
    for (header, first) in again.iter().zip(lab.headers(0, 1)) {
        assert_eq!((header.plane, header.marked, header.hop_limit), (Plane(RED), true, first.hop_limit));
        let waited = first.slack.0 - header.slack.0;
        assert!((9..=110).contains(&(waited / 10)), "{waited}: what it waited, in 0.1 ms");
    }
    let delivered: Vec<_> = lab.delivered.iter().map(|(_, delivery, _)| delivery.sequence.0).collect();
    assert_eq!(delivered, (0..19).collect::<Vec<_>>(), "nothing is lost");
    assert_eq!(lab.relay_mut(0).1.counters().media_resent, 9);
}

fn keyframes_asked(lab: &mut Lab) -> usize {
    let asked = |event: &ClientEvent| *event == ClientEvent::KeyframeRequested { request: 1 };
    std::mem::take(&mut lab.client_events).iter().filter(|(_, event)| asked(event)).count()
}

#[test]
fn a_change_of_path_that_lost_frames_costs_a_keyframe_and_one_that_lost_none_does_not() {
    for lost in [false, true] {
        let (mut lab, publisher, _) = diamond();
        keyframes_asked(&mut lab);
        lab.send(publisher, 1, &[b"\x80before"]);
        if lost {
            // Swallowed by relay 1, which is alive enough to have heard it.
            lab.cut.insert((1, 3));
            lab.send(publisher, 1, &[b"\x80swallowed"]);
        }
        lab.run(Duration::from_millis(40));
        cut(&mut lab, 0, 1);
        lab.run(Duration::from_millis(100));
        lab.send(publisher, 1, &[b"\x80after"]);
        lab.run(Duration::from_millis(190));
        assert_eq!(keyframes_asked(&mut lab), 0, "what goes again needs a moment");
        lab.run(Duration::from_millis(20));
        assert_eq!(keyframes_asked(&mut lab), usize::from(lost));
        assert_eq!(lab.relay_mut(3).1.counters().streams_switched, 1);
    }
}

#[test]
fn a_link_that_is_gone_owes_what_it_was_given_since_it_was_last_heard() {
    let (mut lab, publisher, _) = diamond();
    cut(&mut lab, 0, 1);
    lab.send(publisher, 1, &[b"\x80swallowed"]);
    lab.unlink(0, 1);
    assert_eq!(lab.delivered.len(), 1);
}

#[test]
fn frames_go_again_oldest_first_and_spread_over_50_ms() {
    let (mut lab, publisher, _) = diamond();
    cut(&mut lab, 0, 1);
    let packet = [0x80; 1200];
    for _ in 0..60 {
        lab.send(publisher, 1, &[&packet, &packet]);
        lab.run(Duration::from_millis(1));
    }
    let mut steps = Vec::new();
    for _ in 0..100 {
        let before = lab.headers(0, 2).len();
        lab.run(Duration::from_millis(1));
        steps.push(lab.headers(0, 2).len() - before);
    }
    let sent: Vec<_> = steps.iter().copied().filter(|frames| *frames > 0).collect();
    assert_eq!(sent.iter().sum::<usize>(), 120);
    assert!((9..=10).contains(&sent.len()) && sent.iter().all(|frames| *frames <= 13), "{sent:?}");
    let first = steps.iter().position(|frames| *frames > 0).expect("frames went again");
    let last = steps.iter().rposition(|frames| *frames > 0).expect("frames went again");
    assert!((40..=50).contains(&(last - first)), "{steps:?}");
    assert!(sequences(&lab.headers(0, 2)).is_sorted());
}

#[test]
fn a_frame_whose_slack_is_used_up_does_not_go_again() {
    let (mut lab, _, _) = diamond();
    let publisher = lab.publisher_with_budget(0, Duration::from_millis(50));
    cut(&mut lab, 0, 1);
    lab.crossings.clear();
    lab.send(publisher, 1, &[b"\x80too late"]);
    lab.run(Duration::from_millis(50));
    lab.send(publisher, 1, &[b"\x80in time"]);
    lab.run(Duration::from_millis(60));
    let again = lab.headers(0, 2);
    assert_eq!(sequences(&again), [1]);
    assert!(again[0].slack.0 < 500);
    assert_eq!(lab.relay_mut(0).1.counters().drop_slack, 1);
}

#[test]
fn without_alternative_nothing_goes_again_until_there_is_one() {
    let (mut lab, publisher, _) = diamond();
    cut(&mut lab, 0, 2);
    lab.run(Duration::from_millis(100));
    cut(&mut lab, 0, 1);
    lab.send(publisher, 1, &[b"\x80swallowed"]);
    lab.run(Duration::from_millis(120));
    assert_eq!(lab.headers(0, 2).len(), 0);
    lab.cut.remove(&(2, 0));
    lab.cut.remove(&(0, 2));
    lab.run(Duration::from_millis(40));
    assert_eq!((lab.headers(0, 2).len(), lab.delivered.len()), (1, 1));
}

#[test]
fn what_was_moved_once_is_not_sent_a_third_time() {
    let (mut lab, publisher, _) = diamond();
    cut(&mut lab, 0, 1);
    lab.run(Duration::from_millis(100));
    cut(&mut lab, 0, 2);
    send(&mut lab, publisher);
    lab.run(Duration::from_millis(300));
    lab.unlink(0, 2);
    lab.unlink(0, 1);
    assert_eq!(lab.media_crossings(), [(0, 2)], "swallowed by the second failure: on red, it stays there");
}

/// Hands relay 2 a frame on `plane` as if 0 had sent it, with the link towards 3 gone.
fn arrives_at_2_without_way(plane: u8) -> (Lab, u64) {
    let (mut lab, publisher, _) = diamond();
    lab.unlink(2, 3);
    send(&mut lab, publisher);
    let header = MediaHeader {
        plane: Plane(plane),
        marked: plane != 0,
        destinations: DestinationSet::single(NodeIndex(3)),
        ..lab.headers(0, 1)[0]
    };
    let mut head = [0; wire_format::MEDIA_HEADER_MAX];
    let head_bytes = header.encode(&mut head);
    let mut plain = vec![0, 0, 0];
    plain.extend(wire_format::frame_header(FrameKind::Media, head_bytes + 5));
    plain.extend(&head[..head_bytes]);
    plain.extend(b"\x80late");
    let link = lab.link_id(2, 0);
    lab.crossings.clear();
    lab.inject(2, link, 1 << 20, plain);
    let cut = lab.relay_mut(2).1.counters().drop_plane_cut;
    (lab, cut)
}

#[test]
fn a_frame_on_a_redundant_plane_never_moves_again() {
    let (lab, dropped) = arrives_at_2_without_way(RED);
    assert_eq!((lab.media_crossings(), dropped), (vec![], 1));
}

#[test]
fn a_frame_may_go_back_where_it_came_from_if_it_moves_to_a_plane_that_leads_elsewhere() {
    let (lab, dropped) = arrives_at_2_without_way(0);
    assert_eq!((lab.media_crossings(), dropped), (vec![(2, 0), (0, 1), (1, 3)], 0));
    assert!(lab.headers(0, 1).iter().all(|header| header.plane == Plane(BLUE) && header.marked));
}

#[test]
fn destinations_of_one_frame_part_by_link_and_plane_and_each_copy_leaves_once() {
    // 0 - {1, 2}, 1 - 2: 1 and 2 by their own links; 1 falls silent and is reached by 2.
    let mut lab = Lab::new(3);
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        lab.link(a, b);
    }
    lab.push(0, planes(1, &[(0, 1, 1), (0, 2, 2), (RED, 1, 2), (RED, 2, 2)], &[(1, RED)]));
    lab.push(1, planes(1, &[(0, 0, 0), (0, 2, 2)], &[]));
    lab.push(2, planes(1, &[(0, 0, 0), (0, 1, 1), (RED, 1, 1)], &[]));
    for node in 0..3 {
        lab.push(node, ToRelay::Stamp { epoch: Epoch(1) });
    }
    let publisher = lab.publisher(0);
    for node in [1, 2] {
        let (_, subscription) = lab.subscriber(node);
        lab.push(node, ToRelay::Stream(entry(0, vec![subscription], &[])));
    }
    lab.push(0, ToRelay::Stream(entry(0, Vec::new(), &[1, 2])));
    lab.run(Duration::from_secs(3));
    cut(&mut lab, 0, 1);
    lab.run(Duration::from_millis(110));
    send(&mut lab, publisher);
    let mut copies: Vec<_> = lab
        .headers(0, 2)
        .iter()
        .map(|header| (header.plane.0, header.marked, header.destinations.iter().collect::<Vec<_>>()))
        .collect();
    copies.sort();
    assert_eq!(copies, [(0, false, vec![NodeIndex(2)]), (RED, true, vec![NodeIndex(1)])]);
    assert_eq!(lab.headers(2, 1).len(), 1);
    assert_eq!(lab.delivered.len(), 2);
}
