//! A train: datagrams of equal length for one link, contiguous in memory, so that the driver can seal each in place and
//! hand all of them to the kernel in one call (UDP GSO).

use std::ops::Range;
use wire_format::{PacketNumber, SEAL_OVERHEAD_BYTES, SEALED_HEADER_BYTES, TAG_BYTES};

/// One datagram of a train. Its sealed form occupies `sealed`, of which the plain bytes are the middle.
#[derive(Clone, Debug)]
pub struct TrainSlot {
    /// Its number, unique on the link and direction.
    pub number: PacketNumber,
    /// Header, plain bytes and room for the tag.
    pub sealed: Range<usize>,
}

impl TrainSlot {
    /// The plain bytes.
    pub fn plain(&self) -> Range<usize> {
        self.sealed.start + SEALED_HEADER_BYTES..self.sealed.end - TAG_BYTES
    }
}

/// A buffer that a core fills and a driver seals and sends. Reused for every train; never grows.
#[derive(Debug)]
pub struct Train {
    bytes: Box<[u8]>,
    used: usize,
    slots: Vec<TrainSlot>,
    /// Sealed length of the first datagram; 0 when empty.
    segment: usize,
    /// The last datagram is shorter than the first.
    ended: bool,
}

impl Train {
    /// Most datagrams in a train (the kernel's UDP_MAX_SEGMENTS before 6.9).
    pub const DATAGRAMS_MAX: usize = 64;
    /// Most bytes in a train (the kernel's limit for one UDP send, less IPv6 and UDP headers).
    pub const BYTES_MAX: usize = 65_487;

    /// An empty train.
    pub fn new() -> Train {
        Train {
            bytes: vec![0; Train::BYTES_MAX].into_boxed_slice(),
            used: 0,
            slots: Vec::with_capacity(Train::DATAGRAMS_MAX),
            segment: 0,
            ended: false,
        }
    }

    /// Forgets all datagrams.
    pub fn clear(&mut self) {
        self.used = 0;
        self.slots.clear();
        (self.segment, self.ended) = (0, false);
    }

    /// No datagram in it.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The datagrams, in order.
    pub fn slots(&self) -> &[TrainSlot] {
        &self.slots
    }

    /// Sealed length of each datagram but perhaps the last; 0 when empty.
    pub fn segment_bytes(&self) -> usize {
        self.segment
    }

    /// Slots and all bytes of the train, to seal in place.
    pub fn parts_mut(&mut self) -> (&[TrainSlot], &mut [u8]) {
        (&self.slots, &mut self.bytes[..self.used])
    }

    /// All bytes of the train: every datagram, back to back.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }

    /// Whether a datagram of `plain_bytes` may be appended: within the kernel's limits, not longer than the first, and
    /// none after a shorter one.
    pub fn fits(&self, plain_bytes: usize) -> bool {
        let sealed_bytes = plain_bytes + SEAL_OVERHEAD_BYTES;
        self.used + sealed_bytes <= Train::BYTES_MAX
            && self.slots.len() < Train::DATAGRAMS_MAX
            && (self.segment == 0 || (sealed_bytes <= self.segment && !self.ended))
    }

    /// Appends a datagram of exactly `plain_bytes` and returns them to be filled (their content is arbitrary).
    ///
    /// # Panics
    /// If it does not fit: ask [`Train::fits`] first.
    pub fn append(&mut self, number: PacketNumber, plain_bytes: usize) -> &mut [u8] {
        assert!(self.fits(plain_bytes), "the caller asked fits()");
        let sealed_bytes = plain_bytes + SEAL_OVERHEAD_BYTES;
        let sealed = self.used..self.used + sealed_bytes;
        self.used = sealed.end;
        if self.segment == 0 {
            self.segment = sealed_bytes;
        }
        self.ended = sealed_bytes < self.segment;
        let slot = TrainSlot { number, sealed };
        let plain = slot.plain();
        self.slots.push(slot);
        &mut self.bytes[plain]
    }
}

impl Default for Train {
    fn default() -> Train {
        Train::new()
    }
}
