//! What counts as a good route: taken from a file at the start, changed by operators, remembered.

use super::Engine;
use crate::policies::PolicyDocument;
use route_core::{Input, Policies};

impl Engine {
    /// Other policies from now on. Durable when this returns; relays follow with the next epoch.
    pub(super) fn set_policies(&mut self, policies: Policies) -> anyhow::Result<()> {
        self.store.set_policies(&PolicyDocument::from(&policies))?;
        tracing::info!(policies = policies.iter().count(), "policies changed");
        self.input(Input::Policies(policies))
    }
}
