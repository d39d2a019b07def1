//! What the bench has measured: table and JSON.

use super::links::BenchLink;
use super::{Run, System};
use link_model::Shown;
use serde::Serialize;
use std::fmt::Write as _;
use std::time::Duration;

/// One run. `_pct` are percent of packets; overhead is percent of the bytes sent for the first time.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Measured {
    pub(super) system: System,
    pub(super) link: &'static str,
    pub(super) budget_ms: u64,
    pub(super) sent: u64,
    pub(super) lost: u64,
    pub(super) late: u64,
    pub(super) residual_pct: f64,
    /// Bytes that entered the link, both directions.
    pub(super) wire_bytes: u64,
    pub(super) first_bytes: u64,
    pub(super) overhead_pct: f64,
}

impl Measured {
    pub(super) fn of(
        run: &Run,
        sent: u64,
        lost: u64,
        late: u64,
        wire_bytes: u64,
        first_bytes: u64,
    ) -> Measured {
        let percent = |part: u64, whole: u64| part as f64 * 100.0 / whole.max(1) as f64;
        Measured {
            system: run.system,
            link: run.link.name,
            budget_ms: milliseconds(run.budget),
            sent,
            lost,
            late,
            residual_pct: percent(lost + late, sent),
            wire_bytes,
            first_bytes,
            overhead_pct: percent(wire_bytes.saturating_sub(first_bytes), first_bytes),
        }
    }
}

/// What an oracle leaves on a link that can only send again, over a million packets.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct RowBounds {
    pub(super) link: &'static str,
    pub(super) budget_ms: u64,
    /// If it misses a datagram when the next is due.
    pub(super) when_due_pct: f64,
    /// If it misses it when another arrives.
    pub(super) by_arrival_pct: f64,
}

impl RowBounds {
    pub(super) fn of(link: &BenchLink, budget: Duration, seed: u64) -> anyhow::Result<RowBounds> {
        Ok(RowBounds {
            link: link.name,
            budget_ms: milliseconds(budget),
            when_due_pct: 100.0 * link.bound(Shown::WhenDue, budget, seed)?,
            by_arrival_pct: 100.0 * link.bound(Shown::ByArrival, budget, seed)?,
        })
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A whole bench.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Report {
    pub(super) for_s: f64,
    pub(super) seed: u64,
    pub(super) measured: Vec<Measured>,
    pub(super) bounds: Vec<RowBounds>,
}

impl Report {
    /// Links in the order in which they were measured.
    pub(super) fn links(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.bounds.iter().map(|bounds| bounds.link).collect();
        names.dedup();
        names
    }

    /// Systems that were measured.
    pub(super) fn systems(&self) -> Vec<System> {
        let mut systems: Vec<_> = self.measured.iter().map(|measured| measured.system).collect();
        systems.sort_unstable();
        systems.dedup();
        systems
    }

    /// As Markdown.
    pub(super) fn table(&self) -> String {
        let mut text = "| link | budget | bound | bound by arrival |".to_owned();
        for system in self.systems() {
            let _ = write!(text, " {} residual | overhead |", system.title());
        }
        text += "\n| --- | --- | --- | --- |";
        text += &" --- | --- |".repeat(self.systems().len());
        text.push('\n');
        for RowBounds { link, budget_ms, when_due_pct, by_arrival_pct } in &self.bounds {
            let _ = write!(text, "| {link} | {budget_ms} ms | {when_due_pct:.3}% | {by_arrival_pct:.3}% |");
            for system in self.systems() {
                let own = self.measured.iter().find(|measured| {
                    (measured.system, measured.link, measured.budget_ms) == (system, *link, *budget_ms)
                });
                match own {
                    Some(run) => {
                        let _ = write!(text, " {:.3}% | {:.1}% |", run.residual_pct, run.overhead_pct);
                    }
                    None => text += " - | - |",
                }
            }
            text.push('\n');
        }
        text
    }

    /// One compact object.
    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).expect("a struct of numbers and texts is always JSON")
    }
}

#[cfg(test)]
pub(super) fn example() -> Report {
    let measured = |system, budget_ms, lost, overhead_pct| Measured {
        system,
        link: "rtt20-trace2",
        budget_ms,
        sent: 5_600,
        lost,
        late: 0,
        residual_pct: lost as f64 / 56.0,
        wire_bytes: 0,
        first_bytes: 0,
        overhead_pct,
    };
    let bounds = |budget_ms, when_due_pct| RowBounds {
        link: "rtt20-trace2",
        budget_ms,
        when_due_pct,
        by_arrival_pct: 2.0 * when_due_pct,
    };
    Report {
        for_s: 20.0,
        seed: 1,
        measured: vec![
            measured(System::Cascade, 60, 10, 4.0),
            measured(System::Cascade, 100, 0, 3.5),
            measured(System::Srt, 60, 28, 6.5),
            measured(System::Srt, 100, 7, 6.7),
        ],
        bounds: vec![bounds(60, 0.1), bounds(100, 0.025)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_row_for_each_budget_and_a_pair_for_each_system() {
        let expected = "\
| link | budget | bound | bound by arrival | Cascade residual | overhead | SRT residual | overhead |
| --- | --- | --- | --- | --- | --- | --- | --- |
| rtt20-trace2 | 60 ms | 0.100% | 0.200% | 0.179% | 4.0% | 0.500% | 6.5% |
| rtt20-trace2 | 100 ms | 0.025% | 0.050% | 0.000% | 3.5% | 0.125% | 6.7% |
";
        assert_eq!(example().table(), expected);
    }
}
