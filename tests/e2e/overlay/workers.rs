//! Relays with several workers: SFUs are dealt out to them, and every subscriber still gets every packet once, in order.

use relayctl::dev::{Options, Overlay};
use sfu_link::{Config, Fingerprint, MediaKind, PublishOptions, SfuLink, SubscribeOptions, Subscription};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);
const PACKETS: u32 = 300;

async fn sfu(overlay: &Overlay, relay: usize) -> SfuLink {
    let address = overlay.port_address(relay).to_string();
    let token = overlay.token("test").expect("a token");
    let config = Config::new([address], token, Fingerprint(overlay.ca_sha256()));
    SfuLink::connect(config).await.expect("it links")
}

fn packet(stream: u8, number: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, stream];
    packet.extend(number.to_be_bytes());
    packet.resize(200, stream);
    packet
}

/// The next packet behind the probes, which carry the number 0.
async fn next(subscription: &mut Subscription) -> Vec<u8> {
    loop {
        let packet = tokio::time::timeout(PATIENCE, subscription.recv()).await.expect("in time");
        let packet = packet.expect("the subscription stands").bytes;
        if packet[12..16] != [0; 4] {
            return packet.to_vec();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_subscriber_of_every_worker_gets_every_packet_once() {
    let options = Options { relays: 3, workers: 2, ..Options::default() };
    let overlay = Overlay::start(&options).await.expect("it starts");
    assert!(overlay.route().await.expect("an answer").is_some_and(|path| path.len() == 3));
    // Two clients of a relay are linked to two workers.
    let senders = [sfu(&overlay, 0).await, sfu(&overlay, 0).await];
    let receivers = [sfu(&overlay, 0).await, sfu(&overlay, 2).await, sfu(&overlay, 2).await];
    let mut publications = Vec::new();
    for (user, sender) in ["a", "b"].into_iter().zip(&senders) {
        let options = PublishOptions::new("call", user, "main", MediaKind::Audio);
        publications.push(sender.publish(options).await.expect("granted"));
    }
    let mut subscriptions = Vec::new();
    for receiver in &receivers {
        for user in ["a", "b"] {
            let wanted = SubscribeOptions { user: Some(user.to_owned()), ..SubscribeOptions::room("call") };
            subscriptions.push(receiver.subscribe(wanted).await.expect("granted"));
        }
    }
    // Probes until every subscriber has had one: then all is in place.
    for subscription in &mut subscriptions {
        let mut pace = tokio::time::interval(Duration::from_millis(10));
        let probing = async {
            loop {
                tokio::select! {
                    _ = pace.tick() => {
                        for (stream, publication) in (0..).zip(&publications) {
                            publication.send(&packet(stream, 0)).expect("open");
                        }
                    }
                    packet = subscription.recv() => break packet.is_some(),
                }
            }
        };
        assert!(tokio::time::timeout(PATIENCE, probing).await.expect("a probe arrives"));
    }
    let mut pace = tokio::time::interval(Duration::from_millis(2));
    for number in 1..=PACKETS {
        pace.tick().await;
        for (stream, publication) in (0..).zip(&publications) {
            publication.send(&packet(stream, number)).expect("open");
        }
    }
    for (index, subscription) in subscriptions.iter_mut().enumerate() {
        let stream = (index % 2) as u8;
        for number in 1..=PACKETS {
            assert_eq!(next(subscription).await, packet(stream, number), "subscription {index}");
        }
    }
    overlay.stop().await;
}
