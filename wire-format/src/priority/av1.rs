//! AV1: the aggregation header, and the headers of the OBUs that begin in a packet (AV1 RTP specification section 4.4;
//! AV1 bitstream specification section 5.3).

use super::FrameMark;

const SEQUENCE_HEADER: u8 = 1;

/// `None` for what is no payload of AV1.
///
/// ```text
/// aggregation header = Z Y W(2) N R(3)      element = [size, leb128; the last of W elements has none] OBU
/// OBU header         = F type(4) X S R      [X] temporal id (3) spatial id (2) R(3)
/// ```
///
/// A packet that continues an OBU (Z) says nothing, and is what the packet before it is. Of several layers in a packet the
/// lowest, which comes first, counts.
pub(super) fn av1(payload: &[u8]) -> Option<FrameMark> {
    let (first, mut rest) = payload.split_first()?;
    if first & 0x80 != 0 {
        return Some(FrameMark::default());
    }
    let count = usize::from(first >> 4 & 0x03);
    // N: the first packet of a coded video sequence, which a keyframe begins.
    let mut mark = FrameMark { key: (first & 0x08 != 0).then_some(true), ..FrameMark::default() };
    let mut at = 0;
    while !rest.is_empty() {
        at += 1;
        let size = if count != 0 && at >= count { rest.len() } else { leb128(&mut rest)? };
        let (element, behind) = rest.split_at_checked(size)?;
        rest = behind;
        let Some(header) = element.first() else { continue };
        if header >> 3 & 0x0F == SEQUENCE_HEADER {
            mark.key = Some(true);
        }
        if header & 0x04 != 0 {
            let layer = element.get(1)?;
            mark.temporal = Some(layer >> 5);
            mark.spatial = Some(layer >> 3 & 0x03);
            return Some(mark);
        }
    }
    // Where an OBU begins without any of this, it is of a frame in a stream without layers.
    Some(mark)
}

/// A size, at most as long as a packet may be.
fn leb128(bytes: &mut &[u8]) -> Option<usize> {
    let mut value = 0;
    for shift in [0, 7, 14] {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= usize::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
