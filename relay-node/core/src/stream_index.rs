//! From a stream's ids to its place in the stream table, once per frame: open addressing with a fixed hash of integers
//! that the controller gives out. Nothing iterates over it, so its order can never show.

use wire_format::StreamKey;

const CAPACITY_MIN: usize = 16;

/// A map from stream to slot.
#[derive(Debug)]
pub(crate) struct StreamIndex {
    cells: Vec<Option<(StreamKey, u32)>>,
    used: usize,
}

impl StreamIndex {
    pub(crate) fn new() -> StreamIndex {
        StreamIndex { cells: vec![None; CAPACITY_MIN], used: 0 }
    }

    pub(crate) fn find(&self, key: StreamKey) -> Option<u32> {
        let mut at = self.home(key);
        loop {
            match self.cells[at] {
                Some((found, slot)) if found == key => return Some(slot),
                Some(_) => at = self.after(at),
                None => return None,
            }
        }
    }

    /// Adds a stream that is not in the index.
    pub(crate) fn insert(&mut self, key: StreamKey, slot: u32) {
        debug_assert!(self.find(key).is_none(), "a stream has one slot");
        if (self.used + 1) * 2 > self.cells.len() {
            let doubled = vec![None; self.cells.len() * 2];
            let before = std::mem::replace(&mut self.cells, doubled);
            for (key, slot) in before.into_iter().flatten() {
                self.place(key, slot);
            }
        }
        self.place(key, slot);
        self.used += 1;
    }

    pub(crate) fn remove(&mut self, key: StreamKey) {
        let mut hole = self.home(key);
        loop {
            match self.cells[hole] {
                Some((found, _)) if found == key => break,
                Some(_) => hole = self.after(hole),
                None => return,
            }
        }
        self.used -= 1;
        // Whoever sits behind the hole and could not be found across it moves into it.
        let mut at = hole;
        loop {
            self.cells[hole] = None;
            loop {
                at = self.after(at);
                let Some((key, _)) = self.cells[at] else { return };
                let mask = self.cells.len() - 1;
                let from_home = at.wrapping_sub(self.home(key)) & mask;
                let from_hole = at.wrapping_sub(hole) & mask;
                if from_home >= from_hole {
                    break;
                }
            }
            self.cells.swap(hole, at);
            hole = at;
        }
    }

    fn place(&mut self, key: StreamKey, slot: u32) {
        let mut at = self.home(key);
        while self.cells[at].is_some() {
            at = self.after(at);
        }
        self.cells[at] = Some((key, slot));
    }

    fn home(&self, key: StreamKey) -> usize {
        let low = u64::from(key.room.0) << 32 | u64::from(key.user.0);
        let mixed = (low ^ u64::from(key.stream.0) << 17).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((mixed ^ mixed >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 32) as usize & (self.cells.len() - 1)
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.cells.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use wire_format::{RoomId, StreamId, UserId};

    proptest! {
        #[test]
        fn agrees_with_a_map(steps in prop::collection::vec((any::<bool>(), 0u32..12, 0u32..4, 0u16..3), 0..400)) {
            let mut index = StreamIndex::new();
            let mut model = BTreeMap::new();
            for (i, (add, room, user, stream)) in steps.into_iter().enumerate() {
                let key = StreamKey { room: RoomId(room), user: UserId(user), stream: StreamId(stream) };
                if add && !model.contains_key(&key) {
                    index.insert(key, i as u32);
                    model.insert(key, i as u32);
                } else {
                    index.remove(key);
                    model.remove(&key);
                }
                for room in 0..12 {
                    let key = StreamKey { room: RoomId(room), user: UserId(user), stream: StreamId(stream) };
                    prop_assert_eq!(index.find(key), model.get(&key).copied());
                }
            }
        }
    }
}
