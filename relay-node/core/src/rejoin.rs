//! Halves of frames that are larger than a datagram of their link, until both are here.
//!
//! Halves travel next to each other, so what waits is what the path reordered or lost: little, and not for long.

use std::collections::VecDeque;
use std::time::Duration;
use wire_format::{
    FRAGMENT_HEADER_BYTES, FragmentHeader, FrameError, FrameKind, RawFrame, Timestamp, whole_frame,
};

/// Halves that wait on one link; together they hold at most 128 KiB.
pub(crate) const HALVES_MAX: usize = 64;
/// How long a half waits for the other.
const WAIT: Duration = Duration::from_millis(200);

/// Halves of one link.
#[derive(Debug, Default)]
pub(crate) struct Rejoin {
    /// The oldest first.
    halves: VecDeque<Half>,
    /// Buffers to use again.
    spare: Vec<Vec<u8>>,
    lost: u64,
}

#[derive(Debug)]
struct Half {
    header: FragmentHeader,
    came: Timestamp,
    bytes: Vec<u8>,
}

impl Rejoin {
    /// A half came. If it is the missing one, the frame is in `whole` and its parts are returned.
    ///
    /// # Errors
    /// [`FrameError`] if the body or the frame made of both makes no sense; only media is cut.
    pub(crate) fn half(
        &mut self,
        now: Timestamp,
        body: &[u8],
        whole: &mut Vec<u8>,
    ) -> Result<Option<RawFrame>, FrameError> {
        let header = FragmentHeader::decode(body)?;
        let share = &body[FRAGMENT_HEADER_BYTES..];
        self.expire(now);
        let other = FragmentHeader { second: !header.second, ..header };
        let Some(place) = self.halves.iter().rposition(|half| half.header == other) else {
            self.keep(now, header, share);
            return Ok(None);
        };
        let Some(other) = self.halves.remove(place) else { return Ok(None) };
        let (first, second) =
            if header.second { (&other.bytes[..], share) } else { (share, &other.bytes[..]) };
        whole.clear();
        whole.extend_from_slice(first);
        whole.extend_from_slice(second);
        self.spare.push(other.bytes);
        let frame = whole_frame(whole)?;
        match frame.kind {
            FrameKind::Media | FrameKind::Edge => Ok(Some(frame)),
            FrameKind::Heartbeat
            | FrameKind::KeyframeRequest
            | FrameKind::EdgeKeyframeRequest
            | FrameKind::Fragment
            | FrameKind::MtuProbe
            | FrameKind::PathChallenge
            | FrameKind::RepairRequest
            | FrameKind::Repair
            | FrameKind::Parity
            | FrameKind::Unknown(_) => Err(FrameError::Field),
        }
    }

    /// Halves given up since the last call: the other did not come in time, or too many waited.
    pub(crate) fn take_lost(&mut self, now: Timestamp) -> u64 {
        self.expire(now);
        std::mem::take(&mut self.lost)
    }

    fn keep(&mut self, now: Timestamp, header: FragmentHeader, share: &[u8]) {
        if self.halves.len() >= HALVES_MAX {
            self.give_up_oldest();
        }
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(share);
        self.halves.push_back(Half { header, came: now, bytes });
    }

    fn expire(&mut self, now: Timestamp) {
        while self.halves.front().is_some_and(|half| now.since(half.came) > WAIT) {
            self.give_up_oldest();
        }
    }

    fn give_up_oldest(&mut self) {
        if let Some(half) = self.halves.pop_front() {
            self.lost += 1;
            self.spare.push(half.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire_format::frame_header;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_micros(ms * 1000)
    }

    /// Both halves of a media frame with a body of so many bytes.
    fn halves(id: u16, bytes: usize) -> [Vec<u8>; 2] {
        let mut frame = frame_header(FrameKind::Media, bytes).to_vec();
        frame.extend((0..bytes).map(|byte| byte as u8));
        let (first, second) = frame.split_at(frame.len().div_ceil(2));
        [(false, first), (true, second)]
            .map(|(second, share)| [&FragmentHeader { id, second }.encode(), share].concat())
    }

    #[test]
    fn both_halves_make_the_frame_in_either_order() {
        let mut whole = Vec::new();
        for swap in [false, true] {
            let mut rejoin = Rejoin::default();
            let [mut one, mut other] = halves(7, 1501);
            if swap {
                std::mem::swap(&mut one, &mut other);
            }
            assert_eq!(rejoin.half(at(0), &one, &mut whole), Ok(None));
            let frame = rejoin.half(at(200), &other, &mut whole).expect("sound").expect("whole");
            assert_eq!((frame.kind, frame.body.len()), (FrameKind::Media, 1501));
            assert!(whole[frame.body].iter().enumerate().all(|(i, byte)| *byte == i as u8));
            assert_eq!(rejoin.take_lost(at(10_000)), 0);
        }
    }

    #[test]
    fn a_half_waits_for_200_ms_and_is_counted_when_given_up() {
        let (mut rejoin, mut whole) = (Rejoin::default(), Vec::new());
        let [first, second] = halves(7, 1501);
        assert_eq!(rejoin.half(at(0), &first, &mut whole), Ok(None));
        assert_eq!(rejoin.half(at(201), &second, &mut whole), Ok(None));
        assert_eq!(
            (rejoin.take_lost(at(201)), rejoin.take_lost(at(402)), rejoin.take_lost(at(999))),
            (1, 1, 0)
        );
    }

    #[test]
    fn as_many_as_allowed_wait_and_the_oldest_goes_first() {
        let (mut rejoin, mut whole) = (Rejoin::default(), Vec::new());
        for id in 0..=HALVES_MAX as u16 {
            assert_eq!(rejoin.half(at(0), &halves(id, 1300)[0], &mut whole), Ok(None));
        }
        assert_eq!(rejoin.take_lost(at(0)), 1);
        assert_eq!(rejoin.half(at(0), &halves(0, 1300)[1], &mut whole), Ok(None), "given up");
        let last = halves(HALVES_MAX as u16, 1300);
        assert!(rejoin.half(at(0), &last[1], &mut whole).expect("sound").is_some());
        let held: usize = rejoin.halves.iter().map(|half| half.bytes.capacity()).sum();
        assert!(held + rejoin.spare.iter().map(Vec::capacity).sum::<usize>() <= 128 << 10);
    }

    #[test]
    fn halves_that_do_not_belong_together_make_nothing() {
        let (mut rejoin, mut whole) = (Rejoin::default(), Vec::new());
        let ([first, _], [_, second]) = (halves(7, 1501), halves(7, 1401));
        assert_eq!(rejoin.half(at(0), &first, &mut whole), Ok(None));
        assert_eq!(rejoin.half(at(0), &second, &mut whole), Err(FrameError::Truncated));
        // A fragment in fragments would be a way to hide work from every limit.
        let mut inner = frame_header(FrameKind::Fragment, 5).to_vec();
        inner.extend([0, 1, 0, 1, 1]);
        let halves = [(false, &inner[..3]), (true, &inner[3..])]
            .map(|(second, share)| [&FragmentHeader { id: 9, second }.encode(), share].concat());
        assert_eq!(rejoin.half(at(0), &halves[0], &mut whole), Ok(None));
        assert_eq!(rejoin.half(at(0), &halves[1], &mut whole), Err(FrameError::Field));
    }
}
