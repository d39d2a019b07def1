//! Heartbeats: when one leaves and what it says, and what the other end's say.

use super::{Link, LinkChange};
use crate::liveness::{HEARTBEAT_CLOSE, HEARTBEAT_IDLE};
use crate::rate_control::ArrivalReport;
use std::time::Duration;
use wire_format::{FrameKind, Heartbeat, MediaSent, PacketNumber, Timestamp, WireTime};

/// A heartbeat waits so long for media to go with.
const HEARTBEAT_WAIT: Duration = Duration::from_millis(20);
/// How fast what comes arrives is told no more often.
const ARRIVAL_APART: Duration = Duration::from_millis(25);
/// How much media was sent is told no more often.
const MEDIA_TOLD_EVERY: Duration = Duration::from_millis(250);
/// An end whose datagrams are not reported for longer than a round trip and this sends heartbeats ...
const UNHEARD_AFTER: Duration = Duration::from_millis(100);
/// ... so far apart.
const HEARTBEAT_UNHEARD: Duration = Duration::from_millis(10);
/// Heartbeats of two seconds.
const UNREPORTED_MAX: usize = 64;

impl Link {
    /// A heartbeat came.
    pub(crate) fn heartbeat_in(&mut self, now: Timestamp, heartbeat: &Heartbeat) -> LinkChange {
        let needed = heartbeat.in_use && !self.peer_in_use;
        self.peer_in_use = heartbeat.in_use;
        self.repair.peer_repairs(heartbeat.repairs);
        let probes = self.mtu.probes_until(heartbeat.highest);
        let measured = self.feedback.heartbeat(now, heartbeat, probes);
        if !self.repair.is_on() {
            self.forget_acknowledged();
        }
        self.hear_arrival(now, heartbeat);
        if let (Some(media), Some(highest)) = (heartbeat.media, self.reception.expected().checked_sub(1)) {
            self.residual.told(now, highest, media);
        }
        let trusted = self.liveness.trust();
        self.judge_hearing(now);
        let mut change = LinkChange {
            measured,
            trust: self.liveness.trust() != trusted,
            sooner: needed && self.hurry(now),
            ..LinkChange::default()
        };
        if let Some(sizes) = heartbeat.sizes {
            self.reception.probes_told(sizes.probes_sent);
            let fallbacks = self.mtu.fallbacks();
            change.probes = self.mtu.heartbeat(now, heartbeat.highest, sizes);
            change.narrower = self.mtu.fallbacks() > fallbacks;
            change.sooner |= change.probes > 0;
            self.limit_queue();
        }
        change
    }

    /// The other end has said how fast what was sent arrives.
    fn hear_arrival(&mut self, now: Timestamp, heartbeat: &Heartbeat) {
        let (Some(arrival), Some(said_at)) = (heartbeat.arrival, self.reception.newest_sent()) else {
            return;
        };
        let queueing = Duration::from_micros(u64::from(arrival.queueing) * WireTime::UNIT_US);
        let rtt = self.feedback.rtt_min().unwrap_or_default();
        let highest = self.feedback.acknowledged(self.next_number);
        let (expected, received) = self.feedback.expected_received();
        let overflows = self.repair.overflow.is_likely(now);
        let bytes = arrival.bytes;
        let report = ArrivalReport { said_at, queueing, bytes, rtt, highest, expected, received, overflows };
        self.sending.report(now, report);
    }

    /// The other end has said what it received: is that what was sent?
    fn judge_hearing(&mut self, now: Timestamp) {
        let Some(rtt) = self.feedback.rtt() else { return };
        let highest = self.feedback.acknowledged(self.next_number);
        let mut reached = false;
        while self.unreported.front().is_some_and(|(number, _)| Some(*number) <= highest) {
            self.unreported.pop_front();
            reached = true;
        }
        let oldest = self.unreported.front().map_or(now, |(_, left)| *left);
        self.liveness.reported(now, reached, now.since(oldest).saturating_sub(rtt));
    }

    /// A heartbeat is due: with the next media, if some is likely soon, or by itself.
    pub(super) fn heartbeat_due(&mut self, now: Timestamp, close: bool) {
        let media_soon = self.repair.media_at().is_some_and(|at| now.since(at) < HEARTBEAT_CLOSE);
        if close && media_soon && !self.heartbeat_waits {
            self.heartbeat_waits = true;
            self.next_heartbeat = now + HEARTBEAT_WAIT;
        } else {
            self.heartbeat(now, close);
        }
    }

    /// Sends one.
    pub(super) fn heartbeat(&mut self, now: Timestamp, close: bool) {
        self.heartbeat_waits = false;
        let own_use = self.own_use(now);
        let mut body = [0; Heartbeat::BYTES_MAX];
        // Heartbeats in quick succession are too short a time to tell a queue from a host that was busy.
        let tells = self.told_arrival_at.is_none_or(|at| now.since(at) >= ARRIVAL_APART);
        if tells {
            self.told_arrival_at = Some(now);
        }
        let arrival = tells.then(|| self.reception.arrival(self.bytes_in));
        let tells_media = tells && self.told_media_at.is_none_or(|at| now.since(at) >= MEDIA_TOLD_EVERY);
        let media = tells_media.then(|| {
            self.told_media_at = Some(now);
            MediaSent { through: self.next_number as u16, datagrams: self.repair.stats.first as u32 }
        });
        let heartbeat = self.reception.heartbeat(now, own_use, self.mtu.probes_sent());
        let used = Heartbeat { arrival, media, repairs: self.repair.is_on(), ..heartbeat }.encode(&mut body);
        // A full queue already proves that this end is alive.
        let _ = self.push_small(FrameKind::Heartbeat, &body[..used]);
        self.remember(now, self.next_number);
        // Who is not heard speaks up: a burst of loss ends sooner for more datagrams, and what the other end would take for
        // silence does.
        let rtt = self.feedback.rtt().unwrap_or(UNHEARD_AFTER);
        let unheard = self.unreported.front().is_some_and(|(_, left)| now.since(*left) > rtt + UNHEARD_AFTER);
        self.next_heartbeat = now
            + match (close, unheard) {
                (true, true) => HEARTBEAT_UNHEARD,
                (true, false) => HEARTBEAT_CLOSE,
                (false, _) => HEARTBEAT_IDLE,
            };
    }

    /// A datagram of this number or a later one is to be reported by the other end.
    fn remember(&mut self, now: Timestamp, number: u64) {
        // With so many on their way the oldest tells enough.
        if self.unreported.len() < UNREPORTED_MAX {
            self.unreported.push_back((PacketNumber(number), now));
        }
    }
}
