//! No core breaks its contract, everything said survives its encoding, and nothing is dropped that never may be.

use super::Verdict;
use crate::scenario::{FaultKind, Scenario};
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
    // What a hostile relay sends may make no sense; everything else has to.
    let hostile = scenario.faults.iter().any(|fault| matches!(fault.kind, FaultKind::Hostile(_)));
    let never = |name: &str| NEVER.contains(&name) && !(hostile && name == "drop_malformed");
    for (at, event) in trace.events() {
        if let Event::Violation { who, what } = event {
            verdict.object(*at, format!("{who}: {what}"));
        }
        if let Event::Counter { host, name, value } = event
            && never(name)
        {
            verdict.object(*at, format!("{} counts {name} = {value}", scenario.host_name(*host)));
        }
    }
}
