//! Frames that wait for the end of a wake-up, and how they are packed into trains.
//!
//! The kernel's segmentation offload takes datagrams of equal length, and what a packet costs depends mostly on how many
//! of them leave together. So: if everything fits one datagram, it travels in one. Otherwise the longest frames come
//! first, each in a datagram of its own, padded by a few bytes where that makes neighbours equal; the others follow,
//! several to a datagram. Frames of one stream never overtake each other: once one has been left for later, so are all
//! that follow it.

use crate::Train;
use std::ops::Range;
use wire_format::{
    FRAME_HEADER_BYTES, FrameKind, MEDIA_HEADER_MAX, PacketNumber, SEND_TIME_BYTES, WireTime, frame_header,
    send_time_bytes,
};

/// Frames that may wait on one link within one wake-up.
pub(crate) const QUEUE_FRAMES_MAX: usize = 8192;
const HEAD_BYTES_MAX: usize = FRAME_HEADER_BYTES + MEDIA_HEADER_MAX;
/// Padding of one datagram, bytes and share of its length.
const PAD_BYTES_MAX: usize = 32;
const PAD_PER_CENT_MAX: usize = 3;

/// Frames with the same lane keep their order. Streams share lanes; frames without one may overtake.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OrderLane(u64);

impl OrderLane {
    /// No order to keep.
    pub(crate) const NONE: OrderLane = OrderLane(0);

    /// The lane of a stream.
    pub(crate) fn of(number: u32) -> OrderLane {
        OrderLane(1 << (number & 63))
    }
}

#[derive(Clone, Debug)]
struct QueuedFrame {
    head: [u8; HEAD_BYTES_MAX],
    head_bytes: u8,
    sent: bool,
    lane: OrderLane,
    packet: Range<usize>,
}

impl QueuedFrame {
    fn bytes(&self) -> usize {
        usize::from(self.head_bytes) + self.packet.len()
    }

    fn write(&self, arena: &[u8], out: &mut [u8]) -> usize {
        let head = usize::from(self.head_bytes);
        out[..head].copy_from_slice(&self.head[..head]);
        out[head..self.bytes()].copy_from_slice(&arena[self.packet.clone()]);
        self.bytes()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Nothing of this wake-up has been packed yet.
    Fresh,
    /// Looking for frames about as long as the longest.
    Longest,
    /// Packing all that are left, in order.
    Rest,
}

/// The frames of one link that leave when the core is drained.
#[derive(Debug)]
pub(crate) struct SendQueue {
    frames: Vec<QueuedFrame>,
    total_bytes: usize,
    longest: usize,
    phase: Phase,
    cursor: usize,
    deferred: u64,
}

impl SendQueue {
    pub(crate) fn new() -> SendQueue {
        SendQueue {
            frames: Vec::new(),
            total_bytes: 0,
            longest: 0,
            phase: Phase::Fresh,
            cursor: 0,
            deferred: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Queues a frame: a head of at most [`MEDIA_HEADER_MAX`] bytes that `write_head` writes, then bytes of the arena.
    /// `false` if the queue is full.
    pub(crate) fn push(
        &mut self,
        kind: FrameKind,
        lane: OrderLane,
        packet: Range<usize>,
        write_head: impl FnOnce(&mut [u8]) -> usize,
    ) -> bool {
        if self.frames.len() >= QUEUE_FRAMES_MAX {
            return false;
        }
        let mut head = [0; HEAD_BYTES_MAX];
        let body_head = write_head(&mut head[FRAME_HEADER_BYTES..]);
        head[..FRAME_HEADER_BYTES].copy_from_slice(&frame_header(kind, body_head + packet.len()));
        let head_bytes = (FRAME_HEADER_BYTES + body_head) as u8;
        let frame = QueuedFrame { head, head_bytes, sent: false, lane, packet };
        self.total_bytes += frame.bytes();
        self.longest = self.longest.max(frame.bytes());
        self.frames.push(frame);
        true
    }

    /// Packs datagrams of at most `plain_max` bytes into `train` until it is full or nothing is left. Returns `true`
    /// when the queue is empty now. Every frame pushed must fit `plain_max`.
    pub(crate) fn pack(
        &mut self,
        arena: &[u8],
        time: WireTime,
        plain_max: usize,
        next_number: &mut u64,
        train: &mut Train,
    ) -> bool {
        let mut out = Packer { arena, time, next_number, train };
        if self.phase == Phase::Fresh {
            if SEND_TIME_BYTES + self.total_bytes <= plain_max {
                out.datagram(SEND_TIME_BYTES + self.total_bytes, &mut self.frames[..]);
                self.reset();
                return true;
            }
            self.phase = Phase::Longest;
        }
        if self.phase == Phase::Longest {
            if !self.pack_longest(&mut out) {
                return false;
            }
            self.phase = Phase::Rest;
            self.cursor = 0;
        }
        if self.pack_rest(plain_max, &mut out) {
            self.reset();
            return true;
        }
        false
    }

    /// One datagram for each frame about as long as the longest; `false` if the train is full before the end.
    fn pack_longest(&mut self, out: &mut Packer<'_>) -> bool {
        let plain_bytes = SEND_TIME_BYTES + self.longest;
        let shortest = self.longest - pad_max(plain_bytes);
        while let Some(frame) = self.frames.get_mut(self.cursor) {
            if frame.bytes() < shortest || self.deferred & frame.lane.0 != 0 {
                self.deferred |= frame.lane.0;
            } else if out.train.fits(plain_bytes) {
                out.datagram(plain_bytes, std::slice::from_mut(frame));
            } else {
                return false;
            }
            self.cursor += 1;
        }
        true
    }

    /// As many frames to a datagram as fit, in order; `false` if the train is full before the end.
    fn pack_rest(&mut self, plain_max: usize, out: &mut Packer<'_>) -> bool {
        loop {
            while self.frames.get(self.cursor).is_some_and(|frame| frame.sent) {
                self.cursor += 1;
            }
            if self.cursor == self.frames.len() {
                return true;
            }
            let segment = out.train.slots().first().map_or(0, |slot| slot.plain().len());
            let cap = if segment == 0 { plain_max } else { segment };
            let mut plain_bytes = SEND_TIME_BYTES;
            let mut end = self.cursor;
            while let Some(frame) = self.frames.get(end) {
                if !frame.sent {
                    if plain_bytes + frame.bytes() > cap {
                        break;
                    }
                    plain_bytes += frame.bytes();
                }
                end += 1;
            }
            if end == self.cursor || !out.train.fits(plain_bytes) {
                return false;
            }
            if segment > plain_bytes && segment - plain_bytes <= pad_max(segment) {
                plain_bytes = segment;
            }
            out.datagram(plain_bytes, &mut self.frames[self.cursor..end]);
            self.cursor = end;
        }
    }

    fn reset(&mut self) {
        self.frames.clear();
        self.total_bytes = 0;
        self.longest = 0;
        self.phase = Phase::Fresh;
        self.cursor = 0;
        self.deferred = 0;
    }
}

fn pad_max(plain_bytes: usize) -> usize {
    PAD_BYTES_MAX.min(plain_bytes * PAD_PER_CENT_MAX / 100)
}

struct Packer<'a> {
    arena: &'a [u8],
    time: WireTime,
    next_number: &'a mut u64,
    train: &'a mut Train,
}

impl Packer<'_> {
    /// Appends a datagram of `plain_bytes` with all frames not yet sent, padded with zeros.
    fn datagram(&mut self, plain_bytes: usize, frames: &mut [QueuedFrame]) {
        let number = PacketNumber(*self.next_number);
        *self.next_number += 1;
        let plain = self.train.append(number, plain_bytes);
        plain[..SEND_TIME_BYTES].copy_from_slice(&send_time_bytes(self.time));
        let mut at = SEND_TIME_BYTES;
        for frame in frames.iter_mut().filter(|frame| !frame.sent) {
            at += frame.write(self.arena, &mut plain[at..]);
            frame.sent = true;
        }
        plain[at..].fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wire_format::frames;

    const PLAIN_MAX: usize = 1400;

    /// Length of a datagram, and its frames as (stream, place in the input).
    type Datagram = (usize, Vec<(u32, u32)>);

    /// Packs frames of (stream, length) and returns trains of datagrams, each a list of (stream, place in the input).
    fn pack(input: &[(u32, usize)]) -> Vec<Vec<Datagram>> {
        let arena = vec![7; 2000];
        let mut queue = SendQueue::new();
        for (place, (stream, bytes)) in input.iter().enumerate() {
            let pushed = queue.push(FrameKind::Edge, OrderLane::of(*stream), 0..*bytes, |head| {
                head[..4].copy_from_slice(&stream.to_be_bytes());
                head[4..8].copy_from_slice(&(place as u32).to_be_bytes());
                8
            });
            assert!(pushed);
        }
        let (mut trains, mut train, mut number) = (Vec::new(), Train::new(), 0);
        while !queue.is_empty() {
            train.clear();
            queue.pack(&arena, WireTime::default(), PLAIN_MAX, &mut number, &mut train);
            let datagrams = train.slots().iter().map(|slot| {
                let plain = &train.bytes()[slot.plain()];
                let list = frames(plain).map(|frame| {
                    let body = &plain[frame.expect("well-formed").body];
                    let word = |at: usize| u32::from_be_bytes(body[at..at + 4].try_into().expect("4 bytes"));
                    (word(0), word(4))
                });
                (plain.len(), list.collect())
            });
            trains.push(datagrams.collect::<Vec<_>>());
        }
        assert_eq!(number as usize, trains.iter().map(Vec::len).sum::<usize>());
        trains
    }

    #[test]
    fn equal_packets_leave_in_one_train() {
        let trains = pack(&[(1, 1200); 50]);
        assert_eq!(trains.iter().map(Vec::len).collect::<Vec<_>>(), [50]);
    }

    #[test]
    fn what_fits_one_datagram_travels_in_one() {
        let trains = pack(&[(1, 1000), (2, 100), (3, 120)]);
        assert_eq!(trains.iter().map(Vec::len).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn short_frames_ride_together_behind_the_long_ones() {
        let trains = pack(&[(1, 1200), (2, 100), (1, 1195), (3, 120), (1, 1200), (1, 300)]);
        let datagrams: Vec<_> = trains.concat().into_iter().map(|(_, list)| list).collect();
        assert_eq!(datagrams[..3], [vec![(1, 0)], vec![(1, 2)], vec![(1, 4)]]);
        assert_eq!(datagrams[3..].concat(), [(2, 1), (3, 3), (1, 5)]);
        assert_eq!(trains.len(), 1, "the shorter last datagram joins the train");
    }

    proptest! {
        #[test]
        fn every_frame_leaves_once_in_the_order_of_its_stream(
            input in prop::collection::vec((0u32..5, 1usize..1300), 1..300)
        ) {
            let trains = pack(&input);
            let mut seen = Vec::new();
            for train in &trains {
                prop_assert!(train.len() <= Train::DATAGRAMS_MAX);
                let first = train[0].0;
                for (i, (plain_bytes, list)) in train.iter().enumerate() {
                    prop_assert!(*plain_bytes <= PLAIN_MAX);
                    prop_assert!(*plain_bytes == first || (i == train.len() - 1 && *plain_bytes < first));
                    prop_assert!(!list.is_empty());
                    seen.extend(list.iter().copied());
                }
            }
            prop_assert_eq!(seen.len(), input.len());
            for stream in 0..5 {
                let places: Vec<_> = seen.iter().filter(|(s, _)| *s == stream).map(|(_, place)| *place).collect();
                prop_assert!(places.is_sorted());
            }
            seen.sort_by_key(|(_, place)| *place);
            seen.dedup();
            prop_assert_eq!(seen.len(), input.len());
        }
    }
}
