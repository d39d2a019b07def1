//! Whether a link is alive, judged by authenticated datagrams alone.
//!
//! Heartbeats come at most 30 times a second while either side needs the link watched closely, once a second otherwise.
//! What counts as silence follows from that: closely watched, 100 ms make a link suspect and 1 s takes it down (bursts of
//! loss look like the former dozens of times an hour, hence two steps); otherwise 2.5 s and 3.5 s. A link that was down
//! is up again after it has been heard for 500 ms without a pause.
//!
//! A path may fail in one direction only. A neighbour that is heard but does not hear shows in its heartbeats, which name
//! the highest number that it has received: when they keep coming and stay behind what was sent a round trip and 100 ms
//! ago, the link is **deaf**: as good as silent for routes, while reports leave it to the other end to say so.
//!
//! Whoever was held up himself has heard nothing either, and what came meanwhile waits to be read: silence that is
//! noticed late counts from a moment later.
//!
//! A link that is down and heard again is a last resort meanwhile: it may be the only one that carries anything.
//!
//! Routes ask for more than a link that is up: they return to one that was suspect only after a hold-down, 500 ms of
//! hearing without a pause. A link that fails again soon after it was trusted has to be heard twice as long the next
//! time, up to 8 s, so that a row of bursts moves routes to and fro a few times and not for as long as it lasts.

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
/// A link that was doubted again before this has passed since it was trusted must be heard twice as long.
const STEADY: Duration = Duration::from_secs(10);
/// The longest hold-down.
const HOLD_DOWN_MAX: Duration = Duration::from_secs(8);
/// Closely watched links are looked at more often than this, unless this process is held up.
const HELD_UP: Duration = Duration::from_millis(60);
/// Time to read what came while it was.
const EXCUSED: Duration = Duration::from_millis(20);
/// A link silent for so long is given up; whoever dials it starts anew.
const GIVE_UP: Duration = Duration::from_secs(4);

/// What routes may expect of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trust {
    /// It is up and has been for long enough.
    Firm,
    /// It is up, but its hold-down is not over: good enough for those that have nothing better.
    Fresh,
    /// It was down and is heard again, a moment ago: better than silence.
    Heard,
    /// It is silent, or deaf.
    None,
}

/// What hearing a datagram changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Change {
    /// The state is another.
    pub(crate) state: bool,
    /// Routes may expect more.
    pub(crate) trust: bool,
}

/// State of one link.
#[derive(Debug)]
pub(crate) struct Liveness {
    state: LinkState,
    made_at: Timestamp,
    heard: Option<Timestamp>,
    /// Begin of the present run of hearing.
    heard_since: Option<Timestamp>,
    close_since: Option<Timestamp>,
    /// Since when routes have relied on it; `None` while it is doubted.
    firm_since: Option<Timestamp>,
    hold_down: Duration,
    /// It is heard and does not hear.
    deaf: bool,
    checked_at: Timestamp,
    excused_until: Timestamp,
}

impl Liveness {
    /// A link that has just been made: down until the first datagram.
    pub(crate) fn new(now: Timestamp) -> Liveness {
        Liveness {
            state: LinkState::Down,
            made_at: now,
            heard: None,
            heard_since: None,
            close_since: None,
            firm_since: None,
            hold_down: HOLD_DOWN,
            deaf: false,
            checked_at: now,
            excused_until: now,
        }
    }

    /// Takes the place of another link to the same neighbour, with whom a handshake has just succeeded: it is believed as
    /// much as that one was, until it is silent itself. Otherwise every link that is dialled anew would look like one
    /// that fails.
    pub(crate) fn succeed(&mut self, now: Timestamp, before: &Liveness) {
        if before.state == LinkState::Up && !before.deaf {
            self.state = LinkState::Up;
            self.heard_since = Some(now);
            self.firm_since = before.firm_since;
            self.hold_down = before.hold_down;
        }
    }

    pub(crate) fn state(&self) -> LinkState {
        self.state
    }

    pub(crate) fn trust(&self) -> Trust {
        match self.state {
            LinkState::Up | LinkState::Down if self.deaf => Trust::None,
            LinkState::Up if self.firm_since.is_some() => Trust::Firm,
            LinkState::Up => Trust::Fresh,
            LinkState::Down if self.heard_since.is_some() => Trust::Heard,
            LinkState::Suspect | LinkState::Down => Trust::None,
        }
    }

    /// An authenticated datagram came.
    pub(crate) fn heard(&mut self, now: Timestamp) -> Change {
        let first = self.heard.is_none();
        self.heard = Some(now);
        if self.state == LinkState::Up {
            return Change::default();
        }
        let trusted = self.trust();
        let since = *self.heard_since.get_or_insert(now);
        let up = match self.state {
            LinkState::Up => false,
            LinkState::Suspect => true,
            LinkState::Down => first || now.since(since) >= HOLD_DOWN,
        };
        if up {
            self.state = LinkState::Up;
            if first {
                // Nothing speaks against a link that has never been silent.
                self.firm_since = Some(now);
            }
        }
        Change { state: up, trust: self.trust() != trusted }
    }

    /// The other end said what it has received, and whether that includes what was sent a round trip ago (`reached`) or
    /// not even what was sent `behind` before that.
    pub(crate) fn reported(&mut self, now: Timestamp, reached: bool, behind: Duration) {
        if reached {
            if std::mem::take(&mut self.deaf) {
                self.heard_since = Some(now);
            }
        } else if behind >= SUSPECT_CLOSE && self.has_been_close(now) {
            self.deaf = true;
            self.doubt(now);
        }
    }

    /// The other end has known for long enough that the link is watched closely.
    fn has_been_close(&self, now: Timestamp) -> bool {
        self.close_since.is_some_and(|since| now.since(since) >= CLOSE_GRACE)
    }

    /// Routes leave the link, if they relied on it.
    fn doubt(&mut self, now: Timestamp) {
        if let Some(since) = self.firm_since.take() {
            let unsteady = now.since(since) < STEADY;
            self.hold_down = if unsteady { (self.hold_down * 2).min(HOLD_DOWN_MAX) } else { HOLD_DOWN };
        }
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
        if self.close_since.is_some() && now.since(self.checked_at) > HELD_UP {
            self.excused_until = now + EXCUSED;
        }
        self.checked_at = now;
        let (suspect_at, down_at) = self.deadlines();
        if now >= suspect_at {
            self.heard_since = None;
            self.doubt(now);
        } else if self.firm_at().is_some_and(|at| now >= at) {
            self.firm_since = Some(now);
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
        [Some(suspect_at), Some(down_at), Some(self.give_up_at()), self.firm_at()]
            .into_iter()
            .flatten()
            .filter(|at| *at > now)
            .min()
            .unwrap_or(now + HEARTBEAT_IDLE)
    }

    /// When the hold-down of a link that is up ends.
    fn firm_at(&self) -> Option<Timestamp> {
        let waits = self.state == LinkState::Up && !self.deaf && self.firm_since.is_none();
        self.heard_since.filter(|_| waits).map(|since| since + self.hold_down)
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
                let suspect_at = (silent_since + SUSPECT_CLOSE).max(self.excused_until);
                (suspect_at, (silent_since + DOWN_CLOSE).max(self.excused_until))
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
        assert!(link.heard(at(10)).state);
        for ms in (500..1000).step_by(33) {
            assert!(!link.heard(at(ms)).state && !link.check(at(ms)));
        }
        assert_eq!(link.next_check(at(995)), at(1095));
        assert_eq!(changes(&mut link, 996, 1995), [(1095, LinkState::Suspect), (1995, LinkState::Down)]);
        let mut ms = 3000;
        while !link.heard(at(ms)).state {
            assert!(!link.check(at(ms)));
            ms += 33;
        }
        assert!((3500..3600).contains(&ms), "{ms}");
    }

    /// Looks at a silent link every ms; when, and to what, its state changed.
    fn changes(link: &mut Liveness, from: u64, through: u64) -> Vec<(u64, LinkState)> {
        let mut changes = Vec::new();
        for ms in from..=through {
            if link.check(at(ms)) {
                changes.push((ms, link.state()));
            }
        }
        changes
    }

    #[test]
    fn a_process_that_was_held_up_reads_what_came_before_it_judges() {
        let mut link = Liveness::new(at(0));
        link.watch_closely(at(0), true);
        link.heard(at(500));
        assert!(!link.check(at(533)));
        assert!(!link.check(at(900)), "held up for 367 ms");
        assert_eq!(link.next_check(at(900)), at(920));
        link.heard(at(901));
        assert_eq!(changes(&mut link, 901, 1020), [(1001, LinkState::Suspect)]);
        let mut silent = Liveness::new(at(0));
        silent.watch_closely(at(0), true);
        silent.heard(at(500));
        silent.check(at(533));
        assert_eq!(changes(&mut silent, 900, 1000), [(920, LinkState::Suspect)]);
    }

    #[test]
    fn a_neighbour_that_is_heard_and_does_not_hear_is_left_until_it_hears_again() {
        let mut link = Liveness::new(at(0));
        let behind = Duration::from_millis;
        link.heard(at(0));
        link.reported(at(10), false, behind(400));
        assert_eq!(link.trust(), Trust::Firm, "not watched closely: heartbeats are rare");
        link.watch_closely(at(20), true);
        for ms in (20..2000).step_by(20) {
            link.heard(at(ms));
            link.check(at(ms));
            link.reported(at(ms), ms < 1000, behind(ms.saturating_sub(1000)));
            let expected = if ms < 1100 { Trust::Firm } else { Trust::None };
            assert_eq!((ms, link.trust(), link.state()), (ms, expected, LinkState::Up));
        }
        link.reported(at(2000), true, behind(0));
        assert_eq!(link.trust(), Trust::Fresh);
        for ms in (2000..3000).step_by(20) {
            link.heard(at(ms));
            link.check(at(ms));
        }
        assert_eq!(link.next_check(at(2990)), at(3000), "twice 500 ms: it had not been steady for 10 s");
        link.check(at(3000));
        assert_eq!(link.trust(), Trust::Firm);
    }

    #[test]
    fn a_link_that_was_down_is_worth_something_as_soon_as_both_ends_hear_again() {
        let mut link = Liveness::new(at(0));
        link.watch_closely(at(0), true);
        link.heard(at(10));
        assert_eq!(changes(&mut link, 500, 3000).len(), 2);
        assert_eq!(link.trust(), Trust::None, "down");
        assert_eq!(link.heard(at(3010)), Change { state: false, trust: true });
        assert_eq!(link.trust(), Trust::Heard);
        // What the other end says first is from before it was cut off.
        link.reported(at(3010), false, Duration::from_millis(2000));
        assert_eq!(link.trust(), Trust::None, "it is heard and does not hear");
        link.heard(at(3043));
        link.reported(at(3043), true, Duration::ZERO);
        assert_eq!(link.trust(), Trust::Heard);
        assert_eq!(changes(&mut link, 3044, 3142), [], "still down, until it was heard for long enough");
        assert_eq!(link.trust(), Trust::Heard);
        link.check(at(3143));
        assert_eq!(link.trust(), Trust::None, "silent again");
    }

    /// Heard every 33 ms from `from` until `until`, both in ms, then silent until it is suspect. Returns how long after
    /// `from` it was firm.
    fn hear_then_fall_silent(link: &mut Liveness, from: u64, until: u64) -> u64 {
        let mut firm_after = None;
        for ms in (from..until).step_by(33) {
            link.heard(at(ms));
            link.check(at(ms));
            if link.trust() == Trust::Firm {
                firm_after.get_or_insert(ms - from);
            }
        }
        assert_eq!(changes(link, until, until + 100).len(), 1);
        assert_eq!(link.trust(), Trust::None);
        firm_after.expect("heard for longer than its hold-down")
    }

    #[test]
    fn a_link_that_was_suspect_is_trusted_after_a_hold_down_that_grows_while_it_keeps_failing() {
        let mut link = Liveness::new(at(0));
        link.watch_closely(at(0), true);
        assert_eq!(hear_then_fall_silent(&mut link, 1000, 2000), 0, "a new link is trusted at once");
        assert!(link.heard(at(3000)).state);
        assert_eq!(link.trust(), Trust::Fresh);
        let mut held = Vec::new();
        for round in 0..8 {
            held.push(hear_then_fall_silent(&mut link, 20_000 * round + 3000, 20_000 * round + 12_000));
        }
        let steps = [990..1030, 1980..2030, 3990..4030, 7980..8030, 7980..8030];
        assert!(held.iter().zip(&steps).all(|(held, step)| step.contains(held)), "{held:?}");
        hear_then_fall_silent(&mut link, 200_000, 230_000);
        let calm = hear_then_fall_silent(&mut link, 240_000, 260_000);
        assert!((495..530).contains(&calm), "long trusted, so doubted for the shortest time: {calm}");
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
    fn a_link_that_takes_the_place_of_a_good_one_is_good_until_it_is_silent() {
        let mut before = Liveness::new(at(0));
        before.watch_closely(at(0), true);
        before.heard(at(900));
        let mut link = Liveness::new(at(1000));
        link.watch_closely(at(1000), true);
        link.succeed(at(1000), &before);
        assert_eq!((link.state(), link.trust()), (LinkState::Up, Trust::Firm));
        assert_eq!(changes(&mut link, 1001, 1499), []);
        assert_eq!(changes(&mut link, 1500, 2400), [(1500, LinkState::Suspect), (2400, LinkState::Down)]);
        let mut another = Liveness::new(at(2500));
        another.succeed(at(2500), &link);
        assert_eq!(another.state(), LinkState::Down, "as the one before");
    }

    #[test]
    fn a_link_that_never_speaks_is_given_up() {
        let link = Liveness::new(at(0));
        assert!(!link.is_hopeless(at(3999)));
        assert!(link.is_hopeless(at(4000)));
    }
}
