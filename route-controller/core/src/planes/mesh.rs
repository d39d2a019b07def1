//! The overlay as the redundant planes see it: relays by their place in the order of indices, and links by their ends'
//! places. Computations over all pairs of relays run over plain arrays.

use crate::history::PriceChange;
use crate::topology::{Topology, Transit};
use std::collections::BTreeSet;
use wire_format::NodeIndex;

/// A link that works both ways, seen from one end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hop {
    /// Place of the other end.
    pub to: usize,
    /// Cost towards it.
    pub out_us: u64,
    /// Cost back from it.
    pub back_us: u64,
}

/// Relays in ascending order, and what leads from each to others.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Mesh {
    relays: Vec<NodeIndex>,
    transit: Vec<Transit>,
    /// By place: where links lead and what they cost, ascending, whether they lead back or not.
    links: Vec<Vec<(usize, u64)>>,
    /// By place: links that lead both ways, ascending.
    hops: Vec<Vec<Hop>>,
}

impl Mesh {
    /// All that is in a topology.
    pub(crate) fn of(topology: &Topology) -> Mesh {
        let (relays, transit): (Vec<NodeIndex>, Vec<Transit>) = topology.transits().unzip();
        let mut mesh = Mesh { links: vec![Vec::new(); relays.len()], relays, transit, hops: Vec::new() };
        for (from, to, cost_us) in topology.links() {
            if let (Some(from), Some(to)) = (mesh.place(from), mesh.place(to)) {
                mesh.links[from].push((to, cost_us));
            }
        }
        for links in &mut mesh.links {
            links.sort_unstable();
            links.dedup_by_key(|(to, _)| *to);
        }
        let both_ways = |from: usize| {
            let links = mesh.links[from].iter().filter(|(to, _)| *to != from);
            links
                .filter_map(|&(to, out_us)| Some(Hop { to, out_us, back_us: mesh.cost_us(to, from)? }))
                .collect()
        };
        mesh.hops = (0..mesh.len()).map(both_ways).collect();
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
        &self.hops[place]
    }

    /// What a link costs in one direction; `None` if there is none.
    pub(crate) fn cost_us(&self, from: usize, to: usize) -> Option<u64> {
        let links = &self.links[from];
        links.binary_search_by_key(&to, |(to, _)| *to).ok().map(|at| links[at].1)
    }

    /// All links in all directions: from, to, cost.
    pub(crate) fn links(&self) -> impl Iterator<Item = (NodeIndex, NodeIndex, u64)> + '_ {
        self.links.iter().enumerate().flat_map(move |(from, links)| {
            links.iter().map(move |&(to, cost_us)| (self.relays[from], self.relays[to], cost_us))
        })
    }

    /// The same by places.
    pub(super) fn links_by_place(&self) -> impl Iterator<Item = (usize, usize, u64)> + '_ {
        let links = self.links.iter().enumerate();
        links.flat_map(|(from, links)| links.iter().map(move |&(to, cost_us)| (from, to, cost_us)))
    }

    /// Links of a relay, ascending: to, cost.
    fn links_of(&self, relay: NodeIndex) -> impl Iterator<Item = (NodeIndex, u64)> + '_ {
        let links = self.place(relay).map(|place| self.links[place].iter());
        links.into_iter().flatten().map(|&(to, cost_us)| (self.relays[to], cost_us))
    }

    /// Links whose price is another in `newer`, or that are missing in one of the two.
    pub(crate) fn price_changes(&self, newer: &Mesh) -> Vec<PriceChange> {
        let mut changes = Vec::new();
        let relays: BTreeSet<NodeIndex> = self.relays.iter().chain(&newer.relays).copied().collect();
        for from in relays {
            let (mut before, mut after) = (self.links_of(from).peekable(), newer.links_of(from).peekable());
            while let Some(to) = [before.peek(), after.peek()].into_iter().flatten().map(|(to, _)| *to).min()
            {
                let before_us = before.next_if(|link| link.0 == to).map(|(_, cost_us)| cost_us);
                let after_us = after.next_if(|link| link.0 == to).map(|(_, cost_us)| cost_us);
                if before_us != after_us {
                    changes.push(PriceChange { from, to, before_us, after_us });
                }
            }
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

    /// Whether the same relays are joined by the same links, whatever they cost.
    pub(crate) fn is_joined_like(&self, other: &Mesh) -> bool {
        let ends = |links: &[(usize, u64)], others: &[(usize, u64)]| {
            links.len() == others.len() && links.iter().zip(others).all(|(one, other)| one.0 == other.0)
        };
        self.relays == other.relays
            && self.transit == other.transit
            && self.links.iter().zip(&other.links).all(|(links, others)| ends(links, others))
    }
}
