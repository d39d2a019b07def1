//! The queue of a search: who is nearest comes first, and what is pushed is never nearer than what came last.
//!
//! Distances fall into buckets of equal width, and only the bucket whose turn it is is put in order (Dial's implementation
//! of Dijkstra's algorithm with the exact order of a heap, after Denardo and Fox, "Shortest-route methods", 1979). A few
//! relays are in each, where a heap would hold hundreds.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// How many buckets lie ahead; what is further away waits unordered.
const BUCKETS: usize = 512;
/// So many buckets are as wide as a link costs on average.
const BUCKETS_PER_LINK: u64 = 64;

/// Relays by distance.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    /// Distances are this many bits longer than numbers of buckets.
    shift: u32,
    /// The bucket whose turn it is, in order.
    now: BinaryHeap<Reverse<(u64, u32)>>,
    ahead: Vec<Vec<(u64, u32)>>,
    /// How many are in `ahead`.
    waiting: usize,
    /// Number of the first bucket of `ahead`, and of the one whose turn it is.
    first: u64,
    turn: u64,
    beyond: Vec<(u64, u32)>,
}

impl Queue {
    /// An empty one for a graph whose links cost this on average.
    pub(super) fn new(mean_us: u64) -> Queue {
        Queue {
            shift: (mean_us / BUCKETS_PER_LINK + 1).next_power_of_two().trailing_zeros(),
            now: BinaryHeap::new(),
            ahead: vec![Vec::new(); BUCKETS],
            waiting: 0,
            first: 0,
            turn: 0,
            beyond: Vec::new(),
        }
    }

    /// An empty one that is a single bucket: a heap.
    pub(super) fn plain() -> Queue {
        Queue { shift: u64::BITS - 1, ahead: Vec::new(), ..Queue::new(0) }
    }

    /// Adds one. It may be added again when it turns out to be nearer; whoever pops it knows.
    pub(super) fn push(&mut self, distance_us: u64, place: u32) {
        let bucket = distance_us >> self.shift;
        if bucket <= self.turn {
            self.now.push(Reverse((distance_us, place)));
        } else if bucket - self.first < BUCKETS as u64 {
            self.ahead[(bucket - self.first) as usize].push((distance_us, place));
            self.waiting += 1;
        } else {
            self.beyond.push((distance_us, place));
        }
    }

    /// The nearest one; of several the one with the lowest place. Empty, the queue is as new.
    pub(super) fn pop(&mut self) -> Option<(u64, u32)> {
        while self.now.is_empty() {
            if self.waiting == 0 && !self.advance() {
                (self.first, self.turn) = (0, 0);
                return None;
            }
            while self.waiting > 0 && self.now.is_empty() {
                let bucket = &mut self.ahead[(self.turn - self.first) as usize];
                self.waiting -= bucket.len();
                self.now.extend(bucket.drain(..).map(Reverse));
                self.turn += u64::from(self.now.is_empty());
            }
        }
        self.now.pop().map(|Reverse(nearest)| nearest)
    }

    /// Begins anew with the nearest of those that are beyond; false if nobody is.
    fn advance(&mut self) -> bool {
        let Some(nearest_us) = self.beyond.iter().map(|waiting| waiting.0).min() else { return false };
        self.first = nearest_us >> self.shift;
        self.turn = self.first;
        for (distance_us, place) in std::mem::take(&mut self.beyond) {
            self.push(distance_us, place);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the distances are, and however wide the buckets: what comes out is what a heap would give.
        #[test]
        fn comes_out_as_from_a_heap(
            mean_us in 0..1_000_000_u64,
            steps in proptest::collection::vec((0..44_u32, any::<u64>(), 0..4_usize), 1..200),
        ) {
            let mut queue = Queue::new(mean_us);
            let mut plain = Queue::plain();
            for _ in 0..2 {
                let (mut heap, mut last_us) = (BinaryHeap::new(), 0);
                for (place, (bits, random, pops)) in (0..).zip(&steps) {
                    let distance_us = last_us + (random & ((1 << bits) - 1));
                    queue.push(distance_us, place);
                    plain.push(distance_us, place);
                    heap.push(Reverse((distance_us, place)));
                    for _ in 0..*pops {
                        let expected = heap.pop().map(|Reverse(nearest)| nearest);
                        prop_assert_eq!((queue.pop(), plain.pop()), (expected, expected));
                        last_us = expected.map_or(0, |nearest| nearest.0);
                    }
                }
                while let Some(Reverse(nearest)) = heap.pop() {
                    prop_assert_eq!((queue.pop(), plain.pop()), (Some(nearest), Some(nearest)));
                }
                prop_assert_eq!(queue.pop(), None);
            }
        }
    }
}
