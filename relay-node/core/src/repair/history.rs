//! What a link has sent of late, for the case that it may have to go again: by the same link once it is known to be lost,
//! within rows of parity, and another way if the link fails.
//!
//! A ring of bytes with whole plain datagrams, and beside it one short entry for each, by packet number. The ring is made
//! when the first media leaves and doubles while it throws out datagrams that are younger than [`KEEP`], up to a bound for
//! each link and one for all; beyond them the oldest are forgotten earlier. So a link without media costs nothing, and
//! nothing is allocated for a datagram once the ring has grown to what the link carries.
//!
//! A repair is listed as well, without bytes: its number stands for the datagram that it repeats.

use super::{RepairMemory, Urgency};
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;
use wire_format::{PacketNumber, Slack, Timestamp};

/// Datagrams are kept for so long where the bounds allow, and for as long as their media has slack if that is longer: a
/// request comes a round trip after the loss, and may have to be repeated.
const KEEP: Duration = Duration::from_millis(400);
/// Size of a new ring.
const RING_BYTES_MIN: usize = 64 << 10;
/// The largest ring: 84 Mbit/s for [`KEEP`].
const RING_BYTES_MAX: usize = 4 << 20;
/// A ring has one entry for so many of its bytes.
const BYTES_PER_ENTRY: usize = 128;

/// A datagram that was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sent {
    pub(crate) number: PacketNumber,
    pub(crate) at: Timestamp,
    /// Of the frames in it.
    pub(crate) urgency: Urgency,
    /// How often it was sent, repairs included.
    pub(crate) times: u16,
    /// The last time: when, and under which number.
    pub(crate) last_at: Timestamp,
    pub(crate) last_number: PacketNumber,
    /// It repeats this one, and has no bytes of its own.
    pub(crate) repeats: Option<PacketNumber>,
    /// Counts bytes of the ring from its first use; the low bits are the place.
    position: u64,
    bytes: u16,
}

/// The datagrams with media that one link has sent, oldest first.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// A power of two of bytes, or none yet.
    ring: Vec<u8>,
    sent: VecDeque<Sent>,
    head: u64,
}

impl History {
    /// Keeps a plain datagram.
    pub(crate) fn record(
        &mut self,
        now: Timestamp,
        number: PacketNumber,
        urgency: Urgency,
        plain: &[u8],
        memory: &mut RepairMemory,
    ) {
        let Some(start) = self.make_room(now, plain.len(), memory) else { return };
        let at = self.at(start);
        self.ring[at..at + plain.len()].copy_from_slice(plain);
        self.sent.push_back(Sent {
            number,
            at: now,
            urgency,
            times: 1,
            last_at: now,
            last_number: number,
            repeats: None,
            position: start,
            bytes: plain.len() as u16,
        });
    }

    /// Lists a repair.
    pub(crate) fn record_repair(
        &mut self,
        now: Timestamp,
        number: PacketNumber,
        repeats: PacketNumber,
        memory: &mut RepairMemory,
    ) {
        let Some(place) = self.find(repeats) else { return };
        let sent = &mut self.sent[place];
        sent.times = sent.times.saturating_add(1);
        (sent.last_at, sent.last_number) = (now, number);
        let listed = Sent { number, at: now, repeats: Some(repeats), bytes: 0, ..*sent };
        if let Some(position) = self.make_room(now, 0, memory) {
            self.sent.push_back(Sent { position, ..listed });
        }
    }

    /// Where an entry of so many bytes goes, after the oldest were forgotten; `None` if nothing may be kept.
    fn make_room(&mut self, now: Timestamp, bytes: usize, memory: &mut RepairMemory) -> Option<u64> {
        if self.ring.is_empty() && !self.grow(memory) {
            memory.refused += 1;
            return None;
        }
        let mut place = self.place(bytes);
        while let Some(oldest) = self.sent.front()
            && (place.end > oldest.position + self.ring.len() as u64 || self.is_full())
        {
            // Whole numbers: this is done for each datagram that leaves once the ring is in use.
            let slack = u64::from(oldest.urgency.slack.0) * Slack::UNIT_US;
            let age = now.as_micros().saturating_sub(oldest.at.as_micros());
            if age < slack.max(KEEP.as_micros() as u64) && self.grow(memory) {
                place = self.place(bytes);
                continue;
            }
            self.sent.pop_front();
        }
        self.head = place.end;
        Some(place.start)
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

    /// The datagrams kept, oldest first.
    pub(crate) fn sent(&self) -> &VecDeque<Sent> {
        &self.sent
    }

    /// The entry of a number.
    pub(crate) fn get(&self, number: PacketNumber) -> Option<&Sent> {
        self.find(number).map(|place| &self.sent[place])
    }

    fn find(&self, number: PacketNumber) -> Option<usize> {
        self.sent.binary_search_by_key(&number, |sent| sent.number).ok()
    }

    /// The bytes of a datagram kept.
    pub(crate) fn plain(&self, sent: &Sent) -> &[u8] {
        let at = self.at(sent.position);
        &self.ring[at..at + usize::from(sent.bytes)]
    }

    /// Bytes allocated.
    pub(crate) fn memory(&self) -> usize {
        footprint(self.ring.len())
    }

    /// Gives the memory back.
    pub(crate) fn release(self, memory: &mut RepairMemory) {
        memory.give_back(self.memory());
    }

    fn is_full(&self) -> bool {
        self.sent.len() >= self.ring.len() / BYTES_PER_ENTRY
    }

    fn at(&self, position: u64) -> usize {
        position as usize & (self.ring.len() - 1)
    }

    /// Where a datagram of so many bytes goes: in one piece.
    fn place(&self, bytes: usize) -> Range<u64> {
        let at = self.at(self.head);
        let skipped = if at + bytes > self.ring.len() { self.ring.len() - at } else { 0 };
        let start = self.head + skipped as u64;
        start..start + bytes as u64
    }

    /// Makes the ring, or doubles it. `false` if that is not allowed.
    fn grow(&mut self, memory: &mut RepairMemory) -> bool {
        let bytes = (self.ring.len() * 2).max(RING_BYTES_MIN);
        if bytes > RING_BYTES_MAX || !memory.take(footprint(bytes) - self.memory()) {
            return false;
        }
        let mut grown =
            History { ring: vec![0; bytes], sent: VecDeque::with_capacity(bytes / BYTES_PER_ENTRY), head: 0 };
        for sent in &self.sent {
            let place = grown.place(usize::from(sent.bytes));
            let at = grown.at(place.start);
            grown.ring[at..at + usize::from(sent.bytes)].copy_from_slice(self.plain(sent));
            grown.head = place.end;
            grown.sent.push_back(Sent { position: place.start, ..*sent });
        }
        *self = grown;
        true
    }
}

/// What a ring of so many bytes takes, with its entries.
fn footprint(ring: usize) -> usize {
    ring + ring / BYTES_PER_ENTRY * size_of::<Sent>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wire_format::Priority;

    const URGENCY: Urgency = Urgency { priority: Priority::VIDEO, slack: Slack(2000) };

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_micros(ms * 1000)
    }

    fn fill(history: &mut History, memory: &mut RepairMemory, datagrams: u64, bytes: usize, every_ms: u64) {
        for i in 0..datagrams {
            history.record(at(i * every_ms), PacketNumber(i), URGENCY, &vec![i as u8; bytes], memory);
        }
    }

    #[test]
    fn a_link_without_media_costs_nothing_and_one_with_little_media_little() {
        let (mut history, mut memory) = (History::default(), RepairMemory::default());
        assert_eq!(history.memory(), 0);
        fill(&mut history, &mut memory, 500, 1200, 8);
        assert_eq!(
            (history.memory(), memory.used()),
            (footprint(RING_BYTES_MIN), footprint(RING_BYTES_MIN)),
            "1.2 Mbit/s"
        );
        assert!(history.sent().len() >= 50, "{}", history.sent().len());
        history.release(&mut memory);
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn the_ring_grows_to_what_the_link_carries_and_no_further_than_its_bound() {
        let (mut history, mut memory) = (History::default(), RepairMemory::default());
        fill(&mut history, &mut memory, 4000, 1200, 1);
        assert_eq!(history.ring.len(), 512 << 10, "9.6 Mbit/s for 400 ms are 480,000 bytes");
        assert!(history.sent().len() >= 400);
        fill(&mut history, &mut memory, 10_000, 1200, 0);
        assert_eq!(history.ring.len(), RING_BYTES_MAX);
        assert!(size_of::<Sent>() <= BYTES_PER_ENTRY / 2, "entries take half of the ring at most");
    }

    #[test]
    fn what_may_come_in_time_for_longer_is_kept_for_longer() {
        let kept_for = |slack_ms: u64| {
            let (mut history, mut memory) = (History::default(), RepairMemory::default());
            let slack = Slack::from_duration(Duration::from_millis(slack_ms));
            let urgency = Urgency { priority: Priority::VIDEO, slack };
            for i in 0..5000 {
                history.record(at(4 * i), PacketNumber(i), urgency, &[1; 1200], &mut memory);
            }
            let oldest = history.sent().front().expect("some are kept");
            (history.ring.len() >> 10, at(4 * 4999).since(oldest.at) >= Duration::from_millis(slack_ms))
        };
        assert_eq!((kept_for(200), kept_for(400)), ((128, true), (128, true)));
        assert_eq!((kept_for(2000), kept_for(6000)), ((1024, true), (2048, true)), "300 kB a second");
    }

    #[test]
    fn the_bound_for_all_rings_is_kept_and_counted() {
        let mut memory = RepairMemory::default();
        let mut histories: Vec<_> = (0..1100).map(|_| History::default()).collect();
        for history in &mut histories {
            history.record(at(0), PacketNumber(0), URGENCY, &[1; 100], &mut memory);
        }
        let made = histories.iter().filter(|history| history.memory() > 0).count();
        assert_eq!((made, memory.refused), (1024, 76));
    }

    #[test]
    fn a_repair_stands_for_what_it_repeats() {
        let (mut history, mut memory) = (History::default(), RepairMemory::default());
        fill(&mut history, &mut memory, 10, 1200, 1);
        history.record_repair(at(50), PacketNumber(10), PacketNumber(3), &mut memory);
        let repair = history.get(PacketNumber(10)).copied().expect("listed");
        assert_eq!(repair.repeats, Some(PacketNumber(3)));
        let original = history.get(PacketNumber(3)).copied().expect("kept");
        assert_eq!((original.times, original.last_number, original.last_at), (2, PacketNumber(10), at(50)));
        assert_eq!(history.plain(&original), [3; 1200]);
        assert_eq!(history.get(PacketNumber(11)), None);
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_was_sent_newest_last(
            datagrams in prop::collection::vec((4usize..1500, 0u64..20), 1..600)
        ) {
            let (mut history, mut memory) = (History::default(), RepairMemory::default());
            let (mut ms, mut model) = (0, Vec::new());
            for (i, (bytes, later)) in datagrams.into_iter().enumerate() {
                ms += later;
                let plain: Vec<u8> = (0..bytes).map(|at| (at * 7 + i) as u8).collect();
                history.record(at(ms), PacketNumber(i as u64), URGENCY, &plain, &mut memory);
                model.push((PacketNumber(i as u64), at(ms), plain));
            }
            let kept = history.sent().len();
            prop_assert!(kept > 0);
            let expected = &model[model.len() - kept..];
            for (sent, (number, when, plain)) in history.sent().iter().zip(expected) {
                prop_assert_eq!((sent.number, sent.at, history.plain(sent)), (*number, *when, &plain[..]));
            }
            let forgotten = &model[..model.len() - kept];
            prop_assert!(forgotten.iter().all(|(_, when, _)| at(ms).since(*when) >= KEEP));
            let half = PacketNumber(model.len() as u64 / 2);
            history.forget_through(half);
            prop_assert!(history.sent().iter().all(|sent| sent.number > half));
        }
    }
}
