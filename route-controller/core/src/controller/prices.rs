//! From what links cost to routes, and who is not to be passed by them.

use super::{Cause, Controller};
use crate::api::StoreUpdate;
use crate::cost::CostTerms;
use crate::effect::Effect;
use crate::hubs::Hubs;
use crate::planes::Routes;
use crate::policy::{Policy, Where};
use crate::relays::Relay;
use crate::topology::{Topology, Transit};
use wire_format::control::ToRelay;
use wire_format::{NodeIndex, PolicyIndex, Timestamp};

impl Controller {
    /// Routes should avoid passing a relay, and SFUs leave it, or need not any longer.
    /// One that is cordoned drains as it did before.
    pub(super) fn cordon(&mut self, now: Timestamp, name: &str, cordoned: bool, drained: bool) {
        let Some(relay) = self.relays.of_name(name).and_then(|node| self.relays.relay_mut(node)) else {
            return;
        };
        let before = relay.record.clone();
        relay.record.cordoned = cordoned;
        relay.record.draining = cordoned && (drained || before.draining);
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

    pub(super) fn compute(&self, now: Timestamp, policy: PolicyIndex, topology: &Topology) -> Routes {
        let before = self.rollout.newest().map(|newest| newest.routes.policy(policy));
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
            let former = topology.with_former_prices(suspect, |from, to| {
                newest.routes.policy(PolicyIndex::DEFAULT).link_cost_us(from, to)
            });
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

    /// The overlay as a policy sees it.
    pub(super) fn topology(&self, now: Timestamp, policy: PolicyIndex) -> Topology {
        self.topology_by(now, self.policies.policy(policy))
    }

    pub(super) fn topology_by(&self, now: Timestamp, policy: &Policy) -> Topology {
        let mut topology = Topology::default();
        for (node, relay) in self.relays.iter() {
            if relay.certificates.revoked {
                continue;
            }
            if relay.is_complete() || self.links.is_reached(node) {
                let avoided = self.rollout.is_avoided(node)
                    || self.hubs.is_quarantined(node)
                    || relay.record.cordoned
                    || policy.spares(relay.place());
                let forbidden = policy.forbids(relay.place());
                let transit = if forbidden { Transit::Never } else { relay.transit(now, avoided) };
                topology.add_relay(node, transit);
                relay.risks().for_each(|risk| topology.add_risk(node, risk));
            }
        }
        for (from, to, terms) in self.links.usable(&self.cost) {
            if let Some(leaving_us) = self.leaving_us(from, to) {
                topology.add_link(from, to, self.priced(policy, from, to, terms).total_us() + leaving_us);
            }
        }
        topology
    }

    /// What a direction costs by a policy, while routes may use the link.
    pub(super) fn terms(&self, policy: PolicyIndex, from: NodeIndex, to: NodeIndex) -> Option<CostTerms> {
        let terms = self.links.terms(from, to, &self.cost)?;
        Some(self.priced(self.policies.policy(policy), from, to, terms))
    }

    /// The same before any policy weighs it, without what passes: load, and distrust of what fails.
    pub(super) fn lasting_us(&self, from: NodeIndex, to: NodeIndex) -> Option<u64> {
        let terms = self.links.terms(from, to, &self.cost)?;
        let money_us = self.money_us(from, to);
        let mut lasting = CostTerms { money_us, jitter_us: 0, load_us: 0, distrust_us: 0, ..terms };
        lasting.round();
        Some(lasting.total_us())
    }

    fn money_us(&self, from: NodeIndex, to: NodeIndex) -> u64 {
        if self.cost.egress.is_empty() {
            return 0;
        }
        let region = |node| self.relays.relay(node).map_or("", |relay| relay.record.region.as_str());
        self.cost.money_us(region(from), region(to))
    }

    fn priced(&self, policy: &Policy, from: NodeIndex, to: NodeIndex, terms: CostTerms) -> CostTerms {
        let terms = CostTerms { money_us: self.money_us(from, to), ..terms };
        let nobody = Where { name: "", region: "", isp: "", tags: &[] };
        let place = |node| self.relays.relay(node).map_or(nobody, Relay::place);
        // Of a million links most policies ask nothing but what they cost.
        let ends = if policy.asks_for_ends() { [place(from), place(to)] } else { [nobody; 2] };
        policy.price(terms, ends[0], ends[1])
    }
}
