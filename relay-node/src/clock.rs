//! The calendar's time, for certificates. Everything else counts by the relay port's clock ([`link_io::now`]).

use std::time::{SystemTime, UNIX_EPOCH};

/// Now.
pub(crate) fn calendar() -> SystemTime {
    SystemTime::now()
}

/// Seconds since 1970.
pub(crate) fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
