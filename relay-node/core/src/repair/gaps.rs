//! What of the other direction is missing, and when to ask for it.
//!
//! A number that is passed over is missing from that moment. It is asked for as soon as it may not merely be late: at
//! once, unless this link has shown that it reorders; then after a quarter more than the latest datagram of the last half
//! minute was late (the idea of RACK, RFC 8985). A request names everything that is missing, so that the sender also sees
//! which of its repairs arrived. It is repeated a few times in quick succession, because requests get lost as well, and
//! then every round trip until what is missing is too old to be of use.
//!
//! A burst of loss shows only when it is over. So media is also expected: when none has come for longer than it ever was apart
//! of late, a request says so, and the sender takes for lost what should have come by then (the receiver's side of a tail
//! loss probe, RFC 8985 section 7).
//!
//! Requests and heartbeats have numbers, too, and nobody asks for them on purpose: where no media comes, nothing is asked for
//! until some does, and requests keep a distance, so that lost requests cannot call forth more of them without end.

use super::bursts::Bursts;
use crate::measure::MostOf;
use std::collections::VecDeque;
use std::time::Duration;
use wire_format::{PacketNumber, RepairRequest, Timestamp};

/// Numbers that are missing on one link at the same time.
pub(crate) const MISSING_MAX: usize = 1024;
/// Numbers known to have been restored, for the case that the original comes after all.
const RESTORED_MAX: usize = 1024;
/// However much a path reorders, a request leaves after this.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// How long the latest arrival is remembered, at least.
const REORDER_WINDOW: Duration = Duration::from_secs(30);
/// Bounds of the distance of the first requests for a number.
const REPEAT_MIN: Duration = Duration::from_millis(4);
const REPEAT_MAX: Duration = Duration::from_millis(10);
/// So many requests are sent in quick succession.
const QUICK: u8 = 16;
/// Media that comes less often than this is not expected.
const SILENCE_MAX: Duration = Duration::from_millis(100);
/// The longest distance of media is remembered for so long.
const DISTANCE_WINDOW: Duration = Duration::from_secs(2);
/// What is late by so much is missed.
const SILENCE_MARGIN: Duration = Duration::from_millis(2);
/// With time for fewer round trips than this, silence is told early.
const HURRIED_ROUNDS: u32 = 4;
/// Two requests are at least so far apart.
const APART: Duration = Duration::from_millis(3);
/// Without media for so long nothing is asked for ...
const MEDIA_OVER: Duration = Duration::from_secs(2);
/// ... before media comes.
const BEFORE_MEDIA: Timestamp = Timestamp::from_micros(u64::MAX);
/// Silence is told for so long: then media has stopped, or the link is cut.
const SILENCE_TOLD: Duration = Duration::from_millis(250);

#[derive(Clone, Copy, Debug)]
struct Missing {
    number: PacketNumber,
    noticed: Timestamp,
    /// When it is to be asked for; [`BEFORE_MEDIA`] if only media tells.
    due: Timestamp,
    asks: u8,
}

/// What a datagram is among those before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arrival {
    /// Newer than all before.
    New {
        /// Numbers before it are missing.
        gap: bool,
    },
    /// Older, and not there yet.
    Late,
    /// It was restored before it came.
    Restored,
}

/// The numbers of one direction of a link, seen by the receiver.
#[derive(Debug)]
pub(crate) struct Gaps {
    /// One more than the highest received.
    next: u64,
    /// Ascending.
    missing: VecDeque<Missing>,
    /// Numbers restored, and when they were missed; in the order of restoring.
    restored: VecDeque<(PacketNumber, Timestamp)>,
    lateness: MostOf,
    due: Option<Timestamp>,
    /// Something may be missing that is due when media comes.
    waits_for_media: bool,
    /// When media came last, with everything before it, and how far apart it was of late where nothing was missing.
    media_at: Option<Timestamp>,
    whole_at: Option<Timestamp>,
    distance: MostOf,
    asked_at: Option<Timestamp>,
    /// When silence is to be told.
    silent_at: Option<Timestamp>,
    /// The link loses, and there is time for few rounds: silence is told before it is certain.
    hurried: bool,
    /// Missing in all, whatever became of it.
    pub(crate) missed: u64,
    /// Of these, late by themselves.
    pub(crate) reordered: u64,
    /// Lengths of gaps.
    pub(crate) bursts: Bursts,
}

impl Gaps {
    pub(crate) fn new(now: Timestamp) -> Gaps {
        Gaps {
            next: 0,
            missing: VecDeque::new(),
            restored: VecDeque::new(),
            lateness: MostOf::new(now, REORDER_WINDOW),
            due: None,
            waits_for_media: false,
            media_at: None,
            whole_at: None,
            distance: MostOf::new(now, DISTANCE_WINDOW),
            asked_at: None,
            silent_at: None,
            hurried: false,
            missed: 0,
            reordered: 0,
            bursts: Bursts::new(),
        }
    }

    /// A datagram came.
    pub(crate) fn arrived(&mut self, now: Timestamp, number: PacketNumber) -> Arrival {
        if number.0 == self.next {
            self.next += 1;
            return Arrival::New { gap: false };
        }
        if number.0 > self.next {
            return self.passed_over(now, number);
        }
        if let Ok(place) = self.missing.binary_search_by_key(&number, |missing| missing.number)
            && let Some(missing) = self.missing.remove(place)
        {
            self.reordered += 1;
            self.lateness.sample(now, now.since(missing.noticed));
            return Arrival::Late;
        }
        match self.restored.iter().position(|(restored, _)| *restored == number) {
            Some(place) => {
                if let Some((_, noticed)) = self.restored.remove(place) {
                    self.reordered += 1;
                    self.lateness.sample(now, now.since(noticed));
                }
                Arrival::Restored
            }
            None => Arrival::Late,
        }
    }

    #[cold]
    fn passed_over(&mut self, now: Timestamp, number: PacketNumber) -> Arrival {
        let first_of_all = self.next == 0 && self.missed == 0;
        let count = number.0 - self.next;
        let from = number.0 - count.min(MISSING_MAX as u64);
        self.next = number.0.saturating_add(1);
        // What left before this end could open anything was not lost on the way.
        if first_of_all {
            return Arrival::New { gap: false };
        }
        self.missed += count;
        self.bursts.record(now, count);
        self.whole_at = None;
        let media_over = self.media_at.is_none_or(|at| now.since(at) > MEDIA_OVER);
        self.waits_for_media |= media_over;
        let due = if media_over { BEFORE_MEDIA } else { now + self.wait() };
        for number in from..number.0 {
            if self.missing.len() >= MISSING_MAX {
                self.missing.pop_front();
            }
            let number = PacketNumber(number);
            self.missing.push_back(Missing { number, noticed: now, due, asks: 0 });
        }
        if !media_over {
            self.due = Some(self.due.map_or(due, |before| before.min(due)));
        }
        Arrival::New { gap: true }
    }

    /// How long a number may be late before it is asked for.
    pub(crate) fn wait(&self) -> Duration {
        let latest = self.lateness.most();
        (latest + latest / 4).min(WAIT_MAX)
    }

    /// A missing datagram has been restored. `false` if it is not missing.
    pub(crate) fn restore(&mut self, number: PacketNumber) -> bool {
        let Ok(place) = self.missing.binary_search_by_key(&number, |missing| missing.number) else {
            return false;
        };
        if let Some(missing) = self.missing.remove(place) {
            if self.restored.len() >= RESTORED_MAX {
                self.restored.pop_front();
            }
            self.restored.push_back((number, missing.noticed));
        }
        true
    }

    /// The highest number received, 0 if none was.
    pub(crate) fn highest(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// Media came, in order or not, but not restored.
    pub(crate) fn media_came(&mut self, now: Timestamp) {
        if std::mem::take(&mut self.waits_for_media) {
            self.ask_for_what_waited(now);
        }
        // What comes in one wake-up comes at once.
        if self.media_at.replace(now) == Some(now) {
            self.whole_at.get_or_insert(now);
            return;
        }
        if let Some(before) = self.whole_at.replace(now) {
            self.distance.sample(now, now.since(before));
        }
        self.silent_at = self.patience().map(|patience| now + patience);
    }

    /// What is missing since media came last, or ever, may be media.
    #[cold]
    fn ask_for_what_waited(&mut self, now: Timestamp) {
        let due = now + self.wait();
        for missing in self.missing.iter_mut().filter(|missing| missing.due == BEFORE_MEDIA) {
            missing.due = due;
            self.due = Some(self.due.map_or(due, |before| before.min(due)));
        }
    }

    /// Sets how long round trips are, and how long what is missing is of use.
    pub(crate) fn hurry(&mut self, now: Timestamp, round_trip: Duration, useful_for: Duration) {
        self.hurried = self.bursts.seen_of_late(now) && useful_for < HURRIED_ROUNDS * round_trip;
    }

    /// How long silence lasts before it is told; `None` if media is not expected.
    fn patience(&self) -> Option<Duration> {
        let usual = self.distance.most();
        let patience = if self.hurried { usual / 2 } else { usual + usual / 8 };
        // On a path that reorders the next one may be late, like any that is passed over.
        (!usual.is_zero() && usual < SILENCE_MAX).then(|| patience + SILENCE_MARGIN + self.wait())
    }

    /// When a request is to be sent.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        let due = self.due.into_iter().chain(self.silent_at).min()?;
        Some(self.asked_at.map_or(due, |asked| due.max(asked + APART)))
    }

    /// Whether silence is to be told now; it is told again later.
    fn tell_silence(&mut self, now: Timestamp) -> bool {
        if self.silent_at.is_none_or(|at| at > now) {
            return false;
        }
        let goes_on = self.media_at.is_some_and(|at| now.since(at) < SILENCE_TOLD);
        let patience = self.patience().filter(|_| goes_on);
        self.silent_at = patience.map(|patience| now + (patience / 2).max(REPEAT_MIN));
        true
    }

    /// Writes the request that is due now; `None` if there is none. What was missed `useful_for` ago is given up.
    pub(crate) fn request(
        &mut self,
        now: Timestamp,
        round_trip: Duration,
        useful_for: Duration,
        out: &mut [u8],
    ) -> Option<usize> {
        if self.due().is_none_or(|due| due > now) {
            return None;
        }
        // Where no answer can come in time, one request says that it is lost, and more say nothing new.
        let may_be_answered = round_trip < useful_for;
        let silent = self.tell_silence(now) && may_be_answered;
        while self.missing.front().is_some_and(|missing| now.since(missing.noticed) > useful_for) {
            self.missing.pop_front();
        }
        let due_now = self.missing.iter().any(|missing| missing.due <= now);
        // Covered is everything below the first that may merely be late. What is missing above it is not known yet, so silence
        // is not told meanwhile: the sender would take for lost all that has come since.
        let early = self.missing.iter().find(|missing| missing.asks == 0 && missing.due > now);
        let silent = silent && early.is_none();
        let through = early.map_or(self.next, |missing| missing.number.0).checked_sub(1);
        let written = through.filter(|_| due_now || silent).map(|through| {
            let listed = self.missing.iter().rev().map(|missing| missing.number);
            let listed = listed.filter(|number| number.0 <= through);
            RepairRequest::encode(silent, PacketNumber(through), listed, out)
        });
        let quick = (useful_for.saturating_sub(round_trip) / 16).clamp(REPEAT_MIN, REPEAT_MAX);
        for missing in self.missing.iter_mut().filter(|missing| missing.due <= now) {
            missing.asks = missing.asks.saturating_add(1);
            let wait = match missing.asks {
                asks if asks < QUICK => quick,
                asks => round_trip.max(quick) * u32::from(asks - QUICK + 1),
            };
            let in_time = now.since(missing.noticed) + wait + round_trip < useful_for;
            missing.due = now + if may_be_answered && in_time { wait } else { useful_for };
        }
        self.due = self.missing.iter().map(|missing| missing.due).filter(|due| *due != BEFORE_MEDIA).min();
        if written.is_some() {
            self.asked_at = Some(now);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire_format::REQUEST_BYTES_MAX;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_micros(ms * 1000)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn asked(gaps: &mut Gaps, now: Timestamp) -> Option<Vec<u64>> {
        let mut out = [0; REQUEST_BYTES_MAX];
        let used = gaps.request(now, ms(40), ms(200), &mut out)?;
        let request = RepairRequest::decode(&out[..used]).expect("well-formed");
        let ranges = request.ranges(gaps.next);
        let mut numbers: Vec<u64> =
            ranges.flat_map(|range| range.first.0..range.first.0 + u64::from(range.count)).collect();
        numbers.sort_unstable();
        Some(numbers)
    }

    fn arrive(gaps: &mut Gaps, now: Timestamp, numbers: impl IntoIterator<Item = u64>) {
        gaps.media_at = Some(Timestamp::from_micros(now.as_micros().saturating_sub(1)));
        for number in numbers {
            let _ = gaps.arrived(now, PacketNumber(number));
        }
    }

    #[test]
    fn what_is_passed_over_is_asked_for_at_once_and_again_until_it_comes() {
        let mut gaps = Gaps::new(at(0));
        arrive(&mut gaps, at(0), [0, 1, 4]);
        assert_eq!(asked(&mut gaps, at(0)), Some(vec![2, 3]));
        assert_eq!(asked(&mut gaps, at(5)), None);
        assert_eq!(gaps.due(), Some(at(10)));
        assert_eq!(asked(&mut gaps, at(10)), Some(vec![2, 3]));
        assert!(gaps.restore(PacketNumber(2)) && !gaps.restore(PacketNumber(2)));
        for ms in (20..80).step_by(10) {
            assert_eq!(asked(&mut gaps, at(ms)), Some(vec![3]));
        }
        assert_eq!(gaps.due(), Some(at(80)));
        arrive(&mut gaps, at(75), [6]);
        assert_eq!(asked(&mut gaps, at(75)), Some(vec![3, 5]), "a request names all that is missing");
        assert_eq!(asked(&mut gaps, at(276)), None, "too late for both");
        assert_eq!(gaps.due(), None);
    }

    #[test]
    fn nothing_is_asked_for_that_cannot_come_in_time() {
        let mut gaps = Gaps::new(at(0));
        arrive(&mut gaps, at(0), [0, 2]);
        let asks: Vec<_> = (0..300).filter(|ms| asked(&mut gaps, at(*ms)).is_some()).collect();
        // A round trip takes 40 ms, and what is missing is of use for 200.
        assert_eq!(asks, (0..=150).step_by(10).collect::<Vec<_>>());
    }

    #[test]
    fn what_was_lost_before_media_came_is_asked_for_when_it_comes() {
        let mut gaps = Gaps::new(at(0));
        // A heartbeat a second, and one of them is lost.
        for (ms, number) in [(0, 0), (1000, 1), (3000, 3)] {
            let _ = gaps.arrived(at(ms), PacketNumber(number));
            assert_eq!(asked(&mut gaps, at(ms)), None);
        }
        // A burst of media of which the first are lost.
        assert_eq!(gaps.arrived(at(9000), PacketNumber(6)), Arrival::New { gap: true });
        assert_eq!(asked(&mut gaps, at(9000)), None, "perhaps a heartbeat");
        gaps.media_came(at(9000));
        assert_eq!(asked(&mut gaps, at(9000)), Some(vec![4, 5]));
        assert!(gaps.restore(PacketNumber(4)) && gaps.restore(PacketNumber(5)));
        assert!(!gaps.restore(PacketNumber(2)), "too old");
        // What is missing without media is bounded.
        for round in 1..100 {
            let _ = gaps.arrived(at(20_000 + round), PacketNumber(1000 * round));
        }
        assert!(gaps.missing.len() <= MISSING_MAX);
        assert_eq!(asked(&mut gaps, at(30_000)), None);
    }

    #[test]
    fn silence_where_media_is_expected_is_told() {
        let mut gaps = Gaps::new(at(0));
        for number in 0..100 {
            let now = at(number * 10);
            arrive(&mut gaps, now, [number]);
            gaps.media_came(now);
            assert_eq!(asked(&mut gaps, now), None);
        }
        let mut told = Vec::new();
        for ms in 990..2000 {
            told.extend(asked(&mut gaps, at(ms)).map(|missing| (ms - 990, missing)));
        }
        let expected = (14..=252).step_by(7).map(|ms| (ms, Vec::new()));
        assert_eq!(told, expected.collect::<Vec<_>>());
        assert_eq!(gaps.due(), None, "media has stopped");
    }

    #[test]
    fn a_link_that_reorders_is_given_time() {
        let mut gaps = Gaps::new(at(0));
        arrive(&mut gaps, at(0), [0, 2]);
        assert!(asked(&mut gaps, at(0)).is_some());
        assert_eq!(gaps.arrived(at(40), PacketNumber(1)), Arrival::Late);
        for round in 1..100 {
            let now = at(100 * round);
            arrive(&mut gaps, now, [2 * round + 2]);
            assert_eq!(asked(&mut gaps, now), None);
            assert_eq!(gaps.arrived(now + ms(40), PacketNumber(2 * round + 1)), Arrival::Late);
            assert_eq!(asked(&mut gaps, now + ms(50)), None);
        }
        assert_eq!((gaps.reordered, gaps.missed), (100, 100));
    }

    #[test]
    fn silence_on_a_path_that_reorders_may_be_lateness() {
        let mut gaps = Gaps::new(at(0));
        for number in 0..100 {
            let now = at(number * 4);
            match number {
                50 => continue,
                60 => assert_eq!(gaps.arrived(now, PacketNumber(50)), Arrival::Late),
                _ => {}
            }
            let _ = gaps.arrived(now, PacketNumber(number));
            gaps.media_came(now);
            // The gap itself is asked for until it is known how late datagrams may be.
            let _ = asked(&mut gaps, now);
        }
        assert_eq!(gaps.wait(), Duration::from_micros(45_000));
        // Usual are 8 ms at most since then, and the margin.
        let told = (396..1000).find(|ms| asked(&mut gaps, at(*ms)).is_some());
        assert_eq!(told, Some(396 + 7 + 45));
        assert_eq!(gaps.arrived(at(500), PacketNumber(101)), Arrival::New { gap: true });
        gaps.media_came(at(500));
        let told = (500..1000).find(|ms| asked(&mut gaps, at(*ms)).is_some());
        assert_eq!(
            told,
            Some(545),
            "what is missing below 101 may be late, and what came above it is not lost"
        );
    }

    #[test]
    fn what_comes_after_it_was_restored_is_known() {
        let mut gaps = Gaps::new(at(0));
        arrive(&mut gaps, at(0), [0, 2]);
        assert!(gaps.restore(PacketNumber(1)));
        assert_eq!(gaps.arrived(at(30), PacketNumber(1)), Arrival::Restored);
        assert_eq!(gaps.wait(), Duration::from_micros(37_500));
    }

    #[test]
    fn however_much_is_missing_the_memory_is_bounded() {
        let mut gaps = Gaps::new(at(0));
        arrive(&mut gaps, at(0), [0, 1 << 40]);
        assert_eq!((gaps.missing.len(), gaps.missed), (MISSING_MAX, (1 << 40) - 1));
        arrive(&mut gaps, at(0), ((1 << 40) + 2..(1 << 40) + 8000).step_by(2));
        assert_eq!(gaps.missing.len(), MISSING_MAX);
        let mut out = [0; REQUEST_BYTES_MAX];
        assert_eq!(gaps.request(at(0), ms(40), ms(200), &mut out), Some(REQUEST_BYTES_MAX));
    }
}
