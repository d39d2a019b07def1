//! Routes of every policy in use, of one moment: what an epoch is a version of.

use crate::planes::Routes;
use crate::topology::Topology;
use std::collections::BTreeMap;
use wire_format::{Epoch, NodeIndex, Plane, PolicyDelta, PolicyIndex, RouteTable};

/// What each policy in use computes its routes from.
pub(crate) type Topologies = BTreeMap<PolicyIndex, Topology>;

/// Routes of the default policy, and of those others that have their own.
#[derive(Clone, Debug, Default)]
pub(crate) struct RouteSet {
    default: Routes,
    others: BTreeMap<PolicyIndex, Routes>,
}

impl RouteSet {
    /// Routes of the default policy, and of others.
    pub(crate) fn new(default: Routes, others: BTreeMap<PolicyIndex, Routes>) -> RouteSet {
        RouteSet { default, others }
    }

    /// What frames of a policy are forwarded by: those of the default one where it has none of its own.
    pub(crate) fn policy(&self, policy: PolicyIndex) -> &Routes {
        self.others.get(&policy).unwrap_or(&self.default)
    }

    /// A policy's own routes.
    pub(crate) fn own(&self, policy: PolicyIndex) -> Option<&Routes> {
        if policy == PolicyIndex::DEFAULT { Some(&self.default) } else { self.others.get(&policy) }
    }

    /// All of them, the default policy's first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (PolicyIndex, &Routes)> {
        let others = self.others.iter().map(|(policy, routes)| (*policy, routes));
        std::iter::once((PolicyIndex::DEFAULT, &self.default)).chain(others)
    }

    /// Whether the same policies have routes of their own in both.
    pub(crate) fn has_policies_of(&self, newer: &RouteSet) -> bool {
        self.others.keys().eq(newer.others.keys())
    }

    /// The table of one relay as it is pushed.
    pub(crate) fn table(&self, epoch: Epoch, relay: NodeIndex) -> RouteTable {
        let mut table = RouteTable::new(epoch);
        for (policy, routes) in self.iter() {
            *table.policy_mut(policy) = routes.table(relay);
        }
        table
    }

    /// What is new in each relay's table, by policy; `None` where other policies or relays have routes, for then most is.
    pub(crate) fn table_changes(
        &self,
        newer: &RouteSet,
    ) -> Option<BTreeMap<NodeIndex, BTreeMap<PolicyIndex, PolicyDelta>>> {
        if !self.has_policies_of(newer) {
            return None;
        }
        let mut changes: BTreeMap<NodeIndex, BTreeMap<PolicyIndex, PolicyDelta>> = BTreeMap::new();
        for (policy, routes) in self.iter() {
            for (relay, of_policy) in routes.table_changes(newer.own(policy)?)? {
                changes.entry(relay).or_default().insert(policy, of_policy);
            }
        }
        Some(changes)
    }

    /// How many destinations a table has rows for, all policies together.
    pub(crate) fn destinations(&self) -> usize {
        self.iter().map(|(_, routes)| routes.relays().count()).sum()
    }

    /// Whether anybody's way to somebody else passes a relay, on any plane of any policy.
    pub(crate) fn pass(&self, relay: NodeIndex) -> bool {
        self.iter().any(|(_, routes)| routes.pass(relay))
    }

    /// Whether any row of a plane leads from one relay to a neighbour, by any policy.
    pub(crate) fn leads_over(&self, from: NodeIndex, to: NodeIndex, plane: Plane) -> bool {
        self.iter().any(|(_, routes)| routes.leads_over(from, to, plane))
    }

    /// How many pairs of others have a primary way through a relay, by the policy by which these are the most.
    pub(crate) fn transit_pairs(&self, relay: NodeIndex) -> u64 {
        let of = |routes: &Routes| routes.transit_pairs().into_iter().find(|(node, _)| *node == relay);
        self.iter().filter_map(|(_, routes)| of(routes)).map(|(_, pairs)| pairs).max().unwrap_or(0)
    }
}
