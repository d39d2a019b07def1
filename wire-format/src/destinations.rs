//! The set of relays that a media frame still has to reach, as it travels: the idea of BIER (RFC 8279), carried into an
//! overlay. A set takes whichever form is shortest, 64 bytes at most; a larger fan-out becomes several frames.
//!
//! | form | bytes after the form byte |
//! | --- | --- |
//! | 0 list | node indices, 2 bytes each, ascending |
//! | 1 bit map | bit i of byte j is node 8j + i; the last byte is not zero |
//! | 2 blocks | {block b, length n, n bytes of bit map over nodes 256b ...}, b ascending |
//!
//! Only the canonical encoding of a set decodes, so equal sets are equal bytes.

use crate::{FrameError, NodeIndex};

/// Most bytes of a set on the wire, without its form byte.
pub const SET_BYTES_MAX: usize = 64;
const BLOCK_NODES: u16 = 256;
const BITMAP_BYTES_MAX: usize = 32;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    List = 0,
    Bitmap = 1,
    Blocks = 2,
}

/// A set of 1 or more destinations, in wire form.
#[derive(Clone, Copy)]
pub struct DestinationSet {
    form: Form,
    used: u8,
    bytes: [u8; SET_BYTES_MAX],
}

impl DestinationSet {
    /// The set of one relay.
    pub fn single(node: NodeIndex) -> DestinationSet {
        let form = if node.0 < 8 { Form::Bitmap } else { Form::List };
        DestinationSet::write(&[node], form)
    }

    /// As many of `nodes` as one set holds, and how many that is.
    ///
    /// # Panics
    /// If `nodes` is empty or not strictly ascending.
    pub fn take(nodes: &[NodeIndex]) -> (DestinationSet, usize) {
        if let [node] = nodes {
            return (DestinationSet::single(*node), 1);
        }
        assert!(!nodes.is_empty() && nodes.is_sorted_by(|a, b| a < b), "a set is built from ascending nodes");
        let (mut count, mut form) = (1, Form::List);
        let mut finished_blocks_bytes = 0;
        let mut block_bytes = 0;
        let mut block = nodes[0].0 / BLOCK_NODES;
        for (i, node) in nodes.iter().enumerate() {
            if node.0 / BLOCK_NODES != block {
                finished_blocks_bytes += block_bytes;
                block = node.0 / BLOCK_NODES;
            }
            block_bytes = 2 + usize::from(node.0 % BLOCK_NODES) / 8 + 1;
            let list = 2 * (i + 1);
            let bitmap = if block == 0 { block_bytes - 2 } else { usize::MAX };
            let blocks = finished_blocks_bytes + block_bytes;
            let (bytes, shortest) = if bitmap < list && bitmap <= blocks {
                (bitmap, Form::Bitmap)
            } else if list <= blocks {
                (list, Form::List)
            } else {
                (blocks, Form::Blocks)
            };
            if bytes <= SET_BYTES_MAX {
                (count, form) = (i + 1, shortest);
            } else if i >= SET_BYTES_MAX {
                break;
            }
        }
        (DestinationSet::write(&nodes[..count], form), count)
    }

    fn write(nodes: &[NodeIndex], form: Form) -> DestinationSet {
        let mut set = DestinationSet { form, used: 0, bytes: [0; SET_BYTES_MAX] };
        let mut used = 0;
        match form {
            Form::List => {
                for node in nodes {
                    set.bytes[used..used + 2].copy_from_slice(&node.0.to_be_bytes());
                    used += 2;
                }
            }
            Form::Bitmap => {
                for node in nodes {
                    let byte = usize::from(node.0) / 8;
                    set.bytes[byte] |= 1 << (node.0 % 8);
                    used = byte + 1;
                }
            }
            Form::Blocks => {
                let mut start = 0;
                let mut current = None;
                for node in nodes {
                    let block = node.0 / BLOCK_NODES;
                    if current != Some(block) {
                        current = Some(block);
                        start = used;
                        set.bytes[start] = block as u8;
                    }
                    let byte = usize::from(node.0 % BLOCK_NODES) / 8;
                    set.bytes[start + 2 + byte] |= 1 << (node.0 % 8);
                    set.bytes[start + 1] = byte as u8 + 1;
                    used = start + 2 + byte + 1;
                }
            }
        }
        set.used = used as u8;
        set
    }

    /// Reads a set and the number of bytes it took.
    ///
    /// # Errors
    /// [`FrameError`] unless the bytes begin with the canonical encoding of a set.
    #[inline]
    pub fn decode(bytes: &[u8]) -> Result<(DestinationSet, usize), FrameError> {
        let (&head, rest) = bytes.split_first().ok_or(FrameError::Truncated)?;
        let used = usize::from(head & 0x3F) + 1;
        let body = rest.get(..used).ok_or(FrameError::Truncated)?;
        let form = match head >> 6 {
            0 => Form::List,
            1 => Form::Bitmap,
            2 => Form::Blocks,
            _ => return Err(FrameError::Destinations),
        };
        let mut set = DestinationSet { form, used: used as u8, bytes: [0; SET_BYTES_MAX] };
        let well_formed = match (form, body) {
            // By far the most frequent: one destination left.
            (Form::Bitmap, [byte]) => {
                set.bytes[0] = *byte;
                *byte != 0
            }
            (Form::List, [high, low]) => {
                (set.bytes[0], set.bytes[1]) = (*high, *low);
                set.shortest_form() == Form::List
            }
            (Form::List | Form::Bitmap | Form::Blocks, _) => {
                set.bytes[..used].copy_from_slice(body);
                set.is_well_formed()
            }
        };
        if well_formed { Ok((set, 1 + used)) } else { Err(FrameError::Destinations) }
    }

    /// The structure holds together and is the one that [`DestinationSet::take`] would have written.
    fn is_well_formed(&self) -> bool {
        let body = self.body();
        match self.form {
            Form::List => {
                if !body.len().is_multiple_of(2) || !body.chunks_exact(2).is_sorted_by(|a, b| a < b) {
                    return false;
                }
            }
            Form::Bitmap => {
                if body.len() > BITMAP_BYTES_MAX || body.last() == Some(&0) {
                    return false;
                }
            }
            Form::Blocks => {
                let mut rest = body;
                let mut last = None;
                while let Some((&[block, length], tail)) = rest.split_first_chunk::<2>() {
                    let length = usize::from(length);
                    let Some(bits) = tail.get(..length) else { return false };
                    if length > BITMAP_BYTES_MAX
                        || bits.last().is_none_or(|byte| *byte == 0)
                        || last >= Some(block)
                    {
                        return false;
                    }
                    last = Some(block);
                    rest = &tail[length..];
                }
                if !rest.is_empty() {
                    return false;
                }
            }
        }
        self.form == self.shortest_form()
    }

    fn shortest_form(&self) -> Form {
        if self.form == Form::Bitmap {
            // Blocks would cost two bytes more, a list two bytes for every bit.
            let members: u32 = self.body().iter().map(|byte| byte.count_ones()).sum();
            return if u32::from(self.used) < 2 * members { Form::Bitmap } else { Form::List };
        }
        if let (Form::List, [high, low]) = (self.form, self.body()) {
            return if *high == 0 && *low < 8 { Form::Bitmap } else { Form::List };
        }
        let (mut list, mut blocks, mut bitmap) = (0, 0, 0);
        let mut block_bytes = 0;
        let mut block = None;
        for node in self.iter() {
            list += 2;
            if block != Some(node.0 / BLOCK_NODES) {
                blocks += block_bytes;
                block = Some(node.0 / BLOCK_NODES);
            }
            block_bytes = 2 + usize::from(node.0 % BLOCK_NODES) / 8 + 1;
            bitmap = usize::from(node.0) / 8 + 1;
        }
        blocks += block_bytes;
        if block == Some(0) && bitmap < list && bitmap <= blocks {
            Form::Bitmap
        } else if list <= blocks {
            Form::List
        } else {
            Form::Blocks
        }
    }

    /// Bytes on the wire, form byte included.
    pub fn wire_bytes(&self) -> usize {
        1 + usize::from(self.used)
    }

    /// Writes the set to the beginning of `out`, which must be at least [`DestinationSet::wire_bytes`] long, and
    /// returns how many bytes it took.
    pub fn encode(&self, out: &mut [u8]) -> usize {
        out[0] = (self.form as u8) << 6 | (self.used - 1);
        if let [byte] = self.body() {
            out[1] = *byte;
        } else {
            out[1..self.wire_bytes()].copy_from_slice(self.body());
        }
        self.wire_bytes()
    }

    /// The only member, if there is just one and the set is a list.
    pub fn only(&self) -> Option<NodeIndex> {
        match (self.form, self.used) {
            (Form::List, 2) => Some(NodeIndex(u16::from_be_bytes([self.bytes[0], self.bytes[1]]))),
            (Form::Bitmap, 1) if self.bytes[0].is_power_of_two() => {
                Some(NodeIndex(self.bytes[0].trailing_zeros() as u16))
            }
            (Form::List | Form::Bitmap | Form::Blocks, _) => None,
        }
    }

    /// The members, ascending.
    pub fn iter(&self) -> impl Iterator<Item = NodeIndex> + '_ {
        Members { set: self, at: 0, block_end: 0, base: 0, bits: 0, bits_base: 0 }
    }

    fn body(&self) -> &[u8] {
        &self.bytes[..usize::from(self.used)]
    }
}

impl PartialEq for DestinationSet {
    fn eq(&self, other: &DestinationSet) -> bool {
        self.form == other.form && self.body() == other.body()
    }
}

impl Eq for DestinationSet {}

impl std::fmt::Debug for DestinationSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter().map(|node| node.0)).finish()
    }
}

struct Members<'a> {
    set: &'a DestinationSet,
    /// Next byte to look at.
    at: usize,
    /// End of the bit map that `at` is in.
    block_end: usize,
    /// Node of bit 0 of the byte at `at`, within a bit map.
    base: u16,
    /// Bits of the byte before `at` that are still to come, and the node of its bit 0.
    bits: u8,
    bits_base: u16,
}

impl Iterator for Members<'_> {
    type Item = NodeIndex;

    fn next(&mut self) -> Option<NodeIndex> {
        let body = self.set.body();
        if self.set.form == Form::List {
            let pair = body.get(self.at..self.at + 2)?;
            self.at += 2;
            return Some(NodeIndex(u16::from_be_bytes([pair[0], pair[1]])));
        }
        loop {
            if self.bits != 0 {
                let bit = self.bits.trailing_zeros() as u16;
                self.bits &= self.bits - 1;
                return Some(NodeIndex(self.bits_base + bit));
            }
            if self.at == self.block_end {
                match self.set.form {
                    Form::Bitmap if self.at == 0 => self.block_end = body.len(),
                    Form::Blocks if self.at < body.len() => {
                        let header = body.get(self.at..self.at + 2)?;
                        self.base = u16::from(header[0]) * BLOCK_NODES;
                        self.at += 2;
                        self.block_end = (self.at + usize::from(header[1])).min(body.len());
                    }
                    Form::List | Form::Bitmap | Form::Blocks => return None,
                }
                if self.at == self.block_end {
                    return None;
                }
            }
            self.bits = body[self.at];
            self.bits_base = self.base;
            self.base = self.base.wrapping_add(8);
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn nodes(raw: &BTreeSet<u16>) -> Vec<NodeIndex> {
        raw.iter().copied().map(NodeIndex).collect()
    }

    #[test]
    fn an_overlay_of_64_relays_never_needs_more_than_8_bytes() {
        for mask in [u64::MAX, 1 << 63, 0x8000_0000_0000_0001, 0x0101_0101_0101_0101] {
            let raw = (0..64).filter(|bit| mask >> bit & 1 == 1).collect();
            let (set, count) = DestinationSet::take(&nodes(&raw));
            assert_eq!(count, raw.len());
            assert!(set.wire_bytes() <= 9);
        }
    }

    #[test]
    fn a_lone_member_is_found_without_iterating() {
        for node in [0, 7, 8, 255, 256, 65_535] {
            assert_eq!(DestinationSet::single(NodeIndex(node)).only(), Some(NodeIndex(node)));
        }
        assert_eq!(DestinationSet::take(&[NodeIndex(1), NodeIndex(2)]).0.only(), None);
    }

    proptest! {
        #[test]
        fn what_is_taken_comes_back(
            raw in prop_oneof![
                prop::collection::btree_set(0u16..64, 1..64),
                prop::collection::btree_set(0u16..1024, 1..300),
                prop::collection::btree_set(any::<u16>(), 1..300),
            ]
        ) {
            let all = nodes(&raw);
            let mut rest = &all[..];
            let mut seen = Vec::new();
            while !rest.is_empty() {
                let (set, count) = DestinationSet::take(rest);
                let mut wire = [0; 1 + SET_BYTES_MAX];
                let used = set.encode(&mut wire);
                prop_assert_eq!(DestinationSet::decode(&wire[..used]), Ok((set, used)));
                seen.extend(set.iter());
                prop_assert!(count >= rest.len().min(32));
                rest = &rest[count..];
            }
            prop_assert_eq!(seen, all);
        }

        #[test]
        fn any_bytes_are_refused_or_canonical(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok((set, used)) = DestinationSet::decode(&bytes) {
                let members: Vec<_> = set.iter().collect();
                prop_assert!(!members.is_empty());
                let (again, count) = DestinationSet::take(&members);
                prop_assert_eq!((again, count), (set, members.len()));
                let mut wire = [0; 1 + SET_BYTES_MAX];
                prop_assert_eq!(again.encode(&mut wire), used);
                prop_assert_eq!(&wire[..used], &bytes[..used]);
            }
        }
    }
}
