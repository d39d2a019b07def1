//! What makes a link deliver as if it did not lose: requests for what is missing, datagrams sent again, parity.
//!
//! One [`Repair`] belongs to each end of a link and does both directions' work. As receiver it sees gaps in the packet
//! numbers ([`gaps`]), asks for what is missing, and restores from parity ([`restore`]). As sender it keeps what it sent
//! ([`history`]), sends again what is asked for ([`answer`]) while it may still come in time ([`again`]), covers what no round
//! trip would help ([`flow`]) with parity ([`protect`]), and what is lost with more of it ([`lost_rows`]), where [`policy`]
//! says so. A datagram restored is handled like one that arrived, with the time that it took to restore counted against
//! its slack.

mod again;
mod answer;
mod bursts;
mod flow;
mod gaps;
mod history;
mod lost_rows;
mod memory;
mod mode;
mod overflow;
pub(crate) mod policy;
mod protect;
mod restore;
mod spacing;
mod stats;

use crate::Train;
use crate::measure::MostOf;
use again::Again;
use answer::LOOKUPS_PER_MS;
use bursts::Bursts;
use flow::{Flow, class};
pub(crate) use gaps::Arrival;
use gaps::Gaps;
pub(crate) use history::{History, Sent};
pub(crate) use memory::RepairMemory;
pub use mode::{Parity, RepairMode};
use overflow::Overflow;
use policy::{Conditions, Plan};
use protect::Protect;
use restore::{Restore, Useless};
use spacing::Spacing;
pub use stats::{LateHistogram, RepairStats};
use std::time::Duration;
use wire_format::{
    FRAME_HEADER_BYTES, FrameError, PacketNumber, ParityHeader, Priority, REPAIR_HEADER_BYTES,
    SEND_TIME_BYTES, Slack, Timestamp, repaired,
};

/// What a datagram needs beyond its plain bytes to be sent again.
pub(crate) const AGAIN_BYTES: usize = SEND_TIME_BYTES + FRAME_HEADER_BYTES + REPAIR_HEADER_BYTES;
/// Delay budget of media before any was seen.
const BUDGET_DEFAULT: Duration = Duration::from_millis(200);
/// The largest slack that came is remembered for so long.
const USEFUL_WINDOW: Duration = Duration::from_secs(2);
/// A repair leaves no later than so long before it would come too late.
const MARGIN: Duration = Duration::from_millis(1);
/// Loss is believed for so long after the other end last named a number that it is sure to miss: what reports count as
/// not received may be reordered.
const LOSS_TOLD: Duration = Duration::from_secs(10);
/// A second copy leaves after this part of the delay budget, in percent: far from the first, early enough to help.
const SECOND_PERCENT: u32 = 66;
/// How often the plan is made anew.
const PLAN_EVERY: Duration = Duration::from_millis(100);
/// Weight of a new plan's share of parity, and of new loss: an eighth, and one in 256 (half of it is 18 s old).
const SHARE_WEIGHT: u64 = 8;
const LOSS_WEIGHT: u64 = 256;

/// A plan is made for what left within this time.
const HURRY_REMEMBERED: Duration = Duration::from_secs(10);

/// Rows of parity that are taken from a peer within a millisecond: a whole train of them. An honest one puts each into a
/// datagram of its own, and beside more than a third of what media takes has no more than 64 KiB of them at once.
const ROWS_PER_MS: usize = Train::DATAGRAMS_MAX;

/// How urgent a datagram is: the most urgent of its frames, and the longest of their slacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Urgency {
    pub(crate) priority: Priority,
    pub(crate) slack: Slack,
}

impl Urgency {
    /// Of a datagram that holds both.
    pub(crate) fn and(self, other: Urgency) -> Urgency {
        Urgency { priority: self.priority.min(other.priority), slack: self.slack.max(other.slack) }
    }
}

/// What is known about the other end's view of the link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PathState {
    pub(crate) rtt: Option<Duration>,
    pub(crate) rtt_var: Duration,
    pub(crate) loss_ppm: u32,
    /// It carries only so much.
    pub(crate) limited: bool,
}

/// Repair of one link, both directions.
#[derive(Debug)]
pub(crate) struct Repair {
    mode: RepairMode,
    gaps: Gaps,
    restore: Option<Box<Restore>>,
    /// The largest slack of what comes.
    useful: MostOf,
    /// When media came last, and its slack.
    came: Option<(Timestamp, Slack)>,
    pub(crate) history: History,
    again: Again,
    protect: Protect,
    /// The other end asks, and understands repairs.
    peer_repairs: bool,
    /// Requests covered the numbers through this one.
    told_through: Option<PacketNumber>,
    /// When a request last named numbers for the first time.
    told_at: Option<Timestamp>,
    /// Bursts of loss of what is sent.
    pub(crate) lost: Bursts,
    /// Whether a full queue drops it.
    pub(crate) overflow: Overflow,
    conditions: Conditions,
    /// What has no more slack than this is in a hurry: no round trip fits.
    hurry: Slack,
    /// Audio and others that are in a hurry, and those that are not.
    hurried: [Flow; 2],
    patient: [Flow; 2],
    /// As told of audio and of others.
    plans: [Plan; 2],
    /// Of what is in a hurry.
    share_ppm: [u64; 2],
    windows: [usize; 2],
    planned_at: Timestamp,
    /// Of all that leaves.
    spacing: Spacing,
    /// Audio and others in a hurry are sent twice.
    twice: [bool; 2],
    loss_slow_ppm256: u64,
    lookups_at: Timestamp,
    lookups_left: usize,
    rows_at: Timestamp,
    rows_left: usize,
    /// A row that was made and did not fit the train, and whether it covers what is lost.
    row: Vec<u8>,
    row_answers: bool,
    pub(crate) stats: RepairStats,
}

impl Repair {
    pub(crate) fn new(now: Timestamp) -> Repair {
        Repair {
            mode: RepairMode::Adaptive,
            gaps: Gaps::new(now),
            restore: None,
            useful: MostOf::new(now, USEFUL_WINDOW),
            came: None,
            history: History::default(),
            again: Again::new(now),
            protect: Protect::new(),
            peer_repairs: false,
            told_through: None,
            told_at: None,
            lost: Bursts::new(),
            overflow: Overflow::new(),
            conditions: Conditions {
                loss_ppm: 0,
                dispersion_milli: 1000,
                rtt: Duration::ZERO,
                rtt_var: Duration::ZERO,
                round: Duration::ZERO,
                budget: BUDGET_DEFAULT,
                spacing: Duration::from_millis(20),
                audio_spacing: None,
                limited: false,
            },
            hurry: Slack(0),
            hurried: [Flow::new(); 2],
            patient: [Flow::new(); 2],
            plans: [Plan::IDLE; 2],
            share_ppm: [0; 2],
            windows: [0; 2],
            planned_at: now,
            spacing: Spacing::default(),
            twice: [false; 2],
            loss_slow_ppm256: 0,
            lookups_at: now,
            lookups_left: LOOKUPS_PER_MS,
            rows_at: now,
            rows_left: ROWS_PER_MS,
            row: Vec::new(),
            row_answers: false,
            stats: RepairStats::default(),
        }
    }

    /// Sets what is done against loss; before anything comes or leaves.
    pub(crate) fn set_mode(&mut self, mode: RepairMode) {
        self.mode = mode;
        if let RepairMode::Parity(parity) = mode {
            let share_ppm = u64::from(parity.m) * 1_000_000 / u64::from(parity.k.max(1));
            self.hurry = Slack(u16::MAX);
            let window = (parity.k * parity.depth) as usize;
            self.protect.set([share_ppm; 2], window, [BUDGET_DEFAULT; 2], self.hurry);
        }
    }

    /// It asks for what is missing, and understands what is sent again and parity.
    pub(crate) fn is_on(&self) -> bool {
        self.mode != RepairMode::Off
    }

    // The receiver's part, in the order of a datagram's life.

    /// A datagram came.
    pub(crate) fn arrived(&mut self, now: Timestamp, number: PacketNumber, plain: &[u8]) -> Arrival {
        if !self.is_on() {
            return Arrival::New { gap: false };
        }
        let arrival = self.gaps.arrived(now, number);
        if let Some(restore) = &mut self.restore {
            restore.arrived(number, plain);
        }
        arrival
    }

    /// Media came that may still lose so much time.
    pub(crate) fn media_came(&mut self, now: Timestamp, slack: Slack) {
        if self.is_on() && self.came.replace((now, slack)) != Some((now, slack)) {
            self.useful.sample(now, slack.as_duration());
        }
    }

    /// The same, and it was not restored.
    pub(crate) fn fresh_media_came(&mut self, now: Timestamp) {
        if self.is_on() {
            self.gaps.media_came(now);
        }
    }

    /// A datagram came again: its number and plain bytes, `None` if it is there already.
    ///
    /// # Errors
    /// [`FrameError`] if it makes no sense.
    pub(crate) fn repair_in<'a>(
        &mut self,
        body: &'a [u8],
    ) -> Result<Option<(PacketNumber, &'a [u8])>, FrameError> {
        let (number, plain) = repaired(body, self.gaps.highest())?;
        if !self.gaps.restore(number) {
            return Ok(None);
        }
        self.stats.recovered_again += 1;
        if let Some(restore) = &mut self.restore {
            restore.arrived(number, plain);
        }
        Ok(Some((number, plain)))
    }

    /// A row of parity came.
    ///
    /// # Errors
    /// [`FrameError`] if it makes no sense.
    pub(crate) fn parity_in(
        &mut self,
        now: Timestamp,
        body: &[u8],
        memory: &mut RepairMemory,
    ) -> Result<(), FrameError> {
        if now.since(self.rows_at) >= Duration::from_millis(1) {
            (self.rows_at, self.rows_left) = (now, ROWS_PER_MS);
        }
        let Some(left) = self.rows_left.checked_sub(1) else {
            self.stats.rows_ignored += 1;
            return Ok(());
        };
        self.rows_left = left;
        let highest = self.gaps.highest();
        let (header, at) = ParityHeader::decode(body, highest)?;
        if self.restore.is_none() {
            self.restore = Restore::new(now, memory).map(Box::new);
        }
        let Some(restore) = &mut self.restore else {
            memory.refused += 1;
            return Ok(());
        };
        match restore.row(now, PacketNumber(highest), &header, &body[at..]) {
            Ok(()) | Err(Useless::Nothing) => Ok(()),
            Err(Useless::Strange) => Err(FrameError::Field),
        }
    }

    /// The number of the next datagram that parity restored; its plain bytes are in `plain`.
    pub(crate) fn next_restored(&mut self, plain: &mut Vec<u8>) -> Option<PacketNumber> {
        while let Some(restore) = &mut self.restore
            && let Some(number) = restore.next_restored(plain)
        {
            restore.arrived(number, plain);
            if self.gaps.restore(number) {
                self.stats.recovered_parity += 1;
                return Some(number);
            }
        }
        None
    }

    /// What was restored came so much later than usual.
    pub(crate) fn restored_late(&mut self, late: Duration) {
        self.stats.recovered_late.record(late);
    }

    /// Writes the request that is due; `None` if there is none.
    pub(crate) fn request(&mut self, now: Timestamp, out: &mut [u8]) -> Option<usize> {
        let (round_trip, useful) = (self.round_trip(), self.useful_for());
        self.gaps.request(now, round_trip, useful, out)
    }

    fn round_trip(&self) -> Duration {
        self.conditions.rtt + 2 * self.conditions.rtt_var
    }

    /// How long what is missing is of use.
    fn useful_for(&self) -> Duration {
        let most = self.useful.most();
        if most.is_zero() { BUDGET_DEFAULT } else { most }
    }

    pub(crate) fn request_is_due(&self, now: Timestamp) -> bool {
        self.gaps.due().is_some_and(|due| due <= now)
    }

    // The sender's part.

    /// The other end's heartbeat says whether it repairs.
    pub(crate) fn peer_repairs(&mut self, repairs: bool) {
        self.peer_repairs = repairs;
    }

    /// A datagram with media left.
    pub(crate) fn media_left(
        &mut self,
        now: Timestamp,
        number: PacketNumber,
        urgency: Urgency,
        plain: &[u8],
        memory: &mut RepairMemory,
    ) {
        self.history.record(now, number, urgency, plain, memory);
        if !self.is_on() {
            let _ = self.spacing.left(now);
            return;
        }
        self.again.media_left(plain.len() as u64);
        let class = class(urgency, plain.len());
        if urgency.slack <= self.hurry {
            self.hurried_left(now, number, urgency, class, plain.len());
        } else {
            self.patient[class].left(now, urgency);
        }
        let _ = self.spacing.left(now);
    }

    /// The same of what no round trip would help.
    fn hurried_left(
        &mut self,
        now: Timestamp,
        number: PacketNumber,
        urgency: Urgency,
        class: usize,
        bytes: usize,
    ) {
        self.protect.media_left(now, class, bytes);
        if self.twice[class] {
            let slack = urgency.slack.as_duration();
            self.again.second(number, now + slack * SECOND_PERCENT / 100, now + slack.saturating_sub(MARGIN));
        }
        self.hurried[class].left(now, urgency);
    }

    /// The datagram to be sent again now, of at most so many plain bytes.
    pub(crate) fn next_again(&mut self, now: Timestamp, bytes_max: usize) -> Option<(Sent, &[u8])> {
        loop {
            let number = self.again.peek(now)?;
            match self.history.get(number).copied() {
                Some(sent) if self.history.plain(&sent).len() > bytes_max => {
                    self.again.too_large(now, number)
                }
                Some(sent) => return Some((sent, self.history.plain(&sent))),
                None => self.again.cancel(number),
            }
        }
    }

    /// The link carries no more now.
    pub(crate) fn postpone_again(&mut self, now: Timestamp) {
        self.again.postpone(now);
    }

    /// It has left again, under a new number.
    pub(crate) fn left_again(
        &mut self,
        now: Timestamp,
        repeats: PacketNumber,
        number: PacketNumber,
        bytes: usize,
        memory: &mut RepairMemory,
    ) {
        self.again.left(now, repeats, bytes as u64);
        self.history.record_repair(now, number, repeats, memory);
        self.stats.retransmitted += 1;
        self.stats.retransmitted_bytes += bytes as u64;
    }

    /// The body of the row of parity that is to leave now, of at most so many bytes.
    pub(crate) fn next_row(&mut self, now: Timestamp, body_max: usize) -> Option<&[u8]> {
        while self.row.is_empty() {
            if !self.protect.is_due(now) {
                return None;
            }
            self.row_answers = self.protect.lost.is_due(now);
            if self.row_answers && !self.again.spares() {
                self.protect.lost.give_up();
                continue;
            }
            self.row.resize(body_max, 0);
            let used = self.protect.row(now, &self.history, &mut self.row, body_max).unwrap_or(0);
            self.row.truncate(used);
        }
        Some(&self.row)
    }

    /// There is no room for the rows that are due: they come too late when there is.
    pub(crate) fn give_up_rows(&mut self) {
        self.row.clear();
        self.protect.give_up();
    }

    /// It has left in a datagram of so many bytes.
    pub(crate) fn row_left(&mut self, bytes: usize) {
        self.row.clear();
        if self.row_answers {
            self.again.spent(bytes as u64);
        }
        self.stats.parity += 1;
        self.stats.parity_bytes += bytes as u64;
    }

    // Both.

    /// Makes the plan anew from what is known of the path.
    pub(crate) fn tick(&mut self, now: Timestamp, path: &PathState, memory: &mut RepairMemory) {
        if let Some(idle) = self.restore.take_if(|restore| restore.is_idle(now)) {
            idle.release(memory);
        }
        if now.since(self.planned_at) < PLAN_EVERY {
            return;
        }
        self.planned_at = now;
        let told = self.told_at.is_some_and(|at| now.since(at) < LOSS_TOLD);
        let loss = u64::from(path.loss_ppm) << 8;
        self.loss_slow_ppm256 =
            self.loss_slow_ppm256 - self.loss_slow_ppm256 / LOSS_WEIGHT + loss / LOSS_WEIGHT;
        let loss_ppm = if told { path.loss_ppm.max((self.loss_slow_ppm256 >> 8) as u32) } else { 0 };
        let Some(rtt) = path.rtt else { return };
        self.conditions = Conditions {
            loss_ppm,
            dispersion_milli: self.lost.dispersion_milli(),
            rtt,
            rtt_var: path.rtt_var,
            round: policy::round(self.conditions.round, rtt, path.rtt_var),
            spacing: self.spacing.mean.get().unwrap_or(self.conditions.spacing),
            budget: BUDGET_DEFAULT,
            audio_spacing: None,
            limited: path.limited,
        };
        self.gaps.hurry(now, self.round_trip(), self.useful_for());
        let all = self.conditions;
        for (class, flow) in self.patient.iter_mut().enumerate() {
            flow.plan(now, class == 0, &all);
        }
        // Rows cover what is in a hurry, and nothing else: that is what a window has.
        let spacing = Flow::spacing(now, &self.hurried, &self.patient).unwrap_or(all.spacing);
        for (class, flow) in self.hurried.iter_mut().enumerate() {
            flow.plan(now, class == 0, &Conditions { spacing, ..all });
            self.plans[class] = Flow::told(now, flow, &self.patient[class]);
        }
        self.set_parity(now);
    }

    /// Moves what stands against loss towards the plans.
    fn set_parity(&mut self, now: Timestamp) {
        let mut useful = [Duration::ZERO; 2];
        for (class, useful) in useful.iter_mut().enumerate() {
            let plan = self.hurried[class].plan;
            self.twice[class] = plan.twice && self.peer_repairs && self.mode == RepairMode::Adaptive;
            let (before, wanted) = (self.share_ppm[class], plan.parity_ppm);
            // Smoothly, and all the way.
            let step = wanted.abs_diff(before).div_ceil(SHARE_WEIGHT);
            self.share_ppm[class] = if wanted > before { before + step } else { before - step };
            // What is left of a share that goes down has the window that it was made for.
            if plan.window > 0 || self.share_ppm[class] == 0 {
                self.windows[class] = plan.window as usize;
            }
            if let Some(budget) = self.hurried[class].budget(now).filter(|_| self.share_ppm[class] > 0) {
                *useful = budget;
            }
        }
        if self.mode != RepairMode::Adaptive {
            return;
        }
        self.hurry = Slack::from_duration(policy::round_needs(&self.conditions));
        let share_ppm = if self.peer_repairs { self.share_ppm } else { [0; 2] };
        self.protect.set(share_ppm, self.windows[0].max(self.windows[1]), useful, self.hurry);
    }

    /// When media left last.
    pub(crate) fn media_at(&self) -> Option<Timestamp> {
        self.spacing.last
    }

    /// What is done for audio, and for others.
    pub(crate) fn plans(&self) -> [Plan; 2] {
        self.plans
    }

    /// Something is to leave now.
    pub(crate) fn has_output(&self, now: Timestamp) -> bool {
        self.next_due().is_some_and(|due| due <= now) || !self.row.is_empty() || self.protect.is_due(now)
    }

    /// When something is due; changed by everything that is told or asked.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        [self.gaps.due(), self.again.due(), self.protect.due()].into_iter().flatten().min()
    }

    /// Statistics, and what the receiver's part counted.
    pub(crate) fn stats(&self) -> RepairStats {
        RepairStats {
            missing: self.gaps.missed,
            reordered: self.gaps.reordered,
            repairs_dropped: self.again.dropped,
            ..self.stats.clone()
        }
    }

    /// Bursts of loss of what comes.
    pub(crate) fn lost_in(&self) -> &Bursts {
        &self.gaps.bursts
    }

    /// Gives the memory of the receiver back; the history goes its own way.
    pub(crate) fn release(&mut self, memory: &mut RepairMemory) {
        if let Some(restore) = self.restore.take() {
            restore.release(memory);
        }
    }
}
