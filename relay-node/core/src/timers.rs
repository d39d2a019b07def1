//! Deadlines of a core: at most one per purpose, the earliest first.

use std::collections::{BTreeMap, BTreeSet};
use wire_format::Timestamp;

/// A table of deadlines, keyed by what they are for.
#[derive(Debug)]
pub(crate) struct Timers<T> {
    queue: BTreeSet<(Timestamp, T)>,
    armed: BTreeMap<T, Timestamp>,
}

impl<T: Copy + Ord> Timers<T> {
    pub(crate) fn new() -> Timers<T> {
        Timers { queue: BTreeSet::new(), armed: BTreeMap::new() }
    }

    /// Arms a timer, replacing its earlier deadline.
    pub(crate) fn set(&mut self, timer: T, at: Timestamp) {
        if let Some(before) = self.armed.insert(timer, at) {
            self.queue.remove(&(before, timer));
        }
        self.queue.insert((at, timer));
    }

    /// Arms a timer that is not armed.
    pub(crate) fn set_if_unset(&mut self, timer: T, at: Timestamp) {
        if !self.armed.contains_key(&timer) {
            self.set(timer, at);
        }
    }

    /// Disarms a timer.
    pub(crate) fn clear(&mut self, timer: T) {
        if let Some(at) = self.armed.remove(&timer) {
            self.queue.remove(&(at, timer));
        }
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Takes a timer that is due.
    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<T> {
        let (at, timer) = *self.queue.first()?;
        if at > now {
            return None;
        }
        self.queue.pop_first();
        self.armed.remove(&timer);
        Some(timer)
    }
}
