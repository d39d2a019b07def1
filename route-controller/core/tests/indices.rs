//! Node indices: who keeps his, and when another relay is given it.

mod lab;

use lab::{Lab, Store, ms};
use route_core::{CertificateRule, ControllerConfig, Input, NodeState, NodeView};
use std::time::Duration;
use wire_format::NodeIndex;
use wire_format::control::{LinkState, ToController};

const QUARANTINE: Duration = Duration::from_secs(30);
/// A relay that left may come back for longer than that.
const RETURN_WITHIN: Duration = Duration::from_secs(100);

/// r1 - r2 - r3 with indices 0, 1 and 2, settled.
fn line() -> Lab {
    let config = ControllerConfig {
        index_quarantine: QUARANTINE,
        return_within: RETURN_WITHIN,
        ..ControllerConfig::new(1, 1)
    };
    let mut lab = Lab::with_config(config, Store::default());
    for name in ["r1", "r2", "r3"] {
        lab.connect(name);
    }
    lab.run(ms(3_000));
    lab.chain(&[("r1", "r2", 10), ("r2", "r3", 10)]);
    lab.run(ms(3_000));
    assert_eq!(["r1", "r2", "r3"].map(|name| lab.node(name)), [0, 1, 2].map(NodeIndex));
    lab
}

/// A relay is stopped in good order: it says goodbye, and is gone.
fn leave(lab: &mut Lab, name: &str) {
    lab.say(name, ToController::Goodbye);
    lab.run(ms(300));
    lab.crash(name, true);
    lab.run(ms(1_000));
}

fn view(lab: &Lab, name: &str) -> Option<NodeView> {
    lab.controller.nodes(lab.now).into_iter().find(|node| node.name == name)
}

fn index_of_newcomer(lab: &mut Lab, name: &str) -> NodeIndex {
    lab.connect(name);
    lab.run(ms(2_500));
    lab.node(name)
}

#[test]
fn the_index_of_a_relay_that_left_is_given_again_after_its_quarantine_and_not_before() {
    let mut lab = line();
    leave(&mut lab, "r2");
    assert_eq!(index_of_newcomer(&mut lab, "r4"), NodeIndex(3));
    let left = view(&lab, "r2").expect("it is still known");
    let rest = left.index_free_in.expect("in quarantine");
    assert!(rest > ms(90_000) && rest < RETURN_WITHIN, "{rest:?}");
    lab.run(rest - ms(2_000));
    assert!(view(&lab, "r2").is_some());
    assert_eq!(lab.store.nodes.len(), 4);
    lab.run(ms(2_100));
    assert_eq!(view(&lab, "r2"), None);
    assert_eq!(lab.store.nodes.keys().map(|node| node.0).collect::<Vec<_>>(), [0, 2, 3]);
    assert_eq!(lab.store.quarantined.len(), 0);
    assert_eq!(index_of_newcomer(&mut lab, "r5"), NodeIndex(1), "the lowest that is free");
    lab.chain(&[("r1", "r5", 10), ("r5", "r3", 10)]);
    lab.run(ms(3_000));
    assert_eq!(lab.way("r1", "r3"), ["r1", "r5", "r3"]);
    // Whoever had it before is a newcomer.
    assert_eq!(index_of_newcomer(&mut lab, "r2"), NodeIndex(4));
}

#[test]
fn whoever_comes_back_in_time_keeps_his_index() {
    let mut lab = line();
    leave(&mut lab, "r2");
    lab.run(ms(90_000));
    assert_eq!(index_of_newcomer(&mut lab, "r2"), NodeIndex(1));
    assert_eq!(view(&lab, "r2").expect("in session").index_free_in, None);
    assert_eq!(lab.store.quarantined.len(), 0, "nor after a restart of the controller");
    lab.run(ms(200_000));
    assert_eq!(index_of_newcomer(&mut lab, "r4"), NodeIndex(3));
    // The next quarantine begins anew.
    leave(&mut lab, "r2");
    lab.run(ms(80_000));
    assert!(view(&lab, "r2").is_some());
}

#[test]
fn a_relay_that_is_merely_offline_is_waited_for() {
    let mut lab = line();
    lab.crash("r2", true);
    lab.run(ms(2_000_000));
    let offline = view(&lab, "r2").expect("known");
    assert_eq!((offline.state, offline.index_free_in), (NodeState::Offline, None));
    assert_eq!(index_of_newcomer(&mut lab, "r4"), NodeIndex(3));
}

#[test]
fn a_revoked_relay_cannot_come_back_so_its_index_waits_for_less() {
    let mut lab = line();
    leave(&mut lab, "r3");
    let rule = CertificateRule { from_unix_s: 0, revoked: true };
    for name in ["r2", "r3"] {
        lab.input(Input::Certificates { name: name.to_owned(), rule });
    }
    // Its neighbours have not heard yet: they reach it, which counts for nothing.
    lab.run(ms(500));
    let revoked = view(&lab, "r2").expect("known");
    assert_eq!(revoked.state, NodeState::Revoked);
    assert!(revoked.index_free_in.is_some_and(|rest| rest <= QUARANTINE), "{revoked:?}");
    lab.set_link_end("r1", "r2", LinkState::Down);
    lab.run(QUARANTINE + ms(1_000));
    assert_eq!((view(&lab, "r2"), view(&lab, "r3")), (None, None));
    assert_eq!(index_of_newcomer(&mut lab, "r4"), NodeIndex(1));
    // The name is still void, although nothing else is known of it.
    let session = lab.hello("r2");
    lab.run(ms(100));
    assert!(lab.kicked.iter().any(|(kicked, reason)| *kicked == session && reason.contains("revoked")));
    lab.input(Input::Certificates {
        name: "r2".to_owned(),
        rule: CertificateRule { from_unix_s: 50, revoked: false },
    });
    assert_eq!(index_of_newcomer(&mut lab, "r2"), NodeIndex(2));
    let told = lab.stations["r1"].neighbours.as_ref().expect("told");
    let neighbour = told.iter().find(|neighbour| neighbour.name == "r2").expect("a neighbour again");
    assert_eq!(neighbour.certificates_from_unix_s, 50);
}

#[test]
fn a_quarantine_goes_on_over_a_restart_of_the_controller() {
    let mut lab = line();
    leave(&mut lab, "r2");
    lab.run(ms(60_000));
    lab.restart_controller(2);
    for name in ["r1", "r3"] {
        lab.connect(name);
    }
    lab.run(ms(10_000));
    let rest = view(&lab, "r2").and_then(|left| left.index_free_in).expect("in quarantine");
    assert!(rest < RETURN_WITHIN - ms(70_000), "{rest:?}");
    assert_eq!(index_of_newcomer(&mut lab, "r4"), NodeIndex(3));
    lab.run(rest);
    assert_eq!(view(&lab, "r2"), None);
    assert_eq!(index_of_newcomer(&mut lab, "r5"), NodeIndex(1));
    // One that ended while no controller ran is over, once the others have reported.
    leave(&mut lab, "r5");
    lab.nobody_leads_for(2 * RETURN_WITHIN);
    lab.restart_controller(3);
    for name in ["r1", "r3", "r4"] {
        lab.connect(name);
    }
    lab.run(ms(15_000));
    assert_eq!(view(&lab, "r5"), None);
}
