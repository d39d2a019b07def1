//! Fuzz target of the sealed path: a sealer, an opener, and between them someone who delivers late, twice, changed, cut or
//! not at all. What was sealed opens once at most, and exactly when the rules say; everything else never opens and leaves
//! no trace.

use crate::replay::WINDOW_PACKETS;
use crate::seal::{Direction, Exporter, GENERATION_PACKETS_LOG2, KeySource, Opener, Sealer};
use bolero::TypeGenerator;
use std::collections::BTreeSet;
use wire_format::session::Cipher;
use wire_format::{PacketNumber, ReceiverIndex, SealedHeader, Timestamp};

const GENERATION_PACKETS: u64 = 1 << 22;
const PREVIOUS_GENERATION_US: u64 = 2_000_000;

/// What happens next. Datagrams are named by how long ago they were sealed.
#[derive(Clone, Debug, TypeGenerator)]
enum Step {
    /// Seals the next number, or one further on.
    Seal {
        gap: u16,
    },
    /// Seals a number near the beginning of the next generation.
    SealAtChange {
        past: u8,
    },
    Deliver {
        ago: u8,
    },
    Change {
        ago: u8,
        at: u16,
        xor: u8,
    },
    Cut {
        ago: u8,
        len: u16,
    },
    Lengthen {
        ago: u8,
        by: u8,
    },
    /// The header of one, the rest of another.
    Splice {
        ago: u8,
        other: u8,
    },
    Forge {
        bytes: Vec<u8>,
    },
    Wait {
        ms: u16,
    },
}

struct World {
    sealer: Sealer,
    opener: Opener,
    sealed: Vec<(u64, Vec<u8>)>,
    next: u64,
    now: u64,
    opened: BTreeSet<u64>,
    /// Generation of the newest opened, and until when the one before it is.
    generation: u64,
    previous_until: u64,
}

#[test]
fn sealed() {
    fuzz::target!("sealed").with_type::<(bool, Vec<Step>)>().for_each(|(chacha, steps)| {
        let cipher = if *chacha { Cipher::ChaCha20Poly1305 } else { Cipher::Aes128Gcm };
        let mut world = World::new(cipher);
        for step in steps.iter().take(64) {
            world.step(step);
        }
        // Whatever was thrown at it, what comes next is believed.
        world.seal(1);
        let (number, datagram) = world.sealed.last().cloned().expect("just sealed");
        if number / GENERATION_PACKETS <= world.generation + 1 {
            assert_eq!(world.open(&datagram).as_deref(), Some(&plain(number)[..]));
        }
    });
}

impl World {
    fn new(cipher: Cipher) -> World {
        World {
            sealer: Sealer::new(source(cipher), ReceiverIndex(7)).expect("keys"),
            opener: Opener::new(source(cipher)).expect("keys"),
            sealed: Vec::new(),
            next: 0,
            now: 1_000_000,
            opened: BTreeSet::new(),
            generation: 0,
            previous_until: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Seal { gap } => self.seal(u64::from(*gap) + 1),
            Step::SealAtChange { past } => {
                let change = (self.next / GENERATION_PACKETS + 1) * GENERATION_PACKETS;
                let wanted = change - 4 + u64::from(past % 8);
                self.seal((wanted + 1).saturating_sub(self.next).max(1));
            }
            Step::Deliver { ago } => {
                if let Some((number, datagram)) = self.ago(*ago) {
                    let expected = self.believes(number);
                    let opened = self.open(&datagram);
                    assert_eq!(opened.is_some(), expected, "number {number}");
                    if let Some(bytes) = opened {
                        assert_eq!(bytes, plain(number));
                        self.note(number);
                    }
                }
            }
            Step::Change { ago, at, xor } => {
                if let Some((_, mut datagram)) = self.ago(*ago) {
                    let at = usize::from(*at) % datagram.len();
                    datagram[at] ^= xor.max(&1);
                    assert_eq!(self.open(&datagram), None, "byte {at} was changed");
                }
            }
            Step::Cut { ago, len } => {
                if let Some((_, mut datagram)) = self.ago(*ago) {
                    datagram.truncate(usize::from(*len) % datagram.len());
                    assert_eq!(self.open(&datagram), None, "it was cut");
                }
            }
            Step::Lengthen { ago, by } => {
                if let Some((_, mut datagram)) = self.ago(*ago) {
                    datagram.resize(datagram.len() + usize::from(*by) + 1, *by);
                    assert_eq!(self.open(&datagram), None, "it was lengthened");
                }
            }
            Step::Splice { ago, other } => {
                if let (Some((a, header)), Some((b, rest))) = (self.ago(*ago), self.ago(*other))
                    && a != b
                {
                    let spliced = [&header[..13], &rest[13..]].concat();
                    assert_eq!(self.open(&spliced), None, "of two datagrams");
                }
            }
            Step::Forge { bytes } => assert_eq!(self.open(bytes), None, "nobody sealed it"),
            Step::Wait { ms } => self.now += u64::from(*ms) * 1000,
        }
    }

    fn seal(&mut self, gap: u64) {
        let number = self.next + gap - 1;
        let plain = plain(number);
        let mut datagram = vec![0; 13 + plain.len() + 16];
        datagram[13..13 + plain.len()].copy_from_slice(&plain);
        self.sealer.seal(PacketNumber(number), &mut datagram).expect("numbers go up");
        self.next = number + 1;
        self.sealed.push((number, datagram));
    }

    fn ago(&self, ago: u8) -> Option<(u64, Vec<u8>)> {
        let count = self.sealed.len().max(1);
        self.sealed.get(count - 1 - usize::from(ago) % count).cloned()
    }

    /// Whether the rules of the specification accept this number now.
    fn believes(&self, number: u64) -> bool {
        let generation = number / GENERATION_PACKETS;
        let newest = self.opened.last().copied();
        let in_window = newest.is_none_or(|newest| number + WINDOW_PACKETS > newest);
        let in_turn = generation == self.generation
            || generation == self.generation + 1
            || generation + 1 == self.generation && self.now < self.previous_until;
        !self.opened.contains(&number) && in_window && in_turn
    }

    fn note(&mut self, number: u64) {
        self.opened.insert(number);
        let generation = number / GENERATION_PACKETS;
        if generation > self.generation {
            self.generation = generation;
            self.previous_until = self.now + PREVIOUS_GENERATION_US;
        }
    }

    fn open(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        let mut datagram = datagram.to_vec();
        let header = SealedHeader::decode(&datagram)?;
        // The port finds the opener by the receiver index: another's is not ours to open.
        if header.receiver != ReceiverIndex(7) {
            return None;
        }
        let range = self.opener.open(Timestamp::from_micros(self.now), header, &mut datagram).ok()?;
        Some(datagram[range].to_vec())
    }
}

fn plain(number: u64) -> Vec<u8> {
    let length = 3 + (number % 40) as usize;
    number.to_be_bytes().into_iter().cycle().take(length).collect()
}

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
