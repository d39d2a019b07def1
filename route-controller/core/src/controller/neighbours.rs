//! Who links to whom, and that relays know.

use super::{Cause, Controller};
use crate::effect::Effect;
use crate::neighbours::{Distances, NeighbourConfig, Neighbours, Role, Seen, Standing, Use};
use crate::relays::Relay;
use crate::rollout::{Generation, Rollout};
use std::collections::BTreeMap;
use wire_format::control::{Neighbour, ToRelay};
use wire_format::{NodeIndex, Plane, PolicyIndex, Timestamp};

/// What a link costs on top that is about to end: more than any way around it, in a working overlay.
const LEAVING_US: u64 = 60_000_000;

impl Controller {
    /// Settles who links to whom among those who are named, and tells those in session what is news to them.
    pub(super) fn push_neighbours(&mut self, now: Timestamp) {
        let standing = |(node, relay): (NodeIndex, &Relay)| {
            let position = self.links.position(node);
            relay.named.then(|| (node, Standing { region: relay.record.region.clone(), position }))
        };
        let members: BTreeMap<NodeIndex, Standing> = self.relays.iter().filter_map(standing).collect();
        if self.recovery.is_some() && members.len() > self.neighbours.mesh_max() {
            // While half of the relays have not said which links they have, nobody can say which are new.
            return;
        }
        let links = &self.links;
        self.neighbours.set_members(now, members, |node| links.neighbours_usable(node).collect());
        let named: BTreeMap<NodeIndex, Neighbour> = self
            .relays
            .iter()
            .filter(|(_, relay)| relay.named)
            .map(|(node, relay)| {
                let neighbour = Neighbour {
                    node,
                    name: relay.record.name.clone(),
                    addresses: relay.record.addresses.clone(),
                    certificates_from_unix_s: relay.certificates.from_unix_s,
                };
                (node, neighbour)
            })
            .collect();
        for (node, relay) in self.relays.iter_mut() {
            if relay.session.is_none() {
                continue;
            }
            let list: Vec<&Neighbour> =
                self.neighbours.of(node).iter().filter_map(|other| named.get(other)).collect();
            let told = relay.neighbours.as_ref();
            if told.is_none_or(|told| !told.iter().eq(list.iter().copied())) {
                let list: Vec<Neighbour> = list.into_iter().cloned().collect();
                self.counters.neighbour_lists += 1;
                self.effects.push(Effect::Tell(node, ToRelay::Neighbours(list.clone())));
                relay.neighbours = Some(list);
            }
        }
    }

    /// Improves on who links to whom, if that is due.
    pub(super) fn step_neighbours(&mut self, now: Timestamp) {
        if self.neighbours_due().is_none_or(|at| now < at) {
            return;
        }
        let none = Neighbours::new(NeighbourConfig::default());
        let mut neighbours = std::mem::replace(&mut self.neighbours, none);
        let distances =
            self.rollout.newest().map(|newest| Distances::of(newest.routes.policy(PolicyIndex::DEFAULT)));
        let distances = distances.unwrap_or_default();
        let seen = |a: NodeIndex, b: NodeIndex| {
            if !self.links.is_usable(a, b) {
                return Seen::Down;
            }
            if !self.links.is_measured(a, b) {
                return Seen::Up;
            }
            let cost_us = self.lasting_us(a, b).into_iter().chain(self.lasting_us(b, a)).max();
            cost_us.map_or(Seen::Up, |us| Seen::Measured(u32::try_from(us).unwrap_or(u32::MAX)))
        };
        let rollout = &self.rollout;
        let ended = neighbours.step(now, &distances, seen, |a, b| use_of(rollout, a, b));
        self.neighbours = neighbours;
        for (a, b) in ended {
            self.links.forget_link(a, b);
        }
        if self.neighbours.take_changed() {
            self.push_neighbours(now);
            self.changed(now, Cause::Cost);
        }
    }

    /// When [`Controller::step_neighbours`] is due.
    pub(super) fn neighbours_due(&self) -> Option<Timestamp> {
        self.neighbours.deadline().filter(|_| self.recovery.is_none())
    }

    /// What a link costs on top because of who is to link to whom; `None` if routes leave it alone.
    pub(super) fn leaving_us(&self, a: NodeIndex, b: NodeIndex) -> Option<u64> {
        match self.neighbours.role(a, b) {
            Role::Open => Some(0),
            Role::Avoided => Some(LEAVING_US),
            Role::Closed => None,
        }
    }
}

/// What tables lead over a link in either direction.
fn use_of(rollout: &Rollout, a: NodeIndex, b: NodeIndex) -> Use {
    let leads = |generation: &Generation, plane: Plane| {
        generation.routes.leads_over(a, b, plane) || generation.routes.leads_over(b, a, plane)
    };
    let newest = rollout.newest();
    if newest.is_some_and(|newest| leads(newest, Plane::PRIMARY)) {
        return Use::Primary;
    }
    let held = [rollout.prepared(), rollout.current(), rollout.previous()].into_iter().flatten();
    let planes = [Plane::PRIMARY, Plane::RED, Plane::BLUE];
    let used = held.into_iter().any(|held| planes.into_iter().any(|plane| leads(held, plane)));
    if used { Use::Some } else { Use::None }
}
