//! RTP packets that tell who they are: stream and number stand in the payload, the rest of it follows from them, so that
//! whoever gets one can be asked whether it is what was sent.

use crate::scenario::{Scenario, StreamNumber};
use crate::trace::{Digest, Packet};
use link_model::Seed;
use std::hash::Hasher;
use std::time::Duration;
use wire_format::MediaKind;

/// RTP header and the packet's number.
pub(crate) const PACKET_BYTES_MIN: usize = 20;
/// One packet in this many is RTCP.
const RTCP_EVERY: u64 = 97;

/// Whether a packet of that number travels as RTCP.
pub(crate) fn is_rtcp(number: u64) -> bool {
    number % RTCP_EVERY == RTCP_EVERY - 1
}

/// The packet's bytes.
pub(crate) fn build(scenario: &Scenario, packet: Packet) -> Vec<u8> {
    let spec = scenario.stream(packet.stream);
    let length = spec.rhythm.bytes(packet.number) as usize;
    let mut bytes = Vec::with_capacity(length);
    let payload_type = match (is_rtcp(packet.number), spec.kind) {
        (true, _) => 200,
        (false, MediaKind::Audio) => 111,
        (false, MediaKind::Video) => 96,
    };
    bytes.extend([0x80, payload_type]);
    bytes.extend((packet.number as u16).to_be_bytes());
    bytes.extend((packet.number as u32).wrapping_mul(960).to_be_bytes());
    bytes.extend((u32::from(packet.stream.0) + 1).to_be_bytes());
    bytes.extend(packet.number.to_be_bytes());
    let mut filler = Seed(packet.number).numbered(packet.stream.0.into()).stream();
    while bytes.len() < length {
        let left = length - bytes.len();
        bytes.extend(filler.bits().to_be_bytes().iter().take(left));
    }
    bytes
}

/// Who the packet says it is.
pub(crate) fn identify(bytes: &[u8]) -> Option<Packet> {
    let ssrc = u32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?);
    let number = u64::from_be_bytes(bytes.get(12..20)?.try_into().ok()?);
    let stream = u16::try_from(ssrc.checked_sub(1)?).ok()?;
    Some(Packet { stream: StreamNumber(stream), number })
}

/// A digest of bytes.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    let mut digest = Digest::default();
    digest.write(bytes);
    digest.finish()
}

/// Distance of a stream's bursts.
pub(crate) fn interval(scenario: &Scenario, stream: StreamNumber) -> Duration {
    scenario.stream(stream).rhythm.interval()
}
