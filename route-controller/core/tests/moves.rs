//! Publications that move to another relay, and relays that are to be empty.

mod lab;

use lab::{Lab, ms, stream};
use route_core::Input;
use wire_format::PublisherKey;
use wire_format::control::{StreamName, ToRelay};

const ALICE: Option<PublisherKey> = Some(PublisherKey([1; 16]));
const MALLORY: Option<PublisherKey> = Some(PublisherKey([2; 16]));

/// Four relays; a stream enters at r1 and is wanted at r1 and r3.
fn call() -> (Lab, StreamName) {
    let mut lab = Lab::relays(4);
    let camera = stream("alice", "camera");
    lab.publish_as("r1", 1, &camera, ALICE);
    lab.subscribe("r1", 7, "demo", "call", None);
    lab.subscribe("r3", 7, "demo", "call", None);
    lab.run(ms(100));
    assert_eq!(lab.stamped("r1", &camera), ["r3"]);
    (lab, camera)
}

#[test]
fn a_publication_that_moves_keeps_its_ids_and_reaches_everyone_from_both_relays() {
    let (mut lab, camera) = call();
    let before = lab.granted("r1", 1).expect("granted");
    lab.publish_as("r2", 5, &camera, ALICE);
    lab.run(ms(100));
    assert_eq!(lab.granted("r2", 5), Some(before), "the same ids and incarnation");
    assert_eq!(lab.stamped("r2", &camera), ["r1", "r3"]);
    assert_eq!(lab.stamped("r1", &camera), ["r3"], "what still comes there goes on");
    assert!(lab.station("r1").refused.is_empty() && lab.station("r2").refused.is_empty());
    lab.unpublish("r1", 1);
    lab.run(ms(1_000));
    assert_eq!(lab.stamped("r2", &camera), ["r1", "r3"]);
    let row = lab.row("r1", &camera).expect("it has a subscriber");
    assert!(row.destinations.is_empty() && row.incarnation == before.1);
}

#[test]
fn it_is_granted_only_when_its_whole_row_is_in_place() {
    let (mut lab, camera) = call();
    lab.station("r2").mute = true;
    lab.publish_as("r2", 5, &camera, ALICE);
    lab.run(ms(900));
    assert!(lab.granted("r2", 5).is_none(), "its row is not acknowledged");
    assert_eq!(lab.stamped("r1", &camera), ["r3"]);
    lab.run(ms(300));
    assert!(lab.granted("r2", 5).is_some(), "nobody waits forever for a relay that hangs");
}

#[test]
fn who_gives_up_a_move_loses_nothing() {
    let (mut lab, camera) = call();
    let before = lab.granted("r1", 1);
    lab.publish_as("r2", 5, &camera, ALICE);
    lab.run(ms(100));
    lab.unpublish("r2", 5);
    lab.run(ms(1_000));
    assert_eq!((lab.granted("r1", 1), lab.stamped("r1", &camera)), (before, vec!["r3"]));
    assert!(lab.row("r2", &camera).is_none());
    // And to a third, before the second is left.
    lab.publish_as("r2", 6, &camera, ALICE);
    lab.run(ms(100));
    lab.publish_as("r4", 1, &camera, ALICE);
    lab.run(ms(100));
    for relay in ["r1", "r2", "r4"] {
        assert!(lab.stamped(relay, &camera).contains(&"r3"), "{relay}");
    }
    lab.unpublish("r1", 1);
    lab.unpublish("r2", 6);
    lab.run(ms(1_000));
    assert_eq!((lab.granted("r4", 1), lab.stamped("r4", &camera)), (before, vec!["r1", "r3"]));
    assert!(lab.row("r2", &camera).is_none());
}

#[test]
fn a_name_is_not_taken_with_another_key_or_without() {
    let (mut lab, camera) = call();
    for (publication, publisher) in [(5, MALLORY), (6, None)] {
        lab.publish_as("r2", publication, &camera, publisher);
        lab.run(ms(3_500));
        assert!(lab.granted("r2", publication).is_none(), "{publication}");
    }
    assert_eq!(lab.station("r2").refused.len(), 2);
    assert_eq!(lab.stamped("r1", &camera), ["r3"]);
}

#[test]
fn a_move_survives_another_controller() {
    let (mut lab, camera) = call();
    let before = lab.granted("r1", 1);
    lab.publish_as("r2", 5, &camera, ALICE);
    lab.run(ms(100));
    lab.restart_controller(2);
    for relay in ["r1", "r2", "r3", "r4"] {
        lab.connect(relay);
    }
    lab.run(ms(2_000));
    assert_eq!((lab.granted("r1", 1), lab.granted("r2", 5)), (before, before));
    assert!(lab.stamped("r1", &camera).contains(&"r3") && lab.stamped("r2", &camera).contains(&"r3"));
    lab.unpublish("r1", 1);
    lab.run(ms(1_000));
    assert_eq!(lab.granted("r2", 5), before);
    assert_eq!(lab.stamped("r2", &camera), ["r1", "r3"]);
}

#[test]
fn a_relay_hears_that_it_is_to_be_empty_in_every_session() {
    let (mut lab, _) = call();
    let heard = |lab: &Lab| {
        let said = lab.stations["r1"].heard.iter();
        let drains = said.filter_map(|(_, message)| match message {
            ToRelay::Drain { draining } => Some(*draining),
            ToRelay::Welcome(_)
            | ToRelay::Neighbours(_)
            | ToRelay::Table(_)
            | ToRelay::TableDelta(_)
            | ToRelay::Stamp { .. }
            | ToRelay::PublicationGranted { .. }
            | ToRelay::PublicationRefused { .. }
            | ToRelay::SubscriptionRefused { .. }
            | ToRelay::Stream(_)
            | ToRelay::StreamGone { .. }
            | ToRelay::TokenKeys(_)
            | ToRelay::Namespaces(_)
            | ToRelay::Trace(_) => None,
        });
        drains.collect::<Vec<_>>()
    };
    assert_eq!(heard(&lab), [false]);
    lab.input(Input::Drain { name: "r1".into() });
    lab.input(Input::Drain { name: "r1".into() });
    lab.input(Input::Cordon { name: "r1".into(), cordoned: true });
    lab.run(ms(100));
    assert_eq!(heard(&lab), [false, true]);
    lab.disconnect("r1");
    lab.connect("r1");
    lab.run(ms(100));
    assert_eq!(heard(&lab), [false, true, true]);
    let now = lab.now;
    let view = lab.controller.drain(now, "r1").expect("known");
    assert!(view.cordoned && view.draining && view.publications == 1);
    lab.input(Input::Cordon { name: "r1".into(), cordoned: false });
    lab.run(ms(100));
    assert_eq!(heard(&lab), [false, true, true, false]);
}
