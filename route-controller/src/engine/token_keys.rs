//! Keys that clients' tokens are checked with: the controller's own, and those of other token services. Relays hear of
//! every change at once, and end the links that stand on a key that is gone.

use super::Engine;
use crate::clock;
use crate::refusal::{Refusal, RefusalKind};
use crate::tokens::{KeyRole, SIGNING_KEY, SigningKey};
use anyhow::Context as _;
use route_core::Input;
use wire_format::control::{TokenKey, limits::TOKEN_KEYS};
use zeroize::Zeroizing;

impl Engine {
    /// Registers the public key of another token service, or replaces the one of its id.
    pub(super) fn set_token_key(&mut self, key: &TokenKey) -> anyhow::Result<Result<(), Refusal>> {
        if self.keys.issuer.stored_as(&key.id).is_some() {
            return Ok(Err(Refusal::new(
                RefusalKind::Conflict,
                format!("{:?} is the controller's own key", key.id),
                "give yours another id",
            )));
        }
        let replaces = self.registered_keys()?.iter().any(|other| other.id == key.id);
        if !replaces && let Err(refusal) = self.room_for_a_key()? {
            return Ok(Err(refusal));
        }
        self.store.set_token_key(key)?;
        tracing::info!(id = key.id, namespace = key.namespace, "a token key is registered");
        self.push_token_keys()?;
        Ok(Ok(()))
    }

    /// Makes the controller's next own key. Tokens of the ones before stay good until those are removed.
    pub(super) fn rotate_signing_key(&mut self) -> anyhow::Result<Result<TokenKey, Refusal>> {
        let now_unix_s = clock::unix_s();
        let unsettled =
            self.keys.issuer.public_keys(now_unix_s).into_iter().find_map(|(key, role)| match role {
                KeyRole::Next { signs_from_unix_s } => Some((key.id, signs_from_unix_s - now_unix_s)),
                KeyRole::Signing | KeyRole::Former => None,
            });
        if let Some((id, seconds)) = unsettled {
            return Ok(Err(Refusal::new(
                RefusalKind::Conflict,
                format!("key {id:?} was made a moment ago and signs in {seconds} s"),
                "wait until it does, or remove it",
            )));
        }
        if let Err(refusal) = self.room_for_a_key()? {
            return Ok(Err(refusal));
        }
        // As many digits as make the order of names that of time.
        let stored_as = format!("{SIGNING_KEY}/{now_unix_s:012}");
        let pkcs8 = Zeroizing::new(SigningKey::generate()?);
        let key = SigningKey::load(stored_as.clone(), &pkcs8, now_unix_s)?;
        self.store.set_secrets(&[(&stored_as, &self.keys.vault.seal(&stored_as, &pkcs8)?)])?;
        let public = key.public().clone();
        self.keys.issuer.add(key);
        tracing::info!(id = public.id, "a token signing key was made");
        self.push_token_keys()?;
        Ok(Ok(public))
    }

    /// Removes a key: tokens signed with it are worth nothing from now on.
    pub(super) fn remove_token_key(&mut self, id: &str) -> anyhow::Result<Result<(), Refusal>> {
        if let Some(stored_as) = self.keys.issuer.stored_as(id) {
            if !self.keys.issuer.remove(id) {
                return Ok(Err(Refusal::new(
                    RefusalKind::Conflict,
                    format!("{id:?} is the only key that the controller signs with"),
                    "make the next one first: `relayctl token-key rotate`",
                )));
            }
            self.store.remove_secret(&stored_as)?;
        } else if !self.store.remove_token_key(id)? {
            return Ok(Err(Refusal::new(
                RefusalKind::NotFound,
                format!("there is no token key {id:?}"),
                "`relayctl token-key list` shows them (GET /v1/token-keys)",
            )));
        }
        tracing::info!(id, "a token key is removed");
        self.push_token_keys()?;
        Ok(Ok(()))
    }

    /// Tells the core all public keys, the controller's own first.
    pub(super) fn push_token_keys(&mut self) -> anyhow::Result<()> {
        let own = self.keys.issuer.public_keys(clock::unix_s());
        let mut keys: Vec<TokenKey> = own.into_iter().map(|(key, _)| key).collect();
        keys.extend(self.registered_keys()?);
        self.input(Input::TokenKeys(keys))
    }

    /// Keys of other token services.
    pub(super) fn registered_keys(&self) -> anyhow::Result<Vec<TokenKey>> {
        self.store.token_keys().context("cannot read the registered token keys")
    }

    fn room_for_a_key(&self) -> anyhow::Result<Result<(), Refusal>> {
        let keys = self.registered_keys()?.len() + self.keys.issuer.public_keys(clock::unix_s()).len();
        Ok(if keys < TOKEN_KEYS {
            Ok(())
        } else {
            let hint = "remove one first: `relayctl token-key list` shows them";
            Err(Refusal::new(RefusalKind::Conflict, format!("there are {keys} token keys, the limit"), hint))
        })
    }
}
