//! Merges keyframe requests: one per stream and second leaves, the first at once; those that come in between make one
//! more when the second is over. The cache is bounded; a stream that does not fit passes unmerged.

use std::collections::BTreeMap;
use std::time::Duration;
use wire_format::{NodeIndex, StreamKey, Timestamp};

/// Distance of two requests for one stream.
const EVERY: Duration = Duration::from_secs(1);
/// Streams remembered at once.
const STREAMS_MAX: usize = 4096;

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
}

impl KeyframeGates {
    pub(crate) fn new() -> KeyframeGates {
        KeyframeGates { gates: BTreeMap::new() }
    }

    /// Whether a request may leave now. If not, it is remembered until [`KeyframeGates::pop_due`].
    pub(crate) fn admit(
        &mut self,
        now: Timestamp,
        key: StreamKey,
        ingress: NodeIndex,
        hop_limit: u8,
    ) -> bool {
        if let Some(gate) = self.gates.get_mut(&key) {
            if now.since(gate.passed_at) < EVERY {
                gate.pending = gate.pending.max(Some(hop_limit));
                return false;
            }
            (gate.passed_at, gate.ingress, gate.pending) = (now, ingress, None);
            return true;
        }
        if self.gates.len() >= STREAMS_MAX {
            self.gates.retain(|_, gate| gate.pending.is_some() || now.since(gate.passed_at) < EVERY);
        }
        if self.gates.len() < STREAMS_MAX {
            self.gates.insert(key, Gate { passed_at: now, ingress, pending: None });
        }
        true
    }

    /// A remembered request whose second is over, and its hop limit.
    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<(StreamKey, NodeIndex, u8)> {
        self.gates.iter_mut().filter(|(_, gate)| now.since(gate.passed_at) >= EVERY).find_map(
            |(key, gate)| {
                let hop_limit = gate.pending.take()?;
                gate.passed_at = now;
                Some((*key, gate.ingress, hop_limit))
            },
        )
    }

    /// When the next remembered request is due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.gates.values().filter(|gate| gate.pending.is_some()).map(|gate| gate.passed_at + EVERY).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert!(gates.admit(at(0), key(1), NodeIndex(3), 9));
        assert!(!gates.admit(at(10), key(1), NodeIndex(3), 9));
        assert!(!gates.admit(at(20), key(1), NodeIndex(3), 9));
        assert!(gates.admit(at(20), key(2), NodeIndex(3), 9), "another stream");
        assert_eq!(gates.pop_due(at(999)), None);
        assert_eq!(gates.next_due(), Some(at(1000)));
        assert_eq!(gates.pop_due(at(1000)), Some((key(1), NodeIndex(3), 9)));
        assert_eq!((gates.pop_due(at(1000)), gates.next_due()), (None, None));
    }

    #[test]
    fn the_cache_is_bounded() {
        let mut gates = KeyframeGates::new();
        for room in 0..2 * STREAMS_MAX as u32 {
            assert!(gates.admit(at(0), key(room), NodeIndex(0), 9));
        }
        assert_eq!(gates.gates.len(), STREAMS_MAX);
    }
}
