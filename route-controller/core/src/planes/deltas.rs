//! What is new in the tables of all relays, without making them.

use super::{BLUE, PLANES, RED, Routes, pairs};
use std::collections::BTreeMap;
use std::sync::Arc;
use wire_format::{NodeIndex, Plane, PolicyDelta};

impl Routes {
    /// Rows of each relay's table that are others in `newer`; `None` if the relays are not the same, for then most are.
    /// Destinations that both share cost nothing.
    pub(crate) fn table_changes(&self, newer: &Routes) -> Option<BTreeMap<NodeIndex, PolicyDelta>> {
        if !self.mesh.has_relays_of(&newer.mesh) {
            return None;
        }
        let mut changes: BTreeMap<NodeIndex, PolicyDelta> = BTreeMap::new();
        let (mut paths, mut newer_paths) = (pairs::Paths::default(), pairs::Paths::default());
        for (place, (before, now)) in self.destinations.iter().zip(&newer.destinations).enumerate() {
            let destination = self.mesh.relay(place);
            let shared = before.is_shared(Plane::PRIMARY, now)
                && before.is_shared(RED, now)
                && before.is_shared(BLUE, now)
                && Arc::ptr_eq(&before.backups, &now.backups);
            if shared {
                continue;
            }
            for plane in PLANES {
                let (Some(before), Some(now)) = (before.next(plane), now.next(plane)) else { continue };
                for (relay, (before, now)) in before.iter().zip(now).enumerate() {
                    if before != now {
                        let next = (*now != super::NOWHERE).then(|| self.mesh.relay(usize::from(*now)));
                        let row = (plane, destination);
                        changes.entry(self.mesh.relay(relay)).or_default().next_hops.insert(row, next);
                    }
                }
            }
            for (relay, (before, now)) in before.backups.iter().zip(now.backups.iter()).enumerate() {
                if before != now {
                    let plane = (*now != 0).then_some(Plane(*now));
                    changes.entry(self.mesh.relay(relay)).or_default().backups.insert(destination, plane);
                }
            }
            for relay in (0..self.mesh.len()).filter(|relay| *relay != place) {
                let before = self.pair_at(relay, place, &mut paths);
                let now = newer.pair_at(relay, place, &mut newer_paths);
                if before != now {
                    changes.entry(self.mesh.relay(relay)).or_default().pairs.insert(destination, now);
                }
            }
        }
        Some(changes)
    }
}
