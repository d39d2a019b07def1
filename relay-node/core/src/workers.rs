//! Several workers of one relay, each with a core of its own.
//!
//! A relay with N workers has N cores that share nothing. All are told the same tables and stream entries. A link to a
//! relay has one lane for each worker, so a frame is received, split and sent on by one of them, and no other hears of
//! it. The link of an SFU belongs to one worker. So a frame changes hands only
//!
//! - at an ingress or egress, when subscribers of its stream are linked to other workers: each judges it by a duplicate
//!   window of its own, as the same frame may come to different workers before and after a change of path;
//! - when the next hop has no lane for this worker (it runs fewer workers, or speaks a version without lanes): then the
//!   first worker, which has a lane of every link, sends it on;
//! - when a keyframe is wanted of a publisher who is linked to another worker.
//!
//! Numbers of publications and subscriptions tell the worker that gave them, so a stream entry tells every core which
//! workers have subscribers. What is handed over is written as a kind and the frame; the driver copies it through bounded
//! mailboxes.

use crate::LinkId;
use crate::relay::Relay;
use std::ops::Range;
use wire_format::{KeyframeRequest, MEDIA_HEADER_MAX, MediaHeader, NodeIndex, StreamKey, Timestamp};

/// Frames that wait to be handed over after one input.
const HAND_OVERS_MAX: usize = 4096;
/// Stands for no relay.
const NO_NODE: u16 = u16::MAX;
const HEAD_MAX: usize = 3 + MEDIA_HEADER_MAX;

/// What is to be done with what was handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Task {
    /// Deliver to subscribers of the worker.
    Deliver = 0,
    /// Send on; behind the kind stands the relay it came from.
    Forward = 1,
    /// Ask the publisher for a keyframe.
    Keyframe = 2,
    /// A worker, whose index stands behind the kind, has a subscriber of the stream that no entry names yet.
    Wanted = 3,
}

impl Task {
    fn of(byte: u8) -> Option<Task> {
        [Task::Deliver, Task::Forward, Task::Keyframe, Task::Wanted]
            .into_iter()
            .find(|task| *task as u8 == byte)
    }
}

/// Which worker of its relay a core belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Worker {
    /// Counted from 0. The first one also does what is done once for a relay.
    pub index: u8,
    /// How many there are, at least 1, at most 16.
    pub count: u8,
}

impl Worker {
    /// The only worker of a relay.
    pub const ONLY: Worker = Worker { index: 0, count: 1 };

    /// The first worker does what is done once for a relay.
    pub(crate) fn is_first(self) -> bool {
        self.index == 0
    }

    fn others(self) -> WorkerSet {
        let mut all = WorkerSet::default();
        (0..self.count).filter(|index| *index != self.index).for_each(|index| all.insert(index));
        all
    }

    /// The number of a registration, which tells its worker.
    pub(crate) fn registration(self, nth: u32) -> u32 {
        nth.wrapping_mul(self.count.into()).wrapping_add(self.index.into())
    }

    /// Other workers among those that gave these numbers.
    pub(crate) fn others_of(self, registrations: impl Iterator<Item = u32>) -> WorkerSet {
        let mut others = WorkerSet::default();
        if self.count > 1 {
            for registration in registrations {
                let index = (registration % u32::from(self.count)) as u8;
                if index != self.index {
                    others.insert(index);
                }
            }
        }
        others
    }
}

/// A set of workers of one relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WorkerSet(u16);

impl WorkerSet {
    fn only(index: u8) -> WorkerSet {
        let mut set = WorkerSet::default();
        set.insert(index);
        set
    }

    pub(crate) fn insert(&mut self, index: u8) {
        self.0 |= 1_u16.checked_shl(index.into()).unwrap_or(0);
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Their indices, ascending.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..16).filter(move |index| self.0 >> index & 1 == 1)
    }
}

/// A frame for other workers of the same relay: its head, then the bytes of `packet` in the arena or the annex.
#[derive(Clone, Debug)]
pub struct HandOver {
    /// Who gets it.
    pub to: WorkerSet,
    /// The packet behind the head.
    pub packet: Range<usize>,
    head: [u8; HEAD_MAX],
    head_bytes: usize,
}

impl HandOver {
    fn new(to: WorkerSet, task: Task, packet: Range<usize>) -> HandOver {
        let mut head = [0; HEAD_MAX];
        head[0] = task as u8;
        HandOver { to, packet, head, head_bytes: 1 }
    }

    fn with(mut self, bytes: &[u8]) -> HandOver {
        self.head[self.head_bytes..][..bytes.len()].copy_from_slice(bytes);
        self.head_bytes += bytes.len();
        self
    }

    fn with_media(mut self, header: &MediaHeader) -> HandOver {
        self.head_bytes += header.encode(&mut self.head[self.head_bytes..]);
        self
    }

    /// What comes before the packet.
    pub fn head(&self) -> &[u8] {
        &self.head[..self.head_bytes]
    }
}

impl Relay {
    /// Gives a frame to the workers that have subscribers of its stream.
    pub(crate) fn hand_over_delivery(&mut self, to: WorkerSet, header: &MediaHeader, packet: Range<usize>) {
        self.hand_over(HandOver::new(to, Task::Deliver, packet).with_media(header));
    }

    /// Has the first worker send on what this one has no lane for. `false` if this is the first.
    pub(crate) fn hand_over_forward(
        &mut self,
        header: &MediaHeader,
        packet: Range<usize>,
        from: Option<LinkId>,
    ) -> bool {
        if self.worker.is_first() {
            return false;
        }
        let from = from.and_then(|from| self.node_of(from)).map_or(NO_NODE, |node| node.0);
        let hand_over = HandOver::new(WorkerSet::only(0), Task::Forward, packet);
        self.hand_over(hand_over.with(&from.to_be_bytes()).with_media(header));
        true
    }

    /// Has the other workers ask a publisher who is not linked to this one. `false` if there are none.
    pub(crate) fn hand_over_keyframe(&mut self, request: &KeyframeRequest) -> bool {
        let others = self.worker.others();
        if others.is_empty() {
            return false;
        }
        self.hand_over(HandOver::new(others, Task::Keyframe, 0..0).with(&request.encode()));
        true
    }

    /// Tells the other workers that this one has a subscriber of a stream.
    pub(crate) fn hand_over_wanted(&mut self, key: StreamKey, ingress: NodeIndex) {
        let others = self.worker.others();
        if !others.is_empty() {
            let request = KeyframeRequest { ingress, key, hop_limit: 0 };
            let hand_over = HandOver::new(others, Task::Wanted, 0..0);
            self.hand_over(hand_over.with(&[self.worker.index]).with(&request.encode()));
        }
    }

    fn hand_over(&mut self, hand_over: HandOver) {
        if self.hand_overs.len() >= HAND_OVERS_MAX {
            self.counters.drop_hand_over += 1;
            return;
        }
        self.hand_overs.push_back(hand_over);
    }

    /// Takes what another worker handed over.
    pub(crate) fn handed_over(&mut self, now: Timestamp, arena: &[u8], item: Range<usize>) {
        if self.take_over(now, &arena[item.clone()], item.start).is_none() {
            self.counters.drop_malformed += 1;
        }
    }

    /// `None` if it does not decode, which only a bug of another worker can cause.
    fn take_over(&mut self, now: Timestamp, item: &[u8], at: usize) -> Option<()> {
        let (task, body) = item.split_first()?;
        match Task::of(*task)? {
            Task::Deliver => {
                let (header, header_bytes) = MediaHeader::decode(body).ok()?;
                self.deliver_handed_over(&header, at + 1 + header_bytes..at + item.len());
            }
            Task::Forward => {
                let (from, media) = body.split_first_chunk::<2>()?;
                let (mut header, header_bytes) = MediaHeader::decode(media).ok()?;
                let from = self.link_to(NodeIndex(u16::from_be_bytes(*from)));
                self.forward(now, &mut header, at + 3 + header_bytes..at + item.len(), from);
                self.counters.drop_unknown_stream += u64::from(std::mem::take(&mut self.stranger));
            }
            Task::Keyframe => {
                let request = KeyframeRequest::decode(body).ok()?;
                self.keyframe_handed_over(now, &request);
            }
            Task::Wanted => {
                let (worker, request) = body.split_first()?;
                let request = KeyframeRequest::decode(request).ok()?;
                if let Some(stream) = self.streams.find(request.key) {
                    stream.elsewhere.insert(*worker);
                }
            }
        }
        Some(())
    }
}
