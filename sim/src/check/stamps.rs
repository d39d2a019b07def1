//! Who stamps a stream for whom, as relays were told, and that nobody else does.
//!
//! The ingress and each holder stamp the relays that their rows name. A frame for a relay is of one of these stamps; which one,
//! it does not say. What is stamped leaves a little later, and what was lost is sent again: so a row counts for a while after
//! it was replaced.

use super::{Verdict, frames};
use crate::scenario::{FaultKind, RelayId, Scenario, StreamNumber};
use crate::trace::{Event, Trace};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// More than a frame waits for its turn, or to be sent again.
const LEAVES_WITHIN: Duration = Duration::from_millis(1_500);

/// Each time for which a relay's row named another.
#[derive(Default)]
pub(super) struct Stamps {
    told: BTreeMap<(StreamNumber, RelayId), Vec<Told>>,
}

struct Told {
    stamper: RelayId,
    from: Duration,
    until: Duration,
}

impl Stamps {
    pub(super) fn new(scenario: &Scenario, trace: &Trace) -> Stamps {
        let mut stamps = Stamps::default();
        // By stream and relay: whom it stamps, and since when.
        let mut now: BTreeMap<(StreamNumber, RelayId), BTreeMap<RelayId, Duration>> = BTreeMap::new();
        for (at, event) in trace.events() {
            if let Event::Row { relay, stream, destinations } = event {
                let before = now.remove(&(*stream, *relay)).unwrap_or_default();
                let named: BTreeMap<_, _> =
                    destinations.iter().map(|to| (*to, before.get(to).copied().unwrap_or(*at))).collect();
                for (to, from) in before.into_iter().filter(|(to, _)| !named.contains_key(to)) {
                    stamps.note((*stream, to), *relay, from, *at);
                }
                now.insert((*stream, *relay), named);
            }
            if let Event::FaultBegins(place) = event
                && let FaultKind::Crash(relay) | FaultKind::Leave(relay) = &scenario.faults[*place].kind
            {
                let own: Vec<_> = now.keys().filter(|(_, other)| other == relay).copied().collect();
                for (stream, relay) in own {
                    for (to, from) in now.remove(&(stream, relay)).unwrap_or_default() {
                        stamps.note((stream, to), relay, from, *at);
                    }
                }
            }
        }
        for ((stream, relay), named) in now {
            for (to, from) in named {
                stamps.note((stream, to), relay, from, scenario.run_for);
            }
        }
        stamps
    }

    fn note(&mut self, fed: (StreamNumber, RelayId), stamper: RelayId, from: Duration, until: Duration) {
        self.told.entry(fed).or_default().push(Told { stamper, from, until });
    }

    /// Relays by whose stamp a frame for `to` may leave someone now.
    pub(super) fn stampers(&self, stream: StreamNumber, to: RelayId, at: Duration) -> BTreeSet<RelayId> {
        let told = self.told.get(&(stream, to)).into_iter().flatten();
        let told = told.filter(|told| told.from <= at && at <= told.until + LEAVES_WITHIN);
        told.map(|told| told.stamper).collect()
    }

    /// Whether a relay stamps another.
    pub(super) fn stamps(&self, stream: StreamNumber, by: RelayId, to: RelayId, at: Duration) -> bool {
        self.stampers(stream, to, at).contains(&by)
    }

    /// How a relay was fed all the time between `from` and `until`, or since it first was, by `settled` at the latest:
    /// stampers from the ingress on, that relay last. `None` if that changed, or is not known.
    pub(super) fn chain(
        &self,
        stream: StreamNumber,
        ingress: RelayId,
        to: RelayId,
        (from, settled, until): (Duration, Duration, Duration),
    ) -> Option<Vec<RelayId>> {
        let mut chain = vec![to];
        while *chain.last()? != ingress {
            let told = self.told.get(&(stream, *chain.last()?))?;
            let mut meeting = told.iter().filter(|told| told.from <= until && from <= told.until);
            let only = meeting.next().filter(|told| told.from <= settled && until <= told.until)?;
            if meeting.next().is_some() || chain.contains(&only.stamper) {
                return None;
            }
            chain.push(only.stamper);
        }
        chain.reverse();
        Some(chain)
    }
}

pub(super) fn check(scenario: &Scenario, trace: &Trace, verdict: &mut Verdict) {
    let stamps = Stamps::new(scenario, trace);
    for (at, frame) in frames(trace) {
        let stampers = frame.destinations.iter().map(|to| stamps.stampers(frame.packet.stream, *to, at));
        let common = stampers.reduce(|one, other| one.intersection(&other).copied().collect());
        if common.is_none_or(|common| common.is_empty()) {
            let (packet, from, to) = (frame.packet, frame.from, &frame.destinations);
            verdict
                .object(at, format!("{packet:?} leaves {from} for {to:?}, which nobody was told to stamp"));
        }
    }
}
