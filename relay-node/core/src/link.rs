//! One end of a link: packet numbers, what waits to be sent, heartbeats, measurement and liveness. Who is at the other
//! end and what the frames mean is its owner's business.

use crate::backlog::{BacklogMemory, Parked, Shed};
use crate::liveness::{Change, HEARTBEAT_CLOSE, HEARTBEAT_IDLE, Liveness, Trust};
use crate::measure::{Feedback, Rate, Reception};
use crate::path_mtu::PathMtu;
use crate::quality::ResidualLoss;
use crate::queue::{OrderLane, Pushed, Refused, SendQueue};
use crate::rate_control::ArrivalReport;
use crate::rejoin::Rejoin;
use crate::repair::{AGAIN_BYTES, Arrival, History, PathState, Repair, RepairMemory, RepairMode, Urgency};
use crate::sending::Sending;
mod pack;
mod stats;

pub use stats::LinkStats;

use crate::LinkId;
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;
use wire_format::{
    DATAGRAM_BYTES_BASE, DATAGRAM_BYTES_MAX, FrameError, FrameKind, Heartbeat, MtuProbe, PacketNumber,
    PathChallenge, RawFrame, SEAL_OVERHEAD_BYTES, Slack, Timestamp, WireTime, send_time,
};

/// A link counts as used for so long after its last media frame.
const USED_FOR: Duration = Duration::from_secs(1);
/// A new link is watched closely for so long, to measure it soon.
const YOUNG_FOR: Duration = Duration::from_secs(2);
/// A deadline is later than the input that sets it.
const TICK_MIN: Duration = Duration::from_micros(1);
/// A heartbeat waits so long for media to go with.
const HEARTBEAT_WAIT: Duration = Duration::from_millis(20);
/// How fast what comes arrives is told no more often.
const ARRIVAL_APART: Duration = Duration::from_millis(25);
/// An end whose datagrams are not reported for longer than a round trip and this sends heartbeats ...
const UNHEARD_AFTER: Duration = Duration::from_millis(100);
/// ... so far apart.
const HEARTBEAT_UNHEARD: Duration = Duration::from_millis(10);
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
    repair: Repair,
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
    /// The deadline that the owner has set.
    armed: Option<Timestamp>,
    /// A heartbeat leaves with the next media.
    heartbeat_waits: bool,
    /// When a heartbeat last told how fast what comes arrives.
    told_arrival_at: Option<Timestamp>,
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
    /// Something is missing and is to be asked for.
    pub(crate) asks: bool,
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

/// What a datagram is to its link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Came {
    /// How much longer than usual it took.
    pub(crate) excess: Duration,
    /// All in it has been handled.
    pub(crate) restored_before: bool,
    state: bool,
    trust: bool,
    asks: bool,
}

impl Came {
    /// What it changed about the link, if anything: it seldom does.
    pub(crate) fn change(&self) -> Option<LinkChange> {
        let Came { state, trust, asks, .. } = *self;
        let sooner = state || asks;
        (sooner || trust).then(|| LinkChange { state, trust, sooner, asks, ..LinkChange::default() })
    }
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
            repair: Repair::new(now),
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
            armed: None,
            heartbeat_waits: false,
            told_arrival_at: None,
            sending: Sending::default(),
        }
    }

    /// Sets what is done against loss; before anything comes or leaves.
    pub(crate) fn set_repair(&mut self, mode: RepairMode) {
        self.repair.set_mode(mode);
    }

    /// Takes the place of another link to the same neighbour.
    pub(crate) fn succeed(&mut self, now: Timestamp, before: &Link) {
        self.liveness.succeed(now, &before.liveness);
    }

    /// Something waits to be packed.
    pub(crate) fn has_output(&self, now: Timestamp) -> bool {
        !self.queue.is_empty()
            || self.mtu.next_probe().is_some()
            || self.challenge.is_some()
            || self.repair.has_output(now)
    }

    /// What routes may expect of it.
    pub(crate) fn trust(&self) -> Trust {
        self.liveness.trust()
    }

    /// Whether the other end has been heard at all.
    pub(crate) fn was_heard(&self) -> bool {
        self.reception.received() > 0
    }

    /// An authenticated datagram came; its frames are the owner's, unless it was restored before.
    pub(crate) fn datagram_in(
        &mut self,
        now: Timestamp,
        number: PacketNumber,
        sent: WireTime,
        plain: &[u8],
    ) -> Came {
        let excess = self.reception.datagram(now, number, sent);
        let bytes = plain.len() + SEAL_OVERHEAD_BYTES;
        self.bytes_in += bytes as u64;
        if bytes > DATAGRAM_BYTES_BASE {
            self.reception.large();
        }
        let arrival = self.repair.arrived(now, number, plain);
        let Change { state, trust } = self.liveness.heard(now);
        let asks = arrival == Arrival::New { gap: true };
        Came { excess, restored_before: arrival == Arrival::Restored, state, trust, asks }
    }

    /// A datagram came again: its plain bytes, and how much later than usual; `None` if it is there already.
    ///
    /// # Errors
    /// [`FrameError`] if it makes no sense.
    pub(crate) fn repair_in<'a>(
        &mut self,
        now: Timestamp,
        body: &'a [u8],
    ) -> Result<Option<(&'a [u8], Duration)>, FrameError> {
        let Some(plain) = self.repair.repair_in(body)? else { return Ok(None) };
        let late = self.reception.excess(now, send_time(plain)?);
        self.repair.restored_late(late);
        Ok(Some((plain, late)))
    }

    /// A row of parity came. [`Link::next_restored`] gives what it restores.
    ///
    /// # Errors
    /// [`FrameError`] if it makes no sense.
    pub(crate) fn parity_in(
        &mut self,
        now: Timestamp,
        body: &[u8],
        memory: &mut RepairMemory,
    ) -> Result<(), FrameError> {
        self.repair.parity_in(now, body, memory)
    }

    /// The next datagram that parity restored: its plain bytes are in `plain`, and it is so much later than usual.
    pub(crate) fn next_restored(&mut self, now: Timestamp, plain: &mut Vec<u8>) -> Option<Duration> {
        while self.repair.next_restored(plain) {
            if let Ok(sent) = send_time(plain) {
                let late = self.reception.excess(now, sent);
                self.repair.restored_late(late);
                return Some(late);
            }
        }
        None
    }

    /// The other end says what is missing. `true` if something is to be sent again.
    ///
    /// # Errors
    /// [`FrameError`] if it makes no sense.
    pub(crate) fn request_in(&mut self, now: Timestamp, body: &[u8]) -> Result<bool, FrameError> {
        self.repair.request_in(now, body, self.next_number)
    }

    /// Media came that may still lose so much time; `restored` if not by itself.
    pub(crate) fn media_came(&mut self, now: Timestamp, slack: Slack, restored: bool) {
        self.repair.media_came(now, slack);
        if !restored {
            self.repair.fresh_media_came(now);
        }
    }

    /// A heartbeat came.
    pub(crate) fn heartbeat_in(&mut self, now: Timestamp, heartbeat: &Heartbeat) -> LinkChange {
        let needed = heartbeat.in_use && !self.peer_in_use;
        self.peer_in_use = heartbeat.in_use;
        self.repair.peer_repairs(heartbeat.repairs);
        let probes = self.mtu.probes_until(heartbeat.highest);
        let measured = self.feedback.heartbeat(now, heartbeat, probes);
        if !self.repair.is_on() {
            self.forget_acknowledged();
        }
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
        let before = self.media_at.replace(now);
        before.is_none_or(|at| now >= at + USED_FOR) && self.hurry(now)
    }

    /// Sets whether a route leads over the link. `true` if that brings the next tick forward.
    pub(crate) fn set_routed(&mut self, now: Timestamp, routed: bool) -> bool {
        self.routed = routed;
        routed && self.hurry(now)
    }

    /// Queues a frame without packet.
    pub(crate) fn push_small(&mut self, kind: FrameKind, body: &[u8]) -> Result<Pushed, Refused> {
        self.queue.push(kind, None, OrderLane::NONE, 0..0, |head| {
            head[..body.len()].copy_from_slice(body);
            body.len()
        })
    }

    /// Queues a frame with a packet of the arena or the annex.
    pub(crate) fn push_packet(
        &mut self,
        kind: FrameKind,
        urgency: Urgency,
        lane: OrderLane,
        packet: Range<usize>,
        write_head: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<Pushed, Refused> {
        self.queue.push(kind, Some(urgency), lane, packet, write_head)
    }

    /// Media is among what it has sent of late.
    pub(crate) fn owes(&self) -> bool {
        !self.repair.history.sent().is_empty()
    }

    /// Takes the media that the other end has not said to have got past.
    pub(crate) fn take_unacknowledged(&mut self) -> History {
        self.forget_acknowledged();
        std::mem::take(&mut self.repair.history)
    }

    fn forget_acknowledged(&mut self) {
        if let Some(number) = self.feedback.acknowledged(self.next_number) {
            self.repair.history.forget_through(number);
        }
    }

    /// Gives back the memory that repair took, but what it sent of late.
    pub(crate) fn release(&mut self, memory: &mut RepairMemory) {
        self.repair.release(memory);
    }

    /// When [`Link::tick`] is due. Read by [`Link::rearm`], after ticks and when something was packed.
    fn next_tick(&self, now: Timestamp) -> Timestamp {
        let next = self.next_heartbeat.min(self.liveness.next_check(now));
        let next = self.sending.next(now).map_or(next, |at| next.min(at));
        let next = self.mtu.next_tick().map_or(next, |at| next.min(at));
        self.repair.next_due().map_or(next, |at| next.min(at))
    }

    /// The deadline to set, if it is another than the one set last. Changed by everything.
    pub(crate) fn rearm(&mut self, now: Timestamp) -> Option<Timestamp> {
        // What is due now leaves with the drain of the present input.
        let next = self.next_tick(now).max(now + TICK_MIN);
        (self.armed.replace(next) != Some(next)).then_some(next)
    }

    /// Sends a heartbeat and MTU probes if they are due, and judges silence.
    pub(crate) fn tick(&mut self, now: Timestamp, memory: &mut RepairMemory) -> LinkChange {
        self.armed = None;
        let close = self.own_use(now) || self.peer_in_use;
        self.liveness.watch_closely(now, close);
        if now >= self.next_heartbeat {
            self.heartbeat_due(now, close);
        }
        let path = PathState {
            rtt: self.feedback.rtt(),
            rtt_var: self.feedback.rtt_var(),
            loss_ppm: self.feedback.loss_ppm(),
        };
        self.repair.tick(now, &path, memory);
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
        let again = self.repair.next_again(now);
        let repair = again.map_or(0, |(_, plain)| AGAIN_BYTES + plain.len() + SEAL_OVERHEAD_BYTES);
        self.sending.schedule(now, repair, &mut self.queue, bytes, memory);
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

    /// A heartbeat is due: with the next media, if some is likely soon, or by itself.
    fn heartbeat_due(&mut self, now: Timestamp, close: bool) {
        let media_soon = self.repair.media_at().is_some_and(|at| now.since(at) < HEARTBEAT_CLOSE);
        if close && media_soon && !self.heartbeat_waits {
            self.heartbeat_waits = true;
            self.next_heartbeat = now + HEARTBEAT_WAIT;
        } else {
            self.heartbeat(now, close);
        }
    }

    fn heartbeat(&mut self, now: Timestamp, close: bool) {
        self.heartbeat_waits = false;
        let own_use = self.own_use(now);
        let mut body = [0; Heartbeat::BYTES_MAX];
        // Heartbeats in quick succession are too short a time to tell a queue from a host that was busy.
        let tells = self.told_arrival_at.is_none_or(|at| now.since(at) >= ARRIVAL_APART);
        if tells {
            self.told_arrival_at = Some(now);
        }
        let arrival = tells.then(|| self.reception.arrival(self.bytes_in));
        let heartbeat = self.reception.heartbeat(now, own_use, self.mtu.probes_sent());
        let used = Heartbeat { arrival, repairs: self.repair.is_on(), ..heartbeat }.encode(&mut body);
        // A full queue already proves that this end is alive.
        let _ = self.push_small(FrameKind::Heartbeat, &body[..used]);
        self.remember(now, self.next_number);
        // Who is not heard speaks up: a burst of loss ends sooner for more datagrams, and what the other end would take for
        // silence does.
        let rtt = self.feedback.rtt().unwrap_or(UNHEARD_AFTER);
        let unheard = self.unreported.front().is_some_and(|(_, left)| now.since(*left) > rtt + UNHEARD_AFTER);
        self.next_heartbeat = now
            + match (close, unheard) {
                (true, true) => HEARTBEAT_UNHEARD,
                (true, false) => HEARTBEAT_CLOSE,
                (false, _) => HEARTBEAT_IDLE,
            };
    }

    fn own_use(&self, now: Timestamp) -> bool {
        self.routed
            || self.media_at.is_some_and(|at| now.since(at) < USED_FOR)
            || now.since(self.made_at) < YOUNG_FOR
    }

    /// A datagram of this number or a later one is to be reported by the other end.
    fn remember(&mut self, now: Timestamp, number: u64) {
        // With so many on their way the oldest tells enough.
        if self.unreported.len() < UNREPORTED_MAX {
            self.unreported.push_back((PacketNumber(number), now));
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
        let gone = self.repair.stats().totals().unrepaired();
        self.residual.read(now, self.reception.expected(), gone);
    }

    /// The link is needed: a heartbeat soon. `true` if it was due later.
    fn hurry(&mut self, now: Timestamp) -> bool {
        let soon = now + HEARTBEAT_CLOSE;
        let sooner = soon < self.next_heartbeat;
        self.next_heartbeat = self.next_heartbeat.min(soon);
        sooner
    }
}
