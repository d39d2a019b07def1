//! The plot: time against the number of relays, both logarithmic, a curve for each way to compute.

use super::{Measured, Report};
use std::collections::BTreeSet;
use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 470.0;
/// Left for the axis and its words, right for the curves' names, above and below.
const MARGIN: (f64, f64, f64, f64) = (76.0, 190.0, 64.0, 56.0);

/// From the name of one curve to the next.
const LINE: f64 = 14.0;

/// Name, colour, whether of full meshes, and time in milliseconds.
type Curve = (&'static str, &'static str, bool, fn(&Measured) -> Option<f64>);

/// Told apart by people who see few colours.
const CURVES: [Curve; 6] = [
    ("petgraph floyd_warshall", "#009e73", false, |overlay| overlay.floyd_warshall_s.map(|s| s * 1e3)),
    ("petgraph dijkstra, all", "#d55e00", false, |overlay| overlay.dijkstra_s.map(|s| s * 1e3)),
    ("three planes, all", "#0072b2", false, |overlay| Some(overlay.full_s * 1e3)),
    ("one link changed, p99", "#cc79a7", false, one_changed_ms),
    ("full mesh: petgraph dijkstra", "#e69f00", true, |overlay| overlay.dijkstra_s.map(|s| s * 1e3)),
    ("full mesh: three planes", "#56b4e9", true, |overlay| Some(overlay.full_s * 1e3)),
];

fn one_changed_ms(overlay: &Measured) -> Option<f64> {
    (!overlay.updates.is_empty()).then(|| overlay.update_p99_ms())
}

/// Whole decades around some values.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Decades {
    least: i32,
    most: i32,
}

impl Decades {
    fn around(values: impl Iterator<Item = f64>) -> Decades {
        let (mut least, mut most) = (i32::MAX, i32::MIN);
        for decade in values.filter(|value| *value > 0.0).map(f64::log10) {
            least = least.min(decade.floor() as i32);
            most = most.max(decade.ceil() as i32);
        }
        if least > most {
            Decades { least: 0, most: 1 }
        } else {
            Decades { least, most: most.max(least + 1) }
        }
    }

    /// From 0 at the least to 1 at the most.
    fn share(self, value: f64) -> f64 {
        (value.log10() - f64::from(self.least)) / f64::from(self.most - self.least)
    }
}

/// The whole plot.
pub(super) fn svg(report: &Report) -> String {
    let (left, right, above, below) = MARGIN;
    let (width, height) = (WIDTH - left - right, HEIGHT - above - below);
    let points = |curve: &Curve| -> Vec<(f64, f64)> {
        let mut points: Vec<_> = report
            .overlays
            .iter()
            .filter(|overlay| overlay.full_mesh == curve.2)
            .filter_map(|overlay| Some((f64::from(overlay.relays), curve.3(overlay)?)))
            .collect();
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        points
    };
    let relays = Decades::around(report.overlays.iter().map(|overlay| f64::from(overlay.relays)));
    let times = Decades::around(CURVES.iter().flat_map(points).map(|point| point.1));
    let place = |(count, ms): (f64, f64)| {
        (left + width * relays.share(count), above + height * (1.0 - times.share(ms.max(f64::MIN_POSITIVE))))
    };
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
         height=\"{HEIGHT}\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"12\" fill=\"#222222\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"26\" font-size=\"17\" font-weight=\"bold\">Routes between all relays: processor time against size</text>\n\
         <text x=\"16\" y=\"46\">{} links for each relay, as far as there are others; petgraph computes distances of one plane \
         alone</text>\n",
        report.links
    );
    for decade in times.least..=times.most {
        let (_, y) = place((1.0, 10_f64.powi(decade)));
        let label = if decade >= 3 {
            format!("{} s", 10_f64.powi(decade - 3))
        } else {
            format!("{} ms", 10_f64.powi(decade))
        };
        let _ = writeln!(
            text,
            "<line x1=\"{left}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            left + width,
            left - 6.0,
            y + 4.0
        );
    }
    let counts: BTreeSet<u16> = report.overlays.iter().map(|overlay| overlay.relays).collect();
    for count in counts.into_iter().map(f64::from) {
        let x = left + width * relays.share(count);
        let bottom = above + height;
        let _ = writeln!(
            text,
            "<line x1=\"{x:.1}\" y1=\"{above}\" x2=\"{x:.1}\" y2=\"{:.1}\" stroke=\"#eeeeee\"/>\n\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{count}</text>",
            bottom + 4.0,
            bottom + 18.0
        );
    }
    let _ = writeln!(
        text,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">relays</text>",
        left + width / 2.0,
        HEIGHT - 14.0
    );
    let mut names = Vec::new();
    for curve in &CURVES {
        let (name, color, ..) = curve;
        let places: Vec<_> = points(curve).into_iter().map(place).collect();
        let Some((last_x, last_y)) = places.last() else { continue };
        let line: Vec<_> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            text,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.8\"/>",
            line.join(" ")
        );
        for (x, y) in &places {
            let _ = writeln!(text, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{color}\"/>");
        }
        names.push((*last_y, *last_x, *name, *color));
    }
    // Names of curves that end close to each other stand one below the other.
    names.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut free_y = f64::MIN;
    for (y, x, name, color) in names {
        let y = y.max(free_y);
        free_y = y + LINE;
        let _ =
            writeln!(text, "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{color}\">{name}</text>", x + 9.0, y + 4.0);
    }
    text + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_overlay_has_a_point_on_each_curve_that_was_run() {
        let overlay = |relays, floyd_warshall_s, full_mesh| Measured {
            relays,
            full_mesh,
            links: 100,
            full_s: f64::from(relays) / 1e3,
            elapsed_s: 1.0,
            updates: Vec::new(),
            dijkstra_s: Some(0.5),
            floyd_warshall_s,
            peak_bytes: None,
        };
        let overlays =
            vec![overlay(50, Some(2.0), false), overlay(1_000, None, false), overlay(1_000, None, true)];
        let svg = svg(&Report { links: 32, changes: 1, seed: 1, threads: 1, overlays });
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 2 + 2 + 1 + 2);
        let opened = svg.matches('<').count() - svg.matches("</").count();
        assert_eq!(opened, svg.matches("/>").count() + svg.matches("</").count());
    }

    #[test]
    fn decades_hold_all_values() {
        assert_eq!(Decades::around([0.02, 3.0, 900.0].into_iter()), Decades { least: -2, most: 3 });
        assert_eq!(Decades::around([10.0].into_iter()), Decades { least: 1, most: 2 });
        assert_eq!(Decades { least: 0, most: 2 }.share(10.0), 0.5);
    }
}
