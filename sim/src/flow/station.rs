//! A relay as far as the controller can tell: it opens a session, says what it has and holds what it is told.

use super::truth::Truth;
use crate::scenario::RelayId;
use route_core::SessionId;
use std::collections::BTreeMap;
use wire_format::control::{
    HeldStream, LinkQuality, LinkReport, LinkState, PublicationReport, RelayHello, StreamEntry,
    SubscriptionReport, ToController, ToRelay,
};
use wire_format::session::WIRE_VERSIONS;
use wire_format::{
    Epoch, NodeIndex, Plane, PolicyIndex, PublicationId, RouteTable, StreamKey, SubscriptionId,
};

/// Reports of links stand on so many samples: they come at their leisure.
const SAMPLES: u64 = 100;
/// Tables that a relay holds: those that are stamped, and those that will be.
const TABLES: usize = 2;

/// A relay.
#[derive(Debug)]
pub(crate) struct Station {
    pub(crate) relay: RelayId,
    pub(crate) session: Option<SessionId>,
    pub(crate) node: Option<NodeIndex>,
    tables: Vec<RouteTable>,
    pub(crate) stamp: Option<Epoch>,
    /// All to link to, and what was said last of the link: it is up.
    pub(crate) neighbours: BTreeMap<NodeIndex, Neighbour>,
    pub(crate) rows: BTreeMap<StreamKey, StreamEntry>,
    pub(crate) publications: BTreeMap<PublicationId, PublicationReport>,
    pub(crate) subscriptions: BTreeMap<SubscriptionId, SubscriptionReport>,
}

/// Another relay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neighbour {
    pub(crate) relay: RelayId,
    /// What the controller was told last.
    pub(crate) told_up: bool,
}

impl Station {
    pub(crate) fn new(relay: RelayId) -> Station {
        Station {
            relay,
            session: None,
            node: None,
            tables: Vec::new(),
            stamp: None,
            neighbours: BTreeMap::new(),
            rows: BTreeMap::new(),
            publications: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
        }
    }

    /// The process dies: only its certificate, and with it the index, is left. Who was with it will be again.
    pub(crate) fn die(&mut self) {
        let node = self.node;
        let (mut publications, subscriptions) =
            (std::mem::take(&mut self.publications), std::mem::take(&mut self.subscriptions));
        for publication in publications.values_mut() {
            publication.granted = None;
        }
        *self = Station { node, publications, subscriptions, ..Station::new(self.relay) };
    }

    /// The first message of a session.
    pub(crate) fn hello(&self, truth: &Truth<'_>) -> RelayHello {
        let spec = &truth.scenario().relays[usize::from(self.relay.0)];
        let held = |row: &StreamEntry| HeldStream { key: row.key, destinations: row.destinations.clone() };
        let [_, _, high, low] = u32::from(self.relay.0).to_be_bytes();
        RelayHello {
            name: spec.name.clone(),
            node: self.node,
            region: spec.region.clone(),
            isp: String::new(),
            tags: Vec::new(),
            position: spec.position,
            addresses: vec![std::net::SocketAddr::from(([10, 0, high, low], 4700))],
            version: env!("CARGO_PKG_VERSION").to_owned(),
            wire_versions: WIRE_VERSIONS,
            epoch: self.tables.last().map(|table| table.epoch),
            table_deltas: true,
            streams: self.rows.values().map(held).collect(),
            traces: false,
        }
    }

    /// What follows it.
    pub(crate) fn everything(&mut self, truth: &Truth<'_>) -> Vec<ToController> {
        let mut all: Vec<_> = self.publications.values().cloned().map(ToController::Published).collect();
        all.extend(self.subscriptions.values().cloned().map(ToController::Subscribed));
        all.push(ToController::Links(self.reports(truth)));
        all.push(ToController::ReportsComplete);
        all
    }

    /// What it says of all its links.
    pub(crate) fn reports(&mut self, truth: &Truth<'_>) -> Vec<LinkReport> {
        let own = self.relay;
        let one = |(node, neighbour): (&NodeIndex, &mut Neighbour)| neighbour.report(own, *node, truth);
        self.neighbours.iter_mut().map(one).collect()
    }

    /// What it says of links that came up or went down since it spoke of them.
    pub(crate) fn news(&mut self, truth: &Truth<'_>) -> Vec<LinkReport> {
        let own = self.relay;
        let changed = self
            .neighbours
            .iter_mut()
            .filter(|(_, neighbour)| neighbour.told_up != truth.link(own, neighbour.relay).is_some());
        changed.map(|(node, neighbour)| neighbour.report(own, *node, truth)).collect()
    }

    /// Takes in what it is told; answers, if that is to be answered.
    pub(crate) fn hear(
        &mut self,
        message: ToRelay,
        relay_of: &BTreeMap<NodeIndex, RelayId>,
    ) -> Result<Option<ToController>, String> {
        let message = if let ToRelay::TableDelta(delta) = message {
            match self.tables.iter().find(|held| held.epoch == delta.base) {
                Some(base) => ToRelay::Table(delta.apply(base).map_err(|error| error.to_string())?),
                None => return Ok(Some(ToController::TableWanted { epoch: delta.epoch })),
            }
        } else {
            message
        };
        Ok(match message {
            ToRelay::Welcome(welcome) => {
                self.node = Some(welcome.node);
                None
            }
            ToRelay::Neighbours(list) => {
                let before = std::mem::take(&mut self.neighbours);
                let known = list.iter().filter_map(|one| Some((one.node, *relay_of.get(&one.node)?)));
                let entry = |(node, relay)| {
                    let told_up = before.get(&node).is_some_and(|neighbour| neighbour.told_up);
                    (node, Neighbour { relay, told_up })
                };
                self.neighbours = known.map(entry).collect();
                None
            }
            ToRelay::Table(table) => self.take(table)?,
            ToRelay::Stamp { epoch } => {
                if self.stamp.is_some_and(|stamp| epoch < stamp) {
                    return Err(format!("told to stamp {epoch} after {:?}", self.stamp));
                }
                let held = self.tables.iter().any(|table| table.epoch == epoch);
                if held {
                    self.stamp = Some(epoch);
                }
                held.then_some(ToController::StampAck { epoch })
            }
            ToRelay::PublicationGranted { publication, key, incarnation } => {
                if let Some(held) = self.publications.get_mut(&publication) {
                    held.granted = Some((key, incarnation));
                }
                None
            }
            ToRelay::PublicationRefused { publication, .. } => {
                self.publications.remove(&publication);
                None
            }
            ToRelay::SubscriptionRefused { subscription, .. } => {
                self.subscriptions.remove(&subscription);
                None
            }
            ToRelay::Stream(entry) => {
                let (key, revision) = (entry.key, entry.revision);
                if self.rows.insert(key, entry).is_some_and(|before| before.revision >= revision) {
                    return Err(format!("{key:?}: revision {revision} is not newer"));
                }
                Some(ToController::StreamAck { key, revision })
            }
            ToRelay::StreamGone { key } => {
                self.rows.remove(&key);
                None
            }
            ToRelay::TableDelta(_)
            | ToRelay::TokenKeys(_)
            | ToRelay::Namespaces(_)
            | ToRelay::Drain { .. }
            | ToRelay::Trace(_) => None,
        })
    }

    fn take(&mut self, table: RouteTable) -> Result<Option<ToController>, String> {
        let epoch = table.epoch;
        match self.tables.last().map(|newest| newest.epoch) {
            // Of a session before: what is newer stays.
            Some(newest) if newest > epoch => return Ok(None),
            Some(newest) if newest == epoch => *self.tables.last_mut().expect("it was looked at") = table,
            Some(_) | None => {
                // Tables that were never stamped make room before those that are.
                if self.tables.len() == TABLES {
                    let stamped = self.stamp == Some(self.tables[0].epoch);
                    self.tables.remove(usize::from(stamped));
                }
                self.tables.push(table);
            }
        }
        Ok(Some(ToController::TableAck { epoch }))
    }

    /// The next relay of a frame that bears an epoch.
    pub(crate) fn next_hop(&self, epoch: Epoch, policy: PolicyIndex, to: NodeIndex) -> Option<NodeIndex> {
        let table = self.tables.iter().find(|table| table.epoch == epoch).or(self.tables.last())?;
        table.policy(policy).next_hop(Plane::PRIMARY, to)
    }
}

impl Neighbour {
    fn report(&mut self, own: RelayId, node: NodeIndex, truth: &Truth<'_>) -> LinkReport {
        let link = truth.link(own, self.relay);
        self.told_up = link.is_some();
        let rtt = link.map(|link| std::time::Duration::from_micros(link.rtt_us.into()));
        let jitter = link.map(|link| link.jitter).unwrap_or_default();
        LinkReport {
            neighbour: node,
            state: if link.is_some() { LinkState::Up } else { LinkState::Down },
            rtt,
            rtt_min: rtt,
            jitter_in: jitter,
            jitter_out: jitter,
            loss_out_ppm: link.map_or(0, |link| link.loss_out_ppm),
            loss_in_ppm: link.map_or(0, |link| link.loss_in_ppm),
            rate_out: 0,
            rate_in: 0,
            samples: SAMPLES,
            quality: LinkQuality {
                deliverable_out: link.and_then(|link| link.rate_out),
                ..LinkQuality::default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire_format::control::StreamName;
    use wire_format::{Incarnation, MediaKind, RoomId, StreamId, UserId};

    fn told(messages: Vec<ToRelay>) -> Result<(), String> {
        let mut station = Station::new(RelayId(0));
        messages.into_iter().try_for_each(|message| station.hear(message, &BTreeMap::new()).map(|_| ()))
    }

    #[test]
    fn a_controller_that_goes_back_is_noticed() {
        let table = |epoch| ToRelay::Table(RouteTable::new(Epoch(epoch)));
        let stamp = |epoch| ToRelay::Stamp { epoch: Epoch(epoch) };
        assert_eq!(told(vec![table(1), stamp(1), table(2), stamp(2)]), Ok(()));
        let back = told(vec![table(1), table(2), stamp(2), stamp(1)]).expect_err("an older epoch");
        assert!(back.contains("told to stamp"), "{back}");
        let row = |revision| {
            let name = ["n", "r", "u", "s"].map(str::to_owned);
            let [namespace, room, user, stream] = name;
            ToRelay::Stream(StreamEntry {
                key: StreamKey { room: RoomId(1), user: UserId(1), stream: StreamId(1) },
                name: StreamName { namespace, room, user, stream },
                kind: MediaKind::Audio,
                incarnation: Incarnation(0),
                ingress: NodeIndex(0),
                subscriptions: Vec::new(),
                destinations: Vec::new(),
                revision,
                protect: false,
                policy: PolicyIndex::DEFAULT,
            })
        };
        assert_eq!(told(vec![row(1), row(2)]), Ok(()));
        assert!(told(vec![row(2), row(2)]).expect_err("not newer").contains("is not newer"));
    }
}
