//! What repair did on a link, and what it cost.

use std::time::Duration;
use wire_format::FrameKind;

/// What repair did on a link since it came up, and what it cost. Bytes are UDP payload.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RepairStats {
    /// Datagrams sent for the first time that carry media.
    pub first: u64,
    /// Their bytes, feedback within them not counted.
    pub first_bytes: u64,
    /// Datagrams sent again.
    pub retransmitted: u64,
    /// Their bytes.
    pub retransmitted_bytes: u64,
    /// Datagrams of parity sent.
    pub parity: u64,
    /// Their bytes.
    pub parity_bytes: u64,
    /// Requests sent for what is missing.
    pub requests: u64,
    /// Their bytes.
    pub request_bytes: u64,
    /// Numbers asked for by the other end when it was too late.
    pub requests_late: u64,
    /// Requests of the other end that were cut short: it had asked for too much at once.
    pub requests_ignored: u64,
    /// Rows of parity of the other end that were not looked at: too many came at once.
    pub rows_ignored: u64,
    /// Repairs given up: too late by the time they could go, or too many.
    pub repairs_dropped: u64,
    /// Bytes of heartbeats sent.
    pub feedback_bytes: u64,
    /// Bytes of MTU probes and their answers.
    pub probe_bytes: u64,
    /// Datagrams of the other end that were found missing, those that only came late included.
    pub missing: u64,
    /// Of these, those that came late by themselves: reordered on the way.
    pub reordered: u64,
    /// Of these, those restored because they were sent again.
    pub recovered_again: u64,
    /// Of these, those restored from parity.
    pub recovered_parity: u64,
    /// How much later than usual the restored ones came.
    pub recovered_late: LateHistogram,
}

impl RepairStats {
    /// Counts bytes of a frame that is no media; returns those that are repair, feedback or probes.
    pub(crate) fn count_feedback(&mut self, kind: FrameKind, bytes: usize) -> usize {
        let counter = match kind {
            FrameKind::Heartbeat => &mut self.feedback_bytes,
            FrameKind::RepairRequest => &mut self.request_bytes,
            FrameKind::MtuProbe => &mut self.probe_bytes,
            FrameKind::Media
            | FrameKind::Edge
            | FrameKind::Fragment
            | FrameKind::KeyframeRequest
            | FrameKind::EdgeKeyframeRequest
            | FrameKind::PathChallenge
            | FrameKind::Repair
            | FrameKind::Parity
            | FrameKind::Unknown(_) => return 0,
        };
        *counter += bytes as u64;
        bytes
    }

    /// Bytes that only repair, feedback and probes made necessary.
    pub fn overhead_bytes(&self) -> u64 {
        self.retransmitted_bytes
            + self.parity_bytes
            + self.request_bytes
            + self.feedback_bytes
            + self.probe_bytes
    }
}

/// Buckets of [`LateHistogram`]: four to a doubling, from 64 us up to 4 s.
const BUCKETS: usize = 64;
/// The end of the first bucket.
const FIRST_US: u64 = 64;

/// Delays in buckets a fifth wide.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LateHistogram {
    buckets: [u64; BUCKETS],
    count: u64,
    max: Duration,
}

impl Default for LateHistogram {
    fn default() -> LateHistogram {
        LateHistogram { buckets: [0; BUCKETS], count: 0, max: Duration::ZERO }
    }
}

impl LateHistogram {
    /// Counts one.
    pub fn record(&mut self, late: Duration) {
        let us = late.as_micros() as u64;
        let place = (0..BUCKETS - 1).find(|bucket| us <= bucket_end_us(*bucket)).unwrap_or(BUCKETS - 1);
        self.buckets[place] += 1;
        self.count += 1;
        self.max = self.max.max(late);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The delay that so many hundredths of them do not exceed, to within a fifth; zero if none was counted.
    pub fn percentile(&self, hundredths: u64) -> Duration {
        let rank = (self.count * hundredths).div_ceil(100).max(1);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_micros(bucket_end_us(bucket)).min(self.max);
            }
        }
        self.max
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// Adds what another counted.
    pub fn add(&mut self, other: &LateHistogram) {
        for (own, more) in self.buckets.iter_mut().zip(other.buckets) {
            *own += more;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }
}

fn bucket_end_us(bucket: usize) -> u64 {
    let (doublings, quarter) = (bucket / 4, bucket % 4);
    (FIRST_US << doublings) * (4 + quarter as u64) / 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_within_a_fifth() {
        let mut histogram = LateHistogram::default();
        assert_eq!(histogram.percentile(50), Duration::ZERO);
        for ms in 1..=1000 {
            histogram.record(Duration::from_millis(ms));
        }
        for (hundredths, ms) in [(50, 500), (99, 990), (1, 10)] {
            let value = histogram.percentile(hundredths).as_millis() as u64;
            assert!(value >= ms && value <= ms * 5 / 4 + 1, "{hundredths}: {value}");
        }
        assert_eq!((histogram.max(), histogram.count()), (Duration::from_secs(1), 1000));
    }
}
