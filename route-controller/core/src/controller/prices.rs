//! From what links cost to routes, and who is not to be passed by them.

use super::{Cause, Controller};
use crate::api::{NodeRecord, StoreUpdate};
use crate::cost::CostTerms;
use crate::effect::Effect;
use crate::hubs::Hubs;
use crate::planes::Routes;
use crate::topology::Topology;
use wire_format::control::ToRelay;
use wire_format::{NodeIndex, Timestamp};

impl Controller {
    /// Routes should avoid passing a relay, and SFUs leave it, or need not any longer.
    pub(super) fn cordon(&mut self, now: Timestamp, name: &str, change: impl FnOnce(&mut NodeRecord)) {
        let Some(relay) = self.relays.of_name(name).and_then(|node| self.relays.relay_mut(node)) else {
            return;
        };
        let before = relay.record.clone();
        change(&mut relay.record);
        if relay.record == before {
            return;
        }
        let record = relay.record.clone();
        // The record takes an index out of quarantine, where that of a relay that left belongs.
        let quarantined = relay.quarantined_until.is_some();
        let node = record.node;
        self.effects.push(Effect::Persist(StoreUpdate::Node(record.clone())));
        if quarantined {
            self.effects.push(Effect::Persist(StoreUpdate::NodeQuarantined(node)));
        }
        if record.draining != before.draining {
            self.tell_draining(node);
        }
        if record.cordoned != before.cordoned {
            self.changed(now, Cause::Topology);
        }
    }

    /// Tells a relay whether it is to be empty, if it can do something about it.
    pub(super) fn tell_draining(&mut self, node: NodeIndex) {
        let Some(relay) = self.relays.relay(node).filter(|relay| relay.moves_clients) else { return };
        let draining = relay.record.draining;
        self.effects.push(Effect::Tell(node, ToRelay::Drain { draining }));
    }

    pub(super) fn compute(&self, now: Timestamp, topology: &Topology) -> Routes {
        let before = self.rollout.newest().map(|newest| &newest.routes);
        Routes::compute(now, topology, before, self.executor)
    }

    /// Relays that have become hubs all of a sudden, and by their own links' prices, are avoided for a while. True if
    /// there are such.
    pub(super) fn quarantine_hubs(&mut self, now: Timestamp, topology: &Topology, routes: &Routes) -> bool {
        let passing = routes.transit_pairs();
        let relays = passing.len();
        let mut found = false;
        for suspect in self.hubs.suspects(now, &passing) {
            let Some(newest) = self.rollout.newest() else { continue };
            let former =
                topology.with_former_prices(suspect, |from, to| newest.routes.link_cost_us(from, to));
            let passing = Routes::compute(now, &former, None, self.executor).transit_pairs();
            let pairs = passing.iter().find(|(node, _)| *node == suspect).map_or(0, |(_, pairs)| *pairs);
            if !Hubs::is_hub(pairs, relays) {
                self.hubs.quarantine(now, suspect);
                self.counters.hubs_quarantined += 1;
                found = true;
            }
        }
        found
    }

    pub(super) fn topology(&self, now: Timestamp) -> Topology {
        let mut topology = Topology::default();
        for (node, relay) in self.relays.iter() {
            if relay.certificates.revoked {
                continue;
            }
            if relay.is_complete() || self.links.is_reached(node) {
                let avoided =
                    self.rollout.is_avoided(node) || self.hubs.is_quarantined(node) || relay.record.cordoned;
                topology.add_relay(node, relay.transit(now, avoided));
                relay.risks().for_each(|risk| topology.add_risk(node, risk));
            }
        }
        for (from, to, terms) in self.links.usable(&self.cost) {
            if let Some(leaving_us) = self.leaving_us(from, to) {
                topology.add_link(from, to, self.with_money(from, to, terms).total_us() + leaving_us);
            }
        }
        topology
    }

    /// What a direction costs, while routes may use the link.
    pub(super) fn terms(&self, from: NodeIndex, to: NodeIndex) -> Option<CostTerms> {
        Some(self.with_money(from, to, self.links.terms(from, to, &self.cost)?))
    }

    fn with_money(&self, from: NodeIndex, to: NodeIndex, terms: CostTerms) -> CostTerms {
        if self.cost.egress.is_empty() {
            return terms;
        }
        let region = |node| self.relays.relay(node).map_or("", |relay| relay.record.region.as_str());
        CostTerms { money_us: self.cost.money_us(region(from), region(to)), ..terms }
    }
}
