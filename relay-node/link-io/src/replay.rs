//! The replay window of one receiving association (the sliding window of RFC 6479): which packet numbers have been
//! seen. Numbers too old for the window count as seen.

const WORDS: usize = 33;
const WORD_BITS: u64 = u64::BITS as u64;

/// Packets behind the newest that can still arrive for the first time.
pub(crate) const WINDOW_PACKETS: u64 = (WORDS as u64 - 1) * WORD_BITS;

/// A ring of bits, one word longer than the window so that no shift is ever needed.
#[derive(Clone, Debug)]
pub(crate) struct ReplayWindow {
    words: [u64; WORDS],
    /// One more than the highest number seen.
    end: u64,
}

impl ReplayWindow {
    pub(crate) fn new() -> ReplayWindow {
        ReplayWindow { words: [0; WORDS], end: 0 }
    }

    /// Whether `number` may be accepted if it proves authentic.
    pub(crate) fn is_new(&self, number: u64) -> bool {
        if number >= self.end {
            return number != u64::MAX;
        }
        number + WINDOW_PACKETS >= self.end && self.words[word(number)] & bit(number) == 0
    }

    /// No higher number has been recorded.
    pub(crate) fn is_newest(&self, number: u64) -> bool {
        number + 1 >= self.end
    }

    /// Records a number that is new and proved authentic.
    pub(crate) fn mark(&mut self, number: u64) {
        if number >= self.end {
            let newest = self.end.saturating_sub(1) / WORD_BITS;
            let steps = (number / WORD_BITS - newest).min(WORDS as u64);
            for step in 1..=steps {
                self.words[((newest + step) % WORDS as u64) as usize] = 0;
            }
            self.end = number + 1;
        }
        self.words[word(number)] |= bit(number);
    }
}

fn word(number: u64) -> usize {
    (number / WORD_BITS % WORDS as u64) as usize
}

fn bit(number: u64) -> u64 {
    1 << (number % WORD_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_number_is_accepted_once_and_never_when_too_old() {
        let mut window = ReplayWindow::new();
        let mut seen = BTreeSet::new();
        let mut newest = 0_u64;
        let mut state = 1_u64;
        for _ in 0..200_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let jump = state >> 40;
            let number = match state >> 61 {
                0 => newest + jump % 5_000,
                1..=3 => newest + jump % 4,
                _ => newest.saturating_sub(jump % 2_500),
            };
            let end = seen.last().map_or(0, |last| last + 1);
            let fresh = !seen.contains(&number) && number + WINDOW_PACKETS >= end;
            assert_eq!(window.is_new(number), fresh, "number {number}, end {end}");
            if fresh {
                window.mark(number);
                seen.insert(number);
                newest = newest.max(number);
            }
        }
    }

    #[test]
    fn the_last_number_of_all_is_refused() {
        assert!(!ReplayWindow::new().is_new(u64::MAX));
    }
}
