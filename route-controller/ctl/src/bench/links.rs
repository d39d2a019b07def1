//! The links of the bench, and what an oracle could make of them.

use crate::dev::Recording;
use anyhow::Context as _;
use link_model::{DropReason, Fate, Link, LinkChange, LinkSchedule, LinkSpec, Oracle, Seed, Shown};
use std::path::PathBuf;
use std::time::Duration;

/// Name, what the link does in both directions, and delay budgets in ms.
const LINKS: [(&str, &str, &[u64]); 6] = [
    ("rtt20-trace2", "delay=10ms,loss=trace:lossgen_02pct_100k.txt", &[60, 100, 150]),
    ("rtt40-trace5", "delay=20ms,loss=trace:lossgen_05pct_100k.txt", &[100, 150, 250]),
    ("rtt80-trace5", "delay=40ms,loss=trace:lossgen_05pct_100k.txt", &[150, 250, 400]),
    ("rtt160-trace2", "delay=80ms,loss=trace:lossgen_02pct_100k.txt", &[60, 200, 400]),
    ("rtt40-alone20", "delay=20ms,loss=20%", &[100, 200, 300]),
    ("no-loss", "delay=20ms", &[200]),
];
/// Datagrams over which the bound is taken: its smallest figures are a few in a million.
const BOUND_SLOTS: usize = 1_000_000;

/// A link to be measured.
#[derive(Clone, Debug)]
pub(super) struct BenchLink {
    pub(super) name: &'static str,
    pub(super) spec: LinkSpec,
    /// The same as a change of any other link.
    pub(super) change: LinkChange,
    pub(super) budgets: Vec<Duration>,
}

pub(super) fn names() -> impl Iterator<Item = &'static str> {
    LINKS.iter().map(|(name, _, _)| *name)
}

/// The links of these names, or all if none is named.
pub(super) fn links(wanted: &[String]) -> anyhow::Result<Vec<BenchLink>> {
    let chosen = LINKS.iter().filter(|(name, _, _)| wanted.is_empty() || wanted.iter().any(|w| w == name));
    let link = |(name, text, budgets): &(&'static str, &str, &[u64])| {
        let change = LinkChange::parse(text, &mut trace).with_context(|| format!("link {name}"))?;
        let spec = LinkSpec::default().with(&change)?;
        Ok(BenchLink {
            name,
            spec,
            change,
            budgets: budgets.iter().map(|ms| Duration::from_millis(*ms)).collect(),
        })
    };
    chosen.map(link).collect()
}

fn trace(file: &str) -> std::io::Result<String> {
    let data = std::env::var_os("CASCADE_DATA").ok_or_else(|| {
        std::io::Error::other("set CASCADE_DATA to the folder of measured data, in which loss/ holds traces")
    })?;
    let path = PathBuf::from(data).join("loss").join(file);
    std::fs::read_to_string(&path)
        .map_err(|error| std::io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

impl BenchLink {
    /// One direction of it, for the proxy.
    pub(super) fn schedule(&self) -> anyhow::Result<LinkSchedule> {
        Ok(LinkSchedule::new(&self.spec, "a", "b", &[])?)
    }

    /// Share of the recording's packets that repetition cannot save.
    pub(super) fn bound(&self, shown: Shown, budget: Duration, seed: u64) -> anyhow::Result<f64> {
        let recording = Recording::call()?;
        let mut link = Link::new(self.spec.clone(), Seed(seed));
        let mut oracle = Oracle::new(shown, 2 * self.spec.delay, budget);
        let mut next = vec![0_u64; recording.tracks().len()];
        for _ in 0..BOUND_SLOTS {
            let due = recording.tracks().iter().zip(&next).map(|(track, index)| track.at(*index));
            let (track, at) = due.enumerate().min_by_key(|(_, at)| *at).context("a recording has tracks")?;
            next[track] += 1;
            let lost = link.offer(at, 1_200) == Fate::Dropped(DropReason::Lost);
            oracle.slot(at, lost);
        }
        let (sent, beyond_repair) = oracle.finish();
        Ok(beyond_repair as f64 / sent as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_is_legal() {
        for (name, text, budgets) in LINKS {
            let spec = LinkSpec::parse(text, &mut |_| Ok("01".to_owned()));
            assert!(spec.is_ok() && !budgets.is_empty(), "{name}");
        }
    }

    #[test]
    fn the_bound_of_losses_apart_is_what_chance_says() {
        // Half of all are lost. With a budget of 15 ms beyond the round trip some four to ten slots are left to one.
        let text = "delay=5ms,loss=50%";
        let change = LinkChange::parse(text, &mut |_| unreachable!("no trace")).expect("legal");
        let spec = LinkSpec::default().with(&change).expect("fits");
        let link = BenchLink { name: "half", spec, change, budgets: Vec::new() };
        let bound = |ms| link.bound(Shown::WhenDue, Duration::from_millis(ms), 1).expect("measured");
        assert_eq!(bound(9), bound(0), "no round trip fits: {}", bound(9));
        assert!((bound(0) - 0.5).abs() < 0.01);
        assert!(bound(100) < bound(40) && bound(40) < bound(25) && bound(100) < 1e-3, "{}", bound(100));
    }
}
