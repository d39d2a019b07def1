//! The overlay as computations over all pairs of relays see it: relays by their place in the order of indices, and links by
//! their ends' places, in plain arrays.

use super::risks::Risks;
use crate::history::PriceChange;
use crate::topology::{Topology, Transit};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use wire_format::NodeIndex;

/// A link that works both ways, seen from one end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hop {
    /// Place of the other end.
    pub to: u32,
    /// Cost towards it, in microseconds.
    pub out_us: u32,
    /// Cost back from it, in microseconds.
    pub back_us: u32,
}

impl Hop {
    /// Cost of both directions together.
    pub(super) fn round_us(&self) -> u64 {
        u64::from(self.out_us) + u64::from(self.back_us)
    }
}

/// A link in one direction, seen from one end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Link {
    /// Place of the other end.
    pub other: u32,
    /// What it costs, in microseconds: at most `u32::MAX`, over an hour.
    pub cost_us: u32,
}

/// A link that is another in a newer mesh of the same relays; `None` where there was none, or is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LinkChange {
    pub from: usize,
    pub to: usize,
    pub before_us: Option<u32>,
    pub after_us: Option<u32>,
}

impl LinkChange {
    /// Whether the link is gone, or dearer now.
    pub(super) fn is_worse(&self) -> bool {
        match (self.before_us, self.after_us) {
            (Some(before_us), Some(after_us)) => before_us < after_us,
            (Some(_), None) => true,
            (None, _) => false,
        }
    }
}

/// Lists of all places, one after the other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Lists<T> {
    /// By place: where its list begins; at the end, where the last one ends.
    begins: Vec<u32>,
    items: Vec<T>,
}

impl<T> Default for Lists<T> {
    fn default() -> Lists<T> {
        Lists { begins: vec![0], items: Vec::new() }
    }
}

impl<T> Lists<T> {
    /// The list of the next place.
    pub(super) fn push(&mut self, list: impl IntoIterator<Item = T>) {
        self.items.extend(list);
        self.begins.push(u32::try_from(self.items.len()).expect("65,536 relays have at most 2^32 links"));
    }

    pub(super) fn of(&self, place: usize) -> &[T] {
        &self.items[self.range(place)]
    }

    fn of_mut(&mut self, place: usize) -> &mut [T] {
        let range = self.range(place);
        &mut self.items[range]
    }

    pub(super) fn all(&self) -> &[T] {
        &self.items
    }

    /// How many lists there are.
    pub(super) fn len(&self) -> usize {
        self.begins.len() - 1
    }

    fn range(&self, place: usize) -> Range<usize> {
        self.begins[place] as usize..self.begins[place + 1] as usize
    }
}

impl<T: Clone> Lists<T> {
    /// The same but for some lists, in ascending order of their places.
    pub(super) fn with(&self, others: &[(usize, Vec<T>)]) -> Lists<T> {
        let mut lists = Lists {
            begins: Vec::with_capacity(self.begins.len()),
            items: Vec::with_capacity(self.items.len()),
        };
        let mut from = 0;
        for (place, other) in others {
            lists.take_over(self, from..*place);
            lists.begins.push(lists.items.len() as u32);
            lists.items.extend_from_slice(other);
            from = place + 1;
        }
        lists.take_over(self, from..self.len());
        lists.begins.push(u32::try_from(lists.items.len()).expect("65,536 relays have at most 2^32 links"));
        lists
    }

    /// Appends some lists of another, without where the last one ends.
    fn take_over(&mut self, other: &Lists<T>, places: Range<usize>) {
        let first = other.begins[places.start];
        let begin = self.items.len() as u32;
        self.begins.extend(other.begins[places.clone()].iter().map(|at| at - first + begin));
        self.items.extend_from_slice(&other.items[first as usize..other.begins[places.end] as usize]);
    }
}

impl Lists<Link> {
    /// Links by one of their ends, each list in the order in which they come.
    fn grouped(len: usize, links: impl Iterator<Item = (u32, Link)> + Clone) -> Lists<Link> {
        let mut begins = vec![0; len + 1];
        for (place, _) in links.clone() {
            begins[place as usize + 1] += 1;
        }
        for place in 0..len {
            begins[place + 1] += begins[place];
        }
        let mut filled = begins.clone();
        let mut items = vec![Link { other: 0, cost_us: 0 }; begins[len] as usize];
        for (place, link) in links {
            let at = &mut filled[place as usize];
            items[*at as usize] = link;
            *at += 1;
        }
        Lists { begins, items }
    }

    /// The same links by their other ends, each list ascending.
    fn turned(&self) -> Lists<Link> {
        let len = self.begins.len() - 1;
        let links = (0..len).flat_map(|place| {
            let turn = move |link: &Link| (link.other, Link { other: place as u32, cost_us: link.cost_us });
            self.of(place).iter().map(turn)
        });
        Lists::grouped(len, links)
    }
}

/// Relays in ascending order, and what leads from each to others.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Mesh {
    relays: Vec<NodeIndex>,
    transit: Vec<Transit>,
    risks: Arc<Risks>,
    /// By place: where links lead and what they cost, ascending, whether they lead back or not.
    out: Lists<Link>,
    /// The same links by where they lead, the cheapest first.
    into: Lists<Link>,
    /// By place: links that lead both ways, ascending.
    hops: Lists<Hop>,
}

impl Mesh {
    /// All that is in a topology.
    pub(crate) fn of(topology: &Topology) -> Mesh {
        let (relays, transit): (Vec<NodeIndex>, Vec<Transit>) = topology.transits().unzip();
        let out = links_out(topology, relays.len());
        let risks = Arc::new(Risks::of(topology, &relays));
        let mut mesh = Mesh { relays, transit, risks, into: out.turned(), out, hops: Lists::default() };
        for place in 0..mesh.len() {
            mesh.into.of_mut(place).sort_unstable_by_key(cheapest_first);
            let hops = mesh.hops_of(place);
            mesh.hops.push(hops);
        }
        mesh
    }

    /// The same from a mesh before and what is another since then; `None` if other relays are there, or may be passed, or
    /// they are in other groups.
    pub(super) fn following(before: &Mesh, topology: &Topology) -> Option<(Mesh, Vec<LinkChange>)> {
        let (relays, transit): (Vec<NodeIndex>, Vec<Transit>) = topology.transits().unzip();
        if before.relays != relays
            || before.transit != transit
            || *before.risks != Risks::of(topology, &relays)
        {
            return None;
        }
        let risks = Arc::clone(&before.risks);
        let out = links_out(topology, relays.len());
        let changes = changes(&before.out, &out);
        let mut by_end = changes.clone();
        by_end.sort_unstable_by_key(|change| (change.to, change.from));
        let into_changed = |changed: &[LinkChange]| {
            let to = changed[0].to;
            let is_changed = |link: &Link| {
                changed.binary_search_by_key(&(link.other as usize), |change| change.from).is_ok()
            };
            let kept = before.into.of(to).iter().filter(|link| !is_changed(link)).copied();
            let new = changed
                .iter()
                .filter_map(|change| Some(Link { other: change.from as u32, cost_us: change.after_us? }));
            let mut links: Vec<Link> = kept.chain(new).collect();
            links.sort_unstable_by_key(cheapest_first);
            (to, links)
        };
        let into: Vec<_> = by_end.chunk_by(|one, other| one.to == other.to).map(into_changed).collect();
        let into = before.into.with(&into);
        let mut mesh = Mesh { relays, transit, risks, out, into, hops: Lists::default() };
        let hops: Vec<_> = ends(&changes).into_iter().map(|place| (place, mesh.hops_of(place))).collect();
        mesh.hops = before.hops.with(&hops);
        Some((mesh, changes))
    }

    /// Links of a relay that lead both ways, from the links in one direction.
    fn hops_of(&self, place: usize) -> Vec<Hop> {
        let links = self.out.of(place).iter().filter(|link| link.other as usize != place);
        let hop = |link: &Link| {
            let back_us = self.link_us(link.other as usize, place)?;
            Some(Hop { to: link.other, out_us: link.cost_us, back_us })
        };
        links.filter_map(hop).collect()
    }

    /// How many relays there are. Places are below this.
    pub(crate) fn len(&self) -> usize {
        self.relays.len()
    }

    /// The relay at a place.
    pub(crate) fn relay(&self, place: usize) -> NodeIndex {
        self.relays[place]
    }

    /// Where a relay is.
    pub(crate) fn place(&self, relay: NodeIndex) -> Option<usize> {
        self.relays.binary_search(&relay).ok()
    }

    /// Links of a relay that work both ways, ascending.
    pub(crate) fn hops(&self, place: usize) -> &[Hop] {
        self.hops.of(place)
    }

    /// Links that lead away from a relay, ascending by where they lead.
    pub(super) fn links_from(&self, place: usize) -> &[Link] {
        self.out.of(place)
    }

    /// Links that lead to a relay, the cheapest first.
    pub(super) fn links_to(&self, place: usize) -> &[Link] {
        self.into.of(place)
    }

    /// What a link costs in one direction; `None` if there is none.
    pub(crate) fn cost_us(&self, from: usize, to: usize) -> Option<u64> {
        self.link_us(from, to).map(u64::from)
    }

    fn link_us(&self, from: usize, to: usize) -> Option<u32> {
        let links = self.out.of(from);
        let at = links.binary_search_by_key(&to, |link| link.other as usize).ok()?;
        Some(links[at].cost_us)
    }

    /// All links in all directions: from, to, cost.
    pub(crate) fn links(&self) -> impl Iterator<Item = (NodeIndex, NodeIndex, u64)> + '_ {
        self.relays.iter().flat_map(|from| self.links_of(*from).map(|(to, cost_us)| (*from, to, cost_us)))
    }

    /// How many links there are, each direction by itself.
    pub(super) fn link_count(&self) -> usize {
        self.out.all().len()
    }

    /// What a link costs on average, one direction; 0 without links.
    pub(super) fn mean_us(&self) -> u64 {
        let whole_us: u64 = self.out.all().iter().map(|link| u64::from(link.cost_us)).sum();
        whole_us / self.link_count().max(1) as u64
    }

    /// Links of a relay, ascending: to, cost.
    fn links_of(&self, relay: NodeIndex) -> impl Iterator<Item = (NodeIndex, u64)> + '_ {
        let links = self.place(relay).map(|place| self.out.of(place).iter());
        let by_index = |link: &Link| (self.relays[link.other as usize], u64::from(link.cost_us));
        links.into_iter().flatten().map(by_index)
    }

    /// Links whose price is another in `newer`, or that are missing in one of the two.
    pub(crate) fn price_changes(&self, newer: &Mesh) -> Vec<PriceChange> {
        let mut changes = Vec::new();
        let relays: BTreeSet<NodeIndex> = self.relays.iter().chain(&newer.relays).copied().collect();
        for from in relays {
            let pairs = paired(self.links_of(from), newer.links_of(from));
            let changed = pairs.into_iter().filter(|(_, before_us, after_us)| before_us != after_us);
            changes.extend(changed.map(|(to, before_us, after_us)| PriceChange {
                from,
                to,
                before_us,
                after_us,
            }));
        }
        changes
    }

    /// The same by places, for a mesh of the same relays.
    #[cfg(test)]
    pub(super) fn changes(&self, newer: &Mesh) -> Vec<LinkChange> {
        changes(&self.out, &newer.out)
    }

    /// Whether a relay may carry what is meant for others.
    pub(crate) fn is_passable(&self, place: usize) -> bool {
        self.transit[place] != Transit::Never
    }

    /// Who may fail together.
    pub(super) fn risks(&self) -> &Risks {
        &self.risks
    }

    /// What passing a relay costs beside the links.
    pub(crate) fn price_us(&self, place: usize) -> u64 {
        self.transit[place].price_us()
    }

    /// Whether the same relays are in both, so that places in them mean the same.
    pub(crate) fn has_relays_of(&self, other: &Mesh) -> bool {
        self.relays == other.relays
    }

    /// Whether the same relays are in both, and may be passed alike.
    #[cfg(test)]
    pub(super) fn is_passed_like(&self, other: &Mesh) -> bool {
        self.relays == other.relays && self.transit == other.transit && self.risks == other.risks
    }
}

/// Links of a topology by where they begin, ascending by where they lead.
fn links_out(topology: &Topology, len: usize) -> Lists<Link> {
    let links = topology.links_by_rank();
    let known = links.iter().map(|&(from, to, cost_us)| {
        (from, Link { other: to, cost_us: u32::try_from(cost_us).unwrap_or(u32::MAX) })
    });
    let mut out = Lists::grouped(len, known);
    let mut several = false;
    for place in 0..len {
        let links = out.of_mut(place);
        links.sort_unstable_by_key(|link| (link.other, link.cost_us));
        several |= links.windows(2).any(|pair| pair[0].other == pair[1].other);
    }
    if !several {
        return out;
    }
    // Of several links between the same two the cheapest counts.
    let mut single = Lists::default();
    for place in 0..len {
        let mut links = out.of(place).to_vec();
        links.dedup_by_key(|link| link.other);
        single.push(links);
    }
    single
}

fn cheapest_first(link: &Link) -> (u32, u32) {
    (link.cost_us, link.other)
}

/// Links that are others in newer lists of the same relays, by where they begin and lead.
fn changes(before: &Lists<Link>, now: &Lists<Link>) -> Vec<LinkChange> {
    let mut changes = Vec::new();
    for from in (0..before.len()).filter(|from| before.of(*from) != now.of(*from)) {
        let costs = |lists: &Lists<Link>| -> Vec<(usize, u32)> {
            lists.of(from).iter().map(|link| (link.other as usize, link.cost_us)).collect()
        };
        let pairs = paired(costs(before).into_iter(), costs(now).into_iter());
        let changed = pairs.into_iter().filter(|(_, before_us, after_us)| before_us != after_us);
        changes.extend(changed.map(|(to, before_us, after_us)| LinkChange { from, to, before_us, after_us }));
    }
    changes
}

/// Both ends of some links, ascending.
pub(super) fn ends(changes: &[LinkChange]) -> BTreeSet<usize> {
    changes.iter().flat_map(|change| [change.from, change.to]).collect()
}

/// What two ascending lists say of each key.
fn paired<K: Ord + Copy, V>(
    one: impl Iterator<Item = (K, V)>,
    other: impl Iterator<Item = (K, V)>,
) -> Vec<(K, Option<V>, Option<V>)> {
    let (mut one, mut other) = (one.peekable(), other.peekable());
    let mut pairs = Vec::new();
    while let Some(key) = [one.peek(), other.peek()].into_iter().flatten().map(|(key, _)| *key).min() {
        let value = one.next_if(|item| item.0 == key).map(|item| item.1);
        pairs.push((key, value, other.next_if(|item| item.0 == key).map(|item| item.1)));
    }
    pairs
}
