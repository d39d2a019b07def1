//! The rows of stream tables that follow from a stream's publication and subscriptions, and the order in which relays
//! learn of them.

use super::travel::travels;
use super::{Directory, Stream, Timer};
use crate::effect::Effect;
use std::collections::BTreeSet;
use std::time::Duration;
use wire_format::control::{StreamEntry, StreamName, ToRelay};
use wire_format::{Incarnation, NodeIndex, PolicyIndex, Timestamp};

/// How long an egress keeps its row after nobody stamps it as a destination any more: longer than a packet's way.
pub(super) const LINGER: Duration = Duration::from_millis(500);

/// A relay's row for one stream, as far as the controller knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    /// As last sent, in whichever session.
    sent: Option<StreamEntry>,
    /// It was sent in the present session.
    fresh: bool,
    /// It was acknowledged.
    acked: bool,
    /// The relay has had a row with subscriptions for this incarnation ever since it began to match: it may be stamped.
    confirmed: Option<Incarnation>,
    /// When it goes.
    gone_at: Option<Timestamp>,
    /// Whom the relay may stamp as destinations: by any row that it may have.
    stamps: BTreeSet<NodeIndex>,
}

impl Row {
    /// Nothing is known to be in place.
    pub(super) fn session_lost(&mut self) {
        self.fresh = false;
        self.acked = false;
    }

    /// The relay acknowledged a revision. True if it is the one sent last.
    pub(super) fn acked(&mut self, revision: u64) -> bool {
        let Some(sent) = self.sent.as_ref().filter(|sent| self.fresh && sent.revision == revision) else {
            return false;
        };
        self.acked = true;
        self.stamps = sent.destinations.iter().copied().collect();
        true
    }

    /// The relay says whom it stamps, and that it has no other row.
    pub(super) fn holds(&mut self, destinations: &[NodeIndex]) {
        self.stamps = destinations.iter().copied().collect();
    }

    /// The relay has never been sent a row by this controller.
    pub(super) fn is_of_before(&self) -> bool {
        self.sent.is_none()
    }

    /// The relay has this row, whomever it is to stamp.
    fn is_in_place(&self, entry: &StreamEntry) -> bool {
        let destinations = self.sent.iter().flat_map(|sent| sent.destinations.iter().copied()).collect();
        self.fresh && self.acked && self.says(&StreamEntry { destinations, ..entry.clone() })
    }

    /// The destinations that the relay was told last to stamp.
    pub(super) fn stamped(&self) -> &[NodeIndex] {
        self.sent.as_ref().map_or(&[], |sent| &sent.destinations)
    }

    fn says(&self, entry: &StreamEntry) -> bool {
        self.sent
            .as_ref()
            .is_some_and(|sent| StreamEntry { revision: sent.revision, ..entry.clone() } == *sent)
    }
}

impl Stream {
    /// Everyone whom a relay stamps by which the stream enters while its publisher moves, and so by several: then each of
    /// them stamps all, whoever feeds whom.
    fn destinations_from(&self, ingress: NodeIndex) -> BTreeSet<NodeIndex> {
        let confirmed = self.matching.keys().filter(|node| self.is_confirmed(**node));
        confirmed.chain(&self.held).copied().filter(|node| *node != ingress).collect()
    }

    pub(super) fn is_confirmed(&self, node: NodeIndex) -> bool {
        self.rows.get(&node).is_some_and(|row| row.confirmed == Some(self.incarnation))
    }

    fn entry(
        &self,
        name: &StreamName,
        node: NodeIndex,
        destinations: BTreeSet<NodeIndex>,
        (policy, protect): (PolicyIndex, bool),
    ) -> Option<StreamEntry> {
        Some(StreamEntry {
            key: self.key,
            name: name.clone(),
            kind: self.kind,
            incarnation: self.incarnation,
            ingress: self.live?.0,
            subscriptions: self.matching.get(&node).into_iter().flatten().copied().collect(),
            destinations: destinations.into_iter().collect(),
            revision: 0,
            protect,
            policy,
        })
    }
}

impl Directory {
    /// Sends every row of a stream that is not what it should be, as far as the order of things allows now.
    pub(super) fn refresh(&mut self, now: Timestamp, name: &StreamName, out: &mut Vec<Effect>) {
        let Some(stream) = self.streams.get_mut(name) else {
            return;
        };
        let Some((ingress, _)) = stream.live else {
            for row in stream.rows.values_mut() {
                row.confirmed = None;
            }
            let rows: Vec<NodeIndex> = stream.rows.keys().copied().collect();
            self.schedule_removal(now + LINGER, name, &rows);
            return;
        };
        let travels = travels(&self.policies, name, stream);
        // Who has acknowledged that it is an egress may be stamped.
        let ingresses: BTreeSet<NodeIndex> = stream.moves.relays().chain([ingress]).collect();
        let egresses: Vec<NodeIndex> =
            stream.matching.keys().copied().filter(|node| !ingresses.contains(node)).collect();
        for node in egresses {
            let entry = stream.entry(name, node, BTreeSet::new(), travels);
            let row = stream.rows.entry(node).or_default();
            if entry.is_some_and(|entry| row.is_in_place(&entry)) {
                row.confirmed = Some(stream.incarnation);
            }
        }
        let peers = &self.peers;
        let ready = |node: NodeIndex| peers.get(&node).is_some_and(|peer| peer.ready);
        let held = std::mem::take(&mut stream.held);
        stream.held = held
            .into_iter()
            .filter(|node| {
                let answered =
                    stream.is_confirmed(*node) || ready(*node) && !stream.matching.contains_key(node);
                now < stream.held_until && !answered
            })
            .collect();
        self.assign(now, name);
        let Some(stream) = self.streams.get_mut(name) else {
            return;
        };
        let peers = &self.peers;
        let ready = |node: NodeIndex| peers.get(&node).is_some_and(|peer| peer.ready);
        // Egresses first, and what they send on; then whoever the stream enters by.
        let mut feeders = Vec::new();
        let (wanted, mut all) = (stream.wanted(), stream.destinations());
        for node in wanted.iter().filter(|node| !ingresses.contains(node)) {
            let destinations = all.get(node).cloned().unwrap_or_default();
            if !stream.rows.contains_key(node) && destinations.is_empty() {
                continue;
            }
            let entry = stream.entry(name, *node, destinations, travels);
            let row = stream.rows.entry(*node).or_default();
            row.gone_at = None;
            if let Some(entry) = entry
                && send(&mut self.revision, *node, row, entry, ready(*node), out)
            {
                feeders.push(*node);
            }
        }
        let mut settled = true;
        let mut placed = false;
        let mut idle = Vec::new();
        let moving = ingresses.len() > 1;
        for node in ingresses.iter().copied() {
            let destinations = if moving {
                stream.destinations_from(node)
            } else {
                all.get(&node).cloned().unwrap_or_default()
            };
            let matching = stream.matching.contains_key(&node);
            let is_idle = destinations.is_empty() && !matching;
            let entry = stream.entry(name, node, destinations, travels);
            let mut in_place = true;
            if (!is_idle || stream.rows.contains_key(&node))
                && let Some(entry) = entry
            {
                let row = stream.rows.entry(node).or_default();
                in_place = send(&mut self.revision, node, row, entry, ready(node), out);
                if !is_idle {
                    row.gone_at = None;
                }
                // For the day when the stream enters elsewhere.
                row.confirmed = match (matching, in_place) {
                    (false, _) => None,
                    (true, true) => Some(stream.incarnation),
                    (true, false) => row.confirmed,
                };
            }
            settled &= in_place;
            placed |= in_place && stream.moves.arriving.is_some_and(|(id, _)| id.0 == node);
            if is_idle {
                idle.push(node);
            }
            if in_place {
                feeders.push(node);
            }
        }
        if let Some(arrived) = Directory::has_arrived(stream, now, placed) {
            self.take_over(name, arrived, out);
            return self.refresh(now, name, out);
        }
        // Last, rows that nobody needs: not before everyone who may stamp them has confirmed that it does not.
        let stamped: BTreeSet<NodeIndex> =
            stream.rows.values().flat_map(|row| &row.stamps).copied().collect();
        let mut unwanted = Vec::new();
        for (node, row) in &mut stream.rows {
            if !ingresses.contains(node) && !wanted.contains(node) {
                row.confirmed = None;
                if !stamped.contains(node) {
                    unwanted.push(*node);
                }
            }
        }
        if settled {
            unwanted.extend(idle);
        }
        self.schedule_removal(now + LINGER, name, &unwanted);
        for feeder in feeders {
            if let Some(destinations) = all.remove(&feeder) {
                self.established(now, name, feeder, &destinations);
            }
        }
    }

    /// Removes the rows whose time has come. Those whom their relays stamped may be next.
    pub(super) fn remove_rows(&mut self, now: Timestamp, name: &StreamName, out: &mut Vec<Effect>) {
        let Some(stream) = self.streams.get_mut(name) else {
            return;
        };
        let key = stream.key;
        let peers = &self.peers;
        let mut stamped = false;
        stream.rows.retain(|node, row| {
            // A relay that is not in session is told when it returns.
            let gone = row.gone_at.is_some_and(|gone_at| gone_at <= now)
                && peers.get(node).is_some_and(|peer| peer.ready);
            if gone {
                stamped |= !row.stamps.is_empty();
                out.push(Effect::Tell(*node, ToRelay::StreamGone { key }));
            }
            !gone
        });
        if stamped {
            self.refresh(now, name, out);
        }
    }

    fn schedule_removal(&mut self, at: Timestamp, name: &StreamName, nodes: &[NodeIndex]) {
        let Some(stream) = self.streams.get_mut(name) else {
            return;
        };
        for node in nodes {
            if let Some(row) = stream.rows.get_mut(node).filter(|row| row.gone_at.is_none()) {
                row.gone_at = Some(at);
                self.timers.insert((at, Timer::Stream(name.clone())));
            }
        }
    }
}

/// Sends a row unless it was sent. True if it is in place.
fn send(
    revision: &mut u64,
    node: NodeIndex,
    row: &mut Row,
    entry: StreamEntry,
    ready: bool,
    out: &mut Vec<Effect>,
) -> bool {
    if row.fresh && row.says(&entry) {
        return row.acked;
    }
    if !ready {
        return false;
    }
    *revision += 1;
    let entry = StreamEntry { revision: *revision, ..entry };
    row.stamps.extend(&entry.destinations);
    out.push(Effect::Tell(node, ToRelay::Stream(entry.clone())));
    *row = Row { sent: Some(entry), fresh: true, acked: false, ..row.clone() };
    false
}
