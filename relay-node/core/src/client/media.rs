//! Packets of this process on their way out, and packets for it.

use super::{Client, Timer};
use crate::duplicates::Verdict;
use crate::queue::{OrderLane, Pushed, Refused};
use crate::repair::Urgency;
use crate::{Delivery, LinkId, Outgoing};
use std::ops::Range;
use wire_format::{
    EDGE_HEADER_BYTES, EdgeHeader, FrameKind, MediaKind, RTP_BYTES_MAX, Sequence, StreamHandle, Timestamp,
};

/// Deliveries of one batch.
const DELIVERIES_MAX: usize = 1 << 16;

impl Client {
    pub(super) fn edge(&mut self, now: Timestamp, id: LinkId, body: &[u8], at: usize, restored: bool) {
        let Ok(header) = EdgeHeader::decode(body) else {
            self.counters.drop_malformed += 1;
            return;
        };
        let Some(attached) = self.links.get_mut(id) else { return };
        attached.link.media_came(now, header.slack, restored);
        let earlier = attached.link.media_seen(now);
        let announced = attached.announced.contains_key(&header.handle);
        if earlier {
            self.rearm(now, id);
        }
        if announced {
            self.deliver(now, id, header, at + EDGE_HEADER_BYTES..at + body.len());
        } else {
            self.wait_for_announcement(now, id, header, &body[EDGE_HEADER_BYTES..]);
        }
    }

    fn wait_for_announcement(&mut self, now: Timestamp, id: LinkId, header: EdgeHeader, packet: &[u8]) {
        if self.waiting.hold(now, id, (id, header.handle), header, packet) {
            self.counters.media_waited += 1;
        } else {
            self.counters.drop_unknown_handle += 1;
        }
        self.arm_waiting();
    }

    /// A stream has been announced: delivers what waited for it, and asks for a keyframe if some of it could not.
    pub(super) fn deliver_waiting(
        &mut self,
        now: Timestamp,
        id: LinkId,
        handle: StreamHandle,
        kind: MediaKind,
    ) {
        let (held, missed) = self.waiting.take((id, handle));
        for held in held {
            let start = self.arena_bytes + self.annex.len();
            self.annex.extend_from_slice(&held.packet);
            self.deliver(now, id, held.header, start..start + held.packet.len());
            self.waiting.reuse(held);
        }
        if missed && kind == MediaKind::Video {
            let own = self.links.get(id).and_then(|attached| attached.announced.get(&handle));
            if let Some((own, _)) = own.copied() {
                self.request_keyframe(own);
            }
        }
    }

    pub(super) fn arm_waiting(&mut self) {
        if let Some(due) = self.waiting.next_due() {
            self.timers.set(Timer::Waiting, due);
        }
    }

    /// A packet of a stream that is announced on the link. What the other link brought is not delivered twice.
    fn deliver(&mut self, now: Timestamp, id: LinkId, header: EdgeHeader, range: Range<usize>) {
        let EdgeHeader { handle, sequence, slack: _, priority: _, rtcp } = header;
        let Some((own, came)) =
            self.links.get_mut(id).and_then(|attached| attached.announced.get_mut(&handle))
        else {
            return;
        };
        *came = true;
        let own = *own;
        let Some(stream) = self.streams.get_mut(&own) else { return };
        stream.heard_at = now;
        let incarnation = stream.incarnation;
        match stream.seen.admit(incarnation, sequence) {
            Verdict::New => {}
            Verdict::Duplicate => {
                self.counters.drop_duplicate += 1;
                return;
            }
            // Of one link alone nothing comes twice, however late it is.
            Verdict::TooOld if self.links.ids().count() < 2 => {}
            Verdict::TooOld => {
                self.counters.drop_too_old += 1;
                return;
            }
        }
        if self.deliveries.len() >= DELIVERIES_MAX {
            self.counters.drop_queue_full += 1;
            return;
        }
        self.counters.media_delivered += 1;
        self.counters.media_delivered_bytes += range.len() as u64;
        self.deliveries.push_back(Delivery { handle: own, incarnation, sequence, range, rtcp });
    }

    /// A packet of this process: numbered, framed, queued on the newest link where it is granted.
    pub(super) fn send(&mut self, now: Timestamp, arena: &[u8], outgoing: &Outgoing) {
        if outgoing.range.len() > RTP_BYTES_MAX || outgoing.range.is_empty() {
            self.counters.drop_oversize += 1;
            return;
        }
        let Some(publication) = self.publications.get_mut(&outgoing.publication) else {
            self.counters.drop_unknown_handle += 1;
            return;
        };
        // Counted whether or not a link stands, so that a gap shows how much is missing.
        let sequence = Sequence(publication.next_sequence);
        publication.next_sequence = publication.next_sequence.wrapping_add(1);
        let priority = publication.prioritizer.priority(&arena[outgoing.range.clone()], outgoing.rtcp);
        let granted = |handles: &std::collections::BTreeMap<u32, StreamHandle>| {
            handles.get(&outgoing.publication).copied()
        };
        let found = self.links.iter_mut().find_map(|attached| Some((granted(&attached.granted)?, attached)));
        let Some((handle, attached)) = found else {
            self.counters.drop_unknown_link += 1;
            return;
        };
        let header = EdgeHeader { handle, sequence, slack: publication.slack, priority, rtcp: outgoing.rtcp };
        let urgency = Urgency { priority, slack: header.slack };
        let lane = OrderLane::of(outgoing.publication);
        let pushed =
            attached.link.push_packet(FrameKind::Edge, urgency, lane, outgoing.range.clone(), |head| {
                let bytes = header.encode();
                head[..bytes.len()].copy_from_slice(&bytes);
                bytes.len()
            });
        match pushed {
            Ok(Pushed::Whole) => {}
            Ok(Pushed::Cut) => self.counters.frames_cut += 1,
            Err(Refused::Full) => {
                self.counters.drop_queue_full += 1;
                return;
            }
            Err(Refused::TooLarge) => {
                self.counters.drop_oversize += 1;
                return;
            }
        }
        attached.ready = true;
        self.counters.media_published += 1;
        let id = attached.link.id;
        if attached.link.media_seen(now) {
            self.rearm(now, id);
        }
    }
}
