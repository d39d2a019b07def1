//! The local API where things are not as they should be.

use crate::support::{Overlay, get_json, until};
use relay_node::{Config, RelayNode};

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_json_and_say_what_to_do() {
    let overlay = Overlay::start().await;
    let relay = overlay.relay("r1").await;
    let (status, answer) = get_json(relay.api_address(), "/v1/nonsense").await;
    assert_eq!(status, 404);
    assert_eq!(answer["error"], "no such path");
    assert!(answer["hint"].as_str().is_some_and(|hint| hint.contains("/v1/links")), "{answer}");
    assert_eq!(get_json(relay.api_address(), "/healthz").await.0, 200);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_cannot_join_yet_is_alive_and_not_ready() {
    let overlay = Overlay::start().await;
    let mut config = overlay.config("r1").await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    config.api.listen = free.local_addr().expect("an address");
    drop(free);
    let api = config.api.listen;
    // Nobody listens there: a port that was just given back.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    config.controllers = vec![nobody.local_addr().expect("an address").to_string()];
    drop(nobody);
    let starting = tokio::spawn(RelayNode::start(config));
    let listens = || async move { tokio::net::TcpStream::connect(api).await.is_ok() };
    until("the API listens", listens, |listens| *listens).await;
    let (status, answer) = get_json(api, "/readyz").await;
    assert_eq!(status, 503);
    assert_eq!(answer["ready"], false);
    assert_eq!(answer["missing"][0]["what"], "joined");
    assert_eq!(get_json(api, "/healthz").await.0, 200);
    let (status, answer) = get_json(api, "/v1/links").await;
    assert_eq!((status, &answer["error"]), (503, &serde_json::json!("the relay has not joined yet")));
    starting.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_without_its_controller_is_not_ready_until_it_has_seen_one() {
    let overlay = Overlay::start().await;
    let relay = overlay.relay("r1").await;
    crate::support::until_ready(&relay).await;
    relay.stop().await;
    let config = Config::local(overlay.path("r1"), None);
    overlay.controller.shutdown().await;
    let relay = RelayNode::start(config).await.expect("it has its certificate");
    let (status, answer) = get_json(relay.api_address(), "/readyz").await;
    assert_eq!(status, 503);
    let missing: Vec<_> =
        answer["missing"].as_array().expect("a list").iter().map(|m| m["what"].clone()).collect();
    assert_eq!(missing, ["controller", "tables", "token_keys"]);
    relay.stop().await;
}
