//! A relay with several workers is one relay to its controller: each worker's core holds a session of its own, and here
//! their words become one.
//!
//! What concerns everyone (tables, stamps, stream entries) every core acknowledges, and the controller hears it once all
//! have. Publications and subscriptions belong to one core each and pass. A link between relays has a lane in several
//! cores: its rates are added up, its state is the worst, and what is measured is the first worker's.

use crate::api::Snapshot;
use relay_core::{LinkView, PeerView};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use wire_format::control::{LinkReport, LinkState, NamespaceUsage, ToController, TraceReport, limits};
use wire_format::{Epoch, NodeIndex, StreamKey};

/// Traces that some workers have told of and others not.
const TRACES_WAITING: usize = 2 * limits::TRACES;

/// Makes one relay's reports of those of its workers. One for each session.
#[derive(Debug)]
pub(crate) struct Merger {
    workers: usize,
    complete: usize,
    tables: Acks<Epoch>,
    stamps: Acks<Epoch>,
    /// The tables that some worker wanted last.
    wanted: Option<Epoch>,
    entries: BTreeMap<StreamKey, Acks<u64>>,
    /// By neighbour, then by worker.
    lanes: BTreeMap<NodeIndex, BTreeMap<usize, LinkReport>>,
    /// What workers saw of a traced stream, and how many of them have told, oldest trace first.
    traces: VecDeque<(TraceReport, usize)>,
    /// By namespace, then by worker: what it counted so far.
    usage: BTreeMap<String, BTreeMap<usize, NamespaceUsage>>,
}

/// Acknowledgements of something that has versions: which workers have one.
#[derive(Debug)]
struct Acks<V> {
    counts: BTreeMap<V, BTreeSet<usize>>,
}

impl<V> Default for Acks<V> {
    fn default() -> Acks<V> {
        Acks { counts: BTreeMap::new() }
    }
}

impl<V: Ord + Copy> Acks<V> {
    /// One more worker has it. `true` if it was the last.
    fn count(&mut self, version: V, worker: usize, workers: usize) -> bool {
        let have = self.counts.entry(version).or_default();
        // All of the tables may come again, because one worker wanted them.
        have.insert(worker);
        let all = have.len() >= workers;
        if all {
            // Whoever has a version has had, or will never have, those before.
            self.counts.retain(|other, _| *other > version);
        }
        all
    }
}

impl Merger {
    pub(crate) fn new(workers: usize) -> Merger {
        Merger {
            workers,
            complete: 0,
            tables: Acks::default(),
            stamps: Acks::default(),
            wanted: None,
            entries: BTreeMap::new(),
            lanes: BTreeMap::new(),
            traces: VecDeque::new(),
            usage: BTreeMap::new(),
        }
    }

    /// What the controller is told when a worker says this; `None` for nothing yet.
    pub(crate) fn merge(&mut self, worker: usize, message: ToController) -> Option<ToController> {
        if self.workers == 1 {
            return Some(message);
        }
        let told = match &message {
            // All know the same tables and entries; the session has begun with the first worker's.
            ToController::Hello(_) | ToController::Goodbye => worker == 0,
            ToController::ReportsComplete => {
                self.complete += 1;
                self.complete == self.workers
            }
            ToController::TableAck { epoch } => self.tables.count(*epoch, worker, self.workers),
            ToController::TableWanted { epoch } => self.wanted.replace(*epoch) != Some(*epoch),
            ToController::StampAck { epoch } => self.stamps.count(*epoch, worker, self.workers),
            ToController::StreamAck { key, revision } => {
                let acks = self.entries.entry(*key).or_default();
                let all = acks.count(*revision, worker, self.workers);
                if acks.counts.is_empty() {
                    self.entries.remove(key);
                }
                all
            }
            ToController::Links(reports) => return self.links(worker, reports),
            ToController::Usage(usage) => return Some(self.used(worker, usage)),
            ToController::Traced(report) => return self.traced(report),
            ToController::Published(_)
            | ToController::Unpublished { .. }
            | ToController::Subscribed(_)
            | ToController::Unsubscribed { .. } => true,
        };
        told.then_some(message)
    }

    /// Each worker sees its lanes; the controller hears of a trace once all have told.
    fn traced(&mut self, report: &TraceReport) -> Option<ToController> {
        let known = self.traces.iter().position(|(known, _)| known.trace == report.trace);
        let (merged, told) = match known.and_then(|place| self.traces.remove(place)) {
            Some((known, told)) => (known.with_worker(report.clone()), told + 1),
            None => (report.clone(), 1),
        };
        if told == self.workers {
            return Some(ToController::Traced(merged));
        }
        // One that refused may be waited for by the others' full time; what is older than all of them never comes.
        if self.traces.len() >= TRACES_WAITING {
            self.traces.pop_front();
        }
        self.traces.push_back((merged, told));
        None
    }

    /// Every worker counts for itself.
    fn used(&mut self, worker: usize, usage: &[NamespaceUsage]) -> ToController {
        let sum = usage.iter().map(|usage| {
            let workers = self.usage.entry(usage.namespace.clone()).or_default();
            workers.insert(worker, usage.clone());
            let nothing = NamespaceUsage { namespace: usage.namespace.clone(), ..NamespaceUsage::default() };
            workers.values().fold(nothing, add_usage)
        });
        ToController::Usage(sum.collect())
    }

    /// The first worker's reports set the pace; another worker's are told at once only where they change the state.
    fn links(&mut self, worker: usize, reports: &[LinkReport]) -> Option<ToController> {
        let mut told = Vec::new();
        for report in reports {
            let lanes = self.lanes.entry(report.neighbour).or_default();
            let before = merge_lanes(lanes).map(|merged| merged.state);
            lanes.insert(worker, report.clone());
            let merged = merge_lanes(lanes);
            told.extend(merged.filter(|merged| worker == 0 || before != Some(merged.state)));
        }
        // An empty report is a sign of life, which is the first worker's to give.
        (worker == 0 || !told.is_empty()).then_some(ToController::Links(told))
    }
}

fn add_usage(mut sum: NamespaceUsage, more: &NamespaceUsage) -> NamespaceUsage {
    sum.packets_in += more.packets_in;
    sum.bytes_in += more.bytes_in;
    sum.packets_out += more.packets_out;
    sum.bytes_out += more.bytes_out;
    sum.packets_over_rate += more.packets_over_rate;
    sum
}

/// One report of a link's lanes. A lane that is not there counts only if no other is.
fn merge_lanes(lanes: &BTreeMap<usize, LinkReport>) -> Option<LinkReport> {
    let is_there = |report: &&LinkReport| report.state != LinkState::Down || report.samples > 0;
    let mut there = lanes.values().filter(is_there);
    let Some(first) = there.next() else { return lanes.values().next().cloned() };
    let mut merged = first.clone();
    for lane in there {
        merged.state = merged.state.max(lane.state);
        merged.rate_in += lane.rate_in;
        merged.rate_out += lane.rate_out;
        merged.quality = merged.quality.with_lane(&lane.quality);
    }
    Some(merged)
}

/// What the API shows of a relay, from a look into each of its workers.
pub(crate) fn merge_snapshots(snapshots: Vec<Snapshot>) -> Option<Snapshot> {
    let mut snapshots = snapshots.into_iter();
    let mut merged = snapshots.next()?;
    for other in snapshots {
        merged.counters.add(&other.counters);
        merged.port.add(&other.port);
        for link in other.links {
            add_link(&mut merged.links, link);
        }
        for usage in other.namespaces {
            match merged.namespaces.iter_mut().find(|known| known.namespace == usage.namespace) {
                Some(known) => *known = add_usage(std::mem::take(known), &usage),
                None => merged.namespaces.push(usage),
            }
        }
        for stream in other.streams {
            match merged.streams.iter_mut().find(|known| known.key == stream.key) {
                Some(known) => {
                    known.local_subscribers += stream.local_subscribers;
                    known.packets += stream.packets;
                    known.bytes += stream.bytes;
                }
                None => merged.streams.push(stream),
            }
        }
    }
    Some(merged)
}

/// A further lane of a link between relays adds to the traffic of its first; a client has one link only.
fn add_link(links: &mut Vec<LinkView>, lane: LinkView) {
    let first = match &lane.peer {
        PeerView::Relay { node: _ } => links.iter_mut().find(|link| link.peer == lane.peer),
        PeerView::Client { .. } => None,
    };
    match first {
        Some(first) => first.stats.add_lane(&lane.stats),
        None => links.push(lane),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use wire_format::control::{LinkQuality, RepairTotals, TracedIn, TracedPeer, TracedSpread};
    use wire_format::{RoomId, Sequence, StreamId, UserId};

    fn report(state: LinkState, rate: u64, samples: u64) -> LinkReport {
        LinkReport {
            neighbour: NodeIndex(7),
            state,
            rtt: (samples > 0).then_some(Duration::from_millis(10)),
            rtt_min: None,
            jitter_in: Duration::ZERO,
            jitter_out: Duration::ZERO,
            loss_out_ppm: 0,
            loss_in_ppm: 0,
            rate_out: rate,
            rate_in: rate,
            samples,
            quality: LinkQuality::default(),
        }
    }

    #[test]
    fn the_controller_hears_an_acknowledgement_once_all_workers_have_given_it() {
        let mut merger = Merger::new(3);
        let ack = |epoch| ToController::TableAck { epoch: Epoch(epoch) };
        assert_eq!(merger.merge(0, ack(4)), None);
        assert_eq!(merger.merge(1, ack(4)), None);
        // One worker is slow and meets the next epoch first.
        assert_eq!(merger.merge(0, ack(5)), None);
        assert_eq!(merger.merge(2, ack(4)), Some(ack(4)));
        assert_eq!(merger.merge(1, ack(5)), None);
        assert_eq!(merger.merge(2, ack(5)), Some(ack(5)));
        assert_eq!(merger.merge(0, ToController::ReportsComplete), None);
        assert_eq!(merger.merge(2, ToController::ReportsComplete), None);
        assert_eq!(merger.merge(1, ToController::ReportsComplete), Some(ToController::ReportsComplete));
        assert_eq!(merger.merge(1, ToController::Goodbye), None);
        assert_eq!(merger.merge(0, ToController::Goodbye), Some(ToController::Goodbye));
    }

    #[test]
    fn what_a_namespace_used_is_what_it_used_of_all_workers() {
        let mut merger = Merger::new(2);
        let used = |packets_in| {
            let usage =
                NamespaceUsage { namespace: "demo".to_owned(), packets_in, ..NamespaceUsage::default() };
            ToController::Usage(vec![usage])
        };
        assert_eq!(merger.merge(0, used(3)), Some(used(3)));
        assert_eq!(merger.merge(1, used(5)), Some(used(8)));
        assert_eq!(merger.merge(0, used(4)), Some(used(9)));
    }

    #[test]
    fn a_trace_is_told_once_all_workers_have_seen_its_end() {
        let mut merger = Merger::new(2);
        let key = StreamKey { room: RoomId(1), user: UserId(2), stream: StreamId(3) };
        let came = |first, last, packets| TracedIn {
            peer: TracedPeer::Relay(NodeIndex(7)),
            packets,
            bytes: 100 * packets,
            again: 1,
            parity: 0,
            first: Sequence(first),
            last: Sequence(last),
            excess: TracedSpread {
                count: packets,
                mean: Duration::from_millis(packets),
                ..TracedSpread::default()
            },
            wait: TracedSpread::default(),
            slack_min: Duration::from_millis(packets),
            slack_p50: Duration::from_millis(packets),
            hop_limit: 20,
            planes: 1 << (packets % 2),
            marked: 0,
            rtt_min: None,
            queueing: Duration::ZERO,
        };
        let report = |trace, incoming| {
            ToController::Traced(TraceReport {
                trace,
                key,
                refused: false,
                watched: Duration::from_secs(2),
                incoming: vec![incoming],
                outgoing: Vec::new(),
                left_out: 0,
            })
        };
        assert_eq!(merger.merge(0, report(1, came(u32::MAX, 8, 4))), None);
        assert_eq!(merger.merge(1, report(2, came(0, 0, 1))), None, "another trace");
        let merged = merger.merge(1, report(1, came(1, 11, 7))).expect("both have told");
        let ToController::Traced(merged) = merged else { panic!("a trace") };
        let row = &merged.incoming[0];
        assert_eq!((merged.incoming.len(), row.packets, row.bytes, row.again), (1, 11, 1_100, 2));
        assert_eq!(
            (row.first, row.last, row.missing()),
            (Sequence(u32::MAX), Sequence(11), 2),
            "over the wrap"
        );
        assert_eq!((row.excess.count, row.excess.mean), (11, Duration::from_micros(5_909)));
        assert_eq!((row.slack_min, row.planes), (Duration::from_millis(4), 3));
    }

    #[test]
    fn counts_of_lanes_add_up_and_of_measures_the_worse_counts() {
        let lane = |count: u64, ms: u64, deliverable_out| LinkQuality {
            rtt_smoothed: (ms > 0).then(|| Duration::from_millis(ms)),
            queueing_in: Duration::from_millis(ms),
            deliverable_out,
            bursts_in: [count, 0, 0, 0, 0, 0, 1],
            residual_in_ppm: 10 * count as u32,
            repair: RepairTotals { missing: count, recovered: count - 1, ..RepairTotals::default() },
            ..LinkQuality::default()
        };
        let mut merger = Merger::new(2);
        for (worker, quality) in [(1, lane(2, 7, Some(100))), (0, lane(5, 0, Some(50)))] {
            let report = LinkReport { quality, ..report(LinkState::Up, 1, 3) };
            let Some(ToController::Links(merged)) = merger.merge(worker, ToController::Links(vec![report]))
            else {
                continue;
            };
            let merged = &merged[0].quality;
            if worker == 0 {
                assert_eq!(merged.bursts_in, [7, 0, 0, 0, 0, 0, 2]);
                assert_eq!((merged.repair.missing, merged.repair.recovered), (7, 5));
                assert_eq!(merged.residual_in_ppm, 50);
                assert_eq!(merged.rtt_smoothed, Some(Duration::from_millis(7)));
                assert_eq!(merged.queueing_in, Duration::from_millis(7));
                assert_eq!(merged.deliverable_out, Some(150));
            }
        }
        assert_eq!(lane(1, 1, None).with_lane(&lane(1, 1, Some(1))).deliverable_out, None);
    }

    #[test]
    fn a_link_is_as_bad_as_its_worst_lane_and_as_busy_as_all_together() {
        let mut merger = Merger::new(2);
        let links = |reports: &[LinkReport]| Some(ToController::Links(reports.to_vec()));
        assert_eq!(merger.merge(0, ToController::Links(Vec::new())), links(&[]));
        assert_eq!(merger.merge(1, ToController::Links(Vec::new())), None);
        let up = |rate| report(LinkState::Up, rate, 3);
        assert_eq!(merger.merge(0, links(&[up(100)]).expect("some")), links(&[up(100)]));
        assert_eq!(merger.merge(1, links(&[up(50)]).expect("some")), None, "nothing that cannot wait");
        assert_eq!(merger.merge(0, links(&[up(100)]).expect("some")), links(&[up(150)]));
        let down = report(LinkState::Down, 0, 3);
        let merged = merger.merge(1, links(&[down]).expect("some"));
        assert_eq!(merged, links(&[report(LinkState::Down, 100, 3)]), "told at once");
        // The neighbour came back with one worker: the second lane is gone for good.
        let gone = report(LinkState::Down, 0, 0);
        assert_eq!(merger.merge(1, links(std::slice::from_ref(&gone)).expect("some")), links(&[up(100)]));
        let merged = merger.merge(0, links(std::slice::from_ref(&gone)).expect("some"));
        assert_eq!(merged, links(&[gone]));
    }
}
