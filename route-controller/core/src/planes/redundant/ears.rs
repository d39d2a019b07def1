//! The line of a block, ear by ear, the cheapest first.

use super::{Side, fill};
use crate::planes::blocks::{Block, Link, for_ears};
use crate::planes::order::Order;
use crate::planes::risks::{Groups, SHARED_US};
use crate::planes::shortest::Ways;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// How much later an ear comes that shares a group of relays that may fail together with the shortest path beside it.
const SHARED_EAR_US: u32 = 4 * SHARED_US as u32;
/// No link of a block has this number.
const NO_LINK: u32 = u32::MAX;

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
pub(super) struct Ears {
    root: u32,
    /// Cost of the shortest path, and the same with what passing the relay costs, both in the range of ears.
    distance_us: Vec<u32>,
    end_us: Vec<u32>,
    /// The next relay on the shortest path, how many hops it has, and which neighbour of the root it comes by.
    parent: Vec<u32>,
    depth: Vec<u32>,
    limb: Vec<u32>,
    pub(super) order: Order,
    in_line: Vec<bool>,
    /// What the shortest path passes, with the relay itself and without, but for what the root is in; empty without groups.
    passed: Vec<[Groups; 2]>,
    left: usize,
    /// Which tree got the link to the root, for those whose ear ended there.
    pub(super) direct: Vec<Option<Side>>,
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

impl Ears {
    pub(super) fn begin(&mut self, block: &Block, root: usize) {
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
    pub(super) fn grow(&mut self, block: &Block, ways: Option<&Ways>) {
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
        for place in crate::planes::outwards(&ways.next) {
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
