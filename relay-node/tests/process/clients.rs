//! Clients at the relay port: whose token is good comes in, everyone else is told why not.

use crate::support::{Overlay, get_json, until, until_ready};
use jsonwebtoken::{Algorithm, EncodingKey, Header, get_current_timestamp};
use link_io::{EventReceiver, Expect, Link, LinkError, Port, PortConfig, Trust, admit_nobody, event_queue};
use relay_core::{Client, ClientConfig, ClientEvent};
use relay_node::RelayNode;
use serde_json::json;
use wire_format::session::{RefusalCode, Role};

fn client(overlay: &Overlay) -> (Port<Client>, EventReceiver<ClientEvent>) {
    let trust = Trust::Fingerprint(overlay.controller().operations().ca_sha256());
    let config = PortConfig { bind: "127.0.0.1:0".parse().expect("an address"), ..PortConfig::new(trust) };
    let (sink, events) = event_queue(16);
    let port = Port::open(config, Client::new(ClientConfig { seed: 1, key: None }), admit_nobody(), sink);
    (port.expect("the port opens"), events)
}

async fn link(
    overlay: &Overlay,
    relay: &RelayNode,
    token: String,
) -> Result<(Port<Client>, Link), LinkError> {
    let (port, _events) = client(overlay);
    let link = port.dial(relay.port_address(), Expect::Upstream, Role::Client { token }).await?;
    Ok((port, link))
}

/// A client that is linked to a relay.
pub async fn linked(overlay: &Overlay, relay: &RelayNode) -> Port<Client> {
    link(overlay, relay, overlay.client_token("demo")).await.expect("let in").0
}

/// The links of a relay, once a client is among them.
async fn until_shown(relay: &RelayNode) -> serde_json::Value {
    let links = || get_json(relay.api_address(), "/v1/links");
    let seen = |(_, links): &(u16, serde_json::Value)| links["links"][0]["peer"] == "client";
    until("the relay shows the client", links, seen).await.1
}

async fn refusal(overlay: &Overlay, relay: &RelayNode, token: String) -> (RefusalCode, String) {
    match link(overlay, relay, token).await.map(drop) {
        Err(LinkError::Refused { code, reason, .. }) => (code, reason),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_the_overlay_is_let_in() {
    let overlay = Overlay::start().await;
    let relay = overlay.relay("r1").await;
    until_ready(&relay).await;
    let (client, _link) = link(&overlay, &relay, overlay.client_token("demo")).await.expect("let in");
    let links = until_shown(&relay).await;
    assert_eq!(
        (&links["links"][0]["subject"], &links["links"][0]["namespace"]),
        (&json!("test"), &json!("demo"))
    );
    client.close().await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_expired_and_broken_tokens_are_told_why() {
    let overlay = Overlay::start().await;
    let relay = overlay.relay("r1").await;
    until_ready(&relay).await;

    let stranger = Overlay::start().await;
    let (code, reason) = refusal(&overlay, &relay, stranger.client_token("demo")).await;
    assert_eq!(code, RefusalCode::Token);
    assert!(reason.contains("does not know") || reason.contains("does not fit"), "{reason}");

    // A token service of the operator's own, whose key may grant one namespace.
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let row = route_controller::TokenKeyRequest {
        id: "own".to_owned(),
        public_key: {
            use base64::Engine as _;
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(key.public_key_raw())
        },
        namespace: Some("demo".to_owned()),
    };
    overlay.controller().operations().set_token_key(row).await.expect("registered");
    let sign = |namespace: &str, expires: u64| {
        let header = Header { kid: Some("own".to_owned()), ..Header::new(Algorithm::EdDSA) };
        let claims = json!({
            "sub": "s", "exp": expires,
            "cascade": {"namespace": namespace, "room": "*", "publish": true, "subscribe": true},
        });
        jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ed_der(&key.serialize_der()))
            .expect("signed")
    };
    let soon = get_current_timestamp() + 60;
    let knows_the_key = || async { link(&overlay, &relay, sign("demo", soon)).await.is_ok() };
    until("the relay knows the new key", knows_the_key, |let_in| *let_in).await;

    let (code, reason) = refusal(&overlay, &relay, sign("demo", get_current_timestamp() - 60)).await;
    assert_eq!((code, reason.contains("expired")), (RefusalCode::Token, true), "{reason}");
    let (code, reason) = refusal(&overlay, &relay, sign("other", soon)).await;
    assert_eq!((code, reason.contains("namespace \"demo\" only")), (RefusalCode::Token, true), "{reason}");
    let (code, reason) = refusal(&overlay, &relay, "hello".to_owned()).await;
    assert_eq!((code, reason.contains("no JWT")), (RefusalCode::Token, true), "{reason}");
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_knows_no_keys_yet_asks_to_come_again() {
    let overlay = Overlay::start().await;
    let relay = overlay.relay("r1").await;
    until_ready(&relay).await;
    relay.stop().await;
    let token = overlay.client_token("demo");
    let config = relay_node::Config {
        // Nobody listens at the discard port of loopback.
        controllers: vec!["127.0.0.1:9".to_owned()],
        ..relay_node::Config::local(overlay.path("r1"), None)
    };
    let relay = RelayNode::start(config).await.expect("it has its certificate");
    let (code, reason) = refusal(&overlay, &relay, token).await;
    assert_eq!((code, reason.contains("try again")), (RefusalCode::Unavailable, true), "{reason}");
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_told_when_the_relay_stops() {
    let overlay = Overlay::start().await;
    let relay = overlay.relay("r1").await;
    until_ready(&relay).await;
    let (port, mut events) = client(&overlay);
    let role = Role::Client { token: overlay.client_token("demo") };
    let mut link = port.dial(relay.port_address(), Expect::Upstream, role).await.expect("let in");
    until_shown(&relay).await;
    relay.stop().await;
    let told = tokio::time::timeout(crate::support::PATIENCE, events.recv()).await.expect("told in time");
    assert_eq!(told, Some(ClientEvent::RelayLeaving));
    tokio::time::timeout(crate::support::PATIENCE, link.down()).await.expect("the link ends");
}
