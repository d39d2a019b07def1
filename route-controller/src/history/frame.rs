//! What is written: frames, each everything that routes hang on (whole), or what became of it since the frame before.
//!
//! ```text
//! frame  = version (1)  whole (1)  nodes  links  tables  steps
//! nodes  = count, then each: index, 1 name region avoided never, or 0 if it is gone
//! links  = count, then each: from, to, 1 flags fields, or 0 if it is gone
//! tables = 0, or 1 epoch count, then each run: relay, plane, count, then each row: destination and next hop
//! steps  = count, then each: epoch, moment, rows (relay, plane, destination, next hop + 1), prices (from, to, price + 1)
//! ```
//!
//! Numbers are LEB128. Node indices of nodes, links and destinations are differences to the one before. What is read
//! back may be anything: it is checked, and a frame that does not end where it should counts for nothing.

use route_core::{Avoidance, CostTerms, Doubt, LinkFact, Moment, NodeFact, StepFact};
use std::collections::BTreeMap;
use std::time::Duration;
use wire_format::control::LinkState;
use wire_format::{Epoch, NodeIndex, Plane};

const VERSION: u8 = 2;
/// Entries of one kind that a frame may have: rows of a thousand relays on three planes, twice.
const ENTRIES_MAX: u64 = 8_000_000;
const NAME_BYTES_MAX: u64 = wire_format::control::limits::NAME_BYTES as u64;

/// A step, and when relays were told to stamp it, milliseconds since 1970.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Dated {
    pub(super) at_ms: u64,
    pub(super) step: StepFact,
}

/// What is written at once.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Frame {
    /// It stands for itself: what it does not have is not there.
    pub(super) whole: bool,
    /// Relays that are another than before; `None` if they are gone.
    pub(super) nodes: BTreeMap<NodeIndex, Option<NodeFact>>,
    /// The same of links.
    pub(super) links: BTreeMap<(NodeIndex, NodeIndex), Option<LinkFact>>,
    /// All rows of all tables, of this epoch.
    pub(super) tables: Option<(Epoch, Vec<Row>)>,
    /// Epochs since the frame before.
    pub(super) steps: Vec<Dated>,
}

/// Relay, plane, destination and next hop.
pub(super) type Row = (NodeIndex, Plane, NodeIndex, NodeIndex);

impl Frame {
    /// Nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.links.is_empty() && self.tables.is_none() && self.steps.is_empty()
    }

    /// Goes on from the frame before, by epochs stamped until then, milliseconds since 1970; `all`: and by everything else.
    pub(super) fn apply(&self, moment: &mut Moment, until_ms: u64, all: bool) {
        if !all {
            self.apply_steps(moment, until_ms);
            return;
        }
        if self.whole {
            *moment = Moment::default();
        }
        if let Some((epoch, rows)) = &self.tables {
            moment.epoch = Some(*epoch);
            moment.next =
                rows.iter().map(|(relay, plane, to, next)| ((*relay, *plane, *to), *next)).collect();
        }
        self.apply_steps(moment, until_ms);
        for (node, fact) in &self.nodes {
            match fact {
                Some(fact) => moment.nodes.insert(*node, fact.clone()),
                None => moment.nodes.remove(node),
            };
        }
        for (ends, fact) in &self.links {
            match fact {
                Some(fact) => moment.links.insert(*ends, *fact),
                None => moment.links.remove(ends),
            };
        }
    }

    fn apply_steps(&self, moment: &mut Moment, until_ms: u64) {
        for dated in self.steps.iter().filter(|dated| dated.at_ms <= until_ms) {
            moment.step(&dated.step);
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer(vec![VERSION, u8::from(self.whole)]);
        out.number(self.nodes.len() as u64);
        let mut before = 0;
        for (node, fact) in &self.nodes {
            out.number(u64::from(node.0 - before));
            before = node.0;
            out.flag(fact.is_some());
            if let Some(fact) = fact {
                out.text(&fact.name);
                out.text(&fact.region);
                out.number(avoidance_number(fact.avoided));
                out.flag(fact.never_passed);
            }
        }
        out.number(self.links.len() as u64);
        let (mut from_before, mut to_before) = (0, 0);
        for ((from, to), fact) in &self.links {
            out.number(u64::from(from.0 - from_before));
            if from.0 != from_before {
                to_before = 0;
            }
            out.number(u64::from(to.0 - to_before));
            (from_before, to_before) = (from.0, to.0);
            out.flag(fact.is_some());
            if let Some(fact) = fact {
                out.link(fact);
            }
        }
        out.flag(self.tables.is_some());
        if let Some((epoch, rows)) = &self.tables {
            out.number(u64::from(epoch.0));
            let runs: Vec<&[Row]> = rows.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)).collect();
            out.number(runs.len() as u64);
            for run in runs {
                out.number(u64::from(run[0].0.0));
                out.number(u64::from(run[0].1.0));
                out.number(run.len() as u64);
                let mut before = 0;
                for (_, _, destination, next) in run {
                    out.number(u64::from(destination.0.wrapping_sub(before)));
                    before = destination.0;
                    out.number(u64::from(next.0));
                }
            }
        }
        out.number(self.steps.len() as u64);
        for Dated { at_ms, step } in &self.steps {
            out.number(u64::from(step.epoch.0));
            out.number(*at_ms);
            out.number(step.rows.len() as u64);
            for (relay, plane, destination, next) in &step.rows {
                out.number(u64::from(relay.0));
                out.number(u64::from(plane.0));
                out.number(u64::from(destination.0));
                out.number(next.map_or(0, |next| u64::from(next.0) + 1));
            }
            out.number(step.prices.len() as u64);
            for (from, to, cost_us) in &step.prices {
                out.number(u64::from(from.0));
                out.number(u64::from(to.0));
                out.number(cost_us.map_or(0, |us| us.saturating_add(1)));
            }
        }
        out.0
    }

    /// `None` if it makes no sense.
    pub(super) fn decode(bytes: &[u8]) -> Option<Frame> {
        let mut reader = Reader(bytes);
        let input = &mut reader;
        if input.byte()? != VERSION {
            return None;
        }
        let mut frame = Frame { whole: input.flag()?, ..Frame::default() };
        let mut node = 0;
        for _ in 0..input.count()? {
            node = input.index_behind(node)?;
            let there = input.flag()?;
            let fact = if there { Some(input.node()?) } else { None };
            frame.nodes.insert(NodeIndex(node), fact);
        }
        let (mut from, mut to) = (0, 0);
        for _ in 0..input.count()? {
            let behind = input.index_behind(from)?;
            if behind != from {
                (from, to) = (behind, 0);
            }
            to = input.index_behind(to)?;
            let there = input.flag()?;
            let fact = if there { Some(input.link()?) } else { None };
            frame.links.insert((NodeIndex(from), NodeIndex(to)), fact);
        }
        if input.flag()? {
            let epoch = Epoch(u32::try_from(input.number()?).ok()?);
            let mut rows = Vec::new();
            for _ in 0..input.count()? {
                let (relay, plane) = (input.index()?, input.plane()?);
                let mut destination = 0_u16;
                for _ in 0..input.count()? {
                    destination = destination.wrapping_add(u16::try_from(input.number()?).ok()?);
                    rows.push((relay, plane, NodeIndex(destination), input.index()?));
                }
            }
            frame.tables = Some((epoch, rows));
        }
        for _ in 0..input.count()? {
            frame.steps.push(input.step()?);
        }
        input.0.is_empty().then_some(frame)
    }
}

fn avoidance_number(avoided: Option<Avoidance>) -> u64 {
    match avoided {
        None => 0,
        Some(Avoidance::Cordoned) => 1,
        Some(Avoidance::Leaving) => 2,
        Some(Avoidance::NoSession) => 3,
        Some(Avoidance::Unresponsive) => 4,
        Some(Avoidance::SuddenHub) => 5,
        Some(Avoidance::Forbidden) => 6,
        Some(Avoidance::Emergency) => 7,
    }
}

fn avoidance(number: u64) -> Option<Option<Avoidance>> {
    Some(match number {
        0 => None,
        1 => Some(Avoidance::Cordoned),
        2 => Some(Avoidance::Leaving),
        3 => Some(Avoidance::NoSession),
        4 => Some(Avoidance::Unresponsive),
        5 => Some(Avoidance::SuddenHub),
        6 => Some(Avoidance::Forbidden),
        7 => Some(Avoidance::Emergency),
        _ => return None,
    })
}

fn state_number(state: Option<LinkState>) -> u64 {
    match state {
        None => 0,
        Some(LinkState::Up) => 1,
        Some(LinkState::Suspect) => 2,
        Some(LinkState::Down) => 3,
    }
}

fn doubt_number(doubt: Option<Doubt>) -> u64 {
    match doubt {
        None => 0,
        Some(Doubt::FewSamples) => 1,
        Some(Doubt::EndsDiffer) => 2,
        Some(Doubt::FasterThanLight) => 3,
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn flag(&mut self, flag: bool) {
        self.0.push(u8::from(flag));
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn maybe(&mut self, number: Option<u64>) {
        self.number(number.map_or(0, |number| number.saturating_add(1)));
    }

    /// Flags: state (2 bits), doubt (2), by the receiver, terms known.
    fn link(&mut self, fact: &LinkFact) {
        let flags = state_number(fact.state)
            | doubt_number(fact.doubt) << 2
            | u64::from(fact.by_receiver) << 4
            | u64::from(fact.terms.is_some()) << 5;
        self.0.push(flags as u8);
        match &fact.terms {
            None => self.maybe(fact.cost_us),
            Some(terms) => {
                for us in [terms.one_way_us, terms.queueing_us, terms.repair_us, terms.hop_us, terms.load_us]
                {
                    self.number(us);
                }
                self.number(terms.money_us);
                self.number(terms.distrust_us);
                self.number(terms.jitter_us);
                for us in [terms.rounding_us, terms.preference_us] {
                    self.number((us << 1 ^ us >> 63) as u64);
                }
            }
        }
        self.maybe(fact.raw_us);
        self.maybe(fact.age_us);
        self.maybe(fact.samples);
        self.maybe(fact.rtt_us);
        self.maybe(fact.rtt_min_us);
        self.maybe(fact.jitter_us);
        self.maybe(fact.loss_ppm.map(u64::from));
        self.maybe(fact.rate);
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7F);
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn count(&mut self) -> Option<u64> {
        self.number().filter(|count| *count <= ENTRIES_MAX)
    }

    fn maybe(&mut self) -> Option<Option<u64>> {
        Some(self.number()?.checked_sub(1))
    }

    fn index(&mut self) -> Option<NodeIndex> {
        Some(NodeIndex(u16::try_from(self.number()?).ok()?))
    }

    fn index_behind(&mut self, before: u16) -> Option<u16> {
        before.checked_add(u16::try_from(self.number()?).ok()?)
    }

    fn plane(&mut self) -> Option<Plane> {
        Some(Plane(u8::try_from(self.number()?).ok()?))
    }

    fn text(&mut self) -> Option<String> {
        let length = self.number().filter(|length| *length <= NAME_BYTES_MAX)?;
        let (text, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(std::str::from_utf8(text).ok()?.to_owned())
    }

    fn node(&mut self) -> Option<NodeFact> {
        Some(NodeFact {
            name: self.text()?,
            region: self.text()?,
            avoided: avoidance(self.number()?)?,
            never_passed: self.flag()?,
        })
    }

    fn link(&mut self) -> Option<LinkFact> {
        let flags = self.byte()?;
        if flags >> 6 != 0 {
            return None;
        }
        let mut fact = LinkFact {
            state: [None, Some(LinkState::Up), Some(LinkState::Suspect), Some(LinkState::Down)]
                [usize::from(flags & 3)],
            doubt: [None, Some(Doubt::FewSamples), Some(Doubt::EndsDiffer), Some(Doubt::FasterThanLight)]
                [usize::from(flags >> 2 & 3)],
            by_receiver: flags >> 4 & 1 == 1,
            ..LinkFact::default()
        };
        if flags >> 5 & 1 == 0 {
            fact.cost_us = self.maybe()?;
        } else {
            let [one_way_us, queueing_us, repair_us, hop_us, load_us, money_us, distrust_us, jitter_us] = [
                self.number()?,
                self.number()?,
                self.number()?,
                self.number()?,
                self.number()?,
                self.number()?,
                self.number()?,
                self.number()?,
            ];
            let signed = |zigzag: u64| (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
            let (rounding_us, preference_us) = (signed(self.number()?), signed(self.number()?));
            let sum = [one_way_us, queueing_us, repair_us, hop_us, load_us, money_us, distrust_us, jitter_us];
            sum.iter().try_fold(0_u64, |sum, us| sum.checked_add(*us))?;
            let terms = CostTerms {
                one_way_us,
                queueing_us,
                repair_us,
                hop_us,
                load_us,
                money_us,
                distrust_us,
                jitter_us,
                rounding_us,
                preference_us,
            };
            (fact.terms, fact.cost_us) = (Some(terms), Some(terms.total_us()));
        }
        fact.raw_us = self.maybe()?;
        fact.age_us = self.maybe()?;
        fact.samples = self.maybe()?;
        fact.rtt_us = self.maybe()?;
        fact.rtt_min_us = self.maybe()?;
        fact.jitter_us = self.maybe()?;
        fact.loss_ppm = self.maybe()?.map(u32::try_from).transpose().ok()?;
        fact.rate = self.maybe()?;
        Some(fact)
    }

    fn step(&mut self) -> Option<Dated> {
        let epoch = Epoch(u32::try_from(self.number()?).ok()?);
        let at_ms = self.number()?;
        let mut step = StepFact { epoch, age: Duration::ZERO, rows: Vec::new(), prices: Vec::new() };
        for _ in 0..self.count()? {
            let (relay, plane, destination) = (self.index()?, self.plane()?, self.index()?);
            let next = self.maybe()?.map(u16::try_from).transpose().ok()?.map(NodeIndex);
            step.rows.push((relay, plane, destination, next));
        }
        for _ in 0..self.count()? {
            step.prices.push((self.index()?, self.index()?, self.maybe()?));
        }
        Some(Dated { at_ms, step })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node() -> impl Strategy<Value = NodeIndex> {
        any::<u16>().prop_map(NodeIndex)
    }

    fn node_fact() -> impl Strategy<Value = NodeFact> {
        ("[a-zé]{0,9}", "[a-z-]{0,9}", 0..6_u64, any::<bool>()).prop_map(
            |(name, region, avoided, never_passed)| NodeFact {
                name,
                region,
                avoided: avoidance(avoided).expect("one of them"),
                never_passed,
            },
        )
    }

    fn link_fact() -> impl Strategy<Value = LinkFact> {
        let some = || prop::option::of(0..1_u64 << 40);
        let terms = prop::option::of((any::<[u32; 8]>(), -1_000_i64..1_000));
        let words = (0..4_usize, 0..4_usize, any::<bool>());
        let first = (some(), some(), some(), some());
        (words, terms, first, some(), some(), prop::option::of(any::<u32>()), some()).prop_map(
            |(
                (state, doubt, by_receiver),
                terms,
                (cost_us, raw_us, age_us, samples),
                rtt_us,
                rtt_min_us,
                loss_ppm,
                rate,
            )| {
                let terms = terms.map(|(us, rounding_us)| CostTerms {
                    one_way_us: us[0].into(),
                    queueing_us: us[1].into(),
                    repair_us: us[2].into(),
                    hop_us: us[3].into(),
                    load_us: us[4].into(),
                    money_us: us[5].into(),
                    distrust_us: us[6].into(),
                    jitter_us: us[7].into(),
                    rounding_us,
                    preference_us: -rounding_us,
                });
                LinkFact {
                    state: [None, Some(LinkState::Up), Some(LinkState::Suspect), Some(LinkState::Down)]
                        [state],
                    cost_us: terms.map_or(cost_us, |terms| Some(terms.total_us())),
                    terms,
                    raw_us,
                    doubt: [
                        None,
                        Some(Doubt::FewSamples),
                        Some(Doubt::EndsDiffer),
                        Some(Doubt::FasterThanLight),
                    ][doubt],
                    by_receiver,
                    age_us,
                    samples,
                    rtt_us,
                    rtt_min_us,
                    jitter_us: rtt_us,
                    loss_ppm,
                    rate,
                }
            },
        )
    }

    fn frame() -> impl Strategy<Value = Frame> {
        let nodes = prop::collection::btree_map(node(), prop::option::of(node_fact()), 0..6);
        let links = prop::collection::btree_map((node(), node()), prop::option::of(link_fact()), 0..8);
        let plane = || (0..3_u8).prop_map(Plane);
        let tables = prop::option::of((
            any::<u32>().prop_map(Epoch),
            prop::collection::btree_map((node(), plane(), node()), node(), 0..10),
        ));
        let step = (
            any::<u32>(),
            any::<u64>(),
            prop::collection::vec((node(), plane(), node(), prop::option::of(node())), 0..5),
            prop::collection::vec((node(), node(), prop::option::of(0..u64::MAX)), 0..5),
        )
            .prop_map(|(epoch, at_ms, rows, prices)| Dated {
                at_ms,
                step: StepFact { epoch: Epoch(epoch), age: Duration::ZERO, rows, prices },
            });
        (any::<bool>(), nodes, links, tables, prop::collection::vec(step, 0..4)).prop_map(
            |(whole, nodes, links, tables, steps)| Frame {
                whole,
                nodes,
                links,
                tables: tables.map(|(epoch, rows)| {
                    let row = |((relay, plane, to), next)| (relay, plane, to, next);
                    (epoch, rows.into_iter().map(row).collect())
                }),
                steps,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(frame in frame()) {
            prop_assert_eq!(Frame::decode(&frame.encode()), Some(frame));
        }

        #[test]
        fn anything_may_be_read(mut bytes in prop::collection::vec(any::<u8>(), 0..200), legal in any::<bool>()) {
            if legal && bytes.len() > 1 {
                (bytes[0], bytes[1]) = (VERSION, bytes[1] & 1);
            }
            let _ = Frame::decode(&bytes);
        }

        #[test]
        fn a_torn_frame_counts_for_nothing(frame in frame(), cut in any::<prop::sample::Index>()) {
            let bytes = frame.encode();
            prop_assert_eq!(Frame::decode(&bytes[..cut.index(bytes.len())]), None);
        }
    }
}
