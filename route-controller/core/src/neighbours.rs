//! Who links to whom.
//!
//! While the overlay is small everyone links to everyone, which also finds every detour there is. Beyond that each relay
//! has a bounded number of links, the same at both ends, chosen so that shortest ways are nearly as short as they would
//! be with all of them:
//!
//! - **A ring** through all relays, in an order that looks random. It is never given up, so no single relay or link parts
//!   what is linked, and its long links are the shortcuts that neighbourhoods lack.
//! - **First links** of a relay that is new: to the nearest by where they say they stand (or to some of its region), to
//!   one relay of each of some other regions, and to some anywhere.
//! - **Better ones**, for ever: each relay has its turn once in [`SWEEP`] steps. Whatever link would shorten ways by more
//!   than those are worth that have to make room for it is made ([`worth`]); what a link costs that nobody has
//!   measured is guessed from those that were ([`space`]).
//! - **Trials**: in each turn some links that were never measured, or not for the longest time, are made to be measured.
//!   They carry nothing; soon they are kept for what they are worth, or end.
//!
//! A link that is not worth its place leaves in steps: it is priced out of the shortest ways, then out of the redundant
//! trees, and taken from the lists of its ends when no tables in use lead over it. Guesses are only ever compared with
//! what is in place, and change takes a gain that is worth it: one relay or one measurement more moves a few links.
//!
//! What was learnt and chosen is soft state. After a restart the links that relays report are the choice.

mod better;
mod config;
mod space;
#[cfg(test)]
mod tests;
mod worth;

pub use config::{NeighbourConfig, NeighbourConfigError};
pub(crate) use worth::Distances;

use crate::guard;
use better::Worths;
use space::{Place, mix};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use wire_format::control::{Position, limits};
use wire_format::{NodeIndex, Timestamp};

/// Time between steps.
const STEP_EVERY: Duration = Duration::from_secs(1);
/// Every relay has its turn within so many steps.
pub(crate) const SWEEP: usize = 64;
/// A link that has never worked is given up after this.
const GIVE_UP_NEW: Duration = Duration::from_secs(45);
/// A link that has not worked for this long is given up.
const GIVE_UP: Duration = Duration::from_secs(600);
/// A link is judged no earlier.
const PROBATION: Duration = Duration::from_secs(20);
/// The shortest ways that have not left a link by then have no other.
const INDISPENSABLE: Duration = Duration::from_secs(120);
/// ... and to find out what they cost.
const TRIALS: usize = 2;
/// Other regions that a new relay links to.
const GATEWAYS: usize = 8;
/// Turns in which a relay seeks its place among the others with all its might.
const YOUNG_TURNS: u32 = 10;
const PASSES_YOUNG: usize = 40;
const PASSES: usize = 4;
/// In the learnt costs: nothing is known.
const UNKNOWN: u32 = 0;
/// In the learnt costs: no link came up.
const UNREACHABLE: u32 = u32::MAX;

/// What is known of a relay that is to have neighbours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Standing {
    pub region: String,
    pub position: Option<Position>,
}

/// What is seen of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    /// It does not work.
    Down,
    /// It works, and nobody has measured it yet.
    Up,
    /// It works, at this cost in microseconds.
    Measured(u32),
}

/// What tables lead over a link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Use {
    /// None that a frame may still be forwarded by.
    None,
    /// Some, but of the newest no shortest way.
    Some,
    /// A shortest way of the newest.
    Primary,
}

/// What routes may do with a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// Use it.
    Open,
    /// Use it where nothing else leads on.
    Avoided,
    /// Leave it alone.
    Closed,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Made to be measured.
    Trial,
    Kept,
    /// To be left by shortest ways.
    Avoided,
    /// To be left by redundant trees, and by tables of before.
    Closed,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Chosen {
    stage: Stage,
    /// When it was made, or given up.
    since: Timestamp,
    /// When it was last seen to work.
    up_at: Option<Timestamp>,
}

#[derive(Clone, Debug)]
struct Member {
    standing: Standing,
    place: Place,
    /// By index of the other end: what a link was last found to cost, in microseconds.
    learnt: Vec<u32>,
    /// Whom the last trial went to, counted on from this relay.
    trial: usize,
    turns: u32,
}

impl Member {
    fn learnt(&self, other: NodeIndex) -> u32 {
        self.learnt.get(usize::from(other.0)).copied().unwrap_or(UNKNOWN)
    }

    fn learn(&mut self, other: NodeIndex, cost_us: u32) {
        let at = usize::from(other.0);
        if self.learnt.len() <= at {
            self.learnt.resize(at + 1, UNKNOWN);
        }
        self.learnt[at] = cost_us;
    }
}

/// Who links to whom.
#[derive(Clone, Debug)]
pub(crate) struct Neighbours {
    config: NeighbourConfig,
    /// Everyone links to everyone.
    mesh: bool,
    members: BTreeMap<NodeIndex, Member>,
    /// Members in the order of the ring.
    ring: BTreeMap<u64, NodeIndex>,
    /// Unless everyone links to everyone: links by their ends, the lower first.
    links: BTreeMap<(NodeIndex, NodeIndex), Chosen>,
    /// The same from each end.
    of: BTreeMap<NodeIndex, BTreeSet<NodeIndex>>,
    step_at: Option<Timestamp>,
    /// Who had its turn last.
    last: Option<NodeIndex>,
    /// Links were made or ended since this was last asked.
    changed: bool,
}

impl Neighbours {
    pub(crate) fn new(config: NeighbourConfig) -> Neighbours {
        Neighbours {
            config,
            mesh: true,
            members: BTreeMap::new(),
            ring: BTreeMap::new(),
            links: BTreeMap::new(),
            of: BTreeMap::new(),
            step_at: None,
            last: None,
            changed: false,
        }
    }

    /// Up to so many relays all link to each other.
    pub(crate) fn mesh_max(&self) -> usize {
        self.config.mesh_max
    }

    /// These are the relays now. `linked`: with whom one has a link that works.
    pub(crate) fn set_members(
        &mut self,
        now: Timestamp,
        members: BTreeMap<NodeIndex, Standing>,
        linked: impl Fn(NodeIndex) -> Vec<NodeIndex>,
    ) {
        let gone: Vec<NodeIndex> =
            self.members.keys().filter(|node| !members.contains_key(node)).copied().collect();
        for node in gone {
            self.members.remove(&node);
            self.ring.remove(&ring_place(node));
            for other in self.of.remove(&node).unwrap_or_default() {
                self.remove(node, other);
            }
            self.changed = true;
        }
        let mut new = Vec::new();
        for (node, standing) in members {
            match self.members.get_mut(&node) {
                Some(member) => member.standing = standing,
                None => {
                    let place = Place::begin(node);
                    let member = Member { standing, place, learnt: Vec::new(), trial: 0, turns: 0 };
                    self.members.insert(node, member);
                    self.ring.insert(ring_place(node), node);
                    new.push(node);
                    self.changed = true;
                }
            }
        }
        let count = self.members.len();
        // Not to and fro for one relay that comes and goes.
        let mesh_max =
            if self.mesh { self.config.mesh_max } else { self.config.mesh_max - self.config.mesh_max / 8 };
        if count <= mesh_max {
            if !self.mesh {
                self.mesh = true;
                self.links.clear();
                self.of.clear();
                self.step_at = None;
                self.changed = true;
            }
            return;
        }
        if self.mesh {
            self.mesh = false;
            self.step_at = Some(now + STEP_EVERY);
            self.changed = true;
            new = self.members.keys().copied().collect();
        }
        for node in &new {
            for other in linked(*node) {
                if other != *node && self.members.contains_key(&other) {
                    self.make(now, *node, other, Stage::Kept);
                }
            }
        }
        if !new.is_empty() || self.changed {
            self.close_ring(now);
        }
        for node in new {
            if self.degree(node) < self.config.links_meant() / 2 {
                self.first_links(now, node);
            }
        }
    }

    /// Whether routes may use a link.
    pub(crate) fn role(&self, a: NodeIndex, b: NodeIndex) -> Role {
        if self.mesh {
            return Role::Open;
        }
        match self.links.get(&pair(a, b)).map(|link| link.stage) {
            Some(Stage::Kept) => Role::Open,
            Some(Stage::Avoided) => Role::Avoided,
            Some(Stage::Trial | Stage::Closed) | None => Role::Closed,
        }
    }

    /// Whether two relays have been told to link to each other, or it was never asked who should.
    pub(crate) fn is_expected(&self, a: NodeIndex, b: NodeIndex) -> bool {
        let decided = self.members.contains_key(&a) && self.members.contains_key(&b);
        self.mesh || !decided || self.links.contains_key(&pair(a, b))
    }

    /// Whom a relay links to, ascending.
    pub(crate) fn of(&self, node: NodeIndex) -> Vec<NodeIndex> {
        if self.mesh {
            let others = self.members.keys().filter(|other| **other != node);
            return others.take(limits::NEIGHBOURS).copied().collect();
        }
        self.of.get(&node).into_iter().flatten().copied().collect()
    }

    /// Whether anybody's neighbours are others since this was last asked.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// When [`Neighbours::step`] is due.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        self.step_at
    }

    /// Improves on the choice a little. `seen`: what is seen of a link; `used`: what leads over it. Links that ended.
    pub(crate) fn step(
        &mut self,
        now: Timestamp,
        distances: &Distances,
        seen: impl Fn(NodeIndex, NodeIndex) -> Seen,
        used: impl Fn(NodeIndex, NodeIndex) -> Use,
    ) -> Vec<(NodeIndex, NodeIndex)> {
        if self.mesh {
            self.step_at = None;
            return Vec::new();
        }
        self.step_at = Some(now + STEP_EVERY);
        let mut ended = self.retire(now, &seen, &used);
        let count = self.members.len().div_ceil(SWEEP);
        let mut worths = Worths { distances, by_place: vec![None; distances.len()] };
        self.judge_trials(now, &mut worths, &seen, &mut ended);
        for _ in 0..count {
            let after = self.last.map_or(0, |last| last.0.saturating_add(1));
            let next = self.members.range(NodeIndex(after)..).next().or_else(|| self.members.iter().next());
            let Some((&node, _)) = next else { break };
            self.last = Some(node);
            if let Some(place) = distances.place(node) {
                self.turn(now, node, place, &mut worths, &seen, &mut ended);
            }
        }
        ended
    }

    /// Ends links that nothing leads over any more.
    fn retire(
        &mut self,
        now: Timestamp,
        seen: impl Fn(NodeIndex, NodeIndex) -> Seen,
        used: impl Fn(NodeIndex, NodeIndex) -> Use,
    ) -> Vec<(NodeIndex, NodeIndex)> {
        let mut ended = Vec::new();
        for (&(a, b), link) in &mut self.links {
            match link.stage {
                Stage::Trial | Stage::Kept => continue,
                Stage::Avoided | Stage::Closed => {}
            }
            let down = seen(a, b) == Seen::Down;
            match (link.stage, used(a, b)) {
                (_, Use::None) => ended.push((a, b)),
                (Stage::Avoided, Use::Some) => link.stage = Stage::Closed,
                (Stage::Avoided, Use::Primary) if !down && now.since(link.since) >= INDISPENSABLE => {
                    *link = Chosen { stage: Stage::Kept, since: now, up_at: link.up_at };
                }
                (Stage::Trial | Stage::Kept | Stage::Avoided | Stage::Closed, Use::Some | Use::Primary) => {}
            }
        }
        for (a, b) in &ended {
            self.remove(*a, *b);
        }
        ended
    }

    /// One relay looks at its links and at what others could be.
    fn turn(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        place: usize,
        worths: &mut Worths<'_>,
        seen: impl Fn(NodeIndex, NodeIndex) -> Seen,
        ended: &mut Vec<(NodeIndex, NodeIndex)>,
    ) {
        self.look(now, node, worths.distances, seen, ended);
        self.find_place(node);
        self.trim(now, node, worths);
        self.improve(now, node, place, worths);
        for _ in 0..TRIALS {
            self.try_another(now, node, place, worths.distances);
        }
        if let Some(member) = self.members.get_mut(&node) {
            member.turns = member.turns.saturating_add(1);
        }
    }

    /// Learns what its links cost, and gives up those that do not work.
    fn look(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        distances: &Distances,
        seen: impl Fn(NodeIndex, NodeIndex) -> Seen,
        ended: &mut Vec<(NodeIndex, NodeIndex)>,
    ) {
        for other in self.of(node) {
            let Some(link) = self.links.get_mut(&pair(node, other)) else { continue };
            match seen(node, other) {
                Seen::Measured(cost_us) => {
                    link.up_at = Some(now);
                    self.learn(node, other, cost_us.clamp(1, worth::FAR));
                }
                Seen::Up => link.up_at = Some(now),
                Seen::Down => {
                    let patience = if link.up_at.is_some() { GIVE_UP } else { GIVE_UP_NEW };
                    let is_over = now.since(link.up_at.unwrap_or(link.since)) >= patience;
                    // Who is away altogether says nothing about the path.
                    if is_over && distances.place(other).is_some() && !self.is_ring(node, other) {
                        self.learn(node, other, UNREACHABLE);
                        self.remove(node, other);
                        ended.push(pair(node, other));
                    }
                }
            }
        }
    }

    fn learn(&mut self, a: NodeIndex, b: NodeIndex, cost_us: u32) {
        for (from, to) in [(a, b), (b, a)] {
            if let Some(member) = self.members.get_mut(&from) {
                member.learn(to, cost_us);
            }
        }
    }

    fn find_place(&mut self, node: NodeIndex) {
        let Some(member) = self.members.get(&node) else { return };
        let mut place = member.place;
        let passes = if member.turns < YOUNG_TURNS { PASSES_YOUNG } else { PASSES };
        let known: Vec<(Place, u32)> = self
            .members
            .iter()
            .map(|(other, theirs)| (theirs.place, member.learnt(*other)))
            .filter(|(_, cost_us)| ![UNKNOWN, UNREACHABLE].contains(cost_us))
            .collect();
        for _ in 0..passes {
            for (other, cost_us) in &known {
                place.measured(other, *cost_us);
            }
        }
        if let Some(member) = self.members.get_mut(&node) {
            member.place = place;
        }
    }

    /// What a link costs, or is guessed to; `None` if there can be none.
    fn cost_us(&self, a: NodeIndex, b: NodeIndex) -> Option<u32> {
        let (one, other) = (self.members.get(&a)?, self.members.get(&b)?);
        match one.learnt(b) {
            UNREACHABLE => None,
            UNKNOWN => {
                let light_us = self.light_us(one, other).unwrap_or(0);
                Some(one.place.guess_us(&other.place).max(light_us).clamp(1, worth::FAR))
            }
            cost_us => Some(cost_us),
        }
    }

    /// What light takes from one to the other.
    fn light_us(&self, a: &Member, b: &Member) -> Option<u32> {
        let round_trip = guard::floor(a.standing.position?, b.standing.position?);
        u32::try_from(round_trip.as_micros() / 2).ok()
    }

    /// A relay's links that are meant to stay.
    fn kept(&self, node: NodeIndex) -> impl Iterator<Item = NodeIndex> + '_ {
        let others = self.of.get(&node).into_iter().flatten().copied();
        others.filter(move |other| {
            self.links.get(&pair(node, *other)).is_some_and(|link| link.stage == Stage::Kept)
        })
    }

    fn degree(&self, node: NodeIndex) -> usize {
        self.of.get(&node).map_or(0, BTreeSet::len)
    }

    /// Room for one more link beside those that a change of the ring may bring.
    fn has_room(&self, node: NodeIndex) -> bool {
        self.degree(node) + 2 <= self.config.links_max
    }

    fn make(&mut self, now: Timestamp, a: NodeIndex, b: NodeIndex, stage: Stage) {
        let link = self.links.entry(pair(a, b)).or_insert(Chosen { stage, since: now, up_at: None });
        link.stage = stage;
        let is_new = self.of.entry(a).or_default().insert(b);
        self.of.entry(b).or_default().insert(a);
        self.changed |= is_new;
    }

    fn remove(&mut self, a: NodeIndex, b: NodeIndex) {
        self.links.remove(&pair(a, b));
        for (from, to) in [(a, b), (b, a)] {
            if let Some(others) = self.of.get_mut(&from) {
                others.remove(&to);
            }
        }
        self.changed = true;
    }

    fn is_ring(&self, a: NodeIndex, b: NodeIndex) -> bool {
        self.after(a) == Some(b) || self.after(b) == Some(a)
    }

    /// Who comes next in the ring.
    fn after(&self, node: NodeIndex) -> Option<NodeIndex> {
        let later = self.ring.range(ring_place(node) + 1..).next();
        later.or_else(|| self.ring.first_key_value()).map(|(_, next)| *next).filter(|next| *next != node)
    }

    fn close_ring(&mut self, now: Timestamp) {
        let nodes: Vec<NodeIndex> = self.ring.values().copied().collect();
        for node in nodes {
            let Some(next) = self.after(node) else { return };
            let is_kept = self.links.get(&pair(node, next)).is_some_and(|link| link.stage == Stage::Kept);
            if is_kept {
                continue;
            }
            if !self.links.contains_key(&pair(node, next)) {
                self.make_room(node);
                self.make_room(next);
            }
            self.make(now, node, next, Stage::Kept);
        }
    }

    /// Ends a link of a relay that has as many as it may have: of those that are not the ring's one that carries nothing, or
    /// is leaving, or is the newest.
    fn make_room(&mut self, node: NodeIndex) {
        // A mesh that has grown too large has more for a while; its links leave one after the other.
        if self.degree(node) != self.config.links_max {
            return;
        }
        let rank = |other: &NodeIndex| {
            let link = self.links.get(&pair(node, *other));
            let stage = link.map_or(0, |link| match link.stage {
                Stage::Trial => 0,
                Stage::Closed => 1,
                Stage::Avoided => 2,
                Stage::Kept => 3,
            });
            (stage, std::cmp::Reverse(link.map(|link| link.since)))
        };
        let others = self.of(node).into_iter().filter(|other| !self.is_ring(node, *other));
        if let Some(other) = others.min_by_key(rank) {
            self.remove(node, other);
        }
    }

    /// Links of a relay of which nothing is known but what it says of itself.
    fn first_links(&mut self, now: Timestamp, node: NodeIndex) {
        let Some(member) = self.members.get(&node) else { return };
        let luck = |other: &NodeIndex| {
            let (low, high) = pair(node, *other);
            mix(u64::from(low.0) << 16 | u64::from(high.0))
        };
        let meant = self.config.links_meant();
        let others = || self.members.iter().filter(|(other, _)| **other != node);
        let by_light =
            |(other, theirs): (&NodeIndex, &Member)| Some((self.light_us(member, theirs)?, *other));
        let mut near: Vec<(u64, NodeIndex)> =
            others().filter_map(by_light).map(|(us, other)| (u64::from(us), other)).collect();
        if near.is_empty() {
            let same = others().filter(|(_, theirs)| theirs.standing.region == member.standing.region);
            near = same.map(|(other, _)| (luck(other), *other)).collect();
        }
        near.sort_unstable();
        let mut gateways: BTreeMap<&str, (u64, NodeIndex)> = BTreeMap::new();
        for (other, theirs) in others().filter(|(_, theirs)| theirs.standing.region != member.standing.region)
        {
            let best = gateways.entry(&theirs.standing.region).or_insert((u64::MAX, *other));
            *best = (*best).min((luck(other), *other));
        }
        let mut gateways: Vec<(u64, NodeIndex)> = gateways.into_values().collect();
        gateways.sort_unstable();
        let mut anywhere: Vec<(u64, NodeIndex)> = others().map(|(other, _)| (luck(other), *other)).collect();
        anywhere.sort_unstable();
        let lists = [(near, meant / 4), (gateways, GATEWAYS.min(meant / 4)), (anywhere, meant / 2)];
        for (list, wanted) in lists {
            let mut made = 0;
            for (_, other) in list {
                if made == wanted || self.degree(node) >= meant / 2 {
                    break;
                }
                if self.degree(other) < meant && !self.links.contains_key(&pair(node, other)) {
                    self.make(now, node, other, Stage::Kept);
                    made += 1;
                }
            }
        }
    }
}

fn pair(a: NodeIndex, b: NodeIndex) -> (NodeIndex, NodeIndex) {
    (a.min(b), a.max(b))
}

/// Where a relay stands in the ring; no two stand at the same place.
fn ring_place(node: NodeIndex) -> u64 {
    (mix(u64::from(node.0)) & !0xFFFF) | u64::from(node.0)
}
