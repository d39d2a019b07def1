//! Whether relays of a stream have better feeders than the present ones: each by itself, and all together.

use super::{Feed, Feeds};
use crate::directory::Directory;
use crate::effect::Effect;
use crate::feeding::{Source, Sum};
use std::time::Duration;
use wire_format::control::StreamName;
use wire_format::{NodeIndex, Timestamp};

/// Between two looks at whether other feeders are better.
const REVIEW_EVERY: Duration = Duration::from_secs(1);
/// Streams and feeds that are looked at each time, at most.
const REVIEW_STREAMS: usize = 4_096;
const REVIEW_FEEDS: usize = 256;
/// For this long a stream's changes of feeders are remembered.
const MOVES_WITHIN: Duration = Duration::from_secs(60);

impl Feeds {
    fn are_direct(&self, ingress: NodeIndex) -> bool {
        self.of.values().all(|feed| feed.feeder == ingress)
    }
}

impl Directory {
    /// Something gives reason to look at all streams once.
    pub(super) fn review(&mut self, now: Timestamp) {
        if self.feeding.config.gain.is_none() {
            return;
        }
        if self.feeding.review_at.is_none() {
            self.feeding.review_at = Some(now + REVIEW_EVERY);
            self.feeding.review_from = None;
        } else {
            self.feeding.review_again = true;
        }
    }

    /// When [`Directory::review_due`] has something to do.
    pub(in crate::directory) fn review_at(&self) -> Option<Timestamp> {
        self.feeding.review_at
    }

    /// Looks at some streams, and gives relays better feeders.
    pub(in crate::directory) fn review_due(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        if self.feeding.review_at.is_none_or(|at| now < at) {
            return;
        }
        let from = self.feeding.review_from.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let streams = self.names.range((from, std::ops::Bound::Unbounded)).take(REVIEW_STREAMS);
        let streams: Vec<_> = streams.map(|(key, name)| (*key, name.clone())).collect();
        let mut looked_at = 0;
        let mut at_end = streams.len() < REVIEW_STREAMS;
        for (key, name) in streams {
            self.feeding.review_from = Some(key);
            looked_at += self.review_stream(now, &name, out);
            if looked_at >= REVIEW_FEEDS {
                at_end = false;
                break;
            }
        }
        if at_end {
            self.feeding.review_from = None;
            let again = std::mem::take(&mut self.feeding.review_again);
            self.feeding.review_at = again.then_some(now + REVIEW_EVERY);
        } else {
            self.feeding.review_at = Some(now + REVIEW_EVERY);
        }
    }

    /// The same for one stream. How many feeds were looked at.
    fn review_stream(&mut self, now: Timestamp, name: &StreamName, out: &mut Vec<Effect>) -> usize {
        let Some(stream) = self.streams.get_mut(name) else { return 0 };
        stream.feeds.moves.retain(|at| now < *at + MOVES_WITHIN);
        if stream.live.is_none() || stream.feeds.of.len() < 2 || stream.feeds_directly() {
            return 0;
        }
        let settled = |(node, feed): (&NodeIndex, &Feed)| {
            (feed.established && feed.former.is_none()).then_some((*node, feed.feeder))
        };
        let feeds: Vec<_> = stream.feeds.of.iter().filter_map(settled).collect();
        let mut moved = false;
        for (node, feeder) in &feeds {
            let Some(stream) = self.streams.get(name) else { break };
            if stream.feeds.moves.len() >= self.feeding.config.moves_per_minute {
                break;
            }
            let Some(better) = self.better(now, name, *node, *feeder) else { continue };
            let Some(stream) = self.streams.get_mut(name) else { break };
            stream.feeds.set(&self.feeding, *node, better);
            stream.feeds.moves.push(now);
            moved = true;
        }
        if !moved {
            moved = self.correct(now, name);
        }
        if moved {
            self.review(now);
            self.refresh(now, name, out);
        }
        feeds.len()
    }

    /// Has the ingress feed relays itself where all together are fed by dearer links than if it fed them all. Whether anybody
    /// is fed by another now.
    fn correct(&mut self, now: Timestamp, name: &StreamName) -> bool {
        let Some(routes) = self.feeding.routes.clone() else { return false };
        let Some(stream) = self.streams.get_mut(name) else { return false };
        let Some((ingress, _)) = stream.live else { return false };
        let settled = |feed: &Feed| feed.established && feed.former.is_none();
        let listens = self.peers.get(&ingress).is_some_and(|peer| peer.ready);
        if !listens || !stream.feeds.of.values().all(settled) || stream.feeds.are_direct(ingress) {
            return false;
        }
        let mut sum = Sum::new(&routes, ingress, stream.feeds.pairs());
        if !sum.is_dearer() {
            return false;
        }
        let free = self.feeding.config.moves_per_minute.saturating_sub(stream.feeds.moves.len());
        if free == 0 {
            self.review(now);
            return false;
        }
        let turned = sum.corrected(stream.feeds.pairs());
        for node in &turned {
            stream.feeds.set(&self.feeding, *node, ingress);
        }
        stream.feeds.moves.extend(turned.iter().take(free).map(|_| now));
        !turned.is_empty()
    }

    /// A feeder that is worth the change.
    fn better(
        &mut self,
        now: Timestamp,
        name: &StreamName,
        fed: NodeIndex,
        feeder: NodeIndex,
    ) -> Option<NodeIndex> {
        let best = self.best(now, name, fed)?;
        if best.feeder == feeder {
            return None;
        }
        let routes = self.feeding.routes.clone()?;
        let config = &self.feeding.config;
        let gain_us = u64::try_from(config.gain?.as_micros()).ok()?;
        let stream = self.streams.get_mut(name)?;
        let (ingress, _) = stream.live?;
        let loads = stream.feeds.loads_without(self.feeding.generation, &routes, fed);
        let source = stream.feeds.source(&routes, ingress, feeder);
        let present = source.and_then(|source| source.offer(&routes, &loads, fed));
        let direct = Source { node: ingress, delay_us: 0, depth: 0 }.offer(&routes, &loads, fed);
        stream.feeds.give_back(self.feeding.generation, &routes, fed, loads);
        let Some(present) = present else { return Some(best.feeder) };
        let too_long = direct.is_some_and(|direct| present.delay_us > config.delay_kept_us(direct.delay_us));
        let worth = if best.feeder == ingress {
            // A holder that spares something yet is kept.
            best.score_us <= present.score_us
        } else {
            best.score_us + gain_us <= present.score_us
        };
        if too_long || present.depth > config.depth {
            return Some(best.feeder);
        }
        // What is better for one may be worse for all.
        let turns = worth && {
            let mut sum = Sum::new(&routes, ingress, stream.feeds.pairs());
            sum.turn(fed, [feeder, best.feeder]) <= 0 || !sum.is_dearer()
        };
        turns.then_some(best.feeder)
    }
}
