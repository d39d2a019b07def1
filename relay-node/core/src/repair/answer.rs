//! What is done when the other end asks: which of what it misses is sent again, and how often.

use super::gaps::MISSING_MAX;
use super::policy::{self, Lost};
use super::{MARGIN, Repair, Sent, class};
use std::time::Duration;
use wire_format::{FrameError, MissingRange, PacketNumber, REQUEST_RANGES_MAX, RepairRequest, Timestamp};

/// What is lost for so long in a row is no burst.
const OUTAGE: Duration = Duration::from_millis(250);
/// What should have come a round trip ago may be so late.
const SILENCE_MARGIN: Duration = Duration::from_millis(2);
/// What is held back because nothing is heard leaves after this part of the time that is left, in percent: the burst is
/// over by then, or little helps.
const HELD_PERCENT: u32 = 75;
/// Other media flows beside audio if some left within this time.
const OTHERS_FLOW: Duration = Duration::from_secs(1);
/// Where a queue grew until it was full, all that comes is late for a moment, and what shows a loss comes behind it. Audio is
/// sent again all the same: players wait a little longer rather than lose a word.
const AUDIO_GRACE: Duration = Duration::from_millis(200);
/// Numbers that a peer may have looked up within a millisecond, as many as can be missing at once; requests beyond that
/// are counted and cut short.
pub(super) const LOOKUPS_PER_MS: usize = MISSING_MAX;

impl Repair {
    /// A request came from the peer that was last sent `next - 1`. `true` if something is to be sent again.
    ///
    /// # Errors
    /// [`FrameError`] if it makes no sense.
    pub(crate) fn request_in(&mut self, now: Timestamp, body: &[u8], next: u64) -> Result<bool, FrameError> {
        let request = RepairRequest::decode(body)?;
        let through = request.through(next).ok_or(FrameError::Field)?;
        if now.since(self.lookups_at) >= Duration::from_millis(1) {
            (self.lookups_at, self.lookups_left) = (now, LOOKUPS_PER_MS);
        }
        let mut ranges = [MissingRange { first: PacketNumber(0), count: 0 }; REQUEST_RANGES_MAX];
        let mut count = 0;
        for (slot, range) in ranges.iter_mut().zip(request.ranges(next)) {
            *slot = range;
            count += 1;
        }
        let ranges = &ranges[..count];
        self.learn_bursts(now, through, ranges);
        let mut more = false;
        // Oldest first: it has least time left.
        for range in ranges.iter().rev() {
            for number in range.first.0..range.first.0 + u64::from(range.count) {
                if !self.may_look_up() {
                    return Ok(more);
                }
                more |= self.asked_for(now, PacketNumber(number), through, ranges);
            }
        }
        if request.silent {
            more |= self.unheard(now, through);
        }
        Ok(more)
    }

    /// One look-up for the peer, if it has not had too many.
    fn may_look_up(&mut self) -> bool {
        self.stats.requests_ignored += u64::from(self.lookups_left == 0);
        self.lookups_left.checked_sub(1).map(|left| self.lookups_left = left).is_some()
    }

    /// Nothing has come at the other end for longer than usual: what should have come by now is lost.
    fn unheard(&mut self, now: Timestamp, through: PacketNumber) -> bool {
        let should_be_there = self.conditions.rtt + 2 * self.conditions.rtt_var + SILENCE_MARGIN;
        let lost_from = self.history.sent().partition_point(|sent| sent.number <= through);
        let mut more = false;
        for place in lost_from..self.history.sent().len() {
            let sent = self.history.sent()[place];
            if now.since(sent.at) < should_be_there || !self.may_look_up() {
                break;
            }
            if sent.repeats.is_none() && now.since(sent.last_at) >= should_be_there {
                more |= self.send_again(now, &sent, true);
            }
        }
        more
    }

    /// Ranges that requests named for the first time are bursts of loss.
    fn learn_bursts(&mut self, now: Timestamp, through: PacketNumber, ranges: &[MissingRange]) {
        let fresh_from = self.told_through.map_or(0, |told| told.0 + 1);
        for range in ranges {
            let end = range.first.0 + u64::from(range.count);
            if let Some(length) = end.checked_sub(range.first.0.max(fresh_from)).filter(|length| *length > 0)
            {
                self.told_at = Some(now);
                self.lost.record(now, length);
                self.overflow.lost(now, self.history.sent(), end - length..end);
                if self.conditions.spacing * u32::try_from(length).unwrap_or(u32::MAX) >= OUTAGE {
                    self.again.outage(now);
                }
            }
        }
        self.told_through = self.told_through.max(Some(through));
    }

    /// One number of a request. `true` if its datagram is to be sent again.
    fn asked_for(
        &mut self,
        now: Timestamp,
        number: PacketNumber,
        through: PacketNumber,
        missing: &[MissingRange],
    ) -> bool {
        let is_missing = |number: PacketNumber| {
            missing
                .iter()
                .any(|range| number >= range.first && number.0 - range.first.0 < u64::from(range.count))
        };
        let Some(mut sent) = self.history.get(number).copied() else { return false };
        if let Some(original) = sent.repeats {
            // A repair that is lost matters if what it repeats is still missing.
            if !is_missing(original) {
                return false;
            }
            match self.history.get(original) {
                Some(original) => sent = *original,
                None => return false,
            }
        }
        let patience = self.conditions.rtt + 2 * self.conditions.rtt_var + Duration::from_millis(5);
        let under_way = sent.last_number > through && now.since(sent.last_at) < patience;
        !under_way && self.send_again(now, &sent, false)
    }

    /// A datagram is lost, and perhaps nothing came at the other end since. `true` if it is to be sent again.
    fn send_again(&mut self, now: Timestamp, sent: &Sent, silence: bool) -> bool {
        if self.again.contains(sent.number) {
            // Named because something came after it: the burst that it was held back for is over.
            return !silence && self.again.hurry(now, sent.number);
        }
        let slack = sent.urgency.slack.as_duration();
        let is_audio = class(sent.urgency, self.history.plain(sent).len()) == 0;
        let grace = if is_audio && self.conditions.limited { AUDIO_GRACE } else { Duration::ZERO };
        let deadline = sent.at + slack.saturating_sub(MARGIN) + grace;
        if deadline < now {
            self.stats.requests_late += 1;
            return false;
        }
        let rounds_after = policy::rounds(&self.conditions, deadline.since(now));
        let small = self.is_small(now, sent);
        let lost = Lost { times: u32::from(sent.times), slack, small, silence };
        let answer = policy::answer(&self.conditions, &lost, rounds_after);
        let wait = if answer.held { deadline.since(now) * HELD_PERCENT / 100 } else { Duration::ZERO };
        // Copies leave early enough for a further round, if there is one.
        let until = if rounds_after == 0 { deadline } else { deadline.min(now + self.conditions.rtt / 2) };
        self.again.add(now + wait, sent.number, answer.copies, until);
        if let Some(lost_milli) = answer.row_milli {
            self.protect.lost.add(sent.number, deadline, self.conditions.rtt_var, lost_milli);
        }
        true
    }

    /// It is audio beside larger media.
    fn is_small(&self, now: Timestamp, sent: &Sent) -> bool {
        let last = self.hurried[1].last().max(self.patient[1].last());
        let others = last.is_some_and(|at| now.since(at) < OTHERS_FLOW);
        others && class(sent.urgency, self.history.plain(sent).len()) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repair::{RepairMemory, Urgency};
    use wire_format::{Priority, Slack};

    #[test]
    fn a_peer_that_asks_for_everything_again_and_again_costs_bounded_work() {
        let now = Timestamp::from_micros(1_000_000);
        let (mut repair, mut memory) = (Repair::new(now), RepairMemory::default());
        let urgency = Urgency { priority: Priority::VIDEO, slack: Slack(2000) };
        for number in 0..3000 {
            repair.media_left(now, PacketNumber(number), urgency, &[7; 100], &mut memory);
        }
        // Silence, and 64 ranges of 255 numbers: 16,320 of the 20,001 up to 20,000.
        let mut body = vec![1, 0, 0, 0x4E, 0x20];
        body.extend([0, 0, 255].repeat(REQUEST_RANGES_MAX));
        for asked in 1..=100 {
            assert!(repair.request_in(now, &body, 20_001).is_ok());
            assert_eq!((repair.stats.requests_ignored, repair.lookups_left), (asked, 0));
        }
        // A millisecond later it may ask again, for as much and no more.
        let later = now + Duration::from_millis(1);
        assert!(repair.request_in(later, &body, 20_001).is_ok());
        assert_eq!((repair.stats.requests_ignored, repair.lookups_left), (101, 0));
    }
}
