//! The dependency descriptor (AV1 RTP specification, appendix A), which serves any codec.
//!
//! ```text
//! start(1) end(1) template id (6) frame number (16)                                      mandatory
//! structure?(1) active targets?(1) dtis?(1) fdiffs?(1) chains?(1)  [structure] [targets] [dtis] ...      if longer
//! structure = id offset (6) decode targets - 1 (5)  next layer (2) for each template  dti (2) for each template and target ...
//! ```
//!
//! A frame names a template, and the template its layers. Templates come with each keyframe, and are kept.

use super::{FrameMark, Layers};
use arrayvec::ArrayVec;

/// Templates have identifiers of 6 bits.
const TEMPLATES_MAX: usize = 64;
/// Highest layers that the AV1 bitstream knows.
const SPATIAL_MAX: u8 = 3;
const TEMPORAL_MAX: u8 = 7;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Template {
    spatial: u8,
    temporal: u8,
}

/// What the templates of a stream say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Structure {
    id_offset: u8,
    decode_targets: u8,
    templates: ArrayVec<Template, TEMPLATES_MAX>,
    /// Bit i: no frame refers to one of template i.
    discardable: u64,
}

impl Structure {
    pub(super) fn layers(&self) -> Layers {
        self.templates.iter().fold(Layers::default(), |most, template| Layers {
            spatial: most.spatial.max(template.spatial),
            temporal: most.temporal.max(template.temporal),
        })
    }
}

/// What a descriptor says about its frame, by the structure that it brings or else by the last one. `None` if it cannot
/// be read, or no structure has its template.
pub(super) fn read(bytes: &[u8], last: Option<&Structure>) -> Option<(FrameMark, Option<Structure>)> {
    let (mandatory, extended) = bytes.split_first_chunk::<3>()?;
    let template_id = mandatory[0] & 0x3F;
    let mut bits = Bits { bytes: extended, at: 0 };
    let (mut brought, mut own_dtis) = (None, None);
    if !extended.is_empty() {
        let flags = bits.take(5)?;
        if flags & 0x10 != 0 {
            // What a keyframe says of itself stands far behind; it is a keyframe anyway.
            brought = Some(structure(&mut bits)?);
        } else if flags & 0x04 != 0 {
            let targets = last?.decode_targets;
            if flags & 0x08 != 0 {
                bits.skip(targets);
            }
            own_dtis = Some(is_discardable(&mut bits, targets)?);
        }
    }
    let structure = brought.as_ref().or(last)?;
    let index = (template_id + 64 - structure.id_offset) % 64;
    let template = structure.templates.get(usize::from(index))?;
    let mark = FrameMark {
        // Later packets of the keyframe do not repeat the structure, and inherit this.
        key: brought.is_some().then_some(true),
        spatial: Some(template.spatial),
        temporal: Some(template.temporal),
        discardable: Some(own_dtis.unwrap_or(structure.discardable >> index & 1 == 1)),
    };
    Some((mark, brought))
}

fn structure(bits: &mut Bits<'_>) -> Option<Structure> {
    let id_offset = bits.take(6)?;
    let decode_targets = bits.take(5)? + 1;
    let mut templates = ArrayVec::new();
    let mut template = Template { spatial: 0, temporal: 0 };
    loop {
        templates.try_push(template).ok()?;
        match bits.take(2)? {
            0 => {}
            1 => template.temporal += 1,
            2 => template = Template { spatial: template.spatial + 1, temporal: 0 },
            _ => break,
        }
        if template.spatial > SPATIAL_MAX || template.temporal > TEMPORAL_MAX {
            return None;
        }
    }
    let mut discardable = 0;
    for index in 0..templates.len() {
        discardable |= u64::from(is_discardable(bits, decode_targets)?) << index;
    }
    Some(Structure { id_offset, decode_targets, templates, discardable })
}

/// Decode target indications: 0 not there, 1 discardable, 2 switch, 3 required.
fn is_discardable(bits: &mut Bits<'_>, targets: u8) -> Option<bool> {
    let mut most = 0;
    for _ in 0..targets {
        most = bits.take(2)?.max(most);
    }
    Some(most == 1)
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    /// The next bits, at most 8.
    fn take(&mut self, count: u8) -> Option<u8> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
            value = value << 1 | byte >> (7 - self.at % 8) & 1;
            self.at += 1;
        }
        Some(value)
    }

    fn skip(&mut self, count: u8) {
        self.at += usize::from(count);
    }
}
