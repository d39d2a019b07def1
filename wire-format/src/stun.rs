//! STUN binding requests (RFC 8489) at the relay port, for health checks: is the relay there, and as whom does it see me?
//!
//! Only requests of the method Binding are understood, and the answer fits 1.6 times their size, so that nobody gains by
//! asking in another's name. An answer has no answer: responses and indications decode to nothing.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+---------------------------+-------------------------------+
//! |0 0|  0x0001 Binding request   |    length of the attributes   |
//! +---+---------------------------+-------------------------------+
//! |                   magic cookie 0x2112A442                     |
//! +---------------------------------------------------------------+
//! |                   transaction id (96 bits) ...
//! ```

use std::net::{IpAddr, SocketAddr};

/// Bytes of a STUN header.
pub const STUN_HEADER_BYTES: usize = 20;
/// Bytes of an answer, at most.
pub const STUN_ANSWER_BYTES_MAX: usize = STUN_HEADER_BYTES + 8 + 4 + 2 * UNKNOWN_MAX;

const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
const BINDING_SUCCESS: [u8; 2] = [0x01, 0x01];
const BINDING_ERROR: [u8; 2] = [0x01, 0x11];
const XOR_MAPPED_ADDRESS: [u8; 4] = [0x00, 0x20, 0x00, 0x00];
const UNKNOWN_ATTRIBUTES: [u8; 2] = [0x00, 0x0A];
/// ERROR-CODE 420 with an empty reason.
const UNKNOWN_ATTRIBUTE_ERROR: [u8; 8] = [0x00, 0x09, 0x00, 0x04, 0x00, 0x00, 4, 20];
/// Attributes below this must be understood (RFC 8489 section 14).
const OPTIONAL: u16 = 0x8000;
/// Unknown attributes that an answer names.
const UNKNOWN_MAX: usize = 8;

/// A Binding request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BindingRequest {
    transaction: [u8; 12],
    bytes: usize,
    unknown: [u16; UNKNOWN_MAX],
    unknown_count: usize,
}

impl BindingRequest {
    /// Reads a datagram; `None` if it is anything but a well-formed Binding request.
    pub fn decode(datagram: &[u8]) -> Option<BindingRequest> {
        let (header, attributes) = datagram.split_first_chunk::<STUN_HEADER_BYTES>()?;
        let [t0, t1, l0, l1, c0, c1, c2, c3, transaction @ ..] = *header;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if [t0, t1] != BINDING_REQUEST
            || [c0, c1, c2, c3] != MAGIC_COOKIE
            || length != attributes.len()
            || !length.is_multiple_of(4)
        {
            return None;
        }
        let mut request = BindingRequest {
            transaction,
            bytes: datagram.len(),
            unknown: [0; UNKNOWN_MAX],
            unknown_count: 0,
        };
        let mut rest = attributes;
        while let Some(([k0, k1, l0, l1], behind)) = rest.split_first_chunk::<4>() {
            let kind = u16::from_be_bytes([*k0, *k1]);
            let padded = usize::from(u16::from_be_bytes([*l0, *l1])).next_multiple_of(4);
            rest = behind.get(padded..)?;
            if kind < OPTIONAL && !is_known(kind) && request.unknown_count < UNKNOWN_MAX {
                request.unknown[request.unknown_count] = kind;
                request.unknown_count += 1;
            }
        }
        Some(request)
    }

    /// The request's transaction.
    pub fn transaction(&self) -> [u8; 12] {
        self.transaction
    }

    /// Attributes that would have to be understood and are not, the first of them.
    pub fn unknown(&self) -> &[u16] {
        &self.unknown[..self.unknown_count]
    }

    /// Writes the answer for a request that came from `source`, and says how long it is: where it came from, or which of
    /// its attributes are unknown. `None` if that would exceed 1.6 times the request: over IPv6 a request must have 28 bytes,
    /// any attribute of four does.
    pub fn answer(&self, source: SocketAddr, out: &mut [u8; STUN_ANSWER_BYTES_MAX]) -> Option<usize> {
        let mut body = [0; STUN_ANSWER_BYTES_MAX - STUN_HEADER_BYTES];
        let (kind, length) = if self.unknown_count > 0 {
            (BINDING_ERROR, self.write_unknown(&mut body))
        } else {
            (BINDING_SUCCESS, self.write_mapped(source, &mut body))
        };
        let bytes = STUN_HEADER_BYTES + length;
        if 5 * bytes > 8 * self.bytes {
            return None;
        }
        out[..2].copy_from_slice(&kind);
        out[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        out[4..8].copy_from_slice(&MAGIC_COOKIE);
        out[8..STUN_HEADER_BYTES].copy_from_slice(&self.transaction);
        out[STUN_HEADER_BYTES..bytes].copy_from_slice(&body[..length]);
        Some(bytes)
    }

    fn write_unknown(&self, body: &mut [u8]) -> usize {
        body[..8].copy_from_slice(&UNKNOWN_ATTRIBUTE_ERROR);
        body[8..10].copy_from_slice(&UNKNOWN_ATTRIBUTES);
        body[10..12].copy_from_slice(&(2 * self.unknown_count as u16).to_be_bytes());
        for (place, kind) in body[12..].chunks_exact_mut(2).zip(self.unknown()) {
            place.copy_from_slice(&kind.to_be_bytes());
        }
        (12 + 2 * self.unknown_count).next_multiple_of(4)
    }

    /// XOR-MAPPED-ADDRESS (RFC 8489 section 14.2). An IPv4 address that a socket of both families saw is one of IPv4.
    fn write_mapped(&self, source: SocketAddr, body: &mut [u8]) -> usize {
        body[..4].copy_from_slice(&XOR_MAPPED_ADDRESS);
        let key = MAGIC_COOKIE.into_iter().chain(self.transaction);
        let write = |family: u8, address: &[u8]| {
            body[3] = 4 + address.len() as u8;
            body[5] = family;
            let [p0, p1] = source.port().to_be_bytes();
            body[6..8].copy_from_slice(&[p0 ^ MAGIC_COOKIE[0], p1 ^ MAGIC_COOKIE[1]]);
            for ((place, byte), key) in body[8..].iter_mut().zip(address).zip(key) {
                *place = byte ^ key;
            }
            8 + address.len()
        };
        match source.ip().to_canonical() {
            IpAddr::V4(ip) => write(1, &ip.octets()),
            IpAddr::V6(ip) => write(2, &ip.octets()),
        }
    }
}

/// Attributes of RFC 8489. Credentials among them are not asked for and not looked at (section 12).
fn is_known(kind: u16) -> bool {
    matches!(
        kind,
        0x0001 | 0x0006 | 0x0008 | 0x0009 | 0x000A | 0x0014 | 0x0015 | 0x001C | 0x001D | 0x001E | 0x0020
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5769 section 2: the transaction of all its samples.
    const TRANSACTION: [u8; 12] = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];

    fn request(attributes: &[u8]) -> Vec<u8> {
        let length = (attributes.len() as u16).to_be_bytes();
        [&[0, 1][..], &length, &MAGIC_COOKIE, &TRANSACTION, attributes].concat()
    }

    fn answer(request: &[u8], source: &str) -> Option<Vec<u8>> {
        let source = source.parse().expect("an address");
        let mut out = [0xEE; STUN_ANSWER_BYTES_MAX];
        let bytes = BindingRequest::decode(request).expect("a request").answer(source, &mut out)?;
        Some(out[..bytes].to_vec())
    }

    /// SOFTWARE with four bytes.
    const SOFTWARE: [u8; 8] = [0x80, 0x22, 0, 4, b't', b'e', b's', b't'];

    #[test]
    fn the_mapped_addresses_of_rfc_5769() {
        let v4 = answer(&request(&[]), "192.0.2.1:32853").expect("an answer");
        let mapped = [0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43];
        assert_eq!(v4[..20], [&[1, 1, 0, 12][..], &MAGIC_COOKIE, &TRANSACTION].concat());
        assert_eq!(v4[20..], mapped);
        let v6 =
            answer(&request(&SOFTWARE), "[2001:db8:1234:5678:11:2233:4455:6677]:32853").expect("an answer");
        let mapped = [
            0x00, 0x20, 0x00, 0x14, 0x00, 0x02, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79,
            0xbc, 0x25, 0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
        ];
        assert_eq!(v6[20..], mapped);
    }

    #[test]
    fn an_ipv4_address_behind_a_socket_of_both_families_is_one_of_ipv4() {
        let plain = answer(&request(&[]), "192.0.2.1:32853");
        assert_eq!(answer(&request(&[]), "[::ffff:192.0.2.1]:32853"), plain);
    }

    #[test]
    fn what_must_be_understood_and_is_not_is_named() {
        // PRIORITY of ICE, an optional one, and CHANGE-REQUEST.
        let attributes =
            [&[0x00, 0x24, 0, 4, 1, 2, 3, 4][..], &SOFTWARE, &[0x00, 0x03, 0, 4, 0, 0, 0, 0]].concat();
        let answer = answer(&request(&attributes), "192.0.2.1:32853").expect("an answer");
        assert_eq!(answer[..4], [1, 0x11, 0, 16]);
        assert_eq!(answer[20..], [0, 9, 0, 4, 0, 0, 4, 20, 0, 10, 0, 4, 0x00, 0x24, 0x00, 0x03]);
    }

    #[test]
    fn no_answer_is_larger_than_8_fifths_of_its_request() {
        assert_eq!(answer(&request(&[]), "[2001:db8::1]:1"), None, "44 bytes for 20");
        for count in 0..20 {
            let request = request(&[0x00, 0x24, 0, 0].repeat(count));
            if let Some(answer) = answer(&request, "192.0.2.1:32853") {
                assert!(5 * answer.len() <= 8 * request.len(), "{} for {}", answer.len(), request.len());
            } else {
                panic!("{count} unknown attributes leave room for an answer");
            }
        }
    }

    #[test]
    fn nothing_but_requests_is_read() {
        let good = request(&SOFTWARE);
        assert!(BindingRequest::decode(&good).is_some());
        let changed = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            BindingRequest::decode(&bytes)
        };
        assert_eq!(changed(0, 1), None, "a response");
        assert_eq!(changed(1, 0x11), None, "an indication");
        assert_eq!(changed(3, 4), None, "a length that is not the datagram's");
        assert_eq!(changed(4, 0), None, "no magic cookie");
        assert_eq!(changed(23, 8), None, "an attribute beyond the end");
        assert_eq!(BindingRequest::decode(&good[..27]), None);
        assert_eq!(BindingRequest::decode(&[]), None);
    }
}
