//! The API obeys its own description: every path, method and status of it is tried, and every answer is compared with it.

use crate::registrations::{publication, register, rtp, subscription};
use crate::schema;
use crate::support::{Overlay, request_with, send_json, until, until_ready};
use relay_node::{Config, PlainConfig, RelayNode};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "DELETE", "PATCH"];
const JSON: &str = "Content-Type: application/json\r\n";

/// The description, and what of it has been seen.
struct Described {
    document: Value,
    seen: BTreeSet<(String, String, u16)>,
}

impl Described {
    fn new() -> Described {
        let text = include_str!("../../api/openapi.json");
        Described { document: serde_json::from_str(text).expect("JSON"), seen: BTreeSet::new() }
    }

    fn operation(&self, path: &str, method: &str) -> Option<&Value> {
        self.document["paths"][path].get(method.to_lowercase())
    }

    fn all(&self) -> BTreeSet<(String, String, u16)> {
        let mut all = BTreeSet::new();
        for (path, methods) in self.document["paths"].as_object().expect("an object") {
            for (method, operation) in methods.as_object().expect("an object") {
                for status in operation["responses"].as_object().expect("an object").keys() {
                    all.insert((path.clone(), method.to_uppercase(), status.parse().expect("a status")));
                }
            }
        }
        all
    }

    fn schema_of_body(&self, path: &str) -> Value {
        self.document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"].clone()
    }

    /// Compares an answer with the description.
    fn compare(&mut self, path: &str, method: &str, status: u16, head: &str, body: &str) {
        let what = format!("{method} {path} -> {status}");
        let operation = self.operation(path, method).unwrap_or_else(|| panic!("{what}: no such operation"));
        let response = operation["responses"].get(status.to_string());
        let response = response.unwrap_or_else(|| panic!("{what} is not described: {body}"));
        for header in response["headers"].as_object().into_iter().flatten() {
            assert!(head.contains(&format!("\n{}: ", header.0.to_lowercase())), "{what}: {head}");
        }
        match response.get("content").and_then(Value::as_object) {
            None => assert_eq!(body, "", "{what}"),
            Some(content) => {
                let kind = head.lines().find_map(|line| line.strip_prefix("content-type: ")).expect("a type");
                let essence = kind.split(';').next().unwrap_or_default();
                let media = content.get(essence).unwrap_or_else(|| panic!("{what}: {kind} is not described"));
                if ["application/json", "text/event-stream"].contains(&essence) {
                    let value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{what}: {body}"));
                    let checked = schema::check(&self.document, &media["schema"], &value, &what);
                    assert_eq!(checked, Ok(()));
                }
            }
        }
        self.seen.insert((path.to_owned(), method.to_owned(), status));
    }

    /// Sends a request and compares the answer; returns status and body.
    async fn ask(
        &mut self,
        api: SocketAddr,
        method: &str,
        path: &str,
        id: &str,
        headers: &str,
        body: &str,
    ) -> (u16, String) {
        let place = path.replace("{id}", id);
        let (status, head, answer) = if path == "/v1/events" {
            let (status, head, event) = first_event(api, method, &place, headers).await;
            let answer = match event {
                Some(event) => event.to_string(),
                None => request_with(api, method, &place, headers, body).await.2,
            };
            (status, head, answer)
        } else {
            request_with(api, method, &place, headers, body).await
        };
        self.compare(path, method, status, &head, &answer);
        (status, answer)
    }
}

/// Status and head of an answer that may never end, and where the rest of it comes from.
async fn head_of(api: SocketAddr, method: &str, path: &str, headers: &str) -> (u16, String, TcpStream) {
    let mut stream = TcpStream::connect(api).await.expect("the API listens");
    let request = format!("{method} {path} HTTP/1.1\r\nHost: relay\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a head"));
    }
    let head = String::from_utf8(head).expect("UTF-8").to_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
    (status, head, stream)
}

/// Status and head of an answer that is a stream of events, and the first of them, unless it is an error.
async fn first_event(
    api: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
) -> (u16, String, Option<Value>) {
    let (status, head, mut stream) = head_of(api, method, path, headers).await;
    if status != 200 {
        return (status, head, None);
    }
    let mut event = Vec::new();
    while !event.ends_with(b"\n\n") {
        event.push(stream.read_u8().await.expect("an event"));
    }
    let event = String::from_utf8(event).expect("UTF-8");
    let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
    (status, head, Some(serde_json::json!({"event": field("event: "), "data": field("data: ")})))
}

/// A relay with no more than two ports for registrations of their own.
async fn relay_with_two_ports(overlay: &Overlay) -> RelayNode {
    let mut config = overlay.config("r1").await;
    let first = loop {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let port = socket.local_addr().expect("bound").port();
        if port.is_multiple_of(2) && std::net::UdpSocket::bind(("127.0.0.1", port + 1)).is_ok() {
            break port;
        }
    };
    config.plain = PlainConfig { ports: Some(first..=first + 1), ..PlainConfig::default() };
    RelayNode::start(config).await.expect("the relay starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_as_described_and_every_described_answer_is_given() {
    let mut api = Described::new();
    let overlay = Overlay::start().await;
    let relay = relay_with_two_ports(&overlay).await;
    until_ready(&relay).await;
    let at = relay.api_address();

    // Everything that may be read, while something is there.
    let sender = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let body = publication("127.0.0.1", "relay", "mux");
    let (status, answer) = api.ask(at, "POST", "/v1/publications", "", JSON, &body.to_string()).await;
    assert_eq!(status, 201, "{answer}");
    let published: Value = serde_json::from_str(&answer).expect("JSON");
    let to = "127.0.0.1:9".parse().expect("an address");
    let mut wanted = subscription(to, "relay", "separate");
    wanted["user"] = json!("alice");
    wanted["lease_s"] = json!(600);
    let (status, answer) = api.ask(at, "POST", "/v1/subscriptions", "", JSON, &wanted.to_string()).await;
    assert_eq!(status, 201, "{answer}");
    let subscribed: Value = serde_json::from_str(&answer).expect("JSON");
    let ids = [published["id"].to_string(), subscribed["id"].to_string()];
    let what = ["publications", "subscriptions"];
    let path = format!("/v1/subscriptions/{}", ids[1]);
    let port = relay.port_address();
    let flowing = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        for sequence in 0..u16::MAX {
            ticks.tick().await;
            sender.send_to(&rtp(0x00C0_FFEE, sequence), port).await.expect("sent");
        }
    });
    let shown = async || send_json(at, "GET", &path, &Value::Null).await.1;
    until("the stream flows", shown, |shown| shown["streams"][0]["ssrc"].is_u64()).await;
    let client = crate::clients::linked(&overlay, &relay).await;
    let other = overlay.relay("r2").await;
    crate::support::until_linked(&relay, "r2").await;
    for path in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/v1/links",
        "/v1/tables",
        "/v1/streams",
        "/v1/events",
    ] {
        assert_eq!(api.ask(at, "GET", path, "", "", "").await.0, 200, "{path}");
    }
    let links = async || send_json(at, "GET", "/v1/links", &Value::Null).await.1.to_string();
    let both = |links: &String| links.contains("\"client\"") && links.contains("\"relay\"");
    until("links of both kinds", links, both).await;
    api.ask(at, "GET", "/v1/links", "", "", "").await;

    // What is refused, and why.
    for (what, id, ours) in [(what[0], &ids[0], &body), (what[1], &ids[1], &wanted)] {
        let (list, one) = (format!("/v1/{what}"), format!("/v1/{what}/{{id}}"));
        let taken = api.ask(at, "POST", &list, "", JSON, &ours.to_string()).await;
        assert_eq!(taken.0, 409, "{taken:?}");
        let mut far = ours.clone();
        let member = if what == "publications" { "source" } else { "destination" };
        far[member] = json!("192.0.2.1:5004");
        assert_eq!(api.ask(at, "POST", &list, "", JSON, &far.to_string()).await.0, 403);
        let mut own = ours.clone();
        own["port"] = json!("own");
        own["rtcp"] = json!("separate");
        own["stream"] = json!("screen");
        let first = register(&relay, what, &own).await;
        own["stream"] = json!("another");
        assert_eq!(api.ask(at, "POST", &list, "", JSON, &own.to_string()).await.0, 429);
        let number = first["id"].to_string();
        assert_eq!(api.ask(at, "DELETE", &one, &number, "", "").await.0, 204);
        for (method, path) in [("POST", &list), ("PUT", &one)] {
            let long = format!("{{\"room\": \"{}\"}}", "a".repeat(17_000));
            for (status, headers, body) in [
                (400, JSON, "{"),
                (413, JSON, &long),
                (415, "Content-Type: text/plain\r\n", "{}"),
                (422, JSON, "{\"lease_s\": 0}"),
                (422, JSON, "[]"),
                (422, JSON, "{\"lease_s\": null}"),
                (422, JSON, "{\"colour\": \"red\"}"),
            ] {
                assert_eq!(
                    api.ask(at, method, path, id, headers, body).await.0,
                    status,
                    "{method} {body:.40}"
                );
            }
        }
        assert_eq!(api.ask(at, "GET", &list, "", "", "").await.0, 200);
        assert_eq!(api.ask(at, "GET", &one, id, "", "").await.0, 200);
        assert_eq!(api.ask(at, "PUT", &one, id, "", "").await.0, 200);
        for method in ["GET", "PUT", "DELETE"] {
            for id in ["4294967295", "camera"] {
                assert_eq!(api.ask(at, method, &one, id, "", "").await.0, 404);
            }
        }
    }
    let mut watchers = Vec::new();
    let crowded = loop {
        let mut stream = TcpStream::connect(at).await.expect("the API listens");
        stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: relay\r\n\r\n").await.expect("written");
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.expect("a status");
        watchers.push(stream);
        if start.ends_with(b"429") {
            break watchers.len();
        }
    };
    assert!(crowded >= 32, "{crowded}");
    assert_eq!(api.ask(at, "GET", "/v1/events", "", "", "").await.0, 429);
    drop(watchers);

    flowing.abort();
    // A relay whose port has stopped is not alive.
    relay.port().kill();
    let stopped = async || api_status(at, "/healthz").await;
    until("the port has stopped", stopped, |status| *status == 503).await;
    assert_eq!(api.ask(at, "GET", "/healthz", "", "", "").await.0, 503);
    client.close().await;
    other.stop().await;
    drop(relay);

    // One that has not joined, and one that asks for a token.
    let mut config = overlay.config("r3").await;
    let token = overlay.path("token");
    std::fs::write(&token, "0123456789abcdef\n").expect("written");
    config.api.token_file = Some(token);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    config.controllers = vec![nobody.local_addr().expect("an address").to_string()];
    let (starting, at) = starting(config).await;
    let bearer = "Authorization: Bearer 0123456789abcdef\r\n";
    for (path, methods) in api.document.clone()["paths"].as_object().expect("an object") {
        for method in methods.as_object().expect("an object").keys() {
            let method = method.to_uppercase();
            let body = match path.as_str() {
                "/v1/publications" if method == "POST" => body.to_string(),
                "/v1/subscriptions" if method == "POST" => wanted.to_string(),
                _ => String::new(),
            };
            let headers = format!("{bearer}{JSON}");
            let (status, _) = api.ask(at, &method, path, "1", &headers, &body).await;
            let expected = if path == "/healthz" || path == "/openapi.json" { 200 } else { 503 };
            assert_eq!(status, expected, "{method} {path}");
            if path != "/healthz" && path != "/readyz" {
                assert_eq!(api.ask(at, &method, path, "1", JSON, &body).await.0, 401, "{method} {path}");
            }
        }
    }
    starting.abort();
    let described = api.all();
    let missing: Vec<_> = described.difference(&api.seen).collect();
    assert!(missing.is_empty(), "described, never seen: {missing:?}");
}

async fn api_status(api: SocketAddr, path: &str) -> u16 {
    request_with(api, "GET", path, "", "").await.0
}

/// A relay that waits for its controller; its API listens already.
async fn starting(mut config: Config) -> (tokio::task::JoinHandle<()>, SocketAddr) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    config.api.listen = free.local_addr().expect("an address");
    drop(free);
    let at = config.api.listen;
    let starting = tokio::spawn(async move { drop(RelayNode::start(config).await) });
    let listens = || async move { TcpStream::connect(at).await.is_ok() };
    until("the API listens", listens, |listens| *listens).await;
    (starting, at)
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_and_methods_are_those_described() {
    let api = Described::new();
    let overlay = Overlay::start().await;
    let relay = overlay.relay("r1").await;
    let at = relay.api_address();
    let source = include_str!("../../src/api/mod.rs");
    let routed: BTreeSet<&str> = source
        .split(".route(")
        .skip(1)
        .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
        .collect();
    let described: BTreeSet<&str> =
        api.document["paths"].as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(routed, described);
    for path in described {
        for method in METHODS {
            let (status, head, _) =
                head_of(at, method, &path.replace("{id}", "1"), "Content-Length: 0\r\n").await;
            let known = api.operation(path, method).is_some();
            assert_eq!(status == 405, !known, "{method} {path}: {status}");
            assert!(known || head.contains("content-type: application/json"), "{method} {path}: {head}");
        }
    }
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_refused_exactly_where_the_description_refuses_them() {
    let api = Described::new();
    let overlay = Overlay::start().await;
    let relay = overlay.relay("r1").await;
    until_ready(&relay).await;
    let legal = [
        ("publications", publication("127.0.0.1:5004", "own", "mux")),
        ("subscriptions", subscription("127.0.0.1:9".parse().expect("an address"), "own", "separate")),
    ];
    for (what, legal) in legal {
        let path = format!("/v1/{what}");
        let schema = api.schema_of_body(&path);
        for (member, value) in [
            ("room", json!("standup")),
            ("room", json!("")),
            ("room", json!(7)),
            ("room", json!("a\nb")),
            ("room", json!("a".repeat(256))),
            ("stream", json!(["camera"])),
            ("kind", json!("text")),
            ("port", json!("relay")),
            ("port", json!("other")),
            ("rtcp", json!("separate")),
            ("rtcp", json!(true)),
            ("source", json!("127.0.0.1")),
            ("source", json!("localhost:5004")),
            ("source", json!("127.0.0.1:0")),
            ("source", json!("127.0.0.256:5004")),
            ("source", json!("[::1]:5004")),
            ("destination", json!("127.0.0.1")),
            ("destination", json!("127.0.0.1:99999")),
            ("destination", json!("[::1]:5004")),
            ("rtcp_destination", json!("127.0.0.1:5005")),
            ("ssrc", json!(-1)),
            ("ssrc", json!(4_294_967_295_u64)),
            ("ssrc", json!(4_294_967_296_u64)),
            ("budget_ms", json!(0)),
            ("budget_ms", json!(1)),
            ("budget_ms", json!(6_001)),
            ("budget_ms", json!(6_000)),
            ("protect", json!(true)),
            ("protect", json!(false)),
            ("protect", json!("yes")),
            ("protect", json!(1)),
            ("protect", json!(null)),
            ("codec", json!("h264")),
            ("codec", json!("opus")),
            ("codec", json!("h265")),
            ("dependency_descriptor_id", json!(0)),
            ("dependency_descriptor_id", json!(1)),
            ("dependency_descriptor_id", json!(256)),
            ("frame_marking_id", json!(255)),
            ("frame_marking_id", json!("5")),
            ("priority", json!("enhancement")),
            ("priority", json!("audio")),
            ("priority", json!(1)),
            ("lease_s", json!("60")),
            ("lease_s", json!(86_400)),
            ("lease_s", json!(86_401)),
            ("lease_s", Value::Null),
            ("colour", json!("red")),
        ] {
            let mut body = legal.clone();
            body[member] = value;
            let described = schema::check(&api.document, &schema, &body, "body");
            let (status, answer) = send_json(relay.api_address(), "POST", &path, &body).await;
            assert_eq!(status == 422, described.is_err(), "{status} {answer}; {described:?}: {body}");
            if let Some(id) = answer.get("id") {
                send_json(relay.api_address(), "DELETE", &format!("{path}/{id}"), &Value::Null).await;
            }
        }
        for member in legal.as_object().expect("an object").keys() {
            let mut body = legal.clone();
            body.as_object_mut().expect("an object").remove(member);
            let described = schema::check(&api.document, &schema, &body, "body");
            let (status, answer) = send_json(relay.api_address(), "POST", &path, &body).await;
            assert_eq!(status == 422, described.is_err(), "without {member}: {status} {answer}");
            if let Some(id) = answer.get("id") {
                send_json(relay.api_address(), "DELETE", &format!("{path}/{id}"), &Value::Null).await;
            }
        }
    }
    relay.stop().await;
}
