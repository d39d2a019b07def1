//! A relay that means harm: beside all that a sound one sends it puts into its datagrams to neighbours what none would.
//!
//! It has a certificate and keys, so what it says is authentic. It may cost its neighbours bounded work and their share for
//! repairs, and nothing else.

use wire_format::parity::{PARITY_COVERED_MAX, PARITY_ROWS};
use wire_format::{
    DATAGRAM_BYTES_BASE, FrameKind, PacketNumber, ParityHeader, REQUEST_RANGES_MAX, SEAL_OVERHEAD_BYTES,
    frame_header, frames,
};

/// Malicious frames behind those of a datagram of this number, as many as there is room for in what every path takes.
/// `heard` is the highest number that the receiver has sent.
pub(crate) fn provoke(plain: &mut Vec<u8>, number: PacketNumber, heard: PacketNumber) {
    // A probe is as long as it says, and of media its own parity would not fit any more.
    if frames(plain).flatten().any(|frame| frame.kind != FrameKind::Heartbeat) {
        return;
    }
    for turn in number.0.. {
        let (kind, body) = provocation(turn, number, heard);
        let head = frame_header(kind, body.len());
        if plain.len() + head.len() + body.len() + SEAL_OVERHEAD_BYTES > DATAGRAM_BYTES_BASE {
            break;
        }
        plain.extend(head);
        plain.extend(body);
    }
}

fn provocation(turn: u64, number: PacketNumber, heard: PacketNumber) -> (FrameKind, Vec<u8>) {
    let through = (heard.0 as u32).to_be_bytes();
    let row = |row, base, covered: u128| {
        let mut body = vec![0; wire_format::parity::PARITY_HEADER_MAX];
        let used = ParityHeader { row, base: PacketNumber(base), covered }.encode(&mut body);
        body.truncate(used);
        body.extend([0xFF; 40]);
        body
    };
    match turn % 8 {
        // All of the last is missing, again and again.
        0..=2 => (FrameKind::RepairRequest, [&[1][..], &through, &[0, 0, 255, 0, 0, 255]].concat()),
        // Everything is.
        3 => {
            (FrameKind::RepairRequest, [&[1][..], &through, &[0, 0, 255].repeat(REQUEST_RANGES_MAX)].concat())
        }
        // More is missing than was sent.
        4 => (
            FrameKind::RepairRequest,
            [&[0][..], &(heard.0 as u32).wrapping_add(9_999).to_be_bytes(), &[0, 0, 9]].concat(),
        ),
        // Parity over what has not been sent, of a row that is none, of more than a row may cover.
        5 => (FrameKind::Parity, row(1, number.0 + 1_000_000, u128::MAX >> (128 - PARITY_COVERED_MAX))),
        6 => (FrameKind::Parity, row(PARITY_ROWS as u8, number.0.saturating_sub(200), 1)),
        // What nobody misses, again. Of what is missing its neighbours believe it every byte, as they do of media.
        _ => (FrameKind::Repair, [&[0; 4][..], &[0xFF; 60]].concat()),
    }
}
