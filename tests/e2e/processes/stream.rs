//! A stream whose packets are numbered, sent while something happens.

use crate::{PATIENCE, soon};
use sfu_link::{MediaKind, Publication, PublishOptions, Subscription};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Between two packets: 500 a second.
const PACE: Duration = Duration::from_millis(2);
/// Packets that must come after a disturbance.
const AFTER: u32 = 100;

pub(crate) fn camera() -> PublishOptions {
    PublishOptions::new("standup", "alice", "camera", MediaKind::Video)
}

/// A publication whose packets arrive.
pub(crate) struct Stream {
    pub(crate) publication: Publication,
    sent: u32,
}

impl Stream {
    /// Sends until the first packet arrives, then waits for all that are still under way.
    pub(crate) async fn flowing(publication: Publication, subscription: &mut Subscription) -> Stream {
        let mut stream = Stream { publication, sent: 0 };
        let mut pace = tokio::time::interval(PACE);
        let mut last = loop {
            tokio::select! {
                _ = pace.tick() => stream.send(),
                packet = subscription.recv() => break packet.expect("it stands").bytes,
            }
            assert!(stream.sent < 5_000, "nothing arrives");
        };
        while number(&last) + 1 != stream.sent {
            last = soon(subscription.recv()).await.expect("it stands").bytes;
        }
        stream
    }

    fn send(&mut self) {
        self.publication.send(&packet(self.sent)).expect("the link stands");
        self.sent += 1;
    }

    /// Sends `packets` while `disturbance` runs, and checks that every one arrives once, whole and in order.
    pub(crate) async fn run(
        mut self,
        subscription: &mut Subscription,
        packets: u32,
        disturbance: impl Future<Output = ()>,
    ) -> Stream {
        let first = self.sent;
        let sending = async {
            let mut pace = tokio::time::interval(PACE);
            for _ in 0..packets {
                pace.tick().await;
                self.send();
            }
        };
        let receiving = async {
            for expected in first..first + packets {
                let received = soon(subscription.recv()).await.expect("it stands");
                assert_eq!(number(&received.bytes), expected, "lost, repeated or out of order");
                assert_eq!(received.bytes, packet(expected), "damaged");
            }
        };
        tokio::join!(sending, receiving, disturbance);
        self
    }

    /// Sends while `disturbance` runs and a little longer, whatever becomes of the packets. Ends when the last ones come.
    pub(crate) async fn endure(
        self,
        subscription: Subscription,
        disturbance: impl Future<Output = ()>,
    ) -> (Stream, Subscription, Passage) {
        let (end, ended) = oneshot::channel();
        // A task of its own, so that what blocks in the disturbance holds up no packet.
        let flowing = tokio::spawn(self.flow(subscription, ended));
        disturbance.await;
        assert!(end.send(()).is_ok(), "the stream has ended");
        flowing.await.expect("no panic")
    }

    async fn flow(
        mut self,
        mut subscription: Subscription,
        mut ended: oneshot::Receiver<()>,
    ) -> (Stream, Subscription, Passage) {
        let first = self.sent;
        let mut pace = tokio::time::interval(PACE);
        let (mut seen, mut passage, mut end) = (BTreeSet::new(), Passage::default(), None);
        let mut last = Instant::now();
        loop {
            tokio::select! {
                _ = pace.tick() => {
                    // Without a link it is lost.
                    let _ = self.publication.send(&packet(self.sent));
                    self.sent += 1;
                }
                packet = subscription.recv() => {
                    let bytes = packet.expect("it stands").bytes;
                    let number = number(&bytes);
                    assert_eq!(bytes, self::packet(number), "damaged");
                    passage.repeated += usize::from(!seen.insert(number));
                    passage.gap_ms = passage.gap_ms.max(last.elapsed().as_millis());
                    last = Instant::now();
                    if end.is_some_and(|end| number >= end) {
                        passage.lost = (first..number).filter(|number| !seen.contains(number)).count();
                        return (self, subscription, passage);
                    }
                }
                _ = &mut ended, if end.is_none() => end = Some(self.sent + AFTER),
            }
            assert!(last.elapsed() < PATIENCE, "nothing comes any more: {passage:?}");
        }
    }
}

/// What became of the packets that were sent meanwhile.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Passage {
    pub(crate) lost: usize,
    pub(crate) repeated: usize,
    /// Longest silence.
    pub(crate) gap_ms: u128,
}

/// RTP with its number inside, of a length that varies with it.
fn packet(number: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend_from_slice(&(number as u16).to_be_bytes());
    packet.extend_from_slice(&(number * 180).to_be_bytes());
    packet.extend_from_slice(&0x0CA5_CADE_u32.to_be_bytes());
    packet.extend_from_slice(&number.to_be_bytes());
    packet.resize(200 + (number as usize * 37) % 900, number as u8);
    packet
}

fn number(packet: &[u8]) -> u32 {
    u32::from_be_bytes(packet[12..16].try_into().expect("four bytes"))
}
