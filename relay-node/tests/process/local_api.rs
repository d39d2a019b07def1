//! The local API where things are not as they should be.

use crate::support::{Overlay, exchange, get_json, until};
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
    let mut overlay = Overlay::start().await;
    let relay = overlay.relay("r1").await;
    crate::support::until_ready(&relay).await;
    relay.stop().await;
    let config = Config::local(overlay.path("r1"), None);
    overlay.stop_controller().await;
    let relay = RelayNode::start(config).await.expect("it has its certificate");
    let (status, answer) = get_json(relay.api_address(), "/readyz").await;
    assert_eq!(status, 503);
    let missing: Vec<_> =
        answer["missing"].as_array().expect("a list").iter().map(|m| m["what"].clone()).collect();
    assert_eq!(missing, ["controller", "tables", "token_keys"]);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_loopback_there_are_tls_and_a_token() {
    let overlay = Overlay::start().await;
    let made = rcgen::generate_simple_self_signed(vec!["relay.example".to_owned()]).expect("a certificate");
    let (certificate, key, token) =
        (overlay.path("api.crt"), overlay.path("api.key"), overlay.path("api.token"));
    std::fs::write(&certificate, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    std::fs::write(&token, "0123456789abcdef\n").expect("written");
    let mut config = overlay.config("r1").await;
    config.api.tls = Some((certificate, key));
    config.api.token_file = Some(token);
    let relay = RelayNode::start(config).await.expect("it starts");

    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a certificate");
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider speaks TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(tls));
    let ask = async |path: &str, header: &str| {
        let tcp = tokio::net::TcpStream::connect(relay.api_address()).await.expect("it listens");
        let name = "relay.example".try_into().expect("a name");
        let stream = connector.connect(name, tcp).await.expect("the certificate fits");
        exchange(stream, path, header).await.0
    };
    assert_eq!(ask("/v1/links", "").await, 401);
    assert_eq!(ask("/v1/links", "Authorization: Bearer 0123456789abcdeX\r\n").await, 401);
    assert_eq!(ask("/v1/links", "Authorization: Bearer 0123456789abcdef\r\n").await, 200);
    assert_eq!(ask("/metrics", "").await, 401);
    assert_eq!(ask("/v1/nonsense", "").await, 401);
    assert_eq!(ask("/healthz", "").await, 200);

    // Who says nothing holds up nobody.
    let _silent = tokio::net::TcpStream::connect(relay.api_address()).await.expect("it listens");
    assert_eq!(ask("/healthz", "").await, 200);
    relay.stop().await;
}
