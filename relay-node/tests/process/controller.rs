//! A controller that goes and comes back.

use crate::support::{Overlay, get, get_json, until, until_linked, until_ready};

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_goes_on_without_its_controller_and_finds_it_again() {
    let mut overlay = Overlay::start().await;
    let (first, second) = (overlay.relay("r1").await, overlay.relay("r2").await);
    until_ready(&first).await;
    let before = until_linked(&first, "r2").await;
    let api = first.api_address();
    let routed = |(_, tables): &(u16, serde_json::Value)| {
        !tables["tables"][0]["rows"].as_array().is_none_or(Vec::is_empty)
    };
    let (_, tables) = until("there is a route", || get_json(api, "/v1/tables"), routed).await;

    let address = overlay.stop_controller().await;
    let metric = |line: &'static str| move |(_, text): &(u16, String)| text.contains(line);
    until("it is missed", || get(api, "/metrics"), metric("cascade_relay_controller_connected 0")).await;
    let (status, kept) = get_json(api, "/v1/tables").await;
    assert_eq!((status, &kept["tables"]), (200, &tables["tables"]), "the last tables stay in force");
    assert_eq!(get_json(api, "/readyz").await.0, 200, "what it needs to carry media is there");

    overlay.start_controller(address).await;
    until("it is back", || get(api, "/metrics"), metric("cascade_relay_controller_sessions_total 2")).await;
    let newer =
        |(_, now): &(u16, serde_json::Value)| now["stamp_epoch"].as_u64() > tables["stamp_epoch"].as_u64();
    until("new tables are in force", || get_json(api, "/v1/tables"), newer).await;
    let after = until_linked(&first, "r2").await;
    assert_eq!(after["id"], before["id"], "links are none of the controller's business");
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_controllers_are_tried_in_turn() {
    let overlay = Overlay::start().await;
    overlay.relay("r1").await.stop().await;
    let mut config = relay_node::Config::local(overlay.path("r1"), None);
    // Nobody listens at the discard port of loopback.
    config.controllers = vec!["127.0.0.1:9".to_owned(), overlay.controller().grpc_address().to_string()];
    let relay = relay_node::RelayNode::start(config).await.expect("it has its certificate");
    until_ready(&relay).await;
    relay.stop().await;
}
