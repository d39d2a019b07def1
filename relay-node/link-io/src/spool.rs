//! A bounded queue of byte strings in one buffer, for handing packets from one thread to another without an allocation
//! for each. Both ends take turns under a lock, or swap whole spools.

use std::ops::Range;

/// Packets, each with a label.
#[derive(Debug)]
pub(crate) struct Spool<T> {
    bytes: Vec<u8>,
    entries: Vec<(T, Range<usize>)>,
    entries_max: usize,
    bytes_max: usize,
}

impl<T> Spool<T> {
    /// A spool for at most so many packets and bytes. Its buffers grow to what is used and stay.
    pub(crate) fn new(entries_max: usize, bytes_max: usize) -> Spool<T> {
        Spool { bytes: Vec::new(), entries: Vec::new(), entries_max, bytes_max }
    }

    /// Appends a packet; `false` if there is no room for it.
    pub(crate) fn push(&mut self, label: T, packet: &[u8]) -> bool {
        self.push_parts(label, [packet, &[]])
    }

    /// Appends a packet that comes in two parts; `false` if there is no room for it.
    pub(crate) fn push_parts(&mut self, label: T, parts: [&[u8]; 2]) -> bool {
        let [head, rest] = parts;
        let length = head.len() + rest.len();
        if self.entries.len() == self.entries_max || self.bytes.len() + length > self.bytes_max {
            return false;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(head);
        self.bytes.extend_from_slice(rest);
        self.entries.push((label, start..self.bytes.len()));
        true
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The packets, in order; ranges point into [`Spool::bytes`].
    pub(crate) fn entries(&self) -> &[(T, Range<usize>)] {
        &self.entries
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_and_bytes_are_bounded() {
        let mut spool = Spool::new(3, 10);
        assert!(spool.push('a', b"1234"));
        assert!(!spool.push('b', b"1234567"), "too many bytes");
        assert!(spool.push('c', b"123456"));
        assert!(spool.push('d', b""));
        assert!(!spool.push('e', b""), "too many packets");
        let packets: Vec<_> =
            spool.entries().iter().map(|(label, range)| (*label, &spool.bytes()[range.clone()])).collect();
        assert_eq!(packets, [('a', &b"1234"[..]), ('c', b"123456"), ('d', b"")]);
        spool.clear();
        assert!(spool.is_empty() && spool.push('f', b"1234567890"));
    }
}
