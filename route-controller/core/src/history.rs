//! What routes were: the last hundred epochs that relays stamped, as the steps from each to the next.
//!
//! Whole tables of a thousand relays are megabytes an epoch; what a step changes is little. Tables of the past are those of
//! the present with the steps since undone.

use crate::planes::{Routes, RowChange, follow};
use crate::rollout::Generation;
use crate::route_set::RouteSet;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use wire_format::{Epoch, NodeIndex, Plane, PolicyIndex, Timestamp};

/// Steps that are kept.
const STEPS_MAX: usize = 99;
/// What all of them may change together; about 40 MB. Older ones go sooner where they are larger.
const ENTRIES_MAX: usize = 2_000_000;
/// A price takes as much memory as so many rows.
const PRICE_ENTRIES: usize = 3;

/// A link whose price is another than it was; `None` where there was none, or is none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct PriceChange {
    pub from: NodeIndex,
    pub to: NodeIndex,
    pub before_us: Option<u64>,
    pub after_us: Option<u64>,
}

/// What lies between two epochs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Changes {
    pub rows: Vec<RowChange>,
    pub prices: Vec<PriceChange>,
}

impl Changes {
    fn entries(&self) -> usize {
        self.rows.len() + self.prices.len() * PRICE_ENTRIES
    }
}

/// From one epoch to the next.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub epoch: Epoch,
    pub stamped_at: Timestamp,
    /// By policy.
    pub changes: BTreeMap<PolicyIndex, Changes>,
}

impl Step {
    fn entries(&self) -> usize {
        self.changes.values().map(Changes::entries).sum()
    }
}

/// Tables of an epoch that is over, by one policy: next hops by relay, plane and destination, and prices by ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Past {
    pub stamped_at: Timestamp,
    pub next: BTreeMap<(NodeIndex, Plane, NodeIndex), NodeIndex>,
    pub prices_us: BTreeMap<(NodeIndex, NodeIndex), u64>,
}

impl Past {
    /// All relays from `relay` to `destination`, both included, or `None` if there was no way.
    pub(crate) fn path(
        &self,
        relay: NodeIndex,
        plane: Plane,
        destination: NodeIndex,
    ) -> Option<Vec<NodeIndex>> {
        follow(relay, destination, |at| self.next.get(&(at, plane, destination)).copied())
    }

    /// What a path cost.
    pub(crate) fn cost_us(&self, path: &[NodeIndex]) -> u64 {
        path.windows(2).filter_map(|hop| self.prices_us.get(&(hop[0], hop[1]))).sum()
    }
}

/// The steps, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// The epoch before the first step.
    first: Option<(Epoch, Timestamp)>,
    steps: VecDeque<Step>,
    entries: usize,
}

impl History {
    /// Relays are told to stamp `after`.
    pub(crate) fn stamped(&mut self, now: Timestamp, before: Option<&Generation>, after: &Generation) {
        let Some(before) = before else {
            *self = History { first: Some((after.epoch, now)), ..History::default() };
            return;
        };
        let none = Routes::default();
        let policies = before.routes.iter().chain(after.routes.iter()).map(|(policy, _)| policy);
        let policies: BTreeSet<PolicyIndex> = policies.collect();
        let changes = policies.into_iter().map(|policy| {
            let before = before.routes.own(policy).unwrap_or(&none);
            let after = after.routes.own(policy).unwrap_or(&none);
            let changes = Changes { rows: before.row_changes(after), prices: before.price_changes(after) };
            (policy, changes)
        });
        let step = Step { epoch: after.epoch, stamped_at: now, changes: changes.collect() };
        self.entries += step.entries();
        self.steps.push_back(step);
        while self.steps.len() > STEPS_MAX || self.entries > ENTRIES_MAX {
            let Some(oldest) = self.steps.pop_front() else { return };
            self.entries -= oldest.entries();
            self.first = Some((oldest.epoch, oldest.stamped_at));
        }
    }

    /// Every epoch that is known, oldest first: when it was stamped, and how many primary rows and prices of all policies it
    /// changed.
    pub(crate) fn epochs(&self) -> impl Iterator<Item = (Epoch, Timestamp, usize, usize)> + '_ {
        let first = self.first.iter().map(|(epoch, at)| (*epoch, *at, 0, 0));
        first.chain(self.steps.iter().map(|step| {
            let rows = step.changes.values().flat_map(|changes| &changes.rows);
            let primary = rows.filter(|row| row.plane == Plane::PRIMARY);
            let prices = step.changes.values().map(|changes| changes.prices.len());
            (step.epoch, step.stamped_at, primary.count(), prices.sum())
        }))
    }

    /// Steps behind an epoch, oldest first; `None` if it is not known.
    pub(crate) fn since(&self, epoch: Epoch) -> Option<impl Iterator<Item = &Step>> {
        let known = self.epochs().any(|(known, ..)| known == epoch);
        known.then(|| self.steps.iter().filter(move |step| step.epoch > epoch))
    }

    /// What became another by a policy between two epochs, in this direction; `None` if one of them is not known.
    pub(crate) fn between(&self, one: Epoch, other: Epoch, policy: PolicyIndex) -> Option<Changes> {
        let known = |epoch| self.epochs().any(|(known, ..)| known == epoch);
        if !known(one) || !known(other) {
            return None;
        }
        let (from, to) = (one.min(other), one.max(other));
        let mut rows: BTreeMap<_, (Option<NodeIndex>, Option<NodeIndex>)> = BTreeMap::new();
        let mut prices: BTreeMap<_, (Option<u64>, Option<u64>)> = BTreeMap::new();
        let steps = self.steps.iter().filter(|step| from < step.epoch && step.epoch <= to);
        for changes in steps.filter_map(|step| step.changes.get(&policy)) {
            for row in &changes.rows {
                let key = (row.relay, row.plane, row.destination);
                rows.entry(key).or_insert((row.before, None)).1 = row.after;
            }
            for price in &changes.prices {
                prices.entry((price.from, price.to)).or_insert((price.before_us, None)).1 = price.after_us;
            }
        }
        let turned = one > other;
        let rows = rows.into_iter().filter(|(_, (before, after))| before != after);
        let prices = prices.into_iter().filter(|(_, (before, after))| before != after);
        Some(Changes {
            rows: rows
                .map(|((relay, plane, destination), (before, after))| {
                    let (before, after) = if turned { (after, before) } else { (before, after) };
                    RowChange { relay, plane, destination, before, after }
                })
                .collect(),
            prices: prices
                .map(|((from, to), (before_us, after_us))| {
                    let (before_us, after_us) =
                        if turned { (after_us, before_us) } else { (before_us, after_us) };
                    PriceChange { from, to, before_us, after_us }
                })
                .collect(),
        })
    }

    /// The tables of an epoch by a policy, from those of the newest one.
    pub(crate) fn at(&self, epoch: Epoch, newest: &RouteSet, policy: PolicyIndex) -> Option<Past> {
        let (_, stamped_at, ..) = self.epochs().find(|(known, ..)| *known == epoch)?;
        let none = Routes::default();
        let newest = newest.own(policy).unwrap_or(&none);
        let next = newest
            .rows()
            .map(|(relay, plane, destination, route)| ((relay, plane, destination), route.next_hop));
        let prices_us = newest.prices().map(|(from, to, cost_us)| ((from, to), cost_us));
        let mut past = Past { stamped_at, next: next.collect(), prices_us: prices_us.collect() };
        let steps = self.steps.iter().rev().take_while(|step| step.epoch > epoch);
        for changes in steps.filter_map(|step| step.changes.get(&policy)) {
            for row in &changes.rows {
                let key = (row.relay, row.plane, row.destination);
                match row.before {
                    Some(next) => past.next.insert(key, next),
                    None => past.next.remove(&key),
                };
            }
            for price in &changes.prices {
                match price.before_us {
                    Some(cost_us) => past.prices_us.insert((price.from, price.to), cost_us),
                    None => past.prices_us.remove(&(price.from, price.to)),
                };
            }
        }
        Some(past)
    }
}
