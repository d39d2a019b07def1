//! Sealing and opening of link datagrams.
//!
//! Keys come from the TLS exporter of the link's QUIC connection; the exporter's context names version, direction, lane,
//! cipher and generation, so no two keys are alike. The generation follows from the packet number: each covers
//! 2^22 numbers, long before the AEAD's limit, and both sides move on without a word. The receiver keeps the generation
//! before for 2 s, for what was overtaken on its way.
//!
//! Nonce = IV xor packet number (RFC 8446 section 5.3). The whole clear header is authenticated.

use crate::replay::ReplayWindow;
use aws_lc_rs::aead::{AES_128_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use std::ops::Range;
use std::time::Duration;
use wire_format::session::Cipher;
use wire_format::{PacketNumber, ReceiverIndex, SEALED_HEADER_BYTES, SealedHeader, TAG_BYTES, Timestamp};

/// Packet numbers of one key generation.
pub(crate) const GENERATION_PACKETS_LOG2: u32 = 22;
/// How long datagrams of the generation before are still opened.
const PREVIOUS_GENERATION: Duration = Duration::from_secs(2);
const EXPORTER_LABEL: &[u8] = b"EXPORTER-cascade-link";

/// Which way sealed datagrams go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    FromDialler = 0,
    ToDialler = 1,
}

/// Fills its first argument with keying material for a label and a context: the TLS exporter.
pub(crate) type Exporter = Box<dyn Fn(&mut [u8], &[u8], &[u8]) -> Result<(), KeyUnavailable> + Send>;

/// The exporter gave nothing; the connection cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct KeyUnavailable;

/// Where the keys of one direction of a link come from.
pub(crate) struct KeySource {
    pub(crate) exporter: Exporter,
    pub(crate) version: u8,
    pub(crate) cipher: Cipher,
    pub(crate) direction: Direction,
    /// Which lane of the link.
    pub(crate) lane: u8,
    /// Packet numbers of one generation.
    pub(crate) generation_log2: u32,
}

impl KeySource {
    fn generation_of(&self, number: u64) -> u64 {
        number >> self.generation_log2
    }

    fn derive(&self, generation: u64) -> Result<Key, KeyUnavailable> {
        let mut context = [self.version, self.direction as u8, self.lane, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let algorithm = match self.cipher {
            Cipher::Aes128Gcm => &AES_128_GCM,
            Cipher::ChaCha20Poly1305 => {
                context[3] = 1;
                &CHACHA20_POLY1305
            }
        };
        context[4..].copy_from_slice(&generation.to_be_bytes());
        let mut material = [0; 32 + NONCE_LEN];
        let material = &mut material[..algorithm.key_len() + NONCE_LEN];
        (self.exporter)(material, EXPORTER_LABEL, &context)?;
        let (key, iv) = material.split_last_chunk::<NONCE_LEN>().ok_or(KeyUnavailable)?;
        let unbound = UnboundKey::new(algorithm, key).map_err(|_| KeyUnavailable)?;
        Ok(Key { aead: LessSafeKey::new(unbound), iv: *iv })
    }
}

struct Key {
    aead: LessSafeKey,
    iv: [u8; NONCE_LEN],
}

impl Key {
    fn nonce(&self, number: u64) -> Nonce {
        let mut nonce = self.iv;
        for (byte, n) in nonce[NONCE_LEN - 8..].iter_mut().zip(number.to_be_bytes()) {
            *byte ^= n;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Why a datagram cannot be sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SealError {
    /// Its number is not above the last one.
    Number,
    /// Its key cannot be derived.
    Key,
}

/// The sending side of an association.
pub(crate) struct Sealer {
    source: KeySource,
    receiver: ReceiverIndex,
    generation: u64,
    key: Key,
    /// Least number that may be sealed next. Nonces never repeat because numbers never step back.
    next: u64,
}

impl Sealer {
    pub(crate) fn new(source: KeySource, receiver: ReceiverIndex) -> Result<Sealer, KeyUnavailable> {
        let key = source.derive(0)?;
        Ok(Sealer { source, receiver, generation: 0, key, next: 0 })
    }

    /// Writes the header and seals in place. `datagram` has room for header and tag around its plain bytes. Says whether
    /// a new key generation began.
    pub(crate) fn seal(&mut self, number: PacketNumber, datagram: &mut [u8]) -> Result<bool, SealError> {
        let PacketNumber(number) = number;
        if number < self.next || number == u64::MAX {
            return Err(SealError::Number);
        }
        let generation = self.source.generation_of(number);
        let begun = generation != self.generation;
        if begun {
            self.key = self.source.derive(generation).map_err(|_| SealError::Key)?;
            self.generation = generation;
        }
        self.next = number + 1;
        let header = SealedHeader {
            key_phase: generation & 1 == 1,
            receiver: self.receiver,
            number: PacketNumber(number),
        }
        .encode();
        let end = datagram.len() - TAG_BYTES;
        datagram[..SEALED_HEADER_BYTES].copy_from_slice(&header);
        let nonce = self.key.nonce(number);
        let tag = self
            .key
            .aead
            .seal_in_place_separate_tag(nonce, Aad::from(header), &mut datagram[SEALED_HEADER_BYTES..end])
            .map_err(|_| SealError::Key)?;
        datagram[end..].copy_from_slice(tag.as_ref());
        Ok(begun)
    }
}

/// Why a datagram is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OpenError {
    /// Seen before, or too old to tell.
    Replayed,
    /// Not authentic, or of a key generation that is out of turn.
    Failed,
}

/// The receiving side of an association.
pub(crate) struct Opener {
    source: KeySource,
    generation: u64,
    key: Key,
    next: Option<Key>,
    previous: Option<(Key, Timestamp)>,
    window: ReplayWindow,
}

impl Opener {
    pub(crate) fn new(source: KeySource) -> Result<Opener, KeyUnavailable> {
        let key = source.derive(0)?;
        Ok(Opener { source, generation: 0, key, next: None, previous: None, window: ReplayWindow::new() })
    }

    /// Opens in place and returns where in `datagram` the plain bytes are.
    pub(crate) fn open(
        &mut self,
        now: Timestamp,
        header: SealedHeader,
        datagram: &mut [u8],
    ) -> Result<Range<usize>, OpenError> {
        let PacketNumber(number) = header.number;
        if !self.window.is_new(number) {
            return Err(OpenError::Replayed);
        }
        let generation = self.source.generation_of(number);
        if header.key_phase != (generation & 1 == 1) {
            return Err(OpenError::Failed);
        }
        let (clear, sealed) =
            datagram.split_first_chunk_mut::<SEALED_HEADER_BYTES>().ok_or(OpenError::Failed)?;
        let key = if generation == self.generation {
            &self.key
        } else if generation == self.generation + 1 {
            // Kept even if this datagram proves false, so that false ones cannot make us derive again and again.
            let derived = match self.next.take() {
                Some(key) => key,
                None => self.source.derive(generation).map_err(|_| OpenError::Failed)?,
            };
            self.next.insert(derived)
        } else if generation + 1 == self.generation {
            match &self.previous {
                Some((key, until)) if now < *until => key,
                Some(_) | None => return Err(OpenError::Failed),
            }
        } else {
            return Err(OpenError::Failed);
        };
        let nonce = key.nonce(number);
        let plain_bytes =
            key.aead.open_in_place(nonce, Aad::from(*clear), sealed).map_err(|_| OpenError::Failed)?.len();
        self.window.mark(number);
        if generation > self.generation
            && let Some(next) = self.next.take()
        {
            let old = std::mem::replace(&mut self.key, next);
            self.previous = Some((old, now + PREVIOUS_GENERATION));
            self.generation = generation;
        }
        Ok(SEALED_HEADER_BYTES..SEALED_HEADER_BYTES + plain_bytes)
    }

    /// Nothing newer has proved authentic.
    pub(crate) fn is_newest(&self, PacketNumber(number): PacketNumber) -> bool {
        self.window.is_newest(number)
    }

    /// Generation of the newest authentic datagram.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(cipher: Cipher) -> KeySource {
        let exporter: Exporter = Box::new(|out, _, context| {
            for (index, byte) in out.iter_mut().enumerate() {
                *byte = context.iter().fold(index as u8, |sum, b| sum.wrapping_mul(31).wrapping_add(*b));
            }
            Ok(())
        });
        KeySource {
            exporter,
            version: 1,
            cipher,
            direction: Direction::FromDialler,
            lane: 0,
            generation_log2: GENERATION_PACKETS_LOG2,
        }
    }

    fn pair(cipher: Cipher) -> (Sealer, Opener) {
        let sealer = Sealer::new(source(cipher), ReceiverIndex(7)).expect("keys");
        (sealer, Opener::new(source(cipher)).expect("keys"))
    }

    fn sealed(sealer: &mut Sealer, number: u64) -> Vec<u8> {
        let mut datagram = vec![0x55; 100];
        sealer.seal(PacketNumber(number), &mut datagram).expect("in order");
        datagram
    }

    fn open(opener: &mut Opener, now: u64, datagram: &[u8]) -> Result<Vec<u8>, OpenError> {
        let mut datagram = datagram.to_vec();
        let header = SealedHeader::decode(&datagram).expect("a sealed datagram");
        let range = opener.open(Timestamp::from_micros(now), header, &mut datagram)?;
        Ok(datagram[range].to_vec())
    }

    #[test]
    fn what_is_sealed_opens_once() {
        for cipher in [Cipher::Aes128Gcm, Cipher::ChaCha20Poly1305] {
            let (mut sealer, mut opener) = pair(cipher);
            let datagram = sealed(&mut sealer, 0);
            assert_eq!(open(&mut opener, 0, &datagram), Ok(vec![0x55; 71]));
            assert_eq!(open(&mut opener, 0, &datagram), Err(OpenError::Replayed));
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let (mut sealer, mut opener) = pair(Cipher::Aes128Gcm);
        let datagram = sealed(&mut sealer, 5);
        // The first byte tells the kind and is decoded before; the others are all authenticated.
        for index in 1..datagram.len() {
            let mut changed = datagram.clone();
            changed[index] ^= 1;
            assert_eq!(open(&mut opener, 0, &changed), Err(OpenError::Failed), "byte {index}");
        }
        assert!(open(&mut opener, 0, &datagram).is_ok());
    }

    #[test]
    fn numbers_never_step_back() {
        let (mut sealer, _) = pair(Cipher::Aes128Gcm);
        let mut datagram = vec![0; 64];
        assert_eq!(sealer.seal(PacketNumber(9), &mut datagram), Ok(false));
        assert_eq!(sealer.seal(PacketNumber(9), &mut datagram), Err(SealError::Number));
        assert_eq!(sealer.seal(PacketNumber(3), &mut datagram), Err(SealError::Number));
    }

    #[test]
    fn generations_roll_and_the_old_one_fades() {
        let (mut sealer, mut opener) = pair(Cipher::Aes128Gcm);
        let last = (1 << GENERATION_PACKETS_LOG2) - 1;
        let early = sealed(&mut sealer, last - 2);
        let late = sealed(&mut sealer, last - 1);
        let later = sealed(&mut sealer, last);
        let first = sealed(&mut sealer, last + 1);
        assert!(open(&mut opener, 0, &early).is_ok());
        assert!(open(&mut opener, 0, &first).is_ok());
        assert_eq!(opener.generation(), 1);
        assert!(open(&mut opener, 1_999_999, &late).is_ok(), "overtaken, within 2 s");
        assert_eq!(open(&mut opener, 2_000_000, &later), Err(OpenError::Failed), "after 2 s");
    }

    #[test]
    fn a_generation_out_of_turn_is_refused() {
        let (mut sealer, mut opener) = pair(Cipher::Aes128Gcm);
        let far = sealed(&mut sealer, 2 << GENERATION_PACKETS_LOG2);
        assert_eq!(open(&mut opener, 0, &far), Err(OpenError::Failed));
    }

    /// The hex digits after each `word` of a vector, as bytes.
    fn hex(vector: &str, word: &str) -> Vec<u8> {
        let lines = vector.lines().filter_map(|line| line.strip_prefix(word));
        let digits: String = lines.flat_map(str::chars).filter(|digit| *digit != ' ').collect();
        (0..digits.len() / 2)
            .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).expect("hex digits"))
            .collect()
    }

    #[test]
    fn what_another_library_sealed_opens_and_is_sealed_alike() {
        let vectors = include_str!("../../../wire-format/vectors/sealed.hex");
        for vector in vectors.split("\n\n").filter(|vector| vector.contains("field  cipher")) {
            let cipher =
                if vector.contains("Aes128Gcm") { Cipher::Aes128Gcm } else { Cipher::ChaCha20Poly1305 };
            let datagram = hex(vector, "hex ");
            let header = SealedHeader::decode(&datagram).expect("a sealed datagram");
            let generation = header.number.0 >> GENERATION_PACKETS_LOG2;
            let source = || {
                let (wanted, material) = (hex(vector, "field  context "), hex(vector, "field  material "));
                let exporter: Exporter = Box::new(move |out, label, context| {
                    assert_eq!(label, b"EXPORTER-cascade-link");
                    // The generation before is asked for too where the vector's is the next.
                    let asked = u64::from_be_bytes(*context.last_chunk().expect("12 bytes"));
                    assert!(context == wanted || asked + 1 == generation, "{context:?}");
                    out.copy_from_slice(&material);
                    Ok(())
                });
                KeySource {
                    exporter,
                    version: 1,
                    cipher,
                    direction: Direction::FromDialler,
                    lane: 0,
                    generation_log2: GENERATION_PACKETS_LOG2,
                }
            };
            let mut opener = Opener::new(source()).expect("keys");
            let plain = open(&mut opener, 0, &datagram).expect("authentic");
            assert_eq!(plain, hex(vector, "field  plain "));
            let mut again = vec![0; datagram.len()];
            again[SEALED_HEADER_BYTES..SEALED_HEADER_BYTES + plain.len()].copy_from_slice(&plain);
            let mut sealer = Sealer::new(source(), header.receiver).expect("keys");
            sealer.seal(header.number, &mut again).expect("the first");
            assert_eq!(again, datagram);
        }
    }
}
