//! Nothing is delivered twice to one subscriber.

use super::{Verdict, deliveries};
use crate::scenario::{ClientId, Scenario};
use crate::trace::{Packet, Trace};
use std::collections::BTreeSet;

pub(super) fn check(scenario: &Scenario, trace: &Trace, verdict: &mut Verdict) {
    let mut seen: BTreeSet<(ClientId, Packet)> = BTreeSet::new();
    for (at, delivered) in deliveries(trace) {
        // A packet that does not say what it is, is not intact: another judge's business.
        let Some(packet) = delivered.packet else { continue };
        if !seen.insert((delivered.client, packet)) {
            let name = &scenario.client(delivered.client).name;
            verdict.object(at, format!("{name} got {packet:?} twice"));
        }
    }
}
