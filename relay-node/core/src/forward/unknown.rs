//! Media that comes before the row of its stream: it waits a little.

use crate::LinkId;
use crate::relay::{Relay, Timer};
use wire_format::{MediaHeader, StreamKey, Timestamp};

impl Relay {
    /// Media for this relay whose stream no entry has named yet.
    pub(super) fn wait_for_entry(
        &mut self,
        now: Timestamp,
        from: LinkId,
        header: MediaHeader,
        packet: &[u8],
    ) {
        if self.waiting.hold(now, from, header.key, header, packet) {
            self.counters.media_waited += 1;
        } else {
            self.counters.drop_unknown_stream += 1;
        }
        self.arm_waiting();
    }

    /// A stream has become known: delivers what waited for it. `true` if some of it could not wait so long.
    pub(crate) fn deliver_waiting(&mut self, now: Timestamp, key: StreamKey) -> bool {
        let (held, missed) = self.waiting.take(key);
        for held in held {
            let start = self.arena_bytes + self.annex.len();
            self.annex.extend_from_slice(&held.packet);
            self.egress(now, None, &held.header, start..start + held.packet.len());
            self.waiting.reuse(held);
        }
        missed
    }

    /// What waited in vain is dropped.
    pub(crate) fn waiting_due(&mut self, now: Timestamp) {
        self.counters.drop_unknown_stream += self.waiting.expire(now);
        self.arm_waiting();
    }

    fn arm_waiting(&mut self) {
        if let Some(due) = self.waiting.next_due() {
            self.timers.set(Timer::Waiting, due);
        }
    }
}
