//! The judge of a run: compares what was delivered with what was sent, byte for byte.
//!
//! It knows nothing of the overlay. A packet is known by its place in its stream, which both sides count by RTP sequence
//! numbers; its bytes are made anew from the recording.

use crate::dev::histogram::Histogram;
use crate::dev::recording::Track;
use std::collections::VecDeque;
use std::time::Duration;

/// Packets of one stream that are remembered: half of the sequence numbers, minutes of video. What is delivered later
/// counts as corrupted, since it cannot be told from nonsense.
const REMEMBERED: usize = 32_768;
/// Over how long the path's own delay is the least latency seen.
const FLOOR_WINDOW: Duration = Duration::from_secs(5);
/// A packet that was sent longer ago is taken for lost by whoever watches, though it may still arrive.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// Judges one stream. Times are counted from an origin common to all calls.
#[derive(Debug)]
pub(crate) struct StreamCheck {
    track: Track,
    budget: Duration,
    /// Packets `first..first + window.len()`, as far as they are remembered.
    window: VecDeque<Sent>,
    first: u64,
    /// The first packet delivered: what was sent before, before anybody listened, does not count.
    base: Option<u64>,
    newest: u64,
    last_delivery: Option<Duration>,
    ended: bool,
    floor: Floor,
    counts: StreamCounts,
    latency: Histogram,
    scratch: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Duration,
    delivered: bool,
}

/// What happened to a stream since its first delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StreamCounts {
    /// Packets sent.
    pub sent: u64,
    /// Of these, packets that arrived intact, each counted once.
    pub delivered: u64,
    /// Bytes of these.
    pub delivered_bytes: u64,
    /// Copies beyond the first.
    pub duplicated: u64,
    /// Packets that came after one that was sent later.
    pub reordered: u64,
    /// Deliveries whose bytes are not those of any packet sent.
    pub corrupted: u64,
    /// Packets that arrived, but later than the budget allows.
    pub late: u64,
    /// Longest silence.
    pub gap: Duration,
}

impl StreamCounts {
    /// Packets that did not arrive intact (yet).
    pub fn lost(&self) -> u64 {
        self.sent - self.delivered
    }
}

/// Least latency of the last one to two windows: the path's own delay.
#[derive(Clone, Copy, Debug, Default)]
struct Floor {
    since: Duration,
    before: Option<Duration>,
    current: Option<Duration>,
}

impl Floor {
    fn update(&mut self, now: Duration, latency: Duration) -> Duration {
        if now.saturating_sub(self.since) >= FLOOR_WINDOW {
            *self = Floor { since: now, before: self.current, current: None };
        }
        let current = self.current.map_or(latency, |least| least.min(latency));
        self.current = Some(current);
        self.before.map_or(current, |before| before.min(current))
    }
}

impl StreamCheck {
    pub(crate) fn new(track: Track, budget: Duration) -> StreamCheck {
        StreamCheck {
            track,
            budget,
            window: VecDeque::new(),
            first: 0,
            base: None,
            newest: 0,
            last_delivery: None,
            ended: false,
            floor: Floor::default(),
            counts: StreamCounts::default(),
            latency: Histogram::default(),
            scratch: Vec::new(),
        }
    }

    /// The next packet goes out. To be said before it can possibly arrive.
    pub(crate) fn sent(&mut self, now: Duration) {
        if self.window.len() == REMEMBERED {
            self.window.pop_front();
            self.first += 1;
        }
        self.window.push_back(Sent { at: now, delivered: false });
        if self.base.is_some() {
            self.counts.sent += 1;
        }
    }

    /// Something arrived. Answers whether it is the stream's first packet.
    pub(crate) fn delivered(&mut self, now: Duration, packet: &[u8]) -> bool {
        let end = self.first + self.window.len() as u64;
        let index = self.track.index_of(packet, end.saturating_sub(1));
        let Some(index) = index.filter(|index| (self.first..end).contains(index)) else {
            self.counts.corrupted += 1;
            return false;
        };
        self.track.packet(index, &mut self.scratch);
        if self.scratch != packet {
            self.counts.corrupted += 1;
            return false;
        }
        let is_first = self.base.is_none();
        let base = *self.base.get_or_insert(index);
        if is_first {
            self.counts.sent = end - index;
            self.newest = index;
        }
        if index < base {
            return false;
        }
        let sent = &mut self.window[(index - self.first) as usize];
        if sent.delivered {
            self.counts.duplicated += 1;
            return false;
        }
        sent.delivered = true;
        let latency = now.saturating_sub(sent.at);
        self.counts.delivered += 1;
        self.counts.delivered_bytes += packet.len() as u64;
        self.counts.reordered += u64::from(index < self.newest);
        self.newest = self.newest.max(index);
        let floor = self.floor.update(now, latency);
        self.counts.late += u64::from(latency > floor + self.budget);
        self.latency.record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        self.silence_until(now);
        self.last_delivery = Some(now);
        is_first
    }

    /// Sending ends: silence from now on is no gap.
    pub(crate) fn end(&mut self, now: Duration) {
        self.silence_until(now);
        self.ended = true;
    }

    fn silence_until(&mut self, now: Duration) {
        if let Some(last) = self.last_delivery.filter(|_| !self.ended) {
            self.counts.gap = self.counts.gap.max(now.saturating_sub(last));
        }
    }

    pub(crate) fn counts(&self) -> StreamCounts {
        self.counts
    }

    /// Packets sent so recently that they may still arrive.
    pub(crate) fn under_way(&self, now: Duration) -> u64 {
        // What was sent before anybody listened does not count.
        let end = self.first + self.window.len() as u64;
        let counted = (end - self.base.unwrap_or(end).max(self.first)) as usize;
        let newest = self.window.iter().rev().take(counted);
        let recent = newest.take_while(|sent| now.saturating_sub(sent.at) < UNDER_WAY);
        recent.filter(|sent| !sent.delivered).count() as u64
    }

    pub(crate) fn latency(&self) -> &Histogram {
        &self.latency
    }

    /// When the stream last delivered something.
    pub(crate) fn last_delivery(&self) -> Option<Duration> {
        self.last_delivery
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::recording::Recording;

    struct Rig {
        check: StreamCheck,
        track: Track,
    }

    impl Rig {
        fn new() -> Rig {
            let track = Recording::call().expect("legal").tracks()[1].clone();
            Rig { check: StreamCheck::new(track.clone(), Duration::from_millis(200)), track }
        }

        fn send(&mut self, packets: u64) {
            for index in 0..packets {
                self.check.sent(self.track.at(index));
            }
        }

        fn deliver(&mut self, index: u64, latency_ms: u64) {
            let mut packet = Vec::new();
            self.track.packet(index, &mut packet);
            self.check.delivered(self.track.at(index) + Duration::from_millis(latency_ms), &packet);
        }
    }

    #[test]
    fn counts_begin_with_the_first_delivery() {
        let mut rig = Rig::new();
        rig.send(10);
        for index in 4..10 {
            rig.deliver(index, 30);
        }
        rig.deliver(3, 200);
        let counts = rig.check.counts();
        assert_eq!((counts.sent, counts.delivered, counts.lost()), (6, 6, 0));
        assert_eq!(rig.check.under_way(rig.track.at(9)), 0, "those before the first are not awaited");
        assert_eq!(counts.gap, Duration::from_millis(20));
        assert_eq!(rig.check.latency().max(), 30_000);
    }

    #[test]
    fn loss_copies_disorder_and_lateness_are_counted() {
        let mut rig = Rig::new();
        rig.send(10);
        for (index, latency_ms) in [(0, 30), (1, 30), (1, 35), (3, 30), (2, 60), (5, 231), (9, 30)] {
            rig.deliver(index, latency_ms);
        }
        let counts = rig.check.counts();
        assert_eq!((counts.sent, counts.delivered, counts.lost()), (10, 6, 4));
        assert_eq!((counts.duplicated, counts.reordered, counts.late), (1, 1, 1));
    }

    #[test]
    fn changed_bytes_are_not_a_delivery() {
        let mut rig = Rig::new();
        rig.send(3);
        rig.deliver(0, 30);
        let mut packet = Vec::new();
        rig.track.packet(1, &mut packet);
        packet[20] ^= 1;
        rig.check.delivered(Duration::from_millis(50), &packet);
        rig.check.delivered(Duration::from_millis(50), b"nonsense");
        rig.track.packet(3, &mut packet);
        rig.check.delivered(Duration::from_millis(70), &packet);
        let counts = rig.check.counts();
        assert_eq!(
            (counts.delivered, counts.corrupted, counts.lost()),
            (1, 3, 2),
            "one came before it was sent"
        );
    }

    #[test]
    fn silence_at_the_end_of_sending_counts_and_later_silence_does_not() {
        let mut rig = Rig::new();
        rig.send(10);
        rig.deliver(0, 0);
        rig.check.end(Duration::from_millis(180));
        rig.deliver(9, 5_000);
        assert_eq!(rig.check.counts().gap, Duration::from_millis(180));
    }

    #[test]
    fn old_packets_are_forgotten() {
        let mut rig = Rig::new();
        rig.send(1);
        rig.deliver(0, 10);
        for index in 1..REMEMBERED as u64 * 2 {
            rig.check.sent(rig.track.at(index));
        }
        rig.deliver(7, 10);
        let counts = rig.check.counts();
        assert_eq!((counts.sent, counts.delivered), (REMEMBERED as u64 * 2, 1));
        assert_eq!(counts.corrupted, 1);
        assert_eq!(rig.check.window.len(), REMEMBERED);
    }
}
