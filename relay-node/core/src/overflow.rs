//! Whether what is lost is lost because a queue is full, seen from the sending end.
//!
//! A queue that is shallow, or none at all (a policer), never delays anything by much, so delay does not show it. What
//! shows it is which datagrams are lost: a queue that has had time to empty drops nothing, whereas a path that loses at
//! random loses as many of those that leave after a pause as of all others. So a queue is imagined that holds what
//! arrives at the other end in [`DEPTH`]; what leaves while it is empty is *alone*. Where far fewer of those are lost
//! than their share of all that is lost, a queue overflows. That is a witness and no proof: `rate_control` tries it.

use std::ops::Range;
use std::time::Duration;
use wire_format::{PacketNumber, Timestamp};

/// Depth of the imagined queue: deeper ones show by their delay.
const DEPTH: Duration = Duration::from_millis(20);
const DEPTH_NS: u64 = DEPTH.as_nanos() as u64;
/// Numbers of which it is known whether they left alone.
const NUMBERS: u64 = 1 << 11;
const WORDS: usize = NUMBERS as usize / 64;
/// Sums are halved after so long.
const HALVE_EVERY: Duration = Duration::from_secs(3);
/// So many are to be missing among those alone, if losses were random, before anything is said: none is with a chance of
/// one in 20,000.
const MISSING_MIN: u64 = 10;
/// ... and at most one in so many of them is.
const FEWER: u64 = 10;

/// What was sent and lost of late on one direction of a link, 288 bytes.
#[derive(Debug)]
pub(crate) struct Overflow {
    /// What arrives at the other end, bytes per second; 0 if it is not known.
    rate: u64,
    /// When the imagined queue is empty.
    empty_ns: u64,
    alone: [u64; WORDS],
    counts: Counts,
    halved_at: Timestamp,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    sent: u64,
    sent_alone: u64,
    lost: u64,
    lost_alone: u64,
}

impl Overflow {
    pub(crate) fn new(now: Timestamp) -> Overflow {
        Overflow { rate: 0, empty_ns: 0, alone: [0; WORDS], counts: Counts::default(), halved_at: now }
    }

    /// So many bytes a second arrive at the other end.
    pub(crate) fn arrives(&mut self, rate: u64) {
        self.rate = rate;
    }

    /// So many datagrams left in one train, from `first` on.
    pub(crate) fn left(&mut self, now: Timestamp, first: PacketNumber, count: u64, bytes: usize) {
        if self.rate == 0 || count == 0 {
            return;
        }
        let now_ns = now.as_micros().saturating_mul(1000);
        let alone = self.empty_ns <= now_ns;
        for number in first.0..first.0 + count.min(NUMBERS) {
            self.alone[place(number).0] &= !place(number).1;
        }
        if alone {
            self.alone[place(first.0).0] |= place(first.0).1;
            self.counts.sent_alone += 1;
        }
        self.counts.sent += count;
        let takes_ns = (bytes as u64).saturating_mul(1_000_000_000) / self.rate;
        self.empty_ns =
            self.empty_ns.max(now_ns).saturating_add(takes_ns).min(now_ns.saturating_add(DEPTH_NS));
    }

    /// The other end misses datagrams that it did not miss before, of `next` sent.
    pub(crate) fn lost(&mut self, numbers: Range<u64>, next: u64) {
        for number in numbers.start.max(next.saturating_sub(NUMBERS))..numbers.end {
            self.counts.lost += 1;
            self.counts.lost_alone += u64::from(self.alone[place(number).0] & place(number).1 != 0);
        }
    }

    /// Whether what is lost is what a full queue drops.
    pub(crate) fn is_likely(&mut self, now: Timestamp) -> bool {
        if now.since(self.halved_at) >= HALVE_EVERY {
            self.halved_at = now;
            let Counts { sent, sent_alone, lost, lost_alone } = self.counts;
            self.counts = Counts {
                sent: sent / 2,
                sent_alone: sent_alone / 2,
                lost: lost / 2,
                lost_alone: lost_alone.div_ceil(2),
            };
        }
        let Counts { sent, sent_alone, lost, lost_alone } = self.counts;
        let expected = (lost * sent_alone).checked_div(sent).unwrap_or(0);
        expected >= MISSING_MIN && lost_alone * FEWER <= expected
    }
}

fn place(number: u64) -> (usize, u64) {
    let at = number % NUMBERS;
    ((at / 64) as usize, 1 << (at % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second of bursts of eight datagrams and one alone between them: says which are lost, and whether it is a queue.
    fn overflows(seconds: u64, mut is_lost: impl FnMut(u64, bool) -> bool) -> bool {
        let mut overflow = Overflow::new(Timestamp::ZERO);
        overflow.arrives(150_000);
        let (mut next, mut seen) = (0, false);
        for ms in (0..seconds * 1000).step_by(20) {
            let now = Timestamp::from_micros(ms * 1000);
            let count = if ms % 40 == 0 { 8 } else { 1 };
            for at in 0..count {
                overflow.left(now, PacketNumber(next), 1, 1200);
                next += 1;
                if is_lost(next, at > 3) {
                    overflow.lost(next - 1..next, next);
                }
            }
            seen |= overflow.is_likely(now);
        }
        seen
    }

    #[test]
    fn what_is_lost_of_the_end_of_bursts_alone_is_what_a_queue_drops() {
        assert!(overflows(2, |_, late| late));
        assert!(!overflows(60, |_, _| false));
    }

    #[test]
    fn what_is_lost_at_random_is_not_however_much_and_in_bursts() {
        for (loss_pct, burst) in [(2, 1), (5, 3), (20, 1), (50, 4)] {
            let mut state = 7_u64;
            let mut left = 0;
            let seen = overflows(1_000, |_, _| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                if left == 0 && (state >> 33) % (100 * burst) < loss_pct {
                    left = burst;
                }
                let lost = left > 0;
                left = left.saturating_sub(1);
                lost
            });
            assert!(!seen, "{loss_pct}% in bursts of {burst}");
        }
    }
}
