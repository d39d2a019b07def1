//! What people want to know of a link: what repair leaves of its losses, and sums over its lanes.

use crate::{LinkStats, RepairStats};
use std::collections::VecDeque;
use std::time::Duration;
use wire_format::control::RepairTotals;
use wire_format::{MediaSent, PacketNumber, Timestamp};

/// The share is one of the last ...
const WINDOW: Duration = Duration::from_secs(10);
/// ... in so many steps at most ...
const READINGS_MAX: usize = 16;
/// ... which are so far apart.
const READING_EVERY: Duration = Duration::from_secs(1);
/// What is missing for so long is gone; longer than any repair takes.
const SETTLED: Duration = Duration::from_secs(2);
/// Of fewer datagrams than this the missing ones count as of this many, as losses do.
const OF_LEAST: u64 = 20;
/// Of so many numbers up to the highest it is known which had media.
const RECENT: u64 = u64::BITS as u64;

/// The share of datagrams with media that did not come, late and restored ones excepted.
///
/// The sender tells how many it sent below a packet number; those that came below the same number are counted here.
#[derive(Debug, Default)]
pub(crate) struct ResidualLoss {
    /// The datagram in hand, if it has not been counted.
    in_hand: Option<PacketNumber>,
    /// Datagrams with media that came.
    came: u64,
    /// The highest number of them, and which of the numbers up to it they had: the lowest bit is the highest number.
    highest: u64,
    recent: u64,
    /// Oldest first, and below which number the newest counts.
    readings: VecDeque<Reading>,
    told_through: u64,
    ppm: u32,
}

/// What was sent and what came of the numbers below one.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Timestamp,
    through: u64,
    sent: u64,
    came: u64,
}

impl ResidualLoss {
    /// A datagram is about to be handled; `None` if it has been before.
    pub(crate) fn take_in_hand(&mut self, number: Option<PacketNumber>) {
        self.in_hand = number;
    }

    /// It has media.
    pub(crate) fn media_came(&mut self) {
        let Some(PacketNumber(number)) = self.in_hand.take() else { return };
        self.came += 1;
        if number >= self.highest {
            self.recent = shifted(self.recent, number - self.highest) | 1;
            self.highest = number;
        } else {
            self.recent |= shifted(1, self.highest - number);
        }
        if number < self.told_through {
            self.came_late(number);
        }
    }

    #[cold]
    fn came_late(&mut self, number: u64) {
        for reading in self.readings.iter_mut().rev().take_while(|reading| reading.through > number) {
            reading.came += 1;
        }
    }

    /// The other end says what it sent; `highest` is the highest number that came.
    pub(crate) fn told(&mut self, now: Timestamp, highest: u64, media: MediaSent) {
        let end = highest.saturating_add(1);
        let Some(through) = end.checked_sub(u64::from((end as u16).wrapping_sub(media.through))) else {
            return;
        };
        let before = self.readings.back();
        let is_soon = |reading: &Reading| now.since(reading.at) < READING_EVERY || through < reading.through;
        // What came of the numbers from there on is known only if they are few.
        let above = self.highest.saturating_add(1).saturating_sub(through);
        if before.is_some_and(is_soon) || above > RECENT {
            return;
        }
        let of_these = shifted(1, above).wrapping_sub(1);
        let came = self.came.saturating_sub(u64::from((self.recent & of_these).count_ones()));
        let sent_before = before.map_or(0, |reading| reading.sent);
        let sent = sent_before + u64::from(media.datagrams.wrapping_sub(sent_before as u32));
        let is_old = |reading: &Reading| now.since(reading.at) >= WINDOW + SETTLED;
        while self.readings.len() >= READINGS_MAX || self.readings.get(1).is_some_and(is_old) {
            self.readings.pop_front();
        }
        self.readings.push_back(Reading { at: now, through, sent, came });
        self.told_through = through;
    }

    /// Judges what is gone by now; to be called about once a second.
    pub(crate) fn judge(&mut self, now: Timestamp) {
        let is_old = |reading: &Reading| now.since(reading.at) >= WINDOW + SETTLED;
        if self.readings.back().is_some_and(is_old) {
            // Nobody tells any more.
            self.readings.clear();
            self.ppm = 0;
        }
        let is_settled = |reading: &&Reading| now.since(reading.at) >= SETTLED;
        let newest = self.readings.iter().rev().find(is_settled);
        let Some((first, last)) = self.readings.front().zip(newest) else { return };
        let sent = last.sent.saturating_sub(first.sent);
        let gone = sent.saturating_sub(last.came.saturating_sub(first.came));
        self.ppm = (gone * 1_000_000 / sent.max(OF_LEAST)) as u32;
    }

    /// Parts per million, as last judged.
    pub(crate) fn ppm(&self) -> u32 {
        self.ppm
    }
}

fn shifted(bits: u64, by: u64) -> u64 {
    if by < RECENT { bits << by } else { 0 }
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
        self.first += other.first;
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
        self.rows_ignored += other.rows_ignored;
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

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_micros(ms * 1000)
    }

    /// Datagrams come one a millisecond from number `from` on, a feedback datagram after every ninth with media, except
    /// where `lost` says so; every 250 ms the other end tells what it sent, in the datagram that comes.
    fn play(residual: &mut ResidualLoss, numbers: std::ops::Range<u64>, lost: impl Fn(u64) -> bool) {
        let sent = |number: u64| number - number / 10;
        for number in numbers {
            if lost(number) {
                continue;
            }
            residual.take_in_hand(Some(PacketNumber(number)));
            if number % 10 != 9 {
                residual.media_came();
            }
            if number % 250 == 0 {
                // It was written some datagrams before this one.
                let through = number.saturating_sub(7);
                let media = MediaSent { through: through as u16, datagrams: sent(through) as u32 };
                residual.told(at(number), number, media);
            }
            if number % 1000 == 500 {
                residual.judge(at(number));
            }
        }
    }

    #[test]
    fn media_that_is_gone_counts_for_ten_seconds_and_nothing_else_does() {
        let mut residual = ResidualLoss::default();
        // Feedback is lost, and nobody misses it.
        play(&mut residual, 0..20_000, |number| number % 10 == 9);
        assert_eq!((residual.ppm(), residual.readings.len()), (0, 13));
        // Every hundredth with media.
        play(&mut residual, 20_000..40_000, |number| number % 100 == 1);
        assert_eq!(residual.ppm(), 11_111);
        play(&mut residual, 40_000..48_000, |_| false);
        assert!((4_000..7_000).contains(&residual.ppm()), "{}", residual.ppm());
        play(&mut residual, 48_000..60_000, |_| false);
        assert_eq!(residual.ppm(), 0);
        // Numbers and counts go beyond the bits in which they are told.
        play(&mut residual, 60_000..200_000, |number| number % 1000 == 1);
        assert_eq!(residual.ppm(), 1_111);
        // The other end tells nothing any more.
        residual.judge(at(220_000));
        assert_eq!((residual.ppm(), residual.readings.len()), (0, 0));
    }

    #[test]
    fn what_comes_late_or_again_is_there_and_counts_once() {
        let mut residual = ResidualLoss::default();
        play(&mut residual, 0..10_000, |_| false);
        let lost = |number: u64| (1..9).contains(&(number % 100));
        for from in (10_000..30_000).step_by(500) {
            play(&mut residual, from..from + 500, lost);
            for number in (from..from + 500).filter(|number| lost(*number)) {
                residual.take_in_hand(Some(PacketNumber(number)));
                residual.media_came();
                residual.media_came();
                residual.take_in_hand(None);
                residual.media_came();
            }
        }
        play(&mut residual, 30_000..34_000, |_| false);
        assert_eq!(residual.ppm(), 0);
        assert_eq!(residual.came, 34_000 / 10 * 9);
    }

    #[test]
    fn whatever_the_other_end_tells_the_share_is_one() {
        let mut residual = ResidualLoss::default();
        let mut seed = 7_u64;
        for step in 0..100_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let number = if seed.is_multiple_of(97) { u64::MAX - seed % 3 } else { seed >> (seed % 64) };
            residual.take_in_hand(Some(PacketNumber(number)));
            residual.media_came();
            let media = MediaSent { through: seed as u16, datagrams: (seed >> 20) as u32 };
            residual.told(at(step * 300), number, media);
            residual.judge(at(step * 300));
            assert!(residual.ppm() <= 1_000_000 && residual.readings.len() <= READINGS_MAX);
        }
    }
}
