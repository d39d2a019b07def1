//! Frames that a failed link may have swallowed go again another way.
//!
//! A link is suspect after 100 ms of silence, and all that it was given since the other end was last heard of may be
//! lost. So when destinations move away from a silent link, the frames that it has not acknowledged are sent again to
//! those of their destinations that moved, oldest first, with what their wait has left of their slack. What did arrive
//! arrives twice, and is suppressed at its egress like every duplicate. What still waits for a slow link that has fallen
//! silent goes another way too.
//!
//! The frames of one link are spread over [`OVER`], in steps, so that the link that takes them over is not given in one
//! burst what the other carried in a fifth of a second.

use crate::LinkId;
use crate::backlog::Parked;
use crate::liveness::Trust;
use crate::rejoin::Rejoin;
use crate::relay::{Relay, Side, Timer};
use crate::repair::{History, Sent};
use std::time::Duration;
use wire_format::{FrameKind, MediaHeader, Plane, RawFrame, Slack, Timestamp, frames};

/// The frames of a link go again within this.
const OVER: Duration = Duration::from_millis(50);
/// Distance of two steps.
const STEP: Duration = Duration::from_millis(5);
/// As much may go in one step however little there is: 13 Mbit/s.
const STEP_BYTES_MIN: usize = 8192;
/// Failed links whose frames go again at the same time.
const RESENDS_MAX: usize = 64;

/// What is left to send of one failed link.
#[derive(Debug)]
pub(crate) struct Resend {
    history: History,
    next: usize,
    step_bytes: usize,
    /// Frames that left in halves.
    rejoin: Rejoin,
}

impl Resend {
    fn new(history: History) -> Resend {
        let bytes: usize = history.sent().iter().map(|sent| history.plain(sent).len()).sum();
        let steps = (OVER.as_micros() / STEP.as_micros()) as usize;
        let step_bytes = bytes.div_ceil(steps).max(STEP_BYTES_MIN);
        Resend { history, next: 0, step_bytes, rejoin: Rejoin::default() }
    }

    fn take_next(&mut self) -> Option<Sent> {
        loop {
            let sent = self.history.sent().get(self.next).copied()?;
            self.next += 1;
            // A repair has no bytes of its own.
            if sent.repeats.is_none() {
                return Some(sent);
            }
        }
    }
}

impl Relay {
    /// Destinations have moved: what silent links still owe them goes again.
    pub(crate) fn resend_of_silent_links(&mut self, now: Timestamp) {
        let silent = |entry: &&crate::relay::RelayLink| {
            matches!(entry.side, Side::Relay { node: _ })
                && (entry.leaving || entry.link.trust() == Trust::None)
                && entry.link.owes()
        };
        let ids: Vec<LinkId> =
            self.links.iter().flatten().filter(silent).map(|entry| entry.link.id).collect();
        for id in ids {
            let Some(entry) = self.link_mut(id) else { continue };
            let (history, waiting) = (entry.link.take_unacknowledged(), entry.link.take_waiting());
            self.resend(now, history);
            self.resend_waiting(now, waiting);
        }
    }

    /// Sends again what a failed link has not acknowledged, the first of it at once.
    pub(crate) fn resend(&mut self, now: Timestamp, history: History) {
        if history.sent().is_empty() {
            history.release(&mut self.repair_memory);
            return;
        }
        if self.resends.len() >= RESENDS_MAX {
            self.counters.drop_resend += history.sent().len() as u64;
            history.release(&mut self.repair_memory);
            return;
        }
        self.resends.push(Resend::new(history));
        self.resend_step(now);
    }

    /// Sends what waited for a link another way: a fifth of a second of what a slow link carries.
    pub(crate) fn resend_waiting(&mut self, now: Timestamp, waiting: Vec<Parked>) {
        for parked in waiting {
            if parked.kind == FrameKind::Media {
                self.resend_frame(now, parked.since, &parked.body);
            }
            self.backlog_memory.give(parked.body);
        }
    }

    /// As much of each failed link as may go now.
    pub(crate) fn resend_step(&mut self, now: Timestamp) {
        let mut resends = std::mem::take(&mut self.resends);
        let mut whole = std::mem::take(&mut self.whole);
        for resend in &mut resends {
            let mut bytes = 0;
            while bytes < resend.step_bytes
                && let Some(sent) = resend.take_next()
            {
                let plain = resend.history.plain(&sent);
                bytes += plain.len();
                for RawFrame { kind, body } in frames(plain).flatten() {
                    if kind == FrameKind::Media {
                        self.resend_frame(now, sent.at, &plain[body]);
                    } else if kind == FrameKind::Fragment
                        && let Ok(Some(frame)) = resend.rejoin.half(sent.at, &plain[body], &mut whole)
                        && frame.kind == FrameKind::Media
                    {
                        self.resend_frame(now, sent.at, &whole[frame.body]);
                    }
                }
            }
        }
        self.whole = whole;
        let mut left = Vec::with_capacity(resends.len());
        for resend in resends {
            if resend.next < resend.history.sent().len() {
                left.push(resend);
            } else {
                resend.history.release(&mut self.repair_memory);
            }
        }
        if !left.is_empty() {
            self.timers.set(Timer::Resend, now + STEP);
        }
        self.resends = left;
    }

    /// One frame, to those of its destinations that have moved. What is on a redundant plane already stays there, as does
    /// one of two copies, and what has no alternative was sent the only way there is.
    fn resend_frame(&mut self, now: Timestamp, sent_at: Timestamp, body: &[u8]) {
        let Ok((mut header, header_bytes)) = MediaHeader::decode(body) else { return };
        if header.plane != Plane::PRIMARY || header.protected {
            return;
        }
        let mut hops = std::mem::take(&mut self.scratch);
        hops.clear();
        let table = self.tables.of_frame(header.epoch);
        for destination in header.destinations.iter() {
            let way = table.and_then(|(table, _)| table.way(header.policy, Plane::PRIMARY, destination));
            if let Some(way) = way.filter(|way| way.plane != Plane::PRIMARY) {
                hops.push((way.link, way.plane, destination));
            }
        }
        let waited = Slack::from_duration(now.since(sent_at));
        if hops.is_empty() {
            self.scratch = hops;
            return;
        }
        if waited >= header.slack {
            self.counters.drop_slack += 1;
        } else {
            header.slack = Slack(header.slack.0 - waited.0);
            let start = self.arena_bytes + self.annex.len();
            self.annex.extend_from_slice(&body[header_bytes..]);
            let end = self.arena_bytes + self.annex.len();
            let before = self.counters.media_rerouted;
            self.copies(now, &header, start..end, &mut hops, false);
            self.counters.media_resent += self.counters.media_rerouted - before;
        }
        self.scratch = hops;
    }
}
