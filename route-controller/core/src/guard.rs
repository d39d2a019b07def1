//! What is believed of reports: a single false low one would attract every route.
//!
//! - **Too few samples** are no measurement, unless the other end confirms it: a link that has just come up is priced at once.
//! - **Both ends measure the same round trip.** Where they differ by more than chance explains, the longer one counts:
//!   who wants traffic can then not get it without the other end's help.
//! - **Nothing is faster than light in glass**, about 204 km per millisecond along the great circle. Where both ends said
//!   where they stand, a shorter round trip is no measurement. Positions may be off by [`TOLERANCE_KM`].
//!
//! A link whose round trip is no measurement keeps the price that it had, and costs as much as one that was never
//! measured if it had none: it serves where nothing else does.
//!
//! What is left to somebody who lies is what both ends agree on and light allows; who gains from that all of a sudden is
//! [`crate::hubs`]' business.

use crate::api::CostConfig;
use std::time::Duration;
use wire_format::control::Position;

/// Light in glass, kilometres per second.
const GLASS_KM_PER_S: f64 = 204_000.0;
/// How far a relay may stand from where it says it does.
const TOLERANCE_KM: f64 = 50.0;
const EARTH_RADIUS_KM: f64 = 6_371.0;
/// Two ends differ when one measures this many percent of the other's round trip and ...
const DIFFER_PCT: u128 = 150;
/// ... this much more.
const DIFFER_LEAST: Duration = Duration::from_millis(10);

/// Why a report is not believed as it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Doubt {
    /// It stands on too few samples.
    FewSamples,
    /// The other end measures a round trip that is much longer.
    EndsDiffer,
    /// Light would take longer.
    FasterThanLight,
}

/// One end's round trips.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RoundTrip {
    pub rtt: Duration,
    pub rtt_min: Option<Duration>,
    pub samples: u64,
}

/// What is believed of a direction: its round trip, if there is one to believe, and what was wrong.
pub(crate) fn judge(
    own: Option<RoundTrip>,
    other: Option<RoundTrip>,
    floor: Option<Duration>,
    config: &CostConfig,
) -> (Option<RoundTrip>, Option<Doubt>) {
    let enough = |round: &RoundTrip| round.samples >= config.samples_min;
    let Some(own) = own else { return (None, None) };
    let (round, doubt) = match other {
        Some(other) if enough(&other) && differ(own.rtt, other.rtt) => (other, Some(Doubt::EndsDiffer)),
        Some(other) if enough(&own) || !differ(own.rtt, other.rtt) => (own, None),
        None if enough(&own) => (own, None),
        Some(_) | None => return (None, Some(Doubt::FewSamples)),
    };
    // The least of late may be false where the last second's is not.
    let least = round.rtt_min.map_or(round.rtt, |least| least.min(round.rtt));
    if floor.is_some_and(|floor| least < floor) {
        return (None, Some(Doubt::FasterThanLight));
    }
    (Some(round), doubt)
}

/// Whether the other end's round trip is much longer.
fn differ(own: Duration, other: Duration) -> bool {
    other > own.saturating_add(DIFFER_LEAST) && other.as_micros() * 100 > own.as_micros() * DIFFER_PCT
}

/// The least round trip between two places that physics allows.
pub(crate) fn floor(a: Position, b: Position) -> Duration {
    let km = (great_circle_km(a, b) - TOLERANCE_KM).max(0.0);
    Duration::from_secs_f64(2.0 * km / GLASS_KM_PER_S)
}

/// Along the surface, by the haversine formula.
fn great_circle_km(a: Position, b: Position) -> f64 {
    let radians = |micro_degrees: i32| (f64::from(micro_degrees) / 1e6).to_radians();
    let (lat_a, lat_b) = (radians(a.lat_micro_degrees()), radians(b.lat_micro_degrees()));
    let half = |from: f64, to: f64| ((to - from) / 2.0).sin().powi(2);
    let lon = half(radians(a.lon_micro_degrees()), radians(b.lon_micro_degrees()));
    let share = half(lat_a, lat_b) + lat_a.cos() * lat_b.cos() * lon;
    2.0 * EARTH_RADIUS_KM * share.clamp(0.0, 1.0).sqrt().asin()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(ms: u64, samples: u64) -> Option<RoundTrip> {
        let rtt = Duration::from_millis(ms);
        Some(RoundTrip { rtt, rtt_min: Some(rtt), samples })
    }

    fn place(lat: f64, lon: f64) -> Position {
        Position::from_degrees(lat, lon).expect("on the globe")
    }

    #[test]
    fn the_longer_of_two_views_counts_and_nothing_beats_light() {
        let config = CostConfig::default();
        let floor = Some(Duration::from_millis(30));
        for (own, other, believed) in [
            (None, round(40, 100), (None, None)),
            (round(40, 3), None, (None, Some(Doubt::FewSamples))),
            (round(40, 3), round(90, 3), (None, Some(Doubt::FewSamples))),
            (round(40, 3), round(40, 1), (round(40, 3), None)),
            (round(40, 3), round(90, 100), (round(90, 100), Some(Doubt::EndsDiffer))),
            (round(40, 100), round(44, 100), (round(40, 100), None)),
            (round(40, 100), round(90, 100), (round(90, 100), Some(Doubt::EndsDiffer))),
            (round(90, 100), round(40, 100), (round(90, 100), None)),
            (round(40, 100), round(90, 1), (round(40, 100), None)),
            (round(31, 100), None, (round(31, 100), None)),
            (round(29, 100), None, (None, Some(Doubt::FasterThanLight))),
            (round(29, 100), round(90, 100), (round(90, 100), Some(Doubt::EndsDiffer))),
        ] {
            assert_eq!(judge(own, other, floor, &config), believed, "{own:?} {other:?}");
        }
        let least_is_false =
            RoundTrip { rtt: Duration::from_millis(80), rtt_min: Some(Duration::ZERO), samples: 9 };
        assert_eq!(judge(Some(least_is_false), None, floor, &config).1, Some(Doubt::FasterThanLight));
    }

    #[test]
    fn distances_on_the_globe() {
        let (frankfurt, singapore) = (place(50.11, 8.68), place(1.35, 103.82));
        assert!((great_circle_km(frankfurt, singapore) - 10_260.0).abs() < 30.0);
        let ms = floor(frankfurt, singapore).as_millis();
        assert!((99..=101).contains(&ms), "{ms} ms");
        // Across the date line, and from pole to pole.
        assert!((great_circle_km(place(0.0, 179.5), place(0.0, -179.5)) - 111.2).abs() < 0.5);
        assert!((great_circle_km(place(90.0, 0.0), place(-90.0, 77.0)) - 20_015.0).abs() < 1.0);
        assert_eq!(floor(frankfurt, frankfurt), Duration::ZERO);
    }
}
