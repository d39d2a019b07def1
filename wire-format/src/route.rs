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
    /// By destination: two planes whose paths from here share no link, and no relay either where that can be had. Absent
    /// where no two of them are apart (a bridge), and in tables of controllers before 0.2.
    pub pairs: BTreeMap<NodeIndex, PlanePair>,
}

/// Two planes on which a frame of a protected stream travels at once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PlanePair {
    /// The shortest path, and red.
    PrimaryRed,
    /// The shortest path, and blue.
    PrimaryBlue,
    /// Both redundant planes: each meets the shortest path somewhere.
    RedBlue,
}

impl PlanePair {
    /// All there are.
    pub const ALL: [PlanePair; 3] = [PlanePair::PrimaryRed, PlanePair::PrimaryBlue, PlanePair::RedBlue];

    /// Both planes, the one that is expected to be faster first.
    pub fn planes(self) -> [Plane; 2] {
        match self {
            PlanePair::PrimaryRed => [Plane::PRIMARY, Plane::RED],
            PlanePair::PrimaryBlue => [Plane::PRIMARY, Plane::BLUE],
            PlanePair::RedBlue => [Plane::RED, Plane::BLUE],
        }
    }
}

impl RouteTable {
    /// An empty table.
    pub fn new(epoch: Epoch) -> RouteTable {
        RouteTable { epoch, next_hops: BTreeMap::new(), backups: BTreeMap::new(), pairs: BTreeMap::new() }
    }

    /// The neighbour to which a frame on `plane` for `destination` goes next.
    pub fn next_hop(&self, plane: Plane, destination: NodeIndex) -> Option<NodeIndex> {
        self.next_hops.get(&(plane, destination)).copied()
    }

    /// The plane to move a primary frame for `destination` to when its next hop has failed.
    pub fn backup(&self, destination: NodeIndex) -> Option<Plane> {
        self.backups.get(&destination).copied()
    }

    /// The planes on which a frame of a protected stream goes to `destination` at once.
    pub fn pair(&self, destination: NodeIndex) -> Option<PlanePair> {
        self.pairs.get(&destination).copied()
    }
}
