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

use super::blocks::{Block, Link};
use super::order::Order;
use super::shortest::Ways;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// More than any way costs, and little enough to be added to.
const CLOSED_US: u64 = u64::MAX / 2;

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
#[derive(Clone, Debug)]
pub(crate) struct BlockTrees {
    /// All relays but the root, from the low end to the high end.
    pub order: Vec<usize>,
    /// By place; the root's own has no meaning.
    pub red: Vec<Branch>,
    /// By place; the root's own has no meaning.
    pub blue: Vec<Branch>,
}

impl BlockTrees {
    /// The trees towards the relay of the block that is at place `root`.
    /// `ways` are the shortest ones there, where they are known.
    pub(super) fn towards(block: &Block, root: usize, ways: Option<&Ways>) -> BlockTrees {
        let mut ears = Ears::new(block, root);
        if block.len() == 2 {
            // A bridge: both go over it, at different times.
            ears.order.insert_above(root, &[1 - root]);
        } else {
            ears.grow(ways);
        }
        let order: Vec<usize> = ears.order.iter().collect();
        debug_assert_eq!(order.len() + 1, block.len(), "every relay of a block is on an ear");
        Sweep::new(block, root, order, ears.direct).trees()
    }
}

/// Links by what their ears cost, not quite in order: most of a dense overlay are never asked for.
#[derive(Clone, Debug, Default)]
struct Buckets {
    /// Those of the cheapest bucket last.
    links: Vec<(u64, u32)>,
    /// Where each bucket begins, the cheapest one last.
    begins: Vec<u32>,
}

impl Buckets {
    const COUNT: u64 = 512;

    fn new(links: Vec<(u64, u32)>) -> Buckets {
        let (least_us, most_us) =
            links.iter().fold((u64::MAX, 0), |(least, most), link| (least.min(link.0), most.max(link.0)));
        let width_us = (most_us.saturating_sub(least_us) / Buckets::COUNT) + 1;
        // The dearest first. Division is slow: a power of two at least as wide does.
        let shift = width_us.next_power_of_two().trailing_zeros();
        let count = (most_us.saturating_sub(least_us) >> shift) as usize + 1;
        let bucket = |cost_us: u64| count - 1 - ((cost_us - least_us) >> shift) as usize;
        let mut filled = vec![0_u32; count + 1];
        for (cost_us, _) in &links {
            filled[bucket(*cost_us) + 1] += 1;
        }
        for at in 0..count {
            filled[at + 1] += filled[at];
        }
        let begins = filled[..count].to_vec();
        let mut sorted = vec![(0, 0); links.len()];
        for link in links {
            let at = &mut filled[bucket(link.0)];
            sorted[*at as usize] = link;
            *at += 1;
        }
        Buckets { links: sorted, begins }
    }

    /// Appends the next bucket that has links which are still of use, dearest first.
    fn next_into(&mut self, cheapest: &mut Vec<(u64, u32)>, is_open: impl Fn(u32) -> bool) {
        while cheapest.is_empty()
            && let Some(begin) = self.begins.pop()
        {
            cheapest.extend(self.links.drain(begin as usize..).filter(|(_, number)| is_open(*number)));
            cheapest.sort_unstable_by(|one, other| other.cmp(one));
        }
    }
}

/// The tree of shortest paths towards the root, and the line that grows over it.
struct Ears<'a> {
    block: &'a Block,
    root: usize,
    /// By place: cost of the shortest path, the next relay on it and how many hops it has.
    distance_us: Vec<u64>,
    parent: Vec<usize>,
    depth: Vec<usize>,
    order: Order,
    in_line: Vec<bool>,
    left: usize,
    /// By place: which tree got the link to the root, for those whose ear ended there.
    direct: Vec<Option<Side>>,
    /// By place: about what the ways that the ears gave cost, down and up.
    down_us: Vec<u64>,
    up_us: Vec<u64>,
    /// By place: which neighbour of the root its shortest path comes by, itself if it is one.
    limb: Vec<usize>,
    /// Links that may complete an ear, each with what that costs: the cheapest ones, dearest first; the rest; and those that
    /// waited for a relay to be in the line.
    cheapest: Vec<(u64, u32)>,
    waiting: Buckets,
    returned: BinaryHeap<Reverse<(u64, u32)>>,
    /// By place: numbers of links that complete no ear until this relay is in the line.
    parked: Vec<Vec<u32>>,
}

impl<'a> Ears<'a> {
    fn new(block: &'a Block, root: usize) -> Ears<'a> {
        let len = block.len();
        let mut in_line = vec![false; len];
        in_line[root] = true;
        Ears {
            block,
            root,
            distance_us: vec![u64::MAX; len],
            parent: vec![root; len],
            depth: vec![0; len],
            order: Order::new(len, root),
            in_line,
            left: len - 1,
            direct: vec![None; len],
            down_us: vec![0; len],
            up_us: vec![0; len],
            limb: (0..len).collect(),
            cheapest: Vec::new(),
            waiting: Buckets::default(),
            returned: BinaryHeap::new(),
            parked: vec![Vec::new(); len],
        }
    }

    /// Links that are among the cheapest of one of their ends come first: mostly they suffice.
    fn grow(&mut self, ways: Option<&Ways>) {
        match ways {
            Some(ways) => self.take_shortest_paths(ways),
            None => self.find_shortest_paths(),
        }
        for near in [true, false] {
            if self.left > 0 {
                self.waiting = Buckets::new(self.candidates(near));
            }
            while self.left > 0
                && let Some(number) = self.cheapest_link()
            {
                self.consider(self.block.links()[number as usize], number);
            }
        }
    }

    /// Links that may complete an ear, each with what that costs.
    fn candidates(&self, near: bool) -> Vec<(u64, u32)> {
        let ends_us: Vec<u64> =
            (0..self.block.len()).map(|place| self.distance_us[place] + self.price_us(place)).collect();
        let candidate = |number: u32| {
            let link = &self.block.links()[number as usize];
            let (low, high) = (link.low as usize, link.high as usize);
            let is_in_tree = self.parent[low] == high || self.parent[high] == low;
            let of_no_use = is_in_tree || self.in_line[low] && self.in_line[high];
            (!of_no_use).then(|| (ends_us[low] + ends_us[high] + link.round_us, number))
        };
        if near {
            self.block.near_links().iter().filter_map(|number| candidate(*number)).collect()
        } else {
            (0..self.block.links().len() as u32).filter_map(candidate).collect()
        }
    }

    /// The next link by the cost of its ear; ties fall to the lower number.
    fn cheapest_link(&mut self) -> Option<u32> {
        if self.cheapest.is_empty() {
            let (links, in_line) = (self.block.links(), &self.in_line);
            let is_open = |link: &Link| !in_line[link.low as usize] || !in_line[link.high as usize];
            self.waiting.next_into(&mut self.cheapest, |number| is_open(&links[number as usize]));
        }
        let returned = self.returned.peek().map(|Reverse(link)| *link);
        match (self.cheapest.last().copied(), returned) {
            (Some(next), Some(returned)) if returned < next => self.returned.pop().map(|_| returned.1),
            (Some(_), _) => self.cheapest.pop().map(|(_, number)| number),
            (None, _) => self.returned.pop().map(|Reverse((_, number))| number),
        }
    }

    /// Puts the ear of a link into the line, if there is one.
    fn consider(&mut self, link: Link, number: u32) {
        if self.in_line[link.low as usize] && self.in_line[link.high as usize] {
            return;
        }
        match self.obstacles(link) {
            Some(obstacles) => {
                for place in obstacles.into_iter().flatten() {
                    self.parked[place].push(number);
                }
            }
            None => self.insert(link),
        }
    }

    /// What an ear costs that a link completes: both ways to the root, and there and back over the link.
    fn ear_us(&self, link: &Link) -> u64 {
        let end_us = |end: usize| self.distance_us[end] + self.price_us(end);
        end_us(link.low as usize) + end_us(link.high as usize) + link.round_us
    }

    /// They are known already.
    fn take_shortest_paths(&mut self, ways: &Ways) {
        self.distance_us.copy_from_slice(&ways.distances_us);
        for place in super::outwards(&ways.next) {
            let at = usize::from(ways.next[place]);
            self.parent[place] = at;
            self.limb[place] = if at == self.root { place } else { self.limb[at] };
            self.depth[place] = self.depth[at] + 1;
        }
    }

    /// Ties fall to the next hop with the lowest index.
    fn find_shortest_paths(&mut self) {
        self.distance_us[self.root] = 0;
        let mut open = BinaryHeap::from([Reverse((0, self.root as u32))]);
        while let Some(Reverse((distance_us, at))) = open.pop() {
            let at = at as usize;
            if distance_us > self.distance_us[at] {
                continue;
            }
            let onwards_us = distance_us + self.price_us(at);
            for hop in self.block.hops(at) {
                let (to, whole_us) = (hop.to as usize, onwards_us + u64::from(hop.back_us));
                let known_us = self.distance_us[to];
                if whole_us < known_us || (whole_us == known_us && at < self.parent[to]) {
                    self.parent[to] = at;
                    self.limb[to] = if at == self.root { to } else { self.limb[at] };
                    self.depth[to] = self.depth[at] + 1;
                    self.distance_us[to] = whole_us;
                    if whole_us < known_us {
                        open.push(Reverse((whole_us, hop.to)));
                    }
                }
            }
        }
    }

    fn price_us(&self, place: usize) -> u64 {
        if place == self.root { 0 } else { self.block.price_us(place) }
    }

    /// The branches of a link's ends meet somewhere. Unless that is the root, a relay of one branch below there must
    /// be in the line, or what the link completes would begin and end at the same relay. Those whose arrival in the
    /// line helps, or `None` if all is well.
    fn obstacles(&self, link: Link) -> Option<[Option<usize>; 2]> {
        let (mut low, mut high) = (link.low as usize, link.high as usize);
        if self.limb[low] != self.limb[high] {
            return None;
        }
        let mut below = [None, None];
        while low != high {
            let (low_depth, high_depth) = (self.depth[low], self.depth[high]);
            if low_depth >= high_depth {
                below[0] = Some(low);
                low = self.parent[low];
            }
            if high_depth >= low_depth {
                below[1] = Some(high);
                high = self.parent[high];
            }
        }
        let parted = below.into_iter().flatten().any(|place| self.in_line[place]);
        (low != self.root && !parted).then_some(below)
    }

    /// Puts into the line what is not yet in it of the branches of the link's ends.
    fn insert(&mut self, link: Link) {
        let one = self.climb(link.low as usize);
        let other = self.climb(link.high as usize);
        // At the root it is free which end of the line is meant: what goes on from the other end decides.
        let turned = match (one.end == self.root, other.end == self.root) {
            (true, true) => false,
            (true, false) => self.up_us[other.end] > self.down_us[other.end],
            (false, true) => self.down_us[one.end] > self.up_us[one.end],
            (false, false) => self.order.is_below(other.end, one.end),
        };
        let (low, high) = if turned { (other, one) } else { (one, other) };
        let low_part: Vec<usize> = low.places.iter().rev().copied().collect();
        // Ends of the line keep their distance from its middle: what has its shortest path over the root's link goes
        // to the outside, and whoever lies further in can use it.
        self.order.insert_above(if low.end == self.root { self.order.low_end() } else { low.end }, &low_part);
        let above = if high.end == self.root { self.order.high_end() } else { high.end };
        self.order.insert_below(above, &high.places);

        let ear: Vec<usize> = low_part.into_iter().chain(high.places).collect();
        if let (true, Some(first)) = (low.end == self.root, ear.first()) {
            self.direct[*first] = Some(Side::Red);
        }
        if let (true, Some(last)) = (high.end == self.root, ear.last()) {
            self.direct[*last] = Some(Side::Blue);
        }
        self.estimate(link, low.end, &ear, high.end);
        for place in ear {
            self.in_line[place] = true;
            self.left -= 1;
            for number in std::mem::take(&mut self.parked[place]) {
                let ear_us = self.ear_us(&self.block.links()[number as usize]);
                self.returned.push(Reverse((ear_us, number)));
            }
        }
    }

    /// The branch of a relay up to the first in the line.
    fn climb(&self, from: usize) -> Climb {
        let mut places = Vec::new();
        let mut at = from;
        while !self.in_line[at] {
            places.push(at);
            at = self.parent[at];
        }
        Climb { places, end: at }
    }

    /// Both directions of a link are taken to be half of its round here: this only helps to choose.
    fn estimate(&mut self, link: Link, low_end: usize, ear: &[usize], high_end: usize) {
        let ends = (link.low as usize, link.high as usize);
        let step_us = |one: usize, other: usize| {
            if ends == (one, other) || ends == (other, one) {
                link.round_us / 2
            } else {
                self.distance_us[one].abs_diff(self.distance_us[other])
            }
        };
        let mut down_us = if low_end == self.root { 0 } else { self.down_us[low_end] };
        let mut before = low_end;
        let mut downs_us = Vec::with_capacity(ear.len());
        for &place in ear {
            down_us += step_us(place, before) + self.price_us(before);
            downs_us.push(down_us);
            before = place;
        }
        let mut up_us = if high_end == self.root { 0 } else { self.up_us[high_end] };
        before = high_end;
        let mut ups_us = Vec::with_capacity(ear.len());
        for &place in ear.iter().rev() {
            up_us += step_us(place, before) + self.price_us(before);
            ups_us.push(up_us);
            before = place;
        }
        for ((&place, down_us), up_us) in ear.iter().zip(downs_us).zip(ups_us.into_iter().rev()) {
            self.down_us[place] = down_us;
            self.up_us[place] = up_us;
        }
    }
}

/// A branch outside the line.
struct Climb {
    /// From the outside inwards.
    places: Vec<usize>,
    /// The relay in the line that it hangs on.
    end: usize,
}

/// Shortest ways down and up a line.
struct Sweep<'a> {
    block: &'a Block,
    root: usize,
    order: Vec<usize>,
    /// By place, from 1 on; the root has none.
    ranks: Vec<usize>,
    direct: Vec<Option<Side>>,
}

impl Sweep<'_> {
    fn new(block: &Block, root: usize, order: Vec<usize>, direct: Vec<Option<Side>>) -> Sweep<'_> {
        let mut ranks = vec![0; block.len()];
        for (at, place) in order.iter().enumerate() {
            ranks[*place] = at + 1;
        }
        Sweep { block, root, order, ranks, direct }
    }

    fn trees(mut self) -> BlockTrees {
        let mut undecided = self.assign_links_to_the_root();
        let (mut red, mut blue) = (self.sweep(Side::Red), self.sweep(Side::Blue));
        undecided.retain(|(place, direct_us)| {
            let (red_us, blue_us) = (red[*place].cost_us, blue[*place].cost_us);
            if red_us.max(blue_us) > *direct_us {
                self.direct[*place] = Some(if red_us >= blue_us { Side::Red } else { Side::Blue });
            }
            self.direct[*place].is_some()
        });
        if !undecided.is_empty() {
            (red, blue) = (self.sweep(Side::Red), self.sweep(Side::Blue));
        }
        BlockTrees { order: self.order, red, blue }
    }

    /// A link to the root leads down and up at once; only one tree may have it. Relays whose ear did not tell which,
    /// with what the link costs.
    fn assign_links_to_the_root(&mut self) -> Vec<(usize, u64)> {
        let mut undecided = Vec::new();
        for &place in &self.order {
            let hops = self.block.hops(place);
            let Ok(at) = hops.binary_search_by_key(&self.root, |hop| hop.to as usize) else { continue };
            let others = |below: bool| {
                let mut others = hops.iter().map(|hop| hop.to as usize).filter(|other| *other != self.root);
                others.any(|other| (self.ranks[other] < self.ranks[place]) == below)
            };
            match (others(true), others(false)) {
                (false, _) => self.direct[place] = Some(Side::Red),
                (true, false) => self.direct[place] = Some(Side::Blue),
                (true, true) if self.direct[place].is_none() => {
                    undecided.push((place, u64::from(hops[at].out_us)))
                }
                (true, true) => {}
            }
        }
        undecided
    }

    /// The shortest ways of one tree; ties fall to the next hop with the lowest index.
    fn sweep(&self, side: Side) -> Vec<Branch> {
        let mut tree = vec![Branch { next: self.root as u32, cost_us: u64::MAX }; self.block.len()];
        // By place: what a way costs from there on, its passing included. Who has not had its turn is not open.
        let mut onwards_us = vec![CLOSED_US; self.block.len()];
        for at in 0..self.order.len() {
            let place = match side {
                Side::Red => self.order[at],
                Side::Blue => self.order[self.order.len() - 1 - at],
            };
            let may_end = self.direct[place] == Some(side) || self.block.len() == 2;
            onwards_us[self.root] = if may_end { 0 } else { CLOSED_US };
            let (mut cost_us, mut next) = (CLOSED_US, u32::MAX);
            for hop in self.block.cheapest_hops(place) {
                if u64::from(hop.out_us) > cost_us {
                    break;
                }
                let whole_us = u64::from(hop.out_us) + onwards_us[hop.to as usize];
                if (whole_us, hop.to) < (cost_us, next) {
                    (cost_us, next) = (whole_us, hop.to);
                }
            }
            if cost_us < CLOSED_US {
                tree[place] = Branch { next, cost_us };
                onwards_us[place] = self.block.price_us(place) + cost_us;
            }
        }
        tree
    }
}
