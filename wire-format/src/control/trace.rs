//! Watching one stream for a moment: what a relay is asked, and what it saw.
//!
//! Relays that only pass a stream on know nothing of it. So the controller asks each of them, for a moment, to look at
//! the packets that carry the stream's ids. What they say is measured from what each datagram says of itself: its send
//! time, which retransmission and parity preserve. No clocks are compared.

use crate::{NodeIndex, Sequence, StreamKey};
use std::time::Duration;

/// Watch a stream, and tell what passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceRequest {
    /// Names the answer.
    pub trace: u64,
    /// The stream.
    pub key: StreamKey,
    /// For so long; [`super::limits::TRACE_DURATION`] at most.
    pub duration: Duration,
}

/// What a relay saw of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceReport {
    /// That of the request.
    pub trace: u64,
    /// The stream.
    pub key: StreamKey,
    /// It watches too many streams already, and did not watch this one.
    pub refused: bool,
    /// For how long it watched.
    pub watched: Duration,
    /// What came, by the other end.
    pub incoming: Vec<TracedIn>,
    /// What left, by the other end.
    pub outgoing: Vec<TracedOut>,
    /// Packets that came from or left for more links than are told apart.
    pub left_out: u64,
}

/// Who is at the other end of a traced link.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TracedPeer {
    /// A relay.
    Relay(NodeIndex),
    /// An SFU, by the subject of its token.
    Sfu(String),
    /// Whoever sends plain RTP.
    Plain,
}

/// How delays are spread. All zero where nothing was measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TracedSpread {
    /// How many were measured.
    pub count: u64,
    /// Their mean.
    pub mean: Duration,
    /// What half of them do not exceed, to within a fifth.
    pub p50: Duration,
    /// What 99 of a hundred do not exceed, to within a fifth.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

/// Packets of the stream that came by one link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TracedIn {
    /// Who sent them.
    pub peer: TracedPeer,
    /// How many came.
    pub packets: u64,
    /// Bytes of their frames.
    pub bytes: u64,
    /// Of the packets, those that were sent again before they came.
    pub again: u64,
    /// Of the packets, those that parity restored.
    pub parity: u64,
    /// Least and greatest of the publisher's sequence among them: what lies between and did not come is missing.
    pub first: Sequence,
    /// See [`TracedIn::first`].
    pub last: Sequence,
    /// Of those that came by themselves: how much longer they took than the least of the last second or so.
    pub excess: TracedSpread,
    /// The same of those that were restored: what queueing and repair took together.
    pub wait: TracedSpread,
    /// The least slack that one of them had left here.
    pub slack_min: Duration,
    /// The slack that half of them had left at most, to within a fifth.
    pub slack_p50: Duration,
    /// Fewest hops that one of them could still go.
    pub hop_limit: u8,
    /// Planes that they travelled on: bit 0 primary, 1 red, 2 blue.
    pub planes: u8,
    /// Of the packets, those that left the tables of their stamp on their way.
    pub marked: u64,
    /// The link's least round trip of late.
    pub rtt_min: Option<Duration>,
    /// What datagrams of the link wait in queues: the least of late, beyond that of the last 10 to 20 s.
    pub queueing: Duration,
}

/// Packets of the stream that left by one link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TracedOut {
    /// Who gets them.
    pub peer: TracedPeer,
    /// Copies that left for the first time.
    pub packets: u64,
    /// Bytes of their frames.
    pub bytes: u64,
    /// Copies that left again, because the other end asked.
    pub again: u64,
    /// From when they came to when they left.
    pub residence: TracedSpread,
    /// Planes that they left on: bit 0 primary, 1 red, 2 blue; none towards SFUs.
    pub planes: u8,
    /// Of the packets, those that leave the tables of their stamp, here or before.
    pub marked: u64,
}

impl TracedIn {
    /// Packets that lie between the first and the last that came, and did not come.
    #[must_use]
    pub fn missing(&self) -> u64 {
        let span = u64::from(self.last.0.wrapping_sub(self.first.0)) + 1;
        span.saturating_sub(self.packets)
    }
}

impl TracedSpread {
    /// With what another worker measured: the mean is that of both, and of the rest the worse counts.
    #[must_use]
    pub fn with(&self, more: &TracedSpread) -> TracedSpread {
        let count = self.count.saturating_add(more.count);
        let sum = |spread: &TracedSpread| spread.mean.as_micros().saturating_mul(u128::from(spread.count));
        let mean_us = sum(self).saturating_add(sum(more)).checked_div(u128::from(count)).unwrap_or(0);
        TracedSpread {
            count,
            mean: Duration::from_micros(u64::try_from(mean_us).unwrap_or(u64::MAX)),
            p50: self.p50.max(more.p50),
            p99: self.p99.max(more.p99),
            max: self.max.max(more.max),
        }
    }
}

impl TraceReport {
    /// With what another worker of the same relay saw of the stream.
    #[must_use]
    pub fn with_worker(mut self, more: TraceReport) -> TraceReport {
        self.refused |= more.refused;
        self.watched = self.watched.max(more.watched);
        self.left_out = self.left_out.saturating_add(more.left_out);
        for lane in more.incoming {
            match self.incoming.iter_mut().find(|known| known.peer == lane.peer) {
                Some(known) => known.add(&lane),
                None => self.incoming.push(lane),
            }
        }
        for lane in more.outgoing {
            match self.outgoing.iter_mut().find(|known| known.peer == lane.peer) {
                Some(known) => known.add(&lane),
                None => self.outgoing.push(lane),
            }
        }
        self
    }
}

impl TracedIn {
    fn add(&mut self, lane: &TracedIn) {
        let earlier = |one: Sequence, other: Sequence| (one.0.wrapping_sub(other.0) as i32) < 0;
        if earlier(lane.first, self.first) {
            self.first = lane.first;
        }
        if earlier(self.last, lane.last) {
            self.last = lane.last;
        }
        self.packets = self.packets.saturating_add(lane.packets);
        self.bytes = self.bytes.saturating_add(lane.bytes);
        self.again = self.again.saturating_add(lane.again);
        self.parity = self.parity.saturating_add(lane.parity);
        self.excess = self.excess.with(&lane.excess);
        self.wait = self.wait.with(&lane.wait);
        self.slack_min = self.slack_min.min(lane.slack_min);
        self.slack_p50 = self.slack_p50.min(lane.slack_p50);
        self.hop_limit = self.hop_limit.min(lane.hop_limit);
        self.planes |= lane.planes;
        self.marked = self.marked.saturating_add(lane.marked);
        self.rtt_min = self.rtt_min.into_iter().chain(lane.rtt_min).min();
        self.queueing = self.queueing.max(lane.queueing);
    }
}

impl TracedOut {
    fn add(&mut self, lane: &TracedOut) {
        self.packets = self.packets.saturating_add(lane.packets);
        self.bytes = self.bytes.saturating_add(lane.bytes);
        self.again = self.again.saturating_add(lane.again);
        self.residence = self.residence.with(&lane.residence);
        self.planes |= lane.planes;
        self.marked = self.marked.saturating_add(lane.marked);
    }
}
