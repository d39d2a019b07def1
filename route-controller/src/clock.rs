//! The clocks of this process; nothing else in it reads one.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
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

/// The moment so much later than now, for the runtime's timers.
pub(crate) fn after(wait: Duration) -> tokio::time::Instant {
    (Instant::now() + wait).into()
}

/// The calendar's time, for certificates and tokens.
pub(crate) fn calendar() -> SystemTime {
    SystemTime::now()
}

/// The calendar's time in seconds since 1970.
pub(crate) fn unix_s() -> u64 {
    calendar().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// The same in milliseconds.
pub fn unix_ms() -> u64 {
    let since_1970 = calendar().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

/// A moment, seconds since 1970, in UTC (RFC 3339). The civil calendar counted by days, after Howard Hinnant's
/// "chrono-Compatible Low-Level Date Algorithms".
#[must_use]
pub fn utc(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    let from_march_0000 = days + 719_468;
    let (era, day_of_era) = (from_march_0000 / 146_097, from_march_0000 % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_printed_in_utc() {
        for (unix_s, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_258_800, "2026-11-21T11:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
        ] {
            assert_eq!(utc(unix_s), text);
        }
    }
}
