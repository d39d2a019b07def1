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
    /// `has_work` says otherwise once the flag is up. Says which are readable. Without `socket` that is not looked at: one
    /// that fails is always ready to say so.
    pub(crate) fn sleep(
        &self,
        socket: Option<&impl AsFd>,
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
        let event = || PollFd::new(&self.event, PollFlags::IN);
        // The last place is the socket's; without it the event stands there again and is not looked at.
        let mut fds = [
            event(),
            PollFd::new(plain, PollFlags::IN),
            socket.map_or_else(event, |socket| PollFd::new(socket, PollFlags::IN)),
        ];
        let looked_at = if socket.is_some() { 3 } else { 2 };
        let result = match poll(&mut fds[..looked_at], timeout.as_ref()) {
            Ok(_) => {
                Ok(Readable { socket: !fds[2].revents().is_empty(), plain: !fds[1].revents().is_empty() })
            }
            Err(rustix::io::Errno::INTR) => Ok(Readable { socket: false, plain: false }),
            Err(error) => Err(error.into()),
        };
        let rung = !fds[0].revents().is_empty();
        self.sleeping.store(false, Ordering::SeqCst);
        if rung {
            let mut count = [0; 8];
            // Empties the counter; nothing to do if another wake-up has already done so.
            let _ = rustix::io::read(&self.event, &mut count);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn a_socket_that_is_left_out_wakes_nobody() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.send_to(b"there", socket.local_addr().expect("bound")).expect("sent");
        let (wake, plain) = (Wake::new().expect("a descriptor"), Wake::new().expect("a descriptor"));
        let moment = Some(Duration::from_millis(1));
        let sleep = |socket| wake.sleep(socket, &plain.event, moment, || false).expect("polled");
        assert_eq!(sleep(Some(&socket)), Readable { socket: true, plain: false });
        assert_eq!(sleep(None), Readable { socket: false, plain: false });
    }
}
