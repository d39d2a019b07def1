//! Two relays and their controller: links, tables, readiness, metrics; and what is left when one of them goes.

use crate::support::{Overlay, get, get_json, link_to, until, until_linked, until_ready};

#[tokio::test(flavor = "multi_thread")]
async fn relays_find_each_other_and_say_so() {
    let overlay = Overlay::start().await;
    let (first, second) = (overlay.relay("r1").await, overlay.relay("r2").await);
    for (relay, other) in [(&first, "r2"), (&second, "r1")] {
        until_ready(relay).await;
        let link = until_linked(relay, other).await;
        assert_eq!(link["peer"], "relay");
        let api = relay.api_address();
        let routed = |(_, tables): &(u16, serde_json::Value)| {
            tables["tables"][0]["rows"].as_array().is_some_and(|rows| {
                rows.iter().any(|row| row["destination_name"] == other && row["next_hop_name"] == other)
            })
        };
        until("there is a route", || get_json(api, "/v1/tables"), routed).await;
        let (status, metrics) = get(api, "/metrics").await;
        assert_eq!(status, 200);
        for line in [
            format!("cascade_link_up{{neighbour=\"{other}\"}} 1"),
            "cascade_relay_controller_connected 1".to_owned(),
            "cascade_relay_core_drops_total{reason=\"no_route\"} 0".to_owned(),
        ] {
            assert!(metrics.contains(&line), "no {line} in\n{metrics}");
        }
        assert_eq!(get_json(api, "/v1/streams").await, (200, serde_json::json!({"streams": []})));
    }
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_stops_says_goodbye_and_one_that_is_killed_is_missed() {
    let overlay = Overlay::start().await;
    let stays = overlay.relay("r1").await;
    let api = stays.api_address();
    let gone = |(_, links): &(u16, serde_json::Value)| {
        link_to(links, "r2").is_none_or(|link| link["state"] == "down")
    };
    let leaves = overlay.relay("r2").await;
    until_linked(&stays, "r2").await;
    leaves.stop().await;
    until("the link is gone", || get_json(api, "/v1/links"), gone).await;

    let comes_back = relay_node::Config::local(overlay.path("r2"), None);
    let crashes = relay_node::RelayNode::start(comes_back).await.expect("it has its certificate");
    until_linked(&stays, "r2").await;
    crashes.kill();
    until("the link is gone", || get_json(api, "/v1/links"), gone).await;
    stays.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_crashed_and_came_back_is_dialled_anew() {
    let overlay = Overlay::start().await;
    let dials = overlay.relay("r1").await;
    let crashes = overlay.relay("r2").await;
    assert!(dials.node() < crashes.node(), "the lower index dials");
    let before = until_linked(&dials, "r2").await;
    // It comes back at the same address, so nothing tells its neighbour but silence.
    let address = crashes.port_address();
    crashes.kill();
    let mut config = relay_node::Config::local(overlay.path("r2"), None);
    config.listen = vec![address];
    // The killed port's worker gives the address back within a moment.
    let again = || relay_node::RelayNode::start(config.clone());
    let back = until("the address is free", again, Result::is_ok).await.expect("just seen");
    let api = dials.api_address();
    let is_new = |(_, links): &(u16, serde_json::Value)| {
        link_to(links, "r2").is_some_and(|link| link["state"] == "up" && link["id"] != before["id"])
    };
    until("there is a new link", || get_json(api, "/v1/links"), is_new).await;
    until_linked(&back, "r1").await;
    back.stop().await;
    dials.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neighbours_are_reached_where_the_configuration_says() {
    let overlay = Overlay::start().await;
    // It joins first, so it has the lower index and dials.
    overlay.relay("r1").await.stop().await;
    let mut config = overlay.config("r2").await;
    // What it advertises leads nowhere.
    config.advertise = vec!["127.0.0.1:9".parse().expect("an address")];
    let second = relay_node::RelayNode::start(config).await.expect("it starts");
    let mut config = relay_node::Config::local(overlay.path("r1"), None);
    config.neighbour_addresses.insert("r2".to_owned(), second.port_address());
    let first = relay_node::RelayNode::start(config).await.expect("it starts");
    until_linked(&first, "r2").await;
    first.stop().await;
    second.stop().await;
}
