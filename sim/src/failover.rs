//! What a single failure does to streams: one link is cut or one relay dies, drawn among those that carry media, and each
//! stream that passed it falls silent at its subscribers for so long, or not at all.
//!
//! Every failure is a run of its own, and a second one in which all streams are protected (two disjoint ways at once): the
//! same network, the same failure, the same seed. Streams that begin or end at a relay that dies are left out: no way leads
//! around it. A gap is the longest silence, beyond the stream's own rhythm, that touches the second after the failure.

use crate::compare::page::plot::{Axis, Series, lines};
use crate::compare::page::{STYLE, escaped};
use crate::jobs::run_all;
use crate::measure::{Fastest, Figures, Histogram, measure};
use crate::scenario::{ClientId, Fault, FaultKind, Host, RelayId, Scenario, StreamNumber};
use link_model::{Seed, Xoshiro256};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// What fails does so for good, so long before media ends ...
const BEFORE_END: Duration = Duration::from_secs(4);
/// ... at some moment of this.
const DURING_MS: u64 = 1_000;
/// Nobody hears a shorter silence: the longest that two packets of audio are apart, twice.
const HEARD: Duration = Duration::from_millis(40);

/// A link or a relay that carries media.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Element {
    Link(RelayId, RelayId),
    Relay(RelayId),
}

impl Element {
    /// What a way passes and may lose without losing an end.
    fn of(way: &[RelayId]) -> impl Iterator<Item = Element> + '_ {
        let links = way.windows(2).map(|pair| Element::Link(pair[0].min(pair[1]), pair[0].max(pair[1])));
        let inner = way.get(1..way.len().saturating_sub(1)).unwrap_or_default();
        links.chain(inner.iter().copied().map(Element::Relay))
    }

    fn fails(self) -> FaultKind {
        match self {
            Element::Link(a, b) => {
                let (a, b) = (Host::Relay(a), Host::Relay(b));
                FaultKind::Cut(vec![(a, b), (b, a)])
            }
            Element::Relay(relay) => FaultKind::Crash(relay),
        }
    }
}

/// Of the runs with, or without protection.
#[derive(Clone, Debug, Default)]
pub struct Side {
    /// How long each stream that passed what failed was silent at each of its subscribers.
    pub gaps: Histogram,
    /// How many of them were silent for longer than 40 ms.
    pub heard: u64,
}

impl Side {
    fn add(&mut self, pairs: &[(StreamNumber, ClientId)], figures: &Figures) {
        for gap in pairs.iter().filter_map(|pair| figures.gaps.get(pair).copied()) {
            self.gaps.record(gap);
            self.heard += u64::from(gap > HEARD);
        }
    }
}

/// What single failures did.
#[derive(Clone, Debug, Default)]
pub struct Failover {
    /// Links cut, and relays dead.
    pub failures: (u64, u64),
    /// How many of the failures no stream passed when they came.
    pub missed: u64,
    /// Streams as they are without protection.
    pub unprotected: Side,
    /// All of them protected.
    pub protected: Side,
}

/// Lets `failures` links and relays fail, one a run, on `jobs` threads; `each` is told of every failure that is over. The
/// result depends on scenario, its seed and `failures`. `None` if no stream passes anything that could fail.
pub fn failovers(
    scenario: &Scenario,
    failures: u64,
    jobs: usize,
    each: impl Fn(u64) + Sync,
) -> Option<Failover> {
    let fastest = Fastest::of(scenario);
    let variants = [false, true].map(|protect| {
        let mut variant = scenario.clone();
        variant.faults.clear();
        variant.streams.iter_mut().for_each(|stream| stream.protect = protect);
        variant
    });
    let calm = measure(&variants[0], scenario.seed, &fastest);
    let elements: BTreeSet<_> = calm.paths.values().flat_map(|way| Element::of(way)).collect();
    let elements: Vec<_> = elements.into_iter().collect();
    if elements.is_empty() {
        return None;
    }
    let runs = run_all(usize::try_from(failures).unwrap_or(usize::MAX), jobs, |number| {
        let seed = scenario.seed.wrapping_add(number as u64);
        let mut rng: Xoshiro256 = Seed(seed).child("failure").stream();
        let element = elements[rng.within(0..=elements.len() as u64 - 1) as usize];
        let at = scenario.media_end() - BEFORE_END + Duration::from_millis(rng.within(0..=DURING_MS));
        let figures = variants.each_ref().map(|variant| {
            let mut variant = variant.clone();
            variant.faults.push(Fault { kind: element.fails(), at, until: None });
            measure(&variant, seed, &fastest)
        });
        each(number as u64);
        (element, figures)
    });
    let mut sum = Failover::default();
    for (element, [unprotected, protected]) in runs {
        let hit = unprotected.paths_before.iter().filter(|(pair, way)| {
            let is_due = unprotected.gaps.contains_key(pair) && protected.gaps.contains_key(pair);
            is_due && Element::of(way).any(|passed| passed == element)
        });
        let hit: Vec<_> = hit.map(|(pair, _)| *pair).collect();
        match element {
            Element::Link(..) => sum.failures.0 += 1,
            Element::Relay(_) => sum.failures.1 += 1,
        }
        sum.missed += u64::from(hit.is_empty());
        sum.unprotected.add(&hit, &unprotected);
        sum.protected.add(&hit, &protected);
    }
    Some(sum)
}

#[derive(Serialize)]
struct SideJson {
    gaps: u64,
    heard_pct: f64,
    p50_ms: f64,
    p90_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

#[derive(Serialize)]
struct FailoverJson {
    links: u64,
    relays: u64,
    missed: u64,
    unprotected: SideJson,
    protected: SideJson,
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e4).round() / 10.0
}

impl Side {
    fn json(&self) -> SideJson {
        let at = |share| self.gaps.quantile(share).map_or(0.0, ms);
        let all = self.gaps.total();
        SideJson {
            gaps: all,
            heard_pct: (self.heard as f64 * 1e4 / all.max(1) as f64).round() / 100.0,
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p95_ms: at(0.95),
            p99_ms: at(0.99),
            max_ms: ms(self.gaps.longest()),
        }
    }
}

impl Failover {
    fn sides(&self) -> [(&'static str, &'static str, &Side); 2] {
        [("unprotected", "of-a", &self.unprotected), ("1+1", "of-b", &self.protected)]
    }

    /// One compact object.
    pub fn json(&self) -> String {
        let all = FailoverJson {
            links: self.failures.0,
            relays: self.failures.1,
            missed: self.missed,
            unprotected: self.unprotected.json(),
            protected: self.protected.json(),
        };
        serde_json::to_string(&all).expect("numbers only")
    }

    /// A page with the distribution, one file that needs no other; `command` gives the same again.
    pub fn page(&self, title: &str, command: &str) -> String {
        let most = self.sides().map(|(_, _, side)| ms(side.gaps.longest())).into_iter().fold(1.0, f64::max);
        let series = self.sides().map(|(name, class, side)| {
            let curve = side.gaps.curve().into_iter().map(|(time, share)| (ms(time), share * 100.0));
            let points = [(0.0, 0.0)].into_iter().chain(curve).chain([(most * 10.0, 100.0)]).collect();
            let json = side.json();
            // As wide as a legend may be.
            let name = format!(
                "{name}: median {:.0} ms, 95% {:.0} ms, longest {:.0} ms",
                json.p50_ms, json.p95_ms, json.max_ms
            );
            Series { class: class.to_owned(), name, points }
        });
        let y =
            Axis { label: "share of streams that passed it, %", low: 0.0, high: 100.0, logarithmic: false };
        let svg = lines(&Axis::from_zero("longest silence around the failure, ms", most), &y, &series);
        let (title, command) = (escaped(title), escaped(command));
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}: single failures</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
             <p class=\"kicker\">Cascade, simulated: {title}</p>\n<h1>How long streams fall silent when one thing fails</h1>\n\
             <figure>{svg}</figure>\n<pre>{}</pre>\n<p class=\"soft\">{}</p>\n\
             <p class=\"soft\">The same again: <code>{command}</code></p>\n</main>\n</body>\n</html>\n",
            escaped(&self.to_string()),
            "One link cut or one relay dead a run, for good; each run twice, without protection and with two disjoint ways at once. \
             Counted are streams whose way passed what failed, at each subscriber; the silence is beyond the stream's own rhythm.",
        )
    }
}

impl fmt::Display for Failover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (links, relays) = self.failures;
        writeln!(
            f,
            "{} failures: {links} links cut, {relays} relays dead; {} met no stream",
            links + relays,
            self.missed
        )?;
        writeln!(
            f,
            "{:<12} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
            "", "streams", "heard", "p50", "p90", "p95", "p99", "longest"
        )?;
        for (name, _, side) in self.sides() {
            let json = side.json();
            let heard = format!("{:.1}%", json.heard_pct);
            write!(f, "{name:<12} {:>8} {heard:>8}", json.gaps)?;
            for time in [json.p50_ms, json.p90_ms, json.p95_ms, json.p99_ms, json.max_ms] {
                write!(f, " {:>8}", format!("{time} ms"))?;
            }
            writeln!(f)?;
        }
        write!(f, "heard: silent for longer than {} ms beyond its rhythm", HEARD.as_millis())
    }
}
