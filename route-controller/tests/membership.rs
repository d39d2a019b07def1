//! Who belongs to the overlay, and for how long: names in use, renewals, revocations.

mod common;

use common::{Overlay, PATIENCE, Relay, Session};
use std::time::Duration;
use tonic::Code;
use wire_format::control::{ToController, ToRelay};

/// How opening a session ends: `None` if it is welcomed.
async fn refusal(overlay: &Overlay, relay: &Relay) -> Option<(Code, String)> {
    let status = match Session::open(overlay, Some(relay)).await {
        Ok(mut session) => {
            session.say(ToController::Hello(relay.hello())).await;
            session.welcome().await.err()?
        }
        Err(status) => status,
    };
    Some((status.code(), status.message().to_owned()))
}

#[tokio::test]
async fn a_name_in_use_is_given_to_nobody_else() {
    let overlay = Overlay::start().await;
    let relay = overlay.relay("fra-1").await;
    let early = overlay.join_token("fra-1").await;
    let mut session = relay.session(&overlay).await;
    session.welcome().await.expect("welcome");

    let error = overlay.try_join_token("fra-1", false).await.expect_err("it runs").to_string();
    assert!(error.contains("\"fra-1\" is in session") && error.contains("--replace"), "{error}");
    let status = overlay.join(&early).await.err().expect("a token from before");
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("is in session"), "{}", status.message());
    assert_eq!(overlay.state_of("fra-1").await, "connected");

    let replacing = overlay.try_join_token("fra-1", true).await.expect("it says so");
    assert_eq!(overlay.state_of("fra-1").await, "connected", "a token alone changes nothing");
    let next = overlay.join(&replacing).await.expect("it may");
    assert_eq!(next.node, relay.node, "the index stays with the name");
    let end = session.end().await;
    assert_eq!(end.code(), Code::PermissionDenied, "{}", end.message());
    let (code, reason) = refusal(&overlay, &relay).await.expect("its certificate is void");
    assert_eq!(code, Code::PermissionDenied);
    assert!(reason.contains("relayctl node revoke"), "{reason}");
    assert_eq!(refusal(&overlay, &next).await, None);
    // The other token was not spent, and may be used when the relay has gone.
    let overlay = overlay.restart().await;
    overlay.join(&early).await.expect("nobody is in session");
    assert!(refusal(&overlay, &next).await.is_some(), "who joins voids what was before");
}

#[tokio::test]
async fn the_next_certificate_voids_the_one_before_once_it_is_used() {
    let overlay = Overlay::start().await;
    let first = overlay.relay("fra-1").await;
    let mut session = first.session(&overlay).await;
    session.welcome().await.expect("welcome");
    let second = first.renew(&mut session.client).await.expect("renewed");
    let third = second.renew(&mut session.client).await.expect("renewed again in the same session");
    assert_ne!(second.serial, third.serial);
    drop(session);
    let overlay = overlay.restart().await;
    assert_eq!(refusal(&overlay, &first).await.expect("two renewals old").0, Code::PermissionDenied);
    assert_eq!(refusal(&overlay, &second).await, None, "as if the answer with the third had been lost");
    let overlay = overlay.restart().await;
    assert_eq!(refusal(&overlay, &third).await, None, "the newest");
    let overlay = overlay.restart().await;
    let (code, reason) = refusal(&overlay, &second).await.expect("the newest was used");
    assert_eq!(code, Code::PermissionDenied);
    assert!(reason.contains("another certificate was issued"), "{reason}");
}

#[tokio::test]
async fn a_copied_certificate_cannot_be_renewed_while_the_relay_is_there() {
    let overlay = Overlay::start().await;
    let relay = overlay.relay("fra-1").await;
    let mut session = relay.session(&overlay).await;
    session.welcome().await.expect("welcome");
    let mut elsewhere = overlay.dial(Some(&relay)).await.expect("the certificate is good");
    let status = relay.renew(&mut elsewhere).await.err().expect("another connection");
    assert!(status.message().contains("is in session"), "{}", status.message());
    // Nor can one relay renew another's.
    let other = overlay.relay("sin-1").await;
    let mut forged = overlay.dial(Some(&other)).await.expect("its own certificate");
    let status = relay.renew(&mut forged).await.err().expect("not its own");
    assert_eq!(status.code(), Code::PermissionDenied);
    let mut nobody = overlay.dial(None).await.expect("anyone may dial");
    assert_eq!(relay.renew(&mut nobody).await.err().expect("who is it?").code(), Code::Unauthenticated);
    relay.renew(&mut session.client).await.expect("its own session may");
}

#[tokio::test]
async fn an_expired_certificate_serves_to_be_renewed_and_to_nothing_else() {
    let overlay = Overlay::with(|config| config.with_certificate_lifetime(Duration::from_secs(1))).await;
    let relay = overlay.relay("fra-1").await;
    let expired = async {
        loop {
            // Until then it is welcomed, or waits for the end of the session before.
            if let Some((Code::FailedPrecondition, reason)) = refusal(&overlay, &relay).await {
                break reason;
            }
        }
    };
    let reason = tokio::time::timeout(Duration::from_secs(10), expired).await.expect("in a second");
    assert!(reason.contains("has expired") && reason.contains("relayctl join-token create"), "{reason}");
    let mut client = overlay.dial(Some(&relay)).await.expect("for renewal's sake");
    let renewing = async {
        loop {
            // The last session's end may still be under way.
            match relay.renew(&mut client).await {
                Ok(renewed) => break renewed,
                Err(status) => assert!(status.message().contains("in session"), "{}", status.message()),
            }
        }
    };
    let renewed = tokio::time::timeout(Duration::from_secs(10), renewing).await.expect("at once");
    assert_ne!(renewed.serial, relay.serial);
}

#[tokio::test]
async fn a_revoked_relay_stays_out_until_it_joins_anew() {
    let overlay = Overlay::start().await;
    let relay = overlay.relay("fra-1").await;
    let other = overlay.relay("sin-1").await;
    let token = overlay.join_token("fra-1").await;
    let mut session = relay.session(&overlay).await;
    session.welcome().await.expect("welcome");
    let mut neighbour = other.session(&overlay).await;
    neighbour.welcome().await.expect("welcome");

    overlay.controller.operations().revoke_node("fra-1".to_owned()).await.expect("it is known");
    let status = session.end().await;
    assert_eq!(status.code(), Code::PermissionDenied, "{}", status.message());
    let mut listed = true;
    while listed {
        if let ToRelay::Neighbours(list) = neighbour.hear().await.expect("it stands") {
            listed = list.iter().any(|neighbour| neighbour.name == "fra-1");
        }
    }
    assert_eq!(overlay.state_of("fra-1").await, "revoked");
    assert!(overlay.join(&token).await.is_err(), "tokens from before are void");

    let overlay = overlay.restart().await;
    let (code, reason) = refusal(&overlay, &relay).await.expect("a restart forgets nothing");
    assert_eq!(code, Code::PermissionDenied);
    assert!(reason.contains("was revoked") && reason.contains("new join token"), "{reason}");
    let mut client = overlay.dial(Some(&relay)).await.expect("the certificate is of this CA");
    let status = relay.renew(&mut client).await.err().expect("revoked");
    assert!(status.message().contains("was revoked"), "{}", status.message());
    assert_eq!(overlay.state_of("fra-1").await, "revoked");

    let again = overlay.relay("fra-1").await;
    assert_eq!(again.node, relay.node);
    let mut session = again.session(&overlay).await;
    session.welcome().await.expect("it joined anew");
    assert_eq!(refusal(&overlay, &relay).await.expect("the old one stays void").0, Code::PermissionDenied);
    assert_eq!(overlay.state_of("fra-1").await, "connected");
    let unknown = overlay.controller.operations().revoke_node("gru-1".to_owned()).await;
    assert!(unknown.is_err_and(|refusal| refusal.to_string().contains("no relay is called")));
}

#[tokio::test]
async fn the_index_of_a_revoked_relay_is_free_after_its_quarantine() {
    let overlay = Overlay::start().await;
    let (gone, stays) = (overlay.relay("fra-1").await, overlay.relay("sin-1").await);
    let free_in_s = async |overlay: &Overlay| {
        let nodes = overlay.controller.operations().nodes().await.expect("it runs");
        nodes.into_iter().find(|row| row.name == "fra-1").map(|row| row.index_free_in_s)
    };
    assert_eq!(free_in_s(&overlay).await, Some(None), "it has just joined");
    overlay.controller.operations().revoke_node("fra-1".to_owned()).await.expect("it is known");
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    let quarantined = async {
        loop {
            looks.tick().await;
            if let Some(Some(seconds)) = free_in_s(&overlay).await {
                return seconds;
            }
        }
    };
    let seconds = tokio::time::timeout(PATIENCE, quarantined).await.expect("in time");
    assert!(seconds > 86_000.0 && seconds <= 86_400.0, "{seconds}");
    let next = overlay.relay("gru-1").await;
    assert_eq!([gone.node, stays.node, next.node], [0, 1, 2]);

    let overlay = overlay.restart().await;
    let seconds = free_in_s(&overlay).await.expect("known").expect("in quarantine");
    assert!(seconds > 86_000.0 && seconds <= 86_400.0, "{seconds}");

    // A quarantine that the configuration has made shorter is over, once those who are there have reported.
    let overlay = overlay.restart_with(|config| config.with_index_quarantine(Duration::ZERO)).await;
    let mut sessions = Vec::new();
    for relay in [&stays, &next] {
        let mut session = relay.session(&overlay).await;
        session.welcome().await.expect("welcome");
        session.say(ToController::ReportsComplete).await;
        sessions.push(session);
    }
    let freed = async {
        while free_in_s(&overlay).await.is_some() {
            looks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, freed).await.expect("in time");
    assert_eq!(overlay.relay("lhr-1").await.node, gone.node, "the lowest that is free");
    let (code, _) = refusal(&overlay, &gone).await.expect("its certificate stays void");
    assert_eq!(code, Code::PermissionDenied);
    assert_eq!(overlay.relay("fra-1").await.node, 3, "who joins anew is a newcomer");
}

#[tokio::test]
async fn a_controller_restored_from_a_backup_knows_relays_that_renewed_since() {
    let overlay = Overlay::start().await;
    let relay = overlay.relay("fra-1").await;
    let (store, backup) = ("route-controller.redb", tempfile::NamedTempFile::new().expect("a file"));
    let Overlay { controller, folder } = overlay;
    controller.shutdown().await;
    std::fs::copy(folder.path().join(store), backup.path()).expect("copied");
    let start = || route_controller::Controller::start(route_controller::Config::local(folder.path()));
    let overlay =
        Overlay { controller: start().await.expect("starts"), folder: tempfile::tempdir().expect("unused") };
    std::fs::copy(folder.path().join("ca.pem"), overlay.folder.path().join("ca.pem")).expect("copied");
    let mut session = relay.session(&overlay).await;
    session.welcome().await.expect("welcome");
    let renewed = relay.renew(&mut session.client).await.expect("renewed");
    drop(session);
    overlay.controller.shutdown().await;

    std::fs::copy(backup.path(), folder.path().join(store)).expect("restored");
    let overlay = Overlay { controller: start().await.expect("starts"), folder: overlay.folder };
    assert_eq!(refusal(&overlay, &renewed).await, None);
    overlay.controller.shutdown().await;
    let overlay = Overlay { controller: start().await.expect("starts"), folder: overlay.folder };
    assert_eq!(refusal(&overlay, &relay).await.expect("the younger one was used").0, Code::PermissionDenied);
}
