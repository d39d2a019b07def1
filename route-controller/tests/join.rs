//! A join token lets one relay in, once, under its name.

mod common;

use common::Overlay;
use control_proto::JoinSecret;
use tonic::Code;

#[tokio::test]
async fn a_token_works_once() {
    let overlay = Overlay::start().await;
    let token = overlay.join_token("fra-1").await;
    let relay = overlay.join(&token).await.expect("a fresh token");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &relay.ca_certificate_der);
    assert_eq!(digest.as_ref(), token.ca_sha256, "the token told the CA's hash");

    let refusal = overlay.join(&token).await.err().expect("a used token");
    assert_eq!(refusal.code(), Code::PermissionDenied);
    assert!(refusal.message().contains("relayctl join-token create"), "{}", refusal.message());

    // The controller remembers that it was used.
    let overlay = overlay.restart().await;
    assert!(overlay.join(&token).await.is_err());
}

#[tokio::test]
async fn a_relay_whose_answer_got_lost_may_ask_again() {
    let overlay = Overlay::start().await;
    let token = overlay.join_token("fra-1").await;
    let key = rcgen::KeyPair::generate().expect("a key");
    let first = overlay.join_with(&token, &key).await.expect("a fresh token");
    let overlay = overlay.restart().await;
    let again = overlay.join_with(&token, &key).await.expect("the same key");
    assert_eq!(again.node, first.node);
    assert!(overlay.join(&token).await.is_err(), "another key");
    again.session(&overlay).await.welcome().await.expect("welcome");
}

#[tokio::test]
async fn a_token_waits_across_a_restart() {
    let overlay = Overlay::start().await;
    let token = overlay.join_token("fra-1").await;
    let overlay = overlay.restart().await;
    overlay.join(&token).await.expect("not used yet");
}

#[tokio::test]
async fn a_token_serves_no_other_name() {
    let overlay = Overlay::start().await;
    let mut token = overlay.join_token("fra-1").await;
    token.name = "sin-1".to_owned();
    let refusal = overlay.join(&token).await.err().expect("another name");
    assert!(refusal.message().contains("\"fra-1\""), "{}", refusal.message());
    token.name = "fra-1".to_owned();
    overlay.join(&token).await.expect("a refused attempt does not spend the token");
}

#[tokio::test]
async fn a_wrong_secret_is_refused() {
    let overlay = Overlay::start().await;
    let mut token = overlay.join_token("fra-1").await;
    token.secret = JoinSecret([0; 32]);
    let refusal = overlay.join(&token).await.err().expect("a guess");
    assert!(refusal.message().contains("unknown, used or expired"), "{}", refusal.message());
}

#[tokio::test]
async fn indices_stay_with_names() {
    let overlay = Overlay::start().await;
    let first = overlay.relay("fra-1").await.node;
    let second = overlay.relay("sin-1").await.node;
    assert_ne!(first, second);
    let overlay = overlay.restart().await;
    assert_eq!(overlay.relay("sin-1").await.node, second, "joined anew, for instance with a new disk");
    let third = overlay.relay("gru-1").await.node;
    assert!(third != first && third != second);
    let names: Vec<String> = overlay
        .controller
        .operations()
        .nodes()
        .await
        .expect("it runs")
        .into_iter()
        .map(|row| row.name)
        .collect();
    assert_eq!(names, ["fra-1", "sin-1", "gru-1"]);
}
