//! Certificates in the life of relays: renewed by themselves, copied, revoked.

use crate::support::{Overlay, get, get_json, link_to, mode_of, until, until_linked, until_ready};
use relay_node::{Config, RelayNode};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

async fn metric(relay: &RelayNode, name: &str) -> f64 {
    let (_, text) = get(relay.api_address(), "/metrics").await;
    let line = text.lines().find(|line| line.split(' ').next() == Some(name));
    line.and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in\n{text}"))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("made");
    for file in std::fs::read_dir(from).expect("it is there") {
        let file = file.expect("readable");
        std::fs::copy(file.path(), to.join(file.file_name())).expect("copied");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_renewed_and_nothing_else_changes() {
    let overlay = Overlay::with(|config| config.with_certificate_lifetime(Duration::from_secs(3))).await;
    let (first, second) = (overlay.relay("r1").await, overlay.relay("r2").await);
    let before = until_linked(&first, "r2").await;
    let key = || std::fs::read_to_string(overlay.path("r1/key.pem")).expect("it has a key");
    let first_key = key();
    for relay in [&first, &second] {
        let renewals = || metric(relay, "cascade_relay_certificate_renewals_total");
        until("three renewals", renewals, |count| *count >= 3.0).await;
        assert_eq!(metric(relay, "cascade_relay_controller_sessions_total").await, 1.0);
        assert_eq!(metric(relay, "cascade_relay_certificate_renewals_failed_total").await, 0.0);
    }
    assert_eq!(until_linked(&first, "r2").await["id"], before["id"], "links stand");
    assert_ne!(key(), first_key, "each certificate has its own key");
    assert_eq!(mode_of(&overlay.path("r1/key.pem")), 0o600);

    // What lies in the state directory serves the next start, and a new link is made with it.
    first.stop().await;
    let first =
        RelayNode::start(Config::local(overlay.path("r1"), None)).await.expect("it has its certificate");
    until_ready(&first).await;
    until_linked(&first, "r2").await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_certificate_expired_while_it_was_off_renews_it_first() {
    let overlay = Overlay::with(|config| config.with_certificate_lifetime(Duration::from_secs(2))).await;
    let relay = overlay.relay("r1").await;
    until_ready(&relay).await;
    relay.stop().await;
    // The calendar that certificates go by cannot be moved: it moves by itself.
    let over = SystemTime::now() + Duration::from_millis(4_100);
    let passed = || async { SystemTime::now() };
    until("the certificate has expired", passed, |now| *now > over).await;
    let relay = RelayNode::start(Config::local(overlay.path("r1"), None)).await.expect("it can be renewed");
    until_ready(&relay).await;
    assert!(metric(&relay, "cascade_relay_certificate_renewals_total").await >= 1.0);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_was_cut_short_is_finished_at_the_next_start() {
    use std::os::unix::fs::PermissionsExt as _;
    let overlay = Overlay::start().await;
    overlay.relay("r1").await.stop().await;
    // As if the host had stopped between writing the certificate and putting its key in place.
    let (key, next) = (overlay.path("r1/key.pem"), overlay.path("r1/key.next.pem"));
    std::fs::rename(&key, &next).expect("renamed");
    std::fs::write(&key, rcgen::KeyPair::generate().expect("a key").serialize_pem()).expect("written");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("mode set");
    let relay = RelayNode::start(Config::local(overlay.path("r1"), None)).await.expect("it finds its key");
    until_ready(&relay).await;
    assert!(!next.exists());
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_state_directory_disturbs_nobody() {
    let overlay = Overlay::start().await;
    let (first, second) = (overlay.relay("r1").await, overlay.relay("r2").await);
    let before = until_linked(&first, "r2").await;
    copy(&overlay.path("r1"), &overlay.path("copy"));
    let twin =
        RelayNode::start(Config::local(overlay.path("copy"), None)).await.expect("it has a certificate");
    let refused = || metric(&twin, "cascade_relay_controller_refusals_total");
    until("the twin is refused", refused, |count| *count == 1.0).await;
    assert_eq!(get_json(twin.api_address(), "/readyz").await.0, 503);
    assert_eq!(metric(&first, "cascade_relay_controller_sessions_total").await, 1.0);
    assert_eq!(metric(&first, "cascade_relay_controller_connected").await, 1.0);
    twin.stop().await;
    let nodes = overlay.controller().operations().nodes().await.expect("it runs");
    let states: Vec<_> = nodes.iter().map(|row| (row.name.as_str(), row.state.as_str())).collect();
    assert_eq!(states, [("r1", "connected"), ("r2", "connected")]);
    assert_eq!(until_linked(&first, "r2").await["id"], before["id"]);
    assert_eq!(until_linked(&second, "r1").await["state"], "up");
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_relay_is_cut_off_everywhere_within_two_seconds() {
    let mut overlay = Overlay::start().await;
    let (first, bad, third) =
        (overlay.relay("r1").await, overlay.relay("r2").await, overlay.relay("r3").await);
    for (relay, other) in [(&first, "r2"), (&bad, "r3"), (&first, "r3")] {
        until_linked(relay, other).await;
    }
    let started = Instant::now();
    overlay.controller().operations().revoke_node("r2".to_owned()).await.expect("it is known");
    for relay in [&first, &third] {
        let api = relay.api_address();
        until("its link is cut", || get_json(api, "/v1/links"), |links| link_to(&links.1, "r2").is_none())
            .await;
    }
    let connected = || metric(&bad, "cascade_relay_controller_connected");
    until("its session ended", connected, |connected| *connected == 0.0).await;
    let took = started.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    until_linked(&first, "r3").await;
    // It says so, and takes no SFUs.
    let ready = || get_json(bad.api_address(), "/readyz");
    until("it is not ready", ready, |(status, answer)| {
        *status == 503 && answer["missing"].to_string().contains("membership")
    })
    .await;

    // Nor does it come back when it, or the controller, starts again.
    let listen = overlay.stop_controller().await;
    bad.stop().await;
    overlay.start_controller(listen).await;
    let bad = RelayNode::start(Config::local(overlay.path("r2"), None)).await.expect("its files are whole");
    let refused = || metric(&bad, "cascade_relay_controller_refusals_total");
    until("it is refused", refused, |count| *count >= 1.0).await;

    // It joins anew under the same name, with a new token and a state directory of its own.
    let config = Config::local(overlay.path("r2-again"), Some(overlay.join_token("r2").await));
    let again = RelayNode::start(config).await.expect("a new token");
    until_linked(&again, "r3").await;
    until_linked(&first, "r2").await;
    for relay in [first, bad, third, again] {
        relay.stop().await;
    }
}
