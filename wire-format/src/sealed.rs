//! Outside of a sealed link datagram: what is in clear, and how large the rest is.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-----------------------------------------------+
//! |0 0 0 0 1 0 0 K|              receiver index ...
//! +---------------+-----------------------------------------------+
//!   (cont.)       |              packet number (64 bits) ...
//! +---------------+-----------------------------------------------+
//!                 |   ciphertext of the plain datagram, 16-byte tag
//! ```

use crate::{PacketNumber, ReceiverIndex};

/// Bytes in clear before the ciphertext; all of them are authenticated.
pub const SEALED_HEADER_BYTES: usize = 13;
/// Bytes of the authentication tag.
pub const TAG_BYTES: usize = 16;
/// What sealing adds to a plain datagram.
pub const SEAL_OVERHEAD_BYTES: usize = SEALED_HEADER_BYTES + TAG_BYTES;
/// UDP payload that every path carries, as QUIC demands (RFC 9000 section 14).
pub const DATAGRAM_BYTES_BASE: usize = 1200;
/// Largest UDP payload sent to a peer that answers no probes: a 1,500-byte path with IPv6 and UDP headers.
pub const DATAGRAM_BYTES_UNPROBED: usize = 1452;
/// Largest UDP payload ever sent: a 1,500-byte path with IPv4 and UDP headers.
pub const DATAGRAM_BYTES_MAX: usize = 1472;

const TYPE: u8 = 0x08;
const TYPE_MASK: u8 = 0xF8;
const KEY_PHASE: u8 = 0x01;
const RESERVED: u8 = 0x06;

/// The clear part of a sealed datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SealedHeader {
    /// Lowest bit of the key generation.
    pub key_phase: bool,
    /// The association of the receiver that this is for.
    pub receiver: ReceiverIndex,
    /// Number of the datagram; with the key's salt it forms the nonce.
    pub number: PacketNumber,
}

impl SealedHeader {
    /// Reads the header; `None` if the bytes are too short to be a sealed datagram, or of another kind.
    pub fn decode(datagram: &[u8]) -> Option<SealedHeader> {
        let (header, rest) = datagram.split_first_chunk::<SEALED_HEADER_BYTES>()?;
        let first = header[0];
        if first & TYPE_MASK != TYPE || first & RESERVED != 0 || rest.len() < TAG_BYTES {
            return None;
        }
        let receiver = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        let [_, _, _, _, _, number @ ..] = *header;
        Some(SealedHeader {
            key_phase: first & KEY_PHASE != 0,
            receiver: ReceiverIndex(receiver),
            number: PacketNumber(u64::from_be_bytes(number)),
        })
    }

    /// The header's bytes.
    pub fn encode(self) -> [u8; SEALED_HEADER_BYTES] {
        let mut bytes = [0; SEALED_HEADER_BYTES];
        bytes[0] = TYPE | if self.key_phase { KEY_PHASE } else { 0 };
        bytes[1..5].copy_from_slice(&self.receiver.0.to_be_bytes());
        bytes[5..].copy_from_slice(&self.number.0.to_be_bytes());
        bytes
    }
}

/// What a datagram at the relay port is, by its first byte (RFC 7983, RFC 9443).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DatagramKind {
    /// A QUIC packet.
    Quic,
    /// A sealed link datagram.
    Sealed,
    /// Plain RTP or RTCP.
    Rtp,
    /// A STUN message.
    Stun,
    /// Nothing that is spoken here.
    Unknown,
}

impl DatagramKind {
    /// Tells the kind from the first byte; `Unknown` for an empty datagram.
    pub fn of(datagram: &[u8]) -> DatagramKind {
        match datagram.first() {
            Some(first) if first & 0x40 != 0 => DatagramKind::Quic,
            Some(0x08..=0x0F) => DatagramKind::Sealed,
            Some(0x80..=0xBF) => DatagramKind::Rtp,
            Some(0x00..=0x03) => DatagramKind::Stun,
            Some(_) | None => DatagramKind::Unknown,
        }
    }
}
