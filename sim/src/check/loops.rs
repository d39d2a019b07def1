//! No frame visits a relay twice on its way to a destination, nor comes back to where it entered.
//!
//! The way of a packet to one destination is made of the frames that carry this destination; on one plane and stamp
//! each relay receives at most one of them.

use super::{Verdict, frames};
use crate::scenario::{RelayId, Scenario};
use crate::trace::{Packet, Trace};
use std::collections::BTreeSet;

pub(super) fn check(scenario: &Scenario, trace: &Trace, verdict: &mut Verdict) {
    let mut visited: BTreeSet<(Packet, u8, u8, u16, RelayId, RelayId)> = BTreeSet::new();
    for (at, frame) in frames(trace) {
        let ingress = scenario.client(scenario.stream(frame.packet.stream).client).relay;
        for destination in &frame.destinations {
            let key = (frame.packet, frame.incarnation, frame.plane, frame.epoch, *destination, frame.to);
            if frame.to == ingress || !visited.insert(key) {
                verdict.object(
                    at,
                    format!("{:?} came to {} again on its way to {destination}", frame.packet, frame.to),
                );
            }
        }
        if frame.hop_limit == 0 && !frame.destinations.contains(&frame.to) {
            verdict
                .object(at, format!("{:?} used up its hop limit on the way to {}", frame.packet, frame.to));
        }
    }
}
