//! A trial whether what is lost is what a shallow queue drops: the link is given a little less than what arrives. If the
//! loss then nearly goes away, the path carries no more; if not, it is no queue of ours, and the limit goes as it came. A
//! trial that failed is not repeated soon, each time half as soon. So random loss that looks like a queue's slows a link
//! for a moment in hours, and one that came with a queue of ours does not keep the limit down.

use super::ArrivalReport;
use std::time::Duration;
use wire_format::Timestamp;

/// Less loss than this is worth no trial, parts per million; beyond what was left when a queue was found likewise.
const WORTH_PPM: u64 = 20_000;
/// A queue of a few milliseconds counts with so much loss, in so many reports in a row: all that are kept, and one.
const STANDS_PPM: u64 = 50_000;
const STANDS_FOR: u32 = 9;
/// A new limit shows after a round trip and this.
const SHOWS_AFTER: Duration = Duration::from_millis(60);
/// ... and is judged over so long and so many datagrams, ...
const JUDGED_OVER: Duration = Duration::from_millis(200);
const JUDGED_OF: u32 = 20;
/// ... or given up if so few come in so long.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(2);
/// Loss that is nearly gone is one such part of what it was.
const NEARLY_GONE: u64 = 4;
/// Time from the first trial that failed to the next, and the longest.
const AGAIN_AFTER: Duration = Duration::from_secs(30);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(4 * 3600);

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Nothing,
    Begin,
    Trying,
    /// The limit that was before is the right one.
    Failed(Option<u64>),
}

#[derive(Clone, Copy, Debug)]
struct Trial {
    since: Timestamp,
    loss_ppm: u64,
    limit_before: Option<u64>,
    /// Report from which on the new limit shows.
    from: Option<ArrivalReport>,
}

/// What is known of a shallow queue.
#[derive(Debug, Default)]
pub(super) struct Shallow {
    trial: Option<Trial>,
    /// One was found, and what is lost all the same.
    found_ppm: Option<u64>,
    /// Reports in a row of a short queue and much loss.
    stands: u32,
    not_before: Timestamp,
    failed: u32,
}

impl Shallow {
    /// A trial is on, or a queue was found.
    pub(super) fn is_on(&self) -> bool {
        self.trial.is_some() || self.found_ppm.is_some()
    }

    /// The limit has gone.
    pub(super) fn ends(&mut self) {
        (self.trial, self.found_ppm) = (None, None);
    }

    /// A trial begins, with so much lost of late.
    pub(super) fn begin(&mut self, now: Timestamp, loss_ppm: u64, limit_before: Option<u64>) {
        self.stands = 0;
        self.trial = Some(Trial { since: now, loss_ppm, limit_before, from: None });
    }

    /// A report that tells of no long queue; `stands`: but of a short one.
    pub(super) fn step(
        &mut self,
        now: Timestamp,
        report: &ArrivalReport,
        loss_ppm: u64,
        stands: bool,
    ) -> Step {
        if let Some(trial) = &mut self.trial {
            let from = match trial.from {
                Some(from) => from,
                None if now.since(trial.since) < report.rtt + SHOWS_AFTER => return Step::Trying,
                None => *trial.from.insert(*report),
            };
            let enough = report.expected.wrapping_sub(from.expected) >= JUDGED_OF
                || now.since(trial.since) >= report.rtt + GIVEN_UP_AFTER;
            if now.since(trial.since) < report.rtt + SHOWS_AFTER + JUDGED_OVER || !enough {
                return Step::Trying;
            }
            let (before, limit_before) = (trial.loss_ppm, trial.limit_before);
            self.trial = None;
            return self.judged(now, before, super::loss_ppm(&from, report), limit_before);
        }
        self.stands = if stands && loss_ppm >= STANDS_PPM { self.stands + 1 } else { 0 };
        let likely = match self.found_ppm {
            Some(found) => loss_ppm >= found + WORTH_PPM,
            None => loss_ppm >= WORTH_PPM && (report.overflows || self.stands >= STANDS_FOR),
        };
        if likely && now >= self.not_before { Step::Begin } else { Step::Nothing }
    }

    fn judged(&mut self, now: Timestamp, before: u64, after: u64, limit_before: Option<u64>) -> Step {
        let of_others = self.found_ppm.unwrap_or(0);
        if after.saturating_sub(of_others) * NEARLY_GONE <= before.saturating_sub(of_others) {
            self.found_ppm.get_or_insert(after);
            self.failed = 0;
            return Step::Nothing;
        }
        if self.found_ppm.is_some() {
            // More is lost on the way than was.
            self.found_ppm = Some(after);
            return Step::Failed(limit_before);
        }
        self.not_before = now + (AGAIN_AFTER * (1 << self.failed.min(16))).min(AGAIN_AFTER_MAX);
        self.failed += 1;
        Step::Failed(limit_before)
    }
}

/// Loss between two reports, parts per million.
pub(super) fn loss_ppm(from: &ArrivalReport, to: &ArrivalReport) -> u64 {
    let expected = u64::from(to.expected.wrapping_sub(from.expected));
    let received = u64::from(to.received.wrapping_sub(from.received));
    (expected.saturating_sub(received) * 1_000_000).checked_div(expected).unwrap_or(0)
}
