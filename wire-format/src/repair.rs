//! What two neighbours say to each other about datagrams that got lost between them: requests, and datagrams sent again.

use crate::{FrameError, PacketNumber};

/// Bytes of a repair's body before the datagram that it repeats.
pub const REPAIR_HEADER_BYTES: usize = 4;
/// Ranges of one request.
pub const REQUEST_RANGES_MAX: usize = 64;
/// Bytes of a range.
const RANGE_BYTES: usize = 3;
/// Bytes before the ranges.
const FIXED_BYTES: usize = 5;
/// Longest body of a request.
pub const REQUEST_BYTES_MAX: usize = FIXED_BYTES + REQUEST_RANGES_MAX * RANGE_BYTES;
/// Flag: nothing came for longer than usual.
const SILENT: u8 = 0x01;

/// Some datagrams in a row that did not arrive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MissingRange {
    /// The first.
    pub first: PacketNumber,
    /// How many.
    pub count: u8,
}

/// What of the other direction is missing: everything, of the numbers that it covers.
///
/// ```text
/// zero (7) silent (1) , through (32) , then for each range, newest first:  gap (16) , count (8)
/// ```
///
/// `silent`: nothing has come for longer than usual, so what should have come by then is missing, too. `through` is the highest number covered; a range ends `gap` numbers before the one above it begins, the first of them
/// `gap` numbers before `through + 1`, and is `count` numbers long.
#[derive(Clone, Copy, Debug)]
pub struct RepairRequest<'a> {
    /// What should have come by now after the highest number covered is missing, too.
    pub silent: bool,
    through: u32,
    ranges: &'a [u8],
}

impl<'a> RepairRequest<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] if it ends within a field, [`FrameError::Field`] if it has more than
    /// [`REQUEST_RANGES_MAX`] ranges or an empty one.
    pub fn decode(body: &'a [u8]) -> Result<RepairRequest<'a>, FrameError> {
        let (fixed, ranges) = body.split_first_chunk::<FIXED_BYTES>().ok_or(FrameError::Truncated)?;
        let [flags, through @ ..] = *fixed;
        if ranges.len() % RANGE_BYTES != 0 {
            return Err(FrameError::Truncated);
        }
        let empty = |range: &[u8]| range[RANGE_BYTES - 1] == 0;
        if ranges.len() > REQUEST_RANGES_MAX * RANGE_BYTES || ranges.chunks_exact(RANGE_BYTES).any(empty) {
            return Err(FrameError::Field);
        }
        Ok(RepairRequest { silent: flags & SILENT != 0, through: u32::from_be_bytes(through), ranges })
    }

    /// The highest number covered, for a sender whose next number is `next`; `None` if no number so high was sent.
    pub fn through(&self, next: u64) -> Option<PacketNumber> {
        widen(self.through, next)
    }

    /// The ranges, newest first, for a sender whose next number is `next`. Ends at the first that begins below zero.
    pub fn ranges(&self, next: u64) -> impl Iterator<Item = MissingRange> + use<'a> {
        let mut below = self.through(next).map(|through| through.0 + 1);
        self.ranges.chunks_exact(RANGE_BYTES).map_while(move |range| {
            let gap = u64::from(u16::from_be_bytes([range[0], range[1]]));
            let first = below?.checked_sub(gap + u64::from(range[2]))?;
            below = Some(first);
            Some(MissingRange { first: PacketNumber(first), count: range[2] })
        })
    }

    /// Writes a body to the beginning of `out` (at least [`REQUEST_BYTES_MAX`] bytes): what is missing of the numbers up
    /// to `through`, newest first, as much of it as fits. Returns its length.
    pub fn encode(
        silent: bool,
        through: PacketNumber,
        newest_first: impl Iterator<Item = PacketNumber>,
        out: &mut [u8],
    ) -> usize {
        out[0] = u8::from(silent);
        out[1..FIXED_BYTES].copy_from_slice(&(through.0 as u32).to_be_bytes());
        let mut used = FIXED_BYTES;
        // The first number of the range that is written last, and its length.
        let (mut below, mut count) = (through.0 + 1, 0_u8);
        for PacketNumber(number) in newest_first {
            if count > 0 && number + 1 == below && count < u8::MAX {
                count += 1;
                out[used - 1] = count;
                below = number;
                continue;
            }
            let Some(gap) = below.checked_sub(number + 1).and_then(|gap| u16::try_from(gap).ok()) else {
                break;
            };
            if used + RANGE_BYTES > REQUEST_BYTES_MAX {
                break;
            }
            out[used..used + 2].copy_from_slice(&gap.to_be_bytes());
            count = 1;
            out[used + 2] = count;
            used += RANGE_BYTES;
            below = number;
        }
        used
    }
}

/// The datagram that a repair repeats: its number, for a receiver whose highest number is `highest`, and its plain bytes,
/// send time first.
///
/// ```text
/// number (32) , plain datagram
/// ```
///
/// # Errors
/// [`FrameError::Truncated`] if the body ends before the datagram's first frame would begin, [`FrameError::Field`] if the
/// number is above `highest`.
pub fn repaired(body: &[u8], highest: u64) -> Result<(PacketNumber, &[u8]), FrameError> {
    let (number, plain) = body.split_first_chunk::<REPAIR_HEADER_BYTES>().ok_or(FrameError::Truncated)?;
    if plain.len() <= crate::SEND_TIME_BYTES {
        return Err(FrameError::Truncated);
    }
    let number = widen(u32::from_be_bytes(*number), highest.saturating_add(1)).ok_or(FrameError::Field)?;
    Ok((number, plain))
}

/// The number below `next` that has these low bits, the highest of them; `None` if none has.
pub(crate) fn widen(low: u32, next: u64) -> Option<PacketNumber> {
    let behind = (next.wrapping_sub(1) as u32).wrapping_sub(low);
    next.checked_sub(1)?.checked_sub(u64::from(behind)).map(PacketNumber)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn numbers_are_the_highest_below_the_next_one() {
        assert_eq!(widen(5, 6), Some(PacketNumber(5)));
        assert_eq!(widen(5, 5), None, "never sent");
        assert_eq!(widen(u32::MAX, (7 << 32) + 3), Some(PacketNumber((7 << 32) - 1)));
        assert_eq!(widen(2, (7 << 32) + 3), Some(PacketNumber((7 << 32) + 2)));
        assert_eq!(widen(0, 0), None);
    }

    proptest! {
        #[test]
        fn a_request_says_what_is_missing(
            start in prop_oneof![0_u64..10, (1_u64 << 32) - 50..(1 << 32) + 50],
            missing in prop::collection::btree_set(0_u64..400, 0..120),
            silent: bool,
        ) {
            let through = start + 400;
            let mut out = [0; REQUEST_BYTES_MAX];
            let newest_first = missing.iter().rev().map(|number| PacketNumber(start + number));
            let used = RepairRequest::encode(silent, PacketNumber(through), newest_first, &mut out);
            let request = RepairRequest::decode(&out[..used]).expect("well-formed");
            prop_assert_eq!(request.silent, silent);
            prop_assert_eq!(request.through(through + 1), Some(PacketNumber(through)));
            let told: BTreeSet<u64> = request
                .ranges(through + 1)
                .flat_map(|range| range.first.0..range.first.0 + u64::from(range.count))
                .map(|number| number - start)
                .collect();
            let newest: BTreeSet<u64> = missing.iter().rev().take(told.len()).copied().collect();
            prop_assert_eq!(&told, &newest);
            let all = told.len() == missing.len();
            prop_assert!(all || used + RANGE_BYTES > REQUEST_BYTES_MAX);
        }

        #[test]
        fn any_bytes_make_a_bounded_request(body in prop::collection::vec(any::<u8>(), 0..300), next: u64) {
            if let Ok(request) = RepairRequest::decode(&body) {
                let ranges: Vec<_> = request.ranges(next).collect();
                prop_assert!(ranges.len() <= REQUEST_RANGES_MAX);
                prop_assert!(ranges.iter().all(|range| range.first.0 + u64::from(range.count) <= next));
            }
        }
    }
}
