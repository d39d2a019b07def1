//! Whether what is lost is what a full queue drops, seen from the sending end.
//!
//! A queue that is shallow, or none at all (a policer), never delays anything by much, so delay does not show it. What shows
//! it is where bursts of loss begin and end. Media comes in bursts itself. A queue has had time to empty when one begins,
//! so that its first datagram gets through, and is full from some datagram on until the last; chance begins anywhere and
//! ends anywhere. So each burst of loss says how many times likelier it is if a queue drops what is lost. These odds are
//! multiplied, and begin anew when they fall below one (the sequential test of Page, 1954). They cost nothing while
//! nothing is lost: when what was lost left stands in the history.

use super::history::Sent;
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;
use wire_format::{PacketNumber, Timestamp};

/// A datagram that leaves so long after the one before leaves after a pause.
const PAUSE: Duration = Duration::from_millis(4);
/// How many of those sent do is counted among so many, and no odds follow from fewer than a quarter of them.
const AMONG: usize = 64;
/// One burst in so many of a full queue begins after a pause all the same, ...
const BEGINS: u64 = 16;
/// ... and one in so many ends before one.
const ENDS: u64 = 4;
/// Even odds.
const EVEN: u64 = 1 << 8;
/// Odds at which a queue is to be suspected.
const LIKELY: u64 = EVEN << 14;
const ODDS_MAX: u64 = EVEN << 20;
/// Bursts further apart are not worth it.
const APART_MAX: Duration = Duration::from_millis(500);

/// The odds that a queue overflows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Overflow {
    odds: u64,
    at: Timestamp,
}

impl Overflow {
    pub(super) fn new() -> Overflow {
        Overflow { odds: EVEN, at: Timestamp::ZERO }
    }

    /// Datagrams in a row were lost of those that were sent.
    pub(super) fn lost(&mut self, now: Timestamp, sent: &VecDeque<Sent>, numbers: Range<u64>) {
        if now.since(self.at) > APART_MAX {
            self.odds = EVEN;
        }
        self.at = now;
        let place = |number: u64| sent.partition_point(|sent| sent.number < PacketNumber(number));
        let (first, next) = (place(numbers.start), place(numbers.end));
        let pause = |place: usize| sent[place].at.since(sent[place - 1].at) >= PAUSE;
        let among = next.saturating_sub(AMONG).max(1)..next;
        let all = among.len() as u64;
        if all < AMONG as u64 / 4 || first == 0 || next >= sent.len() {
            return;
        }
        let mut before = sent[among.start - 1].at;
        let waited = sent.range(among).filter(|sent| {
            let since = sent.at.since(before);
            before = sent.at;
            since >= PAUSE
        });
        let pauses = (waited.count() as u64).clamp(all.div_ceil(16), all - all / 16);
        self.weigh(pause(first), (1, BEGINS), (pauses, all));
        self.weigh(!pause(next), (1, ENDS), (all - pauses, all));
        self.odds = self.odds.clamp(EVEN, ODDS_MAX);
    }

    /// Something happened or not that has these chances (parts of a whole) if a queue overflows and if not.
    fn weigh(&mut self, happened: bool, queue: (u64, u64), chance: (u64, u64)) {
        let part = |(part, whole): (u64, u64)| if happened { (part, whole) } else { (whole - part, whole) };
        let (queue, chance) = (part(queue), part(chance));
        self.odds = self.odds * queue.0 * chance.1 / (queue.1 * chance.0);
    }

    /// What is lost is likely to be what a full queue drops.
    pub(crate) fn is_likely(&self, now: Timestamp) -> bool {
        self.odds >= LIKELY && now.since(self.at) <= APART_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repair::{History, RepairMemory, Urgency};
    use wire_format::{Priority, Slack};

    /// Bursts of eight datagrams and a small one between them, of which some are lost: for how many of the bursts of loss a
    /// queue is likely.
    fn likely(bursts: u64, mut is_lost: impl FnMut(u64) -> bool) -> (u64, u64) {
        let (mut history, mut memory) = (History::default(), RepairMemory::default());
        let urgency = Urgency { priority: Priority::VIDEO, slack: Slack(2000) };
        let mut overflow = Overflow::new();
        let (mut number, mut lost_from, mut seen, mut likely) = (0, None, 0, 0);
        for burst in 0..2 * bursts {
            let now = Timestamp::from_micros(20_000 * (burst + 1));
            for place in 0..if burst % 2 == 0 { 8 } else { 1 } {
                history.record(now, PacketNumber(number), urgency, &[7; 100], &mut memory);
                if is_lost(place) {
                    lost_from.get_or_insert(number);
                } else if let Some(from) = lost_from.take() {
                    overflow.lost(now, history.sent(), from..number);
                    seen += 1;
                    likely += u64::from(overflow.is_likely(now));
                }
                number += 1;
            }
        }
        (seen, likely)
    }

    #[test]
    fn what_a_queue_drops_is_known_after_a_few_bursts() {
        for first_lost in [2, 4, 7] {
            let (seen, likely) = likely(100, |place| place >= first_lost);
            assert!(likely + 15 >= seen && seen >= 90, "{likely} of {seen}");
        }
    }

    #[test]
    fn what_is_lost_by_chance_is_not_taken_for_it() {
        for (loss_pct, burst) in [(2, 1), (5, 3), (10, 3), (20, 3), (30, 6)] {
            let (mut state, mut bad) = (7_u64, false);
            let (seen, likely) = likely(20_000, |_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let part =
                    if bad { 1_000_000 / burst } else { 1_000_000 * loss_pct / burst / (100 - loss_pct) };
                bad ^= (state >> 33) % 1_000_000 < part;
                bad
            });
            assert!(
                seen > 2_000 && likely * 1_000 <= seen,
                "{likely} of {seen} at {loss_pct}% in bursts of {burst}"
            );
        }
    }

    #[test]
    fn whole_bursts_that_vanish_are_none_of_a_queue() {
        let mut at = 0;
        // Frames too large for the path, and what is small arrives.
        let lost = likely(1_000, |place| {
            at += u64::from(place == 0);
            at % 2 == 1
        });
        assert!(lost.0 > 900 && lost.1 == 0, "{lost:?}");
    }
}
