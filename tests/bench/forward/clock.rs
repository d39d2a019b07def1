//! The processor time of a thread, and one clock for latencies across threads.

use std::fs;
use std::sync::OnceLock;
use std::time::Instant;

/// Time that the kernel has given to this process's threads of that name together, ns: all workers of a port are called
/// after the first, with a number behind.
///
/// # Panics
/// If there is no such thread.
pub fn threads_cpu_ns(name: &str) -> u64 {
    let mut found = Vec::new();
    for task in fs::read_dir("/proc/self/task").expect("Linux").flatten() {
        let called = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let is_it =
            called.trim().strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
        if is_it {
            let line = fs::read_to_string(task.path().join("schedstat")).expect("a running thread");
            let ns = line.split(' ').next().and_then(|ns| ns.parse::<u64>().ok());
            found.push(ns.expect("schedstat begins with a time"));
        }
    }
    assert!(!found.is_empty(), "no thread is called {name}");
    found.iter().sum()
}

/// Nanoseconds since the first call.
pub fn clock_ns() -> u64 {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    ORIGIN.get_or_init(Instant::now).elapsed().as_nanos() as u64
}
