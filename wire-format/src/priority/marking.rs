//! Frame marking (RFC 9626).

use super::FrameMark;

/// `None` if the extension is empty.
///
/// ```text
/// S E I D B TID(3)   [layer id (8)   [TL0PICIDX (8)]]
/// ```
///
/// How a layer id is made differs between codecs, but 0 is the base in all of them.
pub(super) fn frame_marking(extension: &[u8]) -> Option<FrameMark> {
    let first = extension.first()?;
    let layer = extension.get(1).copied().unwrap_or(0);
    Some(FrameMark {
        key: Some(first & 0x20 != 0),
        spatial: Some(u8::from(layer != 0)),
        temporal: Some(first & 0x07),
        discardable: Some(first & 0x10 != 0),
    })
}
