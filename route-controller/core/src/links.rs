//! What relays say of their links, and what follows: which links routes may use, and at which cost.
//!
//! A relay's word counts while it *speaks*: from the end of its reports in a session until its session has been gone
//! for the grace that [`crate::relays`] gives it. A link is usable while no end that speaks says it is down, at least
//! one says it is up, and none keeps silent about it; of an end that does not speak, nothing is asked.
//!
//! What is believed of measurements is in [`crate::guard`].

use crate::api::CostConfig;
use crate::cost::{CostTerms, LinkCost, Measurement};
use crate::damping::Damping;
use crate::guard::{self, Doubt, RoundTrip};
use crate::load::Load;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use wire_format::control::{LinkReport, LinkState, Position};
use wire_format::{NodeIndex, Timestamp};

/// What became of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LinkChange {
    /// Nothing that routes depend on.
    None,
    /// Routes may use it from now on.
    CameUp,
    /// Routes may use it no longer.
    Failed,
    /// Its published cost moved.
    Repriced,
}

/// A relay's last word on one of its links.
#[derive(Clone, Debug)]
pub(crate) struct Word {
    /// What it said.
    pub report: LinkReport,
    /// When.
    pub at: Timestamp,
    /// Said in a session before the present one, and not repeated yet.
    stale: bool,
}

/// Both directions of a link. The first of two is from the end with the lower index to the other.
#[derive(Clone, Debug, Default)]
struct Link {
    usable: bool,
    costs: [Option<LinkCost>; 2],
    loads: [Load; 2],
    doubts: [Option<Doubt>; 2],
    damping: Damping,
    /// The least round trip that physics allows between its ends, as far as they told where they stand.
    floor: Option<Duration>,
}

impl Link {
    fn terms(&self, direction: usize, config: &CostConfig) -> Option<CostTerms> {
        let step_us = u64::try_from(config.load_step.as_micros()).unwrap_or(u64::MAX).min(LOAD_US_MAX);
        let load_us = if self.loads[direction].is_loaded() { step_us } else { 0 };
        let distrust_us = self.damping.surcharge_us();
        let cost = self.costs[direction].as_ref().filter(|_| self.usable)?;
        Some(CostTerms { load_us, distrust_us, jitter_us: cost.jitter_us(), ..cost.terms() })
    }
}

/// Most that load may cost, whatever is configured.
const LOAD_US_MAX: u64 = 10_000_000;

/// All links of the overlay.
#[derive(Clone, Debug, Default)]
pub(crate) struct Links {
    words: BTreeMap<(NodeIndex, NodeIndex), Word>,
    /// Words that are no praise: about whom, and whose. Few, whereas every question about a relay would look at all of its
    /// neighbours' words.
    complaints: BTreeSet<(NodeIndex, NodeIndex)>,
    speaking: BTreeSet<NodeIndex>,
    links: BTreeMap<(NodeIndex, NodeIndex), Link>,
    /// Those with a surcharge that will end: few, whereas somebody asks for the next of them at each message.
    dear: BTreeSet<(NodeIndex, NodeIndex)>,
    /// For each relay, everyone with whom it has a link by anybody's word.
    others: BTreeMap<NodeIndex, BTreeSet<NodeIndex>>,
    positions: BTreeMap<NodeIndex, Position>,
    /// Reports that were not believed as they were.
    doubted: u64,
    /// Some policy minds jitter.
    minds_jitter: bool,
}

impl Links {
    /// A relay says something about its link to a neighbour.
    pub(crate) fn report(
        &mut self,
        now: Timestamp,
        from: NodeIndex,
        report: LinkReport,
        config: &CostConfig,
    ) -> LinkChange {
        let to = report.neighbour;
        let (rate, deliverable) = (report.rate_out, report.quality.deliverable_out);
        self.others.entry(from).or_default().insert(to);
        self.others.entry(to).or_default().insert(from);
        match report.state {
            LinkState::Up => self.complaints.remove(&(to, from)),
            LinkState::Suspect | LinkState::Down => self.complaints.insert((to, from)),
        };
        self.words.insert((from, to), Word { report, at: now, stale: false });
        let change = self.judge(now, from, to, config);
        if change != LinkChange::None || !self.is_usable(from, to) {
            return change;
        }
        let own = self.sample(now, from, to, config);
        // What the other end's measurement lacks this one may be.
        let lacks = !self.measures(to, from) || self.doubt(to, from) == Some(Doubt::FewSamples);
        let mirrored = lacks && self.sample(now, to, from, config);
        let link = self.links.entry(pair(from, to)).or_default();
        let stepped = link.loads[usize::from(from > to)].sample(now, rate, deliverable);
        if own || mirrored || stepped { LinkChange::Repriced } else { LinkChange::None }
    }

    /// Whether jitter is a reason to compute routes anew.
    pub(crate) fn mind_jitter(&mut self, minds: bool) {
        self.minds_jitter = minds;
    }

    /// Directions, from and to, that carry nearly all they can, and whether they did so when they were last reported.
    pub(crate) fn loaded(&self) -> BTreeMap<(NodeIndex, NodeIndex), bool> {
        let ends = |(low, high): (NodeIndex, NodeIndex)| [(low, high), (high, low)];
        let links = self.links.iter().filter(|(_, link)| link.usable);
        let directions = links.flat_map(|(pair, link)| ends(*pair).into_iter().zip(&link.loads));
        directions.filter(|(_, load)| load.is_loaded()).map(|(ends, load)| (ends, load.presses())).collect()
    }

    /// Where a relay says it stands.
    pub(crate) fn set_position(&mut self, node: NodeIndex, position: Option<Position>) {
        let before = match position {
            Some(position) => self.positions.insert(node, position),
            None => self.positions.remove(&node),
        };
        if before == position {
            return;
        }
        for other in self.others_of(node).collect::<Vec<_>>() {
            let floor = self.floor(node, other);
            if let Some(link) = self.links.get_mut(&pair(node, other)) {
                link.floor = floor;
            }
        }
    }

    /// Where a relay said it stands.
    pub(crate) fn position(&self, node: NodeIndex) -> Option<Position> {
        self.positions.get(&node).copied()
    }

    fn floor(&self, a: NodeIndex, b: NodeIndex) -> Option<Duration> {
        Some(guard::floor(*self.positions.get(&a)?, *self.positions.get(&b)?))
    }

    /// A relay opened a session: it will say everything again.
    pub(crate) fn session_opened(&mut self, from: NodeIndex) {
        for (_, word) in self.words.range_mut(from_all(from)) {
            word.stale = true;
        }
    }

    /// From now on the relay's word counts; what it did not repeat in this session is forgotten.
    pub(crate) fn start_speaking(
        &mut self,
        now: Timestamp,
        from: NodeIndex,
        config: &CostConfig,
    ) -> Vec<LinkChange> {
        let of = self.words.range(from_all(from));
        let stale: Vec<NodeIndex> = of.filter(|(_, word)| word.stale).map(|((_, to), _)| *to).collect();
        for to in stale {
            self.forget_word(from, to);
        }
        self.speaking.insert(from);
        self.judge_all(now, from, config)
    }

    /// From now on the relay's word does not count.
    pub(crate) fn stop_speaking(
        &mut self,
        now: Timestamp,
        from: NodeIndex,
        config: &CostConfig,
    ) -> Vec<LinkChange> {
        self.speaking.remove(&from);
        self.judge_all(now, from, config)
    }

    /// Forgets everything that anybody said of links of a relay that is gone.
    pub(crate) fn forget(&mut self, node: NodeIndex) {
        self.speaking.remove(&node);
        self.positions.remove(&node);
        for other in self.others.remove(&node).unwrap_or_default() {
            self.forget_word(node, other);
            self.forget_word(other, node);
            self.remove(node, other);
            if let Some(others) = self.others.get_mut(&other) {
                others.remove(&node);
            }
        }
    }

    /// Forgets everything that anybody said of a link that is no more.
    pub(crate) fn forget_link(&mut self, a: NodeIndex, b: NodeIndex) {
        self.remove(a, b);
        for (from, to) in [(a, b), (b, a)] {
            self.forget_word(from, to);
            if let Some(others) = self.others.get_mut(&from) {
                others.remove(&to);
            }
        }
    }

    /// Whether an end that is believed has measured a round trip.
    pub(crate) fn is_measured(&self, a: NodeIndex, b: NodeIndex) -> bool {
        let is_believed = |from, to| {
            self.measures(from, to)
                && !matches!(self.doubt(from, to), Some(Doubt::FasterThanLight | Doubt::FewSamples))
        };
        is_believed(a, b) || is_believed(b, a)
    }

    /// Ends surcharges that are due. True if one ended.
    pub(crate) fn tick(&mut self, now: Timestamp) -> bool {
        let links = &mut self.links;
        let before = self.dear.len();
        self.dear.retain(|pair| links.get_mut(pair).is_some_and(|link| !link.damping.tick(now)));
        self.dear.len() < before
    }

    /// When [`Links::tick`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        let dear = self.dear.iter().filter_map(|pair| self.links.get(pair));
        dear.filter_map(|link| link.damping.deadline()).min()
    }

    fn forget_word(&mut self, from: NodeIndex, to: NodeIndex) {
        self.words.remove(&(from, to));
        self.complaints.remove(&(to, from));
    }

    fn remove(&mut self, a: NodeIndex, b: NodeIndex) {
        self.links.remove(&pair(a, b));
        self.dear.remove(&pair(a, b));
    }

    /// Whether routes may use the link, in both directions.
    pub(crate) fn is_usable(&self, a: NodeIndex, b: NodeIndex) -> bool {
        self.links.get(&pair(a, b)).is_some_and(|link| link.usable)
    }

    /// Whether any link of a relay is usable: it is alive, whatever became of its session.
    pub(crate) fn is_reached(&self, node: NodeIndex) -> bool {
        self.neighbours_usable(node).next().is_some()
    }

    /// The other ends of a relay's usable links.
    pub(crate) fn neighbours_usable(&self, node: NodeIndex) -> impl Iterator<Item = NodeIndex> + '_ {
        self.others_of(node).filter(move |other| self.is_usable(node, *other))
    }

    /// Whether a speaking neighbour says that its link to the relay is down, while the relay itself does not.
    pub(crate) fn is_doubted(&self, node: NodeIndex) -> bool {
        let says_down = |from: NodeIndex, to: NodeIndex| {
            self.words.get(&(from, to)).is_some_and(|word| word.report.state == LinkState::Down)
        };
        self.complaining_of(node)
            .any(|other| self.speaking.contains(&other) && says_down(other, node) && !says_down(node, other))
    }

    /// Who says of a relay that the link to it is down or suspect.
    fn complaining_of(&self, node: NodeIndex) -> impl Iterator<Item = NodeIndex> + '_ {
        self.complaints.range(from_all(node)).map(|(_, by)| *by)
    }

    /// Whether a relay looks as one does that died a moment ago, long before its links are down: at least half of the
    /// neighbours that speak and have a link to it miss it, or one of them and its session is gone; or it is in doubt. Links
    /// on which little is sent notice late, so their word for it counts little.
    pub(crate) fn is_missed(&self, node: NodeIndex, in_session: bool) -> bool {
        if self.complaining_of(node).next().is_none() {
            return false;
        }
        let (mut missing, mut hearing) = (0, 0);
        for other in self.others_of(node).filter(|other| self.speaking.contains(other)) {
            match self.words.get(&(other, node)).map(|word| word.report.state) {
                Some(LinkState::Up) => hearing += 1,
                Some(LinkState::Suspect) => missing += 1,
                Some(LinkState::Down) => missing += usize::from(self.is_usable(other, node)),
                None => {}
            }
        }
        missing > 0 && (!in_session || missing >= hearing) || self.is_doubted(node)
    }

    /// Usable links, both directions, with what their costs are made of before a policy weighs it. Money is not known here.
    pub(crate) fn usable<'a>(
        &'a self,
        config: &'a CostConfig,
    ) -> impl Iterator<Item = (NodeIndex, NodeIndex, CostTerms)> + 'a {
        self.links.iter().filter(|(_, link)| link.usable).flat_map(|(&(low, high), link)| {
            [(low, high, link.terms(0, config)), (high, low, link.terms(1, config))]
                .into_iter()
                .filter_map(|(from, to, terms)| terms.map(|terms| (from, to, terms)))
        })
    }

    /// A relay's last word on a link.
    pub(crate) fn word(&self, from: NodeIndex, to: NodeIndex) -> Option<&Word> {
        self.words.get(&(from, to))
    }

    /// Every direction that anybody spoke of: from, to.
    pub(crate) fn known(&self) -> BTreeSet<(NodeIndex, NodeIndex)> {
        self.words.keys().flat_map(|&(from, to)| [(from, to), (to, from)]).collect()
    }

    /// The same behind a certain one, in order, so many at most.
    pub(crate) fn known_behind(
        &self,
        behind: Option<(NodeIndex, NodeIndex)>,
        most: usize,
    ) -> Vec<(NodeIndex, NodeIndex)> {
        let first = behind.map_or(NodeIndex(0), |(from, _)| from);
        let ends = self.others.range(first..).flat_map(|(from, others)| others.iter().map(|to| (*from, *to)));
        ends.filter(|ends| behind.is_none_or(|behind| *ends > behind)).take(most).collect()
    }

    /// The same of one direction, while routes may use the link.
    pub(crate) fn terms(&self, from: NodeIndex, to: NodeIndex, config: &CostConfig) -> Option<CostTerms> {
        self.links.get(&pair(from, to))?.terms(usize::from(from > to), config)
    }

    /// Measured cost of the latest report.
    pub(crate) fn raw_us(&self, from: NodeIndex, to: NodeIndex) -> Option<u64> {
        let link = self.links.get(&pair(from, to)).filter(|link| link.usable)?;
        Some(link.costs[usize::from(from > to)].as_ref()?.raw_us())
    }

    /// Why what `from` measured last is not believed as it is.
    pub(crate) fn doubt(&self, from: NodeIndex, to: NodeIndex) -> Option<Doubt> {
        self.links.get(&pair(from, to))?.doubts[usize::from(from > to)]
    }

    /// Reports that were not believed as they were, so far.
    pub(crate) fn doubted(&self) -> u64 {
        self.doubted
    }

    fn others_of(&self, node: NodeIndex) -> impl Iterator<Item = NodeIndex> + '_ {
        self.others.get(&node).into_iter().flatten().copied()
    }

    fn judge_all(&mut self, now: Timestamp, node: NodeIndex, config: &CostConfig) -> Vec<LinkChange> {
        let others: Vec<NodeIndex> = self.others_of(node).collect();
        others.into_iter().map(|other| self.judge(now, node, other, config)).collect()
    }

    fn judge(&mut self, now: Timestamp, a: NodeIndex, b: NodeIndex, config: &CostConfig) -> LinkChange {
        let (low, high) = pair(a, b);
        let voices = [self.voice(low, high), self.voice(high, low)];
        let refused = voices.contains(&Voice::Down) || voices.contains(&Voice::Unsaid);
        let usable = !refused && voices.contains(&Voice::Up);
        let floor = self.floor(low, high);
        let link = self.links.entry((low, high)).or_insert_with(|| Link { floor, ..Link::default() });
        if link.usable == usable {
            return LinkChange::None;
        }
        link.usable = usable;
        link.costs = [None, None];
        link.loads = [Load::default(), Load::default()];
        link.doubts = [None, None];
        if !usable {
            link.damping.fail(now);
            if link.damping.deadline().is_some() {
                self.dear.insert((low, high));
            }
            return LinkChange::Failed;
        }
        link.damping.came_up(now);
        self.sample(now, low, high, config);
        self.sample(now, high, low, config);
        LinkChange::CameUp
    }

    fn voice(&self, from: NodeIndex, to: NodeIndex) -> Voice {
        if !self.speaking.contains(&from) {
            return Voice::Gone;
        }
        match self.words.get(&(from, to)).map(|word| word.report.state) {
            None => Voice::Unsaid,
            Some(LinkState::Down) => Voice::Down,
            // A suspect link is its ends' affair: they go around it for as long as they wish.
            Some(LinkState::Up | LinkState::Suspect) => Voice::Up,
        }
    }

    /// Whether `from` speaks and has a measurement of its own.
    fn measures(&self, from: NodeIndex, to: NodeIndex) -> bool {
        self.speaking.contains(&from)
            && self.words.get(&(from, to)).is_some_and(|word| word.report.rtt.is_some())
    }

    /// Prices the direction from `from` to `to` by what its ends measured, as far as that is believed.
    fn sample(&mut self, now: Timestamp, from: NodeIndex, to: NodeIndex, config: &CostConfig) -> bool {
        let own = self.words.get(&(from, to)).filter(|_| self.speaking.contains(&from));
        let other = self.words.get(&(to, from)).filter(|_| self.speaking.contains(&to));
        let (own, other) = (own.map(|word| &word.report), other.map(|word| &word.report));
        let Some(link) = self.links.get_mut(&pair(from, to)) else {
            return false;
        };
        let direction = usize::from(from > to);
        let round_trip = |report: Option<&LinkReport>| {
            let report = report?;
            Some(RoundTrip { rtt: report.rtt?, rtt_min: report.rtt_min, samples: report.samples })
        };
        let rounds = [round_trip(own), round_trip(other)];
        let (first, second) = if rounds[0].is_some() { (rounds[0], rounds[1]) } else { (rounds[1], None) };
        let (believed, doubt) = guard::judge(first, second, link.floor, config);
        self.doubted += u64::from(doubt.is_some_and(|doubt| doubt != Doubt::FewSamples));
        link.doubts[direction] = doubt;
        // The sender counts what it is told was lost, the receiver what it missed.
        let loss_ppm = match (rounds[0], own, other) {
            (Some(_), Some(own), _) => own.loss_out_ppm,
            (_, _, Some(other)) => other.loss_in_ppm,
            (_, _, None) => 0,
        };
        let queueing = match (own, other) {
            (_, Some(other)) => [other.quality.queueing_in, other.quality.queueing_out],
            (Some(own), None) => [own.quality.queueing_out, own.quality.queueing_in],
            (None, None) => Default::default(),
        };
        let measurement = Measurement {
            rtt: believed.map(|round| round.rtt),
            rtt_min: believed.and_then(|round| round.rtt_min),
            queueing,
            // Only the receiver measures it, and tells the sender.
            jitter: match (own, other) {
                (_, Some(other)) => other.jitter_in,
                (Some(own), None) => own.jitter_out,
                (None, None) => Duration::ZERO,
            },
            loss_ppm,
            // Only the receiver sees them; the other direction's are the best guess without it.
            bursts: other.or(own).map(|report| report.quality.bursts_in).unwrap_or_default(),
            samples: believed.map_or(0, |round| round.samples),
        };
        match &mut link.costs[direction] {
            // A link that was dialled anew, or whose measurement is not believed, is priced as before.
            Some(_) if measurement.rtt.is_none() => false,
            Some(cost) => {
                let jitter_us = cost.jitter_us();
                cost.sample(now, &measurement, config) || self.minds_jitter && cost.jitter_us() != jitter_us
            }
            empty @ None => {
                *empty = Some(LinkCost::new(now, &measurement, config));
                true
            }
        }
    }
}

/// What one end of a link has to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Voice {
    Up,
    Down,
    /// It speaks, but not of this link.
    Unsaid,
    /// It does not speak.
    Gone,
}

fn pair(a: NodeIndex, b: NodeIndex) -> (NodeIndex, NodeIndex) {
    (a.min(b), a.max(b))
}

fn from_all(from: NodeIndex) -> std::ops::RangeInclusive<(NodeIndex, NodeIndex)> {
    (from, NodeIndex(u16::MIN))..=(from, NodeIndex(u16::MAX))
}
