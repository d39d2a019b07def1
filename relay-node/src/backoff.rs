//! How long to wait before the next attempt: not at all at first, then from a floor up to a cap, doubling, with jitter,
//! so that a hundred relays do not call a returning controller in the same millisecond.

use std::time::Duration;

/// A growing, jittered pause.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    floor: Duration,
    cap: Duration,
    failures: u32,
    /// State of SplitMix64.
    random: u64,
}

impl Backoff {
    pub(crate) fn new(floor: Duration, cap: Duration, seed: u64) -> Backoff {
        Backoff { floor, cap, failures: 0, random: seed }
    }

    /// The attempt succeeded: the next pause is none.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The pause before the next attempt.
    pub(crate) fn next(&mut self) -> Duration {
        let failures = self.failures;
        self.failures = failures.saturating_add(1);
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        let full = self.floor.saturating_mul(1 << doublings.min(16)).min(self.cap);
        // From a half to the whole.
        let half_us = u64::try_from(full.as_micros() / 2).unwrap_or(u64::MAX);
        Duration::from_micros(half_us + self.draw() % (half_us + 1))
    }

    /// Waits out the next pause.
    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.next()).await;
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_begin_at_none_grow_and_stay_below_the_cap() {
        let (floor, cap) = (Duration::from_millis(100), Duration::from_millis(500));
        let mut backoff = Backoff::new(floor, cap, 7);
        assert_eq!(backoff.next(), Duration::ZERO);
        for full_ms in [100, 200, 400, 500, 500] {
            let full = Duration::from_millis(full_ms);
            let pause = backoff.next();
            assert!(pause >= full / 2 && pause <= full, "{pause:?} of {full:?}");
        }
        for _ in 0..100 {
            assert!(backoff.next() <= cap);
        }
        backoff.reset();
        assert_eq!(backoff.next(), Duration::ZERO);
    }

    #[test]
    fn two_seeds_pause_differently() {
        let pauses = |seed| {
            let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(500), seed);
            std::iter::repeat_with(move || backoff.next()).take(5).collect::<Vec<_>>()
        };
        assert_ne!(pauses(1), pauses(2));
        assert_eq!(pauses(1), pauses(1));
    }
}
