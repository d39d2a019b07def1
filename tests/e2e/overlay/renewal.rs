//! Certificates that live for seconds, under media.

use relayctl::dev::{Options, Overlay, Topology};
use sfu_link::{Config, Fingerprint, MediaKind, PublishOptions, SfuLink, SubscribeOptions, Subscription};
use std::collections::BTreeMap;
use std::time::Duration;

/// Between two packets.
const PACE: Duration = Duration::from_millis(4);
const PATIENCE: Duration = Duration::from_secs(20);

async fn sfu(overlay: &Overlay, relay: usize) -> SfuLink {
    let token = overlay.token("sfu").expect("a token");
    let config =
        Config::new([overlay.port_address(relay).to_string()], token, Fingerprint(overlay.ca_sha256()));
    SfuLink::connect(config).await.expect("let in")
}

/// When each relay's certificate ends.
async fn expiries(overlay: &Overlay) -> BTreeMap<String, u64> {
    let nodes = overlay.controller().operations().nodes().await.expect("it runs");
    nodes.into_iter().map(|row| (row.name, row.certificate_expires_unix_s.expect("it has one"))).collect()
}

fn packet(number: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend_from_slice(&(number as u16).to_be_bytes());
    packet.extend_from_slice(&(number * 360).to_be_bytes());
    packet.extend_from_slice(&7_u32.to_be_bytes());
    packet.extend_from_slice(&number.to_be_bytes());
    packet.resize(300, number as u8);
    packet
}

fn number(packet: &[u8]) -> u32 {
    u32::from_be_bytes(packet[12..16].try_into().expect("four bytes"))
}

async fn received(subscription: &mut Subscription) -> u32 {
    let packet = tokio::time::timeout(PATIENCE, subscription.recv()).await.expect("in time");
    number(&packet.expect("it stands").bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn media_flows_through_renewals_without_a_gap() {
    let options = Options {
        relays: 3,
        topology: Topology::Line,
        certificate_lifetime: Some(Duration::from_secs(3)),
        ..Options::default()
    };
    let overlay = Overlay::start(&options).await.expect("it runs");
    let (sender, receiver) = (sfu(&overlay, 0).await, sfu(&overlay, 2).await);
    let publication = sender
        .publish(PublishOptions::new("call", "alice", "camera", MediaKind::Video))
        .await
        .expect("granted");
    let mut subscription = receiver.subscribe(SubscribeOptions::room("call")).await.expect("granted");

    // Probes until the first relay knows where to.
    let mut sent = 0;
    let mut pace = tokio::time::interval(PACE);
    let mut last = loop {
        tokio::select! {
            _ = pace.tick() => {
                publication.send(&packet(sent)).expect("the link stands");
                sent += 1;
            }
            first = received(&mut subscription) => break first,
        }
    };
    while last + 1 != sent {
        last = received(&mut subscription).await;
    }

    let before = expiries(&overlay).await;
    let sessions = overlay.controller().operations().status().await.expect("it runs").counters.sessions;
    let until_renewed_thrice = async {
        let mut looks = tokio::time::interval(Duration::from_millis(100));
        loop {
            looks.tick().await;
            let now = expiries(&overlay).await;
            if before.iter().all(|(name, expires)| now[name] >= expires + 6) {
                return;
            }
        }
    };
    let mut renewals = Box::pin(tokio::time::timeout(PATIENCE, until_renewed_thrice));
    let (mut expected, mut renewed) = (sent, false);
    while !renewed || expected < sent {
        tokio::select! {
            _ = pace.tick(), if !renewed => {
                publication.send(&packet(sent)).expect("the link stands");
                sent += 1;
            }
            outcome = &mut renewals, if !renewed => {
                outcome.expect("each is renewed every two seconds");
                renewed = true;
            }
            arrived = received(&mut subscription) => {
                assert_eq!(arrived, expected, "lost, repeated or out of order");
                expected += 1;
            }
        }
    }
    drop(renewals);
    assert!(expected > 1_000, "it was no moment: {expected}");
    let counters = overlay.controller().operations().status().await.expect("it runs").counters;
    assert_eq!(
        (counters.sessions, counters.links_failed),
        (sessions, 0),
        "sessions and links outlive certificates"
    );
    sender.close().await;
    receiver.close().await;
    overlay.stop().await;
}
