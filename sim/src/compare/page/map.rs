//! A map of what links carry: relays where they stand, or, where that is not known of all, as far apart as their round trips
//! say (stress majorization: De Leeuw 1977; Gansner, Koren and North 2004).

use super::escaped;
use crate::compare::Measured;
use crate::measure::LinkLoad;
use crate::scenario::{RelayId, Scenario};
use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::fmt::Write as _;

const WIDTH: f64 = 540.0;
const HEIGHT_MAX: f64 = 360.0;
const HEIGHT_MIN: f64 = 200.0;
const EDGE: f64 = 26.0;
/// Room for the words beside a meridian.
const DEGREES: f64 = 40.0;
/// Relays that are named, at most.
const NAMED_MAX: usize = 16;
/// Steps in which round trips become places.
const STEPS: usize = 150;
/// Relays that cannot reach each other are drawn so far apart.
const FAR_MS: f64 = 1_000.0;
/// Links thinner than this share of the widest are left out.
const THIN: f64 = 0.000_1;

/// Where relays are drawn.
pub(super) struct Places {
    spots: Vec<(f64, f64)>,
    height: f64,
    /// Lines of a map, if it is one: degrees and where they are.
    meridians: Vec<(i32, f64)>,
    parallels: Vec<(i32, f64)>,
}

impl Places {
    pub(super) fn of(scenario: &Scenario) -> Places {
        let positions: Option<Vec<(f64, f64)>> = scenario
            .relays
            .iter()
            .map(|relay| {
                let position = relay.position?;
                let degrees = |micro: i32| f64::from(micro) / 1e6;
                Some((degrees(position.lon_micro_degrees()), -degrees(position.lat_micro_degrees())))
            })
            .collect();
        match positions {
            Some(positions) => {
                let middle = positions.iter().map(|(_, south)| *south).sum::<f64>() / positions.len() as f64;
                // Degrees of longitude are shorter away from the equator.
                let narrow = middle.to_radians().cos().max(0.3);
                let flat: Vec<_> = positions.iter().map(|(east, south)| (east * narrow, *south)).collect();
                let frame = Frame::around(&flat);
                let lines = |from: i32, to: i32| (from..=to).step_by(30);
                let meridians = lines(-180, 180).map(|at| (at, frame.place((f64::from(at) * narrow, 0.0)).0));
                let parallels = lines(-90, 90).map(|at| (at, frame.place((0.0, f64::from(-at))).1));
                Places {
                    meridians: meridians.filter(|(_, x)| (0.0..=WIDTH - DEGREES).contains(x)).collect(),
                    parallels: parallels.filter(|(_, y)| (0.0..=frame.height).contains(y)).collect(),
                    spots: flat.into_iter().map(|spot| frame.place(spot)).collect(),
                    height: frame.height,
                }
            }
            None => {
                let flat = apart(scenario);
                let frame = Frame::around(&flat);
                Places {
                    spots: flat.into_iter().map(|spot| frame.place(spot)).collect(),
                    height: frame.height,
                    meridians: Vec::new(),
                    parallels: Vec::new(),
                }
            }
        }
    }

    pub(super) fn count(&self) -> usize {
        self.spots.len()
    }

    pub(super) fn is_map(&self) -> bool {
        !self.meridians.is_empty() || !self.parallels.is_empty()
    }
}

/// What fits onto the paper.
struct Frame {
    least: (f64, f64),
    scale: f64,
    aside: (f64, f64),
    height: f64,
}

impl Frame {
    fn around(spots: &[(f64, f64)]) -> Frame {
        let span = |of: fn(&(f64, f64)) -> f64| {
            let (least, most) = spots
                .iter()
                .map(of)
                .fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(value), most.max(value)));
            (least, (most - least).max(1e-6))
        };
        let ((left, wide), (top, high)) = (span(|spot| spot.0), span(|spot| spot.1));
        let scale = ((WIDTH - 2.0 * EDGE) / wide).min((HEIGHT_MAX - 2.0 * EDGE) / high);
        let height = (high * scale + 2.0 * EDGE).max(HEIGHT_MIN);
        let aside = ((WIDTH - wide * scale) / 2.0, (height - high * scale) / 2.0);
        Frame { least: (left, top), scale, aside, height }
    }

    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        ((x - self.least.0) * self.scale + self.aside.0, (y - self.least.1) * self.scale + self.aside.1)
    }
}

/// Places as far from each other as round trips are long.
fn apart(scenario: &Scenario) -> Vec<(f64, f64)> {
    let count = scenario.relays.len();
    let times = scenario.round_trips_ms();
    let turn = |relay: usize| TAU * relay as f64 / count as f64;
    let mut spots: Vec<_> = (0..count).map(|relay| (turn(relay).cos(), turn(relay).sin())).collect();
    let mean = times.iter().flatten().map(|time| time.min(FAR_MS)).sum::<f64>()
        / (times.len().max(1) as f64).powi(2);
    for spot in &mut spots {
        *spot = (spot.0 * mean.max(1.0), spot.1 * mean.max(1.0));
    }
    for _ in 0..STEPS {
        let moved = (0..count).map(|one| {
            let (mut sum, mut weights) = ((0.0, 0.0), 0.0);
            for other in (0..count).filter(|other| *other != one) {
                let wanted = times[one][other].clamp(1.0, FAR_MS);
                let (dx, dy) = (spots[one].0 - spots[other].0, spots[one].1 - spots[other].1);
                let pull = wanted / dx.hypot(dy).max(1e-6);
                let weight = wanted.powi(-2);
                sum.0 += weight * (spots[other].0 + dx * pull);
                sum.1 += weight * (spots[other].1 + dy * pull);
                weights += weight;
            }
            if weights > 0.0 { (sum.0 / weights, sum.1 / weights) } else { spots[one] }
        });
        spots = moved.collect();
    }
    spots
}

/// What both directions of each link carried in the mean of the runs, bits a second.
pub(super) fn carried(measured: &Measured) -> BTreeMap<(RelayId, RelayId), f64> {
    let mut links: BTreeMap<(RelayId, RelayId), f64> = BTreeMap::new();
    for run in &measured.runs {
        for ((from, to), load) in &run.links {
            let rate = bits_per_s(load, run.counted.as_secs_f64()) / measured.runs.len() as f64;
            *links.entry((*from.min(to), *from.max(to))).or_default() += rate;
        }
    }
    links
}

pub(super) fn bits_per_s(load: &LinkLoad, seconds: f64) -> f64 {
    load.carried_bytes() as f64 * 8.0 / seconds
}

/// The map of one variant; `most` is what the widest link of all carries.
pub(super) fn map(
    places: &Places,
    scenario: &Scenario,
    class: &str,
    links: &BTreeMap<(RelayId, RelayId), f64>,
    most: f64,
) -> String {
    let height = places.height;
    let mut text = format!("<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\">\n");
    for (at, x) in &places.meridians {
        let _ = writeln!(
            text,
            "<line class=\"rule\" x1=\"{x:.1}\" y1=\"0\" x2=\"{x:.1}\" y2=\"{height:.0}\"/>\
             <text class=\"dim place\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x + 3.0,
            height - 4.0,
            degrees(*at, 'E', 'W')
        );
    }
    for (at, y) in &places.parallels {
        let _ = writeln!(
            text,
            "<line class=\"rule\" x1=\"0\" y1=\"{y:.1}\" x2=\"{WIDTH}\" y2=\"{y:.1}\"/>\
             <text class=\"dim place\" x=\"3\" y=\"{:.1}\">{}</text>",
            y - 3.0,
            degrees(*at, 'N', 'S')
        );
    }
    let mut by_load: Vec<_> = links.iter().filter(|(_, rate)| **rate > most * THIN).collect();
    by_load.sort_by(|(one, rate), (other, more)| rate.total_cmp(more).then(one.cmp(other)));
    let mut through: BTreeMap<RelayId, f64> = BTreeMap::new();
    for ((one, other), rate) in by_load {
        let share = (rate / most).sqrt();
        let [from, to] = [one, other].map(|relay| places.spots[usize::from(relay.0)]);
        let bend = ((from.1 - to.1) * 0.08, (to.0 - from.0) * 0.08);
        let _ = writeln!(
            text,
            "<path class=\"link {class}\" d=\"M{:.1},{:.1} Q{:.1},{:.1} {:.1},{:.1}\" stroke-width=\"{:.1}\" \
             stroke-opacity=\"{:.2}\"><title>{} - {}: {:.2} Mbit/s</title></path>",
            from.0,
            from.1,
            (from.0 + to.0) / 2.0 + bend.0,
            (from.1 + to.1) / 2.0 + bend.1,
            to.0,
            to.1,
            0.6 + 5.4 * share,
            0.3 + 0.5 * share,
            escaped(name(scenario, *one)),
            escaped(name(scenario, *other)),
            rate / 1e6,
        );
        for relay in [one, other] {
            *through.entry(*relay).or_default() += rate;
        }
    }
    for relay in scenario.relay_ids() {
        let (x, y) = places.spots[usize::from(relay.0)];
        let (class, radius) = if through.contains_key(&relay) { ("relay", 3.6) } else { ("idle", 2.0) };
        let _ = writeln!(
            text,
            "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"><title>{}</title></circle>",
            escaped(name(scenario, relay))
        );
    }
    names(&mut text, places, scenario, through);
    text + "</svg>\n"
}

/// The names of the busiest relays, where there is room for them.
fn names(text: &mut String, places: &Places, scenario: &Scenario, through: BTreeMap<RelayId, f64>) {
    let mut busy: Vec<_> = through.into_iter().collect();
    busy.sort_by(|(one, rate), (other, more)| more.total_cmp(rate).then(one.cmp(other)));
    // Left end, base line and width of what no name may cover: dots at first.
    let dot = |(relay, _): &(RelayId, f64)| {
        let (x, y) = places.spots[usize::from(relay.0)];
        (x - 4.0, y + 4.0, 8.0)
    };
    let mut taken: Vec<(f64, f64, f64)> = busy.iter().map(dot).collect();
    let dots = taken.len();
    for (relay, _) in busy {
        if taken.len() - dots >= NAMED_MAX {
            break;
        }
        let (x, y) = places.spots[usize::from(relay.0)];
        let name = name(scenario, relay);
        let wide = name.chars().count() as f64 * 6.4;
        // To the right, to the left, above, below.
        let middle = x - wide / 2.0;
        let tries = [(x + 6.0, y + 4.0), (x - 6.0 - wide, y + 4.0), (middle, y - 8.0), (middle, y + 17.0)];
        let free = |(left, base): &(f64, f64)| {
            let inside = *left >= 0.0 && left + wide <= WIDTH && *base > 10.0 && *base < places.height - 2.0;
            let clear = |(other, line, width): &(f64, f64, f64)| {
                left + wide < *other || *left > other + width || (base - line).abs() > 12.0
            };
            inside && taken.iter().all(clear)
        };
        if let Some((left, base)) = tries.into_iter().find(free) {
            taken.push((left, base, wide));
            let name = escaped(name);
            let _ = writeln!(text, "<text class=\"place\" x=\"{left:.1}\" y=\"{base:.1}\">{name}</text>");
        }
    }
}

fn name(scenario: &Scenario, relay: RelayId) -> &str {
    &scenario.relays[usize::from(relay.0)].name
}

fn degrees(at: i32, more: char, less: char) -> String {
    match at {
        0 => "0\u{b0}".to_owned(),
        at if at > 0 => format!("{at}\u{b0} {more}"),
        at => format!("{}\u{b0} {less}", -at),
    }
}
