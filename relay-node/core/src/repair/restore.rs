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
    PARITY_COVERED_MAX, PARITY_SPAN, ParityHeader, SHARD_LENGTH_BYTES, add_datagram, add_row, coefficient,
    datagram_of, divide_row, quotient, reduce,
};
use wire_format::{DATAGRAM_BYTES_MAX, PacketNumber, Timestamp};

/// Rows that wait for more.
const ROWS_MAX: usize = 32;
/// Unknowns of a row that waits; rows of an honest sender cover the same stretch.
const UNKNOWNS_MAX: usize = PARITY_SPAN;
/// Room for one datagram or row.
const SLOT_BYTES: usize = DATAGRAM_BYTES_MAX + SHARD_LENGTH_BYTES;
/// Memory of one link.
const BYTES: usize = (PARITY_SPAN + ROWS_MAX + 1) * SLOT_BYTES;
/// Without a row for so long the memory is given back.
const IDLE: Duration = Duration::from_secs(30);

/// One datagram of those that a row may cover.
#[derive(Clone, Copy, Debug)]
struct Kept {
    number: PacketNumber,
    bytes: u16,
}

/// A row that waits: unknowns with their coefficients, and the sum of the rest.
#[derive(Clone, Debug)]
struct Row {
    /// Ascending by number.
    unknowns: Vec<(PacketNumber, u8)>,
    /// This one is in no other row.
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
    scratch: Vec<(PacketNumber, u8)>,
    row_at: Timestamp,
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
            scratch: Vec::with_capacity(2 * PARITY_COVERED_MAX),
            row_at: now,
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

    /// A row came, its header read from `body`, where its sum begins at `at`.
    ///
    /// # Errors
    /// [`Useless`] says why it restores nothing, now or later.
    pub(crate) fn row(&mut self, now: Timestamp, header: &ParityHeader, sum: &[u8]) -> Result<(), Useless> {
        self.row_at = now;
        if sum.len() > SLOT_BYTES {
            return Err(Useless::Strange);
        }
        self.forget_before(header.base);
        if header.numbers().all(|number| self.has(number)) {
            return Err(Useless::Nothing);
        }
        let mut unknowns = std::mem::take(&mut self.scratch);
        unknowns.clear();
        unknowns.extend(
            header
                .numbers()
                .filter(|number| !self.has(*number))
                .map(|number| (number, coefficient(header.row, number))),
        );
        let outcome = self.insert(header, sum, &mut unknowns);
        self.scratch = unknowns;
        outcome
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

    fn insert(
        &mut self,
        header: &ParityHeader,
        sum: &[u8],
        unknowns: &mut Vec<(PacketNumber, u8)>,
    ) -> Result<(), Useless> {
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
                add_datagram(coefficient(header.row, number), plain, own);
            }
        }
        // Other rows' pivots out of this one.
        for row in 0..self.rows.len() {
            let pivot = self.rows[row].pivot;
            if let Ok(found) = unknowns.binary_search_by_key(&pivot, |(number, _)| *number) {
                let own = coefficient_of(&self.rows[row].unknowns, pivot);
                let factor = quotient(unknowns[found].1, own);
                subtract(unknowns, factor, &self.rows[row].unknowns);
                let (from, other_bytes) = (self.rows[row].slot, self.rows[row].bytes);
                self.add_sums(factor, from, slot, other_bytes);
                bytes = bytes.max(other_bytes);
            }
        }
        let Some((pivot, own)) = unknowns.first().copied() else {
            self.free.push(slot);
            return Err(Useless::Nothing);
        };
        if unknowns.len() > UNKNOWNS_MAX {
            self.free.push(slot);
            return Err(Useless::Strange);
        }
        // This one's pivot out of the others.
        for row in 0..self.rows.len() {
            let at = coefficient_of(&self.rows[row].unknowns, pivot);
            if at != 0 {
                let factor = quotient(at, own);
                let other = &mut self.rows[row];
                subtract(&mut other.unknowns, factor, unknowns);
                other.bytes = other.bytes.max(bytes);
                let to = other.slot;
                self.add_sums(factor, slot, to, bytes);
            }
        }
        self.rows.push(Row { unknowns: unknowns.clone(), pivot, slot, bytes });
        self.take_solved();
        Ok(())
    }

    /// A datagram that rows may have as an unknown is there.
    fn known(&mut self, number: PacketNumber) {
        let Some(kept) = self.kept[place(number)].filter(|kept| kept.number == number) else { return };
        let plain_bytes = usize::from(kept.bytes);
        let mut row = 0;
        while row < self.rows.len() {
            let Ok(found) = self.rows[row].unknowns.binary_search_by_key(&number, |(number, _)| *number)
            else {
                row += 1;
                continue;
            };
            let (_, factor) = self.rows[row].unknowns.remove(found);
            let (slot, bytes) = (self.rows[row].slot, self.rows[row].bytes);
            if SHARD_LENGTH_BYTES + plain_bytes > bytes || self.rows[row].unknowns.is_empty() {
                self.drop_row(row);
                continue;
            }
            let plain = &self.datagrams[place(number) * SLOT_BYTES..][..plain_bytes];
            add_datagram(factor, plain, &mut self.sums[slot * SLOT_BYTES..][..bytes]);
            if self.rows[row].pivot == number {
                self.choose_pivot(row);
            }
            row += 1;
        }
        self.take_solved();
    }

    /// The pivot of a row has become known: another of its unknowns takes its place.
    fn choose_pivot(&mut self, row: usize) {
        let Some((pivot, own)) = self.rows[row].unknowns.first().copied() else { return };
        self.rows[row].pivot = pivot;
        let (slot, bytes) = (self.rows[row].slot, self.rows[row].bytes);
        let unknowns = std::mem::take(&mut self.rows[row].unknowns);
        for other in (0..self.rows.len()).filter(|other| *other != row) {
            let at = coefficient_of(&self.rows[other].unknowns, pivot);
            if at != 0 {
                let factor = quotient(at, own);
                subtract(&mut self.rows[other].unknowns, factor, &unknowns);
                self.rows[other].bytes = self.rows[other].bytes.max(bytes);
                let to = self.rows[other].slot;
                self.add_sums(factor, slot, to, bytes);
            }
        }
        self.rows[row].unknowns = unknowns;
    }

    /// Rows with one unknown are that datagram.
    fn take_solved(&mut self) {
        let mut row = 0;
        while row < self.rows.len() {
            if let [(number, factor)] = self.rows[row].unknowns[..] {
                let Row { slot, bytes, .. } = self.rows.swap_remove(row);
                divide_row(factor, &mut self.sums[slot * SLOT_BYTES..][..bytes]);
                self.restored.push((number, slot, bytes));
            } else {
                row += 1;
            }
        }
    }

    /// Rows about what no present row covers any more are given up.
    fn forget_before(&mut self, base: PacketNumber) {
        let mut row = 0;
        while row < self.rows.len() {
            let unknowns = &self.rows[row].unknowns;
            let oldest = unknowns.first().map_or(base, |(number, _)| *number);
            if oldest.0 + PARITY_SPAN as u64 / 2 < base.0 || unknowns.len() > UNKNOWNS_MAX {
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
            add_row(factor, &low[..bytes], high);
        } else {
            add_row(factor, &high[..bytes], low);
        }
    }
}

fn place(number: PacketNumber) -> usize {
    number.0 as usize % PARITY_SPAN
}

fn coefficient_of(unknowns: &[(PacketNumber, u8)], number: PacketNumber) -> u8 {
    match unknowns.binary_search_by_key(&number, |(number, _)| *number) {
        Ok(found) => unknowns[found].1,
        Err(_) => 0,
    }
}

/// Takes `factor` times the others away; what becomes zero is no unknown any more.
fn subtract(unknowns: &mut Vec<(PacketNumber, u8)>, factor: u8, others: &[(PacketNumber, u8)]) {
    for (number, other) in others {
        match unknowns.binary_search_by_key(number, |(number, _)| *number) {
            Ok(found) => {
                let left = reduce(unknowns[found].1, factor, *other);
                if left == 0 {
                    unknowns.remove(found);
                } else {
                    unknowns[found].1 = left;
                }
            }
            Err(at) => unknowns.insert(at, (*number, reduce(0, factor, *other))),
        }
    }
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
            add_datagram(factor, &datagrams[number], &mut sum);
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
                    let _ = restore.row(Timestamp::ZERO, &header, &sum);
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
                prop_assert_eq!(restore.row(Timestamp::ZERO, &header, &sum), Ok(()));
                found.extend(restored(&mut restore));
            }
            prop_assert_eq!(found.len(), lost.len());
            prop_assert!(found.iter().all(|(number, plain)| *plain == datagrams[number]));
        }

        #[test]
        fn absurd_rows_cost_bounded_work(
            rows in prop::collection::vec(
                (0_u8..128, 0_u64..300, 1_u64.., prop::collection::vec(any::<u8>(), 3..60)), 0..80
            )
        ) {
            let mut memory = RepairMemory::default();
            let mut restore = Restore::new(Timestamp::ZERO, &mut memory).expect("memory");
            for (row, base, covered, sum) in rows {
                let covered = u128::from(covered) | 1;
                let header = ParityHeader { row, base: PacketNumber(base), covered };
                let _ = restore.row(Timestamp::ZERO, &header, &sum);
                let _ = restored(&mut restore);
                prop_assert!(restore.rows.len() <= ROWS_MAX && restore.restored.is_empty());
                prop_assert!(restore.rows.iter().all(|row| row.unknowns.len() <= 2 * UNKNOWNS_MAX));
            }
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
