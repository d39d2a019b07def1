//! The size budget of `SPEC.md` section 11.

use wire_format::{
    DATAGRAM_BYTES_BASE, DATAGRAM_BYTES_MAX, DATAGRAM_BYTES_UNPROBED, DestinationSet, EDGE_HEADER_BYTES,
    FRAGMENT_HEADER_BYTES, FRAME_BODY_MAX, FRAME_HEADER_BYTES, MEDIA_FIXED_BYTES, MEDIA_HEADER_MAX,
    NodeIndex, PARITY_ROOM_BYTES, RTP_BYTES_MAX, SEAL_OVERHEAD_BYTES, SEALED_HEADER_BYTES, SEND_TIME_BYTES,
    TAG_BYTES,
};

/// What a packet costs beyond UDP, the set excepted.
const FIXED_BYTES: usize =
    SEALED_HEADER_BYTES + TAG_BYTES + SEND_TIME_BYTES + FRAME_HEADER_BYTES + MEDIA_FIXED_BYTES;

/// Every shape that a set of nodes below 64 can have: its length depends on the highest member and the count alone. The
/// others are packed at the bottom, packed at the top, or spread out.
#[test]
fn a_packet_costs_at_most_64_bytes_where_there_are_64_relays() {
    let mut worst = 0;
    for highest in 0..64u16 {
        for others in 0..=highest {
            let at_the_bottom: Vec<_> = (0..others).collect();
            let at_the_top: Vec<_> = (highest - others..highest).collect();
            let spread: Vec<_> = (0..others).map(|i| i * highest / others).collect();
            let mut lengths = [at_the_bottom, at_the_top, spread].into_iter().map(|mut nodes| {
                nodes.push(highest);
                let nodes: Vec<_> = nodes.into_iter().map(NodeIndex).collect();
                let (set, taken) = DestinationSet::take(&nodes);
                assert_eq!(taken, nodes.len());
                assert_eq!(set.iter().collect::<Vec<_>>(), nodes);
                FIXED_BYTES + set.wire_bytes()
            });
            let length = lengths.next().expect("three of them");
            assert!(lengths.all(|other| other == length), "highest {highest}, {others} others");
            worst = worst.max(length);
        }
    }
    assert_eq!(worst, 64);
}

/// Subsets that no shape explains, drawn by a fixed generator.
#[test]
fn no_subset_of_64_relays_costs_more() {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..200_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Sparse, even and dense subsets.
        let mask = match state >> 62 {
            0 => state & state.rotate_left(7) & state.rotate_left(29),
            1 => state | state.rotate_left(11),
            _ => state,
        };
        let nodes: Vec<_> = (0..64).filter(|node| mask >> node & 1 == 1).map(NodeIndex).collect();
        if !nodes.is_empty() {
            assert!(FIXED_BYTES + DestinationSet::take(&nodes).0.wire_bytes() <= 64, "{mask:#x}");
        }
    }
}

#[test]
fn what_is_sent_before_the_path_is_known_fits_ipv6_over_1500_bytes() {
    let (ipv4, ipv6, udp) = (20, 40, 8);
    assert_eq!(DATAGRAM_BYTES_MAX + ipv4 + udp, 1500);
    assert_eq!(DATAGRAM_BYTES_UNPROBED + ipv6 + udp, 1500);
    assert_eq!((SEALED_HEADER_BYTES, TAG_BYTES, SEND_TIME_BYTES), (13, 16, 3));
    assert_eq!((FRAME_HEADER_BYTES, MEDIA_FIXED_BYTES, EDGE_HEADER_BYTES), (2, 21, 9));
}

#[test]
fn the_largest_packet_crosses_the_narrowest_path_in_two_halves() {
    let share = DATAGRAM_BYTES_BASE
        - SEAL_OVERHEAD_BYTES
        - PARITY_ROOM_BYTES
        - SEND_TIME_BYTES
        - FRAME_HEADER_BYTES
        - FRAGMENT_HEADER_BYTES;
    assert!(FRAME_HEADER_BYTES + MEDIA_HEADER_MAX + RTP_BYTES_MAX <= 2 * share);
    assert_eq!(MEDIA_HEADER_MAX + RTP_BYTES_MAX, FRAME_BODY_MAX);
    assert_eq!(RTP_BYTES_MAX, 1961, "SPEC.md says so");
}
