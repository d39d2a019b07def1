//! Packets, keyframe requests and RTCP between two clients.

use crate::lab::{Overlay, rtp, soon};
use sfu_link::{
    Event, MediaKind, Packet, PublishOptions, SendError, SfuLink, SubscribeOptions, Subscription,
};

async fn packet(subscription: &mut Subscription) -> Packet {
    soon(subscription.recv()).await.expect("the client is open")
}

/// Sends until something arrives: before that, nobody may know of the subscription yet.
async fn until_it_flows(publication: &sfu_link::Publication, subscription: &mut Subscription) -> u16 {
    let mut sequence = 0;
    loop {
        publication.send(&rtp(sequence, 100)).expect("sent");
        sequence += 1;
        let wait = tokio::time::timeout(std::time::Duration::from_millis(20), subscription.recv());
        if wait.await.is_ok() {
            return sequence;
        }
    }
}

#[tokio::test]
async fn packets_cross_two_relays_byte_for_byte_with_rtcp_and_keyframe_requests() {
    let overlay = Overlay::start(2).await;
    let a = SfuLink::connect(overlay.config(&[0], "demo:*:p")).await.expect("a link");
    let b = SfuLink::connect(overlay.config(&[1], "demo:*:s")).await.expect("a link");
    let mut subscription =
        soon(b.subscribe(SubscribeOptions::room("room").user("alice"))).await.expect("agreed");
    let options = PublishOptions::new("room", "alice", "camera", MediaKind::Video);
    let publication = soon(a.publish(options)).await.expect("granted");

    let first = until_it_flows(&publication, &mut subscription).await;
    for sequence in first..first + 200 {
        publication.send(&rtp(sequence, 1100)).expect("sent");
    }
    let mut last = None;
    while last != Some(rtp(first + 199, 1100)) {
        let packet = packet(&mut subscription).await;
        let sequence = u16::from_be_bytes([packet.bytes[2], packet.bytes[3]]);
        if sequence >= first {
            assert_eq!(packet.bytes, rtp(sequence, 1100));
            assert_eq!(u32::from(sequence), packet.sequence, "the publisher's own count");
        }
        assert_eq!((packet.stream.user.as_str(), packet.stream.stream.as_str()), ("alice", "camera"));
        last = Some(packet.bytes.to_vec());
    }

    let report = [0x80, 200, 0, 6, 0, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
    publication.send_rtcp(&report).expect("sent");
    let received = packet(&mut subscription).await;
    assert_eq!((received.rtcp, &received.bytes[..]), (true, &report[..]));

    // One was asked for on behalf of the new subscriber already; this one is ours.
    subscription.request_keyframe(&received.stream).await;
    assert!(soon(publication.keyframe_request()).await);

    let stats = b.stats().await.expect("open");
    assert_eq!(stats.dropped_slow_reader, 0);
    assert!(stats.packets_in > 200 && stats.relay.is_some());
    assert_eq!(publication.send(b"no RTP"), Err(SendError::NotRtp));
    let most = wire_format::RTP_BYTES_MAX;
    assert_eq!(publication.send(&rtp(0, most + 1 - 12)), Err(SendError::TooLarge(most + 1)));

    drop(publication);
    loop {
        match soon(subscription.next()).await.expect("the client is open") {
            Event::Ended(stream) => break assert_eq!(stream.stream, "camera"),
            Event::Packet(_) => {}
            Event::Started(stream) => panic!("{stream:?} starts again"),
        }
    }
    a.close().await;
    b.close().await;
    assert_eq!(soon(subscription.next()).await, None);
}

#[tokio::test]
async fn a_second_subscription_of_a_client_gets_what_already_flows() {
    let overlay = Overlay::start(1).await;
    let link = SfuLink::connect(overlay.config(&[0], "demo:*:ps")).await.expect("a link");
    let options = PublishOptions::new("room", "alice", "camera", MediaKind::Video);
    let publication = soon(link.publish(options)).await.expect("granted");
    let mut first = soon(link.subscribe(SubscribeOptions::room("room"))).await.expect("agreed");
    let sequence = until_it_flows(&publication, &mut first).await;
    let mut second =
        soon(link.subscribe(SubscribeOptions::room("room").stream("camera"))).await.expect("agreed");
    assert!(matches!(soon(second.next()).await, Some(Event::Started(_))));
    publication.send(&rtp(sequence, 10)).expect("sent");
    assert_eq!(packet(&mut second).await.bytes, rtp(sequence, 10));
}

#[tokio::test]
async fn a_slow_reader_loses_packets_and_they_are_counted() {
    let overlay = Overlay::start(1).await;
    let link = SfuLink::connect(overlay.config(&[0], "demo:*:p")).await.expect("a link");
    let mut config = overlay.config(&[0], "demo:*:s");
    config.subscription_queue = 5;
    let slow = SfuLink::connect(config).await.expect("a link");
    let mut subscription = soon(slow.subscribe(SubscribeOptions::room("room"))).await.expect("agreed");
    let options = PublishOptions::new("room", "alice", "camera", MediaKind::Video);
    let publication = soon(link.publish(options)).await.expect("granted");
    let first = until_it_flows(&publication, &mut subscription).await;
    for sequence in first..first + 50 {
        publication.send(&rtp(sequence, 100)).expect("sent");
    }
    // Fifty come, five find room.
    soon(async {
        while subscription.dropped() < 45 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let stats = slow.stats().await.expect("open");
    assert_eq!(stats.dropped_slow_reader, subscription.dropped());
}
