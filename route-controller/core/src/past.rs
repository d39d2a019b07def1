//! What routes hang on, as plain data: who is there, what links measure and cost, and which way tables lead. The process
//! around the core keeps it over days, and can ask of a moment of the past what [`crate::Controller`] tells of the present.

use crate::cost::CostTerms;
use crate::explain::{
    Avoidance, ExplainView, HopView, PriceChangeView, RouteChangeView, RoutesDiffView, WayView, margin_us,
    turning_points,
};
use crate::guard::Doubt;
use crate::planes::follow;
use crate::topology::{Topology, Transit};
use crate::view::{LinkView, ProtectionView, RouteFilter, RouteView};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use wire_format::control::LinkState;
use wire_format::{Epoch, NodeIndex, Plane};

/// A relay, as far as routes are concerned.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeFact {
    /// Its name.
    pub name: String,
    /// Its region.
    pub region: String,
    /// Why routes avoid passing it.
    pub avoided: Option<Avoidance>,
    /// They do not pass it at all.
    pub never_passed: bool,
}

/// One direction of a link: what it measures, and what it costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LinkFact {
    /// As its sender says.
    pub state: Option<LinkState>,
    /// What it costs; `None` while routes may not use it.
    pub cost_us: Option<u64>,
    /// What that is made of; `None` too where only the price is known.
    pub terms: Option<CostTerms>,
    /// Cost of the latest measurement.
    pub raw_us: Option<u64>,
    /// Why the measurement is not believed as it is.
    pub doubt: Option<Doubt>,
    /// The measurement is the receiver's, because the sender has none.
    pub by_receiver: bool,
    /// Age of the measurement when it was kept.
    pub age_us: Option<u64>,
    /// Samples behind it.
    pub samples: Option<u64>,
    /// Round trip of the second before.
    pub rtt_us: Option<u64>,
    /// Least round trip of late.
    pub rtt_min_us: Option<u64>,
    /// Interarrival jitter at the receiver.
    pub jitter_us: Option<u64>,
    /// Lost on the way, parts per million.
    pub loss_ppm: Option<u32>,
    /// Bytes per second.
    pub rate: Option<u64>,
}

/// Rows and prices that an epoch changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StepFact {
    /// The epoch.
    pub epoch: Epoch,
    /// Time since relays were told to stamp it.
    pub age: Duration,
    /// Relay, plane, destination, and the next hop from now on.
    pub rows: Vec<(NodeIndex, Plane, NodeIndex, Option<NodeIndex>)>,
    /// Ends, and the price from now on.
    pub prices: Vec<(NodeIndex, NodeIndex, Option<u64>)>,
}

/// What became of tables since an epoch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TableFacts {
    /// These steps, oldest first.
    Steps(Vec<StepFact>),
    /// That epoch is not known any more: all rows, of the newest epoch.
    Whole(StepFact),
}

/// Everything that routes hang on, at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Moment {
    /// Relays by index.
    pub nodes: BTreeMap<NodeIndex, NodeFact>,
    /// Links by sender and receiver.
    pub links: BTreeMap<(NodeIndex, NodeIndex), LinkFact>,
    /// The epoch that relays stamped, if any.
    pub epoch: Option<Epoch>,
    /// Next hops by relay, plane and destination.
    pub next: BTreeMap<(NodeIndex, Plane, NodeIndex), NodeIndex>,
}

impl Moment {
    /// Goes on to the next epoch.
    pub fn step(&mut self, step: &StepFact) {
        self.epoch = Some(step.epoch);
        for (relay, plane, destination, next) in &step.rows {
            let key = (*relay, *plane, *destination);
            match next {
                Some(next) => self.next.insert(key, *next),
                None => self.next.remove(&key),
            };
        }
        for (from, to, cost_us) in &step.prices {
            let link = self.links.entry((*from, *to)).or_default();
            if link.cost_us != *cost_us {
                // What it is made of was not kept at that moment.
                (link.cost_us, link.terms) = (*cost_us, None);
            }
        }
    }

    /// The index of a relay.
    #[must_use]
    pub fn node_index(&self, name: &str) -> Option<NodeIndex> {
        self.nodes.iter().find(|(_, node)| node.name == name).map(|(node, _)| *node)
    }

    /// As [`crate::Controller::explain`], of this moment.
    #[must_use]
    pub fn explain(&self, from: NodeIndex, to: NodeIndex) -> ExplainView {
        let topology = self.topology();
        let chosen = self.path(from, Plane::PRIMARY, to).filter(|path| path.len() > 1);
        let other = match &chosen {
            Some(path) => topology.runner_up(path),
            None => topology.path(from, to, None),
        };
        let (chosen, runner_up) = (chosen.map(|path| self.way(&path)), other.map(|path| self.way(&path)));
        let margin_us = chosen.as_ref().zip(runner_up.as_ref()).map(margin_us);
        let (rises, falls) = turning_points(chosen.as_ref(), runner_up.as_ref());
        ExplainView {
            from: self.name(from),
            to: self.name(to),
            policy: crate::policy::DEFAULT_POLICY.to_owned(),
            epoch: self.epoch,
            age: None,
            chosen,
            runner_up,
            margin_us,
            rises,
            falls,
            protection: ProtectionView {
                egress: self.name(to),
                pair: None,
                ways: Vec::new(),
                shared: Vec::new(),
                shared_risks: Vec::new(),
                redundant_share: Vec::new(),
                bridge: None,
            },
        }
    }

    /// Rows of the tables.
    #[must_use]
    pub fn routes(&self, filter: RouteFilter) -> Vec<RouteView> {
        if filter.epoch.is_some() && filter.epoch != self.epoch {
            return Vec::new();
        }
        let wanted = self
            .next
            .iter()
            .filter(|((node, plane, destination), _)| filter.wants(*node, *plane, *destination));
        wanted
            .map(|(&(node, plane, destination), next_hop)| {
                let path = self.path(node, plane, destination).unwrap_or_default();
                let cost =
                    |hop: &[NodeIndex]| self.links.get(&(hop[0], hop[1])).and_then(|link| link.cost_us);
                RouteView {
                    node: self.name(node),
                    destination: self.name(destination),
                    plane,
                    next_hop: self.name(*next_hop),
                    cost_us: path.windows(2).filter_map(cost).sum(),
                    backup: None,
                    path: path.into_iter().map(|node| self.name(node)).collect(),
                    epoch: self.epoch.unwrap_or(Epoch(0)),
                    age: Duration::ZERO,
                }
            })
            .collect()
    }

    /// Every direction of every link.
    #[must_use]
    pub fn links(&self) -> Vec<LinkView> {
        let micros = |us: Option<u64>| us.map(Duration::from_micros);
        let view = |(&(from, to), link): (&(NodeIndex, NodeIndex), &LinkFact)| LinkView {
            from: self.name(from),
            to: self.name(to),
            from_node: from,
            to_node: to,
            state: link.state,
            usable: link.cost_us.is_some(),
            bridge: false,
            cost_us: link.cost_us,
            cost_raw_us: link.raw_us,
            terms: link.terms,
            doubt: link.doubt,
            rtt: micros(link.rtt_us),
            rtt_min: micros(link.rtt_min_us),
            jitter: micros(link.jitter_us),
            loss_ppm: link.loss_ppm,
            rate: link.rate,
            age: micros(link.age_us),
            sender: None,
            receiver: None,
        };
        self.links.iter().map(view).collect()
    }

    /// What is another at a later moment.
    #[must_use]
    pub fn diff(&self, later: &Moment) -> RoutesDiffView {
        let name = |node: NodeIndex| {
            if later.nodes.contains_key(&node) { later.name(node) } else { self.name(node) }
        };
        let rows: BTreeSet<_> = self.next.keys().chain(later.next.keys()).copied().collect();
        let routes = rows.into_iter().filter_map(|key| {
            let (before, after) = (self.next.get(&key).copied(), later.next.get(&key).copied());
            (before != after).then(|| RouteChangeView {
                node: name(key.0),
                plane: key.1,
                destination: name(key.2),
                before: before.map(name),
                after: after.map(name),
            })
        });
        let links: BTreeSet<_> = self.links.keys().chain(later.links.keys()).copied().collect();
        let prices = links.into_iter().filter_map(|key| {
            let cost = |moment: &Moment| moment.links.get(&key).and_then(|link| link.cost_us);
            let (before_us, after_us) = (cost(self), cost(later));
            let (from, to) = (name(key.0), name(key.1));
            (before_us != after_us).then_some(PriceChangeView { from, to, before_us, after_us })
        });
        RoutesDiffView {
            before: self.epoch.unwrap_or(Epoch(0)),
            after: later.epoch.unwrap_or(Epoch(0)),
            routes: routes.collect(),
            prices: prices.collect(),
        }
    }

    /// Its name; a relay that is not known any more goes by its index.
    fn name(&self, node: NodeIndex) -> String {
        self.nodes.get(&node).map_or_else(|| format!("node {}", node.0), |fact| fact.name.clone())
    }

    fn path(&self, relay: NodeIndex, plane: Plane, destination: NodeIndex) -> Option<Vec<NodeIndex>> {
        follow(relay, destination, |at| self.next.get(&(at, plane, destination)).copied())
    }

    fn topology(&self) -> Topology {
        let mut topology = Topology::default();
        for (node, fact) in &self.nodes {
            let transit = match (fact.never_passed, fact.avoided) {
                (true, _) => Transit::Never,
                (false, Some(_)) => Transit::Reluctant,
                (false, None) => Transit::Willing,
            };
            topology.add_relay(*node, transit);
        }
        for (&(from, to), link) in &self.links {
            if let Some(cost_us) = link.cost_us {
                topology.add_link(from, to, cost_us);
            }
        }
        topology
    }

    fn way(&self, path: &[NodeIndex]) -> WayView {
        let hops: Vec<HopView> = path
            .windows(2)
            .enumerate()
            .map(|(at, hop)| self.hop(hop[0], hop[1], at + 2 < path.len()))
            .collect();
        WayView {
            path: path.iter().map(|node| self.name(*node)).collect(),
            cost_us: hops.iter().filter_map(|hop| hop.cost_us).sum(),
            hops,
        }
    }

    fn hop(&self, from: NodeIndex, to: NodeIndex, passes: bool) -> HopView {
        let link = self.links.get(&(from, to)).copied().unwrap_or_default();
        let measured_by = if link.by_receiver { to } else { from };
        HopView {
            from: self.name(from),
            to: self.name(to),
            cost_us: link.cost_us,
            terms: link.terms,
            raw_us: link.raw_us,
            measured_by: link.age_us.map(|_| self.name(measured_by)),
            age: link.age_us.map(Duration::from_micros),
            samples: link.samples,
            doubt: link.doubt,
            avoided: self.nodes.get(&to).filter(|_| passes).and_then(|fact| fact.avoided),
        }
    }
}
