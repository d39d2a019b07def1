//! The overlay as computations over all pairs of relays see it: relays by their place in the order of indices, and links by
//! their ends' places, in plain arrays.

use crate::history::PriceChange;
use crate::topology::{Topology, Transit};
use std::collections::BTreeSet;
use std::ops::Range;
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

    fn range(&self, place: usize) -> Range<usize> {
        self.begins[place] as usize..self.begins[place + 1] as usize
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
        let links = topology.links_by_rank();
        let known = links.iter().map(|&(from, to, cost_us)| {
            (to, Link { other: from, cost_us: u32::try_from(cost_us).unwrap_or(u32::MAX) })
        });
        // Grouped by one end and then by the other, they are in order.
        let unsure = Lists::grouped(relays.len(), known).turned();
        let mut out = Lists::default();
        for place in 0..relays.len() {
            let mut links = unsure.of(place).to_vec();
            // Of several links between the same two the cheapest counts.
            links.sort_unstable_by_key(|link| (link.other, link.cost_us));
            links.dedup_by_key(|link| link.other);
            out.push(links);
        }
        let into = out.turned();
        let mut mesh = Mesh { relays, transit, out, into, hops: Lists::default() };
        for place in 0..mesh.len() {
            let mut back = mesh.into.of(place).iter().peekable();
            let hops: Vec<Hop> = mesh
                .out
                .of(place)
                .iter()
                .filter_map(|link| {
                    while back.next_if(|back| back.other < link.other).is_some() {}
                    let back = back.next_if(|back| back.other == link.other)?;
                    Some(Hop { to: link.other, out_us: link.cost_us, back_us: back.cost_us })
                })
                .filter(|hop| hop.to as usize != place)
                .collect();
            mesh.hops.push(hops);
        }
        for place in 0..mesh.len() {
            mesh.into.of_mut(place).sort_unstable_by_key(|link| (link.cost_us, link.other));
        }
        mesh
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
        let links = self.out.of(from);
        let at = links.binary_search_by_key(&to, |link| link.other as usize).ok()?;
        Some(u64::from(links[at].cost_us))
    }

    /// All links in all directions: from, to, cost.
    pub(crate) fn links(&self) -> impl Iterator<Item = (NodeIndex, NodeIndex, u64)> + '_ {
        self.relays.iter().flat_map(|from| self.links_of(*from).map(|(to, cost_us)| (*from, to, cost_us)))
    }

    /// How many links there are, each direction by itself.
    pub(super) fn link_count(&self) -> usize {
        self.out.all().len()
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
    pub(super) fn changes(&self, newer: &Mesh) -> Vec<LinkChange> {
        let mut changes = Vec::new();
        for from in (0..self.len()).filter(|from| self.out.of(*from) != newer.out.of(*from)) {
            let costs = |mesh: &'_ Mesh| -> Vec<(usize, u32)> {
                mesh.out.of(from).iter().map(|link| (link.other as usize, link.cost_us)).collect()
            };
            let pairs = paired(costs(self).into_iter(), costs(newer).into_iter());
            let changed = pairs.into_iter().filter(|(_, before_us, after_us)| before_us != after_us);
            changes.extend(changed.map(|(to, before_us, after_us)| LinkChange {
                from,
                to,
                before_us,
                after_us,
            }));
        }
        changes
    }

    /// Whether a relay may carry what is meant for others.
    pub(crate) fn is_passable(&self, place: usize) -> bool {
        self.transit[place] != Transit::Never
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
    pub(super) fn is_passed_like(&self, other: &Mesh) -> bool {
        self.relays == other.relays && self.transit == other.transit
    }
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
