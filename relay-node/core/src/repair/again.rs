//! Datagrams that are to be sent again by the same link: which, when, and no more than a share of what the link sends.
//!
//! The one whose time runs out first goes first, further copies of what has left already after all others. Repairs may
//! take about a third of what media does, and save some up for a burst of losses; a link that comes back after an outage
//! has nothing saved: it repairs at that pace what is still of use, and the rest is dropped.
//!
//! Where the plan is to send everything twice, second copies wait here, too. They are no answer to a loss and take
//! nothing of that share.

use std::collections::VecDeque;
use std::time::Duration;
use wire_format::{PacketNumber, Timestamp};

/// Datagrams that wait to be sent again on one link.
const PENDING_MAX: usize = 512;
/// Repairs may use 36% of the bytes that media does, counted in parts of 1,024: with all that comes beside it, a link that
/// comes back after an outage carries less than one and a half times its media.
const SHARE: u64 = 36 * 1024 / 100;
/// What may be saved up for a burst of losses, bytes.
const SAVED_MAX: i64 = 64 << 10;
/// Copies of a datagram leave at least so far apart.
const SPACING_MIN: Duration = Duration::from_millis(1);
/// What may not leave now is looked at again after this.
const RETRY: Duration = Duration::from_millis(1);
/// However little media there is, so many bytes a millisecond.
const BYTES_PER_MS_MIN: i64 = 8;

#[derive(Clone, Copy, Debug)]
struct Pending {
    number: PacketNumber,
    due: Timestamp,
    /// Sent later than this it comes too late.
    deadline: Timestamp,
    copies: u32,
    spacing: Duration,
    /// One of the copies has left.
    left: bool,
}

/// A datagram that is sent twice whatever became of it.
#[derive(Clone, Copy, Debug)]
struct Second {
    number: PacketNumber,
    due: Timestamp,
    deadline: Timestamp,
}

/// The repairs of one link that wait.
#[derive(Debug)]
pub(crate) struct Again {
    /// Ascending by number.
    pending: Vec<Pending>,
    /// By when they are due.
    seconds: VecDeque<Second>,
    /// Bytes; the last repair may have taken more than there was.
    allowance: i64,
    refilled: Timestamp,
    /// Given up: too late, or too many.
    pub(crate) dropped: u64,
}

impl Again {
    pub(crate) fn new(now: Timestamp) -> Again {
        Again {
            pending: Vec::new(),
            seconds: VecDeque::new(),
            allowance: SAVED_MAX,
            refilled: now,
            dropped: 0,
        }
    }

    /// Whether it waits to be sent again.
    pub(crate) fn contains(&self, number: PacketNumber) -> bool {
        self.place(number).is_ok()
    }

    /// Where it waits, or would.
    fn place(&self, number: PacketNumber) -> Result<usize, usize> {
        self.pending.binary_search_by_key(&number, |pending| pending.number)
    }

    /// It need not go a second time unasked: it goes because it was asked for.
    fn asked_for(&mut self, number: PacketNumber) {
        self.seconds.retain(|second| second.number != number);
    }

    /// A datagram that does not wait yet is to be sent again, so many times from `first` on and before the deadline.
    pub(crate) fn add(&mut self, first: Timestamp, number: PacketNumber, copies: u32, deadline: Timestamp) {
        if self.pending.len() >= PENDING_MAX {
            self.dropped += 1;
            return;
        }
        let Err(place) = self.place(number) else { return };
        self.asked_for(number);
        let spacing = deadline.since(first) / copies.max(1);
        self.pending.insert(place, Pending { number, due: first, deadline, copies, spacing, left: false });
    }

    /// What waits for its first copy to be due need not wait. `true` if it did.
    pub(crate) fn hurry(&mut self, now: Timestamp, number: PacketNumber) -> bool {
        let Ok(place) = self.place(number) else { return false };
        let pending = &mut self.pending[place];
        let is_held = !pending.left && pending.due > now + RETRY;
        if is_held {
            pending.due = now;
        }
        is_held
    }

    /// A datagram is to be sent a second time when `due`, unless that comes later than the deadline.
    pub(crate) fn second(&mut self, number: PacketNumber, due: Timestamp, deadline: Timestamp) {
        if self.seconds.len() >= PENDING_MAX {
            self.dropped += 1;
            return;
        }
        let place = self.seconds.partition_point(|before| before.due <= due);
        self.seconds.insert(place, Second { number, due, deadline });
    }

    /// So much is missing that the link was cut: from now on no more than the share of what media takes.
    pub(crate) fn outage(&mut self, now: Timestamp) {
        (self.allowance, self.refilled) = (self.allowance.min(0), now);
    }

    /// Media of so many bytes left.
    pub(crate) fn media_left(&mut self, bytes: u64) {
        self.allowance = (self.allowance + (bytes * SHARE / 1024) as i64).min(SAVED_MAX);
    }

    /// When the next repair is due; none if none waits.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        let second = self.seconds.front().map(|second| second.due);
        self.pending.iter().map(|pending| pending.due).chain(second).min()
    }

    /// The next datagram to send now.
    pub(crate) fn peek(&mut self, now: Timestamp) -> Option<PacketNumber> {
        let refill = now.since(self.refilled).as_millis() as i64 * BYTES_PER_MS_MIN;
        if refill > 0 {
            self.refilled = now;
            self.allowance = (self.allowance + refill).min(SAVED_MAX);
        }
        while let Some(second) = self.seconds.front().filter(|second| second.due <= now) {
            if second.deadline >= now {
                return Some(second.number);
            }
            self.seconds.pop_front();
            self.dropped += 1;
        }
        if self.pending.is_empty() {
            return None;
        }
        let before = self.pending.len();
        self.pending.retain(|pending| pending.deadline >= now);
        self.dropped += (before - self.pending.len()) as u64;
        if self.allowance <= 0 {
            self.postpone(now);
            return None;
        }
        // Everything once comes before anything again, and leaves something for what is lost next.
        let copies = self.spares();
        let due = self.pending.iter().filter(|pending| pending.due <= now && (copies || !pending.left));
        let next = due.min_by_key(|pending| (pending.left, pending.deadline, pending.number));
        let next = next.map(|pending| pending.number);
        if next.is_none() {
            self.postpone(now);
        }
        next
    }

    /// There is something for what need not be, and enough left for what is lost next.
    pub(crate) fn spares(&self) -> bool {
        self.allowance > SAVED_MAX / 2
    }

    /// So many bytes went into something else that answers a request.
    pub(crate) fn spent(&mut self, bytes: u64) {
        self.allowance -= bytes as i64;
    }

    /// What is due now may leave a little later.
    pub(crate) fn postpone(&mut self, now: Timestamp) {
        for pending in self.pending.iter_mut().filter(|pending| pending.due <= now) {
            pending.due = now + RETRY;
        }
        for second in self.seconds.iter_mut().take_while(|second| second.due <= now) {
            second.due = now + RETRY;
        }
    }

    /// The path does not take that datagram now; it is asked anew what it takes, so perhaps later.
    pub(crate) fn too_large(&mut self, now: Timestamp, number: PacketNumber) {
        self.seconds.retain(|second| second.number != number);
        if let Ok(place) = self.place(number) {
            self.pending[place].due = now + RETRY;
        }
    }

    /// That datagram left, in one of so many bytes.
    pub(crate) fn left(&mut self, now: Timestamp, number: PacketNumber, bytes: u64) {
        if self.seconds.front().is_some_and(|second| second.number == number && second.due <= now) {
            self.seconds.pop_front();
            return;
        }
        self.spent(bytes);
        let Ok(place) = self.place(number) else { return };
        let pending = &mut self.pending[place];
        pending.left = true;
        pending.copies = pending.copies.saturating_sub(1);
        pending.due = now + pending.spacing.max(SPACING_MIN);
        if pending.copies == 0 || pending.due > pending.deadline {
            self.pending.remove(place);
        }
    }

    /// What waits is not kept any more.
    pub(crate) fn cancel(&mut self, number: PacketNumber) {
        if let Ok(place) = self.place(number) {
            self.pending.remove(place);
        }
        self.seconds.retain(|second| second.number != number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_micros(ms * 1000)
    }

    fn next(again: &mut Again, now: Timestamp, bytes: u64) -> Option<PacketNumber> {
        let number = again.peek(now)?;
        again.left(now, number, bytes);
        Some(number)
    }

    #[test]
    fn the_one_whose_time_runs_out_first_goes_first() {
        let mut again = Again::new(at(0));
        again.add(at(0), PacketNumber(1), 1, at(100));
        again.add(at(0), PacketNumber(2), 1, at(50));
        again.add(at(0), PacketNumber(3), 1, at(70));
        let order: Vec<_> = std::iter::from_fn(|| next(&mut again, at(0), 0)).collect();
        assert_eq!(order, [2, 3, 1].map(PacketNumber));
        assert_eq!(again.due(), None);
    }

    #[test]
    fn no_more_than_so_many_wait_and_those_beyond_are_counted() {
        let mut again = Again::new(at(0));
        for number in 0..2 * PENDING_MAX as u64 {
            again.add(at(0), PacketNumber(number), 1, at(100));
            again.second(PacketNumber(number), at(40), at(60));
        }
        assert_eq!((again.pending.len(), again.seconds.len()), (PENDING_MAX, PENDING_MAX));
        assert_eq!(again.dropped, 2 * PENDING_MAX as u64);
        // What waits already is among them, and room is made by what leaves.
        again.add(at(0), PacketNumber(7), 1, at(100));
        assert_eq!(next(&mut again, at(0), 0), Some(PacketNumber(0)));
        again.add(at(0), PacketNumber(5000), 1, at(100));
        assert!(again.contains(PacketNumber(5000)));
    }

    #[test]
    fn copies_are_spread_over_the_time_that_is_left() {
        let mut again = Again::new(at(0));
        again.add(at(0), PacketNumber(1), 3, at(30));
        let mut left = Vec::new();
        for ms in 0..60 {
            left.extend(next(&mut again, at(ms), 0).map(|_| ms));
        }
        assert_eq!(left, [0, 10, 20]);
    }

    #[test]
    fn what_is_held_back_leaves_when_due_or_when_it_need_not_wait() {
        let mut again = Again::new(at(0));
        again.add(at(30), PacketNumber(1), 1, at(60));
        again.add(at(40), PacketNumber(2), 1, at(60));
        assert_eq!((again.due(), next(&mut again, at(29), 0)), (Some(at(30)), None));
        assert!(again.hurry(at(29), PacketNumber(2)) && !again.hurry(at(29), PacketNumber(2)));
        assert!(!again.hurry(at(29), PacketNumber(3)));
        assert_eq!(next(&mut again, at(29), 0), Some(PacketNumber(2)));
        assert_eq!(next(&mut again, at(30), 0), Some(PacketNumber(1)));
        assert_eq!(again.due(), None);
    }

    #[test]
    fn second_copies_leave_when_due_and_cost_no_allowance() {
        let mut again = Again::new(at(0));
        again.outage(at(0));
        again.second(PacketNumber(1), at(40), at(60));
        again.second(PacketNumber(2), at(30), at(45));
        again.second(PacketNumber(3), at(41), at(61));
        assert_eq!(again.due(), Some(at(30)));
        assert_eq!(next(&mut again, at(29), 1200), None);
        assert_eq!(next(&mut again, at(46), 1200), Some(PacketNumber(1)), "the other is too late");
        again.postpone(at(46));
        assert_eq!((again.due(), again.dropped), (Some(at(47)), 1));
        assert_eq!(next(&mut again, at(47), 1200), Some(PacketNumber(3)));
        assert_eq!((again.due(), again.allowance), (None, 47 * BYTES_PER_MS_MIN));
        again.second(PacketNumber(4), at(50), at(60));
        again.add(at(48), PacketNumber(4), 1, at(60));
        assert_eq!(next(&mut again, at(48), 0), Some(PacketNumber(4)));
        assert_eq!(again.due(), None, "once is enough");
    }

    #[test]
    fn a_storm_is_paced_and_what_is_too_late_dropped() {
        let mut again = Again::new(at(0));
        // However long ago something was last sent again.
        let begin = 10_000;
        for number in 0..100 {
            again.add(at(begin), PacketNumber(number), 1, at(begin + 50));
        }
        again.outage(at(begin));
        let mut sent = 0;
        for ms in 0..60 {
            again.media_left(250);
            while next(&mut again, at(begin + ms), 1250).is_some() {
                sent += 1250;
            }
        }
        let most = 51 * (90 + BYTES_PER_MS_MIN) + 1250;
        assert!(sent <= most && sent + 2500 >= most, "{sent} of {most}");
        assert_eq!(again.dropped as i64, 100 - sent / 1250);
        assert_eq!(again.due(), None);
    }
}
