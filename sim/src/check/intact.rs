//! What comes out is what went in: the same bytes, the same kind, under the name of its stream, numbered as sent.

use super::{Verdict, deliveries};
use crate::scenario::Scenario;
use crate::trace::{Event, Packet, Trace};
use std::collections::BTreeMap;

pub(super) fn check(scenario: &Scenario, trace: &Trace, verdict: &mut Verdict) {
    let mut sent: BTreeMap<Packet, (bool, u64)> = BTreeMap::new();
    for (_, event) in trace.events() {
        if let Event::Sent { packet, rtcp, digest } = event {
            sent.insert(*packet, (*rtcp, *digest));
        }
    }
    for (at, delivered) in deliveries(trace) {
        let name = &scenario.client(delivered.client).name;
        let original = delivered.packet.and_then(|packet| Some((packet, *sent.get(&packet)?)));
        let Some((packet, (rtcp, digest))) = original else {
            verdict.object(at, format!("{name} got a packet that nobody sent: {delivered:?}"));
            continue;
        };
        if digest != delivered.digest {
            verdict.object(at, format!("{name} got {packet:?} with other bytes than were sent"));
        }
        if rtcp != delivered.rtcp {
            verdict.object(at, format!("{name} got {packet:?} as the wrong one of RTP and RTCP"));
        }
        if delivered.announced != Some(packet.stream) {
            verdict.object(at, format!("{name} got {packet:?} as a packet of {:?}", delivered.announced));
        }
        if packet.number as u32 != delivered.sequence {
            verdict.object(at, format!("{name} got {packet:?} as number {}", delivered.sequence));
        }
    }
}
