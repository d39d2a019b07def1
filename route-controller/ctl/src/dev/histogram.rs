//! How often each latency occurred, in bounded memory and within one percent.

/// Values below this are counted exactly; above, 128 steps for each doubling.
const EXACT: u64 = 256;
const STEPS: u64 = EXACT / 2;
const BUCKETS: usize = (EXACT + STEPS * (64 - 8)) as usize;

/// Counts of values in microseconds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Histogram {
    counts: Box<[u64; BUCKETS]>,
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: Box::new([0; BUCKETS]), total: 0, max: 0 }
    }
}

impl Histogram {
    /// Counts one value.
    pub(crate) fn record(&mut self, value: u64) {
        self.counts[bucket(value)] += 1;
        self.total += 1;
        self.max = self.max.max(value);
    }

    /// Counts what another counted.
    pub(crate) fn add(&mut self, other: &Histogram) {
        for (own, count) in self.counts.iter_mut().zip(&*other.counts) {
            *own += count;
        }
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// The value that a share of all does not exceed, rounded up by less than 1%; 0 without values.
    pub(crate) fn quantile(&self, share: f64) -> u64 {
        let rank = ((self.total as f64 * share).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return top(place as u64).min(self.max);
            }
        }
        self.max
    }

    /// The largest value, exact.
    pub(crate) fn max(&self) -> u64 {
        self.max
    }
}

fn bucket(value: u64) -> usize {
    if value < EXACT {
        return value as usize;
    }
    let doublings = u64::from(value.ilog2() - EXACT.ilog2() + 1);
    (EXACT + (doublings - 1) * STEPS + (value >> doublings) - STEPS) as usize
}

/// The largest value of a bucket.
fn top(bucket: u64) -> u64 {
    if bucket < EXACT {
        return bucket;
    }
    let doublings = (bucket - EXACT) / STEPS + 1;
    let step = (bucket - EXACT) % STEPS + STEPS;
    (((step as u128 + 1) << doublings) - 1).min(u128::from(u64::MAX)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_percent() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), 0);
        for value in 1..=100_000 {
            histogram.record(value);
        }
        for (share, exact) in [(0.5, 50_000), (0.99, 99_000), (1.0, 100_000)] {
            let found = histogram.quantile(share);
            assert!(found >= exact && found <= exact + exact / 100, "{share}: {found}");
        }
        assert_eq!(histogram.max(), 100_000);
    }

    #[test]
    fn buckets_cover_every_value_in_order() {
        let mut last = 0;
        for value in (0..1_000).chain((10..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit])).chain([u64::MAX]) {
            let place = bucket(value);
            assert!(place >= last && top(place as u64) >= value, "{value}");
            last = place;
        }
        assert_eq!(last, BUCKETS - 1);
    }
}
