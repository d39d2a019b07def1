//! Frames that wait for the end of a wake-up, and how they are packed into trains.
//!
//! The kernel's segmentation offload takes datagrams of equal length, and what a packet costs depends mostly on how many
//! of them leave together. So: if everything fits one datagram, it travels in one. Otherwise the longest frames come
//! first, each in a datagram of its own, padded by a few bytes where that makes neighbours equal; the others follow,
//! several to a datagram. Frames of one stream never overtake each other: once one has been left for later, so are all
//! that follow it.
//!
//! A frame that fits no datagram is cut in two: equal halves, next to each other, so that they make trains like other
//! frames, the other end rarely waits for one, and a lost datagram costs one frame.

use crate::Train;
use crate::annex::packet_bytes;
use crate::repair::{Repair, RepairMemory, Urgency};
use std::ops::Range;
use wire_format::{
    DATAGRAM_BYTES_BASE, FRAGMENT_HEADER_BYTES, FRAME_BODY_MAX, FRAME_HEADER_BYTES, FragmentHeader,
    FrameKind, MEDIA_HEADER_MAX, PacketNumber, SEAL_OVERHEAD_BYTES, SEND_TIME_BYTES, Timestamp, frame_header,
    send_time_bytes,
};

/// Frames that may wait on one link within one wake-up.
pub(crate) const QUEUE_FRAMES_MAX: usize = 8192;
/// Those of a first half: its own header, then that of the frame.
const HEAD_BYTES_MAX: usize = HALF_HEAD_BYTES + FRAME_HEADER_BYTES + MEDIA_HEADER_MAX;
/// A half's own header.
const HALF_HEAD_BYTES: usize = FRAME_HEADER_BYTES + FRAGMENT_HEADER_BYTES;
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

/// What a frame that is taken out is, beside its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) kind: FrameKind,
    pub(crate) lane: OrderLane,
    pub(crate) urgency: Option<Urgency>,
}

#[derive(Clone, Debug)]
struct QueuedFrame {
    /// Where its head begins in the queue's bytes of heads.
    head_at: usize,
    head_bytes: u8,
    sent: bool,
    kind: FrameKind,
    /// Of frames that may have to go again.
    urgency: Option<Urgency>,
    lane: OrderLane,
    packet: Range<usize>,
}

impl QueuedFrame {
    fn bytes(&self) -> usize {
        usize::from(self.head_bytes) + self.packet.len()
    }

    fn head<'a>(&self, heads: &'a [u8]) -> &'a [u8] {
        &heads[self.head_at..][..usize::from(self.head_bytes)]
    }

    fn write(&self, heads: &[u8], arena: &[u8], annex: &[u8], out: &mut [u8]) -> usize {
        let (head, packet) = out[..self.bytes()].split_at_mut(usize::from(self.head_bytes));
        head.copy_from_slice(self.head(heads));
        packet.copy_from_slice(packet_bytes(arena, annex, &self.packet));
        self.bytes()
    }
}

/// What became of a frame that was pushed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pushed {
    /// It leaves in one piece.
    Whole,
    /// It leaves in two.
    Cut,
}

/// Why a frame was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// As many frames wait as may.
    Full,
    /// It fits neither a datagram nor two, or the other end rejoins nothing.
    TooLarge,
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
    /// Bytes of their heads, the first `heads_bytes` of it; never shortened.
    heads: Vec<u8>,
    heads_bytes: usize,
    total_bytes: usize,
    longest: usize,
    phase: Phase,
    cursor: usize,
    deferred: u64,
    plain_max: usize,
    may_cut: bool,
    cuts: u16,
}

impl SendQueue {
    /// An empty queue for datagrams of so many plain bytes at most.
    pub(crate) fn new(plain_max: usize) -> SendQueue {
        SendQueue {
            plain_max,
            may_cut: false,
            cuts: 0,
            frames: Vec::new(),
            heads: Vec::new(),
            heads_bytes: 0,
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

    /// Bytes of the frames that wait.
    pub(crate) fn total_bytes(&self) -> usize {
        self.total_bytes
    }

    /// Takes out media and edge frames, in order and whole: kind and lane, head of the body, place of the packet. What
    /// stays is thin. Only before any of them is packed.
    pub(crate) fn take_media(&mut self, mut take: impl FnMut(Held, &[u8], Range<usize>)) {
        debug_assert!(self.phase == Phase::Fresh, "nothing is packed yet");
        let mut frames = std::mem::take(&mut self.frames);
        let (mut at, mut kept) = (0, 0);
        while let Some(frame) = frames.get(at) {
            let head = frame.head(&self.heads);
            let is_half = is_of(head, FrameKind::Fragment);
            let whole = if is_half { &head[HALF_HEAD_BYTES..] } else { head };
            let kind = [FrameKind::Media, FrameKind::Edge].into_iter().find(|kind| is_of(whole, *kind));
            let Some(kind) = kind else {
                frames.swap(at, kept);
                (at, kept) = (at + 1, kept + 1);
                continue;
            };
            // Halves are neighbours, here and in memory.
            let pieces = 1 + usize::from(is_half);
            let packet = frame.packet.start..frames[at + pieces - 1].packet.end;
            let urgency = frame.urgency;
            take(Held { kind, lane: frame.lane, urgency }, &whole[FRAME_HEADER_BYTES..], packet);
            at += pieces;
        }
        frames.truncate(kept);
        self.total_bytes = frames.iter().map(QueuedFrame::bytes).sum();
        self.longest = frames.iter().map(QueuedFrame::bytes).max().unwrap_or(0);
        self.frames = frames;
        if self.frames.is_empty() {
            self.heads_bytes = 0;
        }
    }

    /// Nothing of what waits has been packed yet.
    pub(crate) fn is_fresh(&self) -> bool {
        self.phase == Phase::Fresh
    }

    /// All that waits, and so many bytes more, leave in one datagram that every path takes.
    pub(crate) fn is_small_with(&self, bytes: usize) -> bool {
        let plain_bytes = SEND_TIME_BYTES + self.total_bytes + FRAME_HEADER_BYTES + bytes;
        plain_bytes + SEAL_OVERHEAD_BYTES <= DATAGRAM_BYTES_BASE
    }

    /// Sets how large plain datagrams may be, and whether frames beyond that may be cut. Only while nothing waits: what
    /// waits was measured by the limits before.
    pub(crate) fn set_limits(&mut self, plain_max: usize, may_cut: bool) {
        debug_assert!(self.is_empty(), "frames keep the limits that they were pushed under");
        self.plain_max = plain_max;
        self.may_cut = may_cut;
    }

    /// Queues a frame: a head of at most [`MEDIA_HEADER_MAX`] bytes that `write_head` writes, then bytes of the arena or
    /// the annex.
    pub(crate) fn push(
        &mut self,
        kind: FrameKind,
        urgency: Option<Urgency>,
        lane: OrderLane,
        packet: Range<usize>,
        write_head: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<Pushed, Refused> {
        if self.frames.len() >= QUEUE_FRAMES_MAX {
            return Err(Refused::Full);
        }
        let body_head = write_head(&mut self.next_head()[FRAME_HEADER_BYTES..]);
        let head_bytes = FRAME_HEADER_BYTES + body_head;
        if SEND_TIME_BYTES + head_bytes + packet.len() > self.plain_max {
            return self.push_halves(kind, urgency, lane, packet, body_head);
        }
        let frame_head = frame_header(kind, body_head + packet.len());
        self.heads[self.heads_bytes..][..FRAME_HEADER_BYTES].copy_from_slice(&frame_head);
        self.queue(kind, urgency, lane, head_bytes, packet);
        Ok(Pushed::Whole)
    }

    /// Room for the head of the next frame.
    fn next_head(&mut self) -> &mut [u8] {
        let end = self.heads_bytes + HEAD_BYTES_MAX;
        if self.heads.len() < end {
            self.heads.resize(end.next_power_of_two(), 0);
        }
        &mut self.heads[self.heads_bytes..end]
    }

    /// Queues a frame whose head, of so many bytes, has been written to [`SendQueue::next_head`].
    fn queue(
        &mut self,
        kind: FrameKind,
        urgency: Option<Urgency>,
        lane: OrderLane,
        head_bytes: usize,
        packet: Range<usize>,
    ) {
        let head_at = self.heads_bytes;
        self.heads_bytes += head_bytes;
        let head_bytes = head_bytes as u8;
        let frame = QueuedFrame { head_at, head_bytes, sent: false, kind, urgency, lane, packet };
        self.total_bytes += frame.bytes();
        self.longest = self.longest.max(frame.bytes());
        self.frames.push(frame);
    }

    /// Cuts a frame, the head of whose body has been written to [`SendQueue::next_head`], and queues both halves.
    #[cold]
    fn push_halves(
        &mut self,
        kind: FrameKind,
        urgency: Option<Urgency>,
        lane: OrderLane,
        packet: Range<usize>,
        body_head: usize,
    ) -> Result<Pushed, Refused> {
        let body = body_head + packet.len();
        let frame = FRAME_HEADER_BYTES + body;
        let first = frame.div_ceil(2);
        let fits = SEND_TIME_BYTES + HALF_HEAD_BYTES + first <= self.plain_max;
        if !self.may_cut || body > FRAME_BODY_MAX || !fits {
            return Err(Refused::TooLarge);
        }
        if self.frames.len() + 2 > QUEUE_FRAMES_MAX {
            return Err(Refused::Full);
        }
        self.cuts = self.cuts.wrapping_add(1);
        // The head is far shorter than a half of what fits no datagram.
        let cut = packet.start + first - FRAME_HEADER_BYTES - body_head;
        for (second, share, packet) in
            [(false, first, packet.start..cut), (true, frame - first, cut..packet.end)]
        {
            let fragment = FragmentHeader { id: self.cuts, second };
            let head = self.next_head();
            let mut head_bytes = HALF_HEAD_BYTES;
            if !second {
                let body_at = HALF_HEAD_BYTES + FRAME_HEADER_BYTES;
                head.copy_within(FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + body_head, body_at);
                head[HALF_HEAD_BYTES..body_at].copy_from_slice(&frame_header(kind, body));
                head_bytes = body_at + body_head;
            }
            head[..FRAME_HEADER_BYTES]
                .copy_from_slice(&frame_header(FrameKind::Fragment, FRAGMENT_HEADER_BYTES + share));
            head[FRAME_HEADER_BYTES..HALF_HEAD_BYTES].copy_from_slice(&fragment.encode());
            self.queue(FrameKind::Fragment, urgency, lane, head_bytes, packet);
        }
        Ok(Pushed::Cut)
    }

    /// Packs datagrams into `train` until it is full or nothing is left. Returns `true` when the queue is empty now.
    pub(crate) fn pack(
        &mut self,
        now: Timestamp,
        (arena, annex): (&[u8], &[u8]),
        next_number: &mut u64,
        (repair, memory): (&mut Repair, &mut RepairMemory),
        train: &mut Train,
    ) -> bool {
        let plain_max = self.plain_max;
        let sent = send_time_bytes(now.wire());
        let mut out = Packer { now, sent, arena, annex, next_number, repair, memory, train };
        if self.phase == Phase::Fresh {
            if SEND_TIME_BYTES + self.total_bytes <= plain_max {
                out.datagram(SEND_TIME_BYTES + self.total_bytes, &self.heads, &mut self.frames[..]);
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
                out.datagram(plain_bytes, &self.heads, std::slice::from_mut(frame));
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
            out.datagram(plain_bytes, &self.heads, &mut self.frames[self.cursor..end]);
            self.cursor = end;
        }
    }

    fn reset(&mut self) {
        self.frames.clear();
        self.heads_bytes = 0;
        self.total_bytes = 0;
        self.longest = 0;
        self.phase = Phase::Fresh;
        self.cursor = 0;
        self.deferred = 0;
    }
}

/// Whether a frame that begins so is of a kind.
fn is_of(head: &[u8], kind: FrameKind) -> bool {
    head.first().map(|first| first >> 3) == frame_header(kind, 0).first().map(|first| first >> 3)
}

fn pad_max(plain_bytes: usize) -> usize {
    PAD_BYTES_MAX.min(plain_bytes * PAD_PER_CENT_MAX / 100)
}

struct Packer<'a> {
    now: Timestamp,
    /// The same as it travels.
    sent: [u8; SEND_TIME_BYTES],
    arena: &'a [u8],
    annex: &'a [u8],
    next_number: &'a mut u64,
    repair: &'a mut Repair,
    memory: &'a mut RepairMemory,
    train: &'a mut Train,
}

impl Packer<'_> {
    /// Appends a datagram of `plain_bytes` with all frames not yet sent, padded with zeros; remembers those that may have
    /// to go again.
    fn datagram(&mut self, plain_bytes: usize, heads: &[u8], frames: &mut [QueuedFrame]) {
        let number = PacketNumber(*self.next_number);
        *self.next_number += 1;
        let plain = self.train.append(number, plain_bytes);
        plain[..SEND_TIME_BYTES].copy_from_slice(&self.sent);
        let (mut at, mut urgency, mut feedback_bytes) = (SEND_TIME_BYTES, None::<Urgency>, 0);
        for frame in frames.iter_mut().filter(|frame| !frame.sent) {
            let bytes = frame.write(heads, self.arena, self.annex, &mut plain[at..]);
            at += bytes;
            frame.sent = true;
            match frame.urgency {
                Some(own) => urgency = Some(urgency.map_or(own, |others| others.and(own))),
                None => feedback_bytes += self.repair.stats.count_feedback(frame.kind, bytes),
            }
        }
        if at < plain.len() {
            plain[at..].fill(0);
        }
        let bytes = plain.len() + SEAL_OVERHEAD_BYTES;
        match urgency {
            Some(urgency) => {
                self.repair.stats.first += 1;
                self.repair.stats.first_bytes += (bytes - feedback_bytes) as u64;
                self.repair.media_left(self.now, number, urgency, plain, self.memory);
            }
            // A datagram of its own, with all that belongs to it.
            None => {
                if let Some(frame) = frames.first() {
                    let _ = self.repair.stats.count_feedback(frame.kind, bytes - feedback_bytes);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rejoin::Rejoin;
    use proptest::prelude::*;
    use wire_format::{Priority, Slack, frames};

    const PLAIN_MAX: usize = 1400;

    /// Length of a datagram, and its frames as (stream, place in the input).
    type Datagram = (usize, Vec<(u32, u32)>);

    /// Packs frames of (stream, length) and returns trains of datagrams, each a list of (stream, place in the input).
    fn pack(input: &[(u32, usize)]) -> Vec<Vec<Datagram>> {
        let arena = vec![7; 2000];
        let mut queue = SendQueue::new(PLAIN_MAX);
        for (place, (stream, bytes)) in input.iter().enumerate() {
            let pushed = queue.push(FrameKind::Edge, None, OrderLane::of(*stream), 0..*bytes, |head| {
                head[..4].copy_from_slice(&stream.to_be_bytes());
                head[4..8].copy_from_slice(&(place as u32).to_be_bytes());
                8
            });
            assert_eq!(pushed, Ok(Pushed::Whole));
        }
        let (mut trains, mut train, mut number) = (Vec::new(), Train::new(), 0);
        let (mut repair, mut memory) = (Repair::new(Timestamp::ZERO), RepairMemory::default());
        while !queue.is_empty() {
            train.clear();
            let kept = (&mut repair, &mut memory);
            queue.pack(Timestamp::ZERO, (&arena, &[]), &mut number, kept, &mut train);
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

    /// Pushes an edge frame with a head of 9 bytes and so long a packet.
    fn push(queue: &mut SendQueue, packet: usize) -> Result<Pushed, Refused> {
        queue.push(FrameKind::Edge, None, OrderLane::of(1), 0..packet, |head| {
            head[..9].copy_from_slice(b"edge head");
            9
        })
    }

    #[test]
    fn frames_that_fit_no_datagram_leave_in_equal_halves_one_behind_the_other() {
        let arena: Vec<u8> = (0..2000u32).map(|i| i as u8).collect();
        let mut queue = SendQueue::new(1155);
        queue.set_limits(1155, true);
        assert_eq!(push(&mut queue, 1141), Ok(Pushed::Whole), "3 + 2 + 9 + 1,141 = 1,155");
        for packet in [1142, 1472, 1961] {
            assert_eq!(push(&mut queue, packet), Ok(Pushed::Cut));
        }
        let (mut train, mut number, mut whole, mut datagrams) = (Train::new(), 0, Vec::new(), 0);
        let mut packets = Vec::new();
        let (mut repair, mut memory) = (Repair::new(Timestamp::ZERO), RepairMemory::default());
        while !queue.is_empty() {
            train.clear();
            let kept = (&mut repair, &mut memory);
            queue.pack(Timestamp::ZERO, (&arena, &[]), &mut number, kept, &mut train);
            for slot in train.slots() {
                let plain = &train.bytes()[slot.plain()];
                assert!(plain.len() <= 1155);
                datagrams += 1;
                for frame in frames(plain) {
                    let frame = frame.expect("well-formed");
                    let body = &plain[frame.body];
                    if frame.kind == FrameKind::Edge {
                        packets.push(body[9..].to_vec());
                        continue;
                    }
                    let header = FragmentHeader::decode(body).expect("well-formed");
                    assert_eq!(frame.kind, FrameKind::Fragment);
                    if !header.second {
                        whole.clear();
                    }
                    whole.extend(&body[FRAGMENT_HEADER_BYTES..]);
                    if header.second {
                        let frame = wire_format::whole_frame(&whole).expect("whole");
                        assert_eq!((frame.kind, &whole[2..11]), (FrameKind::Edge, &b"edge head"[..]));
                        packets.push(whole[11..].to_vec());
                    }
                }
            }
        }
        packets.sort_by_key(Vec::len);
        assert_eq!(packets.iter().map(Vec::len).collect::<Vec<_>>(), [1141, 1142, 1472, 1961]);
        assert!(packets.iter().all(|packet| *packet == arena[..packet.len()]));
        assert_eq!(datagrams, 7);
    }

    #[test]
    fn halves_make_trains_like_other_frames() {
        let mut queue = SendQueue::new(1155);
        queue.set_limits(1155, true);
        for _ in 0..20 {
            assert_eq!(push(&mut queue, 1472), Ok(Pushed::Cut));
        }
        let (mut train, mut number) = (Train::new(), 0);
        let (mut repair, mut memory) = (Repair::new(Timestamp::ZERO), RepairMemory::default());
        let kept = (&mut repair, &mut memory);
        assert!(queue.pack(Timestamp::ZERO, (&[0; 1472], &[]), &mut number, kept, &mut train));
        assert_eq!(train.slots().len(), 40);
    }

    #[test]
    fn media_that_was_cut_is_kept_in_case_it_has_to_go_again() {
        let mut queue = SendQueue::new(1155);
        queue.set_limits(1155, true);
        let arena: Vec<u8> = (0..1500u32).map(|i| i as u8).collect();
        let urgency = Urgency { priority: Priority::VIDEO, slack: Slack(2000) };
        let pushed = queue.push(FrameKind::Media, Some(urgency), OrderLane::of(1), 10..1482, |head| {
            head[..5].copy_from_slice(b"media");
            5
        });
        assert_eq!(pushed, Ok(Pushed::Cut));
        let (mut repair, mut memory) = (Repair::new(Timestamp::ZERO), RepairMemory::default());
        let (mut train, mut number) = (Train::new(), 0);
        let kept = (&mut repair, &mut memory);
        queue.pack(Timestamp::ZERO, (&arena, &[]), &mut number, kept, &mut train);
        let (mut rejoin, mut whole, mut frame) = (Rejoin::default(), Vec::new(), None);
        assert_eq!(repair.history.sent().len(), 2, "both halves");
        for sent in repair.history.sent() {
            let plain = repair.history.plain(sent);
            let half = frames(plain).next().expect("a frame").expect("well-formed");
            frame = rejoin.half(Timestamp::ZERO, &plain[half.body], &mut whole).expect("a half");
        }
        let frame = frame.expect("both halves");
        assert_eq!(
            (frame.kind, &whole[2..7], &whole[7..]),
            (FrameKind::Media, &b"media"[..], &arena[10..1482])
        );
    }

    #[test]
    fn media_can_be_taken_out_again_whole_and_in_order() {
        let mut queue = SendQueue::new(1155);
        queue.set_limits(1155, true);
        for (place, packet) in [10..500, 500..1972, 1972..1973].into_iter().enumerate() {
            let heartbeat = queue.push(FrameKind::Heartbeat, None, OrderLane::NONE, 0..0, |_| 17 + place);
            assert_eq!(heartbeat, Ok(Pushed::Whole));
            let kind = if place == 2 { FrameKind::Media } else { FrameKind::Edge };
            queue
                .push(kind, None, OrderLane::of(1), packet, |head| {
                    head[..9].copy_from_slice(b"some head");
                    9
                })
                .expect("it fits");
        }
        let mut taken = Vec::new();
        queue.take_media(|held, head, packet| taken.push((held.kind, head.to_vec(), packet)));
        let head = b"some head".to_vec();
        assert_eq!(
            taken,
            [
                (FrameKind::Edge, head.clone(), 10..500),
                (FrameKind::Edge, head.clone(), 500..1972),
                (FrameKind::Media, head, 1972..1973),
            ]
        );
        assert_eq!(queue.total_bytes(), 19 + 20 + 21);
        let (mut train, mut number) = (Train::new(), 0);
        let (mut repair, mut memory) = (Repair::new(Timestamp::ZERO), RepairMemory::default());
        let kept = (&mut repair, &mut memory);
        assert!(queue.pack(Timestamp::ZERO, (&[], &[]), &mut number, kept, &mut train));
        assert_eq!((train.slots().len(), number), (1, 1));
    }

    #[test]
    fn what_cannot_be_cut_is_refused() {
        let mut queue = SendQueue::new(1155);
        assert_eq!(push(&mut queue, 1142), Err(Refused::TooLarge), "the other end rejoins nothing");
        queue.set_limits(1155, true);
        assert_eq!(push(&mut queue, FRAME_BODY_MAX - 9 + 1), Err(Refused::TooLarge));
        queue.set_limits(900, true);
        assert_eq!(push(&mut queue, 1961), Err(Refused::TooLarge), "it would take three");
        for _ in 0..QUEUE_FRAMES_MAX - 1 {
            assert_eq!(push(&mut queue, 1), Ok(Pushed::Whole));
        }
        assert_eq!(push(&mut queue, 1472), Err(Refused::Full), "room for one half is none");
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
