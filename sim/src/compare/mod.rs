//! Answers by comparison: runs of two scenarios, or of one under two policies, and of what an overlay is compared with (see
//! [`Routing`]), over the same seeds, measured ([`mod@crate::measure`]) and held against each other pair by pair.
//!
//! Seeds pair runs: in both the network draws the same losses for the same datagrams as far as they meet them, so the
//! differences tremble less than the figures. A difference is called significant if the 95% interval of its mean (Student's
//! t over the seeds) leaves out zero. Of twenty such marks one is expected where there is nothing.

mod interval;
mod metrics;
pub(crate) mod page;
mod text;

pub use interval::Difference;
pub use metrics::{METRICS, Metric, Wish};
pub use page::page;
pub use text::{json, table};

use crate::jobs::run_all;
use crate::measure::{Fastest, Figures, measure};
use crate::scenario::{Routing, Scenario};
use std::ops::Range;

/// Something that is compared.
#[derive(Clone, Debug)]
pub struct Variant {
    /// A, B, direct or tree.
    pub label: &'static str,
    /// For people.
    pub title: String,
    /// What is run.
    pub scenario: Scenario,
    fastest: Fastest,
}

/// What is compared, and over which seeds.
#[derive(Clone, Debug)]
pub struct Plan {
    /// A first.
    pub variants: Vec<Variant>,
    /// Each variant runs with each.
    pub seeds: Range<u64>,
}

impl Plan {
    /// A, and with it B, the baselines of A, or both.
    pub fn new(
        a: (String, Scenario),
        b: Option<(String, Scenario)>,
        baselines: bool,
        seeds: Range<u64>,
    ) -> Plan {
        let variant = |label, (title, scenario): (String, Scenario)| {
            let fastest = Fastest::of(&scenario);
            Variant { label, title, scenario, fastest }
        };
        let a = variant("A", a);
        let baseline = |label, title: &str, routing| Variant {
            label,
            title: title.to_owned(),
            scenario: a.scenario.routed(routing),
            fastest: a.fastest.clone(),
        };
        let mut rest: Vec<_> = b.map(|b| variant("B", b)).into_iter().collect();
        if baselines {
            rest.push(baseline("direct", "straight from ingress to egress", Routing::Direct));
            rest.push(baseline("tree", "a CDN's tree of two levels", Routing::Tree));
        }
        Plan { variants: [vec![a], rest].concat(), seeds }
    }

    /// Which variants are held against each other: places of the one and of the other.
    fn pairs(&self) -> Vec<(usize, usize)> {
        let is_b = |place: &usize| self.variants[*place].label == "B";
        let others = 1..self.variants.len();
        let pairs = others.map(|place| if is_b(&place) { (0, place) } else { (place, 0) });
        pairs.collect()
    }
}

/// What one variant came to.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The variant.
    pub variant: Variant,
    /// By seed.
    pub runs: Vec<Figures>,
}

impl Measured {
    /// A figure of each run.
    pub fn values(&self, metric: &Metric) -> Vec<Option<f64>> {
        self.runs.iter().map(|run| (metric.of)(run)).collect()
    }

    /// Its mean over the runs that have one.
    pub fn mean(&self, metric: &Metric) -> Option<f64> {
        let values: Vec<f64> = self.values(metric).into_iter().flatten().collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }
}

/// One variant held against another.
#[derive(Clone, Debug)]
pub struct Versus {
    /// Place of the one that it is held against.
    pub one: usize,
    /// Place of the one that is held against it.
    pub other: usize,
    /// For each of [`METRICS`], by how much the other has more.
    pub differences: Vec<Option<Difference>>,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Seeds of the runs.
    pub seeds: Range<u64>,
    /// A first.
    pub measured: Vec<Measured>,
    /// B against A, A against its baselines.
    pub versus: Vec<Versus>,
}

/// Runs everything on `jobs` threads; `each` is told of every run that is over. The result does not depend on `jobs`.
pub fn compare(plan: &Plan, jobs: usize, each: impl Fn(&Variant, u64) + Sync) -> Comparison {
    let seeds: Vec<u64> = plan.seeds.clone().collect();
    let work: Vec<_> =
        (0..plan.variants.len()).flat_map(|place| seeds.iter().map(move |seed| (place, *seed))).collect();
    let done = run_all(work.len(), jobs, |number| {
        let (place, seed) = work[number];
        let variant = &plan.variants[place];
        let figures = measure(&variant.scenario, seed, &variant.fastest);
        each(variant, seed);
        figures
    });
    let mut measured: Vec<_> =
        plan.variants.iter().map(|variant| Measured { variant: variant.clone(), runs: Vec::new() }).collect();
    for ((place, _), figures) in work.iter().zip(done) {
        measured[*place].runs.push(figures);
    }
    let versus = plan.pairs().into_iter().map(|(one, other)| Versus {
        one,
        other,
        differences: METRICS
            .iter()
            .map(|metric| Difference::paired(&measured[one].values(metric), &measured[other].values(metric)))
            .collect(),
    });
    let versus = versus.collect();
    Comparison { seeds: plan.seeds.clone(), measured, versus }
}
