//! Who publishes, who wants what, and the order in which relays learn of it.

mod lab;

use lab::{Lab, ms, stream};
use wire_format::control::{PublicationReport, StreamName, ToRelay};
use wire_format::{Incarnation, MediaKind, NodeIndex, PublicationId, Timestamp};

fn three() -> Lab {
    let mut lab = Lab::relays(3);
    lab.chain(&[("r1", "r2", 20), ("r2", "r3", 20)]);
    lab.run(ms(2_000));
    lab
}

/// When a relay heard of each row of a stream, with the destinations.
fn rows(lab: &Lab, relay: &str, name: &StreamName) -> Vec<(Timestamp, Vec<NodeIndex>)> {
    let heard = lab.stations[relay].heard.iter();
    heard
        .filter_map(|(at, message)| match message {
            ToRelay::Stream(entry) if entry.name == *name => Some((*at, entry.destinations.clone())),
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
            | ToRelay::Drain { .. }
            | ToRelay::Trace(_) => None,
        })
        .collect()
}

#[test]
fn the_egress_has_its_row_before_the_ingress_stamps() {
    let mut lab = three();
    let camera = stream("alice", "camera");
    lab.publish("r1", 1, &camera);
    lab.run(ms(10));
    assert!(lab.granted("r1", 1).is_some());
    assert!(lab.row("r1", &camera).is_none(), "nobody wants it");
    lab.subscribe("r3", 7, "demo", "call", None);
    lab.run(ms(20));
    let (egress, ingress) = (rows(&lab, "r3", &camera), rows(&lab, "r1", &camera));
    assert_eq!(ingress.last().map(|(_, to)| to.clone()), Some(vec![lab.node("r3")]));
    // A way to the controller and one back lie between the two.
    assert!(ingress[0].0.since(egress[0].0) >= ms(4), "{egress:?} {ingress:?}");
    let row = lab.row("r3", &camera).expect("a row");
    assert_eq!((row.ingress, row.subscriptions.len(), row.destinations.len()), (lab.node("r1"), 1, 0));
    assert!(lab.row("r2", &camera).is_none(), "transits hold nothing");
}

#[test]
fn an_egress_that_does_not_acknowledge_is_not_stamped() {
    let mut lab = three();
    let camera = stream("alice", "camera");
    lab.publish("r1", 1, &camera);
    lab.station("r3").mute = true;
    lab.subscribe("r3", 7, "demo", "call", None);
    lab.subscribe("r2", 7, "demo", "call", None);
    lab.run(ms(5_000));
    assert_eq!(lab.stamped("r1", &camera), ["r2"]);
}

#[test]
fn leaving_goes_the_other_way_round() {
    let mut lab = three();
    let camera = stream("alice", "camera");
    lab.publish("r1", 1, &camera);
    lab.subscribe("r3", 7, "demo", "call", None);
    lab.run(ms(50));
    lab.unsubscribe("r3", 7);
    lab.run(ms(100));
    assert!(lab.stamped("r1", &camera).is_empty());
    assert!(lab.row("r3", &camera).is_some(), "what is under way still finds its row");
    lab.run(ms(600));
    assert!(lab.row("r3", &camera).is_none() && lab.row("r1", &camera).is_none());
    // Coming back in between, or later, is an ordinary join.
    for pause_ms in [3, 100, 500, 700] {
        lab.subscribe("r3", 8, "demo", "call", Some("alice"));
        lab.run(ms(30));
        assert_eq!(lab.stamped("r1", &camera), ["r3"], "{pause_ms}");
        lab.unsubscribe("r3", 8);
        lab.run(ms(pause_ms));
    }
}

#[test]
fn publisher_and_subscriber_at_one_relay_need_no_destination() {
    let mut lab = three();
    let camera = stream("alice", "camera");
    lab.subscribe("r1", 7, "demo", "call", None);
    lab.publish("r1", 1, &camera);
    lab.run(ms(50));
    let row = lab.row("r1", &camera).expect("a row");
    assert_eq!((row.subscriptions.len(), row.destinations.len()), (1, 0));
    lab.unpublish("r1", 1);
    lab.run(ms(1_000));
    assert!(lab.row("r1", &camera).is_none());
}

#[test]
fn filters_and_namespaces_keep_streams_apart() {
    let mut lab = three();
    let (mine, other) =
        (stream("alice", "camera"), StreamName { namespace: "other".into(), ..stream("alice", "camera") });
    let bob = stream("bob", "camera");
    let elsewhere = StreamName { room: "lobby".into(), ..stream("alice", "camera") };
    for (number, name) in [&mine, &other, &bob, &elsewhere].into_iter().enumerate() {
        lab.publish("r1", number as u32, name);
    }
    lab.subscribe("r2", 1, "demo", "call", Some("alice"));
    lab.subscribe("r3", 1, "other", "call", None);
    lab.run(ms(50));
    assert_eq!(lab.stamped("r1", &mine), ["r2"]);
    assert_eq!(lab.stamped("r1", &other), ["r3"]);
    assert!(lab.row("r1", &bob).is_none() && lab.row("r1", &elsewhere).is_none());
    let keys: Vec<_> = (0..4).map(|number| lab.granted("r1", number).expect("granted").0).collect();
    assert_ne!(keys[0].room, keys[1].room, "rooms of equal names are two");
    assert_eq!(keys[0].room, keys[2].room);
    assert_ne!(keys[0].user, keys[2].user);
    assert_eq!(lab.controller.streams().len(), 4);
}

#[test]
fn a_second_publication_elsewhere_waits_and_is_refused() {
    let mut lab = three();
    let camera = stream("alice", "camera");
    lab.publish("r1", 1, &camera);
    lab.run(ms(50));
    lab.publish("r2", 1, &camera);
    lab.run(ms(2_900));
    assert!(lab.station("r2").refused.is_empty() && lab.granted("r2", 1).is_none());
    lab.run(ms(200));
    let reason = lab.station("r2").refused.pop().expect("it was refused");
    assert!(reason.contains("camera of alice in room call is published at r1 already"), "{reason}");
}

#[test]
fn a_second_publication_elsewhere_takes_over_when_the_first_ends() {
    let mut lab = three();
    let camera = stream("alice", "camera");
    lab.subscribe("r3", 1, "demo", "call", None);
    lab.publish("r1", 1, &camera);
    lab.run(ms(50));
    let (key, incarnation) = lab.granted("r1", 1).expect("granted");
    lab.publish("r2", 1, &camera);
    lab.run(ms(1_000));
    lab.unpublish("r1", 1);
    lab.run(ms(50));
    assert_eq!(lab.granted("r2", 1), Some((key, Incarnation(incarnation.0 + 1))));
    assert_eq!(lab.stamped("r2", &camera), ["r3"]);
    assert_eq!(
        lab.row("r3", &camera).map(|row| (row.ingress, row.incarnation)),
        Some((lab.node("r2"), Incarnation(1)))
    );
    lab.run(ms(1_000));
    assert!(lab.row("r1", &camera).is_none());
}

#[test]
fn at_the_same_relay_the_newer_publication_wins() {
    let mut lab = three();
    let camera = stream("alice", "camera");
    lab.publish("r1", 1, &camera);
    lab.run(ms(50));
    lab.publish("r1", 2, &camera);
    lab.run(ms(50));
    assert_eq!(lab.granted("r1", 2).map(|(_, incarnation)| incarnation), Some(Incarnation(1)));
    assert_eq!(lab.station("r1").refused.len(), 1);
}

#[test]
fn a_dead_relay_frees_its_names_and_loses_its_streams() {
    let mut lab = three();
    let (camera, screen) = (stream("alice", "camera"), stream("alice", "screen"));
    lab.subscribe("r2", 1, "demo", "call", None);
    lab.publish("r3", 1, &camera);
    lab.publish("r3", 2, &screen);
    lab.run(ms(50));
    lab.crash("r3", true);
    lab.run(ms(100));
    // The SFU has gone to another relay with one of its streams.
    lab.publish("r1", 1, &camera);
    lab.run(ms(50));
    assert_eq!(lab.stamped("r1", &camera), ["r2"]);
    assert!(lab.row("r2", &screen).is_some());
    lab.run(ms(6_000));
    assert!(lab.row("r2", &screen).is_none());
    assert_eq!(lab.controller.streams().len(), 1);
}

#[test]
fn a_relay_that_returns_with_a_name_it_lost_is_told() {
    let mut lab = three();
    let camera = stream("alice", "camera");
    lab.publish("r3", 1, &camera);
    lab.run(ms(50));
    // Cut off from everyone, but alive.
    lab.disconnect("r3");
    lab.cut("r2", "r3");
    lab.run(ms(100));
    lab.publish("r1", 1, &camera);
    lab.run(ms(100));
    assert!(lab.granted("r1", 1).is_some());
    lab.connect("r3");
    lab.run(ms(4_000));
    assert_eq!(lab.station("r3").refused.len(), 1);
    assert_eq!(lab.controller.streams().first().map(|view| view.ingress.clone()), Some("r1".to_owned()));
}

#[test]
fn a_lost_session_loses_nothing() {
    let mut lab = three();
    let camera = stream("alice", "camera");
    lab.subscribe("r3", 1, "demo", "call", None);
    lab.publish("r1", 1, &camera);
    lab.run(ms(50));
    let granted = lab.granted("r1", 1);
    for relay in ["r1", "r3"] {
        lab.disconnect(relay);
        lab.run(ms(20_000));
        lab.connect(relay);
        lab.run(ms(2_000));
        assert_eq!(lab.stamped("r1", &camera), ["r3"]);
        assert_eq!(lab.granted("r1", 1), granted);
    }
    assert!(rows(&lab, "r1", &camera).iter().all(|(_, to)| !to.is_empty()), "it was stamped all the time");
}

#[test]
fn what_a_relay_does_not_report_again_is_over() {
    let mut lab = three();
    let camera = stream("alice", "camera");
    lab.subscribe("r3", 1, "demo", "call", None);
    lab.publish("r1", 1, &camera);
    lab.run(ms(50));
    // The subscriber's relay starts anew, without its SFU.
    lab.disconnect("r3");
    let links = std::mem::take(lab.station("r3")).links;
    lab.station("r3").links = links;
    lab.connect("r3");
    lab.run(ms(50));
    assert!(lab.stamped("r1", &camera).is_empty());
    assert_eq!(lab.controller.nodes(lab.now)[2].subscriptions, 0);
}

#[test]
fn a_restarted_relay_publishes_under_the_next_incarnation() {
    let mut lab = three();
    let camera = stream("alice", "camera");
    lab.subscribe("r3", 1, "demo", "call", None);
    lab.publish("r1", 1, &camera);
    lab.run(ms(50));
    let (key, _) = lab.granted("r1", 1).expect("granted");
    lab.disconnect("r1");
    lab.station("r1").rows.clear();
    lab.station("r1").publications.get_mut(&PublicationId(1)).expect("published").granted = None;
    lab.connect("r1");
    lab.run(ms(50));
    assert_eq!(lab.granted("r1", 1), Some((key, Incarnation(1))));
    assert_eq!(lab.stamped("r1", &camera), ["r3"]);
}

#[test]
fn ids_stay_for_a_while_and_streams_are_forgotten() {
    let mut lab = three();
    let camera = stream("alice", "camera");
    lab.publish("r1", 1, &camera);
    lab.run(ms(50));
    let (key, _) = lab.granted("r1", 1).expect("granted");
    lab.unpublish("r1", 1);
    lab.run(ms(5_000));
    lab.publish("r2", 9, &camera);
    lab.run(ms(50));
    assert_eq!(lab.granted("r2", 9), Some((key, Incarnation(1))));
    lab.unpublish("r2", 9);
    lab.run(ms(70_000));
    lab.publish("r2", 10, &camera);
    lab.run(ms(50));
    assert_ne!(lab.granted("r2", 10).expect("granted").0, key);
}

#[test]
fn a_restarted_controller_loses_no_destination() {
    // In every order of return, with every pause between.
    let orders = [["r1", "r2", "r3"], ["r3", "r2", "r1"], ["r2", "r3", "r1"], ["r2", "r1", "r3"]];
    for (order, pause_ms) in orders.into_iter().flat_map(|order| [(order, 50), (order, 9_000)]) {
        let mut lab = three();
        let (camera, voice) = (stream("alice", "camera"), stream("alice", "voice"));
        lab.publish("r1", 1, &camera);
        lab.publish("r2", 1, &voice);
        lab.subscribe("r2", 1, "demo", "call", Some("alice"));
        lab.subscribe("r3", 1, "demo", "call", None);
        lab.run(ms(100));
        let granted = lab.granted("r1", 1);
        let mut revision = lab.row("r1", &camera).expect("a row").revision;
        lab.restart_controller(2);
        for station in lab.stations.values_mut() {
            station.heard.clear();
        }
        for relay in order {
            lab.connect(relay);
            lab.run(ms(pause_ms));
        }
        // A publication that is new since then gets ids that nobody had.
        lab.publish("r3", 5, &stream("bob", "camera"));
        lab.run(ms(100));
        assert_ne!(lab.granted("r3", 5).map(|(key, _)| key), granted.map(|(key, _)| key));
        assert_eq!(lab.granted("r1", 1), granted);
        let both = vec![lab.node("r2"), lab.node("r3")];
        for (_, to) in rows(&lab, "r1", &camera) {
            assert_eq!(to, both, "{order:?} {pause_ms}");
        }
        for (_, to) in rows(&lab, "r2", &voice) {
            assert_eq!(to, [lab.node("r3")], "{order:?} {pause_ms}");
        }
        for relay in order {
            let lost =
                lab.stations[relay].heard.iter().any(|(_, said)| matches!(said, ToRelay::StreamGone { .. }));
            assert!(!lost, "{relay} {order:?} {pause_ms}");
        }
        // It is no museum: a subscription that ends now ends.
        lab.unsubscribe("r3", 1);
        lab.run(ms(1_000));
        assert_eq!(lab.stamped("r1", &camera), ["r2"]);
        let row = lab.row("r1", &camera).expect("a row");
        assert!(std::mem::replace(&mut revision, row.revision) < row.revision);
    }
}

#[test]
fn after_a_restart_what_nobody_backs_goes_in_the_end() {
    let mut lab = three();
    let (camera, voice) = (stream("alice", "camera"), stream("bob", "voice"));
    lab.publish("r1", 1, &camera);
    lab.publish("r2", 1, &voice);
    lab.subscribe("r3", 1, "demo", "call", None);
    lab.subscribe("r2", 1, "demo", "call", None);
    lab.run(ms(100));
    lab.restart_controller(2);
    // While the controller was away, bob's SFU left and r3 died.
    lab.station("r2").publications.clear();
    lab.connect("r1");
    lab.connect("r2");
    lab.run(ms(30_000));
    assert_eq!(lab.stamped("r1", &camera), ["r2", "r3"]);
    lab.run(ms(40_000));
    assert_eq!(lab.stamped("r1", &camera), ["r2"]);
    assert!(lab.row("r2", &voice).is_none());
}

#[test]
fn a_controller_without_its_store_adopts_what_relays_say() {
    let mut lab = three();
    let camera = stream("alice", "camera");
    lab.publish("r2", 1, &camera);
    lab.subscribe("r3", 1, "demo", "call", None);
    lab.run(ms(100));
    let (granted, epoch) = (lab.granted("r2", 1), lab.epoch());
    let nodes: Vec<_> = ["r3", "r2", "r1"].into_iter().map(|relay| (relay, lab.node(relay))).collect();
    lab.store = lab::Store::default();
    lab.restart_controller(2);
    for (relay, node) in nodes {
        lab.connect(relay);
        lab.run(ms(10));
        assert_eq!(lab.node(relay), node);
    }
    lab.run(ms(3_000));
    assert_eq!(lab.granted("r2", 1), granted);
    assert_eq!(lab.stamped("r2", &camera), ["r3"]);
    assert!(lab.epoch() > epoch);
    lab.publish("r1", 1, &stream("carol", "camera"));
    lab.run(ms(50));
    assert_ne!(lab.granted("r1", 1).map(|(key, _)| key.room), granted.map(|(key, _)| key.room));
}

#[test]
fn nonsense_is_refused() {
    let mut lab = three();
    lab.publish("r1", 1, &stream("", "camera"));
    lab.publish("r1", 2, &stream(&"a".repeat(256), "camera"));
    lab.subscribe("r1", 1, "", "call", None);
    lab.unpublish("r1", 77);
    lab.unsubscribe("r1", 77);
    lab.run(ms(50));
    assert_eq!(lab.station("r1").refused.len(), 3);
    let counters = lab.controller.status().counters;
    assert_eq!((counters.publications_refused, counters.subscriptions_refused), (2, 1));
    // Somebody else's ids are not taken over.
    lab.publish("r1", 3, &stream("alice", "camera"));
    lab.run(ms(50));
    let granted = lab.granted("r1", 3).expect("granted");
    let stolen = PublicationReport {
        publication: PublicationId(4),
        name: stream("mallory", "camera"),
        kind: MediaKind::Audio,
        granted: Some(granted),
        protect: false,
        publisher: None,
    };
    lab.station("r2").publications.insert(PublicationId(4), stolen.clone());
    lab.say("r2", wire_format::control::ToController::Published(stolen));
    lab.run(ms(50));
    assert_ne!(lab.granted("r2", 4).map(|(key, _)| key), Some(granted.0));
}

#[test]
fn a_row_that_went_while_its_relay_was_away_goes_when_it_returns() {
    let mut lab = three();
    let camera = stream("alice", "camera");
    lab.publish("r1", 1, &camera);
    lab.subscribe("r3", 1, "demo", "call", None);
    lab.run(ms(100));
    lab.disconnect("r3");
    lab.run(ms(100));
    lab.unpublish("r1", 1);
    lab.run(ms(200_000));
    assert!(lab.row("r3", &camera).is_some() && lab.row("r1", &camera).is_none());
    lab.connect("r3");
    lab.run(ms(50));
    assert!(lab.row("r3", &camera).is_none());
}

#[test]
fn token_keys_reach_every_session() {
    let mut lab = three();
    let key = wire_format::control::TokenKey { id: "k1".into(), public_key: [7; 32], namespace: None };
    lab.input(route_core::Input::TokenKeys(vec![key.clone()]));
    lab.run(ms(10));
    lab.connect("r4");
    lab.run(ms(10));
    for relay in ["r1", "r2", "r3", "r4"] {
        assert!(
            lab.stations[relay].heard.iter().any(|(_, said)| *said == ToRelay::TokenKeys(vec![key.clone()]))
        );
    }
}

#[test]
fn a_relay_that_started_anew_may_number_its_publications_otherwise() {
    let mut lab = three();
    let (camera, screen) = (stream("alice", "camera"), stream("alice", "screen"));
    lab.publish("r1", 1, &camera);
    lab.publish("r1", 2, &screen);
    lab.subscribe("r3", 7, "demo", "call", None);
    lab.run(ms(500));
    // Its SFU came back sooner than its session, and asked for both in another order.
    lab.disconnect("r1");
    let station = lab.station("r1");
    station.publications.clear();
    station.rows.clear();
    for (publication, name) in [(1, &screen), (2, &camera)] {
        let publication = PublicationId(publication);
        let report = PublicationReport {
            publication,
            name: name.clone(),
            kind: MediaKind::Video,
            granted: None,
            protect: false,
            publisher: None,
        };
        station.publications.insert(publication, report);
    }
    lab.connect("r1");
    lab.run(ms(1_000));
    for (publication, name) in [(1, &screen), (2, &camera)] {
        assert!(lab.granted("r1", publication).is_some(), "{name:?} was refused");
        assert_eq!(lab.stamped("r1", name), ["r3"]);
    }
}
