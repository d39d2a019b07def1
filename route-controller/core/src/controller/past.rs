//! What the process around the core may keep of the present.

use super::Controller;
use crate::history::Step;
use crate::links::Word;
use crate::past::{LinkFact, NodeFact, StepFact, TableFacts};
use crate::relays::Relay;
use crate::topology::Transit;
use std::collections::BTreeMap;
use std::time::Duration;
use wire_format::{Epoch, NodeIndex, PolicyIndex, Timestamp};

impl Controller {
    /// Relays that are there.
    #[must_use]
    pub fn node_facts(&self, now: Timestamp) -> BTreeMap<NodeIndex, NodeFact> {
        let present = |(node, relay): &(NodeIndex, &Relay)| {
            !relay.certificates.revoked && (relay.is_complete() || self.links.is_reached(*node))
        };
        let fact = |(node, relay): (NodeIndex, &Relay)| {
            let fact = NodeFact {
                name: relay.record.name.clone(),
                region: relay.record.region.clone(),
                avoided: self.avoidance(now, PolicyIndex::DEFAULT, node),
                never_passed: relay.transit(now, self.rollout.is_avoided(node)) == Transit::Never,
            };
            (node, fact)
        };
        self.relays.iter().filter(present).map(fact).collect()
    }

    /// Directions of links behind a certain one, in order, so many at most.
    #[must_use]
    pub fn link_facts(
        &self,
        now: Timestamp,
        behind: Option<(NodeIndex, NodeIndex)>,
        most: usize,
    ) -> Vec<((NodeIndex, NodeIndex), LinkFact)> {
        let known = self.links.known_behind(behind, most);
        known.into_iter().map(|(from, to)| ((from, to), self.link_fact(now, from, to))).collect()
    }

    fn link_fact(&self, now: Timestamp, from: NodeIndex, to: NodeIndex) -> LinkFact {
        let terms = self.terms(PolicyIndex::DEFAULT, from, to);
        let (own, other) = (self.links.word(from, to), self.links.word(to, from));
        let measures = |word: &&Word| word.report.rtt.is_some();
        let sender = own.filter(measures);
        let receiver = other.filter(measures).filter(|_| sender.is_none());
        let (measured, by_receiver) = (sender.or(receiver), receiver.is_some());
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        LinkFact {
            state: own.map(|word| word.report.state),
            cost_us: terms.map(|terms| terms.total_us()),
            terms,
            raw_us: self.links.raw_us(from, to),
            doubt: self.links.doubt(from, to),
            by_receiver,
            age_us: measured.map(|word| micros(now.since(word.at))),
            samples: measured.map(|word| word.report.samples),
            rtt_us: measured.and_then(|word| word.report.rtt).map(micros),
            rtt_min_us: measured.and_then(|word| word.report.rtt_min).map(micros),
            jitter_us: own.map(|word| micros(word.report.jitter_out)),
            loss_ppm: own.map(|word| word.report.loss_out_ppm),
            rate: own.map(|word| word.report.rate_out),
        }
    }

    /// What became of tables since an epoch; all of them if it is not known any more, or `None`. Nothing before the first
    /// epoch is stamped.
    #[must_use]
    pub fn table_facts(&self, now: Timestamp, since: Option<Epoch>) -> Option<TableFacts> {
        let newest = self.rollout.current()?;
        let history = self.rollout.history();
        if let Some(steps) = since.and_then(|since| history.since(since)) {
            return Some(TableFacts::Steps(steps.map(|step| step_fact(now, step)).collect()));
        }
        let stamped_at = history.epochs().find(|(epoch, ..)| *epoch == newest.epoch).map(|(_, at, ..)| at);
        let rows = newest.routes.policy(PolicyIndex::DEFAULT).rows();
        Some(TableFacts::Whole(StepFact {
            epoch: newest.epoch,
            age: now.since(stamped_at.unwrap_or(now)),
            rows: rows.map(|(relay, plane, to, route)| (relay, plane, to, Some(route.next_hop))).collect(),
            prices: Vec::new(),
        }))
    }

    /// The epoch that relays were told last to stamp.
    #[must_use]
    pub fn newest_epoch(&self) -> Option<Epoch> {
        self.rollout.current().map(|newest| newest.epoch)
    }
}

fn step_fact(now: Timestamp, step: &Step) -> StepFact {
    // What is kept for a day is that of the default policy.
    let changes = step.changes.get(&PolicyIndex::DEFAULT);
    let rows = changes.into_iter().flat_map(|changes| &changes.rows);
    let prices = changes.into_iter().flat_map(|changes| &changes.prices);
    StepFact {
        epoch: step.epoch,
        age: now.since(step.stamped_at),
        rows: rows.map(|row| (row.relay, row.plane, row.destination, row.after)).collect(),
        prices: prices.map(|price| (price.from, price.to, price.after_us)).collect(),
    }
}
