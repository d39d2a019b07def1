//! A link carries each packet at most once in each direction on one plane and stamp, whoever wants it behind that link. The
//! ingress stamps it, and each relay from which others are fed; of which stamp a copy is, it does not say, so there are at
//! most as many copies as there are relays of which each could be the other's.
//! Of a stream that asks for protection, those who get two copies share one on each plane, and those to whom no two ways
//! lead share another.
//!
//! On the redundant planes that holds as long as relays are right about who is silent. One that stood still, or is heard
//! in one direction only, passes on what another has sent around it already; of two failures each may move a packet; and
//! a path that becomes longer at once is silent for both of its ends. Then the second copy is another one, which `loops` follows by itself.

use super::outlook::is_lossless;
use super::stamps::Stamps;
use super::{Verdict, frames};
use crate::scenario::{FaultKind, RelayId, Scenario};
use crate::trace::{Packet, Trace};
use std::collections::{BTreeMap, BTreeSet};

/// The plane of the shortest paths.
const PRIMARY: u8 = 0;

/// Policy, plane, epoch, and whether it is one of two copies.
type Stamp = (u8, u8, u16, bool);

/// A packet of an incarnation with its stamp, on a link in one direction.
type Copy = (Packet, u8, Stamp, RelayId, RelayId);

pub(super) fn check(scenario: &Scenario, trace: &Trace, verdict: &mut Verdict) {
    let clear = is_lossless(scenario) && fails_clearly(scenario);
    let stamps = Stamps::new(scenario, trace);
    // By whose stamps each copy may be.
    let mut carried: BTreeMap<Copy, Vec<BTreeSet<RelayId>>> = BTreeMap::new();
    for (at, frame) in frames(trace).filter(|(_, frame)| clear || frame.plane == PRIMARY) {
        let stamp = (frame.policy, frame.plane, frame.epoch, frame.protected);
        let stampers = frame.destinations.iter().map(|to| stamps.stampers(frame.packet.stream, *to, at));
        let common = stampers.reduce(|one, other| one.intersection(&other).copied().collect());
        let copies =
            carried.entry((frame.packet, frame.incarnation, stamp, frame.from, frame.to)).or_default();
        copies.push(common.unwrap_or_default());
        if copies.len() > 1 && !are_apart(copies, &mut BTreeSet::new()) {
            let (packet, from, to) = (frame.packet, frame.from, frame.to);
            verdict.object(at, format!("the link from {from} to {to} carries {packet:?} a second time"));
        }
    }
}

/// Whether each copy can be of a stamp of its own.
fn are_apart(copies: &[BTreeSet<RelayId>], taken: &mut BTreeSet<RelayId>) -> bool {
    let Some((first, rest)) = copies.split_first() else { return true };
    first.iter().any(|stamper| {
        let free = taken.insert(*stamper);
        let apart = free && are_apart(rest, taken);
        if free {
            taken.remove(stamper);
        }
        apart
    })
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
