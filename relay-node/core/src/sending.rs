//! What a link gives its path: how fast, what first, and what not at all. Media leaves in the wake-up in which it comes,
//! straight from the driver's arena, for as long as the path has shown no queue or the tokens of its rate last. What
//! does not leave then is copied into the backlog, and leaves by urgency as tokens come.

use crate::annex::packet_bytes;
use crate::backlog::{Backlog, BacklogMemory, Parked, Shed};
use crate::pacer::Pacer;
use crate::queue::SendQueue;
use crate::rate_control::{ArrivalReport, Growth, RateControl};
use crate::repair::Urgency;
use crate::trial::{Step, Trial};
use std::time::Duration;
use wire_format::{PacketNumber, SEAL_OVERHEAD_BYTES, SEND_TIME_BYTES, Timestamp};

/// What a datagram costs beyond its frames.
const DATAGRAM_OVERHEAD_BYTES: usize = SEAL_OVERHEAD_BYTES + SEND_TIME_BYTES;

/// Who is held back tries again within this.
const HELD_BACK_FOR: Duration = Duration::from_secs(2);

/// The rate of a link's outgoing direction, and what waits for it.
#[derive(Debug, Default)]
pub(crate) struct Sending {
    rate: RateControl,
    trial: Trial,
    pacer: Pacer,
    backlog: Backlog,
    /// What the queue holds may leave: the present wake-up has been looked at.
    scheduled: bool,
    /// When a layer or a stream was kept out last.
    held_back_at: Option<Timestamp>,
}

impl Sending {
    /// The other end says what arrives there.
    pub(crate) fn report(&mut self, now: Timestamp, report: ArrivalReport) {
        let held_back = self.held_back_at.is_some_and(|at| now.since(at) < HELD_BACK_FOR);
        let growth = match (self.trial.is_on(), held_back) {
            (true, _) => Growth::None,
            (false, true) => Growth::Held,
            (false, false) => Growth::Free,
        };
        self.rate.report(now, report, growth);
        let seen = self.rate.seen(self.backlog.keeps_out(now), self.pacer.excess(now));
        match self.trial.report(now, &report, seen) {
            Step::Nothing => {}
            Step::Begin(again) => {
                if !again {
                    self.rate.tries();
                }
                self.pacer.exceed();
                self.backlog.try_more();
            }
            Step::More(times) => {
                self.rate.more(times);
                self.backlog.let_in();
            }
            Step::Little => self.rate.little(),
            Step::NoMore => self.rate.no_more(),
        }
        if !self.trial.is_on() {
            self.pacer.keep();
            self.backlog.try_no_more();
        }
        self.pacer.set_rate(self.rate.limit(), self.rate.is_shallow());
    }

    /// The link is limited, or media waits: [`Sending::schedule`] has to look at each wake-up.
    pub(crate) fn is_paced(&self) -> bool {
        self.pacer.rate().is_some() || !self.backlog.is_empty()
    }

    /// Whether a datagram that can wait, as those of repair can, may leave now; [`Sending::spent`] counts it.
    pub(crate) fn may_send(&self, now: Timestamp, bytes: usize) -> bool {
        self.pacer.may_send(now, bytes)
    }

    /// Whether so many bytes may leave that media does not need: none waits.
    pub(crate) fn spares(&self, now: Timestamp, bytes: usize) -> bool {
        self.backlog.is_empty() && self.pacer.may_send(now, bytes)
    }

    /// So many bytes (UDP payload) have left, before the datagram `next`.
    pub(crate) fn spent(&mut self, now: Timestamp, bytes: usize, next: u64) {
        if self.pacer.spend(now, bytes) {
            self.trial.left(now, PacketNumber(next.saturating_sub(1)));
        }
    }

    /// All of the queue has left.
    pub(crate) fn drained(&mut self) {
        self.scheduled = false;
    }

    /// When what waits may go on leaving.
    pub(crate) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        self.backlog.next_bytes().map(|bytes| self.pacer.next(now, bytes + DATAGRAM_OVERHEAD_BYTES))
    }

    /// Decides, once in a wake-up, what of it and of the backlog leaves now. A datagram of `repair` bytes (0: none) that is
    /// to be sent again, within its share, comes before all media but audio. The bytes of what waited are put into the
    /// annex, like those of all packets that did not come with the input.
    #[cold]
    pub(crate) fn schedule(
        &mut self,
        now: Timestamp,
        repair: usize,
        queue: &mut SendQueue,
        (arena, annex): (&[u8], &mut Vec<u8>),
        memory: &mut BacklogMemory,
    ) {
        if std::mem::replace(&mut self.scheduled, true) {
            return;
        }
        let Sending { pacer, backlog, .. } = self;
        let may_leave = |pacer: &Pacer, bytes: usize, audio: bool| {
            let bytes = bytes + DATAGRAM_OVERHEAD_BYTES;
            if audio || repair == 0 { pacer.may_send(now, bytes) } else { pacer.affords(now, bytes + repair) }
        };
        if backlog.is_open(now) && may_leave(pacer, queue.total_bytes(), false) {
            return;
        }
        let rate = pacer.rate().unwrap_or(u64::MAX);
        queue.take_media(|held, head, packet| {
            backlog.push(now, rate, held, (head, packet_bytes(arena, annex, &packet)), memory);
        });
        while let Some(parked) =
            backlog.pop(now, memory, |bytes, audio| may_leave(pacer, queue.total_bytes() + bytes, audio))
        {
            release(queue, backlog, parked, (arena, annex), memory);
        }
        if backlog.keeps_out(now) {
            self.held_back_at = Some(now);
        }
        if self.pacer.rate().is_none() {
            // Nobody is kept out any more.
            self.backlog.reset();
        }
    }

    /// What was dropped since the last call, if anything was.
    pub(crate) fn take_shed(&mut self) -> Option<Shed> {
        self.backlog.take_shed()
    }

    /// Takes out all that waits, in the order in which it came.
    pub(crate) fn take_waiting(&mut self) -> Vec<Parked> {
        self.backlog.take_all()
    }

    /// Queueing delay on the way to the other end.
    pub(crate) fn queueing(&self) -> Duration {
        self.rate.queueing()
    }

    /// Bytes a second that the link is given at most.
    pub(crate) fn limit(&self) -> Option<u64> {
        self.rate.limit()
    }

    /// How often a limit was needed.
    pub(crate) fn limited(&self) -> u64 {
        self.rate.limited()
    }

    /// Bytes that wait.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.backlog.bytes()
    }
}

/// Queues what has waited.
fn release(
    queue: &mut SendQueue,
    backlog: &mut Backlog,
    parked: Parked,
    (arena, annex): (&[u8], &mut Vec<u8>),
    memory: &mut BacklogMemory,
) {
    let (head, packet) = parked.body.split_at(parked.head_bytes);
    let start = arena.len() + annex.len();
    let urgency = parked.urgency.map(|urgency| Urgency { slack: parked.slack, ..urgency });
    let pushed = queue.push(parked.kind, urgency, parked.lane, start..start + packet.len(), |out| {
        out[..head.len()].copy_from_slice(head);
        head.len()
    });
    match pushed {
        Ok(_) => annex.extend_from_slice(packet),
        // The path has become narrower, or the queue is full of smaller ones.
        Err(_) => backlog.count_dropped(&parked),
    }
    memory.give(parked.body);
}
