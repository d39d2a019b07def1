//! A capture file in the format pcapng (draft-ietf-opsawg-pcapng): one section, one interface that carries IPv4, names of
//! addresses, packets with times in nanoseconds.

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::time::Duration;

const SECTION_HEADER: u32 = 0x0A0D_0D0A;
const INTERFACE_DESCRIPTION: u32 = 1;
const NAME_RESOLUTION: u32 = 4;
const ENHANCED_PACKET: u32 = 6;

const BYTE_ORDER_MAGIC: u32 = 0x1A2B_3C4D;
/// LINKTYPE_IPV4: packets begin with their IPv4 header.
const LINK_TYPE: u16 = 228;
const OPTION_END: u16 = 0;
const OPTION_COMMENT: u16 = 1;
const SECTION_APPLICATION: u16 = 4;
const INTERFACE_NAME: u16 = 2;
const INTERFACE_RESOLUTION: u16 = 9;
/// Times count units of 10^-9 s.
const NANOSECONDS: u8 = 9;
const NAME_OF_IPV4: u16 = 1;

/// Where the protocol lives.
const PORT: u16 = 4700;
const IPV4_BYTES: usize = 20;
const UDP_BYTES: usize = 8;
const PROTOCOL_UDP: u8 = 17;

/// A file that is written from its beginning to its end.
pub(super) struct Pcapng<'a> {
    out: &'a mut dyn Write,
    bytes: u64,
}

impl<'a> Pcapng<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Pcapng<'a> {
        Pcapng { out, bytes: 0 }
    }

    /// The beginning, and the one interface.
    pub(super) fn section(&mut self, application: &str, comment: &str) -> io::Result<()> {
        let mut body = Vec::new();
        body.extend(BYTE_ORDER_MAGIC.to_le_bytes());
        body.extend([1, 0, 0, 0]);
        // Nobody knows yet how long it will be.
        body.extend(u64::MAX.to_le_bytes());
        option(&mut body, SECTION_APPLICATION, application.as_bytes());
        option(&mut body, OPTION_COMMENT, comment.as_bytes());
        option(&mut body, OPTION_END, &[]);
        self.block(SECTION_HEADER, &body)?;
        let mut body = Vec::new();
        body.extend(u32::from(LINK_TYPE).to_le_bytes());
        // Packets are never cut.
        body.extend(0_u32.to_le_bytes());
        option(&mut body, INTERFACE_NAME, b"overlay");
        option(&mut body, INTERFACE_RESOLUTION, &[NANOSECONDS]);
        option(&mut body, OPTION_END, &[]);
        self.block(INTERFACE_DESCRIPTION, &body)
    }

    /// What addresses are called.
    pub(super) fn names<'n>(&mut self, names: impl Iterator<Item = (Ipv4Addr, &'n str)>) -> io::Result<()> {
        let mut body = Vec::new();
        for (address, name) in names {
            option(&mut body, NAME_OF_IPV4, &[&address.octets()[..], name.as_bytes(), &[0]].concat());
        }
        option(&mut body, OPTION_END, &[]);
        self.block(NAME_RESOLUTION, &body)
    }

    /// A UDP datagram from one address to another; its payload in parts.
    pub(super) fn packet(
        &mut self,
        at: Duration,
        from: Ipv4Addr,
        to: Ipv4Addr,
        payload: &[&[u8]],
    ) -> io::Result<()> {
        let payload_bytes: usize = payload.iter().map(|part| part.len()).sum();
        let udp_bytes = UDP_BYTES + payload_bytes;
        let length = IPV4_BYTES + udp_bytes;
        let at_ns = at.as_nanos() as u64;
        let mut body = Vec::with_capacity(20 + length);
        body.extend(0_u32.to_le_bytes());
        body.extend(((at_ns >> 32) as u32).to_le_bytes());
        body.extend((at_ns as u32).to_le_bytes());
        body.extend([(length as u32).to_le_bytes(), (length as u32).to_le_bytes()].concat());
        body.extend(ipv4_header(length as u16, from, to));
        for word in [PORT, PORT, udp_bytes as u16, 0] {
            // A checksum of zero says that there is none.
            body.extend(word.to_be_bytes());
        }
        payload.iter().for_each(|part| body.extend(*part));
        self.block(ENHANCED_PACKET, &body)
    }

    /// Everything is written. Returns the length of the file.
    pub(super) fn finish(self) -> io::Result<u64> {
        self.out.flush()?;
        Ok(self.bytes)
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let padding = padding(body.len());
        let total = (12 + body.len() + padding) as u32;
        self.out.write_all(&[kind.to_le_bytes(), total.to_le_bytes()].concat())?;
        self.out.write_all(body)?;
        self.out.write_all(&[0; 3][..padding])?;
        self.out.write_all(&total.to_le_bytes())?;
        self.bytes += u64::from(total);
        Ok(())
    }
}

/// An option of a block, or a record of names: they look alike.
fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    body.extend(value);
    body.extend(&[0; 3][..padding(value.len())]);
}

/// To the next multiple of four.
fn padding(bytes: usize) -> usize {
    bytes.next_multiple_of(4) - bytes
}

fn ipv4_header(length: u16, from: Ipv4Addr, to: Ipv4Addr) -> [u8; IPV4_BYTES] {
    let mut header = [0; IPV4_BYTES];
    // Version 4, five words of header; not to be fragmented; 64 hops.
    header[0] = 0x45;
    header[2..4].copy_from_slice(&length.to_be_bytes());
    header[6] = 0x40;
    header[8] = 64;
    header[9] = PROTOCOL_UDP;
    header[12..16].copy_from_slice(&from.octets());
    header[16..20].copy_from_slice(&to.octets());
    let sum: u32 = header.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    // Twenty bytes: the carry of the carry is the last one.
    let folded = (sum & 0xFFFF) + (sum >> 16);
    let folded = (folded & 0xFFFF) + (folded >> 16);
    header[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_sums_to_all_ones() {
        let header = ipv4_header(1_500, Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 255, 254, 253));
        let sum: u32 = header.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
        assert_eq!((sum & 0xFFFF) + (sum >> 16), 0xFFFF);
    }

    #[test]
    fn blocks_are_whole_words_and_say_their_length_twice() {
        let mut out = Vec::new();
        let mut file = Pcapng::new(&mut out);
        file.section("somebody", "a comment of any length").expect("a vector takes everything");
        let addresses = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 1, 0, 1)];
        file.names(addresses.into_iter().zip(["r1", "sfu-a"])).expect("a vector takes everything");
        for bytes in 0..5 {
            let payload = vec![7; bytes];
            file.packet(Duration::from_nanos(1 << 33), addresses[0], addresses[1], &[b"rec", &payload])
                .expect("a vector takes everything");
        }
        let bytes = file.finish().expect("a vector takes everything");
        assert_eq!(bytes, out.len() as u64);
        let word = |at: usize| u32::from_le_bytes(out[at..at + 4].try_into().expect("four bytes"));
        let (mut at, mut kinds) = (0, Vec::new());
        while at < out.len() {
            let length = word(at + 4) as usize;
            assert!(length.is_multiple_of(4) && word(at + length - 4) as usize == length, "at {at}");
            kinds.push(word(at));
            if word(at) == ENHANCED_PACKET {
                assert_eq!([word(at + 12), word(at + 16)], [2, 0], "high word first");
            }
            at += length;
        }
        assert_eq!(
            kinds,
            [&[SECTION_HEADER, INTERFACE_DESCRIPTION, NAME_RESOLUTION][..], &[ENHANCED_PACKET; 5]].concat()
        );
    }
}
