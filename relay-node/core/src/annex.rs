//! Bytes of the core's own beside the driver's arena: packets that did not arrive in one piece. They live from an input
//! to the end of its drain, like the arena's, and are addressed behind its end, so that a range is enough to name a
//! packet wherever it lies.

use std::ops::Range;

/// The bytes that `range` names, in `arena` or, from its end on, in `annex`.
pub fn packet_bytes<'a>(arena: &'a [u8], annex: &'a [u8], range: &Range<usize>) -> &'a [u8] {
    match range.start.checked_sub(arena.len()) {
        None => &arena[range.clone()],
        Some(start) => &annex[start..range.end - arena.len()],
    }
}

#[cfg(test)]
mod tests {
    use super::packet_bytes;

    #[test]
    fn a_range_names_bytes_of_the_arena_or_behind_it() {
        let (arena, annex) = ([1, 2, 3], [4, 5]);
        assert_eq!(packet_bytes(&arena, &annex, &(1..3)), [2, 3]);
        assert_eq!(packet_bytes(&arena, &annex, &(3..5)), [4, 5]);
        assert_eq!(packet_bytes(&arena, &annex, &(4..5)), [5]);
        assert_eq!(packet_bytes(&[], &[], &(0..0)), [0; 0]);
    }
}
