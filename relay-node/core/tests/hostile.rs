//! Whatever arrives, sealed by a neighbour or an SFU gone mad: counted, never a panic.

mod lab;

use lab::{KEY, Lab, entry, publish, table};
use proptest::prelude::*;
use relay_core::{ClientEvent, ClientRights};
use wire_format::control::ToRelay;
use wire_format::session::RefusalCode;
use wire_format::{
    DestinationSet, Epoch, FrameKind, Incarnation, MediaHeader, NodeIndex, Plane, PolicyIndex, Priority,
    Sequence, Slack, frame_header,
};

fn line() -> Lab {
    let mut lab = Lab::new(2);
    lab.link(0, 1);
    lab.push(0, table(1, &[(1, 1)]));
    lab.push(0, ToRelay::Stamp { epoch: Epoch(1) });
    lab
}

fn media_frame() -> Vec<u8> {
    let header = MediaHeader {
        key: KEY,
        incarnation: Incarnation(1),
        sequence: Sequence(0),
        slack: Slack(2000),
        priority: Priority::VIDEO,
        hop_limit: 3,
        epoch: 1,
        plane: Plane::PRIMARY,
        marked: false,
        rtcp: false,
        protected: false,
        policy: PolicyIndex::DEFAULT,
        destinations: DestinationSet::single(NodeIndex(1)),
    };
    let mut body = vec![0; wire_format::MEDIA_HEADER_MAX];
    let used = header.encode(&mut body);
    body.truncate(used);
    body.extend(b"\x80packet");
    let mut plain = vec![0, 0, 1];
    plain.extend(frame_header(FrameKind::Media, body.len()));
    plain.extend(body);
    plain
}

#[test]
fn a_route_header_from_an_sfu_is_refused_and_counted() {
    let mut lab = line();
    let client = lab.client(0);
    let link = lab.link_id(0, client);
    lab.crossings.clear();
    lab.inject(0, link, 1000, media_frame());
    assert_eq!(lab.relay_mut(0).1.counters().drop_forbidden, 1);
    assert_eq!(lab.media_crossings(), []);
}

#[test]
fn media_under_a_handle_that_was_never_granted_is_dropped() {
    let mut lab = line();
    let client = lab.client(0);
    lab.ask(client, publish(1));
    lab.send(client, 1, &[b"\x80too early"]);
    assert!(lab.media_crossings().is_empty());
    let link = lab.link_id(0, client);
    let mut plain = vec![0, 0, 1];
    plain.extend(frame_header(FrameKind::Edge, 10));
    plain.extend([0xFF; 10]);
    lab.inject(0, link, 1000, plain);
    assert_eq!(lab.relay_mut(0).1.counters().drop_unknown_handle, 1);
}

#[test]
fn a_frame_of_the_future_is_skipped_and_its_neighbours_are_not() {
    let mut lab = line();
    let (subscriber, subscription) = lab.subscriber(1);
    lab.push(1, ToRelay::Stream(entry(0, vec![subscription], &[])));
    let mut plain = vec![0, 0, 1];
    plain.extend(frame_header(FrameKind::Unknown(29), 3));
    plain.extend([1, 2, 3]);
    plain.extend(&media_frame()[3..]);
    let link = lab.link_id(1, 0);
    lab.inject(1, link, 1000, plain);
    assert_eq!(lab.relay_mut(1).1.counters().skip_unknown_kind, 1);
    assert_eq!(lab.delivered.iter().map(|(at, _, _)| *at).collect::<Vec<_>>(), [subscriber]);
}

#[test]
fn rights_are_checked_and_the_refusal_says_why() {
    let mut lab = line();
    let rights = ClientRights {
        subject: "listener".into(),
        namespace: "demo".into(),
        room_pattern: "other-*".into(),
        publish: false,
        subscribe: true,
        token: None,
    };
    let client = lab.client_with(0, rights);
    lab.ask(client, publish(1));
    let refused = lab.client_events.iter().find_map(|(_, event)| {
        let ClientEvent::Refused { request: 1, code, reason } = event else { return None };
        Some((*code, reason.clone()))
    });
    let (code, reason) = refused.expect("refused");
    assert_eq!(code, RefusalCode::Rights);
    assert!(reason.contains("room \"room\"") && reason.contains("other-*"), "{reason}");
}

#[test]
fn a_name_that_would_steer_a_terminal_is_refused() {
    let mut lab = line();
    let client = lab.client(0);
    let room = "room\u{1b}[2J".to_owned();
    lab.ask(client, relay_core::ClientCommand::Subscribe { request: 1, room, user: None, stream: None });
    let refused = lab.client_events.iter().any(|(_, event)| {
        matches!(event, ClientEvent::Refused { request: 1, code: RefusalCode::Invalid, reason } if !reason.contains('\u{1b}'))
    });
    assert!(refused, "{:?}", lab.client_events);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_at_all(
        datagrams in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..120)), 1..20)
    ) {
        let mut lab = line();
        let client = lab.client(0);
        let links = [lab.link_id(0, 1), lab.link_id(0, client)];
        for (i, (from_relay, bytes)) in datagrams.into_iter().enumerate() {
            lab.inject(0, links[usize::from(!from_relay)], 1000 + i as u64, bytes);
        }
    }

    #[test]
    fn mutated_media(at in 3usize..60, value in any::<u8>(), cut in 0usize..70) {
        let mut lab = line();
        let mut plain = media_frame();
        let at = at.min(plain.len() - 1);
        plain[at] = value;
        plain.truncate(plain.len().saturating_sub(cut % 4));
        let link = lab.link_id(0, 1);
        lab.inject(0, link, 1000, plain.clone());
        let link = lab.link_id(1, 0);
        lab.inject(1, link, 1000, plain);
    }
}
