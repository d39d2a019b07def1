//! Overlays by chance.

use std::collections::BTreeSet;

/// Side of the square on which relays stand, in microseconds of way.
const SIDE_US: u64 = 80_000;
/// What every hop costs besides.
const HOP_US: u64 = 2_000;
/// Up to so much a link costs more by chance, each direction by itself.
const UNEVEN_US: u64 = 500;

/// A drawn overlay.
pub(super) struct Drawing {
    /// Both ends and what it costs, there and back.
    links: Vec<(u16, u16, [u64; 2])>,
    dice: Dice,
}

impl Drawing {
    pub(super) fn new(relays: u16, links_each: u16, seed: u64) -> Drawing {
        let mut dice = Dice(seed);
        let spots: Vec<(u64, u64)> =
            (0..relays).map(|_| (dice.below(SIDE_US), dice.below(SIDE_US))).collect();
        let far_us = |a: u16, b: u16| {
            let ((ax, ay), (bx, by)) = (spots[usize::from(a)], spots[usize::from(b)]);
            HOP_US + (ax.abs_diff(bx).pow(2) + ay.abs_diff(by).pow(2)).isqrt()
        };
        let mut pairs = BTreeSet::new();
        if links_each >= relays - 1 {
            pairs.extend((0..relays).flat_map(|a| (0..a).map(move |b| (b, a))));
        } else {
            let near = usize::from(links_each / 4);
            for a in 0..relays {
                let mut others: Vec<u16> = (0..relays).filter(|b| *b != a).collect();
                others.select_nth_unstable_by_key(near, |b| (far_us(a, *b), *b));
                pairs.extend(others[..near].iter().map(|b| (a.min(*b), a.max(*b))));
            }
            while pairs.len() < usize::from(relays) * usize::from(links_each) / 2 {
                let (a, b) = (dice.below(u64::from(relays)) as u16, dice.below(u64::from(relays)) as u16);
                if a != b {
                    pairs.insert((a.min(b), a.max(b)));
                }
            }
        }
        let mut cost_us = |a, b| far_us(a, b) + dice.below(UNEVEN_US);
        let links = pairs.into_iter().map(|(a, b)| (a, b, [cost_us(a, b), cost_us(b, a)])).collect();
        Drawing { links, dice }
    }

    /// All links, each direction by itself: from, to, what it costs.
    pub(super) fn directed(&self) -> Vec<(u16, u16, u64)> {
        self.links.iter().flat_map(|&(a, b, costs)| [(a, b, costs[0]), (b, a, costs[1])]).collect()
    }

    /// One link, by chance.
    pub(super) fn any_link(&mut self) -> (u16, u16, [u64; 2]) {
        self.links[self.dice.below(self.links.len() as u64) as usize]
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlays_have_the_links_that_were_asked_for_and_are_drawn_again_alike() {
        for (relays, links_each, links) in [(100, 10, 500), (20, 32, 190), (5, 4, 10)] {
            let directed = Drawing::new(relays, links_each, 7).directed();
            assert_eq!(directed.len(), 2 * links);
            assert_eq!(directed, Drawing::new(relays, links_each, 7).directed());
            assert_ne!(directed, Drawing::new(relays, links_each, 8).directed());
            assert!(directed.iter().all(|(a, b, cost_us)| a != b && *cost_us >= HOP_US));
        }
    }
}
