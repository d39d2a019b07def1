//! Tokens of the admin API: the store has them before anybody is let in by them.

use super::Engine;
use crate::api_tokens::{API_TOKENS_MAX, ApiTokenRecord, TokenHash};
use crate::clock;
use crate::refusal::{Refusal, RefusalKind};

impl Engine {
    /// Keeps a token, unless its name is taken.
    pub(super) fn add_api_token(
        &mut self,
        hash: &TokenHash,
        record: &ApiTokenRecord,
    ) -> anyhow::Result<Result<(), Refusal>> {
        let now_unix_s = clock::unix_s();
        let held = self.keys.api_tokens.list(now_unix_s);
        if held.iter().any(|other| other.name == record.name) {
            return Ok(Err(Refusal::new(
                RefusalKind::Conflict,
                format!("there is a token {:?}", record.name),
                "take another name, or revoke that one first: `relayctl api-token revoke NAME`",
            )));
        }
        if held.len() >= API_TOKENS_MAX {
            return Ok(Err(Refusal::new(
                RefusalKind::Conflict,
                format!("there are {} tokens, the limit", held.len()),
                "revoke one first: `relayctl api-token list` shows them",
            )));
        }
        self.store.add_api_token(hash, record, now_unix_s)?;
        self.keys.api_tokens.replace(self.store.api_tokens()?);
        tracing::info!(
            name = record.name,
            rights = record.rights.name(),
            "a token of the admin API was made"
        );
        Ok(Ok(()))
    }

    /// Takes a token back.
    pub(super) fn revoke_api_token(&mut self, name: &str) -> anyhow::Result<Result<(), Refusal>> {
        let tokens = self.store.api_tokens()?;
        let named: Vec<_> = tokens.iter().filter(|(_, record)| record.name == name).collect();
        if !named.iter().any(|(_, record)| record.holds(clock::unix_s())) {
            return Ok(Err(Refusal::new(
                RefusalKind::NotFound,
                format!("there is no token {name:?}"),
                "`relayctl api-token list` shows them; that of `admin_token_file` is changed in its file",
            )));
        }
        for (hash, _) in named {
            self.store.remove_api_token(hash)?;
        }
        self.keys.api_tokens.replace(self.store.api_tokens()?);
        tracing::info!(name, "a token of the admin API is revoked");
        Ok(Ok(()))
    }
}
