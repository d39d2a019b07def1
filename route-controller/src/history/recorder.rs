//! What of the present is worth keeping.

use super::frame::{Dated, Frame};
use route_core::{LinkFact, NodeFact, TableFacts};
use std::collections::{BTreeMap, BTreeSet};
use wire_format::{Epoch, NodeIndex};

/// A frame comes at least so often, though nothing changed: what lies further apart is a gap.
const FRAME_EVERY_MS: u64 = 60_000;

/// The present, as the core tells it.
pub(super) struct Present {
    pub(super) nodes: BTreeMap<NodeIndex, NodeFact>,
    pub(super) links: BTreeMap<(NodeIndex, NodeIndex), LinkFact>,
    /// Since [`Recorder::epoch`].
    pub(super) tables: Option<TableFacts>,
}

/// What was kept last.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    nodes: BTreeMap<NodeIndex, NodeFact>,
    links: BTreeMap<(NodeIndex, NodeIndex), LinkFact>,
    epoch: Option<Epoch>,
    at_ms: u64,
}

impl Recorder {
    /// The newest epoch that was kept.
    pub(super) fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// What became of the present since the last frame; `None` if that is nothing, and too soon to say so.
    pub(super) fn changes(&mut self, now_ms: u64, present: &Present) -> Option<Frame> {
        let mut frame = Frame::default();
        for (node, fact) in &present.nodes {
            if self.nodes.get(node) != Some(fact) {
                frame.nodes.insert(*node, Some(fact.clone()));
            }
        }
        frame.nodes.extend(gone(&self.nodes, &present.nodes).map(|node| (node, None)));
        for (ends, fact) in &present.links {
            if self.links.get(ends).is_none_or(|kept| has_moved(kept, fact)) {
                frame.links.insert(*ends, Some(*fact));
            }
        }
        frame.links.extend(gone(&self.links, &present.links).map(|ends| (ends, None)));
        match &present.tables {
            None => {}
            Some(TableFacts::Steps(steps)) => {
                let dated = steps.iter().map(|step| {
                    let age_ms = u64::try_from(step.age.as_millis()).unwrap_or(u64::MAX);
                    Dated { at_ms: now_ms.saturating_sub(age_ms), step: step.clone() }
                });
                frame.steps = dated.collect();
            }
            Some(TableFacts::Whole(step)) => {
                let rows = step.rows.iter();
                let rows = rows.filter_map(|(relay, plane, to, next)| Some((*relay, *plane, *to, (*next)?)));
                frame.tables = Some((step.epoch, rows.collect()));
            }
        }
        if frame.is_empty() && now_ms.saturating_sub(self.at_ms) < FRAME_EVERY_MS {
            return None;
        }
        self.at_ms = now_ms;
        self.epoch = match &present.tables {
            None => self.epoch,
            Some(TableFacts::Steps(steps)) => steps.last().map(|step| step.epoch).or(self.epoch),
            Some(TableFacts::Whole(step)) => Some(step.epoch),
        };
        for (node, fact) in &frame.nodes {
            match fact {
                Some(fact) => self.nodes.insert(*node, fact.clone()),
                None => self.nodes.remove(node),
            };
        }
        for (ends, fact) in &frame.links {
            match fact {
                Some(fact) => self.links.insert(*ends, *fact),
                None => self.links.remove(ends),
            };
        }
        Some(frame)
    }

    /// Everything; the tables have to be whole.
    pub(super) fn whole(&mut self, now_ms: u64, present: &Present) -> Option<Frame> {
        *self = Recorder::default();
        self.changes(now_ms, present).map(|frame| Frame { whole: true, ..frame })
    }
}

fn gone<K: Ord + Copy, V>(before: &BTreeMap<K, V>, now: &BTreeMap<K, V>) -> impl Iterator<Item = K> {
    let gone: BTreeSet<K> = before.keys().filter(|key| !now.contains_key(key)).copied().collect();
    gone.into_iter()
}

/// Whether a link is another than it was kept, by more than measurements tremble. Its price and state count to the digit.
fn has_moved(kept: &LinkFact, now: &LinkFact) -> bool {
    let decided = |fact: &LinkFact| (fact.state, fact.cost_us, fact.terms, fact.doubt, fact.by_receiver);
    decided(kept) != decided(now)
        || is_far(kept.rtt_us, now.rtt_us, 8, 2_000)
        || is_far(kept.rtt_min_us, now.rtt_min_us, 16, 500)
        || is_far(kept.raw_us, now.raw_us, 8, 2_000)
        || is_far(kept.jitter_us, now.jitter_us, 2, 5_000)
        || is_far(kept.loss_ppm.map(u64::from), now.loss_ppm.map(u64::from), 4, 2_000)
        || is_far(kept.rate, now.rate, 2, 50_000)
}

/// Further apart than a part of what was kept, and than that.
fn is_far(kept: Option<u64>, now: Option<u64>, part: u64, least: u64) -> bool {
    match (kept, now) {
        (Some(kept), Some(now)) => kept.abs_diff(now) > (kept / part).max(least),
        (kept, now) => kept.is_some() != now.is_some(),
    }
}
