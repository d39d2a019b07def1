//! Frames as the payloads of VP8, VP9 and H.264 describe them. `None` for what is no payload of that codec.

use super::FrameMark;

/// VP8: the payload descriptor (RFC 7741 section 4.2) and, where a frame begins, the first byte of its header (section
/// 4.3). Only that tells whether it is a keyframe; the packets behind it inherit it.
///
/// ```text
/// X R N S R PID(3)   [X] I L T K R(4)   [I] M picture id (7 or 15)   [L] TL0PICIDX(8)   [T|K] TID(2) Y KEYIDX(5)
/// ```
pub(super) fn vp8(payload: &[u8]) -> Option<FrameMark> {
    let (first, mut rest) = payload.split_first()?;
    let mut temporal = None;
    if first & 0x80 != 0 {
        let (flags, behind) = rest.split_first()?;
        rest = behind;
        if flags & 0x80 != 0 {
            rest = behind_picture_id(rest)?;
        }
        if flags & 0x40 != 0 {
            rest = rest.get(1..)?;
        }
        if flags & 0x30 != 0 {
            let (layer, behind) = rest.split_first()?;
            rest = behind;
            temporal = (flags & 0x20 != 0).then_some(layer >> 6);
        }
    }
    // S and PID 0: the first partition begins, so the frame does.
    let key = if first & 0x17 == 0x10 { Some(rest.first()? & 0x01 == 0) } else { None };
    Some(FrameMark { key, spatial: None, temporal, discardable: Some(first & 0x20 != 0) })
}

/// VP9: the payload descriptor (RFC 9628 section 4.2), which every packet has in full.
///
/// ```text
/// I P L F B E V Z   [I] M picture id (7 or 15)   [L] TID(3) U SID(3) D
/// ```
pub(super) fn vp9(payload: &[u8]) -> Option<FrameMark> {
    let (first, mut rest) = payload.split_first()?;
    if first & 0x80 != 0 {
        rest = behind_picture_id(rest)?;
    }
    let (mut spatial, mut temporal) = (None, None);
    if first & 0x20 != 0 {
        let layer = rest.first()?;
        temporal = Some(layer >> 5);
        spatial = Some(layer >> 1 & 0x07);
    }
    let is_intra = first & 0x40 == 0;
    Some(FrameMark { key: Some(is_intra), spatial, temporal, discardable: None })
}

fn behind_picture_id(bytes: &[u8]) -> Option<&[u8]> {
    let long = bytes.first()? & 0x80 != 0;
    bytes.get(1 + usize::from(long)..)
}

/// H.264: the type of a NAL unit, of each one in an aggregation packet, or of the one that a fragment is of (RFC 6184
/// section 5.2; 20 and 14 are of RFC 6190).
pub(super) fn h264(payload: &[u8]) -> Option<FrameMark> {
    let (first, rest) = payload.split_first()?;
    match first & 0x1F {
        1..=23 => nal_unit(*first),
        // STAP-A and STAP-B, MTAP16 and MTAP24: bytes before the first unit, and of each between its size and itself.
        24 => aggregate(rest, 0),
        25 => aggregate(rest.get(2..)?, 0),
        26 => aggregate(rest.get(2..)?, 3),
        27 => aggregate(rest.get(2..)?, 4),
        // FU-A and FU-B: the unit's first byte is shared out between the first two.
        28 | 29 => nal_unit(first & 0x60 | rest.first()? & 0x1F),
        _ => None,
    }
}

/// The unit that counts most. Those that go with any picture count only where they are alone.
fn aggregate(mut units: &[u8], offset_bytes: usize) -> Option<FrameMark> {
    let (mut most, mut beside) = (None::<FrameMark>, None);
    while let Some((size, rest)) = units.split_first_chunk::<2>() {
        let rest = rest.get(offset_bytes..)?;
        let (unit, behind) = rest.split_at_checked(usize::from(u16::from_be_bytes(*size)))?;
        units = behind;
        let Some(first) = unit.first() else { continue };
        let Some(mark) = nal_unit(*first) else { continue };
        if goes_with_any_picture(*first) {
            beside = Some(mark);
            continue;
        }
        most = Some(most.map_or(mark, |before| FrameMark {
            key: before.key.max(mark.key),
            spatial: before.spatial.min(mark.spatial),
            temporal: None,
            discardable: before.discardable.min(mark.discardable),
        }));
    }
    most.or(beside)
}

/// Supplemental information, delimiters and ends.
fn goes_with_any_picture(first: u8) -> bool {
    matches!(first & 0x1F, 6 | 9..=11)
}

/// ```text
/// F(1) nal_ref_idc(2) type(5)
/// ```
fn nal_unit(first: u8) -> Option<FrameMark> {
    let slice = FrameMark {
        key: Some(false),
        spatial: Some(0),
        temporal: None,
        discardable: Some(first & 0x60 == 0),
    };
    match first & 0x1F {
        // Slices of other pictures, their partitions and prefixes, and filler.
        1..=4 | 12 | 14 => Some(slice),
        // A slice of an IDR picture, parameter sets, and what goes with any picture: small, and ahead of it.
        5..=11 | 13 | 15 => Some(FrameMark { key: Some(true), discardable: Some(false), ..slice }),
        // Slices of auxiliary pictures, and of higher layers.
        19..=21 => Some(FrameMark { spatial: Some(1), ..slice }),
        _ => None,
    }
}
