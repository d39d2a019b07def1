//! No core breaks its contract, everything said survives its encoding, and nothing is dropped that never may be.

use super::Verdict;
use crate::scenario::Scenario;
use crate::trace::{Event, Trace};

/// Drops that only a bug explains where nobody is hostile and queues are far from full.
const NEVER: [&str; 6] = [
    "drop_hop_limit",
    "drop_malformed",
    "drop_forbidden",
    "drop_oversize",
    "drop_queue_full",
    "drop_output_full",
];

pub(super) fn check(scenario: &Scenario, trace: &Trace, verdict: &mut Verdict) {
    for (at, event) in trace.events() {
        match event {
            Event::Violation { who, what } => verdict.object(*at, format!("{who}: {what}")),
            Event::Counter { host, name, value } if NEVER.contains(name) => {
                verdict.object(*at, format!("{} counts {name} = {value}", scenario.host_name(*host)));
            }
            Event::Counter { .. }
            | Event::FaultBegins(_)
            | Event::FaultEnds(_)
            | Event::LinkUp { .. }
            | Event::LinkDown { .. }
            | Event::SessionUp(_)
            | Event::SessionDown(_)
            | Event::Table { .. }
            | Event::Stamp { .. }
            | Event::Published(_)
            | Event::Announced { .. }
            | Event::Ended { .. }
            | Event::Refused { .. }
            | Event::KeyframeRequested(_)
            | Event::Sent { .. }
            | Event::Frame(_)
            | Event::Delivered(_) => {}
        }
    }
}
