//! A link that fails again and again is not trusted again at once: it stays usable, but so dear that anything else is
//! preferred, until it has kept quiet for a while. (Excluding it could cut a relay off whose only link it is.)

use std::time::Duration;
use wire_format::Timestamp;

/// What a failure adds.
const FAILURE: u64 = 1_000;
/// Most that is ever remembered.
const PENALTY_MAX: u64 = 4 * FAILURE;
/// From here on the link is dear: a second failure within half of [`FORGIVEN_AFTER`].
const DEAR_FROM: u64 = 1_500;
/// Back here it is trusted again.
const TRUSTED_FROM: u64 = 500;
/// Time in which one failure is forgiven.
const FORGIVEN_AFTER: Duration = Duration::from_secs(20);
/// Its ends learn at different times that an outage is over: when one has said so, the other may still say that it failed.
const SAME_OUTAGE: Duration = Duration::from_secs(1);
/// What a dear link costs on top, in each direction.
const SURCHARGE_US: u64 = 1_000_000;

/// The bad memories of one link.
#[derive(Clone, Debug, Default)]
pub(crate) struct Damping {
    penalty: u64,
    updated_at: Timestamp,
    dear: bool,
    /// The last failure was one of its own.
    counted: bool,
    /// When the link came up after that.
    up_at: Option<Timestamp>,
}

impl Damping {
    /// Routes may use the link.
    pub(crate) fn came_up(&mut self, now: Timestamp) {
        self.up_at = self.counted.then_some(now);
    }

    /// The link failed. What follows its return at once is the same outage, once.
    pub(crate) fn fail(&mut self, now: Timestamp) {
        self.counted = self.up_at.take().is_none_or(|at| now.since(at) >= SAME_OUTAGE);
        if !self.counted {
            return;
        }
        self.decay(now);
        self.penalty = (self.penalty + FAILURE).min(PENALTY_MAX);
        self.dear |= self.penalty >= DEAR_FROM;
    }

    /// Forgives what time has healed. True if the surcharge ended.
    pub(crate) fn tick(&mut self, now: Timestamp) -> bool {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return false;
        }
        self.decay(now);
        self.dear = false;
        true
    }

    /// When the surcharge ends.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        let excess = self.penalty.saturating_sub(TRUSTED_FROM);
        self.dear.then(|| self.updated_at + Duration::from_micros(excess * us_per_point()))
    }

    /// On top of the link's cost.
    pub(crate) fn surcharge_us(&self) -> u64 {
        if self.dear { SURCHARGE_US } else { 0 }
    }

    fn decay(&mut self, now: Timestamp) {
        let passed_us = u64::try_from(now.since(self.updated_at).as_micros()).unwrap_or(u64::MAX);
        self.penalty = self.penalty.saturating_sub(passed_us / us_per_point());
        self.updated_at = now;
    }
}

fn us_per_point() -> u64 {
    FORGIVEN_AFTER.as_micros() as u64 / FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Timestamp {
        Timestamp::from_micros(s * 1_000_000)
    }

    #[test]
    fn one_failure_is_nothing_two_at_once_are_remembered() {
        let mut damping = Damping::default();
        damping.fail(at(10));
        assert_eq!((damping.surcharge_us(), damping.deadline()), (0, None));
        damping.fail(at(15));
        assert!(damping.surcharge_us() > 0);
        // 1,750 points: 25 s until 500 are left.
        assert_eq!(damping.deadline(), Some(at(40)));
        assert!(!damping.tick(at(39)));
        assert!(damping.tick(at(40)));
        assert_eq!((damping.surcharge_us(), damping.deadline()), (0, None));
    }

    #[test]
    fn ends_that_learn_one_after_the_other_saw_one_outage() {
        let ms = |ms: u64| Timestamp::from_micros(ms * 1_000);
        let mut damping = Damping::default();
        damping.came_up(ms(0));
        for (up, down) in [(None, 7_854), (Some(9_317), 9_349), (Some(9_428), 60_000)] {
            up.into_iter().for_each(|up| damping.came_up(ms(up)));
            damping.fail(ms(down));
            assert_eq!(damping.surcharge_us(), 0, "at {down} ms");
        }
        // One that comes and goes is another matter.
        for begin in (60_500..63_000).step_by(500) {
            damping.came_up(ms(begin));
            damping.fail(ms(begin + 100));
        }
        assert!(damping.surcharge_us() > 0);
    }

    #[test]
    fn rare_failures_are_forgiven_and_many_are_bounded() {
        let mut damping = Damping::default();
        for hour in 0..10 {
            damping.fail(at(hour * 3_600));
            assert_eq!(damping.surcharge_us(), 0);
        }
        for _ in 0..1_000 {
            damping.fail(at(36_000));
        }
        assert_eq!(damping.deadline(), Some(at(36_070)));
    }
}
