//! What a relay does in its turn: links that others outdo leave, better ones and trials are made.

use super::{
    Chosen, Distances, GIVE_UP_NEW, Neighbours, PROBATION, Seen, Stage, UNKNOWN, UNREACHABLE, pair, worth,
};
use std::collections::BTreeMap;
use wire_format::{NodeIndex, Timestamp};

/// A link must be worth this many percent of those that make room for it, ...
const WORTH_PCT: f32 = 110.0;
/// ... and this much more: two percent of one way.
const WORTH_LEAST: f32 = 0.02;
/// Links made in one turn by a relay that has too few, ...
const ADDED_MAX: usize = 4;
/// ... by one that has enough, on measurements of before or on a guess, ...
const GUESSES: usize = 2;
/// Of what could be better, so much is looked at closely in one turn.
const CANDIDATES: usize = 16;
/// So many links that are too many leave in one turn, ...
const EXCESS_FEW: usize = 4;
/// ... or this share of them.
const EXCESS_SHARE: usize = 8;
/// Where everything has been measured, in one of so many turns something is measured again.
const REFRESH_TURNS: u32 = 8;

impl Neighbours {
    /// Gives up the least worthy of too many links.
    pub(super) fn trim(&mut self, now: Timestamp, node: NodeIndex, worths: &mut Worths<'_>) {
        let excess = self.kept(node).count().saturating_sub(self.config.links_meant());
        for _ in 0..excess.div_ceil(EXCESS_SHARE).max(excess.min(EXCESS_FEW)) {
            let Some((_, other)) = self.weakest(now, node, worths) else { return };
            if let Some(link) = self.links.get_mut(&pair(node, other)) {
                *link = Chosen { stage: Stage::Avoided, since: now, up_at: link.up_at };
                worths.forget(node);
                worths.forget(other);
            }
        }
    }

    /// Keeps trials for what they are worth, or ends them.
    pub(super) fn judge_trials(
        &mut self,
        now: Timestamp,
        worths: &mut Worths<'_>,
        seen: impl Fn(NodeIndex, NodeIndex) -> Seen,
        ended: &mut Vec<(NodeIndex, NodeIndex)>,
    ) {
        let is_over = |link: &Chosen| link.stage == Stage::Trial && now.since(link.since) >= PROBATION;
        let trials: Vec<_> = self
            .links
            .iter()
            .filter(|(_, link)| is_over(link))
            .map(|(pair, link)| (*pair, link.since))
            .collect();
        for ((a, b), since) in trials {
            let measured = match seen(a, b) {
                Seen::Measured(cost_us) => Some(cost_us.clamp(1, worth::FAR)),
                Seen::Up | Seen::Down if now.since(since) < GIVE_UP_NEW => continue,
                Seen::Up | Seen::Down => None,
            };
            let places = worths.distances.place(a).zip(worths.distances.place(b));
            // Who is away altogether says nothing about the path.
            if measured.is_some() || places.is_some() {
                self.learn(a, b, measured.unwrap_or(UNREACHABLE));
            }
            let gain = |((one, other), cost_us)| worth::gain(worths.distances, one, other, cost_us);
            let worth = places.zip(measured).map_or(0.0, gain);
            if worth > WORTH_LEAST && self.is_worth_room(now, (a, b), worth, worths) {
                self.make(now, a, b, Stage::Kept);
            } else {
                self.remove(a, b);
                ended.push((a, b));
            }
        }
    }

    /// Makes links that would be worth more than what they cost others.
    pub(super) fn improve(&mut self, now: Timestamp, node: NodeIndex, place: usize, worths: &mut Worths<'_>) {
        let missing = self.config.links_meant().saturating_sub(self.kept(node).count());
        let price = self.price_of_room(now, node, worths);
        let distances = worths.distances;
        let mut candidates: Vec<(f32, NodeIndex)> = Vec::new();
        for other_place in (0..distances.len()).filter(|other| *other != place) {
            let other = distances.relay(other_place);
            if self.links.contains_key(&pair(node, other)) {
                continue;
            }
            let Some(cost_us) = self.cost_us(node, other) else { continue };
            let worth = worth::gain(distances, place, other_place, cost_us);
            if is_worth(worth, price) {
                candidates.push((worth, other));
            }
        }
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut left = missing.clamp(GUESSES, ADDED_MAX);
        for (worth, other) in candidates.into_iter().take(CANDIDATES) {
            if left == 0 || !self.has_room(node) {
                return;
            }
            if self.has_room(other) && self.is_worth_room(now, (node, other), worth, worths) {
                // Who is short of links cannot wait for the measurement.
                let measured = self.members.get(&node).is_some_and(|member| member.learnt(other) != UNKNOWN);
                let stage = if measured || missing > 0 { Stage::Kept } else { Stage::Trial };
                self.make(now, node, other, stage);
                left -= 1;
            }
        }
    }

    /// Makes a link to somebody to whom none was ever measured, or to whom none is for the longest time.
    pub(super) fn try_another(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        place: usize,
        distances: &Distances,
    ) {
        let Some(member) = self.members.get(&node) else { return };
        if !self.has_room(node) {
            return;
        }
        let count = distances.len();
        let ahead = |step: usize| distances.relay((place + 1 + (member.trial + step) % (count - 1)) % count);
        let is_free = |other: NodeIndex| {
            self.members.contains_key(&other)
                && !self.links.contains_key(&pair(node, other))
                && self.has_room(other)
        };
        let others = || (1..count).map(|step| (step, ahead(step))).filter(|(_, other)| is_free(*other));
        let unknown = others().find(|(_, other)| member.learnt(*other) == UNKNOWN);
        let refresh = member.turns.is_multiple_of(REFRESH_TURNS);
        let Some((step, other)) = unknown.or_else(|| others().next().filter(|_| refresh)) else { return };
        let trial = (member.trial + step) % (count - 1);
        if let Some(member) = self.members.get_mut(&node) {
            member.trial = trial;
        }
        self.make(now, node, other, Stage::Trial);
    }

    /// What the link is worth that has to go if a relay is given another; nothing if none has to.
    fn price_of_room(&self, now: Timestamp, node: NodeIndex, worths: &mut Worths<'_>) -> f32 {
        if self.kept(node).count() < self.config.links_meant() {
            return 0.0;
        }
        self.weakest(now, node, worths).map_or(f32::MAX, |(worth, _)| worth)
    }

    /// Whether a link is worth more than those that have to make room for it at its ends.
    fn is_worth_room(
        &self,
        now: Timestamp,
        (near, far): (NodeIndex, NodeIndex),
        worth: f32,
        worths: &mut Worths<'_>,
    ) -> bool {
        let price = self.price_of_room(now, near, worths);
        // Most are not, as a look at less shows.
        is_worth(worth, price + self.guess_price_of_room(now, far, worths))
            && is_worth(worth, price + self.price_of_room(now, far, worths))
    }

    /// What room costs by what one end alone would lose: a link is worth about the same to both.
    fn guess_price_of_room(&self, now: Timestamp, node: NodeIndex, worths: &mut Worths<'_>) -> f32 {
        if self.kept(node).count() < self.config.links_meant() {
            return 0.0;
        }
        let may_go = |other: &NodeIndex| {
            let link = self.links.get(&pair(node, *other));
            !self.is_ring(node, *other) && link.is_some_and(|link| now.since(link.since) >= PROBATION)
        };
        let losses = self.kept(node).filter(may_go).map(|other| worths.loss(self, node, other));
        2.0 * losses.fold(f32::MAX / 2.0, f32::min)
    }

    /// The link of a relay that both its ends could miss most easily.
    fn weakest(&self, now: Timestamp, node: NodeIndex, worths: &mut Worths<'_>) -> Option<(f32, NodeIndex)> {
        let mut weakest: Option<(f32, NodeIndex)> = None;
        for other in self.kept(node) {
            let link = self.links.get(&pair(node, other))?;
            if self.is_ring(node, other) || now.since(link.since) < PROBATION {
                continue;
            }
            let worth = worths.loss(self, node, other) + worths.loss(self, other, node);
            if weakest.is_none_or(|(least, _)| worth < least) {
                weakest = Some((worth, other));
            }
        }
        weakest
    }
}

/// What relays would lose with each of their links, once computed.
pub(super) struct Worths<'a> {
    pub(super) distances: &'a Distances,
    pub(super) by_place: Vec<Option<BTreeMap<NodeIndex, f32>>>,
}

impl Worths<'_> {
    /// What `node` would lose with its link to `other`.
    fn loss(&mut self, neighbours: &Neighbours, node: NodeIndex, other: NodeIndex) -> f32 {
        let Some(place) = self.distances.place(node) else { return 0.0 };
        let distances = self.distances;
        let losses = self.by_place[place].get_or_insert_with(|| {
            let priced =
                |other: NodeIndex| Some((other, distances.place(other)?, neighbours.cost_us(node, other)?));
            let kept: Vec<_> = neighbours.kept(node).filter_map(priced).collect();
            let links: Vec<(usize, u32)> =
                kept.iter().map(|(_, place, cost_us)| (*place, *cost_us)).collect();
            let losses = worth::losses(distances, place, &links);
            kept.into_iter().zip(losses).map(|((other, ..), loss)| (other, loss)).collect()
        });
        losses.get(&other).copied().unwrap_or(0.0)
    }

    fn forget(&mut self, node: NodeIndex) {
        if let Some(place) = self.distances.place(node) {
            self.by_place[place] = None;
        }
    }
}

fn is_worth(worth: f32, price: f32) -> bool {
    worth > price * (WORTH_PCT / 100.0) + WORTH_LEAST
}
