//! The admin API over a real socket, as a program that is not `relayctl` sees it.

mod common;

use common::Overlay;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use wire_format::NodeIndex;
use wire_format::control::{LinkQuality, LinkReport, LinkState, ToController, ToRelay};

/// Sends one request, byte for byte, and returns status and body.
fn exchange(address: SocketAddr, request: String) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers and closes");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (status, body)
}

async fn ask(overlay: &Overlay, head: &str, body: &str) -> (u16, String) {
    let address = overlay.controller.admin_address();
    let length = body.len();
    let request = format!("{head}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
    tokio::task::spawn_blocking(move || exchange(address, request)).await.expect("no panic")
}

async fn get(overlay: &Overlay, path: &str) -> (u16, String) {
    ask(overlay, &format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1"), "").await
}

async fn post(overlay: &Overlay, path: &str, body: &str) -> (u16, String) {
    let head = format!("POST {path} HTTP/1.1\r\nHost: localhost:4711\r\nContent-Type: application/json");
    ask(overlay, &head, body).await
}

fn error(body: &str) -> (String, String) {
    let answer: route_controller::ErrorAnswer = serde_json::from_str(body).expect("error and hint");
    (answer.error, answer.hint)
}

#[tokio::test]
async fn health_lists_and_metrics() {
    let overlay = Overlay::start().await;
    let relay = overlay.relay("fra-1").await;
    let mut session = relay.session(&overlay).await;
    session.welcome().await.expect("welcome");
    assert_eq!(get(&overlay, "/healthz").await, (200, "ok\n".to_owned()));
    let (status, body) = get(&overlay, "/v1/nodes").await;
    let nodes: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(
        (status, &nodes["nodes"][0]["name"], &nodes["nodes"][0]["state"]),
        (200, &"fra-1".into(), &"connected".into())
    );
    assert_eq!(nodes["nodes"][0]["addresses"][0], "127.0.0.1:4700");
    for (path, list) in
        [("/v1/links", "links"), ("/v1/streams", "streams"), ("/v1/routes?node=fra-1&plane=0", "routes")]
    {
        assert_eq!(get(&overlay, path).await, (200, format!("{{\"{list}\":[]}}")), "{path}");
    }
    let (status, metrics) = get(&overlay, "/metrics").await;
    assert_eq!(status, 200);
    assert!(metrics.contains("cascade_controller_relays{state=\"connected\"} 1\n"), "{metrics}");
    assert!(metrics.contains("cascade_controller_joins_total 1\n"), "{metrics}");
    assert!(metrics.contains("cascade_controller_sessions_total 1\n"), "{metrics}");
}

#[tokio::test]
async fn ready_means_that_relays_known_before_have_reported() {
    let overlay = Overlay::start().await;
    assert_eq!(get(&overlay, "/readyz").await.0, 200, "nobody is waited for in a new overlay");
    let relay = overlay.relay("fra-1").await;
    relay.session(&overlay).await.welcome().await.expect("welcome");
    let overlay = overlay.restart().await;
    let (status, body) = get(&overlay, "/readyz").await;
    assert_eq!(status, 503);
    assert!(error(&body).0.contains("waiting for relays"), "{body}");
    assert_eq!(get(&overlay, "/healthz").await.0, 200);
    let mut session = relay.session(&overlay).await;
    session.welcome().await.expect("welcome");
    session.say(ToController::ReportsComplete).await;
    while !matches!(session.hear().await.expect("a message"), ToRelay::Table(_)) {}
    assert_eq!(get(&overlay, "/readyz").await, (200, "ready\n".to_owned()));
}

#[tokio::test]
async fn refusals_have_error_and_hint() {
    let overlay = Overlay::start().await;
    for (path, expected) in [
        ("/v1/routes?node=nowhere", 404),
        ("/v1/routes?plane=red", 400),
        ("/v1/routes?nod=x", 400),
        ("/v2/nodes", 404),
    ] {
        let (status, body) = get(&overlay, path).await;
        assert_eq!(status, expected, "{path}: {body}");
        let (error, hint) = error(&body);
        assert!(!error.is_empty() && !hint.is_empty(), "{path}: {body}");
    }
    for body in
        ["", "{}", "{\"namespace\":\"demo\",\"room\":\"*\"}", "{\"namespace\":\"a\",\"room\":\"*\",\"x\":1}"]
    {
        let (status, answer) = post(&overlay, "/v1/tokens", body).await;
        assert!(status == 400, "{body:?}: {status} {answer}");
        error(&answer);
    }
    let (status, _) = ask(&overlay, "PUT /v1/nodes HTTP/1.1\r\nHost: [::1]", "").await;
    assert_eq!(status, 405);
}

#[tokio::test]
async fn a_whole_number_may_be_written_with_a_fraction_of_zero() {
    let overlay = Overlay::start().await;
    let request =
        |ttl: &str| format!("{{\"namespace\":\"demo\",\"room\":\"*\",\"publish\":true,\"ttl_s\":{ttl}}}");
    for (ttl, status) in
        [("93268.0", 200), ("null", 200), ("1.5", 400), ("-1", 400), ("1e300", 400), ("\"1\"", 400)]
    {
        let (answered, body) = post(&overlay, "/v1/tokens", &request(ttl)).await;
        assert_eq!(answered, status, "{ttl}: {body}");
    }
}

/// Serde takes a list of values for a struct as well: the first one would have been a relay's name.
#[tokio::test]
async fn a_list_is_no_object() {
    let overlay = Overlay::start().await;
    for (path, body) in [
        ("/v1/join-tokens", "[\"fra-1\"]"),
        ("/v1/tokens", "[\"demo\",\"*\",true,true,null,null]"),
        ("/v1/api-tokens", "[\"grafana\",\"read\",null]"),
        ("/v1/policies/dry-run", "[[]]"),
        ("/v1/policies/dry-run", "{\"policies\":[{\"name\":\"cheap\",\"weights\":[100,100]}]}"),
    ] {
        let (status, answer) = post(&overlay, path, body).await;
        assert_eq!(status, 400, "{path} {body}: {answer}");
        error(&answer);
    }
}

#[tokio::test]
async fn policies_that_cannot_be_together_conflict() {
    let overlay = Overlay::start().await;
    for (policies, status) in [
        ("[{\"name\":\"a\",\"hop_us\":100.0,\"relief\":null,\"weights\":{\"money_pct\":5e2}}]", 200),
        ("[{\"name\":\"a\"},{\"name\":\"a\"}]", 409),
        ("[{\"name\":\"a\",\"relief\":\"nobody\"}]", 409),
        ("[{\"name\":\"a\",\"pins\":[\"x > y > x\"]}]", 409),
        ("[{\"name\":\"a\",\"pins\":[\"x\"]}]", 400),
        ("[{\"name\":\"a\",\"prefer_pct\":0}]", 400),
    ] {
        let body = format!("{{\"policies\":{policies}}}");
        let (answered, answer) = post(&overlay, "/v1/policies/dry-run", &body).await;
        assert_eq!(answered, status, "{body}: {answer}");
    }
}

#[tokio::test]
async fn a_web_page_reaches_nothing() {
    let overlay = Overlay::start().await;
    // Through a host name of its own that it points at loopback.
    let (status, body) = ask(&overlay, "GET /v1/nodes HTTP/1.1\r\nHost: evil.example:4711", "").await;
    assert_eq!(status, 403, "{body}");
    // With a form, which needs no permission of ours.
    let head = "POST /v1/join-tokens HTTP/1.1\r\nHost: 127.0.0.1:4711\r\nContent-Type: text/plain";
    let (status, body) = ask(&overlay, head, "{\"name\":\"fra-1\"}").await;
    assert_eq!(status, 400, "{body}");
}

#[tokio::test]
async fn tokens_of_the_api_have_names_and_rights() {
    let overlay = Overlay::start().await;
    let create = async |overlay: &Overlay, body: &str| {
        let (status, body) = post(overlay, "/v1/api-tokens", body).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<route_controller::ApiTokenAnswer>(&body).expect("a token").token
    };
    let mut tokens = Vec::new();
    for rights in ["read", "issue", "operate", "admin"] {
        let body = format!("{{\"name\":\"for-{rights}\",\"rights\":\"{rights}\"}}");
        tokens.push(create(&overlay, &body).await);
    }
    let short = create(&overlay, "{\"name\":\"short\",\"rights\":\"admin\",\"ttl_s\":1}").await;
    for (body, status) in [
        ("{\"name\":\"for-read\",\"rights\":\"read\"}", 409),
        ("{\"name\":\"a/b\",\"rights\":\"read\"}", 400),
        ("{\"name\":\"x\",\"rights\":\"all\"}", 400),
        ("{\"name\":\"x\",\"rights\":\"read\",\"ttl_s\":0}", 400),
    ] {
        assert_eq!(post(&overlay, "/v1/api-tokens", body).await.0, status, "{body}");
    }

    // All of it is there after a restart, and none of the tokens.
    let overlay = overlay.restart().await;
    let store = std::fs::read(overlay.folder.path().join("route-controller.redb")).expect("the store");
    let keeps = |text: &str| store.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(keeps("for-operate") && !tokens.iter().any(|token| keeps(&token[16..])));

    let call = async |token: &str, method: &str, path: &str, body: &str| {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nContent-Type: \
             application/json"
        );
        ask(&overlay, &head, body).await
    };
    let jwt = "{\"namespace\":\"demo\",\"room\":\"*\",\"publish\":true}";
    let join = "{\"name\":\"fra-1\"}";
    for (method, path, body, allowed) in [
        ("GET", "/v1/nodes", "", [true, false, true, true]),
        ("GET", "/metrics", "", [true, false, true, true]),
        ("GET", "/v1/join-tokens", "", [true, false, true, true]),
        ("POST", "/v1/tokens", jwt, [false, true, true, true]),
        ("POST", "/v1/join-tokens", join, [false, false, true, true]),
        ("DELETE", "/v1/token-keys/none", "", [false, false, true, true]),
        ("GET", "/v1/api-tokens", "", [false, false, false, true]),
        ("DELETE", "/v1/api-tokens/none", "", [false, false, false, true]),
    ] {
        for (token, allowed) in tokens.iter().zip(allowed) {
            let (status, body) = call(token, method, path, body).await;
            assert_eq!(status != 403, allowed, "{method} {path}: {status} {body}");
            assert!(allowed || error(&body).1.contains("relayctl api-token create"), "{body}");
        }
    }

    // Taken back, expired or never made is told the same.
    assert_eq!(call(&tokens[3], "DELETE", "/v1/api-tokens/for-read", "").await.0, 204);
    let expired = async {
        while call(&short, "GET", "/v1/nodes", "").await.0 != 401 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), expired).await.expect("a second has passed");
    for wrong in [&*tokens[0], &short, "cascade-api-v1.guess"] {
        let (status, body) = call(wrong, "GET", "/v1/nodes", "").await;
        assert!(status == 401 && error(&body).1.contains("unknown, expired or revoked"), "{status} {body}");
    }
    let (_, body) = get(&overlay, "/v1/api-tokens").await;
    let listed: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let names: Vec<_> =
        listed["api_tokens"].as_array().expect("a list").iter().map(|row| &row["name"]).collect();
    assert_eq!(names, ["for-admin", "for-issue", "for-operate"]);
    let (_, metrics) = get(&overlay, "/metrics").await;
    let refused = |status: &str| {
        let name = format!("cascade_controller_api_refused_total{{status=\"{status}\"}} ");
        let count = metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse::<u32>().ok());
        count.unwrap_or_else(|| panic!("no {name} in {metrics}"))
    };
    assert_eq!(refused("403"), 14);
    assert!(refused("401") >= 3);
}

#[tokio::test]
async fn the_controllers_own_key_gives_way_to_the_next() {
    let overlay = Overlay::start().await;
    let keys = async |overlay: &Overlay| {
        let keys = overlay.controller.operations().token_keys().await.expect("it runs");
        keys.into_iter().map(|row| (row.id, row.role)).collect::<Vec<_>>()
    };
    let row = |key: &(String, String), role: &str| (key.0.clone(), role.to_owned());
    let own = keys(&overlay).await;
    let delete = |id: &str| format!("DELETE /v1/token-keys/{id} HTTP/1.1\r\nHost: 127.0.0.1");
    let (status, body) = ask(&overlay, &delete(&own[0].0), "").await;
    assert!(
        status == 409 && error(&body).1.contains("relayctl token-key rotate"),
        "the last one stays: {body}"
    );

    let relay = overlay.relay("fra-1").await;
    let mut session = relay.session(&overlay).await;
    session.welcome().await.expect("welcome");
    let (status, body) = post(&overlay, "/v1/signing-key/rotate", "").await;
    let made: route_controller::TokenKeyRow = serde_json::from_str(&body).expect("a row");
    assert!(status == 200 && made.role == "next" && made.signs_from_unix_s.is_some(), "{body}");
    // Relays have it before the first token of it is made.
    let heard = async {
        loop {
            if let ToRelay::TokenKeys(keys) = session.hear().await.expect("a message")
                && keys.iter().any(|key| key.id == made.id)
            {
                return keys.len();
            }
        }
    };
    assert_eq!(heard.await, 2, "beside the one before");
    let token = "{\"namespace\":\"demo\",\"room\":\"*\",\"publish\":true}";
    let signed_by = async |overlay: &Overlay| {
        let (_, body) = post(overlay, "/v1/tokens", token).await;
        let answer: route_controller::TokenAnswer = serde_json::from_str(&body).expect("a token");
        jsonwebtoken::decode_header(&answer.token).expect("a JWT").kid.expect("it names its key")
    };
    assert_eq!(signed_by(&overlay).await, own[0].0);
    let (status, body) = post(&overlay, "/v1/signing-key/rotate", "").await;
    assert!(status == 409 && error(&body).0.contains(&made.id), "one at a time: {body}");

    // Both are there after a restart; and one that leaked goes at once.
    let overlay = overlay.restart().await;
    let now = keys(&overlay).await;
    assert_eq!(now, [row(&own[0], "signing"), (made.id.clone(), "next".to_owned())]);
    assert_eq!(ask(&overlay, &delete(&own[0].0), "").await.0, 204);
    assert_eq!(keys(&overlay).await, [(made.id.clone(), "signing".to_owned())]);
    assert_eq!(signed_by(&overlay).await, made.id);
    let overlay = overlay.restart().await;
    assert_eq!(signed_by(&overlay).await, made.id, "the removed one does not come back");
}

#[tokio::test]
async fn other_token_services_register_their_keys() {
    let overlay = Overlay::start().await;
    let key = "{\"id\":\"ops\",\"public_key\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\",\"namespace\":\"demo\"}";
    assert_eq!(post(&overlay, "/v1/token-keys", key).await.0, 204);
    let (_, body) = get(&overlay, "/v1/token-keys").await;
    let mut answer: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let keys: Vec<route_controller::TokenKeyRow> =
        serde_json::from_value(answer["token_keys"].take()).expect("rows");
    let role = |at: usize| keys[at].role.as_str();
    assert_eq!((keys.len(), keys[1].id.as_str()), (2, "ops"), "after the controller's own");
    assert_eq!((role(0), role(1)), ("signing", "registered"));
    let own = format!("{{\"id\":{:?},\"public_key\":{:?}}}", keys[0].id, keys[1].public_key);
    assert_eq!(post(&overlay, "/v1/token-keys", &own).await.0, 409, "nobody replaces the controller's own");
    assert_eq!(post(&overlay, "/v1/token-keys", "{\"id\":\"x\",\"public_key\":\"AA\"}").await.0, 400);

    let overlay = overlay.restart().await;
    assert_eq!(overlay.controller.operations().token_keys().await.expect("it runs"), keys);
    let delete = "DELETE /v1/token-keys/ops HTTP/1.1\r\nHost: 127.0.0.1";
    assert_eq!(ask(&overlay, delete, "").await.0, 204);
    assert_eq!(ask(&overlay, delete, "").await.0, 404);
}

/// A relay that reports its links once and acknowledges what it is told.
fn linked(mut session: common::Session, links: Vec<(u32, u64)>) -> tokio::task::JoinHandle<()> {
    let report = |(neighbour, rtt_ms): (u32, u64)| {
        let rtt = Some(std::time::Duration::from_millis(rtt_ms));
        LinkReport {
            neighbour: NodeIndex(u16::try_from(neighbour).expect("an index")),
            state: LinkState::Up,
            rtt,
            rtt_min: rtt,
            jitter_in: std::time::Duration::ZERO,
            jitter_out: std::time::Duration::ZERO,
            loss_out_ppm: 0,
            loss_in_ppm: 0,
            rate_out: 0,
            rate_in: 0,
            samples: 100,
            quality: LinkQuality::default(),
        }
    };
    tokio::spawn(async move {
        session.say(ToController::Links(links.into_iter().map(report).collect())).await;
        session.say(ToController::ReportsComplete).await;
        loop {
            let message = session.hear().await.expect("a message");
            if let ToRelay::Table(table) = message {
                session.say(ToController::TableAck { epoch: table.epoch }).await;
            } else if let ToRelay::Stamp { epoch } = message {
                session.say(ToController::StampAck { epoch }).await;
            }
        }
    })
}

/// Asks again until the answer is as it should be.
async fn until(
    overlay: &Overlay,
    path: &str,
    right: impl Fn(&serde_json::Value) -> bool,
) -> serde_json::Value {
    let asked = async {
        loop {
            let (status, body) = get(overlay, path).await;
            let answer: serde_json::Value = serde_json::from_str(&body).expect("JSON");
            if status == 200 && right(&answer) {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(15), asked).await.expect("in time")
}

#[tokio::test]
async fn routes_are_explained_and_relays_emptied() {
    let overlay = Overlay::start().await;
    let mut relays = Vec::new();
    for name in ["fra-1", "iad-1", "lhr-1", "gru-1"] {
        relays.push(overlay.relay(name).await);
    }
    let mut sessions = Vec::new();
    for (at, relay) in relays.iter().enumerate() {
        let node = |other: usize| relays[other].node;
        // By iad-1 it is shorter than by lhr-1.
        let links = match at {
            0 | 3 => vec![(node(1), 80), (node(2), 100)],
            1 => vec![(node(0), 80), (node(3), 80)],
            _ => vec![(node(0), 100), (node(3), 100)],
        };
        let mut session = relay.session(&overlay).await;
        session.welcome().await.expect("welcome");
        sessions.push(linked(session, links));
    }
    let explain = "/v1/routes/explain?from=fra-1&to=gru-1";
    let answer = until(&overlay, explain, |answer| answer["chosen"]["path"][1] == "iad-1").await;
    assert_eq!(answer["chosen"]["cost_us"], 82_000);
    assert_eq!(answer["runner_up"]["path"], serde_json::json!(["fra-1", "lhr-1", "gru-1"]));
    assert_eq!((&answer["margin_us"], &answer["rises"][0]["turns_at_us"]), (&20_000.into(), &61_000.into()));
    let hop = &answer["chosen"]["hops"][0];
    assert_eq!((&hop["terms"]["one_way_us"], &hop["terms"]["hop_us"]), (&40_000.into(), &1_000.into()));
    assert_eq!((&hop["measured_by"], &hop["samples"]), (&"fra-1".into(), &100.into()));
    let why = "/v1/routes/why-not?from=fra-1&to=gru-1&via=lhr-1";
    let answer = until(&overlay, why, |_| true).await;
    assert_eq!((&answer["verdict"], &answer["margin_us"]), (&"dearer".into(), &20_000.into()));
    let epochs = until(&overlay, "/v1/routes/epochs", |_| true).await;
    let first =
        epochs["epochs"].as_array().and_then(|all| all.last()).expect("one is stamped")["epoch"].clone();

    let (status, body) = post(&overlay, "/v1/nodes/iad-1/cordon", "").await;
    let answer: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(
        (status, &answer["cordoned"], &answer["drained"]),
        (200, &true.into(), &false.into()),
        "{body}"
    );
    let drained = until(&overlay, "/v1/nodes/iad-1/drain", |answer| answer["drained"] == true).await;
    assert_eq!(drained["transit_pairs"], 0);
    let answer = until(&overlay, explain, |answer| answer["chosen"]["path"][1] == "lhr-1").await;
    assert_eq!(answer["runner_up"]["hops"][0]["avoided"], "cordoned");
    let answer = until(&overlay, "/v1/routes/why-not?from=fra-1&to=gru-1&via=iad-1", |_| true).await;
    assert_eq!((&answer["verdict"], &answer["avoided"]), (&"avoided".into(), &"cordoned".into()));
    let epochs = until(&overlay, "/v1/routes/epochs", |_| true).await;
    let last = epochs["epochs"].as_array().and_then(|all| all.last()).expect("stamped")["epoch"].clone();
    let diff = until(&overlay, &format!("/v1/routes/diff?before={first}&after={last}"), |_| true).await;
    let turned = serde_json::json!(
        {"node": "fra-1", "plane": 0, "destination": "gru-1", "before": "iad-1", "after": "lhr-1"}
    );
    assert!(diff["routes"].as_array().is_some_and(|rows| rows.contains(&turned)), "{diff}");
    let dump = format!("/v1/routes?node=fra-1&destination=gru-1&plane=0&epoch={first}");
    let past = until(&overlay, &dump, |_| true).await;
    assert_eq!(past["routes"][0]["path"][1], "iad-1");

    for (method, path, expected) in [
        ("GET", "/v1/routes/explain?from=fra-1", 400),
        ("GET", "/v1/routes/explain?from=fra-1&to=nowhere", 404),
        ("GET", "/v1/routes/why-not?from=fra-1&to=gru-1&via=nowhere", 404),
        ("GET", "/v1/routes/diff?before=x&after=1", 400),
        ("GET", "/v1/routes/diff?before=0&after=1", 404),
        ("GET", "/v1/routes/diff", 400),
        ("GET", "/v1/routes/diff-at?before=0&after=1", 404),
        ("GET", "/v1/routes/diff-at?before=0", 400),
        ("GET", "/v1/routes/diff-at?before=0&after=1&policy=default", 400),
        ("GET", "/v1/routes/explain?from=fra-1&to=gru-1&at=1&policy=other", 404),
        ("GET", "/v1/nodes/nowhere/drain", 404),
        ("POST", "/v1/nodes/nowhere/cordon", 404),
    ] {
        let (status, body) = ask(&overlay, &format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1"), "").await;
        assert_eq!(status, expected, "{path}: {body}");
        error(&body);
    }
    for session in sessions {
        session.abort();
    }
    // It is remembered.
    let overlay = overlay.restart().await;
    let answer = until(&overlay, "/v1/nodes/iad-1/drain", |_| true).await;
    assert_eq!((&answer["cordoned"], &answer["drained"]), (&true.into(), &true.into()));
    assert_eq!(post(&overlay, "/v1/nodes/iad-1/uncordon", "").await.0, 200);
    let answer = until(&overlay, "/v1/nodes/iad-1/drain", |_| true).await;
    assert_eq!(answer["cordoned"], false);
}
