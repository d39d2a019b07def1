//! What is new in everyone's tables, relay by relay.

use super::Generation;
use crate::route_set::RouteSet;
use std::collections::BTreeMap;
use wire_format::{Epoch, NodeIndex, PolicyDelta, PolicyIndex, TableDelta};

/// Rows of a table for one destination: three planes, where to turn, and which two at once.
const ROWS_A_DESTINATION: usize = 5;

/// What is new in everyone's tables.
pub(super) struct TableDeltas<'a> {
    base: &'a Generation,
    epoch: Epoch,
    routes: &'a RouteSet,
    /// By relay and policy, if those are the same; else one relay after the other is compared.
    changes: Option<BTreeMap<NodeIndex, BTreeMap<PolicyIndex, PolicyDelta>>>,
}

impl TableDeltas<'_> {
    pub(super) fn new<'a>(base: &'a Generation, epoch: Epoch, routes: &'a RouteSet) -> TableDeltas<'a> {
        TableDeltas { base, epoch, routes, changes: base.routes.table_changes(routes) }
    }

    /// Of one relay, if that is less than half of its table.
    pub(super) fn of(&mut self, node: NodeIndex) -> Option<TableDelta> {
        let delta = match &mut self.changes {
            Some(changes) => TableDelta {
                policies: changes.remove(&node).unwrap_or_default(),
                ..TableDelta::new(self.base.epoch, self.epoch)
            },
            None => TableDelta::between(
                &self.base.routes.table(self.base.epoch, node),
                &self.routes.table(self.epoch, node),
            ),
        };
        (delta.rows() <= self.routes.destinations() * ROWS_A_DESTINATION / 2).then_some(delta)
    }
}
