//! Tenants who call their rooms, participants and streams the same see nothing of each other.

use relayctl::dev::{Options, Overlay, Topology};
use route_controller::TokenRequest;
use sfu_link::{
    Config, Fingerprint, MediaKind, Publication, PublishOptions, SfuLink, SubscribeOptions, Subscription,
};
use std::time::Duration;

/// For anything that takes a moment; everything is on loopback, in real time.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two packets.
const PACE: Duration = Duration::from_millis(4);
const PACKETS: u32 = 100;

/// One tenant's call, from the first relay to the last and within the first.
struct Call {
    mark: u8,
    publication: Publication,
    subscriptions: Vec<Subscription>,
    links: Vec<SfuLink>,
    sent: u32,
}

impl Call {
    async fn begin(overlay: &Overlay, namespace: &str, mark: u8) -> Call {
        let publisher = sfu(overlay, namespace, 0).await;
        let options = PublishOptions::new("standup", "alice", "camera", MediaKind::Video);
        let publication = publisher.publish(options).await.expect("granted");
        let (mut links, mut subscriptions) = (vec![publisher], Vec::new());
        for relay in [0, overlay.len() - 1] {
            let link = sfu(overlay, namespace, relay).await;
            let wanted = SubscribeOptions::room("standup").user("alice").stream("camera");
            subscriptions.push(link.subscribe(wanted).await.expect("granted"));
            links.push(link);
        }
        Call { mark, publication, subscriptions, links, sent: 0 }
    }

    fn send(&mut self) {
        self.publication.send(&packet(self.mark, self.sent)).expect("the link stands");
        self.sent += 1;
    }

    /// Reads on to the newest packet, and finds only its own on the way.
    async fn check(&mut self) -> usize {
        let mut received = 0;
        for subscription in &mut self.subscriptions {
            let newest = packet(self.mark, self.sent - 1);
            loop {
                let next = tokio::time::timeout(PATIENCE, subscription.recv()).await.expect("in time");
                let bytes = next.expect("it stands").bytes;
                assert_eq!(bytes[12], self.mark, "a packet of another tenant");
                received += 1;
                if bytes == newest {
                    break;
                }
            }
        }
        received
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_namespaces_with_equal_names_never_meet() {
    let options = Options { relays: 3, topology: Topology::Line, ..Options::default() };
    let overlay = Overlay::start(&options).await.expect("it starts");
    let mut calls = [Call::begin(&overlay, "acme", 1).await, Call::begin(&overlay, "umbrella", 2).await];
    // A third who only listens; the first it hears is what it will say itself.
    let mut third = Call::begin(&overlay, "initech", 3).await;

    let mut pace = tokio::time::interval(PACE);
    for _ in 0..PACKETS {
        pace.tick().await;
        calls.iter_mut().for_each(Call::send);
    }
    for call in &mut calls {
        let received = call.check().await;
        assert!(received >= PACKETS as usize, "{received} of two times {PACKETS}");
    }
    for _ in 0..PACKETS {
        pace.tick().await;
        third.send();
    }
    let received = third.check().await;
    assert!(received >= PACKETS as usize, "{received} of two times {PACKETS}");

    let streams = overlay.controller().operations().streams().await.expect("it runs");
    let namespaces: Vec<&str> = streams.iter().map(|row| row.namespace.as_str()).collect();
    assert_eq!(namespaces, ["acme", "initech", "umbrella"]);
    let rooms: std::collections::BTreeSet<u32> = streams.iter().map(|row| row.room_id).collect();
    assert_eq!(rooms.len(), 3, "equal names, three rooms");
    for link in calls.iter().chain([&third]).flat_map(|call| &call.links) {
        link.close().await;
    }
    overlay.stop().await;
}

async fn sfu(overlay: &Overlay, namespace: &str, relay: usize) -> SfuLink {
    let request = TokenRequest {
        namespace: namespace.to_owned(),
        room: "*".to_owned(),
        publish: true,
        subscribe: true,
        subject: None,
        ttl_s: None,
    };
    let token = overlay.controller().operations().create_token(&request).expect("a token").token;
    let address = overlay.port_address(relay).to_string();
    let config = Config::new([address], token, Fingerprint(overlay.ca_sha256()));
    tokio::time::timeout(PATIENCE, SfuLink::connect(config)).await.expect("in time").expect("let in")
}

fn packet(mark: u8, number: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend_from_slice(&(number as u16).to_be_bytes());
    packet.extend_from_slice(&(number * 360).to_be_bytes());
    packet.extend_from_slice(&0x0CA5_CADE_u32.to_be_bytes());
    packet.push(mark);
    packet.extend_from_slice(&number.to_be_bytes());
    packet.resize(200, mark);
    packet
}
