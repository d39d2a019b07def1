//! The clock of `dev`: everything it measures is counted from one origin.

use std::time::{Duration, Instant};

/// Counts time since it was made. Copies share the origin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock { origin: Instant::now() }
    }

    pub(crate) fn now(self) -> Duration {
        self.origin.elapsed()
    }
}
