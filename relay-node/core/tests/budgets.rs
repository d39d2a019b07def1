//! Delay budgets: the publisher's, or else the default of the kind; what cannot be is refused with the bounds.

mod lab;

use lab::{Lab, publish};
use relay_core::{
    ClientCommand, ClientEvent, PlainLocal, PlainPort, PlainPublish, PlainRefusal, PlainSource,
};
use std::net::SocketAddr;
use std::time::Duration;
use wire_format::control::StreamName;
use wire_format::session::RefusalCode;
use wire_format::{BUDGET_MAX, BUDGET_MIN, MediaKind, RtpDescription};

const MS: Duration = Duration::from_millis(1);

/// What a relay answers to a publication with a budget; `None` if it takes it.
fn refusal(budget: Duration) -> Option<(RefusalCode, String)> {
    let mut lab = Lab::new(1);
    let client = lab.client(0);
    let mut command = publish(1);
    if let ClientCommand::Publish { budget: wanted, .. } = &mut command {
        *wanted = Some(budget);
    }
    lab.ask(client, command);
    lab.client_events.into_iter().find_map(|(_, event)| {
        let ClientEvent::Refused { request: _, code, reason } = event else { return None };
        Some((code, reason))
    })
}

#[test]
fn budgets_out_of_bounds_are_refused_and_the_bounds_named() {
    assert_eq!(refusal(BUDGET_MIN), None);
    assert_eq!(refusal(BUDGET_MAX), None);
    for wrong in [Duration::ZERO, BUDGET_MIN - MS, BUDGET_MAX + MS, Duration::MAX] {
        let (code, reason) = refusal(wrong).expect("refused");
        assert_eq!(code, RefusalCode::Invalid);
        assert!(reason.contains("must be 1ms to 6s"), "{reason}");
    }
}

#[test]
fn a_plain_registration_has_the_same_bounds() {
    let address: SocketAddr = "127.0.0.1:40000".parse().expect("an address");
    let local = PlainLocal {
        rtp_port: PlainPort(9),
        rtp: address,
        rtcp_port: PlainPort(9),
        rtcp: address,
        separate: false,
    };
    let spec = |budget| PlainPublish {
        name: StreamName {
            namespace: "demo".into(),
            room: "room".into(),
            user: "bob".into(),
            stream: "voice".into(),
        },
        kind: MediaKind::Audio,
        ssrc: Some(1),
        source: PlainSource { ip: address.ip(), port: None },
        local,
        budget,
        protect: false,
        description: RtpDescription::default(),
        lease: None,
    };
    let mut lab = Lab::new(1);
    for wrong in [BUDGET_MIN - MS, BUDGET_MAX + MS] {
        let refused = lab.change(0, |relay, now| relay.publish_plain(now, spec(Some(wrong))));
        assert!(matches!(refused, Err(PlainRefusal::Budget(_))), "{wrong:?}: {refused:?}");
    }
    assert!(lab.change(0, |relay, now| relay.publish_plain(now, spec(None))).is_ok());
}
