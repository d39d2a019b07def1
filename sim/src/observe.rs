//! What the trace keeps of what relays and the controller say to each other, at the controller's end and at the relay's.

use crate::scenario::{Host, RelayId};
use crate::trace::{Beliefs, Event, PushedTable, Row};
use crate::world::World;
use route_core::{NodeState, SessionId};
use wire_format::control::{StreamName, ToController, ToRelay};
use wire_format::{Epoch, NodeIndex, PolicyIndex, PolicyTable, RouteTable};

impl World<'_> {
    /// The controller says something to a relay.
    pub(crate) fn observe_push(&mut self, relay: RelayId, message: &ToRelay) {
        if let ToRelay::Table(table) = message {
            self.observe_table(relay, table);
            self.controller.remember_pushed(relay, table.clone());
        }
        if let ToRelay::TableDelta(delta) = message {
            match self.controller.pushed_to(relay, delta) {
                Some(table) => {
                    self.observe_table(relay, &table);
                    self.controller.remember_pushed(relay, table);
                }
                None => {
                    self.violation(
                        "the controller",
                        format!("pushed changes of what it never pushed: {delta:?}"),
                    );
                }
            }
        }
        if let ToRelay::Stamp { epoch } = message {
            self.record(Event::Ordered { relay, epoch: epoch.0 });
        }
    }

    fn observe_table(&mut self, relay: RelayId, table: &RouteTable) {
        if self.controller.begins_epoch(table.epoch)
            && let Some(beliefs) = self.beliefs()
        {
            self.record(Event::Believed { epoch: table.epoch.0, beliefs });
        }
        for (policy, rows) in table.policies() {
            match self.pushed(relay, table.epoch, policy, rows) {
                Some(pushed) => self.record(Event::Pushed(pushed)),
                None => self.violation("the controller", format!("pushed rows for nobody: {table:?}")),
            }
        }
    }

    /// The rows of one policy, or `None` if some are for nobody.
    fn pushed(
        &self,
        relay: RelayId,
        epoch: Epoch,
        policy: PolicyIndex,
        table: &PolicyTable,
    ) -> Option<PushedTable> {
        let rows = table.next_hops.iter().map(|((plane, destination), next_hop)| {
            let (destination, next_hop) = (self.relay_at(*destination)?, self.relay_at(*next_hop)?);
            Some(Row { plane: plane.0, destination, next_hop })
        });
        let backups = table.backups.iter();
        let backups = backups.map(|(destination, plane)| Some((self.relay_at(*destination)?, plane.0)));
        let pairs = table.pairs.iter();
        let pairs = pairs.map(|(to, pair)| Some((self.relay_at(*to)?, pair.planes().map(|plane| plane.0))));
        Some(PushedTable {
            relay,
            epoch: epoch.0,
            policy: policy.bits(),
            rows: rows.collect::<Option<_>>()?,
            backups: backups.collect::<Option<_>>()?,
            pairs: pairs.collect::<Option<_>>()?,
        })
    }

    /// What the controller says it knows, in answer to the questions that its admin API would ask.
    fn beliefs(&self) -> Option<Beliefs> {
        let (core, now) = self.controller.core_at(self.now)?;
        let mut beliefs = Beliefs { connected: Vec::new(), others: Vec::new(), links: Vec::new() };
        for node in core.nodes(now) {
            let Some(relay) = self.relay_at(node.node) else { continue };
            match node.state {
                NodeState::Connected => beliefs.connected.push(relay),
                NodeState::Silent | NodeState::Leaving => beliefs.others.push(relay),
                NodeState::Offline | NodeState::Revoked => {}
            }
        }
        let usable = core.links(now).into_iter().filter(|link| link.usable);
        beliefs.links = usable
            .filter_map(|link| Some((self.relay_at(link.from_node)?, self.relay_at(link.to_node)?)))
            .collect();
        Some(beliefs)
    }

    /// A relay's message arrives at the controller.
    pub(crate) fn observe_report(&mut self, session: SessionId, relay: RelayId, message: &ToController) {
        if let ToController::TableAck { epoch } = message {
            self.record(Event::TableAcked { relay, epoch: epoch.0 });
        }
        if let ToController::StampAck { epoch } = message {
            self.record(Event::StampAcked { relay, epoch: epoch.0 });
        }
        let ToController::Links(reports) = message else { return };
        for report in reports {
            let Some(neighbour) = self.relay_at(report.neighbour) else { continue };
            let session = self.sessions.get_mut(&session).expect("the caller found it");
            if session.reported.insert(neighbour, report.state) != Some(report.state) {
                self.record(Event::Reported { relay, neighbour, state: report.state });
            }
        }
    }

    /// The controller's message arrives at a relay.
    pub(crate) fn observe_arrival(&mut self, relay: RelayId, message: &ToRelay) {
        let host = Host::Relay(relay);
        if let ToRelay::Welcome(welcome) = message
            && self.node(host).relay.node != Some(welcome.node)
        {
            let name = self.scenario.host_name(host);
            self.violation(
                "the controller",
                format!("{name} has another index than its certificate: {welcome:?}"),
            );
        }
        if let ToRelay::Table(table) = message {
            let (epoch, rows) = (table.epoch.0, table.rows());
            self.record(Event::Table { relay, epoch, rows });
        }
        if let ToRelay::TableDelta(delta) = message {
            let rows = self.controller.pushed_rows(relay, delta.epoch);
            self.record(Event::Table { relay, epoch: delta.epoch.0, rows });
        }
        if let ToRelay::Stamp { epoch } = message {
            self.record(Event::Stamp { relay, epoch: epoch.0 });
        }
        if let ToRelay::Stream(entry) = message {
            let StreamName { namespace, room, user, stream } = &entry.name;
            if let Some(stream) = self.scenario.stream_named(namespace, room, user, stream) {
                self.stream_of_key.insert(entry.key, stream);
                let destinations =
                    entry.destinations.iter().filter_map(|node| self.relay_at(*node)).collect();
                self.record(Event::Row { relay, stream, destinations });
            }
        }
        if let ToRelay::StreamGone { key } = message
            && let Some(stream) = self.stream_of_key.get(key).copied()
        {
            self.record(Event::Row { relay, stream, destinations: Vec::new() });
        }
    }

    fn relay_at(&self, node: NodeIndex) -> Option<RelayId> {
        self.relay_of_node.get(&node).copied()
    }
}
