//! What `at` asks of the past.

use super::Past;
use crate::operations::Operations;
use crate::refusal::{Refusal, RefusalKind};
use crate::route_rows::{DiffAtQuery, DiffRow, ExplainQuery, ExplainRow};
use crate::rows::{LinkRow, RouteRow, RoutesQuery};
use route_core::{Moment, RouteFilter};
use wire_format::{Epoch, NodeIndex, Plane};

/// Relays named in a hint.
const NAMES_IN_HINT: usize = 8;

impl Operations {
    /// Why routes went as they did, at a moment: seconds since 1970.
    pub(crate) async fn explain_at(&self, query: ExplainQuery, at: f64) -> Result<ExplainRow, Refusal> {
        only_default(query.policy.as_deref())?;
        let Past { moment, as_of_ms } = self.history.at(millis(at)?).await?;
        let (from, to) = (index(&moment, &query.from)?, index(&moment, &query.to)?);
        let view = moment.explain(from, to);
        Ok(ExplainRow {
            as_of_unix_s: Some(as_of_ms as f64 / 1e3),
            // The pairs of planes are not kept.
            protection: None,
            ..ExplainRow::from(view)
        })
    }

    /// What tables were.
    pub(crate) async fn routes_at(&self, query: RoutesQuery, at: f64) -> Result<Vec<RouteRow>, Refusal> {
        only_default(query.policy.as_deref())?;
        let Past { moment, as_of_ms: _ } = self.history.at(millis(at)?).await?;
        let relay = |name: Option<&String>| name.map(|name| index(&moment, name)).transpose();
        let filter = RouteFilter {
            node: relay(query.node.as_ref())?,
            destination: relay(query.destination.as_ref())?,
            plane: query.plane.map(Plane),
            epoch: query.epoch.map(Epoch),
            ..RouteFilter::default()
        };
        Ok(moment.routes(filter).into_iter().map(RouteRow::from).collect())
    }

    /// What links measured and cost.
    pub(crate) async fn links_at(&self, at: f64) -> Result<Vec<LinkRow>, Refusal> {
        let Past { moment, as_of_ms: _ } = self.history.at(millis(at)?).await?;
        Ok(moment.links().into_iter().map(LinkRow::from).collect())
    }

    /// What was another at the second of two moments.
    ///
    /// # Errors
    /// If the history has nothing of one of them, or the controller stops.
    pub async fn routes_diff_at(
        &self,
        DiffAtQuery { before, after }: DiffAtQuery,
    ) -> Result<DiffRow, Refusal> {
        let before = self.history.at(millis(before)?).await?;
        let after = self.history.at(millis(after)?).await?;
        Ok(before.moment.diff(&after.moment).into())
    }
}

fn millis(at: f64) -> Result<u64, Refusal> {
    // Far beyond any history, and far from where numbers end.
    if (0.0..=1e11).contains(&at) {
        return Ok((at * 1e3).round() as u64);
    }
    Err(Refusal::invalid(format!("{at} is no moment"), "give seconds since 1970"))
}

fn index(moment: &Moment, name: &str) -> Result<NodeIndex, Refusal> {
    moment.node_index(name).ok_or_else(|| {
        let mut known: Vec<&str> = moment.nodes.values().map(|node| node.name.as_str()).collect();
        let more = if known.len() > NAMES_IN_HINT { ", ..." } else { "" };
        known.truncate(NAMES_IN_HINT);
        let hint = if known.is_empty() {
            "no relay was there".to_owned()
        } else {
            format!("there were {}{more}", known.join(", "))
        };
        Refusal::new(RefusalKind::NotFound, format!("no relay was called {name:?} then"), hint)
    })
}

/// A day of the default policy is kept.
fn only_default(policy: Option<&str>) -> Result<(), Refusal> {
    match policy.filter(|policy| *policy != route_core::DEFAULT_POLICY) {
        None => Ok(()),
        Some(policy) => Err(Refusal::new(
            RefusalKind::NotFound,
            format!("the history does not keep policy {policy:?}"),
            "ask for policy `default`, or for the last hundred epochs: `relayctl routes dump --epoch N --policy NAME`",
        )),
    }
}
