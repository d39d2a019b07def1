//! What repair did on links, and what it cost, summed over their ends.

use relay_core::RepairStats;
use serde::Serialize;

/// Sums over both ends of some links.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Cost {
    /// Bytes of datagrams with media that were sent for the first time.
    pub first_bytes: u64,
    /// Datagrams sent again.
    pub retransmitted: u64,
    /// Their bytes.
    pub retransmitted_bytes: u64,
    /// Datagrams of parity.
    pub parity: u64,
    /// Their bytes.
    pub parity_bytes: u64,
    /// Requests for what is missing.
    pub requests: u64,
    /// Their bytes.
    pub request_bytes: u64,
    /// Bytes of heartbeats.
    pub feedback_bytes: u64,
    /// Bytes of MTU probes and their answers.
    pub probe_bytes: u64,
    /// Datagrams found missing.
    pub missing: u64,
    /// Of these, those that were only late.
    pub reordered: u64,
    /// Of these, those restored because they were sent again, or from parity.
    pub recovered: u64,
}

impl Cost {
    /// What one end did.
    pub(crate) fn of(stats: &RepairStats) -> Cost {
        Cost {
            first_bytes: stats.first_bytes,
            retransmitted: stats.retransmitted,
            retransmitted_bytes: stats.retransmitted_bytes,
            parity: stats.parity,
            parity_bytes: stats.parity_bytes,
            requests: stats.requests,
            request_bytes: stats.request_bytes,
            feedback_bytes: stats.feedback_bytes,
            probe_bytes: stats.probe_bytes,
            missing: stats.missing,
            reordered: stats.reordered,
            recovered: stats.recovered_again + stats.recovered_parity,
        }
    }

    /// Bytes that only repair, feedback and probes made necessary.
    pub fn overhead_bytes(&self) -> u64 {
        self.retransmitted_bytes
            + self.parity_bytes
            + self.request_bytes
            + self.feedback_bytes
            + self.probe_bytes
    }

    /// These, in percent of the bytes sent for the first time.
    pub fn overhead_pct(&self) -> f64 {
        self.overhead_bytes() as f64 * 100.0 / self.first_bytes.max(1) as f64
    }

    /// Both, or the first less the second.
    fn with(self, other: Cost, each: impl Fn(u64, u64) -> u64) -> Cost {
        Cost {
            first_bytes: each(self.first_bytes, other.first_bytes),
            retransmitted: each(self.retransmitted, other.retransmitted),
            retransmitted_bytes: each(self.retransmitted_bytes, other.retransmitted_bytes),
            parity: each(self.parity, other.parity),
            parity_bytes: each(self.parity_bytes, other.parity_bytes),
            requests: each(self.requests, other.requests),
            request_bytes: each(self.request_bytes, other.request_bytes),
            feedback_bytes: each(self.feedback_bytes, other.feedback_bytes),
            probe_bytes: each(self.probe_bytes, other.probe_bytes),
            missing: each(self.missing, other.missing),
            reordered: each(self.reordered, other.reordered),
            recovered: each(self.recovered, other.recovered),
        }
    }

    pub(crate) fn plus(self, other: Cost) -> Cost {
        self.with(other, |one, other| one + other)
    }

    /// What was added since an earlier look.
    pub(crate) fn since(self, earlier: Cost) -> Cost {
        self.with(earlier, u64::saturating_sub)
    }
}
