//! Only subscribers receive: of their tenant, a room that their token grants, and what they asked for, while they do.

use super::pairs::matches;
use super::{Verdict, deliveries};
use crate::scenario::Scenario;
use crate::trace::Trace;
use std::time::Duration;

/// After the end of a subscription, what is under way and the word of it still take this long.
const GRACE: Duration = Duration::from_secs(1);

pub(super) fn check(scenario: &Scenario, trace: &Trace, verdict: &mut Verdict) {
    for (at, delivered) in deliveries(trace) {
        let Some(packet) = delivered.packet.filter(|packet| packet.stream.0 < scenario.streams.len() as u16)
        else {
            continue;
        };
        let entitled = scenario.subscriptions.iter().any(|wanted| {
            wanted.client == delivered.client
                && wanted.from <= at
                && at <= wanted.until + GRACE
                && matches(scenario, wanted, packet.stream)
        });
        if !entitled {
            let name = &scenario.client(delivered.client).name;
            verdict.object(at, format!("{name} got {packet:?}, which it has no subscription for"));
        }
    }
}
