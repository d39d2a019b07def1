//! What a link costs in one direction: the time in which a packet can be expected at the other end, in whole
//! microseconds, and what else speaks against sending it there.
//!
//! - **One way**: half of the least round trip of the last 10 s or so. Without synchronised clocks nothing tells the two
//!   directions apart there.
//! - **Queueing**: by how much the present round trip exceeds that. Here the directions are told apart: the ends see how
//!   much later than usual datagrams arrive, and the excess is shared out in that proportion (evenly where they see
//!   nothing). Both directions together cost the round trip, no more and no less.
//! - **Repair**: a packet is lost with probability `p` and then waits until that is noticed and for a round trip, and so
//!   does its repair, `p / (1 - p)` times in the mean (the delay of selective repeat: Lin, Costello and Miller,
//!   "Automatic-repeat-request error-control schemes", 1984). What is lost in a burst also waits for the burst to end. A
//!   lost packet is in a long burst more often than there are long bursts (the inspection paradox): in one of `L`
//!   datagrams, `(L + 1) / 2` of them in the mean, weighted by `L`. Parity and duplicates shorten this; it is what a link
//!   with requests alone takes.
//! - **Hop**: what crossing a relay takes. It makes every hop strictly dearer than none, which is what keeps shortest paths
//!   free of loops and next hops consistent.
//! - **Jitter** is measured beside these, and costs nothing but by policies that say so ([`crate::policy`]).
//! - **Load**, **money** and **distrust** come on top, see [`crate::load`], [`EgressPrice`] and [`crate::damping`].
//!
//! Three steps keep a cost that only trembles from moving a route: the measured terms are smoothed (quicker when they rise:
//! loss must hurt at once, relief can be believed later), the published cost follows only when the smoothed one has
//! been away from it by more than the hysteresis, with every measurement, for the whole dwell time, and what is published is
//! rounded, so that equal links look equal and the tie falls to the node index. A price that rose soon after it had
//! fallen swings: its next fall is believed only after minutes.

use crate::api::CostConfig;
#[cfg(doc)]
use crate::api::EgressPrice;
use std::time::Duration;
use wire_format::Timestamp;
use wire_format::control::LOSS_BURSTS;

/// Longest round trip believed of a report. Together with [`LOSS_PPM_MAX`] it keeps every sum of costs far from
/// overflow.
const RTT_MAX: Duration = Duration::from_secs(10);
/// Greatest loss believed; above it the formula's figure means nothing any more.
const LOSS_PPM_MAX: u64 = 900_000;
const PPM: u64 = 1_000_000;
/// Published costs are multiples of this.
const QUANTUM_US: u64 = 100;
/// A link is young for as long as it has fewer samples (a new one gives 30 a second) ...
const YOUNG_SAMPLES: u64 = 100;
/// ... and less time than this. Measurements of a young link replace each other: the first ones were taken while
/// handshakes kept both ends busy.
const YOUNG_TIME: Duration = Duration::from_secs(3);
/// Lengths of bursts that stand for the buckets of reports, in half datagrams.
const BURST_HALVES: [u64; LOSS_BURSTS] = [2, 4, 7, 13, 25, 49, 96];
/// Between two datagrams of a video of 2 Mbit/s.
const SLOT_US: u64 = 5_000;
/// Longest wait for the end of a burst: beyond it is an outage, which the state of a link tells.
const BURST_WAIT_MAX_US: u64 = 50_000;

/// What a published cost of one direction of a link is made of. All of it adds up to the cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CostTerms {
    /// Half of the least round trip of late.
    pub one_way_us: u64,
    /// Wait in queues on the way.
    pub queueing_us: u64,
    /// Expected wait for repairs.
    pub repair_us: u64,
    /// Crossing a relay.
    pub hop_us: u64,
    /// The step for a link that carries nearly all it can.
    pub load_us: u64,
    /// The price of traffic between the two regions, as time.
    pub money_us: u64,
    /// Interarrival jitter, as far as the policy minds it.
    pub jitter_us: u64,
    /// The surcharge for a link that failed again and again.
    pub distrust_us: u64,
    /// What rounding added or took away.
    pub rounding_us: i64,
    /// What the policy adds or takes away for preferred relays and pins.
    pub preference_us: i64,
}

impl CostTerms {
    /// The cost that routes are computed with.
    pub fn total_us(&self) -> u64 {
        let sum = self.one_way_us
            + self.queueing_us
            + self.repair_us
            + self.hop_us
            + self.load_us
            + self.money_us
            + self.jitter_us
            + self.distrust_us;
        sum.saturating_add_signed(self.rounding_us).saturating_add_signed(self.preference_us)
    }

    /// Rounds what is measured, as prices are published.
    pub(crate) fn round(&mut self) {
        let exact_us = self.one_way_us + self.queueing_us + self.repair_us + self.jitter_us + self.hop_us;
        let signed = |us: u64| i64::try_from(us).unwrap_or(i64::MAX);
        self.rounding_us = signed(quantised(exact_us)) - signed(exact_us);
    }
}

/// What a cost is made from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Measurement {
    /// Round trip of the last second, `None` before the first sample.
    pub rtt: Option<Duration>,
    /// Least round trip of the last 10 s.
    pub rtt_min: Option<Duration>,
    /// Queueing in this direction, and in the other.
    pub queueing: [Duration; 2],
    /// Interarrival jitter in this direction.
    pub jitter: Duration,
    /// Lost in this direction, parts per million.
    pub loss_ppm: u32,
    /// How often so many in a row were lost in this direction, by bucket.
    pub bursts: [u64; LOSS_BURSTS],
    /// Samples since the link came up.
    pub samples: u64,
}

/// The terms that are measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Measured {
    one_way_us: u64,
    queueing_us: u64,
    repair_us: u64,
}

impl Measured {
    fn sum_us(self) -> u64 {
        self.one_way_us + self.queueing_us + self.repair_us
    }

    /// Some way on towards other values.
    fn towards(self, to: Measured, passed_us: u64, constant_us: u64) -> Measured {
        let step = |from: u64, to: u64| {
            let whole = u128::from(passed_us) + u128::from(constant_us);
            if whole == 0 {
                return to;
            }
            let way = u128::from(to.abs_diff(from)) * u128::from(passed_us) / whole;
            let way = u64::try_from(way).expect("a share of a u64 is a u64");
            if to > from { from + way } else { from - way }
        };
        Measured {
            one_way_us: step(self.one_way_us, to.one_way_us),
            queueing_us: step(self.queueing_us, to.queueing_us),
            repair_us: step(self.repair_us, to.repair_us),
        }
    }
}

impl Measurement {
    fn measured(&self, config: &CostConfig) -> Measured {
        let rtt_us = micros(self.rtt.unwrap_or(config.rtt_unmeasured).min(RTT_MAX));
        let path_us = self.rtt_min.map_or(rtt_us, |least| micros(least).min(rtt_us));
        let [queueing_us, back_us] = self.queueing.map(|queueing| micros(queueing.min(RTT_MAX)));
        let excess_us = rtt_us - path_us;
        let seen_us = queueing_us + back_us;
        let queueing_us = (excess_us * queueing_us).checked_div(seen_us).unwrap_or(excess_us / 2);
        let loss = u64::from(self.loss_ppm).min(LOSS_PPM_MAX);
        let wait_us = rtt_us + micros(config.repair_reaction.min(RTT_MAX)) + self.burst_wait_us();
        Measured { one_way_us: path_us / 2, queueing_us, repair_us: wait_us * loss / (PPM - loss) }
    }

    /// How long a lost packet waits for the end of its burst beyond the next slot, in the mean over lost packets.
    fn burst_wait_us(&self) -> u64 {
        let (mut lost, mut waits) = (0_u128, 0_u128);
        for (halves, count) in BURST_HALVES.into_iter().zip(self.bursts) {
            // In a burst of L datagrams they wait for L, L - 1, ... 1 slots; the last one is the slot that all wait for.
            let (halves, count) = (u128::from(halves), u128::from(count));
            lost += halves * count;
            waits += halves * count * (halves - 2) / 4;
        }
        let slots_us = (waits * u128::from(SLOT_US)).checked_div(lost).unwrap_or(0);
        u64::try_from(slots_us).unwrap_or(u64::MAX).min(BURST_WAIT_MAX_US)
    }
}

/// The measured cost of one direction of a link that is up.
#[derive(Clone, Debug)]
pub(crate) struct LinkCost {
    raw: Measured,
    smoothed: Measured,
    published: Measured,
    jitter: JitterCost,
    hop_us: u64,
    up_at: Timestamp,
    sampled_at: Timestamp,
    measured: bool,
    away_since: Option<Timestamp>,
    /// When the published cost last fell.
    fell_at: Option<Timestamp>,
    /// It rose soon after that.
    swings: bool,
}

impl LinkCost {
    /// The cost of a link that has just come up.
    pub(crate) fn new(now: Timestamp, measurement: &Measurement, config: &CostConfig) -> LinkCost {
        let raw = measurement.measured(config);
        LinkCost {
            raw,
            smoothed: raw,
            published: raw,
            jitter: JitterCost::new(measurement),
            hop_us: micros(config.hop.min(RTT_MAX)).max(1),
            up_at: now,
            sampled_at: now,
            measured: measurement.rtt.is_some(),
            away_since: None,
            fell_at: None,
            swings: false,
        }
    }

    /// Takes a measurement. True if the published cost changed.
    pub(crate) fn sample(&mut self, now: Timestamp, measurement: &Measurement, config: &CostConfig) -> bool {
        self.raw = measurement.measured(config);
        let first = measurement.rtt.is_some() && !self.measured;
        let young = measurement.samples < YOUNG_SAMPLES && now.since(self.up_at) < YOUNG_TIME;
        self.measured |= measurement.rtt.is_some();
        if first || young {
            self.smoothed = self.raw;
        } else {
            let rising = self.raw.sum_us() > self.smoothed.sum_us();
            let constant = if rising { config.smoothing_rise } else { config.smoothing_fall };
            let passed = now.since(self.sampled_at);
            self.smoothed = self.smoothed.towards(self.raw, micros(passed), micros(constant));
        }
        self.jitter.sample(now, measurement, now.since(self.sampled_at), config);
        self.sampled_at = now;
        if first {
            return self.publish();
        }
        if !self.is_away(config) {
            self.away_since = None;
            return false;
        }
        let since = *self.away_since.get_or_insert(now);
        let (before_us, after_us) = (self.published_us(), self.hop_us + self.smoothed.sum_us());
        let dwell = if after_us > before_us.saturating_mul(2) {
            config.dwell_doubled.min(config.dwell)
        } else if after_us < before_us && self.swings {
            config.dwell_swinging.max(config.dwell)
        } else {
            config.dwell
        };
        if young {
            return self.publish();
        }
        if now.since(since) < dwell {
            return false;
        }
        if after_us < before_us {
            self.fell_at = Some(now);
            self.swings = false;
        } else {
            self.swings |= self.fell_at.is_some_and(|at| now < at + config.dwell_swinging * 2);
        }
        self.publish()
    }

    /// The cost that follows from measurements, as it is published.
    pub(crate) fn published_us(&self) -> u64 {
        quantised(self.hop_us + self.published.sum_us())
    }

    /// The cost of the latest measurement.
    pub(crate) fn raw_us(&self) -> u64 {
        self.hop_us + self.raw.sum_us()
    }

    /// What the published cost is made of.
    pub(crate) fn terms(&self) -> CostTerms {
        let Measured { one_way_us, queueing_us, repair_us } = self.published;
        let exact_us = self.hop_us + self.published.sum_us();
        let rounding_us = i64::try_from(self.published_us()).unwrap_or(i64::MAX)
            - i64::try_from(exact_us).unwrap_or(i64::MAX);
        CostTerms {
            one_way_us,
            queueing_us,
            repair_us,
            hop_us: self.hop_us,
            rounding_us,
            ..CostTerms::default()
        }
    }

    /// Jitter, as it is published.
    pub(crate) fn jitter_us(&self) -> u64 {
        self.jitter.published_us
    }

    /// The smoothed cost and the latest measurement are both too far from the published cost, on the same side: after
    /// a spike the one is still away, but the other is back.
    fn is_away(&self, config: &CostConfig) -> bool {
        let published_us = self.published_us();
        let threshold_us = (published_us.saturating_mul(u64::from(config.hysteresis_pct)) / 100)
            .max(micros(config.hysteresis_min));
        let above = published_us.saturating_add(threshold_us);
        let below = published_us.saturating_sub(threshold_us);
        let (smoothed_us, raw_us) = (self.hop_us + self.smoothed.sum_us(), self.raw_us());
        smoothed_us.min(raw_us) > above || smoothed_us.max(raw_us) < below
    }

    fn publish(&mut self) -> bool {
        self.away_since = None;
        let before_us = self.published_us();
        self.published = self.smoothed;
        self.published_us() != before_us
    }
}

/// Jitter, smoothed and published like the rest of a cost, and apart from it: where no policy minds it nothing moves.
#[derive(Clone, Debug)]
struct JitterCost {
    smoothed_us: u64,
    published_us: u64,
    away_since: Option<Timestamp>,
}

impl JitterCost {
    fn new(measurement: &Measurement) -> JitterCost {
        let jitter_us = micros(measurement.jitter.min(RTT_MAX));
        JitterCost { smoothed_us: jitter_us, published_us: jitter_us, away_since: None }
    }

    fn sample(&mut self, now: Timestamp, measurement: &Measurement, passed: Duration, config: &CostConfig) {
        let raw_us = micros(measurement.jitter.min(RTT_MAX));
        let rising = raw_us > self.smoothed_us;
        let constant = if rising { config.smoothing_rise } else { config.smoothing_fall };
        let before = Measured { one_way_us: self.smoothed_us, ..Measured::default() };
        let now_raw = Measured { one_way_us: raw_us, ..Measured::default() };
        self.smoothed_us = before.towards(now_raw, micros(passed), micros(constant)).one_way_us;
        let threshold_us = (self.published_us.saturating_mul(u64::from(config.hysteresis_pct)) / 100)
            .max(micros(config.hysteresis_min));
        let (least_us, most_us) = (self.smoothed_us.min(raw_us), self.smoothed_us.max(raw_us));
        let away = least_us > self.published_us.saturating_add(threshold_us)
            || most_us < self.published_us.saturating_sub(threshold_us);
        if !away {
            self.away_since = None;
        } else if now.since(*self.away_since.get_or_insert(now)) >= config.dwell {
            self.away_since = None;
            self.published_us = self.smoothed_us;
        }
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
        Measurement {
            rtt: Some(Duration::from_millis(rtt_ms)),
            loss_ppm,
            samples: 1_000,
            ..Measurement::default()
        }
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
        let raw_us = |measurement| LinkCost::new(at(0), &measurement, &CostConfig::default()).raw_us();
        assert_eq!(raw_us(measured(40, 0)), 21_000);
        // One in two lost: one repair expected, 40 ms of round trip and 10 ms of reaction.
        assert_eq!(raw_us(measured(40, 500_000)), 71_000);
        // A hop is still counted when the link is free of charge otherwise.
        assert_eq!(raw_us(measured(0, 0)), 1_000);
        // Nine single losses and three bursts of three to four: of 19.5 lost, those in bursts (10.5) wait for 1.25 slots
        // more in the mean.
        let bursts = [9, 0, 3, 0, 0, 0, 0];
        let waits_us = 5_000 * 10_500 / 19_500 * 5 / 4;
        let bursty_us = raw_us(Measurement { bursts, ..measured(40, 500_000) });
        assert!(bursty_us.abs_diff(71_000 + waits_us) < 50, "{bursty_us} us, {waits_us} us of waiting");
        // An outage is no burst.
        let outage = Measurement { bursts: [0, 0, 0, 0, 0, 0, u64::MAX], ..measured(40, 500_000) };
        assert_eq!(raw_us(outage), 71_000 + BURST_WAIT_MAX_US);
    }

    #[test]
    fn a_queue_costs_in_the_direction_where_it_stands_and_both_together_cost_the_round_trip() {
        let ms = Duration::from_millis;
        let terms = |queueing: [u64; 2]| {
            let measurement =
                Measurement { rtt_min: Some(ms(40)), queueing: queueing.map(ms), ..measured(70, 0) };
            LinkCost::new(at(0), &measurement, &CostConfig::default()).terms()
        };
        let (out, back) = (terms([90, 10]), terms([10, 90]));
        assert_eq!((out.one_way_us, out.queueing_us, out.repair_us, out.hop_us), (20_000, 27_000, 0, 1_000));
        assert_eq!((back.one_way_us, back.queueing_us), (20_000, 3_000));
        assert_eq!(out.total_us() + back.total_us(), 70_000 + 2 * 1_000);
        // Where nobody sees which, it is shared.
        assert_eq!(terms([0, 0]).queueing_us, 15_000);
    }

    #[test]
    fn a_price_that_swings_is_believed_to_be_high() {
        for period_s in [20_u64, 40, 100, 300] {
            let config = CostConfig::default();
            let mut cost = LinkCost::new(at(0), &measured(40, 0), &config);
            let bad = |s: u64| s % period_s >= period_s / 2;
            let changes = feed(&mut cost, 1, 600, |s| measured(if bad(s) { 60 } else { 40 }, 0));
            assert!((1..=4).contains(&changes.len()), "period {period_s} s: {changes:?}");
            // Once it has kept quiet for long enough, it is believed.
            let calm = feed(&mut cost, 600, 1_300, |_| measured(40, 0));
            assert!(cost.published_us() < 23_500 && calm.last() < Some(&1_000), "{calm:?} {cost:?}");
        }
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
        let unmeasured = Measurement::default();
        let mut cost = LinkCost::new(at(0), &unmeasured, &config);
        assert_eq!(cost.published_us(), 251_000);
        assert!(cost.sample(at(200), &Measurement { samples: 1, ..measured(10, 0) }, &config));
        assert_eq!(cost.published_us(), 6_000);
    }

    proptest! {
        #[test]
        fn costs_are_positive_and_bounded_and_their_terms_add_up(
            times_us in any::<[Option<u64>; 4]>(), loss_ppm: u32, bursts: [u64; LOSS_BURSTS], samples: u64,
            steps_us: Vec<u64>,
        ) {
            let config = CostConfig { hop: Duration::ZERO, ..CostConfig::default() };
            let [rtt, rtt_min, out, back] = times_us.map(|time| time.map(Duration::from_micros));
            let queueing = [out.unwrap_or_default(), back.unwrap_or_default()];
            let jitter = Duration::ZERO;
            let measurement =
                Measurement { rtt, rtt_min, queueing, jitter, loss_ppm, bursts, samples };
            let mut cost = LinkCost::new(Timestamp::ZERO, &measured(40, 0), &config);
            let mut now = Timestamp::ZERO;
            for step_us in steps_us {
                now = now + Duration::from_micros(step_us);
                cost.sample(now, &measurement, &config);
                prop_assert!((1..200_000_000).contains(&cost.raw_us()));
                prop_assert!((1..200_000_000).contains(&cost.published_us()));
                prop_assert_eq!(cost.terms().total_us(), cost.published_us());
            }
        }
    }
}
