//! Who feeds whom: where a stream is stamped for each relay that wants it.
//!
//! The ingress could stamp everyone. But whoever subscribes in one far city after another makes it send as many copies over
//! the same ocean, where one would do that the first of these relays sends on. So a relay that already receives a stream, a
//! *holder*, may feed others. What that is worth is counted in the currency of routes: a copy on a link costs what the link
//! costs. A feeder's **score** for a relay is the delay with which the stream comes there, and the cost of the links that
//! would carry a copy more; links that the feeder's own stamp loads anyway are free.
//!
//! Holders save copies and cost certainty: each detour adds delay, and when a holder dies nobody but the controller can help
//! those behind it, for its own destinations are in nobody else's packets. So a holder is taken only
//!
//! - for a gain of [`FeedingConfig::gain`] over the ingress, a long link or more: in a small mesh nobody is one;
//! - where the way is at most a fifth longer, and never 30 ms, than the ingress's own ([`FeedingConfig::detour_pct`],
//!   [`FeedingConfig::detour_max`]);
//! - behind at most [`FeedingConfig::depth`] holders in a row;
//! - if it is fed itself, which it has acknowledged, and is not about to leave;
//! - never for a stream that asks for protection, which must not hang on one relay.
//!
//! Each relay's feeder is the best for it as the others are fed, and all together may still load dearer links than the ingress
//! would alone, whose copies share more the more of them there are. Then the ingress takes over relays from holders until it
//! does not ([`Sum::corrected`]), and no change for a gain leads there again: that is what keeps both from taking turns.
//!
//! [`Loads`] knows which links carry a stream for which stamp, [`quality`] how far that is from the best there could be.

use crate::planes::Routes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use wire_format::NodeIndex;

/// When holders feed others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FeedingConfig {
    /// What a holder must spare, in delay and cost of links together, to be taken instead of the ingress, and another feeder to
    /// be taken instead of the present one. `None`: the ingress feeds everyone.
    pub gain: Option<Duration>,
    /// How much longer than the way from the ingress the way by holders may be, percent of it ...
    pub detour_pct: u32,
    /// ... and at most so much.
    pub detour_max: Duration,
    /// Holders in a row, at most.
    pub depth: usize,
    /// How often relays of a stream may change their feeder for a gain, in a minute.
    pub moves_per_minute: usize,
}

impl Default for FeedingConfig {
    fn default() -> FeedingConfig {
        FeedingConfig {
            gain: Some(Duration::from_millis(20)),
            detour_pct: 20,
            detour_max: Duration::from_millis(30),
            depth: 3,
            moves_per_minute: 6,
        }
    }
}

/// A feeder that a relay could have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Offer {
    /// Delay and new links together, in microseconds: less is better.
    pub score_us: u64,
    /// Holders between the ingress and the relay.
    pub depth: usize,
    /// Who it is.
    pub feeder: NodeIndex,
    /// The cost of the whole way from the ingress.
    pub delay_us: u64,
}

/// Links that carry a stream: by stamp, so many of its destinations are behind each.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Loads(BTreeMap<(NodeIndex, NodeIndex, NodeIndex), u32>);

impl Loads {
    /// What feeders and those they feed make of the links.
    pub(crate) fn new(routes: &Routes, feeds: impl Iterator<Item = (NodeIndex, NodeIndex)>) -> Loads {
        let mut loads = Loads::default();
        feeds.for_each(|(feeder, fed)| loads.add(routes, feeder, fed));
        loads
    }

    /// One more is fed.
    pub(crate) fn add(&mut self, routes: &Routes, feeder: NodeIndex, fed: NodeIndex) {
        for (from, to) in routes.hops(feeder, fed) {
            *self.0.entry((feeder, from, to)).or_default() += 1;
        }
    }

    /// One less.
    pub(crate) fn remove(&mut self, routes: &Routes, feeder: NodeIndex, fed: NodeIndex) {
        for (from, to) in routes.hops(feeder, fed) {
            if let Some(count) = self.0.get_mut(&(feeder, from, to)) {
                *count -= 1;
                if *count == 0 {
                    self.0.remove(&(feeder, from, to));
                }
            }
        }
    }

    /// Copies of each packet.
    pub(crate) fn copies(&self) -> usize {
        self.0.len()
    }

    /// What their links cost together, in microseconds.
    pub(crate) fn haul_us(&self, routes: &Routes) -> u64 {
        let cost_us = |(_, from, to): &(_, NodeIndex, NodeIndex)| routes.link_cost_us(*from, *to);
        self.0.keys().filter_map(cost_us).sum()
    }

    /// What the links cost that `feeder` would load to reach `fed`, and does not yet. `None` if no way leads there.
    fn price_us(&self, routes: &Routes, feeder: NodeIndex, fed: NodeIndex) -> Option<u64> {
        routes.way_cost_us(feeder, fed)?;
        let new = routes.hops(feeder, fed).filter(|(from, to)| !self.0.contains_key(&(feeder, *from, *to)));
        new.map(|(from, to)| routes.link_cost_us(from, to)).sum()
    }
}

/// A relay that could feed: how the stream comes to it. The ingress has neither delay nor depth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Source {
    pub node: NodeIndex,
    pub delay_us: u64,
    /// Holders that the packets of whom it feeds have passed: 0 for the ingress.
    pub depth: usize,
}

impl Source {
    /// What it offers to a relay. `None` if no way leads there.
    pub(crate) fn offer(&self, routes: &Routes, loads: &Loads, fed: NodeIndex) -> Option<Offer> {
        let delay_us = self.delay_us + routes.way_cost_us(self.node, fed)?;
        let score_us = delay_us + loads.price_us(routes, self.node, fed)?;
        Some(Offer { score_us, depth: self.depth, feeder: self.node, delay_us })
    }
}

/// What those behind a relay, whom it feeds itself, ask of its feeder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Behind {
    /// The longest row of them.
    pub rows: usize,
    /// How late it may have the stream, that none of them has it too late.
    pub delay_max_us: u64,
}

impl Behind {
    /// Nobody is behind it.
    pub(crate) const NOBODY: Behind = Behind { rows: 0, delay_max_us: u64::MAX };
}

/// A detour that exists may be so much longer than one that is chosen, percent of what was allowed.
const KEEP_PCT: u64 = 150;

impl FeedingConfig {
    /// The best of `sources` for `fed`; the ingress itself unless a holder is better by the gain, or the ingress cannot be told
    /// now. `None`: no way leads there, or the ingress feeds everyone.
    pub(crate) fn choose(
        &self,
        routes: &Routes,
        loads: &Loads,
        (ingress, listens): (NodeIndex, bool),
        fed: NodeIndex,
        behind: &Behind,
        sources: impl Iterator<Item = Source>,
    ) -> Option<Offer> {
        let direct = Source { node: ingress, delay_us: 0, depth: 0 }.offer(routes, loads, fed);
        let gain_us = if listens { u64::try_from(self.gain?.as_micros()).ok()? } else { 0 };
        let delay_max_us = direct.map_or(u64::MAX, |direct| self.delay_max_us(direct.delay_us));
        let delay_max_us = delay_max_us.min(behind.delay_max_us);
        let depth_max = self.depth.saturating_sub(behind.rows);
        let offers = sources
            .filter(|source| source.node != ingress && source.node != fed && source.depth <= depth_max)
            .filter_map(|source| source.offer(routes, loads, fed))
            .filter(|offer| offer.delay_us <= delay_max_us);
        let best = offers.min();
        match (direct, best) {
            (Some(_), Some(best)) if !listens => Some(best),
            (Some(direct), Some(best)) if best.score_us + gain_us <= direct.score_us => Some(best),
            (Some(direct), _) => Some(direct),
            (None, best) => best,
        }
    }

    /// The longest one that is kept.
    pub(crate) fn delay_kept_us(&self, direct_us: u64) -> u64 {
        direct_us + (self.delay_max_us(direct_us) - direct_us) * KEEP_PCT / 100
    }

    /// The longest way by holders, where the ingress's own takes so long.
    pub(crate) fn delay_max_us(&self, direct_us: u64) -> u64 {
        let detour_us = direct_us * u64::from(self.detour_pct) / 100;
        direct_us + detour_us.min(u64::try_from(self.detour_max.as_micros()).unwrap_or(u64::MAX))
    }
}

/// What a stream's links cost together, as relays are fed and if its ingress fed them all.
#[derive(Clone, Debug)]
pub(crate) struct Sum<'a> {
    routes: &'a Routes,
    ingress: NodeIndex,
    loads: Loads,
    haul_us: u64,
    direct_us: u64,
}

impl<'a> Sum<'a> {
    /// Of those among `feeds`, pairs of feeder and fed, to whom a way leads from the ingress.
    pub(crate) fn new(
        routes: &'a Routes,
        ingress: NodeIndex,
        feeds: impl Iterator<Item = (NodeIndex, NodeIndex)>,
    ) -> Sum<'a> {
        let feeds: Vec<_> = feeds.filter(|(_, fed)| routes.way_cost_us(ingress, *fed).is_some()).collect();
        let loads = Loads::new(routes, feeds.iter().copied());
        let direct = Loads::new(routes, feeds.iter().map(|(_, fed)| (ingress, *fed)));
        let (haul_us, direct_us) = (loads.haul_us(routes), direct.haul_us(routes));
        Sum { routes, ingress, loads, haul_us, direct_us }
    }

    /// Whether the ingress would do it for less.
    pub(crate) fn is_dearer(&self) -> bool {
        self.haul_us > self.direct_us
    }

    /// Another feeder for one relay. What the links cost more then.
    pub(crate) fn turn(&mut self, fed: NodeIndex, [before, after]: [NodeIndex; 2]) -> i64 {
        self.loads.remove(self.routes, before, fed);
        let price_us = |feeder| self.loads.price_us(self.routes, feeder, fed).unwrap_or(0);
        let (freed_us, taken_us) = (price_us(before), price_us(after));
        self.loads.add(self.routes, after, fed);
        self.haul_us = self.haul_us.saturating_sub(freed_us).saturating_add(taken_us);
        taken_us as i64 - freed_us as i64
    }

    /// Whom of `feeds` the ingress is to feed instead of a holder so that it would not do everything for less: those first
    /// that save most, or cost least. When it feeds them all it costs what it costs.
    pub(crate) fn corrected(
        &mut self,
        feeds: impl Iterator<Item = (NodeIndex, NodeIndex)>,
    ) -> Vec<NodeIndex> {
        let ingress = self.ingress;
        let mut by_holders: Vec<_> = feeds
            .filter(|(feeder, fed)| *feeder != ingress && self.routes.way_cost_us(ingress, *fed).is_some())
            .map(|(feeder, fed)| {
                let more_us = self.turn(fed, [feeder, ingress]);
                self.turn(fed, [ingress, feeder]);
                (more_us, fed, feeder)
            })
            .collect();
        by_holders.sort_unstable();
        let mut turned = Vec::new();
        for (_, fed, feeder) in by_holders {
            if !self.is_dearer() {
                break;
            }
            self.turn(fed, [feeder, ingress]);
            turned.push(fed);
        }
        turned
    }
}

/// What the copies of a stream come to, beside what they could.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FeedingQuality {
    /// Copies of each packet that cross links between relays.
    pub copies: usize,
    /// The same if the ingress stamped everyone.
    pub copies_direct: usize,
    /// No fewer are possible: each relay that wants the stream must be sent it.
    pub copies_bound: usize,
    /// The cost of the links that carry these copies, in microseconds: what a packet costs the overlay.
    pub haul_us: u64,
    /// The same if the ingress stamped everyone.
    pub haul_us_direct: u64,
    /// No less is possible: half of the shortest tree that joins them all by shortest ways, which is at most twice a Steiner
    /// tree (Kou, Markowsky and Berman, "A fast algorithm for Steiner trees", 1981); and no less than the dearest way.
    pub haul_us_bound: u64,
}

/// How good a stream's feeding is, by the routes in force.
pub(crate) fn quality(
    routes: &Routes,
    ingress: NodeIndex,
    feeds: &[(NodeIndex, NodeIndex)],
) -> FeedingQuality {
    let loads = Loads::new(routes, feeds.iter().copied());
    let fed: BTreeSet<NodeIndex> = feeds.iter().map(|(_, fed)| *fed).collect();
    let direct = Loads::new(routes, fed.iter().map(|fed| (ingress, *fed)));
    let (haul_us, haul_us_direct) = (loads.haul_us(routes), direct.haul_us(routes));
    FeedingQuality {
        copies: loads.copies(),
        copies_direct: direct.copies(),
        copies_bound: fed.len(),
        haul_us,
        haul_us_direct,
        // Ways through relays that are to be avoided are dearer than their links.
        haul_us_bound: haul_bound_us(routes, ingress, &fed).min(haul_us).min(haul_us_direct),
    }
}

/// Relays among which the bound is sought; for more it is that of the first of them, which is one as well.
const BOUND_RELAYS: usize = 512;

/// By Prim's algorithm over shortest ways, either direction.
fn haul_bound_us(routes: &Routes, ingress: NodeIndex, fed: &BTreeSet<NodeIndex>) -> u64 {
    let way_us = |a, b| {
        let ways = [routes.way_cost_us(a, b), routes.way_cost_us(b, a)];
        ways.into_iter().flatten().min()
    };
    let mut outside: Vec<(NodeIndex, u64)> =
        fed.iter().take(BOUND_RELAYS).filter_map(|node| Some((*node, way_us(ingress, *node)?))).collect();
    let relays = outside.len() + 1;
    let dearest = fed.iter().filter_map(|node| routes.way_cost_us(ingress, *node)).max().unwrap_or(0);
    let mut tree_us = 0;
    while let Some(nearest) = (0..outside.len()).min_by_key(|at| outside[*at].1) {
        let (node, us) = outside.swap_remove(nearest);
        tree_us += us;
        for (other, least_us) in &mut outside {
            if let Some(us) = way_us(node, *other) {
                *least_us = us.min(*least_us);
            }
        }
    }
    // A walk around a Steiner tree of n relays passes each link twice, and its longest part may be left out.
    let half_us = if relays > 1 { tree_us * relays as u64 / (2 * (relays as u64 - 1)) } else { 0 };
    half_us.max(dearest)
}
