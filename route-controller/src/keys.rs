//! What the controller signs, seals and knows callers by, as the store has it.

use crate::api_tokens::ApiTokens;
use crate::ca::Authority;
use crate::store::{Change, Store, secret_changes};
use crate::tokens::{SIGNING_KEY, SigningKey, TokenIssuer};
use crate::vault::Vault;
use anyhow::Context as _;
use std::sync::Arc;

pub(crate) const CA_CERTIFICATE: &str = "ca-certificate";
const CA_KEY: &str = "ca-key";

/// All of it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) authority: Arc<Authority>,
    pub(crate) issuer: Arc<TokenIssuer>,
    /// Seals the issuer's next keys.
    pub(crate) vault: Arc<Vault>,
    pub(crate) api_tokens: Arc<ApiTokens>,
}

impl Keys {
    /// Whether the store is of an overlay, or of none yet. One that has only a part of its CA is of neither.
    pub(crate) fn are_in(store: &Store, place: &str) -> anyhow::Result<bool> {
        let stored = (store.secret(CA_CERTIFICATE), store.secret(CA_KEY), store.secrets(SIGNING_KEY));
        match stored {
            (Some(_), Some(_), keys) if !keys.is_empty() => Ok(true),
            (None, None, keys) if keys.is_empty() => Ok(false),
            _ => anyhow::bail!("{place} holds only a part of the CA: restore it from the backup"),
        }
    }

    /// What a new overlay begins with; the CA's certificate comes first.
    pub(crate) fn found(vault: &Vault) -> anyhow::Result<Vec<Change>> {
        let (authority, ca_key) = Authority::generate()?;
        let ca_key = zeroize::Zeroizing::new(ca_key);
        let token_key = zeroize::Zeroizing::new(SigningKey::generate()?);
        Ok(secret_changes(&[
            (CA_CERTIFICATE, authority.certificate().as_ref()),
            (CA_KEY, &vault.seal(CA_KEY, &ca_key)?),
            (SIGNING_KEY, &vault.seal(SIGNING_KEY, &token_key)?),
        ]))
    }

    /// Those of a store that has them.
    pub(crate) fn open(store: &Store, vault: Vault) -> anyhow::Result<Keys> {
        let certificate = store.secret(CA_CERTIFICATE).context("the store has no CA")?;
        let ca_key = store.secret(CA_KEY).context("the store has no CA key")?;
        let authority = Authority::load(&certificate, &vault.open_sealed(CA_KEY, &ca_key)?)?;
        let issuer = TokenIssuer::new(signing_keys(store, &vault)?, &authority.sha256());
        let api_tokens = ApiTokens::new(store.api_tokens()?);
        Ok(Keys {
            authority: Arc::new(authority),
            issuer: Arc::new(issuer),
            vault: Arc::new(vault),
            api_tokens: Arc::new(api_tokens),
        })
    }

    /// Takes over what another controller has changed in the store.
    pub(crate) fn refresh(&self, store: &Store) -> anyhow::Result<()> {
        let certificate = store.secret(CA_CERTIFICATE);
        anyhow::ensure!(
            certificate.as_deref() == Some(self.authority.certificate().as_ref()),
            "the store has another overlay's CA than when this controller started: start it again"
        );
        self.issuer.replace(signing_keys(store, &self.vault)?);
        self.api_tokens.replace(store.api_tokens()?);
        Ok(())
    }
}

fn signing_keys(store: &Store, vault: &Vault) -> anyhow::Result<Vec<SigningKey>> {
    let sealed = store.secrets(SIGNING_KEY);
    anyhow::ensure!(!sealed.is_empty(), "the store has no token signing key: restore it from the backup");
    sealed.into_iter().map(|(name, sealed)| signing_key(vault, name, &sealed)).collect()
}

/// A token signing key; its name in the store says when it was made.
fn signing_key(vault: &Vault, name: String, sealed: &[u8]) -> anyhow::Result<SigningKey> {
    let made_unix_s = match name.strip_prefix(SIGNING_KEY).and_then(|rest| rest.strip_prefix('/')) {
        Some(seconds) => seconds.parse().with_context(|| format!("the store's {name} has no time"))?,
        None => 0,
    };
    let pkcs8 = vault.open_sealed(&name, sealed)?;
    SigningKey::load(name, &pkcs8, made_unix_s)
}
