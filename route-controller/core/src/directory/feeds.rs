//! Who feeds whom of a stream, and how that changes without a gap.
//!
//! **A tree.** Every relay that is stamped has one feeder, the ingress or another relay that is fed. A feeder is chosen when a
//! relay has acknowledged its row, by [`FeedingConfig::choose`], among those that are fed themselves: their feeder has
//! acknowledged a row that names them. Whoever would be fed by way of a relay never feeds it, so there is no circle.
//!
//! **Make before break.** A relay that changes its feeder has two for a while. The former one stamps it until the new one has
//! acknowledged that it does, and for as long after that as packets are under way: those that the new one had passed on
//! already when it learned of the relay may still be on their way to the former. What comes twice ends at the relay.
//!
//! **Why a feeder changes.** It leaves, is cordoned or drained, its subscribers leave, or all its neighbours miss it: then at
//! once, as often as it takes. Another way has become better by the gain, or the present one too long: then a few times a
//! minute for each stream, so that nobody's media goes to and fro; and for what they all load together ([`Sum`]). Streams are looked at in turn, a bounded part each second in
//! which something gave reason to.
//!
//! **After a restart** relays tell what they stamp. Each such relay is a feeder as before, until those it feeds have reported
//! and something better is found.

mod review;

use super::rows::LINGER;
use super::{Directory, Stream, Timer};
use crate::effect::Effect;
use crate::feeding::{Behind, FeedingConfig, FeedingQuality, Loads, Offer, Source, quality};
use crate::planes::Routes;
use crate::view::FeedView;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use wire_format::control::StreamName;
use wire_format::{NodeIndex, StreamKey, Timestamp};

/// A relay that was unfit to feed others is so for so long more.
const FIT_AFTER: Duration = Duration::from_secs(10);

/// How one relay is fed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Feed {
    feeder: NodeIndex,
    /// The feeder has acknowledged that it stamps the relay.
    established: bool,
    /// Who stamps it as well until packets that are under way have come.
    former: Option<NodeIndex>,
    /// When the former one stops.
    release_at: Option<Timestamp>,
}

impl Feed {
    fn is_by(&self, node: NodeIndex) -> bool {
        self.feeder == node || self.former == Some(node)
    }
}

/// How all relays that a stream goes to are fed.
#[derive(Clone, Debug, Default)]
pub(super) struct Feeds {
    of: BTreeMap<NodeIndex, Feed>,
    /// The ingress, as of the last look: it is another when the publisher has moved.
    root: Option<NodeIndex>,
    /// When feeders changed for a gain.
    moves: Vec<Timestamp>,
    /// By the routes of a generation.
    loads: Option<(u64, Loads)>,
    /// Feeders other than the ingress, as [`Feeding::holders`] has them.
    noted: BTreeSet<NodeIndex>,
}

impl Feeds {
    /// Forgets everything: another publication begins.
    pub(super) fn clear(&mut self) {
        *self = Feeds { noted: std::mem::take(&mut self.noted), ..Feeds::default() };
    }

    /// The stream enters elsewhere, where everyone is stamped while its publisher moves: whom the ingress before fed, the
    /// new one feeds.
    fn enters_at(&mut self, ingress: NodeIndex) {
        let Some(before) = self.root.replace(ingress).filter(|before| *before != ingress) else { return };
        self.of.remove(&ingress);
        for feed in self.of.values_mut() {
            feed.former = feed.former.filter(|former| ![before, ingress].contains(former));
            if feed.feeder == before {
                (feed.feeder, feed.established) = (ingress, false);
            }
        }
        self.loads = None;
    }

    /// Everyone who feeds somebody.
    pub(super) fn feeders(&self) -> BTreeSet<NodeIndex> {
        self.of.values().flat_map(|feed| [Some(feed.feeder), feed.former]).flatten().collect()
    }

    /// Pairs of feeder and fed, as they are to be.
    fn pairs(&self) -> impl Iterator<Item = (NodeIndex, NodeIndex)> + '_ {
        self.of.iter().map(|(fed, feed)| (feed.feeder, *fed))
    }

    /// Whether a relay gets the stream by way of another, or is it.
    fn hangs_on(&self, mut node: NodeIndex, on: NodeIndex) -> bool {
        // Nobody has more feeders above it than there are relays.
        for _ in 0..=self.of.len() {
            if node == on {
                return true;
            }
            let Some(feed) = self.of.get(&node) else { return false };
            node = feed.feeder;
        }
        true
    }

    /// How the stream comes to a relay. `None` if that is not certain.
    fn source(&self, routes: &Routes, ingress: NodeIndex, node: NodeIndex) -> Option<Source> {
        let (mut delay_us, mut depth, mut at) = (0, 0, node);
        while at != ingress {
            let feed = self.of.get(&at).filter(|feed| feed.established)?;
            delay_us += routes.way_cost_us(feed.feeder, at)?;
            depth += 1;
            if depth > self.of.len() {
                return None;
            }
            at = feed.feeder;
        }
        Some(Source { node, delay_us, depth })
    }

    /// What those behind a relay ask of its feeder.
    fn behind(&self, config: &FeedingConfig, routes: &Routes, ingress: NodeIndex, node: NodeIndex) -> Behind {
        let mut behind = Behind::NOBODY;
        if !self.of.values().any(|feed| feed.feeder == node) {
            return behind;
        }
        for other in self.of.keys().copied().filter(|other| *other != node && self.hangs_on(*other, node)) {
            let (mut rows, mut after_us, mut at) = (0, 0, other);
            while at != node {
                let Some(feed) = self.of.get(&at) else { break };
                after_us += routes.way_cost_us(feed.feeder, at).unwrap_or(0);
                rows += 1;
                at = feed.feeder;
            }
            behind.rows = behind.rows.max(rows);
            if let Some(direct_us) = routes.way_cost_us(ingress, other) {
                let kept_us = config.delay_kept_us(direct_us).saturating_sub(after_us);
                behind.delay_max_us = behind.delay_max_us.min(kept_us);
            }
        }
        behind
    }

    /// What links carry, but for what one relay is fed with. To be given back.
    fn loads_without(&mut self, generation: u64, routes: &Routes, fed: NodeIndex) -> Loads {
        let mut loads = match self.loads.take() {
            Some((of, loads)) if of == generation => loads,
            Some(_) | None => Loads::new(routes, self.pairs()),
        };
        if let Some(feed) = self.of.get(&fed) {
            loads.remove(routes, feed.feeder, fed);
        }
        loads
    }

    fn give_back(&mut self, generation: u64, routes: &Routes, fed: NodeIndex, mut loads: Loads) {
        if let Some(feed) = self.of.get(&fed) {
            loads.add(routes, feed.feeder, fed);
        }
        self.loads = Some((generation, loads));
    }

    /// Gives a relay a feeder; the one that it has goes on until the new one has begun.
    fn set(&mut self, feeding: &Feeding, fed: NodeIndex, feeder: NodeIndex) {
        let loads = feeding
            .routes
            .as_ref()
            .map(|routes| (Arc::clone(routes), self.loads_without(feeding.generation, routes, fed)));
        let feed = Feed { feeder, established: false, former: None, release_at: None };
        self.of
            .entry(fed)
            .and_modify(|known| {
                // One that never began needs no end. The one before it goes on, and if it is that again, it never stopped.
                let former = if known.established { Some(known.feeder) } else { known.former };
                *known = Feed { former: former.filter(|former| *former != feeder), ..feed };
            })
            .or_insert(feed);
        if let Some((routes, loads)) = loads {
            self.give_back(feeding.generation, &routes, fed, loads);
        }
    }
}

/// What the directory knows for all streams.
#[derive(Clone, Debug)]
pub(super) struct Feeding {
    pub(super) config: FeedingConfig,
    routes: Option<Arc<Routes>>,
    /// Counts routes.
    generation: u64,
    /// Relays that must feed nobody: now, or until a time.
    unfit: BTreeMap<NodeIndex, Option<Timestamp>>,
    /// Holders, and what they hold for others.
    holders: BTreeMap<NodeIndex, BTreeSet<StreamKey>>,
    /// Where the present round of looking at streams goes on.
    review_from: Option<StreamKey>,
    review_at: Option<Timestamp>,
    /// A further round is needed: something has changed since this one began.
    review_again: bool,
}

impl Feeding {
    pub(super) fn new(config: FeedingConfig) -> Feeding {
        Feeding {
            config,
            routes: None,
            generation: 0,
            unfit: BTreeMap::new(),
            holders: BTreeMap::new(),
            review_from: None,
            review_at: None,
            review_again: false,
        }
    }

    fn is_fit(&self, now: Timestamp, node: NodeIndex) -> bool {
        self.unfit.get(&node).is_none_or(|until| until.is_some_and(|until| until <= now))
    }
}

impl Stream {
    /// By feeder: relays that it is to stamp, those it feeds that have acknowledged their rows, and those that it stamps since
    /// before this controller's start and that have not reported yet.
    pub(super) fn destinations(&self) -> BTreeMap<NodeIndex, BTreeSet<NodeIndex>> {
        let Some((ingress, _)) = self.live else { return BTreeMap::new() };
        let feeders = self.feeds.feeders();
        let mut destinations: BTreeMap<NodeIndex, BTreeSet<NodeIndex>> = BTreeMap::new();
        for (node, feed) in &self.feeds.of {
            if self.is_confirmed(*node) || self.held.contains(node) || feeders.contains(node) {
                for feeder in [Some(feed.feeder), feed.former].into_iter().flatten() {
                    if *node != ingress && *node != feeder {
                        destinations.entry(feeder).or_default().insert(*node);
                    }
                }
            }
        }
        destinations
    }

    /// Relays other than the ingress that have to do with it: where it is subscribed to, and those that feed others.
    pub(super) fn wanted(&self) -> BTreeSet<NodeIndex> {
        let ingress = self.live.map(|(ingress, _)| ingress);
        let all = self.matching.keys().copied().chain(self.held.iter().copied()).chain(self.feeds.feeders());
        all.filter(|node| Some(*node) != ingress).collect()
    }

    /// All copies of it are stamped where it enters.
    fn feeds_directly(&self) -> bool {
        self.protect
    }
}

impl Directory {
    /// Decides who feeds whom, as far as that is open or must change.
    pub(super) fn assign(&mut self, now: Timestamp, name: &StreamName) {
        let Some(stream) = self.streams.get_mut(name) else { return };
        let Some((ingress, _)) = stream.live else { return };
        stream.feeds.enters_at(ingress);
        for feed in stream.feeds.of.values_mut() {
            if feed.release_at.is_some_and(|at| at <= now) {
                (feed.former, feed.release_at) = (None, None);
            }
        }
        // Who is wanted neither for itself nor for others is fed no more; then, perhaps, who fed it.
        loop {
            let feeders = stream.feeds.feeders();
            let (matching, held) = (&stream.matching, &stream.held);
            let before = stream.feeds.of.len();
            stream.feeds.of.retain(|node, _| {
                *node != ingress
                    && (matching.contains_key(node) || held.contains(node) || feeders.contains(node))
            });
            if stream.feeds.of.len() == before {
                break;
            }
            stream.feeds.loads = None;
        }
        let unfed = stream.matching.keys().copied().filter(|node| *node != ingress);
        let unfed = unfed.filter(|node| stream.is_confirmed(*node) && !stream.feeds.of.contains_key(node));
        let mut open: Vec<NodeIndex> = unfed.collect();
        // What was held before this controller's start, by relays that it did not know of then.
        open.extend(stream.held.iter().filter(|node| !stream.feeds.of.contains_key(node)));
        let left = |feeder: NodeIndex| {
            feeder != ingress
                && (!self.feeding.is_fit(now, feeder)
                    || !stream.matching.contains_key(&feeder) && !stream.held.contains(&feeder)
                    || !stream.feeds.of.contains_key(&feeder))
        };
        open.extend(stream.feeds.of.iter().filter(|(_, feed)| left(feed.feeder)).map(|(node, _)| *node));
        for node in open {
            let feeder = self.best(now, name, node).map_or(ingress, |offer| offer.feeder);
            let Some(stream) = self.streams.get_mut(name) else { return };
            if stream.feeds.of.get(&node).is_none_or(|feed| feed.feeder != feeder) {
                stream.feeds.set(&self.feeding, node, feeder);
                self.review(now);
            }
        }
        self.note_holders(name);
    }

    /// The best feeder of a relay, the one that it has among others. `None`: nothing is known of ways.
    fn best(&mut self, now: Timestamp, name: &StreamName, fed: NodeIndex) -> Option<Offer> {
        let stream = self.streams.get_mut(name)?;
        let (ingress, _) = stream.live?;
        if stream.feeds_directly() {
            return None;
        }
        let routes = self.feeding.routes.clone()?;
        let ready = |node: NodeIndex| self.peers.get(&node).is_some_and(|peer| peer.ready);
        let generation = self.feeding.generation;
        let loads = stream.feeds.loads_without(generation, &routes, fed);
        let feeds = &stream.feeds;
        let behind = feeds.behind(&self.feeding.config, &routes, ingress, fed);
        let holders = stream.matching.keys().copied().filter(|node| {
            *node != ingress
                && ready(*node)
                && self.feeding.is_fit(now, *node)
                && stream.is_confirmed(*node)
                && !feeds.hangs_on(*node, fed)
        });
        let sources = holders.filter_map(|node| feeds.source(&routes, ingress, node));
        let best =
            self.feeding.config.choose(&routes, &loads, (ingress, ready(ingress)), fed, &behind, sources);
        stream.feeds.give_back(generation, &routes, fed, loads);
        best
    }

    /// A feeder has acknowledged a row that names `destinations`: they are fed, and who fed them before may stop in a moment.
    pub(super) fn established(
        &mut self,
        now: Timestamp,
        name: &StreamName,
        feeder: NodeIndex,
        destinations: &BTreeSet<NodeIndex>,
    ) {
        let Some(stream) = self.streams.get_mut(name) else { return };
        for node in destinations {
            let Some(feed) = stream.feeds.of.get_mut(node).filter(|feed| feed.feeder == feeder) else {
                continue;
            };
            feed.established = true;
            if feed.former.is_some() && feed.release_at.is_none() {
                feed.release_at = Some(now + LINGER);
                self.timers.insert((now + LINGER, Timer::Stream(name.clone())));
            }
        }
    }

    /// Keeps in mind for whom the relays of a stream hold it.
    fn note_holders(&mut self, name: &StreamName) {
        let Some(stream) = self.streams.get_mut(name) else { return };
        let ingress = stream.live.map(|(ingress, _)| ingress);
        let feeders: BTreeSet<_> =
            stream.feeds.of.values().map(|feed| feed.feeder).filter(|node| Some(*node) != ingress).collect();
        let before = std::mem::replace(&mut stream.feeds.noted, feeders);
        let (key, feeders) = (stream.key, &stream.feeds.noted);
        for node in before.difference(feeders) {
            if let Some(held) = self.feeding.holders.get_mut(node) {
                held.remove(&key);
                if held.is_empty() {
                    self.feeding.holders.remove(node);
                }
            }
        }
        for node in feeders.difference(&before) {
            self.feeding.holders.entry(*node).or_default().insert(key);
        }
    }

    /// A relay says what it stamps, which may be from before this controller's start.
    pub(super) fn adopt(&mut self, now: Timestamp, name: &StreamName, feeder: NodeIndex, fed: &[NodeIndex]) {
        let Some(stream) = self.streams.get_mut(name) else { return };
        let Some((ingress, _)) = stream.live else { return };
        for node in fed.iter().copied().filter(|node| *node != ingress && *node != feeder) {
            if stream.feeds.hangs_on(feeder, node) {
                continue;
            }
            match stream.feeds.of.get_mut(&node) {
                None => {
                    let feed = Feed { feeder, established: true, former: None, release_at: None };
                    stream.feeds.of.insert(node, feed);
                    stream.held.insert(node);
                }
                Some(feed) if feed.feeder != feeder && feed.former.is_none() => feed.former = Some(feeder),
                Some(_) => {}
            }
        }
        stream.feeds.loads = None;
        if !stream.held.is_empty() {
            stream.held_until = now + super::HOLD;
            self.timers.insert((stream.held_until, Timer::Stream(name.clone())));
        }
    }

    /// A relay has lost its rows: whom it fed it feeds no longer.
    pub(super) fn lost_rows(&mut self, name: &StreamName, feeder: NodeIndex, kept: &[NodeIndex]) {
        let Some(stream) = self.streams.get_mut(name) else { return };
        let lost = |node: &NodeIndex| !kept.contains(node);
        for (_, feed) in stream.feeds.of.iter_mut().filter(|(node, feed)| feed.is_by(feeder) && lost(node)) {
            if feed.feeder == feeder {
                feed.established = false;
            } else {
                feed.former = None;
            }
        }
    }

    /// Tables have changed.
    pub(crate) fn routes_changed(&mut self, now: Timestamp, routes: Arc<Routes>) {
        self.feeding.routes = Some(routes);
        self.feeding.generation += 1;
        self.review(now);
    }

    /// These relays must feed nobody, all others may.
    pub(crate) fn set_unfit(&mut self, now: Timestamp, unfit: &BTreeSet<NodeIndex>, out: &mut Vec<Effect>) {
        for (_, until) in self.feeding.unfit.iter_mut().filter(|(node, _)| !unfit.contains(node)) {
            until.get_or_insert(now + FIT_AFTER);
        }
        self.feeding.unfit.retain(|_, until| until.is_none_or(|until| now < until));
        let turned = |node: &&NodeIndex| self.feeding.unfit.insert(**node, None) != Some(None);
        let left: Vec<NodeIndex> = unfit.iter().filter(turned).copied().collect();
        self.leave_feeders(now, &left, out);
    }

    /// The same of one relay alone.
    pub(crate) fn judge_feeder(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        unfit: bool,
        out: &mut Vec<Effect>,
    ) {
        if unfit {
            if self.feeding.unfit.insert(node, None) != Some(None) {
                self.leave_feeders(now, &[node], out);
            }
        } else if let Some(until) = self.feeding.unfit.get_mut(&node) {
            until.get_or_insert(now + FIT_AFTER);
        }
    }

    /// Streams that these relays feed find others.
    fn leave_feeders(&mut self, now: Timestamp, feeders: &[NodeIndex], out: &mut Vec<Effect>) {
        let left = feeders.iter().filter_map(|node| self.feeding.holders.get(node)).flatten();
        let names: BTreeSet<_> = left.filter_map(|key| self.names.get(key).cloned()).collect();
        for name in names {
            self.refresh(now, &name, out);
        }
    }

    /// Who feeds whom of a stream, for people, and how good that is by the routes in force.
    pub(super) fn feed_views(
        &self,
        stream: &Stream,
        relay_name: impl Fn(NodeIndex) -> String,
    ) -> (Vec<FeedView>, FeedingQuality) {
        let (Some((ingress, _)), Some(routes)) = (stream.live, &self.feeding.routes) else {
            return Default::default();
        };
        let pairs: Vec<_> = stream.feeds.pairs().collect();
        let view = |(fed, feed): (&NodeIndex, &Feed)| {
            let source = stream.feeds.source(routes, ingress, *fed);
            FeedView {
                egress: relay_name(*fed),
                feeder: relay_name(feed.feeder),
                former: feed.former.map(&relay_name),
                holders: source.map_or(0, |source| source.depth.saturating_sub(1)),
                delay_us: source.map(|source| source.delay_us),
                direct_us: routes.way_cost_us(ingress, *fed),
            }
        };
        (stream.feeds.of.iter().map(view).collect(), quality(routes, ingress, &pairs))
    }
}
