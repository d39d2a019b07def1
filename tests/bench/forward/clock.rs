//! The processor time of a thread, and one clock for latencies across threads.

use std::fs;
use std::sync::OnceLock;
use std::time::Instant;

/// Time that the kernel has given to this process's thread of that name, ns.
///
/// # Panics
/// If there is no such thread.
pub fn thread_cpu_ns(name: &str) -> u64 {
    for task in fs::read_dir("/proc/self/task").expect("Linux").flatten() {
        let is_it = fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name);
        if is_it {
            let line = fs::read_to_string(task.path().join("schedstat")).expect("a running thread");
            return line
                .split(' ')
                .next()
                .and_then(|ns| ns.parse().ok())
                .expect("schedstat begins with a time");
        }
    }
    panic!("no thread is called {name}");
}

/// Nanoseconds since the first call.
pub fn clock_ns() -> u64 {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    ORIGIN.get_or_init(Instant::now).elapsed().as_nanos() as u64
}
