//! Who is entitled to what, by the scenario: an own reading of patterns and names, independent of the relay's.

use crate::scenario::{ClientId, Scenario, StreamNumber, SubscriptionSpec};
use std::collections::BTreeMap;
use std::time::Duration;

/// When a client wants a stream that is published: spans of time, apart from each other and ascending.
pub(crate) type Spans = Vec<(Duration, Duration)>;

/// Whether a subscription of the scenario is for that stream, and allowed.
pub(super) fn matches(scenario: &Scenario, wanted: &SubscriptionSpec, stream: StreamNumber) -> bool {
    let spec = scenario.stream(stream);
    let (subscriber, publisher) =
        (&scenario.client(wanted.client).rights, &scenario.client(spec.client).rights);
    subscriber.namespace == publisher.namespace
        && wanted.room == spec.room
        && wanted.user.as_ref().is_none_or(|user| *user == spec.user)
        && wanted.stream.as_ref().is_none_or(|name| *name == spec.name)
        && subscriber.subscribe
        && publisher.publish
        && glob(subscriber.room_pattern.as_bytes(), spec.room.as_bytes())
        && glob(publisher.room_pattern.as_bytes(), spec.room.as_bytes())
}

/// All clients and streams that belong together, and when.
pub(crate) fn pairs(scenario: &Scenario) -> BTreeMap<(ClientId, StreamNumber), Spans> {
    let mut pairs: BTreeMap<(ClientId, StreamNumber), Spans> = BTreeMap::new();
    for wanted in &scenario.subscriptions {
        for stream in scenario.stream_numbers().filter(|stream| matches(scenario, wanted, *stream)) {
            let spec = scenario.stream(stream);
            let span = (wanted.from.max(spec.from), wanted.until.min(spec.until));
            if span.0 < span.1 {
                pairs.entry((wanted.client, stream)).or_default().push(span);
            }
        }
    }
    for spans in pairs.values_mut() {
        spans.sort_unstable();
        let mut joined: Spans = Vec::new();
        for (from, until) in std::mem::take(spans) {
            match joined.last_mut().filter(|last| last.1 >= from) {
                Some(last) => last.1 = last.1.max(until),
                None => joined.push((from, until)),
            }
        }
        *spans = joined;
    }
    pairs
}

/// `*` matches any run of characters.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|skipped| glob(rest, &text[skipped..])),
        Some((first, rest)) => {
            text.split_first().is_some_and(|(head, tail)| head == first && glob(rest, tail))
        }
    }
}
