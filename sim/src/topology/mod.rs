//! Topologies that scenarios name instead of writing every link: measured round trips, backbones of operators, and a model
//! of the world that needs no file.
//!
//! | source | what it is | relays |
//! | --- | --- | --- |
//! | `matrix` | round trips between all pairs, as CSV or whitespace-separated, one file or several for times one after the other | every pair that was measured has a link |
//! | `backbone` | node-link JSON of SNDlib and the Topology Zoo (as topohub writes it) | the links of the file, as long as they are |
//! | `world` | cities, great circles, fibre that goes astray | every pair |

mod backbone;
mod cities;
pub mod gain;
mod matrix;
mod world;

use link_model::Seed;
use std::time::Duration;
use wire_format::control::Position;

/// Most relays of a topology. What is told of all pairs grows with its square.
pub const RELAYS_MAX: usize = 2_000;

/// Why a source is no topology.
pub(crate) type Problem = String;

/// Where relays are, and how far apart.
#[derive(Clone, PartialEq, Debug)]
pub struct Topology {
    /// All relays, in the order of the source.
    pub places: Vec<TopologyPlace>,
    /// Round trips from their times on; the first from zero, times ascending.
    pub slices: Vec<(Duration, RoundTrips)>,
}

/// A relay of a topology.
#[derive(Clone, PartialEq, Debug)]
pub struct TopologyPlace {
    /// Unique name.
    pub name: String,
    /// Region, or country.
    pub region: Option<String>,
    /// Where it stands, if that is known.
    pub position: Option<Position>,
}

/// Round trips in microseconds of all ordered pairs, as each end measures them; none where there is no link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoundTrips {
    count: usize,
    us: Vec<u32>,
}

/// Of a pair that has no link.
const NONE: u32 = u32::MAX;

impl RoundTrips {
    pub(crate) fn none(count: usize) -> RoundTrips {
        RoundTrips { count, us: vec![NONE; count * count] }
    }

    /// How many relays.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// What `from` measures of its link to `to`.
    #[must_use]
    pub fn us(&self, from: usize, to: usize) -> Option<u32> {
        Some(self.us[from * self.count + to]).filter(|us| *us != NONE)
    }

    pub(crate) fn set(&mut self, from: usize, to: usize, us: u32) {
        self.us[from * self.count + to] = us.min(NONE - 1);
    }

    /// All ordered pairs with a link, and their round trips.
    pub fn pairs(&self) -> impl Iterator<Item = (usize, usize, u32)> {
        let all = (0..self.count).flat_map(move |from| (0..self.count).map(move |to| (from, to)));
        all.filter_map(|(from, to)| self.us(from, to).filter(|_| from != to).map(|us| (from, to, us)))
    }

    fn picked(&self, places: &[usize]) -> RoundTrips {
        let mut picked = RoundTrips::none(places.len());
        for (from, old_from) in places.iter().enumerate() {
            for (to, old_to) in places.iter().enumerate() {
                picked.us[from * places.len() + to] = self.us[old_from * self.count + old_to];
            }
        }
        picked
    }
}

/// What a scenario says of its topology.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) source: Source<'a>,
    /// So many of its relays, drawn by the seed.
    pub(crate) relays: Option<usize>,
    pub(crate) seed: Seed,
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Source<'a> {
    /// Files, how long each of them holds, and where the relays stand.
    Matrices {
        files: Vec<&'a str>,
        every: Duration,
        places: Option<&'a str>,
    },
    Backbone(&'a str),
    World,
}

/// Reads, or makes, a topology. `read` gives the text of a file.
pub(crate) fn topology(
    wanted: &Wanted<'_>,
    read: &mut dyn FnMut(&str) -> std::io::Result<String>,
) -> Result<Topology, (String, Problem)> {
    let text = |file: &str, read: &mut dyn FnMut(&str) -> std::io::Result<String>| {
        read(file).map_err(|error| (file.to_owned(), error.to_string()))
    };
    let mut topology = match &wanted.source {
        Source::Matrices { files, every, places } => {
            let mut topology: Option<Topology> = None;
            for (at, file) in files.iter().enumerate() {
                let (names, trips) =
                    matrix::parse(&text(file, read)?).map_err(|problem| (String::from(*file), problem))?;
                let from = *every * at as u32;
                match &mut topology {
                    None => {
                        let place = |name| TopologyPlace { name, region: None, position: None };
                        let places = names.into_iter().map(place).collect();
                        topology = Some(Topology { places, slices: vec![(from, trips)] });
                    }
                    Some(topology) if topology.places.len() == names.len() => {
                        topology.slices.push((from, trips));
                    }
                    Some(topology) => {
                        let problem = format!(
                            "{} relays, where the first file has {}",
                            names.len(),
                            topology.places.len()
                        );
                        return Err((String::from(*file), problem));
                    }
                }
            }
            let mut topology =
                topology.ok_or_else(|| (String::new(), "name at least one file".to_owned()))?;
            if let Some(file) = places {
                matrix::locate(&text(file, read)?, &mut topology.places)
                    .map_err(|problem| (String::from(*file), problem))?;
            }
            topology
        }
        Source::Backbone(file) => {
            backbone::parse(&text(file, read)?).map_err(|problem| (String::from(*file), problem))?
        }
        Source::World => {
            let relays = wanted.relays.unwrap_or(cities::CITIES.len());
            return Ok(world::world(relays, wanted.seed));
        }
    };
    let count = topology.places.len();
    if let Some(relays) = wanted.relays.filter(|relays| *relays < count) {
        let places = drawn(count, relays, wanted.seed);
        topology.places = places.iter().map(|place| topology.places[*place].clone()).collect();
        for (_, trips) in &mut topology.slices {
            *trips = trips.picked(&places);
        }
    }
    Ok(topology)
}

/// So many places of `count`, ascending.
fn drawn(count: usize, wanted: usize, seed: Seed) -> Vec<usize> {
    let mut rng = seed.child("relays").stream();
    let mut places: Vec<usize> = (0..count).collect();
    for at in 0..wanted {
        let other = at + rng.within(0..=(count - at - 1) as u64) as usize;
        places.swap(at, other);
    }
    places.truncate(wanted);
    places.sort_unstable();
    places
}

/// Kilometres along the great circle.
pub(crate) fn great_circle_km(a: Position, b: Position) -> f64 {
    const EARTH_RADIUS_KM: f64 = 6_371.0;
    let radians = |position: Position| {
        let of = |micro_degrees: i32| (f64::from(micro_degrees) / 1e6).to_radians();
        (of(position.lat_micro_degrees()), of(position.lon_micro_degrees()))
    };
    let ((lat_a, lon_a), (lat_b, lon_b)) = (radians(a), radians(b));
    let half = |from: f64, to: f64| ((to - from) / 2.0).sin().powi(2);
    let chord = half(lat_a, lat_b) + lat_a.cos() * lat_b.cos() * half(lon_a, lon_b);
    2.0 * EARTH_RADIUS_KM * chord.clamp(0.0, 1.0).sqrt().asin()
}

/// Microseconds of the round trip over so many kilometres of fibre, at 204 km per millisecond.
pub(crate) fn fibre_us(km: f64) -> u32 {
    (2.0 * km / 204.0 * 1e3).round().clamp(1.0, 3e9) as u32
}
