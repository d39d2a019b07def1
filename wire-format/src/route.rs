//! The route table of one relay: for each plane and destination relay, the next hop, and where to turn when the primary
//! one fails.

use crate::{Epoch, NodeIndex, Plane};
use std::collections::BTreeMap;

/// Tables of one relay for one epoch. A destination without an entry cannot be reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteTable {
    /// The version of all relays' tables that this one belongs to.
    pub epoch: Epoch,
    /// Rows by plane and destination.
    pub next_hops: BTreeMap<(Plane, NodeIndex), NodeIndex>,
    /// By destination: the redundant plane on which a frame still arrives if the primary next hop, or the link to it, has
    /// failed. The controller chose it so that the rest of that plane's path passes neither the failed link nor, unless
    /// it is the destination itself, the failed relay. Absent where no such plane exists (a bridge, a cut vertex).
    pub backups: BTreeMap<NodeIndex, Plane>,
}

impl RouteTable {
    /// An empty table.
    pub fn new(epoch: Epoch) -> RouteTable {
        RouteTable { epoch, next_hops: BTreeMap::new(), backups: BTreeMap::new() }
    }

    /// The neighbour to which a frame on `plane` for `destination` goes next.
    pub fn next_hop(&self, plane: Plane, destination: NodeIndex) -> Option<NodeIndex> {
        self.next_hops.get(&(plane, destination)).copied()
    }

    /// The plane to move a primary frame for `destination` to when its next hop has failed.
    pub fn backup(&self, destination: NodeIndex) -> Option<Plane> {
        self.backups.get(&destination).copied()
    }
}
