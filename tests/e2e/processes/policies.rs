//! Policies on running processes: what a dry run tells is what then happens, media does not notice, and a restart of the
//! controller changes nothing.

use crate::overlay::{Overlay, deploy};
use crate::stream::{Stream, camera};
use serde_json::Value;
use sfu_link::SubscribeOptions;

const PINNED: &str = r#"
[[policies]]
name = "pinned"
namespaces = ["demo"]
pins = ["r1 > r2 > r3"]
"#;

fn json(overlay: &Overlay, arguments: &[&str]) -> Value {
    serde_json::from_str(&overlay.relayctl(&[arguments, &["-o", "json"]].concat())).expect("JSON")
}

fn path(overlay: &Overlay, policy: &str) -> Option<Value> {
    let rows =
        overlay.list(&["routes", "dump", "--policy", policy, "--node", "r1", "--plane", "0"], "routes");
    rows.into_iter().find(|row| row["destination"] == "r3").map(|row| row["path"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_turns_a_route_under_media_as_the_dry_run_said() {
    let mut overlay = Overlay::start().await;
    let (sender, receiver) = (overlay.sfu("r1").await, overlay.sfu("r3").await);
    let mut subscription = receiver.subscribe(SubscribeOptions::room("standup")).await.expect("granted");
    let publication = sender.publish(camera()).await.expect("granted");
    let stream = Stream::flowing(publication, &mut subscription).await;
    let file = overlay.path("policies.toml");
    std::fs::write(&file, PINNED).expect("written");
    let file = file.to_str().expect("UTF-8").to_owned();

    let (told, before) = tokio::task::block_in_place(|| {
        (json(&overlay, &["policy", "apply", &file, "--dry-run"]), path(&overlay, "default"))
    });
    assert_eq!(before, Some(serde_json::json!(["r1", "r3"])));
    let routes = told["routes"].as_array().expect("a list");
    let change = routes.iter().find(|route| (&route["from"], &route["to"]) == (&"r1".into(), &"r3".into()));
    let change = change.unwrap_or_else(|| panic!("the pinned route changes: {told}"));
    assert_eq!(
        (&change["before"], &change["after"]),
        (&before.clone().expect("a path"), &serde_json::json!(["r1", "r2", "r3"]))
    );
    assert_eq!((&told["streams_changed"], &told["streams"][0]["after"]), (&1.into(), &"pinned".into()));
    let shown = tokio::task::block_in_place(|| json(&overlay, &["policy", "show"]));
    assert_eq!(shown["policies"].as_array().map(Vec::len), Some(1), "nothing has changed: {shown}");

    let passed =
        |overlay: &Overlay| overlay.metric("r2", "cascade_relay_core_total{event=\"media_forwarded\"}");
    let before_r2 = tokio::task::block_in_place(|| passed(&overlay));
    let apply = async {
        tokio::task::block_in_place(|| overlay.relayctl(&["policy", "apply", &file]));
        let turned = |overlay: &Overlay| path(overlay, "pinned") == Some(change["after"].clone());
        overlay.until("the route has turned", turned).await;
    };
    // Not a packet is lost, nor comes twice.
    let stream = stream.run(&mut subscription, 1_500, apply).await;
    overlay.until("media passes r2", |overlay| passed(overlay) > before_r2).await;
    tokio::task::block_in_place(|| {
        assert_eq!(path(&overlay, "default"), before, "others keep to the short way");
        let explained = json(&overlay, &["routes", "explain", "r1", "r3", "--policy", "pinned"]);
        assert_eq!(
            (&explained["policy"], &explained["chosen"]["path"]),
            (&"pinned".into(), &change["after"])
        );
        let again = json(&overlay, &["policy", "apply", &file, "--dry-run"]);
        assert_eq!((&again["routes_changed"], &again["streams_changed"]), (&0.into(), &0.into()), "{again}");
        let streams = overlay.list(&["streams"], "streams");
        assert!(streams.iter().all(|stream| stream["policy"] == "pinned"), "{streams:?}");
    });

    let restart = async {
        tokio::task::block_in_place(|| {
            overlay.kill_controller();
            overlay.start_controller();
        });
        let kept = |overlay: &Overlay| {
            overlay.is_whole() && path(overlay, "pinned") == Some(change["after"].clone())
        };
        overlay.until("the policy is in force again", kept).await;
    };
    stream.run(&mut subscription, 1_500, restart).await;
    sender.close().await;
    receiver.close().await;
    overlay.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_by_name_and_changes_nothing() {
    let overlay = Overlay::start().await;
    tokio::task::block_in_place(|| {
        let refused = |text: &str| {
            let file = overlay.path("policies.toml");
            std::fs::write(&file, text).expect("written");
            let mut command = overlay.command("relayctl");
            let output = command.args(["policy", "apply"]).arg(&file).output().expect("it runs");
            assert!(!output.status.success(), "{text}");
            String::from_utf8(output.stderr).expect("UTF-8")
        };
        let conflict = refused(&PINNED.replace("\"r1 > r2 > r3\"", "\"r1 > r2 > r3\", \"r1 > r3\""));
        assert!(conflict.contains("`r1 > r2 > r3` conflicts with pin `r1 > r3`"), "{conflict}");
        let unknown = refused(&PINNED.replace("namespaces", "namespace"));
        assert!(unknown.contains("did you mean `namespaces`?"), "{unknown}");
        let shown = json(&overlay, &["policy", "show"]);
        assert_eq!(shown["policies"].as_array().map(Vec::len), Some(1), "{shown}");
        // The example is taken as it is, and shown as a table.
        let example = deploy("policies.toml");
        let table = overlay.relayctl(&["policy", "apply", example.to_str().expect("UTF-8")]);
        assert!(table.contains("resident") && table.contains("region:us-east"), "{table}");
        let mut command = overlay.command("relayctl");
        let output = command.args(["routes", "dump", "--policy", "no"]).output().expect("it runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && errors.contains("there is no policy"), "{errors}");
    });
    overlay.stop();
}
