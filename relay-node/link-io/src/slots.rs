//! Slots: the places of a port's links. Both a link's receiver index and its [`LinkId`] carry the slot in their low bits,
//! so that the worker finds a link by one array access and one comparison. So does the core, by the low 16 bits of the
//! id; they are the slot and nothing else, which keeps its table short.

use crate::config::Limits;
use crate::steer::worker_of_slot;
use aws_lc_rs::rand;
use relay_core::LinkId;
use std::cmp::Reverse;
use std::collections::VecDeque;
use wire_format::ReceiverIndex;

const SLOT_BITS: u32 = Limits::LINKS_MAX.ilog2();
const SLOT_MASK: u32 = (1 << SLOT_BITS) - 1;
const LINK_SLOT_BITS: u32 = 16;
/// Link ids never repeat, so a slot can be taken this often and is then left empty. All 1024 slots of a port together
/// last for 67 million links.
const TURNS_MAX: u32 = u32::MAX >> LINK_SLOT_BITS;

/// A place taken for a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slot {
    pub(crate) link: LinkId,
    /// The high bits are random and keep strangers from guessing it.
    pub(crate) receiver: ReceiverIndex,
}

/// The slot that a receiver index names.
pub(crate) fn slot_of_receiver(receiver: ReceiverIndex) -> usize {
    (receiver.0 & SLOT_MASK) as usize
}

/// The slot that a link has.
pub(crate) fn slot_of_link(link: LinkId) -> usize {
    (link.0 & ((1 << LINK_SLOT_BITS) - 1)) as usize
}

/// Gives out slots, the longest unused first.
#[derive(Debug)]
pub(crate) struct Slots {
    /// By the worker that they belong to.
    free: Vec<VecDeque<u32>>,
    /// How often each slot has been taken.
    turns: Vec<u32>,
}

impl Slots {
    /// So many slots for each worker, as far as receiver indices reach.
    pub(crate) fn new(each: usize, workers: usize) -> Slots {
        let count = each.saturating_mul(workers).min(Limits::LINKS_MAX);
        let mut free = vec![VecDeque::new(); workers];
        for slot in 0..count {
            free[worker_of_slot(slot, workers)].push_back(slot as u32);
        }
        Slots { free, turns: vec![0; count] }
    }

    /// The worker with the most slots left.
    pub(crate) fn least_busy(&self) -> usize {
        let least = self.free.iter().enumerate().max_by_key(|(index, free)| (free.len(), Reverse(*index)));
        least.map_or(0, |(index, _)| index)
    }

    /// Takes a slot of a worker; `None` if all are taken.
    pub(crate) fn take(&mut self, worker: usize) -> Option<Slot> {
        let mut random = [0; 4];
        rand::fill(&mut random).ok()?;
        let slot = self.free.get_mut(worker)?.pop_front()?;
        let turn = self.turns[slot as usize];
        self.turns[slot as usize] += 1;
        Some(Slot {
            link: LinkId(turn << LINK_SLOT_BITS | slot),
            receiver: ReceiverIndex(u32::from_be_bytes(random) & !SLOT_MASK | slot),
        })
    }

    /// Gives back the slot of a link that is gone.
    pub(crate) fn give_back(&mut self, link: LinkId) {
        let slot = slot_of_link(link) as u32;
        if self.turns[slot as usize] <= TURNS_MAX {
            let worker = worker_of_slot(slot as usize, self.free.len());
            self.free[worker].push_back(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steer::worker_of_receiver;

    #[test]
    fn links_never_share_a_name() {
        let mut slots = Slots::new(2, 1);
        let first = slots.take(0).expect("free");
        let second = slots.take(0).expect("free");
        assert_eq!(slots.take(0), None);
        slots.give_back(first.link);
        let third = slots.take(0).expect("given back");
        assert_eq!(slot_of_link(third.link), slot_of_link(first.link));
        assert_eq!(slot_of_receiver(third.receiver), slot_of_link(third.link));
        assert!(third.link != first.link && third.link != second.link);
    }

    #[test]
    fn every_worker_has_slots_of_its_own_that_steering_finds() {
        let mut slots = Slots::new(600, 3);
        for worker in [2, 0, 1, 2] {
            for _ in 0..200 {
                let slot = slots.take(worker).expect("free");
                assert_eq!(worker_of_receiver(slot.receiver, 3), worker);
                assert_eq!(worker_of_slot(slot_of_link(slot.link), 3), worker);
            }
        }
        assert_eq!(slots.least_busy(), 0);
    }
}
