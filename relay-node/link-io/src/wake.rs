//! Waking the worker from other threads, at the cost of a system call only when it sleeps.

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Duration;

/// An event file descriptor and whether anyone needs to write to it.
#[derive(Debug)]
pub(crate) struct Wake {
    event: OwnedFd,
    sleeping: AtomicBool,
}

/// What may be read without waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Readable {
    /// The relay port.
    pub(crate) socket: bool,
    /// A port of a plain registration.
    pub(crate) plain: bool,
}

impl Wake {
    pub(crate) fn new() -> io::Result<Wake> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Wake { event, sleeping: AtomicBool::new(false) })
    }

    /// Makes the worker look at its queues. Call after putting something there.
    pub(crate) fn wake(&self) {
        // Orders the caller's push before the look at the flag, as the worker orders its flag before its look at the
        // queues: at least one of the two sees the other.
        fence(Ordering::SeqCst);
        if self.sleeping.swap(false, Ordering::SeqCst) {
            // Fails only when the counter is at its maximum, and then the worker is woken anyway.
            let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        }
    }

    /// Sleeps until `socket` or one of the `plain` ones is readable, someone wakes us or `timeout` passes, unless
    /// `has_work` says otherwise once the flag is up. Says which are readable.
    pub(crate) fn sleep(
        &self,
        socket: &impl AsFd,
        plain: &impl AsFd,
        timeout: Option<Duration>,
        has_work: impl FnOnce() -> bool,
    ) -> io::Result<Readable> {
        self.sleeping.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let timeout = if has_work() { Some(Duration::ZERO) } else { timeout };
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        });
        let mut fds = [
            PollFd::new(socket, PollFlags::IN),
            PollFd::new(&self.event, PollFlags::IN),
            PollFd::new(plain, PollFlags::IN),
        ];
        let result = match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {
                Ok(Readable { socket: !fds[0].revents().is_empty(), plain: !fds[2].revents().is_empty() })
            }
            Err(rustix::io::Errno::INTR) => Ok(Readable { socket: false, plain: false }),
            Err(error) => Err(error.into()),
        };
        let rung = !fds[1].revents().is_empty();
        self.sleeping.store(false, Ordering::SeqCst);
        if rung {
            let mut count = [0; 8];
            // Empties the counter; nothing to do if another wake-up has already done so.
            let _ = rustix::io::read(&self.event, &mut count);
        }
        result
    }
}
