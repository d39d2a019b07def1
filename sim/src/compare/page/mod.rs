//! A comparison as a page: one file that needs no other, and no script.

mod map;
pub(crate) mod plot;
mod words;

use super::text::{relative, verdict};
use super::{Comparison, METRICS, Measured, Metric, Versus, Wish};
use crate::measure::Histogram;
use map::{Places, bits_per_s, carried};
use plot::{Axis, Series, Strip, lines, strips};
use std::collections::BTreeMap;
use std::fmt::Write as _;

pub(crate) const STYLE: &str = include_str!("style.css");
/// Delays beyond this share of all are not drawn.
const DRAWN: f64 = 0.997;

/// The page; `command` gives the same again.
pub fn page(comparison: &Comparison, command: &str) -> String {
    let title = match comparison.measured.iter().find(|measured| measured.variant.label == "B") {
        Some(b) => format!("{} and {}", comparison.measured[0].variant.title, b.variant.title),
        None => comparison.measured[0].variant.title.clone(),
    };
    let title = escaped(&title);
    let mut text = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title} compared</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <p class=\"kicker\">Cascade, simulated: {title}</p>\n"
    );
    words::headline(&mut text, comparison);
    cards(&mut text, comparison);
    tables(&mut text, comparison);
    delays(&mut text, comparison);
    quality(&mut text, comparison);
    links(&mut text, comparison);
    maps(&mut text, comparison);
    words::notes(&mut text, comparison, command);
    text + "</main>\n</body>\n</html>\n"
}

/// Text as HTML writes it.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn class(measured: &Measured) -> String {
    format!("of-{}", measured.variant.label.to_lowercase())
}

fn cards(text: &mut String, comparison: &Comparison) {
    text.push_str("<div class=\"cards\">\n");
    for measured in &comparison.measured {
        let variant = &measured.variant;
        let scenario = &variant.scenario;
        let due: u64 = measured.runs.iter().map(|run| run.due).sum();
        let _ = writeln!(
            text,
            "<div class=\"card {}\"><b>{}</b> {}<br><span class=\"soft\">{} relays, {} streams, {} s, {due} packets due</span></div>",
            class(measured),
            variant.label,
            escaped(&variant.title),
            scenario.relays.len(),
            scenario.streams.len(),
            scenario.run_for.as_secs_f64(),
        );
    }
    text.push_str("</div>\n");
}

fn tables(text: &mut String, comparison: &Comparison) {
    text.push_str(
        "<h2>Figures</h2>\n<p class=\"soft\">Means over the seeds. Below a difference stands its 95% interval; coloured and \
         marked &#9733; is what leaves out zero.</p>\n",
    );
    table(text, comparison, false);
    text.push_str("<details><summary>More figures: each kind of media, and heartbeats</summary>\n");
    table(text, comparison, true);
    text.push_str("</details>\n");
}

fn table(text: &mut String, comparison: &Comparison, detail: bool) {
    let measured = &comparison.measured;
    text.push_str("<div class=\"scroll\"><table>\n<thead><tr><th></th><th class=\"of-a\">A</th>");
    for versus in &comparison.versus {
        let held = &measured[if versus.one == 0 { versus.other } else { versus.one }];
        let [one, other] = [versus.one, versus.other].map(|place| measured[place].variant.label);
        let (class, label) = (class(held), held.variant.label);
        let _ = write!(text, "<th class=\"{class}\">{label}</th><th>{other} against {one}</th>");
    }
    text.push_str("</tr></thead>\n<tbody>\n");
    for (row, metric) in METRICS.iter().enumerate().filter(|(_, metric)| metric.detail == detail) {
        let means: Vec<_> = measured.iter().map(|measured| measured.mean(metric)).collect();
        if means.iter().all(Option::is_none) {
            continue;
        }
        let _ = write!(text, "<tr><td>{}</td><td>{}</td>", metric.title(), metric.shown(means[0]));
        for versus in &comparison.versus {
            let held = metric.shown(means[if versus.one == 0 { versus.other } else { versus.one }]);
            let _ = write!(text, "<td>{held}</td>{}", cell(metric, row, versus, means[versus.one]));
        }
        text.push_str("</tr>\n");
    }
    text.push_str("</tbody></table></div>\n");
}

fn cell(metric: &Metric, row: usize, versus: &Versus, before: Option<f64>) -> String {
    let Some(difference) = &versus.differences[row] else { return "<td class=\"diff\">-</td>".to_owned() };
    let class = match (difference.is_significant(), metric.wish, difference.mean < 0.0) {
        (false, ..) => "",
        (true, Wish::Less, true) => " good",
        (true, Wish::Less, false) => " bad",
        (true, Wish::Neither, _) => " more",
    };
    let mark = match difference.is_significant() {
        true => format!(" {} &#9733;", verdict(metric, difference)),
        false => String::new(),
    };
    let relative = relative(before, difference).unwrap_or_else(|| metric.shown_signed(difference.mean));
    let interval = difference.interval.map_or("one seed".to_owned(), |(low, high)| {
        format!("{} to {}", metric.shown_signed(low), metric.shown_signed(high))
    });
    // A hyphen is no sign.
    let (relative, interval) = (relative.replace('-', "\u{2212}"), interval.replace('-', "\u{2212}"));
    format!("<td class=\"diff{class}\">{relative}{mark}<small>{interval}</small></td>")
}

fn figure(text: &mut String, title: &str, svg: &str, caption: &str) {
    let _ = write!(text, "<figure><h3>{title}</h3>\n{svg}<figcaption>{caption}</figcaption></figure>\n");
}

/// Of all runs together.
fn merged(measured: &Measured, of: impl Fn(&crate::measure::Figures) -> Histogram) -> Histogram {
    let mut all = Histogram::default();
    for run in &measured.runs {
        all.add(&of(run));
    }
    all
}

/// The share of all that took no longer, for each of the variants.
fn distribution(
    comparison: &Comparison,
    label: &'static str,
    of: impl Fn(&crate::measure::Figures) -> Histogram,
) -> Option<String> {
    let all: Vec<_> = comparison.measured.iter().map(|measured| (measured, merged(measured, &of))).collect();
    let ms = |histogram: &Histogram, share| histogram.quantile(share).map(|time| time.as_secs_f64() * 1e3);
    let most = all.iter().filter_map(|(_, histogram)| ms(histogram, DRAWN)).fold(0.0, f64::max);
    let used: Vec<_> = all.iter().filter(|(_, histogram)| histogram.total() > 0).collect();
    if used.is_empty() {
        return None;
    }
    let series: Vec<_> = used
        .into_iter()
        .map(|(measured, histogram)| {
            let mut points: Vec<_> = histogram
                .curve()
                .into_iter()
                .map(|(time, share)| (time.as_secs_f64() * 1e3, share * 100.0))
                .collect();
            // From below the first, to the edge.
            let first = points.first().map_or(0.0, |(time, _)| *time);
            points.insert(0, (first, 0.0));
            points.push((most * 10.0, 100.0));
            let [half, most] = [0.5, 0.95].map(|share| ms(histogram, share).unwrap_or_default());
            Series {
                class: class(measured),
                name: format!(
                    "{}: median {half:.0} ms, 95th percentile {most:.0} ms",
                    measured.variant.label
                ),
                points,
            }
        })
        .collect();
    let y = Axis { label: "share of all, %", low: 0.0, high: 100.0, logarithmic: false };
    Some(lines(&Axis::from_zero(label, most), &y, &series))
}

fn delays(text: &mut String, comparison: &Comparison) {
    text.push_str("<h2>How long packets take, and how long streams fall silent</h2>\n<div class=\"grid\">\n");
    if let Some(svg) = distribution(comparison, "delay from publisher to subscriber, ms", |run| run.delay()) {
        figure(text, "Delay", &svg, "Each packet delivered, all seeds together. Further left is better.");
    }
    let failovers =
        distribution(comparison, "longest silence around a disturbance, ms", |run| run.failovers.clone());
    match failovers {
        Some(svg) => figure(
            text,
            "Failover",
            &svg,
            "For each disturbance and each stream at each subscriber the longest silence beyond the stream's own rhythm that \
             touches the second after it; nothing where the disturbance does not show.",
        ),
        None => figure(
            text,
            "Failover",
            "",
            "Nothing is disturbed in this scenario: faults, or links that change, would show here.",
        ),
    }
    text.push_str("</div>\n");
}

/// Rows of a figure, a dot for each seed.
fn strip(comparison: &Comparison, key: &str, label: &'static str) -> Option<String> {
    let (_, metric) = Metric::named(key);
    let rows: Vec<_> = comparison
        .measured
        .iter()
        .map(|measured| Strip {
            class: class(measured),
            label: measured.variant.label,
            values: measured.values(metric).into_iter().flatten().collect(),
            mean: measured.mean(metric),
            shown: metric.shown(measured.mean(metric)),
        })
        .collect();
    let most = rows.iter().flat_map(|row| row.values.iter().copied()).fold(0.0, f64::max);
    rows.iter().any(|row| row.mean.is_some()).then(|| strips(&Axis::from_zero(label, most), &rows))
}

fn strip_figures(text: &mut String, comparison: &Comparison, all: &[(&str, &'static str, &str, &str)]) {
    for (key, axis, title, caption) in all {
        if let Some(svg) = strip(comparison, key, axis) {
            figure(text, title, &svg, caption);
        }
    }
}

fn quality(text: &mut String, comparison: &Comparison) {
    text.push_str("<h2>What is lost, and what players make of it</h2>\n<p class=\"soft\">A dot is a seed, the bar and the number are the mean.</p>\n<div class=\"grid\">\n");
    let all = [
        ("lost_pct", "packets that never came, %", "Residual loss", "After repair."),
        (
            "late_pct",
            "packets later than the budget, %",
            "Late",
            "Later than by the fastest way of the network and the stream's budget together.",
        ),
        (
            "stalls_per_min",
            "stalls a minute",
            "Stalls",
            "Concealment of audio and freezes of video, by a model of a player with a jitter buffer.",
        ),
        (
            "stalled_pct",
            "share of time, %",
            "Time stalled",
            "How much of its time a stream is concealed or frozen.",
        ),
    ];
    strip_figures(text, comparison, &all);
    text.push_str("</div>\n");
}

fn links(text: &mut String, comparison: &Comparison) {
    text.push_str("<h2>What it takes</h2>\n<div class=\"flow\">\n");
    let mut most = 0.0_f64;
    let mut longest = 1.0_f64;
    let series: Vec<_> = comparison
        .measured
        .iter()
        .map(|measured| {
            let mut directions: BTreeMap<_, f64> = BTreeMap::new();
            for run in &measured.runs {
                for (direction, load) in &run.links {
                    let rate = bits_per_s(load, run.counted.as_secs_f64()) / measured.runs.len() as f64;
                    *directions.entry(*direction).or_default() += rate / 1e6;
                }
            }
            let mut rates: Vec<f64> = directions.into_values().filter(|rate| *rate > 1e-5).collect();
            rates.sort_by(|one, other| other.total_cmp(one));
            most = rates.first().copied().unwrap_or_default().max(most);
            longest = longest.max(rates.len() as f64);
            let (count, busiest) = (rates.len(), rates.first().copied().unwrap_or_default());
            let points = (1..).map(f64::from).zip(rates).collect();
            let name = format!(
                "{}: {count} in use, the busiest carries {busiest:.2} Mbit/s",
                measured.variant.label
            );
            Series { class: class(measured), name, points }
        })
        .collect();
    let x = Axis {
        label: "directions of links between relays, the busiest first",
        low: 0.0,
        high: longest.max(2.0),
        logarithmic: false,
    };
    let svg = lines(&x, &Axis::from_zero("media and repair, Mbit/s", most), &series);
    figure(
        text,
        "Load of links",
        &svg,
        "Mean over the seeds. A high left end is a link that everything passes.",
    );
    let all = [
        (
            "dollars_per_gb",
            "US dollars for a gigabyte delivered",
            "Price",
            "Bytes between relays, heartbeats included, at the scenario's prices, for each gigabyte that subscribers got.",
        ),
        ("repair_pct", "repair, % of media", "Overhead of repair", "What was sent again, and parity."),
        (
            "copies",
            "copies between relays for a packet published",
            "Copies",
            "How often a packet crosses a link between relays.",
        ),
    ];
    strip_figures(text, comparison, &all);
    text.push_str("</div>\n");
}

fn maps(text: &mut String, comparison: &Comparison) {
    let places = Places::of(&comparison.measured[0].variant.scenario);
    let how = if places.is_map() {
        "Relays where they stand."
    } else {
        "Relays as far from each other as their round trips say, for they do not tell where they stand."
    };
    let _ = writeln!(
        text,
        "<h2>Where it goes</h2>\n<p class=\"soft\">{how} A line is as wide as what both directions of the link carry, on one \
         scale for all; pointing at it tells how much.</p>\n<div class=\"grid\">"
    );
    let loads: Vec<_> = comparison.measured.iter().map(carried).collect();
    let most = loads.iter().flat_map(|links| links.values().copied()).fold(1.0, f64::max);
    for (measured, links) in comparison.measured.iter().zip(&loads) {
        let scenario = &measured.variant.scenario;
        let own = (scenario.relays.len() != places.count()).then(|| Places::of(scenario));
        let svg = map::map(own.as_ref().unwrap_or(&places), scenario, &class(measured), links, most);
        let passed = passed(measured).map_or(String::new(), |mean| {
            format!("In the end a stream passes {mean:.2} relays between its first and its last in the mean.")
        });
        figure(
            text,
            &format!("{}: {}", measured.variant.label, escaped(&measured.variant.title)),
            &svg,
            &passed,
        );
    }
    text.push_str("</div>\n");
}

/// Relays between the first and the last, over all streams at all subscribers elsewhere.
fn passed(measured: &Measured) -> Option<f64> {
    let paths = measured.runs.iter().flat_map(|run| run.paths.values()).filter(|path| path.len() > 1);
    let (count, sum) = paths.fold((0, 0), |(count, sum), path| (count + 1, sum + path.len() - 2));
    (count > 0).then(|| sum as f64 / f64::from(count))
}
