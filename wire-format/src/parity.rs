//! Parity: Reed-Solomon over the datagrams of a link, as a window that slides.
//!
//! The code is the Reed-Solomon code of 128 data and 128 parity shards over GF(2^8) of `reed-solomon-erasure`, shortened to
//! the datagrams that a row covers. A datagram is the data shard of its number modulo 128, so no two of a row's may be 128
//! numbers apart. A row is a parity shard: the sum, over the datagrams covered, of each datagram times the code's
//! coefficient for row and datagram. Every square part of the table of coefficients is invertible (the code is MDS), so
//! any m rows that cover the same datagrams restore any m of them: a block of k datagrams and m rows is Reed-Solomon
//! k+m. Rows may as well cover different datagrams, as those of a window that slides do; then they restore as many as
//! there are rows, but for rare coincidences.
//!
//! A shard is the datagram's length (16 bits), then its plain bytes, then zeros: lengths and headers are restored with
//! the rest. A row is as long as the longest datagram that it covers.

use crate::repair::widen;
use crate::{FrameError, PacketNumber};
use reed_solomon_erasure::galois_8;

/// Datagrams of a row have numbers that are less than this apart.
pub const PARITY_SPAN: usize = 128;
/// Rows of the code, and numbers that a row may have.
pub const PARITY_ROWS: usize = 128;
/// Datagrams of a row, at most.
pub const PARITY_COVERED_MAX: usize = 64;
/// Bytes of the length before a shard's datagram.
pub const SHARD_LENGTH_BYTES: usize = 2;
/// Bytes of the longest bit map.
const MAP_BYTES_MAX: usize = PARITY_SPAN / 8;
/// Bytes of a row's header before the bit map.
pub const PARITY_FIXED_BYTES: usize = 6;
/// Longest header of a row.
pub const PARITY_HEADER_MAX: usize = PARITY_FIXED_BYTES + MAP_BYTES_MAX;

/// Which row it is, and the datagrams that it covers.
///
/// ```text
/// row (8) , bytes of the map (8) , base (32) , map
/// ```
///
/// Bit i (least significant = 0) of byte j of the map stands for the datagram of number `base + 8j + i`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ParityHeader {
    /// Row of the code.
    pub row: u8,
    /// The lowest number covered.
    pub base: PacketNumber,
    /// Bit i stands for number `base + i`.
    pub covered: u128,
}

impl ParityHeader {
    /// Reads the header of a row from a peer whose highest number is `highest`; returns it and its length. The row
    /// follows.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] if the body ends before the row has a length and a byte; [`FrameError::Field`] if the row
    /// is none of the code, the map is not its shortest form or covers too much, or the base is above `highest`
    /// or so high that numbers end.
    pub fn decode(body: &[u8], highest: u64) -> Result<(ParityHeader, usize), FrameError> {
        let (fixed, rest) = body.split_first_chunk::<PARITY_FIXED_BYTES>().ok_or(FrameError::Truncated)?;
        let [row, map_bytes, base @ ..] = *fixed;
        let map_bytes = usize::from(map_bytes);
        if usize::from(row) >= PARITY_ROWS || map_bytes == 0 || map_bytes > MAP_BYTES_MAX {
            return Err(FrameError::Field);
        }
        if rest.len() <= map_bytes + SHARD_LENGTH_BYTES {
            return Err(FrameError::Truncated);
        }
        let mut map = [0; MAP_BYTES_MAX];
        map[..map_bytes].copy_from_slice(&rest[..map_bytes]);
        let covered = u128::from_le_bytes(map);
        let shortest = covered & 1 == 1 && map[map_bytes - 1] != 0;
        if !shortest || covered.count_ones() as usize > PARITY_COVERED_MAX {
            return Err(FrameError::Field);
        }
        let base = widen(u32::from_be_bytes(base), highest.saturating_add(1)).ok_or(FrameError::Field)?;
        // So near the last number of all, what it covers has no numbers.
        if base.0.checked_add(PARITY_SPAN as u64).is_none() {
            return Err(FrameError::Field);
        }
        Ok((ParityHeader { row, base, covered }, PARITY_FIXED_BYTES + map_bytes))
    }

    /// Writes the header to the beginning of `out` (at least [`PARITY_HEADER_MAX`] bytes); returns its length.
    pub fn encode(&self, out: &mut [u8]) -> usize {
        let map_bytes = self.map_bytes();
        out[0] = self.row;
        out[1] = map_bytes as u8;
        out[2..PARITY_FIXED_BYTES].copy_from_slice(&(self.base.0 as u32).to_be_bytes());
        out[PARITY_FIXED_BYTES..PARITY_FIXED_BYTES + map_bytes]
            .copy_from_slice(&self.covered.to_le_bytes()[..map_bytes]);
        PARITY_FIXED_BYTES + map_bytes
    }

    /// Length of the header.
    pub fn bytes(&self) -> usize {
        PARITY_FIXED_BYTES + self.map_bytes()
    }

    /// The numbers covered, ascending.
    pub fn numbers(&self) -> impl Iterator<Item = PacketNumber> + use<> {
        let (base, mut left) = (self.base.0, self.covered);
        std::iter::from_fn(move || {
            let at = left.trailing_zeros();
            if at >= u128::BITS {
                return None;
            }
            left &= left - 1;
            Some(PacketNumber(base + u64::from(at)))
        })
    }

    /// Whether it covers a number.
    pub fn covers(&self, number: PacketNumber) -> bool {
        let at = number.0.checked_sub(self.base.0).and_then(|at| u32::try_from(at).ok());
        at.and_then(|at| self.covered.checked_shr(at)).is_some_and(|covered| covered & 1 == 1)
    }

    fn map_bytes(&self) -> usize {
        (u128::BITS - self.covered.leading_zeros()).div_ceil(8).max(1) as usize
    }
}

/// The coefficient of a datagram in a row. Never zero.
pub fn coefficient(row: u8, number: PacketNumber) -> u8 {
    COEFFICIENTS[usize::from(row) % PARITY_ROWS][number.0 as usize % PARITY_SPAN]
}

/// How this processor adds and multiplies.
#[derive(Clone, Copy, Debug)]
pub struct Arithmetic {
    vectors: bool,
}

impl Arithmetic {
    /// Asks the processor: to be done once, not for every row.
    pub fn of_this_processor() -> Arithmetic {
        // Everything that `simd-accel` is compiled for. Processors that have one of it have nearly always all.
        #[cfg(target_arch = "x86_64")]
        let vectors = std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("bmi1")
            && std::arch::is_x86_feature_detected!("bmi2")
            && std::arch::is_x86_feature_detected!("f16c")
            && std::arch::is_x86_feature_detected!("fma")
            && std::arch::is_x86_feature_detected!("lzcnt")
            && std::arch::is_x86_feature_detected!("movbe")
            && std::arch::is_x86_feature_detected!("popcnt");
        #[cfg(not(target_arch = "x86_64"))]
        let vectors = true;
        Arithmetic { vectors }
    }

    /// Adds a datagram, times a factor, to a row that is at least as long as its shard. Taking it away again is the same.
    pub fn add_datagram(self, factor: u8, plain: &[u8], row: &mut [u8]) {
        let length = (plain.len() as u16).to_be_bytes();
        let (head, body) = row.split_at_mut(SHARD_LENGTH_BYTES);
        for (sum, byte) in head.iter_mut().zip(length) {
            *sum ^= galois_8::mul(factor, byte);
        }
        self.add_bytes(factor, plain, &mut body[..plain.len()]);
    }

    /// Adds a row, times a factor, to another that is at least as long.
    pub fn add_row(self, factor: u8, addend: &[u8], row: &mut [u8]) {
        self.add_bytes(factor, addend, &mut row[..addend.len()]);
    }

    fn add_bytes(self, factor: u8, from: &[u8], to: &mut [u8]) {
        if from.is_empty() || factor == 0 {
            return;
        }
        if self.vectors {
            galois_8::mul_slice_xor(factor, from, to);
            return;
        }
        for (sum, byte) in to.iter_mut().zip(from) {
            *sum ^= galois_8::mul(factor, *byte);
        }
    }
}

/// Divides a row by what is not zero.
pub fn divide_row(divisor: u8, row: &mut [u8]) {
    let factor = quotient(1, divisor);
    for byte in row {
        *byte = galois_8::mul(factor, *byte);
    }
}

/// Divides one coefficient by another that is not zero.
pub fn quotient(dividend: u8, divisor: u8) -> u8 {
    galois_8::div(dividend, divisor)
}

/// The datagram within a shard.
///
/// # Errors
/// [`FrameError::Truncated`] if its length is not one of a datagram with a frame, or beyond the shard.
pub fn datagram_of(shard: &[u8]) -> Result<&[u8], FrameError> {
    let (length, rest) = shard.split_first_chunk::<SHARD_LENGTH_BYTES>().ok_or(FrameError::Truncated)?;
    let length = usize::from(u16::from_be_bytes(*length));
    if length <= crate::SEND_TIME_BYTES {
        return Err(FrameError::Truncated);
    }
    rest.get(..length).ok_or(FrameError::Truncated)
}

/// The part of the code that makes parity shards: row, then number modulo 128. A data shard is the value of a polynomial
/// at its number, a parity shard that at 128 and its row; so the coefficients are those of Lagrange's interpolation.
const COEFFICIENTS: [[u8; PARITY_SPAN]; PARITY_ROWS] = coefficients();

const fn coefficients() -> [[u8; PARITY_SPAN]; PARITY_ROWS] {
    let (log, exp) = logarithms();
    let mut rows = [[0; PARITY_SPAN]; PARITY_ROWS];
    // Logarithm of the product of all differences of a data point from the others, modulo 255.
    let mut apart = [0_u32; PARITY_SPAN];
    let mut column = 0;
    while column < PARITY_SPAN {
        let mut other = 0;
        while other < PARITY_SPAN {
            if other != column {
                apart[column] += log[column ^ other];
            }
            other += 1;
        }
        column += 1;
    }
    let mut row = 0;
    while row < PARITY_ROWS {
        let point = PARITY_SPAN + row;
        let mut all = 0;
        let mut column = 0;
        while column < PARITY_SPAN {
            all += log[point ^ column];
            column += 1;
        }
        column = 0;
        while column < PARITY_SPAN {
            let divisor = (log[point ^ column] + apart[column]) % 255;
            rows[row][column] = exp[((all + 255 - divisor) % 255) as usize];
            column += 1;
        }
        row += 1;
    }
    rows
}

/// Logarithms and powers of the field's generator 2, polynomial 0x11D.
const fn logarithms() -> ([u32; 256], [u8; 255]) {
    let (mut log, mut exp) = ([0; 256], [0; 255]);
    let (mut value, mut power) = (1_u32, 0);
    while power < 255 {
        exp[power] = value as u8;
        log[value as usize] = power as u32;
        value <<= 1;
        if value > 0xFF {
            value ^= 0x11D;
        }
        power += 1;
    }
    (log, exp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use reed_solomon_erasure::galois_8::ReedSolomon;

    #[test]
    fn no_coefficient_is_zero() {
        for row in 0..PARITY_ROWS as u8 {
            assert!((0..PARITY_SPAN as u64).all(|number| coefficient(row, PacketNumber(number)) != 0));
        }
    }

    fn arithmetic() -> Arithmetic {
        Arithmetic::of_this_processor()
    }

    /// Solves for what is missing, the straightforward way.
    fn solve(mut rows: Vec<(Vec<u8>, Vec<u8>)>) -> Option<Vec<Vec<u8>>> {
        let unknowns = rows.first()?.0.len();
        for column in 0..unknowns {
            let pivot = (column..rows.len()).find(|row| rows[*row].0[column] != 0)?;
            rows.swap(column, pivot);
            let (factors, sum) = rows[column].clone();
            for (place, (other, other_sum)) in rows.iter_mut().enumerate() {
                if place != column && other[column] != 0 {
                    let factor = quotient(other[column], factors[column]);
                    for (own, more) in other.iter_mut().zip(&factors) {
                        *own ^= galois_8::mul(factor, *more);
                    }
                    arithmetic().add_row(factor, &sum, other_sum);
                }
            }
        }
        rows.truncate(unknowns);
        Some(
            rows.into_iter()
                .enumerate()
                .map(|(place, (factors, mut sum))| {
                    divide_row(factors[place], &mut sum);
                    sum
                })
                .collect(),
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_k_of_k_and_m_restore(
            datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 4..300), 1..=PARITY_COVERED_MAX),
            base: u32,
            first_row in 0_u8..100,
            picks in prop::collection::vec(any::<prop::sample::Index>(), 1..20),
        ) {
            let number = |place: usize| PacketNumber(u64::from(base) + place as u64);
            let lost: std::collections::BTreeSet<usize> =
                picks.iter().map(|pick| pick.index(datagrams.len())).collect();
            let longest = datagrams.iter().map(Vec::len).max().unwrap_or(0) + SHARD_LENGTH_BYTES;
            // As many rows as are lost arrive; which ones does not matter.
            let rows: Vec<_> = (0..lost.len() as u8).map(|row| {
                let row = first_row + row;
                let mut sum = vec![0; longest];
                for (place, plain) in datagrams.iter().enumerate() {
                    arithmetic().add_datagram(coefficient(row, number(place)), plain, &mut sum);
                }
                for (place, plain) in datagrams.iter().enumerate().filter(|(place, _)| !lost.contains(place)) {
                    arithmetic().add_datagram(coefficient(row, number(place)), plain, &mut sum);
                }
                (lost.iter().map(|place| coefficient(row, number(*place))).collect(), sum)
            }).collect();
            let restored = solve(rows).expect("any square part of the code is invertible");
            for (place, shard) in lost.iter().zip(restored) {
                prop_assert_eq!(datagram_of(&shard), Ok(&datagrams[*place][..]));
            }
        }

        #[test]
        fn with_and_without_vector_instructions_it_is_the_same(
            factor: u8, from in prop::collection::vec(any::<u8>(), 1..200)
        ) {
            let (mut one, mut other) = (vec![7; from.len()], vec![7; from.len()]);
            Arithmetic { vectors: false }.add_row(factor, &from, &mut one);
            arithmetic().add_row(factor, &from, &mut other);
            prop_assert_eq!(one, other);
        }

        #[test]
        fn a_header_is_read_as_it_was_written(row in 0_u8..128, base in 0_u64..1 << 40, more: u64, high: u64) {
            let covered = (u128::from(more & 0x5555_5555_5555_5555) | u128::from(high & 0x11) << 64) | 1;
            let header = ParityHeader { row, base: PacketNumber(base), covered };
            let mut out = [9; PARITY_HEADER_MAX + 3];
            let used = header.encode(&mut out);
            prop_assert_eq!(used, header.bytes());
            prop_assert_eq!(ParityHeader::decode(&out[..used + 3], base + 5), Ok((header, used)));
            prop_assert_eq!(ParityHeader::decode(&out[..used + 2], base + 5), Err(FrameError::Truncated));
            prop_assert_eq!(header.numbers().count(), covered.count_ones() as usize);
            let around = (base.saturating_sub(3)..base + 140).chain([base + (1 << 33)]).map(PacketNumber);
            let listed: Vec<_> = header.numbers().collect();
            prop_assert_eq!(around.filter(|number| header.covers(*number)).collect::<Vec<_>>(), listed);
        }

        #[test]
        fn any_bytes_make_a_header_within_bounds(body in prop::collection::vec(any::<u8>(), 0..40), highest in 0..u64::MAX) {
            if let Ok((header, used)) = ParityHeader::decode(&body, highest) {
                prop_assert!(header.base.0 <= highest && used < body.len());
                prop_assert!(header.numbers().count() <= PARITY_COVERED_MAX);
            }
        }
    }

    /// The library's own encoder and decoder agree with a block of this code.
    #[test]
    fn a_block_is_the_librarys_reed_solomon_code() {
        let code = ReedSolomon::new(PARITY_SPAN, PARITY_ROWS).expect("the same code");
        let data: Vec<Vec<u8>> = (0..PARITY_SPAN).map(|place| vec![place as u8 ^ 0x5A; 40]).collect();
        let mut parity = vec![vec![0; 40]; PARITY_ROWS];
        code.encode_sep(&data, &mut parity).expect("one length");
        for row in [0_u8, 1, 77, 127] {
            let mut sum = vec![0; 40];
            for (place, shard) in data.iter().enumerate() {
                arithmetic().add_row(coefficient(row, PacketNumber(place as u64)), shard, &mut sum);
            }
            assert_eq!(sum, parity[usize::from(row)]);
        }
    }
}
