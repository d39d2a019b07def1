//! JSON shapes of plain RTP registrations. What a registration was made from comes back as it was said.

use super::registrations::{PortChoice, PriorityHint, RtcpChoice};
use relay_core::{PlainLocal, PlainPort, PlainPublicationView, PlainSubscriptionView};
use serde::Serialize;
use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::time::Duration;
use wire_format::{Codec, MediaKind};

/// `GET /v1/publications`
#[derive(Serialize)]
pub(super) struct Publications {
    pub(super) publications: Vec<PublicationRow>,
}

/// `GET /v1/subscriptions`
#[derive(Serialize)]
pub(super) struct Subscriptions {
    pub(super) subscriptions: Vec<SubscriptionRow>,
}

/// A publication.
#[derive(Serialize)]
pub(super) struct PublicationRow {
    pub(super) id: u32,
    /// Send RTP there.
    address: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtcp_address: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ssrc: Option<u32>,
    namespace: String,
    room: String,
    user: String,
    stream: String,
    kind: MediaKind,
    source: String,
    port: PortChoice,
    rtcp: RtcpChoice,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_ms: Option<u64>,
    protect: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    codec: Option<Codec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dependency_descriptor_id: Option<NonZeroU8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frame_marking_id: Option<NonZeroU8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<PriorityHint>,
    #[serde(flatten)]
    lease: LeaseRow,
    /// `granted`: its packets flow; `waiting`: the controller has not answered yet.
    state: &'static str,
    /// Sources heard.
    sources: Vec<SourceRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtp_received_from: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtcp_sent_to: Option<SocketAddr>,
    packets: u64,
    bytes: u64,
    strangers: u64,
    keyframe_requests: u64,
}

#[derive(Serialize)]
struct LeaseRow {
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_left_ms: Option<u64>,
}

#[derive(Serialize)]
struct SourceRow {
    ssrc: u32,
    packets: u64,
    lost: i64,
    jitter_ticks: u32,
}

/// A subscription.
#[derive(Serialize)]
pub(super) struct SubscriptionRow {
    pub(super) id: u32,
    /// RTP comes from there; RTCP sent there is understood.
    address: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtcp_address: Option<SocketAddr>,
    /// Streams that match now.
    streams: Vec<StreamRow>,
    namespace: String,
    room: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<String>,
    destination: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtcp_destination: Option<SocketAddr>,
    port: PortChoice,
    rtcp: RtcpChoice,
    #[serde(flatten)]
    lease: LeaseRow,
    rtcp_sent_to: SocketAddr,
    packets: u64,
    bytes: u64,
    strangers: u64,
    keyframe_requests: u64,
    packets_asked_again: u64,
    packets_sent_again: u64,
}

#[derive(Serialize)]
struct StreamRow {
    user: String,
    stream: String,
    kind: MediaKind,
    /// Known once a packet came.
    #[serde(skip_serializing_if = "Option::is_none")]
    ssrc: Option<u32>,
    /// It is held back: another stream with this SSRC goes to the same address.
    collides: bool,
}

impl SubscriptionRow {
    pub(super) fn destination(&self) -> SocketAddr {
        self.destination
    }

    /// The SSRC of a stream that is held back.
    pub(super) fn collision(&self) -> Option<u32> {
        self.streams.iter().find(|stream| stream.collides).and_then(|stream| stream.ssrc)
    }

    /// Packets of all its streams have come.
    pub(super) fn is_flowing(&self) -> bool {
        !self.streams.is_empty() && self.streams.iter().all(|stream| stream.ssrc.is_some())
    }
}

pub(super) fn publication(view: &PlainPublicationView) -> PublicationRow {
    let spec = &view.spec;
    let source = match spec.source.port {
        Some(port) => SocketAddr::new(spec.source.ip, port).to_string(),
        None => spec.source.ip.to_string(),
    };
    PublicationRow {
        id: view.id.0,
        address: spec.local.rtp,
        rtcp_address: rtcp_address(&spec.local),
        ssrc: spec.ssrc,
        namespace: spec.name.namespace.clone(),
        room: spec.name.room.clone(),
        user: spec.name.user.clone(),
        stream: spec.name.stream.clone(),
        kind: spec.kind,
        source,
        port: port(&spec.local),
        rtcp: rtcp(&spec.local),
        budget_ms: spec.budget.map(millis),
        protect: spec.protect,
        codec: spec.description.codec,
        dependency_descriptor_id: spec.description.dependency_descriptor,
        frame_marking_id: spec.description.frame_marking,
        priority: spec.description.priority.and_then(PriorityHint::of),
        lease: lease(view.lease),
        state: if view.granted { "granted" } else { "waiting" },
        sources: view
            .sources
            .iter()
            .map(|source| SourceRow {
                ssrc: source.ssrc,
                packets: source.packets,
                lost: source.lost,
                jitter_ticks: source.jitter,
            })
            .collect(),
        rtp_received_from: view.rtp_from,
        rtcp_sent_to: view.rtcp_to,
        packets: view.packets,
        bytes: view.bytes,
        strangers: view.strangers,
        keyframe_requests: view.keyframe_requests,
    }
}

pub(super) fn subscription(view: &PlainSubscriptionView) -> SubscriptionRow {
    let spec = &view.spec;
    SubscriptionRow {
        id: view.id.0,
        address: spec.local.rtp,
        rtcp_address: rtcp_address(&spec.local),
        streams: view
            .streams
            .iter()
            .map(|stream| StreamRow {
                user: stream.name.user.clone(),
                stream: stream.name.stream.clone(),
                kind: stream.kind,
                ssrc: stream.ssrc,
                collides: stream.collides,
            })
            .collect(),
        namespace: spec.namespace.clone(),
        room: spec.room.clone(),
        user: spec.user.clone(),
        stream: spec.stream.clone(),
        destination: spec.destination,
        rtcp_destination: spec.rtcp_destination,
        port: port(&spec.local),
        rtcp: rtcp(&spec.local),
        lease: lease(view.lease),
        rtcp_sent_to: view.rtcp_to,
        packets: view.packets,
        bytes: view.bytes,
        strangers: view.strangers,
        keyframe_requests: view.keyframe_requests,
        packets_asked_again: view.nacked,
        packets_sent_again: view.resent,
    }
}

fn rtcp_address(local: &PlainLocal) -> Option<SocketAddr> {
    local.separate.then_some(local.rtcp)
}

fn port(local: &PlainLocal) -> PortChoice {
    if local.rtp_port == PlainPort::RELAY { PortChoice::Relay } else { PortChoice::Own }
}

fn rtcp(local: &PlainLocal) -> RtcpChoice {
    if local.separate { RtcpChoice::Separate } else { RtcpChoice::Mux }
}

fn lease(lease: Option<(Duration, Duration)>) -> LeaseRow {
    LeaseRow {
        lease_s: lease.map(|(every, _)| every.as_secs()),
        lease_left_ms: lease.map(|(_, left)| millis(left)),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
