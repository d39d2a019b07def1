//! One end of a link: packet numbers, what waits to be sent, heartbeats, measurement and liveness. Who is at the other
//! end and what the frames mean is its owner's business.

use crate::backlog::{BacklogMemory, Parked, Shed};
use crate::history::{History, HistoryMemory};
use crate::liveness::{Change, HEARTBEAT_CLOSE, HEARTBEAT_IDLE, Liveness, Trust};
use crate::measure::{Feedback, Rate, Reception};
use crate::path_mtu::PathMtu;
use crate::quality::ResidualLoss;
use crate::queue::{OrderLane, Pushed, Refused, SendQueue};
use crate::rate_control::ArrivalReport;
use crate::rejoin::Rejoin;
use crate::sending::Sending;
use crate::{LinkId, RepairStats, Train};
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;
use wire_format::control::{LOSS_BURSTS, LinkState};
use wire_format::{
    DATAGRAM_BYTES_BASE, DATAGRAM_BYTES_MAX, FRAME_HEADER_BYTES, FrameError, FrameKind, Heartbeat, MtuProbe,
    PacketNumber, PathChallenge, RawFrame, SEAL_OVERHEAD_BYTES, SEND_TIME_BYTES, Timestamp, WireTime,
    frame_header, send_time_bytes,
};

/// A link counts as used for so long after its last media frame.
const USED_FOR: Duration = Duration::from_secs(1);
/// A new link is watched closely for so long, to measure it soon.
const YOUNG_FOR: Duration = Duration::from_secs(2);
/// Heartbeats of two seconds.
const UNREPORTED_MAX: usize = 64;

/// The state of one link that does not depend on who is at its other end.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: LinkId,
    mtu: PathMtu,
    next_number: u64,
    queue: SendQueue,
    rejoin: Rejoin,
    history: History,
    /// To be asked at the address that the peer may have moved to.
    challenge: Option<[u8; 8]>,
    /// The question that was asked last and has not been answered.
    asked: Option<[u8; 8]>,
    /// The question that was answered last.
    answered: Option<[u8; 8]>,
    made_at: Timestamp,
    reception: Reception,
    feedback: Feedback,
    liveness: Liveness,
    /// A route leads over it.
    routed: bool,
    media_at: Option<Timestamp>,
    peer_in_use: bool,
    datagrams_out: u64,
    bytes_out: u64,
    bytes_in: u64,
    rate_out: Rate,
    rate_in: Rate,
    residual: ResidualLoss,
    next_heartbeat: Timestamp,
    /// Heartbeats that the other end has not reported, oldest first: the first number that each may have, and when it
    /// left.
    unreported: VecDeque<(PacketNumber, Timestamp)>,
    repair: RepairStats,
    sending: Sending,
}

/// What handling a heartbeat or the clock changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct LinkChange {
    /// The state is another.
    pub(crate) state: bool,
    /// Routes may expect more or less of it than before.
    pub(crate) trust: bool,
    /// The first round trip is known.
    pub(crate) measured: bool,
    /// Silent for too long: close it.
    pub(crate) hopeless: bool,
    /// The next tick is earlier than it was.
    pub(crate) sooner: bool,
    /// MTU probes that leave now.
    pub(crate) probes: usize,
    /// The path has become narrower.
    pub(crate) narrower: bool,
    /// Halves of frames given up.
    pub(crate) halves_lost: u64,
}

/// What an owner or an operator may know about a link.
#[derive(Clone, PartialEq, Debug)]
pub struct LinkStats {
    /// Whether it can carry media.
    pub state: LinkState,
    /// Round trip without the moments in which a host was busy: the least of the last second or so, `None` before the
    /// first sample.
    pub rtt: Option<Duration>,
    /// Least round trip of the last 10 to 20 s.
    pub rtt_min: Option<Duration>,
    /// Interarrival jitter of what arrives.
    pub jitter_in: Duration,
    /// Interarrival jitter at the other end.
    pub jitter_out: Duration,
    /// Loss of what was sent over about 10 s, parts per million.
    pub loss_out_ppm: u32,
    /// Loss of what should have arrived over about 10 s, parts per million.
    pub loss_in_ppm: u32,
    /// Bytes per second sent (UDP payload) in the last second.
    pub rate_out: u64,
    /// Bytes per second received (UDP payload) in the last second.
    pub rate_in: u64,
    /// Datagrams sent.
    pub datagrams_out: u64,
    /// Datagrams received.
    pub datagrams_in: u64,
    /// Bytes sent (UDP payload).
    pub bytes_out: u64,
    /// Bytes received (UDP payload).
    pub bytes_in: u64,
    /// Round trips measured.
    pub samples: u64,
    /// Smoothed round trip (RFC 6298), moments in which a host was busy included.
    pub rtt_smoothed: Option<Duration>,
    /// Its mean deviation (RFC 6298).
    pub rtt_variation: Option<Duration>,
    /// How often so many datagrams in a row were missing here, by the buckets of [`wire_format::control::LOSS_BURST_NAMES`].
    pub bursts_in: [u64; LOSS_BURSTS],
    /// What was missing here and was not restored, over about 10 s, parts per million.
    pub residual_in_ppm: u32,
    /// Media or a route depends on it, here or at the other end.
    pub in_use: bool,
    /// Memory of what it sent of late, for the case that it has to go again.
    pub history_bytes: usize,
    /// Largest datagram that is sent (UDP payload); what is larger travels in halves.
    pub mtu_bytes: u16,
    /// MTU probes sent.
    pub mtu_probes: u32,
    /// How often large datagrams were found to vanish.
    pub mtu_fallbacks: u64,
    /// What repair did and cost.
    pub repair: RepairStats,
    /// Queueing delay of what arrives: above the least that the path took in the last 10 to 20 s.
    pub queueing_in: Duration,
    /// The same of what is sent, as the other end says.
    pub queueing_out: Duration,
    /// Bytes a second (UDP payload) that it is given at most, because more made a queue; `None` as long as nothing did.
    pub rate_limit: Option<u64>,
    /// How often a limit was needed.
    pub rate_limited: u64,
    /// Bytes of media that wait because it carries no more.
    pub waiting_bytes: usize,
}

impl Link {
    pub(crate) fn new(now: Timestamp, id: LinkId, max_datagram: u16) -> Link {
        let mtu = PathMtu::new(max_datagram.min(DATAGRAM_BYTES_MAX as u16));
        Link {
            id,
            next_number: 0,
            queue: SendQueue::new(mtu.plain_max()),
            mtu,
            rejoin: Rejoin::default(),
            history: History::default(),
            challenge: None,
            asked: None,
            answered: None,
            made_at: now,
            reception: Reception::new(),
            feedback: Feedback::new(now),
            liveness: Liveness::new(now),
            routed: false,
            media_at: None,
            peer_in_use: false,
            datagrams_out: 0,
            bytes_out: 0,
            bytes_in: 0,
            rate_out: Rate::new(now),
            rate_in: Rate::new(now),
            residual: ResidualLoss::default(),
            next_heartbeat: now,
            unreported: VecDeque::new(),
            repair: RepairStats::default(),
            sending: Sending::default(),
        }
    }

    /// Takes the place of another link to the same neighbour.
    pub(crate) fn succeed(&mut self, now: Timestamp, before: &Link) {
        self.liveness.succeed(now, &before.liveness);
    }

    /// Something waits to be packed.
    pub(crate) fn has_output(&self) -> bool {
        !self.queue.is_empty() || self.mtu.next_probe().is_some() || self.challenge.is_some()
    }

    /// What routes may expect of it.
    pub(crate) fn trust(&self) -> Trust {
        self.liveness.trust()
    }

    /// Whether the other end has been heard at all.
    pub(crate) fn was_heard(&self) -> bool {
        self.reception.received() > 0
    }

    /// An authenticated datagram came; its frames are the owner's.
    pub(crate) fn datagram_in(
        &mut self,
        now: Timestamp,
        number: PacketNumber,
        sent: WireTime,
        plain_bytes: usize,
    ) -> LinkChange {
        self.reception.datagram(now, number, sent);
        let bytes = plain_bytes + SEAL_OVERHEAD_BYTES;
        self.bytes_in += bytes as u64;
        if bytes > DATAGRAM_BYTES_BASE {
            self.reception.large();
        }
        let Change { state, trust } = self.liveness.heard(now);
        LinkChange { state, trust, sooner: state, ..LinkChange::default() }
    }

    /// A heartbeat came.
    pub(crate) fn heartbeat_in(&mut self, now: Timestamp, heartbeat: &Heartbeat) -> LinkChange {
        let needed = heartbeat.in_use && !self.peer_in_use;
        self.peer_in_use = heartbeat.in_use;
        let probes = self.mtu.probes_until(heartbeat.highest);
        let measured = self.feedback.heartbeat(now, heartbeat, probes);
        self.hear_arrival(now, heartbeat);
        let trusted = self.liveness.trust();
        self.judge_hearing(now);
        let mut change = LinkChange {
            measured,
            trust: self.liveness.trust() != trusted,
            sooner: needed && self.hurry(now),
            ..LinkChange::default()
        };
        if let Some(sizes) = heartbeat.sizes {
            self.reception.probes_told(sizes.probes_sent);
            let fallbacks = self.mtu.fallbacks();
            change.probes = self.mtu.heartbeat(now, heartbeat.highest, sizes);
            change.narrower = self.mtu.fallbacks() > fallbacks;
            change.sooner |= change.probes > 0;
            self.limit_queue();
        }
        change
    }

    /// An MTU probe or its answer came, in a datagram of so many plain bytes.
    ///
    /// # Errors
    /// [`FrameError`] if it makes no sense. What was not answered for want of room is asked again.
    pub(crate) fn probe_in(&mut self, body: &[u8], plain_bytes: usize) -> Result<(), FrameError> {
        let probe = MtuProbe::decode(body)?;
        if probe.answer {
            if self.mtu.answered(probe.bytes) {
                self.limit_queue();
            }
            return Ok(());
        }
        if usize::from(probe.bytes) != plain_bytes + SEAL_OVERHEAD_BYTES
            || usize::from(probe.bytes) <= DATAGRAM_BYTES_BASE
        {
            return Err(FrameError::Field);
        }
        self.reception.probe(probe.count);
        let answer = MtuProbe { answer: true, ..probe };
        let _ = self.push_small(FrameKind::MtuProbe, &answer.encode());
        Ok(())
    }

    /// Asks whether the peer receives where the driver sends the next datagram.
    pub(crate) fn challenge(&mut self, token: [u8; 8]) {
        self.challenge = Some(token);
        self.asked = Some(token);
    }

    /// A path challenge or its answer came. `true` if it was a question; the driver knows answers by their token. Either
    /// way one end is elsewhere now, and the path between them another.
    ///
    /// # Errors
    /// [`FrameError`] if it makes no sense.
    pub(crate) fn challenge_in(
        &mut self,
        now: Timestamp,
        body: &[u8],
    ) -> Result<(bool, LinkChange), FrameError> {
        let challenge = PathChallenge::decode(body)?;
        let token = Some(challenge.token);
        let moved = if challenge.answer {
            // Once for each question.
            self.asked == token && self.asked.take().is_some()
        } else {
            // A question is repeated until it is answered.
            std::mem::replace(&mut self.answered, token) != token
        };
        let probes = if moved { self.mtu.moved(now) } else { 0 };
        self.limit_queue();
        let change = LinkChange { probes, sooner: probes > 0, ..LinkChange::default() };
        if challenge.answer {
            return Ok((false, change));
        }
        let answer = PathChallenge { answer: true, ..challenge };
        // With no room for it the question is repeated.
        let _ = self.push_small(FrameKind::PathChallenge, &answer.encode());
        Ok((true, change))
    }

    /// Half of a frame came. If it was the missing one, the frame is in `whole`.
    ///
    /// # Errors
    /// [`FrameError`] if it makes no sense, or the frame does not.
    pub(crate) fn half_in(
        &mut self,
        now: Timestamp,
        body: &[u8],
        whole: &mut Vec<u8>,
    ) -> Result<Option<RawFrame>, FrameError> {
        self.rejoin.half(now, body, whole)
    }

    /// The other end has said how fast what was sent arrives.
    fn hear_arrival(&mut self, now: Timestamp, heartbeat: &Heartbeat) {
        let (Some(arrival), Some(said_at)) = (heartbeat.arrival, self.reception.newest_sent()) else {
            return;
        };
        let queueing = Duration::from_micros(u64::from(arrival.queueing) * WireTime::UNIT_US);
        let rtt = self.feedback.rtt_min().unwrap_or_default();
        self.sending.report(now, ArrivalReport { said_at, queueing, bytes: arrival.bytes, rtt });
    }

    /// The other end has said what it received: is that what was sent?
    fn judge_hearing(&mut self, now: Timestamp) {
        let Some(rtt) = self.feedback.rtt() else { return };
        let highest = self.feedback.acknowledged(self.next_number);
        let mut reached = false;
        while self.unreported.front().is_some_and(|(number, _)| Some(*number) <= highest) {
            self.unreported.pop_front();
            reached = true;
        }
        let oldest = self.unreported.front().map_or(now, |(_, left)| *left);
        self.liveness.reported(now, reached, now.since(oldest).saturating_sub(rtt));
    }

    /// Media passes over the link, in either direction. `true` if that brings the next tick forward.
    pub(crate) fn media_seen(&mut self, now: Timestamp) -> bool {
        let fresh = self.media_at.is_none_or(|at| now.since(at) >= USED_FOR);
        self.media_at = Some(now);
        fresh && self.hurry(now)
    }

    /// Sets whether a route leads over the link. `true` if that brings the next tick forward.
    pub(crate) fn set_routed(&mut self, now: Timestamp, routed: bool) -> bool {
        self.routed = routed;
        routed && self.hurry(now)
    }

    /// Queues a frame without packet.
    pub(crate) fn push_small(&mut self, kind: FrameKind, body: &[u8]) -> Result<Pushed, Refused> {
        self.queue.push(kind, OrderLane::NONE, 0..0, |head| {
            head[..body.len()].copy_from_slice(body);
            body.len()
        })
    }

    /// Queues a frame with a packet of the arena or the annex.
    pub(crate) fn push_packet(
        &mut self,
        kind: FrameKind,
        lane: OrderLane,
        packet: Range<usize>,
        write_head: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<Pushed, Refused> {
        self.queue.push(kind, lane, packet, write_head)
    }

    /// Media is among what it has sent of late.
    pub(crate) fn owes(&self) -> bool {
        !self.history.sent().is_empty()
    }

    /// Takes the media that the other end has not said to have got past.
    pub(crate) fn take_unacknowledged(&mut self) -> History {
        let mut history = std::mem::take(&mut self.history);
        if let Some(number) = self.feedback.acknowledged(self.next_number) {
            history.forget_through(number);
        }
        history
    }

    /// When [`Link::tick`] is due. Later than the `now` of the last tick; changed by ticks only, and where media waits by
    /// [`Link::schedule`], so that a packet that leaves at once never touches a timer.
    pub(crate) fn next_tick(&self, now: Timestamp) -> Timestamp {
        let next = self.next_heartbeat.min(self.liveness.next_check(now));
        let next = self.sending.next(now).map_or(next, |at| next.min(at));
        self.mtu.next_tick().map_or(next, |at| next.min(at))
    }

    /// Sends a heartbeat and MTU probes if they are due, and judges silence.
    pub(crate) fn tick(&mut self, now: Timestamp) -> LinkChange {
        let own_use = self.routed
            || self.media_at.is_some_and(|at| now.since(at) < USED_FOR)
            || now.since(self.made_at) < YOUNG_FOR;
        let close = own_use || self.peer_in_use;
        self.liveness.watch_closely(now, close);
        if now >= self.next_heartbeat {
            let mut body = [0; Heartbeat::BYTES_MAX];
            let arrival = Some(self.reception.arrival(now, self.bytes_in));
            let heartbeat = self.reception.heartbeat(now, own_use, self.mtu.probes_sent());
            let used = Heartbeat { arrival, ..heartbeat }.encode(&mut body);
            // A full queue already proves that this end is alive.
            let _ = self.push_small(FrameKind::Heartbeat, &body[..used]);
            // With so many on their way the oldest tells enough.
            if self.unreported.len() < UNREPORTED_MAX {
                self.unreported.push_back((PacketNumber(self.next_number), now));
            }
            self.next_heartbeat = now + if close { HEARTBEAT_CLOSE } else { HEARTBEAT_IDLE };
        }
        let trusted = self.liveness.trust();
        let probes = self.mtu.tick(now);
        self.limit_queue();
        LinkChange {
            state: self.liveness.check(now),
            trust: self.liveness.trust() != trusted,
            hopeless: self.liveness.is_hopeless(now),
            probes,
            halves_lost: self.rejoin.take_lost(now),
            ..LinkChange::default()
        }
    }

    /// The link is given only so much, or media waits for it: [`Link::schedule`] comes before [`Link::pack`].
    pub(crate) fn is_paced(&self) -> bool {
        self.sending.is_paced()
    }

    /// Decides what leaves now and what waits. `true` if something waits, so that the next tick may be sooner.
    pub(crate) fn schedule(
        &mut self,
        now: Timestamp,
        bytes: (&[u8], &mut Vec<u8>),
        memory: &mut BacklogMemory,
    ) -> bool {
        self.sending.schedule(now, &mut self.queue, bytes, memory);
        self.sending.waiting_bytes() > 0
    }

    /// What was dropped because the link cannot carry it, since the last call.
    pub(crate) fn take_shed(&mut self) -> Option<Shed> {
        self.sending.take_shed()
    }

    /// Takes out the media that waits for the link to carry it, in the order in which it came.
    pub(crate) fn take_waiting(&mut self) -> Vec<Parked> {
        self.sending.take_waiting()
    }

    /// Packs what waits into `train`; `bytes` are arena and annex. `true` when nothing is left.
    pub(crate) fn pack(
        &mut self,
        now: Timestamp,
        bytes: (&[u8], &[u8]),
        memory: &mut HistoryMemory,
        train: &mut Train,
    ) -> bool {
        if let Some(token) = self.challenge.take() {
            let body = PathChallenge { answer: false, token }.encode();
            self.pack_alone(now, FrameKind::PathChallenge, &body, 0, train);
        } else if self.queue.is_empty() {
            self.pack_probe(now, train);
        } else {
            let kept = (&mut self.history, memory);
            if self.queue.pack(now, bytes, &mut self.next_number, kept, train) {
                self.limit_queue();
            }
            self.count_large(train);
        }
        self.datagrams_out += train.slots().len() as u64;
        self.bytes_out += train.bytes().len() as u64;
        self.sending.spent(now, train.bytes().len());
        if self.queue.is_empty() {
            self.sending.drained();
        }
        !self.has_output()
    }

    /// An MTU probe: a datagram of the size that it asks for.
    fn pack_probe(&mut self, now: Timestamp, train: &mut Train) {
        let Some(probe) = self.mtu.probe_leaves(self.next_number) else { return };
        let plain_bytes = usize::from(probe.bytes) - SEAL_OVERHEAD_BYTES;
        self.pack_alone(now, FrameKind::MtuProbe, &probe.encode(), plain_bytes, train);
    }

    /// A datagram of one frame, padded to a length at least.
    fn pack_alone(
        &mut self,
        now: Timestamp,
        kind: FrameKind,
        body: &[u8],
        plain_bytes: usize,
        train: &mut Train,
    ) {
        let end = SEND_TIME_BYTES + FRAME_HEADER_BYTES + body.len();
        let plain = train.append(PacketNumber(self.next_number), plain_bytes.max(end));
        self.next_number += 1;
        plain[..SEND_TIME_BYTES].copy_from_slice(&send_time_bytes(now.wire()));
        plain[SEND_TIME_BYTES..][..FRAME_HEADER_BYTES].copy_from_slice(&frame_header(kind, body.len()));
        plain[SEND_TIME_BYTES + FRAME_HEADER_BYTES..end].copy_from_slice(body);
        plain[end..].fill(0);
    }

    /// Notes datagrams that not every path carries. All of a train but the last are of one length.
    fn count_large(&mut self, train: &Train) {
        if train.segment_bytes() > DATAGRAM_BYTES_BASE
            && let Some((last, others)) = train.slots().split_last()
        {
            let count = others.len() + usize::from(last.sealed.len() > DATAGRAM_BYTES_BASE);
            self.mtu.large_leave(count as u32, last.number.0);
        }
    }

    /// What waits keeps the limits that it was pushed under; the next frame is measured by the present ones.
    fn limit_queue(&mut self) {
        if self.queue.is_empty() {
            self.queue.set_limits(self.mtu.plain_max(), self.mtu.peer_rejoins());
        }
    }

    /// Reads the rates; to be called about once a second.
    pub(crate) fn read_rates(&mut self, now: Timestamp) {
        self.rate_out.read(now, self.bytes_out);
        self.rate_in.read(now, self.bytes_in);
        let gone = self.stats().repair_totals().unrepaired();
        self.residual.read(now, self.reception.expected(), gone);
    }

    pub(crate) fn stats(&self) -> LinkStats {
        LinkStats {
            state: self.liveness.state(),
            rtt: self.feedback.rtt_calm(),
            rtt_min: self.feedback.rtt_min(),
            jitter_in: self.reception.jitter(),
            jitter_out: self.feedback.jitter(),
            loss_out_ppm: self.feedback.loss_ppm(),
            loss_in_ppm: self.reception.loss_ppm(),
            rate_out: self.rate_out.per_second(),
            rate_in: self.rate_in.per_second(),
            datagrams_out: self.datagrams_out,
            datagrams_in: self.reception.received(),
            bytes_out: self.bytes_out,
            bytes_in: self.bytes_in,
            samples: self.feedback.samples(),
            rtt_smoothed: self.feedback.rtt(),
            rtt_variation: self.feedback.rtt().map(|_| self.feedback.rtt_var()),
            bursts_in: [0; LOSS_BURSTS],
            residual_in_ppm: self.residual.ppm(),
            in_use: self.routed || self.media_at.is_some() || self.peer_in_use,
            history_bytes: self.history.memory(),
            mtu_bytes: self.mtu.datagram_max(),
            mtu_probes: self.mtu.probes_sent(),
            mtu_fallbacks: self.mtu.fallbacks(),
            repair: self.repair.clone(),
            queueing_in: self.reception.queueing(),
            queueing_out: self.sending.queueing(),
            rate_limit: self.sending.limit(),
            rate_limited: self.sending.limited(),
            waiting_bytes: self.sending.waiting_bytes(),
        }
    }

    /// The link is needed: a heartbeat soon. `true` if it was due later.
    fn hurry(&mut self, now: Timestamp) -> bool {
        let soon = now + HEARTBEAT_CLOSE;
        let sooner = soon < self.next_heartbeat;
        self.next_heartbeat = self.next_heartbeat.min(soon);
        sooner
    }
}
