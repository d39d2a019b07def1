//! Plain RTP: what SFUs that embed nothing may rely on.

mod lab;

use lab::{KEY, Lab, entry, table};
use relay_core::{
    EndReason, Endpoint as _, Notice, PlainId, PlainLocal, PlainPort, PlainPublish, PlainRefusal,
    PlainSource, PlainSubscribe,
};
use std::net::SocketAddr;
use std::time::Duration;
use wire_format::control::{StreamName, ToController, ToRelay};
use wire_format::rtcp::{self, ReportBlock, RtcpBody};
use wire_format::{
    Codec, Epoch, Incarnation, MediaKind, NodeIndex, Priority, PublicationId, RtpDescription, StreamId,
    StreamKey, SubscriptionId,
};

const SSRC: u32 = 0x1234;
const PUBLISHER: &str = "127.0.0.1:5000";
const SUBSCRIBER: &str = "127.0.0.1:6000";
const OWN: PlainPort = PlainPort(7);
const OWN_RTCP: PlainPort = PlainPort(8);

fn relay_port(separate: bool) -> PlainLocal {
    let address = address("127.0.0.1:4700");
    PlainLocal {
        rtp_port: PlainPort::RELAY,
        rtp: address,
        rtcp_port: PlainPort::RELAY,
        rtcp: address,
        separate,
    }
}

fn own_ports() -> PlainLocal {
    PlainLocal {
        rtp_port: OWN,
        rtp: address("127.0.0.1:40000"),
        rtcp_port: OWN_RTCP,
        rtcp: address("127.0.0.1:40001"),
        separate: true,
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn camera(local: PlainLocal) -> PlainPublish {
    PlainPublish {
        name: StreamName {
            namespace: "demo".into(),
            room: "room".into(),
            user: "alice".into(),
            stream: "video".into(),
        },
        kind: MediaKind::Video,
        ssrc: Some(SSRC),
        source: PlainSource { ip: address(PUBLISHER).ip(), port: None },
        local,
        budget: None,
        protect: false,
        description: RtpDescription::default(),
        lease: None,
    }
}

fn everything(destination: &str, local: PlainLocal) -> PlainSubscribe {
    PlainSubscribe {
        namespace: "demo".into(),
        room: "room".into(),
        user: None,
        stream: None,
        destination: address(destination),
        rtcp_destination: None,
        local,
        lease: None,
    }
}

fn publish(lab: &mut Lab, node: u16, spec: PlainPublish) -> PublicationId {
    let id = lab.change(node, |relay, now| relay.publish_plain(now, spec)).expect("registered");
    lab.push(node, ToRelay::PublicationGranted { publication: id, key: KEY, incarnation: Incarnation(1) });
    id
}

fn subscribe(lab: &mut Lab, node: u16, spec: PlainSubscribe) -> SubscriptionId {
    lab.change(node, |relay, now| relay.subscribe_plain(now, spec)).expect("registered")
}

/// A publisher at relay 0 and a subscriber at relay 1, on their relay ports.
fn call() -> (Lab, PublicationId, SubscriptionId) {
    call_with(camera(relay_port(false)), everything(SUBSCRIBER, relay_port(false)))
}

fn call_with(
    publication: PlainPublish,
    subscription: PlainSubscribe,
) -> (Lab, PublicationId, SubscriptionId) {
    let mut lab = Lab::new(2);
    lab.link(0, 1);
    for (node, other) in [(0, 1), (1, 0)] {
        lab.push(node, table(1, &[(other, other)]));
        lab.push(node, ToRelay::Stamp { epoch: Epoch(1) });
    }
    let publication = publish(&mut lab, 0, publication);
    let subscription = subscribe(&mut lab, 1, subscription);
    lab.push(1, ToRelay::Stream(entry(0, vec![subscription], &[])));
    lab.push(0, ToRelay::Stream(entry(0, Vec::new(), &[1])));
    lab.take_plain();
    (lab, publication, subscription)
}

fn rtp(ssrc: u32, sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&(u32::from(sequence) * 3000).to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(b"a picture");
    packet.push(sequence as u8);
    packet
}

fn sender_report(ssrc: u32, ntp: u64) -> Vec<u8> {
    let mut packet = vec![0x80, 200, 0, 6];
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(&ntp.to_be_bytes());
    packet.extend_from_slice(&[0; 12]);
    packet
}

fn bye(ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x81, 203, 0, 1];
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet
}

fn picture_loss(media: u32) -> Vec<u8> {
    let mut packet = Vec::new();
    rtcp::write_receiver_report(&mut packet, 99, &[]);
    rtcp::write_picture_loss(&mut packet, 99, media);
    packet
}

fn full_intra_request(media: u32) -> Vec<u8> {
    let mut packet = vec![0x84, 206, 0, 4, 0, 0, 0, 99, 0, 0, 0, 0];
    packet.extend_from_slice(&media.to_be_bytes());
    packet.extend_from_slice(&[1, 0, 0, 0]);
    packet
}

fn nack(media: u32, first: u16, mask: u16) -> Vec<u8> {
    let mut packet = vec![0x81, 205, 0, 3, 0, 0, 0, 99];
    packet.extend_from_slice(&media.to_be_bytes());
    packet.extend_from_slice(&first.to_be_bytes());
    packet.extend_from_slice(&mask.to_be_bytes());
    packet
}

/// Packets that went to an address since the last look.
fn sent_to(lab: &mut Lab, to: &str) -> Vec<Vec<u8>> {
    let to = address(to);
    lab.take_plain().into_iter().filter(|sent| sent.2 == to).map(|sent| sent.3).collect()
}

fn counters(lab: &mut Lab, node: u16) -> relay_core::Counters {
    *lab.relay_mut(node).1.counters()
}

/// Whether a compound that went to the publisher asks for a keyframe of `SSRC`, and is a compound.
fn asks_for_keyframe(packet: &[u8]) -> bool {
    let bodies: Vec<_> = rtcp::packets(packet).map(|packet| packet.expect("legal").body).collect();
    assert!(matches!(bodies[0], RtcpBody::ReceiverReport { .. }), "a compound begins with a report");
    bodies.contains(&RtcpBody::PictureLoss { media: SSRC })
}

#[test]
fn the_ingress_reads_how_urgent_packets_are() {
    let description = RtpDescription { codec: Some(Codec::H264), ..RtpDescription::default() };
    let publication = PlainPublish { description, ..camera(relay_port(false)) };
    let (mut lab, _, _) = call_with(publication, everything(SUBSCRIBER, relay_port(false)));
    lab.crossings.clear();
    let packets = [0x65, 0x41, 0x01].map(|unit| {
        let mut packet = rtp(SSRC, u16::from(unit));
        packet[12] = unit;
        packet
    });
    let borrowed: Vec<_> = packets.iter().map(Vec::as_slice).collect();
    lab.plain_in(0, PlainPort::RELAY, PUBLISHER, &borrowed);
    lab.plain_in(0, PlainPort::RELAY, PUBLISHER, &[&sender_report(SSRC, 1)]);
    let priorities: Vec<_> = lab.headers(0, 1).iter().map(|header| header.priority).collect();
    assert_eq!(priorities, [Priority::BASE, Priority::VIDEO, Priority::ENHANCEMENT, Priority::BASE]);
}

#[test]
fn rtp_crosses_bit_for_bit_and_is_numbered_at_its_ingress() {
    let (mut lab, publication, subscription) = call();
    let packets: Vec<_> = [65534, 65535, 1, 0].map(|sequence| rtp(SSRC, sequence)).into();
    let borrowed: Vec<_> = packets.iter().map(Vec::as_slice).collect();
    lab.plain_in(0, PlainPort::RELAY, PUBLISHER, &borrowed);
    let sent = lab.take_plain();
    assert!(sent.iter().all(|sent| (sent.0, sent.1, sent.2) == (1, PlainPort::RELAY, address(SUBSCRIBER))));
    assert_eq!(sent.into_iter().map(|sent| sent.3).collect::<Vec<_>>(), packets);
    let sequences: Vec<_> = lab
        .crossings
        .iter()
        .filter_map(|crossing| Some(wire_format::MediaHeader::decode(&crossing.body).ok()?.0.sequence.0))
        .collect();
    assert_eq!(sequences, [0, 1, 2, 3]);
    let (now, relay) = lab.relay_mut(0);
    let view = &relay.plain_publications(now, Some(publication))[0];
    assert_eq!((view.packets, view.granted, view.rtp_from), (4, true, Some(address(PUBLISHER))));
    let (now, relay) = lab.relay_mut(1);
    let view = &relay.plain_subscriptions(now, Some(subscription))[0];
    assert_eq!((view.packets, view.streams.len(), view.streams[0].ssrc), (4, 1, Some(SSRC)));
}

#[test]
fn publisher_and_subscriber_at_one_relay_need_no_other() {
    let mut lab = Lab::new(1);
    publish(&mut lab, 0, camera(relay_port(false)));
    let subscription = subscribe(&mut lab, 0, everything(SUBSCRIBER, own_ports()));
    lab.push(0, ToRelay::Stream(entry(0, vec![subscription], &[])));
    lab.plain_in(0, PlainPort::RELAY, PUBLISHER, &[&rtp(SSRC, 1)]);
    assert_eq!(lab.take_plain(), [(0, OWN, address(SUBSCRIBER), rtp(SSRC, 1))]);
}

#[test]
fn packets_of_strangers_are_dropped_and_counted_and_never_answered() {
    let (mut lab, _, _) = call();
    lab.plain_in(0, PlainPort::RELAY, "127.0.0.2:5000", &[&rtp(SSRC, 1), &sender_report(SSRC, 1)]);
    lab.plain_in(0, PlainPort::RELAY, PUBLISHER, &[&rtp(SSRC + 1, 1), &bye(SSRC + 1)]);
    lab.plain_in(0, PlainPort(77), PUBLISHER, &[&rtp(SSRC, 1)]);
    lab.plain_in(0, PlainPort::RELAY, PUBLISHER, &[&[0x80, 96, 0], &[0x80, 200, 0, 9]]);
    lab.plain_in(1, PlainPort::RELAY, "127.0.0.2:6000", &[&picture_loss(SSRC), &nack(SSRC, 1, 0)]);
    lab.run(Duration::from_secs(3));
    assert_eq!(lab.take_plain(), []);
    let at_ingress = counters(&mut lab, 0);
    assert_eq!((at_ingress.drop_plain_stranger, at_ingress.drop_plain_malformed), (6, 2));
    assert_eq!(at_ingress.media_published, 0);
    assert_eq!(counters(&mut lab, 1).drop_plain_stranger, 2);
}

#[test]
fn a_port_of_its_own_takes_any_ssrc_from_its_source_alone() {
    let mut spec = camera(own_ports());
    spec.ssrc = None;
    let (mut lab, publication, _) = call_with(spec, everything(SUBSCRIBER, relay_port(false)));
    // The publisher starts again with another source and number.
    lab.plain_in(0, OWN, PUBLISHER, &[&rtp(1, 1), &rtp(1, 2)]);
    lab.plain_in(0, OWN, "127.0.0.1:5002", &[&rtp(2, 60_000)]);
    assert_eq!(sent_to(&mut lab, SUBSCRIBER), [rtp(1, 1), rtp(1, 2), rtp(2, 60_000)]);
    lab.plain_in(0, OWN, "127.0.0.9:5000", &[&rtp(1, 3)]);
    assert_eq!(sent_to(&mut lab, SUBSCRIBER), Vec::<Vec<u8>>::new());
    let (now, relay) = lab.relay_mut(0);
    assert_eq!(relay.plain_publications(now, Some(publication))[0].strangers, 1);
}

#[test]
fn a_source_port_that_was_given_is_compared() {
    let mut spec = camera(relay_port(false));
    spec.source.port = Some(5000);
    let (mut lab, _, _) = call_with(spec, everything(SUBSCRIBER, relay_port(false)));
    lab.plain_in(0, PlainPort::RELAY, "127.0.0.1:5001", &[&rtp(SSRC, 1)]);
    lab.plain_in(0, PlainPort::RELAY, PUBLISHER, &[&rtp(SSRC, 2)]);
    assert_eq!(sent_to(&mut lab, SUBSCRIBER), [rtp(SSRC, 2)]);
}

#[test]
fn on_the_relay_port_a_publication_needs_an_ssrc_that_is_free() {
    let (mut lab, first, _) = call();
    let refused = |lab: &mut Lab, spec| lab.change(0, |relay, now| relay.publish_plain(now, spec));
    let taken = refused(&mut lab, camera(relay_port(false)));
    assert_eq!(taken, Err(PlainRefusal::Taken { by: first, ssrc: SSRC }));
    let mut spec = camera(relay_port(false));
    spec.ssrc = None;
    assert_eq!(refused(&mut lab, spec), Err(PlainRefusal::NeedsSsrc));
    let mut spec = camera(own_ports());
    spec.name.room = String::new();
    assert!(matches!(refused(&mut lab, spec), Err(PlainRefusal::Name(_))));
}

#[test]
fn pli_and_fir_reach_the_publisher_as_one_pli_from_the_port_it_sends_to() {
    let (mut lab, _, _) = call();
    lab.plain_in(0, PlainPort::RELAY, PUBLISHER, &[&rtp(SSRC, 1)]);
    lab.run(Duration::from_millis(1500));
    lab.take_plain();
    lab.plain_in(1, PlainPort::RELAY, SUBSCRIBER, &[&picture_loss(SSRC), &full_intra_request(SSRC)]);
    let asked = lab.take_plain();
    assert_eq!(asked.len(), 1, "the first at once, the second is merged");
    assert_eq!((asked[0].0, asked[0].1, asked[0].2), (0, PlainPort::RELAY, address(PUBLISHER)));
    assert!(asks_for_keyframe(&asked[0].3));
    lab.run(Duration::from_secs(2));
    let later = sent_to(&mut lab, PUBLISHER);
    assert_eq!(later.iter().filter(|packet| asks_for_keyframe(packet)).count(), 1, "a second later");
    let at_egress = counters(&mut lab, 1);
    assert_eq!(at_egress.plain_keyframe_requests, 2);
}

#[test]
fn a_new_subscriber_gets_a_keyframe() {
    let (mut lab, _, _) = call();
    lab.plain_in(0, PlainPort::RELAY, PUBLISHER, &[&rtp(SSRC, 1)]);
    lab.run(Duration::from_millis(1500));
    lab.take_plain();
    let late = subscribe(&mut lab, 0, everything("127.0.0.1:6002", relay_port(false)));
    lab.push(0, ToRelay::Stream(entry(0, vec![late], &[1])));
    let asked = sent_to(&mut lab, PUBLISHER);
    assert!(asked.len() == 1 && asks_for_keyframe(&asked[0]), "{asked:?}");
}

#[test]
fn sender_reports_travel_with_their_stream_and_without_the_others_of_their_compound() {
    let (mut lab, _, _) = call();
    let mut names = Vec::new();
    rtcp::write_cname(&mut names, SSRC, "alice");
    let mut foreign = Vec::new();
    rtcp::write_cname(&mut foreign, SSRC + 1, "bob");
    let (ours, theirs) = (sender_report(SSRC, 5), sender_report(SSRC + 1, 6));
    let compound = [&ours[..], &names, &theirs, &foreign].concat();
    lab.plain_in(0, PlainPort::RELAY, PUBLISHER, &[&rtp(SSRC, 1)]);
    lab.take_plain();
    lab.plain_in(0, PlainPort::RELAY, "127.0.0.1:5001", &[&compound]);
    assert_eq!(sent_to(&mut lab, SUBSCRIBER), [[ours, names].concat()]);
    lab.plain_in(0, PlainPort::RELAY, PUBLISHER, &[&bye(SSRC)]);
    assert_eq!(sent_to(&mut lab, SUBSCRIBER), [bye(SSRC)]);
}

#[test]
fn publishers_hear_what_was_lost_once_a_second_while_they_send() {
    let (mut lab, _, _) = call_with(camera(own_ports()), everything(SUBSCRIBER, relay_port(false)));
    lab.plain_in(0, OWN, PUBLISHER, &[&rtp(SSRC, 10), &rtp(SSRC, 11), &rtp(SSRC, 13)]);
    lab.plain_in(0, OWN_RTCP, "127.0.0.1:5009", &[&sender_report(SSRC, 0x1111_2222_3333_4444)]);
    lab.run(Duration::from_secs(5));
    let reports: Vec<_> = lab.take_plain().into_iter().filter(|sent| sent.0 == 0).collect();
    let [(_, OWN_RTCP, to, bytes)] = &reports[..] else { panic!("one report: {reports:?}") };
    assert_eq!(*to, address("127.0.0.1:5009"), "where its RTCP came from");
    let bodies: Vec<_> = rtcp::packets(bytes).map(|packet| packet.expect("legal").body).collect();
    let RtcpBody::ReceiverReport { ssrc: _, mut blocks } = bodies[0] else { panic!("an RR") };
    let expected = ReportBlock {
        ssrc: SSRC,
        fraction_lost: 64,
        cumulative_lost: 1,
        highest_sequence: 13,
        last_sender_report: 0x2222_3333,
        delay_since: 65_536,
        jitter: blocks.clone().next().expect("a block").jitter,
    };
    assert_eq!((blocks.next(), blocks.next()), (Some(expected), None));
    assert!(matches!(bodies[1], RtcpBody::SourceDescription { .. }));
}

#[test]
fn a_nack_is_answered_from_the_cache_but_not_twice_in_a_moment() {
    let (mut lab, _, subscription) = call();
    let packets: Vec<_> = (1..=5).map(|sequence| rtp(SSRC, sequence)).collect();
    let borrowed: Vec<_> = packets.iter().map(Vec::as_slice).collect();
    lab.plain_in(0, PlainPort::RELAY, PUBLISHER, &borrowed);
    lab.take_plain();
    lab.plain_in(1, PlainPort::RELAY, SUBSCRIBER, &[&nack(SSRC, 2, 0b101)]);
    assert_eq!(sent_to(&mut lab, SUBSCRIBER), [rtp(SSRC, 2), rtp(SSRC, 3), rtp(SSRC, 5)]);
    lab.plain_in(1, PlainPort::RELAY, SUBSCRIBER, &[&nack(SSRC, 2, 0)]);
    assert_eq!(sent_to(&mut lab, SUBSCRIBER), Vec::<Vec<u8>>::new());
    lab.run(Duration::from_millis(50));
    lab.plain_in(1, PlainPort::RELAY, SUBSCRIBER, &[&nack(SSRC, 2, 0)]);
    assert_eq!(sent_to(&mut lab, SUBSCRIBER), [rtp(SSRC, 2)]);
    lab.run(Duration::from_secs(2));
    lab.take_plain();
    lab.plain_in(1, PlainPort::RELAY, SUBSCRIBER, &[&nack(SSRC, 2, 0)]);
    assert_eq!(sent_to(&mut lab, SUBSCRIBER), Vec::<Vec<u8>>::new(), "too old to be of use");
    let (now, relay) = lab.relay_mut(1);
    let view = &relay.plain_subscriptions(now, Some(subscription))[0];
    assert_eq!((view.nacked, view.resent), (6, 4));
}

#[test]
fn a_nack_before_its_packet_is_remembered_until_it_comes() {
    let (mut lab, _, _) = call();
    lab.plain_in(0, PlainPort::RELAY, PUBLISHER, &[&rtp(SSRC, 1), &rtp(SSRC, 3)]);
    lab.take_plain();
    lab.plain_in(1, PlainPort::RELAY, SUBSCRIBER, &[&nack(SSRC, 2, 0), &nack(SSRC, 2, 0)]);
    assert_eq!(sent_to(&mut lab, SUBSCRIBER), Vec::<Vec<u8>>::new());
    lab.plain_in(0, PlainPort::RELAY, PUBLISHER, &[&rtp(SSRC, 2)]);
    assert_eq!(sent_to(&mut lab, SUBSCRIBER), [rtp(SSRC, 2)]);
    assert_eq!(counters(&mut lab, 1).plain_nacks_awaited, 1);
    // The subscriber repeated itself while the packet was on its way: that is the same request.
    lab.plain_in(1, PlainPort::RELAY, SUBSCRIBER, &[&nack(SSRC, 2, 0)]);
    assert_eq!(sent_to(&mut lab, SUBSCRIBER), Vec::<Vec<u8>>::new());
    lab.run(Duration::from_millis(50));
    lab.plain_in(1, PlainPort::RELAY, SUBSCRIBER, &[&nack(SSRC, 2, 0)]);
    assert_eq!(sent_to(&mut lab, SUBSCRIBER), [rtp(SSRC, 2)]);
}

#[test]
fn a_subscriber_that_asks_for_everything_again_gets_a_bounded_answer() {
    let (mut lab, _, _) = call();
    let packets: Vec<_> = (0..500).map(|sequence| rtp(SSRC, sequence)).collect();
    let borrowed: Vec<_> = packets.iter().map(Vec::as_slice).collect();
    lab.plain_in(0, PlainPort::RELAY, PUBLISHER, &borrowed);
    lab.take_plain();
    let greedy: Vec<_> = (0..30).map(|block| nack(SSRC, block * 17, 0xFFFF)).collect();
    let borrowed: Vec<_> = greedy.iter().map(Vec::as_slice).collect();
    lab.plain_in(1, PlainPort::RELAY, SUBSCRIBER, &borrowed);
    assert_eq!(sent_to(&mut lab, SUBSCRIBER).len(), 256);
    assert!(counters(&mut lab, 1).drop_plain_resend_rate > 0);
}

/// The entry of a second stream of the room.
fn second(ingress: u16, subscriptions: Vec<SubscriptionId>) -> wire_format::control::StreamEntry {
    let mut second = entry(ingress, subscriptions, &[]);
    second.key = StreamKey { stream: StreamId(4), ..KEY };
    second.name.stream = "screen".into();
    second
}

#[test]
fn a_stream_whose_ssrc_is_taken_at_a_destination_is_held_back_and_told() {
    let mut lab = Lab::new(1);
    publish(&mut lab, 0, camera(relay_port(false)));
    let mut spec = camera(own_ports());
    spec.name.stream = "screen".into();
    let screen = lab.change(0, |relay, now| relay.publish_plain(now, spec)).expect("registered");
    let key = StreamKey { stream: StreamId(4), ..KEY };
    lab.push(0, ToRelay::PublicationGranted { publication: screen, key, incarnation: Incarnation(1) });
    let id = subscribe(&mut lab, 0, everything(SUBSCRIBER, relay_port(false)));
    lab.push(0, ToRelay::Stream(entry(0, vec![id], &[])));
    lab.push(0, ToRelay::Stream(second(0, vec![id])));
    lab.plain_in(0, PlainPort::RELAY, PUBLISHER, &[&rtp(SSRC, 1)]);
    lab.plain_in(0, OWN, PUBLISHER, &[&rtp(SSRC, 100), &rtp(SSRC, 101), &sender_report(SSRC, 1)]);
    assert_eq!(sent_to(&mut lab, SUBSCRIBER), [rtp(SSRC, 1)]);
    let collisions: Vec<_> = lab
        .notices
        .iter()
        .filter_map(|(_, notice)| {
            let Notice::Collision { subscription, name, ssrc } = notice else { return None };
            Some((*subscription, name.stream.as_str(), *ssrc))
        })
        .collect();
    assert_eq!(collisions, [(id, "screen", SSRC)]);
    assert_eq!(counters(&mut lab, 0).drop_plain_collision, 2);
    let (now, relay) = lab.relay_mut(0);
    let view = &relay.plain_subscriptions(now, Some(id))[0];
    let held_back: Vec<_> = view.streams.iter().filter(|stream| stream.collides).collect();
    assert!(held_back.len() == 1 && held_back[0].name.stream == "screen");
    // Another source is welcome, and once the first stream has gone, the SSRC is free.
    lab.plain_in(0, OWN, PUBLISHER, &[&rtp(SSRC + 1, 102)]);
    assert_eq!(sent_to(&mut lab, SUBSCRIBER), [rtp(SSRC + 1, 102)]);
    lab.push(0, ToRelay::StreamGone { key: KEY });
    lab.plain_in(0, OWN, PUBLISHER, &[&rtp(SSRC, 103)]);
    assert_eq!(sent_to(&mut lab, SUBSCRIBER), [rtp(SSRC, 103)]);
}

#[test]
fn a_subscribers_rtcp_address_is_learned_from_its_host_alone() {
    let (mut lab, _, _) = call_with(camera(relay_port(false)), everything(SUBSCRIBER, own_ports()));
    lab.plain_in(0, PlainPort::RELAY, PUBLISHER, &[&rtp(SSRC, 1), &sender_report(SSRC, 1)]);
    let reports = |lab: &mut Lab| -> Vec<_> {
        let sent = lab.take_plain().into_iter();
        sent.filter(|sent| sent.1 == OWN_RTCP).map(|sent| sent.2.to_string()).collect()
    };
    assert_eq!(reports(&mut lab), ["127.0.0.1:6001"], "beside its RTP, until it is known");
    lab.plain_in(1, OWN_RTCP, "127.0.0.9:9999", &[&picture_loss(SSRC)]);
    lab.plain_in(0, PlainPort::RELAY, PUBLISHER, &[&sender_report(SSRC, 2)]);
    assert_eq!(reports(&mut lab), ["127.0.0.1:6001"], "a stranger changes nothing");
    lab.plain_in(1, OWN_RTCP, "127.0.0.1:9999", &[&picture_loss(SSRC)]);
    lab.plain_in(0, PlainPort::RELAY, PUBLISHER, &[&sender_report(SSRC, 3)]);
    assert_eq!(reports(&mut lab), ["127.0.0.1:9999"]);
    assert_eq!(counters(&mut lab, 1).plain_keyframe_requests, 1);
}

#[test]
fn a_lease_that_nobody_renews_ends_its_registration() {
    let mut spec = everything(SUBSCRIBER, own_ports());
    spec.lease = Some(Duration::from_secs(10));
    let (mut lab, publication, subscription) = call_with(camera(relay_port(false)), spec);
    let id = PlainId::Subscription(subscription);
    lab.run(Duration::from_secs(9));
    assert!(lab.change(1, |relay, now| relay.renew_plain(now, id, None)));
    lab.run(Duration::from_secs(9));
    lab.plain_in(0, PlainPort::RELAY, PUBLISHER, &[&rtp(SSRC, 1)]);
    assert_eq!(sent_to(&mut lab, SUBSCRIBER).len(), 1);
    lab.run(Duration::from_secs(2));
    assert!(lab.notices.contains(&(1, Notice::Ended { id, reason: EndReason::Lease })));
    assert_eq!(lab.closed_plain, [(1, OWN), (1, OWN_RTCP)]);
    assert!(lab.reports.contains(&(1, ToController::Unsubscribed { subscription })));
    lab.plain_in(0, PlainPort::RELAY, PUBLISHER, &[&rtp(SSRC, 2)]);
    assert_eq!(sent_to(&mut lab, SUBSCRIBER).len(), 0);
    assert!(!lab.change(1, |relay, now| relay.renew_plain(now, id, None)));
    // The publication has no lease: it lives until somebody ends it.
    lab.run(Duration::from_secs(1000));
    let id = PlainId::Publication(publication);
    assert!(lab.change(0, |relay, now| relay.end_plain(now, id)));
    assert!(!lab.change(0, |relay, now| relay.end_plain(now, id)));
    assert!(lab.reports.contains(&(0, ToController::Unpublished { publication })));
    lab.plain_in(0, PlainPort::RELAY, PUBLISHER, &[&rtp(SSRC, 3)]);
    assert_eq!(counters(&mut lab, 0).drop_plain_stranger, 1);
    assert!(!lab.relay_mut(0).1.takes_plain());
}

#[test]
fn what_the_controller_refuses_ends_with_its_words() {
    let mut lab = Lab::new(1);
    let publication =
        lab.change(0, |relay, now| relay.publish_plain(now, camera(own_ports()))).expect("registered");
    lab.plain_in(0, OWN, PUBLISHER, &[&rtp(SSRC, 1)]);
    assert_eq!(counters(&mut lab, 0).drop_plain_not_granted, 1);
    lab.push(
        0,
        ToRelay::PublicationRefused { publication, limit: false, reason: "the name is taken".into() },
    );
    let id = PlainId::Publication(publication);
    let reason = EndReason::Refused("the name is taken".into());
    assert!(lab.notices.contains(&(0, Notice::Ended { id, reason })));
    assert_eq!(lab.closed_plain, [(0, OWN), (0, OWN_RTCP)]);
}

#[test]
fn registrations_are_told_to_every_new_session_with_a_controller() {
    let (mut lab, publication, _) = call();
    lab.reports.clear();
    lab.relay(0, relay_core::RelayCommand::ControllerUp);
    let told = lab.reports.iter().any(|(node, report)| {
        matches!(report, ToController::Published(report) if *node == 0
            && report.publication == publication
            && report.granted == Some((KEY, Incarnation(1))))
    });
    assert!(told, "{:?}", lab.reports);
    assert_eq!(lab.relay_mut(0).1.node(), Some(NodeIndex(0)));
}
