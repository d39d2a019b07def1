//! A histogram of times: buckets of a microsecond each up to 256 us, then 128 in each doubling, so that what is read of it is
//! within half a percent of what went in (the log-linear layout of HdrHistogram).

use std::time::Duration;

/// Buckets of each doubling.
const SUB_BITS: u32 = 7;
const SUB: u64 = 1 << SUB_BITS;

/// Counts of times.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    longest: Duration,
}

impl Histogram {
    /// Counts a time.
    pub fn record(&mut self, time: Duration) {
        let bucket = bucket(micros(time));
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
        self.longest = self.longest.max(time);
    }

    /// Counts all that another has.
    pub fn add(&mut self, other: &Histogram) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (sum, more) in self.counts.iter_mut().zip(&other.counts) {
            *sum += more;
        }
        self.total += other.total;
        self.longest = self.longest.max(other.longest);
    }

    /// Times counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The longest, exactly.
    pub fn longest(&self) -> Duration {
        self.longest
    }

    /// The time that `share` of all are no longer than (nearest rank); `None` of none.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = ((share * self.total as f64).ceil() as u64).clamp(1, self.total.max(1));
        let mut below = 0;
        let found = self.counts.iter().position(|count| {
            below += count;
            below >= rank
        })?;
        // The longest is known, and nothing is longer.
        Some(Duration::from_micros(middle(found)).min(self.longest))
    }

    /// Each bucket in use: its middle, and the share of all that are in it or in one before.
    pub fn curve(&self) -> Vec<(Duration, f64)> {
        let mut below = 0;
        let used = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        let points = used.map(|(bucket, count)| {
            below += count;
            let time = Duration::from_micros(middle(bucket)).min(self.longest);
            (time, below as f64 / self.total as f64)
        });
        points.collect()
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn bucket(us: u64) -> usize {
    let doubling = (u64::BITS - us.leading_zeros()).saturating_sub(SUB_BITS + 1);
    (u64::from(doubling) * SUB + (us >> doubling)) as usize
}

fn middle(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let doubling = (bucket / SUB).saturating_sub(1);
    let first = (bucket - doubling * SUB) << doubling;
    first + (1 << doubling) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_within_half_a_percent() {
        for us in
            (0..2_000).chain((11..40).flat_map(|bits| [(1_u64 << bits) - 1, 1 << bits, (1 << bits) + 77]))
        {
            let read = middle(bucket(us));
            assert!(read.abs_diff(us) as f64 <= us as f64 / 200.0, "{us} is read as {read}");
        }
        assert!((0..100_000).all(|us| bucket(us) <= bucket(us + 1) && bucket(us + 1) - bucket(us) <= 1));
    }

    #[test]
    fn quantiles_are_by_rank() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        for us in 1..=200 {
            histogram.record(Duration::from_micros(us));
        }
        let at = |share| histogram.quantile(share).map(|time| time.as_micros());
        assert_eq!((at(0.5), at(0.95), at(1.0), at(0.0)), (Some(100), Some(190), Some(200), Some(1)));
        let mut twice = histogram.clone();
        twice.add(&histogram);
        assert_eq!((twice.total(), twice.quantile(0.95)), (400, histogram.quantile(0.95)));
        assert_eq!(twice.curve().last(), Some(&(Duration::from_micros(200), 1.0)));
    }
}
