//! One end of a link: packet numbers, what waits to be sent, heartbeats, measurement and liveness. Who is at the other
//! end and what the frames mean is its owner's business.

use crate::backlog::{BacklogMemory, Parked, Shed};
use crate::liveness::{Change, HEARTBEAT_CLOSE, Liveness, Trust};
use crate::measure::{Feedback, Rate, Reception};
use crate::path_mtu::PathMtu;
use crate::quality::ResidualLoss;
use crate::queue::{OrderLane, Pushed, Refused, SendQueue};
use crate::rejoin::Rejoin;
use crate::repair::{AGAIN_BYTES, Arrival, History, PathState, Repair, RepairMemory, RepairMode, Urgency};
use crate::sending::Sending;

mod heartbeats;
mod pack;
mod stats;

pub use stats::LinkStats;

use crate::LinkId;
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;
use wire_format::{
    DATAGRAM_BYTES_BASE, DATAGRAM_BYTES_MAX, FrameError, FrameKind, MtuProbe, PacketNumber, PathChallenge,
    RawFrame, SEAL_OVERHEAD_BYTES, Slack, Timestamp, WireTime, frames, send_time,
};

/// A link counts as used for so long after its last media frame.
const USED_FOR: Duration = Duration::from_secs(1);
/// A new link is watched closely for so long, to measure it soon.
const YOUNG_FOR: Duration = Duration::from_secs(2);
/// A deadline is later than the input that sets it.
const TICK_MIN: Duration = Duration::from_micros(1);

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
    /// The same of how much media was sent.
    told_media_at: Option<Timestamp>,
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
            told_media_at: None,
            sending: Sending::default(),
        }
    }

    /// Sets what is done against loss, and the number of the first datagram; before anything comes or leaves.
    pub(crate) fn begin(&mut self, mode: RepairMode, first: PacketNumber) {
        self.repair.set_mode(mode);
        self.next_number = first.0;
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
        let restored_before = arrival == Arrival::Restored;
        self.residual.take_in_hand((!restored_before).then_some(number));
        Came { excess, restored_before, state, trust, asks }
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
        let Some((number, plain)) = self.repair.repair_in(body)? else { return Ok(None) };
        self.residual.take_in_hand(Some(number));
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
        while let Some(number) = self.repair.next_restored(plain) {
            self.residual.take_in_hand(Some(number));
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
        self.residual.media_came();
        self.repair.media_came(now, slack);
        if !restored {
            self.repair.fresh_media_came(now);
        }
    }

    /// The datagram in hand is dropped because its sender sends too much: what of it is media came, all the same.
    #[cold]
    pub(crate) fn dropped_unread(&mut self, plain: &[u8]) {
        let is_media = |kind| matches!(kind, FrameKind::Media | FrameKind::Edge | FrameKind::Fragment);
        if frames(plain).flatten().any(|frame| is_media(frame.kind)) {
            self.residual.media_came();
        }
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
        self.residual.media_came();
        self.rejoin.half(now, body, whole)
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
            limited: self.sending.limit().is_some(),
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
        let again = self.repair.next_again(now, self.mtu.again_max());
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

    fn own_use(&self, now: Timestamp) -> bool {
        self.routed
            || self.media_at.is_some_and(|at| now.since(at) < USED_FOR)
            || now.since(self.made_at) < YOUNG_FOR
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
        self.residual.judge(now);
    }

    /// The link is needed: a heartbeat soon. `true` if it was due later.
    fn hurry(&mut self, now: Timestamp) -> bool {
        let soon = now + HEARTBEAT_CLOSE;
        let sooner = soon < self.next_heartbeat;
        self.next_heartbeat = self.next_heartbeat.min(soon);
        sooner
    }
}
