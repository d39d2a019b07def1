//! Inputs made from inputs: a few small wounds each, drawn from a seed.

/// Longest input, bytes: more than any datagram.
const BYTES_MAX: usize = 4096;
/// Wounds of one input.
const WOUNDS_MAX: u64 = 4;
/// Numbers that lengths and counters stumble over.
const INTERESTING: [u64; 12] =
    [0, 1, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF, u64::MAX / 2, u64::MAX];

/// A generator of numbers (SplitMix64): small, and the same everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Draws(u64);

impl Draws {
    pub(crate) fn new(seed: u64) -> Draws {
        Draws(seed)
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// A number below `end`; 0 if `end` is 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.bits() % (end as u64).max(1)) as usize
    }
}

/// An input made from one of `seeds`, or from nothing.
pub(crate) fn mutated(seeds: &[Vec<u8>], draws: &mut Draws) -> Vec<u8> {
    let mut bytes = seeds.get(draws.below(seeds.len())).cloned().unwrap_or_default();
    for _ in 0..1 + draws.bits() % WOUNDS_MAX {
        wound(&mut bytes, seeds, draws);
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

fn wound(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], draws: &mut Draws) {
    let at = draws.below(bytes.len() + 1);
    let len = 1 + draws.below(16);
    let end = (at + len).min(bytes.len());
    match draws.below(10) {
        0 | 1 if at < bytes.len() => bytes[at] ^= 1 << draws.below(8),
        2 if at < bytes.len() => bytes[at] = draws.bits() as u8,
        3 => {
            let number = INTERESTING[draws.below(INTERESTING.len())];
            let width = [1, 2, 4, 8][draws.below(4)];
            let ends = if draws.below(2) == 0 { number.to_be_bytes() } else { number.to_le_bytes() };
            let part = if number.to_be_bytes() == ends { &ends[8 - width..] } else { &ends[..width] };
            for (byte, new) in bytes.iter_mut().skip(at).zip(part) {
                *byte = *new;
            }
        }
        4 => {
            let new: Vec<u8> = (0..len).map(|_| draws.bits() as u8).collect();
            bytes.splice(at..at, new);
        }
        5 => drop(bytes.drain(at..end)),
        6 => {
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
        7 => bytes.truncate(at),
        8 => {
            let other = seeds.get(draws.below(seeds.len())).map_or(&[][..], Vec::as_slice);
            let from = draws.below(other.len() + 1);
            bytes.truncate(at);
            bytes.extend(&other[from..]);
        }
        _ => {
            let count = draws.below(64);
            bytes.truncate(at);
            bytes.extend((0..count).map(|_| draws.bits() as u8));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_inputs_and_another_seed_others() {
        let seeds = [b"media".to_vec(), b"heartbeat".to_vec()];
        let drawn = |seed| {
            let mut draws = Draws::new(seed);
            (0..1000).map(|_| mutated(&seeds, &mut draws)).collect::<Vec<_>>()
        };
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
        assert!(drawn(3).iter().all(|input| input.len() <= BYTES_MAX));
        assert!(drawn(3).iter().filter(|input| !seeds.contains(*input)).count() > 900, "mutated");
    }
}
