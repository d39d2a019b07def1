//! What is drawn: the overlay with its links, the routes of its planes, two ways beside each other, a traced stream.

use crate::output::fixed;
use crate::picture::{Layout, Line, Picture, Spot, Tone};
use crate::trace;
use route_controller::{EndKind, HopRow, LinkRow, NodeRow, RouteRow, TermsRow, TraceRow, WayRow};
use std::collections::{BTreeMap, BTreeSet};

/// Of more lines the numbers would only blur each other.
const LABELS_MAX: usize = 45;
/// A link that carries as much carries media.
const BUSY_BYTES_PER_S: u64 = 10_000;

fn ms(us: u64) -> String {
    if us < 10_000 {
        format!("{} ms", fixed(us as f64 / 1e3, 1))
    } else {
        format!("{} ms", (us + 500) / 1_000)
    }
}

/// Relays where they stand; those that only links or routes name have no place.
fn spots<'a>(nodes: &[NodeRow], named: impl Iterator<Item = &'a str>) -> Vec<Spot> {
    let known = nodes.iter().map(|node| {
        let (tone, word) = match node.state.as_str() {
            "connected" if node.cordoned => (Tone::Warn, "cordoned"),
            "connected" if node.hub_quarantined => (Tone::Warn, "sudden hub"),
            "connected" if node.cut_vertex => (Tone::Strong, ""),
            "connected" => (Tone::Plain, ""),
            "silent" => (Tone::Warn, "silent"),
            other => (Tone::Faint, other),
        };
        let note = [node.region.as_str(), word].into_iter().filter(|part| !part.is_empty());
        Spot {
            id: node.name.clone(),
            name: node.name.clone(),
            note: note.collect::<Vec<_>>().join(", "),
            tone,
            round: false,
            place: node.latitude.zip(node.longitude),
        }
    });
    let mut spots: Vec<Spot> = known.collect();
    let listed: BTreeSet<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    let others: BTreeSet<&str> = named.filter(|name| !listed.contains(name)).collect();
    spots.extend(others.into_iter().map(|name| bare(name, Tone::Plain, false)));
    spots
}

fn bare(name: &str, tone: Tone, round: bool) -> Spot {
    Spot { id: name.to_owned(), name: name.to_owned(), note: String::new(), tone, round, place: None }
}

/// The overlay: relays, and a line for both directions of each link.
pub(crate) fn links(nodes: &[NodeRow], rows: &[LinkRow]) -> Picture {
    let mut pairs: BTreeMap<(&str, &str), Vec<&LinkRow>> = BTreeMap::new();
    for row in rows {
        let (from, to) = (row.from.as_str(), row.to.as_str());
        pairs.entry((from.min(to), from.max(to))).or_default().push(row);
    }
    let labelled = pairs.len() <= LABELS_MAX;
    let line = |((one, other), rows): (&(&str, &str), &Vec<&LinkRow>)| {
        let usable = rows.iter().any(|row| row.usable);
        let loss = rows.iter().filter_map(|row| row.loss).fold(0.0, f64::max);
        let busy = rows.iter().any(|row| row.rate_bytes_per_s.is_some_and(|rate| rate >= BUSY_BYTES_PER_S));
        let (tone, width) = if !usable {
            (Tone::Faint, 1.2)
        } else if loss >= 0.005 {
            (Tone::Warn, 2.0)
        } else if rows.iter().any(|row| row.bridge) {
            (Tone::Strong, 3.0)
        } else {
            (Tone::Plain, if busy { 2.6 } else { 1.2 })
        };
        let mut label = Vec::new();
        if labelled && usable {
            label.extend(rows.iter().filter_map(|row| row.rtt_us).min().map(ms));
            if loss >= 0.0005 {
                label.push(format!("{} % lost", fixed(loss * 100.0, 1)));
            }
        }
        let (from, to) = ((*one).to_owned(), (*other).to_owned());
        Line { from, to, label, tone, width, dashed: !usable, arrow: false }
    };
    let named = rows.iter().flat_map(|row| [row.from.as_str(), row.to.as_str()]);
    let usable = rows.iter().filter(|row| row.usable).count();
    Picture {
        title: "Links of the overlay".to_owned(),
        subtitle: format!(
            "{} relays, {usable} directions of links that routes may use; numbers are round trips",
            nodes.len()
        ),
        layout: Layout::Map,
        spots: spots(nodes, named),
        lines: pairs.iter().map(line).collect(),
        legend: vec![
            (Tone::Plain, false, "usable; thick: carries media"),
            (Tone::Warn, false, "loses 0.5 % or more"),
            (Tone::Strong, false, "nothing goes around it"),
            (Tone::Faint, true, "not usable"),
        ],
    }
}

fn plane_tone(plane: u8) -> Tone {
    match plane {
        0 => Tone::Strong,
        1 => Tone::Red,
        2 => Tone::Blue,
        _ => Tone::Faint,
    }
}

/// Every hop that some route takes; the more routes, the thicker.
pub(crate) fn routes(nodes: &[NodeRow], rows: &[RouteRow]) -> Picture {
    let mut hops: BTreeMap<(u8, &str, &str), usize> = BTreeMap::new();
    for row in rows {
        for (from, to) in row.path.iter().zip(row.path.iter().skip(1)) {
            *hops.entry((row.plane, from, to)).or_default() += 1;
        }
    }
    let most = hops.values().copied().max().unwrap_or(1) as f64;
    let labelled = hops.len() <= LABELS_MAX;
    let line = |((plane, from, to), routes): (&(u8, &str, &str), &usize)| Line {
        from: (*from).to_owned(),
        to: (*to).to_owned(),
        label: if labelled { vec![routes.to_string()] } else { Vec::new() },
        tone: plane_tone(*plane),
        width: 1.0 + 3.0 * *routes as f64 / most,
        dashed: *plane > 0,
        arrow: true,
    };
    let on_some: BTreeSet<&str> = rows.iter().flat_map(|row| row.path.iter().map(String::as_str)).collect();
    let there: Vec<NodeRow> =
        nodes.iter().filter(|node| on_some.contains(node.name.as_str())).cloned().collect();
    let epoch = rows.first().map_or_else(String::new, |row| format!(", epoch {}", row.epoch));
    Picture {
        title: "Routes of the overlay".to_owned(),
        subtitle: format!("{} routes{epoch}; numbers: how many of them take a hop", rows.len()),
        layout: Layout::Map,
        spots: spots(&there, on_some.iter().copied()),
        lines: hops.iter().map(line).collect(),
        legend: vec![
            (Tone::Strong, false, "primary plane"),
            (Tone::Red, true, "red plane"),
            (Tone::Blue, true, "blue plane"),
        ],
    }
}

/// What a hop costs, and the greater ones of the terms of it.
fn priced(hop: &HopRow) -> Vec<String> {
    let Some(cost_us) = hop.cost_us else { return vec!["not usable".to_owned()] };
    let mut lines = vec![ms(cost_us)];
    let Some(terms) = &hop.terms else { return lines };
    let TermsRow {
        one_way_us,
        queueing_us,
        repair_us,
        hop_us: _,
        load_us,
        money_us,
        jitter_us,
        distrust_us,
        rounding_us: _,
        preference_us: _,
    } = *terms;
    let parts = [
        (one_way_us, "way"),
        (queueing_us, "queue"),
        (repair_us, "repair"),
        (load_us, "load"),
        (money_us, "money"),
        (jitter_us, "jitter"),
        (distrust_us, "distrust"),
    ];
    let told = parts
        .into_iter()
        .filter(|(us, _)| *us >= 1_000)
        .map(|(us, word)| format!("{word} {}", fixed(us as f64 / 1e3, 1)));
    let told: Vec<String> = told.collect();
    if told.len() > 1 {
        lines.push(told.join(" + "));
    }
    lines
}

/// The way taken, and another one dashed.
pub(crate) fn ways(
    title: String,
    subtitle: String,
    taken: Option<&WayRow>,
    other: Option<&WayRow>,
    word: &'static str,
) -> Picture {
    let mut spots: Vec<Spot> = Vec::new();
    let mut lines = Vec::new();
    for (way, tone, dashed) in [(taken, Tone::Strong, false), (other, Tone::Plain, true)] {
        let Some(way) = way else { continue };
        for (at, name) in way.path.iter().enumerate() {
            let avoided =
                at.checked_sub(1).and_then(|hop| way.hops.get(hop)).and_then(|hop| hop.avoided.as_ref());
            if !spots.iter().any(|spot| spot.id == *name) {
                let tone = if avoided.is_some() { Tone::Warn } else { tone };
                let note = avoided.map(|why| why.replace('_', " ")).unwrap_or_default();
                spots.push(Spot { note, ..bare(name, tone, false) });
            }
        }
        for hop in &way.hops {
            let shared = lines.iter().any(|line: &Line| line.from == hop.from && line.to == hop.to);
            lines.push(Line {
                from: hop.from.clone(),
                to: hop.to.clone(),
                label: if shared { Vec::new() } else { priced(hop) },
                tone,
                width: if dashed { 1.6 } else { 2.8 },
                dashed,
                arrow: true,
            });
        }
    }
    Picture {
        title,
        subtitle,
        layout: Layout::Flow,
        spots,
        lines,
        legend: vec![(Tone::Strong, false, "the way taken"), (Tone::Plain, true, word)],
    }
}

/// A traced stream from its publisher on.
pub(crate) fn traced(row: &TraceRow) -> Picture {
    let mut spots: Vec<Spot> = Vec::new();
    for hop in &row.hops {
        for (kind, name) in [(hop.from_kind, &hop.from), (hop.to_kind, &hop.to)] {
            let id = trace::end_name(kind, name);
            if spots.iter().any(|spot| spot.id == id) {
                continue;
            }
            let told = row.relays.iter().find(|relay| kind == EndKind::Relay && relay.name == *name);
            let silent = told.filter(|relay| relay.answer != "traced");
            let (tone, note) = match silent {
                Some(relay) => (Tone::Faint, relay.answer.replace('_', " ")),
                None => (Tone::Plain, String::new()),
            };
            spots.push(Spot {
                id,
                name: name.clone(),
                note,
                tone,
                round: kind != EndKind::Relay,
                place: None,
            });
        }
    }
    let line = |hop: &route_controller::TraceHopRow| {
        let redundant = hop.came.as_ref().and_then(|came| came.planes.first().copied()).unwrap_or(0);
        let missing = hop.came.as_ref().is_some_and(|came| came.missing > 0);
        Line {
            from: trace::end_name(hop.from_kind, &hop.from),
            to: trace::end_name(hop.to_kind, &hop.to),
            label: trace::label(hop),
            tone: if missing { Tone::Warn } else { plane_tone(redundant) },
            width: 2.2,
            dashed: redundant > 0,
            arrow: true,
        }
    };
    let watched = row.relays.iter().map(|relay| relay.watched_s).fold(0.0, f64::max);
    let epoch = row.epoch.map_or_else(String::new, |epoch| format!(", epoch {epoch}"));
    Picture {
        title: trace::stream_name(row),
        subtitle: format!(
            "enters at {}{epoch}; {} s of it; a hop takes half of its round trip and what waited",
            row.ingress,
            fixed(watched, 1)
        ),
        layout: Layout::Flow,
        spots,
        lines: row.hops.iter().map(line).collect(),
        legend: vec![
            (Tone::Strong, false, "primary plane"),
            (Tone::Red, true, "red plane"),
            (Tone::Blue, true, "blue plane"),
            (Tone::Warn, false, "something is missing"),
        ],
    }
}

/// Pictures one below the other.
pub(crate) fn stacked(pictures: &[Picture]) -> String {
    if let [picture] = pictures {
        return picture.svg();
    }
    let drawn: Vec<String> = pictures.iter().map(Picture::svg).collect();
    let size = |svg: &str, name: &str| -> f64 {
        let value = svg.split_once(&format!(" {name}=\"")).and_then(|(_, rest)| rest.split_once('"'));
        value.and_then(|(value, _)| value.parse().ok()).unwrap_or(0.0)
    };
    let width = drawn.iter().map(|svg| size(svg, "width")).fold(0.0, f64::max);
    let height: f64 = drawn.iter().map(|svg| size(svg, "height")).sum();
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\n"
    );
    let mut y = 0.0;
    for svg in &drawn {
        text.push_str(&svg.replacen("<svg ", &format!("<svg y=\"{y}\" "), 1));
        y += size(svg, "height");
    }
    text + "</svg>\n"
}

#[cfg(test)]
mod tests;
