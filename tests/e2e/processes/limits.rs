//! Limits of namespaces and of a relay: who goes over one is told its name, it is counted, and nobody else notices.

use crate::overlay::Overlay;
use crate::stream::{Stream, camera};
use serde_json::Value;
use sfu_link::{
    ConnectError, MediaKind, PublishOptions, RefusalCode, RequestError, SfuLink, SubscribeOptions,
};
use std::process::Command;
use std::time::Duration;

/// `demo` is limited, `other` is not.
fn limited(mut controller: Command) -> Command {
    controller.args(["--namespaces", "demo:streams=2,subscriptions=1,relays=2,bit_rate=1Mbit/s"]);
    controller
}

/// Each relay holds one SFU beside two neighbours.
fn small(mut relay: Command) -> Command {
    relay.args(["--limits", "links=3,streams=3"]);
    relay
}

fn of(user: &str) -> PublishOptions {
    PublishOptions::new("standup", user, "camera", MediaKind::Video)
}

fn refused<T>(outcome: Result<T, RequestError>) -> String {
    match outcome.err() {
        Some(RequestError::Refused { code: RefusalCode::Limit, reason }) => reason,
        other => panic!("not refused for a limit: {other:?}"),
    }
}

fn namespace(overlay: &Overlay, name: &str) -> Value {
    let rows = overlay.list(&["namespaces"], "namespaces");
    rows.into_iter().find(|row| row["namespace"] == name).expect("it holds something")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_goes_over_its_limits_is_told_which() {
    let mut overlay = Overlay::start().await;
    overlay.stop_controller();
    overlay.start_controller_with(limited);
    let all = |overlay: &Overlay| {
        overlay.list(&["nodes"], "nodes").iter().filter(|node| node["state"] == "connected").count() == 3
    };
    overlay.until("every relay is back", all).await;
    overlay.until("the overlay is whole", Overlay::is_whole).await;
    let (one, two, three) = (overlay.sfu("r1").await, overlay.sfu("r2").await, overlay.sfu("r3").await);
    let other = overlay.sfu_for("other", &["r3"]).await.expect("let in");

    // Two streams and two relays; a third of either is too many.
    let first = one.publish(of("alice")).await.expect("granted");
    let mut subscription = two.subscribe(SubscribeOptions::room("standup")).await.expect("granted");
    // Relays grant subscriptions before the controller has heard of them.
    let counted = |overlay: &Overlay| namespace(overlay, "demo")["subscriptions"] == 1;
    overlay.until("the subscription is counted", counted).await;
    let reason = refused(three.publish(of("bob")).await);
    assert!(
        reason.contains("namespace demo has 2 relays") && reason.contains("[namespaces.demo]"),
        "{reason}"
    );
    let second = one.publish(of("carol")).await.expect("granted");
    let reason = refused(one.publish(of("dave")).await);
    assert!(reason.contains("namespace demo has 2 streams") && reason.contains("`streams`"), "{reason}");
    // Relays do not wait for the controller to say yes.
    let mut third = one.subscribe(SubscribeOptions::room("standup")).await.expect("not refused yet");
    assert!(crate::soon(third.recv()).await.is_none());
    let reason = refused(third.refusal().map_or(Ok(()), Err));
    assert!(reason.contains("namespace demo has 1 subscriptions"), "{reason}");
    let row = namespace(&overlay, "demo");
    let numbers = ["streams", "streams_max", "subscriptions", "relays", "relays_max", "refused"];
    assert_eq!(numbers.map(|key| row[key].as_u64()), [2, 2, 1, 2, 2, 3].map(Some), "{row}");
    let metrics = e2e::get(overlay.admin(), "/metrics");
    assert!(metrics.contains("cascade_controller_limits_reached_total 3"), "{metrics}");

    // A plain registration hears the same from the local API.
    let registration = "{\"namespace\":\"demo\",\"room\":\"standup\",\"user\":\"eve\",\"stream\":\"camera\",\
                        \"kind\":\"video\",\"source\":\"127.0.0.1\",\"port\":\"own\",\"rtcp\":\"mux\"}";
    let (status, answer) = e2e::answer_to_post(overlay.api("r1"), "/v1/publications", registration);
    assert_eq!((status, answer.contains("namespace demo has 2 streams")), (429, true), "{answer}");
    let registration = "{\"namespace\":\"demo\",\"room\":\"standup\",\"destination\":\"127.0.0.1:9\",\
                        \"port\":\"own\",\"rtcp\":\"mux\"}";
    let (status, answer) = e2e::answer_to_post(overlay.api("r1"), "/v1/subscriptions", registration);
    assert_eq!((status, answer.contains("namespace demo has 1 subscriptions")), (429, true), "{answer}");

    // Others have room of their own.
    for user in ["alice", "bob", "carol", "dave"] {
        let publication = other.publish(of(user)).await.expect("granted");
        drop(publication);
    }
    assert_eq!(namespace(&overlay, "other")["refused"], 0);

    // 250 packets a second of 1,000 bytes are twice what it may.
    let mut pace = tokio::time::interval(Duration::from_millis(4));
    for number in 0..500_u16 {
        pace.tick().await;
        let mut packet = vec![0x80, 96];
        packet.extend_from_slice(&number.to_be_bytes());
        packet.resize(1000, 7);
        first.send(&packet).expect("the link stands");
    }
    let is_over = |overlay: &Overlay| namespace(overlay, "demo")["packets_over_rate"].as_u64() > Some(100);
    overlay.until("the controller has heard what was dropped", is_over).await;
    let dropped = overlay.metric("r1", "cascade_namespace_over_rate_total{namespace=\"demo\"}");
    assert!((150..350).contains(&dropped), "{dropped} of 500");
    let mut came = 0;
    while came < 500 - dropped {
        crate::soon(subscription.recv()).await.expect("it stands");
        came += 1;
    }

    // What ends makes room.
    drop(second);
    let frees = |overlay: &Overlay| namespace(overlay, "demo")["streams"] == 1;
    overlay.until("a stream has ended", frees).await;
    one.publish(of("dave")).await.expect("granted");
    for sfu in [one, two, three, other] {
        sfu.close().await;
    }
    overlay.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_holds_as_much_as_it_may_says_so() {
    let mut overlay = Overlay::start_with(small).await;
    let (one, other) = (overlay.sfu("r1").await, overlay.sfu("r3").await);
    let mut subscription = other.subscribe(SubscribeOptions::room("standup")).await.expect("granted");
    let stream = Stream::flowing(one.publish(camera()).await.expect("granted"), &mut subscription).await;
    let more = overlay.sfu_for("demo", &["r1"]).await;
    let reason = match more.map(|_: SfuLink| ()).as_ref().map_err(ConnectError::refusal) {
        Err(Some((RefusalCode::Limit, reason))) => reason.to_owned(),
        other => panic!("{other:?}"),
    };
    assert!(reason.contains("holds 3 links"), "{reason}");
    assert_eq!(overlay.metric("r1", "cascade_relay_port_total{event=\"refused_links\"}"), 1);

    let mut held = Vec::new();
    for user in ["bob", "carol"] {
        held.push(one.publish(of(user)).await.expect("granted"));
    }
    let reason = refused(one.publish(of("dave")).await);
    assert!(reason.contains("holds 3 streams") && reason.contains("`streams` in [limits]"), "{reason}");
    assert_eq!(overlay.metric("r1", "cascade_relay_core_total{event=\"refused_stream_limit\"}"), 1);

    // The call goes on as if nothing had been asked.
    let stream = stream.run(&mut subscription, 250, async {}).await;
    drop(stream);

    // A relay in want of memory lets nobody in, and is a transit as before.
    overlay.stop_relay("r2");
    overlay.start_relay("r2", |mut command| {
        command.args(["--limits", "memory=32MiB"]);
        command
    });
    overlay.until("the relay is back", Overlay::is_whole).await;
    let resident = overlay.metric("r2", "cascade_relay_memory_bytes");
    assert!(resident > 1 << 20, "{resident}");
    one.close().await;
    other.close().await;
    overlay.stop();
}
