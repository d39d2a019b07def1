//! What a relay does with datagrams that did not come at first: asked for by the other end, sent again, or restored from
//! parity.

use super::{Carrier, Restored};
use crate::LinkId;
use crate::relay::{Relay, slot};
use wire_format::{FrameKind, RawFrame, Timestamp, frames};

impl Relay {
    /// The media of a datagram that was restored; what it says about the link is old.
    pub(super) fn media_frames(&mut self, now: Timestamp, carrier: &Carrier, plain: &[u8], at: usize) {
        for frame in frames(plain) {
            let Ok(RawFrame { kind, body }) = frame else {
                self.counters.drop_malformed += 1;
                return;
            };
            let at = at + body.start;
            let body = &plain[body];
            match (kind, carrier.from_relay) {
                (FrameKind::Media, true) => self.media(now, carrier, body, at),
                (FrameKind::Edge, false) => self.edge(now, carrier, body, at),
                (FrameKind::Fragment, _) => self.half(now, carrier, body),
                (
                    FrameKind::Heartbeat
                    | FrameKind::KeyframeRequest
                    | FrameKind::EdgeKeyframeRequest
                    | FrameKind::MtuProbe
                    | FrameKind::PathChallenge
                    | FrameKind::RepairRequest
                    | FrameKind::Unknown(_),
                    _,
                ) => {}
                (FrameKind::Media, false)
                | (FrameKind::Edge, true)
                | (FrameKind::Repair | FrameKind::Parity, _) => self.counters.drop_forbidden += 1,
            }
        }
    }

    pub(super) fn repair_request(&mut self, now: Timestamp, id: LinkId, body: &[u8]) {
        match self.link_mut(id).map(|entry| entry.link.request_in(now, body)) {
            Some(Ok(true)) => self.mark_ready(id),
            Some(Err(_)) => self.counters.drop_malformed += 1,
            Some(Ok(false)) | None => {}
        }
    }

    /// A datagram came again.
    pub(super) fn repair(&mut self, now: Timestamp, carrier: &Carrier, body: &[u8], at: usize) {
        match self.link_mut(carrier.link).map(|entry| entry.link.repair_in(now, body)) {
            Some(Ok(Some((plain, late)))) => {
                let carrier = Carrier { excess: late, restored: Some(Restored::Again), ..*carrier };
                self.media_frames(now, &carrier, plain, at + body.len() - plain.len());
            }
            Some(Ok(None)) => self.counters.drop_restored += 1,
            Some(Err(_)) => self.counters.drop_malformed += 1,
            None => {}
        }
    }

    /// A row of parity came.
    pub(super) fn parity(&mut self, now: Timestamp, carrier: &Carrier, body: &[u8]) {
        let Some(entry) = self.links.get_mut(slot(carrier.link)).and_then(Option::as_mut) else { return };
        if entry.link.parity_in(now, body, &mut self.repair_memory).is_err() {
            self.counters.drop_malformed += 1;
        }
        let mut restored = std::mem::take(&mut self.restored);
        while let Some(late) =
            self.link_mut(carrier.link).and_then(|entry| entry.link.next_restored(now, &mut restored))
        {
            let at = self.arena_bytes + self.annex.len();
            self.annex.extend_from_slice(&restored);
            let carrier = Carrier { excess: late, restored: Some(Restored::Parity), ..*carrier };
            self.media_frames(now, &carrier, &restored, at);
        }
        self.restored = restored;
    }
}
