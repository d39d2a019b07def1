//! Log lines that strangers cause, rationed: who has proven nothing could otherwise fill the disk.
//!
//! What is held back is counted, and the next line that is written says how many there were. Metrics count all of them.

use crate::clock::Clock;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use wire_format::Timestamp;

/// Lines in one [`PERIOD`].
const LINES: u32 = 5;
const PERIOD: Duration = Duration::from_secs(10);

/// The ration of one kind of lines.
pub(crate) struct Ration {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The present period and the lines written in it; none before the first.
    period: Option<(Timestamp, u32)>,
    held_back: u64,
}

impl Ration {
    pub(crate) fn new() -> Ration {
        Ration { clock: Clock::start(), state: Mutex::default() }
    }

    /// If a line may be written now: how many were held back since the last one.
    pub(crate) fn take(&self) -> Option<u64> {
        // Each change of the state is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner).take(self.clock.now())
    }
}

impl State {
    fn take(&mut self, now: Timestamp) -> Option<u64> {
        let written = match self.period {
            Some((began, written)) if now.since(began) < PERIOD => written,
            Some(_) | None => {
                self.period = Some((now, 0));
                0
            }
        };
        if written >= LINES {
            self.held_back += 1;
            return None;
        }
        self.period = self.period.map(|(began, written)| (began, written + 1));
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_leaves_a_few_lines_and_its_size() {
        let mut state = State::default();
        let mut at = |ms: u64| state.take(Timestamp::ZERO + Duration::from_millis(ms));
        let written = (0..1_000).filter_map(&mut at).collect::<Vec<_>>();
        assert_eq!(written, [0; LINES as usize]);
        assert_eq!(at(9_999), None);
        assert_eq!((at(10_000), at(10_001)), (Some(996), Some(0)));
    }
}
