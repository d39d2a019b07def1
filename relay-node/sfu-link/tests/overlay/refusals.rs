//! What a client may not do, and what it is told.

use crate::lab::{Overlay, soon};
use sfu_link::{
    ConnectError, Fingerprint, MediaKind, PublishOptions, RefusalCode, RequestError, SfuLink,
    SubscribeOptions,
};

#[tokio::test]
async fn a_bad_token_is_refused_with_the_relays_words() {
    let overlay = Overlay::start(1).await;
    let error = SfuLink::connect(overlay.config(&[0], "old")).await.err().expect("refused");
    assert_eq!(error.refusal(), Some((RefusalCode::Token, "the token has expired; get a new one")));
    assert!(error.to_string().contains("the token has expired"), "{error}");
}

#[tokio::test]
async fn a_relay_of_another_ca_is_not_believed() {
    let overlay = Overlay::start(1).await;
    let mut config = overlay.config(&[0], "demo:*:ps");
    config.ca_fingerprint = Fingerprint([9; 32]);
    let error = SfuLink::connect(config).await.err().expect("untrusted");
    assert!(matches!(error, ConnectError::Relays(_)) && error.refusal().is_none(), "{error}");
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
}

#[tokio::test]
async fn what_the_token_does_not_grant_is_refused_with_a_reason() {
    let overlay = Overlay::start(1).await;
    let link = SfuLink::connect(overlay.config(&[0], "demo:team-*:s")).await.expect("a link");
    let options = PublishOptions::new("team-a", "alice", "camera", MediaKind::Video);
    let Err(RequestError::Refused { code, reason }) = soon(link.publish(options)).await else {
        panic!("may not publish")
    };
    assert_eq!(code, RefusalCode::Rights);
    assert!(reason.contains("publish"), "{reason}");
    let Err(RequestError::Refused { code, reason }) =
        soon(link.subscribe(SubscribeOptions::room("other"))).await
    else {
        panic!("may not enter that room")
    };
    assert_eq!(code, RefusalCode::Rights);
    assert!(reason.contains("other"), "{reason}");
    soon(link.subscribe(SubscribeOptions::room("team-a"))).await.expect("agreed");
}
