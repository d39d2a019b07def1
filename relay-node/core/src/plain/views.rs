//! What the local API shows of plain registrations.

use super::{PlainPublish, PlainSubscribe};
use crate::relay::Relay;
use std::net::SocketAddr;
use std::time::Duration;
use wire_format::control::StreamName;
use wire_format::{MediaKind, PublicationId, SubscriptionId, Timestamp};

/// A plain publication.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlainPublicationView {
    /// Its number here.
    pub id: PublicationId,
    /// What it was made from.
    pub spec: PlainPublish,
    /// The lease in force, and what is left of it.
    pub lease: Option<(Duration, Duration)>,
    /// The controller has given it its ids: packets flow.
    pub granted: bool,
    /// Sources heard.
    pub sources: Vec<ReceptionView>,
    /// Where its RTP comes from.
    pub rtp_from: Option<SocketAddr>,
    /// Where RTCP for it goes.
    pub rtcp_to: Option<SocketAddr>,
    /// RTP packets received.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Datagrams at its own ports that came from elsewhere.
    pub strangers: u64,
    /// Keyframes asked for.
    pub keyframe_requests: u64,
}

/// A source of RTP, as heard here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReceptionView {
    /// The source.
    pub ssrc: u32,
    /// Packets received.
    pub packets: u64,
    /// Packets lost on the way here; negative where some came twice.
    pub lost: i64,
    /// Jitter in units of its clock.
    pub jitter: u32,
}

/// A plain subscription.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlainSubscriptionView {
    /// Its number here.
    pub id: SubscriptionId,
    /// What it was made from.
    pub spec: PlainSubscribe,
    /// The lease in force, and what is left of it.
    pub lease: Option<(Duration, Duration)>,
    /// Streams that match it now.
    pub streams: Vec<PlainStreamView>,
    /// Where RTCP for it goes.
    pub rtcp_to: SocketAddr,
    /// RTP packets sent, those sent again not counted.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Datagrams at its own ports that came from elsewhere.
    pub strangers: u64,
    /// Keyframes it asked for.
    pub keyframe_requests: u64,
    /// Packets it asked for again.
    pub nacked: u64,
    /// Packets sent again.
    pub resent: u64,
}

/// A stream of a plain subscription.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlainStreamView {
    /// What it is called.
    pub name: StreamName,
    /// What it carries.
    pub kind: MediaKind,
    /// Its SSRC, once a packet came.
    pub ssrc: Option<u32>,
    /// It is not sent: another stream with this SSRC goes to the same address.
    pub collides: bool,
}

impl Relay {
    /// All plain publications, or one.
    pub fn plain_publications(
        &self,
        now: Timestamp,
        only: Option<PublicationId>,
    ) -> Vec<PlainPublicationView> {
        let wanted = self.plain.publications.iter().filter(|(id, _)| only.is_none_or(|only| only == **id));
        wanted
            .map(|(id, held)| PlainPublicationView {
                id: *id,
                spec: held.spec.clone(),
                lease: held.lease.map(|lease| (lease.every, lease.until.since(now))),
                granted: held.granted.is_some(),
                sources: held
                    .sources
                    .iter()
                    .map(|source| ReceptionView {
                        ssrc: source.ssrc,
                        packets: source.received,
                        lost: source.lost(),
                        jitter: source.jitter(),
                    })
                    .collect(),
                rtp_from: held.rtp_from,
                rtcp_to: held.rtcp_to(),
                packets: held.packets,
                bytes: held.bytes,
                strangers: held.strangers,
                keyframe_requests: held.keyframe_requests,
            })
            .collect()
    }

    /// All plain subscriptions, or one.
    pub fn plain_subscriptions(
        &self,
        now: Timestamp,
        only: Option<SubscriptionId>,
    ) -> Vec<PlainSubscriptionView> {
        let wanted = self.plain.subscriptions.iter().filter(|(id, _)| only.is_none_or(|only| only == **id));
        wanted
            .map(|(id, held)| {
                let legs: Vec<_> = held
                    .streams
                    .iter()
                    .filter_map(|key| {
                        let stream = self.streams.get(*key)?;
                        Some((stream, stream.plain.leg(*id)?))
                    })
                    .collect();
                let streams = legs.iter().map(|(stream, leg)| PlainStreamView {
                    name: stream.entry.name.clone(),
                    kind: stream.entry.kind,
                    ssrc: leg.collides.or(leg.ssrc),
                    collides: leg.collides.is_some(),
                });
                PlainSubscriptionView {
                    id: *id,
                    spec: held.spec.clone(),
                    lease: held.lease.map(|lease| (lease.every, lease.until.since(now))),
                    streams: streams.collect(),
                    rtcp_to: held.rtcp_to(),
                    packets: legs.iter().map(|(_, leg)| leg.packets).sum(),
                    bytes: legs.iter().map(|(_, leg)| leg.bytes).sum(),
                    strangers: held.strangers,
                    keyframe_requests: held.keyframe_requests,
                    nacked: held.nacked,
                    resent: held.resent,
                }
            })
            .collect()
    }
}
