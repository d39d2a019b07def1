//! What has changed between two versions of a relay's route tables: most changes of a large overlay touch a few rows of each
//! relay, and the rest need not travel.

use crate::{Epoch, NodeIndex, Plane, PlanePair, PolicyIndex, PolicyTable, RouteTable};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Rows of one relay that are others in newer tables.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableDelta {
    /// The version that follows.
    pub epoch: Epoch,
    /// The version that the rows are others of.
    pub base: Epoch,
    /// By policy; one that the base has no rows of its own for is new.
    pub policies: BTreeMap<PolicyIndex, PolicyDelta>,
    /// Policies that have no rows of their own any more.
    pub gone: BTreeSet<PolicyIndex>,
}

/// The same of one policy: what rows are now, or `None` where there is none any more.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PolicyDelta {
    /// See [`PolicyTable::next_hops`].
    pub next_hops: BTreeMap<(Plane, NodeIndex), Option<NodeIndex>>,
    /// See [`PolicyTable::backups`].
    pub backups: BTreeMap<NodeIndex, Option<Plane>>,
    /// See [`PolicyTable::pairs`].
    pub pairs: BTreeMap<NodeIndex, Option<PlanePair>>,
}

/// Why a delta says nothing about a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeltaError {
    /// It is about another version.
    OtherBase(Epoch),
    /// It does not lead to a newer version.
    NotNewer(Epoch),
    /// It takes away what is not there.
    NothingToTake,
}

impl fmt::Display for DeltaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeltaError::OtherBase(base) => write!(f, "the changes are those since epoch {base}"),
            DeltaError::NotNewer(epoch) => write!(f, "epoch {epoch} is not newer than its base"),
            DeltaError::NothingToTake => f.write_str("the changes take away rows that are not there"),
        }
    }
}

impl std::error::Error for DeltaError {}

impl TableDelta {
    /// What `newer` has that `base` has not, and the other way round.
    pub fn between(base: &RouteTable, newer: &RouteTable) -> TableDelta {
        let mut delta = TableDelta::new(base.epoch, newer.epoch);
        let none = PolicyTable::default();
        for (policy, table) in newer.policies() {
            let before = if base.has(policy) { base.policy(policy) } else { &none };
            let changes = PolicyDelta::between(before, table);
            if !changes.is_empty() || !base.has(policy) {
                delta.policies.insert(policy, changes);
            }
        }
        delta.gone = base.policies().map(|(policy, _)| policy).filter(|policy| !newer.has(*policy)).collect();
        delta
    }

    /// No change but that of the version.
    pub fn new(base: Epoch, epoch: Epoch) -> TableDelta {
        TableDelta { epoch, base, policies: BTreeMap::new(), gone: BTreeSet::new() }
    }

    /// How many rows change.
    pub fn rows(&self) -> usize {
        self.policies.values().map(PolicyDelta::rows).sum()
    }

    /// The newer tables.
    ///
    /// # Errors
    /// If these are not changes of `base`.
    pub fn apply(&self, base: &RouteTable) -> Result<RouteTable, DeltaError> {
        if base.epoch != self.base {
            return Err(DeltaError::OtherBase(self.base));
        }
        if self.epoch <= self.base {
            return Err(DeltaError::NotNewer(self.epoch));
        }
        let mut table = base.clone();
        table.epoch = self.epoch;
        for policy in &self.gone {
            if *policy == PolicyIndex::DEFAULT || !base.has(*policy) || self.policies.contains_key(policy) {
                return Err(DeltaError::NothingToTake);
            }
            table.remove(*policy);
        }
        for (policy, changes) in &self.policies {
            changes.apply(table.policy_mut(*policy))?;
        }
        Ok(table)
    }
}

impl PolicyDelta {
    fn between(base: &PolicyTable, newer: &PolicyTable) -> PolicyDelta {
        PolicyDelta {
            next_hops: changes(&base.next_hops, &newer.next_hops),
            backups: changes(&base.backups, &newer.backups),
            pairs: changes(&base.pairs, &newer.pairs),
        }
    }

    /// How many rows change.
    pub fn rows(&self) -> usize {
        self.next_hops.len() + self.backups.len() + self.pairs.len()
    }

    /// Whether nothing does.
    pub fn is_empty(&self) -> bool {
        self.rows() == 0
    }

    fn apply(&self, table: &mut PolicyTable) -> Result<(), DeltaError> {
        put(&self.next_hops, &mut table.next_hops)?;
        put(&self.backups, &mut table.backups)?;
        put(&self.pairs, &mut table.pairs)
    }
}

fn changes<K: Ord + Copy, V: PartialEq + Copy>(
    base: &BTreeMap<K, V>,
    newer: &BTreeMap<K, V>,
) -> BTreeMap<K, Option<V>> {
    let gone = base.keys().filter(|key| !newer.contains_key(key)).map(|key| (*key, None));
    let set = newer.iter().filter(|(key, value)| base.get(key) != Some(value));
    gone.chain(set.map(|(key, value)| (*key, Some(*value)))).collect()
}

fn put<K: Ord + Copy, V: Copy>(
    changes: &BTreeMap<K, Option<V>>,
    rows: &mut BTreeMap<K, V>,
) -> Result<(), DeltaError> {
    for (key, value) in changes {
        let before = match value {
            Some(value) => rows.insert(*key, *value).or(Some(*value)),
            None => rows.remove(key),
        };
        before.ok_or(DeltaError::NothingToTake)?;
    }
    Ok(())
}
