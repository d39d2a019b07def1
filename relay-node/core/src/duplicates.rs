//! Suppression of frames that come twice: by two planes, by a reroute, or from a publisher that repeats itself.

use wire_format::{Incarnation, Sequence};

/// Sequences that are remembered of each stream: those of six seconds, the longest of delay budgets, at 680 packets a
/// second. 512 bytes a stream.
const WINDOW: u32 = 4096;
const WORDS: usize = WINDOW as usize / 64;

/// Whether a frame may pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Never seen.
    New,
    /// Seen before.
    Duplicate,
    /// So far behind the newest that it cannot be told.
    TooOld,
}

/// The last [`WINDOW`] sequences of a stream's current publication.
#[derive(Clone, Debug)]
pub(crate) struct DuplicateWindow {
    incarnation: Incarnation,
    newest: Option<u32>,
    seen: [u64; WORDS],
}

impl DuplicateWindow {
    pub(crate) fn new(incarnation: Incarnation) -> DuplicateWindow {
        DuplicateWindow { incarnation, newest: None, seen: [0; WORDS] }
    }

    /// Judges a frame and remembers it. A newer publication starts a new window; frames of an older one are too old.
    pub(crate) fn admit(&mut self, incarnation: Incarnation, sequence: Sequence) -> Verdict {
        if incarnation != self.incarnation {
            if incarnation.0.wrapping_sub(self.incarnation.0) > 127 {
                return Verdict::TooOld;
            }
            *self = DuplicateWindow::new(incarnation);
        }
        let Some(newest) = self.newest else {
            self.newest = Some(sequence.0);
            self.mark(sequence.0);
            return Verdict::New;
        };
        let ahead = sequence.0.wrapping_sub(newest);
        if ahead != 0 && ahead <= u32::MAX / 2 {
            if ahead >= WINDOW {
                self.seen = [0; WORDS];
            } else {
                self.clear(newest.wrapping_add(1), ahead - 1);
            }
            self.newest = Some(sequence.0);
            self.mark(sequence.0);
            return Verdict::New;
        }
        if newest.wrapping_sub(sequence.0) >= WINDOW {
            return Verdict::TooOld;
        }
        let (word, bit) = place(sequence.0);
        if self.seen[word] & bit != 0 {
            return Verdict::Duplicate;
        }
        self.seen[word] |= bit;
        Verdict::New
    }

    /// The newest sequence of the present publication.
    pub(crate) fn newest(&self) -> Option<Sequence> {
        self.newest.map(Sequence)
    }

    /// Whether a frame between `first` and the newest has not come. `true` if that is too long ago to say.
    pub(crate) fn is_missing_since(&self, first: Sequence) -> bool {
        let Some(newest) = self.newest else { return false };
        let span = newest.wrapping_sub(first.0);
        if span > u32::MAX / 2 {
            return false;
        }
        span >= WINDOW
            || (0..span).any(|step| {
                let (word, bit) = place(first.0.wrapping_add(step));
                self.seen[word] & bit == 0
            })
    }

    fn mark(&mut self, sequence: u32) {
        let (word, bit) = place(sequence);
        self.seen[word] |= bit;
    }

    /// Forgets so many sequences from `first` on, a word at a time.
    fn clear(&mut self, mut first: u32, mut count: u32) {
        while count > 0 {
            let (word, bit) = place(first);
            let here = count.min(u64::BITS - first % u64::BITS);
            // All bits from `bit` on, but those beyond the last of them here.
            let beyond = bit.checked_shl(here).unwrap_or(0).wrapping_neg();
            self.seen[word] &= !(bit.wrapping_neg() & !beyond);
            first = first.wrapping_add(here);
            count -= here;
        }
    }
}

fn place(sequence: u32) -> (usize, u64) {
    let at = sequence % WINDOW;
    ((at / 64) as usize, 1 << (at % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_new_publication_starts_anew_and_the_old_one_is_over() {
        let mut window = DuplicateWindow::new(Incarnation(255));
        assert_eq!(window.admit(Incarnation(255), Sequence(5)), Verdict::New);
        assert_eq!(window.admit(Incarnation(0), Sequence(5)), Verdict::New);
        assert_eq!(window.admit(Incarnation(255), Sequence(6)), Verdict::TooOld);
    }

    #[test]
    fn a_gap_shows_until_it_is_filled() {
        let mut window = DuplicateWindow::new(Incarnation(0));
        let mut admit = |sequence: u32| window.admit(Incarnation(0), Sequence(sequence));
        (u32::MAX - 5..=u32::MAX).chain([1, 2]).for_each(|sequence| {
            admit(sequence);
        });
        assert!(window.is_missing_since(Sequence(u32::MAX - 1)));
        assert!(!window.is_missing_since(Sequence(1)) && !window.is_missing_since(Sequence(9)));
        window.admit(Incarnation(0), Sequence(0));
        assert!(!window.is_missing_since(Sequence(u32::MAX - 1)));
        assert!(window.is_missing_since(Sequence(u32::MAX - 5000)), "too long ago to say");
    }

    #[test]
    fn a_repair_within_the_longest_budget_is_not_too_old() {
        let mut window = DuplicateWindow::new(Incarnation(0));
        assert_eq!(window.admit(Incarnation(0), Sequence(0)), Verdict::New);
        // Six seconds of a stream of 5 Mbit/s.
        assert_eq!(window.admit(Incarnation(0), Sequence(6 * 600)), Verdict::New);
        assert_eq!(window.admit(Incarnation(0), Sequence(1)), Verdict::New);
        assert_eq!(window.admit(Incarnation(0), Sequence(1)), Verdict::Duplicate);
    }

    proptest! {
        #[test]
        fn nothing_passes_twice_and_nothing_recent_is_held_back(
            start in any::<u32>(), steps in prop::collection::vec(0i64..12_000, 1..500)
        ) {
            let mut window = DuplicateWindow::new(Incarnation(1));
            let mut seen = BTreeSet::new();
            let mut newest = None;
            for offset in steps {
                let sequence = start.wrapping_add(offset as u32);
                let verdict = window.admit(Incarnation(1), Sequence(sequence));
                let expected = if seen.contains(&offset) && newest.is_some_and(|n| n - offset < i64::from(WINDOW)) {
                    Verdict::Duplicate
                } else if newest.is_some_and(|n| n - offset >= i64::from(WINDOW)) {
                    Verdict::TooOld
                } else {
                    Verdict::New
                };
                prop_assert_eq!(verdict, expected);
                if verdict == Verdict::New {
                    seen.insert(offset);
                    newest = Some(newest.map_or(offset, |n: i64| n.max(offset)));
                }
            }
        }
    }
}
