//! How urgent an RTP packet is, from what it says about its frame.
//!
//! Found once, where a packet enters the overlay: in the client core of an SFU that is linked, so that its own link sends
//! in that order already, and in the ingress relay for plain RTP. From there on the [`Priority`] travels beside the packet.
//!
//! | said by | source |
//! | --- | --- |
//! | dependency descriptor, a header extension | AV1 RTP specification, appendix A |
//! | frame marking, a header extension | RFC 9626 |
//! | VP8, VP9, H.264, AV1 payload | RFC 7741, RFC 9628, RFC 6184 (and 6190), AV1 RTP specification |
//! | a hint of the publisher, for the whole stream | |
//! | the kind: audio, other video | |
//!
//! The first that says something counts. Extensions come before the payload because they are legible where the payload
//! is encrypted, and because a publisher that names them fills them in. RTP names neither codecs nor extensions, so a
//! publisher has to ([`RtpDescription`]).
//!
//! What a frame is becomes a priority so:
//!
//! - a layer of higher resolution, or what no other frame refers to: enhancement;
//! - a keyframe: base;
//! - the lowest of several temporal layers: base. The highest is enhancement where frames do not say whether others
//!   refer to them;
//! - all else: other video. So a stream without layers has keyframes, other video and, if it says so, frames that may go.
//!
//! Packets are read one by one: a wrong or foreign one may at worst put its own stream's packets into another order. A
//! stream that calls itself video is never as urgent as audio, whatever it says.

mod av1;
mod descriptor;
mod marking;
mod payload;

use crate::rtp::{self, RtpHeader};
use crate::{MediaKind, Priority};
use descriptor::Structure;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU8;

/// What the payload of a stream is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// RFC 7587. Says nothing about urgency: audio is audio.
    Opus,
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
    /// RFC 6184; with layers RFC 6190.
    H264,
    /// AV1 RTP specification.
    Av1,
}

impl Codec {
    /// What a stream of it carries.
    pub fn kind(self) -> MediaKind {
        match self {
            Codec::Opus => MediaKind::Audio,
            Codec::Vp8 | Codec::Vp9 | Codec::H264 | Codec::Av1 => MediaKind::Video,
        }
    }
}

/// What a publisher says about the RTP of a stream, so that its packets can be read. All of it may be left out.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RtpDescription {
    /// Its codec; `None` if it is another, or the payload is encrypted.
    pub codec: Option<Codec>,
    /// Identifier of the dependency descriptor among the header extensions (RFC 8285).
    pub dependency_descriptor: Option<NonZeroU8>,
    /// Identifier of frame marking among the header extensions.
    pub frame_marking: Option<NonZeroU8>,
    /// How urgent a packet is that says nothing of itself.
    pub priority: Option<Priority>,
}

/// Why a description does not suit its stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DescriptionError {
    /// A video codec in an audio stream, or the other way round.
    #[error("the codec is {codec:?}, but the kind of the stream is {kind:?}")]
    Kind {
        /// The codec.
        codec: Codec,
        /// What the stream is said to be.
        kind: MediaKind,
    },
    /// Only audio may be as urgent as audio.
    #[error("a video stream cannot have the priority of audio")]
    Priority,
}

impl RtpDescription {
    /// Whether it suits a stream of this kind.
    ///
    /// # Errors
    /// [`DescriptionError`]
    pub fn check(&self, kind: MediaKind) -> Result<(), DescriptionError> {
        match self.codec {
            Some(codec) if codec.kind() != kind => Err(DescriptionError::Kind { codec, kind }),
            Some(_) | None if self.priority.is_some_and(|hint| hint != hint.within(kind)) => {
                Err(DescriptionError::Priority)
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl Priority {
    /// What a stream of this kind may have of it: the priority of audio is for audio alone.
    #[must_use]
    pub fn within(self, kind: MediaKind) -> Priority {
        match kind {
            MediaKind::Audio => self,
            MediaKind::Video => self.max(Priority::BASE),
        }
    }
}

/// What a packet says about its frame; `None` where it says nothing.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct FrameMark {
    /// It can be decoded without frames before it, or is what such a frame needs.
    key: Option<bool>,
    /// Layer of resolution or quality, 0 the lowest.
    spatial: Option<u8>,
    /// Layer of frame rate, 0 the lowest.
    temporal: Option<u8>,
    /// No other frame refers to it.
    discardable: Option<bool>,
}

impl FrameMark {
    fn says_nothing(&self) -> bool {
        *self == FrameMark::default()
    }

    /// With what an earlier packet of the same frame said.
    fn or(self, before: FrameMark) -> FrameMark {
        FrameMark {
            key: self.key.or(before.key),
            spatial: self.spatial.or(before.spatial),
            temporal: self.temporal.or(before.temporal),
            discardable: self.discardable.or(before.discardable),
        }
    }
}

/// The highest layers of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Layers {
    spatial: u8,
    temporal: u8,
}

/// Finds the priority of the packets of one stream. About 200 bytes, whatever is sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prioritizer {
    kind: MediaKind,
    description: RtpDescription,
    /// The last structure that a dependency descriptor gave.
    structure: Option<Structure>,
    /// Seen since the last keyframe.
    layers: Layers,
    /// RTP timestamp of the last frame, and what was said about it.
    frame: Option<(u32, FrameMark)>,
}

impl Prioritizer {
    /// For a stream of this kind.
    pub fn new(kind: MediaKind, description: RtpDescription) -> Prioritizer {
        Prioritizer { kind, description, structure: None, layers: Layers::default(), frame: None }
    }

    /// The priority of the next packet of the stream.
    pub fn priority(&mut self, packet: &[u8], rtcp: bool) -> Priority {
        match self.kind {
            MediaKind::Audio => self.description.priority.unwrap_or(Priority::AUDIO),
            // Reports are small, few, and hold audio and video together.
            MediaKind::Video if rtcp => Priority::BASE,
            MediaKind::Video => {
                let otherwise = self.description.priority.unwrap_or(Priority::VIDEO).within(self.kind);
                self.read(packet).map_or(otherwise, |mark| rank(&mark, self.layers))
            }
        }
    }

    /// What is known about the frame of a packet.
    fn read(&mut self, packet: &[u8]) -> Option<FrameMark> {
        let RtpDescription { codec, dependency_descriptor, frame_marking, priority: _ } = self.description;
        if codec.is_none() && dependency_descriptor.is_none() && frame_marking.is_none() {
            return None;
        }
        let header = RtpHeader::parse(packet)?;
        let payload = packet.get(header.payload_offset..)?;
        let mark = None
            .or_else(|| self.read_descriptor(rtp::extension(packet, dependency_descriptor?)?))
            .or_else(|| marking::frame_marking(rtp::extension(packet, frame_marking?)?))
            .or_else(|| match codec? {
                Codec::Opus => None,
                Codec::Vp8 => payload::vp8(payload),
                Codec::Vp9 => payload::vp9(payload),
                Codec::H264 => payload::h264(payload),
                Codec::Av1 => av1::av1(payload),
            });
        let same_frame = self.frame.filter(|(timestamp, _)| *timestamp == header.timestamp);
        let mark = mark?.or(same_frame.map(|(_, before)| before).unwrap_or_default());
        self.frame = Some((header.timestamp, mark));
        let (spatial, temporal) = (mark.spatial.unwrap_or(0), mark.temporal.unwrap_or(0));
        if self.structure.is_none() {
            let begins = mark.key == Some(true) && spatial == 0;
            let before = if begins { Layers::default() } else { self.layers };
            self.layers =
                Layers { spatial: before.spatial.max(spatial), temporal: before.temporal.max(temporal) };
        }
        (!mark.says_nothing()).then_some(mark)
    }

    fn read_descriptor(&mut self, bytes: &[u8]) -> Option<FrameMark> {
        let (mark, structure) = descriptor::read(bytes, self.structure.as_ref())?;
        if let Some(structure) = structure {
            self.layers = structure.layers();
            self.structure = Some(structure);
        }
        Some(mark)
    }
}

fn rank(mark: &FrameMark, layers: Layers) -> Priority {
    let temporal = mark.temporal.unwrap_or(0);
    if mark.spatial.unwrap_or(0) > 0 {
        return Priority::ENHANCEMENT;
    }
    if mark.key == Some(true) {
        return Priority::BASE;
    }
    match mark.discardable {
        Some(true) => Priority::ENHANCEMENT,
        Some(false) | None if temporal == 0 => {
            if layers == Layers::default() {
                Priority::VIDEO
            } else {
                Priority::BASE
            }
        }
        Some(false) => Priority::VIDEO,
        None if temporal >= layers.temporal => Priority::ENHANCEMENT,
        None => Priority::VIDEO,
    }
}

#[cfg(test)]
mod tests;
