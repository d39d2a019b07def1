//! Namespaces have limits; what goes over one is refused in words, counted, and harms nobody else.

mod lab;

use lab::{Lab, Store, ms};
use route_core::{ControllerConfig, LimitsConfig, NamespaceLimits, NamespaceView};
use std::collections::BTreeMap;
use wire_format::control::{NamespaceUsage, StreamName, ToController, ToRelay};

/// Three relays; namespace `demo` may hold two streams, two subscriptions, and be at two relays.
fn limited() -> Lab {
    let demo = NamespaceLimits {
        streams: Some(2),
        subscriptions: Some(2),
        relays: Some(2),
        bit_rate: Some(5_000_000),
    };
    let limits = LimitsConfig {
        default: NamespaceLimits { streams: Some(3), ..NamespaceLimits::default() },
        named: BTreeMap::from([("demo".to_owned(), demo)]),
    };
    let mut lab =
        Lab::with_config(ControllerConfig { limits, ..ControllerConfig::new(1, 1) }, Store::default());
    for relay in ["r1", "r2", "r3"] {
        lab.connect(relay);
    }
    lab.run(ms(1_000));
    lab
}

fn stream(namespace: &str, user: u32) -> StreamName {
    StreamName {
        namespace: namespace.into(),
        room: "call".into(),
        user: user.to_string(),
        stream: "camera".into(),
    }
}

fn namespace(lab: &Lab, name: &str) -> NamespaceView {
    lab.controller.namespaces().into_iter().find(|view| view.name == name).expect("it is known")
}

#[test]
fn streams_beyond_the_limit_are_refused_until_one_ends() {
    let mut lab = limited();
    for user in 0..3 {
        lab.publish("r1", user, &stream("demo", user));
    }
    lab.run(ms(10));
    assert!(lab.granted("r1", 0).is_some() && lab.granted("r1", 1).is_some());
    let [reason] = &lab.stations["r1"].refused[..] else { panic!("one refusal") };
    assert!(
        reason.contains("namespace demo has 2 streams") && reason.contains("[namespaces.demo]"),
        "{reason}"
    );
    // Others have room of their own.
    for user in 10..13 {
        lab.publish("r1", user, &stream("other", user));
    }
    lab.run(ms(10));
    assert!((10..13).all(|user| lab.granted("r1", user).is_some()));
    let (demo, other) = (namespace(&lab, "demo"), namespace(&lab, "other"));
    assert_eq!((demo.streams, demo.refused, demo.relays), (2, 1, 1));
    assert_eq!((other.streams, other.refused, other.limits.streams), (3, 0, Some(3)));
    let counters = lab.controller.status().counters;
    assert_eq!((counters.publications_refused, counters.limits_reached), (1, 1));
    lab.unpublish("r1", 0);
    lab.publish("r1", 4, &stream("demo", 4));
    lab.run(ms(10));
    assert!(lab.granted("r1", 4).is_some());
    assert_eq!(namespace(&lab, "demo").streams, 2);
}

#[test]
fn subscriptions_and_relays_have_limits_too() {
    let mut lab = limited();
    lab.subscribe("r1", 0, "demo", "call", None);
    lab.publish("r2", 0, &stream("demo", 0));
    lab.run(ms(10));
    lab.subscribe("r3", 0, "demo", "call", None);
    lab.run(ms(10));
    let [reason] = &lab.stations["r3"].refused[..] else { panic!("one refusal") };
    assert!(reason.contains("2 relays, which is its limit") && reason.contains("one of those"), "{reason}");
    lab.subscribe("r2", 1, "demo", "call", None);
    lab.subscribe("r1", 1, "demo", "call", None);
    lab.run(ms(10));
    let [reason] = &lab.stations["r1"].refused[..] else { panic!("one refusal") };
    assert!(reason.contains("2 subscriptions, which is its limit"), "{reason}");
    let demo = namespace(&lab, "demo");
    assert_eq!((demo.streams, demo.subscriptions, demo.relays, demo.refused), (1, 2, 2, 2));
    // Whoever leaves a relay for good leaves room at another.
    lab.unsubscribe("r1", 0);
    lab.subscribe("r3", 5, "demo", "call", None);
    lab.run(ms(10));
    assert_eq!((namespace(&lab, "demo").relays, lab.stations["r3"].refused.len()), (2, 1));
}

#[test]
fn what_a_relay_holds_when_its_session_begins_stays() {
    let mut lab = limited();
    for user in 0..2 {
        lab.publish("r1", user, &stream("demo", user));
    }
    lab.run(ms(10));
    // While its session is gone, an SFU there publishes a third stream.
    lab.disconnect("r1");
    lab.run(ms(10));
    lab.publish("r1", 2, &stream("demo", 2));
    lab.connect("r1");
    lab.run(ms(1_000));
    assert!((0..3).all(|user| lab.granted("r1", user).is_some()));
    let demo = namespace(&lab, "demo");
    assert_eq!((demo.streams, demo.refused), (3, 0));
    // Beyond that, the limit holds, and a relay that is gone for good takes what it held with it.
    lab.publish("r1", 3, &stream("demo", 3));
    lab.run(ms(10));
    assert_eq!(namespace(&lab, "demo").refused, 1);
    lab.disconnect("r1");
    lab.run(ms(20_000));
    let demo = namespace(&lab, "demo");
    assert_eq!((demo.streams, demo.relays), (0, 0));
}

#[test]
fn relays_are_told_the_rates_and_tell_what_was_used() {
    let mut lab = limited();
    let told = |relay: &str| {
        let heard = lab.stations[relay].heard.iter().find_map(|(_, message)| {
            if let ToRelay::Namespaces(rates) = message { Some(rates.clone()) } else { None }
        });
        heard.expect("rates")
    };
    let rates = told("r1");
    assert_eq!((rates.default, rates.named), (None, vec![("demo".to_owned(), Some(5_000_000))]));
    let usage = |packets_in, packets_out| NamespaceUsage {
        namespace: "demo".into(),
        packets_in,
        bytes_in: packets_in * 1_000,
        packets_out,
        bytes_out: packets_out * 1_000,
        packets_over_rate: 3,
    };
    lab.say("r1", ToController::Usage(vec![usage(100, 0)]));
    lab.say("r2", ToController::Usage(vec![usage(0, 300)]));
    lab.run(ms(10));
    lab.say("r1", ToController::Usage(vec![usage(150, 0)]));
    lab.run(ms(10));
    let sum = namespace(&lab, "demo").usage;
    assert_eq!(
        (sum.packets_in, sum.bytes_in, sum.packets_out, sum.packets_over_rate),
        (150, 150_000, 300, 6)
    );
    // The relay starts anew and counts from nothing: what was, was.
    lab.say("r1", ToController::Usage(vec![usage(7, 0)]));
    lab.run(ms(10));
    assert_eq!(namespace(&lab, "demo").usage.packets_in, 157);
}

#[test]
fn names_that_hold_nothing_are_not_remembered_for_ever() {
    let mut lab = limited();
    for round in 0..4_000_u32 {
        let usage =
            NamespaceUsage { namespace: format!("n{round}"), packets_in: 1, ..NamespaceUsage::default() };
        lab.say("r1", ToController::Usage(vec![usage]));
    }
    lab.run(ms(100));
    assert!(lab.controller.namespaces().len() <= 1_100, "{}", lab.controller.namespaces().len());
}
