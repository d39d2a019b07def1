//! Where spots are drawn.

use super::{Layout, Picture, Spot};
use std::collections::{BTreeMap, BTreeSet};

const MAP_WIDTH: f64 = 1_100.0;
/// A map is not flatter or higher than this, by its width.
const MAP_HEIGHT: (f64, f64) = (420.0, 760.0);
const MARGIN: f64 = 70.0;
/// Between boxes.
const GAP: f64 = 8.0;
/// Rounds in which boxes push each other apart.
const ROUNDS: usize = 400;
/// Between columns and rows of a flow.
const COLUMN_GAP: f64 = 60.0;
const ROW_GAP: f64 = 52.0;
/// How far a line that passes over columns bends aside for each.
const AROUND: f64 = 46.0;
/// Where maps are cut: in the Pacific, if nothing is within so many degrees of there.
const DATE_LINE: f64 = 190.0;
const OCEAN: f64 = 15.0;

/// Middles of the spots, in their order, on a sheet of this size.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Placed {
    pub(super) spots: Vec<(f64, f64)>,
    /// How far each line bends aside, in their order.
    pub(super) bends: Vec<f64>,
    pub(super) width: f64,
    pub(super) height: f64,
}

pub(super) fn place(picture: &Picture) -> Placed {
    match picture.layout {
        Layout::Flow => flow(picture),
        Layout::Map => {
            let places: Option<Vec<(f64, f64)>> = picture.spots.iter().map(|spot| spot.place).collect();
            let placed = match places.filter(|places| is_spread(places)) {
                Some(places) => map(&picture.spots, &places),
                None => circle(&picture.spots),
            };
            Placed { bends: picture.bends(), ..placed }
        }
    }
}

/// They do not all stand at one place.
fn is_spread(places: &[(f64, f64)]) -> bool {
    places.iter().any(|(lat, lon)| (lat - places[0].0).abs() > 0.2 || (lon - places[0].1).abs() > 0.2)
}

/// Latitude and longitude as they are, stretched to the sheet; the map is cut where the widest ocean is.
fn map(spots: &[Spot], places: &[(f64, f64)]) -> Placed {
    let west = west_of_all(places);
    let east: Vec<(f64, f64)> =
        places.iter().map(|(lat, lon)| (*lat, (lon - west).rem_euclid(360.0))).collect();
    let range = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| {
            (least.min(value), most.max(value))
        })
    };
    let (south, north) = range(&mut east.iter().map(|place| place.0));
    let (left, right) = range(&mut east.iter().map(|place| place.1));
    let (wide, high) = ((right - left).max(0.5), (north - south).max(0.5));
    let inner = MAP_WIDTH - 2.0 * MARGIN;
    // Half as high as on a map that is true at the equator: most of the world's cities are on one belt.
    let height = (inner * high / wide * 1.2).clamp(MAP_HEIGHT.0 - 2.0 * MARGIN, MAP_HEIGHT.1 - 2.0 * MARGIN);
    let at = |(lat, lon): &(f64, f64)| {
        (MARGIN + (lon - left) / wide * inner, MARGIN / 2.0 + (north - lat) / high * height)
    };
    let mut middles: Vec<(f64, f64)> = east.iter().map(at).collect();
    push_apart(spots, &mut middles);
    framed(spots, middles)
}

/// Where the map begins: in the Pacific, as people know it, or behind the widest gap if somebody is at home there.
fn west_of_all(places: &[(f64, f64)]) -> f64 {
    let from_there = |lon: f64| (lon - DATE_LINE).rem_euclid(360.0);
    if places.iter().all(|(_, lon)| (OCEAN..=360.0 - OCEAN).contains(&from_there(*lon))) {
        return DATE_LINE;
    }
    let mut longitudes: Vec<f64> = places.iter().map(|(_, lon)| lon.rem_euclid(360.0)).collect();
    longitudes.sort_by(f64::total_cmp);
    let next = longitudes.iter().skip(1).chain(longitudes.first()).copied();
    let gaps = longitudes.iter().zip(next).map(|(lon, next)| ((next - lon).rem_euclid(360.0), next));
    gaps.max_by(|a, b| a.0.total_cmp(&b.0)).map_or(0.0, |(_, next)| next)
}

/// Boxes that overlap move apart, the shorter way, round by round; then whatever still does is put in rows.
fn push_apart(spots: &[Spot], middles: &mut [(f64, f64)]) {
    for _ in 0..ROUNDS {
        let mut calm = true;
        for a in 0..middles.len() {
            for b in 0..a {
                let (dx, dy) = (middles[a].0 - middles[b].0, middles[a].1 - middles[b].1);
                let across = (spots[a].width() + spots[b].width()) / 2.0 + GAP - dx.abs();
                let along = (spots[a].height() + spots[b].height()) / 2.0 + GAP - dy.abs();
                if across <= 0.01 || along <= 0.01 {
                    continue;
                }
                calm = false;
                // Who stands in the very same place goes by rank.
                if along <= across {
                    let push = along / 2.0 * if dy < 0.0 { -1.0 } else { 1.0 };
                    middles[a].1 += push;
                    middles[b].1 -= push;
                } else {
                    let push = across / 2.0 * if dx < 0.0 { -1.0 } else { 1.0 };
                    middles[a].0 += push;
                    middles[b].0 -= push;
                }
            }
        }
        if calm {
            return;
        }
    }
    // A crowd: one below the other, where each stands from west to east.
    let mut order: Vec<usize> = (0..middles.len()).collect();
    order.sort_by(|a, b| middles[*a].1.total_cmp(&middles[*b].1));
    for (rank, place) in order.iter().enumerate() {
        for other in &order[..rank] {
            let apart = (spots[*place].width() + spots[*other].width()) / 2.0 + GAP;
            let least = middles[*other].1 + (spots[*place].height() + spots[*other].height()) / 2.0 + GAP;
            if (middles[*place].0 - middles[*other].0).abs() < apart {
                middles[*place].1 = middles[*place].1.max(least);
            }
        }
    }
}

/// In a circle, the first on top, clockwise; wide enough for all names.
fn circle(spots: &[Spot]) -> Placed {
    let widest = spots.iter().map(Spot::width).fold(60.0, f64::max);
    let highest = spots.iter().map(Spot::height).fold(24.0, f64::max);
    let count = spots.len().max(1) as f64;
    // Names above each other at the sides need height, names beside each other on top need width.
    let radius_y = (count * (highest + GAP) / 4.0).max(170.0) + highest;
    let radius_x = (count * (widest + GAP) / std::f64::consts::TAU / 1.3).max(230.0).min(radius_y * 4.0);
    let middle = |rank: usize| {
        let angle = std::f64::consts::TAU * rank as f64 / count;
        (radius_x * angle.sin(), -radius_y * angle.cos())
    };
    let mut middles: Vec<(f64, f64)> =
        if spots.len() == 1 { vec![(0.0, 0.0)] } else { (0..spots.len()).map(middle).collect() };
    push_apart(spots, &mut middles);
    framed(spots, middles)
}

/// Columns by how far something is from where the lines begin; in a column by the order in which lines reach it.
fn flow(picture: &Picture) -> Placed {
    let columns = columns(picture);
    let mut rows: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let place_of = |id: &str| picture.spots.iter().position(|spot| spot.id == id);
    let ends = picture.lines.iter().flat_map(|line| [&line.from, &line.to]).filter_map(|id| place_of(id));
    for place in ends.chain(0..picture.spots.len()) {
        if seen.insert(place) {
            rows.entry(columns[place]).or_default().push(place);
        }
    }
    let most = rows.values().map(Vec::len).max().unwrap_or(1);
    let label = |size: fn(&super::Line) -> f64| picture.lines.iter().map(size).fold(0.0, f64::max);
    let letters =
        label(|line| line.label.iter().map(|label| label.chars().count()).max().unwrap_or(0) as f64);
    let row_gap = ROW_GAP + label(|line| line.label.len() as f64) * super::LABEL_HEIGHT;
    let column_gap = COLUMN_GAP + super::label_width(letters);
    let mut middles = vec![(0.0, 0.0); picture.spots.len()];
    let mut x = 0.0;
    for members in rows.values() {
        let width = members.iter().map(|place| picture.spots[*place].width()).fold(0.0, f64::max);
        x += width / 2.0;
        for (rank, place) in members.iter().enumerate() {
            let row = rank as f64 - (members.len() - 1) as f64 / 2.0;
            middles[*place] = (x, (row + (most - 1) as f64 / 2.0) * row_gap);
        }
        x += width / 2.0 + column_gap;
    }
    let mut placed = framed(&picture.spots, middles);
    placed.bends = picture.bends();
    for (line, bend) in picture.lines.iter().zip(&mut placed.bends) {
        let column = |id: &str| place_of(id).map_or(0, |place| columns[place]);
        let over = column(&line.to).saturating_sub(column(&line.from)).saturating_sub(1);
        *bend += AROUND * over as f64;
    }
    let lowest = placed.bends.iter().copied().fold(0.0, f64::max);
    placed.height += lowest;
    placed
}

/// The longest way to each spot that passes none twice, found by relaxing; in circles the shorter one counts.
fn columns(picture: &Picture) -> Vec<usize> {
    let place_of: BTreeMap<&str, usize> =
        picture.spots.iter().enumerate().map(|(place, spot)| (spot.id.as_str(), place)).collect();
    let lines: Vec<(usize, usize)> = picture
        .lines
        .iter()
        .filter_map(|line| Some((*place_of.get(line.from.as_str())?, *place_of.get(line.to.as_str())?)))
        .collect();
    // Lines that lead back to where a search along them has come from are left out.
    let mut forward = Vec::new();
    let mut state = vec![0_u8; picture.spots.len()];
    for start in 0..picture.spots.len() {
        visit(start, &lines, &mut state, &mut forward);
    }
    let mut columns = vec![0; picture.spots.len()];
    for _ in 0..picture.spots.len() {
        for (from, to) in &forward {
            columns[*to] = columns[*to].max(columns[*from] + 1);
        }
    }
    columns
}

fn visit(at: usize, lines: &[(usize, usize)], state: &mut [u8], forward: &mut Vec<(usize, usize)>) {
    if state[at] != 0 {
        return;
    }
    state[at] = 1;
    for (from, to) in lines.iter().filter(|(from, _)| *from == at) {
        if state[*to] != 1 {
            forward.push((*from, *to));
            visit(*to, lines, state, forward);
        }
    }
    state[at] = 2;
}

/// Moved to the middle of a sheet that has room for all.
fn framed(spots: &[Spot], middles: Vec<(f64, f64)>) -> Placed {
    let edges = |low: &dyn Fn(&Spot, (f64, f64)) -> f64, high: &dyn Fn(&Spot, (f64, f64)) -> f64| {
        let pairs = || spots.iter().zip(&middles);
        let least = pairs().map(|(spot, at)| low(spot, *at)).fold(f64::INFINITY, f64::min);
        let most = pairs().map(|(spot, at)| high(spot, *at)).fold(f64::NEG_INFINITY, f64::max);
        if least.is_finite() { (least, most) } else { (0.0, 0.0) }
    };
    let (left, right) = edges(&|spot, at| at.0 - spot.width() / 2.0, &|spot, at| at.0 + spot.width() / 2.0);
    let (top, bottom) = edges(&|spot, at| at.1 - spot.height() / 2.0, &|spot, at| at.1 + spot.height() / 2.0);
    let (inner_width, inner_height) = (right - left, bottom - top);
    let width = (inner_width + 60.0).max(560.0);
    let height = (inner_height + 50.0).max(120.0);
    let (dx, dy) = ((width - inner_width) / 2.0 - left, (height - inner_height) / 2.0 - top);
    let spots = middles.into_iter().map(|(x, y)| (x + dx, y + dy)).collect();
    Placed { spots, bends: Vec::new(), width, height }
}
