//! The stream table: for each stream that enters the overlay here or is wanted here, who gets it.

use crate::duplicates::DuplicateWindow;
use crate::stream_index::StreamIndex;
use crate::{LinkId, StreamView};
use wire_format::control::StreamEntry;
use wire_format::{DestinationSet, NodeIndex, StreamHandle, StreamKey};

/// Streams held at once.
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
    pub(crate) seen: DuplicateWindow,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

impl Stream {
    fn new(entry: StreamEntry) -> Stream {
        Stream {
            destinations: Vec::new(),
            local: Vec::new(),
            seen: DuplicateWindow::new(entry.incarnation),
            packets: 0,
            bytes: 0,
            entry,
        }
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
    rows: Vec<Option<Stream>>,
    free: Vec<u32>,
}

impl StreamTable {
    pub(crate) fn new() -> StreamTable {
        StreamTable { index: StreamIndex::new(), rows: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn find(&mut self, key: StreamKey) -> Option<&mut Stream> {
        let slot = self.index.find(key)?;
        self.rows.get_mut(slot as usize)?.as_mut()
    }

    /// The row of an entry, made if it is new. Its fields are updated but for `local`. `None` if the table is full.
    pub(crate) fn upsert(&mut self, entry: StreamEntry) -> Option<&mut Stream> {
        let key = entry.key;
        if self.index.find(key).is_none() {
            if self.rows.len() - self.free.len() >= STREAMS_MAX {
                return None;
            }
            let slot = self.free.pop().unwrap_or_else(|| {
                self.rows.push(None);
                (self.rows.len() - 1) as u32
            });
            self.rows[slot as usize] = Some(Stream::new(entry.clone()));
            self.index.insert(key, slot);
        }
        let stream = self.find(key).expect("the row was there or has just been made");
        stream.destinations = destination_sets(&entry.destinations);
        stream.entry = entry;
        Some(stream)
    }

    pub(crate) fn remove(&mut self, key: StreamKey) -> Option<Stream> {
        let slot = self.index.find(key)?;
        self.index.remove(key);
        self.free.push(slot);
        self.rows[slot as usize].take()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.rows.iter().flatten()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.rows.iter_mut().flatten()
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
                packets: stream.packets,
                bytes: stream.bytes,
            })
            .collect()
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
