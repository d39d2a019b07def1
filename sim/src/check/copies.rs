//! A link carries each packet at most once in each direction on one plane and stamp, whoever wants it behind that link.
//! Of a stream that asks for protection, those who get two copies share one on each plane, and those to whom no two ways
//! lead share another.
//!
//! On the redundant planes that holds as long as relays are right about who is silent. One that stood still, or is heard
//! in one direction only, passes on what another has sent around it already; of two failures each may move a packet; and
//! a path that becomes longer at once is silent for both of its ends. Then the second copy is another one, which `loops` follows by itself.

use super::outlook::is_lossless;
use super::{Verdict, frames};
use crate::scenario::{FaultKind, RelayId, Scenario};
use crate::trace::{Packet, Trace};
use std::collections::BTreeSet;

/// The plane of the shortest paths.
const PRIMARY: u8 = 0;

/// Plane, epoch, and whether it is one of two copies.
type Stamp = (u8, u16, bool);

pub(super) fn check(scenario: &Scenario, trace: &Trace, verdict: &mut Verdict) {
    let clear = is_lossless(scenario) && fails_clearly(scenario);
    let mut carried: BTreeSet<(Packet, u8, Stamp, RelayId, RelayId)> = BTreeSet::new();
    for (at, frame) in frames(trace).filter(|(_, frame)| clear || frame.plane == PRIMARY) {
        let stamp = (frame.plane, frame.epoch, frame.protected);
        if !carried.insert((frame.packet, frame.incarnation, stamp, frame.from, frame.to)) {
            let (packet, from, to) = (frame.packet, frame.from, frame.to);
            verdict.object(at, format!("the link from {from} to {to} carries {packet:?} a second time"));
        }
    }
}

/// At most one thing fails, and nobody can be mistaken about what: a way that becomes longer at once is silent meanwhile.
fn fails_clearly(scenario: &Scenario) -> bool {
    scenario.paths.values().all(|schedule| schedule.later().is_empty())
        && scenario.faults.len() <= 1
        && scenario.faults.iter().all(|fault| match &fault.kind {
            FaultKind::Cut(directions) => directions.len() == 2,
            FaultKind::Crash(_)
            | FaultKind::Leave(_)
            | FaultKind::Isolate(_)
            | FaultKind::Mute(_)
            | FaultKind::Hostile(_)
            | FaultKind::Drain(_)
            | FaultKind::ControllerCrash => true,
            FaultKind::Freeze(_) => false,
        })
}
