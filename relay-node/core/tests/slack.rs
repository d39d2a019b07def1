//! Slack is spent hop by hop: what took longer than usual has less left at the next hop, and what has none left goes to
//! no further relay, is counted, and still reaches who is linked here.

mod lab;

use lab::{Lab, entry, table};
use std::time::Duration;
use wire_format::control::ToRelay;
use wire_format::{Epoch, FrameKind, MediaHeader, Priority, Sequence, Slack, frame_header};

const MS: Duration = Duration::from_millis(1);

/// Relays 0, 1 and 2 in a line, a publisher at 0 and subscribers at 1 and 2; and the body of a media frame on its way to 1.
fn line() -> (Lab, usize, Vec<u8>) {
    let mut lab = Lab::new(3);
    lab.link(0, 1);
    lab.link(1, 2);
    lab.push(0, table(1, &[(1, 1), (2, 1)]));
    lab.push(1, table(1, &[(0, 0), (2, 2)]));
    lab.push(2, table(1, &[(0, 1), (1, 1)]));
    for node in 0..3 {
        lab.push(node, ToRelay::Stamp { epoch: Epoch(1) });
    }
    let publisher = lab.publisher(0);
    let (near, at_one) = lab.subscriber(1);
    let (_, at_two) = lab.subscriber(2);
    lab.push(1, ToRelay::Stream(entry(0, vec![at_one], &[])));
    lab.push(2, ToRelay::Stream(entry(0, vec![at_two], &[])));
    lab.push(0, ToRelay::Stream(entry(0, Vec::new(), &[1, 2])));
    // The links know how long datagrams take: no time at all.
    lab.run(2000 * MS);
    lab.send(publisher, 1, &[b"\x80packet"]);
    let first = lab.crossings.iter().find(|crossing| crossing.kind == FrameKind::Media && crossing.to == 1);
    let body = first.expect("crossed").body.clone();
    lab.crossings.clear();
    lab.delivered.clear();
    (lab, near, body)
}

/// A packet comes to relay 1 so much later than it should, with so much slack left when it left relay 0.
fn comes_late(lab: &mut Lab, body: &[u8], sequence: u32, late: Duration, slack: Duration) {
    let (header, at) = MediaHeader::decode(body).expect("well-formed");
    comes_late_as(
        lab,
        MediaHeader { sequence: Sequence(sequence), slack: Slack::from_duration(slack), ..header },
        &body[at..],
        late,
    );
}

fn comes_late_as(lab: &mut Lab, header: MediaHeader, packet: &[u8], late: Duration) {
    let mut again = vec![0; wire_format::MEDIA_HEADER_MAX];
    let used = header.encode(&mut again);
    again.truncate(used);
    again.extend(packet);
    let mut plain = vec![0; 3];
    plain.extend(frame_header(FrameKind::Media, again.len()));
    plain.extend(again);
    let link = lab.link_id(1, 0);
    lab.inject_late(1, link, (1 << 20) + u64::from(header.sequence.0), plain, late);
}

#[test]
fn each_hop_spends_what_a_packet_took_longer_than_usual() {
    let (mut lab, near, body) = line();
    comes_late(&mut lab, &body, 1, 40 * MS, 50 * MS);
    let onward = lab.headers(1, 2);
    assert_eq!(onward.iter().map(|header| header.slack).collect::<Vec<_>>(), [Slack::from_duration(10 * MS)]);
    assert_eq!(lab.delivered.iter().filter(|(client, _, _)| *client == near).count(), 1);
    let counters = lab.relay_mut(1).1.counters();
    assert_eq!((counters.media_late, counters.drop_slack), (0, 0));
}

#[test]
fn what_has_no_slack_left_goes_to_no_further_relay_and_is_counted() {
    let (mut lab, near, body) = line();
    for (sequence, late, slack) in [(1, 60, 50), (2, 500, 200), (3, 50, 50)] {
        comes_late(&mut lab, &body, sequence, late * MS, slack * MS);
    }
    assert_eq!(lab.headers(1, 2), []);
    assert_eq!(lab.delivered.iter().filter(|(client, _, _)| *client == near).count(), 3, "late, but here");
    assert_eq!(lab.relay_mut(1).1.counters().drop_slack, 3);
}

/// Players wait a little longer rather than lose a word; what is hopelessly late goes nowhere.
#[test]
fn audio_that_is_late_goes_on_with_a_little_slack_unless_it_is_much_too_late() {
    let (mut lab, near, body) = line();
    let (header, at) = MediaHeader::decode(&body).expect("well-formed");
    let audio = |sequence, slack: u32| MediaHeader {
        sequence: Sequence(sequence),
        slack: Slack::from_duration(slack * MS),
        priority: Priority::AUDIO,
        ..header
    };
    for (sequence, late, slack) in [(1, 60, 50), (2, 500, 200), (3, 50, 50), (4, 20, 10), (5, 700, 200)] {
        comes_late_as(&mut lab, audio(sequence, slack), &body[at..], late * MS);
    }
    let onward: Vec<_> = lab.headers(1, 2).iter().map(|header| (header.sequence.0, header.slack)).collect();
    let least = Slack::from_millis(50);
    assert_eq!(onward, [(1, least), (2, least), (3, least), (4, Slack::from_millis(10))]);
    assert_eq!(lab.delivered.iter().filter(|(client, _, _)| *client == near).count(), 5, "late, but here");
    let counters = lab.relay_mut(1).1.counters();
    assert_eq!((counters.media_late, counters.drop_slack), (5, 1));
}
