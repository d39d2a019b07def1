//! Datagrams without the media in them: what a recording may have of them. Lengths stay, headers of frames and the fixed
//! header of RTP stay, everything else that could be somebody's media is zero.

use crate::frame::{FRAME_HEADER_BYTES, FrameKind, MEDIA_FIXED_BYTES, MediaHeader, SEND_TIME_BYTES, frames};
use crate::parity::{PARITY_FIXED_BYTES, SHARD_LENGTH_BYTES};
use crate::rtp::is_rtcp;
use crate::{EDGE_HEADER_BYTES, FRAGMENT_HEADER_BYTES, REPAIR_HEADER_BYTES};

/// What is left of an RTP packet: its fixed header.
const RTP_BYTES: usize = 12;
/// What is left of an RTCP packet: kind, length and who sends it.
const RTCP_BYTES: usize = 8;

/// Of an opened datagram of a link.
pub fn blank_datagram(plain: &mut [u8]) {
    blank_frames(plain, true);
}

/// Of RTP or RTCP as an SFU sends it.
pub fn blank_packet(packet: &mut [u8]) {
    let left = if is_rtcp(packet) { RTCP_BYTES } else { RTP_BYTES };
    blank_from(packet, left);
}

/// Of the body of a media frame, also of one that was cut.
pub fn blank_media(body: &mut [u8]) {
    let header = MediaHeader::decode(body).map_or(MEDIA_FIXED_BYTES, |(_, bytes)| bytes);
    blank_packet(body.get_mut(header..).unwrap_or_default());
}

fn blank_from(bytes: &mut [u8], from: usize) {
    bytes.iter_mut().skip(from).for_each(|byte| *byte = 0);
}

/// A repair holds a datagram, and that no further one.
fn blank_frames(plain: &mut [u8], may_hold_repairs: bool) {
    let mut end = SEND_TIME_BYTES.min(plain.len());
    let found: Vec<_> = frames(plain).map_while(Result::ok).collect();
    for frame in found {
        end = frame.body.end;
        blank_frame(frame.kind, &mut plain[frame.body], may_hold_repairs);
    }
    // Padding, and what is no frame.
    blank_from(plain, end);
}

fn blank_frame(kind: FrameKind, body: &mut [u8], may_hold_repairs: bool) {
    match kind {
        FrameKind::Media => blank_media(body),
        FrameKind::Edge => blank_packet(body.get_mut(EDGE_HEADER_BYTES..).unwrap_or_default()),
        FrameKind::Fragment => {
            let first = body.get(2).is_some_and(|flags| flags & 1 == 0);
            let share = body.get_mut(FRAGMENT_HEADER_BYTES..).unwrap_or_default();
            match share.split_first_chunk_mut::<FRAME_HEADER_BYTES>() {
                Some((header, rest)) if first && header[0] >> 3 == 1 => blank_media(rest),
                Some(_) | None => blank_from(share, if first { FRAME_HEADER_BYTES } else { 0 }),
            }
        }
        FrameKind::Repair if may_hold_repairs => {
            blank_frames(body.get_mut(REPAIR_HEADER_BYTES..).unwrap_or_default(), false);
        }
        FrameKind::Repair => blank_from(body, REPAIR_HEADER_BYTES),
        FrameKind::Parity => {
            let map_bytes = body.get(1).map_or(0, |bytes| usize::from(*bytes));
            blank_from(body, PARITY_FIXED_BYTES + map_bytes + SHARD_LENGTH_BYTES);
        }
        FrameKind::Heartbeat
        | FrameKind::KeyframeRequest
        | FrameKind::EdgeKeyframeRequest
        | FrameKind::MtuProbe
        | FrameKind::PathChallenge
        | FrameKind::RepairRequest => {}
        FrameKind::Unknown(_) => blank_from(body, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::frame_header;
    use crate::{
        DestinationSet, EdgeHeader, FragmentHeader, Incarnation, NodeIndex, Plane, PolicyIndex, Priority,
        RoomId, Sequence, Slack, StreamHandle, StreamId, StreamKey, UserId,
    };
    use proptest::prelude::*;

    const MEDIA: &[u8] = b"somebody's voice, somebody's face";

    fn packet() -> Vec<u8> {
        [&[0x80, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3][..], MEDIA].concat()
    }

    fn media() -> Vec<u8> {
        let header = MediaHeader {
            key: StreamKey { room: RoomId(1), user: UserId(2), stream: StreamId(3) },
            incarnation: Incarnation(1),
            sequence: Sequence(7),
            slack: Slack(200),
            priority: Priority::BASE,
            hop_limit: 24,
            epoch: 3,
            plane: Plane::PRIMARY,
            marked: false,
            rtcp: false,
            protected: false,
            policy: PolicyIndex::DEFAULT,
            destinations: DestinationSet::single(NodeIndex(4)),
        };
        let mut out = vec![0; crate::MEDIA_HEADER_MAX];
        let bytes = header.encode(&mut out);
        out.truncate(bytes);
        out.extend(packet());
        out
    }

    fn frame(kind: FrameKind, body: &[u8]) -> Vec<u8> {
        [&frame_header(kind, body.len())[..], body].concat()
    }

    fn datagram(frames: &[Vec<u8>]) -> Vec<u8> {
        [&[1, 2, 3][..], &frames.concat(), &[0; 4]].concat()
    }

    fn has_media(bytes: &[u8]) -> bool {
        bytes.windows(6).any(|window| MEDIA.windows(6).any(|media| media == window))
    }

    #[test]
    fn headers_and_lengths_stay_and_media_goes_whatever_frame_it_is_in() {
        let edge = EdgeHeader {
            handle: StreamHandle(5),
            sequence: Sequence(6),
            slack: Slack(7),
            priority: Priority::AUDIO,
            rtcp: false,
        };
        let edge = [&edge.encode()[..], &packet()].concat();
        let whole = frame(FrameKind::Media, &media());
        let half = |second| FragmentHeader { id: 9, second }.encode();
        let inner = datagram(&[frame(FrameKind::Media, &media())]);
        let frames_of = [
            frame(FrameKind::Media, &media()),
            frame(FrameKind::Edge, &edge),
            frame(FrameKind::Fragment, &[&half(false)[..], &whole[..60]].concat()),
            frame(FrameKind::Fragment, &[&half(true)[..], &whole[30..]].concat()),
            frame(FrameKind::Repair, &[&[0, 0, 0, 9][..], &inner].concat()),
            frame(FrameKind::Parity, &[&[0, 1, 0, 0, 0, 1, 0xFF, 0, 40][..], MEDIA].concat()),
            frame(FrameKind::Unknown(30), MEDIA),
        ];
        let original = datagram(&frames_of);
        let mut blank = original.clone();
        blank_datagram(&mut blank);
        assert!(has_media(&original) && !has_media(&blank));
        let kinds = |bytes: &[u8]| {
            frames(bytes)
                .map(|frame| frame.expect("whole"))
                .map(|frame| (frame.kind, frame.body))
                .collect::<Vec<_>>()
        };
        assert_eq!(kinds(&blank), kinds(&original));
        let first = &kinds(&blank)[0].1;
        let decoded = |bytes: &[u8]| MediaHeader::decode(&bytes[first.clone()]).expect("legal");
        assert_eq!(decoded(&blank), decoded(&original));
        let (_, offset) = decoded(&blank);
        assert_eq!(blank[first.start + offset..][..12], packet()[..12]);
    }

    proptest! {
        #[test]
        fn anything_may_be_blanked_and_twice_is_once(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let length = bytes.len();
            blank_datagram(&mut bytes);
            let once = bytes.clone();
            blank_datagram(&mut bytes);
            prop_assert_eq!(&bytes, &once);
            prop_assert_eq!(bytes.len(), length);
            blank_packet(&mut bytes);
            blank_media(&mut bytes);
        }
    }
}
