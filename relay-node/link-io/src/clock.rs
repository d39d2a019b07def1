//! The one clock of the process.

use std::sync::OnceLock;
use std::time::Instant;
use wire_format::Timestamp;

/// Time since the first call in this process. Never goes back.
pub fn now() -> Timestamp {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let origin = *ORIGIN.get_or_init(Instant::now);
    Timestamp::from_micros(u64::try_from(origin.elapsed().as_micros()).unwrap_or(u64::MAX))
}
