//! Which policies are in use, and what others would change.

use super::{Cause, Controller};
use crate::planes::Routes;
use crate::policy::Policies;
use crate::route_set::{RouteSet, Topologies};
use crate::topology::Topology;
use crate::view::{DryRunView, PolicyChangeView, PolicyRouteView};
use std::collections::{BTreeMap, BTreeSet};
use wire_format::session::POLICIES_SINCE_VERSION;
use wire_format::{NodeIndex, Plane, PolicyIndex, Timestamp};

/// Routes and streams that a dry run names; it counts the others.
const DRY_RUN_ROWS_MAX: usize = 10_000;

impl Controller {
    /// What counts as a good route, for which namespaces.
    #[must_use]
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// Whether every relay forwards each policy's frames by tables of its own. While one does not, all routes are those of
    /// the default policy.
    #[must_use]
    pub fn policies_are_understood(&self) -> bool {
        let mut present = self.relays.iter().filter(|(_, relay)| relay.session.is_some());
        present.all(|(_, relay)| relay.wire_version >= POLICIES_SINCE_VERSION)
    }

    pub(super) fn set_policies(&mut self, now: Timestamp, policies: Policies) {
        let policies = policies.numbered_like(&self.policies);
        if policies == self.policies {
            return;
        }
        self.policies = policies.clone();
        self.links.mind_jitter(policies.mind_jitter());
        self.directory.set_policies(now, policies, &mut self.effects);
        self.load_changed(now);
        self.changed(now, Cause::Topology);
    }

    /// Policies with routes of their own, but for the default one.
    fn others_in_use(&self, policies: &Policies) -> BTreeSet<PolicyIndex> {
        let mut used = policies.in_use();
        used.remove(&PolicyIndex::DEFAULT);
        if self.policies_are_understood() { used } else { BTreeSet::new() }
    }

    /// The routes of all other policies in use, beside those of the default one.
    pub(super) fn compute_others(
        &self,
        now: Timestamp,
        topology: Topology,
        routes: Routes,
    ) -> (RouteSet, Topologies) {
        let mut topologies = Topologies::from([(PolicyIndex::DEFAULT, topology)]);
        let mut others = BTreeMap::new();
        for policy in self.others_in_use(&self.policies) {
            let topology = self.topology(now, policy);
            others.insert(policy, self.compute(now, policy, &topology));
            topologies.insert(policy, topology);
        }
        (RouteSet::new(routes, others), topologies)
    }

    /// What would change if these policies took the place of those there are: routes of the shortest paths, by the prices of
    /// the moment, and streams that would travel by another policy. Nothing is changed.
    #[must_use]
    pub fn dry_run(&self, now: Timestamp, policies: &Policies) -> DryRunView {
        let policies = policies.clone().numbered_like(&self.policies);
        let understood = self.policies_are_understood();
        let mut view = DryRunView { understood, ..DryRunView::default() };
        let used = std::iter::once(PolicyIndex::DEFAULT).chain(self.others_in_use(&policies));
        for index in used {
            let policy = policies.policy(index);
            let topology = self.topology_by(now, policy);
            let after = self.compute(now, index, &topology);
            let nothing = Routes::default();
            let current = self.rollout.current().map(|generation| generation.routes.policy(index));
            self.compare(&policy.name, current.unwrap_or(&nothing), &after, &mut view);
        }
        for (name, before, after) in self.directory.remapped(&policies) {
            view.streams_changed += 1;
            if view.streams.len() < DRY_RUN_ROWS_MAX {
                let (before, after) = (before.to_owned(), after.to_owned());
                view.streams.push(PolicyChangeView { name: name.clone(), before, after });
            }
        }
        view
    }

    fn compare(&self, policy: &str, before: &Routes, after: &Routes, view: &mut DryRunView) {
        let changes = before.changes(after).into_iter();
        let primary = changes.filter(|(_, plane, ..)| *plane == Plane::PRIMARY);
        // A way changes where any relay on it turns elsewhere: whoever comes by one of these for that destination.
        let destinations: BTreeSet<NodeIndex> = primary.map(|(_, _, destination, _)| destination).collect();
        for to in destinations {
            for (from, _) in self.relays.iter().filter(|(from, _)| *from != to) {
                let way = |routes: &Routes| routes.path(from, Plane::PRIMARY, to);
                let (way_before, way_after) = (way(before), way(after));
                if way_before == way_after {
                    continue;
                }
                view.routes_changed += 1;
                if view.routes.len() >= DRY_RUN_ROWS_MAX {
                    continue;
                }
                let names = |way: &Option<Vec<NodeIndex>>| {
                    way.as_ref().map(|way| way.iter().map(|node| self.relays.name(*node)).collect())
                };
                view.routes.push(PolicyRouteView {
                    policy: policy.to_owned(),
                    from: self.relays.name(from),
                    to: self.relays.name(to),
                    before: names(&way_before),
                    after: names(&way_after),
                    before_us: way_before.as_ref().map(|way| before.cost_us(way)),
                    after_us: way_after.as_ref().map(|way| after.cost_us(way)),
                });
            }
        }
    }
}
