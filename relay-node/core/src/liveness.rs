//! Whether a link is alive, judged by authenticated datagrams alone.
//!
//! Heartbeats come at most 30 times a second while either side needs the link watched closely, once a second otherwise.
//! What counts as silence follows from that: closely watched, 100 ms make a link suspect and 1 s takes it down (bursts of
//! loss look like the former dozens of times an hour, hence two steps); otherwise 2.5 s and 3.5 s. A link that was down
//! is up again after it has been heard for 500 ms without a pause.

use std::time::Duration;
use wire_format::Timestamp;
use wire_format::control::LinkState;

/// Distance of heartbeats on a link watched closely.
pub(crate) const HEARTBEAT_CLOSE: Duration = Duration::from_millis(33);
/// Distance of heartbeats otherwise.
pub(crate) const HEARTBEAT_IDLE: Duration = Duration::from_secs(1);
const SUSPECT_CLOSE: Duration = Duration::from_millis(100);
const DOWN_CLOSE: Duration = Duration::from_secs(1);
const SUSPECT_IDLE: Duration = Duration::from_millis(2500);
const DOWN_IDLE: Duration = Duration::from_millis(3500);
/// The other side learns within this that the link is to be watched closely.
const CLOSE_GRACE: Duration = Duration::from_millis(400);
/// Hearing without a pause before a link that was down is up.
const HOLD_DOWN: Duration = Duration::from_millis(500);
/// A link silent for so long is given up; whoever dials it starts anew.
const GIVE_UP: Duration = Duration::from_secs(4);

/// State of one link.
#[derive(Debug)]
pub(crate) struct Liveness {
    state: LinkState,
    made_at: Timestamp,
    heard: Option<Timestamp>,
    /// Begin of the present run of hearing.
    heard_since: Option<Timestamp>,
    close_since: Option<Timestamp>,
}

impl Liveness {
    /// A link that has just been made: down until the first datagram.
    pub(crate) fn new(now: Timestamp) -> Liveness {
        Liveness { state: LinkState::Down, made_at: now, heard: None, heard_since: None, close_since: None }
    }

    pub(crate) fn state(&self) -> LinkState {
        self.state
    }

    /// An authenticated datagram came. `true` if that changed the state.
    pub(crate) fn heard(&mut self, now: Timestamp) -> bool {
        let first = self.heard.is_none();
        self.heard = Some(now);
        if self.state == LinkState::Up {
            return false;
        }
        let since = *self.heard_since.get_or_insert(now);
        let up = match self.state {
            LinkState::Up => false,
            LinkState::Suspect => true,
            LinkState::Down => first || now.since(since) >= HOLD_DOWN,
        };
        if up {
            self.state = LinkState::Up;
        }
        up
    }

    /// Sets whether the link is to be watched closely.
    pub(crate) fn watch_closely(&mut self, now: Timestamp, close: bool) {
        if !close {
            self.close_since = None;
        } else if self.close_since.is_none() {
            self.close_since = Some(now);
        }
    }

    /// Judges silence. `true` if that changed the state.
    pub(crate) fn check(&mut self, now: Timestamp) -> bool {
        let (suspect_at, down_at) = self.deadlines();
        if now >= suspect_at {
            self.heard_since = None;
        }
        let state = if now >= down_at {
            LinkState::Down
        } else if now >= suspect_at && self.state == LinkState::Up {
            LinkState::Suspect
        } else {
            self.state
        };
        std::mem::replace(&mut self.state, state) != state
    }

    /// When [`Liveness::check`] may next find something.
    pub(crate) fn next_check(&self, now: Timestamp) -> Timestamp {
        let (suspect_at, down_at) = self.deadlines();
        [suspect_at, down_at, self.give_up_at()]
            .into_iter()
            .find(|at| *at > now)
            .unwrap_or(now + HEARTBEAT_IDLE)
    }

    /// The link has been silent for so long that it should be closed.
    pub(crate) fn is_hopeless(&self, now: Timestamp) -> bool {
        now >= self.give_up_at()
    }

    fn give_up_at(&self) -> Timestamp {
        self.heard.unwrap_or(self.made_at) + GIVE_UP
    }

    fn deadlines(&self) -> (Timestamp, Timestamp) {
        let heard = self.heard.unwrap_or(self.made_at);
        match self.close_since {
            Some(since) => {
                let silent_since = heard.max(since + CLOSE_GRACE);
                (silent_since + SUSPECT_CLOSE, silent_since + DOWN_CLOSE)
            }
            None => (heard + SUSPECT_IDLE, heard + DOWN_IDLE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_micros(ms * 1000)
    }

    #[test]
    fn silence_makes_suspect_then_down_and_hearing_brings_back_after_a_hold_down() {
        let mut link = Liveness::new(at(0));
        assert_eq!(link.state(), LinkState::Down);
        link.watch_closely(at(0), true);
        assert!(link.heard(at(10)));
        for ms in (500..1000).step_by(33) {
            assert!(!link.heard(at(ms)) && !link.check(at(ms)));
        }
        assert_eq!(link.next_check(at(995)), at(1095));
        assert!(link.check(at(1095)));
        assert_eq!(link.state(), LinkState::Suspect);
        assert!(link.check(at(1995)));
        assert_eq!(link.state(), LinkState::Down);
        let mut ms = 3000;
        while !link.heard(at(ms)) {
            assert!(!link.check(at(ms)));
            ms += 33;
        }
        assert!((3500..3600).contains(&ms), "{ms}");
    }

    #[test]
    fn a_link_that_was_idle_is_not_suspected_the_moment_it_is_needed() {
        let mut link = Liveness::new(at(0));
        link.heard(at(0));
        link.watch_closely(at(900), true);
        assert!(!link.check(at(1000)));
        assert_eq!(link.next_check(at(1000)), at(1400));
    }

    #[test]
    fn a_link_that_never_speaks_is_given_up() {
        let link = Liveness::new(at(0));
        assert!(!link.is_hopeless(at(3999)));
        assert!(link.is_hopeless(at(4000)));
    }
}
