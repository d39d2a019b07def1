//! A client outlives its relay.

use crate::lab::{Overlay, rtp, soon};
use sfu_link::{Event, MediaKind, PublishOptions, SfuLink, SubscribeOptions};
use std::time::Duration;

#[tokio::test]
async fn when_its_relay_dies_a_client_goes_on_at_the_next() {
    let overlay = Overlay::start(3).await;
    let a = SfuLink::connect(overlay.config(&[2], "demo:*:p")).await.expect("a link");
    let b = SfuLink::connect(overlay.config(&[0, 1], "demo:*:s")).await.expect("a link");
    let mut relay = b.relay();
    let mut subscription = soon(b.subscribe(SubscribeOptions::room("room"))).await.expect("agreed");
    let options = PublishOptions::new("room", "alice", "camera", MediaKind::Video);
    let publication = soon(a.publish(options)).await.expect("granted");
    let mut sequence = 0;
    let mut events = [0, 0];
    let mut packets_after = 0;
    let mut killed = false;
    soon(async {
        let mut pace = tokio::time::interval(Duration::from_millis(5));
        while packets_after < 20 {
            tokio::select! {
                _ = pace.tick() => {
                    publication.send(&rtp(sequence, 200)).expect("sent");
                    sequence += 1;
                }
                event = subscription.next() => match event.expect("open") {
                    Event::Started(_) => events[0] += 1,
                    Event::Ended(_) => events[1] += 1,
                    Event::Packet(_) if !killed => {
                        overlay.relays[0].kill();
                        killed = true;
                    }
                    Event::Packet(_) => packets_after += usize::from(events[0] == 2),
                },
            }
        }
    })
    .await;
    assert_eq!(events, [2, 1], "the old stream ended, the new one began");
    let now_at = relay.wait_for(Option::is_some).await.expect("open");
    assert_eq!(*now_at, Some(overlay.relays[1].local_addr()));
    drop(now_at);
    assert_eq!(b.stats().await.expect("open").reconnects, 1);
}

#[tokio::test]
async fn a_client_that_is_dropped_leaves() {
    let overlay = Overlay::start(1).await;
    let link = SfuLink::connect(overlay.config(&[0], "demo:*:s")).await.expect("a link");
    drop(link);
    soon(async {
        while overlay.relays[0].inspect(|_, stats| stats.links_down).await.expect("open") == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
