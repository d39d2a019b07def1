//! Policies: what they are, what others would change, and others in their place.

use crate::engine::Request;
use crate::operations::Operations;
use crate::policies::{DryRunAnswer, PoliciesAnswer, PolicyDocument, PolicyRow, PolicyStatus};
use crate::refusal::{Refusal, RefusalKind};
use route_core::{Controller, DEFAULT_POLICY, Policies, PolicyError};
use serde_json::Value;
use wire_format::PolicyIndex;

impl Operations {
    /// All policies, and what comes of them.
    ///
    /// # Errors
    /// If the controller stops.
    pub async fn policies(&self) -> Result<PoliciesAnswer, Refusal> {
        let answer = |core: &Controller, _| {
            let policies = core.policies();
            let used = policies.in_use();
            let streams = core.streams();
            let status = policies.iter().map(|(index, policy)| {
                let own = streams.iter().filter(|stream| stream.policy == policy.name);
                PolicyStatus {
                    name: policy.name.clone(),
                    index: index.bits(),
                    in_use: used.contains(&index),
                    streams: own.clone().count(),
                    relieved: own.filter(|stream| stream.relieved).count(),
                }
            });
            PoliciesAnswer {
                policies: policies.iter().map(|(_, policy)| PolicyRow::from(policy)).collect(),
                status: status.collect(),
                understood: core.policies_are_understood(),
            }
        };
        self.engine.ask(answer).await
    }

    /// Other policies from now on, whole. It is durable when this returns; routes follow.
    ///
    /// # Errors
    /// If they are not understood or conflict, or the controller stops.
    pub async fn set_policies(&self, document: Value) -> Result<PoliciesAnswer, Refusal> {
        let policies = understood(document)?;
        self.engine.call(|answer| Request::SetPolicies { policies, answer }).await?;
        self.policies().await
    }

    /// What would change if these policies took the place of those there are.
    ///
    /// # Errors
    /// If they are not understood or conflict, or the controller stops.
    pub async fn dry_run(&self, document: Value) -> Result<DryRunAnswer, Refusal> {
        let policies = understood(document)?;
        self.engine.ask(move |core, now| core.dry_run(now, &policies)).await.map(DryRunAnswer::from)
    }
}

fn understood(document: Value) -> Result<Policies, Refusal> {
    let policies = PolicyDocument::from_json(document).and_then(|document| document.policies());
    policies.map_err(|error| {
        let hint = "deploy/policies.toml is an example; GET /v1/policies shows those there are";
        let conflict = error.downcast_ref::<PolicyError>().is_some_and(PolicyError::is_conflict);
        let kind = if conflict { RefusalKind::Conflict } else { RefusalKind::Invalid };
        Refusal::new(kind, format!("{error:#}"), hint)
    })
}

/// The policy that a query names; without a name the default one.
pub(crate) fn policy_of(core: &Controller, name: Option<String>) -> Result<PolicyIndex, Refusal> {
    let name = name.unwrap_or_else(|| DEFAULT_POLICY.to_owned());
    core.policies().index(&name).ok_or_else(|| {
        let names: Vec<&str> = core.policies().iter().map(|(_, policy)| policy.name.as_str()).collect();
        Refusal::new(
            RefusalKind::NotFound,
            format!("there is no policy {name:?}"),
            format!("there are {}", names.join(", ")),
        )
    })
}
