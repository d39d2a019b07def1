//! What the clock of a host shows: it began at some time of its own, and runs a little too fast or too slow.

use link_model::Seed;
use std::time::Duration;
use wire_format::Timestamp;

/// A clock. Deadlines come back by it never too early.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostClock {
    /// What it shows at the beginning of the run.
    origin: Duration,
    /// So much it gains in a second, nanoseconds; below zero it loses.
    drift_ppb: i64,
}

impl HostClock {
    /// `origin` at the beginning; gains or loses as much as the seed says, at most `drift_max_ppm` millionths.
    pub(crate) fn new(seed: Seed, origin: Duration, drift_max_ppm: u32) -> HostClock {
        let most = i64::from(drift_max_ppm) * 1_000;
        let drawn = seed.child("drift").stream().within(0..=2 * most as u64) as i64;
        HostClock { origin, drift_ppb: drawn - most }
    }

    /// What it shows.
    pub(crate) fn shows(&self, now: Duration) -> Timestamp {
        let gained = now.as_nanos() as i128 * i128::from(self.drift_ppb) / 1_000_000_000;
        let ran = now.as_nanos() as i128 + gained;
        Timestamp::ZERO + self.origin + Duration::from_nanos(ran.max(0) as u64)
    }

    /// When it shows that, by the world's clock.
    pub(crate) fn world(&self, shown: Timestamp) -> Duration {
        let ran = shown.since(Timestamp::ZERO + self.origin).as_nanos() as i128;
        if self.drift_ppb == 0 {
            return Duration::from_nanos(ran as u64);
        }
        let at = ran * 1_000_000_000 / (1_000_000_000 + i128::from(self.drift_ppb));
        // Timestamps are microseconds: a moment later it shows no less.
        let at = Duration::from_nanos(at.max(0) as u64);
        if self.shows(at) < shown { at + Duration::from_micros(2) } else { at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_drift_apart_within_bounds_and_deadlines_are_never_early() {
        let day = Duration::from_secs(86_400);
        let mut fastest = 0;
        for seed in 0..200 {
            let origin = Duration::from_secs(seed);
            let clock = HostClock::new(Seed(seed), origin, 100);
            let off = clock.shows(day).as_micros() as i64 - (day + origin).as_micros() as i64;
            assert!(off.abs() <= 8_640_000, "{off} us a day");
            fastest = fastest.max(off);
            for us in [0, 1, 999_999, 86_399_999_999] {
                let shown = Timestamp::ZERO + origin + Duration::from_micros(us);
                let at = clock.world(shown);
                assert!(clock.shows(at) >= shown, "{clock:?} {us}");
                let early = at.saturating_sub(Duration::from_micros(4));
                assert!(early.is_zero() || clock.shows(early) < shown, "{clock:?} {us}");
            }
        }
        assert!(fastest > 7_000_000, "{fastest}");
        let exact = HostClock::new(Seed(1), Duration::ZERO, 0);
        assert_eq!(exact.shows(day), Timestamp::ZERO + day);
        assert_eq!(exact.world(Timestamp::ZERO + day), day);
    }
}
