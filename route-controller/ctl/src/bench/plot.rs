//! The plot: for each link a panel, residual loss (logarithmic) against overhead, a curve for each system whose points are
//! its budgets, and the bounds as dashed lines. Written as SVG by hand: a few lines and words.

use super::System;
use super::outcome::{Measured, Report, RowBounds};
use std::fmt::Write as _;

/// Panels in a row.
const COLUMNS: usize = 2;
const PANEL_WIDTH: f64 = 520.0;
const PANEL_HEIGHT: f64 = 330.0;
/// Within a panel: left for the axis and its words, right, above and below.
const MARGIN: (f64, f64, f64, f64) = (64.0, 24.0, 44.0, 48.0);
/// Above all panels: title and legend.
const HEAD: f64 = 84.0;
/// Decades of residual loss, percent: from `10^LEAST` to `10^MOST`. What is less, nothing above all, stands at the foot.
const LEAST: i32 = -3;
const MOST: i32 = 2;

/// Told apart by people who see few colours, and by shape.
fn color(system: System) -> &'static str {
    match system {
        System::Cascade => "#0072b2",
        System::Srt => "#d55e00",
        System::Rist => "#009e73",
    }
}

fn marker(system: System, x: f64, y: f64, hollow: bool) -> String {
    let color = color(system);
    let fill = if hollow { "#ffffff" } else { color };
    let style = format!("fill=\"{fill}\" stroke=\"{color}\" stroke-width=\"1.8\"");
    match system {
        System::Cascade => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\" {style}/>\n"),
        System::Srt => {
            let (left, top) = (x - 4.5, y - 4.5);
            format!("<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"9\" height=\"9\" {style}/>\n")
        }
        System::Rist => {
            let (left, right, top, bottom) = (x - 5.5, x + 5.5, y - 5.5, y + 4.5);
            format!(
                "<polygon points=\"{x:.1},{top:.1} {left:.1},{bottom:.1} {right:.1},{bottom:.1}\" {style}/>\n"
            )
        }
    }
}

/// The whole plot.
pub(super) fn svg(report: &Report) -> String {
    let links = report.links();
    let rows = links.len().div_ceil(COLUMNS);
    let columns = links.len().clamp(1, COLUMNS);
    let (width, height) = (PANEL_WIDTH * columns as f64, HEAD + PANEL_HEIGHT * rows as f64);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"12\" fill=\"#222222\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"26\" font-size=\"17\" font-weight=\"bold\">Residual loss against overhead, one hop</text>\n\
         <text x=\"16\" y=\"46\">points: delay budgets in ms; hollow: nothing lost in {} s; dashed: what an oracle leaves \
         that can only send again</text>\n",
        report.for_s
    );
    let mut x = 22.0;
    for system in report.systems() {
        text += &marker(system, x, 66.0, false);
        let _ = writeln!(text, "<text x=\"{}\" y=\"70\">{}</text>", x + 12.0, system.title());
        x += 90.0;
    }
    for (place, link) in links.iter().enumerate() {
        let (column, row) = (place % COLUMNS, place / COLUMNS);
        let origin = (PANEL_WIDTH * column as f64, HEAD + PANEL_HEIGHT * row as f64);
        panel(&mut text, report, link, origin);
    }
    text + "</svg>\n"
}

/// From overhead and residual loss to the paper.
struct Scale {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
    overhead_max: f64,
}

impl Scale {
    fn x(&self, overhead_pct: f64) -> f64 {
        self.left + self.width * (overhead_pct / self.overhead_max).clamp(0.0, 1.0)
    }

    fn y(&self, residual_pct: f64) -> f64 {
        let decade = residual_pct.max(f64::MIN_POSITIVE).log10().clamp(f64::from(LEAST), f64::from(MOST));
        self.top + self.height * (f64::from(MOST) - decade) / f64::from(MOST - LEAST)
    }
}

fn panel(text: &mut String, report: &Report, link: &str, (x, y): (f64, f64)) {
    let (left, right, above, below) = MARGIN;
    let own = |measured: &&Measured| measured.link == link;
    let most = report.measured.iter().filter(own).map(|run| run.overhead_pct).fold(5.0, f64::max);
    // A round number somewhat beyond the last point.
    let overhead_max = (most * 1.1 / 5.0).ceil() * 5.0;
    let scale = Scale {
        left: x + left,
        top: y + above,
        width: PANEL_WIDTH - left - right,
        height: PANEL_HEIGHT - above - below,
        overhead_max,
    };
    let _ = writeln!(
        text,
        "<text x=\"{}\" y=\"{}\" font-size=\"14\" font-weight=\"bold\">{link}</text>",
        scale.left,
        y + above - 14.0
    );
    axes(text, &scale);
    let visible = |bounds: &&RowBounds| bounds.when_due_pct > 10_f64.powi(LEAST);
    for bounds in report.bounds.iter().filter(|bounds| bounds.link == link).filter(visible) {
        bound(text, &scale, bounds);
    }
    for system in report.systems() {
        let mut runs: Vec<_> =
            report.measured.iter().filter(own).filter(|run| run.system == system).collect();
        runs.sort_by_key(|run| run.budget_ms);
        curve(text, &scale, system, &runs);
    }
}

fn axes(text: &mut String, scale: &Scale) {
    let (left, bottom) = (scale.left, scale.top + scale.height);
    for decade in LEAST..=MOST {
        let y = scale.y(10_f64.powi(decade));
        let label = if decade == LEAST { "0".to_owned() } else { format!("{}%", 10_f64.powi(decade)) };
        let _ = writeln!(
            text,
            "<line x1=\"{left}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            left + scale.width,
            left - 6.0,
            y + 4.0,
        );
    }
    for step in 0..=5 {
        let overhead = scale.overhead_max * f64::from(step) / 5.0;
        let x = scale.x(overhead);
        let _ = writeln!(
            text,
            "<line x1=\"{x:.1}\" y1=\"{bottom:.1}\" x2=\"{x:.1}\" y2=\"{:.1}\" stroke=\"#888888\"/>\n\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{overhead}%</text>",
            bottom + 4.0,
            bottom + 18.0,
        );
    }
    let _ = writeln!(
        text,
        "<line x1=\"{left}\" y1=\"{bottom:.1}\" x2=\"{:.1}\" y2=\"{bottom:.1}\" stroke=\"#888888\"/>\n\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">overhead</text>\n\
         <text transform=\"translate({:.1} {:.1}) rotate(-90)\" text-anchor=\"middle\">residual loss</text>",
        left + scale.width,
        left + scale.width / 2.0,
        bottom + 36.0,
        left - 48.0,
        scale.top + scale.height / 2.0,
    );
}

fn bound(text: &mut String, scale: &Scale, bounds: &RowBounds) {
    let right = scale.left + scale.width;
    let y = scale.y(bounds.when_due_pct);
    let _ = writeln!(
        text,
        "<line x1=\"{:.1}\" y1=\"{y:.1}\" x2=\"{right:.1}\" y2=\"{y:.1}\" stroke=\"#555555\" \
         stroke-dasharray=\"5 4\"/>\n\
         <text x=\"{right:.1}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"10\" fill=\"#555555\">bound {} ms</text>",
        scale.left,
        y - 3.0,
        bounds.budget_ms,
    );
}

fn curve(text: &mut String, scale: &Scale, system: System, runs: &[&Measured]) {
    let places: Vec<_> =
        runs.iter().map(|run| (scale.x(run.overhead_pct), scale.y(run.residual_pct))).collect();
    let points: Vec<_> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(
        text,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.6\" opacity=\"0.7\"/>",
        points.join(" "),
        color(system),
    );
    for (run, (x, y)) in runs.iter().zip(&places) {
        let nothing_lost = run.lost + run.late == 0;
        *text += &marker(system, *x, *y, nothing_lost);
        // Points of all systems meet at the foot: each has a line of its own for their words.
        let above = if nothing_lost { 8.0 + 11.0 * f64::from(system as u8) } else { 5.0 };
        let _ = writeln!(
            text,
            "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"10\" fill=\"{}\">{}</text>",
            x + 7.0,
            y - above,
            color(system),
            run.budget_ms,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::outcome::example;

    #[test]
    fn every_run_has_its_point_within_the_panel() {
        let report = example();
        let svg = svg(&report);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        // Two of each system and one in the legend; nothing lost is hollow.
        assert_eq!((svg.matches("<circle").count(), svg.matches("<rect x").count()), (3, 3));
        assert_eq!(svg.matches("fill=\"#ffffff\" stroke=\"#0072b2\"").count(), 1);
        assert_eq!(svg.matches(">bound ").count(), 2);
        // Tags that open close.
        let opened = svg.matches('<').count() - svg.matches("</").count();
        assert_eq!(opened, svg.matches("/>").count() + svg.matches("</").count());
    }

    #[test]
    fn ten_times_as_much_is_a_decade_higher() {
        let scale = Scale { left: 0.0, top: 0.0, width: 100.0, height: 500.0, overhead_max: 20.0 };
        assert_eq!((scale.y(100.0), scale.y(10.0), scale.y(0.0)), (0.0, 100.0, 500.0));
        assert_eq!((scale.x(0.0), scale.x(10.0), scale.x(50.0)), (0.0, 50.0, 100.0));
    }
}
