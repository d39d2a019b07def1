//! Every subscriber receives: within the stated time after the last disturbance everything again, whatever happens to
//! the controller meanwhile; and, where the scenario says so, soon after joining and never silent for long.
//!
//! A disturbance is what touches the way of media. Once the controller has had the stated time since to find new routes,
//! its own absence must not cost a packet. Where links lose packets by themselves, or a stream has so short a delay budget
//! that a packet may come too late, it must not fall silent; elsewhere every packet sent in such a time must arrive.

use super::outlook::{Outlook, controlled_spans, disturbances, is_lossless};
use super::pairs::{Spans, pairs};
use super::{Verdict, deliveries};
use crate::scenario::{ClientId, Host, Scenario, StreamNumber};
use crate::trace::{Event, Packet, Trace};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// More than any packet takes.
const ON_ITS_WAY: Duration = Duration::from_millis(1_500);
/// Silence of a stream that lossy links cannot explain: at least 20 bursts of it lost in a row.
const SILENCE_MIN: Duration = Duration::from_millis(1_000);

pub(super) fn check(scenario: &Scenario, trace: &Trace, verdict: &mut Verdict) {
    let record = Record::new(trace);
    let lossless = is_lossless(scenario);
    let linked = linked_by(scenario, trace) + scenario.expect.join_within;
    for ((client, stream), spans) in pairs(scenario) {
        let pair = Pair { scenario, record: &record, client, stream };
        // What comes later than its budget goes no further.
        let lossless = lossless && scenario.stream(stream).budget.is_none();
        for (from, until) in calm_windows(scenario, client, stream, &spans) {
            let from = if lossless { from } else { from.max(linked) };
            if from >= until {
                continue;
            }
            pair.check_window(from, until, lossless, verdict);
        }
        pair.check_gaps(&spans, verdict);
    }
    let delivered = deliveries(trace).count() as u64;
    if delivered < scenario.expect.delivered_min {
        let least = scenario.expect.delivered_min;
        verdict
            .object(scenario.run_for, format!("only {delivered} packets delivered in all, {least} expected"));
    }
}

/// When the last of all links stood for the first time. A link that loses datagrams may lose a whole handshake, and the
/// next ones too: how long it takes then is nobody's fault.
fn linked_by(scenario: &Scenario, trace: &Trace) -> Duration {
    // An SFU links to one relay first.
    let begins = |(from, to): &(Host, Host)| match (*from, *to) {
        (Host::Client(client), Host::Relay(relay)) | (Host::Relay(relay), Host::Client(client)) => {
            scenario.client(client).relay == relay
        }
        (Host::Relay(_), Host::Relay(_)) | (Host::Client(_), Host::Client(_)) => true,
    };
    let mut missing: BTreeSet<_> = scenario.paths.keys().copied().filter(begins).collect();
    let mut last = Duration::ZERO;
    for (time, event) in trace.events() {
        if let Event::LinkUp { at, with } = event
            && missing.remove(&(*at, *with))
        {
            last = *time;
        }
    }
    if missing.is_empty() { last } else { scenario.run_for }
}

/// When packets were sent and when they arrived.
struct Record {
    sent: BTreeMap<StreamNumber, Vec<(Duration, Packet)>>,
    delivered: BTreeMap<(ClientId, Packet), Duration>,
}

impl Record {
    fn new(trace: &Trace) -> Record {
        let mut record = Record { sent: BTreeMap::new(), delivered: BTreeMap::new() };
        for (at, event) in trace.events() {
            if let Event::Sent { packet, .. } = event {
                record.sent.entry(packet.stream).or_default().push((*at, *packet));
            }
        }
        for (at, delivered) in deliveries(trace) {
            if let Some(packet) = delivered.packet {
                record.delivered.entry((delivered.client, packet)).or_insert(at);
            }
        }
        record
    }
}

/// Windows in which every packet sent must arrive.
fn calm_windows(
    scenario: &Scenario,
    client: ClientId,
    stream: StreamNumber,
    spans: &Spans,
) -> Vec<(Duration, Duration)> {
    let calms = Calm::all(scenario, scenario.stream(stream).client, client);
    let mut windows = Vec::new();
    for (from, until) in spans {
        let Some(joined) = controlled_for(scenario, *from, scenario.expect.join_within) else { continue };
        for calm in &calms {
            let Some(settled) = calm.settled.map(|settled| settled.max(joined)) else { continue };
            let end = calm.end.min(*until);
            let last = if end == scenario.media_end() { end } else { end.saturating_sub(ON_ITS_WAY) };
            if settled < last {
                windows.push((settled, last));
            }
        }
    }
    windows
}

/// A time in which the way of media is not disturbed.
struct Calm {
    end: Duration,
    /// From when on the way from one client to the other is good, if there is one.
    settled: Option<Duration>,
}

impl Calm {
    fn all(scenario: &Scenario, publisher: ClientId, subscriber: ClientId) -> Vec<Calm> {
        let (ingress, egress) = (scenario.client(publisher).relay, scenario.client(subscriber).relay);
        let mut cuts: Vec<_> = disturbances(scenario).into_iter().filter(|cut| !cut.is_zero()).collect();
        cuts.insert(0, Duration::ZERO);
        cuts.push(scenario.media_end());
        let mut calms: Vec<Calm> = Vec::new();
        for calm in cuts.windows(2).filter(|calm| calm[0] < calm[1]) {
            let (begin, end) = (calm[0], calm[1]);
            let outlook = Outlook::new(scenario, begin);
            let reachable = outlook.link_works(Host::Client(publisher), Host::Relay(ingress))
                && outlook.link_works(Host::Client(subscriber), Host::Relay(egress))
                && outlook.connected(ingress, egress);
            let settled = match calms.last() {
                _ if !reachable => None,
                None => controlled_for(scenario, begin, scenario.expect.join_within),
                // What had not settled before is not held up once more: it may settle on the way that still exists.
                Some(Calm { end: _, settled: Some(before) }) => {
                    controlled_for(scenario, begin, scenario.expect.reroute_within)
                        .map(|rerouted| rerouted.max(*before))
                }
                Some(Calm { end: _, settled: None }) => {
                    controlled_for(scenario, begin, scenario.expect.recover_within)
                }
            };
            calms.push(Calm { end, settled });
        }
        calms
    }
}

/// The first time at which the controller has been there for so long after a time.
fn controlled_for(scenario: &Scenario, since: Duration, needed: Duration) -> Option<Duration> {
    let spans = controlled_spans(scenario);
    let settled = spans.into_iter().map(|(begin, end)| (since.max(begin) + needed, end));
    settled.into_iter().find(|(settled, end)| settled <= end).map(|(settled, _)| settled)
}

struct Pair<'a> {
    scenario: &'a Scenario,
    record: &'a Record,
    client: ClientId,
    stream: StreamNumber,
}

impl Pair<'_> {
    fn names(&self) -> String {
        let stream = self.scenario.stream(self.stream);
        format!(
            "{} and {}/{}/{}",
            self.scenario.client(self.client).name,
            stream.room,
            stream.user,
            stream.name
        )
    }

    fn sent(&self, from: Duration, until: Duration) -> impl Iterator<Item = (Duration, Packet)> + '_ {
        let all = self.record.sent.get(&self.stream).into_iter().flatten().copied();
        all.filter(move |(at, _)| (from..until).contains(at))
    }

    fn delivered(&self, packet: Packet) -> Option<Duration> {
        self.record.delivered.get(&(self.client, packet)).copied()
    }

    fn check_window(&self, from: Duration, until: Duration, lossless: bool, verdict: &mut Verdict) {
        let names = self.names();
        let interval = crate::media::interval(self.scenario, self.stream);
        let silence_max = SILENCE_MIN.max(20 * interval);
        let (mut count, mut last) = (0, from);
        for (at, packet) in self.sent(from, until) {
            count += 1;
            match self.delivered(packet) {
                Some(_) => last = at,
                None if lossless => {
                    let what = format!(
                        "{names}: {packet:?} was lost, sent between {from:?} and {until:?} when all was calm"
                    );
                    verdict.object(at, what);
                }
                None if at - last > silence_max => {
                    verdict.object(at, format!("{names}: nothing arrives of what was sent since {last:?}"));
                    last = at;
                }
                None => {}
            }
        }
        if count == 0 && until - from > 2 * interval {
            verdict.object(from, format!("{names}: nothing is sent between {from:?} and {until:?}"));
        }
    }

    fn check_gaps(&self, spans: &Spans, verdict: &mut Verdict) {
        let Some(limit) = self.scenario.expect.gap_max else { return };
        for (from, until) in spans {
            let arrivals = self.sent(*from, *until).filter_map(|(_, packet)| self.delivered(packet));
            let mut arrivals: Vec<_> = arrivals.collect();
            arrivals.sort_unstable();
            let Some(last) = arrivals.last().copied() else { continue };
            arrivals.push(last.max(*until));
            for pair in arrivals.windows(2).filter(|pair| pair[1] - pair[0] > limit) {
                let (names, gap) = (self.names(), pair[1] - pair[0]);
                verdict.object(pair[0], format!("{names}: silent for {gap:?}, {limit:?} allowed"));
            }
        }
    }
}
