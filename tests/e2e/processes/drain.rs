//! Relays that are emptied under a call, and stopped after that.

use crate::overlay::Overlay;
use crate::stream::{Stream, camera};
use serde_json::{Value, json};
use sfu_link::{SfuLink, SubscribeOptions};
use std::process::Command;

/// Two relays have no link to each other, so that the stream passes a third: r3 is the only one that dials r1, and is sent
/// to a port where nobody listens.
fn apart(mut command: Command) -> Command {
    command.args(["--neighbour-address", "r1=127.0.0.1:9"]);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_relay_of_a_call_is_drained_no_packet_is_lost_or_repeated() {
    let mut overlay = Overlay::start_of(&["r3", "r1", "r2", "r4"], 10, apart).await;
    let sender = overlay.sfu_of(&["r1", "r4", "r2"]).await;
    let receiver = overlay.sfu_of(&["r3", "r2", "r4"]).await;
    let mut subscription = receiver.subscribe(SubscribeOptions::room("standup")).await.expect("granted");
    let publication = sender.publish(camera()).await.expect("granted");
    let mut stream = Stream::flowing(publication, &mut subscription).await;

    let path = overlay.list(&["routes", "dump", "--node", "r1", "--plane", "0"], "routes");
    let path = path.iter().find(|row| row["destination"] == "r3").expect("a route")["path"].clone();
    let transit = if path[1] == "r2" { "r2" } else { "r4" };
    assert_eq!(path, json!(["r1", transit, "r3"]));

    for relay in [transit, "r1", "r3"] {
        let mut passage;
        let emptied = async { tokio::task::block_in_place(|| drain(&overlay, relay)) };
        (stream, subscription, passage) = stream.endure(subscription, emptied).await;
        eprintln!("{relay} drained: {passage:?}");
        assert_eq!((passage.lost, passage.repeated), (0, 0), "{relay}: {passage:?}");
        // Nothing passes it any more, so that its end is noticed by nobody.
        let stopped = async { tokio::task::block_in_place(|| overlay.stop_relay(relay)) };
        (stream, subscription, passage) = stream.endure(subscription, stopped).await;
        eprintln!("{relay} stopped: {passage:?}");
        assert_eq!((passage.lost, passage.repeated), (0, 0), "{relay}: {passage:?}");

        overlay.start_relay(relay, apart);
        overlay.until("the relay is back", Overlay::is_whole).await;
        assert!(
            overlay.sfu_for("demo", &[relay]).await.is_err(),
            "{relay} takes in SFUs, and is to be empty"
        );
        overlay.relayctl(&["uncordon", relay]);
    }
    // Both moved once for each of their relays, and their streams neither ended nor began anew.
    assert_eq!(sender.stats().await.expect("it runs").reconnects, 1);
    assert_eq!(receiver.stats().await.expect("it runs").reconnects, 1);
    for sfu in [&sender, &receiver] {
        SfuLink::close(sfu).await;
    }
    overlay.stop();
}

/// A relay that is told to stop lets its SFUs move first.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_stops_waits_for_its_sfus_to_move() {
    let mut overlay = Overlay::start().await;
    let (sender, receiver) = (overlay.sfu_of(&["r1", "r2"]).await, overlay.sfu_of(&["r3", "r2"]).await);
    let mut subscription = receiver.subscribe(SubscribeOptions::room("standup")).await.expect("granted");
    let publication = sender.publish(camera()).await.expect("granted");
    let mut stream = Stream::flowing(publication, &mut subscription).await;
    for relay in ["r3", "r1"] {
        let passage;
        let stopped = async { tokio::task::block_in_place(|| overlay.stop_relay(relay)) };
        (stream, subscription, passage) = stream.endure(subscription, stopped).await;
        eprintln!("{relay} stopped: {passage:?}");
        assert_eq!((passage.lost, passage.repeated), (0, 0), "{relay}: {passage:?}");
    }
    for sfu in [&sender, &receiver] {
        SfuLink::close(sfu).await;
    }
    overlay.stop();
}

/// Drains a relay, and checks what is said about that.
fn drain(overlay: &Overlay, relay: &str) {
    let answer = overlay.relayctl(&["drain", relay, "--timeout", "30", "-o", "json"]);
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(
        answer,
        json!({
            "name": relay, "cordoned": true, "draining": true, "drained": true,
            "transit_pairs": 0, "publications": 0, "subscriptions": 0,
        })
    );
    let (status, ready) = e2e::answer_to_get(overlay.api(relay), "/readyz");
    assert!(status == 503 && ready.contains("being drained"), "{status} {ready}");
}
