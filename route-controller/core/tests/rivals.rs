//! Two processes under one name, and certificates that are void.

mod lab;

use lab::{Lab, ms};
use route_core::{CertificateRule, Input, KickCause, NodeState, SessionId};
use wire_format::control::{ToController, ToRelay};
use wire_format::{NodeIndex, Plane};

fn state(lab: &Lab, name: &str) -> NodeState {
    let nodes = lab.controller.nodes(lab.now);
    nodes.into_iter().find(|node| node.name == name).expect("it joined").state
}

fn neighbours(lab: &Lab, name: &str) -> Vec<String> {
    let list = lab.stations[name].neighbours.as_ref().expect("it was told");
    list.iter().map(|neighbour| neighbour.name.clone()).collect()
}

/// r1 - r2 - r3, settled.
fn line() -> Lab {
    let mut lab = Lab::relays(3);
    lab.chain(&[("r1", "r2", 10), ("r2", "r3", 10)]);
    lab.run(ms(3_000));
    assert_eq!(lab.way("r1", "r3"), ["r1", "r2", "r3"]);
    lab
}

/// A second process says hello under the name of the first, which goes on as before.
fn intrude(lab: &mut Lab, name: &str) -> SessionId {
    let present = lab.stations[name].session;
    let rival = lab.hello(name);
    lab.station(name).session = present;
    rival
}

#[test]
fn a_second_process_is_sent_away_while_the_first_answers() {
    let mut lab = line();
    let present = lab.stations["r2"].session.expect("in session");
    for _ in 0..3 {
        let rival = intrude(&mut lab, "r2");
        lab.run(ms(2_500));
        assert_eq!(lab.causes.last(), Some(&(rival, KickCause::NameInUse)));
        assert_eq!(lab.stations["r2"].session, Some(present), "the first kept its session");
    }
    assert_eq!(lab.causes.len(), 3, "nobody else lost a session: {:?}", lab.kicked);
    assert_eq!(lab.way("r1", "r3"), ["r1", "r2", "r3"]);
    assert_eq!(lab.controller.status().counters.names_contested, 3);
}

#[test]
fn a_goodbye_and_reports_of_the_second_change_nothing() {
    let mut lab = line();
    let rival = intrude(&mut lab, "r2");
    lab.run(ms(10));
    for message in [ToController::ReportsComplete, ToController::Goodbye] {
        lab.input(Input::FromRelay { session: rival, message });
    }
    lab.run(ms(500));
    assert_eq!(state(&lab, "r2"), NodeState::Connected);
    assert_eq!(lab.way("r1", "r3"), ["r1", "r2", "r3"]);
    assert_eq!(neighbours(&lab, "r1"), ["r2", "r3"]);
    // It leaves, and so nothing is left of it.
    lab.input(Input::RelayDown { session: rival });
    lab.run(ms(5_000));
    assert_eq!(state(&lab, "r2"), NodeState::Connected);
    assert_eq!(lab.causes, []);
}

#[test]
fn of_two_rivals_the_later_is_sent_away_at_once() {
    let mut lab = line();
    let first = intrude(&mut lab, "r2");
    lab.run(ms(5));
    let second = intrude(&mut lab, "r2");
    lab.run(ms(5));
    assert_eq!(lab.causes, [(second, KickCause::NameInUse)]);
    lab.run(ms(2_500));
    assert_eq!(lab.causes.last(), Some(&(first, KickCause::NameInUse)));
}

#[test]
fn a_session_that_has_been_silent_gives_way_at_once() {
    let mut lab = line();
    // Its connection is gone and nobody noticed: it says nothing more.
    let silent = lab.station("r2").session.take().expect("in session");
    lab.run(ms(4_000));
    lab.connect("r2");
    lab.run(ms(10));
    assert_eq!(lab.causes, [(silent, KickCause::Replaced)]);
    assert_eq!(state(&lab, "r2"), NodeState::Connected);
}

#[test]
fn a_session_that_falls_silent_gives_way_within_three_seconds() {
    let mut lab = line();
    let silent = lab.station("r2").session.take().expect("in session");
    lab.run(ms(100));
    lab.connect("r2");
    let rival = lab.stations["r2"].session.expect("it waits");
    lab.run(ms(2_900));
    assert_eq!(lab.causes, []);
    lab.run(ms(150));
    let told: Vec<_> = lab.causes.iter().map(|(session, cause)| (*session, *cause)).collect();
    assert!(told.contains(&(silent, KickCause::Replaced)) && told.contains(&(rival, KickCause::ComeAgain)));
    lab.run(ms(50));
    assert_eq!(state(&lab, "r2"), NodeState::Connected);
    assert_ne!(lab.stations["r2"].session, Some(rival), "it opened another one");
}

#[test]
fn what_was_under_way_when_the_connection_broke_is_no_sign_of_life() {
    let mut lab = line();
    let broken = lab.stations["r2"].session.expect("in session");
    lab.connect("r2");
    lab.run(ms(10));
    // The last of the old connection arrives late, and then its end.
    lab.input(Input::FromRelay { session: broken, message: ToController::Links(Vec::new()) });
    lab.run(ms(500));
    assert_eq!(lab.causes, []);
    lab.input(Input::RelayDown { session: broken });
    lab.run(ms(10));
    assert_eq!(lab.causes.iter().filter(|(_, cause)| *cause == KickCause::ComeAgain).count(), 1);
    assert_eq!(state(&lab, "r2"), NodeState::Connected);
}

#[test]
fn a_revoked_relay_is_cut_off_within_one_push() {
    let mut lab = line();
    let session = lab.stations["r2"].session.expect("in session");
    let rule = CertificateRule { from_unix_s: 1_000, revoked: true };
    lab.input(Input::Certificates { name: "r2".to_owned(), rule });
    assert_eq!(lab.causes, [(session, KickCause::Void)]);
    lab.run(ms(5));
    assert_eq!(neighbours(&lab, "r1"), ["r3"], "one way to the relays later");
    assert_eq!(neighbours(&lab, "r3"), ["r1"]);
    assert_eq!(state(&lab, "r2"), NodeState::Revoked);
    lab.run(ms(2_000));
    let through = |table: &wire_format::RouteTable, node| {
        table.policy(wire_format::PolicyIndex::DEFAULT).next_hop(Plane::PRIMARY, node).is_some()
    };
    let newest = lab.stations["r1"].tables.last().expect("it has tables");
    assert!(!through(newest, lab.node("r2")), "no route leads to it, whatever its neighbours report");

    // It is refused whatever it says.
    lab.connect("r2");
    let again = lab.stations["r2"].session.expect("it tries");
    lab.run(ms(5));
    assert_eq!(lab.causes.last(), Some(&(again, KickCause::Void)));
}

#[test]
fn a_controller_that_collects_reports_after_a_start_revokes_nevertheless() {
    let mut lab = line();
    lab.restart_controller(2);
    lab.connect("r1");
    lab.run(ms(20));
    assert!(lab.controller.status().recovering);
    let rule = CertificateRule { from_unix_s: 1_000, revoked: true };
    lab.input(Input::Certificates { name: "r2".to_owned(), rule });
    lab.run(ms(5));
    assert!(lab.controller.status().recovering, "it goes on waiting");
    assert_eq!(neighbours(&lab, "r1"), ["r3"]);
}

#[test]
fn a_relay_that_joined_anew_is_known_by_newer_certificates_only() {
    let mut lab = line();
    let session = lab.stations["r2"].session.expect("in session");
    lab.input(Input::Certificates {
        name: "r2".to_owned(),
        rule: CertificateRule { from_unix_s: 7_000, revoked: false },
    });
    assert_eq!(lab.causes, [(session, KickCause::Void)], "it began with an older one");
    lab.run(ms(5));
    let from = |lab: &Lab, node: NodeIndex| {
        let list = lab.stations["r1"].neighbours.as_ref().expect("told");
        list.iter().find(|other| other.node == node).expect("listed").certificates_from_unix_s
    };
    assert_eq!(from(&lab, lab.node("r2")), 7_000);
    assert_eq!(from(&lab, lab.node("r3")), 0);
    lab.connect("r2");
    lab.run(ms(3_000));
    assert_eq!(lab.way("r1", "r3"), ["r1", "r2", "r3"]);
    let pushes = |lab: &Lab| {
        let heard = lab.stations["r1"].heard.iter();
        heard.filter(|(_, message)| matches!(message, ToRelay::Neighbours(_))).count()
    };
    let before = pushes(&lab);
    lab.input(Input::Certificates {
        name: "r2".to_owned(),
        rule: CertificateRule { from_unix_s: 7_000, revoked: false },
    });
    lab.run(ms(100));
    assert_eq!(pushes(&lab), before, "the same rule again is no news");
}
