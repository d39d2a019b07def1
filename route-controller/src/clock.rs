//! The clocks of this process; nothing else in it reads one.

use std::time::{Instant, SystemTime, UNIX_EPOCH};
use wire_format::Timestamp;

/// Counts microseconds from when it was started, for the core.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock { origin: Instant::now() }
    }

    pub(crate) fn now(self) -> Timestamp {
        Timestamp::ZERO + self.origin.elapsed()
    }

    /// The same moment for the runtime's timers.
    pub(crate) fn instant(self, timestamp: Timestamp) -> tokio::time::Instant {
        (self.origin + timestamp.since(Timestamp::ZERO)).into()
    }
}

/// The calendar's time, for certificates and tokens.
pub(crate) fn calendar() -> SystemTime {
    SystemTime::now()
}

/// The calendar's time in seconds since 1970.
pub(crate) fn unix_s() -> u64 {
    calendar().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
