//! Runs at the same time that know nothing of each other.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What `run` makes of each number below `count`, in their order, on `jobs` threads. The result does not depend on `jobs`.
pub(crate) fn run_all<R: Send>(count: usize, jobs: usize, run: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, count.max(1)) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let result = run(number);
                    results.lock().expect("nobody panics while holding it").push((number, result));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("nobody panics while holding it");
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::run_all;

    #[test]
    fn results_are_in_order_whoever_made_them() {
        for jobs in [0, 1, 7] {
            assert_eq!(run_all(100, jobs, |number| number * 2), (0..200).step_by(2).collect::<Vec<_>>());
        }
        assert_eq!(run_all(0, 3, |number| number), [0; 0]);
    }
}
