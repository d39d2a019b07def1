//! Who is not let in, and what they are told.

use crate::issuer::{Issuer, LATER, LONG_AGO};
use relayctl::dev::{NAMESPACE, Options, Overlay, Topology};
use route_controller::TokenRequest;
use sfu_link::{
    Config, ConnectError, Event, Fingerprint, MediaKind, PublishOptions, RefusalCode, RequestError, SfuLink,
    SubscribeOptions,
};
use std::time::Duration;

async fn overlay(relays: usize) -> Overlay {
    let options = Options { relays, topology: Topology::Line, ..Options::default() };
    Overlay::start(&options).await.expect("it runs")
}

async fn connect(overlay: &Overlay, token: String) -> Result<SfuLink, ConnectError> {
    let ca = Fingerprint(overlay.ca_sha256());
    SfuLink::connect(Config::new([overlay.port_address(0).to_string()], token, ca)).await
}

async fn refusal(overlay: &Overlay, token: String) -> (RefusalCode, String) {
    let error = connect(overlay, token).await.err().expect("refused");
    let (code, reason) = error.refusal().expect("with a reason");
    (code, reason.to_owned())
}

fn token(overlay: &Overlay, namespace: &str, room: &str, publish: bool, subscribe: bool) -> String {
    let request = TokenRequest {
        namespace: namespace.to_owned(),
        room: room.to_owned(),
        publish,
        subscribe,
        subject: None,
        ttl_s: None,
    };
    overlay.controller().operations().create_token(&request).expect("a token").token
}

fn camera(room: &str) -> PublishOptions {
    PublishOptions::new(room, "alice", "camera", MediaKind::Video)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_of_another_ca_is_not_believed() {
    let overlay = overlay(1).await;
    let mut ca = overlay.ca_sha256();
    ca[0] ^= 1;
    let token = overlay.token("sfu").expect("a token");
    let config = Config::new([overlay.port_address(0).to_string()], token, Fingerprint(ca));
    let error = SfuLink::connect(config).await.err().expect("not believed").to_string();
    assert!(error.contains("fingerprint") && error.contains("CA"), "{error}");
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_unknown_keys_and_expired_ones_are_refused() {
    let overlay = overlay(1).await;
    let issuer = Issuer::new("elsewhere");
    let (code, reason) = refusal(&overlay, issuer.token(NAMESPACE, LATER)).await;
    assert_eq!(code, RefusalCode::Token);
    assert!(reason.contains("signed by key \"elsewhere\", which this overlay does not know"), "{reason}");

    overlay.controller().operations().set_token_key(issuer.key(None)).await.expect("registered");
    // The relay hears of the key on its own way; from then on only the time is wrong.
    let expired = async {
        loop {
            let (code, reason) = refusal(&overlay, issuer.token(NAMESPACE, LONG_AGO)).await;
            assert_eq!(code, RefusalCode::Token);
            if !reason.contains("does not know") {
                break reason;
            }
        }
    };
    let reason = tokio::time::timeout(Duration::from_secs(10), expired).await.expect("the relay hears of it");
    assert!(reason.contains("expired"), "{reason}");
    let link = connect(&overlay, issuer.token(NAMESPACE, LATER)).await.expect("a good token of that key");
    link.close().await;

    let impostor = Issuer::new("elsewhere");
    let (code, reason) = refusal(&overlay, impostor.token(NAMESPACE, LATER)).await;
    assert_eq!(code, RefusalCode::Token);
    assert!(reason.contains("signature"), "{reason}");
    let (code, reason) = refusal(&overlay, String::new()).await;
    assert_eq!(code, RefusalCode::Token);
    assert!(reason.contains("no token"), "{reason}");
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_one_namespace_opens_no_room_of_another() {
    let overlay = overlay(1).await;
    let issuer = Issuer::new("acme");
    overlay.controller().operations().set_token_key(issuer.key(Some("acme"))).await.expect("registered");
    let refused = async {
        loop {
            let (code, reason) = refusal(&overlay, issuer.token(NAMESPACE, LATER)).await;
            assert_eq!(code, RefusalCode::Token);
            if !reason.contains("does not know") {
                break reason;
            }
        }
    };
    let reason = tokio::time::timeout(Duration::from_secs(10), refused).await.expect("the relay hears of it");
    assert!(reason.contains("may grant namespace \"acme\" only, the token claims \"demo\""), "{reason}");
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_its_own_rooms_with_its_own_rights() {
    let overlay = overlay(1).await;
    let link = connect(&overlay, token(&overlay, NAMESPACE, "team-*", true, false)).await.expect("let in");
    let refused = |outcome: Result<(), RequestError>| match outcome {
        Err(RequestError::Refused { code, reason }) => (code, reason),
        other => panic!("{other:?}"),
    };
    let (code, reason) = refused(link.publish(camera("standup")).await.map(|_| ()));
    assert_eq!(code, RefusalCode::Rights);
    assert!(reason.contains("team-*") && reason.contains("standup"), "{reason}");
    let (code, reason) = refused(link.subscribe(SubscribeOptions::room("team-a")).await.map(|_| ()));
    assert_eq!(code, RefusalCode::Rights);
    assert!(reason.contains("subscribe"), "{reason}");
    let _granted = link.publish(camera("team-a")).await.expect("its own room");
    link.close().await;
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_of_two_namespaces_never_meet() {
    let overlay = overlay(1).await;
    let own = connect(&overlay, token(&overlay, NAMESPACE, "*", true, true)).await.expect("let in");
    let other = connect(&overlay, token(&overlay, "other", "*", true, true)).await.expect("let in");
    let mut subscription = other.subscribe(SubscribeOptions::room("standup")).await.expect("granted");
    // The same names in both; the subscriber must see its own namespace's only, though it was published last.
    let _foreign = own.publish(camera("standup")).await.expect("granted");
    let mut witness = own.subscribe(SubscribeOptions::room("standup")).await.expect("granted");
    assert!(matches!(witness.next().await, Some(Event::Started(_))), "the foreign stream exists");
    let screen = PublishOptions::new("standup", "bob", "screen", MediaKind::Video);
    let _own = other.publish(screen).await.expect("granted");
    match subscription.next().await {
        Some(Event::Started(stream)) => assert_eq!((&*stream.user, &*stream.stream), ("bob", "screen")),
        unexpected => panic!("{unexpected:?}"),
    }
    own.close().await;
    other.close().await;
    overlay.stop().await;
}
