//! Merges keyframe requests: one per stream and second leaves, the first at once; those that come in between make one
//! more when the second is over.
//!
//! The cache is bounded. A stream that does not fit is not asked for: whoever fills 4,096 streams in a second is not
//! served by passing all of it on. So that this takes more than one neighbour, each link may bring [`PER_LINK_MAX`]
//! requests a second; an SFU that wants more streams at once has its keyframes asked for by joining them.

use crate::LinkId;
use crate::clients::{Owner, Publication};
use crate::liveness::Trust;
use crate::relay::{Relay, Side, Timer};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use wire_format::{
    EdgeKeyframeRequest, FrameKind, HOP_LIMIT, KeyframeRequest, NodeIndex, PublicationId, StreamHandle,
    StreamKey, Timestamp,
};

/// Distance of two requests for one stream.
const EVERY: Duration = Duration::from_secs(1);
/// Streams remembered at once.
const STREAMS_MAX: usize = 4096;
/// Requests that one link may bring in a second.
const PER_LINK_MAX: u32 = 1000;

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Admission {
    /// It leaves now.
    Leaves,
    /// It is part of one that leaves when the second is over.
    Merged,
    /// Too many streams are asked for.
    Dropped,
}

#[derive(Debug)]
struct Gate {
    passed_at: Timestamp,
    ingress: NodeIndex,
    /// A request waits, with the most hops left of those that it stands for.
    pending: Option<u8>,
}

/// Requests of the last second.
#[derive(Debug)]
pub(crate) struct KeyframeGates {
    gates: BTreeMap<StreamKey, Gate>,
    /// Gates by when a request last passed.
    passed: BTreeSet<(Timestamp, StreamKey)>,
    /// Those at which one waits.
    pending: BTreeSet<(Timestamp, StreamKey)>,
}

impl KeyframeGates {
    pub(crate) fn new() -> KeyframeGates {
        KeyframeGates { gates: BTreeMap::new(), passed: BTreeSet::new(), pending: BTreeSet::new() }
    }

    /// Whether a request may leave now. If it is merged, [`KeyframeGates::pop_due`] gives it back.
    pub(crate) fn admit(
        &mut self,
        now: Timestamp,
        key: StreamKey,
        ingress: NodeIndex,
        hop_limit: u8,
    ) -> Admission {
        if let Some(gate) = self.gates.get_mut(&key) {
            if now.since(gate.passed_at) < EVERY {
                gate.pending = gate.pending.max(Some(hop_limit));
                self.pending.insert((gate.passed_at, key));
                return Admission::Merged;
            }
            gate.ingress = ingress;
            self.pass(now, key);
            return Admission::Leaves;
        }
        if self.gates.len() >= STREAMS_MAX && !self.forget_oldest(now) {
            return Admission::Dropped;
        }
        self.gates.insert(key, Gate { passed_at: now, ingress, pending: None });
        self.passed.insert((now, key));
        Admission::Leaves
    }

    /// A remembered request whose second is over, and its hop limit.
    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<(StreamKey, NodeIndex, u8)> {
        let (passed_at, key) = *self.pending.first()?;
        if now.since(passed_at) < EVERY {
            return None;
        }
        let gate = self.gates.get_mut(&key).expect("a gate at which a request waits is not forgotten");
        let hop_limit = gate.pending.take().unwrap_or_default();
        let ingress = gate.ingress;
        self.pass(now, key);
        Some((key, ingress, hop_limit))
    }

    /// When the next remembered request is due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.pending.first().map(|(passed_at, _)| *passed_at + EVERY)
    }

    /// A request of a known gate leaves.
    fn pass(&mut self, now: Timestamp, key: StreamKey) {
        let Some(gate) = self.gates.get_mut(&key) else { return };
        self.passed.remove(&(gate.passed_at, key));
        self.pending.remove(&(gate.passed_at, key));
        (gate.passed_at, gate.pending) = (now, None);
        self.passed.insert((now, key));
    }

    /// Makes room. `false` if all gates are of the last second, or a request waits at the oldest, which leaves soon.
    fn forget_oldest(&mut self, now: Timestamp) -> bool {
        let Some((passed_at, key)) = self.passed.first().copied() else { return false };
        if now.since(passed_at) < EVERY || self.pending.contains(&(passed_at, key)) {
            return false;
        }
        self.passed.pop_first();
        self.gates.remove(&key);
        true
    }
}

/// Requests that one link has brought in the present second.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KeyframeAllowance {
    since: Timestamp,
    used: u32,
}

impl KeyframeAllowance {
    /// Whether the link may bring one more.
    pub(crate) fn take(&mut self, now: Timestamp) -> bool {
        if now.since(self.since) >= EVERY {
            *self = KeyframeAllowance { since: now, used: 0 };
        }
        self.used += 1;
        self.used <= PER_LINK_MAX
    }
}

impl Relay {
    pub(crate) fn may_ask_for_keyframe(&mut self, now: Timestamp, from: LinkId) -> bool {
        self.link_mut(from).is_some_and(|entry| entry.keyframe_requests.take(now))
    }

    /// A keyframe is wanted from a publisher here or further on.
    ///
    /// It never goes back over the link it came by. A request carries no plane: while links are silent, two relays may
    /// each see their way to the publisher through the other, and would pass it to and fro once a second.
    pub(crate) fn keyframe_request(&mut self, now: Timestamp, from: LinkId, body: &[u8]) {
        let Ok(request) = KeyframeRequest::decode(body) else {
            self.counters.drop_malformed += 1;
            return;
        };
        if request.hop_limit == 0 {
            self.counters.drop_hop_limit += 1;
            return;
        }
        let is_here = self.node == Some(request.ingress);
        if !is_here && self.link_upstream(request.key, request.ingress) == Some(from) {
            self.counters.drop_way_back += 1;
            return;
        }
        self.want_keyframe(now, request.key, request.ingress, request.hop_limit - 1);
    }

    /// A subscriber here wants a keyframe.
    pub(crate) fn edge_keyframe_request(&mut self, now: Timestamp, from: LinkId, body: &[u8]) {
        let Ok(EdgeKeyframeRequest { handle }) = EdgeKeyframeRequest::decode(body) else {
            self.counters.drop_malformed += 1;
            return;
        };
        let key = self.link_mut(from).and_then(|entry| match &entry.side {
            Side::Client(client) => client.announced(handle),
            Side::Relay { node: _ } => None,
        });
        let ingress = key.and_then(|key| self.streams.find(key)).map(|stream| stream.entry.ingress);
        match (key, ingress) {
            (Some(key), Some(ingress)) => self.want_keyframe(now, key, ingress, HOP_LIMIT),
            (Some(_), None) | (None, _) => self.counters.drop_unknown_handle += 1,
        }
    }

    /// Passes a request on towards the publisher, merged with others for the same stream.
    pub(crate) fn want_keyframe(
        &mut self,
        now: Timestamp,
        key: StreamKey,
        ingress: NodeIndex,
        hop_limit: u8,
    ) {
        match self.keyframes.admit(now, key, ingress, hop_limit) {
            Admission::Leaves => self.send_keyframe_request(key, ingress, hop_limit),
            Admission::Dropped => self.counters.drop_keyframe_request += 1,
            Admission::Merged => {
                self.counters.keyframe_requests_merged += 1;
                if let Some(due) = self.keyframes.next_due() {
                    self.timers.set(Timer::Keyframes, due);
                }
            }
        }
    }

    /// Requests that waited for their second to pass.
    pub(crate) fn keyframes_due(&mut self, now: Timestamp) {
        while let Some((key, ingress, hop_limit)) = self.keyframes.pop_due(now) {
            self.send_keyframe_request(key, ingress, hop_limit);
        }
        if let Some(due) = self.keyframes.next_due() {
            self.timers.set(Timer::Keyframes, due);
        }
    }

    fn send_keyframe_request(&mut self, key: StreamKey, ingress: NodeIndex, hop_limit: u8) {
        let sent = if let Some(publication) = self.plain_publisher_of(key) {
            self.ask_plain_publisher(publication)
        } else if let Some((link, handle)) = self.publisher_of(key) {
            self.push_small(link, FrameKind::EdgeKeyframeRequest, &EdgeKeyframeRequest { handle }.encode())
        } else if self.node == Some(ingress) {
            // The publisher is linked to another worker, or has just left.
            self.hand_over_keyframe(&KeyframeRequest { ingress, key, hop_limit })
        } else {
            let request = KeyframeRequest { ingress, key, hop_limit };
            match self.link_upstream(key, ingress) {
                Some(link) => self.push_small(link, FrameKind::KeyframeRequest, &request.encode()),
                None if !self.worker.is_first() => self.hand_over_keyframe(&request),
                None => {
                    self.counters.drop_no_route += 1;
                    false
                }
            }
        };
        self.counters.keyframe_requests_sent += u64::from(sent);
    }

    /// The link by which a stream comes, if it does and is not silent: the way back may be the only one that is whole.
    /// Otherwise that of the tables.
    fn link_upstream(&mut self, key: StreamKey, ingress: NodeIndex) -> Option<LinkId> {
        let arrival = self.streams.find(key).and_then(|stream| stream.arrival);
        arrival
            .filter(|link| self.link_mut(*link).is_some_and(|entry| entry.link.trust() != Trust::None))
            .or_else(|| self.tables.link_towards(ingress))
    }

    /// Another worker wants a keyframe: of a publisher who may be linked to this one, or, where it has no lane towards
    /// the ingress, of one far away.
    pub(crate) fn keyframe_handed_over(&mut self, now: Timestamp, request: &KeyframeRequest) {
        let here = self.node == Some(request.ingress);
        let mine = if here { self.published_here(request.key).is_some() } else { self.worker.is_first() };
        if mine {
            self.want_keyframe(now, request.key, request.ingress, request.hop_limit);
        }
    }

    /// The publication of a stream here; the newest, should it be published again before the old one is gone.
    pub(crate) fn published_here(&self, key: StreamKey) -> Option<(PublicationId, &Publication)> {
        let of_stream = (key, PublicationId(0))..=(key, PublicationId(u32::MAX));
        let (_, id) = self.publishers.range(of_stream).next_back()?;
        Some((*id, self.publications.get(id)?))
    }

    fn publisher_of(&self, key: StreamKey) -> Option<(LinkId, StreamHandle)> {
        let (_, publication) = self.published_here(key)?;
        let Owner::Link { link, request: _ } = publication.owner else { return None };
        Some((link, publication.granted.as_ref()?.handle?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wire_format::{RoomId, StreamId, UserId};

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_micros(ms * 1000)
    }

    fn key(room: u32) -> StreamKey {
        StreamKey { room: RoomId(room), user: UserId(0), stream: StreamId(0) }
    }

    #[test]
    fn the_first_passes_at_once_and_the_rest_of_the_second_make_one() {
        let mut gates = KeyframeGates::new();
        assert_eq!(gates.admit(at(0), key(1), NodeIndex(3), 9), Admission::Leaves);
        assert_eq!(gates.admit(at(10), key(1), NodeIndex(3), 8), Admission::Merged);
        assert_eq!(gates.admit(at(20), key(1), NodeIndex(3), 9), Admission::Merged);
        assert_eq!(gates.admit(at(20), key(2), NodeIndex(3), 9), Admission::Leaves, "another stream");
        assert_eq!(gates.pop_due(at(999)), None);
        assert_eq!(gates.next_due(), Some(at(1000)));
        assert_eq!(gates.pop_due(at(1000)), Some((key(1), NodeIndex(3), 9)));
        assert_eq!((gates.pop_due(at(1000)), gates.next_due()), (None, None));
    }

    #[test]
    fn the_cache_is_bounded_and_forgets_what_is_older_than_a_second() {
        let mut gates = KeyframeGates::new();
        let mut admit = |ms, room| gates.admit(at(ms), key(room), NodeIndex(0), 9);
        let streams = STREAMS_MAX as u32;
        assert!((0..streams).all(|room| admit(u64::from(room) / 8, room) == Admission::Leaves));
        assert_eq!(admit(600, streams), Admission::Dropped);
        assert_eq!(admit(600, 0), Admission::Merged);
        assert_eq!(admit(1000, streams), Admission::Dropped, "at the oldest a request waits");
        assert_eq!(gates.pop_due(at(1000)), Some((key(0), NodeIndex(0), 9)));
        assert_eq!(gates.admit(at(1000), key(streams), NodeIndex(0), 9), Admission::Leaves);
        assert_eq!(gates.gates.len(), STREAMS_MAX);
        assert_eq!(gates.passed.len(), STREAMS_MAX);
    }

    #[test]
    fn a_link_brings_a_thousand_requests_a_second() {
        let mut allowance = KeyframeAllowance::default();
        assert_eq!((0..1500).filter(|_| allowance.take(at(5000))).count(), 1000);
        assert!(!allowance.take(at(5999)));
        assert!(allowance.take(at(6000)));
    }

    proptest! {
        #[test]
        fn one_request_per_stream_and_second_leaves_and_none_is_forgotten(
            asked in prop::collection::vec((0u64..400, 0u32..6), 1..200)
        ) {
            let mut gates = KeyframeGates::new();
            let mut now = 0;
            let mut left: Vec<(u64, u32)> = Vec::new();
            let mut last_asked = [None; 6];
            let pop = |gates: &mut KeyframeGates, now, left: &mut Vec<(u64, u32)>| {
                while let Some(due) = gates.next_due().filter(|due| *due <= at(now)) {
                    let (key, _, _) = gates.pop_due(due).expect("one is due");
                    left.push((due.since(Timestamp::ZERO).as_millis() as u64, key.room.0));
                }
            };
            for (later, room) in asked {
                now += later;
                pop(&mut gates, now, &mut left);
                last_asked[room as usize] = Some(now);
                if gates.admit(at(now), key(room), NodeIndex(1), 9) == Admission::Leaves {
                    left.push((now, room));
                }
            }
            pop(&mut gates, now + 1000, &mut left);
            prop_assert_eq!(gates.next_due(), None);
            for (room, last_asked) in (0..6).zip(last_asked) {
                let mine: Vec<_> = left.iter().filter(|(_, of)| *of == room).map(|(ms, _)| *ms).collect();
                prop_assert!(mine.windows(2).all(|pair| pair[1] - pair[0] >= 1000), "{:?}", mine);
                prop_assert!(last_asked.is_none_or(|asked| mine.last().is_some_and(|left| *left >= asked)));
            }
        }
    }
}
