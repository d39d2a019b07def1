//! What a run at flow grain comes to, for people and for programs.

use super::judge::{Verdicts, share_pct};
use super::sample::Sample;
use crate::Scenario;
use crate::check::Objection;
use crate::measure::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// A run and what the judges say.
#[derive(Clone, Debug, Serialize)]
pub struct FlowOutcome {
    /// The scenario's name.
    pub scenario: String,
    /// `flow`.
    pub grain: &'static str,
    /// The seed.
    pub seed: u64,
    /// Of everything that the controller said, 16 hex digits.
    pub trace_hash: String,
    /// Relays of the scenario.
    pub relays: usize,
    /// Messages, reports, samples and whatever else happened.
    pub events: u64,
    /// Times at which routes and streams were looked at, and those of them at which nothing had changed of late.
    pub samples: [u64; 2],
    /// Epochs that relays stamped.
    pub epochs: u64,
    /// Routes of all pairs, the mean of all samples.
    pub routes: RouteShares,
    /// Most streams at a sample.
    pub streams_max: u64,
    /// Deliveries looked at, over all samples.
    pub deliveries: u64,
    /// Percent of the wanted ones that were not served.
    pub unserved_pct: f64,
    /// Links crossed by a stream, in the mean.
    pub copies_per_stream: f64,
    /// One way of each delivery by the overlay, and by the direct link, microseconds.
    pub delay_us: Spread,
    /// The same by the direct link, where there is one.
    pub direct_us: Spread,
    /// Bits per second of the busiest links at their busiest sample.
    pub busiest_links: Vec<(String, u64)>,
    /// What must not have happened.
    #[serde(serialize_with = "objections")]
    pub objections: Vec<Objection>,
}

/// Shares of ordered pairs of relays that have a link, percent.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct RouteShares {
    /// Ordered pairs with a link.
    pub pairs: u64,
    /// Faster than direct by more than a tenth, by the oracle, with at most one, two and three relays.
    pub oracle_gain_pct: [f64; 3],
    /// The same by the tables.
    pub gain_pct: f64,
    /// Slower than direct by more than a tenth.
    pub worse_pct: f64,
    /// Of those that no relay makes faster: on the direct link.
    pub direct_kept_pct: f64,
    /// Of the time that the oracle saves.
    pub oracle_kept_pct: f64,
    /// With no relay on the way, one, two, and more.
    pub by_relays_pct: [f64; 4],
    /// On another way, in an hour.
    pub changes_per_hour_pct: f64,
    /// The longest route as a multiple of the best way, of samples at which all was settled.
    pub worst_factor: f64,
}

/// A distribution.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Spread {
    /// Median.
    pub p50: u64,
    /// Of a hundred, the 95th.
    pub p95: u64,
    /// Of a hundred, the 99th.
    pub p99: u64,
}

#[derive(Serialize)]
struct ObjectionJson<'a> {
    judge: &'static str,
    at_us: u64,
    what: &'a str,
}

fn objections<S: serde::Serializer>(objections: &[Objection], out: S) -> Result<S::Ok, S::Error> {
    out.collect_seq(objections.iter().map(|objection| ObjectionJson {
        judge: objection.judge,
        at_us: u64::try_from(objection.at.as_micros()).unwrap_or(u64::MAX),
        what: &objection.what,
    }))
}

impl FlowOutcome {
    /// One compact JSON object.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("plain values")
    }
}

impl fmt::Display for FlowOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let routes = &self.routes;
        let [one, two, three] = routes.oracle_gain_pct;
        let [direct, by_one, by_two, more] = routes.by_relays_pct;
        writeln!(f, "scenario: {}", self.scenario)?;
        writeln!(f, "seed: {}", self.seed)?;
        writeln!(
            f,
            "relays: {}, events: {}, samples: {}, epochs: {}",
            self.relays, self.events, self.samples[0], self.epochs
        )?;
        writeln!(f, "pairs with a link: {}", routes.pairs)?;
        writeln!(f, "  faster than direct by more than a tenth: {:.2}%", routes.gain_pct)?;
        writeln!(f, "  the same by the oracle, at most 1, 2, 3 relays: {one:.2}, {two:.2}, {three:.2}%")?;
        writeln!(f, "  slower than direct by more than a tenth: {:.2}%", routes.worse_pct)?;
        writeln!(f, "  of the oracle's gain kept: {:.1}%", routes.oracle_kept_pct)?;
        writeln!(f, "  direct where nothing is gained: {:.2}%", routes.direct_kept_pct)?;
        writeln!(f, "  with 0, 1, 2, more relays: {direct:.1}, {by_one:.1}, {by_two:.1}, {more:.2}%")?;
        writeln!(f, "  on another way in an hour: {:.2}%", routes.changes_per_hour_pct)?;
        if self.deliveries > 0 {
            writeln!(f, "streams: at most {}, {:.2} links each", self.streams_max, self.copies_per_stream)?;
            writeln!(f, "deliveries looked at: {}, not served: {:.3}%", self.deliveries, self.unserved_pct)?;
            let ms = |us: u64| us as f64 / 1e3;
            let (own, direct) = (self.delay_us, self.direct_us);
            writeln!(f, "  one way: median {:.1} ms, p95 {:.1} ms", ms(own.p50), ms(own.p95))?;
            writeln!(f, "  direct:  median {:.1} ms, p95 {:.1} ms", ms(direct.p50), ms(direct.p95))?;
        }
        for objection in &self.objections {
            writeln!(f, "OBJECTION of {objection}")?;
        }
        write!(f, "trace hash: {}", self.trace_hash)
    }
}

/// What samples come to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sums {
    samples: u64,
    settled: u64,
    /// Sums of percentages, and their number.
    shares: RouteShares,
    between: Duration,
    last_at: Option<Duration>,
    changed: u64,
    pairs_between: u64,
    saved_us: i64,
    could_save_us: i64,
    streams: u64,
    streams_max: u64,
    copies: u64,
    wanted: u64,
    served: u64,
    delays: Histogram,
    direct: Histogram,
    loads: BTreeMap<(u16, u16), u64>,
}

/// The busiest links that are told.
const BUSIEST: usize = 10;

impl Sums {
    pub(crate) fn add(&mut self, sample: &Sample) {
        let (routes, streams) = (&sample.routes, &sample.streams);
        self.samples += 1;
        self.settled += u64::from(sample.settled);
        let sum = &mut self.shares;
        sum.pairs = sum.pairs.max(routes.pairs);
        for (sum, share) in sum.oracle_gain_pct.iter_mut().zip(routes.oracle_gain_pct) {
            *sum += share;
        }
        sum.gain_pct += share_pct(routes.gaining, routes.pairs);
        sum.worse_pct += share_pct(routes.worse, routes.pairs);
        sum.direct_kept_pct += share_pct(routes.direct_kept, routes.gainless);
        for (sum, count) in sum.by_relays_pct.iter_mut().zip(routes.by_relays) {
            *sum += share_pct(count, routes.pairs);
        }
        if sample.settled {
            sum.worst_factor = sum.worst_factor.max(routes.worst_factor);
        }
        self.saved_us += routes.saved_us;
        self.could_save_us += routes.could_save_us;
        if let Some(before) = self.last_at.replace(sample.at) {
            self.between += sample.at - before;
            self.changed += routes.changed;
            self.pairs_between += routes.pairs;
        }
        self.streams += streams.streams;
        self.streams_max = self.streams_max.max(streams.streams);
        self.copies += streams.copies;
        self.wanted += streams.wanted;
        self.served += streams.served;
        for (own, direct) in &streams.delays_us {
            self.delays.record(Duration::from_micros((*own).into()));
            direct.iter().for_each(|us| self.direct.record(Duration::from_micros((*us).into())));
        }
        for ((from, to), bits) in &streams.loads {
            let most = self.loads.entry((from.0, to.0)).or_default();
            *most = (*most).max(*bits);
        }
    }

    pub(crate) fn outcome(
        self,
        scenario: &Scenario,
        seed: u64,
        counts: [u64; 3],
        mut verdicts: Verdicts,
    ) -> FlowOutcome {
        let [hash, events, epochs] = counts;
        let mean = |sum: f64| sum / self.samples.max(1) as f64;
        let changed = share_pct(self.changed, self.pairs_between);
        let gaps = self.samples.saturating_sub(1).max(1) as f64;
        let hours = (self.between.as_secs_f64() / 3_600.0 / gaps).max(1e-9);
        let kept = if self.could_save_us == 0 {
            100.0
        } else {
            self.saved_us as f64 * 100.0 / self.could_save_us as f64
        };
        let routes = RouteShares {
            pairs: self.shares.pairs,
            oracle_gain_pct: self.shares.oracle_gain_pct.map(mean),
            gain_pct: mean(self.shares.gain_pct),
            worse_pct: mean(self.shares.worse_pct),
            direct_kept_pct: mean(self.shares.direct_kept_pct),
            oracle_kept_pct: kept,
            by_relays_pct: self.shares.by_relays_pct.map(mean),
            changes_per_hour_pct: changed / hours,
            worst_factor: self.shares.worst_factor,
        };
        let name = |relay: u16| scenario.relays[usize::from(relay)].name.as_str();
        let mut busiest: Vec<_> = self
            .loads
            .iter()
            .map(|((from, to), bits)| (format!("{}>{}", name(*from), name(*to)), *bits))
            .collect();
        busiest.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        busiest.truncate(BUSIEST);
        let mut outcome = FlowOutcome {
            scenario: scenario.name.clone(),
            grain: "flow",
            seed,
            trace_hash: format!("{hash:016x}"),
            relays: scenario.relays.len(),
            events,
            samples: [self.samples, self.settled],
            epochs,
            routes,
            streams_max: self.streams_max,
            deliveries: self.wanted,
            unserved_pct: share_pct(self.wanted - self.served, self.wanted),
            copies_per_stream: if self.streams == 0 { 0.0 } else { self.copies as f64 / self.streams as f64 },
            delay_us: Spread::of(&self.delays),
            direct_us: Spread::of(&self.direct),
            busiest_links: busiest,
            objections: Vec::new(),
        };
        verdicts.judge_run(scenario, &outcome);
        outcome.objections = verdicts.objections;
        outcome
    }
}

impl Spread {
    fn of(times: &Histogram) -> Spread {
        let us = |share| times.quantile(share).map_or(0, |time| time.as_micros() as u64);
        Spread { p50: us(0.5), p95: us(0.95), p99: us(0.99) }
    }
}
