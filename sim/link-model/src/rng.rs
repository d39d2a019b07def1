//! The project's own random numbers: reproducible on every machine and for ever.

use crate::Ppm;
use std::ops::RangeInclusive;

/// Where a random stream begins. Children are derived from stable names, never from the order in which they are asked
/// for, so that one more link or stream leaves all others as they were.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Seed(pub u64);

impl Seed {
    /// The seed of something that belongs to this one.
    #[must_use]
    pub fn child(self, name: &str) -> Seed {
        // FNV-1a over the name, then a finaliser, so that similar names give unrelated seeds.
        let hash = name.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        });
        let mut state = self.0 ^ hash.rotate_left(32);
        Seed(split_mix(&mut state) ^ hash)
    }

    /// The seed of the thing of that number.
    #[must_use]
    pub fn numbered(self, number: u64) -> Seed {
        let mut state = self.0 ^ number.wrapping_mul(0xD134_2543_DE82_EF95);
        Seed(split_mix(&mut state))
    }

    /// A random stream from here.
    #[must_use]
    pub fn stream(self) -> Xoshiro256 {
        Xoshiro256::new(self)
    }
}

/// xoshiro256** of Blackman and Vigna (2018), filled by SplitMix64 as its authors advise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Xoshiro256 {
    state: [u64; 4],
}

impl Xoshiro256 {
    /// The stream of a seed.
    pub fn new(seed: Seed) -> Xoshiro256 {
        let mut state = seed.0;
        Xoshiro256 { state: std::array::from_fn(|_| split_mix(&mut state)) }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        let [s0, s1, s2, s3] = &mut self.state;
        let result = s1.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = *s1 << 17;
        *s2 ^= *s0;
        *s3 ^= *s1;
        *s1 ^= *s2;
        *s0 ^= *s3;
        *s2 ^= shifted;
        *s3 = s3.rotate_left(45);
        result
    }

    /// A number in the range, each equally likely but for a bias below 2^-32 in ranges narrower than 2^32.
    ///
    /// # Panics
    /// If the range is empty.
    pub fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        assert!(!range.is_empty(), "{range:?} has nothing to draw from");
        let width = range.end() - range.start();
        match width.checked_add(1) {
            None => self.bits(),
            Some(count) => {
                let high = (u128::from(self.bits()) * u128::from(count)) >> 64;
                range.start() + high as u64
            }
        }
    }

    /// True with that probability. Draws nothing where the answer is certain.
    pub fn chance(&mut self, probability: Ppm) -> bool {
        match probability {
            Ppm::NEVER => false,
            Ppm::ALWAYS => true,
            Ppm(ppm) => self.within(0..=999_999) < u64::from(ppm),
        }
    }
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_published_one() {
        // First outputs of the reference code for the state {1, 2, 3, 4}.
        let mut rng = Xoshiro256 { state: [1, 2, 3, 4] };
        assert_eq!([rng.bits(), rng.bits(), rng.bits()], [11520, 0, 1_509_978_240]);
        // First output of the reference SplitMix64 from 1234567.
        assert_eq!(split_mix(&mut 1_234_567), 6_457_827_717_110_365_317);
    }

    #[test]
    fn children_differ_by_name_number_and_parent() {
        let seeds = [
            Seed(1),
            Seed(1).child("a"),
            Seed(1).child("b"),
            Seed(2).child("a"),
            Seed(1).child("a").child("a"),
            Seed(1).numbered(0),
            Seed(1).numbered(1),
            Seed(0).numbered(0),
        ];
        for (i, a) in seeds.iter().enumerate() {
            assert!(seeds[..i].iter().all(|b| a != b), "{i}");
        }
    }

    #[test]
    fn a_range_is_covered_evenly() {
        let mut rng = Seed(7).stream();
        let mut counts = [0u32; 6];
        for _ in 0..60_000 {
            counts[rng.within(10..=15) as usize - 10] += 1;
        }
        assert!(counts.iter().all(|count| count.abs_diff(10_000) < 500), "{counts:?}");
        assert_eq!(rng.within(9..=9), 9);
        let _ = rng.within(0..=u64::MAX);
    }

    #[test]
    fn chances_are_met() {
        let mut rng = Seed(8).stream();
        let hits = (0..100_000).filter(|_| rng.chance(Ppm(20_000))).count();
        assert!(hits.abs_diff(2_000) < 200, "{hits}");
        let before = rng.clone();
        assert!(!rng.chance(Ppm::NEVER) && rng.chance(Ppm::ALWAYS));
        assert_eq!(rng, before);
    }
}
