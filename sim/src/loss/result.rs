//! A row's result: what was measured, what was allowed, and whether one is within the other.

use super::{Cost, LossRow, LossRun};
use serde::Serialize;
use std::fmt;

/// What was measured in a row, and what was allowed. All of `_pct` are percent of packets, those of overhead of bytes.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct RowResult {
    /// The row.
    pub name: String,
    /// Links in a row.
    pub hops: u8,
    /// What they do.
    pub link: String,
    /// How much later than the path's own delay a packet may come.
    pub budget: String,
    /// Packets sent.
    pub sent: u64,
    /// Of these, delivered within the budget.
    pub delivered: u64,
    /// Delivered later.
    pub late: u64,
    /// Not delivered.
    pub lost: u64,
    /// Delivered more than once, or changed on the way.
    pub wrong: u64,
    /// Late or lost.
    pub residual_pct: f64,
    /// What an oracle leaves that can only send again, and misses a datagram when the next is due; of one hop.
    pub bound_pct: f64,
    /// What it leaves if it misses a datagram only when another arrives.
    pub bound_by_arrival_pct: f64,
    /// At most.
    pub residual_max_pct: Option<f64>,
    /// Of both directions of all links between relays.
    pub overhead_pct: f64,
    /// At most.
    pub overhead_max_pct: Option<f64>,
    /// Ends of links between relays that were made anew: what was lost meanwhile no repair brings back.
    pub links_made: u64,
    /// What repair did.
    pub repair: Cost,
    /// Why the row does not stand; empty if it does.
    pub failures: Vec<String>,
}

impl RowResult {
    pub(super) fn of(row: &LossRow, run: &LossRun, before: &[RowResult]) -> RowResult {
        let (counts, limits) = (&run.counts, &row.limits);
        let percent = |part: u64, whole: u64| part as f64 * 100.0 / whole.max(1) as f64;
        let bound_pct = percent(run.when_due.1, run.when_due.0);
        let by_bound = limits.bound_factor.zip(limits.bound_plus_pct).map(|(f, plus)| f * bound_pct + plus);
        let other = before.iter().find(|result| Some(&result.name) == limits.other.as_ref());
        let by_other = other.zip(limits.share_of_other).map(|(other, share)| share * other.residual_pct);
        let mut result = RowResult {
            name: row.name.clone(),
            hops: row.hops,
            link: row.link.clone(),
            budget: row.budget.clone(),
            sent: counts.sent,
            delivered: counts.in_time,
            late: counts.late,
            lost: counts.lost,
            wrong: counts.duplicated + counts.corrupted,
            residual_pct: percent(counts.late + counts.lost, counts.sent),
            bound_pct,
            bound_by_arrival_pct: percent(run.by_arrival.1, run.by_arrival.0),
            residual_max_pct: limits.residual_max_pct.or(by_bound).or(by_other),
            overhead_pct: run.cost.overhead_pct(),
            overhead_max_pct: limits.overhead_max_pct,
            links_made: counts.links_made,
            repair: run.cost,
            failures: counts.violations.clone(),
        };
        result.check();
        result
    }

    fn check(&mut self) {
        let mut failures = std::mem::take(&mut self.failures);
        let exceeds = |value: f64, most: Option<f64>| most.is_some_and(|most| value > most);
        if exceeds(self.residual_pct, self.residual_max_pct) {
            failures.push(format!("residual loss {:.4}%", self.residual_pct));
        }
        if exceeds(self.overhead_pct, self.overhead_max_pct) {
            failures.push(format!("overhead {:.2}%", self.overhead_pct));
        }
        if self.wrong > 0 {
            failures.push(format!("{} deliveries of no packet, or of one for the second time", self.wrong));
        }
        if self.sent == 0 || self.repair.first_bytes == 0 {
            failures.push("no media".to_owned());
        }
        self.failures = failures;
    }

    /// Titles of the columns of a table of results.
    pub const TITLES: &str = "row                 budget      sent      late      lost  residual   allowed     bound  \
                              by arrival  overhead  allowed     again   parity  recovered";
}

/// A line of a table.
impl fmt::Display for RowResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = |most: Option<f64>, digits: usize| {
            most.map_or("-".to_owned(), |most| format!("{most:.digits$}%"))
        };
        write!(
            f,
            "{:<19} {:>6} {:>9} {:>9} {:>9} {:>8.4}% {:>9} {:>8.4}% {:>10.4}% {:>8.2}% {:>8} {:>9} {:>8} {:>10}  {}{}",
            self.name,
            self.budget,
            self.sent,
            self.late,
            self.lost,
            self.residual_pct,
            most(self.residual_max_pct, 4),
            self.bound_pct,
            self.bound_by_arrival_pct,
            self.overhead_pct,
            most(self.overhead_max_pct, 1),
            self.repair.retransmitted,
            self.repair.parity,
            self.repair.recovered,
            if self.failures.is_empty() {
                "ok".to_owned()
            } else {
                format!("NOT: {}", self.failures.join("; "))
            },
            match self.links_made {
                0 => String::new(),
                ends => format!(" ({ends} ends of links made anew)"),
            },
        )
    }
}
