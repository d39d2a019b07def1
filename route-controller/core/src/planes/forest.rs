//! Red and blue trees of the whole overlay towards one relay, put together from those of its blocks.
//!
//! Seen from the destination, every block begins at one relay: the destination, or the cut vertex through which all
//! ways out of the block lead. Within the block both trees lead there, apart from each other, and go on as its own do
//! (RFC 7811, section 5.7). So red and blue of a relay meet in the cut vertices and bridges that they cannot avoid, and
//! nowhere else. The trees of a block are the same for all destinations beyond one of its relays, and made once.
//!
//! A relay that must not be passed is a destination like others, but part of no other relay's way: it is left out when
//! blocks are sought, and joined afterwards to two of its neighbours whose ways part as early as can be.

use super::blocks::Blocks;
use super::mesh::{Hop, Mesh};
use super::redundant::{BlockTrees, Branch, Side};
use std::collections::{BTreeMap, VecDeque};

/// Both trees towards one destination, by place in the mesh. `None` where no way leads there, and for itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Trees {
    pub red: Vec<Option<Branch>>,
    pub blue: Vec<Option<Branch>>,
}

impl Trees {
    /// One of the two.
    pub(crate) fn of(&self, side: Side) -> &[Option<Branch>] {
        match side {
            Side::Red => &self.red,
            Side::Blue => &self.blue,
        }
    }
}

/// Makes trees towards one destination after the other.
pub(crate) struct Forester<'a> {
    mesh: &'a Mesh,
    blocks: Blocks,
    /// By block and place in it of the relay that they lead to.
    made: BTreeMap<(usize, usize), BlockTrees>,
}

impl<'a> Forester<'a> {
    pub(crate) fn new(mesh: &'a Mesh) -> Forester<'a> {
        Forester { mesh, blocks: Blocks::of(mesh, |place| mesh.is_passable(place)), made: BTreeMap::new() }
    }

    /// The trees towards the relay at this place.
    pub(crate) fn towards(&mut self, destination: usize) -> Trees {
        let mut planting = Planting::new(self.mesh, destination);
        if self.mesh.is_passable(destination) {
            planting.plant(&self.blocks, &mut self.made);
        } else {
            let open = |place| place == destination || self.mesh.is_passable(place);
            planting.plant(&Blocks::of(self.mesh, open), &mut BTreeMap::new());
        }
        for place in (0..self.mesh.len()).filter(|place| !self.mesh.is_passable(*place)) {
            if place != destination {
                planting.join_dead_end(place);
            }
        }
        planting.trees
    }
}

/// Where a relay stands, seen from the destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stand {
    /// The relay through which all its ways lead out of its block.
    gate: usize,
    block: usize,
    /// In the line of the block.
    rank: usize,
    /// Gates up to the destination.
    depth: usize,
}

struct Planting<'a> {
    mesh: &'a Mesh,
    destination: usize,
    stands: Vec<Option<Stand>>,
    trees: Trees,
}

impl<'a> Planting<'a> {
    fn new(mesh: &'a Mesh, destination: usize) -> Planting<'a> {
        let none = vec![None; mesh.len()];
        Planting {
            mesh,
            destination,
            stands: vec![None; mesh.len()],
            trees: Trees { red: none.clone(), blue: none },
        }
    }

    /// From the destination outwards, block by block.
    fn plant(&mut self, blocks: &Blocks, made: &mut BTreeMap<(usize, usize), BlockTrees>) {
        let mut gates = VecDeque::from([(self.destination, None)]);
        while let Some((gate, from)) = gates.pop_front() {
            for &number in blocks.of_place(gate).iter().filter(|number| Some(**number) != from) {
                let block = blocks.block(number);
                let root = block.place_of(gate).expect("a block holds the relays that are in it");
                let trees = made.entry((number, root)).or_insert_with(|| BlockTrees::towards(block, root));
                let depth = self.stands[gate].map_or(0, |stand| stand.depth) + 1;
                let gate_us = [&self.trees.red, &self.trees.blue].map(|tree| self.onwards_us(tree, gate));
                for (rank, &place) in trees.order.iter().enumerate() {
                    let member = block.members()[place];
                    self.stands[member] = Some(Stand { gate, block: number, rank, depth });
                    let branch = |branch: Branch, gate_us| Branch {
                        next: block.members()[branch.next],
                        cost_us: branch.cost_us + gate_us,
                    };
                    self.trees.red[member] = Some(branch(trees.red[place], gate_us[0]));
                    self.trees.blue[member] = Some(branch(trees.blue[place], gate_us[1]));
                    if blocks.of_place(member).len() > 1 {
                        gates.push_back((member, Some(number)));
                    }
                }
            }
        }
    }

    /// What a way costs from a relay on that it passes, and the passing itself.
    fn onwards_us(&self, tree: &[Option<Branch>], passed: usize) -> u64 {
        let rest_us = tree[passed].map_or(0, |branch| branch.cost_us);
        rest_us + if passed == self.destination { 0 } else { self.mesh.price_us(passed) }
    }

    /// Ways for a relay that nobody else may pass.
    fn join_dead_end(&mut self, place: usize) {
        let planted = |hop: &&Hop| hop.to == self.destination || self.stands[hop.to].is_some();
        let hops: Vec<Hop> = self.mesh.hops(place).iter().filter(planted).copied().collect();
        let by = |hop: &Hop, tree: &[Option<Branch>]| hop.out_us + self.onwards_us(tree, hop.to);
        let red_by = |hop: &Hop| by(hop, &self.trees.red);
        let blue_by = |hop: &Hop| by(hop, &self.trees.blue);
        let Some(first) = hops.iter().min_by_key(|hop| (red_by(hop).min(blue_by(hop)), hop.to)) else {
            return;
        };
        let meets = hops.iter().map(|hop| self.meet(first.to, hop.to));
        // The ways of the second part from those of the first as close to the destination as can be.
        let second = hops
            .iter()
            .zip(meets)
            .filter(|(hop, _)| hop.to != first.to)
            .min_by_key(|(hop, meet)| (self.depth(*meet), red_by(hop).min(blue_by(hop)), hop.to));
        let second = second.map_or(first, |(hop, _)| hop);
        let ways_us = [red_by(first) + blue_by(second), red_by(second) + blue_by(first)];
        let (red, blue) = match self.lower_of(first.to, second.to) {
            Some(lower) if lower == first.to => (first, second),
            Some(_) => (second, first),
            None if ways_us[0] <= ways_us[1] => (first, second),
            None => (second, first),
        };
        let branches = [(red, red_by(red)), (blue, blue_by(blue))]
            .map(|(hop, cost_us)| Branch { next: hop.to, cost_us });
        self.trees.red[place] = Some(branches[0]);
        self.trees.blue[place] = Some(branches[1]);
    }

    fn depth(&self, place: usize) -> usize {
        self.stands[place].map_or(0, |stand| stand.depth)
    }

    fn gate(&self, place: usize) -> usize {
        self.stands[place].map_or(place, |stand| stand.gate)
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
