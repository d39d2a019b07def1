//! Where relays would stand if round trips were distances: a guess at links that nobody has measured (Dabek, Cox, Kaashoek
//! and Morris, "Vivaldi: a decentralized network coordinate system", 2004, with height vectors).
//!
//! Arithmetic in a fixed order on fixed beginnings: the same measurements give the same places on every machine.

use wire_format::NodeIndex;

const DIMENSIONS: usize = 4;
/// How far a relay moves at once, of what a measurement says.
const STEP: f32 = 0.1;
/// How fast a relay's error follows.
const ERROR_STEP: f32 = 0.25;
/// Least error: even an old relay listens to new measurements.
const ERROR_MIN: f32 = 0.01;
const ERROR_MAX: f32 = 2.0;
/// Least height, in microseconds.
const HEIGHT_MIN: f32 = 100.0;

/// A relay's place; distances are one-way costs in microseconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Place {
    at: [f32; DIMENSIONS],
    /// What every way from here takes before it goes anywhere.
    height: f32,
    /// Relative error of what this place says.
    error: f32,
}

impl Place {
    /// Somewhere near the middle, away from everyone else.
    pub(super) fn begin(node: NodeIndex) -> Place {
        let at = std::array::from_fn(|axis| {
            let bits = mix(u64::from(node.0) << 8 | axis as u64) >> 40;
            bits as f32 / (1 << 13) as f32 - 1_024.0
        });
        Place { at, height: 1_000.0, error: 1.0 }
    }

    /// What a link to another place is guessed to cost.
    pub(super) fn guess_us(&self, other: &Place) -> u32 {
        self.distance(other).max(0.0) as u32
    }

    fn distance(&self, other: &Place) -> f32 {
        let square = |axis: usize| (self.at[axis] - other.at[axis]).powi(2);
        (0..DIMENSIONS).map(square).sum::<f32>().sqrt() + self.height + other.height
    }

    /// A link to another place was found to cost this.
    pub(super) fn measured(&mut self, other: &Place, cost_us: u32) {
        let (guess, cost) = (self.distance(other), cost_us.max(1) as f32);
        let weight = self.error / (self.error + other.error);
        let error = (guess - cost).abs() / cost;
        let follow = ERROR_STEP * weight;
        self.error = (error * follow + self.error * (1.0 - follow)).clamp(ERROR_MIN, ERROR_MAX);
        let force = STEP * weight * (cost - guess);
        let away: [f32; DIMENSIONS] = std::array::from_fn(|axis| self.at[axis] - other.at[axis]);
        let length = away.iter().map(|part| part.powi(2)).sum::<f32>().sqrt().max(1.0);
        for (at, away) in self.at.iter_mut().zip(away) {
            *at += force * away / length;
        }
        let share = (self.height + other.height) / guess.max(1.0);
        self.height = (self.height + force * share / 2.0).max(HEIGHT_MIN);
    }
}

/// A number that looks random (Steele, Lea and Flood's SplitMix64): which of several equals to take.
pub(super) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_tells_what_was_not() {
        // Thirty places on a line, 1 ms apart; each has measured some third of the others.
        let is_measured =
            |a: u16, b: u16| a != b && mix(u64::from(a.min(b)) << 16 | u64::from(a.max(b))).is_multiple_of(3);
        let true_us = |a: u16, b: u16| 2_000 + u32::from(a.abs_diff(b)) * 1_000;
        let mut places: Vec<Place> = (0..30).map(|node| Place::begin(NodeIndex(node))).collect();
        for _ in 0..400 {
            for a in 0..30_u16 {
                for b in (0..30_u16).filter(|b| is_measured(a, *b)) {
                    let other = places[usize::from(b)];
                    places[usize::from(a)].measured(&other, true_us(a, b));
                }
            }
        }
        let pairs = (0..30_u16).flat_map(|a| (0..30_u16).map(move |b| (a, b)));
        let unmeasured = pairs.filter(|(a, b)| a != b && !is_measured(*a, *b));
        let error = |(a, b): (u16, u16)| {
            let guess = places[usize::from(a)].guess_us(&places[usize::from(b)]);
            f64::from(guess.abs_diff(true_us(a, b))) / f64::from(true_us(a, b))
        };
        let mut errors: Vec<f64> = unmeasured.map(error).collect();
        errors.sort_by(f64::total_cmp);
        assert!(errors[errors.len() / 2] < 0.15, "the median guess is off by {}", errors[errors.len() / 2]);
    }
}
