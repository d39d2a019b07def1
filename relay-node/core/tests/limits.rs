//! A relay that may hold few streams: who publishes or wants one too many is told so, and the others go on.

mod lab;

use lab::{KEY, Lab, entry, publish, table};
use relay_core::{ClientEvent, PlainLocal, PlainPort, PlainPublish, PlainRefusal, PlainSource};
use std::net::SocketAddr;
use wire_format::control::{StreamName, ToController, ToRelay};
use wire_format::session::RefusalCode;
use wire_format::{MediaKind, PublicationId, RoomId, RtpDescription, StreamKey};

/// What a client was told about a request that goes over a limit.
fn refusal(lab: &Lab, of: usize, wanted: u32) -> Option<&str> {
    lab.client_events.iter().find_map(|(client, event)| {
        let ClientEvent::Refused { request, code: RefusalCode::Limit, reason } = event else { return None };
        ((*client, *request) == (of, wanted)).then_some(reason.as_str())
    })
}

#[test]
fn publications_beyond_the_limit_are_refused_with_its_name() {
    let mut lab = Lab::new(1);
    lab.change(0, |relay, _| relay.set_streams_max(1));
    let (subscriber, subscription) = lab.subscriber(0);
    let publisher = lab.publisher(0);
    lab.push(0, ToRelay::Stream(entry(0, vec![subscription], &[])));
    let other = lab.client(0);
    lab.ask(other, publish(7));
    let reason = refusal(&lab, other, 7).expect("refused");
    assert!(reason.contains("holds 1 streams") && reason.contains("`streams` in [limits]"), "{reason}");
    let socket: SocketAddr = "127.0.0.1:40000".parse().expect("an address");
    let (rtp_port, rtcp_port) = (PlainPort(9), PlainPort(9));
    let plain = PlainPublish {
        name: StreamName {
            namespace: "demo".into(),
            room: "room".into(),
            user: "bob".into(),
            stream: "video".into(),
        },
        kind: MediaKind::Video,
        ssrc: Some(1),
        source: PlainSource { ip: socket.ip(), port: None },
        local: PlainLocal { rtp_port, rtp: socket, rtcp_port, rtcp: socket, separate: false },
        budget: None,
        protect: false,
        description: RtpDescription::default(),
        lease: None,
    };
    let registered = lab.change(0, |relay, now| relay.publish_plain(now, plain));
    assert_eq!(registered, Err(PlainRefusal::Streams(1)));
    assert_eq!(lab.relay_mut(0).1.counters().refused_stream_limit, 2);
    lab.delivered_handle(subscriber, publisher);
}

#[test]
fn a_publisher_whose_row_finds_no_room_is_told() {
    let mut lab = Lab::new(2);
    lab.link(0, 1);
    lab.push(0, table(1, &[(1, 1)]));
    lab.change(0, |relay, _| relay.set_streams_max(1));
    let elsewhere = StreamKey { room: RoomId(1000), ..KEY };
    lab.push(
        0,
        ToRelay::Stream(wire_format::control::StreamEntry { key: elsewhere, ..entry(1, Vec::new(), &[1]) }),
    );
    let publisher = lab.publisher(0);
    lab.reports.clear();
    lab.push(0, ToRelay::Stream(entry(0, Vec::new(), &[1])));
    assert!(refusal(&lab, publisher, 1).is_some(), "{:?}", lab.client_events);
    let ended =
        |report: &ToController| matches!(report, ToController::Unpublished { publication: PublicationId(_) });
    assert!(lab.reports.iter().any(|(_, report)| ended(report)), "{:?}", lab.reports);
    assert_eq!(lab.relay_mut(0).1.counters().drop_stream_table_full, 1);
}
