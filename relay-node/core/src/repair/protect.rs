//! The sender of parity: when a row leaves, and what it covers.
//!
//! Rows earn their bytes: each datagram with media adds the plan's share of its length, and a row may leave when there is
//! enough for one. It covers what was sent within the window before it, all classes together, so that rows come often
//! and bursts meet many of them. Rows wait for the end of a picture, when media pauses: a row in its midst says nothing of
//! what follows, and shares the bursts of what went before. What would stay without a row for long gets one on credit:
//! the window of a class does not wait for more to come. Of a group larger than a window rows slide over all of it. Audio
//! whose video pauses gets rows over audio alone, which are short.

use super::flow::class;
use super::history::{History, Sent};
use super::lost_rows::LostRows;
use std::time::Duration;
use wire_format::parity::{
    self, Arithmetic, PARITY_COVERED_MAX, PARITY_FIXED_BYTES, PARITY_ROWS, PARITY_SPAN, ParityHeader,
    SHARD_LENGTH_BYTES,
};
use wire_format::{PacketNumber, Slack, Timestamp};

/// The packets of a picture leave closer together than this.
const PAUSE: Duration = Duration::from_millis(3);
/// A row that has been earned waits for a pause during this part of the time that it is useful for.
const WAIT_PART: u32 = 4;
/// More than this is not saved up for rows, bytes; and no more is spent in advance.
const CREDIT_MAX: i64 = 64 << 10;
const CREDIT_MIN: i64 = -4096;
/// What is not covered by a row after this part of that time gets one, in percent.
const CLOSE_PERCENT: u32 = 66;

/// The parity of one direction of a link, at its sender.
#[derive(Debug)]
pub(crate) struct Protect {
    /// Share of the rate, parts per million: of audio, and of others.
    share_ppm: [u64; 2],
    window: usize,
    /// What is not covered by a row after this time gets one: audio, and others.
    close_after: [Duration; 2],
    /// A row that has been earned waits so long for a pause.
    wait_for_pause: Duration,
    /// How old a datagram may be that a row covers, in microseconds.
    oldest_useful_us: u64,
    /// What has more slack is not covered: it has time to be sent again, and each of its losses would take a row from what
    /// has not.
    hurry: Slack,
    /// Bytes that rows may have; what was sent on credit counts below zero.
    credit: i64,
    /// What a row would cost: the length of the last one, or of the longest datagram since.
    cost: i64,
    next_row: u8,
    /// Rows over what is lost, whatever the share.
    pub(super) lost: LostRows,
    /// The newest datagram that a row covered.
    through: Option<PacketNumber>,
    /// When there was enough for a row first.
    earned_at: Option<Timestamp>,
    /// When media other than audio left last.
    media_at: Option<Timestamp>,
    /// When the oldest datagram that no row covers left: audio, and others.
    uncovered: [Option<Timestamp>; 2],
}

impl Protect {
    pub(crate) fn new() -> Protect {
        Protect {
            share_ppm: [0; 2],
            window: 0,
            close_after: [Duration::ZERO; 2],
            wait_for_pause: Duration::ZERO,
            oldest_useful_us: 0,
            hurry: Slack(0),
            credit: 0,
            cost: 0,
            next_row: 0,
            lost: LostRows::default(),
            through: None,
            earned_at: None,
            media_at: None,
            uncovered: [None; 2],
        }
    }

    /// Sets how much parity there is to be: its share of the rate of audio and of others in a hurry, how many datagrams a
    /// row may cover, how long each of them is of use, and the most slack that they have.
    pub(crate) fn set(
        &mut self,
        share_ppm: [u64; 2],
        window: usize,
        useful_for: [Duration; 2],
        hurry: Slack,
    ) {
        (self.share_ppm, self.hurry) = (share_ppm, hurry);
        self.close_after = useful_for.map(|useful_for| useful_for * CLOSE_PERCENT / 100);
        let oldest_useful = useful_for[0].max(useful_for[1]);
        self.wait_for_pause = oldest_useful / WAIT_PART;
        self.oldest_useful_us = oldest_useful.as_micros() as u64;
        self.window = window.min(PARITY_COVERED_MAX);
        for class in (0..2).filter(|class| share_ppm[*class] == 0) {
            self.uncovered[class] = None;
        }
        if share_ppm == [0; 2] {
            let lost = std::mem::take(&mut self.lost);
            *self = Protect { next_row: self.next_row, lost, hurry, ..Protect::new() };
        }
    }

    /// A datagram with media in a hurry left.
    pub(crate) fn media_left(&mut self, now: Timestamp, class: usize, bytes: usize) {
        let share_ppm = self.share_ppm[class];
        if share_ppm == 0 {
            return;
        }
        let earned = (bytes as u64 * share_ppm / 1_000_000) as i64;
        self.credit = (self.credit + earned).min(CREDIT_MAX);
        self.cost = self.cost.max(bytes as i64);
        self.uncovered[class].get_or_insert(now);
        if class != 0 {
            self.media_at = Some(now);
        }
        self.earn(now);
    }

    /// Notes since when there is enough for a row.
    fn earn(&mut self, now: Timestamp) {
        let enough = self.cost > 0 && self.credit >= self.cost;
        self.earned_at = enough.then(|| self.earned_at.unwrap_or(now));
    }

    /// When a row is to leave.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        let closed =
            (0..2).filter_map(|class| self.uncovered[class].map(|since| since + self.close_after[class]));
        let earned = self.earned_at.map(|since| {
            let pause = self.media_at.map_or(since, |at| at + PAUSE);
            pause.min(since + self.wait_for_pause)
        });
        closed.chain(earned).chain(self.lost.due()).min()
    }

    /// A row is to leave now.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.due().is_some_and(|due| due <= now)
    }

    /// What is due does not leave, and what was earned for it is not saved up.
    pub(crate) fn give_up(&mut self) {
        (self.uncovered, self.cost, self.earned_at) = ([None; 2], 0, None);
        self.credit = self.credit.min(0);
        self.lost.give_up();
    }

    /// It may be among what a row covers.
    fn may_cover(&self, sent: &Sent) -> bool {
        sent.repeats.is_none() && sent.urgency.slack <= self.hurry
    }

    /// A row would come too late for it.
    fn is_old(&self, now: Timestamp, sent: &Sent) -> bool {
        now.as_micros().saturating_sub(sent.at.as_micros()) >= self.oldest_useful_us
    }

    /// How many of the newest datagrams the next row leaves to those after it.
    fn skipped(&self, now: Timestamp, history: &History) -> usize {
        let media = history.sent().iter().rev().filter(|sent| self.may_cover(sent));
        let is_fresh = |sent: &&Sent| Some(sent.number) > self.through && !self.is_old(now, sent);
        let fresh = media.take_while(is_fresh).count();
        let rows = usize::try_from(self.credit / self.cost.max(1)).unwrap_or(0).max(1);
        if fresh > self.window { fresh - fresh.div_ceil(rows) } else { 0 }
    }

    /// Writes the body of the next row to the beginning of `out`; `None` if there is nothing to cover. Its length is at
    /// most that of the longest datagram covered and [`wire_format::PARITY_ROOM_BYTES`] less what else a datagram has.
    pub(crate) fn row(
        &mut self,
        now: Timestamp,
        history: &History,
        out: &mut [u8],
        body_max: usize,
    ) -> Option<usize> {
        if self.lost.is_due(now) {
            let used = self.lost.row(self.next_row, history, out, body_max);
            self.next_row = (self.next_row + 1) % PARITY_ROWS as u8;
            return used;
        }
        let audio_only = self.share_ppm[1] == 0 || self.earned_at.is_none() && self.uncovered[1].is_none();
        let skipped = self.skipped(now, history);
        let mut coverable = history.sent().iter().rev().filter(|sent| self.may_cover(sent)).skip(skipped);
        let Some(first) = coverable.next() else {
            // What was sent goes another way now, or could not be kept.
            (self.uncovered, self.cost, self.earned_at) = ([None; 2], 0, None);
            self.credit = self.credit.min(0);
            return None;
        };
        let newest = first.number;
        let (mut covered, mut base, mut longest, mut count) = (0_u128, newest.0, 0, 0);
        for sent in std::iter::once(first).chain(coverable) {
            let apart = (newest.0 - sent.number.0) as usize;
            if apart >= PARITY_SPAN || count >= self.window || self.is_old(now, sent) {
                break;
            }
            if audio_only && class(sent.urgency, history.plain(sent).len()) != 0 {
                continue;
            }
            let bytes = history.plain(sent).len().max(longest);
            if PARITY_FIXED_BYTES + apart / 8 + 1 + SHARD_LENGTH_BYTES + bytes > body_max {
                break;
            }
            base = sent.number.0;
            covered |= 1 << (PARITY_SPAN - 1 - apart);
            longest = bytes;
            count += 1;
        }
        self.through = Some(newest);
        self.uncovered[0] = None;
        if !audio_only {
            self.uncovered[1] = None;
        }
        if covered == 0 {
            (self.cost, self.earned_at) = (0, None);
            self.credit = self.credit.min(0);
            return None;
        }
        let covered = covered >> covered.trailing_zeros();
        let header = ParityHeader { row: self.next_row, base: PacketNumber(base), covered };
        self.next_row = (self.next_row + 1) % PARITY_ROWS as u8;
        let used = write_row(&header, history, longest, out);
        self.credit = (self.credit - used as i64).max(CREDIT_MIN);
        self.cost = used as i64;
        self.earn(now);
        Some(used)
    }
}

/// Writes a row over datagrams of at most so many bytes to the beginning of `out`; returns its length.
pub(super) fn write_row(header: &ParityHeader, history: &History, longest: usize, out: &mut [u8]) -> usize {
    let head = header.encode(out);
    let used = head + SHARD_LENGTH_BYTES + longest;
    let sum = &mut out[head..used];
    sum.fill(0);
    let arithmetic = Arithmetic::of_this_processor();
    for sent in history.sent().iter().rev().take_while(|sent| sent.number >= header.base) {
        if header.covers(sent.number) {
            arithmetic.add_datagram(parity::coefficient(header.row, sent.number), history.plain(sent), sum);
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use super::super::{RepairMemory, Urgency};
    use super::*;
    use wire_format::Priority;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_micros(ms * 1000)
    }

    struct Sender {
        protect: Protect,
        history: History,
        memory: RepairMemory,
        rows: Vec<(u64, ParityHeader, usize)>,
    }

    impl Sender {
        fn new(share_ppm: u64) -> Sender {
            let mut protect = Protect::new();
            protect.set([share_ppm; 2], 16, [Duration::from_millis(60); 2], Slack(600));
            Sender { protect, history: History::default(), memory: RepairMemory::default(), rows: Vec::new() }
        }

        fn send(&mut self, ms: u64, number: u64, priority: Priority, bytes: usize) {
            self.drain(ms, number);
            let urgency = Urgency { priority, slack: Slack(600) };
            let number = PacketNumber(number);
            self.history.record(at(ms), number, urgency, &vec![1; bytes], &mut self.memory);
            self.protect.media_left(at(ms), class(urgency, bytes), bytes);
            self.drain(ms, number.0);
        }

        fn drain(&mut self, ms: u64, highest: u64) {
            let mut out = [0; 2000];
            while self.protect.is_due(at(ms)) {
                if let Some(used) = self.protect.row(at(ms), &self.history, &mut out, 1400) {
                    let (header, _) = ParityHeader::decode(&out[..used], highest).expect("well-formed");
                    self.rows.push((ms, header, used));
                }
            }
        }
    }

    #[test]
    fn rows_have_the_share_asked_for_and_cover_the_window() {
        let mut sender = Sender::new(200_000);
        for i in 0..1000 {
            sender.send(i * 4, i, Priority::VIDEO, 1200);
        }
        let bytes: usize = sender.rows.iter().map(|(_, _, bytes)| bytes).sum();
        assert!((225_000..245_000).contains(&bytes), "{bytes} of 1,200,000 sent");
        let (ms, header, _) = sender.rows[100];
        let numbers: Vec<u64> = header.numbers().map(|number| number.0).collect();
        assert_eq!(numbers, (ms / 4 - 14..ms / 4).collect::<Vec<_>>(), "sent within 60 ms");
    }

    #[test]
    fn rows_wait_for_the_end_of_a_picture_but_not_for_long() {
        let mut sender = Sender::new(300_000);
        for number in 0..8 {
            sender.send(2 * number, number, Priority::VIDEO, 1200);
        }
        assert_eq!((sender.rows.len(), sender.protect.due()), (0, Some(at(17))));
        sender.drain(17, 7);
        assert_eq!(sender.rows.len(), 2);
        assert!(sender.rows.iter().all(|(_, header, _)| header.numbers().count() == 8));
        // Of one that takes 200 ms rows leave on its way.
        for number in 8..108 {
            sender.send(100 + 2 * (number - 8), number, Priority::VIDEO, 1200);
        }
        let times: Vec<u64> = sender.rows[2..].iter().map(|(ms, _, _)| *ms).collect();
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= 22), "{times:?}");
        assert!(times[0] <= 122, "{times:?}");
    }

    #[test]
    fn of_what_leaves_at_once_all_is_covered() {
        let mut sender = Sender::new(200_000);
        for number in 0..100 {
            sender.send(0, number, Priority::VIDEO, 1200);
        }
        sender.drain(3, 99);
        let mut times = [0; 100];
        for number in sender.rows.iter().flat_map(|(_, header, _)| header.numbers()) {
            times[number.0 as usize] += 1;
        }
        assert!((17..=20).contains(&sender.rows.len()), "{}", sender.rows.len());
        assert!(times.iter().all(|times| (1..=4).contains(times)), "{times:?}");
    }

    #[test]
    fn nothing_is_due_for_what_is_not_kept_any_more() {
        let mut sender = Sender::new(200_000);
        sender.send(0, 0, Priority::VIDEO, 1200);
        sender.history = History::default();
        sender.drain(40, 0);
        assert_eq!((sender.rows.len(), sender.protect.due()), (0, None));
    }

    #[test]
    fn what_could_not_be_kept_earns_no_rows() {
        let mut sender = Sender::new(360_000);
        for second in 0..100 {
            for _ in 0..200 {
                sender.protect.media_left(at(second * 1000), 1, 1200);
            }
            sender.drain(second * 1000 + 500, 0);
        }
        sender.send(200_000, 0, Priority::VIDEO, 1200);
        sender.drain(200_100, 0);
        assert!(sender.rows.len() <= 1, "{} rows", sender.rows.len());
        for _ in 0..100_000 {
            sender.protect.media_left(at(200_100), 1, 1200);
        }
        assert!(sender.protect.credit <= CREDIT_MAX);
    }

    #[test]
    fn each_class_is_closed_in_its_own_time() {
        let mut sender = Sender::new(1);
        sender.protect.set([1; 2], 16, [Duration::from_millis(60), Duration::from_millis(100)], Slack(1000));
        sender.send(0, 0, Priority::VIDEO, 1200);
        assert_eq!(sender.protect.due(), Some(at(66)));
        sender.send(10, 1, Priority::AUDIO, 100);
        assert_eq!(sender.protect.due(), Some(Timestamp::from_micros(49_600)));
    }

    #[test]
    fn audio_does_not_wait_for_video() {
        let mut sender = Sender::new(200_000);
        sender.send(0, 0, Priority::VIDEO, 1200);
        sender.send(0, 1, Priority::AUDIO, 100);
        sender.drain(39, 1);
        assert_eq!(sender.rows.len(), 0);
        sender.drain(40, 1);
        assert_eq!(sender.rows.len(), 1, "on credit");
        sender.send(50, 2, Priority::AUDIO, 100);
        sender.send(80, 3, Priority::AUDIO, 100);
        sender.drain(90, 3);
        let (_, header, bytes) = sender.rows[1];
        assert_eq!(header.numbers().map(|number| number.0).collect::<Vec<_>>(), [2, 3]);
        assert!(bytes < 120, "{bytes}: as long as audio");
        assert_eq!(sender.protect.due(), None);
    }
}
