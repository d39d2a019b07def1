//! Streams that are watched for a moment, because somebody asks how their packets fare.
//!
//! A relay that only passes a stream on holds nothing of it, and nothing is held here that outlives the moment: packets
//! that carry the stream's ids are looked at when they come and, as part of the trains that are ready to leave, when they
//! go. While nothing is watched a packet pays for one comparison.

use crate::forward::{Carrier, Entering, Restored};
use crate::relay::{Relay, Side, Timer, slot};
use crate::{LateHistogram, LinkId, PeerView, Train};
use std::collections::BTreeMap;
use std::time::Duration;
use wire_format::control::limits::{NAME_BYTES, TRACE_DURATION, TRACED_PEERS, TRACES};
use wire_format::control::{
    ToController, TraceReport, TraceRequest, TracedIn, TracedOut, TracedPeer, TracedSpread,
};
use wire_format::{
    EdgeHeader, FRAGMENT_HEADER_BYTES, FRAME_HEADER_BYTES, FragmentHeader, FrameKind, HOP_LIMIT, MediaHeader,
    RawFrame, Sequence, StreamKey, Timestamp, frame_header, frames, repaired,
};

/// Packets of a stream whose time of arrival is remembered until they leave.
const ARRIVALS: usize = 1024;

/// A packet of a watched stream, as it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arriving {
    pub(crate) key: StreamKey,
    pub(crate) sequence: Sequence,
    /// `None` for plain RTP.
    pub(crate) carrier: Option<Carrier>,
    /// What it may still lose, its way here paid for.
    pub(crate) slack: Duration,
    pub(crate) hop_limit: u8,
    /// A bit for its plane; none from publishers.
    pub(crate) planes: u8,
    pub(crate) marked: bool,
    pub(crate) bytes: usize,
}

impl Arriving {
    fn media(header: &MediaHeader, carrier: &Carrier, bytes: usize) -> Arriving {
        Arriving {
            key: header.key,
            sequence: header.sequence,
            carrier: Some(*carrier),
            slack: header.slack.as_duration(),
            hop_limit: header.hop_limit,
            planes: 1 << header.plane.0,
            marked: header.marked,
            bytes,
        }
    }

    /// Of a publisher; `None` for plain RTP.
    pub(crate) fn entering(entering: &Entering, carrier: Option<Carrier>, bytes: usize) -> Arriving {
        Arriving {
            key: entering.key,
            sequence: entering.sequence,
            carrier,
            slack: entering.slack.as_duration(),
            hop_limit: HOP_LIMIT,
            planes: 0,
            marked: false,
            bytes,
        }
    }
}

/// A packet of a watched stream, as it leaves.
#[derive(Clone, Copy, Debug)]
struct Leaving {
    sequence: Sequence,
    planes: u8,
    marked: bool,
    bytes: usize,
    again: bool,
}

/// A stream that is watched.
#[derive(Debug)]
pub(crate) struct Trace {
    request: TraceRequest,
    since: Timestamp,
    until: Timestamp,
    /// By link; `None` for plain RTP.
    incoming: BTreeMap<Option<LinkId>, Incoming>,
    outgoing: BTreeMap<LinkId, Outgoing>,
    /// By the low bits of the sequence.
    arrivals: Vec<Option<(Sequence, Timestamp)>>,
    left_out: u64,
}

#[derive(Debug)]
struct Incoming {
    row: TracedIn,
    excess: Spread,
    wait: Spread,
    slack: LateHistogram,
}

#[derive(Debug)]
struct Outgoing {
    row: TracedOut,
    residence: Spread,
}

/// Delays, counted.
#[derive(Debug, Default)]
struct Spread {
    histogram: LateHistogram,
    sum: Duration,
}

impl Spread {
    fn record(&mut self, delay: Duration) {
        self.histogram.record(delay);
        self.sum = self.sum.saturating_add(delay);
    }

    fn told(&self) -> TracedSpread {
        let count = self.histogram.count();
        let mean_us = self.sum.as_micros().checked_div(u128::from(count)).unwrap_or(0);
        TracedSpread {
            count,
            mean: Duration::from_micros(u64::try_from(mean_us).unwrap_or(u64::MAX)),
            p50: self.histogram.percentile(50),
            p99: self.histogram.percentile(99),
            max: self.histogram.max(),
        }
    }
}

impl Trace {
    fn came(&mut self, now: Timestamp, packet: &Arriving, peer: impl FnOnce() -> TracedPeer) {
        let place = packet.sequence.0 as usize % ARRIVALS;
        self.arrivals[place] = Some((packet.sequence, now));
        let link = packet.carrier.map(|carrier| carrier.link);
        if !self.incoming.contains_key(&link) && self.incoming.len() >= TRACED_PEERS {
            self.left_out += 1;
            return;
        }
        let from = self.incoming.entry(link).or_insert_with(|| Incoming::new(peer(), packet));
        let row = &mut from.row;
        row.packets += 1;
        row.bytes += packet.bytes as u64;
        match packet.carrier.map(|carrier| (carrier.restored, carrier.excess)) {
            None => {}
            Some((None, excess)) => from.excess.record(excess),
            Some((Some(Restored::Again), wait)) => {
                row.again += 1;
                from.wait.record(wait);
            }
            Some((Some(Restored::Parity), wait)) => {
                row.parity += 1;
                from.wait.record(wait);
            }
        }
        let ahead = |one: Sequence, other: Sequence| one.0.wrapping_sub(other.0) as i32 > 0;
        if ahead(row.first, packet.sequence) {
            row.first = packet.sequence;
        }
        if ahead(packet.sequence, row.last) {
            row.last = packet.sequence;
        }
        from.slack.record(packet.slack);
        row.slack_min = row.slack_min.min(packet.slack);
        row.hop_limit = row.hop_limit.min(packet.hop_limit);
        row.planes |= packet.planes;
        row.marked += u64::from(packet.marked);
    }

    fn leaves(
        &mut self,
        now: Timestamp,
        link: LinkId,
        packet: &Leaving,
        peer: impl FnOnce() -> Option<TracedPeer>,
    ) {
        if !self.outgoing.contains_key(&link) {
            let peer = peer().filter(|_| self.outgoing.len() < TRACED_PEERS);
            let Some(peer) = peer else {
                self.left_out += 1;
                return;
            };
            let residence = TracedSpread::default();
            let row = TracedOut { peer, packets: 0, bytes: 0, again: 0, residence, planes: 0, marked: 0 };
            self.outgoing.insert(link, Outgoing { row, residence: Spread::default() });
        }
        let Some(to) = self.outgoing.get_mut(&link) else { return };
        if packet.again {
            to.row.again += 1;
            return;
        }
        to.row.packets += 1;
        to.row.bytes += packet.bytes as u64;
        to.row.planes |= packet.planes;
        to.row.marked += u64::from(packet.marked);
        let arrival = self.arrivals[packet.sequence.0 as usize % ARRIVALS];
        if let Some((_, came)) = arrival.filter(|(sequence, _)| *sequence == packet.sequence) {
            to.residence.record(now.since(came));
        }
    }
}

impl Incoming {
    fn new(peer: TracedPeer, packet: &Arriving) -> Incoming {
        let row = TracedIn {
            peer,
            packets: 0,
            bytes: 0,
            again: 0,
            parity: 0,
            first: packet.sequence,
            last: packet.sequence,
            excess: TracedSpread::default(),
            wait: TracedSpread::default(),
            slack_min: packet.slack,
            slack_p50: Duration::ZERO,
            hop_limit: packet.hop_limit,
            planes: 0,
            marked: 0,
            rtt_min: None,
            queueing: Duration::ZERO,
        };
        Incoming { row, excess: Spread::default(), wait: Spread::default(), slack: LateHistogram::default() }
    }
}

impl Relay {
    /// Begins to watch a stream, or says that it watches too many.
    pub(crate) fn trace(&mut self, now: Timestamp, request: TraceRequest) {
        if self.traces.len() >= TRACES {
            self.counters.traces_refused += 1;
            let TraceRequest { trace, key, duration: _ } = request;
            self.report(ToController::Traced(TraceReport {
                trace,
                key,
                refused: true,
                watched: Duration::ZERO,
                incoming: Vec::new(),
                outgoing: Vec::new(),
                left_out: 0,
            }));
            return;
        }
        let until = now + request.duration.clamp(Duration::from_millis(1), TRACE_DURATION);
        self.traces.push(Trace {
            request,
            since: now,
            until,
            incoming: BTreeMap::new(),
            outgoing: BTreeMap::new(),
            arrivals: vec![None; ARRIVALS],
            left_out: 0,
        });
        self.arm_traces();
    }

    fn arm_traces(&mut self) {
        if let Some(next) = self.traces.iter().map(|trace| trace.until).min() {
            self.timers.set(Timer::Traces, next);
        }
    }

    /// Tells what was seen of streams whose time is over.
    pub(crate) fn traces_due(&mut self, now: Timestamp) {
        let (over, go_on) =
            std::mem::take(&mut self.traces).into_iter().partition(|trace| trace.until <= now);
        self.traces = go_on;
        for trace in over {
            let report = self.traced(now, trace);
            self.report(ToController::Traced(report));
        }
        self.arm_traces();
    }

    fn traced(&mut self, now: Timestamp, trace: Trace) -> TraceReport {
        let incoming = trace.incoming.into_iter().map(|(link, from)| {
            let stats = link.and_then(|link| self.link_mut(link)).map(|entry| entry.link.stats());
            TracedIn {
                excess: from.excess.told(),
                wait: from.wait.told(),
                slack_p50: from.slack.percentile(50),
                rtt_min: stats.as_ref().and_then(|stats| stats.rtt_min),
                queueing: stats.map_or(Duration::ZERO, |stats| stats.quality.queueing_in),
                ..from.row
            }
        });
        TraceReport {
            trace: trace.request.trace,
            key: trace.request.key,
            refused: false,
            watched: now.since(trace.since),
            incoming: incoming.collect(),
            outgoing: trace
                .outgoing
                .into_values()
                .map(|to| TracedOut { residence: to.residence.told(), ..to.row })
                .collect(),
            left_out: trace.left_out,
        }
    }

    /// A packet came, perhaps of a watched stream.
    #[cold]
    pub(crate) fn trace_in(&mut self, now: Timestamp, packet: &Arriving) {
        let links = &self.links;
        let peer =
            |link: LinkId| links.get(slot(link)).and_then(Option::as_ref).map(|entry| peer(&entry.side));
        for trace in self.traces.iter_mut().filter(|trace| trace.request.key == packet.key) {
            let from = || packet.carrier.and_then(|carrier| peer(carrier.link)).unwrap_or(TracedPeer::Plain);
            trace.came(now, packet, from);
        }
    }

    /// The same of media from a relay. The packet is described in here, not on the way of those of which nobody asks.
    #[cold]
    #[inline(never)]
    pub(crate) fn trace_media_in(
        &mut self,
        now: Timestamp,
        header: &MediaHeader,
        carrier: &Carrier,
        bytes: usize,
    ) {
        self.trace_in(now, &Arriving::media(header, carrier, bytes));
    }

    /// A train leaves, perhaps with packets of watched streams.
    #[cold]
    pub(crate) fn trace_train(&mut self, now: Timestamp, link: LinkId, train: &Train) {
        for slot in train.slots() {
            self.trace_datagram(now, link, &train.bytes()[slot.plain()], false);
        }
    }

    fn trace_datagram(&mut self, now: Timestamp, link: LinkId, plain: &[u8], again: bool) {
        for RawFrame { kind, body } in frames(plain).flatten() {
            let body = &plain[body];
            match kind {
                FrameKind::Media => self.trace_media(now, link, body, body.len(), again),
                FrameKind::Edge => self.trace_edge(now, link, body, again),
                FrameKind::Fragment => {
                    // The first half has the header.
                    let share = body.get(FRAGMENT_HEADER_BYTES..).unwrap_or_default();
                    let first = FragmentHeader::decode(body).is_ok_and(|half| !half.second);
                    let media = frame_header(FrameKind::Media, 0)[0] & 0xF8;
                    if first && share.len() > FRAME_HEADER_BYTES && share[0] & 0xF8 == media {
                        let whole = 2 * (share.len() - FRAME_HEADER_BYTES);
                        self.trace_media(now, link, &share[FRAME_HEADER_BYTES..], whole, again);
                    }
                }
                FrameKind::Repair if !again => {
                    if let Ok((_, repeated)) = repaired(body, u64::MAX >> 1) {
                        self.trace_datagram(now, link, repeated, true);
                    }
                }
                FrameKind::Repair
                | FrameKind::Parity
                | FrameKind::Heartbeat
                | FrameKind::KeyframeRequest
                | FrameKind::EdgeKeyframeRequest
                | FrameKind::MtuProbe
                | FrameKind::PathChallenge
                | FrameKind::RepairRequest
                | FrameKind::Unknown(_) => {}
            }
        }
    }

    fn trace_media(&mut self, now: Timestamp, link: LinkId, body: &[u8], bytes: usize, again: bool) {
        let Ok((header, _)) = MediaHeader::decode(body) else { return };
        let planes = 1 << header.plane.0;
        let packet = Leaving { sequence: header.sequence, planes, marked: header.marked, bytes, again };
        self.trace_out(now, link, header.key, &packet);
    }

    fn trace_edge(&mut self, now: Timestamp, link: LinkId, body: &[u8], again: bool) {
        let Ok(header) = EdgeHeader::decode(body) else { return };
        let key = self.link_mut(link).and_then(|entry| match &entry.side {
            Side::Client(client) => client.announced(header.handle),
            Side::Relay { node: _ } => None,
        });
        let Some(key) = key else { return };
        let packet =
            Leaving { sequence: header.sequence, planes: 0, marked: false, bytes: body.len(), again };
        self.trace_out(now, link, key, &packet);
    }

    fn trace_out(&mut self, now: Timestamp, link: LinkId, key: StreamKey, packet: &Leaving) {
        let links = &self.links;
        let to = || links.get(slot(link)).and_then(Option::as_ref).map(|entry| peer(&entry.side));
        for trace in self.traces.iter_mut().filter(|trace| trace.request.key == key) {
            trace.leaves(now, link, packet, to);
        }
    }
}

fn peer(side: &Side) -> TracedPeer {
    match side {
        Side::Relay { node } => TracedPeer::Relay(*node),
        Side::Client(client) => {
            let PeerView::Client { mut subject, .. } = client.view() else { return TracedPeer::Plain };
            while subject.len() > NAME_BYTES {
                subject.pop();
            }
            TracedPeer::Sfu(subject)
        }
    }
}
