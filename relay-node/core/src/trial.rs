//! Whether a path carries more than it was found to, tried while media is held back for it.
//!
//! What is held back cannot show that it would get through, and all of it at once is a long queue if it does not. So now and
//! then a little more leaves than the limit allows: what the path brings in [`MORE`], once, and then as much as the limit
//! again. If the path carries no more, that much queue stands until less is sent; if it does, the queue is gone in the
//! next report of which all datagrams came after. Then the limit is raised, and more is tried at once, until nothing is
//! held back (BBR probes likewise: a bounded excess, judged a round trip later). A trial that fails costs what comes with it
//! [`MORE`] of delay, and the next is [`EVERY`] later: so long it takes at most to see that a path has become wider.
//!
//! Where there was too little to send to keep the queue standing, nothing is learned, and the limit is raised a little.

use crate::rate_control::ArrivalReport;
use std::time::Duration;
use wire_format::{PacketNumber, Timestamp, WireTime};

/// What leaves beyond the limit, as time at its rate.
pub(crate) const MORE: Duration = Duration::from_millis(13);
/// From the end of a trial, or of a queue, to the next trial.
const EVERY: Duration = Duration::from_millis(600);
/// So long there may be nothing to send that would be more.
const LEAVES_WITHIN: Duration = Duration::from_millis(250);
/// A report that says nothing about what arrived so soon after the excess says nothing about it.
const JUDGED_WITHIN: Duration = Duration::from_millis(100);
/// Reports of what left do not take longer.
const HEARD_WITHIN: Duration = Duration::from_secs(3);

/// With nothing held back in so many trials in a row the limit is enough.
const ENOUGH: u32 = 2;

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    Nothing,
    /// More may leave now; `true` if more was found just before.
    Begin(bool),
    /// The path carries more; so often in a row.
    More(u32),
    /// There was too little to send to see.
    Little,
    /// It does not carry more.
    NoMore,
}

/// What is known of the path when a report has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// It is limited.
    pub(crate) is_limited: bool,
    /// The limit is about what the path was found to carry, or more.
    pub(crate) is_found: bool,
    /// Media is held back.
    pub(crate) keeps_out: bool,
    /// The report tells of a queue.
    pub(crate) queue: bool,
    /// Queueing delay above what is usual.
    pub(crate) above_usual: Duration,
    /// Something came since the report before.
    pub(crate) came: bool,
    /// Queue that stands if the path carries no more.
    pub(crate) expected: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
enum Phase {
    #[default]
    None,
    /// More may leave, since then.
    Leaves(Timestamp),
    /// It has left, the last of it with this number.
    Left(Timestamp, PacketNumber),
    /// All that later reports tell of came after it: since then, by the other end's clock.
    Came(WireTime),
}

#[derive(Debug, Default)]
pub(crate) struct Trial {
    phase: Phase,
    not_before: Timestamp,
    /// Trials in a row that found more.
    found: u32,
    /// ... of those the last in a row with which nothing was held back.
    enough: u32,
}

impl Trial {
    /// All of the excess has left, `last` at the end.
    pub(crate) fn left(&mut self, now: Timestamp, last: PacketNumber) {
        if let Phase::Leaves(_) = self.phase {
            self.phase = Phase::Left(now, last);
        }
    }

    /// More may leave, or has, and nothing is known of it yet.
    pub(crate) fn is_on(&self) -> bool {
        !matches!(self.phase, Phase::None)
    }

    /// The other end has said what arrives.
    pub(crate) fn report(&mut self, now: Timestamp, report: &ArrivalReport, seen: Seen) -> Step {
        if seen.queue || !seen.is_limited {
            return self.ends(now, Step::NoMore);
        }
        match self.phase {
            Phase::None
                if now >= self.not_before && (self.found > 0 || (seen.keeps_out && seen.is_found)) =>
            {
                self.phase = Phase::Leaves(now);
                Step::Begin(self.found > 0)
            }
            Phase::None => Step::Nothing,
            Phase::Leaves(since) if now.since(since) <= LEAVES_WITHIN => Step::Nothing,
            Phase::Leaves(_) => self.too_little(now, seen),
            Phase::Left(_, last) if report.highest >= Some(last) => {
                self.phase = Phase::Came(report.said_at);
                Step::Nothing
            }
            Phase::Left(since, _) if now.since(since) <= HEARD_WITHIN => Step::Nothing,
            Phase::Came(at) if report.said_at.since(at) <= JUDGED_WITHIN => self.judge(now, seen),
            // Nothing was learned.
            Phase::Left(..) | Phase::Came(_) => self.ends(now, Step::Nothing),
        }
    }

    fn judge(&mut self, now: Timestamp, seen: Seen) -> Step {
        if !seen.came {
            return Step::Nothing;
        }
        if seen.above_usual >= seen.expected.max(MORE / 2) / 2 {
            return self.ends(now, Step::NoMore);
        }
        if seen.expected < MORE / 2 {
            return self.too_little(now, seen);
        }
        (self.phase, self.not_before) = (Phase::None, now);
        self.found += 1;
        self.enough = 0;
        Step::More(self.found)
    }

    /// What there is to send leaves gaps at the present limit: a little more does no harm. Where more was found just before,
    /// that goes on until nothing was held back twice in a row.
    fn too_little(&mut self, now: Timestamp, seen: Seen) -> Step {
        self.enough = if seen.keeps_out { 0 } else { self.enough + 1 };
        if self.found == 0 {
            return self.ends(now, Step::Little);
        }
        if self.enough >= ENOUGH {
            return self.ends(now, Step::More(1));
        }
        (self.phase, self.not_before) = (Phase::None, now);
        Step::More(1)
    }

    fn ends(&mut self, now: Timestamp, step: Step) -> Step {
        let was_on = self.is_on();
        *self = Trial { phase: Phase::None, not_before: now + EVERY, found: 0, enough: 0 };
        if was_on { step } else { Step::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: Seen = Seen {
        is_limited: true,
        is_found: true,
        keeps_out: true,
        queue: false,
        above_usual: Duration::ZERO,
        came: true,
        expected: MORE,
    };

    /// Reports every 33 ms of which each tells of all that left until 40 ms before it, one datagram a millisecond.
    struct Bench {
        trial: Trial,
        now_ms: u64,
    }

    impl Bench {
        fn new() -> Bench {
            Bench { trial: Trial::default(), now_ms: 10_000 }
        }

        fn report(&mut self, seen: Seen) -> Step {
            self.now_ms += 33;
            let now = Timestamp::from_micros(self.now_ms * 1000);
            let report = ArrivalReport {
                said_at: now.wire(),
                queueing: seen.above_usual,
                bytes: 0,
                rtt: Duration::from_millis(40),
                highest: Some(PacketNumber(self.now_ms - 40)),
                ..ArrivalReport::default()
            };
            self.trial.report(now, &report, seen)
        }

        fn left(&mut self) {
            self.trial.left(Timestamp::from_micros(self.now_ms * 1000), PacketNumber(self.now_ms));
        }

        /// Reports until something is to be done: what, and how many they were.
        fn until(&mut self, seen: Seen) -> (Step, usize) {
            let steps = (1..1000).map(|count| (self.report(seen), count));
            let mut done = steps.filter(|(step, _)| *step != Step::Nothing);
            done.next().expect("nothing for 33 seconds")
        }
    }

    #[test]
    fn a_queue_that_does_not_stand_after_more_left_raises_the_limit_and_more_is_tried_at_once() {
        let mut bench = Bench::new();
        for times in 1..5 {
            assert_eq!(bench.until(SEEN), (Step::Begin(times > 1), 1));
            bench.left();
            // The second report of all that left is the first of which all came later.
            assert_eq!(bench.until(SEEN), (Step::More(times), 3));
        }
    }

    #[test]
    fn a_queue_that_stands_ends_it_and_so_does_a_long_one() {
        let stands = Seen { above_usual: MORE * 3 / 4, ..SEEN };
        let long = Seen { queue: true, ..SEEN };
        for (seen, reports) in [(stands, 3), (long, 1)] {
            let mut bench = Bench::new();
            bench.report(SEEN);
            bench.left();
            assert_eq!(bench.until(seen), (Step::NoMore, reports));
            let (step, reports) = bench.until(SEEN);
            assert_eq!((step, reports), (Step::Begin(false), 19), "after 600 ms");
        }
    }

    #[test]
    fn where_too_little_was_sent_nothing_is_learned() {
        let mut bench = Bench::new();
        bench.report(SEEN);
        let (step, reports) = bench.until(SEEN);
        assert_eq!((step, reports), (Step::Little, 8), "nothing left for a quarter of a second");
        assert_eq!(bench.until(SEEN).0, Step::Begin(false));
        bench.left();
        assert_eq!(bench.until(Seen { expected: MORE / 4, ..SEEN }).0, Step::Little);
        let nothing_came = Seen { came: false, ..SEEN };
        bench.until(SEEN);
        bench.left();
        for _ in 0..20 {
            assert_eq!(bench.report(nothing_came), Step::Nothing);
        }
        assert!(!bench.trial.is_on());
    }

    #[test]
    fn a_success_is_followed_until_nothing_is_held_back() {
        let mut bench = Bench::new();
        bench.report(SEEN);
        bench.left();
        assert_eq!(bench.until(SEEN).0, Step::More(1));
        let enough = Seen { keeps_out: false, expected: Duration::ZERO, ..SEEN };
        for again in [true, true] {
            assert_eq!(bench.report(enough), Step::Begin(again));
            bench.left();
            assert_eq!(bench.until(enough).0, Step::More(1));
        }
        for _ in 0..100 {
            assert_eq!(bench.report(enough), Step::Nothing);
        }
    }

    #[test]
    fn an_unlimited_link_and_one_that_holds_nothing_back_try_nothing() {
        let mut bench = Bench::new();
        for seen in [
            Seen { is_limited: false, ..SEEN },
            Seen { keeps_out: false, ..SEEN },
            Seen { is_found: false, ..SEEN },
        ] {
            for _ in 0..100 {
                assert_eq!(bench.report(seen), Step::Nothing);
            }
        }
    }
}
