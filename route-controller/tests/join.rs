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
async fn a_token_that_was_taken_back_lets_nobody_in() {
    let overlay = Overlay::start().await;
    let (token, other) = (overlay.join_token("fra-1").await, overlay.join_token("sin-1").await);
    let list =
        async |overlay: &Overlay| overlay.controller.operations().join_tokens().await.expect("it runs");
    let listed = list(&overlay).await;
    let names: Vec<&str> = listed.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["fra-1", "sin-1"]);
    assert!(listed[0].expires_unix_s > listed[0].created_unix_s && !listed[0].replace);

    let operations = overlay.controller.operations();
    operations.revoke_join_token(&listed[0].id).await.expect("it waits");
    for wrong in [listed[0].id.as_str(), "0000000000000000", "fra-1", ""] {
        let refusal = operations.revoke_join_token(wrong).await.expect_err("none waits under this id");
        assert_eq!(refusal.kind, route_controller::RefusalKind::NotFound, "{wrong}");
    }
    let overlay = overlay.restart().await;
    assert_eq!(list(&overlay).await, [listed[1].clone()], "the other one still waits");
    let refusal = overlay.join(&token).await.err().expect("taken back");
    assert!(refusal.message().contains("unknown, used or expired"), "{}", refusal.message());
    overlay.join(&other).await.expect("not taken back");
    assert_eq!(list(&overlay).await, [], "a used token waits no more");
}

#[tokio::test]
async fn a_join_token_ends_by_itself() {
    let overlay = Overlay::start().await;
    let request = route_controller::JoinTokenRequest {
        name: "fra-1".to_owned(),
        region: None,
        ttl_s: Some(1),
        replace: false,
    };
    let operations = overlay.controller.operations();
    let answer = operations.create_join_token(request).await.expect("a legal name");
    // The calendar that tokens go by cannot be moved: it moves by itself.
    let listed = async || operations.join_tokens().await.expect("it runs").len();
    let gone = async {
        while listed().await > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), gone).await.expect("a second has passed");
    let token = answer.token.parse().expect("a join token");
    let refusal = overlay.join(&token).await.err().expect("too late");
    assert!(refusal.message().contains("expired"), "{}", refusal.message());
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
