//! Inside of a sealed link datagram: the sender's clock, then frames.
//!
//! ```text
//! plain datagram = send time (24 bits) , frame , frame , ... , zero bytes of padding
//! frame          = type (5 bits) , length of body (11 bits) , body
//! ```
//!
//! A frame of a type unknown to the receiver is skipped by its length and counted. All numbers are big-endian.

use crate::{
    DestinationSet, Incarnation, NodeIndex, Plane, PolicyIndex, RoomId, Sequence, Slack, StreamHandle,
    StreamId, StreamKey, UserId, WireTime, destinations::SET_BYTES_MAX,
};
use std::ops::Range;

/// Bytes of the send time at the beginning of a plain datagram.
pub const SEND_TIME_BYTES: usize = 3;
/// Bytes of a frame's type and length.
pub const FRAME_HEADER_BYTES: usize = 2;
/// Longest body of a frame.
pub const FRAME_BODY_MAX: usize = 0x7FF;
/// Bytes of a media frame's body before its destination set.
pub const MEDIA_FIXED_BYTES: usize = 21;
/// Most bytes of a media frame's body before the RTP packet.
pub const MEDIA_HEADER_MAX: usize = MEDIA_FIXED_BYTES + 1 + SET_BYTES_MAX;
/// Bytes of an edge frame's body before the RTP packet.
pub const EDGE_HEADER_BYTES: usize = 9;
/// Bytes left in every datagram for what parity adds to it.
pub const PARITY_ROOM_BYTES: usize = 24;
/// Largest RTP or RTCP packet: what a frame holds whatever its destination set. A frame that does not fit a datagram is
/// cut in two, and even on the narrowest path two halves hold the largest frame.
pub const RTP_BYTES_MAX: usize = FRAME_BODY_MAX - MEDIA_HEADER_MAX;
/// Hops after which a frame is dropped, whatever the tables say.
pub const HOP_LIMIT: u8 = 24;

/// Why bytes are not what they should be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, thiserror::Error)]
pub enum FrameError {
    /// The bytes end early.
    #[error("truncated")]
    Truncated,
    /// The destination set is not canonical.
    #[error("malformed destination set")]
    Destinations,
    /// A field has a value that means nothing.
    #[error("illegal field")]
    Field,
}

/// What a frame is. The numbers are on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FrameKind {
    /// RTP or RTCP between relays.
    Media,
    /// Feedback, probe and sign of life.
    Heartbeat,
    /// A keyframe wanted from a publisher elsewhere.
    KeyframeRequest,
    /// RTP or RTCP between an SFU and its relay.
    Edge,
    /// A keyframe wanted, between an SFU and its relay.
    EdgeKeyframeRequest,
    /// Half of a frame that is larger than a datagram.
    Fragment,
    /// Whether the path takes datagrams of a size, and the answer.
    MtuProbe,
    /// Whether the peer is at an address, and the answer.
    PathChallenge,
    /// What is missing of the other direction.
    RepairRequest,
    /// A datagram sent again.
    Repair,
    /// Parity over several datagrams.
    Parity,
    /// Not known to this version.
    Unknown(u8),
}

impl FrameKind {
    fn of(number: u8) -> FrameKind {
        match number {
            1 => FrameKind::Media,
            2 => FrameKind::Heartbeat,
            3 => FrameKind::KeyframeRequest,
            4 => FrameKind::Edge,
            5 => FrameKind::EdgeKeyframeRequest,
            6 => FrameKind::Fragment,
            7 => FrameKind::MtuProbe,
            8 => FrameKind::PathChallenge,
            9 => FrameKind::RepairRequest,
            10 => FrameKind::Repair,
            11 => FrameKind::Parity,
            other => FrameKind::Unknown(other),
        }
    }

    fn number(self) -> u8 {
        match self {
            FrameKind::Media => 1,
            FrameKind::Heartbeat => 2,
            FrameKind::KeyframeRequest => 3,
            FrameKind::Edge => 4,
            FrameKind::EdgeKeyframeRequest => 5,
            FrameKind::Fragment => 6,
            FrameKind::MtuProbe => 7,
            FrameKind::PathChallenge => 8,
            FrameKind::RepairRequest => 9,
            FrameKind::Repair => 10,
            FrameKind::Parity => 11,
            FrameKind::Unknown(other) => other,
        }
    }
}

/// One frame of a plain datagram.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RawFrame {
    /// What it is.
    pub kind: FrameKind,
    /// Where its body is in the plain datagram.
    pub body: Range<usize>,
}

/// Writes type and length of a frame.
///
/// # Panics
/// If the body is longer than [`FRAME_BODY_MAX`]: callers build frames that fit a datagram.
pub fn frame_header(kind: FrameKind, body_bytes: usize) -> [u8; FRAME_HEADER_BYTES] {
    assert!(body_bytes <= FRAME_BODY_MAX, "a frame fits a datagram");
    (u16::from(kind.number()) << 11 | body_bytes as u16).to_be_bytes()
}

/// The send time of a plain datagram.
///
/// # Errors
/// [`FrameError::Truncated`] if it is too short to have one.
pub fn send_time(plain: &[u8]) -> Result<WireTime, FrameError> {
    let (bytes, _) = plain.split_first_chunk::<SEND_TIME_BYTES>().ok_or(FrameError::Truncated)?;
    Ok(WireTime::from_bits(u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]])))
}

/// The bytes of a send time.
pub fn send_time_bytes(time: WireTime) -> [u8; SEND_TIME_BYTES] {
    let [_, bytes @ ..] = time.bits().to_be_bytes();
    bytes
}

/// The frames of a plain datagram, in order. Ends after the first error.
pub fn frames(plain: &[u8]) -> Frames<'_> {
    Frames { plain, at: SEND_TIME_BYTES }
}

/// The one frame that fills `bytes`, as both halves of a frame that was cut make it.
///
/// # Errors
/// [`FrameError::Truncated`] if the frame's length is another.
pub fn whole_frame(bytes: &[u8]) -> Result<RawFrame, FrameError> {
    let (header, body) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>().ok_or(FrameError::Truncated)?;
    let word = u16::from_be_bytes(*header);
    if usize::from(word) & FRAME_BODY_MAX != body.len() {
        return Err(FrameError::Truncated);
    }
    Ok(RawFrame { kind: FrameKind::of((word >> 11) as u8), body: FRAME_HEADER_BYTES..bytes.len() })
}

/// Iterator over the frames of a plain datagram.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    plain: &'a [u8],
    at: usize,
}

impl Iterator for Frames<'_> {
    type Item = Result<RawFrame, FrameError>;

    fn next(&mut self) -> Option<Result<RawFrame, FrameError>> {
        let rest = self.plain.get(self.at..)?;
        let first = *rest.first()?;
        if first == 0 {
            // Padding runs to the end of the datagram; type 0 has no other use.
            self.at = self.plain.len();
            return None;
        }
        let Some((header, _)) = rest.split_first_chunk::<FRAME_HEADER_BYTES>() else {
            self.at = self.plain.len();
            return Some(Err(FrameError::Truncated));
        };
        let word = u16::from_be_bytes(*header);
        let body_bytes = usize::from(word) & FRAME_BODY_MAX;
        let start = self.at + FRAME_HEADER_BYTES;
        if self.plain.len() - start < body_bytes {
            self.at = self.plain.len();
            return Some(Err(FrameError::Truncated));
        }
        self.at = start + body_bytes;
        Some(Ok(RawFrame { kind: FrameKind::of((word >> 11) as u8), body: start..self.at }))
    }
}

/// How urgent a frame is; lower goes first when a link cannot carry everything.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Priority(u8);

impl Priority {
    /// Audio.
    pub const AUDIO: Priority = Priority(0);
    /// Keyframes and base layers of video.
    pub const BASE: Priority = Priority(1);
    /// Other video.
    pub const VIDEO: Priority = Priority(2);
    /// Enhancement layers of video.
    pub const ENHANCEMENT: Priority = Priority(3);

    /// From the 3 bits on the wire; higher bits are ignored.
    pub fn from_bits(bits: u8) -> Priority {
        Priority(bits & 0x07)
    }

    /// The 3 bits on the wire.
    pub fn bits(self) -> u8 {
        self.0
    }
}

/// Everything of a media frame but the RTP packet.
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +---------------------------------------------------------------+
/// |                             room                              |
/// +---------------------------------------------------------------+
/// |                             user                              |
/// +-------------------------------+---------------+---------------+
/// |            stream             |  incarnation  |  sequence ...
/// +-------------------------------+---------------+---------------+
///               ... sequence                      |   slack ...   |
/// +---------------+-----+---------+---------------+---------------+
///   ... slack     |prio | hop lim |             epoch             |
/// +---+-+-+-------+-----+---------+-------------------------------+
/// |pl.|M|C|P|pol. |  destination set ... , RTP or RTCP packet ...
/// +---+-+-+-------+-----------------------------------------------+
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MediaHeader {
    /// The stream.
    pub key: StreamKey,
    /// Which publication of it.
    pub incarnation: Incarnation,
    /// The publisher's count.
    pub sequence: Sequence,
    /// Delay that may still be lost.
    pub slack: Slack,
    /// Urgency.
    pub priority: Priority,
    /// Hops left, 31 at most.
    pub hop_limit: u8,
    /// Low bits of the epoch whose tables forward it.
    pub epoch: u16,
    /// The plane it travels on.
    pub plane: Plane,
    /// M: a relay left the tables of `epoch` and `plane` for it.
    pub marked: bool,
    /// C: the packet is RTCP.
    pub rtcp: bool,
    /// P: another copy of it goes to the same relays on another plane, so this one is never moved. Relays that do not know
    /// the bit pass it on.
    pub protected: bool,
    /// The policy whose planes it travels on. Relays before version 4 know one policy, and say so for all.
    pub policy: PolicyIndex,
    /// Relays still to reach.
    pub destinations: DestinationSet,
}

impl MediaHeader {
    /// Reads the header at the beginning of a frame's body; the packet follows at the offset returned.
    ///
    /// # Errors
    /// [`FrameError`] if the body is too short, empty behind the header, or a field is illegal.
    #[inline]
    pub fn decode(body: &[u8]) -> Result<(MediaHeader, usize), FrameError> {
        let (fixed, rest) = body.split_first_chunk::<MEDIA_FIXED_BYTES>().ok_or(FrameError::Truncated)?;
        let (destinations, set_bytes) = DestinationSet::decode(rest)?;
        if rest.len() == set_bytes {
            return Err(FrameError::Truncated);
        }
        let flags = fixed[20];
        let plane = Plane(flags >> 6);
        if plane > Plane::BLUE {
            return Err(FrameError::Field);
        }
        let header = MediaHeader {
            key: decode_key(&fixed[..10]),
            incarnation: Incarnation(fixed[10]),
            sequence: Sequence(u32::from_be_bytes([fixed[11], fixed[12], fixed[13], fixed[14]])),
            slack: Slack(u16::from_be_bytes([fixed[15], fixed[16]])),
            priority: Priority::from_bits(fixed[17] >> 5),
            hop_limit: fixed[17] & 0x1F,
            epoch: u16::from_be_bytes([fixed[18], fixed[19]]),
            plane,
            marked: flags & 0x20 != 0,
            rtcp: flags & 0x10 != 0,
            protected: flags & 0x08 != 0,
            policy: PolicyIndex::from_bits(flags),
            destinations,
        };
        Ok((header, MEDIA_FIXED_BYTES + set_bytes))
    }

    /// Writes the header to the beginning of `out` (at least [`MEDIA_HEADER_MAX`] bytes); returns its length.
    pub fn encode(&self, out: &mut [u8]) -> usize {
        let (fixed, rest) = out.split_at_mut(MEDIA_FIXED_BYTES);
        encode_key(self.key, &mut fixed[..10]);
        fixed[10] = self.incarnation.0;
        fixed[11..15].copy_from_slice(&self.sequence.0.to_be_bytes());
        fixed[15..17].copy_from_slice(&self.slack.0.to_be_bytes());
        fixed[17] = self.priority.bits() << 5 | self.hop_limit & 0x1F;
        fixed[18..20].copy_from_slice(&self.epoch.to_be_bytes());
        fixed[20] = self.plane.0 << 6
            | u8::from(self.marked) << 5
            | u8::from(self.rtcp) << 4
            | u8::from(self.protected) << 3
            | self.policy.bits();
        MEDIA_FIXED_BYTES + self.destinations.encode(rest)
    }
}

fn decode_key(bytes: &[u8]) -> StreamKey {
    StreamKey {
        room: RoomId(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])),
        user: UserId(u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]])),
        stream: StreamId(u16::from_be_bytes([bytes[8], bytes[9]])),
    }
}

fn encode_key(key: StreamKey, out: &mut [u8]) {
    out[0..4].copy_from_slice(&key.room.0.to_be_bytes());
    out[4..8].copy_from_slice(&key.user.0.to_be_bytes());
    out[8..10].copy_from_slice(&key.stream.0.to_be_bytes());
}

/// A keyframe wanted from a publisher behind another relay. Travels by the newest table, hop by hop.
///
/// ```text
/// ingress (16) , room (32) , user (32) , stream (16) , hop limit (8)
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyframeRequest {
    /// The relay where the stream enters the overlay.
    pub ingress: NodeIndex,
    /// The stream.
    pub key: StreamKey,
    /// Hops left.
    pub hop_limit: u8,
}

impl KeyframeRequest {
    /// Length of the body.
    pub const BYTES: usize = 13;

    /// Reads a body. Bytes behind the known fields belong to later versions and are ignored.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] if the body is too short.
    pub fn decode(body: &[u8]) -> Result<KeyframeRequest, FrameError> {
        let (b, _) = body.split_first_chunk::<{ KeyframeRequest::BYTES }>().ok_or(FrameError::Truncated)?;
        Ok(KeyframeRequest {
            ingress: NodeIndex(u16::from_be_bytes([b[0], b[1]])),
            key: decode_key(&b[2..12]),
            hop_limit: b[12],
        })
    }

    /// The body.
    pub fn encode(&self) -> [u8; KeyframeRequest::BYTES] {
        let mut b = [0; KeyframeRequest::BYTES];
        b[0..2].copy_from_slice(&self.ingress.0.to_be_bytes());
        encode_key(self.key, &mut b[2..12]);
        b[12] = self.hop_limit;
        b
    }
}

/// Everything of an edge frame but the RTP packet: media between an SFU and its relay, where a granted handle says it
/// all.
///
/// ```text
/// handle (16) , sequence (32) , slack (16) , priority (3) zero (4) C (1)
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EdgeHeader {
    /// The stream, as the relay named it on this link and in this direction.
    pub handle: StreamHandle,
    /// The publisher's count.
    pub sequence: Sequence,
    /// Delay that may still be lost.
    pub slack: Slack,
    /// Urgency.
    pub priority: Priority,
    /// The packet is RTCP.
    pub rtcp: bool,
}

impl EdgeHeader {
    /// Reads the header at the beginning of a frame's body; the packet follows.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] if the body ends before a packet begins.
    pub fn decode(body: &[u8]) -> Result<EdgeHeader, FrameError> {
        let (b, packet) = body.split_first_chunk::<EDGE_HEADER_BYTES>().ok_or(FrameError::Truncated)?;
        if packet.is_empty() {
            return Err(FrameError::Truncated);
        }
        Ok(EdgeHeader {
            handle: StreamHandle(u16::from_be_bytes([b[0], b[1]])),
            sequence: Sequence(u32::from_be_bytes([b[2], b[3], b[4], b[5]])),
            slack: Slack(u16::from_be_bytes([b[6], b[7]])),
            priority: Priority::from_bits(b[8] >> 5),
            rtcp: b[8] & 0x01 != 0,
        })
    }

    /// The header.
    pub fn encode(&self) -> [u8; EDGE_HEADER_BYTES] {
        let mut b = [0; EDGE_HEADER_BYTES];
        b[0..2].copy_from_slice(&self.handle.0.to_be_bytes());
        b[2..6].copy_from_slice(&self.sequence.0.to_be_bytes());
        b[6..8].copy_from_slice(&self.slack.0.to_be_bytes());
        b[8] = self.priority.bits() << 5 | u8::from(self.rtcp);
        b
    }
}

/// A keyframe wanted, between an SFU and its relay: `handle (16)`. From the SFU the handle is that of an announced
/// stream; from the relay, that of a publication.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EdgeKeyframeRequest {
    /// The stream.
    pub handle: StreamHandle,
}

impl EdgeKeyframeRequest {
    /// Length of the body.
    pub const BYTES: usize = 2;

    /// Reads a body. Bytes behind the known field belong to later versions and are ignored.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] if the body is too short.
    pub fn decode(body: &[u8]) -> Result<EdgeKeyframeRequest, FrameError> {
        let (b, _) =
            body.split_first_chunk::<{ EdgeKeyframeRequest::BYTES }>().ok_or(FrameError::Truncated)?;
        Ok(EdgeKeyframeRequest { handle: StreamHandle(u16::from_be_bytes(*b)) })
    }

    /// The body.
    pub fn encode(&self) -> [u8; EdgeKeyframeRequest::BYTES] {
        self.handle.0.to_be_bytes()
    }
}
