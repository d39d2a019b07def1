//! How often tables may change.

use std::time::Duration;
use wire_format::Timestamp;

/// Bounds how often something happens: so often at once, and then again and again after a while (the generic cell rate
/// algorithm of ITU-T I.371).
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    at_once: u32,
    every: Duration,
    /// When all of `at_once` are there again.
    full_at: Timestamp,
}

impl Pace {
    pub(super) fn new(at_once: u32, every: Duration) -> Pace {
        Pace { at_once, every, full_at: Timestamp::ZERO }
    }

    /// When it may happen next.
    pub(super) fn ready_at(&self) -> Timestamp {
        let ahead = self.full_at.since(Timestamp::ZERO).saturating_sub(self.every * (self.at_once - 1));
        Timestamp::ZERO + ahead
    }

    /// It happens.
    pub(super) fn take(&mut self, now: Timestamp) {
        self.full_at = self.full_at.max(now) + self.every;
    }
}
