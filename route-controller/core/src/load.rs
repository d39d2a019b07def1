//! A link that carries nearly all it can is dearer by a step, so that other ways are preferred where they are nearly as
//! short.
//!
//! A price that grows smoothly with load makes traffic on single paths swing: all of it leaves, the price falls, all of it
//! comes back (the ARPANET's first delay metric; Khanna and Zinky, "The revised ARPANET routing metric", 1989). A step with a
//! wide hysteresis swings too, but slowly: it ends only when the link has been idle for a while, and each time it
//! proves wrong soon after, that while doubles.

use std::time::Duration;
use wire_format::Timestamp;

/// From this share of what a link was found to carry on it is loaded ...
const LOADED_PCT: u64 = 80;
/// ... and below this one it is not.
const IDLE_PCT: u64 = 60;
/// How long it must be loaded to become dearer.
const DWELL: Duration = Duration::from_secs(3);
/// How long it must be idle to become cheaper, at first ...
const HOLD: Duration = Duration::from_secs(60);
/// ... and at most.
const HOLD_MAX: Duration = Duration::from_secs(960);

/// The load of one direction of a link.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    loaded: bool,
    /// It was beyond the limit when it was last looked at.
    presses: bool,
    /// Since when the present state does not fit what is measured.
    misfit_since: Option<Timestamp>,
    hold: Duration,
    relieved_at: Option<Timestamp>,
}

impl Default for Load {
    fn default() -> Load {
        Load { loaded: false, presses: false, misfit_since: None, hold: HOLD, relieved_at: None }
    }
}

impl Load {
    /// Takes what is sent and what the link was found to carry, bytes per second. True if the step came or went.
    pub(crate) fn sample(&mut self, now: Timestamp, rate: u64, deliverable: Option<u64>) -> bool {
        let pct = deliverable
            .map_or(0, |most| u128::from(rate) * 100 / u128::from(most.max(1)))
            .min(u128::from(u64::MAX)) as u64;
        self.presses = pct > LOADED_PCT;
        let fits = if self.loaded { pct >= IDLE_PCT } else { pct <= LOADED_PCT };
        if fits {
            self.misfit_since = None;
            return false;
        }
        let since = *self.misfit_since.get_or_insert(now);
        if now.since(since) < if self.loaded { self.hold } else { DWELL } {
            return false;
        }
        self.misfit_since = None;
        self.loaded = !self.loaded;
        if self.loaded {
            let soon = self.relieved_at.is_some_and(|at| now < at + self.hold * 2);
            self.hold = if soon { (self.hold * 2).min(HOLD_MAX) } else { HOLD };
        } else {
            self.relieved_at = Some(now);
        }
        true
    }

    /// Whether it carries nearly all it can right now: while the step applies it may be long idle.
    pub(crate) fn presses(&self) -> bool {
        self.presses
    }

    /// Whether the step applies.
    pub(crate) fn is_loaded(&self) -> bool {
        self.loaded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Timestamp {
        Timestamp::from_micros(s * 1_000_000)
    }

    #[test]
    fn a_loaded_link_becomes_dearer_and_stays_so_for_a_minute() {
        let mut load = Load::default();
        let changes = |load: &mut Load, from: u64, to: u64, rate, most| {
            (from..to).filter(|s| load.sample(at(*s), rate, most)).collect::<Vec<u64>>()
        };
        assert_eq!(changes(&mut load, 0, 100, 80, Some(100)), [0; 0], "at the limit");
        assert_eq!(changes(&mut load, 100, 102, 200, Some(100)), [0; 0], "a moment");
        assert_eq!(changes(&mut load, 102, 200, 1_000, None), [0; 0], "no limit shows");
        assert_eq!(changes(&mut load, 200, 300, 81, Some(100)), [203]);
        assert_eq!(changes(&mut load, 300, 400, 70, Some(100)), [0; 0], "neither nor");
        // Its traffic has left, and no limit shows any more.
        assert_eq!(changes(&mut load, 400, 500, 0, None), [460]);
        // It came back and was too much again: the next relief is believed later.
        assert_eq!(changes(&mut load, 500, 600, 90, Some(100)), [503]);
        assert_eq!(changes(&mut load, 600, 1_000, 0, None), [720]);
        assert_eq!(changes(&mut load, 2_000, 2_010, u64::MAX, Some(0)), [2_003]);
    }

    #[test]
    fn traffic_that_leaves_and_comes_back_moves_ever_more_slowly() {
        let mut load = Load::default();
        let changes = (0..3_600).filter(|s| {
            let rate = if load.is_loaded() { 0 } else { 100 };
            load.sample(at(*s), rate, Some(100))
        });
        // Relief after 1, 2, 4, 8 and then every 16 minutes.
        assert!(changes.count() <= 15, "in an hour");
    }
}
