//! What an SFU's end of a link does with datagrams and frames that did not come in one piece, or not at first.

use super::Client;
use wire_format::{FrameKind, RawFrame, Timestamp, frames};

impl Client {
    /// The media of a datagram that was restored; what it says about the link is old.
    pub(super) fn media_frames(&mut self, now: Timestamp, plain: &[u8], at: usize) {
        for frame in frames(plain) {
            let Ok(RawFrame { kind, body }) = frame else {
                self.counters.drop_malformed += 1;
                return;
            };
            let at = at + body.start;
            let body = &plain[body];
            match kind {
                FrameKind::Edge => self.edge(now, body, at, true),
                FrameKind::Fragment => self.half(now, body),
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

    pub(super) fn repair_request(&mut self, now: Timestamp, body: &[u8]) {
        match self.link.as_mut().map(|link| link.request_in(now, body)) {
            Some(Ok(more)) => self.link_ready |= more,
            Some(Err(_)) => self.counters.drop_malformed += 1,
            None => {}
        }
    }

    /// A datagram came again.
    pub(super) fn repair(&mut self, now: Timestamp, body: &[u8], at: usize) {
        match self.link.as_mut().map(|link| link.repair_in(now, body)) {
            Some(Ok(Some((plain, _)))) => self.media_frames(now, plain, at + body.len() - plain.len()),
            Some(Ok(None)) => self.counters.drop_restored += 1,
            Some(Err(_)) => self.counters.drop_malformed += 1,
            None => {}
        }
    }

    /// A row of parity came.
    pub(super) fn parity(&mut self, now: Timestamp, body: &[u8]) {
        let Some(link) = self.link.as_mut() else { return };
        if link.parity_in(now, body, &mut self.repair_memory).is_err() {
            self.counters.drop_malformed += 1;
        }
        let mut restored = std::mem::take(&mut self.restored);
        while self.link.as_mut().and_then(|link| link.next_restored(now, &mut restored)).is_some() {
            let at = self.arena_bytes + self.annex.len();
            self.annex.extend_from_slice(&restored);
            self.media_frames(now, &restored, at);
        }
        self.restored = restored;
    }

    /// Half of a frame; with the other it is handled like one that came whole.
    pub(super) fn half(&mut self, now: Timestamp, body: &[u8]) {
        let mut whole = std::mem::take(&mut self.whole);
        match self.link.as_mut().map(|link| link.half_in(now, body, &mut whole)) {
            Some(Ok(Some(RawFrame { kind: FrameKind::Edge, body }))) => {
                self.counters.frames_rejoined += 1;
                let at = self.arena_bytes + self.annex.len() + body.start;
                self.annex.extend_from_slice(&whole);
                self.edge(now, &whole[body], at, false);
            }
            Some(Ok(Some(_))) => self.counters.drop_forbidden += 1,
            Some(Err(_)) => self.counters.drop_malformed += 1,
            Some(Ok(None)) | None => {}
        }
        self.whole = whole;
    }
}
