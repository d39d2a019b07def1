//! A call across separate processes, and what a controller that dies or a stolen token do to it.

use crate::overlay::{Overlay, deploy};
use crate::stream::{Stream, camera};
use sfu_link::SubscribeOptions;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn streams_cross_an_overlay_of_separate_processes() {
    let overlay = Overlay::start().await;
    let (sender, receiver) = (overlay.sfu("r1").await, overlay.sfu("r3").await);
    let mut subscription = receiver.subscribe(SubscribeOptions::room("standup")).await.expect("granted");
    let publication = sender.publish(camera()).await.expect("granted");
    let stream = Stream::flowing(publication, &mut subscription).await;

    let streams = overlay.list(&["streams"], "streams");
    assert_eq!(streams.len(), 1);
    assert_eq!((&streams[0]["ingress"], &streams[0]["stream"]), (&"r1".into(), &"camera".into()));
    assert_eq!(streams[0]["destinations"], serde_json::json!(["r3"]));
    let nodes = overlay.list(&["nodes"], "nodes");
    let states: Vec<&str> = nodes.iter().filter_map(|node| node["state"].as_str()).collect();
    assert_eq!(states, ["connected"; 3]);
    assert_eq!(overlay.list(&["links"], "links").len(), 6);
    let routes = overlay.list(&["routes", "dump", "--node", "r1", "--plane", "0"], "routes");
    let mut destinations: Vec<&str> = routes.iter().filter_map(|row| row["destination"].as_str()).collect();
    destinations.sort_unstable();
    assert_eq!(destinations, ["r2", "r3"]);

    stream.run(&mut subscription, 500, async {}).await;
    sender.close().await;
    receiver.close().await;
    overlay.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_killed_and_restarted_costs_no_packet() {
    let mut overlay = Overlay::start().await;
    let (sender, receiver) = (overlay.sfu("r1").await, overlay.sfu("r3").await);
    let mut subscription = receiver.subscribe(SubscribeOptions::room("standup")).await.expect("granted");
    let publication = sender.publish(camera()).await.expect("granted");
    let stream = Stream::flowing(publication, &mut subscription).await;

    // Two seconds without a controller, then four with the new one: all of its grace periods and first tables.
    let restart = async {
        overlay.kill_controller();
        tokio::time::sleep(Duration::from_secs(2)).await;
        overlay.start_controller();
        let whole = |overlay: &Overlay| {
            overlay.list(&["nodes"], "nodes").iter().filter(|node| node["state"] == "connected").count() == 3
        };
        overlay.until("all relays are back", whole).await;
    };
    let stream = stream.run(&mut subscription, 3000, restart).await;

    // What comes new finds the overlay whole.
    let late = overlay.sfu("r2").await;
    let mut other = late.subscribe(SubscribeOptions::room("standup").user("alice")).await.expect("granted");
    let stream = Stream::flowing(stream.publication, &mut other).await;
    stream.run(&mut other, 200, async {}).await;
    for sfu in [sender, receiver, late] {
        sfu.close().await;
    }
    overlay.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_token_lets_one_process_in() {
    let overlay = Overlay::start().await;
    let stolen = overlay.path("r1.token");
    let mut thief = overlay.command("relay-node");
    thief.arg("--config").arg(deploy("relay-node.toml")).arg("--join-token-file").arg(stolen);
    thief.args(["--listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0"]);
    thief.arg("--state-dir").arg(overlay.path("thief"));
    let output =
        tokio::task::spawn_blocking(move || thief.output()).await.expect("no panic").expect("it runs");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && log.contains("unknown, used or expired"), "{log}");
    overlay.stop();
}
