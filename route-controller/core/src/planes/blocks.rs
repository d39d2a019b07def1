//! Blocks: the parts of the overlay that no single relay holds together.
//!
//! Two links are in one block if a circle passes both. Blocks meet in cut vertices, and a block of two relays is a
//! bridge. Within a block of three relays or more, two ways that share nothing lead from each relay to each other; what
//! two ways from one block to another must share are the cut vertices and bridges between. Found by the search of
//! Hopcroft and Tarjan (Algorithm 447, 1973).

use super::mesh::{Hop, LinkChange, Lists, Mesh, ends};
use super::risks::Groups;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use wire_format::NodeIndex;

/// A link within a block, by the places of its ends in it, `low` below `high`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Link {
    pub low: u32,
    pub high: u32,
    /// Cost of both directions together, or [`EAR_US_MAX`] if that is less.
    pub round_us: u32,
}

/// A way out of a relay, by the place of the other end in the block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Exit {
    pub out_us: u32,
    pub to: u32,
}

/// One block as a graph of its own. Its relays have places in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Block {
    /// By place in the block: place in the mesh. Ascending.
    members: Vec<usize>,
    hops: Lists<Hop>,
    /// The same, cheapest out first.
    cheapest: Lists<Exit>,
    links: Vec<Link>,
    /// By place: what its dearest near link costs, there and back.
    near_us: Vec<u64>,
    near: Vec<u32>,
    prices_us: Vec<u64>,
    /// By place, or empty if the overlay has none: groups of relays that may fail together.
    groups: Vec<Groups>,
}

/// How many of its links, there and back, are a relay's cheapest.
const NEAR: usize = 32;
/// What is dearer counts as this where links and ways are only compared: so much that a sum of three fits 32 bits.
pub(super) const EAR_US_MAX: u32 = 1 << 30;

/// Brings a cost to the range in which ears are compared.
pub(super) fn for_ears(cost_us: u64) -> u32 {
    cost_us.min(u64::from(EAR_US_MAX)) as u32
}

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
    pub(super) fn cheapest_exits(&self, place: usize) -> &[Exit] {
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

    /// All of it from the mesh.
    fn of(mesh: &Mesh, members: Vec<usize>) -> Block {
        let prices_us = members.iter().map(|member| mesh.price_us(*member)).collect();
        let with_groups = members.iter().filter(|_| !mesh.risks().is_empty());
        let groups = with_groups.map(|member| mesh.risks().groups(*member)).collect();
        let mut block = Block {
            members,
            hops: Lists::default(),
            cheapest: Lists::default(),
            links: Vec::new(),
            near_us: Vec::new(),
            near: Vec::new(),
            prices_us,
            groups,
        };
        for place in 0..block.len() {
            let hops = block.hops_of(mesh, place);
            block.cheapest.push(cheapest_first(&hops));
            block.near_us.push(near_us(&hops));
            block.hops.push(hops);
        }
        block.find_links();
        block
    }

    /// The same relays where links of some of them have changed, by their places in the mesh.
    fn following(&self, mesh: &Mesh, changed: &BTreeSet<usize>) -> Block {
        let places = changed.iter().filter_map(|member| self.place_of(*member));
        let hops: Vec<_> = places.map(|place| (place, self.hops_of(mesh, place))).collect();
        let cheapest: Vec<_> = hops.iter().map(|(place, hops)| (*place, cheapest_first(hops))).collect();
        let mut block = Block {
            members: self.members.clone(),
            hops: self.hops.with(&hops),
            cheapest: self.cheapest.with(&cheapest),
            links: Vec::with_capacity(self.links.len()),
            near_us: self.near_us.clone(),
            near: Vec::with_capacity(self.near.len()),
            prices_us: self.prices_us.clone(),
            groups: self.groups.clone(),
        };
        for (place, hops) in hops {
            block.near_us[place] = near_us(&hops);
        }
        block.find_links();
        block
    }

    fn hops_of(&self, mesh: &Mesh, place: usize) -> Vec<Hop> {
        let hops = mesh.hops(self.members[place]);
        if self.len() == mesh.len() {
            return hops.to_vec();
        }
        let within = |hop: &Hop| Some(Hop { to: self.place_of(hop.to as usize)? as u32, ..*hop });
        hops.iter().filter_map(within).collect()
    }

    fn find_links(&mut self) {
        for low in 0..self.len() {
            let up = self.hops.of(low).iter().filter(|hop| hop.to as usize > low);
            for hop in up {
                let (high, round_us) = (hop.to, hop.round_us());
                if round_us <= self.near_us[low].max(self.near_us[high as usize]) {
                    self.near.push(self.links.len() as u32);
                }
                self.links.push(Link { low: low as u32, high, round_us: for_ears(round_us) });
            }
        }
    }

    /// By place, or empty if the overlay has none: groups of relays that may fail together.
    pub(super) fn groups(&self) -> &[Groups] {
        &self.groups
    }

    /// What passing a relay costs beside the links.
    pub(crate) fn price_us(&self, place: usize) -> u64 {
        self.prices_us[place]
    }
}

fn cheapest_first(hops: &[Hop]) -> Vec<Exit> {
    let mut exits: Vec<Exit> = hops.iter().map(|hop| Exit { out_us: hop.out_us, to: hop.to }).collect();
    exits.sort_unstable();
    exits
}

fn near_us(hops: &[Hop]) -> u64 {
    let mut rounds: Vec<u64> = hops.iter().map(Hop::round_us).collect();
    if rounds.len() <= NEAR { u64::MAX } else { *rounds.select_nth_unstable(NEAR - 1).1 }
}

/// All blocks of some relays and the links between them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Blocks {
    blocks: Vec<Arc<Block>>,
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
        // In an order that the search has no part in: the same blocks have the same numbers.
        search.found.sort_unstable();
        let mut of = vec![Vec::new(); mesh.len()];
        for (number, members) in search.found.iter().enumerate() {
            members.iter().for_each(|member| of[*member].push(number));
        }
        let block = |members| Arc::new(Block::of(mesh, members));
        Blocks { blocks: search.found.into_iter().map(block).collect(), of, component: search.component }
    }

    /// Blocks of the relays that may be passed.
    pub(super) fn of_passable(mesh: &Mesh) -> Blocks {
        Blocks::of(mesh, |place| mesh.is_passable(place))
    }

    /// The same from those of a mesh before, in which the same relays may be passed.
    pub(super) fn following(&self, mesh: &Mesh, changes: &[LinkChange]) -> Blocks {
        // A link that came or went in one direction may have joined relays, or have ceased to.
        if changes.iter().any(|change| change.before_us.is_none() != change.after_us.is_none()) {
            let mut search = Search::new(mesh.len());
            for start in (0..mesh.len()).filter(|start| mesh.is_passable(*start)) {
                search.explore(mesh, |place| mesh.is_passable(place), start);
            }
            search.found.sort_unstable();
            let are_same = |(found, block): (&Vec<usize>, &Arc<Block>)| *found == block.members;
            let same = search.found.len() == self.blocks.len() && search.component == self.component;
            if !same || !search.found.iter().zip(&self.blocks).all(are_same) {
                return Blocks::of_passable(mesh);
            }
        }
        let changed = ends(changes);
        let following = |block: &Arc<Block>| {
            let is_in = changed.iter().any(|member| block.place_of(*member).is_some());
            if is_in { Arc::new(block.following(mesh, &changed)) } else { Arc::clone(block) }
        };
        Blocks { blocks: self.blocks.iter().map(following).collect(), ..self.clone() }
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
