//! A client's link hangs on its token: on its time, and on the key that signed it.

mod lab;

use lab::{Lab, publish};
use relay_core::{ClientEvent, ClientRights, TokenTerms};
use std::time::Duration;
use wire_format::control::{ToController, ToRelay, TokenKey};

fn key(id: &str, byte: u8) -> TokenKey {
    TokenKey { id: id.to_owned(), public_key: [byte; 32], namespace: None }
}

fn rights(key: TokenKey, valid_for: Duration) -> ClientRights {
    ClientRights {
        subject: "sfu".into(),
        namespace: "demo".into(),
        room_pattern: "*".into(),
        publish: true,
        subscribe: true,
        token: Some(Box::new(TokenTerms { key, valid_for })),
    }
}

const HOUR: Duration = Duration::from_secs(3600);

/// Relay 0 with keys, and why it closed links.
fn relay(keys: &[TokenKey]) -> Lab {
    let mut lab = Lab::new(1);
    lab.push(0, ToRelay::TokenKeys(keys.to_vec()));
    lab
}

fn closed(lab: &Lab) -> Vec<&'static str> {
    lab.closed.iter().filter(|(at, _, _)| *at == 0).map(|(_, _, reason)| *reason).collect()
}

#[test]
fn a_link_ends_when_its_token_does_with_all_that_was_published() {
    let mut lab = relay(&[key("a", 1)]);
    let client = lab.client_with(0, rights(key("a", 1), Duration::from_secs(60)));
    lab.ask(client, publish(1));
    lab.run(Duration::from_millis(59_900));
    assert!(closed(&lab).is_empty(), "{:?}", lab.closed);
    lab.reports.clear();
    lab.run(Duration::from_millis(200));
    assert!(matches!(closed(&lab)[..], [reason] if reason.contains("has expired")), "{:?}", lab.closed);
    assert!(lab.reports.iter().any(|(_, report)| matches!(report, ToController::Unpublished { .. })));
    let (_, relay) = lab.relay_mut(0);
    assert_eq!((relay.link_views().len(), relay.counters().links_token_expired), (0, 1));
}

#[test]
fn links_of_a_key_that_is_removed_or_replaced_end_at_once_and_others_stay() {
    let mut lab = relay(&[key("a", 1), key("b", 2), key("c", 3)]);
    for key in [key("a", 1), key("b", 2), key("c", 3)] {
        lab.client_with(0, rights(key, HOUR));
    }
    let free = lab.client(0);
    let for_others = TokenKey { namespace: Some("acme".to_owned()), ..key("c", 3) };
    lab.push(0, ToRelay::TokenKeys(vec![key("a", 1), key("b", 9), for_others]));
    assert_eq!(
        closed(&lab).len(),
        2,
        "b has another public key, c is for another namespace: {:?}",
        lab.closed
    );
    assert!(closed(&lab).iter().all(|reason| reason.contains("was removed")), "{:?}", lab.closed);
    lab.push(0, ToRelay::TokenKeys(vec![TokenKey { namespace: Some("demo".to_owned()), ..key("a", 1) }]));
    assert_eq!(closed(&lab).len(), 2, "a may still grant what its token does");
    lab.push(0, ToRelay::TokenKeys(Vec::new()));
    assert_eq!(closed(&lab).len(), 3);
    let (_, relay) = lab.relay_mut(0);
    assert_eq!((relay.link_views().len(), relay.counters().links_key_removed), (1, 3));
    // A link that no token limits stays.
    lab.ask(free, publish(1));
    assert!(!lab.client_events.iter().any(|(_, event)| matches!(event, ClientEvent::Refused { .. })));
    lab.run(2 * HOUR);
    assert_eq!(closed(&lab).len(), 3, "no time is left over from links that are gone");
}

#[test]
fn a_link_that_was_let_in_by_a_key_of_a_moment_ago_does_not_stand() {
    let mut lab = relay(&[key("a", 1)]);
    lab.push(0, ToRelay::TokenKeys(vec![key("b", 2)]));
    lab.client_with(0, rights(key("a", 1), HOUR));
    assert!(matches!(closed(&lab)[..], [reason] if reason.contains("was removed")), "{:?}", lab.closed);
    assert!(lab.relay_mut(0).1.link_views().is_empty());
    lab.client_with(0, rights(key("b", 2), HOUR));
    assert_eq!(closed(&lab).len(), 1);
}
