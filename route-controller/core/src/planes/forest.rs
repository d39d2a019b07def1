//! Red and blue trees of the whole overlay towards one relay, put together from those of its blocks.
//!
//! Seen from the destination, every block begins at one relay: the destination, or the cut vertex through which all
//! ways out of the block lead. Within the block both trees lead there, apart from each other, and go on as its own do
//! (RFC 7811, section 5.7). So red and blue of a relay meet in the cut vertices and bridges that they cannot avoid, and
//! nowhere else. The trees of a block are the same for all destinations beyond one of its relays, and made once.
//!
//! A relay that must not be passed is a destination like others, but part of no other relay's way: it is left out when
//! blocks are sought, and joined afterwards to two of its neighbours whose ways part as early as can be.

use super::NOWHERE;
use super::blocks::Blocks;
use super::mesh::{Hop, LinkChange, Mesh};
use super::redundant::{BlockTrees, Grower, Side};
use super::risks::{Groups, shared_us};
use super::shortest::Ways;
use std::collections::{BTreeMap, VecDeque};

/// Both trees towards one destination, by place in the mesh.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Trees {
    /// Red and blue: places of next hops; [`NOWHERE`] where no way leads there, and for the destination itself.
    next: [Vec<u16>; 2],
    /// Where each is in the line of the block through which its ways lead, from 1 on, with gaps in which others fit.
    ranks: Vec<u16>,
}

/// What the ways of both trees cost, red and blue, by place: those on them included that are dear to pass.
pub(super) type TreeCosts = [Vec<u64>; 2];

impl Trees {
    /// Places of next hops on one of the two, or [`NOWHERE`].
    pub(super) fn next(&self, side: Side) -> &[u16] {
        &self.next[side as usize]
    }

    /// Who passes whom, from one relay to the destination, both included. Trees do not loop.
    fn way(&self, side: Side, from: usize) -> impl Iterator<Item = usize> + '_ {
        let next = self.next(side);
        let onwards = move |at: &usize| (next[*at] != NOWHERE).then(|| usize::from(next[*at]));
        let relays = next.len();
        std::iter::successors(Some(from), onwards).enumerate().map(move |(steps, at)| {
            debug_assert!(steps < relays, "a way of a tree runs in a circle");
            at
        })
    }

    /// Whether a relay's way neither begins over the link to `suspect` nor passes it.
    pub(super) fn avoids(&self, side: Side, relay: usize, suspect: usize, destination: usize) -> bool {
        let next = self.next(side)[relay];
        next != NOWHERE
            && usize::from(next) != suspect
            && (suspect == destination || self.way(side, relay).all(|passed| passed != suspect))
    }

    /// Whether somebody whom a relay's way passes is in one of these groups.
    pub(super) fn passes_any(
        &self,
        side: Side,
        relay: usize,
        destination: usize,
        mesh: &Mesh,
        groups: Groups,
    ) -> bool {
        let passed = || self.way(side, relay).skip(1).filter(|passed| *passed != destination);
        groups != 0 && passed().any(|passed| mesh.risks().groups(passed) & groups != 0)
    }

    /// What a relay's way costs by these prices of links.
    pub(super) fn cost_us(
        &self,
        side: Side,
        relay: usize,
        mesh: &Mesh,
        link_us: impl Fn(usize, usize) -> u64,
    ) -> u64 {
        let mut cost_us = 0;
        let mut at = relay;
        for next in self.way(side, relay).skip(1) {
            cost_us += link_us(at, next) + mesh.price_us(at);
            at = next;
        }
        // It passes all but its ends.
        cost_us - if at == relay { 0 } else { mesh.price_us(relay) }
    }

    /// The same of all relays.
    pub(super) fn costs(&self, mesh: &Mesh, destination: usize) -> TreeCosts {
        [Side::Red, Side::Blue].map(|side| {
            let mut costs_us = vec![0; mesh.len()];
            let next = self.next(side);
            for relay in super::outwards(next) {
                let hop = usize::from(next[relay]);
                let passing_us = if hop == destination { 0 } else { mesh.price_us(hop) };
                costs_us[relay] = mesh.cost_us(relay, hop).unwrap_or(0) + passing_us + costs_us[hop];
            }
            costs_us
        })
    }

    /// By relay, red and blue: the groups of whom the way passes and of the relay itself; nothing for the destination, nor
    /// where there are no groups.
    pub(super) fn passed(&self, mesh: &Mesh) -> [Vec<Groups>; 2] {
        [Side::Red, Side::Blue].map(|side| {
            let next = self.next(side);
            let mut passed = vec![0; if mesh.risks().is_empty() { 0 } else { next.len() }];
            if !passed.is_empty() {
                for relay in super::outwards(next) {
                    passed[relay] = mesh.risks().groups(relay) | passed[usize::from(next[relay])];
                }
            }
            passed
        })
    }

    /// What all ways of both trees cost together.
    pub(super) fn ways_us(costs_us: &TreeCosts) -> u128 {
        costs_us.iter().flatten().map(|cost_us| u128::from(*cost_us)).sum()
    }

    /// What the groups that relays' two ways share count as, in microseconds of way.
    pub(super) fn sharing_us(&self, mesh: &Mesh, destination: usize) -> u128 {
        let [red, blue] = self.passed(mesh);
        let shared_us = |(relay, (red_next, blue_next)): (usize, (&u16, &u16))| {
            let passed = |passed: &[Groups], next: u16| passed.get(usize::from(next)).copied().unwrap_or(0);
            let ends = mesh.risks().groups(relay) | mesh.risks().groups(destination);
            u128::from(shared_us(passed(&red, *red_next) & passed(&blue, *blue_next) & !ends))
        };
        let pairs = self.next(Side::Red).iter().zip(self.next(Side::Blue)).enumerate();
        if red.is_empty() { 0 } else { pairs.map(shared_us).sum() }
    }

    /// Whether a way takes one of these links, seen from their beginnings.
    pub(super) fn take_any(&self, links: &[(usize, usize)]) -> bool {
        links.iter().any(|(from, to)| self.next.iter().any(|next| usize::from(next[*from]) == *to))
    }

    /// All who come by one of these relays on one of the trees, and they themselves; some may be named twice.
    pub(super) fn all_behind(&self, mesh: &Mesh, relays: Vec<u32>) -> Vec<u32> {
        let mut all = Vec::new();
        for side in [Side::Red, Side::Blue] {
            let next = self.next(side);
            let mut open = relays.clone();
            while let Some(relay) = open.pop() {
                all.push(relay);
                let hops = mesh.hops(relay as usize).iter().map(|hop| hop.to);
                open.extend(hops.filter(|other| u32::from(next[*other as usize]) == relay));
            }
        }
        all
    }

    /// These trees without links that are gone, and who takes others, where the blocks are what they were: whoever took one takes the cheapest
    /// other link that goes the same way along the line, if need be from another place in it. `None` if somebody cannot.
    pub(super) fn mended(
        &self,
        mesh: &Mesh,
        blocks: &Blocks,
        destination: usize,
        gone: &[LinkChange],
    ) -> Option<(Trees, Vec<u32>)> {
        if !mesh.is_passable(destination) {
            return None;
        }
        let (mut trees, mut moved) = (self.clone(), Vec::new());
        for change in gone {
            for side in [Side::Red, Side::Blue] {
                if usize::from(trees.next(side)[change.from]) == change.to {
                    trees.turn(side, mesh, blocks, destination, change.from, gone)?;
                    moved.push(change.from as u32);
                }
            }
        }
        Some((trees, moved))
    }

    fn turn(
        &mut self,
        side: Side,
        mesh: &Mesh,
        blocks: &Blocks,
        destination: usize,
        relay: usize,
        gone: &[LinkChange],
    ) -> Option<()> {
        // A link that is gone and still on somebody's way costs what it did, until that one's turn comes.
        let link_us = |from: usize, to: usize| {
            let former = || gone.iter().find(|link| (link.from, link.to) == (from, to))?.before_us;
            mesh.cost_us(from, to).unwrap_or_else(|| former().map_or(0, u64::from))
        };
        let block = blocks.common(relay, usize::from(self.next(side)[relay]))?;
        // Both ways leave the block at the same relay, and share none before.
        let gate = self.way(Side::Red, relay).skip(1).find(|red| {
            *red == destination || self.way(Side::Blue, relay).skip(1).any(|blue| blue == *red)
        })?;
        let members = |hop: &&Hop| {
            let to = hop.to as usize;
            to != gate && blocks.of_place(to).contains(&block)
        };
        let hops: Vec<Hop> = mesh.hops(relay).iter().filter(members).copied().collect();
        let over_gate = mesh.hops(relay).iter().find(|hop| hop.to as usize == gate);
        let best = |trees: &Trees, side: Side| {
            let direct = over_gate.filter(|_| usize::from(trees.next(side.other())[relay]) != gate);
            let further =
                hops.iter().filter(|hop| trees.is_further(side, relay, hop.to as usize)).chain(direct);
            let cost_us = |hop: &Hop| {
                let to = hop.to as usize;
                let passing_us = if to == destination { 0 } else { mesh.price_us(to) };
                u64::from(hop.out_us) + passing_us + trees.cost_us(side, to, mesh, link_us)
            };
            further.map(|hop| (cost_us(hop), hop.to)).min().map(|(_, to)| to as u16)
        };
        if best(self, side).is_none() {
            // Dead ends go by two relays, and what their ways pass in a common block was one before the other in its line:
            // such relays stay where they are.
            if self.holds_dead_ends(mesh, blocks, relay) {
                return None;
            }
            self.shift(side, relay, &hops, |other| other != gate && blocks.of_place(other).contains(&block))?;
            let other = usize::from(self.next(side.other())[relay]);
            if other != gate && !self.is_further(side.other(), relay, other) {
                self.next[side.other() as usize][relay] = best(self, side.other())?;
            }
        }
        self.next[side as usize][relay] = best(self, side)?;
        Some(())
    }

    /// Whether a relay that must not be passed has a way that enters a block by this one: over its link to it, or from
    /// a block beyond, all ways out of which lead through it.
    fn holds_dead_ends(&self, mesh: &Mesh, blocks: &Blocks, relay: usize) -> bool {
        let is_joint = blocks.of_place(relay).len() > 1;
        let passes = |side: Side, from: usize| self.way(side, from).any(|passed| passed == relay);
        let enters_by = |next: &u16| {
            let from = usize::from(*next);
            *next != NOWHERE
                && (from == relay || is_joint && passes(Side::Red, from) && passes(Side::Blue, from))
        };
        let mut dead_ends = (0..mesh.len()).filter(|place| !mesh.is_passable(*place));
        dead_ends.any(|end| self.next.iter().any(|next| enters_by(&next[end])))
    }

    /// Whether one relay of a block comes after another on the way along its line.
    fn is_further(&self, side: Side, from: usize, to: usize) -> bool {
        match side {
            Side::Red => self.ranks[to] < self.ranks[from],
            Side::Blue => self.ranks[to] > self.ranks[from],
        }
    }

    /// Moves a relay back in its line, just past the first of its neighbours there, so that one lies before it again.
    /// `is_in_line` names those of the line.
    fn shift(
        &mut self,
        side: Side,
        relay: usize,
        hops: &[Hop],
        is_in_line: impl Fn(usize) -> bool,
    ) -> Option<()> {
        let ranks = hops.iter().map(|hop| self.ranks[hop.to as usize]);
        let rank = match side {
            Side::Red => ranks.min()?.checked_add(1)?,
            Side::Blue => ranks.max()?.checked_sub(1)?,
        };
        if rank == 0 || self.ranks.contains(&rank) {
            return None;
        }
        self.ranks[relay] = rank;
        // Those who come by it must still be behind: also over links that are gone, as long as their turn has not come, or
        // ways would run in a circle until then.
        let comes_by = (0..self.ranks.len()).filter(|other| usize::from(self.next(side)[*other]) == relay);
        let mut behind = comes_by.filter(|other| is_in_line(*other));
        behind.all(|other| self.is_further(side, other, relay)).then_some(())
    }
}

/// Makes trees towards one destination after the other.
pub(crate) struct Forester<'a> {
    mesh: &'a Mesh,
    blocks: &'a Blocks,
    growing: Growing,
}

/// Trees of blocks.
#[derive(Debug, Default)]
struct Growing {
    grower: Grower,
    /// Of cut vertices, through which the ways to many others lead, by block and place in it.
    made: BTreeMap<(usize, usize), BlockTrees>,
    /// The last of the others.
    fresh: BlockTrees,
}

impl<'a> Forester<'a> {
    /// With the blocks that the passable relays of the mesh make.
    pub(super) fn new(mesh: &'a Mesh, blocks: &'a Blocks) -> Forester<'a> {
        Forester { mesh, blocks, growing: Growing::default() }
    }

    /// The trees towards the relay at this place, to which the shortest ways are `ways`.
    pub(super) fn towards(&mut self, destination: usize, ways: &Ways) -> (Trees, TreeCosts) {
        let mut planting = Planting::new(self.mesh, destination, ways);
        if self.mesh.is_passable(destination) {
            planting.plant(self.blocks, &mut self.growing);
        } else {
            let open = |place| place == destination || self.mesh.is_passable(place);
            planting.plant(&Blocks::of(self.mesh, open), &mut Growing::default());
        }
        for place in (0..self.mesh.len()).filter(|place| !self.mesh.is_passable(*place)) {
            if place != destination {
                planting.join_dead_end(place);
            }
        }
        let gap = usize::from(u16::MAX) / (self.mesh.len() + 1);
        let rank =
            |stand: &Option<Stand>| stand.map_or(0, |stand| ((stand.rank as usize + 1) * gap.max(1)) as u16);
        let ranks = planting.stands.iter().map(rank).collect();
        (Trees { next: planting.next, ranks }, planting.costs_us)
    }
}

/// Where a relay stands, seen from the destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stand {
    /// The relay through which all its ways lead out of its block.
    gate: u32,
    block: u32,
    /// In the line of the block.
    rank: u32,
    /// Gates up to the destination.
    depth: u32,
}

struct Planting<'a> {
    mesh: &'a Mesh,
    destination: usize,
    ways: &'a Ways,
    stands: Vec<Option<Stand>>,
    next: [Vec<u16>; 2],
    costs_us: TreeCosts,
}

impl<'a> Planting<'a> {
    fn new(mesh: &'a Mesh, destination: usize, ways: &'a Ways) -> Planting<'a> {
        let len = mesh.len();
        Planting {
            mesh,
            destination,
            ways,
            stands: vec![None; len],
            next: [vec![NOWHERE; len], vec![NOWHERE; len]],
            costs_us: [vec![0; len], vec![0; len]],
        }
    }

    /// From the destination outwards, block by block.
    fn plant(&mut self, blocks: &Blocks, growing: &mut Growing) {
        let Growing { grower, made, fresh } = growing;
        let mut gates = VecDeque::from([(self.destination, None)]);
        while let Some((gate, from)) = gates.pop_front() {
            for &number in blocks.of_place(gate).iter().filter(|number| Some(**number) != from) {
                let block = blocks.block(number);
                let root = block.place_of(gate).expect("a block holds the relays that are in it");
                let trees = if blocks.of_place(gate).len() > 1 {
                    made.entry((number, root)).or_insert_with(|| {
                        let mut trees = BlockTrees::default();
                        grower.towards(block, root, None, &mut trees);
                        trees
                    })
                } else {
                    // Shortest ways of a block are those of a mesh that is nothing else.
                    let ways = block.is_all_of(self.mesh).then_some(self.ways);
                    grower.towards(block, root, ways, fresh);
                    &*fresh
                };
                let depth = self.stands[gate].map_or(0, |stand| stand.depth) + 1;
                let gate_us = [Side::Red, Side::Blue].map(|side| self.onwards_us(side, gate));
                let (gate, number_of) = (gate as u32, number as u32);
                for (rank, place) in (0..).zip(trees.order.iter().map(|place| *place as usize)) {
                    let member = block.members()[place];
                    self.stands[member] = Some(Stand { gate, block: number_of, rank, depth });
                    for (side, branches) in trees.branches.iter().enumerate() {
                        let branch = branches[place];
                        self.next[side][member] = block.members()[branch.next as usize] as u16;
                        self.costs_us[side][member] = branch.cost_us + gate_us[side];
                    }
                    if blocks.of_place(member).len() > 1 {
                        gates.push_back((member, Some(number)));
                    }
                }
            }
        }
    }

    /// What a way costs from a relay on that it passes, and the passing itself.
    fn onwards_us(&self, side: Side, passed: usize) -> u64 {
        if passed == self.destination {
            return 0;
        }
        self.costs_us[side as usize][passed] + self.mesh.price_us(passed)
    }

    /// Ways for a relay that nobody else may pass.
    fn join_dead_end(&mut self, place: usize) {
        let planted = |hop: &&Hop| {
            let to = hop.to as usize;
            to == self.destination || self.stands[to].is_some()
        };
        let hops: Vec<Hop> = self.mesh.hops(place).iter().filter(planted).copied().collect();
        let by = |hop: &Hop, side: Side| u64::from(hop.out_us) + self.onwards_us(side, hop.to as usize);
        let red_by = |hop: &Hop| by(hop, Side::Red);
        let blue_by = |hop: &Hop| by(hop, Side::Blue);
        let Some(first) = hops.iter().min_by_key(|hop| (red_by(hop).min(blue_by(hop)), hop.to)) else {
            return;
        };
        let meets = hops.iter().map(|hop| self.meet(first.to as usize, hop.to as usize));
        // The ways of the second part from those of the first as close to the destination as can be.
        let second = hops
            .iter()
            .zip(meets)
            .filter(|(hop, _)| hop.to != first.to)
            .min_by_key(|(hop, meet)| (self.depth(*meet), red_by(hop).min(blue_by(hop)), hop.to));
        let second = second.map_or(first, |(hop, _)| hop);
        let ways_us = [red_by(first) + blue_by(second), red_by(second) + blue_by(first)];
        let (red, blue) = match self.lower_of(first.to as usize, second.to as usize) {
            Some(lower) if lower == first.to as usize => (first, second),
            Some(_) => (second, first),
            None if ways_us[0] <= ways_us[1] => (first, second),
            None => (second, first),
        };
        let ways = [(red.to, red_by(red)), (blue.to, blue_by(blue))];
        for (side, (next, cost_us)) in ways.into_iter().enumerate() {
            self.next[side][place] = next as u16;
            self.costs_us[side][place] = cost_us;
        }
    }

    fn depth(&self, place: usize) -> u32 {
        self.stands[place].map_or(0, |stand| stand.depth)
    }

    fn gate(&self, place: usize) -> usize {
        self.stands[place].map_or(place, |stand| stand.gate as usize)
    }

    /// The relay nearest to two others that is on all ways of both.
    fn meet(&self, mut one: usize, mut other: usize) -> usize {
        while one != other {
            let (one_depth, other_depth) = (self.depth(one), self.depth(other));
            if one_depth >= other_depth {
                one = self.gate(one);
            }
            if other_depth >= one_depth {
                other = self.gate(other);
            }
        }
        one
    }

    /// Which of two relays has the lower part of the line of the block in which their ways are apart, and must
    /// therefore keep to red; `None` if they are in no common one.
    fn lower_of(&self, one: usize, other: usize) -> Option<usize> {
        let meet = self.meet(one, other);
        let below = |from: usize| {
            let climb = std::iter::successors(Some(from), |at| Some(self.gate(*at)));
            climb.take_while(|at| *at != meet).last().and_then(|top| self.stands[top])
        };
        let (top, other_top) = (below(one)?, below(other)?);
        (top.block == other_top.block).then_some(if top.rank < other_top.rank { one } else { other })
    }
}
