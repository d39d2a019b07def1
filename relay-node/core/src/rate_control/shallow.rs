//! The limit of a path whose queue is too shallow to show by its delay, or that polices.
//!
//! Such a path delivers the same whatever it is offered; one that loses by chance delivers a share of what it is offered. So
//! a limit at what is *delivered* costs the one nothing and frees it of loss, and does neither for the other. Hence:
//!
//! 1. A trial begins where bursts of loss look like those of a full queue (`repair::overflow`), or where a queue of some
//!    milliseconds stands while much is lost. It limits to what is delivered.
//! 2. If the loss all but goes, the path is a shallow one; if not, the limit goes as it came, and no trial begins for
//!    [`AGAIN_AFTER`], each time twice as long.
//! 3. On a shallow path the limit grows as on any, and growth that loses is taken back: to what is delivered, and no further
//!    than to what was delivered before without such loss. So loss by chance cannot lower the limit again and again.
//! 4. Where more is lost than was at a rate that was found to be safe, it is by chance, or the path carries less now: a trial
//!    tells.

use super::ArrivalReport;
use std::time::Duration;
use wire_format::Timestamp;

/// Less loss is worth no trial: one datagram of so many.
const WORTH: u64 = 25;
/// A queue that never empties loses anywhere in bursts of media. It is one of so much, in so many reports in a row.
const STANDS: Duration = Duration::from_millis(3);
const STANDS_FOR: u32 = 9;
/// A new limit shows after a round trip and this: a short queue, and the time between two reports.
const SHOWS_AFTER: Duration = Duration::from_millis(80);
/// If less of a trial's limit is delivered by then, parts of 16, the path carried more when it began: it limits once more, ...
const AIMED: u64 = 14;
/// ... to so much of it at least, parts of 8.
const AIMED_MIN: u64 = 5;
/// A trial is judged when so many would have been lost as before, or after so long; ...
const JUDGED_LOST: u64 = 32;
const JUDGED_WITHIN: Duration = Duration::from_secs(5);
/// ... it succeeds if no more are than one in so many of them.
const NEARLY_GONE: u64 = 4;
/// Time from a trial that failed to the next, and the longest.
const AGAIN_AFTER: Duration = Duration::from_secs(30);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(4 * 3600);
/// On a shallow path this many are too many beyond twice what chance takes, if they are one of so many.
const LOSES: u64 = 2;
const LOSES_OF: u64 = 64;
/// ... and spread over so many reports.
const LOSING: u32 = 3;
/// A rate is judged over so many datagrams and reports.
const JUDGED_OF: u64 = 64;
const JUDGED_IN: u32 = 8;
/// What chance takes is remembered over so many judgements.
const REMEMBERED: u64 = 16;
/// So many judgements in a row of more loss at a rate that was safe are worth a trial.
const STRIKES: u32 = 3;

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// The limit may grow.
    Grow,
    /// The limit stays.
    Stay,
    /// This is the limit, `None` for no limit.
    Limit(Option<u64>),
}

/// What two reports say together, about a quarter of a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span<'a> {
    pub(super) oldest: &'a ArrivalReport,
    pub(super) newest: &'a ArrivalReport,
    /// Bytes per second that arrived between them, and of late.
    pub(super) delivered: u64,
    pub(super) lately: u64,
}

/// Datagrams sent, and how many of them were lost.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    sent: u64,
    lost: u64,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Nothing speaks for a shallow queue.
    #[default]
    Deep,
    /// Whether it is one is tried.
    Trial(Trial),
    /// It is one. So much is delivered with no more loss than by chance.
    Shallow { safe: u64, chance: Counts },
}

#[derive(Clone, Copy, Debug)]
struct Trial {
    /// The limit before.
    before: Option<u64>,
    /// One of so many datagrams was lost.
    one_of: u64,
    /// It has limited once more.
    aimed: bool,
}

/// What is known of a shallow queue on one direction of a link.
#[derive(Debug, Default)]
pub(super) struct Shallow {
    state: State,
    /// When the limit was set.
    since: Timestamp,
    /// Losses are counted from this report on, if what is reported came after.
    from: Option<ArrivalReport>,
    /// Reports in a row of a short queue that loses.
    stands: u32,
    /// Since then: reports, datagrams lost, and reports of loss.
    reports: u32,
    lost: u64,
    losing: u32,
    /// Judgements in a row of too much loss at a safe rate.
    strikes: u32,
    not_before: Timestamp,
    failed: u32,
}

impl Shallow {
    /// The limit, if there is one, is one for a shallow queue.
    pub(super) fn is_on(&self) -> bool {
        !matches!(self.state, State::Deep)
    }

    /// The limit has gone.
    pub(super) fn ends(&mut self) {
        self.state = State::Deep;
    }

    /// A report that tells of no long queue.
    pub(super) fn report(&mut self, now: Timestamp, span: Span<'_>, limit: Option<u64>) -> Step {
        match (self.state, limit) {
            (State::Deep, None) if self.is_suspicious(now, span) => self.begin(now, span, None),
            (State::Deep, _) | (State::Trial(_) | State::Shallow { .. }, None) => Step::Grow,
            (State::Trial(trial), Some(limit)) => self.judge(now, span, trial, limit),
            (State::Shallow { safe, chance }, Some(limit)) => self.watch(now, span, limit, safe, chance),
        }
    }

    fn is_suspicious(&mut self, now: Timestamp, span: Span<'_>) -> bool {
        let stands = span.newest.queueing >= STANDS && span.counts().is_worth();
        self.stands = if stands { self.stands + 1 } else { 0 };
        now >= self.not_before && (span.newest.overflows || self.stands >= STANDS_FOR)
    }

    fn begin(&mut self, now: Timestamp, span: Span<'_>, before: Option<u64>) -> Step {
        let counts = span.counts();
        if !counts.is_worth() {
            return Step::Stay;
        }
        self.state = State::Trial(Trial { before, one_of: counts.sent / counts.lost, aimed: false });
        self.set(now, share(span.delivered))
    }

    fn judge(&mut self, now: Timestamp, span: Span<'_>, trial: Trial, limit: u64) -> Step {
        let Some(counts) = self.counts(now, span.newest) else {
            if !trial.aimed && self.from.is_some() && span.lately < limit / 16 * AIMED {
                self.state = State::Trial(Trial { aimed: true, ..trial });
                return self.set(now, share(span.lately).max(limit / 8 * AIMED_MIN));
            }
            return Step::Stay;
        };
        if counts.lost * NEARLY_GONE > JUDGED_LOST {
            self.not_before = now + (AGAIN_AFTER * (1 << self.failed.min(16))).min(AGAIN_AFTER_MAX);
            self.failed += 1;
            self.state = State::Deep;
            return Step::Limit(trial.before);
        }
        if counts.sent < JUDGED_LOST * trial.one_of && now.since(self.since) < JUDGED_WITHIN {
            return Step::Stay;
        }
        (self.failed, self.strikes) = (0, 0);
        self.count_from(Some(*span.newest));
        self.state = State::Shallow { safe: limit.min(share(span.delivered)), chance: counts };
        Step::Grow
    }

    fn watch(&mut self, now: Timestamp, span: Span<'_>, limit: u64, safe: u64, chance: Counts) -> Step {
        let Some(counts) = self.counts(now, span.newest) else { return Step::Stay };
        let by_chance = chance.lost_of(counts.sent.max(JUDGED_OF));
        // Of a full queue there is some loss in most reports; a burst of chance is in one or two.
        self.losing += u32::from(counts.lost > self.lost);
        self.lost = counts.lost;
        let too_much = self.losing >= LOSING
            && counts.lost >= LOSES + 2 * by_chance
            && counts.lost * LOSES_OF >= counts.sent;
        let has_grown = limit > safe / 32 * 33;
        if has_grown && too_much {
            return self.set(now, share(span.delivered).clamp(safe, limit));
        }
        self.reports += 1;
        if counts.sent < JUDGED_OF || self.reports < JUDGED_IN {
            return Step::Grow;
        }
        self.count_from(Some(*span.newest));
        if has_grown {
            self.state = State::Shallow { safe: safe.max(share(span.delivered)).min(limit), chance };
            return Step::Grow;
        }
        // There is nothing to take back.
        self.strikes = if too_much { self.strikes + 1 } else { 0 };
        if self.strikes >= STRIKES && now >= self.not_before {
            return self.begin(now, span, Some(limit));
        }
        self.state = State::Shallow { safe, chance: chance.and(counts) };
        Step::Grow
    }

    fn set(&mut self, now: Timestamp, limit: u64) -> Step {
        self.since = now;
        self.count_from(None);
        Step::Limit(Some(limit))
    }

    fn count_from(&mut self, report: Option<ArrivalReport>) {
        (self.from, self.reports, self.lost, self.losing) = (report, 0, 0, 0);
    }

    /// What was lost since the limit was set, as far as it shows.
    fn counts(&mut self, now: Timestamp, report: &ArrivalReport) -> Option<Counts> {
        if let Some(from) = &self.from {
            return Some(Counts::between(from, report));
        }
        if now.since(self.since) >= report.rtt + SHOWS_AFTER {
            self.from = Some(*report);
        }
        None
    }
}

impl Span<'_> {
    fn counts(&self) -> Counts {
        Counts::between(self.oldest, self.newest)
    }
}

impl Counts {
    fn between(from: &ArrivalReport, to: &ArrivalReport) -> Counts {
        let sent = u64::from(to.expected.wrapping_sub(from.expected));
        let came = u64::from(to.received.wrapping_sub(from.received));
        Counts { sent, lost: sent.saturating_sub(came) }
    }

    fn is_worth(self) -> bool {
        self.lost > 0 && self.lost * WORTH >= self.sent
    }

    /// So many of those would be lost.
    fn lost_of(self, all: u64) -> u64 {
        all.saturating_mul(self.lost) / self.sent.max(1)
    }

    /// With those of one judgement more.
    fn and(self, more: Counts) -> Counts {
        let kept = |before: u64, more: u64| before - before / REMEMBERED + more;
        Counts { sent: kept(self.sent, more.sent), lost: kept(self.lost, more.lost) }
    }
}

/// A little less than what is delivered, so that what queue there is empties.
fn share(delivered: u64) -> u64 {
    delivered / 16 * 15
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sender of a datagram of 1,000 bytes a millisecond at most, on a path that polices or loses by chance.
    struct Path {
        shallow: Shallow,
        limit: Option<u64>,
        now_ms: u64,
        /// Bytes per second.
        carries: u64,
        loss_pct: u64,
        overflows: bool,
        random: u64,
        tokens: [u64; 2],
        sent: u32,
        came: u32,
        reports: Vec<ArrivalReport>,
        lowest: u64,
    }

    impl Path {
        fn new(carries: u64, loss_pct: u64) -> Path {
            Path {
                shallow: Shallow::default(),
                limit: None,
                now_ms: 0,
                carries,
                loss_pct,
                overflows: true,
                random: 1,
                tokens: [0; 2],
                sent: 0,
                came: 0,
                reports: Vec::new(),
                lowest: u64::MAX,
            }
        }

        fn run(&mut self, ms: u64) {
            for _ in 0..ms {
                self.now_ms += 1;
                let rates = [self.limit.unwrap_or(1_000_000).min(1_000_000), self.carries];
                for (tokens, rate) in self.tokens.iter_mut().zip(rates) {
                    *tokens = (*tokens + rate / 1000).min(2_000);
                }
                if self.tokens[0] >= 1000 {
                    self.tokens[0] -= 1000;
                    self.sent += 1;
                    self.random = self
                        .random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    if self.tokens[1] >= 1000 && (self.random >> 33) % 100 >= self.loss_pct {
                        self.tokens[1] -= 1000;
                        self.came += 1;
                    }
                }
                if self.now_ms.is_multiple_of(33) {
                    self.report();
                }
            }
        }

        fn report(&mut self) {
            let now = Timestamp::from_micros(self.now_ms * 1000);
            let newest = ArrivalReport {
                said_at: now.wire(),
                rtt: Duration::from_millis(20),
                expected: self.sent,
                received: self.came,
                overflows: self.overflows,
                ..ArrivalReport::default()
            };
            self.reports.push(newest);
            let oldest = self.reports[self.reports.len().saturating_sub(8)];
            let span_us = newest.said_at.since(oldest.said_at).as_micros() as u64;
            let delivered = u64::from(newest.received - oldest.received) * 1_000_000_000 / span_us.max(1);
            let span = Span { oldest: &oldest, newest: &newest, delivered, lately: delivered };
            match self.shallow.report(now, span, self.limit) {
                Step::Stay => {}
                // A twelfth a second.
                Step::Grow => self.limit = self.limit.map(|limit| limit + limit / 360),
                Step::Limit(limit) => self.limit = limit,
            }
            self.lowest = self.lowest.min(self.limit.unwrap_or(u64::MAX));
        }

        fn lost_pct(&mut self, ms: u64) -> u32 {
            let (sent, came) = (self.sent, self.came);
            self.run(ms);
            100 - (self.came - came) * 100 / (self.sent - sent)
        }
    }

    #[test]
    fn a_policed_path_is_given_what_it_carries_and_loses_nearly_nothing() {
        for carries in [200_000, 500_000, 900_000] {
            let mut path = Path::new(carries, 0);
            path.run(5_000);
            assert!(path.lost_pct(20_000) <= 3, "{carries}");
            let limit = path.limit.expect("limited");
            assert!((carries * 85 / 100..carries * 115 / 100).contains(&limit), "{limit} of {carries}");
        }
    }

    #[test]
    fn a_policed_path_that_carries_less_is_limited_to_that_and_grows_again() {
        let mut path = Path::new(800_000, 0);
        path.run(10_000);
        path.carries = 300_000;
        path.run(5_000);
        assert!(path.lost_pct(10_000) <= 4);
        path.carries = 2_000_000;
        path.run(30_000);
        assert!(path.limit.is_some_and(|limit| limit > 1_000_000), "{:?}", path.limit);
    }

    #[test]
    fn a_trial_of_what_is_lost_by_chance_ends_soon_and_comes_seldom() {
        for loss_pct in [5, 10, 30] {
            let mut path = Path::new(10_000_000, loss_pct);
            let mut limited_ms = 0;
            for _ in 0..300_000 {
                path.run(1);
                limited_ms += u64::from(path.limit.is_some());
            }
            assert!((1..=4_000).contains(&limited_ms), "{limited_ms} ms of 300 s at {loss_pct}%");
            assert!(path.shallow.failed <= 4);
        }
    }

    #[test]
    fn chance_does_not_lower_the_limit_of_a_policed_path_again_and_again() {
        let mut path = Path::new(500_000, 0);
        path.run(10_000);
        (path.loss_pct, path.overflows, path.lowest) = (10, false, u64::MAX);
        path.run(120_000);
        assert!(path.lowest > 350_000, "{}", path.lowest);
    }

    #[test]
    fn without_suspicion_nothing_is_tried() {
        let mut path = Path::new(500_000, 0);
        path.overflows = false;
        path.run(60_000);
        assert_eq!(path.limit, None);
    }
}
