//! Rows of parity over what is lost and has gone again, where no further round fits.
//!
//! One more copy of each would save one in ten, and cost as much as the first. So what is lost at about the same time shares
//! a row that leaves when the oldest is nearly too late: it makes good any one of them whose copies got lost as well, and is
//! as far from the burst as anything may be.

use super::history::History;
use super::protect::write_row;
use std::time::Duration;
use wire_format::parity::{
    PARITY_COVERED_MAX, PARITY_FIXED_BYTES, PARITY_ROWS, PARITY_SPAN, ParityHeader, SHARD_LENGTH_BYTES,
};
use wire_format::{PacketNumber, Timestamp};

/// A row leaves so long before the oldest that it covers would be too late, or sooner where round trips vary more.
const LEAD: Duration = Duration::from_millis(2);
/// Rows over the same.
const ROWS_MAX: u32 = 3;

/// Datagrams that are lost, and rows over them.
#[derive(Debug, Default)]
pub(crate) struct LostRows {
    /// Ascending.
    lost: Vec<Lost>,
    /// When a row over them is to leave.
    due: Option<Timestamp>,
    /// Rows that are still to leave over what the last one covered.
    left: u32,
}

#[derive(Clone, Copy, Debug)]
struct Lost {
    number: PacketNumber,
    /// When a row that covers it leaves at the latest.
    due: Timestamp,
    /// How likely its copies are lost as well, thousandths.
    copies_lost_milli: u32,
}

impl LostRows {
    /// A datagram is lost, goes again, and its copies are lost so often. Where round trips vary more, a row leaves earlier.
    pub(crate) fn add(
        &mut self,
        number: PacketNumber,
        deadline: Timestamp,
        rtt_var: Duration,
        copies_lost_milli: u32,
    ) {
        let place = self.lost.partition_point(|lost| lost.number < number);
        let is_listed = self.lost.get(place).is_some_and(|lost| lost.number == number);
        if is_listed || self.lost.len() >= PARITY_COVERED_MAX {
            return;
        }
        let lead = LEAD.max(rtt_var).as_micros() as u64;
        let due = Timestamp::from_micros(deadline.as_micros().saturating_sub(lead));
        self.lost.insert(place, Lost { number, due, copies_lost_milli });
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    /// When a row is to leave.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.due
    }

    /// A row is to leave now.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Nothing may be spent on rows now.
    pub(crate) fn give_up(&mut self) {
        self.lost.clear();
        (self.due, self.left) = (None, 0);
    }

    /// Writes the body of a row to the beginning of `out`, at most so long; `None` if what it would cover is not kept.
    /// The rows over the same datagrams have different numbers.
    pub(crate) fn row(
        &mut self,
        number: u8,
        history: &History,
        out: &mut [u8],
        body_max: usize,
    ) -> Option<usize> {
        let newest = history.sent().back().map_or(0, |sent| sent.number.0);
        // What came so long ago is not kept at the other end.
        let too_old = self.lost.partition_point(|lost| lost.number.0 + PARITY_SPAN as u64 <= newest);
        self.lost.drain(..too_old);
        let (mut header, mut longest) = (None, 0);
        let (mut count, mut lost_milli) = (0, 0);
        for lost in &self.lost {
            let base = header.map_or(lost.number, |header: ParityHeader| header.base);
            let apart = (lost.number.0 - base.0) as usize;
            let bytes = history.get(lost.number).map_or(0, |sent| history.plain(sent).len()).max(longest);
            let fits = PARITY_FIXED_BYTES + apart / 8 + 1 + SHARD_LENGTH_BYTES + bytes <= body_max;
            if apart >= PARITY_SPAN || !fits && header.is_some() {
                break;
            }
            count += 1;
            if fits && history.get(lost.number).is_some() {
                let covered = header.map_or(0, |header| header.covered) | 1 << apart;
                header = Some(ParityHeader { row: number % PARITY_ROWS as u8, base, covered });
                longest = bytes;
                lost_milli += lost.copies_lost_milli;
            }
        }
        let covered = header.map_or(0, |header| header.covered.count_ones());
        if self.left == 0 {
            // As many as copies are likely lost; no more than there are to be made good.
            self.left = lost_milli.div_ceil(1000).min(covered).clamp(1, ROWS_MAX);
        }
        self.left -= 1;
        if self.left == 0 || covered == 0 {
            self.left = 0;
            self.lost.drain(..count);
            self.due = self.lost.iter().map(|lost| lost.due).min();
        }
        header.map(|header| write_row(&header, history, longest, out))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{RepairMemory, Urgency};
    use super::*;
    use wire_format::{Priority, Slack};

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_micros(ms * 1000)
    }

    fn sent(numbers: u64) -> History {
        let (mut history, mut memory) = (History::default(), RepairMemory::default());
        let urgency = Urgency { priority: Priority::VIDEO, slack: Slack(1500) };
        for number in 0..numbers {
            let plain = vec![number as u8; 100 + number as usize];
            history.record(at(number), PacketNumber(number), urgency, &plain, &mut memory);
        }
        history
    }

    fn lose(rows: &mut LostRows, number: u64, deadline: Timestamp, lost_milli: u32) {
        rows.add(PacketNumber(number), deadline, Duration::ZERO, lost_milli);
    }

    /// What the rows cover that leave at that time, and their lengths.
    fn drain(rows: &mut LostRows, now: Timestamp, history: &History) -> Vec<(Vec<u64>, usize)> {
        let (mut all, mut out, mut number) = (Vec::new(), [0; 2000], 0);
        while rows.is_due(now) {
            if let Some(used) = rows.row(number, history, &mut out, 1400) {
                let (header, head) = ParityHeader::decode(&out[..used], 1000).expect("well-formed");
                let numbers = header.numbers().map(|number| number.0).collect();
                all.push((numbers, used - head - SHARD_LENGTH_BYTES));
            }
            number += 1;
        }
        all
    }

    #[test]
    fn what_is_lost_at_about_the_same_time_shares_a_row_when_the_oldest_is_nearly_too_late() {
        let (history, mut rows) = (sent(60), LostRows::default());
        for number in [10, 3, 40, 10] {
            lose(&mut rows, number, at(147 + number), 100);
        }
        assert_eq!(rows.due(), Some(at(148)));
        assert_eq!(drain(&mut rows, at(147), &history), []);
        assert_eq!(drain(&mut rows, at(148), &history), [(vec![3, 10, 40], 140)]);
        assert_eq!(rows.due(), None);
    }

    #[test]
    fn where_round_trips_vary_rows_leave_earlier() {
        let mut rows = LostRows::default();
        rows.add(PacketNumber(1), at(150), Duration::from_millis(9), 100);
        assert_eq!(rows.due(), Some(at(141)));
    }

    #[test]
    fn there_are_as_many_rows_as_copies_are_likely_lost() {
        let (history, mut rows) = (sent(100), LostRows::default());
        lose(&mut rows, 1, at(100), 2000);
        assert_eq!(drain(&mut rows, at(100), &history).len(), 1, "one makes good the only one");
        for (losses, expected) in [(2, 1), (3, 2), (6, 3), (60, ROWS_MAX as usize)] {
            for number in 0..losses {
                lose(&mut rows, number, at(100), 400);
            }
            let made = drain(&mut rows, at(100), &history);
            assert_eq!(made.len(), expected, "{losses} lost");
            assert!(made.iter().all(|(numbers, _)| numbers.len() as u64 == losses));
        }
    }

    #[test]
    fn what_the_other_end_or_this_one_does_not_keep_is_left_out_and_all_is_bounded() {
        let (mut history, mut rows) = (sent(300), LostRows::default());
        for number in (0..300).step_by(2) {
            lose(&mut rows, number, at(100), 0);
        }
        assert_eq!(rows.lost.len(), PARITY_COVERED_MAX);
        assert_eq!(drain(&mut rows, at(100), &history), [], "all more than 128 numbers ago");
        lose(&mut rows, 171, at(100), 0);
        lose(&mut rows, 172, at(100), 0);
        lose(&mut rows, 299, at(100), 0);
        assert_eq!(drain(&mut rows, at(100), &history), [(vec![172, 299], 399)]);
        for number in [280, 290, 295] {
            lose(&mut rows, number, at(100), 0);
        }
        history.forget_through(PacketNumber(292));
        assert_eq!(drain(&mut rows, at(100), &history), [(vec![295], 395)]);
        lose(&mut rows, 296, at(100), 0);
        rows.give_up();
        assert_eq!(rows.due(), None);
    }
}
