//! One end of a link: packet numbers, what waits to be sent, heartbeats, measurement and liveness. Who is at the other
//! end and what the frames mean is its owner's business.

use crate::liveness::{HEARTBEAT_CLOSE, HEARTBEAT_IDLE, Liveness};
use crate::measure::{Feedback, Rate, Reception};
use crate::queue::{OrderLane, SendQueue};
use crate::{LinkId, Train};
use std::ops::Range;
use std::time::Duration;
use wire_format::control::LinkState;
use wire_format::{
    DATAGRAM_BYTES_MAX, FrameKind, Heartbeat, PARITY_ROOM_BYTES, PacketNumber, SEAL_OVERHEAD_BYTES,
    Timestamp, WireTime,
};

/// A link counts as used for so long after its last media frame.
const USED_FOR: Duration = Duration::from_secs(1);
/// A new link is watched closely for so long, to measure it soon.
const YOUNG_FOR: Duration = Duration::from_secs(2);

/// The state of one link that does not depend on who is at its other end.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: LinkId,
    plain_max: usize,
    next_number: u64,
    pub(crate) queue: SendQueue,
    made_at: Timestamp,
    reception: Reception,
    feedback: Feedback,
    liveness: Liveness,
    /// A route leads over it.
    routed: bool,
    media_at: Option<Timestamp>,
    peer_in_use: bool,
    datagrams_out: u64,
    bytes_out: u64,
    bytes_in: u64,
    rate_out: Rate,
    rate_in: Rate,
    next_heartbeat: Timestamp,
}

/// What handling a heartbeat or the clock changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct LinkChange {
    /// The state is another.
    pub(crate) state: bool,
    /// The first round trip is known.
    pub(crate) measured: bool,
    /// Silent for too long: close it.
    pub(crate) hopeless: bool,
    /// The next tick is earlier than it was.
    pub(crate) sooner: bool,
}

/// What an owner or an operator may know about a link.
#[derive(Clone, PartialEq, Debug)]
pub struct LinkStats {
    /// Whether it can carry media.
    pub state: LinkState,
    /// Smoothed round trip, `None` before the first sample.
    pub rtt: Option<Duration>,
    /// Least round trip of the last 10 to 20 s.
    pub rtt_min: Option<Duration>,
    /// Interarrival jitter of what arrives.
    pub jitter_in: Duration,
    /// Interarrival jitter at the other end.
    pub jitter_out: Duration,
    /// Loss of what was sent over about 10 s, parts per million.
    pub loss_out_ppm: u32,
    /// Loss of what should have arrived over about 10 s, parts per million.
    pub loss_in_ppm: u32,
    /// Bytes per second sent (UDP payload) in the last second.
    pub rate_out: u64,
    /// Bytes per second received (UDP payload) in the last second.
    pub rate_in: u64,
    /// Datagrams sent.
    pub datagrams_out: u64,
    /// Datagrams received.
    pub datagrams_in: u64,
    /// Bytes sent (UDP payload).
    pub bytes_out: u64,
    /// Bytes received (UDP payload).
    pub bytes_in: u64,
    /// Round trips measured.
    pub samples: u64,
    /// Media or a route depends on it, here or at the other end.
    pub in_use: bool,
}

impl Link {
    pub(crate) fn new(now: Timestamp, id: LinkId, max_datagram: u16) -> Link {
        let datagram = usize::from(max_datagram).min(DATAGRAM_BYTES_MAX);
        Link {
            id,
            plain_max: datagram.saturating_sub(SEAL_OVERHEAD_BYTES + PARITY_ROOM_BYTES),
            next_number: 0,
            queue: SendQueue::new(),
            made_at: now,
            reception: Reception::new(),
            feedback: Feedback::new(now),
            liveness: Liveness::new(now),
            routed: false,
            media_at: None,
            peer_in_use: false,
            datagrams_out: 0,
            bytes_out: 0,
            bytes_in: 0,
            rate_out: Rate::new(now),
            rate_in: Rate::new(now),
            next_heartbeat: now,
        }
    }

    /// Largest plain datagram.
    pub(crate) fn plain_max(&self) -> usize {
        self.plain_max
    }

    /// Whether the other end has been heard at all.
    pub(crate) fn was_heard(&self) -> bool {
        self.reception.received() > 0
    }

    /// An authenticated datagram came; its frames are the owner's.
    pub(crate) fn datagram_in(
        &mut self,
        now: Timestamp,
        number: PacketNumber,
        sent: WireTime,
        plain_bytes: usize,
    ) -> LinkChange {
        self.reception.datagram(now, number, sent);
        self.bytes_in += (plain_bytes + SEAL_OVERHEAD_BYTES) as u64;
        LinkChange { state: self.liveness.heard(now), ..LinkChange::default() }
    }

    /// A heartbeat came.
    pub(crate) fn heartbeat_in(&mut self, now: Timestamp, heartbeat: &Heartbeat) -> LinkChange {
        let needed = heartbeat.in_use && !self.peer_in_use;
        self.peer_in_use = heartbeat.in_use;
        LinkChange {
            measured: self.feedback.heartbeat(now, heartbeat),
            sooner: needed && self.hurry(now),
            ..LinkChange::default()
        }
    }

    /// Media passes over the link, in either direction. `true` if that brings the next tick forward.
    pub(crate) fn media_seen(&mut self, now: Timestamp) -> bool {
        let fresh = self.media_at.is_none_or(|at| now.since(at) >= USED_FOR);
        self.media_at = Some(now);
        fresh && self.hurry(now)
    }

    /// Sets whether a route leads over the link. `true` if that brings the next tick forward.
    pub(crate) fn set_routed(&mut self, now: Timestamp, routed: bool) -> bool {
        self.routed = routed;
        routed && self.hurry(now)
    }

    /// Queues a frame without packet.
    pub(crate) fn push_small(&mut self, kind: FrameKind, body: &[u8]) -> bool {
        self.queue.push(kind, OrderLane::NONE, 0..0, |head| {
            head[..body.len()].copy_from_slice(body);
            body.len()
        })
    }

    /// Queues a frame with a packet of the arena.
    pub(crate) fn push_packet(
        &mut self,
        kind: FrameKind,
        lane: OrderLane,
        packet: Range<usize>,
        write_head: impl FnOnce(&mut [u8]) -> usize,
    ) -> bool {
        self.queue.push(kind, lane, packet, write_head)
    }

    /// When [`Link::tick`] is due. Later than the `now` of the last tick; changed by ticks only, so that a packet never
    /// touches a timer.
    pub(crate) fn next_tick(&self, now: Timestamp) -> Timestamp {
        self.next_heartbeat.min(self.liveness.next_check(now))
    }

    /// Sends a heartbeat if one is due, and judges silence.
    pub(crate) fn tick(&mut self, now: Timestamp) -> LinkChange {
        let own_use = self.routed
            || self.media_at.is_some_and(|at| now.since(at) < USED_FOR)
            || now.since(self.made_at) < YOUNG_FOR;
        let close = own_use || self.peer_in_use;
        self.liveness.watch_closely(now, close);
        if now >= self.next_heartbeat {
            let body = self.reception.heartbeat(now, own_use).encode();
            // A full queue already proves that this end is alive.
            let _ = self.push_small(FrameKind::Heartbeat, &body);
            self.next_heartbeat = now + if close { HEARTBEAT_CLOSE } else { HEARTBEAT_IDLE };
        }
        LinkChange {
            state: self.liveness.check(now),
            hopeless: self.liveness.is_hopeless(now),
            ..LinkChange::default()
        }
    }

    /// Packs what waits into `train`. `true` when nothing is left.
    pub(crate) fn pack(&mut self, now: Timestamp, arena: &[u8], train: &mut Train) -> bool {
        let done = self.queue.pack(arena, now.wire(), self.plain_max, &mut self.next_number, train);
        self.datagrams_out += train.slots().len() as u64;
        self.bytes_out += train.bytes().len() as u64;
        done
    }

    /// Reads the rates; to be called about once a second.
    pub(crate) fn read_rates(&mut self, now: Timestamp) {
        self.rate_out.read(now, self.bytes_out);
        self.rate_in.read(now, self.bytes_in);
    }

    pub(crate) fn stats(&self) -> LinkStats {
        LinkStats {
            state: self.liveness.state(),
            rtt: self.feedback.rtt(),
            rtt_min: self.feedback.rtt_min(),
            jitter_in: self.reception.jitter(),
            jitter_out: self.feedback.jitter(),
            loss_out_ppm: self.feedback.loss_ppm(),
            loss_in_ppm: self.reception.loss_ppm(),
            rate_out: self.rate_out.per_second(),
            rate_in: self.rate_in.per_second(),
            datagrams_out: self.datagrams_out,
            datagrams_in: self.reception.received(),
            bytes_out: self.bytes_out,
            bytes_in: self.bytes_in,
            samples: self.feedback.samples(),
            in_use: self.routed || self.media_at.is_some() || self.peer_in_use,
        }
    }

    /// The link is needed: a heartbeat soon. `true` if it was due later.
    fn hurry(&mut self, now: Timestamp) -> bool {
        let soon = now + HEARTBEAT_CLOSE;
        let sooner = soon < self.next_heartbeat;
        self.next_heartbeat = self.next_heartbeat.min(soon);
        sooner
    }
}
