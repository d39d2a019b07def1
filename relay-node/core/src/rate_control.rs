//! How much a link may be given in one direction.
//!
//! Nothing is assumed about a link until its queueing delay says that it carries less than it is given: a link that
//! never queues is never slowed, and loss alone is no reason (draft-ietf-rmcat-gcc: a delay-based controller; the
//! loss-based one of GCC is left out, because a hop repairs its losses and radio links lose without being full).
//!
//! - **When a queue stands**, what arrives is what the path carries, however much is sent (BBR's delivery rate). So the
//!   limit is that, less what empties the queue in [`DRAIN_IN`]: `capacity x (1 - queueing / DRAIN_IN)`, anew with every
//!   report. It follows from the present queue and not from the limit before it, so that the reports of the round trip
//!   in which the queue has not yet heard of the new limit do not lower it again and again.
//! - **When none stands** the limit grows, by a twelfth in the first second and at twice the pace in each second that
//!   follows: near what was too much slowly, far from it fast. After [`CALM_FOR`] it is lifted if it is far above what
//!   is sent. While media is held back, as whole layers are, what is sent says nothing of what would be: then the limit
//!   stays at what the path was found to carry, and whether it carries more is tried (`trial`).
//! - **What a queue is**: more than [`QUEUE`] above what is usual on the link while nothing is limited, and twice the
//!   usual step from one report to the next, and that in two reports in a row (the least of each interval counts
//!   already, see `queueing`). So paths that jitter, and hosts that are busy, are not taken for full ones. A report of
//!   an interval in which nothing arrived repeats what the one before said, and is no second witness to it.
//! - **A queue that is never long** (a shallow one, a policer) shows by what it drops: see [`shallow`].
//! - **A queue that is not ours**: if it is still there after [`OURS_WITHIN`] of sending less, it is another's, or the
//!   path has become longer. Then it is what is usual from now on, and the limit is lifted (Copa's competitive mode).

mod shallow;

use crate::trial::Seen;
use shallow::{Shallow, Span, Step};
use std::collections::VecDeque;
use std::time::Duration;
use wire_format::{PacketNumber, Timestamp, WireTime};

/// Queueing delay above what is usual that counts as a queue.
const QUEUE: Duration = Duration::from_millis(20);
/// However much it varies, this much more always counts.
const VARIATION_MAX: Duration = Duration::from_millis(100);
/// A queue is to be emptied in about this time.
const DRAIN_IN: Duration = Duration::from_millis(400);
/// Least share of the capacity that is left while a queue is emptied, parts of 16.
const DRAIN_SHARE_MIN: u64 = 4;
/// What is usual is learned over this long, of a young link over its age ...
const USUAL_OVER: Duration = Duration::from_secs(5);
/// ... and where too little is sent to fill any path, over this; ...
const OTHERS_OVER: Duration = Duration::from_secs(1);
/// ... but no less than this; a younger link is not limited.
const YOUNG_FOR: Duration = Duration::from_millis(300);
/// While a link is limited it is unlearned over this long where it is less, and steps over four times as long: they may
/// have been learned of a queue.
const UNLEARNED_OVER: Duration = Duration::from_millis(500);
/// A queue of ours is shorter after sending less for so long and two round trips.
const OURS_WITHIN: Duration = Duration::from_secs(1);
/// A queue is over after so many reports in a row without it; between them it may only seem to be, where the path jitters.
const OVER_AFTER: u32 = 6;
/// The limit may be lifted after so long without a queue.
const CALM_FOR: Duration = Duration::from_secs(5);
/// ... if it is so many times what arrives.
const FAR_ABOVE: u64 = 4;
/// Growth of the limit in the first second without a queue, parts of 1024 ...
const GROWTH_FIRST: u64 = 85;
/// ... and at most in any.
const GROWTH_MAX: u64 = 2048;
/// While media is held back the limit grows to this share of what the path was found to carry, parts of 16 ...
const HELD_MAX: u64 = 17;
/// ... and is this while more is tried, because what was found is the most that ever arrived ...
const TRIED_AT: u64 = 15;
/// ... for which it must have grown to this.
const TRIED_FROM: u64 = 14;
/// Where too little was sent to see more the limit is raised by this, parts of 16 ...
const LITTLE: u64 = 18;
/// ... to this at most.
const LITTLE_MAX: u64 = 24;
/// A trial that found more raises the limit by this much, parts of 4 ...
const MORE_FIRST: u64 = 5;
/// ... and those after it by this.
const MORE_THEN: u64 = 6;
/// No link is limited to less, bytes per second.
const LIMIT_MIN: u64 = 8_000;
/// No link is limited to more: what carries so much (80 Gbit/s) is not limited.
const LIMIT_MAX: u64 = 10_000_000_000;
/// Who sends less fills no link, bytes per second: a queue that it meets is another's.
const FILLS_MIN: u64 = 16_000;
/// What arrives is judged over at least so long.
const RATE_OVER: Duration = Duration::from_millis(90);
/// ... and lowers what the path was found to carry after so many reports of a queue in a row.
const FILLED_FOR: u32 = 4;
/// Reports for that: some of them may be lost.
const REPORTS_MAX: usize = 8;
/// Reports further apart say nothing together.
const REPORTS_APART_MAX: Duration = Duration::from_secs(3);

/// What the other end says about what arrives there.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ArrivalReport {
    /// When it said so, by its own clock.
    pub(crate) said_at: WireTime,
    /// Least queueing delay since the report before.
    pub(crate) queueing: Duration,
    /// Bytes received, low 32 bits.
    pub(crate) bytes: u32,
    /// Round trip without queues.
    pub(crate) rtt: Duration,
    /// The last of what it knew to be sent.
    pub(crate) highest: Option<PacketNumber>,
    /// Datagrams sent and received, low 32 bits.
    pub(crate) expected: u32,
    pub(crate) received: u32,
    /// What is lost is likely to be what a full queue drops (`repair::overflow`).
    pub(crate) overflows: bool,
}

/// How the limit may grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Growth {
    /// Until what is sent does not reach it by far.
    Free,
    /// Layers or streams are kept out because of it.
    Held,
    /// Whether the path carries more is being tried.
    None,
}

/// The rate of one direction of a link, at its sending end.
#[derive(Debug, Default)]
pub(crate) struct RateControl {
    /// Bytes per second.
    limit: Option<u64>,
    /// Bytes per second that arrived while a queue stood.
    capacity: u64,
    /// Mean queueing delay while nothing is limited.
    usual_us: u64,
    /// Mean step from one report to the next.
    step_us: u64,
    first_report_at: Option<Timestamp>,
    reported_at: Option<Timestamp>,
    reports: VecDeque<ArrivalReport>,
    over: Over,
    calm_since: Timestamp,
    queueing: Duration,
    /// Something came between the last two reports.
    came: bool,
    limited: u64,
    shallow: Shallow,
}

/// A queue that reports tell of.
#[derive(Clone, Copy, Debug, Default)]
struct Over {
    /// Reports of it in a row, and of none.
    reports: u32,
    calm: u32,
    /// When the limit began to answer it.
    since: Timestamp,
    /// The longest that it was.
    peak: Duration,
}

impl RateControl {
    /// Bytes per second that may be sent, `None` for as many as there are.
    pub(crate) fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Queueing delay on the way to the other end, as it said last.
    pub(crate) fn queueing(&self) -> Duration {
        self.queueing
    }

    /// How often a limit was needed.
    pub(crate) fn limited(&self) -> u64 {
        self.limited
    }

    /// The limit is one for a shallow queue.
    pub(crate) fn is_shallow(&self) -> bool {
        self.limit.is_some() && self.shallow.is_on()
    }

    /// What the last report says to who tries whether the path carries more.
    pub(crate) fn seen(&self, keeps_out: bool, expected: Duration) -> Seen {
        Seen {
            is_limited: self.limit.is_some() && !self.is_shallow(),
            is_found: self.limit.is_some_and(|limit| limit >= self.capacity / 16 * TRIED_FROM),
            keeps_out,
            queue: self.over.reports > 0,
            above_usual: self.queueing.saturating_sub(Duration::from_micros(self.usual_us)),
            came: self.came,
            expected,
        }
    }

    /// More is tried: nothing else is to make a queue meanwhile.
    pub(crate) fn tries(&mut self) {
        let [held_max, tried] = [HELD_MAX, TRIED_AT].map(|share| self.capacity / 16 * share);
        self.limit =
            self.limit.map(|limit| if limit <= held_max { limit.min(tried).max(LIMIT_MIN) } else { limit });
    }

    /// The path carries more, as was found so often in a row.
    pub(crate) fn more(&mut self, times: u32) {
        let quarters = if times > 1 { MORE_THEN } else { MORE_FIRST };
        self.limit = self.limit.map(|limit| (limit / 4 * quarters).clamp(LIMIT_MIN, LIMIT_MAX));
    }

    /// Too little was sent to see whether the path carries more.
    pub(crate) fn little(&mut self) {
        let most = self.capacity / 16 * LITTLE_MAX;
        self.limit = self.limit.map(|limit| limit.max((limit / 16 * LITTLE).min(most)));
    }

    /// The path carries no more.
    pub(crate) fn no_more(&mut self) {
        self.limit = self.limit.map(|limit| limit.min(self.capacity).max(LIMIT_MIN));
    }

    /// A report of the other end, and how the limit may grow if it tells of no queue.
    pub(crate) fn report(&mut self, now: Timestamp, report: ArrivalReport, growth: Growth) {
        let nothing_came = self.reports.back().is_some_and(|newest| newest.bytes == report.bytes);
        self.came = !nothing_came;
        let Some(rate) = self.rate(&report) else { return };
        let passed = self.reported_at.map_or(Duration::ZERO, |at| now.since(at)).min(RATE_OVER * 2);
        self.reported_at = Some(now);
        let age = now.since(*self.first_report_at.get_or_insert(now));
        // Of a queue that is none of ours all is usual.
        let learn_over = if rate < FILLS_MIN { OTHERS_OVER } else { USUAL_OVER };
        self.learn(report.queueing, passed, age.clamp(YOUNG_FOR, learn_over));
        self.queueing = report.queueing;
        if report.queueing > self.threshold() {
            if nothing_came {
                return;
            }
            self.over.reports += 1;
            self.over.calm = 0;
            if self.over.reports >= 2 && self.is_ours(rate, age) {
                self.queue_stands(now, rate, report);
            }
            return;
        }
        self.over.reports = 0;
        self.over.calm += 1;
        if self.over.calm >= OVER_AFTER {
            self.over = Over::default();
        }
        if self.looks_for_shallow(now, &report, rate, age)
            && let Some(limit) = self.limit
        {
            self.grow(now, limit, rate, passed, growth);
        }
    }

    /// What the report says of a queue that is never long. `true` if the limit may grow.
    fn looks_for_shallow(
        &mut self,
        now: Timestamp,
        report: &ArrivalReport,
        rate: u64,
        age: Duration,
    ) -> bool {
        let Some(oldest) = self.reports.front() else { return true };
        if !self.is_ours(rate, age) {
            return true;
        }
        let delivered = rate_between(oldest, report).max(LIMIT_MIN);
        let span = Span { oldest, newest: report, delivered, lately: rate };
        match self.shallow.report(now, span, self.limit) {
            Step::Grow => return true,
            Step::Stay => {}
            Step::Limit(limit) => {
                self.limited += u64::from(self.limit.is_none());
                self.capacity = delivered;
                self.calm_since = now;
                self.limit = limit.map(|limit| limit.clamp(LIMIT_MIN, LIMIT_MAX));
            }
        }
        false
    }

    /// Bytes per second that arrived of late.
    fn rate(&mut self, report: &ArrivalReport) -> Option<u64> {
        if let Some(newest) = self.reports.back() {
            let apart = report.said_at.since(newest.said_at);
            if apart > REPORTS_APART_MAX {
                self.reports.clear();
            } else if apart.is_zero() {
                // An old one, overtaken.
                return None;
            }
        }
        if self.reports.len() >= REPORTS_MAX {
            self.reports.pop_front();
        }
        self.reports.push_back(*report);
        let old_enough = |before: &&ArrivalReport| report.said_at.since(before.said_at) >= RATE_OVER;
        self.reports.iter().rev().find(old_enough).map(|before| rate_between(before, report))
    }

    /// Queueing delay that counts as a queue.
    fn threshold(&self) -> Duration {
        let variation = Duration::from_micros(2 * self.step_us).min(VARIATION_MAX);
        Duration::from_micros(self.usual_us) + variation + QUEUE
    }

    fn queue_stands(&mut self, now: Timestamp, rate: u64, report: ArrivalReport) {
        let queueing = report.queueing;
        let fresh = self.over.peak.is_zero();
        if fresh {
            self.over.since = now;
        }
        let patience = OURS_WITHIN + 2 * report.rtt;
        let held = now.since(self.over.since);
        // Until the limit has reached the queue it may go on growing.
        if held * 2 < patience {
            self.over.peak = self.over.peak.max(queueing);
        } else if held > patience && queueing > self.over.peak * 3 / 4 {
            self.lift();
            self.usual_us = queueing.as_micros() as u64;
            self.over = Over::default();
            return;
        }
        self.capacity = match self.limit {
            // What arrived before the queue stood is how much was sent, not how much the path carries.
            Some(_) if rate < self.capacity && self.over.reports <= FILLED_FOR => self.capacity,
            Some(_) if rate < self.capacity => (3 * self.capacity + rate) / 4,
            Some(_) | None => rate,
        };
        let drain_us = DRAIN_IN.as_micros() as u64;
        let share = drain_us.saturating_sub(queueing.as_micros() as u64).max(drain_us * DRAIN_SHARE_MIN / 16);
        self.limited += u64::from(self.limit.is_none());
        self.calm_since = now;
        let limit = u128::from(self.capacity) * u128::from(share) / u128::from(drain_us);
        self.limit = Some((limit as u64).clamp(LIMIT_MIN, LIMIT_MAX));
    }

    /// Whether what arrives at that rate can be what fills the path.
    fn is_ours(&self, rate: u64, age: Duration) -> bool {
        self.limit.is_some() || (rate >= FILLS_MIN && age >= YOUNG_FOR)
    }

    fn learn(&mut self, queueing: Duration, passed: Duration, usual_over: Duration) {
        let (before_us, queueing_us) = (self.queueing.as_micros() as u64, queueing.as_micros() as u64);
        let nearer = |old: u64, new: u64, over: Duration| {
            let parts = (passed.as_micros() * 1024 / over.as_micros().max(1)).min(1024) as u64;
            (old * (1024 - parts) + new * parts) / 1024
        };
        let step_over = if self.limit.is_some() { usual_over.min(4 * UNLEARNED_OVER) } else { usual_over };
        self.step_us = nearer(self.step_us, before_us.abs_diff(queueing_us), step_over);
        // What a limit leaves of a queue is not what is usual.
        if self.limit.is_none() {
            self.usual_us = nearer(self.usual_us, queueing_us, usual_over);
        } else if queueing_us < self.usual_us {
            self.usual_us = nearer(self.usual_us, queueing_us, UNLEARNED_OVER);
        }
    }

    fn grow(&mut self, now: Timestamp, limit: u64, rate: u64, passed: Duration, growth: Growth) {
        self.capacity = self.capacity.max(rate);
        let calm = now.since(self.calm_since);
        if calm >= CALM_FOR && limit / FAR_ABOVE >= rate && growth == Growth::Free {
            self.lift();
            return;
        }
        let per_s = (GROWTH_FIRST << calm.as_secs().min(16)).min(GROWTH_MAX);
        let more = u128::from(limit) * u128::from(per_s) * passed.as_micros() / (1024 * 1_000_000);
        let most = match growth {
            Growth::Free => u64::MAX,
            Growth::Held => limit.max(self.capacity / 16 * HELD_MAX),
            Growth::None => limit,
        };
        self.limit = Some((limit + more as u64).min(most).max(LIMIT_MIN));
        if limit >= LIMIT_MAX {
            self.lift();
        }
    }

    fn lift(&mut self) {
        self.limit = None;
        self.shallow.ends();
    }
}

/// Bytes per second that arrived between two reports.
fn rate_between(before: &ArrivalReport, report: &ArrivalReport) -> u64 {
    let micros = report.said_at.since(before.said_at).as_micros() as u64;
    u64::from(report.bytes.wrapping_sub(before.bytes)) * 1_000_000 / micros.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MBIT: u64 = 125_000;
    const REPORT_MS: u64 = 33;

    /// A path with a queue, and a sender that keeps to its limit.
    struct Path {
        control: RateControl,
        now_ms: u64,
        delay_ms: u64,
        /// Bytes per second.
        carries: u64,
        queue: u64,
        /// Delay that others cause.
        foreign_ms: u64,
        /// Queueing delay of each millisecond since the last report.
        waits_ms: Vec<u64>,
        arrived: u64,
        sent_ever: u64,
        /// Reports on their way: when they arrive.
        under_way: VecDeque<(u64, ArrivalReport)>,
        loss_pct: u64,
        tokens: u64,
    }

    impl Path {
        fn new(carries: u64, delay_ms: u64) -> Path {
            Path {
                control: RateControl::default(),
                now_ms: 0,
                delay_ms,
                carries,
                queue: 0,
                foreign_ms: 0,
                waits_ms: Vec::new(),
                arrived: 0,
                sent_ever: 0,
                under_way: VecDeque::new(),
                loss_pct: 0,
                tokens: 0,
            }
        }

        /// One millisecond in which so much (bytes per second) is wanted. What is limited is not made up for.
        fn step(&mut self, demand: u64) {
            let rate = self.control.limit().map_or(demand, |limit| limit.min(demand));
            self.tokens += rate;
            let sent = self.tokens / 1000;
            self.tokens %= 1000;
            self.sent_ever += sent;
            self.queue += sent;
            let leaves = self.queue.min(self.carries / 1000);
            self.queue -= leaves;
            self.arrived += leaves * (100 - self.loss_pct) / 100;
            self.waits_ms.push(self.queue_ms() + self.foreign_ms);
            if self.now_ms.is_multiple_of(REPORT_MS) {
                let least = self.waits_ms.drain(..).min().unwrap_or(0);
                let at = Timestamp::from_micros(self.now_ms * 1000);
                let report = ArrivalReport {
                    said_at: at.wire(),
                    queueing: Duration::from_millis(least),
                    bytes: self.arrived as u32,
                    rtt: Duration::from_millis(2 * self.delay_ms),
                    ..ArrivalReport::default()
                };
                // What is in the queue has still to travel, and the report comes back.
                self.under_way.push_back((self.now_ms + 2 * self.delay_ms, report));
            }
            self.now_ms += 1;
            while self.under_way.front().is_some_and(|(at, _)| *at <= self.now_ms) {
                let (_, report) = self.under_way.pop_front().expect("there is one");
                self.control.report(Timestamp::from_micros(self.now_ms * 1000), report, Growth::Free);
            }
        }

        fn queue_ms(&self) -> u64 {
            self.queue * 1000 / self.carries
        }

        /// Runs and returns the longest queue of that time.
        fn run(&mut self, ms: u64, demand: u64) -> u64 {
            let mut longest = 0;
            for _ in 0..ms {
                self.step(demand);
                longest = longest.max(self.queue_ms());
            }
            longest
        }
    }

    #[test]
    fn a_link_that_never_queues_is_never_limited() {
        let mut path = Path::new(20 * MBIT, 20);
        for demand in [2, 15, 1, 19, 5] {
            path.run(3_000, demand * MBIT);
            assert_eq!(path.control.limit(), None);
        }
    }

    #[test]
    fn loss_alone_never_limits() {
        let mut path = Path::new(20 * MBIT, 40);
        path.loss_pct = 30;
        path.run(20_000, 10 * MBIT);
        assert_eq!((path.control.limit(), path.control.limited()), (None, 0));
    }

    #[test]
    fn the_queue_is_short_one_second_after_the_rate_has_fallen() {
        for (delay_ms, most_ms) in [(5, 170), (20, 200), (40, 240)] {
            let mut path = Path::new(20 * MBIT, delay_ms);
            path.run(5_000, 21 * MBIT / 10);
            path.carries = MBIT;
            let longest = path.run(1_000, 21 * MBIT / 10);
            assert!(longest < most_ms, "{longest} ms with a delay of {delay_ms}");
            let after = path.run(10_000, 21 * MBIT / 10);
            assert!(after < 100, "{after} ms with a delay of {delay_ms}");
            let sent = path.sent_ever;
            path.run(10_000, 21 * MBIT / 10);
            let used = (path.sent_ever - sent) * 100 / (10 * MBIT);
            assert!((85..=100).contains(&used), "{used}% of what it carries");
        }
    }

    #[test]
    fn a_flood_is_met_as_well() {
        let mut path = Path::new(20 * MBIT, 20);
        path.run(3_000, 15 * MBIT);
        path.carries = 5 * MBIT;
        path.run(1_500, 15 * MBIT);
        let after = path.run(10_000, 15 * MBIT);
        assert!(after < 100, "{after}");
    }

    #[test]
    fn the_limit_goes_when_the_rate_comes_back() {
        let mut path = Path::new(MBIT, 20);
        path.run(10_000, 2 * MBIT);
        assert!(path.control.limit().is_some_and(|limit| limit < 2 * MBIT));
        path.carries = 20 * MBIT;
        path.run(4_000, 2 * MBIT);
        assert!(path.control.limit().is_none_or(|limit| limit >= 2 * MBIT), "{:?}", path.control.limit());
        path.run(4_000, 2 * MBIT);
        assert_eq!(path.control.limit(), None);
    }

    #[test]
    fn a_path_that_became_longer_is_not_a_full_one_for_long() {
        let mut path = Path::new(20 * MBIT, 20);
        path.run(5_000, 2 * MBIT);
        path.foreign_ms = 60;
        path.run(1_500, 2 * MBIT);
        assert_eq!(path.control.limit(), None);
        path.run(20_000, 2 * MBIT);
        assert_eq!((path.control.limit(), path.control.limited()), (None, 1));
        // And a queue beyond that is one of ours.
        path.carries = MBIT;
        path.run(1_000, 2 * MBIT);
        assert!(path.control.limit().is_some_and(|limit| limit <= MBIT));
    }

    #[test]
    fn a_path_that_jitters_is_not_limited() {
        for most in [10, 30, 60] {
            let mut path = Path::new(20 * MBIT, 20);
            let mut state = 1_u64;
            for step in 0..60_000 {
                if step % 20 == 0 {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    path.foreign_ms = (state >> 33) % most;
                }
                path.step(2 * MBIT);
            }
            assert_eq!(path.control.limit(), None, "up to {most} ms");
            let limited = path.control.limited();
            assert!(limited <= if most <= 30 { 0 } else { 2 }, "{limited} times up to {most} ms");
        }
    }

    /// Frames of eight packets and audio on a path whose every packet takes up to so much longer, and keeps its place.
    #[test]
    fn a_young_path_that_jitters_and_keeps_order_is_not_limited() {
        let mut limited = 0;
        for seed in 0..200_u64 {
            let mut control = RateControl::default();
            let mut state = seed * 977 + 1;
            let mut random = move |most: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % most
            };
            // (arrives at, took, bytes), in us
            let mut under_way: VecDeque<(u64, u64, u64)> = VecDeque::new();
            let (mut last, mut bytes) = (0, 0);
            for ms in 0..5_000_u64 {
                let packets = if ms % 33 == 0 { 8 } else { u64::from(ms % 20 == 0) };
                for _ in 0..packets {
                    last = last.max(ms * 1000 + random(60_000));
                    under_way.push_back((last, last - ms * 1000, if packets == 8 { 1000 } else { 100 }));
                }
                if ms % REPORT_MS != 32 {
                    continue;
                }
                let mut least = u64::MAX;
                while under_way.front().is_some_and(|(at, _, _)| *at <= ms * 1000)
                    && let Some((_, took, more)) = under_way.pop_front()
                {
                    least = least.min(took);
                    bytes += more;
                }
                let now = Timestamp::from_micros(ms * 1000);
                let queueing =
                    if least == u64::MAX { control.queueing() } else { Duration::from_micros(least) };
                let rtt = Duration::from_millis(20);
                control.report(
                    now,
                    ArrivalReport {
                        said_at: now.wire(),
                        queueing,
                        bytes: bytes as u32,
                        rtt,
                        ..ArrivalReport::default()
                    },
                    Growth::Free,
                );
            }
            limited += control.limited();
        }
        assert!(limited <= 2, "{limited} times in 200 runs");
    }

    #[test]
    fn one_late_datagram_before_a_pause_is_no_queue() {
        // A burst of 2 kB in every other interval, of which one in fifty is a datagram that was held back.
        let mut control = RateControl::default();
        for interval in 0..1_000_u64 {
            let now = Timestamp::from_micros(interval * REPORT_MS * 1000);
            let late = interval / 2 % 50 == 49;
            let report = ArrivalReport {
                said_at: now.wire(),
                // Of an interval in which nothing came: what was said before.
                queueing: Duration::from_millis(if late { 90 } else { 1 }),
                bytes: (interval / 2 * 2_000) as u32,
                rtt: Duration::from_millis(180),
                ..ArrivalReport::default()
            };
            control.report(now, report, Growth::Free);
            assert_eq!(control.limit(), None, "after {interval} intervals");
        }
    }

    #[test]
    fn who_sends_little_is_not_limited_by_what_others_fill() {
        let mut path = Path::new(20 * MBIT, 20);
        path.run(3_000, 5_000);
        path.foreign_ms = 80;
        path.run(3_000, 5_000);
        assert_eq!(path.control.limit(), None);
        // Nor when it sends more later: the path is as long as it was.
        path.run(3_000, 2 * MBIT);
        assert_eq!((path.control.limit(), path.control.limited()), (None, 0));
    }

    proptest! {
        #[test]
        fn any_reports_keep_the_limit_within_its_bounds(
            reports in prop::collection::vec((0u64..400_000, any::<u32>(), 0u64..1_000_000, any::<u32>()), 1..300)
        ) {
            let (mut control, mut now) = (RateControl::default(), 0);
            for (later, said_at, queueing, bytes) in reports {
                now += later;
                let report = ArrivalReport {
                    said_at: WireTime::from_bits(said_at),
                    queueing: Duration::from_micros(queueing),
                    bytes,
                    rtt: Duration::from_micros(queueing / 7),
                    expected: said_at,
                    received: bytes.rotate_left(7),
                    overflows: bytes % 2 == 0,
                    ..ArrivalReport::default()
                };
                control.report(Timestamp::from_micros(now), report, Growth::Free);
                prop_assert!(control.limit().is_none_or(|limit| (LIMIT_MIN..=2 * LIMIT_MAX).contains(&limit)));
                prop_assert!(control.reports.len() <= REPORTS_MAX);
            }
        }

        #[test]
        fn whatever_the_path_carries_the_queue_is_short_and_the_path_used(
            carries in 500u64..20_000, over in 110u64..400, delay_ms in 1u64..60
        ) {
            let mut path = Path::new(carries * 125, delay_ms);
            let demand = carries * 125 * over / 100;
            path.run(4_000, demand);
            let sent = path.sent_ever;
            let longest = path.run(10_000, demand);
            prop_assert!(longest < 150, "{longest} ms");
            let used = (path.sent_ever - sent) * 100 / (10 * carries * 125);
            prop_assert!(used >= 75, "{used}%");
        }
    }
}
