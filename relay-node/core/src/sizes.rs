//! What a relay does with frames about a path: halves of others, probes and challenges and their answers.

use crate::forward::Carrier;
use crate::relay::Relay;
use crate::{LinkId, Output};
use wire_format::{FrameKind, RawFrame, Timestamp};

impl Relay {
    /// Half of a frame; with the other it is handled like one that came whole.
    pub(crate) fn half(&mut self, now: Timestamp, carrier: &Carrier, body: &[u8]) {
        let mut whole = std::mem::take(&mut self.whole);
        let joined = self.link_mut(carrier.link).map(|entry| entry.link.half_in(now, body, &mut whole));
        let from_relay = carrier.from_relay;
        match joined {
            Some(Ok(Some(RawFrame { kind, body }))) => {
                self.counters.frames_rejoined += 1;
                let at = self.arena_bytes + self.annex.len() + body.start;
                self.annex.extend_from_slice(&whole);
                if kind == FrameKind::Media && from_relay {
                    self.media(now, carrier, &whole[body], at);
                } else if kind == FrameKind::Edge && !from_relay {
                    self.edge(now, carrier, &whole[body], at);
                } else {
                    self.counters.drop_forbidden += 1;
                }
            }
            Some(Err(_)) => self.counters.drop_malformed += 1,
            Some(Ok(None)) | None => {}
        }
        self.whole = whole;
    }

    pub(crate) fn path_challenge(&mut self, now: Timestamp, id: LinkId, body: &[u8]) {
        let Some(entry) = self.link_mut(id) else { return };
        match entry.link.challenge_in(now, body) {
            Ok((asked, change)) => {
                if asked {
                    self.mark_ready(id);
                    self.output(Output::PathChallenged { link: id });
                }
                self.link_changed(now, id, change);
            }
            Err(_) => self.counters.drop_malformed += 1,
        }
    }

    pub(crate) fn challenge(&mut self, id: LinkId, token: [u8; 8]) {
        if let Some(entry) = self.link_mut(id) {
            entry.link.challenge(token);
            self.mark_ready(id);
        }
    }

    pub(crate) fn mtu_probe(&mut self, now: Timestamp, id: LinkId, body: &[u8], plain_bytes: usize) {
        let Some(entry) = self.link_mut(id) else { return };
        let handled = entry.link.probe_in(body, plain_bytes);
        let waits = entry.link.has_output(now);
        if handled.is_err() {
            self.counters.drop_malformed += 1;
        }
        if waits {
            self.mark_ready(id);
        }
    }
}
