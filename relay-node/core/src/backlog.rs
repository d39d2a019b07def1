//! Media that waits because its link carries less than it is given.
//!
//! **Who goes first.** Audio (and RTCP), then keyframes and base layers, then other video, then enhancement layers; within
//! a class whoever waits longest. A stream keeps its order: it is as urgent as the most urgent frame that waits in it, so
//! that a keyframe takes along what is before it. So that nothing starves, one byte of [`FLOOR`] goes to whoever waits
//! longest in the classes that were passed over.
//!
//! **What is dropped.** Never a packet here and there: of a frame (one stream, one RTP timestamp) all packets get in or
//! none. A frame gets in if what leaves before it leaves within [`WAIT_MAX`] of its class and within three quarters of
//! the slack that it has, and if nothing of its stream has waited for so long:
//! - an enhancement layer that does not get in stays out for [`SHED_FOR`];
//! - after a frame of video that did not get in, or whose slack ran out while it waited, what follows in its stream is of
//!   no use: it stays out until the next keyframe or frame of a base layer, for [`BROKEN_FOR`] at most, and a keyframe is
//!   asked for. Where no stream of the kind marks such frames (priority `BASE`), each frame is judged for itself;
//! - audio gets in as long as there is memory.
//!
//! Memory: [`FRAMES_MAX`] frames of at most [`BYTES_MAX`] bytes a link, [`ALL_BYTES_MAX`] in all links of a core, in
//! buffers that are used again.

use crate::queue::{Held, OrderLane};
use crate::repair::Urgency;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use wire_format::{
    EDGE_HEADER_BYTES, EdgeHeader, FrameKind, MediaHeader, Slack, StreamHandle, StreamKey, Timestamp,
};

/// Frames of one link.
const FRAMES_MAX: usize = 4096;
/// Their bytes.
const BYTES_MAX: usize = 4 << 20;
/// Of all links of a core: what is in the buffers, of which the empty ones are a part.
const ALL_BYTES_MAX: usize = 32 << 20;
/// Streams of one link that are told apart; frames of more do not get in.
const FLOWS_MAX: usize = 4096;
/// Where the slack is in the body of a media frame ...
const MEDIA_SLACK_AT: usize = 15;
/// ... and of an edge frame.
const EDGE_SLACK_AT: usize = 6;
/// Empty buffers kept for use again.
const SPARE_MAX: usize = 512;
/// Classes of urgency.
const CLASSES: usize = 4;
const AUDIO: usize = 0;
const BASE: usize = 1;
const VIDEO: usize = 2;
const ENHANCEMENT: usize = 3;
/// How long what leaves before a new frame of a class may take. Audio: no bound.
const WAIT_MAX: [Duration; CLASSES] =
    [Duration::MAX, Duration::from_millis(120), Duration::from_millis(80), Duration::from_millis(20)];
/// The same of enhancement layers while more is tried.
const TRIED_WAIT_MAX: Duration = Duration::from_millis(60);
/// One byte in so many goes to classes that are passed over.
const FLOOR: usize = 16;
/// An enhancement layer that found no room stays out for so long.
const SHED_FOR: Duration = Duration::from_secs(1);
/// What follows a frame that was dropped stays out for no longer.
const BROKEN_FOR: Duration = Duration::from_secs(2);
/// What is known of a stream is forgotten after so long, if there are too many.
const REMEMBER_FOR: Duration = Duration::from_secs(5);
/// Distance of two looks for such streams.
const FORGET_EVERY: Duration = Duration::from_secs(1);

/// The buffers of all links of a core.
#[derive(Debug, Default)]
pub(crate) struct BacklogMemory {
    used: usize,
    spare: Vec<Vec<u8>>,
}

impl BacklogMemory {
    /// A buffer with these bytes, if there is memory for it.
    fn take(&mut self, head: &[u8], packet: &[u8]) -> Option<Vec<u8>> {
        let bytes = head.len() + packet.len();
        if self.used + bytes > ALL_BYTES_MAX {
            return None;
        }
        let mut buffer = self.spare.pop().unwrap_or_default();
        self.used -= buffer.capacity();
        buffer.clear();
        buffer.extend_from_slice(head);
        buffer.extend_from_slice(packet);
        self.used += buffer.capacity();
        Some(buffer)
    }

    /// Gives a buffer back.
    pub(crate) fn give(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < SPARE_MAX {
            self.spare.push(buffer);
        } else {
            self.used -= buffer.capacity();
        }
    }
}

/// A stream on a link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Flow {
    /// Between relays.
    Stream(StreamKey),
    /// Between an SFU and its relay.
    Handle(StreamHandle),
}

/// A frame that waited.
#[derive(Debug)]
pub(crate) struct Parked {
    pub(crate) kind: FrameKind,
    pub(crate) lane: OrderLane,
    pub(crate) urgency: Option<Urgency>,
    /// Its body: header, with the slack that is left, and packet.
    pub(crate) body: Vec<u8>,
    /// Length of the header.
    pub(crate) head_bytes: usize,
    /// Since when it waits.
    pub(crate) since: Timestamp,
    class: usize,
    order: u64,
    pub(crate) slack: Slack,
    /// Of its RTP packet; RTCP has none.
    timestamp: Option<u32>,
}

impl Parked {
    fn is_of(&self, timestamp: Option<u32>, class: usize) -> bool {
        timestamp.is_some() && (self.timestamp, self.class) == (timestamp, class)
    }
}

/// Frames dropped, by class, and streams that want a keyframe for it.
#[derive(Debug, Default)]
pub(crate) struct Shed {
    /// Frames of audio, of base layers and keyframes, of other video and of enhancement layers.
    pub(crate) dropped: [u64; CLASSES],
    /// Streams whose next frames are of no use without a keyframe.
    pub(crate) keyframes: BTreeSet<Flow>,
}

#[derive(Debug, Default)]
struct FlowQueue {
    frames: VecDeque<Parked>,
    /// Frames that wait, by class.
    waiting: [usize; CLASSES],
    /// The frame whose packets come, RTP timestamp and class, and whether it gets in.
    coming: Option<(u32, usize, bool)>,
    /// The stream marks keyframes or base layers.
    marks_base: bool,
    /// Enhancement layers stay out until then.
    shed_until: Timestamp,
    /// What follows a lost frame stays out until then.
    broken_until: Timestamp,
    seen_at: Timestamp,
}

/// What waits on one link.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// RTCP is a stream of its own, so that it does not make a stream of video urgent.
    flows: BTreeMap<(Flow, bool), FlowQueue>,
    /// By class, the streams as urgent as that, and since when each waits.
    turns: [BTreeSet<(u64, (Flow, bool))>; CLASSES],
    /// By class of the frames themselves.
    bytes: [usize; CLASSES],
    frames: usize,
    orders: u64,
    /// Bytes that have passed over a less urgent class.
    passed_over: usize,
    /// A stream may be shed or broken until then.
    restricted_until: Timestamp,
    /// What a layer may wait is [`TRIED_WAIT_MAX`].
    tries_more: bool,
    /// When streams were last forgotten.
    forgot_at: Option<Timestamp>,
    shed: Shed,
}

/// What the header of a frame says.
struct Header {
    id: (Flow, bool),
    class: usize,
    slack: Slack,
    bytes: usize,
}

impl Header {
    fn of(kind: FrameKind, head: &[u8], packet: &[u8]) -> Option<Header> {
        let (flow, rtcp, priority, slack) = if kind == FrameKind::Media {
            // A body is header and packet; of the packet the first byte is enough.
            let mut body = [0; wire_format::MEDIA_HEADER_MAX + 1];
            let used = body.get_mut(..head.len())?;
            used.copy_from_slice(head);
            let (header, _) = MediaHeader::decode(&body[..=head.len()]).ok()?;
            (Flow::Stream(header.key), header.rtcp, header.priority, header.slack)
        } else {
            let mut body = [0; EDGE_HEADER_BYTES + 1];
            body.get_mut(..EDGE_HEADER_BYTES)?.copy_from_slice(head.get(..EDGE_HEADER_BYTES)?);
            let header = EdgeHeader::decode(&body).ok()?;
            (Flow::Handle(header.handle), header.rtcp, header.priority, header.slack)
        };
        let class = if rtcp { AUDIO } else { usize::from(priority.bits()).min(ENHANCEMENT) };
        Some(Header { id: (flow, rtcp), class, slack, bytes: head.len() + packet.len() })
    }
}

impl Backlog {
    /// Nothing waits, and nobody is kept out: what comes may leave without a look.
    pub(crate) fn is_open(&self, now: Timestamp) -> bool {
        self.frames == 0 && !self.keeps_out(now)
    }

    /// A layer or a stream may be kept out.
    pub(crate) fn keeps_out(&self, now: Timestamp) -> bool {
        now < self.restricted_until
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.iter().sum()
    }

    /// A media or edge frame, head and packet of its body, that has to wait on a link of so many bytes a second.
    pub(crate) fn push(
        &mut self,
        now: Timestamp,
        rate: u64,
        Held { kind, lane, urgency }: Held,
        (head, packet): (&[u8], &[u8]),
        memory: &mut BacklogMemory,
    ) {
        // The core's own frames always have a header.
        let Some(header) = Header::of(kind, head, packet) else { return };
        let Header { id, class, slack, bytes: _ } = header;
        let timestamp = if id.1 { None } else { rtp_timestamp(packet) };
        let before: usize = self.bytes[..=class].iter().sum();
        if !self.flows.contains_key(&id) && self.flows.len() >= FLOWS_MAX && !self.forget_flows(now) {
            self.shed.dropped[class] += 1;
            return;
        }
        let flow = self.flows.entry(id).or_default();
        flow.seen_at = now;
        flow.marks_base |= class == BASE;
        let goes_on =
            flow.coming.filter(|(stamp, of_class, _)| (Some(*stamp), *of_class) == (timestamp, class));
        let fits = match goes_on {
            Some((_, _, gets_in)) => gets_in,
            None => {
                let wait = Duration::from_micros((before as u64).saturating_mul(1_000_000) / rate.max(1));
                let tried = self.tries_more && class == ENHANCEMENT;
                let wait_max = if tried { TRIED_WAIT_MAX } else { WAIT_MAX[class] };
                let wait_max = wait_max.min(slack.as_duration() * 3 / 4);
                let fits = flow.takes(now, class, (wait, wait_max), &mut self.restricted_until);
                if !fits.gets_in && fits.breaks {
                    self.shed.keyframes.insert(id.0);
                }
                fits.gets_in
            }
        };
        let buffer = (fits && self.frames < FRAMES_MAX && self.bytes() + header.bytes <= BYTES_MAX)
            .then(|| memory.take(head, packet))
            .flatten();
        let Some(flow) = self.flows.get_mut(&id) else { return };
        flow.coming = timestamp.map(|stamp| (stamp, class, buffer.is_some()));
        let Some(body) = buffer else {
            self.shed.dropped[class] += 1;
            if fits {
                self.broken(now, id, class);
            }
            return;
        };
        self.orders += 1;
        let parked = Parked {
            kind,
            lane,
            urgency,
            body,
            head_bytes: head.len(),
            since: now,
            class,
            order: self.orders,
            slack,
            timestamp,
        };
        self.frames += 1;
        self.bytes[class] += parked.body.len();
        self.turn(id, |flow| {
            flow.waiting[class] += 1;
            flow.frames.push_back(parked);
        });
    }

    /// The frame that leaves next, if it may: `may_leave` says so of a length, and whether it is audio. Its header has what is left of its slack.
    pub(crate) fn pop(
        &mut self,
        now: Timestamp,
        memory: &mut BacklogMemory,
        may_leave: impl Fn(usize, bool) -> bool,
    ) -> Option<Parked> {
        loop {
            let (id, turn) = self.next_turn()?;
            let front = self.flows.get(&id)?.frames.front()?;
            let left = front.slack.spend(now.since(front.since));
            if left.is_some() && !may_leave(front.body.len(), front.class == AUDIO) {
                return None;
            }
            let mut parked = self.take_front(id)?;
            let Some(left) = left else {
                self.late(now, id, parked, memory);
                continue;
            };
            self.count_turn(turn, parked.body.len());
            let at = if parked.kind == FrameKind::Media { MEDIA_SLACK_AT } else { EDGE_SLACK_AT };
            parked.body[at..at + 2].copy_from_slice(&left.0.to_be_bytes());
            parked.slack = left;
            return Some(parked);
        }
    }

    /// Length of the frame that leaves next.
    pub(crate) fn next_bytes(&self) -> Option<usize> {
        let (id, _) = self.next_turn()?;
        self.flows.get(&id)?.frames.front().map(|parked| parked.body.len())
    }

    /// A frame was dropped after it had left.
    pub(crate) fn count_dropped(&mut self, parked: &Parked) {
        self.shed.dropped[parked.class] += 1;
    }

    /// What was dropped since the last call, if anything was.
    pub(crate) fn take_shed(&mut self) -> Option<Shed> {
        (self.shed.dropped != [0; CLASSES]).then(|| std::mem::take(&mut self.shed))
    }

    /// Forgets who is kept out, if nothing waits.
    pub(crate) fn reset(&mut self) {
        if self.frames == 0 {
            *self = Backlog { shed: std::mem::take(&mut self.shed), ..Backlog::default() };
        }
    }

    /// Lets layers in again that are kept out.
    pub(crate) fn let_in(&mut self) {
        self.restricted_until = Timestamp::ZERO;
        for flow in self.flows.values_mut() {
            flow.shed_until = Timestamp::ZERO;
            self.restricted_until = self.restricted_until.max(flow.broken_until);
        }
    }

    /// The same, and until [`Backlog::try_no_more`] more of them may wait than otherwise: a trial needs as much as the link
    /// carries.
    pub(crate) fn try_more(&mut self) {
        self.tries_more = true;
        self.let_in();
    }

    pub(crate) fn try_no_more(&mut self) {
        self.tries_more = false;
    }

    /// Takes out all that waits, in the order in which it came: the link is silent or gone.
    pub(crate) fn take_all(&mut self) -> Vec<Parked> {
        let flows = std::mem::take(&mut self.flows);
        let mut all: Vec<_> = flows.into_values().flat_map(|flow| flow.frames).collect();
        all.sort_by_key(|parked| parked.order);
        *self = Backlog { shed: std::mem::take(&mut self.shed), ..Backlog::default() };
        all
    }

    /// Whose turn it is: the most urgent, or whoever waits longest of those that were passed over.
    fn next_turn(&self) -> Option<((Flow, bool), Turn)> {
        let urgent = self.turns.iter().position(|turns| !turns.is_empty())?;
        let passed = self.turns[urgent + 1..].iter().filter_map(BTreeSet::first).min();
        if let Some((_, id)) = passed
            && self.passed_over >= FLOOR * self.flows.get(id)?.frames.front()?.body.len()
        {
            return Some((*id, Turn::Floor));
        }
        let turn = if passed.is_some() { Turn::Urgent } else { Turn::Alone };
        self.turns[urgent].first().map(|(_, id)| (*id, turn))
    }

    /// So many bytes leave.
    fn count_turn(&mut self, turn: Turn, bytes: usize) {
        self.passed_over = match turn {
            Turn::Alone => 0,
            Turn::Urgent => (self.passed_over + bytes).min(BYTES_MAX),
            Turn::Floor => self.passed_over.saturating_sub(FLOOR * bytes),
        };
    }

    /// A frame has waited until no slack was left: the rest of it goes with it.
    fn late(&mut self, now: Timestamp, id: (Flow, bool), first: Parked, memory: &mut BacklogMemory) {
        let (timestamp, class) = (first.timestamp, first.class);
        self.shed.dropped[class] += 1;
        memory.give(first.body);
        if let Some(flow) = self.flows.get_mut(&id)
            && let Some((stamp, of_class, gets_in)) = &mut flow.coming
            && (Some(*stamp), *of_class) == (timestamp, class)
        {
            *gets_in = false;
        }
        self.broken(now, id, class);
        while let Some(front) = self.flows.get(&id).and_then(|flow| flow.frames.front())
            && (front.is_of(timestamp, class)
                || self.flows.get(&id).is_some_and(|flow| flow.lacks(now, front.class)))
            && let Some(parked) = self.take_front(id)
        {
            self.shed.dropped[parked.class] += 1;
            memory.give(parked.body);
        }
    }

    /// Part of a frame was dropped that others of its stream build on.
    fn broken(&mut self, now: Timestamp, id: (Flow, bool), class: usize) {
        if class != BASE && class != VIDEO {
            return;
        }
        self.shed.keyframes.insert(id.0);
        if let Some(flow) = self.flows.get_mut(&id).filter(|flow| flow.marks_base) {
            flow.broken_until = now + BROKEN_FOR;
            self.restricted_until = self.restricted_until.max(flow.broken_until);
        }
    }

    fn take_front(&mut self, id: (Flow, bool)) -> Option<Parked> {
        let parked = self.turn(id, |flow| {
            let parked = flow.frames.pop_front()?;
            flow.waiting[parked.class] -= 1;
            Some(parked)
        })??;
        self.frames -= 1;
        self.bytes[parked.class] -= parked.body.len();
        Some(parked)
    }

    /// Changes what waits of a stream, and with it its turn.
    fn turn<R>(&mut self, id: (Flow, bool), change: impl FnOnce(&mut FlowQueue) -> R) -> Option<R> {
        let flow = self.flows.get_mut(&id)?;
        if let Some((class, since)) = flow.urgency() {
            self.turns[class].remove(&(since, id));
        }
        let answer = change(flow);
        if let Some((class, since)) = flow.urgency() {
            self.turns[class].insert((since, id));
        }
        Some(answer)
    }

    /// Forgets streams that have not been seen for long, looking for them once a second at most. `false` if there are none.
    #[cold]
    fn forget_flows(&mut self, now: Timestamp) -> bool {
        if self.forgot_at.is_some_and(|at| now.since(at) < FORGET_EVERY) {
            return false;
        }
        self.forgot_at = Some(now);
        let known = self.flows.len();
        self.flows.retain(|_, flow| !flow.frames.is_empty() || now.since(flow.seen_at) < REMEMBER_FOR);
        self.flows.len() < known
    }
}

/// Why a stream has its turn.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// It is the most urgent, and nobody is less urgent.
    Alone,
    /// It is the most urgent.
    Urgent,
    /// It was passed over for long.
    Floor,
}

/// Whether a new frame gets in, and, if not, whether those that follow lack it.
struct Fits {
    gets_in: bool,
    breaks: bool,
}

impl FlowQueue {
    /// The class of the most urgent frame that waits, and since when the first waits.
    fn urgency(&self) -> Option<(usize, u64)> {
        let class = self.waiting.iter().position(|waiting| *waiting > 0)?;
        self.frames.front().map(|parked| (class, parked.order))
    }

    /// A frame of a class is of no use, because one before it is missing.
    fn lacks(&self, now: Timestamp, class: usize) -> bool {
        class >= VIDEO && now < self.broken_until
    }

    /// Whether a new frame gets in that would wait so long.
    fn takes(
        &mut self,
        now: Timestamp,
        class: usize,
        (wait, wait_max): (Duration, Duration),
        restricted_until: &mut Timestamp,
    ) -> Fits {
        if class == AUDIO {
            return Fits { gets_in: true, breaks: false };
        }
        if self.lacks(now, class) {
            return Fits { gets_in: false, breaks: false };
        }
        let waited = self.frames.front().map_or(Duration::ZERO, |front| now.since(front.since));
        let late = wait.max(waited) > wait_max;
        if class == ENHANCEMENT {
            if late {
                self.shed_until = now + SHED_FOR;
                *restricted_until = (*restricted_until).max(self.shed_until);
            }
            return Fits { gets_in: now >= self.shed_until, breaks: false };
        }
        if late && self.marks_base {
            self.broken_until = now + BROKEN_FOR;
            *restricted_until = (*restricted_until).max(self.broken_until);
        } else if !late && class == BASE {
            self.broken_until = now;
        }
        Fits { gets_in: !late, breaks: late }
    }
}

/// The RTP timestamp of a packet, by which the packets of a frame know each other.
fn rtp_timestamp(packet: &[u8]) -> Option<u32> {
    let header = packet.first_chunk::<12>()?;
    (header[0] >> 6 == 2).then(|| u32::from_be_bytes([header[4], header[5], header[6], header[7]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wire_format::{Priority, Sequence};

    const RATE: u64 = 125_000;
    const PACKET: usize = 1000;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_micros(ms * 1000)
    }

    #[derive(Default)]
    struct Bench {
        backlog: Backlog,
        memory: BacklogMemory,
        sequence: u32,
    }

    impl Bench {
        /// A packet of a stream with an RTP timestamp; it may wait for 200 ms.
        fn push(&mut self, now: Timestamp, handle: u16, priority: Priority, stamp: u32) -> u32 {
            self.push_of(now, handle, priority, stamp, PACKET)
        }

        fn push_of(
            &mut self,
            now: Timestamp,
            handle: u16,
            priority: Priority,
            stamp: u32,
            bytes: usize,
        ) -> u32 {
            let header = EdgeHeader {
                handle: StreamHandle(handle),
                sequence: Sequence(self.sequence),
                slack: Slack(2000),
                priority,
                rtcp: false,
            };
            self.sequence += 1;
            let mut packet = vec![0x80; bytes];
            packet[4..8].copy_from_slice(&stamp.to_be_bytes());
            let what = Held { kind: FrameKind::Edge, lane: OrderLane::NONE, urgency: None };
            self.backlog.push(now, RATE, what, (&header.encode(), &packet), &mut self.memory);
            self.sequence - 1
        }

        /// Takes a frame out: its handle, sequence and slack in ms.
        fn pop(&mut self, now: Timestamp) -> Option<(u16, u32, u64)> {
            let parked = self.backlog.pop(now, &mut self.memory, |_, _| true)?;
            let header = EdgeHeader::decode(&parked.body).expect("well-formed");
            self.memory.give(parked.body);
            Some((header.handle.0, header.sequence.0, header.slack.as_duration().as_millis() as u64))
        }

        fn pop_all(&mut self, now: Timestamp) -> Vec<(u16, u32)> {
            std::iter::from_fn(|| self.pop(now)).map(|(handle, sequence, _)| (handle, sequence)).collect()
        }
    }

    #[test]
    fn the_urgent_go_first_and_a_stream_keeps_its_order() {
        let mut bench = Bench::default();
        let enhancement = bench.push(at(0), 4, Priority::ENHANCEMENT, 1);
        let video = [bench.push(at(0), 3, Priority::VIDEO, 1), bench.push(at(0), 3, Priority::VIDEO, 1)];
        let audio = bench.push(at(0), 1, Priority::AUDIO, 1);
        let other = bench.push(at(0), 2, Priority::VIDEO, 1);
        let keyframe = bench.push(at(0), 3, Priority::BASE, 2);
        assert_eq!(
            bench.pop_all(at(1)),
            [(1, audio), (3, video[0]), (3, video[1]), (3, keyframe), (2, other), (4, enhancement)]
        );
        assert!(bench.backlog.is_open(at(1)));
    }

    #[test]
    fn what_was_waited_is_taken_from_the_slack_and_who_has_none_left_is_dropped_with_the_rest_of_its_frame() {
        let mut bench = Bench::default();
        for _ in 0..3 {
            bench.push(at(0), 3, Priority::VIDEO, 1);
        }
        assert_eq!(bench.pop(at(50)), Some((3, 0, 150)));
        bench.push(at(60), 3, Priority::VIDEO, 2);
        assert_eq!(bench.pop(at(201)), Some((3, 3, 59)), "of the first frame two packets were late");
        assert_eq!(bench.backlog.shed.dropped, [0, 0, 2, 0]);
        assert!(bench.backlog.shed.keyframes.contains(&Flow::Handle(StreamHandle(3))));
        bench.push(at(202), 3, Priority::VIDEO, 2);
        assert_eq!(bench.pop_all(at(203)), [(3, 4)]);
    }

    #[test]
    fn a_late_frame_takes_its_packets_that_are_still_to_come() {
        let mut bench = Bench::default();
        bench.push(at(0), 3, Priority::VIDEO, 1);
        assert_eq!(bench.pop(at(201)), None);
        bench.push(at(202), 3, Priority::VIDEO, 1);
        assert_eq!((bench.pop(at(203)), bench.backlog.shed.dropped), (None, [0, 0, 2, 0]));
    }

    #[test]
    fn nobody_is_passed_over_for_ever() {
        let mut bench = Bench::default();
        for stamp in 0..10 {
            bench.push_of(at(0), 4, Priority::ENHANCEMENT, stamp, 400);
        }
        let mut floor = 0;
        for round in 0..100 {
            bench.push_of(at(0), 1, Priority::AUDIO, round, 400);
            bench.push_of(at(0), 1, Priority::AUDIO, round, 400);
            while let Some((handle, _, _)) = bench.pop(at(0)) {
                floor += u32::from(handle == 4);
                if bench.backlog.bytes[AUDIO] <= 400 {
                    break;
                }
            }
        }
        assert!((5..=10).contains(&floor), "{floor} of 100");
    }

    #[test]
    fn whole_enhancement_layers_go_before_other_video() {
        let mut bench = Bench::default();
        let (mut video, mut enhancement) = (Vec::new(), Vec::new());
        // Seven packets where the link carries four.
        for frame in 0..100_u32 {
            let now = at(u64::from(frame) * 32);
            for packet in 0..4 {
                if packet > 0 {
                    video.push(bench.push(now, 3, Priority::VIDEO, frame));
                }
                enhancement.push(bench.push(now, 4, Priority::ENHANCEMENT, frame));
            }
            for step in 0..4 {
                bench.pop(now + Duration::from_millis(8 * step));
            }
        }
        bench.pop_all(at(3210));
        let [audio, base, video_lost, enhancement_lost] = bench.backlog.shed.dropped;
        assert_eq!((audio, base, video_lost), (0, 0, 0));
        assert!((370..400).contains(&enhancement_lost), "{enhancement_lost} of 400");
        assert_eq!(enhancement_lost % 4, 0, "whole frames: {enhancement_lost}");
        assert!(!bench.backlog.is_open(at(3210)), "the layer stays out for a second");
        assert!(bench.backlog.is_open(at(4200)));
    }

    #[test]
    fn a_layer_that_is_let_in_comes_in_at_once_and_more_of_it_waits_while_more_is_tried() {
        let mut bench = Bench::default();
        let mut stamp = 0;
        // Frames of 10 ms until one does not get in.
        let mut fill = |bench: &mut Bench, now| {
            let before = bench.backlog.frames;
            loop {
                stamp += 1;
                let frames = bench.backlog.frames;
                bench.push_of(now, 4, Priority::ENHANCEMENT, stamp, RATE as usize / 100);
                if bench.backlog.frames == frames {
                    return frames - before;
                }
            }
        };
        assert_eq!(fill(&mut bench, at(0)), 2);
        bench.pop_all(at(1));
        assert!(bench.backlog.keeps_out(at(1)));
        assert_eq!(fill(&mut bench, at(1)), 0);
        bench.backlog.let_in();
        assert!(!bench.backlog.keeps_out(at(2)));
        assert_eq!(fill(&mut bench, at(2)), 2);
        bench.pop_all(at(3));
        bench.backlog.try_more();
        assert_eq!(fill(&mut bench, at(3)), 6);
        bench.backlog.try_no_more();
        bench.backlog.let_in();
        assert_eq!(fill(&mut bench, at(4)), 0);
    }

    #[test]
    fn of_video_whole_frames_go_and_what_builds_on_them() {
        let mut bench = Bench::default();
        let mut got = Vec::new();
        // A keyframe, then frames of four packets, each 32 ms; the link carries half.
        for frame in 0..60_u32 {
            let now = at(u64::from(frame) * 32);
            let priority = if frame % 20 == 0 { Priority::BASE } else { Priority::VIDEO };
            for _ in 0..4 {
                bench.push(now, 3, priority, frame);
            }
            for step in [0, 16] {
                got.extend(bench.pop(now + Duration::from_millis(step)).map(|(_, sequence, _)| sequence));
            }
        }
        got.extend(bench.pop_all(at(60 * 32)).into_iter().map(|(_, sequence)| sequence));
        assert!(got.is_sorted());
        let frames: Vec<u32> = got.iter().map(|sequence| sequence / 4).collect();
        let mut last = None;
        for frame in frames.chunk_by(|a, b| a == b) {
            assert_eq!(frame.len(), 4, "frame {} in part", frame[0]);
            let follows = last.is_some_and(|last| last + 1 == frame[0]);
            assert!(follows || frame[0] % 20 == 0, "frame {} after {last:?}", frame[0]);
            last = Some(frame[0]);
        }
        assert_eq!(bench.backlog.shed.dropped[BASE], 0);
        assert!(bench.backlog.shed.dropped[VIDEO] > 60);
        assert!(bench.backlog.shed.keyframes.contains(&Flow::Handle(StreamHandle(3))));
    }

    #[test]
    fn memory_is_bounded_and_given_back() {
        let mut memory = BacklogMemory::default();
        let mut benches: Vec<_> = (0..12).map(|_| Bench::default()).collect();
        for bench in &mut benches {
            bench.memory = std::mem::take(&mut memory);
            for stamp in 0..3100 {
                bench.push_of(at(0), 1, Priority::AUDIO, stamp, 1400);
            }
            assert!(bench.backlog.bytes() <= BYTES_MAX && bench.backlog.frames <= FRAMES_MAX);
            assert!(bench.backlog.shed.dropped[AUDIO] > 0);
            memory = std::mem::take(&mut bench.memory);
            assert!(memory.used <= ALL_BYTES_MAX + 1500, "{}", memory.used);
        }
        for bench in &mut benches {
            bench.backlog.take_all().into_iter().for_each(|parked| memory.give(parked.body));
            assert_eq!((bench.backlog.bytes(), bench.backlog.frames), (0, 0));
        }
        assert_eq!(memory.used, memory.spare.iter().map(Vec::capacity).sum::<usize>());
        assert!(memory.spare.len() <= SPARE_MAX);
        let mut bench = Bench::default();
        for handle in 0..5000 {
            bench.push_of(at(0), handle, Priority::AUDIO, 1, 12);
            bench.pop(at(0));
        }
        assert_eq!(bench.backlog.flows.len(), FLOWS_MAX);
        assert_eq!(bench.backlog.shed.dropped, [5000 - FLOWS_MAX as u64, 0, 0, 0]);
        bench.push(at(6000), 6000, Priority::AUDIO, 1);
        assert_eq!(bench.pop(at(6000)).map(|(handle, _, _)| handle), Some(6000), "room again");
    }

    proptest! {
        #[test]
        fn every_frame_leaves_in_order_or_is_counted(
            input in prop::collection::vec((0u16..6, 0u8..8, 0u32..4, 12usize..1400, 0u64..30, 0usize..4), 1..400)
        ) {
            let mut bench = Bench::default();
            let (mut now, mut left, mut stamp) = (0, Vec::new(), 0);
            for (handle, priority, later, bytes, passed, pops) in &input {
                now += passed;
                stamp += later;
                bench.push_of(at(now), *handle, Priority::from_bits(*priority), stamp, *bytes);
                for _ in 0..*pops {
                    left.extend(bench.pop(at(now)));
                }
            }
            while let Some(frame) = bench.pop(at(now)) {
                left.push(frame);
            }
            let dropped: u64 = bench.backlog.shed.dropped.iter().sum();
            prop_assert_eq!(left.len() + dropped as usize, input.len());
            for handle in 0..6 {
                let mut of_stream = left.iter().filter(|frame| frame.0 == handle).map(|frame| frame.1);
                prop_assert!(of_stream.by_ref().is_sorted());
            }
            prop_assert_eq!((bench.backlog.frames, bench.backlog.bytes(), bench.backlog.next_bytes()), (0, 0, None));
            prop_assert!(bench.backlog.turns.iter().all(BTreeSet::is_empty));
            prop_assert_eq!(bench.memory.used, bench.memory.spare.iter().map(Vec::capacity).sum::<usize>());
        }
    }
}
