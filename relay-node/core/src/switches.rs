//! A stream that begins to come by another link has changed its path, and what was lost on the way may have held a part
//! of every picture since. Frames that are sent again need a moment, so a relay that delivers a stream looks back
//! [`AFTER`] the change, and asks for a keyframe if a frame is still missing since the last that came the old way.

use crate::LinkId;
use crate::relay::{Relay, Timer};
use std::collections::VecDeque;
use std::time::Duration;
use wire_format::{HOP_LIMIT, MediaKind, Sequence, StreamKey, Timestamp};

/// Silence, resending and the longer way are over by then.
const AFTER: Duration = Duration::from_millis(200);
/// Streams looked at at once; those that change their path beyond that are not.
const SWITCHES_MAX: usize = 8192;

/// Streams that have changed their path a moment ago, in that order.
#[derive(Debug, Default)]
pub(crate) struct Switches {
    queue: VecDeque<(Timestamp, StreamKey)>,
}

impl Switches {
    /// A stream changed its path. `false` if too many did.
    pub(crate) fn note(&mut self, now: Timestamp, key: StreamKey) -> bool {
        let fits = self.queue.len() < SWITCHES_MAX;
        if fits {
            self.queue.push_back((now + AFTER, key));
        }
        fits
    }

    /// A stream to look at.
    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<StreamKey> {
        let (at, key) = *self.queue.front()?;
        if at > now {
            return None;
        }
        self.queue.pop_front();
        Some(key)
    }

    /// When the next one is due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.queue.front().map(|(at, _)| *at)
    }
}

impl Relay {
    /// A stream comes by another link than before.
    #[cold]
    pub(crate) fn arrives_by(
        &mut self,
        now: Timestamp,
        key: StreamKey,
        from: Option<LinkId>,
        before: Option<Sequence>,
    ) {
        let Some(stream) = self.streams.find(key) else { return };
        let first = stream.arrival.is_none();
        stream.arrival = from;
        if first || stream.switched_after.is_some() || stream.entry.kind != MediaKind::Video {
            return;
        }
        self.counters.streams_switched += 1;
        if self.switches.note(now, key) {
            stream.switched_after = before;
            if let Some(due) = self.switches.next_due() {
                self.timers.set(Timer::Switches, due);
            }
        }
    }

    /// Looks at streams whose path changed a moment ago.
    pub(crate) fn switches_due(&mut self, now: Timestamp) {
        while let Some(key) = self.switches.pop_due(now) {
            let Some(stream) = self.streams.find(key) else { continue };
            let after = stream.switched_after.take();
            let ingress = stream.entry.ingress;
            if after.is_some_and(|after| stream.seen.is_missing_since(after)) {
                self.want_keyframe(now, key, ingress, HOP_LIMIT);
            }
        }
        if let Some(due) = self.switches.next_due() {
            self.timers.set(Timer::Switches, due);
        }
    }
}
