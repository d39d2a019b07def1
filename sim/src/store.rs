//! What a controller keeps over its restarts, and what it is started with.

use crate::scenario::Scenario;
use route_core::{ControllerConfig, FeedingConfig, NeighbourConfig, NodeRecord, StoreUpdate};
use std::collections::BTreeMap;
use std::time::Duration;
use wire_format::{Epoch, NodeIndex, RoomId};

/// What survives a restart.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    term: u64,
    nodes: BTreeMap<NodeIndex, NodeRecord>,
    /// Since when.
    quarantined: BTreeMap<NodeIndex, Duration>,
    epoch_floor: Epoch,
    room_floor: RoomId,
}

impl Store {
    pub(crate) fn new() -> Store {
        Store {
            term: 0,
            nodes: BTreeMap::new(),
            quarantined: BTreeMap::new(),
            epoch_floor: Epoch(0),
            room_floor: RoomId(0),
        }
    }

    /// What the next controller is made from; its term is the next one.
    pub(crate) fn config(&mut self, scenario: &Scenario, now: Duration, seed: u64) -> ControllerConfig {
        self.term += 1;
        let since = |at: &Duration| now.saturating_sub(*at);
        let ordinary = NeighbourConfig::default();
        let neighbours = scenario.mesh_max.map(|mesh_max| {
            NeighbourConfig::new(mesh_max, ordinary.links_max())
                .expect("scenarios are checked when they are read")
        });
        ControllerConfig {
            nodes: self.nodes.values().cloned().collect(),
            quarantined: self.quarantined.iter().map(|(node, at)| (*node, since(at))).collect(),
            index_quarantine: scenario.index_quarantine,
            epoch_floor: self.epoch_floor,
            room_floor: self.room_floor,
            feeding: FeedingConfig { gain: scenario.feed_gain, ..FeedingConfig::default() },
            cost: scenario.cost_config(),
            neighbours: neighbours.unwrap_or(ordinary),
            ..ControllerConfig::new(self.term, seed)
        }
    }

    pub(crate) fn persist(&mut self, now: Duration, update: StoreUpdate) {
        match update {
            StoreUpdate::Node(record) => {
                self.quarantined.remove(&record.node);
                self.nodes.insert(record.node, record);
            }
            StoreUpdate::NodeQuarantined(node) => {
                self.quarantined.insert(node, now);
            }
            StoreUpdate::NodeFreed(node) => {
                self.quarantined.remove(&node);
                self.nodes.remove(&node);
            }
            StoreUpdate::EpochFloor(epoch) => self.epoch_floor = epoch,
            StoreUpdate::RoomFloor(room) => self.room_floor = room,
        }
    }
}
