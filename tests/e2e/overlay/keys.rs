//! Links of SFUs hang on their tokens, and on the keys that signed them.

use crate::issuer::{Issuer, LATER};
use relayctl::dev::{NAMESPACE, Options, Overlay, Topology};
use sfu_link::{
    Config, Event, Fingerprint, MediaKind, Publication, PublishOptions, SfuLink, SubscribeOptions,
};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

const PATIENCE: Duration = Duration::from_secs(20);
/// Between two packets.
const PACE: Duration = Duration::from_millis(4);
/// How long relays forgive that a token has expired, seconds.
const LEEWAY_S: u64 = 30;

async fn overlay(relays: usize) -> Overlay {
    let options = Options { relays, topology: Topology::Line, ..Options::default() };
    Overlay::start(&options).await.expect("it runs")
}

fn config(overlay: &Overlay, relay: usize, token: String) -> Config {
    Config::new([overlay.port_address(relay).to_string()], token, Fingerprint(overlay.ca_sha256()))
}

/// A link, once the relay has heard of the key.
async fn linked(overlay: &Overlay, relay: usize, token: &str) -> SfuLink {
    let linked = async {
        loop {
            match SfuLink::connect(config(overlay, relay, token.to_owned())).await {
                Ok(link) => return link,
                Err(error) => assert!(error.to_string().contains("does not know"), "{error}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, linked).await.expect("the relay hears of the key")
}

async fn register(overlay: &Overlay, issuer: &Issuer) {
    overlay.controller().operations().set_token_key(issuer.key(None)).await.expect("registered");
}

async fn remove(overlay: &Overlay, id: &str) {
    overlay.controller().operations().remove_token_key(id.to_owned()).await.expect("it was registered");
}

/// Waits until the last loss says so, and returns it.
async fn told(losses: &mut watch::Receiver<Option<Arc<str>>>, part: &str) -> Arc<str> {
    let says = |loss: &Option<Arc<str>>| loss.as_ref().is_some_and(|loss| loss.contains(part));
    let told = tokio::time::timeout(PATIENCE, losses.wait_for(says)).await;
    told.expect("told in time").expect("the client is there").clone().expect("a reason")
}

async fn reconnects(link: &SfuLink) -> u64 {
    link.stats().await.expect("open").reconnects
}

async fn until_reconnected(link: &SfuLink, times: u64) {
    let reconnected = async {
        while reconnects(link).await < times {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, reconnected).await.expect("linked again in time");
}

fn camera() -> PublishOptions {
    PublishOptions::new("call", "alice", "camera", MediaKind::Video)
}

fn packet(number: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend_from_slice(&(number as u16).to_be_bytes());
    packet.extend_from_slice(&(number * 360).to_be_bytes());
    packet.extend_from_slice(&7_u32.to_be_bytes());
    packet.extend_from_slice(&number.to_be_bytes());
    packet
}

fn number(packet: &[u8]) -> u32 {
    u32::from_be_bytes(packet[12..16].try_into().expect("four bytes"))
}

/// Sends at an even pace until it is told to stop; returns how many.
async fn send(publication: Publication, mut stop: watch::Receiver<bool>) -> u32 {
    let mut pace = tokio::time::interval(PACE);
    for sent in 0.. {
        tokio::select! {
            _ = pace.tick() => publication.send(&packet(sent)).expect("the publication stands"),
            _ = stop.wait_for(|stop| *stop) => return sent,
        }
    }
    unreachable!("it is told before")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_gives_way_to_the_next_while_media_flows() {
    let overlay = overlay(3).await;
    let (first, second) = (Issuer::new("2026-10"), Issuer::new("2026-11"));
    register(&overlay, &first).await;
    let old = first.token(NAMESPACE, LATER);
    let (sender, receiver) = (linked(&overlay, 0, &old).await, linked(&overlay, 2, &old).await);
    let publication = sender.publish(camera()).await.expect("granted");
    let mut subscription = receiver.subscribe(SubscribeOptions::room("call")).await.expect("granted");
    let (stop, stopping) = watch::channel(false);
    let sending = tokio::spawn(send(publication, stopping));
    let (seen, mut progress) = watch::channel(0);
    let watching = tokio::spawn(async move {
        let (mut last, mut gap) = (Instant::now(), Duration::ZERO);
        let mut received = Vec::new();
        while let Some(event) = subscription.next().await {
            let Event::Packet(packet) = event else { continue };
            if !received.is_empty() {
                gap = gap.max(last.elapsed());
            }
            last = Instant::now();
            received.push(number(&packet.bytes));
            seen.send_replace(received.len());
        }
        (received, gap)
    });
    let mut more = async |packets: usize| {
        let wanted = *progress.borrow() + packets;
        let more = tokio::time::timeout(PATIENCE, progress.wait_for(|seen| *seen >= wanted)).await;
        drop(more.expect("media flows").expect("it is watched"));
    };
    more(50).await;

    // The next key is there beside the present one; then clients come with its tokens; then the present one goes.
    register(&overlay, &second).await;
    let new = second.token(NAMESPACE, LATER);
    for relay in [0, 2] {
        linked(&overlay, relay, &new).await.close().await;
    }
    more(50).await;
    assert_eq!((reconnects(&sender).await, reconnects(&receiver).await), (0, 0), "both keys are good");
    receiver.set_token(&new);
    until_reconnected(&receiver, 1).await;
    more(50).await;
    sender.set_token(&new);
    until_reconnected(&sender, 1).await;
    more(50).await;
    remove(&overlay, "2026-10").await;
    more(250).await;
    assert_eq!(
        (reconnects(&sender).await, reconnects(&receiver).await),
        (1, 1),
        "no link hung on the old key"
    );

    stop.send_replace(true);
    let sent = sending.await.expect("no panic");
    receiver.close().await;
    let (received, gap) = watching.await.expect("no panic");
    let missed = sent as usize - received.len();
    eprintln!("{sent} sent, {missed} missed, {} ms without a packet at most", gap.as_millis());
    assert!(received.is_sorted(), "repeated or out of order");
    // Each change of a link costs what is under way while the stream is asked for anew, and the start some.
    assert!(missed <= 100, "{missed} of {sent} missed");
    sender.close().await;
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_key_ends_its_links_within_two_seconds() {
    let overlay = overlay(2).await;
    let (leaked, other) = (Issuer::new("leaked"), Issuer::new("other"));
    register(&overlay, &leaked).await;
    register(&overlay, &other).await;
    let token = leaked.token(NAMESPACE, LATER);
    let (near, far) = (linked(&overlay, 0, &token).await, linked(&overlay, 1, &token).await);
    let stays = linked(&overlay, 0, &other.token(NAMESPACE, LATER)).await;
    let mut losses = [near.last_loss(), far.last_loss()];

    let started = Instant::now();
    remove(&overlay, "leaked").await;
    // At the same time: only the newest reason of each is kept, and the next attempt is refused for another.
    let [near_losses, far_losses] = &mut losses;
    let removed = "the key that signed the token was removed";
    tokio::join!(told(near_losses, removed), told(far_losses, removed));
    let took = started.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    // Nor does it come back, and it is told another reason than one that came late.
    for losses in &mut losses {
        let reason = told(losses, "refused").await;
        assert!(reason.contains("\"leaked\", which this overlay does not know"), "{reason}");
    }
    assert_eq!(reconnects(&stays).await, 0);
    stays.publish(camera()).await.expect("it still stands");
    for link in [near, far, stays] {
        link.close().await;
    }
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_ends_with_its_token_and_goes_on_with_the_next() {
    let overlay = overlay(1).await;
    let issuer = Issuer::new("short");
    register(&overlay, &issuer).await;
    linked(&overlay, 0, &issuer.token(NAMESPACE, LATER)).await.close().await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    // Two links of nearly two seconds; the second finds no newer token.
    let short = issuer.token(NAMESPACE, now + 2 - LEEWAY_S);
    let stale = SfuLink::connect(config(&overlay, 0, short.clone())).await.expect("for a moment");
    let fresh = Config {
        token_source: Some({
            let (later, first) = (issuer.token(NAMESPACE, LATER), std::sync::atomic::AtomicBool::new(true));
            Arc::new(move || {
                (!first.swap(false, std::sync::atomic::Ordering::Relaxed)).then(|| later.clone())
            })
        }),
        ..config(&overlay, 0, short)
    };
    let fresh = SfuLink::connect(fresh).await.expect("for a moment");
    let (mut lost_stale, mut lost_fresh) = (stale.last_loss(), fresh.last_loss());
    let publication = fresh.publish(camera()).await.expect("granted");

    told(&mut lost_fresh, "the token has expired: link again with a new one").await;
    until_reconnected(&fresh, 1).await;
    let reason = told(&mut lost_stale, "refused").await;
    assert!(reason.contains("the token has expired: get a new one"), "{reason}");
    // What was published is there again, without being asked for.
    let witness = linked(&overlay, 0, &issuer.token(NAMESPACE, LATER)).await;
    let mut subscription = witness.subscribe(SubscribeOptions::room("call")).await.expect("granted");
    let announced = tokio::time::timeout(PATIENCE, subscription.next()).await.expect("announced in time");
    assert!(matches!(announced, Some(Event::Started(_))), "{announced:?}");
    drop(publication);
    for link in [stale, fresh, witness] {
        link.close().await;
    }
    overlay.stop().await;
}
