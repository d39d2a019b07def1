//! A link carries each packet at most once in each direction, whoever wants it behind that link.

use super::{Verdict, frames};
use crate::scenario::{RelayId, Scenario};
use crate::trace::{Packet, Trace};
use std::collections::BTreeSet;

pub(super) fn check(_scenario: &Scenario, trace: &Trace, verdict: &mut Verdict) {
    let mut carried: BTreeSet<(Packet, u8, u8, RelayId, RelayId)> = BTreeSet::new();
    for (at, frame) in frames(trace) {
        if !carried.insert((frame.packet, frame.incarnation, frame.plane, frame.from, frame.to)) {
            let (packet, from, to) = (frame.packet, frame.from, frame.to);
            verdict.object(at, format!("the link from {from} to {to} carries {packet:?} a second time"));
        }
    }
}
