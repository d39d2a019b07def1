//! What a link to a relay has sent of late, for as long as it may have to go again: another way if the link fails, and by
//! the same link once losses are repaired.
//!
//! A ring of bytes, and beside it one short entry for each frame, by packet number. The ring is made when the first frame
//! leaves and doubles while it throws out frames that are younger than [`KEEP`], up to a bound for each link and one for
//! all; beyond them the oldest frames are forgotten earlier. So a link without media costs nothing, and nothing is
//! allocated for a frame once the ring has grown to what the link carries.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;
use wire_format::{PacketNumber, Timestamp};

/// Frames are kept for so long where the bounds allow: silence is noticed after 100 ms, and the last word of the other
/// end is older by a round trip.
const KEEP: Duration = Duration::from_millis(250);
/// Size of a new ring.
const RING_BYTES_MIN: usize = 64 << 10;
/// The largest ring: 134 Mbit/s for [`KEEP`].
const RING_BYTES_MAX: usize = 4 << 20;
/// All rings of a core.
const ALL_BYTES_MAX: usize = 64 << 20;
/// A ring has one entry for so many of its bytes.
const BYTES_PER_ENTRY: usize = 128;

/// The memory of all rings of a core.
#[derive(Debug, Default)]
pub(crate) struct HistoryMemory {
    used: usize,
    /// Frames that were not kept because it is used up.
    pub(crate) refused: u64,
}

impl HistoryMemory {
    fn take(&mut self, bytes: usize) -> bool {
        let fits = self.used + bytes <= ALL_BYTES_MAX;
        if fits {
            self.used += bytes;
        }
        fits
    }
}

/// A frame that was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sent {
    /// The datagram that it left in.
    pub(crate) number: PacketNumber,
    pub(crate) at: Timestamp,
    /// Counts bytes of the ring from its first use; the low bits are the place.
    position: u64,
    bytes: u16,
}

/// The frames that one link has sent, oldest first.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// A power of two of bytes, or none yet.
    ring: Vec<u8>,
    sent: VecDeque<Sent>,
    head: u64,
}

impl History {
    /// Keeps a frame: header and body, as they are on the wire.
    pub(crate) fn record(
        &mut self,
        now: Timestamp,
        number: PacketNumber,
        frame: &[u8],
        memory: &mut HistoryMemory,
    ) {
        let room = self.ring.len() as u64;
        if room == 0 && !self.grow(memory) {
            memory.refused += 1;
            return;
        }
        let mut place = self.place(frame.len());
        while let Some(oldest) = self.sent.front()
            && (place.end > oldest.position + self.ring.len() as u64 || self.is_full())
        {
            if now.since(oldest.at) < KEEP && self.grow(memory) {
                place = self.place(frame.len());
                continue;
            }
            self.sent.pop_front();
        }
        self.head = place.end;
        self.sent.push_back(Sent { number, at: now, position: place.start, bytes: frame.len() as u16 });
        let at = self.at(place.start);
        self.ring[at..at + frame.len()].copy_from_slice(frame);
    }

    /// Forgets what the other end is known to have got past: all up to this number.
    pub(crate) fn forget_through(&mut self, number: PacketNumber) {
        let known = self.sent.partition_point(|sent| sent.number <= number);
        self.sent.drain(..known);
        if self.sent.is_empty() {
            // The part of the ring that was used last is the one that the processor still has at hand: begin there.
            self.head = 0;
        }
    }

    /// The frames kept, oldest first.
    pub(crate) fn sent(&self) -> &VecDeque<Sent> {
        &self.sent
    }

    /// The bytes of a frame kept.
    pub(crate) fn frame(&self, sent: &Sent) -> &[u8] {
        let at = self.at(sent.position);
        &self.ring[at..at + usize::from(sent.bytes)]
    }

    /// Bytes allocated.
    pub(crate) fn memory(&self) -> usize {
        self.ring.len()
    }

    /// Gives the memory back.
    pub(crate) fn release(self, memory: &mut HistoryMemory) {
        memory.used -= self.ring.len();
    }

    fn is_full(&self) -> bool {
        self.sent.len() >= self.ring.len() / BYTES_PER_ENTRY
    }

    fn at(&self, position: u64) -> usize {
        position as usize & (self.ring.len() - 1)
    }

    /// Where a frame of so many bytes goes: in one piece.
    fn place(&self, bytes: usize) -> Range<u64> {
        let at = self.at(self.head);
        let skipped = if at + bytes > self.ring.len() { self.ring.len() - at } else { 0 };
        let start = self.head + skipped as u64;
        start..start + bytes as u64
    }

    /// Makes the ring, or doubles it. `false` if that is not allowed.
    fn grow(&mut self, memory: &mut HistoryMemory) -> bool {
        let bytes = (self.ring.len() * 2).max(RING_BYTES_MIN);
        if bytes > RING_BYTES_MAX || !memory.take(bytes - self.ring.len()) {
            return false;
        }
        let mut grown =
            History { ring: vec![0; bytes], sent: VecDeque::with_capacity(bytes / BYTES_PER_ENTRY), head: 0 };
        for sent in &self.sent {
            let place = grown.place(usize::from(sent.bytes));
            let at = grown.at(place.start);
            grown.ring[at..at + usize::from(sent.bytes)].copy_from_slice(self.frame(sent));
            grown.head = place.end;
            grown.sent.push_back(Sent { position: place.start, ..*sent });
        }
        *self = grown;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_micros(ms * 1000)
    }

    fn fill(history: &mut History, memory: &mut HistoryMemory, frames: u64, bytes: usize, every_ms: u64) {
        for i in 0..frames {
            history.record(at(i * every_ms), PacketNumber(i), &vec![i as u8; bytes], memory);
        }
    }

    #[test]
    fn a_link_without_media_costs_nothing_and_one_with_little_media_little() {
        let (mut history, mut memory) = (History::default(), HistoryMemory::default());
        assert_eq!(history.memory(), 0);
        fill(&mut history, &mut memory, 500, 1200, 5);
        assert_eq!((history.memory(), memory.used), (RING_BYTES_MIN, RING_BYTES_MIN), "1.9 Mbit/s");
        assert!(history.sent().len() >= 50, "{}", history.sent().len());
        history.release(&mut memory);
        assert_eq!(memory.used, 0);
    }

    #[test]
    fn the_ring_grows_to_what_the_link_carries_and_no_further_than_its_bound() {
        let (mut history, mut memory) = (History::default(), HistoryMemory::default());
        fill(&mut history, &mut memory, 4000, 1200, 1);
        assert_eq!(history.memory(), 512 << 10, "9.6 Mbit/s for 250 ms are 300,000 bytes");
        assert!(history.sent().len() >= 250);
        fill(&mut history, &mut memory, 10_000, 1200, 0);
        assert_eq!(history.memory(), RING_BYTES_MAX);
        assert!(memory.used <= ALL_BYTES_MAX);
    }

    #[test]
    fn the_bound_for_all_rings_is_kept_and_counted() {
        let mut memory = HistoryMemory::default();
        let mut histories: Vec<_> = (0..1100).map(|_| History::default()).collect();
        for history in &mut histories {
            history.record(at(0), PacketNumber(0), &[1; 100], &mut memory);
        }
        let made = histories.iter().filter(|history| history.memory() > 0).count();
        assert_eq!((made, memory.refused), (1024, 76));
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_was_sent_newest_last(
            frames in prop::collection::vec((1usize..1500, 0u64..20), 1..600)
        ) {
            let (mut history, mut memory) = (History::default(), HistoryMemory::default());
            let (mut ms, mut model) = (0, Vec::new());
            for (i, (bytes, later)) in frames.into_iter().enumerate() {
                ms += later;
                let frame: Vec<u8> = (0..bytes).map(|at| (at * 7 + i) as u8).collect();
                history.record(at(ms), PacketNumber(i as u64 / 2), &frame, &mut memory);
                model.push((PacketNumber(i as u64 / 2), at(ms), frame));
            }
            let kept = history.sent().len();
            prop_assert!(kept > 0);
            let expected = &model[model.len() - kept..];
            for (sent, (number, when, frame)) in history.sent().iter().zip(expected) {
                prop_assert_eq!((sent.number, sent.at, history.frame(sent)), (*number, *when, &frame[..]));
            }
            let forgotten = &model[..model.len() - kept];
            prop_assert!(forgotten.iter().all(|(_, when, _)| at(ms).since(*when) >= KEEP));
            let half = PacketNumber(model.len() as u64 / 4);
            history.forget_through(half);
            prop_assert!(history.sent().iter().all(|sent| sent.number > half));
        }
    }
}
