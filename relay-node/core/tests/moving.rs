//! SFUs that move from one relay to another.

mod lab;

use lab::{KEY, Lab, entry, table};
use relay_core::{ClientEvent, RelayCommand};
use std::time::Duration;
use wire_format::control::{PublicationReport, ToController, ToRelay};
use wire_format::{Epoch, Incarnation, PublicationId, SubscriptionId};

const MOVED: &str = "moved to another link";

/// A stream from relay 0 to relay 1, and relay 2, which is linked to both.
fn call() -> (Lab, usize, usize) {
    let mut lab = Lab::new(3);
    let (publisher, subscriber) = lab.one_hop();
    lab.link(2, 0);
    lab.link(2, 1);
    for (node, others) in [(0, [(1, 1), (2, 2)]), (1, [(0, 0), (2, 2)]), (2, [(0, 0), (1, 1)])] {
        lab.push(node, table(2, &others));
        lab.push(node, ToRelay::Stamp { epoch: Epoch(2) });
    }
    (lab, publisher, subscriber)
}

fn published(lab: &Lab, at: usize) -> Vec<PublicationReport> {
    let reports = lab.reports.iter().filter(|(relay, _)| *relay == at);
    let published = |report: &ToController| {
        if let ToController::Published(report) = report { Some(report.clone()) } else { None }
    };
    reports.filter_map(|(_, report)| published(report)).collect()
}

fn subscribed(lab: &Lab, at: usize) -> SubscriptionId {
    let mut reports = lab.reports.iter().rev().filter(|(relay, _)| *relay == at);
    let subscribed = reports.find_map(|(_, report)| {
        if let ToController::Subscribed(report) = report { Some(report.subscription) } else { None }
    });
    subscribed.expect("it was reported")
}

fn grant(lab: &mut Lab, relay: u16, publication: PublicationId) {
    let granted = ToRelay::PublicationGranted { publication, key: KEY, incarnation: Incarnation(1) };
    lab.push(relay, granted);
}

fn sequences(lab: &Lab) -> Vec<u32> {
    lab.delivered.iter().map(|(_, delivery, _)| delivery.sequence.0).collect()
}

fn restarts(lab: &Lab) -> usize {
    lab.client_events.iter().filter(|(_, event)| matches!(event, ClientEvent::Ended { .. })).count()
}

fn closed(lab: &Lab, client: usize) -> Vec<&str> {
    lab.closed.iter().filter(|(at, _, _)| *at == client).map(|(_, _, reason)| *reason).collect()
}

#[test]
fn a_publisher_goes_over_when_it_is_granted_and_leaves_later() {
    let (mut lab, publisher, _) = call();
    lab.send(publisher, 1, &[b"\x80 0", b"\x80 1"]);
    lab.link_client(publisher, 2);
    lab.send(publisher, 1, &[b"\x80 2"]);
    let (before, after) = (published(&lab, 0), published(&lab, 2));
    assert!(after[0].publisher.is_some() && after[0].publisher == before[0].publisher, "one and the same");
    lab.push(2, ToRelay::Stream(entry(2, Vec::new(), &[1])));
    grant(&mut lab, 2, after[0].publication);
    assert!(lab.headers(2, 1).is_empty());
    lab.send(publisher, 1, &[b"\x80 3", b"\x80 4"]);
    assert_eq!((lab.headers(0, 1).len(), lab.headers(2, 1).len()), (3, 2), "each packet goes one way");
    assert_eq!(sequences(&lab), [0, 1, 2, 3, 4]);
    lab.run(Duration::from_millis(900));
    assert!(closed(&lab, publisher).is_empty(), "what is under way on the old link arrives");
    lab.run(Duration::from_millis(500));
    assert_eq!((closed(&lab, publisher), restarts(&lab)), (vec![MOVED], 0));
}

#[test]
fn a_subscriber_gets_everything_once_while_both_relays_send_it() {
    let (mut lab, publisher, subscriber) = call();
    lab.send(publisher, 1, &[b"\x80 0"]);
    lab.link_client(subscriber, 2);
    let subscription = subscribed(&lab, 2);
    lab.push(2, ToRelay::Stream(entry(0, vec![subscription], &[])));
    lab.send(publisher, 1, &[b"\x80 1"]);
    for _ in 0..30 {
        lab.send(publisher, 1, &[b"\x80 only by the old one"]);
        lab.run(Duration::from_millis(100));
    }
    assert!(closed(&lab, subscriber).is_empty(), "the new relay is not stamped yet, and the stream flows");
    lab.push(0, ToRelay::Stream(entry(0, Vec::new(), &[1, 2])));
    for _ in 0..20 {
        lab.send(publisher, 1, &[b"\x80 more"]);
        lab.run(Duration::from_millis(100));
    }
    assert_eq!(sequences(&lab), (0..52).collect::<Vec<_>>());
    assert_eq!((closed(&lab, subscriber), restarts(&lab)), (vec![MOVED], 0));
    let handles: Vec<_> = lab.delivered.iter().map(|(_, delivery, _)| delivery.handle).collect();
    assert!(handles.iter().all(|handle| *handle == handles[0]), "the stream keeps its handle");
}

#[test]
fn a_new_link_that_is_lost_costs_nothing() {
    let (mut lab, publisher, subscriber) = call();
    lab.link_client(publisher, 2);
    lab.push(2, ToRelay::Stream(entry(2, Vec::new(), &[1])));
    let publication = published(&lab, 2)[0].publication;
    grant(&mut lab, 2, publication);
    lab.send(publisher, 1, &[b"\x80 0"]);
    lab.lose(publisher, 2);
    lab.send(publisher, 1, &[b"\x80 1"]);
    assert_eq!((lab.headers(2, 1).len(), lab.headers(0, 1).len()), (1, 1));
    lab.link_client(subscriber, 2);
    lab.lose(subscriber, 2);
    lab.send(publisher, 1, &[b"\x80 2"]);
    assert_eq!((sequences(&lab), restarts(&lab)), (vec![0, 1, 2], 0));
    lab.run(Duration::from_secs(3));
    assert!(closed(&lab, publisher).is_empty() && closed(&lab, subscriber).is_empty());
}

#[test]
fn an_old_link_that_is_lost_first_ends_what_only_it_brought() {
    let (mut lab, publisher, subscriber) = call();
    lab.send(publisher, 1, &[b"\x80 0"]);
    lab.link_client(subscriber, 2);
    lab.lose(subscriber, 1);
    assert_eq!(restarts(&lab), 1);
    lab.link_client(publisher, 2);
    lab.lose(publisher, 0);
    lab.send(publisher, 1, &[b"\x80 lost"]);
    lab.push(2, ToRelay::Stream(entry(2, Vec::new(), &[1])));
    let publication = published(&lab, 2)[0].publication;
    grant(&mut lab, 2, publication);
    lab.send(publisher, 1, &[b"\x80 2"]);
    assert_eq!(lab.headers(2, 1).len(), 1);
}

#[test]
fn where_the_name_is_taken_the_old_publication_ends_first() {
    let (mut lab, publisher, _) = call();
    lab.link_client(publisher, 2);
    let publication = published(&lab, 2)[0].publication;
    let refused =
        ToRelay::PublicationRefused { publication, limit: false, reason: "published already".into() };
    lab.push(2, refused);
    let ended =
        lab.reports.iter().any(|(at, report)| *at == 0 && matches!(report, ToController::Unpublished { .. }));
    assert!(ended && published(&lab, 2).len() == 2, "it asks again");
    assert!(!lab.client_events.iter().any(|(_, event)| matches!(event, ClientEvent::Refused { .. })));
    // A refusal of that is one.
    let publication = published(&lab, 2)[1].publication;
    lab.push(2, ToRelay::PublicationRefused { publication, limit: false, reason: "still".into() });
    assert!(lab.client_events.iter().any(|(_, event)| matches!(event, ClientEvent::Refused { .. })));
}

#[test]
fn what_the_new_relay_has_no_room_for_stays_at_the_old_one() {
    let (mut lab, publisher, _) = call();
    lab.link_client(publisher, 2);
    let publication = published(&lab, 2)[0].publication;
    lab.push(2, ToRelay::PublicationRefused { publication, limit: true, reason: "full".into() });
    lab.run(Duration::from_secs(12));
    lab.send(publisher, 1, &[b"\x80 0"]);
    assert_eq!((sequences(&lab), closed(&lab, publisher)), (vec![0], vec![]));
    assert!(!lab.client_events.iter().any(|(_, event)| matches!(event, ClientEvent::Refused { .. })));
    // Until that goes: then it is asked for again.
    lab.lose(publisher, 0);
    assert_eq!(published(&lab, 2).len(), 2);
}

#[test]
fn a_relay_that_is_to_be_empty_says_so_to_those_that_are_there_and_those_that_come() {
    let (mut lab, publisher, subscriber) = call();
    let told =
        |lab: &Lab| lab.client_events.iter().filter(|(_, event)| *event == ClientEvent::RelayLeaving).count();
    lab.push(0, ToRelay::Drain { draining: true });
    assert_eq!(told(&lab), 1);
    lab.send(publisher, 1, &[b"\x80 0"]);
    assert_eq!(sequences(&lab), [0], "media goes on");
    lab.relay(0, RelayCommand::Shutdown);
    assert_eq!(told(&lab), 1, "once");
    let late = lab.client(0);
    assert!(lab.client_events.contains(&(late, ClientEvent::RelayLeaving)));
    lab.push(1, ToRelay::Drain { draining: false });
    assert!(!lab.client_events.contains(&(subscriber, ClientEvent::RelayLeaving)));
}
