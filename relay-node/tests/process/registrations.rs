//! Plain RTP: an SFU that knows nothing of the overlay but HTTP and two UDP ports.

use crate::support::{Overlay, get_json, request, send_json, until, until_linked, until_ready};
use relay_node::RelayNode;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpStream, UdpSocket};
use wire_format::rtcp::{self, RtcpBody};
use wire_format::rtp::is_rtcp;

const PATIENCE: Duration = Duration::from_secs(10);
const SSRC: u32 = 0x00C0_FFEE;

pub fn publication(source: &str, port: &str, rtcp: &str) -> Value {
    json!({"namespace": "demo", "room": "standup", "user": "alice", "stream": "camera", "kind": "video",
           "ssrc": SSRC, "source": source, "port": port, "rtcp": rtcp})
}

pub fn subscription(destination: SocketAddr, port: &str, rtcp: &str) -> Value {
    json!({"namespace": "demo", "room": "standup", "destination": destination, "port": port, "rtcp": rtcp})
}

/// Registers, and returns the answer.
pub async fn register(relay: &RelayNode, what: &str, body: &Value) -> Value {
    let (status, answer) = send_json(relay.api_address(), "POST", &format!("/v1/{what}"), body).await;
    assert_eq!(status, 201, "{answer}");
    answer
}

fn address_of(answer: &Value, member: &str) -> SocketAddr {
    answer[member].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{member}: {answer}"))
}

async fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.expect("a socket")
}

async fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2048];
    let received = tokio::time::timeout(PATIENCE, socket.recv_from(&mut buffer)).await;
    let (bytes, from) = received.expect("in time").expect("received");
    (buffer[..bytes].to_vec(), from)
}

/// The next compound with a packet that is as wanted; RTP and other RTCP are passed over.
async fn receive_rtcp(socket: &UdpSocket, wanted: impl Fn(&RtcpBody<'_>) -> bool) -> SocketAddr {
    loop {
        let (bytes, from) = receive(socket).await;
        if is_rtcp(&bytes) && rtcp::packets(&bytes).any(|packet| wanted(&packet.expect("legal").body)) {
            return from;
        }
    }
}

pub fn rtp(ssrc: u32, sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&(u32::from(sequence) * 3000).to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.resize(100 + usize::from(sequence) * 7 % 1000, sequence as u8);
    packet
}

fn feedback(media: u32, packet_type: u8, format: u8, rest: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    rtcp::write_receiver_report(&mut packet, 1, &[]);
    packet.extend_from_slice(&[0x80 | format, packet_type, 0, 2 + (rest.len() / 4) as u8, 0, 0, 0, 1]);
    packet.extend_from_slice(&media.to_be_bytes());
    packet.extend_from_slice(rest);
    packet
}

async fn two_relays(overlay: &Overlay) -> (RelayNode, RelayNode) {
    let (r1, r2) = (overlay.relay("r1").await, overlay.relay("r2").await);
    until_ready(&r1).await;
    until_ready(&r2).await;
    until_linked(&r1, "r2").await;
    (r1, r2)
}

/// Until packets that enter at a relay are sent to another.
async fn until_stamped(ingress: &RelayNode, egress: &str) {
    let api = ingress.api_address();
    let stamped = |(_, answer): &(u16, Value)| {
        let streams = answer["streams"].as_array();
        streams.is_some_and(|streams| {
            streams.iter().any(|stream| stream["destination_names"] == json!([egress]))
        })
    };
    until("the stream has its destination", || get_json(api, "/v1/streams"), stamped).await;
}

/// The whole way, with the ports chosen as said.
async fn call(port: &str, rtcp: &str) {
    let overlay = Overlay::start().await;
    let (r1, r2) = two_relays(&overlay).await;
    let (sender, receiver) = (socket().await, socket().await);
    let published = register(&r1, "publications", &publication("127.0.0.1", port, rtcp)).await;
    assert_eq!(published["state"], "granted", "{published}");
    let to = receiver.local_addr().expect("bound");
    let subscribed = register(&r2, "subscriptions", &subscription(to, port, rtcp)).await;
    until_stamped(&r1, "r2").await;
    let (ingress, egress) = (address_of(&published, "address"), address_of(&subscribed, "address"));
    let (ingress_rtcp, egress_rtcp) = if rtcp == "separate" {
        (address_of(&published, "rtcp_address"), address_of(&subscribed, "rtcp_address"))
    } else {
        (ingress, egress)
    };
    if (port, rtcp) == ("own", "separate") {
        assert_eq!((ingress.port() % 2, ingress_rtcp.port()), (0, ingress.port() + 1));
    }
    // Bit for bit, from the address that the registration named. One packet at a time, so that no socket overflows.
    for sequence in 0..300 {
        sender.send_to(&rtp(SSRC, sequence), ingress).await.expect("sent");
        let (packet, from) = receive(&receiver).await;
        assert_eq!((packet, from), (rtp(SSRC, sequence), egress));
    }
    // Where RTCP is apart, this SFU has a socket of its own for it, at whatever port.
    let (sender_rtcp, receiver_rtcp) = (socket().await, socket().await);
    let (sender_rtcp, receiver_rtcp) =
        if rtcp == "separate" { (&sender_rtcp, &receiver_rtcp) } else { (&sender, &receiver) };
    receiver_rtcp.send_to(&feedback(SSRC, 206, 1, &[]), egress_rtcp).await.expect("sent");
    let mut report = vec![0x80, 200, 0, 6];
    report.extend_from_slice(&SSRC.to_be_bytes());
    report.extend_from_slice(&[7; 20]);
    if rtcp == "separate" {
        // The overlay learns from it where this publisher wants its RTCP; a picture loss before that went astray.
        sender_rtcp.send_to(&report, ingress_rtcp).await.expect("sent");
        receive_rtcp(receiver_rtcp, |body| matches!(body, RtcpBody::SenderReport { ssrc: SSRC, .. })).await;
        receiver_rtcp.send_to(&feedback(SSRC, 206, 1, &[]), egress_rtcp).await.expect("sent");
    }
    let asked_from = receive_rtcp(sender_rtcp, |body| *body == RtcpBody::PictureLoss { media: SSRC }).await;
    assert_eq!(asked_from, ingress_rtcp, "answered from where it is sent to");
    receiver_rtcp.send_to(&feedback(SSRC, 205, 1, &[1, 43, 0, 0]), egress_rtcp).await.expect("sent");
    loop {
        let (packet, from) = receive(&receiver).await;
        if packet == rtp(SSRC, 299) {
            assert_eq!(from, egress);
            break;
        }
    }
    // A receiver report follows what is sent.
    sender.send_to(&rtp(SSRC, 300), ingress).await.expect("sent");
    let is_report = |body: &RtcpBody<'_>| {
        matches!(body, RtcpBody::ReceiverReport { ssrc: _, blocks } if blocks.clone().any(|block| {
            (block.ssrc, block.fraction_lost, block.cumulative_lost, block.highest_sequence) == (SSRC, 0, 0, 300)
        }))
    };
    receive_rtcp(sender_rtcp, is_report).await;
    let path = format!("/v1/subscriptions/{}", subscribed["id"]);
    let (_, shown) = get_json(r2.api_address(), &path).await;
    assert_eq!((&shown["streams"][0]["ssrc"], &shown["packets_sent_again"]), (&json!(SSRC), &json!(1)));
    for (relay, path) in [(&r2, path), (&r1, format!("/v1/publications/{}", published["id"]))] {
        assert_eq!(send_json(relay.api_address(), "DELETE", &path, &Value::Null).await.0, 204);
        assert_eq!(get_json(relay.api_address(), &path).await.0, 404);
    }
    r1.stop().await;
    r2.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_through_the_relay_ports() {
    call("relay", "mux").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_through_ports_of_their_own() {
    call("own", "separate").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_of_strangers_go_nowhere() {
    let overlay = Overlay::start().await;
    let relay = overlay.relay("r1").await;
    until_ready(&relay).await;
    let (sender, stranger, receiver) = (socket().await, socket().await, socket().await);
    let source = sender.local_addr().expect("bound").to_string();
    let published = register(&relay, "publications", &publication(&source, "own", "mux")).await;
    let to = receiver.local_addr().expect("bound");
    register(&relay, "subscriptions", &subscription(to, "relay", "mux")).await;
    let api = relay.api_address();
    let wanted = |(_, answer): &(u16, Value)| answer["streams"][0]["plain_subscribers"] == 1;
    until("the stream has its subscriber", || get_json(api, "/v1/streams"), wanted).await;
    let address = address_of(&published, "address");
    stranger.send_to(&rtp(SSRC, 1), address).await.expect("sent");
    stranger.send_to(&rtp(SSRC, 2), relay.port_address()).await.expect("sent");
    sender.send_to(&rtp(SSRC, 3), address).await.expect("sent");
    assert_eq!(receive(&receiver).await.0, rtp(SSRC, 3), "the first that arrives");
    let path = format!("/v1/publications/{}", published["id"]);
    assert_eq!(get_json(api, &path).await.1["strangers"], 1);
    let dropped = relay.port().inspect(|core, _| core.counters().drop_plain_stranger).await.expect("open");
    assert_eq!(dropped, 2);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_cannot_be_told_apart_are_subscribed_to_one_by_one() {
    let overlay = Overlay::start().await;
    let relay = overlay.relay("r1").await;
    until_ready(&relay).await;
    let api = relay.api_address();
    let (sender, receiver) = (socket().await, socket().await);
    // As Janus does it: every publisher's camera has the same SSRC.
    let mut published = Vec::new();
    for user in ["alice", "bob"] {
        let mut body = publication("127.0.0.1", "own", "mux");
        body["user"] = json!(user);
        published.push(address_of(&register(&relay, "publications", &body).await, "address"));
    }
    let flowing = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        for sequence in 0..u16::MAX {
            ticks.tick().await;
            for address in &published {
                sender.send_to(&rtp(SSRC, sequence), address).await.expect("sent");
            }
        }
    });
    let to = receiver.local_addr().expect("bound");
    let (status, answer) =
        send_json(api, "POST", "/v1/subscriptions", &subscription(to, "relay", "mux")).await;
    assert_eq!(status, 409, "{answer}");
    assert!(answer["hint"].as_str().is_some_and(|hint| hint.contains("one by one")), "{answer}");
    assert_eq!(get_json(api, "/v1/subscriptions").await.1, json!({"subscriptions": []}));
    let other = socket().await;
    for (socket, user) in [(&receiver, "alice"), (&other, "bob")] {
        let mut body = subscription(socket.local_addr().expect("bound"), "relay", "mux");
        body["user"] = json!(user);
        let answer = register(&relay, "subscriptions", &body).await;
        assert_eq!(
            (&answer["streams"][0]["user"], &answer["streams"][0]["ssrc"]),
            (&json!(user), &json!(SSRC))
        );
        receive(socket).await;
    }
    flowing.abort();
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_told_to_those_who_watch() {
    let overlay = Overlay::start().await;
    let relay = overlay.relay("r1").await;
    until_ready(&relay).await;
    let api = relay.api_address();
    let mut stream = TcpStream::connect(api).await.expect("it listens");
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: relay\r\n\r\n").await.expect("written");
    let mut lines = BufReader::new(stream).lines();
    let mut next = async |name: &str| loop {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("a line");
        if line.expect("open") == format!("event: {name}") {
            let data = lines.next_line().await.expect("a line").expect("open");
            let data = data.strip_prefix("data: ").expect("data").to_owned();
            break serde_json::from_str::<Value>(&data).expect("JSON");
        }
    };
    assert_eq!(next("watching").await, json!({"relay": "r1"}));
    let mut body = publication("127.0.0.1", "own", "mux");
    body["lease_s"] = json!(1);
    let published = register(&relay, "publications", &body).await;
    assert_eq!(next("publication-granted").await, json!({"publication": published["id"]}));
    register(
        &relay,
        "subscriptions",
        &subscription("127.0.0.1:9".parse().expect("an address"), "relay", "mux"),
    )
    .await;
    let up = next("stream-up").await;
    assert_eq!(
        (&up["user"], &up["stream"], &up["kind"]),
        (&json!("alice"), &json!("camera"), &json!("video"))
    );
    let ended = next("registration-ended").await;
    assert_eq!(ended, json!({"publication": published["id"], "reason": "its lease was not renewed"}));
    next("stream-down").await;
    let other = overlay.relay("r2").await;
    let linked = next("link").await;
    assert_eq!((&linked["peer"], &linked["name"]), (&json!("relay"), &json!("r2")));
    let stopping = tokio::spawn(relay.stop());
    assert_eq!(next("drain").await, json!({"relay": "r1"}));
    stopping.await.expect("no panic");
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_renewed_by_put_and_may_be_changed() {
    let overlay = Overlay::start().await;
    let relay = overlay.relay("r1").await;
    until_ready(&relay).await;
    let api = relay.api_address();
    let mut body = publication("127.0.0.1", "own", "mux");
    body["lease_s"] = json!(60);
    let id = register(&relay, "publications", &body).await["id"].clone();
    let path = format!("/v1/publications/{id}");
    let left = |answer: &Value| answer["lease_left_ms"].as_u64().expect("a lease");
    let shown = |(_, answer): &(u16, Value)| left(answer) < 59_990;
    until("some of the lease has passed", || get_json(api, &path), shown).await;
    let (status, _, answer) = request(api, "PUT", &path, "").await;
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert!(status == 200 && left(&answer) > 59_990, "{answer}");
    let (status, answer) = send_json(api, "PUT", &path, &json!({"lease_s": 5})).await;
    assert!(status == 200 && answer["lease_s"] == 5 && left(&answer) <= 5_000, "{answer}");
    relay.stop().await;
}
