//! `GET /v1/trace`: relays watch a stream for a moment, and their answers are joined, hop by hop.

use crate::clock;
use crate::engine::Request;
use crate::operations::Operations;
use crate::refusal::{Refusal, RefusalKind};
use crate::rows::{micros, seconds};
use crate::trace_rows::{
    CameRow, EndKind, LeftRow, TraceAnswer, TraceHopRow, TraceQuery, TraceRelayRow, TraceRow, TraceWayRow,
};
use route_core::{Controller, SessionId, TraceView, TracedRelayView};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use wire_format::NodeIndex;
use wire_format::control::{
    StreamName, TraceReport, TracedIn, TracedOut, TracedPeer,
    limits::{TRACE_DURATION, TRACES},
};

/// How long relays watch unless something else is asked for, and the least.
const DURATION_DEFAULT: Duration = Duration::from_secs(2);
const DURATION_MIN: Duration = Duration::from_millis(100);
/// An answer comes so long after its time is over, or not at all.
const PATIENCE: Duration = Duration::from_secs(2);
/// Names in a hint.
const NAMES_IN_HINT: usize = 5;

impl Operations {
    /// Has relays watch the streams of a participant for a moment, and joins what they saw.
    ///
    /// # Errors
    /// If there is no such stream, too many are traced, or the controller stops.
    pub async fn trace(&self, query: TraceQuery) -> Result<TraceAnswer, Refusal> {
        let duration = query.duration_ms.map_or(DURATION_DEFAULT, Duration::from_millis);
        if !(DURATION_MIN..=TRACE_DURATION).contains(&duration) {
            return Err(Refusal::invalid(
                format!("duration_ms is {}", duration.as_millis()),
                format!("give it {} to {}", DURATION_MIN.as_millis(), TRACE_DURATION.as_millis()),
            ));
        }
        let views = self.engine.ask(move |core, _| traced(core, &query)).await??;
        let mut traces = Vec::new();
        for view in views {
            let asked = view.relays.iter().filter(|relay| relay.traces).filter_map(|relay| relay.session);
            let (sessions, key) = (asked.collect(), view.key);
            let answers =
                self.engine.call(|answer| Request::Trace { sessions, key, duration, answer }).await?;
            traces.push((view, answers));
        }
        let over = clock::after(duration + PATIENCE);
        let mut streams = Vec::new();
        for (view, mut answers) in traces {
            let mut reports = BTreeMap::new();
            let wanted = view.relays.iter().filter(|relay| relay.traces && relay.session.is_some()).count();
            while reports.len() < wanted
                && let Ok(Some((session, report))) = tokio::time::timeout_at(over, answers.recv()).await
            {
                reports.insert(session, report);
            }
            let unknown = NodeNames(
                self.engine
                    .ask(|core, now| core.nodes(now))
                    .await?
                    .into_iter()
                    .map(|node| (node.node, node.name))
                    .collect(),
            );
            streams.push(joined(&view, &reports, &unknown));
        }
        Ok(TraceAnswer { streams })
    }
}

/// Names of all relays, by index.
struct NodeNames(BTreeMap<NodeIndex, String>);

impl NodeNames {
    fn of(&self, node: NodeIndex) -> String {
        self.0.get(&node).cloned().unwrap_or_else(|| format!("node {}", node.0))
    }
}

/// The streams that a query names.
fn traced(core: &Controller, query: &TraceQuery) -> Result<Vec<TraceView>, Refusal> {
    let names: Vec<StreamName> = core.streams().into_iter().map(|stream| stream.name).collect();
    let wanted = |name: &&StreamName| {
        (&name.namespace, &name.room, &name.user) == (&query.namespace, &query.room, &query.user)
            && query.stream.as_ref().is_none_or(|stream| *stream == name.stream)
    };
    let found: Vec<&StreamName> = names.iter().filter(wanted).collect();
    if found.is_empty() {
        let parts = [Some(&query.namespace), Some(&query.room), Some(&query.user), query.stream.as_ref()];
        let text = parts.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join("/");
        return Err(Refusal::new(
            RefusalKind::NotFound,
            format!("nobody publishes {text:?}"),
            near(&text, query.stream.is_some(), &names),
        ));
    }
    if found.len() > TRACES {
        let hint = format!("name one: for instance {:?}", found[0].stream);
        return Err(Refusal::invalid(
            format!("{:?} has {} streams, more than {TRACES} at once", query.user, found.len()),
            hint,
        ));
    }
    Ok(found.into_iter().filter_map(|name| core.trace(name)).collect())
}

/// The names that are most like one that is not there.
fn near(text: &str, whole: bool, names: &[StreamName]) -> String {
    let mut known: Vec<String> = names
        .iter()
        .map(|name| {
            let StreamName { namespace, room, user, stream } = name;
            if whole {
                format!("{namespace}/{room}/{user}/{stream}")
            } else {
                format!("{namespace}/{room}/{user}")
            }
        })
        .collect();
    known.sort_unstable();
    known.dedup();
    if known.is_empty() {
        return "no stream is published at the moment".to_owned();
    }
    known.sort_by_cached_key(|name| distance(text, name));
    let more = if known.len() > NAMES_IN_HINT { ", ... (`relayctl streams` lists all)" } else { "" };
    known.truncate(NAMES_IN_HINT);
    format!("there are {}{more}", known.join(", "))
}

/// Letters to change, add or take away (Levenshtein). Of long names the beginnings count.
fn distance(one: &str, other: &str) -> usize {
    const LETTERS_MAX: usize = 200;
    let other: Vec<char> = other.chars().take(LETTERS_MAX).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().take(LETTERS_MAX).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let change = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

/// An end of a hop.
type End = (EndKind, String);

fn joined(view: &TraceView, reports: &BTreeMap<SessionId, TraceReport>, names: &NodeNames) -> TraceRow {
    let mut hops: BTreeMap<(End, End), TraceHopRow> = BTreeMap::new();
    for relay in &view.relays {
        let Some(report) = relay.session.and_then(|session| reports.get(&session)) else { continue };
        let here = (EndKind::Relay, relay.name.clone());
        for row in &report.incoming {
            let there = end(&row.peer, names);
            hop(&mut hops, there, here.clone()).came = Some(came(row));
        }
        for row in &report.outgoing {
            let there = end(&row.peer, names);
            hop(&mut hops, here.clone(), there).left = Some(left(row));
        }
    }
    let ways = view.legs.iter().map(|leg| way(leg.plane.0, &leg.path, &hops)).collect();
    let seen = |relay: &&TracedRelayView| {
        let here = (EndKind::Relay, relay.name.clone());
        relay.expected || hops.keys().any(|(from, to)| *from == here || *to == here)
    };
    let relays = view.relays.iter().filter(seen).map(|relay| answer(relay, reports)).collect();
    let StreamName { namespace, room, user, stream } = view.name.clone();
    TraceRow {
        namespace,
        room,
        user,
        stream,
        kind: view.kind,
        protect: view.protect,
        ingress: view.ingress.clone(),
        egresses: view.egresses.clone(),
        epoch: view.epoch.map(|epoch| epoch.0),
        relays,
        ways,
        hops: in_order(hops),
    }
}

fn end(peer: &TracedPeer, names: &NodeNames) -> End {
    match peer {
        TracedPeer::Relay(node) => (EndKind::Relay, names.of(*node)),
        TracedPeer::Sfu(subject) => (EndKind::Sfu, subject.clone()),
        TracedPeer::Plain => (EndKind::Plain, "plain RTP".to_owned()),
    }
}

fn hop(hops: &mut BTreeMap<(End, End), TraceHopRow>, from: End, to: End) -> &mut TraceHopRow {
    hops.entry((from.clone(), to.clone())).or_insert_with(|| TraceHopRow {
        from_kind: from.0,
        from: from.1,
        to_kind: to.0,
        to: to.1,
        left: None,
        came: None,
    })
}

fn answer(relay: &TracedRelayView, reports: &BTreeMap<SessionId, TraceReport>) -> TraceRelayRow {
    let report = relay.session.and_then(|session| reports.get(&session));
    let answer = match (relay.session, report) {
        (None, _) => "no_session",
        (Some(_), _) if !relay.traces => "does_not_trace",
        (Some(_), None) => "silent",
        (Some(_), Some(report)) if report.refused => "busy",
        (Some(_), Some(_)) => "traced",
    };
    TraceRelayRow {
        name: relay.name.clone(),
        answer: answer.to_owned(),
        watched_s: report.map_or(0.0, |report| seconds(report.watched)),
        left_out: report.map_or(0, |report| report.left_out),
    }
}

fn planes(bits: u8) -> Vec<u8> {
    (0..8).filter(|plane| bits >> plane & 1 == 1).collect()
}

fn came(row: &TracedIn) -> CameRow {
    CameRow {
        packets: row.packets,
        bytes: row.bytes,
        direct: row.packets.saturating_sub(row.again).saturating_sub(row.parity),
        again: row.again,
        parity: row.parity,
        missing: row.missing(),
        one_way_us: row.rtt_min.map(|rtt| micros(rtt / 2 + row.excess.mean)),
        rtt_min_us: row.rtt_min.map(micros),
        excess: row.excess.into(),
        wait: row.wait.into(),
        queueing_us: micros(row.queueing),
        slack_min_us: micros(row.slack_min),
        slack_p50_us: micros(row.slack_p50),
        hop_limit: row.hop_limit,
        planes: planes(row.planes),
        marked: row.marked,
    }
}

fn left(row: &TracedOut) -> LeftRow {
    LeftRow {
        packets: row.packets,
        bytes: row.bytes,
        again: row.again,
        residence: row.residence.into(),
        planes: planes(row.planes),
        marked: row.marked,
    }
}

fn way(plane: u8, path: &[String], hops: &BTreeMap<(End, End), TraceHopRow>) -> TraceWayRow {
    let relay = |name: &String| (EndKind::Relay, name.clone());
    let taken: Vec<_> = path.windows(2).map(|pair| hops.get(&(relay(&pair[0]), relay(&pair[1])))).collect();
    let delay = |hop: &Option<&TraceHopRow>| {
        let (left, came) = hop.map(|hop| (hop.left.as_ref(), hop.came.as_ref()))?;
        Some(came?.one_way_us? + left?.residence.mean_us)
    };
    TraceWayRow {
        path: path.to_vec(),
        plane,
        one_way_us: taken.iter().map(delay).sum(),
        used: taken.iter().all(|hop| hop.is_some_and(|hop| hop.came.is_some())),
    }
}

/// From the publisher on; what hangs on nothing comes last.
fn in_order(mut hops: BTreeMap<(End, End), TraceHopRow>) -> Vec<TraceHopRow> {
    let receivers: BTreeSet<End> = hops.keys().map(|(_, to)| to.clone()).collect();
    let senders = hops.keys().map(|(from, _)| from.clone());
    let (first, rest): (BTreeSet<End>, BTreeSet<End>) = senders.partition(|from| !receivers.contains(from));
    let mut ordered = Vec::new();
    // Those that begin somewhere, and then what only circles.
    let mut next: VecDeque<End> = first.into_iter().chain(rest).collect();
    while let Some(from) = next.pop_front() {
        let on: Vec<_> = hops.keys().filter(|(sender, _)| *sender == from).cloned().collect();
        for key in on.into_iter().rev() {
            if let Some(hop) = hops.remove(&key) {
                next.push_front(key.1);
                ordered.push(hop);
            }
        }
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;
    use route_core::LegView;
    use wire_format::control::TracedSpread;
    use wire_format::{Epoch, MediaKind, Plane, RoomId, Sequence, StreamId, StreamKey, UserId};

    fn name(user: &str, stream: &str) -> StreamName {
        let text = str::to_owned;
        StreamName { namespace: text("demo"), room: text("standup"), user: text(user), stream: text(stream) }
    }

    #[test]
    fn who_mistypes_a_name_is_told_the_nearest() {
        let names = [name("ana", "camera"), name("ana", "microphone"), name("zoe", "camera")];
        let hint = near("demo/standup/anna", false, &names);
        assert_eq!(hint, "there are demo/standup/ana, demo/standup/zoe");
        let hint = near("demo/standup/zoe/camra", true, &names);
        assert!(hint.starts_with("there are demo/standup/zoe/camera, "), "{hint}");
        assert_eq!(near("x", true, &[]), "no stream is published at the moment");
        assert_eq!((distance("kitten", "sitting"), distance("", "ab"), distance("ab", "ab")), (3, 2, 0));
    }

    fn spread(mean_ms: u64) -> TracedSpread {
        let delay = Duration::from_millis(mean_ms);
        TracedSpread { count: 10, mean: delay, p50: delay, p99: delay, max: delay }
    }

    fn row_in(peer: TracedPeer, rtt_ms: Option<u64>) -> TracedIn {
        TracedIn {
            peer,
            packets: 10,
            bytes: 1_000,
            again: 2,
            parity: 1,
            first: Sequence(1),
            last: Sequence(12),
            excess: spread(3),
            wait: spread(20),
            slack_min: Duration::from_millis(100),
            slack_p50: Duration::from_millis(150),
            hop_limit: 23,
            planes: 1,
            marked: 0,
            rtt_min: rtt_ms.map(Duration::from_millis),
            queueing: Duration::ZERO,
        }
    }

    fn row_out(peer: TracedPeer) -> TracedOut {
        TracedOut { peer, packets: 12, bytes: 1_200, again: 2, residence: spread(1), planes: 1, marked: 0 }
    }

    /// `sfu` > r1 > r2 > r3 > `player`; r4 stands by.
    fn view() -> TraceView {
        let relay = |node: u16, traces, expected| TracedRelayView {
            name: format!("r{node}"),
            node: NodeIndex(node),
            session: (node != 3).then_some(SessionId(u64::from(node))),
            traces,
            expected,
        };
        let path = ["r1", "r2", "r3"].map(str::to_owned).to_vec();
        TraceView {
            name: name("ana", "camera"),
            key: StreamKey { room: RoomId(1), user: UserId(2), stream: StreamId(3) },
            kind: MediaKind::Video,
            protect: false,
            epoch: Some(Epoch(7)),
            ingress: "r1".to_owned(),
            egresses: vec!["r3".to_owned()],
            legs: vec![
                LegView { plane: Plane::PRIMARY, path: path.clone() },
                LegView { plane: Plane::PRIMARY, path: path[..2].to_vec() },
            ],
            relays: vec![
                relay(1, true, true),
                relay(2, true, true),
                relay(3, true, true),
                relay(4, true, false),
            ],
        }
    }

    fn report(incoming: Vec<TracedIn>, outgoing: Vec<TracedOut>) -> TraceReport {
        let key = view().key;
        let watched = Duration::from_secs(2);
        TraceReport { trace: 1, key, refused: false, watched, incoming, outgoing, left_out: 0 }
    }

    #[test]
    fn answers_are_joined_hop_by_hop_and_who_is_missing_is_named() {
        let names = NodeNames((1..5).map(|node| (NodeIndex(node), format!("r{node}"))).collect());
        let sfu = TracedPeer::Sfu("sfu".to_owned());
        let reports = BTreeMap::from([
            (
                SessionId(1),
                report(vec![row_in(sfu, Some(1))], vec![row_out(TracedPeer::Relay(NodeIndex(2)))]),
            ),
            (
                SessionId(2),
                report(
                    vec![row_in(TracedPeer::Relay(NodeIndex(1)), Some(40))],
                    vec![row_out(TracedPeer::Relay(NodeIndex(3)))],
                ),
            ),
            (SessionId(4), report(Vec::new(), Vec::new())),
        ]);
        let row = joined(&view(), &reports, &names);
        let hops: Vec<_> = row.hops.iter().map(|hop| (hop.from.as_str(), hop.to.as_str())).collect();
        assert_eq!(hops, [("sfu", "r1"), ("r1", "r2"), ("r2", "r3")]);
        let [entry, middle, last] = &row.hops[..] else { panic!("three") };
        assert!(entry.left.is_none() && last.came.is_none(), "an SFU does not tell, and r3 has no session");
        let came = middle.came.as_ref().expect("r2 tells");
        assert_eq!((came.direct, came.again, came.parity, came.missing), (7, 2, 1, 2));
        assert_eq!(came.one_way_us, Some(23_000), "half of the round trip, and the excess");
        let answers: Vec<_> = row.relays.iter().map(|relay| (&*relay.name, &*relay.answer)).collect();
        assert_eq!(
            answers,
            [("r1", "traced"), ("r2", "traced"), ("r3", "no_session")],
            "r4 has no part in it"
        );
        let ways: Vec<_> = row.ways.iter().map(|way| (way.one_way_us, way.used)).collect();
        assert_eq!(ways, [(None, false), (Some(24_000), true)]);

        let mut silent = view();
        silent.relays[1].traces = false;
        let row = joined(&silent, &BTreeMap::new(), &names);
        let answers: Vec<_> = row.relays.iter().map(|relay| &*relay.answer).collect();
        assert_eq!(answers, ["silent", "does_not_trace", "no_session"]);
    }
}
