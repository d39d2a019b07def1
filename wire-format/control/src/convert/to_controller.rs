//! From a relay to the controller.

use super::parts::{
    addresses, bounded, byte, grant, media_kind, micros, name, node, nodes, plain_addresses, plain_grant,
    plain_media_kind, plain_nodes, present, stream_key, stream_name, text,
};
use crate::proto::to_controller::Kind;
use crate::{ConvertError, limits, proto};
use std::time::Duration;
use wire_format::control::limits::{DESTINATIONS, NAMESPACES};
use wire_format::control::{
    HeldStream, LOSS_BURSTS, LinkQuality, LinkReport, LinkState, NamespaceUsage, Position, PublicationReport,
    RelayHello, RepairPlan, RepairTotals, SubscriptionReport, ToController,
};
use wire_format::{Epoch, PublicationId, PublisherKey, SubscriptionId};

impl From<ToController> for proto::ToController {
    fn from(message: ToController) -> proto::ToController {
        let kind = match message {
            ToController::Hello(hello) => Kind::Hello(hello.into()),
            ToController::ReportsComplete => Kind::ReportsComplete(proto::ReportsComplete {}),
            ToController::Links(links) => {
                Kind::Links(proto::Links { links: links.into_iter().map(Into::into).collect() })
            }
            ToController::Published(report) => Kind::Published(report.into()),
            ToController::Unpublished { publication } => {
                Kind::Unpublished(proto::Unpublished { publication: publication.0 })
            }
            ToController::Subscribed(report) => Kind::Subscribed(report.into()),
            ToController::Unsubscribed { subscription } => {
                Kind::Unsubscribed(proto::Unsubscribed { subscription: subscription.0 })
            }
            ToController::TableAck { epoch } => Kind::TableAck(proto::TableAck { epoch: epoch.0 }),
            ToController::TableWanted { epoch } => Kind::TableWanted(proto::TableWanted { epoch: epoch.0 }),
            ToController::StampAck { epoch } => Kind::StampAck(proto::StampAck { epoch: epoch.0 }),
            ToController::StreamAck { key, revision } => {
                Kind::StreamAck(proto::StreamAck { key: Some(key.into()), revision })
            }
            ToController::Goodbye => Kind::Goodbye(proto::Goodbye {}),
            ToController::Usage(namespaces) => {
                Kind::Usage(proto::Usage { namespaces: namespaces.into_iter().map(Into::into).collect() })
            }
            ToController::Traced(report) => Kind::Traced(report.into()),
        };
        proto::ToController { kind: Some(kind) }
    }
}

impl TryFrom<proto::ToController> for ToController {
    type Error = ConvertError;

    fn try_from(message: proto::ToController) -> Result<ToController, ConvertError> {
        Ok(match present(message.kind, "kind")? {
            Kind::Hello(hello) => ToController::Hello(hello.try_into()?),
            Kind::ReportsComplete(proto::ReportsComplete {}) => ToController::ReportsComplete,
            Kind::Links(proto::Links { links }) => {
                bounded(links.len(), limits::LINKS, "links")?;
                ToController::Links(links.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?)
            }
            Kind::Published(report) => ToController::Published(report.try_into()?),
            Kind::Unpublished(proto::Unpublished { publication }) => {
                ToController::Unpublished { publication: PublicationId(publication) }
            }
            Kind::Subscribed(report) => ToController::Subscribed(report.try_into()?),
            Kind::Unsubscribed(proto::Unsubscribed { subscription }) => {
                ToController::Unsubscribed { subscription: SubscriptionId(subscription) }
            }
            Kind::TableAck(proto::TableAck { epoch }) => ToController::TableAck { epoch: Epoch(epoch) },
            Kind::StampAck(proto::StampAck { epoch }) => ToController::StampAck { epoch: Epoch(epoch) },
            Kind::StreamAck(proto::StreamAck { key, revision }) => {
                ToController::StreamAck { key: stream_key(key)?, revision }
            }
            Kind::Goodbye(proto::Goodbye {}) => ToController::Goodbye,
            Kind::TableWanted(proto::TableWanted { epoch }) => {
                ToController::TableWanted { epoch: Epoch(epoch) }
            }
            Kind::Usage(proto::Usage { namespaces }) => {
                bounded(namespaces.len(), NAMESPACES, "namespaces")?;
                ToController::Usage(namespaces.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?)
            }
            Kind::Traced(report) => ToController::Traced(report.try_into()?),
        })
    }
}

impl From<NamespaceUsage> for proto::NamespaceUsage {
    fn from(usage: NamespaceUsage) -> proto::NamespaceUsage {
        let NamespaceUsage { namespace, packets_in, bytes_in, packets_out, bytes_out, packets_over_rate } =
            usage;
        proto::NamespaceUsage { namespace, packets_in, bytes_in, packets_out, bytes_out, packets_over_rate }
    }
}

impl TryFrom<proto::NamespaceUsage> for NamespaceUsage {
    type Error = ConvertError;

    fn try_from(usage: proto::NamespaceUsage) -> Result<NamespaceUsage, ConvertError> {
        let proto::NamespaceUsage {
            namespace,
            packets_in,
            bytes_in,
            packets_out,
            bytes_out,
            packets_over_rate,
        } = usage;
        let namespace = name(namespace, "namespace")?;
        Ok(NamespaceUsage { namespace, packets_in, bytes_in, packets_out, bytes_out, packets_over_rate })
    }
}

impl From<RelayHello> for proto::Hello {
    fn from(hello: RelayHello) -> proto::Hello {
        let (wire_version_min, wire_version_max) = hello.wire_versions;
        let held = |stream: HeldStream| proto::HeldStream {
            key: Some(stream.key.into()),
            destinations: plain_nodes(&stream.destinations),
        };
        proto::Hello {
            name: hello.name,
            node: hello.node.map(|node| u32::from(node.0)),
            region: hello.region,
            isp: hello.isp,
            tags: hello.tags,
            addresses: plain_addresses(&hello.addresses),
            version: hello.version,
            wire_version_min: u32::from(wire_version_min),
            wire_version_max: u32::from(wire_version_max),
            epoch: hello.epoch.map(|epoch| epoch.0),
            table_deltas: hello.table_deltas,
            streams: hello.streams.into_iter().map(held).collect(),
            position: hello.position.map(|position| proto::Position {
                lat_micro_degrees: position.lat_micro_degrees(),
                lon_micro_degrees: position.lon_micro_degrees(),
            }),
            traces: hello.traces,
        }
    }
}

impl TryFrom<proto::Hello> for RelayHello {
    type Error = ConvertError;

    fn try_from(hello: proto::Hello) -> Result<RelayHello, ConvertError> {
        bounded(hello.tags.len(), limits::TAGS, "tags")?;
        bounded(hello.streams.len(), limits::HELD_STREAMS, "streams")?;
        let held = |stream: proto::HeldStream| -> Result<HeldStream, ConvertError> {
            Ok(HeldStream {
                key: stream_key(stream.key)?,
                destinations: nodes(stream.destinations, DESTINATIONS, "destinations")?,
            })
        };
        Ok(RelayHello {
            name: name(hello.name, "name")?,
            node: hello.node.map(|value| node(value, "node")).transpose()?,
            region: name(hello.region, "region")?,
            isp: name(hello.isp, "isp")?,
            tags: hello.tags.into_iter().map(|tag| name(tag, "tags")).collect::<Result<_, _>>()?,
            position: hello.position.map(position).transpose()?,
            addresses: addresses(hello.addresses)?,
            version: text(hello.version, limits::VERSION_BYTES, "version")?,
            wire_versions: (
                byte(hello.wire_version_min, "wire_version_min")?,
                byte(hello.wire_version_max, "wire_version_max")?,
            ),
            epoch: hello.epoch.map(Epoch),
            table_deltas: hello.table_deltas,
            streams: hello.streams.into_iter().map(held).collect::<Result<_, _>>()?,
            traces: hello.traces,
        })
    }
}

impl From<LinkReport> for proto::LinkReport {
    fn from(report: LinkReport) -> proto::LinkReport {
        let state = match report.state {
            LinkState::Up => proto::LinkState::Up,
            LinkState::Suspect => proto::LinkState::Suspect,
            LinkState::Down => proto::LinkState::Down,
        };
        proto::LinkReport {
            neighbour: u32::from(report.neighbour.0),
            state: state.into(),
            rtt_us: report.rtt.map(micros),
            rtt_min_us: report.rtt_min.map(micros),
            jitter_in_us: micros(report.jitter_in),
            jitter_out_us: micros(report.jitter_out),
            loss_out_ppm: report.loss_out_ppm,
            loss_in_ppm: report.loss_in_ppm,
            rate_out_bytes_per_s: report.rate_out,
            rate_in_bytes_per_s: report.rate_in,
            samples: report.samples,
            quality: Some(report.quality.into()),
        }
    }
}

impl TryFrom<proto::LinkReport> for LinkReport {
    type Error = ConvertError;

    fn try_from(report: proto::LinkReport) -> Result<LinkReport, ConvertError> {
        let state = match proto::LinkState::try_from(report.state) {
            Ok(proto::LinkState::Up) => LinkState::Up,
            Ok(proto::LinkState::Suspect) => LinkState::Suspect,
            Ok(proto::LinkState::Down) => LinkState::Down,
            Ok(proto::LinkState::Unspecified) | Err(_) => return Err(ConvertError::Missing("state")),
        };
        Ok(LinkReport {
            neighbour: node(report.neighbour, "neighbour")?,
            state,
            rtt: report.rtt_us.map(Duration::from_micros),
            rtt_min: report.rtt_min_us.map(Duration::from_micros),
            jitter_in: Duration::from_micros(report.jitter_in_us),
            jitter_out: Duration::from_micros(report.jitter_out_us),
            loss_out_ppm: parts_per_million(report.loss_out_ppm, "loss_out_ppm")?,
            loss_in_ppm: parts_per_million(report.loss_in_ppm, "loss_in_ppm")?,
            rate_out: report.rate_out_bytes_per_s,
            rate_in: report.rate_in_bytes_per_s,
            samples: report.samples,
            // A relay of an older version says nothing of it.
            quality: report.quality.map(LinkQuality::try_from).transpose()?.unwrap_or_default(),
        })
    }
}

impl From<LinkQuality> for proto::LinkQuality {
    fn from(quality: LinkQuality) -> proto::LinkQuality {
        let RepairTotals {
            first_bytes,
            overhead_bytes,
            retransmitted,
            parity,
            requests,
            missing,
            reordered,
            recovered,
        } = quality.repair;
        let is_lossless = quality.bursts_in == [0; LOSS_BURSTS];
        proto::LinkQuality {
            rtt_smoothed_us: quality.rtt_smoothed.map(micros),
            rtt_variation_us: quality.rtt_variation.map(micros),
            queueing_in_us: micros(quality.queueing_in),
            queueing_out_us: micros(quality.queueing_out),
            deliverable_out_bytes_per_s: quality.deliverable_out,
            bursts_in: if is_lossless { Vec::new() } else { quality.bursts_in.to_vec() },
            residual_in_ppm: quality.residual_in_ppm,
            first_bytes,
            overhead_bytes,
            retransmitted,
            parity,
            requests,
            missing,
            reordered,
            recovered,
            repair_audio: repair_plan(quality.repair_audio),
            repair_other: repair_plan(quality.repair_other),
        }
    }
}

fn repair_plan(plan: RepairPlan) -> Option<proto::RepairPlan> {
    let (method, rounds, share_ppm, window) = match plan {
        RepairPlan::Nothing => return None,
        RepairPlan::Retransmission { rounds } => (proto::RepairMethod::Retransmission, rounds, 0, 0),
        RepairPlan::Parity { share_ppm, window } => (proto::RepairMethod::Parity, 0, share_ppm, window),
        RepairPlan::Twice => (proto::RepairMethod::Twice, 0, 0, 0),
    };
    Some(proto::RepairPlan { method: method.into(), rounds, share_ppm, window })
}

fn told_plan(plan: Option<proto::RepairPlan>) -> Result<RepairPlan, ConvertError> {
    let Some(plan) = plan else { return Ok(RepairPlan::Nothing) };
    let method = proto::RepairMethod::try_from(plan.method);
    Ok(match method.map_err(|_| ConvertError::OutOfRange("repair_method"))? {
        proto::RepairMethod::Unspecified => RepairPlan::Nothing,
        proto::RepairMethod::Retransmission => RepairPlan::Retransmission { rounds: plan.rounds },
        proto::RepairMethod::Parity => RepairPlan::Parity {
            share_ppm: parts_per_million(plan.share_ppm, "share_ppm")?,
            window: plan.window,
        },
        proto::RepairMethod::Twice => RepairPlan::Twice,
    })
}

impl TryFrom<proto::LinkQuality> for LinkQuality {
    type Error = ConvertError;

    fn try_from(quality: proto::LinkQuality) -> Result<LinkQuality, ConvertError> {
        let bursts_in = match quality.bursts_in.as_slice() {
            [] => [0; LOSS_BURSTS],
            counts => counts.try_into().map_err(|_| ConvertError::OutOfRange("bursts_in"))?,
        };
        Ok(LinkQuality {
            rtt_smoothed: quality.rtt_smoothed_us.map(Duration::from_micros),
            rtt_variation: quality.rtt_variation_us.map(Duration::from_micros),
            queueing_in: Duration::from_micros(quality.queueing_in_us),
            queueing_out: Duration::from_micros(quality.queueing_out_us),
            deliverable_out: quality.deliverable_out_bytes_per_s,
            bursts_in,
            residual_in_ppm: parts_per_million(quality.residual_in_ppm, "residual_in_ppm")?,
            repair: RepairTotals {
                first_bytes: quality.first_bytes,
                overhead_bytes: quality.overhead_bytes,
                retransmitted: quality.retransmitted,
                parity: quality.parity,
                requests: quality.requests,
                missing: quality.missing,
                reordered: quality.reordered,
                recovered: quality.recovered,
            },
            repair_audio: told_plan(quality.repair_audio)?,
            repair_other: told_plan(quality.repair_other)?,
        })
    }
}

fn position(place: proto::Position) -> Result<Position, ConvertError> {
    Position::new(place.lat_micro_degrees, place.lon_micro_degrees)
        .ok_or(ConvertError::OutOfRange("position"))
}

fn parts_per_million(value: u32, field: &'static str) -> Result<u32, ConvertError> {
    if value > 1_000_000 { Err(ConvertError::OutOfRange(field)) } else { Ok(value) }
}

impl From<PublicationReport> for proto::Published {
    fn from(report: PublicationReport) -> proto::Published {
        proto::Published {
            publication: report.publication.0,
            name: Some(report.name.into()),
            kind: plain_media_kind(report.kind),
            granted: report.granted.map(|(key, incarnation)| plain_grant(key, incarnation)),
            protect: report.protect,
            publisher: report.publisher.map(|publisher| publisher.0.to_vec()),
        }
    }
}

impl TryFrom<proto::Published> for PublicationReport {
    type Error = ConvertError;

    fn try_from(report: proto::Published) -> Result<PublicationReport, ConvertError> {
        Ok(PublicationReport {
            publication: PublicationId(report.publication),
            name: stream_name(report.name)?,
            kind: media_kind(report.kind)?,
            granted: report.granted.map(grant).transpose()?,
            protect: report.protect,
            publisher: report.publisher.map(publisher).transpose()?,
        })
    }
}

fn publisher(key: Vec<u8>) -> Result<PublisherKey, ConvertError> {
    key.try_into().map(PublisherKey).map_err(|_| ConvertError::OutOfRange("publisher"))
}

impl From<SubscriptionReport> for proto::Subscribed {
    fn from(report: SubscriptionReport) -> proto::Subscribed {
        let SubscriptionReport { subscription, namespace, room, user, stream } = report;
        proto::Subscribed { subscription: subscription.0, namespace, room, user, stream }
    }
}

impl TryFrom<proto::Subscribed> for SubscriptionReport {
    type Error = ConvertError;

    fn try_from(report: proto::Subscribed) -> Result<SubscriptionReport, ConvertError> {
        Ok(SubscriptionReport {
            subscription: SubscriptionId(report.subscription),
            namespace: name(report.namespace, "namespace")?,
            room: name(report.room, "room")?,
            user: report.user.map(|user| name(user, "user")).transpose()?,
            stream: report.stream.map(|stream| name(stream, "stream")).transpose()?,
        })
    }
}
