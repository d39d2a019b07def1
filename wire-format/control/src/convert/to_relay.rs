//! From the controller to a relay.

use super::parts::{
    addresses, bounded, byte, grant, incarnation, media_kind, name, node, nodes, plain_addresses,
    plain_grant, plain_media_kind, plain_nodes, present, stream_key, stream_name, text,
};
use super::table_delta;
use crate::proto::to_relay::Kind;
use crate::{ConvertError, limits, proto};
use std::collections::BTreeMap;
use wire_format::control::limits::{DESTINATIONS, NAMESPACES, NEIGHBOURS, TOKEN_KEYS};
use wire_format::control::{NamespaceRates, Neighbour, StreamEntry, ToRelay, TokenKey, Welcome};
use wire_format::{
    Epoch, NodeIndex, Plane, PlanePair, PolicyIndex, PolicyTable, PublicationId, RouteTable, SubscriptionId,
};

impl From<ToRelay> for proto::ToRelay {
    fn from(message: ToRelay) -> proto::ToRelay {
        let kind = match message {
            ToRelay::Welcome(Welcome { node, term }) => {
                Kind::Welcome(proto::Welcome { node: u32::from(node.0), term })
            }
            ToRelay::Neighbours(neighbours) => Kind::Neighbours(proto::Neighbours {
                neighbours: neighbours.into_iter().map(Into::into).collect(),
            }),
            ToRelay::Table(table) => Kind::Table(table.into()),
            ToRelay::TableDelta(delta) => Kind::TableDelta(table_delta::plain(&delta)),
            ToRelay::Stamp { epoch } => Kind::Stamp(proto::Stamp { epoch: epoch.0 }),
            ToRelay::PublicationGranted { publication, key, incarnation } => {
                Kind::PublicationGranted(proto::PublicationGranted {
                    publication: publication.0,
                    grant: Some(plain_grant(key, incarnation)),
                })
            }
            ToRelay::PublicationRefused { publication, limit, reason } => {
                let publication = publication.0;
                Kind::PublicationRefused(proto::PublicationRefused { publication, reason, limit })
            }
            ToRelay::SubscriptionRefused { subscription, reason } => {
                Kind::SubscriptionRefused(proto::SubscriptionRefused { subscription: subscription.0, reason })
            }
            ToRelay::Stream(entry) => Kind::Stream(entry.into()),
            ToRelay::StreamGone { key } => Kind::StreamGone(proto::StreamGone { key: Some(key.into()) }),
            ToRelay::TokenKeys(keys) => {
                Kind::TokenKeys(proto::TokenKeys { keys: keys.into_iter().map(Into::into).collect() })
            }
            ToRelay::Namespaces(rates) => Kind::Namespaces(rates.into()),
            ToRelay::Drain { draining } => Kind::Drain(proto::Drain { draining }),
            ToRelay::Trace(request) => Kind::Trace(request.into()),
        };
        proto::ToRelay { kind: Some(kind) }
    }
}

impl TryFrom<proto::ToRelay> for ToRelay {
    type Error = ConvertError;

    fn try_from(message: proto::ToRelay) -> Result<ToRelay, ConvertError> {
        Ok(match present(message.kind, "kind")? {
            Kind::Welcome(proto::Welcome { node: index, term }) => {
                ToRelay::Welcome(Welcome { node: node(index, "node")?, term })
            }
            Kind::Neighbours(proto::Neighbours { neighbours }) => {
                bounded(neighbours.len(), NEIGHBOURS, "neighbours")?;
                let neighbours = neighbours.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
                ToRelay::Neighbours(neighbours)
            }
            Kind::Table(table) => ToRelay::Table(table.try_into()?),
            Kind::TableDelta(delta) => ToRelay::TableDelta(table_delta::delta(delta)?),
            Kind::Stamp(proto::Stamp { epoch }) => ToRelay::Stamp { epoch: Epoch(epoch) },
            Kind::PublicationGranted(proto::PublicationGranted { publication, grant: granted }) => {
                let (key, incarnation) = grant(present(granted, "grant")?)?;
                ToRelay::PublicationGranted { publication: PublicationId(publication), key, incarnation }
            }
            Kind::PublicationRefused(proto::PublicationRefused { publication, reason, limit }) => {
                let reason = text(reason, limits::REASON_BYTES, "reason")?;
                ToRelay::PublicationRefused { publication: PublicationId(publication), limit, reason }
            }
            Kind::SubscriptionRefused(proto::SubscriptionRefused { subscription, reason }) => {
                let reason = text(reason, limits::REASON_BYTES, "reason")?;
                ToRelay::SubscriptionRefused { subscription: SubscriptionId(subscription), reason }
            }
            Kind::Stream(entry) => ToRelay::Stream(entry.try_into()?),
            Kind::StreamGone(proto::StreamGone { key }) => ToRelay::StreamGone { key: stream_key(key)? },
            Kind::TokenKeys(proto::TokenKeys { keys }) => {
                bounded(keys.len(), TOKEN_KEYS, "keys")?;
                ToRelay::TokenKeys(keys.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?)
            }
            Kind::Namespaces(namespaces) => ToRelay::Namespaces(namespaces.try_into()?),
            Kind::Drain(proto::Drain { draining }) => ToRelay::Drain { draining },
            Kind::Trace(request) => ToRelay::Trace(request.try_into()?),
        })
    }
}

impl From<Neighbour> for proto::Neighbour {
    fn from(neighbour: Neighbour) -> proto::Neighbour {
        proto::Neighbour {
            node: u32::from(neighbour.node.0),
            name: neighbour.name,
            addresses: plain_addresses(&neighbour.addresses),
            certificates_from_unix_s: neighbour.certificates_from_unix_s,
        }
    }
}

impl TryFrom<proto::Neighbour> for Neighbour {
    type Error = ConvertError;

    fn try_from(neighbour: proto::Neighbour) -> Result<Neighbour, ConvertError> {
        Ok(Neighbour {
            node: node(neighbour.node, "node")?,
            name: name(neighbour.name, "name")?,
            addresses: addresses(neighbour.addresses)?,
            certificates_from_unix_s: neighbour.certificates_from_unix_s,
        })
    }
}

impl From<RouteTable> for proto::Table {
    fn from(table: RouteTable) -> proto::Table {
        let mut all = table.policies().map(|(policy, rows)| plain_policy(policy, rows));
        let default = all.next().unwrap_or_default();
        proto::Table {
            epoch: table.epoch.0,
            planes: default.planes,
            backup_destinations: default.backup_destinations,
            backup_planes: default.backup_planes,
            pair_destinations: default.pair_destinations,
            pair_planes: default.pair_planes,
            policies: all.collect(),
        }
    }
}

impl TryFrom<proto::Table> for RouteTable {
    type Error = ConvertError;

    fn try_from(table: proto::Table) -> Result<RouteTable, ConvertError> {
        let default = proto::PolicyTable {
            policy: u32::from(PolicyIndex::DEFAULT.bits()),
            planes: table.planes,
            backup_destinations: table.backup_destinations,
            backup_planes: table.backup_planes,
            pair_destinations: table.pair_destinations,
            pair_planes: table.pair_planes,
        };
        let mut whole = RouteTable::of_default(Epoch(table.epoch), policy_table(default)?);
        bounded(table.policies.len(), PolicyIndex::COUNT - 1, "policies")?;
        for rows in table.policies {
            let index = policy(rows.policy)?;
            if whole.has(index) {
                return Err(ConvertError::OutOfRange("policy"));
            }
            *whole.policy_mut(index) = policy_table(rows)?;
        }
        Ok(whole)
    }
}

pub(super) fn policy(value: u32) -> Result<PolicyIndex, ConvertError> {
    PolicyIndex::new(byte(value, "policy")?).ok_or(ConvertError::OutOfRange("policy"))
}

fn plain_policy(policy: PolicyIndex, table: &PolicyTable) -> proto::PolicyTable {
    let mut planes: Vec<proto::PlaneTable> = Vec::new();
    // Rows come sorted by plane, then by destination.
    for ((plane, destination), next_hop) in &table.next_hops {
        let plane = u32::from(plane.0);
        if planes.last().is_none_or(|last| last.plane != plane) {
            planes.push(proto::PlaneTable { plane, ..Default::default() });
        }
        if let Some(rows) = planes.last_mut() {
            rows.destinations.push(u32::from(destination.0));
            rows.next_hops.push(u32::from(next_hop.0));
        }
    }
    proto::PolicyTable {
        policy: u32::from(policy.bits()),
        planes,
        backup_destinations: table.backups.keys().map(|node| u32::from(node.0)).collect(),
        backup_planes: table.backups.values().map(|plane| u32::from(plane.0)).collect(),
        pair_destinations: table.pairs.keys().map(|node| u32::from(node.0)).collect(),
        pair_planes: table.pairs.values().map(|pair| plain_pair(*pair)).collect(),
    }
}

fn policy_table(table: proto::PolicyTable) -> Result<PolicyTable, ConvertError> {
    bounded(table.planes.len(), limits::PLANES, "planes")?;
    let mut next_hops: BTreeMap<(Plane, NodeIndex), NodeIndex> = BTreeMap::new();
    for rows in table.planes {
        let plane = Plane(byte(rows.plane, "plane")?);
        if usize::from(plane.0) >= limits::PLANES || rows.destinations.len() != rows.next_hops.len() {
            return Err(ConvertError::OutOfRange("plane"));
        }
        let destinations = nodes(rows.destinations, DESTINATIONS, "destinations")?;
        let hops = nodes(rows.next_hops, DESTINATIONS, "next_hops")?;
        for (destination, next_hop) in destinations.into_iter().zip(hops) {
            if next_hops.insert((plane, destination), next_hop).is_some() {
                return Err(ConvertError::OutOfRange("destinations"));
            }
        }
    }
    if table.backup_destinations.len() != table.backup_planes.len() {
        return Err(ConvertError::OutOfRange("backup_planes"));
    }
    let destinations = nodes(table.backup_destinations, DESTINATIONS, "backup_destinations")?;
    let mut backups = BTreeMap::new();
    for (destination, plane) in destinations.into_iter().zip(table.backup_planes) {
        let plane = Plane(byte(plane, "backup_planes")?);
        let redundant = plane != Plane::PRIMARY && usize::from(plane.0) < limits::PLANES;
        if !redundant || backups.insert(destination, plane).is_some() {
            return Err(ConvertError::OutOfRange("backup_planes"));
        }
    }
    let pairs = pairs(table.pair_destinations, table.pair_planes)?;
    Ok(PolicyTable { next_hops, backups, pairs })
}

pub(super) fn plain_pair(pair: PlanePair) -> u32 {
    pair.planes().into_iter().fold(0, |bits, plane| bits | 1 << plane.0)
}

fn pairs(destinations: Vec<u32>, planes: Vec<u32>) -> Result<BTreeMap<NodeIndex, PlanePair>, ConvertError> {
    if destinations.len() != planes.len() {
        return Err(ConvertError::OutOfRange("pair_planes"));
    }
    let destinations = nodes(destinations, DESTINATIONS, "pair_destinations")?;
    let mut pairs = BTreeMap::new();
    for (destination, bits) in destinations.into_iter().zip(planes) {
        let pair = PlanePair::ALL.into_iter().find(|pair| plain_pair(*pair) == bits);
        let pair = pair.ok_or(ConvertError::OutOfRange("pair_planes"))?;
        if pairs.insert(destination, pair).is_some() {
            return Err(ConvertError::OutOfRange("pair_destinations"));
        }
    }
    Ok(pairs)
}

impl From<StreamEntry> for proto::StreamEntry {
    fn from(entry: StreamEntry) -> proto::StreamEntry {
        proto::StreamEntry {
            key: Some(entry.key.into()),
            name: Some(entry.name.into()),
            kind: plain_media_kind(entry.kind),
            incarnation: u32::from(entry.incarnation.0),
            ingress: u32::from(entry.ingress.0),
            subscriptions: entry.subscriptions.iter().map(|subscription| subscription.0).collect(),
            destinations: plain_nodes(&entry.destinations),
            revision: entry.revision,
            protect: entry.protect,
            policy: u32::from(entry.policy.bits()),
        }
    }
}

impl TryFrom<proto::StreamEntry> for StreamEntry {
    type Error = ConvertError;

    fn try_from(entry: proto::StreamEntry) -> Result<StreamEntry, ConvertError> {
        bounded(entry.subscriptions.len(), limits::SUBSCRIPTIONS, "subscriptions")?;
        let policy = policy(entry.policy)?;
        let destinations = nodes(entry.destinations, DESTINATIONS, "destinations")?;
        if !destinations.is_sorted_by(|left, right| left < right) {
            return Err(ConvertError::OutOfRange("destinations"));
        }
        Ok(StreamEntry {
            key: stream_key(entry.key)?,
            name: stream_name(entry.name)?,
            kind: media_kind(entry.kind)?,
            incarnation: incarnation(entry.incarnation)?,
            ingress: node(entry.ingress, "ingress")?,
            subscriptions: entry.subscriptions.into_iter().map(SubscriptionId).collect(),
            destinations,
            revision: entry.revision,
            protect: entry.protect,
            policy,
        })
    }
}

impl From<NamespaceRates> for proto::Namespaces {
    fn from(rates: NamespaceRates) -> proto::Namespaces {
        let named = rates.named.into_iter();
        proto::Namespaces {
            default_bit_rate_per_s: rates.default,
            namespaces: named
                .map(|(namespace, bit_rate_per_s)| proto::NamespaceRate { namespace, bit_rate_per_s })
                .collect(),
        }
    }
}

impl TryFrom<proto::Namespaces> for NamespaceRates {
    type Error = ConvertError;

    fn try_from(rates: proto::Namespaces) -> Result<NamespaceRates, ConvertError> {
        bounded(rates.namespaces.len(), NAMESPACES, "namespaces")?;
        let named = rates.namespaces.into_iter();
        Ok(NamespaceRates {
            default: rates.default_bit_rate_per_s,
            named: named
                .map(|rate| Ok((name(rate.namespace, "namespace")?, rate.bit_rate_per_s)))
                .collect::<Result<_, ConvertError>>()?,
        })
    }
}

impl From<TokenKey> for proto::TokenKey {
    fn from(key: TokenKey) -> proto::TokenKey {
        proto::TokenKey { id: key.id, public_key: key.public_key.to_vec(), namespace: key.namespace }
    }
}

impl TryFrom<proto::TokenKey> for TokenKey {
    type Error = ConvertError;

    fn try_from(key: proto::TokenKey) -> Result<TokenKey, ConvertError> {
        Ok(TokenKey {
            id: text(key.id, limits::KEY_ID_BYTES, "id")?,
            public_key: key.public_key.try_into().map_err(|_| ConvertError::OutOfRange("public_key"))?,
            namespace: key.namespace.map(|namespace| name(namespace, "namespace")).transpose()?,
        })
    }
}
