//! Blocks: the parts of the overlay that no single relay holds together.
//!
//! Two links are in one block if a circle passes both. Blocks meet in cut vertices, and a block of two relays is a
//! bridge. Within a block of three relays or more, two ways that share nothing lead from each relay to each other; what
//! two ways from one block to another must share are the cut vertices and bridges between. Found by the search of
//! Hopcroft and Tarjan (Algorithm 447, 1973).

use super::mesh::{Hop, Lists, Mesh};
use std::collections::{BTreeMap, BTreeSet};
use wire_format::NodeIndex;

/// A link within a block, by the places of its ends in it, `low` below `high`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub low: u32,
    pub high: u32,
    /// Cost of both directions together.
    pub round_us: u64,
}

/// One block as a graph of its own. Its relays have places in it.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// By place in the block: place in the mesh. Ascending.
    members: Vec<usize>,
    hops: Lists<Hop>,
    /// The same, cheapest out first.
    cheapest: Lists<Hop>,
    links: Vec<Link>,
    near: Vec<u32>,
    prices_us: Vec<u64>,
}

/// How many of its links, there and back, are a relay's cheapest.
const NEAR: usize = 32;

impl Block {
    /// How many relays it has, at least two.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Places in the mesh of its relays, ascending.
    pub(crate) fn members(&self) -> &[usize] {
        &self.members
    }

    /// The place in the block of a relay of it.
    pub(crate) fn place_of(&self, member: usize) -> Option<usize> {
        self.members.binary_search(&member).ok()
    }

    /// Links of a relay within the block, ascending.
    pub(crate) fn hops(&self, place: usize) -> &[Hop] {
        self.hops.of(place)
    }

    /// The same, the cheapest way out first; of equal ones the lowest place.
    pub(super) fn cheapest_hops(&self, place: usize) -> &[Hop] {
        self.cheapest.of(place)
    }

    /// All links, ascending.
    pub(crate) fn links(&self) -> &[Link] {
        &self.links
    }

    /// Numbers of the links that are among the cheapest of one of their ends, ascending.
    pub(super) fn near_links(&self) -> &[u32] {
        &self.near
    }

    /// Whether it is all of a mesh, with the same places.
    pub(super) fn is_all_of(&self, mesh: &Mesh) -> bool {
        self.len() == mesh.len() && self.hops.all().len() == mesh.link_count()
    }

    fn new(members: Vec<usize>, hops: Lists<Hop>, links: Vec<Link>, prices_us: Vec<u64>) -> Block {
        let mut cheapest = Lists::default();
        // By place: what its dearest near link costs.
        let mut near_us = Vec::with_capacity(members.len());
        for place in 0..members.len() {
            let mut sorted = hops.of(place).to_vec();
            sorted.sort_unstable_by_key(|hop| (hop.out_us, hop.to));
            cheapest.push(sorted);
            let mut rounds: Vec<u64> = hops.of(place).iter().map(Hop::round_us).collect();
            let all = rounds.len() <= NEAR;
            near_us.push(if all { u64::MAX } else { *rounds.select_nth_unstable(NEAR - 1).1 });
        }
        let is_near =
            |link: &Link| link.round_us <= near_us[link.low as usize].max(near_us[link.high as usize]);
        let near = (0..).zip(&links).filter(|(_, link)| is_near(link)).map(|(number, _)| number).collect();
        Block { members, hops, cheapest, links, near, prices_us }
    }

    /// What passing a relay costs beside the links.
    pub(crate) fn price_us(&self, place: usize) -> u64 {
        self.prices_us[place]
    }
}

/// All blocks of some relays and the links between them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blocks {
    blocks: Vec<Block>,
    /// By place in the mesh: the blocks that a relay is in, ascending.
    of: Vec<Vec<usize>>,
    /// By place in the mesh: relays with the same number reach each other. `None` outside.
    component: Vec<Option<usize>>,
}

impl Blocks {
    /// Blocks of those relays that `included` names.
    pub(crate) fn of(mesh: &Mesh, included: impl Fn(usize) -> bool) -> Blocks {
        let mut search = Search::new(mesh.len());
        for start in (0..mesh.len()).filter(|start| included(*start)) {
            search.explore(mesh, &included, start);
        }
        let mut blocks =
            Blocks { blocks: Vec::new(), of: vec![Vec::new(); mesh.len()], component: search.component };
        // In an order that the search has no part in: the same blocks have the same numbers.
        search.found.sort_unstable();
        let mut place = vec![u32::MAX; mesh.len()];
        for members in search.found {
            for (at, member) in members.iter().enumerate() {
                place[*member] = at as u32;
                blocks.of[*member].push(blocks.blocks.len());
            }
            let (mut hops, mut links) = (Lists::default(), Vec::new());
            for (low, member) in members.iter().enumerate() {
                let low = low as u32;
                let within = mesh.hops(*member).iter().filter(|hop| place[hop.to as usize] != u32::MAX);
                hops.push(within.map(|hop| Hop { to: place[hop.to as usize], ..*hop }));
                let up = hops.of(low as usize).iter().filter(|hop| hop.to > low);
                links.extend(up.map(|hop| Link { low, high: hop.to, round_us: hop.round_us() }));
            }
            let prices_us = members.iter().map(|member| mesh.price_us(*member)).collect();
            for member in &members {
                place[*member] = u32::MAX;
            }
            blocks.blocks.push(Block::new(members, hops, links, prices_us));
        }
        blocks
    }

    /// A block.
    pub(crate) fn block(&self, number: usize) -> &Block {
        &self.blocks[number]
    }

    /// Numbers of the blocks that a relay is in, ascending.
    pub(crate) fn of_place(&self, place: usize) -> &[usize] {
        &self.of[place]
    }

    /// The block that two relays are in; there is at most one.
    pub(super) fn common(&self, one: usize, other: usize) -> Option<usize> {
        self.of[one].iter().copied().find(|number| self.of[other].contains(number))
    }

    /// Whether the same relays make the same blocks in both.
    pub(super) fn are_like(&self, other: &Blocks) -> bool {
        self.of == other.of
    }
}

/// A search in depth, without recursion: a chain of a thousand relays would need as many calls.
struct Search {
    /// By place: when it was reached, from 1 on; 0 for not yet.
    reached: Vec<usize>,
    /// By place: the earliest reached of all that its subtree has a link to.
    low: Vec<usize>,
    component: Vec<Option<usize>>,
    /// Reached, and not in a block yet that is complete.
    trail: Vec<usize>,
    found: Vec<Vec<usize>>,
    count: usize,
}

impl Search {
    fn new(len: usize) -> Search {
        Search {
            reached: vec![0; len],
            low: vec![0; len],
            component: vec![None; len],
            trail: Vec::new(),
            found: Vec::new(),
            count: 0,
        }
    }

    fn explore(&mut self, mesh: &Mesh, included: impl Fn(usize) -> bool, start: usize) {
        if self.reached[start] > 0 {
            return;
        }
        self.trail.clear();
        let mut path = vec![(start, mesh.hops(start).iter())];
        self.reach(start, start);
        while let Some((at, hops)) = path.last_mut() {
            let at = *at;
            match hops.next() {
                Some(hop) if !included(hop.to as usize) => {}
                Some(hop) if self.reached[hop.to as usize] > 0 => {
                    self.low[at] = self.low[at].min(self.reached[hop.to as usize]);
                }
                Some(hop) => {
                    self.reach(hop.to as usize, start);
                    path.push((hop.to as usize, mesh.hops(hop.to as usize).iter()));
                }
                None => {
                    path.pop();
                    if let Some((above, _)) = path.last() {
                        self.leave(at, *above);
                    }
                }
            }
        }
    }

    fn reach(&mut self, place: usize, component: usize) {
        self.count += 1;
        self.reached[place] = self.count;
        self.low[place] = self.count;
        self.component[place] = Some(component);
        self.trail.push(place);
    }

    /// Everything beyond `at` is done. If nothing there leads past `above`, it is a block together with `above`.
    fn leave(&mut self, at: usize, above: usize) {
        self.low[above] = self.low[above].min(self.low[at]);
        if self.low[at] < self.reached[above] {
            return;
        }
        let from =
            self.trail.iter().rposition(|place| *place == at).expect("it is left once, so it is there");
        let mut members = self.trail.split_off(from);
        members.push(above);
        members.sort_unstable();
        self.found.push(members);
    }
}

/// What no route can go around: without it, relays that reach each other would not. A relay that must not be passed
/// joins nobody to anybody.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct WeakPoints {
    /// Links, the lower index first.
    pub bridges: BTreeSet<(NodeIndex, NodeIndex)>,
    /// Relays.
    pub cut_vertices: BTreeSet<NodeIndex>,
}

impl WeakPoints {
    /// Those of a mesh whose passable relays make these blocks.
    pub(super) fn of(mesh: &Mesh, core: &Blocks) -> WeakPoints {
        let mut weak = WeakPoints::default();
        for block in core.blocks.iter().filter(|block| block.len() == 2) {
            weak.add_bridge(mesh, block.members[0], block.members[1]);
        }
        let joints = (0..mesh.len()).filter(|place| core.of[*place].len() > 1);
        weak.cut_vertices.extend(joints.map(|place| mesh.relay(place)));
        weak.add_dead_ends(mesh, core);
        weak
    }

    /// Relays that must not be passed: what ties one to others alone is weak too.
    fn add_dead_ends(&mut self, mesh: &Mesh, core: &Blocks) {
        let ends: Vec<usize> = (0..mesh.len()).filter(|place| !mesh.is_passable(*place)).collect();
        // By relay that may be passed: the dead ends that have nobody else of its component.
        let mut hanging: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut reach: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for &end in &ends {
            let mut ties: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
            for hop in mesh.hops(end) {
                if let Some(component) = core.component[hop.to as usize] {
                    ties.entry(component).or_default().push(hop.to as usize);
                }
            }
            for joint in ties.values().filter(|joints| joints.len() == 1).map(|joints| joints[0]) {
                self.add_bridge(mesh, end, joint);
                hanging.entry(joint).or_default().push(end);
            }
            reach.insert(end, ties.into_keys().collect());
        }
        let apart = |one: &usize, other: &usize, without: usize| {
            let common = reach[one].intersection(&reach[other]).any(|component| *component != without);
            !common && !mesh.hops(*one).iter().any(|hop| hop.to as usize == *other)
        };
        for (&joint, hung) in &hanging {
            let own = core.component[joint].unwrap_or(joint);
            let pairs = hung
                .iter()
                .enumerate()
                .flat_map(|(at, one)| hung[..at].iter().map(move |other| (one, other)));
            if !core.of[joint].is_empty() || pairs.into_iter().any(|(one, other)| apart(one, other, own)) {
                self.cut_vertices.insert(mesh.relay(joint));
            }
        }
        for &end in &ends {
            let others = mesh.hops(end).iter().map(|hop| hop.to as usize);
            let later = others.filter(|other| *other > end && !mesh.is_passable(*other));
            for other in later.filter(|other| reach[&end].is_disjoint(&reach[other])) {
                self.add_bridge(mesh, end, other);
            }
        }
    }

    fn add_bridge(&mut self, mesh: &Mesh, one: usize, other: usize) {
        let (one, other) = (mesh.relay(one), mesh.relay(other));
        self.bridges.insert((one.min(other), one.max(other)));
    }
}
