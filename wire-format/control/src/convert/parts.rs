//! What messages of both directions are made of, and the checks they share.

use crate::ConvertError;
use crate::proto;
use std::net::SocketAddr;
use std::time::Duration;
use wire_format::control::{StreamName, limits};
use wire_format::{Incarnation, MediaKind, NodeIndex, RoomId, StreamId, StreamKey, UserId};

/// Bytes that no written socket address exceeds, zone and port included.
const ADDRESS_BYTES: usize = 64;

pub(super) fn node(value: u32, field: &'static str) -> Result<NodeIndex, ConvertError> {
    u16::try_from(value).map(NodeIndex).map_err(|_| ConvertError::OutOfRange(field))
}

pub(super) fn incarnation(value: u32) -> Result<Incarnation, ConvertError> {
    u8::try_from(value).map(Incarnation).map_err(|_| ConvertError::OutOfRange("incarnation"))
}

pub(super) fn byte(value: u32, field: &'static str) -> Result<u8, ConvertError> {
    u8::try_from(value).map_err(|_| ConvertError::OutOfRange(field))
}

pub(super) fn bounded(length: usize, max: usize, field: &'static str) -> Result<(), ConvertError> {
    if length > max { Err(ConvertError::TooLong { field, length, max }) } else { Ok(()) }
}

pub(super) fn text(value: String, max: usize, field: &'static str) -> Result<String, ConvertError> {
    bounded(value.len(), max, field)?;
    Ok(value)
}

pub(super) fn name(value: String, field: &'static str) -> Result<String, ConvertError> {
    text(value, limits::NAME_BYTES, field)
}

pub(super) fn nodes(
    values: Vec<u32>,
    max: usize,
    field: &'static str,
) -> Result<Vec<NodeIndex>, ConvertError> {
    bounded(values.len(), max, field)?;
    values.into_iter().map(|value| node(value, field)).collect()
}

pub(super) fn plain_nodes(nodes: &[NodeIndex]) -> Vec<u32> {
    nodes.iter().map(|node| u32::from(node.0)).collect()
}

pub(super) fn addresses(values: Vec<String>) -> Result<Vec<SocketAddr>, ConvertError> {
    bounded(values.len(), limits::ADDRESSES, "addresses")?;
    let parse = |value: String| {
        bounded(value.len(), ADDRESS_BYTES, "addresses")?;
        value.parse().map_err(|_| ConvertError::Address("addresses"))
    };
    values.into_iter().map(parse).collect()
}

pub(super) fn plain_addresses(addresses: &[SocketAddr]) -> Vec<String> {
    addresses.iter().map(SocketAddr::to_string).collect()
}

/// Microseconds, saturating far beyond anything measured.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(super) fn present<T>(value: Option<T>, field: &'static str) -> Result<T, ConvertError> {
    value.ok_or(ConvertError::Missing(field))
}

impl From<StreamKey> for proto::StreamKey {
    fn from(key: StreamKey) -> proto::StreamKey {
        proto::StreamKey { room: key.room.0, user: key.user.0, stream: u32::from(key.stream.0) }
    }
}

impl TryFrom<proto::StreamKey> for StreamKey {
    type Error = ConvertError;

    fn try_from(key: proto::StreamKey) -> Result<StreamKey, ConvertError> {
        let stream = u16::try_from(key.stream).map_err(|_| ConvertError::OutOfRange("stream"))?;
        Ok(StreamKey { room: RoomId(key.room), user: UserId(key.user), stream: StreamId(stream) })
    }
}

pub(super) fn stream_key(key: Option<proto::StreamKey>) -> Result<StreamKey, ConvertError> {
    present(key, "key")?.try_into()
}

impl From<StreamName> for proto::StreamName {
    fn from(name: StreamName) -> proto::StreamName {
        let StreamName { namespace, room, user, stream } = name;
        proto::StreamName { namespace, room, user, stream }
    }
}

impl TryFrom<proto::StreamName> for StreamName {
    type Error = ConvertError;

    fn try_from(names: proto::StreamName) -> Result<StreamName, ConvertError> {
        Ok(StreamName {
            namespace: name(names.namespace, "namespace")?,
            room: name(names.room, "room")?,
            user: name(names.user, "user")?,
            stream: name(names.stream, "stream")?,
        })
    }
}

pub(super) fn stream_name(name: Option<proto::StreamName>) -> Result<StreamName, ConvertError> {
    present(name, "name")?.try_into()
}

pub(super) fn plain_media_kind(kind: MediaKind) -> i32 {
    let kind = match kind {
        MediaKind::Audio => proto::MediaKind::Audio,
        MediaKind::Video => proto::MediaKind::Video,
    };
    kind.into()
}

pub(super) fn media_kind(value: i32) -> Result<MediaKind, ConvertError> {
    match proto::MediaKind::try_from(value) {
        Ok(proto::MediaKind::Audio) => Ok(MediaKind::Audio),
        Ok(proto::MediaKind::Video) => Ok(MediaKind::Video),
        Ok(proto::MediaKind::Unspecified) | Err(_) => Err(ConvertError::Missing("kind")),
    }
}

pub(super) fn plain_grant(key: StreamKey, incarnation: Incarnation) -> proto::Grant {
    proto::Grant { key: Some(key.into()), incarnation: u32::from(incarnation.0) }
}

pub(super) fn grant(grant: proto::Grant) -> Result<(StreamKey, Incarnation), ConvertError> {
    Ok((stream_key(grant.key)?, incarnation(grant.incarnation)?))
}
