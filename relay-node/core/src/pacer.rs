//! The token bucket of one direction of a link, for all that leaves by it: media, what is sent again, parity and control.
//!
//! Kept as the moment at which all that has left is paid for (like `rate`), so that there is nothing to refill and an
//! unlimited link pays nothing at all.

use crate::trial::MORE;
use std::time::Duration;
use wire_format::{DATAGRAM_BYTES_MAX, Timestamp};

/// As much as the rate brings in so long may leave at once.
const BURST: Duration = Duration::from_millis(10);
const BURST_NS: u64 = BURST.as_nanos() as u64;
/// ... where the path has a shallow queue, in so long.
const BURST_SHALLOW_NS: u64 = 2_000_000;
/// What leaves in any case, as heartbeats do, never blocks the link for longer.
const DEBT_NS_MAX: u64 = 200_000_000;
/// Distance of two attempts to send what waits.
const TICK: Duration = Duration::from_millis(1);

/// What leaves beyond the rate counts as left if nearly all has: the rest is less than a datagram.
const EXCESS_LEFT_NS: u64 = MORE_NS / 8 * 7;
const MORE_NS: u64 = MORE.as_nanos() as u64;
/// It is known how much of it still stands in a queue so long after.
const EXCESS_FOR_NS: u64 = 70_000_000;

/// How much may leave now.
#[derive(Debug, Default)]
pub(crate) struct Pacer {
    /// Bytes per second.
    rate: Option<u64>,
    /// When all that has left is paid for, in nanoseconds.
    paid_ns: u64,
    /// So much may leave beyond the rate: a trial is on.
    excess: Option<Excess>,
    shallow: bool,
}

/// What leaves beyond the rate, once.
#[derive(Clone, Copy, Debug, Default)]
struct Excess {
    /// What of it stands in a queue if the path carries just the rate.
    stands_ns: u64,
    /// When all of it had left.
    left_ns: Option<u64>,
}

impl Pacer {
    /// Sets how many bytes a second may leave, `None` for as many as there are, and whether the path's queue is shallow.
    pub(crate) fn set_rate(&mut self, rate: Option<u64>, shallow: bool) {
        self.rate = rate;
        self.shallow = shallow;
    }

    /// Bytes per second that may leave.
    pub(crate) fn rate(&self) -> Option<u64> {
        self.rate
    }

    /// Lets as much more leave as the rate brings in [`MORE`].
    pub(crate) fn exceed(&mut self) {
        self.excess = Some(Excess::default());
    }

    /// Lets no more leave than the rate.
    pub(crate) fn keep(&mut self) {
        self.excess = None;
    }

    /// What left beyond the rate and stands in a queue, if the path carries just the rate, until soon after all of it had left.
    pub(crate) fn excess(&self, now: Timestamp) -> Duration {
        let Some(mut excess) = self.excess.filter(|excess| excess.left_ns.is_some()) else {
            return Duration::ZERO;
        };
        excess.shrink(nanos(now), self.paid_ns);
        Duration::from_nanos(excess.stands_ns)
    }

    /// As much as may leave at once.
    fn burst_ns(&self) -> u64 {
        match self.excess {
            Some(Excess { stands_ns, left_ns: None }) => BURST_NS + MORE_NS.saturating_sub(stands_ns),
            Some(Excess { stands_ns: _, left_ns: Some(_) }) | None if self.shallow => BURST_SHALLOW_NS,
            Some(Excess { stands_ns: _, left_ns: Some(_) }) | None => BURST_NS,
        }
    }

    /// Whether so many bytes may leave now: as much as a burst, or a frame (two datagrams) if everything
    /// before it is paid for.
    pub(crate) fn may_send(&self, now: Timestamp, bytes: usize) -> bool {
        self.rate.is_none_or(|rate| {
            let now_ns = nanos(now);
            let paid_ns = self.paid_ns.max(now_ns);
            // Two datagrams leave together for a shallow queue only if the path was idle for as long as one takes.
            let two = self.shallow && bytes > DATAGRAM_BYTES_MAX;
            let idle_ns = if two { price_ns(rate, bytes) / 2 } else { 0 };
            let paid = self.paid_ns + idle_ns <= now_ns && bytes <= 2 * DATAGRAM_BYTES_MAX;
            paid || paid_ns.saturating_add(price_ns(rate, bytes)) <= now_ns + self.burst_ns()
        })
    }

    /// Whether so many bytes may leave now at the present rate, however long they have waited.
    pub(crate) fn affords(&self, now: Timestamp, bytes: usize) -> bool {
        self.rate.is_none_or(|rate| {
            let now_ns = nanos(now);
            self.paid_ns.max(now_ns).saturating_add(price_ns(rate, bytes)) <= now_ns + self.burst_ns()
        })
    }

    /// So many bytes leave. `true` if with them all has left that may beyond the rate.
    pub(crate) fn spend(&mut self, now: Timestamp, bytes: usize) -> bool {
        let Some(rate) = self.rate else { return false };
        let now_ns = nanos(now);
        if let Some(excess) = &mut self.excess {
            excess.shrink(now_ns, self.paid_ns);
        }
        let paid_ns = self.paid_ns.max(now_ns).saturating_add(price_ns(rate, bytes));
        self.paid_ns = paid_ns.min(now_ns + DEBT_NS_MAX);
        self.excess.as_mut().is_some_and(|excess| excess.spend(now_ns, &mut self.paid_ns))
    }

    /// When so many bytes may leave that may not now: later than `now`, and no sooner than a tick.
    pub(crate) fn next(&self, now: Timestamp, bytes: usize) -> Timestamp {
        let price = self.rate.map_or(0, |rate| price_ns(rate, bytes));
        let at_ns = self.paid_ns.saturating_sub(self.burst_ns().saturating_sub(price));
        Timestamp::from_micros(at_ns.div_ceil(1000)).max(now + TICK)
    }
}

impl Excess {
    /// Nothing has left since all was paid for.
    fn shrink(&mut self, now_ns: u64, paid_ns: u64) {
        let until_ns = self.left_ns.map_or(now_ns, |left_ns| now_ns.min(left_ns + EXCESS_FOR_NS));
        self.stands_ns = self.stands_ns.saturating_sub(until_ns.saturating_sub(paid_ns));
    }

    /// Something leaves: what of it is beyond the rate and a burst need not be paid for.
    fn spend(&mut self, now_ns: u64, paid_ns: &mut u64) -> bool {
        if self.left_ns.is_some() {
            return false;
        }
        let more_ns = paid_ns.saturating_sub(now_ns + BURST_NS).min(MORE_NS.saturating_sub(self.stands_ns));
        self.stands_ns += more_ns;
        *paid_ns -= more_ns;
        self.left_ns = (self.stands_ns >= EXCESS_LEFT_NS).then_some(now_ns);
        self.left_ns.is_some()
    }
}

fn nanos(at: Timestamp) -> u64 {
    // Of use for 292 years.
    at.as_micros().min(u64::MAX / 2000) * 1000
}

fn price_ns(rate: u64, bytes: usize) -> u64 {
    // No queue is as long as to make this more than some seconds; the least rate is thousands of bytes a second.
    (bytes as u64).saturating_mul(1_000_000_000) / rate.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(us: u64) -> Timestamp {
        Timestamp::from_micros(us)
    }

    #[test]
    fn without_a_rate_everything_may_leave() {
        let mut pacer = Pacer::default();
        for _ in 0..1000 {
            assert!(pacer.may_send(at(5), 1 << 20));
            pacer.spend(at(5), 1 << 20);
        }
        pacer.set_rate(Some(1000), false);
        assert!(pacer.may_send(at(5), 1400), "what left before is paid for");
    }

    #[test]
    fn a_burst_leaves_at_once_and_then_as_much_as_the_rate_brings() {
        let mut pacer = Pacer::default();
        pacer.set_rate(Some(1_000_000), false);
        let mut sent = 0;
        while pacer.may_send(at(0), 1000) {
            pacer.spend(at(0), 1000);
            sent += 1;
        }
        assert_eq!(sent, 10, "10 ms of 1,000 bytes a millisecond");
        assert_eq!(pacer.next(at(0), 1000), at(1000));
        assert!(!pacer.may_send(at(999), 1000));
        assert!(pacer.may_send(at(1000), 1000));
    }

    #[test]
    fn what_is_larger_than_a_burst_leaves_when_everything_is_paid_for() {
        let mut pacer = Pacer::default();
        pacer.set_rate(Some(8_000), false);
        pacer.spend(at(0), 80);
        assert!(!pacer.may_send(at(0), 1200));
        let next = pacer.next(at(0), 1200);
        assert_eq!(next, at(10_000));
        assert!(pacer.may_send(next, 1200));
    }

    #[test]
    fn what_may_leave_beyond_the_rate_leaves_once_and_idle_time_takes_it_back() {
        let mut pacer = Pacer::default();
        pacer.set_rate(Some(1_000_000), false);
        pacer.exceed();
        let leave = |now, pacer: &mut Pacer| {
            let mut sent = (0, false);
            while pacer.may_send(now, 1000) {
                sent = (sent.0 + 1, sent.1 | pacer.spend(now, 1000));
            }
            sent
        };
        // The last datagram of it would be one of a twelfth.
        let most = MORE.as_millis() as usize - 1;
        assert_eq!(leave(at(0), &mut pacer), (10 + most, true));
        let most = Duration::from_millis(most as u64);
        assert_eq!(pacer.excess(at(0)), most);
        assert_eq!(leave(at(5_000), &mut pacer), (5, false), "the rate again");
        // All is paid for at 15 ms.
        assert_eq!(pacer.excess(at(15_000)), most);
        assert_eq!(pacer.excess(at(19_000)), most - Duration::from_millis(4));
        pacer.spend(at(19_000), 1000);
        assert_eq!(pacer.excess(at(19_000)), most - Duration::from_millis(4));
        assert_eq!(pacer.excess(at(500_000)), Duration::ZERO);
        pacer.keep();
        assert_eq!(leave(at(1_000_000), &mut pacer), (10, false));
    }

    #[test]
    fn debt_ends() {
        let mut pacer = Pacer::default();
        pacer.set_rate(Some(8_000), false);
        for _ in 0..100 {
            pacer.spend(at(0), 1400);
        }
        assert!(pacer.may_send(at(200_000), 1400));
    }

    proptest! {
        #[test]
        fn in_the_long_run_the_rate_is_kept_and_used(
            rate in 8_000u64..100_000_000, sizes in prop::collection::vec(40usize..1500, 50)
        ) {
            let mut pacer = Pacer::default();
            pacer.set_rate(Some(rate), false);
            let (mut now, mut sent) = (at(0), 0_u64);
            let mut sizes = sizes.iter().cycle();
            let mut bytes = *sizes.next().expect("some");
            while now < at(2_000_000) {
                while pacer.may_send(now, bytes) {
                    pacer.spend(now, bytes);
                    sent += bytes as u64;
                    bytes = *sizes.next().expect("some");
                }
                let next = pacer.next(now, bytes);
                prop_assert!(next >= now + TICK);
                now = next;
            }
            // One datagram may be under way at either end.
            prop_assert!(sent <= rate * 2012 / 1000 + 3000, "{sent} at {rate}");
            prop_assert!(sent + 3000 >= rate * 1900 / 1000, "{sent} at {rate}");
        }
    }
}
