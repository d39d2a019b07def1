//! Plots as SVG, written by hand; colours come from the page's style, by class.

use std::fmt::Write as _;

const WIDTH: f64 = 540.0;
const HEIGHT: f64 = 300.0;
/// Left of a plot, right, above and below.
const MARGIN: (f64, f64, f64, f64) = (56.0, 16.0, 10.0, 44.0);
/// Points nearer to each other on paper are one.
const NEAR: f64 = 0.6;

/// An axis.
pub(crate) struct Axis {
    /// With its unit.
    pub(crate) label: &'static str,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) logarithmic: bool,
}

/// A line of a plot.
pub(crate) struct Series {
    /// Of whom.
    pub(crate) class: String,
    /// For the legend.
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

impl Axis {
    /// From zero to a round number.
    pub(crate) fn from_zero(label: &'static str, most: f64) -> Axis {
        let step = step(most / 5.0);
        let high = if most > 0.0 { (most / step).ceil() * step } else { 1.0 };
        Axis { label, low: 0.0, high, logarithmic: false }
    }

    /// From zero to one.
    fn share(&self, value: f64) -> f64 {
        let (low, high, value) = if self.logarithmic {
            (self.low.ln(), self.high.ln(), value.max(self.low).ln())
        } else {
            (self.low, self.high, value)
        };
        ((value - low) / (high - low)).clamp(0.0, 1.0)
    }

    fn ticks(&self) -> Vec<f64> {
        if self.logarithmic {
            let decades = (self.low.log10().floor() as i32)..=(self.high.log10().ceil() as i32);
            let few = (self.high / self.low).log10() < 3.0;
            let steps: &[f64] = if few { &[1.0, 2.0, 5.0] } else { &[1.0] };
            let all = decades.flat_map(|decade| steps.iter().map(move |step| step * 10_f64.powi(decade)));
            return all.filter(|tick| (self.low * 0.999..=self.high * 1.001).contains(tick)).collect();
        }
        let step = step((self.high - self.low) / 5.0);
        let count = ((self.high - self.low) / step + 0.01).floor() as u32;
        (0..=count).map(|tick| self.low + step * f64::from(tick)).collect()
    }
}

/// A round step that is no smaller.
fn step(least: f64) -> f64 {
    if least <= 0.0 {
        return 1.0;
    }
    let decade = 10_f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * decade);
    steps.into_iter().find(|step| *step >= least * 0.999).unwrap_or(decade * 10.0)
}

/// As short as it is exact.
pub(super) fn number(value: f64) -> String {
    let digits = if value == 0.0 { 0 } else { (2 - value.abs().log10().floor() as i32).clamp(0, 9) };
    let text = format!("{value:.*}", digits as usize);
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// A plot of lines.
pub(crate) fn lines(x: &Axis, y: &Axis, series: &[Series]) -> String {
    let (left, right, above, below) = MARGIN;
    let legend = 18.0 * series.len() as f64 + 6.0;
    let (width, height) = (WIDTH - left - right, HEIGHT - above - below);
    let place_x = |value: f64| left + width * x.share(value);
    let place_y = |value: f64| legend + above + height * (1.0 - y.share(value));
    let (bottom, total) = (legend + above + height, HEIGHT + legend);
    let mut text = format!("<svg viewBox=\"0 0 {WIDTH} {total}\" role=\"img\">\n");
    for (row, series) in series.iter().enumerate() {
        let row = 18.0 * row as f64 + 12.0;
        let _ = writeln!(
            text,
            "<line class=\"line {}\" x1=\"{left}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>\
             <text x=\"{:.1}\" y=\"{row:.1}\">{}</text>",
            series.class,
            row - 4.0,
            left + 30.0,
            row - 4.0,
            left + 38.0,
            series.name,
        );
    }
    for tick in y.ticks() {
        let at = place_y(tick);
        let _ = writeln!(
            text,
            "<line class=\"rule\" x1=\"{left}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"dim\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left + width,
            left - 7.0,
            at + 4.0,
            number(tick),
        );
    }
    for tick in x.ticks() {
        let at = place_x(tick);
        let _ = writeln!(
            text,
            "<line class=\"axis\" x1=\"{at:.1}\" y1=\"{bottom:.1}\" x2=\"{at:.1}\" y2=\"{:.1}\"/>\
             <text class=\"dim\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 4.0,
            bottom + 18.0,
            number(tick),
        );
    }
    let _ = writeln!(
        text,
        "<line class=\"axis\" x1=\"{left}\" y1=\"{bottom:.1}\" x2=\"{:.1}\" y2=\"{bottom:.1}\"/>\
         <text class=\"dim\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
         <text class=\"dim\" transform=\"translate(14 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        left + width,
        left + width / 2.0,
        bottom + 37.0,
        x.label,
        legend + above + height / 2.0,
        y.label,
    );
    // The first on top.
    for series in series.iter().rev() {
        let mut points = String::new();
        let mut last: Option<(f64, f64)> = None;
        let count = series.points.len();
        for (rank, (x, y)) in series.points.iter().enumerate() {
            let (x, y) = (place_x(*x), place_y(*y));
            let near = last.is_some_and(|(a, b)| (x - a).abs() < NEAR && (y - b).abs() < NEAR);
            if !near || rank + 1 == count {
                let _ = write!(points, "{x:.1},{y:.1} ");
                last = Some((x, y));
            }
        }
        let _ =
            writeln!(text, "<polyline class=\"line {}\" points=\"{}\"/>", series.class, points.trim_end());
    }
    text + "</svg>\n"
}

/// A row of a strip: of whom, the values of the runs, their mean, and that in words.
pub(super) struct Strip {
    pub(crate) class: String,
    pub(crate) label: &'static str,
    pub(super) values: Vec<f64>,
    pub(super) mean: Option<f64>,
    pub(super) shown: String,
}

/// For each a row of dots, one for each run, with a bar at their mean.
pub(super) fn strips(x: &Axis, rows: &[Strip]) -> String {
    const ROW: f64 = 26.0;
    let (left, right, below) = (MARGIN.0, 84.0, MARGIN.3);
    let width = WIDTH - left - right;
    let bottom = 8.0 + ROW * rows.len() as f64;
    let place = |value: f64| left + width * x.share(value);
    let mut text = format!("<svg viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\">\n", bottom + below);
    for tick in x.ticks() {
        let at = place(tick);
        let _ = writeln!(
            text,
            "<line class=\"rule\" x1=\"{at:.1}\" y1=\"4\" x2=\"{at:.1}\" y2=\"{bottom:.1}\"/>\
             <text class=\"dim\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 16.0,
            number(tick),
        );
    }
    for (rank, row) in rows.iter().enumerate() {
        let y = 8.0 + ROW * (rank as f64 + 0.5);
        let class = &row.class;
        let _ = writeln!(
            text,
            "<text class=\"named {class}\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 9.0,
            y + 4.0,
            row.label
        );
        for value in &row.values {
            let _ = writeln!(
                text,
                "<circle class=\"dot {class}\" cx=\"{:.1}\" cy=\"{y:.1}\" r=\"4.5\"/>",
                place(*value)
            );
        }
        if let Some(mean) = row.mean {
            let at = place(mean);
            let _ = writeln!(
                text,
                "<line class=\"mean {class}\" x1=\"{at:.1}\" y1=\"{:.1}\" x2=\"{at:.1}\" y2=\"{:.1}\"/>",
                y - 9.0,
                y + 9.0
            );
        }
        let _ = writeln!(
            text,
            "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            left + width + 12.0,
            y + 4.0,
            row.shown
        );
    }
    let _ = writeln!(
        text,
        "<text class=\"dim\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        left + width / 2.0,
        bottom + 35.0,
        x.label
    );
    text + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        let axis = Axis::from_zero("x", 43.0);
        assert_eq!((axis.high, axis.ticks()), (50.0, vec![0.0, 10.0, 20.0, 30.0, 40.0, 50.0]));
        let axis = Axis { label: "x", low: 5.0, high: 1_000.0, logarithmic: true };
        assert_eq!(
            axis.ticks().iter().map(|tick| number(*tick)).collect::<Vec<_>>().join(" "),
            "5 10 20 50 100 200 500 1000"
        );
        assert_eq!(Axis::from_zero("x", 0.0).ticks().len(), 6);
        assert_eq!([0.0, 0.00012, 12_345.0, 0.5].map(number), ["0", "0.00012", "12345", "0.5"]);
    }

    #[test]
    fn lines_stay_within_the_plot() {
        let (x, y) = (Axis::from_zero("x", 10.0), Axis::from_zero("y", 1.0));
        let series =
            Series { class: "of-a".to_owned(), name: "A".to_owned(), points: vec![(0.0, 0.0), (99.0, 9.0)] };
        let svg = lines(&x, &y, &[series]);
        assert!(svg.contains("points=\"56.0,280.0 524.0,34.0\""), "{svg}");
        assert!(!svg.contains("NaN"));
    }
}
