//! Shortest ways down and up a line, and those that keep apart from what may fail together.

use super::{BlockTrees, Branch, Side, fill};
use crate::planes::blocks::Block;
use crate::planes::risks::{Groups, shared_us};

/// More than any way costs, and little enough to be added to.
const CLOSED_US: u64 = u64::MAX / 2;

/// Room for one line after the other.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// By place, from 1 on; the root has none.
    ranks: Vec<u32>,
    /// Red and blue, by place: what a way costs from there on, its passing included.
    onwards_us: [Vec<u64>; 2],
    shortened: Vec<bool>,
    /// Red and blue, by place: the groups of whom the way passes and of the relay itself; nothing for the root.
    passed: [Vec<Groups>; 2],
    spare: (Vec<Branch>, Vec<Groups>),
}

impl Sweep {
    pub(super) fn trees(
        &mut self,
        block: &Block,
        root: usize,
        direct: &mut [Option<Side>],
        trees: &mut BlockTrees,
    ) {
        fill(&mut self.ranks, block.len(), 0);
        for (at, place) in (1..).zip(&trees.order) {
            self.ranks[*place as usize] = at;
        }
        let undecided = self.assign_links_to_the_root(block, root, direct);
        for side in [Side::Red, Side::Blue] {
            self.sweep(block, root, side, direct, trees);
        }
        let mut found = [Vec::new(), Vec::new()];
        for (place, direct_us) in undecided {
            let [red_us, blue_us] = [0, 1].map(|side: usize| trees.branches[side][place].cost_us);
            if red_us.max(blue_us) > direct_us {
                let side = if red_us >= blue_us { Side::Red } else { Side::Blue };
                found[side as usize].push((place, Branch { next: root as u32, cost_us: direct_us }));
            }
        }
        for (side, found) in [Side::Red, Side::Blue].into_iter().zip(found) {
            if !found.is_empty() {
                self.shorten(block, root, side, &found, trees);
                found.iter().for_each(|(place, _)| direct[*place] = Some(side));
            }
        }
        if !block.groups().is_empty() && block.len() > 2 {
            self.part(block, root, direct, trees);
        }
    }

    /// Turns relays whose ways both pass the same groups to others, tree by tree, as far as that helps more than it harms.
    fn part(&mut self, block: &Block, root: usize, direct: &[Option<Side>], trees: &mut BlockTrees) {
        for side in [Side::Red, Side::Blue] {
            self.pass(block, root, side, trees);
        }
        let mut sharing = self.sharing(block, root, trees);
        for side in [Side::Blue, Side::Red] {
            if sharing == 0 {
                return;
            }
            let at = side as usize;
            std::mem::swap(&mut self.spare.0, &mut trees.branches[at]);
            std::mem::swap(&mut self.spare.1, &mut self.passed[at]);
            self.sweep_apart(block, root, side, direct, trees);
            let now = self.sharing(block, root, trees);
            if now < sharing {
                sharing = now;
            } else {
                std::mem::swap(&mut self.spare.0, &mut trees.branches[at]);
                std::mem::swap(&mut self.spare.1, &mut self.passed[at]);
            }
        }
    }

    /// What the ways of one tree pass.
    fn pass(&mut self, block: &Block, root: usize, side: Side, trees: &BlockTrees) {
        let passed = &mut self.passed[side as usize];
        fill(passed, block.len(), 0);
        for at in 0..trees.order.len() {
            let place = side.turn(&trees.order, at) as usize;
            let next = trees.branches[side as usize][place].next as usize;
            passed[place] = block.groups()[place] | passed[next];
        }
        passed[root] = 0;
    }

    /// How many relays' ways have a group in common.
    fn sharing(&self, block: &Block, root: usize, trees: &BlockTrees) -> usize {
        let groups = block.groups();
        let shares = |place: &&u32| {
            let place = **place as usize;
            let passed =
                |side: Side| self.passed[side as usize][trees.branches[side as usize][place].next as usize];
            passed(Side::Red) & passed(Side::Blue) & !(groups[place] | groups[root]) != 0
        };
        trees.order.iter().filter(shares).count()
    }

    /// Like [`sweep`](Sweep::sweep), but a group that the way of the other tree passes counts as more way.
    fn sweep_apart(
        &mut self,
        block: &Block,
        root: usize,
        side: Side,
        direct: &[Option<Side>],
        trees: &mut BlockTrees,
    ) {
        let [red, blue] = &mut trees.branches;
        let (tree, other) = match side {
            Side::Red => (red, &*blue),
            Side::Blue => (blue, &*red),
        };
        let [red, blue] = &mut self.passed;
        let (passed, passed_by_other) = match side {
            Side::Red => (red, &*blue),
            Side::Blue => (blue, &*red),
        };
        let groups = block.groups();
        fill(tree, block.len(), Branch { next: root as u32, cost_us: u64::MAX });
        fill(passed, block.len(), 0);
        let onwards_us = &mut self.onwards_us[side as usize];
        fill(onwards_us, block.len(), CLOSED_US);
        for at in 0..trees.order.len() {
            let place = side.turn(&trees.order, at) as usize;
            let avoided = passed_by_other[other[place].next as usize] & !(groups[place] | groups[root]);
            onwards_us[root] = if direct[place] == Some(side) { 0 } else { CLOSED_US };
            let mut best = (CLOSED_US, CLOSED_US, u32::MAX);
            for exit in block.cheapest_exits(place) {
                if u64::from(exit.out_us) > best.0 {
                    break;
                }
                let whole_us = u64::from(exit.out_us) + onwards_us[exit.to as usize];
                let counted_us = whole_us + shared_us(avoided & passed[exit.to as usize]);
                best = best.min((counted_us, whole_us, exit.to));
            }
            let (_, cost_us, next) = best;
            if cost_us < CLOSED_US {
                tree[place] = Branch { next, cost_us };
                onwards_us[place] = block.price_us(place) + cost_us;
                passed[place] = groups[place] | passed[next as usize];
            }
        }
    }

    /// A link to the root leads down and up at once; only one tree may have it. Relays whose ear did not tell which,
    /// with what the link costs.
    fn assign_links_to_the_root(
        &self,
        block: &Block,
        root: usize,
        direct: &mut [Option<Side>],
    ) -> Vec<(usize, u64)> {
        let mut undecided = Vec::new();
        for from_root in block.hops(root) {
            let place = from_root.to as usize;
            let rank = self.ranks[place];
            let is_other = |below: bool| {
                let mut others =
                    block.hops(place).iter().map(|hop| hop.to as usize).filter(|other| *other != root);
                others.any(|other| (self.ranks[other] < rank) == below)
            };
            match (is_other(true), is_other(false)) {
                (false, _) => direct[place] = Some(Side::Red),
                (true, false) => direct[place] = Some(Side::Blue),
                (true, true) if direct[place].is_none() => {
                    undecided.push((place, u64::from(from_root.back_us)))
                }
                (true, true) => {}
            }
        }
        undecided
    }

    /// The shortest ways of one tree; ties fall to the next hop with the lowest index.
    fn sweep(
        &mut self,
        block: &Block,
        root: usize,
        side: Side,
        direct: &[Option<Side>],
        trees: &mut BlockTrees,
    ) {
        let BlockTrees { order, branches } = trees;
        let tree = &mut branches[side as usize];
        fill(tree, block.len(), Branch { next: root as u32, cost_us: u64::MAX });
        // Who has not had its turn is not open.
        let onwards_us = &mut self.onwards_us[side as usize];
        fill(onwards_us, block.len(), CLOSED_US);
        for at in 0..order.len() {
            let place = side.turn(order, at) as usize;
            let may_end = direct[place] == Some(side) || block.len() == 2;
            onwards_us[root] = if may_end { 0 } else { CLOSED_US };
            let (mut cost_us, mut next) = (CLOSED_US, u32::MAX);
            for exit in block.cheapest_exits(place) {
                if u64::from(exit.out_us) > cost_us {
                    break;
                }
                let whole_us = u64::from(exit.out_us) + onwards_us[exit.to as usize];
                if (whole_us, exit.to) < (cost_us, next) {
                    (cost_us, next) = (whole_us, exit.to);
                }
            }
            if cost_us < CLOSED_US {
                tree[place] = Branch { next, cost_us };
                onwards_us[place] = block.price_us(place) + cost_us;
            }
        }
    }

    /// What becomes of a tree when some of its relays may take their links to the root too.
    fn shorten(
        &mut self,
        block: &Block,
        root: usize,
        side: Side,
        direct: &[(usize, Branch)],
        trees: &mut BlockTrees,
    ) {
        let BlockTrees { order, branches } = trees;
        let tree = &mut branches[side as usize];
        let is_better = |new: Branch, old: Branch| (new.cost_us, new.next) < (old.cost_us, old.next);
        let shortened = &mut self.shortened;
        fill(shortened, block.len(), false);
        for (place, branch) in direct {
            if is_better(*branch, tree[*place]) {
                tree[*place] = *branch;
                shortened[*place] = true;
            }
        }
        for at in 0..order.len() {
            let place = side.turn(order, at);
            if !shortened[place as usize] {
                continue;
            }
            let rank = self.ranks[place as usize];
            let onwards_us = block.price_us(place as usize) + tree[place as usize].cost_us;
            for hop in block.hops(place as usize) {
                let to = hop.to as usize;
                let is_behind = match side {
                    Side::Red => self.ranks[to] > rank,
                    Side::Blue => self.ranks[to] < rank && to != root,
                };
                let branch = Branch { next: place, cost_us: u64::from(hop.back_us) + onwards_us };
                if is_behind && is_better(branch, tree[to]) {
                    tree[to] = branch;
                    shortened[to] = true;
                }
            }
        }
    }
}
