//! What a receiver reports about one source of RTP (RFC 3550, appendices A.1, A.3 and A.8).

use wire_format::rtcp::ReportBlock;
use wire_format::{MediaKind, Timestamp};

/// A step forward that is larger means that the source began anew.
const STEP_MAX: u16 = 3000;
/// Packets may come this late without that meaning it.
const LATE_MAX: u16 = 100;

/// A source of RTP, as heard here.
#[derive(Clone, Debug)]
pub(crate) struct Reception {
    pub(crate) ssrc: u32,
    first: u32,
    /// Cycles in the upper half.
    highest: u32,
    pub(crate) received: u64,
    /// A sequence number far away: if the next packet follows it, the source has begun anew.
    beyond: Option<u16>,
    /// At the last report.
    expected_before: u64,
    received_before: u64,
    clock_rate: u32,
    transit: Option<i32>,
    /// Sixteenths.
    jitter: u32,
    /// Middle of its clock in the last sender report, and when that came.
    sender_report: Option<(u32, Timestamp)>,
    pub(crate) heard: Timestamp,
}

impl Reception {
    pub(crate) fn new(now: Timestamp, ssrc: u32, sequence: u16, clock_rate: u32) -> Reception {
        Reception {
            ssrc,
            first: sequence.into(),
            highest: u32::from(sequence).wrapping_sub(1),
            received: 0,
            beyond: None,
            expected_before: 0,
            received_before: 0,
            clock_rate,
            transit: None,
            jitter: 0,
            sender_report: None,
            heard: now,
        }
    }

    /// A packet came.
    pub(crate) fn hear(&mut self, now: Timestamp, sequence: u16, rtp_time: u32) {
        let step = sequence.wrapping_sub(self.highest as u16);
        if self.received == 0 || (1..STEP_MAX).contains(&step) {
            self.highest = self.highest.wrapping_add(step.into());
            self.beyond = None;
        } else if step != 0 && step <= u16::MAX - LATE_MAX {
            if self.beyond.replace(sequence.wrapping_add(1)) != Some(sequence) {
                return;
            }
            let sender_report = self.sender_report;
            *self = Reception { sender_report, ..Reception::new(now, self.ssrc, sequence, self.clock_rate) };
            self.highest = sequence.into();
        }
        self.received += 1;
        self.heard = now;
        // Only differences are ever used, so that the wrap does not matter.
        let arrival = (u128::from(now.as_micros()) * u128::from(self.clock_rate) / 1_000_000) as u32;
        let transit = arrival.wrapping_sub(rtp_time) as i32;
        if let Some(before) = self.transit.replace(transit) {
            let distance = transit.wrapping_sub(before).unsigned_abs();
            // A jump of the source's clock is no jitter.
            if distance < self.clock_rate {
                self.jitter = self.jitter.wrapping_add(distance).wrapping_sub((self.jitter + 8) >> 4);
            }
        }
    }

    /// A sender report of this source came.
    pub(crate) fn hear_sender_report(&mut self, now: Timestamp, ntp: u64) {
        self.sender_report = Some(((ntp >> 16) as u32, now));
    }

    fn expected(&self) -> u64 {
        u64::from(self.highest.wrapping_sub(self.first)) + 1
    }

    /// Lost so far; negative where packets came twice.
    pub(crate) fn lost(&self) -> i64 {
        self.expected() as i64 - self.received as i64
    }

    /// Jitter in units of the source's clock.
    pub(crate) fn jitter(&self) -> u32 {
        self.jitter >> 4
    }

    /// Whether anything came since the last report.
    pub(crate) fn has_news(&self) -> bool {
        self.received > self.received_before
    }

    /// The block of a receiver report; the next one begins where this one ends.
    pub(crate) fn report(&mut self, now: Timestamp) -> ReportBlock {
        let expected = self.expected() - self.expected_before;
        let received = self.received - self.received_before;
        self.expected_before = self.expected();
        self.received_before = self.received;
        let lost = expected.saturating_sub(received);
        let fraction = (lost * 256).checked_div(expected).unwrap_or(0).min(255);
        let (last_sender_report, delay_since) = self.sender_report.map_or((0, 0), |(middle, came)| {
            let delay = now.since(came).as_micros() * 65_536 / 1_000_000;
            (middle, u32::try_from(delay).unwrap_or(u32::MAX))
        });
        ReportBlock {
            ssrc: self.ssrc,
            fraction_lost: fraction as u8,
            cumulative_lost: self.lost().clamp(-0x80_0000, 0x7F_FFFF) as i32,
            highest_sequence: self.highest,
            jitter: self.jitter(),
            last_sender_report,
            delay_since,
        }
    }
}

/// Ticks per second of a stream's timestamps: from its payload type where that is static (RFC 3551), else what is usual
/// for its kind.
pub(crate) fn clock_rate(kind: MediaKind, payload_type: u8) -> u32 {
    match (payload_type, kind) {
        (0 | 3..=5 | 7..=9 | 12 | 15 | 18, _) => 8_000,
        (6, _) => 16_000,
        (10 | 11, _) => 44_100,
        (14 | 25..=34, _) | (_, MediaKind::Video) => 90_000,
        (_, MediaKind::Audio) => 48_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_micros(ms * 1000)
    }

    #[test]
    fn losses_are_counted_across_the_wrap_and_late_ones_taken_back() {
        let mut source = Reception::new(at(0), 7, 65530, 90_000);
        for sequence in [65530, 65531, 65533, 65535, 0, 3] {
            source.hear(at(0), sequence, 0);
        }
        // 65530 to 65539: ten expected, six came.
        let report = source.report(at(0));
        assert_eq!((report.fraction_lost, report.cumulative_lost), ((4 * 256 / 10) as u8, 4));
        assert_eq!(report.highest_sequence, 65536 + 3);
        source.hear(at(1), 1, 0);
        source.hear(at(1), 2, 0);
        source.hear(at(1), 4, 0);
        let report = source.report(at(1));
        assert_eq!((report.fraction_lost, report.cumulative_lost), (0, 2), "one expected, three came");
        assert!(!source.has_news());
        let report = source.report(at(2));
        assert_eq!((report.fraction_lost, report.cumulative_lost), (0, 2));
    }

    #[test]
    fn jitter_is_that_of_the_appendix() {
        let mut source = Reception::new(at(0), 7, 1, 8_000);
        // 20 ms apart at the sender, 20, 30 and 20 at the receiver: D is 0, 80 and 0 ticks.
        for (n, ms) in [0, 20, 50, 70].into_iter().enumerate() {
            source.hear(at(1000 + ms), 1 + n as u16, 160 * n as u32);
        }
        // J = 0 + 80/16 = 5, then 5 - 5/16 = 4.69.
        assert_eq!(source.jitter(), 4);
        assert_eq!(source.report(at(2000)).jitter, 4);
    }

    #[test]
    fn the_senders_clock_is_returned_with_the_delay_since() {
        let mut source = Reception::new(at(0), 7, 1, 8_000);
        source.hear(at(0), 1, 0);
        assert_eq!(source.report(at(0)).last_sender_report, 0);
        source.hear_sender_report(at(100), 0x1111_2222_3333_4444);
        let report = source.report(at(100) + Duration::from_millis(500));
        assert_eq!((report.last_sender_report, report.delay_since), (0x2222_3333, 32_768));
    }

    #[test]
    fn a_source_that_begins_anew_is_no_loss_and_one_stray_number_is_none_either() {
        let mut source = Reception::new(at(0), 7, 10, 8_000);
        source.hear(at(0), 10, 0);
        source.hear(at(0), 40_000, 0);
        source.hear(at(0), 11, 0);
        let report = source.report(at(0));
        assert_eq!((report.cumulative_lost, report.highest_sequence), (0, 11));
        source.hear(at(0), 50_000, 0);
        source.hear(at(0), 50_001, 0);
        source.hear(at(0), 50_003, 0);
        let report = source.report(at(0));
        assert_eq!((report.cumulative_lost, report.highest_sequence), (1, 50_003));
    }
}
