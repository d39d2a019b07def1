//! The token bucket of one direction of a link, for all that leaves by it: media, what is sent again, parity and control.
//!
//! Kept as the moment at which all that has left is paid for (like `rate`), so that there is nothing to refill and an
//! unlimited link pays nothing at all.

use std::time::Duration;
use wire_format::{DATAGRAM_BYTES_MAX, Timestamp};

/// As much as the rate brings in so long may leave at once.
const BURST: Duration = Duration::from_millis(10);
const BURST_NS: u64 = BURST.as_nanos() as u64;
/// What leaves in any case, as heartbeats do, never blocks the link for longer.
const DEBT_NS_MAX: u64 = 200_000_000;
/// Distance of two attempts to send what waits.
const TICK: Duration = Duration::from_millis(1);

/// How much may leave now.
#[derive(Debug, Default)]
pub(crate) struct Pacer {
    /// Bytes per second.
    rate: Option<u64>,
    /// When all that has left is paid for, in nanoseconds.
    paid_ns: u64,
}

impl Pacer {
    /// Sets how many bytes a second may leave, `None` for as many as there are.
    pub(crate) fn set_rate(&mut self, rate: Option<u64>) {
        self.rate = rate;
    }

    /// Bytes per second that may leave.
    pub(crate) fn rate(&self) -> Option<u64> {
        self.rate
    }

    /// Whether so many bytes may leave now: as much as a burst, or a frame (two datagrams) if everything
    /// before it is paid for.
    pub(crate) fn may_send(&self, now: Timestamp, bytes: usize) -> bool {
        self.rate.is_none_or(|rate| {
            let now_ns = nanos(now);
            let paid_ns = self.paid_ns.max(now_ns);
            let paid = paid_ns == now_ns && bytes <= 2 * DATAGRAM_BYTES_MAX;
            paid || paid_ns.saturating_add(price_ns(rate, bytes)) <= now_ns + BURST_NS
        })
    }

    /// Whether so many bytes may leave now at the present rate, however long they have waited.
    pub(crate) fn affords(&self, now: Timestamp, bytes: usize) -> bool {
        self.rate.is_none_or(|rate| {
            let now_ns = nanos(now);
            self.paid_ns.max(now_ns).saturating_add(price_ns(rate, bytes)) <= now_ns + BURST_NS
        })
    }

    /// So many bytes leave.
    pub(crate) fn spend(&mut self, now: Timestamp, bytes: usize) {
        if let Some(rate) = self.rate {
            let now_ns = nanos(now);
            let paid_ns = self.paid_ns.max(now_ns).saturating_add(price_ns(rate, bytes));
            self.paid_ns = paid_ns.min(now_ns + DEBT_NS_MAX);
        }
    }

    /// When so many bytes may leave that may not now: later than `now`, and no sooner than a tick.
    pub(crate) fn next(&self, now: Timestamp, bytes: usize) -> Timestamp {
        let price = self.rate.map_or(0, |rate| price_ns(rate, bytes));
        let at_ns = self.paid_ns.saturating_sub(BURST_NS.saturating_sub(price));
        Timestamp::from_micros(at_ns.div_ceil(1000)).max(now + TICK)
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
        pacer.set_rate(Some(1000));
        assert!(pacer.may_send(at(5), 1400), "what left before is paid for");
    }

    #[test]
    fn a_burst_leaves_at_once_and_then_as_much_as_the_rate_brings() {
        let mut pacer = Pacer::default();
        pacer.set_rate(Some(1_000_000));
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
        pacer.set_rate(Some(8_000));
        pacer.spend(at(0), 80);
        assert!(!pacer.may_send(at(0), 1200));
        let next = pacer.next(at(0), 1200);
        assert_eq!(next, at(10_000));
        assert!(pacer.may_send(next, 1200));
    }

    #[test]
    fn debt_ends() {
        let mut pacer = Pacer::default();
        pacer.set_rate(Some(8_000));
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
            pacer.set_rate(Some(rate));
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
