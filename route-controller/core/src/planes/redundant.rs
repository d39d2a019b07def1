//! Two trees towards one relay of a block, red and blue, that share nothing on the way from any other relay of it.
//!
//! The relays of the block are put in a line whose both ends are the root, such that each has a neighbour below and
//! another above it (an s-t numbering, as RFC 7811 makes for its GADAG). Red always goes down and blue always up, so
//! neither can loop, and what one passes is below where the other begins and passes only what is above.
//!
//! The line grows by ears: a way from one relay in the line to another over relays that are not yet, which are inserted
//! between the two. An ear is made of two branches of the tree of shortest paths and a link between them, and the
//! cheapest ear comes first: hence a relay's first way out is its shortest path, and its second the best one over a
//! link into another branch. Any line allows every relay the choice among all links downwards, and upwards; each takes
//! the shortest way that way. Several roots need several lines: in one line for all, as the standard has it, half of
//! all ways would pass one relay.
//!
//! Why the ears never run out: the relays in the line are a subtree of the shortest paths that has the root. Something
//! hangs below one of them, and this one is no cut vertex of the block, so a link leads from what hangs there to
//! somewhere else. If that hangs below another, or is in the line, there is the ear.

use super::blocks::{Block, Link, for_ears};
use super::order::Order;
use super::risks::{Groups, SHARED_US, shared_us};
use super::shortest::Ways;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// More than any way costs, and little enough to be added to.
const CLOSED_US: u64 = u64::MAX / 2;
/// How much later an ear comes that shares a group of relays that may fail together with the shortest path beside it.
const SHARED_EAR_US: u32 = 4 * SHARED_US as u32;
/// No link of a block has this number.
const NO_LINK: u32 = u32::MAX;

/// Which of the two redundant trees.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Side {
    /// Down the line.
    Red = 0,
    /// Up the line.
    Blue = 1,
}

impl Side {
    /// Not this one.
    pub(super) fn other(self) -> Side {
        match self {
            Side::Red => Side::Blue,
            Side::Blue => Side::Red,
        }
    }

    /// Whose turn it is along the line, nearest to this tree's end first.
    fn turn(self, order: &[u32], at: usize) -> u32 {
        match self {
            Side::Red => order[at],
            Side::Blue => order[order.len() - 1 - at],
        }
    }
}

/// What a relay does on a tree, in places of the block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Branch {
    /// Who comes next.
    pub next: u32,
    /// Cost of the way to the root, those on it included that are dear to pass.
    pub cost_us: u64,
}

/// Both trees of a block towards one of its relays.
#[derive(Clone, Debug, Default)]
pub(crate) struct BlockTrees {
    /// All relays but the root, from the low end to the high end.
    pub order: Vec<u32>,
    /// Red and blue, by place; the root's own has no meaning.
    pub branches: [Vec<Branch>; 2],
}

/// Makes trees of one block after the other, in room that it keeps.
#[derive(Debug, Default)]
pub(super) struct Grower {
    ears: Ears,
    sweep: Sweep,
}

impl Grower {
    /// Makes the trees towards the relay of the block that is at place `root`.
    /// `ways` are the shortest ones there, where they are known.
    pub(super) fn towards(
        &mut self,
        block: &Block,
        root: usize,
        ways: Option<&Ways>,
        trees: &mut BlockTrees,
    ) {
        self.ears.begin(block, root);
        if block.len() == 2 {
            // A bridge: both go over it, at different times.
            self.ears.order.insert_above(root as u32, &[1 - root as u32]);
        } else {
            self.ears.grow(block, ways);
        }
        trees.order.clear();
        trees.order.extend(self.ears.order.iter());
        debug_assert_eq!(trees.order.len() + 1, block.len(), "every relay of a block is on an ear");
        self.sweep.trees(block, root, &mut self.ears.direct, trees);
    }
}

/// Links by what their ears cost, not quite in order: most of a dense overlay are never asked for. A link is its cost, and
/// then its number, in one word.
#[derive(Clone, Debug, Default)]
struct Buckets {
    /// Those of the cheapest bucket last.
    links: Vec<u64>,
    /// Where each bucket begins, the cheapest one last.
    begins: Vec<u32>,
    /// Room to work in.
    filled: Vec<u32>,
}

impl Buckets {
    /// About so many links are in one.
    const LINKS: usize = 8;
    const COUNT_MAX: usize = 8_192;

    fn fill(&mut self, links: &[u64]) {
        let (least, most) =
            links.iter().fold((u64::MAX, 0), |(least, most), link| (least.min(*link), most.max(*link)));
        let wanted = (links.len() / Buckets::LINKS).clamp(1, Buckets::COUNT_MAX) as u64;
        // The dearest first. Division is slow: a power of two at least as wide does.
        let width = most.saturating_sub(least) / wanted;
        let shift = (u64::BITS - width.leading_zeros()).min(u64::BITS - 1);
        let count = (most.saturating_sub(least) >> shift) as usize + 1;
        let bucket = |link: u64| count - 1 - ((link - least) >> shift) as usize;
        let filled = &mut self.filled;
        filled.clear();
        filled.resize(count + 1, 0);
        for link in links {
            filled[bucket(*link) + 1] += 1;
        }
        for at in 0..count {
            filled[at + 1] += filled[at];
        }
        self.begins.clear();
        self.begins.extend_from_slice(&filled[..count]);
        self.links.clear();
        self.links.resize(links.len(), 0);
        for link in links {
            let at = &mut filled[bucket(*link)];
            self.links[*at as usize] = *link;
            *at += 1;
        }
    }

    /// Appends the next bucket that has links which are still of use, dearest first.
    fn next_into(&mut self, cheapest: &mut Vec<u64>, is_open: impl Fn(u32) -> bool) {
        while cheapest.is_empty()
            && let Some(begin) = self.begins.pop()
        {
            cheapest.extend(self.links.drain(begin as usize..).filter(|link| is_open(*link as u32)));
            cheapest.sort_unstable_by(|one, other| other.cmp(one));
        }
    }
}

/// The tree of shortest paths towards the root, and the line that grows over it. By place where nothing else is said.
#[derive(Debug, Default)]
struct Ears {
    root: u32,
    /// Cost of the shortest path, and the same with what passing the relay costs, both in the range of ears.
    distance_us: Vec<u32>,
    end_us: Vec<u32>,
    /// The next relay on the shortest path, how many hops it has, and which neighbour of the root it comes by.
    parent: Vec<u32>,
    depth: Vec<u32>,
    limb: Vec<u32>,
    order: Order,
    in_line: Vec<bool>,
    /// What the shortest path passes, with the relay itself and without, but for what the root is in; empty without groups.
    passed: Vec<[Groups; 2]>,
    left: usize,
    /// Which tree got the link to the root, for those whose ear ended there.
    direct: Vec<Option<Side>>,
    /// About what the ways that the ears gave cost, down and up.
    down_us: Vec<u64>,
    up_us: Vec<u64>,
    /// Links that may complete an ear: the cheapest ones, dearest first; the rest; and those that waited for a relay to be in
    /// the line.
    cheapest: Vec<u64>,
    waiting: Buckets,
    returned: BinaryHeap<Reverse<u64>>,
    /// The last of those links that complete no ear until this relay is in the line; and each such link, with the one parked
    /// there before it.
    parked: Vec<u32>,
    parked_links: Vec<(u32, u32)>,
    room: Room,
}

/// Room to work in.
#[derive(Debug, Default)]
struct Room {
    candidates: Vec<u64>,
    low: Vec<u32>,
    high: Vec<u32>,
    ear: Vec<u32>,
    costs_us: Vec<u64>,
}

fn fill<T: Clone>(room: &mut Vec<T>, len: usize, value: T) {
    room.clear();
    room.resize(len, value);
}

impl Ears {
    fn begin(&mut self, block: &Block, root: usize) {
        let len = block.len();
        self.root = root as u32;
        fill(&mut self.distance_us, len, 0);
        fill(&mut self.end_us, len, 0);
        fill(&mut self.parent, len, root as u32);
        fill(&mut self.depth, len, 0);
        self.limb.clear();
        self.limb.extend(0..len as u32);
        self.order.begin(len, root);
        fill(&mut self.in_line, len, false);
        self.in_line[root] = true;
        self.left = len - 1;
        fill(&mut self.direct, len, None);
        fill(&mut self.down_us, len, 0);
        fill(&mut self.up_us, len, 0);
        self.cheapest.clear();
        self.returned.clear();
        fill(&mut self.parked, len, NO_LINK);
        self.parked_links.clear();
    }

    /// Links that are among the cheapest of one of their ends come first: mostly they suffice.
    fn grow(&mut self, block: &Block, ways: Option<&Ways>) {
        match ways {
            Some(ways) => self.take_shortest_paths(block, ways),
            None => self.find_shortest_paths(block),
        }
        self.find_passed(block);
        for near in [true, false] {
            if self.left > 0 {
                self.find_candidates(block, near);
            }
            while self.left > 0
                && let Some(number) = self.cheapest_link(block)
            {
                self.consider(block, block.links()[number as usize], number);
            }
        }
    }

    /// Links that may complete an ear, each with what that costs.
    fn find_candidates(&mut self, block: &Block, near: bool) {
        let mut candidates = std::mem::take(&mut self.room.candidates);
        candidates.clear();
        let links = block.links();
        if near && block.near_links().len() < links.len() {
            candidates
                .extend(block.near_links().iter().map(|number| self.ear(&links[*number as usize], *number)));
        } else {
            candidates.extend(links.iter().zip(0..).map(|(link, number)| self.ear(link, number)));
        }
        self.waiting.fill(&candidates);
        self.room.candidates = candidates;
    }

    /// What an ear costs that a link completes, both ways to the root, and there and back over the link; and its number.
    fn ear(&self, link: &Link, number: u32) -> u64 {
        let (low, high) = (link.low as usize, link.high as usize);
        let mut ear_us = self.end_us[low] + self.end_us[high] + link.round_us;
        if let (Some(low), Some(high)) = (self.passed.get(low), self.passed.get(high))
            && (low[0] & high[1] | low[1] & high[0]) != 0
        {
            ear_us += SHARED_EAR_US;
        }
        (u64::from(ear_us) << 32) | u64::from(number)
    }

    /// The next link by the cost of its ear; ties fall to the lower number.
    fn cheapest_link(&mut self, block: &Block) -> Option<u32> {
        if self.cheapest.is_empty() {
            let (links, in_line) = (block.links(), &self.in_line);
            let is_open = |link: &Link| !in_line[link.low as usize] || !in_line[link.high as usize];
            self.waiting.next_into(&mut self.cheapest, |number| is_open(&links[number as usize]));
        }
        let returned = self.returned.peek().map(|Reverse(link)| *link);
        let link = match (self.cheapest.last().copied(), returned) {
            (Some(next), Some(returned)) if returned < next => self.returned.pop().map(|Reverse(link)| link),
            (Some(_), _) => self.cheapest.pop(),
            (None, _) => self.returned.pop().map(|Reverse(link)| link),
        };
        link.map(|link| link as u32)
    }

    /// Puts the ear of a link into the line, if there is one.
    fn consider(&mut self, block: &Block, link: Link, number: u32) {
        let (low, high) = (link.low as usize, link.high as usize);
        let is_in_tree = self.parent[low] == link.high || self.parent[high] == link.low;
        if is_in_tree || self.in_line[low] && self.in_line[high] {
            return;
        }
        match self.obstacles(link) {
            Some(obstacles) => {
                for place in obstacles.into_iter().flatten() {
                    let before =
                        std::mem::replace(&mut self.parked[place as usize], self.parked_links.len() as u32);
                    self.parked_links.push((number, before));
                }
            }
            None => self.insert(block, link),
        }
    }

    /// They are known already.
    fn take_shortest_paths(&mut self, block: &Block, ways: &Ways) {
        for place in super::outwards(&ways.next) {
            let at = usize::from(ways.next[place]);
            self.parent[place] = at as u32;
            self.limb[place] = if at as u32 == self.root { place as u32 } else { self.limb[at] };
            self.depth[place] = self.depth[at] + 1;
        }
        for place in 0..block.len() {
            self.set_distance(block, place, ways.distances_us[place]);
        }
    }

    /// Ties fall to the next hop with the lowest index.
    fn find_shortest_paths(&mut self, block: &Block) {
        let mut distances_us = vec![u64::MAX; block.len()];
        distances_us[self.root as usize] = 0;
        let mut open = BinaryHeap::from([Reverse((0, self.root))]);
        while let Some(Reverse((distance_us, at))) = open.pop() {
            if distance_us > distances_us[at as usize] {
                continue;
            }
            let onwards_us = distance_us + self.price_us(block, at as usize);
            for hop in block.hops(at as usize) {
                let (to, whole_us) = (hop.to as usize, onwards_us + u64::from(hop.back_us));
                let known_us = distances_us[to];
                if whole_us < known_us || (whole_us == known_us && at < self.parent[to]) {
                    self.parent[to] = at;
                    self.limb[to] = if at == self.root { hop.to } else { self.limb[at as usize] };
                    self.depth[to] = self.depth[at as usize] + 1;
                    distances_us[to] = whole_us;
                    if whole_us < known_us {
                        open.push(Reverse((whole_us, hop.to)));
                    }
                }
            }
        }
        for (place, distance_us) in distances_us.into_iter().enumerate() {
            self.set_distance(block, place, distance_us);
        }
    }

    fn find_passed(&mut self, block: &Block) {
        self.passed.clear();
        let groups = block.groups();
        if groups.is_empty() {
            return;
        }
        self.passed.resize(block.len(), [0; 2]);
        let root = self.root as usize;
        let mut by_depth: Vec<u32> = (0..block.len() as u32).filter(|place| *place != self.root).collect();
        by_depth.sort_by_key(|place| self.depth[*place as usize]);
        for place in by_depth.into_iter().map(|place| place as usize) {
            let without = self.passed[self.parent[place] as usize][0];
            self.passed[place] = [without | groups[place] & !groups[root], without];
        }
    }

    fn set_distance(&mut self, block: &Block, place: usize, distance_us: u64) {
        self.distance_us[place] = for_ears(distance_us);
        self.end_us[place] = for_ears(distance_us.saturating_add(self.price_us(block, place)));
    }

    fn price_us(&self, block: &Block, place: usize) -> u64 {
        if place as u32 == self.root { 0 } else { block.price_us(place) }
    }

    /// The branches of a link's ends meet somewhere. Unless that is the root, a relay of one branch below there must
    /// be in the line, or what the link completes would begin and end at the same relay. Those whose arrival in the
    /// line helps, or `None` if all is well.
    fn obstacles(&self, link: Link) -> Option<[Option<u32>; 2]> {
        let (mut low, mut high) = (link.low, link.high);
        if self.limb[low as usize] != self.limb[high as usize] {
            return None;
        }
        let mut below = [None, None];
        while low != high {
            let (low_depth, high_depth) = (self.depth[low as usize], self.depth[high as usize]);
            if low_depth >= high_depth {
                below[0] = Some(low);
                low = self.parent[low as usize];
            }
            if high_depth >= low_depth {
                below[1] = Some(high);
                high = self.parent[high as usize];
            }
        }
        let parted = below.into_iter().flatten().any(|place| self.in_line[place as usize]);
        (low != self.root && !parted).then_some(below)
    }

    /// Puts into the line what is not yet in it of the branches of the link's ends.
    fn insert(&mut self, block: &Block, link: Link) {
        let mut room = std::mem::take(&mut self.room);
        let (one_end, other_end) =
            (self.climb(link.low, &mut room.low), self.climb(link.high, &mut room.high));
        let (one, other) = (one_end as usize, other_end as usize);
        // At the root it is free which end of the line is meant: what goes on from the other end decides.
        let turned = match (one_end == self.root, other_end == self.root) {
            (true, true) => false,
            (true, false) => self.up_us[other] > self.down_us[other],
            (false, true) => self.down_us[one] > self.up_us[one],
            (false, false) => self.order.is_below(other_end, one_end),
        };
        let (low_end, high_end) = if turned { (other_end, one_end) } else { (one_end, other_end) };
        if turned {
            std::mem::swap(&mut room.low, &mut room.high);
        }
        room.low.reverse();
        // Ends of the line keep their distance from its middle: what has its shortest path over the root's link goes
        // to the outside, and whoever lies further in can use it.
        self.order.insert_above(if low_end == self.root { self.order.low_end() } else { low_end }, &room.low);
        let above = if high_end == self.root { self.order.high_end() } else { high_end };
        self.order.insert_below(above, &room.high);

        room.ear.clear();
        room.ear.extend(room.low.iter().chain(&room.high));
        if let (true, Some(first)) = (low_end == self.root, room.ear.first()) {
            self.direct[*first as usize] = Some(Side::Red);
        }
        if let (true, Some(last)) = (high_end == self.root, room.ear.last()) {
            self.direct[*last as usize] = Some(Side::Blue);
        }
        self.estimate(block, link, low_end as usize, high_end as usize, &mut room);
        for place in &room.ear {
            let place = *place as usize;
            self.in_line[place] = true;
            self.left -= 1;
            let mut at = self.parked[place];
            while at != NO_LINK {
                let (number, before) = self.parked_links[at as usize];
                self.returned.push(Reverse(self.ear(&block.links()[number as usize], number)));
                at = before;
            }
        }
        self.room = room;
    }

    /// The branch of a relay up to the first in the line, which is returned; the others from the outside inwards.
    fn climb(&self, from: u32, places: &mut Vec<u32>) -> u32 {
        places.clear();
        let mut at = from;
        while !self.in_line[at as usize] {
            places.push(at);
            at = self.parent[at as usize];
        }
        at
    }

    /// Both directions of a link are taken to be half of its round here: this only helps to choose.
    fn estimate(&mut self, block: &Block, link: Link, low_end: usize, high_end: usize, room: &mut Room) {
        let ends = (link.low as usize, link.high as usize);
        let step_us = |one: usize, other: usize| {
            if ends == (one, other) || ends == (other, one) {
                u64::from(link.round_us / 2)
            } else {
                u64::from(self.distance_us[one].abs_diff(self.distance_us[other]))
            }
        };
        let root = self.root as usize;
        let mut down_us = if low_end == root { 0 } else { self.down_us[low_end] };
        let mut before = low_end;
        room.costs_us.clear();
        for &place in &room.ear {
            let price_us = if before == root { 0 } else { block.price_us(before) };
            down_us += step_us(place as usize, before) + price_us;
            room.costs_us.push(down_us);
            before = place as usize;
        }
        let mut up_us = if high_end == root { 0 } else { self.up_us[high_end] };
        before = high_end;
        for &place in room.ear.iter().rev() {
            let price_us = if before == root { 0 } else { block.price_us(before) };
            up_us += step_us(place as usize, before) + price_us;
            self.up_us[place as usize] = up_us;
            before = place as usize;
        }
        for (&place, down_us) in room.ear.iter().zip(&room.costs_us) {
            self.down_us[place as usize] = *down_us;
        }
    }
}

/// Shortest ways down and up a line.
#[derive(Debug, Default)]
struct Sweep {
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
    fn trees(&mut self, block: &Block, root: usize, direct: &mut [Option<Side>], trees: &mut BlockTrees) {
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
