//! Where long computations are done: here, or on threads of the process around the core.

use std::ops::Range;

/// A piece of work that asks for nothing but to be run once.
pub type Work<'a> = Box<dyn FnOnce() + Send + 'a>;

/// How pieces of a computation are run. A core spawns nothing: the process around it says how many processors it has for
/// them, and runs the pieces in whatever order before it returns. What comes of them is put together in a fixed order, so that all
/// executors give the same.
#[derive(Clone, Copy, Debug)]
pub struct Executor {
    processors: usize,
    /// Fewer relays than this are not worth being split.
    split_from: usize,
    run: for<'a> fn(usize, Vec<Work<'a>>),
}

/// From so many relays on, several processors are worth their while.
const SPLIT_FROM: usize = 256;
/// So many pieces are made for each processor: whichever is done early takes another.
const PIECES_EACH: usize = 4;

impl Executor {
    /// Everything at once, by whoever asks.
    pub const INLINE: Executor = Executor {
        processors: 1,
        split_from: usize::MAX,
        run: |_, pieces| pieces.into_iter().for_each(|piece| piece()),
    };

    /// Long computations are given to `run` in pieces, a few for each processor, together with the number of those.
    /// It returns when all pieces have been run.
    #[must_use]
    pub fn new(processors: usize, run: for<'a> fn(usize, Vec<Work<'a>>)) -> Executor {
        Executor { processors, split_from: SPLIT_FROM, run }
    }

    /// The last piece first, however small the overlay is.
    #[cfg(test)]
    pub(crate) fn backwards() -> Executor {
        let run: for<'a> fn(usize, Vec<Work<'a>>) =
            |_, pieces| pieces.into_iter().rev().for_each(|piece| piece());
        Executor { split_from: 0, ..Executor::new(2, run) }
    }

    /// What `work` gives for all of `0..count`, range by range, in their order.
    ///
    /// # Panics
    ///
    /// When the executor did not run a piece.
    pub(crate) fn map<T: Send>(self, count: usize, work: impl Fn(Range<usize>) -> T + Sync) -> Vec<T> {
        let pieces = (self.processors * PIECES_EACH).min(count);
        if count < self.split_from || self.processors <= 1 || pieces <= 1 {
            return vec![work(0..count)];
        }
        let mut done: Vec<Option<T>> = (0..pieces).map(|_| None).collect();
        let work = &work;
        let all = done.iter_mut().enumerate().map(|(number, done)| {
            let range = number * count / pieces..(number + 1) * count / pieces;
            Box::new(move || *done = Some(work(range))) as Work<'_>
        });
        (self.run)(self.processors, all.collect());
        done.into_iter().map(|done| done.expect("an executor runs every piece")).collect()
    }
}
