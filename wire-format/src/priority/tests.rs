use super::*;
use proptest::prelude::*;

const AUDIO: Priority = Priority::AUDIO;
const BASE: Priority = Priority::BASE;
const VIDEO: Priority = Priority::VIDEO;
const ENHANCEMENT: Priority = Priority::ENHANCEMENT;

fn of(codec: Codec) -> Prioritizer {
    Prioritizer::new(codec.kind(), RtpDescription { codec: Some(codec), ..RtpDescription::default() })
}

fn rtp(timestamp: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7];
    packet[4..8].copy_from_slice(&timestamp.to_be_bytes());
    packet.extend(payload);
    packet
}

/// A packet with an extension of identifier 5 in the two-byte form and a payload that nobody can read.
fn rtp_with(timestamp: u32, extension: &[u8]) -> Vec<u8> {
    let mut elements = vec![5, extension.len() as u8];
    elements.extend(extension);
    elements.resize(elements.len().next_multiple_of(4), 0);
    let mut packet = rtp(timestamp, &[]);
    packet[0] |= 0x10;
    packet.extend([0x10, 0x00]);
    packet.extend((elements.len() as u16 / 4).to_be_bytes());
    packet.extend(elements);
    packet.extend([0x5A; 40]);
    packet
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("two hex digits"))
        .collect()
}

/// Feeds packets, each with its RTP timestamp, and compares the priority of each.
#[track_caller]
fn check(mut stream: Prioritizer, packets: &[(u32, &[u8], Priority)]) {
    for (at, (timestamp, payload, expected)) in packets.iter().enumerate() {
        let found = stream.priority(&rtp(*timestamp, payload), false);
        assert_eq!(found, *expected, "packet {at}: {payload:02x?}");
    }
}

#[test]
fn audio_is_audio() {
    let mut opus = of(Codec::Opus);
    assert_eq!(opus.priority(&rtp(1, &[0x78, 1, 2]), false), AUDIO);
    assert_eq!(opus.priority(&[], false), AUDIO);
    assert_eq!(opus.priority(&[0x80, 200, 0, 0], true), AUDIO);
    let hint = RtpDescription { priority: Some(ENHANCEMENT), ..RtpDescription::default() };
    assert_eq!(Prioritizer::new(MediaKind::Audio, hint).priority(&[], false), ENHANCEMENT);
}

#[test]
fn video_that_says_nothing_goes_by_its_hint() {
    for (hint, expected) in [(None, VIDEO), (Some(BASE), BASE), (Some(ENHANCEMENT), ENHANCEMENT)] {
        let description = RtpDescription { priority: hint, ..RtpDescription::default() };
        let mut stream = Prioritizer::new(MediaKind::Video, description);
        assert_eq!(stream.priority(&rtp(1, &[0x10, 0x00]), false), expected);
        assert_eq!(stream.priority(&[0x80, 200, 0, 0], true), BASE, "reports");
    }
}

#[test]
fn descriptions_suit_their_stream_or_are_refused() {
    let described = |codec, priority| RtpDescription { codec, priority, ..RtpDescription::default() };
    assert_eq!(described(None, None).check(MediaKind::Audio), Ok(()));
    assert_eq!(described(Some(Codec::Vp8), Some(BASE)).check(MediaKind::Video), Ok(()));
    assert_eq!(
        described(Some(Codec::Vp8), None).check(MediaKind::Audio),
        Err(DescriptionError::Kind { codec: Codec::Vp8, kind: MediaKind::Audio })
    );
    assert_eq!(described(None, Some(AUDIO)).check(MediaKind::Video), Err(DescriptionError::Priority));
    let mut stream = Prioritizer::new(MediaKind::Video, described(None, Some(AUDIO)));
    assert_eq!(stream.priority(&rtp(1, &[]), false), BASE, "not even if nobody checked");
}

#[test]
fn vp8_without_layers() {
    check(
        of(Codec::Vp8),
        &[
            // RFC 7741 section 4.6.1: a keyframe in one packet; here in two, the second of which does not say so.
            (1, &[0x90, 0x80, 0x11, 0x10, 0x02, 0x00, 0x9D, 0x01, 0x2A], BASE),
            (1, &[0x80, 0x80, 0x11, 0xAA, 0xBB], BASE),
            // Section 4.6.3: an interframe, with its second partition in another packet.
            (2, &[0x90, 0x80, 0x12, 0x31, 0x02, 0x00], VIDEO),
            (2, &[0x81, 0x80, 0x12, 0x30], VIDEO),
            // N: nothing refers to it.
            (3, &[0x30, 0x31, 0x02], ENHANCEMENT),
        ],
    );
}

#[test]
fn vp8_with_temporal_layers() {
    // X; I, L, T and K; a picture id of 15 bits; TL0PICIDX; TID, Y and KEYIDX.
    check(
        of(Codec::Vp8),
        &[
            (1, &[0x90, 0xF0, 0x80, 0x01, 0x01, 0x00, 0x10, 0, 0], BASE),
            (2, &[0xB0, 0xF0, 0x80, 0x02, 0x01, 0xA0, 0x11, 0, 0], ENHANCEMENT),
            (3, &[0x90, 0xF0, 0x80, 0x03, 0x01, 0x60, 0x11, 0, 0], VIDEO),
            (4, &[0xB0, 0xF0, 0x80, 0x04, 0x01, 0xA0, 0x11, 0, 0], ENHANCEMENT),
            (5, &[0x90, 0xF0, 0x80, 0x05, 0x02, 0x00, 0x11, 0, 0], BASE),
        ],
    );
}

#[test]
fn vp9_with_spatial_and_temporal_layers() {
    // I, P, L, F, B, E, V, Z; a picture id; TID, U, SID, D; TL0PICIDX.
    check(
        of(Codec::Vp9),
        &[
            (1, &[0xA8, 0x01, 0x00, 0x01], BASE),
            (1, &[0xA4, 0x01, 0x03, 0x01], ENHANCEMENT),
            (2, &[0xEC, 0x02, 0x50, 0x01], ENHANCEMENT),
            (2, &[0xEC, 0x02, 0x53, 0x01], ENHANCEMENT),
            (3, &[0xEC, 0x03, 0x30, 0x01], VIDEO),
            (4, &[0xEC, 0x04, 0x10, 0x02], BASE),
        ],
    );
    // Without layers: keyframe, and others.
    check(of(Codec::Vp9), &[(1, &[0x8C, 0x81, 0x02], BASE), (2, &[0xCC, 0x81, 0x03], VIDEO)]);
}

#[test]
fn h264_by_type_and_reference() {
    check(
        of(Codec::H264),
        &[
            // Parameter sets together (STAP-A), then an IDR picture in fragments (FU-A): first, middle, last.
            (1, &[0x78, 0, 2, 0x67, 0x42, 0, 1, 0x68], BASE),
            (1, &[0x7C, 0x85, 0x88], BASE),
            (1, &[0x7C, 0x05, 0x12], BASE),
            (1, &[0x7C, 0x45, 0x34], BASE),
            // Slices that others refer to, one of them in a fragment; and some that none refers to.
            (2, &[0x41, 0x9A], VIDEO),
            (3, &[0x5C, 0x81, 0x9A], VIDEO),
            (4, &[0x01, 0x9E], ENHANCEMENT),
            (5, &[0x1C, 0x41, 0x9E], ENHANCEMENT),
            // A delimiter alone may belong to anything; beside a slice, the slice counts.
            (6, &[0x09, 0xF0], BASE),
            (6, &[0x41, 0x9A], VIDEO),
            (7, &[0x18, 0, 2, 0x09, 0xF0, 0, 2, 0x06, 0x05, 0, 2, 0x01, 0x9E], ENHANCEMENT),
            (8, &[0x58, 0, 2, 0x01, 0x9E, 0, 2, 0x41, 0x9A], VIDEO),
            // MTAP16: a decoding order number, then size, difference and time offset of each unit.
            (9, &[0x7A, 0, 1, 0, 2, 0, 0, 0, 0x65, 0x88], BASE),
            // A slice of a higher layer (RFC 6190).
            (10, &[0x74, 0x40, 0x10, 0x07], ENHANCEMENT),
            // No unit of that type, and an aggregate that is longer than its packet.
            (11, &[0x7F], VIDEO),
            (12, &[0x78, 0, 9, 0x65], VIDEO),
        ],
    );
}

#[test]
fn av1_by_sequence_and_layer() {
    check(
        of(Codec::Av1),
        &[
            // N: a coded video sequence begins; one OBU, the frame goes on in the next packet.
            (1, &[0x58, 0x0A, 0x01, 0x02], BASE),
            (1, &[0x90, 0xAA, 0xBB], BASE),
            // A frame without extension: of a stream without layers, for all one knows.
            (2, &[0x10, 0x30, 0xAA], VIDEO),
            // Temporal layer 1, after a temporal delimiter of its own element.
            (3, &[0x20, 0x01, 0x10, 0x34, 0x20, 0xAA], ENHANCEMENT),
            // The lowest layer is the base now; spatial layer 1 is not.
            (4, &[0x10, 0x34, 0x00, 0xAA], BASE),
            (4, &[0x10, 0x34, 0x08, 0xAA], ENHANCEMENT),
            (4, &[0x80, 0x34, 0x08, 0xAA], ENHANCEMENT),
            // A sequence header says that a keyframe comes, whatever N is.
            (5, &[0x20, 0x02, 0x0A, 0x01, 0x34, 0x00], BASE),
        ],
    );
}

#[test]
fn frame_marking_where_the_payload_is_encrypted() {
    let marked = RtpDescription { frame_marking: NonZeroU8::new(5), ..RtpDescription::default() };
    let mut stream = Prioritizer::new(MediaKind::Video, marked);
    for (timestamp, extension, expected) in [
        // Not scalable: a keyframe, one that others refer to, one that may go.
        (1, &[0xE0][..], BASE),
        (2, &[0xC0], VIDEO),
        (3, &[0xD0], ENHANCEMENT),
        // Scalable: temporal layers 2, 1 and 0, then a higher spatial layer.
        (4, &[0xD2, 0x00, 0x07], ENHANCEMENT),
        (5, &[0xC1, 0x00, 0x07], VIDEO),
        (6, &[0xC8, 0x00, 0x08], BASE),
        (6, &[0xC8, 0x10, 0x08], ENHANCEMENT),
    ] {
        let found = stream.priority(&rtp_with(timestamp, extension), false);
        assert_eq!(found, expected, "{extension:02x?}");
    }
}

fn descriptors(stream: &mut Prioritizer, captured: &[(u32, &str, Priority)]) {
    for (timestamp, text, expected) in captured {
        let found = stream.priority(&rtp_with(*timestamp, &hex(text)), false);
        assert_eq!(found, *expected, "{text}");
    }
}

#[test]
fn dependency_descriptors_of_two_temporal_layers() {
    let described = RtpDescription {
        dependency_descriptor: NonZeroU8::new(5),
        priority: Some(ENHANCEMENT),
        ..RtpDescription::default()
    };
    let mut stream = Prioritizer::new(MediaKind::Video, described);
    descriptors(
        &mut stream,
        &[
            // Before the first structure nothing is known: the hint counts.
            (1, "c00001", ENHANCEMENT),
            // A structure of templates 0, 1, 2 (L1T2), in the first packet of a keyframe of two.
            (2, "80000180011ea85141010c04fc03bc", BASE),
            (2, "400001", BASE),
            (3, "c20002", ENHANCEMENT),
            (4, "c10003", BASE),
            // Custom indications: S for both targets, and so needed.
            (5, "c200042500", VIDEO),
            // A structure that ends early changes nothing, and its packet goes by the hint.
            (6, "800005800120", ENHANCEMENT),
            // No such template.
            (7, "c90006", ENHANCEMENT),
            // The next structure has templates 6, 7, 8.
            (8, "8600b580c11ea85141010c09fc077c", BASE),
            (9, "c800b6", ENHANCEMENT),
            (10, "c700b7", BASE),
            (11, "c200b8", ENHANCEMENT),
        ],
    );
}

#[test]
fn dependency_descriptors_of_three_by_three_layers() {
    let described = RtpDescription { dependency_descriptor: NonZeroU8::new(5), ..RtpDescription::default() };
    let mut stream = Prioritizer::new(MediaKind::Video, described);
    // From a capture of a browser's call.
    let structure = "c1017280081485214eafffaaaa863cf0430c10c302afc0aaa0063c00430010c002a000a80006000040001d954926e082\
                     b04a0941b820ac1282503157f974000ca864330e222222eca8655304224230eca877530077004200ef008601df010d";
    descriptors(
        &mut stream,
        &[
            (1, structure, BASE),
            (1, "860173", ENHANCEMENT),
            (1, "460173", ENHANCEMENT),
            (1, "8b0174", ENHANCEMENT),
            // Templates 2 and 3: temporal layers 1 and 2, which higher layers of resolution need.
            (2, "c30175", VIDEO),
            (3, "c20178", VIDEO),
            (4, "c0017b", BASE),
        ],
    );
}

proptest! {
    /// Whatever comes: no panic, no urgency of audio, the same answer each time, and nothing kept of what is not RTP.
    #[test]
    fn any_bytes_have_a_priority_of_video(
        codec in prop_oneof![Just(Codec::Vp8), Just(Codec::Vp9), Just(Codec::H264), Just(Codec::Av1)],
        packets in prop::collection::vec((0..4_u32, prop::collection::vec(any::<u8>(), 0..60), any::<bool>()), 0..20),
    ) {
        let description = RtpDescription {
            codec: Some(codec),
            dependency_descriptor: NonZeroU8::new(5),
            frame_marking: NonZeroU8::new(6),
            priority: None,
        };
        let mut stream = Prioritizer::new(MediaKind::Video, description);
        let mut again = stream.clone();
        for (timestamp, bytes, in_extension) in packets {
            let packet = if in_extension { rtp_with(timestamp, &bytes) } else { rtp(timestamp, &bytes) };
            let priority = stream.priority(&packet, false);
            prop_assert!((BASE..=ENHANCEMENT).contains(&priority));
            prop_assert_eq!(again.priority(&packet, false), priority);
            let before = stream.clone();
            prop_assert_eq!(stream.priority(&bytes[..bytes.len().min(11)], false), VIDEO);
            prop_assert_eq!(&stream, &before);
        }
    }
}
