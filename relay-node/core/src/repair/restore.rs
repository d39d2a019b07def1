//! The receiver of parity: restores what is missing from rows and from what arrived.
//!
//! What arrived is kept for as long as a row may cover it. A row that covers nothing missing is dropped at once. Otherwise
//! what arrived is taken out of it, and what is left is one equation in the datagrams that are missing; equations are kept
//! in reduced form (Gauss-Jordan), so that each new row or late datagram costs one pass over the few that wait, and a row
//! with one unknown left is that datagram.
//!
//! Everything is bounded: the datagrams kept by the span of the code, the rows that wait, the unknowns of each. Memory is
//! taken when the first row comes and given back when none has come for a while.

use super::RepairMemory;
use std::time::Duration;
use wire_format::parity::{
    Arithmetic, PARITY_SPAN, ParityHeader, SHARD_LENGTH_BYTES, coefficient, datagram_of, divide_row, quotient,
};
use wire_format::{DATAGRAM_BYTES_MAX, PacketNumber, Timestamp};

/// Rows that wait for more.
const ROWS_MAX: usize = 32;
/// What rows have as unknowns lies within so many numbers.
const COLUMNS: usize = 2 * PARITY_SPAN;
/// A row that waits may begin so far before those that come.
const BEHIND_MAX: u64 = PARITY_SPAN as u64 / 2;
/// A row that begins so far before what has come is of no use any more: most of what it covers is not kept.
const OLD: u64 = COLUMNS as u64 - BEHIND_MAX;
/// Room for one datagram or row.
const SLOT_BYTES: usize = DATAGRAM_BYTES_MAX + SHARD_LENGTH_BYTES;
/// Memory of one link.
const BYTES: usize = (PARITY_SPAN + ROWS_MAX + 1) * SLOT_BYTES + ROWS_MAX * size_of::<Row>();
/// Without a row for so long the memory is given back.
const IDLE: Duration = Duration::from_secs(30);

/// One datagram of those that a row may cover.
#[derive(Clone, Copy, Debug)]
struct Kept {
    number: PacketNumber,
    bytes: u16,
}

/// Coefficients of unknowns by number modulo [`COLUMNS`]; zero where there is none.
type Factors = [u8; COLUMNS];

/// A row that waits: unknowns with their coefficients, and the sum of the rest.
#[derive(Clone, Debug)]
struct Row {
    factors: Factors,
    unknowns: usize,
    /// The lowest unknown, which is in no other row.
    pivot: PacketNumber,
    /// Place of its bytes.
    slot: usize,
    bytes: usize,
}

/// What is kept of one direction of a link to restore what is missing.
#[derive(Debug)]
pub(crate) struct Restore {
    /// By number modulo the span of the code.
    kept: Vec<Option<Kept>>,
    datagrams: Vec<u8>,
    rows: Vec<Row>,
    /// Bytes of rows, and those that are free.
    sums: Vec<u8>,
    free: Vec<usize>,
    /// Restored, and not yet taken: number, place in `sums`, and length.
    restored: Vec<(PacketNumber, usize, usize)>,
    row_at: Timestamp,
    arithmetic: Arithmetic,
}

/// Why a row was of no use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Useless {
    /// Nothing that it covers is missing, or it says nothing new.
    Nothing,
    /// It covers what cannot be known any more, or makes no sense.
    Strange,
}

impl Restore {
    /// `None` if there is no memory for it.
    pub(crate) fn new(now: Timestamp, memory: &mut RepairMemory) -> Option<Restore> {
        memory.take(BYTES).then(|| Restore {
            kept: vec![None; PARITY_SPAN],
            datagrams: vec![0; PARITY_SPAN * SLOT_BYTES],
            rows: Vec::with_capacity(ROWS_MAX),
            sums: vec![0; (ROWS_MAX + 1) * SLOT_BYTES],
            free: (0..=ROWS_MAX).collect(),
            restored: Vec::with_capacity(ROWS_MAX),
            row_at: now,
            arithmetic: Arithmetic::of_this_processor(),
        })
    }

    /// Gives the memory back.
    pub(crate) fn release(self, memory: &mut RepairMemory) {
        memory.give_back(BYTES);
    }

    /// No row has come for long.
    pub(crate) fn is_idle(&self, now: Timestamp) -> bool {
        now.since(self.row_at) > IDLE
    }

    /// A datagram is there: it came, or came again.
    pub(crate) fn arrived(&mut self, number: PacketNumber, plain: &[u8]) {
        let place = place(number);
        let newer = self.kept[place].is_some_and(|kept| kept.number >= number);
        if newer || plain.len() > DATAGRAM_BYTES_MAX {
            return;
        }
        self.kept[place] = Some(Kept { number, bytes: plain.len() as u16 });
        self.datagrams[place * SLOT_BYTES..][..plain.len()].copy_from_slice(plain);
        if !self.rows.is_empty() {
            self.known(number);
        }
    }

    /// A row came of a peer whose highest number is `highest`, with its header and its sum.
    ///
    /// # Errors
    /// [`Useless`] says why it restores nothing, now or later.
    pub(crate) fn row(
        &mut self,
        now: Timestamp,
        highest: PacketNumber,
        header: &ParityHeader,
        sum: &[u8],
    ) -> Result<(), Useless> {
        self.row_at = now;
        let last = header.base.0.saturating_add(u64::from(header.covered.checked_ilog2().unwrap_or(0)));
        if sum.len() > SLOT_BYTES || last > highest.0 {
            return Err(Useless::Strange);
        }
        if highest.0 - header.base.0 >= OLD {
            return Err(Useless::Nothing);
        }
        // From here on all unknowns lie within OLD + BEHIND_MAX numbers.
        self.forget_before(header.base);
        let mut factors = [0; COLUMNS];
        for number in header.numbers().filter(|number| !self.has(*number)) {
            factors[column(number)] = coefficient(header.row, number);
        }
        if factors == [0; COLUMNS] {
            return Err(Useless::Nothing);
        }
        self.insert(header, sum, factors)
    }

    /// The next datagram restored, to be handled and then given to [`Restore::arrived`].
    pub(crate) fn next_restored(&mut self, plain: &mut Vec<u8>) -> Option<PacketNumber> {
        while let Some((number, slot, bytes)) = self.restored.pop() {
            self.free.push(slot);
            let shard = &self.sums[slot * SLOT_BYTES..][..bytes];
            if let Ok(datagram) = datagram_of(shard) {
                plain.clear();
                plain.extend_from_slice(datagram);
                return Some(number);
            }
        }
        None
    }

    fn insert(&mut self, header: &ParityHeader, sum: &[u8], mut factors: Factors) -> Result<(), Useless> {
        while self.rows.len() >= ROWS_MAX {
            // The oldest row is the one that will be too late first.
            let oldest = self.rows.iter().enumerate().min_by_key(|(_, row)| row.pivot);
            let Some((oldest, _)) = oldest else { break };
            self.drop_row(oldest);
        }
        let Some(slot) = self.free.pop() else { return Err(Useless::Strange) };
        let mut bytes = sum.len();
        {
            let own = &mut self.sums[slot * SLOT_BYTES..][..SLOT_BYTES];
            own[..bytes].copy_from_slice(sum);
            own[bytes..].fill(0);
        }
        for number in header.numbers() {
            let kept = self.kept[place(number)].filter(|kept| kept.number == number);
            if let Some(kept) = kept {
                let plain = usize::from(kept.bytes);
                if SHARD_LENGTH_BYTES + plain > bytes {
                    self.free.push(slot);
                    return Err(Useless::Strange);
                }
                let plain = &self.datagrams[place(number) * SLOT_BYTES..][..plain];
                let own = &mut self.sums[slot * SLOT_BYTES..][..bytes];
                self.arithmetic.add_datagram(coefficient(header.row, number), plain, own);
            }
        }
        // Other rows' pivots out of this one.
        for row in 0..self.rows.len() {
            let other = &self.rows[row];
            let pivot = column(other.pivot);
            if factors[pivot] != 0 {
                let factor = quotient(factors[pivot], other.factors[pivot]);
                self.arithmetic.add_row(factor, &other.factors, &mut factors);
                let (from, other_bytes) = (other.slot, other.bytes);
                self.add_sums(factor, from, slot, other_bytes);
                bytes = bytes.max(other_bytes);
            }
        }
        let Some(pivot) = lowest(&factors, header.base) else {
            self.free.push(slot);
            return Err(Useless::Nothing);
        };
        // This one's pivot out of the others.
        let new = Row { unknowns: unknowns(&factors), factors, pivot, slot, bytes };
        for row in 0..self.rows.len() {
            self.eliminate(row, &new);
        }
        self.rows.push(new);
        self.take_solved();
        Ok(())
    }

    /// A datagram that rows may have as an unknown is there.
    fn known(&mut self, number: PacketNumber) {
        let Some(kept) = self.kept[place(number)].filter(|kept| kept.number == number) else { return };
        let plain_bytes = usize::from(kept.bytes);
        let mut row = 0;
        while row < self.rows.len() {
            let waits = &mut self.rows[row];
            // Beyond that its column is another number's.
            let is_near = number.0.checked_sub(waits.pivot.0).is_some_and(|apart| apart < COLUMNS as u64);
            let factor = if is_near { std::mem::take(&mut waits.factors[column(number)]) } else { 0 };
            if factor == 0 {
                row += 1;
                continue;
            }
            waits.unknowns -= 1;
            let (slot, bytes) = (waits.slot, waits.bytes);
            if SHARD_LENGTH_BYTES + plain_bytes > bytes || waits.unknowns == 0 {
                self.drop_row(row);
                continue;
            }
            let plain = &self.datagrams[place(number) * SLOT_BYTES..][..plain_bytes];
            self.arithmetic.add_datagram(factor, plain, &mut self.sums[slot * SLOT_BYTES..][..bytes]);
            if self.rows[row].pivot == number {
                self.choose_pivot(row);
            }
            row += 1;
        }
        self.take_solved();
    }

    /// The pivot of a row has become known: another of its unknowns takes its place.
    fn choose_pivot(&mut self, row: usize) {
        let Some(pivot) = lowest(&self.rows[row].factors, self.rows[row].pivot) else { return };
        self.rows[row].pivot = pivot;
        let chosen = self.rows[row].clone();
        for other in (0..self.rows.len()).filter(|other| *other != row) {
            self.eliminate(other, &chosen);
        }
    }

    /// Takes the pivot of one row out of another.
    fn eliminate(&mut self, row: usize, by: &Row) {
        let pivot = column(by.pivot);
        let row = &mut self.rows[row];
        if row.factors[pivot] == 0 {
            return;
        }
        let factor = quotient(row.factors[pivot], by.factors[pivot]);
        self.arithmetic.add_row(factor, &by.factors, &mut row.factors);
        row.unknowns = unknowns(&row.factors);
        row.bytes = row.bytes.max(by.bytes);
        let to = row.slot;
        self.add_sums(factor, by.slot, to, by.bytes);
    }

    /// Rows with one unknown are that datagram.
    fn take_solved(&mut self) {
        let mut row = 0;
        while row < self.rows.len() {
            if self.rows[row].unknowns == 1 {
                let Row { factors, pivot, slot, bytes, .. } = self.rows.swap_remove(row);
                divide_row(factors[column(pivot)], &mut self.sums[slot * SLOT_BYTES..][..bytes]);
                self.restored.push((pivot, slot, bytes));
            } else {
                row += 1;
            }
        }
    }

    /// Rows about what no present row covers any more are given up.
    fn forget_before(&mut self, base: PacketNumber) {
        let mut row = 0;
        while row < self.rows.len() {
            if self.rows[row].pivot.0 < base.0.saturating_sub(BEHIND_MAX) {
                self.drop_row(row);
            } else {
                row += 1;
            }
        }
    }

    fn drop_row(&mut self, row: usize) {
        let dropped = self.rows.swap_remove(row);
        self.free.push(dropped.slot);
    }

    fn has(&self, number: PacketNumber) -> bool {
        self.kept[place(number)].is_some_and(|kept| kept.number == number)
    }

    /// Adds one row's bytes, times a factor, to another's.
    fn add_sums(&mut self, factor: u8, from: usize, to: usize, bytes: usize) {
        let (first, second) = (from.min(to) * SLOT_BYTES, from.max(to) * SLOT_BYTES);
        let (low, high) = self.sums.split_at_mut(second);
        let (low, high) = (&mut low[first..first + SLOT_BYTES], &mut high[..SLOT_BYTES]);
        if from < to {
            self.arithmetic.add_row(factor, &low[..bytes], high);
        } else {
            self.arithmetic.add_row(factor, &high[..bytes], low);
        }
    }
}

fn place(number: PacketNumber) -> usize {
    number.0 as usize % PARITY_SPAN
}

fn column(number: PacketNumber) -> usize {
    number.0 as usize % COLUMNS
}

/// How many unknowns there are.
fn unknowns(factors: &Factors) -> usize {
    factors.iter().filter(|factor| **factor != 0).count()
}

/// The lowest unknown, none of which is below `from`.
fn lowest(factors: &Factors, from: PacketNumber) -> Option<PacketNumber> {
    let mut numbers = (0..COLUMNS as u64).map(|apart| PacketNumber(from.0.wrapping_add(apart)));
    numbers.find(|number| factors[column(*number)] != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn row(
        number: u8,
        base: u64,
        datagrams: &BTreeMap<u64, Vec<u8>>,
        covered: &[u64],
    ) -> (ParityHeader, Vec<u8>) {
        let map = covered.iter().fold(0_u128, |map, number| map | 1 << (number - base));
        let header = ParityHeader { row: number, base: PacketNumber(base), covered: map };
        let longest = covered.iter().map(|number| datagrams[number].len()).max().unwrap_or(0);
        let mut sum = vec![0; SHARD_LENGTH_BYTES + longest];
        for number in covered {
            let factor = coefficient(header.row, PacketNumber(*number));
            Arithmetic::of_this_processor().add_datagram(factor, &datagrams[number], &mut sum);
        }
        (header, sum)
    }

    fn restored(restore: &mut Restore) -> BTreeMap<u64, Vec<u8>> {
        let (mut all, mut plain) = (BTreeMap::new(), Vec::new());
        while let Some(number) = restore.next_restored(&mut plain) {
            assert!(all.insert(number.0, plain.clone()).is_none(), "each once");
            let copy = plain.clone();
            restore.arrived(number, &copy);
        }
        all
    }

    /// The rows that wait are in reduced form, and what they are counted to have as unknowns is right.
    fn sound(restore: &Restore) {
        for (place, row) in restore.rows.iter().enumerate() {
            assert_eq!(row.unknowns, unknowns(&row.factors));
            assert!(row.unknowns >= 2 && row.factors[column(row.pivot)] != 0);
            let others = restore.rows.iter().enumerate().filter(|(other, _)| *other != place);
            for (_, other) in others {
                assert_eq!(other.factors[column(row.pivot)], 0, "a pivot is in one row alone");
                assert!(other.pivot.0.abs_diff(row.pivot.0) < COLUMNS as u64);
            }
        }
    }

    proptest! {
        /// A window slides over datagrams of which some are lost; rows come after each few. Whatever the order in which
        /// datagrams and rows arrive, what is restored is right, and with enough rows everything is.
        #[test]
        fn what_is_restored_is_what_was_sent(
            lengths in prop::collection::vec(4_usize..200, 40..120),
            lost in prop::collection::btree_set(0_u64..120, 0..12),
            late in prop::collection::btree_set(0_u64..120, 0..6),
            start in prop_oneof![Just(0_u64), Just((1_u64 << 32) - 60)],
            every in 2_u64..6,
        ) {
            let datagrams: BTreeMap<u64, Vec<u8>> = lengths
                .iter()
                .enumerate()
                .map(|(i, bytes)| (start + i as u64, (0..*bytes).map(|at| (at * 31 + i * 7) as u8).collect()))
                .collect();
            let mut memory = RepairMemory::default();
            let mut restore = Restore::new(Timestamp::ZERO, &mut memory).expect("memory");
            let mut found = BTreeMap::new();
            let mut rows = 0_u8;
            for (number, plain) in &datagrams {
                let i = number - start;
                if !lost.contains(&i) {
                    restore.arrived(PacketNumber(*number), plain);
                }
                if i % every == 0 {
                    let covered: Vec<u64> = (start + i.saturating_sub(20)..=*number).collect();
                    let (header, sum) = row(rows, covered[0], &datagrams, &covered);
                    rows = (rows + 1) % 128;
                    let _ = restore.row(Timestamp::ZERO, PacketNumber(*number), &header, &sum);
                    sound(&restore);
                }
                // Some of what is lost comes after all.
                if late.contains(&i) && i >= 5 && lost.contains(&(i - 5)) {
                    restore.arrived(PacketNumber(number - 5), &datagrams[&(number - 5)]);
                }
                found.extend(restored(&mut restore));
                prop_assert!(restore.rows.len() <= ROWS_MAX);
                prop_assert_eq!(restore.free.len() + restore.rows.len(), ROWS_MAX + 1);
            }
            for (number, plain) in &found {
                prop_assert_eq!(plain, &datagrams[number]);
            }
        }

        #[test]
        fn any_k_of_a_block_restore_the_rest(
            k in 1_u64..40, lost in prop::collection::btree_set(0_u64..40, 1..10), first_row in 0_u8..110,
        ) {
            let datagrams: BTreeMap<u64, Vec<u8>> =
                (0..k).map(|i| (i, vec![i as u8 + 1; 10 + 13 * i as usize % 90])).collect();
            let all: Vec<u64> = (0..k).collect();
            let lost: Vec<u64> = lost.into_iter().filter(|number| *number < k).collect();
            let mut memory = RepairMemory::default();
            let mut restore = Restore::new(Timestamp::ZERO, &mut memory).expect("memory");
            for number in all.iter().filter(|number| !lost.contains(number)) {
                restore.arrived(PacketNumber(*number), &datagrams[number]);
            }
            let mut found = BTreeMap::new();
            for i in 0..lost.len() as u8 {
                let (header, sum) = row(first_row + i, 0, &datagrams, &all);
                prop_assert_eq!(restore.row(Timestamp::ZERO, PacketNumber(40), &header, &sum), Ok(()));
                found.extend(restored(&mut restore));
            }
            prop_assert_eq!(found.len(), lost.len());
            prop_assert!(found.iter().all(|(number, plain)| *plain == datagrams[number]));
        }

        #[test]
        fn absurd_rows_cost_bounded_work(
            rows in prop::collection::vec(
                (0_u8..128, 0_u64..300, 1_u64.., 0_u32..128, prop::collection::vec(any::<u8>(), 3..60)), 0..80
            ),
            came in prop::collection::btree_set(0_u64..500, 0..80),
            start in prop_oneof![Just(0_u64), Just(u64::MAX - 1000)],
        ) {
            let mut memory = RepairMemory::default();
            let mut restore = Restore::new(Timestamp::ZERO, &mut memory).expect("memory");
            let (mut highest, mut came) = (start, came.into_iter());
            for (row, base, covered, shift, sum) in rows {
                let covered = u128::from(covered) << shift | 1;
                let header = ParityHeader { row, base: PacketNumber(start + base), covered };
                highest = highest.max(start + base + 20);
                let _ = restore.row(Timestamp::ZERO, PacketNumber(highest), &header, &sum);
                sound(&restore);
                if let Some(number) = came.next() {
                    restore.arrived(PacketNumber(start + number), &[7; 9]);
                    sound(&restore);
                }
                while let Some(number) = restore.next_restored(&mut Vec::new()) {
                    restore.arrived(number, &sum);
                    sound(&restore);
                }
                prop_assert!(restore.rows.len() <= ROWS_MAX && restore.restored.is_empty());
            }
        }
    }

    #[test]
    fn a_row_over_what_has_not_come_yet_or_long_ago_is_of_no_use() {
        let mut memory = RepairMemory::default();
        let mut restore = Restore::new(Timestamp::ZERO, &mut memory).expect("memory");
        let header = ParityHeader { row: 0, base: PacketNumber(1000), covered: 0b101 };
        let mut comes = |highest| restore.row(Timestamp::ZERO, PacketNumber(highest), &header, &[1; 50]);
        assert_eq!(comes(1001), Err(Useless::Strange), "1002 is beyond it");
        assert_eq!(comes(1002), Ok(()));
        assert_eq!(comes(1000 + OLD - 1), Err(Useless::Nothing), "it is there already");
        assert_eq!(comes(1000 + OLD), Err(Useless::Nothing));
        assert_eq!(restore.rows.len(), 1);
    }

    #[test]
    fn a_datagram_far_from_a_row_that_waits_is_none_of_its_unknowns() {
        let mut memory = RepairMemory::default();
        let mut restore = Restore::new(Timestamp::ZERO, &mut memory).expect("memory");
        let header = ParityHeader { row: 0, base: PacketNumber(1000), covered: 0b111 };
        assert_eq!(restore.row(Timestamp::ZERO, PacketNumber(1010), &header, &[1; 50]), Ok(()));
        for far in [1000 - COLUMNS as u64, 1000 + COLUMNS as u64, 1001 + COLUMNS as u64] {
            restore.arrived(PacketNumber(far), &[2; 20]);
            assert_eq!(restore.rows[0].unknowns, 3);
        }
    }

    #[test]
    fn memory_is_given_back() {
        let mut memory = RepairMemory::default();
        let restore = Restore::new(Timestamp::ZERO, &mut memory).expect("memory");
        assert_eq!(memory.used(), BYTES);
        assert!(restore.is_idle(Timestamp::from_micros(31_000_000)));
        restore.release(&mut memory);
        assert_eq!(memory.used(), 0);
    }
}
