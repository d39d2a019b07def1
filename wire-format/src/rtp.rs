//! A view of an RTP header (RFC 3550 section 5.1), and of what tells RTP from RTCP on one port (RFC 5761 section 4).

use std::num::NonZeroU8;

/// The fixed part of an RTP header. The packet itself is never changed by the overlay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RtpHeader {
    /// Payload type, 7 bits.
    pub payload_type: u8,
    /// Marker bit.
    pub marker: bool,
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp, in units of the payload's clock.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Offset of the payload, behind contributing sources and header extension.
    pub payload_offset: usize,
}

const FIXED_BYTES: usize = 12;

impl RtpHeader {
    /// Reads the header; `None` unless the bytes are an RTP packet of version 2 whose header is whole.
    pub fn parse(packet: &[u8]) -> Option<RtpHeader> {
        let (b, rest) = packet.split_first_chunk::<FIXED_BYTES>()?;
        if b[0] >> 6 != 2 || is_rtcp(packet) {
            return None;
        }
        let sources_bytes = 4 * usize::from(b[0] & 0x0F);
        let mut payload_offset = FIXED_BYTES + sources_bytes;
        if b[0] & 0x10 != 0 {
            let extension = rest.get(sources_bytes..sources_bytes + 4)?;
            payload_offset += 4 + 4 * usize::from(u16::from_be_bytes([extension[2], extension[3]]));
        }
        if payload_offset > packet.len() {
            return None;
        }
        Some(RtpHeader {
            payload_type: b[1] & 0x7F,
            marker: b[1] & 0x80 != 0,
            sequence: u16::from_be_bytes([b[2], b[3]]),
            timestamp: u32::from_be_bytes([b[4], b[5], b[6], b[7]]),
            ssrc: u32::from_be_bytes([b[8], b[9], b[10], b[11]]),
            payload_offset,
        })
    }
}

/// Whether a packet of version 2 is RTCP: its second byte is a packet type of 192 to 223.
pub fn is_rtcp(packet: &[u8]) -> bool {
    matches!(packet, [first, 192..=223, ..] if first >> 6 == 2)
}

/// The header extension of an identifier in an RTP packet, in the one-byte or the two-byte form of RFC 8285.
pub fn extension(packet: &[u8], id: NonZeroU8) -> Option<&[u8]> {
    let (fixed, rest) = packet.split_first_chunk::<FIXED_BYTES>()?;
    if fixed[0] & 0x10 == 0 {
        return None;
    }
    let (form, rest) = rest.get(4 * usize::from(fixed[0] & 0x0F)..)?.split_first_chunk::<4>()?;
    let mut elements = rest.get(..4 * usize::from(u16::from_be_bytes([form[2], form[3]])))?;
    let one_byte = match u16::from_be_bytes([form[0], form[1]]) {
        0xBEDE => true,
        0x1000..=0x100F => false,
        _ => return None,
    };
    while let Some((first, rest)) = elements.split_first() {
        let (own, bytes, rest) = match (*first, one_byte) {
            // Padding between elements.
            (0, _) => {
                elements = rest;
                continue;
            }
            // 15 ends the list.
            (first, true) if first >> 4 == 15 => return None,
            (first, true) => (first >> 4, usize::from(first & 0x0F) + 1, rest),
            (first, false) => {
                let (bytes, rest) = rest.split_first()?;
                (first, usize::from(*bytes), rest)
            }
        };
        let (element, behind) = rest.split_at_checked(bytes)?;
        if own == id.get() {
            return Some(element);
        }
        elements = behind;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_with_sources_and_extension_is_measured() {
        let mut packet = vec![0x92, 0x80 | 96, 0x12, 0x34, 0, 0, 0, 9, 0, 0, 0, 7];
        packet.extend([0; 8]);
        packet.extend([0xBE, 0xDE, 0, 1, 0, 0, 0, 0, 0xAA]);
        let header = RtpHeader::parse(&packet).expect("a whole header");
        assert_eq!((header.sequence, header.timestamp, header.ssrc), (0x1234, 9, 7));
        assert_eq!((header.payload_type, header.marker), (96, true));
        assert_eq!(&packet[header.payload_offset..], [0xAA]);
        for cut in 0..packet.len() - 1 {
            assert_eq!(RtpHeader::parse(&packet[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn extensions_are_found_in_both_forms() {
        let id = |id| NonZeroU8::new(id).expect("not 0");
        let with = |form: [u8; 2], elements: &[u8]| {
            let mut packet = vec![0x91, 96, 0, 1, 0, 0, 0, 9, 0, 0, 0, 7, 0, 0, 0, 1, form[0], form[1]];
            packet.extend((elements.len() as u16 / 4).to_be_bytes());
            packet.extend(elements);
            packet
        };
        // RFC 8285 section 4.2: an element of one byte, one of three, padding, and one of four.
        let one = with([0xBE, 0xDE], &[0x10, 0xAA, 0x22, 1, 2, 3, 0, 0, 0x43, 9, 8, 7, 6, 0xF0, 0x50, 5]);
        assert_eq!(extension(&one, id(1)), Some(&[0xAA][..]));
        assert_eq!(extension(&one, id(2)), Some(&[1, 2, 3][..]));
        assert_eq!(extension(&one, id(4)), Some(&[9, 8, 7, 6][..]));
        assert_eq!(extension(&one, id(3)), None);
        assert_eq!(extension(&one, id(5)), None, "15 ends the list");
        // Section 4.3: elements may be empty, and have identifiers beyond 14.
        let two = with([0x10, 0x00], &[1, 0, 0, 200, 2, 5, 6, 0]);
        assert_eq!(extension(&two, id(1)), Some(&[][..]));
        assert_eq!(extension(&two, id(200)), Some(&[5, 6][..]));
        assert_eq!(extension(&with([0xAB, 0xCD], &[0x10, 0xAA, 0, 0]), id(1)), None, "another form");
        for cut in 0..one.len() {
            assert_eq!(extension(&one[..cut], id(1)), None, "cut at {cut}");
        }
    }

    #[test]
    fn rtcp_is_told_from_rtp_with_marker() {
        assert!(is_rtcp(&[0x80, 200, 0, 6]));
        assert!(!is_rtcp(&[0x80, 0x80 | 96, 0, 6]));
        assert!(!is_rtcp(&[0x40, 200]));
    }
}
