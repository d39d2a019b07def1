//! The stream table: for each stream that enters the overlay here or is wanted here, who gets it.

use crate::duplicates::DuplicateWindow;
use crate::plain::PlainRow;
use crate::stream_index::StreamIndex;
use crate::tenants::TenantId;
use crate::{LinkId, StreamView, WorkerSet};
use std::collections::{BTreeMap, BTreeSet};
use wire_format::control::StreamEntry;
use wire_format::{DestinationSet, NodeIndex, Sequence, StreamHandle, StreamKey, SubscriptionId};

/// Streams held at once, unless fewer are wanted.
pub(crate) const STREAMS_MAX: usize = 65_536;

/// A link of an SFU that gets a stream, under a handle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LocalSubscriber {
    pub(crate) link: LinkId,
    pub(crate) handle: StreamHandle,
}

/// A row of the stream table.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) entry: StreamEntry,
    /// `entry.destinations` in wire form; several when they do not fit one set.
    pub(crate) destinations: Vec<DestinationSet>,
    pub(crate) local: Vec<LocalSubscriber>,
    /// Other workers of this relay that have subscribers of it.
    pub(crate) elsewhere: WorkerSet,
    /// The same for those that speak plain RTP.
    pub(crate) plain: PlainRow,
    /// Whose it is.
    pub(crate) tenant: TenantId,
    pub(crate) seen: DuplicateWindow,
    /// The link that it came by last.
    pub(crate) arrival: Option<LinkId>,
    /// Its path changed a moment ago: the last frame that came the old way.
    pub(crate) switched_after: Option<Sequence>,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

impl Stream {
    fn new(entry: StreamEntry) -> Stream {
        Stream {
            destinations: Vec::new(),
            local: Vec::new(),
            elsewhere: WorkerSet::default(),
            plain: PlainRow::default(),
            tenant: TenantId::default(),
            seen: DuplicateWindow::new(entry.incarnation),
            arrival: None,
            switched_after: None,
            packets: 0,
            bytes: 0,
            entry,
        }
    }

    /// Nobody gets the stream, here or elsewhere.
    pub(crate) fn is_unwanted(&self) -> bool {
        self.local.is_empty()
            && self.plain.is_empty()
            && self.elsewhere.is_empty()
            && self.destinations.is_empty()
    }

    pub(crate) fn count(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }
}

/// All rows, found by ids once per frame.
#[derive(Debug)]
pub(crate) struct StreamTable {
    index: StreamIndex,
    most: usize,
    rows: Vec<Option<Stream>>,
    free: Vec<u32>,
    /// The rows that name a subscription.
    named: BTreeMap<SubscriptionId, BTreeSet<StreamKey>>,
}

impl StreamTable {
    pub(crate) fn new() -> StreamTable {
        StreamTable {
            index: StreamIndex::new(),
            most: STREAMS_MAX,
            rows: Vec::new(),
            free: Vec::new(),
            named: BTreeMap::new(),
        }
    }

    /// Rows that may be held at once.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Sets that; rows beyond it that are held already stay.
    pub(crate) fn set_most(&mut self, most: usize) {
        self.most = most.min(STREAMS_MAX);
    }

    pub(crate) fn find(&mut self, key: StreamKey) -> Option<&mut Stream> {
        let slot = self.index.find(key)?;
        self.rows.get_mut(slot as usize)?.as_mut()
    }

    pub(crate) fn get(&self, key: StreamKey) -> Option<&Stream> {
        self.rows.get(self.index.find(key)? as usize)?.as_ref()
    }

    /// The row of an entry, made if it is new. Its fields are updated but for `local`. `None` if the table is full.
    pub(crate) fn upsert(&mut self, entry: StreamEntry) -> Option<&mut Stream> {
        let key = entry.key;
        if self.index.find(key).is_none() {
            if self.rows.len() - self.free.len() >= self.most {
                return None;
            }
            let slot = self.free.pop().unwrap_or_else(|| {
                self.rows.push(None);
                (self.rows.len() - 1) as u32
            });
            self.rows[slot as usize] = Some(Stream::new(entry.clone()));
            self.index.insert(key, slot);
        } else {
            self.forget_names(key);
        }
        for subscription in &entry.subscriptions {
            self.named.entry(*subscription).or_default().insert(key);
        }
        let stream = self.find(key).expect("the row was there or has just been made");
        stream.destinations = destination_sets(&entry.destinations);
        stream.entry = entry;
        Some(stream)
    }

    pub(crate) fn remove(&mut self, key: StreamKey) -> Option<Stream> {
        let slot = self.index.find(key)?;
        self.forget_names(key);
        self.index.remove(key);
        self.free.push(slot);
        self.rows[slot as usize].take()
    }

    /// Takes a subscription out of all rows that name it, and says which those were.
    pub(crate) fn forget_subscription(&mut self, subscription: SubscriptionId) -> Vec<StreamKey> {
        let keys: Vec<_> = self.named.remove(&subscription).into_iter().flatten().collect();
        for key in &keys {
            if let Some(stream) = self.find(*key) {
                stream.entry.subscriptions.retain(|other| *other != subscription);
            }
        }
        keys
    }

    fn forget_names(&mut self, key: StreamKey) {
        let slot = self.index.find(key).and_then(|slot| self.rows.get(slot as usize));
        let Some(Some(stream)) = slot else { return };
        for subscription in &stream.entry.subscriptions {
            if let Some(keys) = self.named.get_mut(subscription) {
                keys.remove(&key);
                if keys.is_empty() {
                    self.named.remove(subscription);
                }
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.rows.iter().flatten()
    }

    pub(crate) fn views(&self) -> Vec<StreamView> {
        self.iter()
            .map(|stream| StreamView {
                key: stream.entry.key,
                name: stream.entry.name.clone(),
                kind: stream.entry.kind,
                incarnation: stream.entry.incarnation,
                ingress: stream.entry.ingress,
                destinations: stream.entry.destinations.clone(),
                local_subscribers: stream.local.len(),
                plain_subscribers: stream.plain.subscribers(),
                packets: stream.packets,
                bytes: stream.bytes,
            })
            .collect()
    }
}

impl crate::Relay {
    /// The most streams that it holds and that are published at it; there is no room for more than [`crate::Relay::STREAMS_MAX`].
    pub fn set_streams_max(&mut self, streams_max: usize) {
        self.streams.set_most(streams_max);
    }

    /// Streams that a relay can hold.
    pub const STREAMS_MAX: usize = STREAMS_MAX;

    /// An SFU gives up one of two subscriptions for a stream before the controller, which may be slow or hang, has named
    /// the other in the stream's row. What is held here goes on to it.
    pub(crate) fn keep_for_others(&mut self, key: StreamKey, others: &[SubscriptionId]) {
        let Some(stream) = self.streams.get(key) else { return };
        let wants = |id: &&SubscriptionId| {
            self.subscriptions.get(id).is_some_and(|wanted| wanted.matches(&stream.entry.name))
        };
        let Some(other) = others.iter().find(wants) else { return };
        if !others.iter().any(|other| stream.entry.subscriptions.contains(other)) {
            let mut entry = stream.entry.clone();
            entry.subscriptions.push(*other);
            self.streams.upsert(entry);
        }
    }
}

fn destination_sets(nodes: &[NodeIndex]) -> Vec<DestinationSet> {
    let mut ascending = nodes.to_vec();
    ascending.sort_unstable();
    ascending.dedup();
    let mut rest = &ascending[..];
    let mut sets = Vec::new();
    while !rest.is_empty() {
        let (set, taken) = DestinationSet::take(rest);
        sets.push(set);
        rest = &rest[taken..];
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wire_format::control::StreamName;
    use wire_format::{Incarnation, MediaKind, RoomId, StreamId, UserId};

    fn key(room: u32) -> StreamKey {
        StreamKey { room: RoomId(room), user: UserId(0), stream: StreamId(0) }
    }

    fn entry(room: u32, subscriptions: &BTreeSet<u32>) -> StreamEntry {
        StreamEntry {
            key: key(room),
            name: StreamName {
                namespace: String::new(),
                room: String::new(),
                user: String::new(),
                stream: String::new(),
            },
            kind: MediaKind::Audio,
            incarnation: Incarnation(0),
            ingress: NodeIndex(0),
            subscriptions: subscriptions.iter().copied().map(SubscriptionId).collect(),
            destinations: Vec::new(),
            revision: 0,
            protect: false,
            policy: wire_format::PolicyIndex::DEFAULT,
        }
    }

    proptest! {
        #[test]
        fn a_subscription_is_found_in_exactly_the_rows_that_name_it(
            steps in prop::collection::vec((0u8..3, 0u32..5, prop::collection::btree_set(0u32..6, 0..4)), 0..60)
        ) {
            let mut table = StreamTable::new();
            let mut model: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
            for (step, room, subscriptions) in steps {
                match step {
                    0 => {
                        prop_assert!(table.upsert(entry(room, &subscriptions)).is_some());
                        model.insert(room, subscriptions);
                    }
                    1 => {
                        table.remove(key(room));
                        model.remove(&room);
                    }
                    _ => {
                        let mut named = table.forget_subscription(SubscriptionId(room));
                        named.sort_unstable();
                        let mut expected = Vec::new();
                        for (stream, subscriptions) in &mut model {
                            if subscriptions.remove(&room) {
                                expected.push(key(*stream));
                            }
                        }
                        prop_assert_eq!(named, expected);
                    }
                }
                for (room, subscriptions) in &model {
                    let held = table.find(key(*room)).expect("held").entry.subscriptions.iter();
                    prop_assert!(held.map(|id| id.0).eq(subscriptions.iter().copied()));
                }
            }
            let named: usize = table.named.values().map(BTreeSet::len).sum();
            prop_assert_eq!(named, model.values().map(BTreeSet::len).sum::<usize>(), "nothing is left behind");
        }
    }
}
