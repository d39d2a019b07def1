//! The route table of one relay: for each plane and destination relay, the next hop.

use crate::{Epoch, NodeIndex, Plane};
use std::collections::BTreeMap;

/// Tables of one relay for one epoch. A destination without an entry cannot be reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteTable {
    /// The version of all relays' tables that this one belongs to.
    pub epoch: Epoch,
    /// Rows by plane and destination.
    pub next_hops: BTreeMap<(Plane, NodeIndex), NodeIndex>,
}

impl RouteTable {
    /// An empty table.
    pub fn new(epoch: Epoch) -> RouteTable {
        RouteTable { epoch, next_hops: BTreeMap::new() }
    }

    /// The neighbour to which a frame on `plane` for `destination` goes next.
    pub fn next_hop(&self, plane: Plane, destination: NodeIndex) -> Option<NodeIndex> {
        self.next_hops.get(&(plane, destination)).copied()
    }
}
