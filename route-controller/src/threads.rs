//! Threads for the core's long computations. They live as long as one of them: routes of a large overlay take seconds, and
//! starting a thread takes some microseconds.

use route_core::{Executor, Work};
use std::num::NonZero;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// More would hardly be quicker.
const THREADS_MAX: usize = 16;

/// Runs the core's long computations on as many threads as there are processors for this process.
#[must_use]
pub fn on_all_processors() -> Executor {
    on_threads(thread::available_parallelism().map_or(1, NonZero::get))
}

/// The same on so many threads, 16 at most.
#[must_use]
pub fn on_threads(threads: usize) -> Executor {
    if threads <= 1 { Executor::INLINE } else { Executor::new(threads.min(THREADS_MAX), run) }
}

fn run(threads: usize, pieces: Vec<Work<'_>>) {
    let pieces = Mutex::new(pieces.into_iter());
    // Nothing that could panic happens under the lock.
    let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some(piece) = next() {
            piece();
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use route_core::Overlay;
    use wire_format::{NodeIndex, Plane};

    #[test]
    fn threads_give_the_routes_that_one_gives() {
        let count = 300_u16;
        let ends = |at: u16, step: u16| (NodeIndex(at), NodeIndex((at + step) % count));
        let links = (0..count).flat_map(|at| [1, 7, 40].map(|step| (at, step))).flat_map(|(at, step)| {
            let ((from, to), cost_us) = (ends(at, step), 1_000 + u64::from(at * 131 % 977));
            [(from, to, cost_us), (to, from, cost_us + 5)]
        });
        let overlay = |executor| {
            let mut overlay = Overlay::new(count, links.clone()).with_executor(executor);
            overlay.compute();
            let (from, to) = ends(3, 7);
            overlay.set_link(from, to, None);
            overlay.update();
            overlay
        };
        let (one, many) = (overlay(Executor::INLINE), overlay(on_threads(3)));
        let mut rows = 0;
        for (from, to, plane) in (0..count)
            .flat_map(|from| (0..count).map(move |to| (from, to)))
            .flat_map(|(from, to)| (0..3).map(move |plane| (NodeIndex(from), NodeIndex(to), Plane(plane))))
        {
            assert_eq!(one.next_hop(from, plane, to), many.next_hop(from, plane, to), "{from:?} to {to:?}");
            rows += usize::from(one.next_hop(from, plane, to).is_some());
        }
        assert_eq!(rows, 3 * usize::from(count) * usize::from(count - 1));
    }
}
