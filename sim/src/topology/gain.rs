//! What relays could gain at best: the oracle that routes are measured against. It knows the true round trips, charges
//! each relay on the way [`RELAY_US`], and nothing else; the controller's arithmetic is not used.

use super::RoundTrips;

/// What a relay on the way costs, microseconds of round trip.
pub const RELAY_US: u64 = 2_000;
/// Most relays on a way that the oracle looks for.
pub const RELAYS_ON_THE_WAY: usize = 3;

/// The least round trips with at most so many relays on the way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gain {
    count: usize,
    direct: Vec<u64>,
    /// With at most one, two and three relays.
    by_relays: [Vec<u64>; RELAYS_ON_THE_WAY],
}

const NONE: u64 = u64::MAX;

impl Gain {
    /// Looks at all ways.
    #[must_use]
    pub fn of(trips: &RoundTrips) -> Gain {
        let count = trips.count();
        let mut direct = vec![NONE; count * count];
        for (from, to, us) in trips.pairs() {
            direct[from * count + to] = u64::from(us);
        }
        let mut last = direct.clone();
        let by_relays = std::array::from_fn(|_| {
            // One relay more: the best way to it as before, and its link to the end.
            let mut next = last.clone();
            for from in 0..count {
                let row = &mut next[from * count..][..count];
                for relay in (0..count).filter(|relay| *relay != from) {
                    let first = last[from * count + relay];
                    if first == NONE {
                        continue;
                    }
                    let first = first + RELAY_US;
                    for (way, link) in row.iter_mut().zip(&direct[relay * count..][..count]) {
                        *way = (*way).min(first.saturating_add(*link));
                    }
                }
                row[from] = NONE;
            }
            last.clone_from(&next);
            next
        });
        Gain { count, direct, by_relays }
    }

    /// The least with at most three.
    #[must_use]
    pub fn best_us(&self, from: usize, to: usize) -> Option<u64> {
        Some(self.by_relays[RELAYS_ON_THE_WAY - 1][from * self.count + to]).filter(|us| *us != NONE)
    }

    /// Percent of the ordered pairs with a link that get faster by more than so many percent, with at most one, two and
    /// three relays on the way.
    #[must_use]
    pub fn share_pct(&self, faster_by_pct: u64) -> [f64; RELAYS_ON_THE_WAY] {
        let linked = self.direct.iter().filter(|us| **us != NONE).count().max(1);
        std::array::from_fn(|relays| {
            let pairs =
                self.direct.iter().zip(&self.by_relays[relays]).filter(|(direct, _)| **direct != NONE);
            let gaining = pairs.filter(|(direct, way)| is_faster(**way, **direct, faster_by_pct)).count();
            gaining as f64 * 100.0 / linked as f64
        })
    }
}

/// Whether a round trip is shorter than another by more than so many percent of it.
#[must_use]
pub fn is_faster(us: u64, than_us: u64, by_pct: u64) -> bool {
    u128::from(us) * 100 < u128::from(than_us) * u128::from(100 - by_pct.min(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_cost_their_links_and_their_relays() {
        let mut trips = RoundTrips::none(4);
        for (a, b, us) in [(0, 1, 10_000), (1, 2, 10_000), (2, 3, 10_000), (0, 3, 100_000), (0, 2, 30_000)] {
            trips.set(a, b, us);
            trips.set(b, a, us);
        }
        let gain = Gain::of(&trips);
        assert_eq!(gain.best_us(0, 3), Some(34_000), "three links and two relays");
        assert_eq!(gain.best_us(0, 2), Some(22_000));
        assert_eq!(gain.best_us(1, 3), Some(22_000), "there is no link");
        assert_eq!(gain.best_us(0, 0), None);
        // Of ten ordered pairs with a link, two get faster, one of them by at most one relay already: 42 ms of 100.
        assert_eq!(gain.share_pct(10), [40.0, 40.0, 40.0]);
        assert_eq!(gain.share_pct(60), [0.0, 20.0, 20.0]);
    }
}
