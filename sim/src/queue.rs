//! What is going to happen, ordered by time and, within one instant, by who announced it first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

/// The queue of future events.
#[derive(Debug)]
pub(crate) struct EventQueue<T> {
    order: BinaryHeap<Reverse<(Duration, u64)>>,
    events: BTreeMap<u64, T>,
    next: u64,
}

impl<T> EventQueue<T> {
    pub(crate) fn new() -> EventQueue<T> {
        EventQueue { order: BinaryHeap::new(), events: BTreeMap::new(), next: 0 }
    }

    pub(crate) fn push(&mut self, at: Duration, event: T) {
        self.order.push(Reverse((at, self.next)));
        self.events.insert(self.next, event);
        self.next += 1;
    }

    /// When the next event is.
    pub(crate) fn next_at(&self) -> Option<Duration> {
        self.order.peek().map(|Reverse((at, _))| *at)
    }

    pub(crate) fn pop(&mut self) -> Option<(Duration, T)> {
        let Reverse((at, sequence)) = self.order.pop()?;
        let event = self.events.remove(&sequence).expect("queued under its sequence");
        Some((at, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_one_instant_keep_their_order() {
        let mut queue = EventQueue::new();
        for (at, event) in [(5, 'c'), (1, 'a'), (5, 'd'), (1, 'b'), (9, 'e')] {
            queue.push(Duration::from_millis(at), event);
        }
        let order: String = std::iter::from_fn(|| queue.pop()).map(|(_, event)| event).collect();
        assert_eq!(order, "abcde");
    }
}
