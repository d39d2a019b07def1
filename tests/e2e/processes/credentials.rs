//! Credentials outlive a controller that dies, and what was taken back stays so.

use crate::overlay::Overlay;
use crate::soon;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn credentials_outlive_a_controller_that_is_killed() {
    let mut overlay = Overlay::start().await;
    let sfu = overlay.sfu("r1").await;
    let ids = |overlay: &Overlay, command: &str, rows: &str, field: &str| {
        let rows = overlay.list(&[command, "list"], rows);
        rows.iter().map(|row| row[field].as_str().expect("a text").to_owned()).collect::<Vec<_>>()
    };
    overlay.relayctl(&["api-token", "create", "--name", "grafana", "--rights", "read"]);
    overlay.relayctl(&["api-token", "create", "--name", "former", "--rights", "admin"]);
    overlay.relayctl(&["api-token", "revoke", "former"]);
    for name in ["r4", "r5"] {
        overlay.relayctl(&["join-token", "create", "--name", name]);
    }
    let waiting = ids(&overlay, "join-token", "join_tokens", "id");
    overlay.relayctl(&["join-token", "revoke", &waiting[0]]);
    overlay.relayctl(&["token-key", "rotate"]);
    let keys = ids(&overlay, "token-key", "token_keys", "id");
    assert_eq!(keys.len(), 2);

    overlay.kill_controller();
    overlay.start_controller();
    overlay.until("every relay has a route to every other", Overlay::is_whole).await;
    assert_eq!(ids(&overlay, "api-token", "api_tokens", "name"), ["grafana"]);
    assert_eq!(ids(&overlay, "join-token", "join_tokens", "id"), waiting[1..]);
    assert_eq!(ids(&overlay, "token-key", "token_keys", "id"), keys);
    assert_eq!(sfu.stats().await.expect("open").reconnects, 0, "its link needs no controller");

    // The key of the SFU's token goes: so does its link, wherever it is, and a token of the next key makes another.
    let mut losses = sfu.last_loss();
    let started = Instant::now();
    overlay.relayctl(&["token-key", "remove", &keys[0]]);
    let removed = "the key that signed the token was removed";
    let told = |loss: &Option<std::sync::Arc<str>>| loss.as_ref().is_some_and(|loss| loss.contains(removed));
    drop(soon(losses.wait_for(told)).await.expect("the client is there"));
    let took = started.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    let next = overlay.sfu("r1").await;
    next.close().await;
    sfu.close().await;
    overlay.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sfus_of_a_revoked_relay_go_to_the_next() {
    let overlay = Overlay::start().await;
    let sfu = overlay.sfu_of(&["r2", "r1"]).await;
    let before = sfu.stats().await.expect("open").relay;
    let mut losses = sfu.last_loss();
    let started = Instant::now();
    overlay.relayctl(&["node", "revoke", "r2"]);
    let told = |loss: &Option<std::sync::Arc<str>>| {
        loss.as_ref().is_some_and(|loss| loss.contains("this relay takes no tokens any more"))
    };
    drop(soon(losses.wait_for(told)).await.expect("the client is there"));
    let took = started.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    let elsewhere = async {
        let mut look = tokio::time::interval(Duration::from_millis(20));
        loop {
            look.tick().await;
            let relay = sfu.stats().await.expect("open").relay;
            if relay.is_some() && relay != before {
                break;
            }
        }
    };
    soon(elsewhere).await;
    let refusal = overlay.sfu_for("demo", &["r2"]).await.map(|_| ()).expect_err("it serves nobody");
    let reason = refusal.refusal().map(|(_, reason)| reason.to_owned());
    assert!(reason.is_some_and(|reason| reason.contains("use another")), "{refusal}");
    sfu.close().await;
    overlay.stop();
}
