//! What the page says in words.

use super::plot::number;
use super::{class, escaped};
use crate::compare::text::relative;
use crate::compare::{Comparison, METRICS, Metric, Versus, Wish};
use std::fmt::Write as _;

/// What people want to know first, in this order, and how it is said: before the figure and after it.
const FIRST: [(&str, &str, &str); 9] = [
    ("delay_p50_ms", "the median packet takes", " ms"),
    ("stalls_per_min", "a stream stalls", " times a minute"),
    ("lost_pct", "packets that never come are", "%"),
    ("silence_max_ms", "the longest silence lasts", " ms"),
    ("failover_p95_ms", "95% of failovers last no longer than", " ms"),
    ("delay_p95_ms", "95% of packets take no longer than", " ms"),
    ("dollars_per_gb", "a gigabyte delivered costs", " dollars"),
    ("busiest_mbps", "the busiest link carries", " Mbit/s"),
    ("late_pct", "late packets are", "%"),
];
/// Differences told as the page's title, and of each two in all.
const TITLE_MAX: usize = 2;
const TOLD_MAX: usize = 4;

/// For each two that are held against each other what differs, the first of it as the page's title.
pub(super) fn headline(text: &mut String, comparison: &Comparison) {
    let mut lists = String::new();
    let mut title = None;
    for versus in &comparison.versus {
        let [one, other] = [versus.one, versus.other].map(|place| comparison.measured[place].variant.label);
        let (before, after) = (called(one), called(other));
        let mut phrases = phrases(comparison, versus);
        phrases.truncate(TOLD_MAX);
        if title.is_none() {
            let rest = phrases.split_off(phrases.len().min(TITLE_MAX));
            title = Some(match phrases.is_empty() {
                true => nothing(comparison, before, after),
                false => format!("{after} against {before}: {}", phrases.join("; ")),
            });
            phrases = rest;
        } else if phrases.is_empty() {
            phrases = vec![nothing(comparison, before, after)];
        }
        let count = count(versus);
        if !phrases.is_empty() {
            let all = phrases.join("; ");
            let _ = writeln!(
                lists,
                "<li><b>{after} against {before}:</b> {all}. <span class=\"soft\">{count}</span></li>"
            );
        }
    }
    let _ = writeln!(text, "<h1>{}</h1>", title.unwrap_or_else(|| alone(comparison)));
    if !lists.is_empty() {
        let _ = writeln!(text, "<ul class=\"lead\">\n{lists}</ul>");
    }
}

fn called(label: &str) -> &str {
    match label {
        "direct" => "going straight",
        "tree" => "a CDN\u{2019}s tree",
        label => label,
    }
}

fn nothing(comparison: &Comparison, before: &str, after: &str) -> String {
    let seeds = comparison.seeds.end - comparison.seeds.start;
    format!("between {after} and {before} nothing of this differs significantly over {seeds} seeds")
}

/// What differs significantly, and looks different as well.
fn phrases(comparison: &Comparison, versus: &Versus) -> Vec<String> {
    let (one, other) = (&comparison.measured[versus.one], &comparison.measured[versus.other]);
    let mut phrases = Vec::new();
    for (key, said, unit) in FIRST {
        let (row, metric) = Metric::named(key);
        let Some(difference) = versus.differences[row].filter(|difference| difference.is_significant())
        else {
            continue;
        };
        let [from, to] = [one.mean(metric), other.mean(metric)].map(|mean| metric.shown(mean));
        if from != to {
            let [from, to] = [one, other].map(|side| number(side.mean(metric).unwrap_or_default()));
            let by = relative(one.mean(metric), &difference).map_or(String::new(), |by| format!(" ({by})"));
            phrases.push(format!("{said} {to}{unit} instead of {from}{by}").replace('-', "\u{2212}"));
        }
    }
    phrases
}

fn count(versus: &Versus) -> String {
    let judged: Vec<_> = METRICS
        .iter()
        .zip(&versus.differences)
        .filter(|(metric, _)| !metric.detail && metric.wish == Wish::Less)
        .filter_map(|(_, difference)| *difference)
        .collect();
    let significant = |less: bool| {
        judged
            .iter()
            .filter(|difference| difference.is_significant() && (difference.mean < 0.0) == less)
            .count()
    };
    format!("Of {} figures {} are better and {} worse.", judged.len(), significant(true), significant(false))
}

fn alone(comparison: &Comparison) -> String {
    let a = &comparison.measured[0];
    let shown = |key| {
        let (_, metric) = Metric::named(key);
        format!("{} {} {}", metric.name, metric.shown(a.mean(metric)), metric.unit)
    };
    format!("A: {}, {}, {}.", shown("delay_p50_ms"), shown("lost_pct"), shown("stalls_per_min"))
}

/// How it was measured, from what, and how to do it again.
pub(super) fn notes(text: &mut String, comparison: &Comparison, command: &str) {
    let seeds = &comparison.seeds;
    let violations: usize =
        comparison.measured.iter().flat_map(|measured| &measured.runs).map(|run| run.violations.len()).sum();
    let broken = match violations {
        0 => "No core broke a law of its contract in any run.".to_owned(),
        count => format!(
            "Cores broke laws of their contract {count} times: see what <code>sim run</code> says of it."
        ),
    };
    let _ = write!(
        text,
        "<h2>How this was measured</h2>\n\
         <p>The overlay's own relay and controller cores ran in a simulated network, once for each seed from {} to before {}. {broken}</p>\n\
         <pre>{}</pre>\n<dl>\n",
        seeds.start,
        seeds.end,
        escaped(command)
    );
    let all: [(&str, &str); 9] = [
        (
            "direct and tree",
            "Baselines made of the same relays, links, transport and repair, so that only the routing differs. \
          Direct: each stream goes straight from the relay where it enters to each where it leaves, another relay is passed only where no \
          link leads there. Tree: a CDN of two levels, every relay on the nearest of a few hubs, these on one centre (k-medians of round \
          trips), as LiveNet (SIGCOMM 2022) describes what it replaced. Neither has policies, feeding by relays or two ways at once.",
        ),
        (
            "difference",
            "Runs of the same seed are paired; the interval is Student's t over the paired differences. Of twenty marks one is \
          expected where there is nothing.",
        ),
        (
            "delay",
            "From a publisher handing over a packet to its subscriber getting it, links of clients included; what is lost has none.",
        ),
        (
            "residual loss and late",
            "Of the packets due: those sent while a subscriber wanted them, <code>join_within</code> after it \
          asked or later. Late is later than by the fastest way of the network plus the stream's delay budget, whatever way was taken.",
        ),
        (
            "stalls",
            "A model of a player for each stream at each subscriber. Its buffer aims at the 95th percentile of relative delays in \
          a fading histogram, as NetEq of WebRTC does; audio that is missing is concealed; video freezes as <code>freezeCount</code> of W3C's \
          webrtc-stats has it, and waits for a keyframe after a loss. Players ask for no single packets themselves.",
        ),
        (
            "silence and failover",
            "Time without a delivery beyond the longest pause of the stream's own rhythm.",
        ),
        (
            "price and load",
            "UDP payloads between relays, from when the first packet is due until media ends.",
        ),
        (
            "changes of route",
            "How often a relay gets a stream from another relay than before; streams that go two ways at once are left out.",
        ),
        (
            "network",
            "Delays, losses and prices are those of the scenario, which names where they come from. Each run draws its own losses.",
        ),
    ];
    for (what, how) in all {
        let _ = writeln!(text, "<dt>{what}</dt><dd>{how}</dd>");
    }
    text.push_str("</dl>\n");
    for measured in &comparison.measured {
        let _ = writeln!(
            text,
            "<p class=\"note {}\">{}: scenario {}, routing {}.</p>",
            class(measured),
            measured.variant.label,
            escaped(&measured.variant.scenario.name),
            measured.variant.scenario.routing
        );
    }
}
