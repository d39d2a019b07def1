//! What an SFU's end of a link does with datagrams and frames that did not come in one piece, or not at first.

use super::Client;
use crate::LinkId;
use wire_format::{FrameKind, RawFrame, Timestamp, frames};

impl Client {
    /// The media of a datagram that was restored; what it says about the link is old.
    pub(super) fn media_frames(&mut self, now: Timestamp, id: LinkId, plain: &[u8], at: usize) {
        for frame in frames(plain) {
            let Ok(RawFrame { kind, body }) = frame else {
                self.counters.drop_malformed += 1;
                return;
            };
            let at = at + body.start;
            let body = &plain[body];
            match kind {
                FrameKind::Edge => self.edge(now, id, body, at, true),
                FrameKind::Fragment => self.half(now, id, body),
                FrameKind::Heartbeat
                | FrameKind::EdgeKeyframeRequest
                | FrameKind::MtuProbe
                | FrameKind::PathChallenge
                | FrameKind::RepairRequest
                | FrameKind::Unknown(_) => {}
                FrameKind::Repair | FrameKind::Parity | FrameKind::Media | FrameKind::KeyframeRequest => {
                    self.counters.drop_forbidden += 1;
                }
            }
        }
    }

    pub(super) fn repair_request(&mut self, now: Timestamp, id: LinkId, body: &[u8]) {
        let Some(attached) = self.links.get_mut(id) else { return };
        match attached.link.request_in(now, body) {
            Ok(more) => attached.ready |= more,
            Err(_) => self.counters.drop_malformed += 1,
        }
    }

    /// A datagram came again.
    pub(super) fn repair(&mut self, now: Timestamp, id: LinkId, body: &[u8], at: usize) {
        match self.links.get_mut(id).map(|attached| attached.link.repair_in(now, body)) {
            Some(Ok(Some((plain, _)))) => self.media_frames(now, id, plain, at + body.len() - plain.len()),
            Some(Ok(None)) => self.counters.drop_restored += 1,
            Some(Err(_)) => self.counters.drop_malformed += 1,
            None => {}
        }
    }

    /// A row of parity came.
    pub(super) fn parity(&mut self, now: Timestamp, id: LinkId, body: &[u8]) {
        let Some(attached) = self.links.get_mut(id) else { return };
        if attached.link.parity_in(now, body, &mut self.repair_memory).is_err() {
            self.counters.drop_malformed += 1;
        }
        let mut restored = std::mem::take(&mut self.restored);
        while self
            .links
            .get_mut(id)
            .and_then(|attached| attached.link.next_restored(now, &mut restored))
            .is_some()
        {
            let at = self.arena_bytes + self.annex.len();
            self.annex.extend_from_slice(&restored);
            self.media_frames(now, id, &restored, at);
        }
        self.restored = restored;
    }

    /// Half of a frame; with the other it is handled like one that came whole.
    pub(super) fn half(&mut self, now: Timestamp, id: LinkId, body: &[u8]) {
        let mut whole = std::mem::take(&mut self.whole);
        match self.links.get_mut(id).map(|attached| attached.link.half_in(now, body, &mut whole)) {
            Some(Ok(Some(RawFrame { kind: FrameKind::Edge, body }))) => {
                self.counters.frames_rejoined += 1;
                let at = self.arena_bytes + self.annex.len() + body.start;
                self.annex.extend_from_slice(&whole);
                self.edge(now, id, &whole[body], at, false);
            }
            Some(Ok(Some(_))) => self.counters.drop_forbidden += 1,
            Some(Err(_)) => self.counters.drop_malformed += 1,
            Some(Ok(None)) | None => {}
        }
        self.whole = whole;
    }
}
