//! Media that comes before what announces it: at an egress before the controller's entry of its stream, at an SFU before
//! the relay's announcement. It waits a moment, and is delivered in order once its stream is known; beyond that it is
//! dropped, and whoever learns of the stream later asks for a keyframe.
//!
//! Bounded by time, by packets of one link, so that no neighbour takes the room of others, and by packets in all.

use crate::LinkId;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;
use wire_format::Timestamp;

/// A packet waits so long.
const WAIT: Duration = Duration::from_millis(200);
/// Packets of one link.
const PER_LINK_MAX: usize = 64;
/// Packets of all links.
const PACKETS_MAX: usize = 1024;
/// Streams remembered of which packets were dropped.
const MISSED_MAX: usize = 1024;

/// A packet that waits.
#[derive(Debug)]
pub(crate) struct Held<K, H> {
    pub(crate) key: K,
    pub(crate) header: H,
    pub(crate) packet: Vec<u8>,
    link: LinkId,
    until: Timestamp,
}

/// Packets of streams that are not known yet, by what will be known of them.
#[derive(Debug)]
pub(crate) struct Waiting<K, H> {
    held: VecDeque<Held<K, H>>,
    /// Buffers to be used again.
    spare: Vec<Vec<u8>>,
    missed: BTreeSet<K>,
}

impl<K: Copy + Ord, H> Waiting<K, H> {
    pub(crate) fn new() -> Waiting<K, H> {
        Waiting { held: VecDeque::new(), spare: Vec::new(), missed: BTreeSet::new() }
    }

    /// Keeps a packet for a moment. `false` if too many wait.
    pub(crate) fn hold(&mut self, now: Timestamp, link: LinkId, key: K, header: H, packet: &[u8]) -> bool {
        let of_link = self.held.iter().filter(|held| held.link == link).count();
        if of_link >= PER_LINK_MAX || self.held.len() >= PACKETS_MAX {
            self.miss(key);
            return false;
        }
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(packet);
        self.held.push_back(Held { key, header, packet: buffer, link, until: now + WAIT });
        true
    }

    /// The packets of a stream that has become known, in the order they came, and whether others were dropped.
    pub(crate) fn take(&mut self, key: K) -> (Vec<Held<K, H>>, bool) {
        let missed = self.missed.remove(&key);
        if self.held.is_empty() {
            return (Vec::new(), missed);
        }
        let (found, others) = std::mem::take(&mut self.held).into_iter().partition(|held| held.key == key);
        self.held = others;
        (Vec::from(found), missed)
    }

    /// Takes back the buffer of a packet that was delivered.
    pub(crate) fn reuse(&mut self, held: Held<K, H>) {
        if self.spare.len() < PER_LINK_MAX {
            self.spare.push(held.packet);
        }
    }

    /// Drops what has waited too long, and says how many packets that were.
    pub(crate) fn expire(&mut self, now: Timestamp) -> u64 {
        let mut dropped = 0;
        while self.held.front().is_some_and(|held| held.until <= now)
            && let Some(held) = self.held.pop_front()
        {
            self.miss(held.key);
            self.reuse(held);
            dropped += 1;
        }
        dropped
    }

    /// When the next packet will have waited too long.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.held.front().map(|held| held.until)
    }

    /// Forgets everything: what comes on another link has other names.
    pub(crate) fn clear(&mut self) -> u64 {
        let dropped = self.held.len() as u64;
        self.held.clear();
        self.missed.clear();
        dropped
    }

    fn miss(&mut self, key: K) {
        if self.missed.len() < MISSED_MAX {
            self.missed.insert(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_micros(ms * 1000)
    }

    #[test]
    fn packets_wait_200_ms_and_no_longer() {
        let mut waiting = Waiting::new();
        assert!(waiting.hold(at(0), LinkId(1), 7, (), b"a"));
        assert!(waiting.hold(at(100), LinkId(1), 8, (), b"b"));
        assert_eq!((waiting.next_due(), waiting.expire(at(199))), (Some(at(200)), 0));
        assert_eq!((waiting.expire(at(200)), waiting.next_due()), (1, Some(at(300))));
        let (found, missed) = waiting.take(7);
        assert_eq!((found.len(), missed), (0, true), "whoever comes too late asks for a keyframe");
        let (found, missed) = waiting.take(8);
        assert_eq!((found.len(), missed, waiting.next_due()), (1, false, None));
        assert!(!waiting.take(7).1, "and asks once");
    }

    #[test]
    fn no_link_takes_the_room_of_others_and_all_together_are_bounded() {
        let mut waiting = Waiting::new();
        let held = (0..100).filter(|i| waiting.hold(at(0), LinkId(1), *i, (), b"x")).count();
        assert_eq!(held, PER_LINK_MAX);
        assert!(waiting.hold(at(0), LinkId(2), 0, (), b"x"));
        let all = (0..10_000).filter(|i| waiting.hold(at(0), LinkId(*i), 5000 + *i, (), b"x")).count();
        assert_eq!(held + 1 + all, PACKETS_MAX);
        assert_eq!(waiting.missed.len(), MISSED_MAX);
    }

    #[test]
    fn packets_keep_their_order_and_their_bytes() {
        let mut waiting = Waiting::new();
        for i in 0..20u8 {
            assert!(waiting.hold(at(0), LinkId(1), i % 2, i, &[i; 3]));
        }
        let (found, _) = waiting.take(1);
        assert!(found.iter().map(|held| held.header).eq((1..20).step_by(2)));
        assert!(found.iter().all(|held| held.packet == [held.header; 3]));
        found.into_iter().for_each(|held| waiting.reuse(held));
        assert!(waiting.hold(at(1), LinkId(1), 3, 0, b"reused"));
        assert_eq!(waiting.take(3).0[0].packet, b"reused");
    }
}
