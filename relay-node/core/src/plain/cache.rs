//! The last packets of a stream, for subscribers that ask for one again.

use std::time::Duration;
use wire_format::{MediaKind, SubscriptionId, Timestamp};

/// Packets remembered.
const PACKETS: usize = 512;
/// Bytes of packets remembered of a video stream, and of an audio stream.
const VIDEO_BYTES: usize = 512 * 1024;
const AUDIO_BYTES: usize = 64 * 1024;
/// A packet that is older is of no use to anyone.
const AGE_MAX: Duration = Duration::from_secs(1);
/// An answer under way is not sent again to the same subscriber.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug)]
struct Entry {
    ssrc: u32,
    sequence: u16,
    /// Where its bytes begin, counted from the beginning of the stream.
    at: u64,
    bytes: usize,
    stored: Timestamp,
    /// Whom it was sent again to, and when.
    answered: Option<(SubscriptionId, Timestamp)>,
}

/// What becomes of a request for a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// Here it is.
    Here { at: u64, bytes: usize },
    /// It was sent to the same subscriber a moment ago.
    JustSent,
    /// It is not here.
    Absent,
}

/// A ring of packets.
#[derive(Debug)]
pub(crate) struct Cache {
    /// By the low bits of the sequence number.
    entries: Box<[Option<Entry>]>,
    bytes: Box<[u8]>,
    /// Bytes written since the beginning.
    written: u64,
}

impl Cache {
    pub(crate) fn new(kind: MediaKind) -> Cache {
        let bytes = match kind {
            MediaKind::Audio => AUDIO_BYTES,
            MediaKind::Video => VIDEO_BYTES,
        };
        Cache {
            entries: vec![None; PACKETS].into_boxed_slice(),
            bytes: vec![0; bytes].into_boxed_slice(),
            written: 0,
        }
    }

    /// Remembers a packet. `answers`: it was asked for before it came, and is on its way to that subscriber.
    pub(crate) fn store(
        &mut self,
        now: Timestamp,
        ssrc: u32,
        sequence: u16,
        packet: &[u8],
        answers: Option<SubscriptionId>,
    ) {
        let size = self.bytes.len() as u64;
        if packet.len() > self.bytes.len() {
            return;
        }
        let mut at = self.written;
        let before_the_end = size - at % size;
        if (packet.len() as u64) > before_the_end {
            // Packets are not cut in two.
            at += before_the_end;
        }
        let start = (at % size) as usize;
        self.bytes[start..start + packet.len()].copy_from_slice(packet);
        self.written = at + packet.len() as u64;
        self.entries[usize::from(sequence) % PACKETS] = Some(Entry {
            ssrc,
            sequence,
            at,
            bytes: packet.len(),
            stored: now,
            answered: answers.map(|subscription| (subscription, now)),
        });
    }

    /// Looks for a packet that a subscriber asks for again.
    pub(crate) fn ask(
        &mut self,
        now: Timestamp,
        ssrc: u32,
        sequence: u16,
        subscription: SubscriptionId,
    ) -> Found {
        let size = self.bytes.len() as u64;
        let written = self.written;
        let entry = self.entries[usize::from(sequence) % PACKETS].as_mut().filter(|entry| {
            (entry.ssrc, entry.sequence) == (ssrc, sequence)
                && now.since(entry.stored) <= AGE_MAX
                && entry.at + size >= written
        });
        let Some(entry) = entry else { return Found::Absent };
        if entry.answered.is_some_and(|(other, at)| other == subscription && now.since(at) < AGAIN_AFTER) {
            return Found::JustSent;
        }
        entry.answered = Some((subscription, now));
        Found::Here { at: entry.at, bytes: entry.bytes }
    }

    /// The bytes of a packet, unless others have taken their place.
    pub(crate) fn bytes(&self, at: u64, bytes: usize) -> Option<&[u8]> {
        let size = self.bytes.len() as u64;
        if at + size < self.written {
            return None;
        }
        let start = (at % size) as usize;
        self.bytes.get(start..start + bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SubscriptionId = SubscriptionId(1);
    const B: SubscriptionId = SubscriptionId(2);

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_micros(ms * 1000)
    }

    #[test]
    fn a_packet_is_given_once_to_each_within_a_moment() {
        let mut cache = Cache::new(MediaKind::Audio);
        cache.store(at(0), 7, 65535, b"abc", None);
        let here = Found::Here { at: 0, bytes: 3 };
        assert_eq!(cache.ask(at(1), 7, 65535, A), here);
        assert_eq!(cache.ask(at(2), 7, 65535, A), Found::JustSent);
        assert_eq!(cache.ask(at(2), 7, 65535, B), here);
        assert_eq!(cache.ask(at(30), 7, 65535, A), here);
        assert_eq!(cache.ask(at(30), 8, 65535, A), Found::Absent);
        assert_eq!(cache.ask(at(30), 7, 511, A), Found::Absent);
        assert_eq!(cache.ask(at(1001), 7, 65535, A), Found::Absent);
        assert_eq!(cache.bytes(0, 3), Some(&b"abc"[..]));
    }

    #[test]
    fn old_packets_make_room_and_are_not_mistaken_for_new_ones() {
        let mut cache = Cache::new(MediaKind::Audio);
        let packet = |n: u16| vec![n as u8; 1000];
        for n in 0..200 {
            cache.store(at(0), 7, n, &packet(n), None);
        }
        let kept: Vec<u16> =
            (0..200).filter(|n| matches!(cache.ask(at(0), 7, *n, A), Found::Here { .. })).collect();
        assert!(kept.len() >= AUDIO_BYTES / 1000 - 1, "{}", kept.len());
        assert!(kept.iter().all(|n| *n >= 200 - 66), "{kept:?}");
        for n in kept {
            let Found::Here { at: place, bytes } = cache.ask(at(40), 7, n, A) else { panic!("just seen") };
            assert_eq!(cache.bytes(place, bytes), Some(&packet(n)[..]));
        }
        assert_eq!(cache.bytes(0, 1000), None, "written over");
    }
}
