//! The rhythm of what leaves.

use crate::measure::Mean;
use wire_format::Timestamp;

/// How far apart datagrams leave. What leaves in one wake-up leaves at once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spacing {
    pub(super) last: Option<Timestamp>,
    at_once: u64,
    pub(super) mean: Mean,
}

impl Spacing {
    /// One leaves. `true` if it is the first in this wake-up.
    pub(super) fn left(&mut self, now: Timestamp) -> bool {
        let before = self.last.replace(now);
        if before == Some(now) {
            self.at_once += 1;
            return false;
        }
        if let Some(before) = before {
            let apart = (now.since(before).as_micros() as u64).min(1_000_000);
            self.mean.sample(apart / self.at_once);
        }
        self.at_once = 1;
        true
    }
}
