//! The least loss that repetition can leave on one path: the retransmission bound.
//!
//! An oracle sees every datagram slot of the media and what the wire does to it. Of each lost packet it knows as soon as
//! the receiver could ([`Shown`]). Its request takes half a round trip and is never lost; from then on it repeats the
//! packet in every slot, at no cost to what the slot carries anyway, until a repetition would come later than the budget
//! allows. The packet is beyond repair if the wire loses all of these slots, or if there is none. Repetition alone never
//! goes below this; parity, which is sent before a loss is known, can.

use std::collections::VecDeque;
use std::time::Duration;

/// When a receiver could know that a packet is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shown {
    /// When the next datagram is due, lost or not: a receiver that knows the sender's rhythm.
    WhenDue,
    /// When the next datagram arrives: a receiver that sees gaps in numbers. A burst is shown by its end.
    ByArrival,
}

/// Counts the packets that repetition cannot save. Memory: the packets lost within one budget.
#[derive(Clone, Debug)]
pub struct Oracle {
    shown: Shown,
    rtt: Duration,
    budget: Duration,
    missing: VecDeque<Missing>,
    sent: u64,
    beyond_repair: u64,
}

#[derive(Clone, Copy, Debug)]
struct Missing {
    sent_at: Duration,
    /// When the slot left whose arrival shows the loss.
    shown_at: Option<Duration>,
}

impl Oracle {
    /// For a path of that round trip, and packets that may come so much later than the path's own delay.
    pub fn new(shown: Shown, rtt: Duration, budget: Duration) -> Oracle {
        Oracle { shown, rtt, budget, missing: VecDeque::new(), sent: 0, beyond_repair: 0 }
    }

    /// A datagram of the media leaves, and is lost or not. Times do not go back.
    pub fn slot(&mut self, at: Duration, lost: bool) {
        self.sent += 1;
        let (rtt, budget) = (self.rtt, self.budget);
        while self.missing.front().is_some_and(|first| first.sent_at + budget < at) {
            self.missing.pop_front();
            self.beyond_repair += 1;
        }
        if !lost || self.shown == Shown::WhenDue {
            for missing in self.missing.iter_mut().rev() {
                if missing.shown_at.is_some() {
                    break;
                }
                missing.shown_at = Some(at);
            }
        }
        if lost {
            self.missing.push_back(Missing { sent_at: at, shown_at: None });
        } else {
            self.missing.retain(|missing| missing.shown_at.is_none_or(|shown_at| at < shown_at + rtt));
        }
    }

    /// Packets sent, and of these those beyond repair; what is missing when the media ends is among them.
    pub fn finish(self) -> (u64, u64) {
        (self.sent, self.beyond_repair + self.missing.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slots 10 ms apart.
    fn beyond_repair(rtt_ms: u64, budget_ms: u64, wire: &str) -> u64 {
        of(Shown::ByArrival, rtt_ms, budget_ms, wire)
    }

    fn of(shown: Shown, rtt_ms: u64, budget_ms: u64, wire: &str) -> u64 {
        let mut oracle = Oracle::new(shown, Duration::from_millis(rtt_ms), Duration::from_millis(budget_ms));
        for (slot, symbol) in wire.bytes().enumerate() {
            oracle.slot(Duration::from_millis(10 * slot as u64), symbol == b'1');
        }
        let (sent, beyond) = oracle.finish();
        assert_eq!(sent, wire.len() as u64);
        beyond
    }

    #[test]
    fn nothing_lost_is_nothing_beyond_repair() {
        assert_eq!(beyond_repair(20, 50, "0000000000"), 0);
    }

    #[test]
    fn a_packet_is_shown_by_the_next_and_repeated_a_round_trip_later() {
        // Lost at 20, shown by the slot at 30, repeated at 50: in time with a budget of 30 ms and not with less.
        assert_eq!(beyond_repair(20, 30, "0010000000"), 0);
        assert_eq!(beyond_repair(20, 29, "0010000000"), 1);
    }

    #[test]
    fn a_repetition_that_is_lost_is_followed_by_another() {
        // Repeated at 50, lost, and again at 60. The slots at 30 and 40 come before the request.
        assert_eq!(beyond_repair(20, 40, "0010010000"), 0);
        assert_eq!(beyond_repair(20, 30, "0010010000"), 1);
    }

    #[test]
    fn a_burst_is_shown_by_the_first_after_it() {
        // Lost from 10 to 50, shown by the slot at 60, repeated at 80: the first of them would be 70 ms late.
        assert_eq!(beyond_repair(20, 70, "0111110000"), 0);
        assert_eq!(beyond_repair(20, 60, "0111110000"), 1);
        assert_eq!(beyond_repair(20, 30, "0111110000"), 4);
    }

    #[test]
    fn who_knows_the_rhythm_waits_for_no_arrival() {
        // Lost at 10, missed when the slot at 20 is due, repeated from 40 on: 60 is the first that is not lost.
        assert_eq!(of(Shown::WhenDue, 20, 50, "0111110000"), 0);
        assert_eq!(of(Shown::WhenDue, 20, 40, "0111110000"), 1);
        assert_eq!(of(Shown::WhenDue, 20, 30, "0010000000"), 0);
        assert_eq!(of(Shown::WhenDue, 20, 29, "0010000000"), 1);
    }

    #[test]
    fn what_is_missing_at_the_end_stays_so() {
        assert_eq!(beyond_repair(20, 100, "0000000111"), 3);
        assert_eq!(beyond_repair(20, 100, "0000000110"), 2, "no slot a round trip later");
    }
}
