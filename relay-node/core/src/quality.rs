//! What people want to know of a link: what repair leaves of its losses, and sums over its lanes.

use crate::{LinkStats, RepairStats};
use std::collections::VecDeque;
use std::time::Duration;
use wire_format::Timestamp;
use wire_format::control::RepairTotals;

/// The share is one of the last ...
const WINDOW: Duration = Duration::from_secs(10);
/// ... in so many steps at most.
const READINGS_MAX: usize = 12;
/// Of fewer datagrams than this the missing ones count as of this many, as losses do.
const OF_LEAST: u64 = 20;

/// The share of datagrams that should have come and are not there, late and restored ones excepted.
#[derive(Debug, Default)]
pub(crate) struct ResidualLoss {
    /// When, how many should have come by then, and how many of them are gone for good.
    readings: VecDeque<(Timestamp, u64, u64)>,
}

impl ResidualLoss {
    /// Totals since the link came up, read about once a second.
    pub(crate) fn read(&mut self, now: Timestamp, expected: u64, gone: u64) {
        let is_old = |(at, _, _): &(Timestamp, u64, u64)| now.since(*at) >= WINDOW;
        while self.readings.len() >= READINGS_MAX || self.readings.get(1).is_some_and(is_old) {
            self.readings.pop_front();
        }
        self.readings.push_back((now, expected, gone));
    }

    /// Parts per million.
    pub(crate) fn ppm(&self) -> u32 {
        let (Some((_, expected_before, gone_before)), Some((_, expected, gone))) =
            (self.readings.front(), self.readings.back())
        else {
            return 0;
        };
        // What was given up for lost may come after all.
        let gone = gone.saturating_sub(*gone_before);
        let expected = expected.saturating_sub(*expected_before).max(OF_LEAST);
        u32::try_from((gone * 1_000_000 / expected).min(1_000_000)).unwrap_or(1_000_000)
    }
}

impl LinkStats {
    /// Adds a further lane of the same link: traffic adds up, and the worse state counts.
    pub fn add_lane(&mut self, lane: &LinkStats) {
        self.state = self.state.max(lane.state);
        self.in_use |= lane.in_use;
        self.rate_out += lane.rate_out;
        self.rate_in += lane.rate_in;
        self.datagrams_out += lane.datagrams_out;
        self.datagrams_in += lane.datagrams_in;
        self.bytes_out += lane.bytes_out;
        self.bytes_in += lane.bytes_in;
        self.rate_limited += lane.rate_limited;
        self.waiting_bytes += lane.waiting_bytes;
        self.quality = self.quality.with_lane(&lane.quality);
        self.repair.add(&lane.repair);
    }
}

impl RepairStats {
    /// In sums, as others are told.
    pub(crate) fn totals(&self) -> RepairTotals {
        RepairTotals {
            first_bytes: self.first_bytes,
            overhead_bytes: self.overhead_bytes(),
            retransmitted: self.retransmitted,
            parity: self.parity,
            requests: self.requests,
            missing: self.missing,
            reordered: self.reordered,
            recovered: self.recovered_again + self.recovered_parity,
        }
    }

    /// Adds what another lane of the link did.
    pub fn add(&mut self, other: &RepairStats) {
        self.first_bytes += other.first_bytes;
        self.retransmitted += other.retransmitted;
        self.retransmitted_bytes += other.retransmitted_bytes;
        self.parity += other.parity;
        self.parity_bytes += other.parity_bytes;
        self.requests += other.requests;
        self.request_bytes += other.request_bytes;
        self.feedback_bytes += other.feedback_bytes;
        self.probe_bytes += other.probe_bytes;
        self.requests_late += other.requests_late;
        self.requests_ignored += other.requests_ignored;
        self.repairs_dropped += other.repairs_dropped;
        self.missing += other.missing;
        self.reordered += other.reordered;
        self.recovered_again += other.recovered_again;
        self.recovered_parity += other.recovered_parity;
        self.recovered_late.add(&other.recovered_late);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_counts_for_ten_seconds() {
        let mut residual = ResidualLoss::default();
        assert_eq!(residual.ppm(), 0);
        // A thousand a second, of which ten are gone in each of the first 20 s.
        for second in 0..=60_u64 {
            residual.read(Timestamp::from_micros(second * 1_000_000), second * 1_000, second.min(20) * 10);
            let expected = match second {
                0 => 0,
                1..=20 => 10_000,
                21..30 => 10_000 * (30 - second as u32) / 10,
                _ => 0,
            };
            assert_eq!(residual.ppm(), expected, "after {second} s");
        }
        assert!(residual.readings.len() <= READINGS_MAX);
    }

    #[test]
    fn readings_in_quick_succession_are_bounded_and_few_datagrams_are_no_verdict() {
        let mut residual = ResidualLoss::default();
        for ms in 0..1_000 {
            residual.read(Timestamp::from_micros(ms * 1_000), ms / 100, ms / 200);
            assert!(residual.ppm() <= 500_000);
        }
        assert_eq!(residual.readings.len(), READINGS_MAX);
        residual.read(Timestamp::from_micros(2_000_000), 9, 0);
        assert_eq!(residual.ppm(), 0, "what was gone has come");
    }
}
