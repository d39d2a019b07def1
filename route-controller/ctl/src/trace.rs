//! `relayctl trace`

use crate::cli::TraceArgs;
use crate::client::Client;
use crate::drawings;
use crate::output::{self, Grid, dot_text, fixed, number, printable, text};
use crate::{ControllerArgs, output::GraphFormat};
use anyhow::{anyhow, bail};
use route_controller::{
    CameRow, EndKind, LeftRow, SpreadRow, TraceAnswer, TraceHopRow, TraceRelayRow, TraceRow,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Beyond the time for which relays watch, for their answers and the controller's.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn run(controller: &ControllerArgs, args: &TraceArgs) -> anyhow::Result<()> {
    let mut query = stream_query(&args.stream)?;
    query.push(("duration_ms", args.duration.as_millis().to_string()));
    let client = Client::new(controller)?;
    let answer = client.get_patiently("/v1/trace", &query, args.duration + PATIENCE)?;
    if args.output == GraphFormat::Json {
        return output::print(&output::json(&answer));
    }
    let answer: TraceAnswer = output::parsed(answer)?;
    output::print(&match args.output {
        GraphFormat::Json | GraphFormat::Table => {
            answer.streams.iter().map(story).collect::<Vec<_>>().join("\n")
        }
        GraphFormat::Csv => csv(&answer.streams),
        GraphFormat::Dot => dot(&answer.streams),
        GraphFormat::Svg => {
            drawings::stacked(&answer.streams.iter().map(drawings::traced).collect::<Vec<_>>())
        }
    })
}

/// `NAMESPACE/ROOM/USER[/STREAM]` as the admin API wants it. A slash within a name is written `%2F`.
fn stream_query(text: &str) -> anyhow::Result<Vec<(&'static str, String)>> {
    let parts: Vec<&str> = text.split('/').collect();
    if !(3..=4).contains(&parts.len()) || parts.iter().any(|part| part.is_empty()) {
        bail!(
            "{text:?} names no stream: write NAMESPACE/ROOM/USER or NAMESPACE/ROOM/USER/STREAM, as `relayctl streams` lists \
             them; a slash within a name is %2F"
        );
    }
    let names = ["namespace", "room", "user", "stream"];
    names.into_iter().zip(parts).map(|(name, part)| Ok((name, unescaped(part)?))).collect()
}

fn unescaped(part: &str) -> anyhow::Result<String> {
    let wrong = || anyhow!("{part:?}: behind % belong two hexadecimal digits; % itself is %25");
    let mut bytes = Vec::new();
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next().ok_or_else(wrong)?, rest.next().ok_or_else(wrong)?];
        let digits = std::str::from_utf8(&digits).map_err(|_| wrong())?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

pub(crate) fn stream_name(row: &TraceRow) -> String {
    printable(&[&row.namespace, &row.room, &row.user, &row.stream].map(String::as_str).join("/"))
}

/// The hops as a tree, then what a packet takes in all, then who told nothing.
fn story(row: &TraceRow) -> String {
    let epoch = row.epoch.map_or_else(String::new, |epoch| format!(", epoch {epoch}"));
    let protect = if row.protect { ", two ways at once" } else { "" };
    let mut lines = format!("{}: enters at {}{epoch}{protect}\n", stream_name(row), printable(&row.ingress));
    if row.hops.is_empty() {
        lines.push_str("no packet of it passed while the relays watched\n");
    } else {
        lines.push_str(&tree(row).to_table());
    }
    for way in row.ways.iter().filter(|way| way.used) {
        let all =
            way.one_way_us.map_or("not known".to_owned(), |us| format!("{} ms", fixed(us as f64 / 1e3, 1)));
        lines.push_str(&format!("{}: {all}, one way\n", printable(&way.path.join(" > "))));
    }
    lines.push_str(&row.relays.iter().filter_map(complaint).collect::<String>());
    lines
}

/// Why there is nothing of a relay.
fn complaint(relay: &TraceRelayRow) -> Option<String> {
    let why = match relay.answer.as_str() {
        "traced" => return None,
        "busy" => "traces as many streams as it can: try again in some seconds",
        "silent" => "did not answer",
        "no_session" => "has no session with the controller",
        "does_not_trace" => "does not trace: its software is older",
        other => other,
    };
    Some(format!("{} {}\n", printable(&relay.name), printable(why)))
}

fn tree(row: &TraceRow) -> Grid {
    let depths = depths(&row.hops);
    let cells = |(hop, depth): (&TraceHopRow, usize)| {
        let came = |value: fn(&CameRow) -> u64| number(hop.came.as_ref().map(value));
        let spread = |spread: fn(&CameRow) -> SpreadRow, value: fn(&SpreadRow) -> u64| {
            number(hop.came.as_ref().map(spread).filter(|spread| spread.count > 0).map(|row| value(&row)))
        };
        let residence = |value: fn(&SpreadRow) -> u64| {
            let known = hop.left.as_ref().map(|left| left.residence).filter(|spread| spread.count > 0);
            number(known.map(|row| value(&row)))
        };
        vec![
            format!("{}{} > {}", "  ".repeat(depth), hop.from, hop.to),
            number(packets(hop)),
            came(|came| came.again),
            came(|came| came.parity),
            came(|came| came.missing),
            number(hop.came.as_ref().and_then(|came| came.one_way_us)),
            spread(|came| came.excess, |row| row.mean_us),
            spread(|came| came.excess, |row| row.p99_us),
            spread(|came| came.excess, |row| row.max_us),
            spread(|came| came.wait, |row| row.p50_us),
            spread(|came| came.wait, |row| row.max_us),
            residence(|row| row.mean_us),
            residence(|row| row.max_us),
            came(|came| came.slack_min_us),
            text(&planes(hop)),
            came(|came| came.marked),
        ]
    };
    let columns = vec![
        "hop",
        "packets",
        "again",
        "parity",
        "missing",
        "one_way_us",
        "excess_us",
        "p99_us",
        "max_us",
        "repair_p50_us",
        "repair_max_us",
        "residence_us",
        "max_us",
        "slack_min_us",
        "planes",
        "marked",
    ];
    Grid { columns, rows: row.hops.iter().zip(depths).map(cells).collect() }
}

/// How far each hop is from where the stream begins; hops come in order.
fn depths(hops: &[TraceHopRow]) -> Vec<usize> {
    let mut depth_of: BTreeMap<(EndKind, &str), usize> = BTreeMap::new();
    let mut depths = Vec::new();
    for hop in hops {
        let depth = depth_of.get(&(hop.from_kind, hop.from.as_str())).copied().unwrap_or(0);
        let behind = depth_of.entry((hop.to_kind, hop.to.as_str())).or_insert(depth + 1);
        *behind = (*behind).min(depth + 1);
        depths.push(depth);
    }
    depths
}

/// Packets that came; where the receiving end does not tell, those that left.
pub(crate) fn packets(hop: &TraceHopRow) -> Option<u64> {
    let left = || hop.left.as_ref().map(|left| left.packets);
    hop.came.as_ref().map(|came| came.packets).or_else(left)
}

pub(crate) fn planes(hop: &TraceHopRow) -> String {
    let came = hop.came.iter().flat_map(|came| &came.planes);
    let left = hop.left.iter().flat_map(|left| &left.planes);
    let all: BTreeSet<u8> = came.chain(left).copied().collect();
    let name = |plane: u8| match plane {
        0 => "primary".to_owned(),
        1 => "red".to_owned(),
        2 => "blue".to_owned(),
        other => other.to_string(),
    };
    all.into_iter().map(name).collect::<Vec<_>>().join(" ")
}

/// Everything of every hop.
fn csv(rows: &[TraceRow]) -> String {
    let cells = |row: &TraceRow, hop: &TraceHopRow| {
        let (came, left) = (hop.came.as_ref(), hop.left.as_ref());
        let of_came = |value: fn(&CameRow) -> u64| number(came.map(value));
        let of_left = |value: fn(&LeftRow) -> u64| number(left.map(value));
        let spread = |spread: Option<SpreadRow>| {
            let value = |value: fn(SpreadRow) -> u64| number(spread.filter(|row| row.count > 0).map(value));
            [
                value(|row| row.mean_us),
                value(|row| row.p50_us),
                value(|row| row.p99_us),
                value(|row| row.max_us),
            ]
        };
        let names = [&row.namespace, &row.room, &row.user, &row.stream, &hop.from, &hop.to].map(Clone::clone);
        let cells = names.into_iter().chain([
            of_left(|left| left.packets),
            of_left(|left| left.again),
            of_came(|came| came.packets),
            of_came(|came| came.bytes),
            of_came(|came| came.direct),
            of_came(|came| came.again),
            of_came(|came| came.parity),
            of_came(|came| came.missing),
            number(came.and_then(|came| came.one_way_us)),
            number(came.and_then(|came| came.rtt_min_us)),
        ]);
        let cells = cells.chain(spread(came.map(|came| came.excess)));
        let cells = cells.chain(spread(came.map(|came| came.wait)));
        let cells = cells.chain(spread(left.map(|left| left.residence)));
        cells
            .chain([
                of_came(|came| came.queueing_us),
                of_came(|came| came.slack_min_us),
                of_came(|came| came.slack_p50_us),
                number(came.map(|came| came.hop_limit)),
                text(&planes(hop)),
                of_came(|came| came.marked),
            ])
            .collect()
    };
    let columns = vec![
        "namespace",
        "room",
        "user",
        "stream",
        "from",
        "to",
        "left",
        "left_again",
        "packets",
        "bytes",
        "direct",
        "again",
        "parity",
        "missing",
        "one_way_us",
        "rtt_min_us",
        "excess_mean_us",
        "excess_p50_us",
        "excess_p99_us",
        "excess_max_us",
        "repair_mean_us",
        "repair_p50_us",
        "repair_p99_us",
        "repair_max_us",
        "residence_mean_us",
        "residence_p50_us",
        "residence_p99_us",
        "residence_max_us",
        "queueing_us",
        "slack_min_us",
        "slack_p50_us",
        "hop_limit",
        "planes",
        "marked",
    ];
    let rows = rows.iter().flat_map(|row| row.hops.iter().map(|hop| cells(row, hop)));
    Grid { columns, rows: rows.collect() }.to_csv()
}

/// What a hop is labelled with in a picture, line by line.
pub(crate) fn label(hop: &TraceHopRow) -> Vec<String> {
    let ms = |us: u64| fixed(us as f64 / 1e3, 1);
    let mut lines = Vec::new();
    if let Some(came) = &hop.came {
        lines.extend(came.one_way_us.map(|us| format!("{} ms", ms(us))));
        if came.again + came.parity > 0 {
            lines.push(format!("{} repaired, +{} ms", came.again + came.parity, ms(came.wait.p50_us)));
        }
        if came.missing > 0 {
            lines.push(format!("{} missing", came.missing));
        }
    }
    lines.extend(packets(hop).map(|packets| format!("{packets} packets")));
    lines
}

/// An end of a hop as a name that no other end has.
pub(crate) fn end_name(kind: EndKind, name: &str) -> String {
    match kind {
        EndKind::Relay => name.to_owned(),
        EndKind::Sfu => format!("SFU {name}"),
        EndKind::Plain => name.to_owned(),
    }
}

/// One graph for each stream; SFUs are round, hops that only redundant planes use dashed.
fn dot(rows: &[TraceRow]) -> String {
    let mut graph = String::from("digraph trace {\n  rankdir=LR;\n  node [shape=box];\n");
    for (number, row) in rows.iter().enumerate() {
        graph.push_str(&format!(
            "  subgraph cluster_{number} {{\n    label={};\n",
            dot_text(&stream_name(row))
        ));
        let id = |kind, name: &str| dot_text(&format!("{number}/{}", end_name(kind, name)));
        let ends = row.hops.iter().flat_map(|hop| [(hop.from_kind, &hop.from), (hop.to_kind, &hop.to)]);
        for (kind, name) in ends.collect::<BTreeSet<_>>() {
            let shape = if kind == EndKind::Relay { "box" } else { "ellipse" };
            graph.push_str(&format!("    {} [label={}, shape={shape}];\n", id(kind, name), dot_text(name)));
        }
        for hop in &row.hops {
            let redundant =
                hop.came.as_ref().is_some_and(|came| !came.planes.is_empty() && !came.planes.contains(&0));
            let style = if redundant { "dashed" } else { "solid" };
            graph.push_str(&format!(
                "    {} -> {} [label={}, style={style}];\n",
                id(hop.from_kind, &hop.from),
                id(hop.to_kind, &hop.to),
                dot_text(&label(hop).join(", ")),
            ));
        }
        graph.push_str("  }\n");
    }
    graph.push_str("}\n");
    graph
}

#[cfg(test)]
mod tests {
    use super::*;
    use route_controller::TraceWayRow;
    use wire_format::MediaKind;

    fn spread(us: u64) -> SpreadRow {
        SpreadRow { count: 10, mean_us: us, p50_us: us, p99_us: 3 * us, max_us: 4 * us }
    }

    fn hop(from: &str, to: &str, came: bool, left: bool) -> TraceHopRow {
        let kind = |name: &str| if name.starts_with("sfu") { EndKind::Sfu } else { EndKind::Relay };
        TraceHopRow {
            from: from.into(),
            from_kind: kind(from),
            to: to.into(),
            to_kind: kind(to),
            left: left.then(|| LeftRow {
                packets: 412,
                bytes: 400_000,
                again: 3,
                residence: spread(40),
                planes: vec![0],
                marked: 0,
            }),
            came: came.then(|| CameRow {
                packets: 410,
                bytes: 399_000,
                direct: 406,
                again: 3,
                parity: 1,
                missing: 2,
                one_way_us: Some(20_450),
                rtt_min_us: Some(40_100),
                excess: spread(400),
                wait: spread(45_000),
                queueing_us: 120,
                slack_min_us: 151_000,
                slack_p50_us: 190_000,
                hop_limit: 23,
                planes: vec![0],
                marked: 0,
            }),
        }
    }

    fn row() -> TraceRow {
        let relay = |name: &str, answer: &str| TraceRelayRow {
            name: name.into(),
            answer: answer.into(),
            watched_s: 2.0,
            left_out: 0,
        };
        let path = vec!["fra-1".into(), "iad-1".into(), "gru-1".into()];
        TraceRow {
            namespace: "demo".into(),
            room: "standup".into(),
            user: "ana".into(),
            stream: "camera".into(),
            kind: MediaKind::Video,
            protect: false,
            ingress: "fra-1".into(),
            egresses: vec!["gru-1".into()],
            epoch: Some(17),
            relays: vec![relay("fra-1", "traced"), relay("iad-1", "traced"), relay("gru-1", "silent")],
            hops: vec![
                hop("sfu-a", "fra-1", true, false),
                hop("fra-1", "iad-1", true, true),
                hop("iad-1", "gru-1", false, true),
                hop("iad-1", "lhr-1", true, true),
            ],
            ways: vec![TraceWayRow { path, plane: 0, one_way_us: Some(81_250), used: true }],
        }
    }

    #[test]
    fn a_trace_reads_from_the_publisher_on() {
        let text = story(&row());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "demo/standup/ana/camera: enters at fra-1, epoch 17");
        let hops: Vec<&str> = lines[2..6]
            .iter()
            .map(|line| line.split("  ").find(|part| part.contains('>')).expect("a hop").trim())
            .collect();
        assert_eq!(hops, ["sfu-a > fra-1", "fra-1 > iad-1", "iad-1 > gru-1", "iad-1 > lhr-1"]);
        assert!(lines[3].contains("20450") && lines[3].starts_with("  fra-1"), "{text}");
        assert!(
            text.contains("fra-1 > iad-1 > gru-1: 81.2 ms, one way\n")
                && text.ends_with("gru-1 did not answer\n"),
            "{text}"
        );
        let csv = csv(&[row()]);
        let columns = csv.lines().next().expect("a header").split(',').count();
        assert!(
            csv.lines().count() == 5 && csv.lines().all(|line| line.split(',').count() == columns),
            "{csv}"
        );
        assert!(dot(&[row()]).contains("\"0/fra-1\" -> \"0/iad-1\" [label=\"20.4 ms, 4 repaired, +45.0 ms, 2 missing, 410 packets\", style=solid]"));
        let nothing = TraceRow { hops: Vec::new(), ways: Vec::new(), ..row() };
        assert!(story(&nothing).contains("no packet of it passed"));
    }

    #[test]
    fn streams_are_named_by_three_or_four_parts() {
        let query =
            |text: &str| stream_query(text).map(|query| query.into_iter().map(|(_, part)| part).collect());
        let parts = |parts: &[&str]| parts.iter().map(|&part| part.to_owned()).collect::<Vec<_>>();
        assert_eq!(query("demo/standup/ana").ok(), Some(parts(&["demo", "standup", "ana"])));
        assert_eq!(query("demo/a%2Fb/ana/100%25").ok(), Some(parts(&["demo", "a/b", "ana", "100%"])));
        for wrong in ["demo/standup", "a/b/c/d/e", "demo//ana", "a/b/%", "a/b/%zz", "a/b/%ff"] {
            assert!(stream_query(wrong).is_err(), "{wrong}");
        }
    }
}
