//! The rows of stream tables that follow from a stream's publication and subscriptions, and the order in which relays
//! learn of them.

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
}

impl Row {
    /// Nothing is known to be in place.
    pub(super) fn session_lost(&mut self) {
        self.fresh = false;
        self.acked = false;
    }

    /// The relay acknowledged a revision. True if it is the one sent last.
    pub(super) fn acked(&mut self, revision: u64) -> bool {
        let latest = self.fresh && self.sent.as_ref().is_some_and(|sent| sent.revision == revision);
        self.acked |= latest;
        latest
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
    /// Relays that the ingress is to stamp: those that have acknowledged their rows, and those that it stamps since
    /// before this controller's start and that have not reported yet.
    pub(super) fn destinations(&self) -> BTreeSet<NodeIndex> {
        self.live.map_or(BTreeSet::new(), |(ingress, _)| self.destinations_from(ingress))
    }

    /// The same for any relay that the stream enters by, as it does by several while its publisher moves.
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
            protect: self.protect,
            policy: PolicyIndex::DEFAULT,
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
        let peers = &self.peers;
        let ready = |node: NodeIndex| peers.get(&node).is_some_and(|peer| peer.ready);
        // Egresses first.
        let ingresses: BTreeSet<NodeIndex> = stream.moves.relays().chain([ingress]).collect();
        let egresses: Vec<NodeIndex> =
            stream.matching.keys().copied().filter(|node| !ingresses.contains(node)).collect();
        for node in egresses {
            let entry = stream.entry(name, node, BTreeSet::new());
            let row = stream.rows.entry(node).or_default();
            row.gone_at = None;
            if let Some(entry) = entry
                && send(&mut self.revision, node, row, entry, ready(node), out)
            {
                row.confirmed = Some(stream.incarnation);
            }
        }
        // Then whoever stamps them.
        let held = std::mem::take(&mut stream.held);
        stream.held = held
            .into_iter()
            .filter(|node| {
                let answered =
                    stream.is_confirmed(*node) || ready(*node) && !stream.matching.contains_key(node);
                now < stream.held_until && !answered
            })
            .collect();
        let mut settled = true;
        let mut placed = false;
        let mut idle = Vec::new();
        for node in ingresses.iter().copied() {
            let destinations = stream.destinations_from(node);
            let matching = stream.matching.contains_key(&node);
            let is_idle = destinations.is_empty() && !matching;
            let entry = stream.entry(name, node, destinations);
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
        }
        if let Some(arrived) = Directory::has_arrived(stream, now, placed) {
            self.take_over(name, arrived, out);
            return self.refresh(now, name, out);
        }
        // Last, rows that nobody needs: not before whoever stamps has confirmed that it does not stamp them.
        let destinations = stream.destinations();
        let mut unwanted = Vec::new();
        for (node, row) in &mut stream.rows {
            let wanted = stream.matching.contains_key(node) || destinations.contains(node);
            if !ingresses.contains(node) && !wanted {
                row.confirmed = None;
                unwanted.push(*node);
            }
        }
        if settled {
            self.schedule_removal(now + LINGER, name, &unwanted);
            self.schedule_removal(now + LINGER, name, &idle);
        }
    }

    /// Removes the rows whose time has come.
    pub(super) fn remove_rows(&mut self, now: Timestamp, name: &StreamName, out: &mut Vec<Effect>) {
        let Some(stream) = self.streams.get_mut(name) else {
            return;
        };
        let key = stream.key;
        let peers = &self.peers;
        stream.rows.retain(|node, row| {
            // A relay that is not in session is told when it returns.
            let gone = row.gone_at.is_some_and(|gone_at| gone_at <= now)
                && peers.get(node).is_some_and(|peer| peer.ready);
            if gone {
                out.push(Effect::Tell(*node, ToRelay::StreamGone { key }));
            }
            !gone
        });
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
    out.push(Effect::Tell(node, ToRelay::Stream(entry.clone())));
    *row = Row { sent: Some(entry), fresh: true, acked: false, ..row.clone() };
    false
}
