//! What can be asked about routes, and how relays are emptied.

use crate::engine::Request;
use crate::operations::{Operations, unknown_relay};
use crate::policy_operations::policy_of;
use crate::refusal::{Refusal, RefusalKind};
use crate::route_rows::{
    DiffQuery, DiffRow, DrainRow, EpochRow, ExplainQuery, ExplainRow, WhyNotQuery, WhyNotRow,
};
use route_core::Controller;
use wire_format::{Epoch, NodeIndex, Timestamp};

impl Operations {
    /// Why routes from one relay to another go as they do.
    ///
    /// # Errors
    /// If a relay is unknown, or the controller stops.
    pub async fn explain(&self, query: ExplainQuery) -> Result<ExplainRow, Refusal> {
        if let Some(at) = query.at {
            return self.explain_at(query, at).await;
        }
        let ExplainQuery { from, to, at: _, policy } = query;
        let explain = move |core: &Controller, now| {
            let policy = policy_of(core, policy)?;
            let [from, to] = indices(core, now, [from, to])?;
            Ok(core.explain(now, policy, from, to))
        };
        self.engine.ask(explain).await?.map(ExplainRow::from)
    }

    /// Why routes from one relay to another do not pass a third.
    ///
    /// # Errors
    /// If a relay is unknown, or the controller stops.
    pub async fn why_not(&self, query: WhyNotQuery) -> Result<WhyNotRow, Refusal> {
        let WhyNotQuery { from, to, via, policy } = query;
        let why_not = move |core: &Controller, now| {
            let policy = policy_of(core, policy)?;
            let [from, to, via] = indices(core, now, [from, to, via])?;
            Ok(core.why_not(now, policy, (from, to), via))
        };
        self.engine.ask(why_not).await?.map(WhyNotRow::from)
    }

    /// The last hundred epochs, oldest first.
    ///
    /// # Errors
    /// If the controller stops.
    pub async fn epochs(&self) -> Result<Vec<EpochRow>, Refusal> {
        let views = self.engine.ask(|core, now| core.epochs(now)).await?;
        Ok(views.into_iter().map(EpochRow::from).collect())
    }

    /// What is another in another epoch.
    ///
    /// # Errors
    /// If one of them is not known any more, or the controller stops.
    pub async fn routes_diff(&self, query: DiffQuery) -> Result<DiffRow, Refusal> {
        let DiffQuery { before, after, policy } = query;
        let diff = move |core: &Controller, _| {
            Ok(core.routes_diff(policy_of(core, policy)?, Epoch(before), Epoch(after)))
        };
        self.engine.ask(diff).await??.map(DiffRow::from).ok_or_else(|| {
            Refusal::new(
                RefusalKind::NotFound,
                format!("epochs {before} and {after} are not both known"),
                "`relayctl routes epochs` lists those that are: the last hundred since this controller started",
            )
        })
    }

    /// Has routes avoid passing a relay, or not any longer. It is durable when this returns; routes follow.
    ///
    /// # Errors
    /// If no relay has that name, or the controller stops.
    pub async fn cordon(&self, name: String, cordoned: bool) -> Result<DrainRow, Refusal> {
        let known = name.clone();
        self.engine.call(|answer| Request::Cordon { name, cordoned, answer }).await?;
        self.drain(known).await
    }

    /// Begins to empty a relay: routes avoid passing it, and its SFUs are sent to others. It is durable when this returns.
    ///
    /// # Errors
    /// If no relay has that name, or the controller stops.
    pub async fn begin_drain(&self, name: String) -> Result<DrainRow, Refusal> {
        let known = name.clone();
        self.engine.call(|answer| Request::Drain { name, answer }).await?;
        self.drain(known).await
    }

    /// How far a relay is from carrying nothing.
    ///
    /// # Errors
    /// If no relay has that name, or the controller stops.
    pub async fn drain(&self, name: String) -> Result<DrainRow, Refusal> {
        let drain = move |core: &Controller, now| {
            core.drain(now, &name).ok_or_else(|| unknown_relay(core, now, &name))
        };
        self.engine.ask(drain).await?.map(DrainRow::from)
    }
}

fn indices<const N: usize>(
    core: &Controller,
    now: Timestamp,
    names: [String; N],
) -> Result<[NodeIndex; N], Refusal> {
    let mut found = [NodeIndex(0); N];
    for (index, name) in found.iter_mut().zip(names) {
        *index = core.node_index(&name).ok_or_else(|| unknown_relay(core, now, &name))?;
    }
    Ok(found)
}
