//! What to do when receiving fails. An ICMP error is reported once and means nothing to others: read on. A socket that
//! fails and fails is left alone for a while, so that a broken one costs some calls a second and not a core.

use std::time::Duration;
use wire_format::Timestamp;

/// Failures in a row that are taken for single ones.
const READ_ON_MAX: u32 = 64;
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Failures of one socket.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    in_row: u32,
    paused_until: Option<Timestamp>,
}

/// What comes of a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    /// The socket may have more.
    ReadOn,
    /// Not before the pause is over. `first`: it is the first of a row, worth a line in the log.
    Pause { first: bool },
}

impl Patience {
    /// Receiving did not fail.
    pub(crate) fn succeeded(&mut self) {
        self.in_row = 0;
    }

    pub(crate) fn failed(&mut self, now: Timestamp) -> Failure {
        self.in_row = self.in_row.saturating_add(1);
        let Some(pauses) = self.in_row.checked_sub(READ_ON_MAX) else { return Failure::ReadOn };
        let pause = PAUSE_MIN.saturating_mul(1 << pauses.min(16)).min(PAUSE_MAX);
        self.paused_until = Some(now + pause);
        Failure::Pause { first: pauses == 0 }
    }

    /// When the socket may be looked at again, if it is to be left alone now.
    pub(crate) fn paused_until(&mut self, now: Timestamp) -> Option<Timestamp> {
        self.paused_until = self.paused_until.filter(|until| now < *until);
        self.paused_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_always_fails_is_asked_some_times_a_second() {
        let mut patience = Patience::default();
        let (mut asked, mut lines) = (0, 0);
        for us in 0..10_000_000 {
            let now = Timestamp::from_micros(us);
            if patience.paused_until(now).is_none() {
                asked += 1;
                lines += u32::from(patience.failed(now) == Failure::Pause { first: true });
            }
        }
        assert_eq!(lines, 1, "said once");
        assert!((150..200).contains(&asked), "{asked} calls in ten seconds");
    }

    #[test]
    fn single_failures_are_read_over() {
        let mut patience = Patience::default();
        for us in 0..1_000 {
            let now = Timestamp::from_micros(us);
            for _ in 0..10 {
                assert_eq!(patience.failed(now), Failure::ReadOn);
            }
            assert_eq!(patience.paused_until(now), None);
            patience.succeeded();
        }
    }

    #[test]
    fn a_socket_that_recovers_is_as_good_as_new() {
        let mut patience = Patience::default();
        let now = Timestamp::from_micros(5);
        while patience.failed(now) == Failure::ReadOn {}
        assert!(patience.paused_until(now).is_some());
        let later = now + PAUSE_MAX;
        assert_eq!(patience.paused_until(later), None);
        patience.succeeded();
        assert_eq!(patience.failed(later), Failure::ReadOn);
    }
}
