//! RTCP as it is read from and written to SFUs that speak plain RTP (RFC 3550 section 6, RFC 4585, RFC 5104).
//!
//! Reading is total: any bytes give packets or a small error, nothing is allocated, nothing is read beyond the datagram.
//! Each packet says where it stands in its compound, so that one can be passed on without its neighbours.

use std::ops::Range;

const HEADER_BYTES: usize = 4;
const BLOCK_BYTES: usize = 24;
const SENDER_INFO_BYTES: usize = 20;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const BYE: u8 = 203;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;

const FORMAT_NACK: u8 = 1;
const FORMAT_PLI: u8 = 1;
const FORMAT_FIR: u8 = 4;

const ITEM_END: u8 = 0;
const ITEM_CNAME: u8 = 1;
/// Longest text of an item of a source description.
const ITEM_BYTES_MAX: usize = 255;

/// Why bytes are no RTCP.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, thiserror::Error)]
pub enum RtcpError {
    /// A packet ends behind the datagram.
    #[error("truncated")]
    Truncated,
    /// Not version 2, or a packet type that is not RTCP's.
    #[error("not RTCP")]
    Kind,
    /// Padding before the last packet, or more of it than there are bytes.
    #[error("illegal padding")]
    Padding,
    /// The body is shorter than its counts say.
    #[error("malformed body")]
    Body,
}

/// One packet of a compound.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RtcpPacket<'a> {
    /// Where it stands in the datagram, header and padding included.
    pub range: Range<usize>,
    /// What it says.
    pub body: RtcpBody<'a>,
}

/// What an RTCP packet says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RtcpBody<'a> {
    /// SR: what a sender has sent, and what it hears of others.
    SenderReport {
        /// The sender.
        ssrc: u32,
        /// Its wall clock, 32.32 fixed point.
        ntp: u64,
        /// Blocks about others.
        blocks: ReportBlocks<'a>,
    },
    /// RR: what a receiver hears.
    ReceiverReport {
        /// The receiver.
        ssrc: u32,
        /// One block for each source it hears.
        blocks: ReportBlocks<'a>,
    },
    /// SDES: names of sources.
    SourceDescription {
        /// The sources described.
        chunks: Chunks<'a>,
    },
    /// BYE: sources that end.
    Bye {
        /// Them.
        sources: Sources<'a>,
    },
    /// Generic NACK: packets that are missing (RFC 4585 section 6.2.1).
    Nack {
        /// Whose packets.
        media: u32,
        /// Which.
        lost: LostPackets<'a>,
    },
    /// PLI: the receiver's picture is broken (RFC 4585 section 6.3.1).
    PictureLoss {
        /// Whose picture.
        media: u32,
    },
    /// FIR: the receiver wants a picture that needs no other (RFC 5104 section 4.3.1).
    FullIntraRequest {
        /// Whose.
        targets: FirTargets<'a>,
    },
    /// Anything else; passed over.
    Other {
        /// Its packet type.
        packet_type: u8,
    },
}

/// What is said about one source in a report (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReportBlock {
    /// The source.
    pub ssrc: u32,
    /// Lost since the report before, as a fraction of 256.
    pub fraction_lost: u8,
    /// Lost since the beginning; duplicates make it shrink. 24 bits on the wire.
    pub cumulative_lost: i32,
    /// Cycles of the sequence number and the highest one received.
    pub highest_sequence: u32,
    /// Interarrival jitter in units of the payload's clock.
    pub jitter: u32,
    /// Middle 32 bits of the last sender report's clock, 0 if none came.
    pub last_sender_report: u32,
    /// Since that report, units of 1/65,536 s.
    pub delay_since: u32,
}

/// Report blocks, one by one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReportBlocks<'a>(&'a [u8]);

impl Iterator for ReportBlocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let (block, rest) = self.0.split_first_chunk::<BLOCK_BYTES>()?;
        self.0 = rest;
        let word = |at: usize| u32::from_be_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
        Some(ReportBlock {
            ssrc: word(0),
            fraction_lost: block[4],
            // Sign-extended from 24 bits.
            cumulative_lost: (word(4) << 8) as i32 >> 8,
            highest_sequence: word(8),
            jitter: word(12),
            last_sender_report: word(16),
            delay_since: word(20),
        })
    }
}

/// Sources of a BYE, one by one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sources<'a>(&'a [u8]);

impl Iterator for Sources<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let (source, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*source))
    }
}

/// Sources of a source description, one by one. They were counted and measured when the packet was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chunks<'a> {
    bytes: &'a [u8],
    left: u8,
}

impl Iterator for Chunks<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        let (ssrc, rest) = self.bytes.split_first_chunk::<4>()?;
        self.bytes = rest.get(chunk_items(rest)?..)?;
        Some(u32::from_be_bytes(*ssrc))
    }
}

/// Bytes of a chunk's items with their end and the filling up to the next word; `None` if they do not end.
fn chunk_items(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while *bytes.get(at)? != ITEM_END {
        at += 2 + usize::from(*bytes.get(at + 1)?);
    }
    let end = (at / 4 + 1) * 4;
    (end <= bytes.len()).then_some(end)
}

/// Sequence numbers of a NACK, one by one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LostPackets<'a> {
    entries: &'a [u8],
    /// Of the entry under way: its first number, what is left of its bit mask, and the bit that comes next.
    current: Option<(u16, u16, u16)>,
}

impl Iterator for LostPackets<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if let Some((first, mask, bit)) = self.current
            && mask != 0
        {
            let skip = mask.trailing_zeros() as u16;
            let at = bit + skip;
            self.current = Some((first, mask.unbounded_shr(u32::from(skip) + 1), at + 1));
            return Some(first.wrapping_add(at + 1));
        }
        let (entry, rest) = self.entries.split_first_chunk::<4>()?;
        self.entries = rest;
        let first = u16::from_be_bytes([entry[0], entry[1]]);
        self.current = Some((first, u16::from_be_bytes([entry[2], entry[3]]), 0));
        Some(first)
    }
}

/// Sources of a FIR, one by one, with the command's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FirTargets<'a>(&'a [u8]);

impl Iterator for FirTargets<'_> {
    type Item = (u32, u8);

    fn next(&mut self) -> Option<(u32, u8)> {
        let (entry, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some((u32::from_be_bytes([entry[0], entry[1], entry[2], entry[3]]), entry[4]))
    }
}

/// The packets of a datagram, in order. After an error there is nothing more.
pub fn packets(datagram: &[u8]) -> Packets<'_> {
    Packets { datagram, at: 0 }
}

/// See [`packets`].
#[derive(Clone, Debug)]
pub struct Packets<'a> {
    datagram: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<RtcpPacket<'a>, RtcpError>;

    fn next(&mut self) -> Option<Result<RtcpPacket<'a>, RtcpError>> {
        if self.at >= self.datagram.len() {
            return None;
        }
        let start = self.at;
        let read = read(&self.datagram[start..]);
        self.at = match &read {
            Ok((bytes, _)) => start + bytes,
            Err(_) => self.datagram.len(),
        };
        Some(read.map(|(bytes, body)| RtcpPacket { range: start..start + bytes, body }))
    }
}

/// The first packet of some bytes, and its length.
fn read(bytes: &[u8]) -> Result<(usize, RtcpBody<'_>), RtcpError> {
    let (header, _) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(RtcpError::Truncated)?;
    if header[0] >> 6 != 2 || !(192..=223).contains(&header[1]) {
        return Err(RtcpError::Kind);
    }
    let length = HEADER_BYTES + 4 * usize::from(u16::from_be_bytes([header[2], header[3]]));
    let mut body = bytes.get(HEADER_BYTES..length).ok_or(RtcpError::Truncated)?;
    if header[0] & 0x20 != 0 {
        // Only the last packet of a compound may be padded.
        let padding = body.last().map_or(0, |last| usize::from(*last));
        if length != bytes.len() || padding == 0 || padding % 4 != 0 || padding > body.len() {
            return Err(RtcpError::Padding);
        }
        body = &body[..body.len() - padding];
    }
    Ok((length, read_body(header[0] & 0x1F, header[1], body)?))
}

fn read_body(count: u8, packet_type: u8, body: &[u8]) -> Result<RtcpBody<'_>, RtcpError> {
    let word = |at: usize| {
        let bytes = body.get(at..at + 4).ok_or(RtcpError::Body)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    };
    let blocks = |at: usize| {
        let bytes = body.get(at..at + BLOCK_BYTES * usize::from(count)).ok_or(RtcpError::Body)?;
        Ok(ReportBlocks(bytes))
    };
    Ok(match (packet_type, count) {
        (SENDER_REPORT, _) => RtcpBody::SenderReport {
            ssrc: word(0)?,
            ntp: u64::from(word(4)?) << 32 | u64::from(word(8)?),
            blocks: blocks(4 + SENDER_INFO_BYTES)?,
        },
        (RECEIVER_REPORT, _) => RtcpBody::ReceiverReport { ssrc: word(0)?, blocks: blocks(4)? },
        (SOURCE_DESCRIPTION, _) => {
            let chunks = Chunks { bytes: body, left: count };
            if chunks.count() != usize::from(count) {
                return Err(RtcpError::Body);
            }
            RtcpBody::SourceDescription { chunks }
        }
        (BYE, _) => {
            RtcpBody::Bye { sources: Sources(body.get(..4 * usize::from(count)).ok_or(RtcpError::Body)?) }
        }
        (TRANSPORT_FEEDBACK, FORMAT_NACK) => RtcpBody::Nack {
            media: word(4)?,
            lost: LostPackets { entries: body.get(8..).ok_or(RtcpError::Body)?, current: None },
        },
        (PAYLOAD_FEEDBACK, FORMAT_PLI) => RtcpBody::PictureLoss { media: word(4)? },
        (PAYLOAD_FEEDBACK, FORMAT_FIR) => {
            RtcpBody::FullIntraRequest { targets: FirTargets(body.get(8..).ok_or(RtcpError::Body)?) }
        }
        (packet_type, _) => RtcpBody::Other { packet_type },
    })
}

/// Most report blocks in one packet: the count has five bits.
pub const REPORT_BLOCKS_MAX: usize = 31;

/// Appends a receiver report; of more than [`REPORT_BLOCKS_MAX`] blocks the first are taken.
pub fn write_receiver_report(out: &mut Vec<u8>, sender: u32, blocks: &[ReportBlock]) {
    let blocks = &blocks[..blocks.len().min(REPORT_BLOCKS_MAX)];
    header(out, blocks.len() as u8, RECEIVER_REPORT, 1 + 6 * blocks.len());
    out.extend_from_slice(&sender.to_be_bytes());
    for block in blocks {
        out.extend_from_slice(&block.ssrc.to_be_bytes());
        let lost = block.cumulative_lost.clamp(-0x80_0000, 0x7F_FFFF) as u32 & 0xFF_FFFF;
        out.extend_from_slice(&(u32::from(block.fraction_lost) << 24 | lost).to_be_bytes());
        for word in [block.highest_sequence, block.jitter, block.last_sender_report, block.delay_since] {
            out.extend_from_slice(&word.to_be_bytes());
        }
    }
}

/// Appends a source description with a canonical name, of which at most 255 bytes are written.
pub fn write_cname(out: &mut Vec<u8>, ssrc: u32, cname: &str) {
    let name = &cname.as_bytes()[..cname.len().min(ITEM_BYTES_MAX)];
    // The item, its end, and filling up to the next word.
    let items = ((2 + name.len()) / 4 + 1) * 4;
    header(out, 1, SOURCE_DESCRIPTION, 1 + items / 4);
    out.extend_from_slice(&ssrc.to_be_bytes());
    let end = out.len() + items;
    out.extend_from_slice(&[ITEM_CNAME, name.len() as u8]);
    out.extend_from_slice(name);
    out.resize(end, ITEM_END);
}

/// Appends a picture loss indication.
pub fn write_picture_loss(out: &mut Vec<u8>, sender: u32, media: u32) {
    header(out, FORMAT_PLI, PAYLOAD_FEEDBACK, 2);
    out.extend_from_slice(&sender.to_be_bytes());
    out.extend_from_slice(&media.to_be_bytes());
}

fn header(out: &mut Vec<u8>, count: u8, packet_type: u8, words: usize) {
    out.extend_from_slice(&[0x80 | count, packet_type]);
    out.extend_from_slice(&(words as u16).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: String = text.split_whitespace().collect();
        (0..digits.len() / 2)
            .map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).expect("hex"))
            .collect()
    }

    fn bodies(datagram: &[u8]) -> Vec<Result<RtcpBody<'_>, RtcpError>> {
        packets(datagram).map(|packet| packet.map(|packet| packet.body)).collect()
    }

    const SR_SDES_BYE: &str = "81c8000c 11223344 83aa7e80 40000000 00015f90 00000064 00004e20
                               aabbccdd 40fffffe 00010002 00000007 12345678 00018000
                               81ca0003 11223344 01056361 6d406100
                               81cb0001 11223344";

    #[test]
    fn a_compound_is_read_packet_by_packet() {
        let bytes = hex(SR_SDES_BYE);
        let read: Vec<_> = packets(&bytes).map(|packet| packet.expect("legal")).collect();
        let ranges: Vec<_> = read.iter().map(|packet| packet.range.clone()).collect();
        assert_eq!(ranges, [0..52, 52..68, 68..76]);
        let RtcpBody::SenderReport { ssrc, ntp, mut blocks } = read[0].body else { panic!("an SR") };
        assert_eq!((ssrc, ntp), (0x1122_3344, 0x83aa_7e80_4000_0000));
        let block = ReportBlock {
            ssrc: 0xaabb_ccdd,
            fraction_lost: 0x40,
            cumulative_lost: -2,
            highest_sequence: 0x0001_0002,
            jitter: 7,
            last_sender_report: 0x1234_5678,
            delay_since: 0x0001_8000,
        };
        assert_eq!((blocks.next(), blocks.next()), (Some(block), None));
        let RtcpBody::SourceDescription { chunks } = read[1].body else { panic!("an SDES") };
        assert_eq!(chunks.collect::<Vec<_>>(), [0x1122_3344]);
        let RtcpBody::Bye { sources } = read[2].body else { panic!("a BYE") };
        assert_eq!(sources.collect::<Vec<_>>(), [0x1122_3344]);
    }

    #[test]
    fn feedback_names_packets_and_pictures() {
        let bytes = hex("81cd0004 00000001 000003e8 fffe8003 00100000
                         81ce0002 00000001 000003e8
                         84ce0004 00000001 00000000 000003e8 05000000
                         80cc0001 00000001");
        let read = bodies(&bytes);
        let Ok(RtcpBody::Nack { media: 1000, lost }) = read[0] else { panic!("a NACK: {:?}", read[0]) };
        // 65534 itself, bits 0, 1 and 15 of its mask, then 16 alone. Numbers wrap.
        assert_eq!(lost.collect::<Vec<_>>(), [65534, 65535, 0, 14, 16]);
        assert_eq!(read[1], Ok(RtcpBody::PictureLoss { media: 1000 }));
        let Ok(RtcpBody::FullIntraRequest { targets }) = read[2] else { panic!("a FIR") };
        assert_eq!(targets.collect::<Vec<_>>(), [(1000, 5)]);
        assert_eq!(read[3], Ok(RtcpBody::Other { packet_type: 204 }));
    }

    #[test]
    fn what_is_not_whole_or_not_rtcp_is_refused() {
        for (text, error) in [
            ("80c9", RtcpError::Truncated),
            ("80c90001", RtcpError::Truncated),
            ("40c90001 00000000", RtcpError::Kind),
            ("80600001 00000000", RtcpError::Kind),
            ("82c90001 00000000", RtcpError::Body),
            ("80c80001 00000000", RtcpError::Body),
            ("a0c90001 00000000", RtcpError::Padding),
            ("a0c90001 00000008", RtcpError::Padding),
            ("a0c90002 00000001 00000003", RtcpError::Padding),
            ("a0c90002 00000001 00000004 80c90001 00000001", RtcpError::Padding),
            ("81ca0002 00000001 01040000", RtcpError::Body),
            ("81ca0002 00000001 01020000", RtcpError::Body),
            ("82cb0001 00000001", RtcpError::Body),
            ("81ce0001 00000001", RtcpError::Body),
            ("81cd0001 00000001", RtcpError::Body),
        ] {
            assert_eq!(bodies(&hex(text)), [Err(error)], "{text}");
        }
        let padded = hex("a0c90002 00000001 00000004");
        assert!(matches!(bodies(&padded)[..], [Ok(RtcpBody::ReceiverReport { ssrc: 1, .. })]));
        assert_eq!(bodies(&[]), []);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let block = ReportBlock {
            ssrc: 7,
            fraction_lost: 255,
            cumulative_lost: -1,
            highest_sequence: 0x0002_ffff,
            jitter: 90,
            last_sender_report: 5,
            delay_since: 6,
        };
        for name in ["", "a", "ab", "abc", "relay@cascade"] {
            let mut out = Vec::new();
            write_receiver_report(&mut out, 9, &[block]);
            write_cname(&mut out, 9, name);
            write_picture_loss(&mut out, 9, 7);
            let read = bodies(&out);
            let Ok(RtcpBody::ReceiverReport { ssrc: 9, blocks }) = read[0] else { panic!("an RR") };
            assert_eq!(blocks.collect::<Vec<_>>(), [block]);
            let Ok(RtcpBody::SourceDescription { chunks }) = read[1] else { panic!("an SDES: {read:?}") };
            assert_eq!(chunks.collect::<Vec<_>>(), [9]);
            assert_eq!(read[2], Ok(RtcpBody::PictureLoss { media: 7 }));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic_and_every_packet_is_inside(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
            types in proptest::collection::vec(192u8..224, 8),
        ) {
            // Random bytes are no RTCP; with a version, a type and a small length now and then they nearly are.
            let mut nearly = bytes.clone();
            for (at, packet_type) in types.into_iter().enumerate() {
                if let Some(header) = nearly.get_mut(at * 24..at * 24 + 4) {
                    header[0] = 0x80 | header[0] & 0x3F;
                    header.copy_from_slice(&[header[0], packet_type, 0, 5]);
                }
            }
            for datagram in [&bytes, &nearly] {
                let mut end = 0;
                for packet in packets(datagram).map_while(Result::ok) {
                    assert_eq!(packet.range.start, end);
                    end = packet.range.end;
                    assert!(end <= datagram.len());
                    let items = match packet.body {
                        RtcpBody::SenderReport { ssrc: _, ntp: _, blocks }
                        | RtcpBody::ReceiverReport { ssrc: _, blocks } => blocks.count(),
                        RtcpBody::SourceDescription { chunks } => chunks.count(),
                        RtcpBody::Bye { sources } => sources.count(),
                        RtcpBody::Nack { media: _, lost } => lost.count(),
                        RtcpBody::FullIntraRequest { targets } => targets.count(),
                        RtcpBody::PictureLoss { media: _ } | RtcpBody::Other { packet_type: _ } => 0,
                    };
                    assert!(items <= 17 * datagram.len() / 4);
                }
            }
        }
    }
}
