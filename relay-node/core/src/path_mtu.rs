//! How large the datagrams of a link may be, in the direction that leads away from here (the idea of RFC 8899).
//!
//! The kernel is told not to fragment, so a datagram that is too large for the path is lost without a word. Padded
//! datagrams of some lengths ask; the largest that is answered is what the path takes. They go out together: who waits
//! for each answer knows the path after many round trips, and until then frames travel in halves. Now and then what is
//! beyond the present size is asked for again.
//!
//! A path may become narrower. Then large datagrams vanish while small ones arrive, which the other end's heartbeats
//! show: the link falls back to what every path carries and asks anew. A false alarm costs a round trip of halves.
//!
//! A link that follows its peer to another address has another path: it, too, begins anew.
//!
//! A peer whose heartbeats lack the counts knows nothing of all this and is sent what it always was.

use crate::repair::AGAIN_BYTES;
use std::collections::VecDeque;
use std::time::Duration;
use wire_format::{
    DATAGRAM_BYTES_BASE, DATAGRAM_BYTES_UNPROBED, MtuProbe, PARITY_ROOM_BYTES, SEAL_OVERHEAD_BYTES,
    SizeCounts, Timestamp,
};

/// UDP payloads that are asked for, besides the largest that both ends accept: IPv6 and IPv4 over links of 1,280,
/// 1,400, 1,420, 1,492 (IPv6 only) and 1,500 bytes.
const STEPS: [u16; 8] = [1232, 1252, 1352, 1372, 1392, 1444, 1452, 1472];
/// How often a size is asked for before it counts as too large.
const TRIES: u8 = 3;
/// Distance of tries.
const TRY_EVERY: Duration = Duration::from_millis(500);
/// Distance of looks whether the path has become wider.
const RAISE_EVERY: Duration = Duration::from_secs(60);
/// Large datagrams of which none arrives, before the path is suspected.
const LARGE_LOST: u32 = 6;
/// Heartbeats that confirm the suspicion: one alone may just follow a burst of loss.
const STRIKES: u8 = 2;
/// Numbers of probes that are remembered. More are never under way.
const NUMBERS_KEPT: usize = 4 * (STEPS.len() + 1);

/// The search for one link and direction.
#[derive(Debug)]
pub(crate) struct PathMtu {
    /// What both ends accept.
    max: u16,
    /// What the path is known to take; `None` before the first answer.
    known: Option<u16>,
    /// The peer counts sizes and answers probes.
    peer_counts: bool,
    /// Sizes to be asked for, the largest first.
    asking: VecDeque<u16>,
    tries: u8,
    next_try: Option<Timestamp>,
    probes_sent: u32,
    /// Packet numbers of the last probes.
    numbers: VecDeque<u64>,
    large: LargeWatch,
    fallbacks: u64,
}

/// Whether large datagrams arrive.
#[derive(Debug, Default)]
struct LargeWatch {
    /// What the peer has received, as it said last.
    told: u16,
    /// Sent since it last said something new.
    unconfirmed: u32,
    /// Packet number at which enough of them were sent to be suspicious.
    suspicious_from: Option<u64>,
    strikes: u8,
}

impl PathMtu {
    pub(crate) fn new(max_datagram: u16) -> PathMtu {
        PathMtu {
            max: max_datagram,
            known: None,
            peer_counts: false,
            asking: VecDeque::new(),
            tries: 0,
            next_try: None,
            probes_sent: 0,
            numbers: VecDeque::new(),
            large: LargeWatch::default(),
            fallbacks: 0,
        }
    }

    /// Largest datagram (sealed, UDP payload).
    pub(crate) fn datagram_max(&self) -> u16 {
        self.known.unwrap_or_else(|| self.max.min(DATAGRAM_BYTES_UNPROBED as u16))
    }

    /// Largest plain datagram; room for parity is left.
    pub(crate) fn plain_max(&self) -> usize {
        usize::from(self.datagram_max()).saturating_sub(SEAL_OVERHEAD_BYTES + PARITY_ROOM_BYTES)
    }

    /// Largest plain datagram that is sent again; what was larger is asked for in vain until the path takes it.
    pub(crate) fn again_max(&self) -> usize {
        self.plain_max() + PARITY_ROOM_BYTES - AGAIN_BYTES
    }

    /// The peer rejoins frames that were cut.
    pub(crate) fn peer_rejoins(&self) -> bool {
        self.peer_counts
    }

    pub(crate) fn fallbacks(&self) -> u64 {
        self.fallbacks
    }

    pub(crate) fn probes_sent(&self) -> u32 {
        self.probes_sent
    }

    /// Probes among the datagrams up to a packet number, given by its low 32 bits.
    pub(crate) fn probes_until(&self, highest: u32) -> u32 {
        let later = |number: &&u64| (**number as u32).wrapping_sub(highest).wrapping_sub(1) < u32::MAX / 2;
        self.probes_sent.wrapping_sub(self.numbers.iter().filter(later).count() as u32)
    }

    /// When [`PathMtu::tick`] is due.
    pub(crate) fn next_tick(&self) -> Option<Timestamp> {
        self.next_try
    }

    /// Asks again, or gives up what was not answered. Says how many probes are to be sent now.
    pub(crate) fn tick(&mut self, now: Timestamp) -> usize {
        if self.next_try.is_none_or(|at| now < at) {
            return 0;
        }
        // Whoever counts sizes answers; so the path does not even take what was sent unasked.
        self.known.get_or_insert(DATAGRAM_BYTES_BASE as u16);
        if self.tries < TRIES {
            return self.ask(now);
        }
        self.tries = TRIES - 1;
        self.next_try = Some(now + RAISE_EVERY);
        0
    }

    /// A heartbeat said what has arrived. Says how many probes are to be sent now.
    pub(crate) fn heartbeat(&mut self, now: Timestamp, highest: u32, counts: SizeCounts) -> usize {
        if !self.peer_counts {
            self.peer_counts = true;
            return self.ask(now);
        }
        let large = &mut self.large;
        if large.told != counts.large_received {
            *large = LargeWatch { told: counts.large_received, ..LargeWatch::default() };
        } else if large.suspicious_from.is_some_and(|n| highest.wrapping_sub(n as u32) < u32::MAX / 2) {
            large.strikes += 1;
            if large.strikes >= STRIKES {
                return self.fall_back(now);
            }
        }
        0
    }

    fn fall_back(&mut self, now: Timestamp) -> usize {
        self.fallbacks += 1;
        self.begin_anew(now)
    }

    /// The path is another one, and what it takes is not known. Says how many probes are to be sent now.
    pub(crate) fn moved(&mut self, now: Timestamp) -> usize {
        if self.peer_counts { self.begin_anew(now) } else { 0 }
    }

    fn begin_anew(&mut self, now: Timestamp) -> usize {
        self.large = LargeWatch { told: self.large.told, ..LargeWatch::default() };
        self.known = Some(DATAGRAM_BYTES_BASE as u16);
        self.tries = 0;
        self.ask(now)
    }

    /// The peer received a probe. `true` if larger datagrams may be sent from now on.
    pub(crate) fn answered(&mut self, bytes: u16) -> bool {
        let news = bytes <= self.max && self.known.is_none_or(|known| bytes > known);
        if news {
            self.known = Some(bytes);
            self.asking.retain(|size| *size > bytes);
        }
        news
    }

    /// The next size to ask for.
    pub(crate) fn next_probe(&self) -> Option<u16> {
        self.asking.front().copied()
    }

    /// The probe of [`PathMtu::next_probe`] leaves under a packet number.
    pub(crate) fn probe_leaves(&mut self, number: u64) -> Option<MtuProbe> {
        let bytes = self.asking.pop_front()?;
        self.probes_sent = self.probes_sent.wrapping_add(1);
        if self.numbers.len() >= NUMBERS_KEPT {
            self.numbers.pop_front();
        }
        self.numbers.push_back(number);
        Some(MtuProbe { answer: false, bytes, count: self.probes_sent as u16 })
    }

    /// So many datagrams larger than what every path carries have left, the last under a packet number.
    pub(crate) fn large_leave(&mut self, count: u32, last: u64) {
        let large = &mut self.large;
        large.unconfirmed = large.unconfirmed.saturating_add(count);
        if self.peer_counts && large.unconfirmed >= LARGE_LOST {
            large.suspicious_from.get_or_insert(last);
        }
    }

    fn ask(&mut self, now: Timestamp) -> usize {
        let known = self.known.unwrap_or(DATAGRAM_BYTES_BASE as u16);
        let max = self.max;
        self.asking.clear();
        self.asking.extend(Some(max).filter(|max| *max > known));
        self.asking.extend(STEPS.into_iter().rev().filter(|size| (known + 1..max).contains(size)));
        self.tries += 1;
        self.next_try = Some(now + TRY_EVERY);
        self.asking.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_micros(ms * 1000)
    }

    fn counts(large_received: u16) -> SizeCounts {
        SizeCounts { large_received, ..SizeCounts::default() }
    }

    /// Sends what is to be asked over a path that takes `path` bytes, and answers at once.
    fn probe(mtu: &mut PathMtu, number: &mut u64, path: u16) -> Vec<u16> {
        let mut sizes = Vec::new();
        while mtu.next_probe().is_some() {
            *number += 1;
            let probe = mtu.probe_leaves(*number).expect("there is one");
            sizes.push(probe.bytes);
            if probe.bytes <= path {
                mtu.answered(probe.bytes);
            }
        }
        sizes
    }

    #[test]
    fn the_largest_size_that_arrives_is_known_after_one_round_trip() {
        for (path, found) in
            [(9000, 1472), (1472, 1472), (1460, 1452), (1372, 1372), (1252, 1252), (1239, 1232)]
        {
            let (mut mtu, mut number) = (PathMtu::new(1472), 0);
            assert_eq!((mtu.datagram_max(), mtu.next_probe(), mtu.peer_rejoins()), (1452, None, false));
            assert_eq!(mtu.heartbeat(at(0), 0, counts(0)), 8);
            probe(&mut mtu, &mut number, path);
            assert_eq!((mtu.datagram_max(), mtu.peer_rejoins()), (found, true), "{path}");
        }
    }

    #[test]
    fn a_path_that_moved_is_asked_anew() {
        let (mut mtu, mut number) = (PathMtu::new(1472), 0);
        assert_eq!(mtu.moved(at(0)), 0, "the peer would not answer");
        mtu.heartbeat(at(0), 0, counts(0));
        probe(&mut mtu, &mut number, 1472);
        assert_eq!(mtu.datagram_max(), 1472);
        assert_eq!((mtu.moved(at(1000)), mtu.datagram_max()), (8, DATAGRAM_BYTES_BASE as u16));
        probe(&mut mtu, &mut number, 1400);
        assert_eq!((mtu.datagram_max(), mtu.fallbacks()), (1392, 0));
    }

    #[test]
    fn the_configured_maximum_is_asked_for_and_never_exceeded() {
        let (mut mtu, mut number) = (PathMtu::new(1300), 0);
        mtu.heartbeat(at(0), 0, counts(0));
        assert_eq!(probe(&mut mtu, &mut number, 1200), [1300, 1252, 1232]);
        assert!(!mtu.answered(1472));
        assert!(mtu.answered(1300));
        assert_eq!(mtu.tick(at(500)), 0, "nothing is left to ask for");
    }

    #[test]
    fn what_is_not_answered_is_asked_three_times_and_then_once_a_minute() {
        let (mut mtu, mut number) = (PathMtu::new(1472), 0);
        mtu.heartbeat(at(0), 0, counts(0));
        let mut asked = Vec::new();
        for ms in (0..200_000).step_by(50) {
            mtu.tick(at(ms));
            if !probe(&mut mtu, &mut number, 1400).is_empty() {
                asked.push(ms);
            }
        }
        assert_eq!(asked, [0, 500, 1000, 61_500, 122_000, 182_500]);
        assert_eq!(mtu.datagram_max(), 1392);
        assert_eq!(probe(&mut mtu, &mut number, 9000), []);
        mtu.tick(at(243_000));
        assert_eq!(probe(&mut mtu, &mut number, 9000), [1472], "the answer makes the others needless");
        assert_eq!(mtu.datagram_max(), 1472);
    }

    #[test]
    fn a_path_that_answers_nothing_is_taken_for_the_narrowest() {
        let mut mtu = PathMtu::new(1472);
        mtu.heartbeat(at(0), 0, counts(0));
        assert_eq!(mtu.datagram_max(), 1452);
        mtu.tick(at(500));
        assert_eq!(mtu.datagram_max(), 1200);
    }

    #[test]
    fn a_peer_that_counts_no_sizes_is_sent_what_it_always_was() {
        let mut mtu = PathMtu::new(1452);
        for ms in (0..100_000).step_by(100) {
            assert_eq!(mtu.tick(at(ms)), 0);
            mtu.large_leave(100, ms);
        }
        assert_eq!((mtu.datagram_max(), mtu.next_probe(), mtu.peer_rejoins()), (1452, None, false));
    }

    #[test]
    fn large_datagrams_that_vanish_while_others_arrive_mean_a_narrower_path() {
        let (mut mtu, mut number) = (PathMtu::new(1472), 0);
        mtu.heartbeat(at(0), 0, counts(0));
        probe(&mut mtu, &mut number, 1472);
        for round in 1..100 {
            number += 10;
            mtu.large_leave(10, number);
            assert_eq!(mtu.heartbeat(at(33 * round), number as u32, counts(9 * round as u16)), 0);
        }
        number += 10;
        mtu.large_leave(10, number);
        assert_eq!(mtu.heartbeat(at(4000), number as u32 - 1, counts(891)), 0, "they may be under way");
        assert_eq!(
            mtu.heartbeat(at(4033), number as u32 + 1, counts(891)),
            0,
            "a burst of loss may have ended"
        );
        assert_eq!(mtu.heartbeat(at(4066), number as u32 + 2, counts(891)), 8);
        assert_eq!((mtu.datagram_max(), mtu.fallbacks()), (1200, 1));
        probe(&mut mtu, &mut number, 1380);
        assert_eq!(mtu.datagram_max(), 1372);
    }

    #[test]
    fn a_false_alarm_is_over_with_the_next_answers() {
        let (mut mtu, mut number) = (PathMtu::new(1472), 0);
        mtu.heartbeat(at(0), 0, counts(0));
        probe(&mut mtu, &mut number, 1472);
        mtu.large_leave(6, 20);
        mtu.heartbeat(at(100), 20, counts(0));
        mtu.heartbeat(at(133), 21, counts(0));
        assert_eq!((mtu.datagram_max(), mtu.fallbacks()), (1200, 1));
        probe(&mut mtu, &mut number, 1472);
        assert_eq!(mtu.datagram_max(), 1472);
    }

    #[test]
    fn probes_up_to_a_number_are_counted_without_those_under_way() {
        let mut mtu = PathMtu::new(1472);
        mtu.heartbeat(at(0), 0, counts(0));
        let first = u64::from(u32::MAX) - 2;
        for number in first..first + 8 {
            mtu.probe_leaves(number);
        }
        assert_eq!(mtu.probes_until(u32::MAX - 3), 0);
        assert_eq!(mtu.probes_until(u32::MAX), 3);
        assert_eq!(mtu.probes_until(0), 4);
        assert_eq!(mtu.probes_until(100), 8);
    }
}
