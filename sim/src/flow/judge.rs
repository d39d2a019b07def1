//! What must hold of samples and of a run as a whole. Judges read scenario and samples alone.

use super::outcome::FlowOutcome;
use super::sample::Sample;
use crate::Scenario;
use crate::check::Objection;
use std::time::Duration;

/// Objections of one judge; more of the same tell nothing new.
const OBJECTIONS_MAX: usize = 5;
/// The oracle's shares are known to a tenth of a percent.
const ORACLE_WITHIN_PCT: f64 = 0.1 + 1e-9;

/// Collects objections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdicts {
    pub(crate) objections: Vec<Objection>,
}

impl Verdicts {
    pub(crate) fn object(&mut self, judge: &'static str, at: Duration, what: String) {
        if self.objections.iter().filter(|objection| objection.judge == judge).count() < OBJECTIONS_MAX {
            self.objections.push(Objection { judge, at, what });
        }
    }

    /// A moment.
    pub(crate) fn judge(&mut self, scenario: &Scenario, sample: &Sample) {
        for what in &sample.loops {
            self.object("loops", sample.at, format!("a way does not end: {what}"));
        }
        for what in sample.not_entitled.iter().filter(|_| sample.controlled) {
            self.object("entitled", sample.at, what.clone());
        }
        if !sample.settled {
            return;
        }
        let (routes, streams) = (&sample.routes, &sample.streams);
        if routes.unreachable > 0 {
            let what = format!("{} of {} pairs with a link have no route", routes.unreachable, routes.pairs);
            self.object("reachable", sample.at, what);
        }
        let unserved_pct = share_pct(streams.wanted - streams.served, streams.wanted);
        if unserved_pct > scenario.routes.unserved_pct.unwrap_or(0.0) {
            let what = format!(
                "{} of {} wanted deliveries are not served; {}",
                streams.wanted - streams.served,
                streams.wanted,
                sample.not_served.join("; ")
            );
            self.object("complete", sample.at, what);
        }
        if let Some(most) = scenario.routes.optimum_factor.filter(|most| routes.worst_factor > *most) {
            let what = format!(
                "a route is {:.3} times as long as the best way; {most} is allowed",
                routes.worst_factor
            );
            self.object("optimum", sample.at, what);
        }
    }

    /// The whole run.
    pub(crate) fn judge_run(&mut self, scenario: &Scenario, outcome: &FlowOutcome) {
        let (limits, shares) = (&scenario.routes, &outcome.routes);
        let at = scenario.run_for;
        if let Some(known) = limits.oracle_gain_pct {
            let far = known
                .iter()
                .zip(shares.oracle_gain_pct)
                .any(|(known, found)| (known - found).abs() > ORACLE_WITHIN_PCT);
            if far {
                let what = format!(
                    "the oracle finds gains of {:.2?}%, where {known:?}% are known",
                    shares.oracle_gain_pct
                );
                self.object("oracle", at, what);
            }
        }
        if let Some([least, most]) = limits.gain_pct
            && !(least..=most).contains(&shares.gain_pct)
        {
            let what = format!(
                "{:.2}% of pairs gain more than a tenth; {least} to {most}% are expected",
                shares.gain_pct
            );
            self.object("gain", at, what);
        }
        let mut bound = |judge, what: &str, found: f64, limit: Option<f64>, least: bool| {
            if let Some(limit) = limit
                && (if least { found < limit } else { found > limit })
            {
                let side = if least { "at least" } else { "at most" };
                self.object(judge, at, format!("{what}: {found:.3}, where {side} {limit} is expected"));
            }
        };
        bound(
            "direct",
            "percent of gainless pairs that keep the direct link",
            shares.direct_kept_pct,
            limits.direct_kept_pct,
            true,
        );
        bound(
            "worse",
            "percent of pairs slower than direct by a tenth",
            shares.worse_pct,
            limits.worse_pct,
            false,
        );
        bound(
            "kept",
            "percent of the oracle's gain that is kept",
            shares.oracle_kept_pct,
            limits.oracle_kept_pct,
            true,
        );
        bound(
            "short",
            "percent of pairs with more than two relays",
            shares.by_relays_pct[3],
            limits.over_two_relays_pct,
            false,
        );
        bound(
            "calm",
            "percent of routes that change in an hour",
            shares.changes_per_hour_pct,
            limits.changes_per_hour,
            false,
        );
    }
}

pub(crate) fn share_pct(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::RouteShares;
    use crate::flow::outcome::Sums;
    use crate::flow::sample::{RouteSample, StreamSample};

    fn scenario() -> Scenario {
        let text = "name = \"judged\"\ngrain = \"flow\"\nrun_for = \"60s\"\n[topology]\nworld = true\nrelays = 3\n[routes]\n\
                    oracle_gain_pct = [20.0, 21.0, 22.0]\ngain_pct = [21.0, 23.0]\ndirect_kept_pct = 99.0\nworse_pct = 1.0\n\
                    oracle_kept_pct = 75.0\nover_two_relays_pct = 2.0\nchanges_per_hour = 5.0\noptimum_factor = 1.1\n";
        Scenario::parse(text, &mut |_| unreachable!("names no file")).expect("legal")
    }

    fn good() -> Sample {
        Sample {
            settled: true,
            controlled: true,
            routes: RouteSample { pairs: 6, worst_factor: 1.05, ..RouteSample::default() },
            streams: StreamSample { wanted: 4, served: 4, ..StreamSample::default() },
            ..Sample::default()
        }
    }

    fn judges(sample: &Sample) -> Vec<&'static str> {
        let mut verdicts = Verdicts::default();
        verdicts.judge(&scenario(), sample);
        verdicts.objections.iter().map(|objection| objection.judge).collect()
    }

    #[test]
    fn each_judge_of_a_moment_notices_its_bug() {
        assert_eq!(judges(&good()), [""; 0]);
        type Bug = fn(&mut Sample);
        let planted: [(Bug, &str); 5] = [
            (|sample| sample.loops.push("from a to b by a".to_owned()), "loops"),
            (|sample| sample.not_entitled.push("cam goes to c".to_owned()), "entitled"),
            (|sample| sample.routes.unreachable = 1, "reachable"),
            (|sample| sample.streams.served = 3, "complete"),
            (|sample| sample.routes.worst_factor = 1.2, "optimum"),
        ];
        for (plant, judge) in planted {
            let mut sample = good();
            plant(&mut sample);
            assert_eq!(judges(&sample), [judge]);
        }
        // While something is broken, only what must never be is judged.
        let broken = Sample {
            settled: false,
            streams: StreamSample { wanted: 4, served: 0, ..StreamSample::default() },
            ..good()
        };
        assert_eq!(judges(&broken), [""; 0]);
    }

    #[test]
    fn each_judge_of_a_run_notices_its_bug() {
        let shares = RouteShares {
            oracle_gain_pct: [20.05, 21.0, 22.0],
            gain_pct: 22.0,
            direct_kept_pct: 99.5,
            worse_pct: 0.5,
            oracle_kept_pct: 90.0,
            by_relays_pct: [70.0, 20.0, 9.0, 1.0],
            changes_per_hour_pct: 3.0,
            ..RouteShares::default()
        };
        let judged = |shares: RouteShares| {
            let blank = Scenario { routes: crate::RouteLimits::default(), ..scenario() };
            let outcome = Sums::default().outcome(&blank, 1, [0; 3], Verdicts::default());
            let mut verdicts = Verdicts::default();
            verdicts.judge_run(&scenario(), &FlowOutcome { routes: shares, ..outcome });
            verdicts.objections.iter().map(|objection| objection.judge).collect::<Vec<_>>()
        };
        assert_eq!(judged(shares), [""; 0]);
        let planted: [(RouteShares, &str); 7] = [
            (RouteShares { oracle_gain_pct: [20.2, 21.0, 22.0], ..shares }, "oracle"),
            (RouteShares { gain_pct: 20.9, ..shares }, "gain"),
            (RouteShares { direct_kept_pct: 98.0, ..shares }, "direct"),
            (RouteShares { worse_pct: 1.5, ..shares }, "worse"),
            (RouteShares { oracle_kept_pct: 70.0, ..shares }, "kept"),
            (RouteShares { by_relays_pct: [70.0, 20.0, 7.0, 3.0], ..shares }, "short"),
            (RouteShares { changes_per_hour_pct: 6.0, ..shares }, "calm"),
        ];
        for (shares, judge) in planted {
            assert_eq!(judged(shares), [judge]);
        }
    }
}
