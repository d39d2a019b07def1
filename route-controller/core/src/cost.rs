//! What a link costs in one direction: the time in which a packet can be expected at the other end, in whole
//! microseconds.
//!
//! Half a round trip, plus the expected time of repairs (each loss waits for a round trip and a reaction, and the
//! repair may be lost again: `p / (1 - p)` times), plus a price per hop. The price makes every hop strictly dearer
//! than none, which is what keeps shortest paths free of loops and next hops consistent.
//!
//! Three steps keep a cost that only trembles from moving a route: the raw cost is smoothed (quicker when it rises:
//! loss must hurt at once, relief can be believed later), the published cost follows only when the smoothed one has
//! been away from it by more than the hysteresis, with every measurement, for the whole dwell time, and what is published is rounded, so that
//! equal links look equal and the tie falls to the node index.

use crate::api::CostConfig;
use std::time::Duration;
use wire_format::Timestamp;

/// Longest round trip believed of a report. Together with [`LOSS_PPM_MAX`] it keeps every sum of costs far from
/// overflow.
const RTT_MAX: Duration = Duration::from_secs(10);
/// Greatest loss believed; above it the formula's figure means nothing any more.
const LOSS_PPM_MAX: u64 = 900_000;
const PPM: u64 = 1_000_000;
/// Published costs are multiples of this.
const QUANTUM_US: u64 = 500;
/// A link is young for as long as it has fewer samples (a new one gives 30 a second) ...
const YOUNG_SAMPLES: u64 = 100;
/// ... and less time than this. Measurements of a young link replace each other: the first ones were taken while
/// handshakes kept both ends busy.
const YOUNG_TIME: Duration = Duration::from_secs(3);

/// What a cost is made from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Measurement {
    /// Round trip, `None` before the first sample.
    pub rtt: Option<Duration>,
    /// Lost in this direction, parts per million.
    pub loss_ppm: u32,
    /// Samples since the link came up.
    pub samples: u64,
}

impl Measurement {
    /// The cost of this measurement alone.
    pub(crate) fn raw_us(&self, config: &CostConfig) -> u64 {
        let rtt_us = micros(self.rtt.unwrap_or(config.rtt_unmeasured).min(RTT_MAX));
        let loss = u64::from(self.loss_ppm).min(LOSS_PPM_MAX);
        let repair_us = (rtt_us + micros(config.repair_reaction.min(RTT_MAX))) * loss / (PPM - loss);
        rtt_us / 2 + repair_us + micros(config.hop.min(RTT_MAX)).max(1)
    }
}

/// The cost of one direction of a link that is up.
#[derive(Clone, Debug)]
pub(crate) struct LinkCost {
    raw_us: u64,
    smoothed_us: u64,
    published_us: u64,
    up_at: Timestamp,
    sampled_at: Timestamp,
    measured: bool,
    away_since: Option<Timestamp>,
}

impl LinkCost {
    /// The cost of a link that has just come up.
    pub(crate) fn new(now: Timestamp, measurement: &Measurement, config: &CostConfig) -> LinkCost {
        let raw_us = measurement.raw_us(config);
        LinkCost {
            raw_us,
            smoothed_us: raw_us,
            published_us: quantised(raw_us),
            up_at: now,
            sampled_at: now,
            measured: measurement.rtt.is_some(),
            away_since: None,
        }
    }

    /// Takes a measurement. True if the published cost changed.
    pub(crate) fn sample(&mut self, now: Timestamp, measurement: &Measurement, config: &CostConfig) -> bool {
        self.raw_us = measurement.raw_us(config);
        let first = measurement.rtt.is_some() && !self.measured;
        let young = measurement.samples < YOUNG_SAMPLES && now.since(self.up_at) < YOUNG_TIME;
        self.measured |= measurement.rtt.is_some();
        if first || young {
            self.smoothed_us = self.raw_us;
        } else {
            self.smooth(now.since(self.sampled_at), config);
        }
        self.sampled_at = now;
        if first {
            return self.publish();
        }
        if !self.is_away(config) {
            self.away_since = None;
            return false;
        }
        let since = *self.away_since.get_or_insert(now);
        let doubled = self.smoothed_us > self.published_us.saturating_mul(2);
        let dwell = if doubled { config.dwell_doubled.min(config.dwell) } else { config.dwell };
        if young || now.since(since) >= dwell { self.publish() } else { false }
    }

    /// The cost that routes are computed with.
    pub(crate) fn published_us(&self) -> u64 {
        self.published_us
    }

    /// The cost of the latest measurement.
    pub(crate) fn raw_us(&self) -> u64 {
        self.raw_us
    }

    /// First-order low pass in integers: after `passed`, the share `passed / (passed + constant)` of the way is done.
    fn smooth(&mut self, passed: Duration, config: &CostConfig) {
        let rising = self.raw_us > self.smoothed_us;
        let constant = if rising { config.smoothing_rise } else { config.smoothing_fall };
        let (passed_us, constant_us) = (micros(passed), micros(constant));
        let whole = u128::from(passed_us) + u128::from(constant_us);
        if whole == 0 {
            self.smoothed_us = self.raw_us;
            return;
        }
        let way = u128::from(self.raw_us.abs_diff(self.smoothed_us)) * u128::from(passed_us) / whole;
        let way = u64::try_from(way).expect("a share of a u64 is a u64");
        self.smoothed_us = if rising { self.smoothed_us + way } else { self.smoothed_us - way };
    }

    /// The smoothed cost and the latest measurement are both too far from the published cost, on the same side: after
    /// a spike the one is still away, but the other is back.
    fn is_away(&self, config: &CostConfig) -> bool {
        let threshold_us = (self.published_us.saturating_mul(u64::from(config.hysteresis_pct)) / 100)
            .max(micros(config.hysteresis_min));
        let above = self.published_us.saturating_add(threshold_us);
        let below = self.published_us.saturating_sub(threshold_us);
        self.smoothed_us.min(self.raw_us) > above || self.smoothed_us.max(self.raw_us) < below
    }

    fn publish(&mut self) -> bool {
        self.away_since = None;
        let before = self.published_us;
        self.published_us = quantised(self.smoothed_us);
        self.published_us != before
    }
}

/// Rounded to the quantum, never to zero.
fn quantised(us: u64) -> u64 {
    (us.saturating_add(QUANTUM_US / 2) / QUANTUM_US * QUANTUM_US).max(QUANTUM_US)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn measured(rtt_ms: u64, loss_ppm: u32) -> Measurement {
        Measurement { rtt: Some(Duration::from_millis(rtt_ms)), loss_ppm, samples: 1_000 }
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_micros(ms * 1_000)
    }

    /// Feeds a measurement each second from `from_s` to `to_s`; when the published cost changed.
    fn feed(
        cost: &mut LinkCost,
        from_s: u64,
        to_s: u64,
        measurement: impl Fn(u64) -> Measurement,
    ) -> Vec<u64> {
        let config = CostConfig::default();
        (from_s..to_s).filter(|s| cost.sample(at(s * 1_000), &measurement(*s), &config)).collect()
    }

    #[test]
    fn loss_costs_repairs() {
        let config = CostConfig::default();
        assert_eq!(measured(40, 0).raw_us(&config), 21_000);
        // One in two lost: one repair expected, 40 ms of round trip and 10 ms of reaction.
        assert_eq!(measured(40, 500_000).raw_us(&config), 71_000);
        // Half a round trip is still counted when the link is free of charge otherwise.
        assert_eq!(measured(0, 0).raw_us(&config), 1_000);
    }

    #[test]
    fn trembling_does_not_move_the_published_cost() {
        let config = CostConfig::default();
        let mut cost = LinkCost::new(at(0), &measured(40, 0), &config);
        let changes = feed(&mut cost, 1, 300, |s| measured(if s % 2 == 0 { 38 } else { 42 }, 0));
        assert_eq!(changes, Vec::<u64>::new());
        assert_eq!(cost.published_us(), 21_000);
    }

    #[test]
    fn a_spike_is_forgotten_and_a_step_is_followed() {
        let config = CostConfig::default();
        let mut cost = LinkCost::new(at(0), &measured(40, 0), &config);
        assert_eq!(feed(&mut cost, 1, 60, |s| measured(if s == 10 { 60 } else { 40 }, 0)), Vec::<u64>::new());
        let changes = feed(&mut cost, 60, 120, |_| measured(60, 0));
        assert!(!changes.is_empty() && changes[0] <= 65, "{changes:?}");
        assert!(cost.published_us().abs_diff(31_000) <= 3_100, "{}", cost.published_us());
    }

    #[test]
    fn heavy_loss_is_priced_within_seconds() {
        let config = CostConfig::default();
        let mut cost = LinkCost::new(at(0), &measured(40, 0), &config);
        feed(&mut cost, 1, 10, |_| measured(40, 0));
        let changes = feed(&mut cost, 10, 20, |_| measured(40, 600_000));
        assert!(!changes.is_empty() && changes[0] <= 12, "{changes:?}");
    }

    #[test]
    fn the_first_measurement_replaces_the_assumption() {
        let config = CostConfig::default();
        let unmeasured = Measurement { rtt: None, loss_ppm: 0, samples: 0 };
        let mut cost = LinkCost::new(at(0), &unmeasured, &config);
        assert_eq!(cost.published_us(), 251_000);
        assert!(cost.sample(at(200), &Measurement { samples: 1, ..measured(10, 0) }, &config));
        assert_eq!(cost.published_us(), 6_000);
    }

    proptest! {
        #[test]
        fn costs_are_positive_and_bounded(
            rtt_us in proptest::option::of(any::<u64>()), loss_ppm: u32, samples: u64, steps_us: Vec<u64>,
        ) {
            let config = CostConfig { hop: Duration::ZERO, ..CostConfig::default() };
            let measurement = Measurement { rtt: rtt_us.map(Duration::from_micros), loss_ppm, samples };
            prop_assert!((1..200_000_000).contains(&measurement.raw_us(&config)));
            let mut cost = LinkCost::new(Timestamp::ZERO, &measured(40, 0), &config);
            let mut now = Timestamp::ZERO;
            for step_us in steps_us {
                now = now + Duration::from_micros(step_us);
                cost.sample(now, &measurement, &config);
                prop_assert!((1..200_000_000).contains(&cost.published_us()));
            }
        }
    }
}
