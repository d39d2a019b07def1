//! The route table of one relay: for each policy, plane and destination relay, the next hop, and where to turn when the primary
//! one fails.

use crate::{Epoch, NodeIndex, Plane, PolicyIndex};
use std::collections::BTreeMap;

/// Tables of one relay for one epoch, those of each policy apart. All relays' tables of an epoch have the same policies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteTable {
    /// The version of all relays' tables that this one belongs to.
    pub epoch: Epoch,
    default: PolicyTable,
    others: BTreeMap<PolicyIndex, PolicyTable>,
}

/// What one policy says at one relay. A destination without an entry cannot be reached.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PolicyTable {
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
    /// A table without rows, of the default policy alone.
    pub fn new(epoch: Epoch) -> RouteTable {
        RouteTable::of_default(epoch, PolicyTable::default())
    }

    /// A table of the default policy alone.
    pub fn of_default(epoch: Epoch, default: PolicyTable) -> RouteTable {
        RouteTable { epoch, default, others: BTreeMap::new() }
    }

    /// What frames of a policy are forwarded by: its rows, or those of the default policy where it has none of its own.
    pub fn policy(&self, policy: PolicyIndex) -> &PolicyTable {
        self.others.get(&policy).unwrap_or(&self.default)
    }

    /// The rows of a policy, which has its own from now on.
    pub fn policy_mut(&mut self, policy: PolicyIndex) -> &mut PolicyTable {
        if policy == PolicyIndex::DEFAULT {
            &mut self.default
        } else {
            self.others.entry(policy).or_default()
        }
    }

    /// Takes the rows of a policy out: frames of it are forwarded like those of the default policy. That one's are emptied.
    pub fn remove(&mut self, policy: PolicyIndex) {
        if policy == PolicyIndex::DEFAULT {
            self.default = PolicyTable::default();
        } else {
            self.others.remove(&policy);
        }
    }

    /// Whether a policy has rows of its own, be they none.
    pub fn has(&self, policy: PolicyIndex) -> bool {
        policy == PolicyIndex::DEFAULT || self.others.contains_key(&policy)
    }

    /// The policies with rows of their own, ascending: the default one comes first.
    pub fn policies(&self) -> impl Iterator<Item = (PolicyIndex, &PolicyTable)> {
        let others = self.others.iter().map(|(policy, table)| (*policy, table));
        std::iter::once((PolicyIndex::DEFAULT, &self.default)).chain(others)
    }

    /// How many rows all policies have together.
    pub fn rows(&self) -> usize {
        self.policies().map(|(_, table)| table.next_hops.len()).sum()
    }
}

impl PolicyTable {
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
