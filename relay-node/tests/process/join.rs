//! Joining an overlay: once, with the right controller only.

use crate::support::{Overlay, mode_of, until_ready};
use relay_node::{Config, RelayError, RelayNode};

async fn refusal(config: Config) -> String {
    let started = tokio::time::timeout(crate::support::PATIENCE, RelayNode::start(config))
        .await
        .expect("an answer in time");
    started.err().expect("the relay is to be refused").to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_joins_once_and_comes_back_without_a_token() {
    let overlay = Overlay::start().await;
    let relay = overlay.relay("r1").await;
    until_ready(&relay).await;
    let node = relay.node();
    assert_eq!(mode_of(&overlay.path("r1/key.pem")), 0o600);
    relay.stop().await;

    let relay =
        RelayNode::start(Config::local(overlay.path("r1"), None)).await.expect("it has its certificate");
    assert_eq!((relay.name(), relay.node()), ("r1", node));
    until_ready(&relay).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_token_works_once() {
    let overlay = Overlay::start().await;
    let token = overlay.join_token("r1").await;
    let first = Config::local(overlay.path("first"), Some(token.clone()));
    RelayNode::start(first).await.expect("the first may join").stop().await;
    let reason = refusal(Config::local(overlay.path("second"), Some(token))).await;
    assert!(reason.starts_with("cannot join: ") && reason.contains("token"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_is_not_sent_to_a_controller_of_another_ca() {
    let overlay = Overlay::start().await;
    let mut token = overlay.join_token("r1").await;
    let right = token.ca_sha256;
    token.ca_sha256 = [7; 32];
    let reason = refusal(Config::local(overlay.path("r1"), Some(token.clone()))).await;
    assert!(reason.contains("not the controller that the join token is from"), "{reason}");
    // It was not used up, so it was not sent.
    token.ca_sha256 = right;
    RelayNode::start(Config::local(overlay.path("r1"), Some(token)))
        .await
        .expect("it may still join")
        .stop()
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_certificate_and_token_there_is_no_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut config = Config::local(directory.path().join("r1"), None);
    config.join_token_file = Some("/nonexistent/r1.token".into());
    let reason = refusal(config).await;
    assert!(reason.contains("/nonexistent/r1.token does not exist"), "{reason}");
    assert!(reason.contains("relayctl join-token create"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_directory_of_another_relay_is_refused() {
    let overlay = Overlay::start().await;
    overlay.relay("r1").await.stop().await;
    let misnamed = Config { name: Some("r2".to_owned()), ..Config::local(overlay.path("r1"), None) };
    let reason = refusal(misnamed).await;
    assert!(reason.contains("belongs to relay \"r1\"") && reason.contains("\"r2\""), "{reason}");

    let other = Overlay::start().await;
    let reason = refusal(Config::local(overlay.path("r1"), Some(other.join_token("r1").await))).await;
    assert!(reason.contains("from another overlay than the join token"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_state_directory_is_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let overlay = Overlay::start().await;
    overlay.relay("r1").await.stop().await;
    let key = overlay.path("r1/key.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("mode set");
    let reason = refusal(Config::local(overlay.path("r1"), None)).await;
    assert!(reason.contains("key.pem has mode 644"), "{reason}");
    std::fs::remove_file(&key).expect("removed");
    let reason = refusal(Config::local(overlay.path("r1"), None)).await;
    assert!(reason.contains("key.pem is gone"), "{reason}");
    std::fs::write(overlay.path("r1/certificate.pem"), "nonsense").expect("written");
    let outcome = RelayNode::start(Config::local(overlay.path("r1"), None)).await;
    assert!(matches!(outcome.err(), Some(RelayError::State { .. })));
}
