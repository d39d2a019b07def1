//! How long the bursts are in which a link loses.

use std::time::Duration;
use wire_format::Timestamp;
use wire_format::control::{LOSS_BURST_ENDS, LOSS_BURSTS};

/// Sums are halved after so long: a minute ago counts half.
const HALVE_EVERY: Duration = Duration::from_secs(60);
/// Losses are of late for so long.
const OF_LATE: Duration = Duration::from_secs(30);
/// Longer ones count as this long: silence, not loss.
const LENGTH_MAX: u64 = 256;

/// Bursts of loss: a histogram since the start, and sums that forget.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Bursts {
    /// By length, in the buckets of [`LOSS_BURST_ENDS`].
    pub(crate) counts: [u64; LOSS_BURSTS],
    halved_at: Timestamp,
    last_at: Option<Timestamp>,
    /// Sums of the lengths to the power of 0, 1 and 2, in 256ths.
    sums: [u64; 3],
}

impl Bursts {
    pub(crate) fn new() -> Bursts {
        Bursts { counts: [0; LOSS_BURSTS], halved_at: Timestamp::ZERO, last_at: None, sums: [0; 3] }
    }

    /// So many in a row were lost.
    pub(crate) fn record(&mut self, now: Timestamp, length: u64) {
        let bucket = LOSS_BURST_ENDS.partition_point(|end| *end < length);
        self.counts[bucket] += 1;
        let minutes = now.since(self.halved_at).as_secs() / HALVE_EVERY.as_secs();
        if minutes > 0 {
            self.halved_at = now;
            self.sums = self.sums.map(|sum| sum >> minutes.min(63));
        }
        self.last_at = Some(now);
        let length = length.min(LENGTH_MAX);
        for (sum, power) in self.sums.iter_mut().zip([1, length, length * length]) {
            *sum += power << 8;
        }
    }

    /// Losses were seen of late.
    pub(crate) fn seen_of_late(&self, now: Timestamp) -> bool {
        self.last_at.is_some_and(|at| now.since(at) < OF_LATE)
    }

    /// Mean length of the burst that a lost datagram belongs to, in thousandths: how much more losses vary than if each
    /// were drawn for itself. 1,000 if none was seen.
    pub(crate) fn dispersion_milli(&self) -> u64 {
        (self.sums[2] * 1000).checked_div(self.sums[1]).map_or(1000, |mean| mean.max(1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_counted_and_the_old_ones_forgotten() {
        let mut bursts = Bursts::new();
        assert_eq!(bursts.dispersion_milli(), 1000);
        for length in [1, 1, 1, 1, 2, 6, 40, 1000] {
            bursts.record(Timestamp::ZERO, length);
        }
        assert_eq!(bursts.counts, [4, 1, 0, 1, 0, 0, 2]);
        assert!(bursts.dispersion_milli() > 100_000);
        for minute in 1..20 {
            for _ in 0..10 {
                bursts.record(Timestamp::from_micros(61_000_000 * minute), 1);
            }
        }
        assert_eq!(bursts.dispersion_milli() / 10, 100);
        // After an hour without any, what was long ago counts no more.
        bursts.record(Timestamp::from_micros(1_200_000_000), 40);
        bursts.record(Timestamp::from_micros(4_800_000_000), 1);
        assert_eq!(bursts.dispersion_milli(), 1000);
    }

    #[test]
    fn losses_are_of_late_for_half_a_minute() {
        let at = |s: u64| Timestamp::from_micros(s * 1_000_000);
        let mut bursts = Bursts::new();
        assert!(!bursts.seen_of_late(at(0)));
        bursts.record(at(100), 1);
        assert_eq!([100, 129, 131, 10_000].map(|s| bursts.seen_of_late(at(s))), [true, true, false, false]);
    }
}
