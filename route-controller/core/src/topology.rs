//! The overlay as a weighted graph, at one moment.

use std::collections::BTreeMap;
use wire_format::NodeIndex;

/// Whether a relay may carry what is meant for others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Transit {
    /// Yes.
    Willing,
    /// Only where nothing else leads to the destination: it may not know new tables.
    Reluctant,
    /// No: it is a destination only.
    Never,
}

impl Transit {
    /// What passing such a relay costs on top.
    pub(crate) fn price_us(self) -> u64 {
        match self {
            Transit::Willing => 0,
            Transit::Reluctant | Transit::Never => RELUCTANCE_US,
        }
    }
}

/// What passing a reluctant relay costs on top: more than any path of willing ones.
const RELUCTANCE_US: u64 = 1_000_000_000_000;

/// Relays, and the directed links between them that routes may use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Topology {
    relays: BTreeMap<NodeIndex, Transit>,
    /// What each costs, by its ends.
    links: BTreeMap<(NodeIndex, NodeIndex), u64>,
}

impl Topology {
    /// A relay, once, before its links.
    pub(crate) fn add_relay(&mut self, node: NodeIndex, transit: Transit) {
        self.relays.insert(node, transit);
    }

    /// A link in the direction from `from` to `to`, once. Ends that are no relays of this topology are ignored.
    pub(crate) fn add_link(&mut self, from: NodeIndex, to: NodeIndex, cost_us: u64) {
        if self.relays.contains_key(&from) && self.relays.contains_key(&to) {
            self.links.insert((from, to), cost_us.max(1));
        }
    }

    /// All relays, ascending, and whether they may be passed.
    pub(crate) fn transits(&self) -> impl Iterator<Item = (NodeIndex, Transit)> + '_ {
        self.relays.iter().map(|(node, transit)| (*node, *transit))
    }

    /// All links in all directions, ascending: from, to, cost.
    pub(crate) fn links(&self) -> impl Iterator<Item = (NodeIndex, NodeIndex, u64)> + '_ {
        self.links.iter().map(|((from, to), cost_us)| (*from, *to, *cost_us))
    }

    /// Whether a frame for `destination` may go from `from` to `to` without misgivings.
    pub(crate) fn is_sound(&self, from: NodeIndex, to: NodeIndex, destination: NodeIndex) -> bool {
        let willing = to == destination || self.relays.get(&to) == Some(&Transit::Willing);
        willing && self.links.contains_key(&(from, to))
    }
}
