//! Streams on their way out to plain subscribers.

use super::cache::Cache;
use super::{Arrived, Bytes, Departure, Plain, PlainPort};
use crate::annex::packet_bytes;
use crate::clients::Owner;
use crate::notice::Notice;
use crate::relay::Relay;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use wire_format::rtp::RtpHeader;
use wire_format::{StreamKey, SubscriptionId, Timestamp};

/// Streams whose last packets are remembered; more go without.
const CACHES_MAX: usize = 256;
/// Packets of a stream asked for before they came.
const AWAITED_MAX: usize = 64;
/// Nobody waits for a packet longer.
const AWAITED_FOR: Duration = Duration::from_secs(1);

/// A plain subscriber of a stream: all that a packet of it needs to know.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) subscription: SubscriptionId,
    rtp_port: PlainPort,
    rtcp_port: PlainPort,
    from: IpAddr,
    to: SocketAddr,
    pub(super) rtcp_to: SocketAddr,
    /// The SSRC under which the stream goes to that address.
    pub(super) ssrc: Option<u32>,
    /// The SSRC under which it may not, because another stream has it there.
    pub(super) collides: Option<u32>,
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

/// A packet asked for before it came.
#[derive(Clone, Copy, Debug)]
struct Awaited {
    ssrc: u32,
    sequence: u16,
    subscription: SubscriptionId,
    since: Timestamp,
}

/// What a row of the stream table keeps for plain subscribers; nothing where there is none.
#[derive(Debug, Default)]
pub(crate) struct PlainRow {
    pub(super) legs: Vec<Leg>,
    pub(super) cache: Option<Box<Cache>>,
    awaited: VecDeque<Awaited>,
}

impl PlainRow {
    /// No plain subscriber gets this stream.
    pub(crate) fn is_empty(&self) -> bool {
        self.legs.is_empty()
    }

    pub(crate) fn subscribers(&self) -> usize {
        self.legs.len()
    }

    pub(super) fn cached(&self, at: u64, bytes: usize) -> Option<&[u8]> {
        self.cache.as_ref()?.bytes(at, bytes)
    }

    pub(super) fn leg(&self, subscription: SubscriptionId) -> Option<&Leg> {
        self.legs.iter().find(|leg| leg.subscription == subscription)
    }

    /// Remembers that a packet is wanted as soon as it comes.
    pub(super) fn await_packet(
        &mut self,
        now: Timestamp,
        ssrc: u32,
        sequence: u16,
        subscription: SubscriptionId,
    ) {
        let same = |awaited: &Awaited| {
            (awaited.ssrc, awaited.sequence, awaited.subscription) == (ssrc, sequence, subscription)
        };
        if self.awaited.iter().any(same) {
            return;
        }
        if self.awaited.len() >= AWAITED_MAX {
            self.awaited.pop_front();
        }
        self.awaited.push_back(Awaited { ssrc, sequence, subscription, since: now });
    }

    /// Who waits for a packet that has just come.
    fn awaits(&mut self, now: Timestamp, ssrc: u32, sequence: u16) -> Option<SubscriptionId> {
        while self.awaited.front().is_some_and(|awaited| now.since(awaited.since) > AWAITED_FOR) {
            self.awaited.pop_front();
        }
        let at =
            self.awaited.iter().position(|awaited| (awaited.ssrc, awaited.sequence) == (ssrc, sequence))?;
        self.awaited.remove(at).map(|awaited| awaited.subscription)
    }
}

impl Plain {
    /// Takes an SSRC at a destination for a stream, unless it is taken.
    fn claim(&mut self, to: SocketAddr, ssrc: u32, key: StreamKey, subscription: SubscriptionId) -> bool {
        *self.claims.entry((to, ssrc)).or_insert((key, subscription)) == (key, subscription)
    }

    fn release(&mut self, leg: &Leg) {
        if let Some(ssrc) = leg.ssrc {
            self.claims.remove(&(leg.to, ssrc));
        }
    }
}

impl Relay {
    /// Sends on what came for plain subscribers.
    pub(crate) fn plain_deliver(&mut self, now: Timestamp, arena: &[u8]) {
        let mut arrived = std::mem::take(&mut self.plain.arrived);
        for Arrived { key, packet, rtcp } in arrived.drain(..) {
            if rtcp {
                self.plain_deliver_rtcp(key, packet);
            } else {
                self.plain_deliver_rtp(now, arena, key, packet);
            }
        }
        self.plain.arrived = arrived;
    }

    fn plain_deliver_rtcp(&mut self, key: StreamKey, packet: std::ops::Range<usize>) {
        let Relay { streams, plain, counters, .. } = self;
        let Some(stream) = streams.find(key) else { return };
        for leg in stream.plain.legs.iter().filter(|leg| leg.collides.is_none()) {
            let departure = Departure {
                port: leg.rtcp_port,
                from: leg.from,
                to: leg.rtcp_to,
                bytes: Bytes::Arena(packet.clone()),
            };
            let sent = plain.push(departure);
            counters.plain_delivered += u64::from(sent);
            counters.drop_plain_queue_full += u64::from(!sent);
        }
    }

    fn plain_deliver_rtp(
        &mut self,
        now: Timestamp,
        arena: &[u8],
        key: StreamKey,
        packet: std::ops::Range<usize>,
    ) {
        let Relay { streams, plain, counters, annex, .. } = self;
        let bytes = packet_bytes(arena, annex, &packet);
        let Some(stream) = streams.find(key) else { return };
        let row = &mut stream.plain;
        let Some(header) = RtpHeader::parse(bytes) else {
            counters.drop_plain_malformed += 1;
            return;
        };
        if row.cache.is_none() && plain.caches < CACHES_MAX {
            plain.caches += 1;
            row.cache = Some(Box::new(Cache::new(stream.entry.kind)));
        }
        let waits = row.awaits(now, header.ssrc, header.sequence);
        counters.plain_nacks_awaited += u64::from(waits.is_some());
        if let Some(cache) = &mut row.cache {
            // Whoever waits for it gets it below, with everyone else.
            cache.store(now, header.ssrc, header.sequence, bytes, waits);
        }
        let mut collision = None;
        for leg in &mut row.legs {
            if leg.ssrc != Some(header.ssrc) {
                if !plain.claim(leg.to, header.ssrc, key, leg.subscription) {
                    counters.drop_plain_collision += 1;
                    if leg.collides.replace(header.ssrc) != Some(header.ssrc) {
                        collision = Some((leg.subscription, header.ssrc));
                    }
                    continue;
                }
                plain.release(leg);
                leg.ssrc = Some(header.ssrc);
                leg.collides = None;
            }
            let departure = Departure {
                port: leg.rtp_port,
                from: leg.from,
                to: leg.to,
                bytes: Bytes::Arena(packet.clone()),
            };
            if plain.push(departure) {
                leg.packets += 1;
                leg.bytes += packet.len() as u64;
                counters.plain_delivered += 1;
            } else {
                counters.drop_plain_queue_full += 1;
            }
        }
        if let Some((subscription, ssrc)) = collision {
            let name = stream.entry.name.clone();
            self.notice(Notice::Collision { subscription, name, ssrc });
        }
    }

    /// Brings the plain subscribers of a stream in line with the subscriptions of its entry. `true` if one was added.
    pub(crate) fn refresh_plain(&mut self, key: StreamKey) -> bool {
        let Relay { streams, plain, subscriptions, .. } = self;
        let Some(stream) = streams.find(key) else { return false };
        let is_plain = |id: &&SubscriptionId| {
            subscriptions.get(id).is_some_and(|subscription| matches!(subscription.owner, Owner::Plain))
        };
        let wanted: Vec<SubscriptionId> =
            stream.entry.subscriptions.iter().filter(is_plain).copied().collect();
        let row = &mut stream.plain;
        row.legs.retain(|leg| {
            let stays = wanted.contains(&leg.subscription);
            if !stays {
                plain.forget_leg(key, leg);
            }
            stays
        });
        let mut added = false;
        for id in wanted {
            if row.leg(id).is_some() {
                continue;
            }
            let Some(subscription) = plain.subscriptions.get_mut(&id) else { continue };
            subscription.streams.push(key);
            let local = subscription.spec.local;
            added = true;
            row.legs.push(Leg {
                subscription: id,
                rtp_port: local.rtp_port,
                rtcp_port: local.rtcp_port,
                from: local.rtp.ip(),
                to: subscription.spec.destination,
                rtcp_to: subscription.rtcp_to(),
                ssrc: None,
                collides: None,
                packets: 0,
                bytes: 0,
            });
        }
        if row.is_empty() {
            plain.forget_row(row);
        }
        added
    }

    /// A stream is over here.
    pub(crate) fn end_plain_row(&mut self, key: StreamKey, mut row: PlainRow) {
        for leg in std::mem::take(&mut row.legs) {
            self.plain.forget_leg(key, &leg);
        }
        self.plain.forget_row(&mut row);
    }
}

impl Plain {
    fn forget_leg(&mut self, key: StreamKey, leg: &Leg) {
        self.release(leg);
        if let Some(subscription) = self.subscriptions.get_mut(&leg.subscription) {
            subscription.streams.retain(|other| *other != key);
        }
    }

    fn forget_row(&mut self, row: &mut PlainRow) {
        if row.cache.take().is_some() {
            self.caches -= 1;
        }
        row.awaited.clear();
    }
}
