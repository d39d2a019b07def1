//! A relay that holds as many streams as it can: who wants one more hears so, and what it tells a controller stays within
//! one message.

mod lab;

use lab::{Lab, entry, table};
use relay_core::{ClientEvent, Endpoint, Input, Output, RelayCommand, RelayEvent};
use wire_format::control::{ToController, ToRelay};
use wire_format::session::RefusalCode;
use wire_format::{RoomId, StreamKey};

const STREAMS_MAX: u32 = 65_536;

#[test]
fn a_full_stream_table_is_heard_of_and_a_hello_stays_within_a_message() {
    let mut lab = Lab::new(2);
    lab.link(0, 1);
    lab.push(0, table(1, &[(1, 1)]));
    let (client, subscription) = lab.subscriber(0);
    let destinations: Vec<u16> = (1..100).collect();
    let mut acknowledged = 0;
    for room in 0..STREAMS_MAX {
        let mut held = entry(0, Vec::new(), &destinations);
        held.key = StreamKey { room: RoomId(1000 + room), ..held.key };
        let (now, relay) = lab.relay_mut(0);
        relay.handle_input(now, &[], Input::Command(RelayCommand::Controller(ToRelay::Stream(held))));
        while let Some(output) = relay.poll_output() {
            let ack = matches!(
                output,
                Output::Event(RelayEvent::ToController(ToController::StreamAck { key: _, revision: _ }))
            );
            acknowledged += u32::from(ack);
        }
    }
    assert_eq!(acknowledged, STREAMS_MAX);
    lab.reports.clear();
    lab.push(0, ToRelay::Stream(entry(0, vec![subscription], &[])));
    let refused = lab.client_events.iter().any(|(at, event)| {
        *at == client && matches!(event, ClientEvent::Refused { request: 1, code: RefusalCode::Limit, .. })
    });
    assert!(refused, "{:?}", lab.client_events);
    let reports = std::mem::take(&mut lab.reports);
    assert!(!reports.iter().any(|(_, report)| matches!(report, ToController::StreamAck { .. })));
    assert!(reports.contains(&(0, ToController::Unsubscribed { subscription })));
    assert_eq!(lab.relay_mut(0).1.counters().drop_stream_table_full, 1);

    lab.relay(0, RelayCommand::ControllerDown);
    lab.relay(0, RelayCommand::ControllerUp);
    let held = lab.reports.iter().find_map(|(_, report)| {
        let ToController::Hello(hello) = report else { return None };
        Some(hello.streams.len())
    });
    let left_out = lab.relay_mut(0).1.counters().hello_streams_left_out;
    // 32 bytes and 99 destinations of 3: 12 MiB hold 38,245.
    assert_eq!((held, left_out), (Some(38_245), u64::from(STREAMS_MAX) - 38_245));
}
