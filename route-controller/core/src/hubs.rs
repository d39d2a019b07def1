//! A relay through which nearly everything goes from one moment to the next has become better all of a sudden, or says
//! so.
//!
//! Of all pairs of other relays, a share goes through each relay on the primary plane. Where that share has jumped, and
//! would not have at the prices that the relay's own links had before, it is in quarantine for ten minutes: it is passed
//! only where nothing else leads on, and people are told. Prices that hold for that long are believed.
//!
//! A relay that is passed because others failed is none such, nor is one in an overlay that is only just coming up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use wire_format::{NodeIndex, Timestamp};

/// In smaller overlays any relay may be passed by most.
const RELAYS_MIN: usize = 8;
/// From this share of the pairs on a relay is a hub.
const HUB_PCT: u64 = 30;
/// It became one suddenly if its share has grown to more than this many percent of what was usual.
const GROWTH_PCT: u64 = 200;
/// How long a controller or a relay is there before anything is unusual; what is usual is smoothed over that time.
const LEARNING: Duration = Duration::from_secs(600);
/// How long a hub's prices must hold to be believed.
const QUARANTINE: Duration = Duration::from_secs(600);
const PPM: u64 = 1_000_000;

/// What is usual, and who is in quarantine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hubs {
    learning_since: Option<Timestamp>,
    judged_at: Timestamp,
    /// Share of the pairs that is usual for a relay, and the one of the last routes, parts per million.
    usual: BTreeMap<NodeIndex, (u64, u64)>,
    quarantined: BTreeMap<NodeIndex, Timestamp>,
}

impl Hubs {
    /// Relays whose share has jumped, by how many pairs pass each. They are to be looked at once more.
    pub(crate) fn suspects(&mut self, now: Timestamp, passing: &[(NodeIndex, u64)]) -> BTreeSet<NodeIndex> {
        let learning = now < *self.learning_since.get_or_insert(now) + LEARNING;
        let passed = now.since(self.judged_at);
        self.judged_at = now;
        let mut suspects = BTreeSet::new();
        let before = std::mem::take(&mut self.usual);
        for &(node, pairs) in passing {
            let share = share_ppm(pairs, passing.len());
            let usual = match before.get(&node) {
                // What was between the last routes and these is what the last ones say.
                Some(&(usual, last)) => follow(usual, last, passed),
                None if learning => share,
                None => 0,
            };
            let usual = if learning { usual.max(share) } else { usual };
            if !self.quarantined.contains_key(&node) && is_jump(usual, share, passing.len()) {
                suspects.insert(node);
            }
            self.usual.insert(node, (usual, share));
        }
        suspects
    }

    /// Whether that many pairs of so many relays make a hub.
    pub(crate) fn is_hub(pairs: u64, relays: usize) -> bool {
        share_ppm(pairs, relays) >= HUB_PCT * PPM / 100
    }

    /// A suspect is one at its former prices no longer.
    pub(crate) fn quarantine(&mut self, now: Timestamp, node: NodeIndex) {
        self.quarantined.insert(node, now + QUARANTINE);
    }

    /// Whether routes should avoid the relay.
    pub(crate) fn is_quarantined(&self, node: NodeIndex) -> bool {
        self.quarantined.contains_key(&node)
    }

    /// Ends quarantines that are over; whoever was in one may be a hub now. True if one ended.
    pub(crate) fn tick(&mut self, now: Timestamp) -> bool {
        let over: Vec<NodeIndex> =
            self.quarantined.iter().filter(|(_, until)| **until <= now).map(|(node, _)| *node).collect();
        for node in &over {
            self.quarantined.remove(node);
            self.usual.insert(*node, (PPM, PPM));
        }
        !over.is_empty()
    }

    /// When [`Hubs::tick`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        self.quarantined.values().min().copied()
    }

    /// The relay is gone.
    pub(crate) fn forget(&mut self, node: NodeIndex) {
        self.usual.remove(&node);
        self.quarantined.remove(&node);
    }
}

fn is_jump(usual_ppm: u64, share_ppm: u64, relays: usize) -> bool {
    relays >= RELAYS_MIN && share_ppm >= HUB_PCT * PPM / 100 && share_ppm * 100 >= usual_ppm * GROWTH_PCT
}

/// Of the pairs of other relays.
fn share_ppm(pairs: u64, relays: usize) -> u64 {
    let others = (relays as u64).saturating_sub(1);
    (pairs * PPM).checked_div(others * others.saturating_sub(1)).unwrap_or(0)
}

/// First-order low pass.
fn follow(usual: u64, last: u64, passed: Duration) -> u64 {
    let (passed, constant) = (passed.as_millis(), LEARNING.as_millis());
    let way = u128::from(usual.abs_diff(last)) * passed / (passed + constant);
    let way = u64::try_from(way).expect("a share of a u64 is a u64");
    if last > usual { usual + way } else { usual - way }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten relays, 72 pairs of others each; the first is passed by so many.
    fn passing(pairs: u64) -> Vec<(NodeIndex, u64)> {
        (0..10).map(|at| (NodeIndex(at), if at == 0 { pairs } else { 2 })).collect()
    }

    fn at(s: u64) -> Timestamp {
        Timestamp::from_micros(s * 1_000_000)
    }

    #[test]
    fn who_is_passed_by_nearly_all_at_once_is_suspect_and_who_grows_into_it_is_not() {
        let hub = BTreeSet::from([NodeIndex(0)]);
        let mut hubs = Hubs::default();
        assert!(hubs.suspects(at(0), &passing(2)).is_empty());
        assert!(hubs.suspects(at(300), &passing(40)).is_empty(), "the overlay is coming up");
        let mut hubs = Hubs::default();
        hubs.suspects(at(0), &passing(2));
        hubs.suspects(at(700), &passing(2));
        let mut grown = hubs.clone();
        assert_eq!(hubs.suspects(at(701), &passing(40)), hub);
        hubs.quarantine(at(701), NodeIndex(0));
        assert!(hubs.suspects(at(702), &passing(40)).is_empty(), "it is told once");
        assert_eq!(hubs.deadline(), Some(at(1_301)));
        assert!(!hubs.tick(at(1_300)) && hubs.tick(at(1_301)));
        assert!(hubs.suspects(at(1_302), &passing(60)).is_empty(), "it has held");
        for (step, pairs) in (4..30).enumerate() {
            let now = at(1_000 + 600 * step as u64);
            assert!(grown.suspects(now, &passing(2 * pairs)).is_empty(), "{pairs}");
        }
    }

    #[test]
    fn a_new_relay_that_everything_passes_is_suspect_and_a_small_overlay_has_no_hubs() {
        let mut hubs = Hubs::default();
        hubs.suspects(at(0), &passing(2)[1..]);
        hubs.suspects(at(700), &passing(2)[1..]);
        assert_eq!(hubs.suspects(at(701), &passing(40)).len(), 1);
        let mut small = Hubs::default();
        small.suspects(at(0), &passing(0)[..4]);
        assert!(small.suspects(at(700), &passing(6)[..4]).is_empty());
    }
}
