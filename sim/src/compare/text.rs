//! A comparison as a table for people, and as JSON for programs.

use super::{Comparison, Difference, METRICS, Measured, Metric, Versus, Wish};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A table for each two that are held against each other.
pub fn table(comparison: &Comparison) -> String {
    let mut text = String::new();
    for measured in &comparison.measured {
        let variant = &measured.variant;
        let _ = writeln!(text, "{:<7} {}", variant.label, variant.title);
    }
    let _ = writeln!(text, "seeds   {}..{}", comparison.seeds.start, comparison.seeds.end);
    if comparison.versus.is_empty() {
        alone(&mut text, &comparison.measured[0]);
    }
    for versus in &comparison.versus {
        section(&mut text, comparison, versus);
    }
    text + "\n* the 95% interval of the mean paired difference (Student's t over the seeds) leaves out zero\n"
}

fn alone(text: &mut String, measured: &Measured) {
    let _ = writeln!(text, "\n{:<36}{:>12}", "", measured.variant.label);
    for metric in METRICS.iter().filter(|metric| !metric.detail) {
        let _ = writeln!(text, "{:<36}{:>12}", metric.title(), metric.shown(measured.mean(metric)));
    }
}

fn section(text: &mut String, comparison: &Comparison, versus: &Versus) {
    let (one, other) = (&comparison.measured[versus.one], &comparison.measured[versus.other]);
    let (first, second) = (one.variant.label, other.variant.label);
    let _ = writeln!(text, "\n{second} against {first}");
    let _ = writeln!(text, "{:<36}{first:>12}{second:>12}{:>12}{:>9}  95% interval", "", "difference", "");
    for (metric, difference) in METRICS.iter().zip(&versus.differences).filter(|(metric, _)| !metric.detail) {
        let (before, after) = (one.mean(metric), other.mean(metric));
        let _ =
            write!(text, "{:<36}{:>12}{:>12}", metric.title(), metric.shown(before), metric.shown(after),);
        if let Some(difference) = difference {
            let relative = relative(before, difference).unwrap_or_default();
            let interval = difference.interval.map_or("-".to_owned(), |(low, high)| {
                format!("{} to {}", metric.shown_signed(low), metric.shown_signed(high))
            });
            let _ = write!(text, "{:>12}{relative:>9}  {interval}", metric.shown_signed(difference.mean));
            if difference.is_significant() {
                let _ = write!(text, "  * {}", verdict(metric, difference));
            }
        }
        let end = text.trim_end().len();
        text.truncate(end);
        text.push('\n');
    }
}

/// By how many percent.
pub(super) fn relative(before: Option<f64>, difference: &Difference) -> Option<String> {
    let before = before.filter(|before| *before != 0.0)?;
    let percent = difference.mean * 100.0 / before;
    let shown = if percent.abs() < 10.0 { format!("{percent:+.1}%") } else { format!("{percent:+.0}%") };
    Some(if shown.bytes().any(|digit| (b'1'..=b'9').contains(&digit)) { shown } else { "0%".to_owned() })
}

/// What a significant difference means.
pub(super) fn verdict(metric: &Metric, difference: &Difference) -> &'static str {
    match (metric.wish, difference.mean < 0.0) {
        (Wish::Less, true) => "better",
        (Wish::Less, false) => "worse",
        (Wish::Neither, true) => "fewer",
        (Wish::Neither, false) => "more",
    }
}

#[derive(Serialize)]
struct Json<'a> {
    seeds: [u64; 2],
    variants: Vec<VariantJson<'a>>,
    comparisons: Vec<VersusJson<'a>>,
}

#[derive(Serialize)]
struct VariantJson<'a> {
    label: &'a str,
    title: &'a str,
    scenario: &'a str,
    routing: String,
    due: u64,
    violations: usize,
    metrics: BTreeMap<&'a str, MetricJson>,
}

#[derive(Serialize)]
struct MetricJson {
    mean: Option<f64>,
    /// By seed.
    values: Vec<Option<f64>>,
}

#[derive(Serialize)]
struct VersusJson<'a> {
    one: &'a str,
    other: &'a str,
    metrics: BTreeMap<&'a str, DifferenceJson>,
}

#[derive(Serialize)]
struct DifferenceJson {
    difference: f64,
    low: Option<f64>,
    high: Option<f64>,
    significant: bool,
}

/// One compact JSON object.
pub fn json(comparison: &Comparison) -> String {
    let variants = comparison.measured.iter().map(|measured| VariantJson {
        label: measured.variant.label,
        title: &measured.variant.title,
        scenario: &measured.variant.scenario.name,
        routing: measured.variant.scenario.routing.to_string(),
        due: measured.runs.iter().map(|run| run.due).sum(),
        violations: measured.runs.iter().map(|run| run.violations.len()).sum(),
        metrics: METRICS
            .iter()
            .map(|metric| {
                (metric.key, MetricJson { mean: measured.mean(metric), values: measured.values(metric) })
            })
            .collect(),
    });
    let comparisons = comparison.versus.iter().map(|versus| VersusJson {
        one: comparison.measured[versus.one].variant.label,
        other: comparison.measured[versus.other].variant.label,
        metrics: METRICS
            .iter()
            .zip(&versus.differences)
            .filter_map(|(metric, difference)| {
                let difference = (*difference)?;
                let json = DifferenceJson {
                    difference: difference.mean,
                    low: difference.interval.map(|(low, _)| low),
                    high: difference.interval.map(|(_, high)| high),
                    significant: difference.is_significant(),
                };
                Some((metric.key, json))
            })
            .collect(),
    });
    let json = Json {
        seeds: [comparison.seeds.start, comparison.seeds.end],
        variants: variants.collect(),
        comparisons: comparisons.collect(),
    };
    serde_json::to_string(&json).expect("plain values")
}
