//! Tokens for the admin API: each has a name and rights, ends by itself or is revoked, and is kept by its hash alone.
//!
//! They are looked at on every call and changed rarely: the event loop writes them to the store and then here.

use crate::ca;
use aws_lc_rs::error::Unspecified;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};
use zeroize::Zeroizing;

/// Tokens at once, expired ones not counted. More are refused until some are revoked.
pub(crate) const API_TOKENS_MAX: usize = 256;
/// Longest name of one.
pub(crate) const NAME_BYTES_MAX: usize = 63;
/// So that people and secret scanners know one when they see it.
const PREFIX: &str = "cascade-api-v1.";
const SECRET_BYTES: usize = 32;

/// What a token of the admin API may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApiRights {
    /// Look at everything that is no secret, metrics among it.
    Read,
    /// Make tokens for SFUs (`POST /v1/tokens`), and nothing else: for the service that lets users in.
    Issue,
    /// Read, issue, and change: nodes, join tokens, token keys.
    Operate,
    /// Everything, tokens of this API included.
    Admin,
}

impl ApiRights {
    /// As JSON and command lines write it.
    pub fn name(self) -> &'static str {
        match self {
            ApiRights::Read => "read",
            ApiRights::Issue => "issue",
            ApiRights::Operate => "operate",
            ApiRights::Admin => "admin",
        }
    }

    /// Whether a token with these rights may do what needs `needed`.
    pub(crate) fn allow(self, needed: ApiRights) -> bool {
        match (self, needed) {
            (ApiRights::Admin, _) | (ApiRights::Operate, ApiRights::Read | ApiRights::Issue) => true,
            (ApiRights::Read | ApiRights::Issue | ApiRights::Operate, _) => self == needed,
        }
    }
}

/// What is kept of a token.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct ApiTokenRecord {
    pub(crate) name: String,
    pub(crate) rights: ApiRights,
    pub(crate) created_unix_s: u64,
    /// `None`: when it is revoked.
    pub(crate) expires_unix_s: Option<u64>,
}

impl ApiTokenRecord {
    pub(crate) fn holds(&self, now_unix_s: u64) -> bool {
        self.expires_unix_s.is_none_or(|expires| now_unix_s < expires)
    }
}

/// SHA-256 of a token. Its 256 bits are random, so nothing is gained by guessing, nor by timing the look-up.
pub(crate) type TokenHash = [u8; 32];

/// Every token that was made and not revoked, by its hash.
#[derive(Default)]
pub(crate) struct ApiTokens {
    by_hash: RwLock<BTreeMap<TokenHash, ApiTokenRecord>>,
}

impl ApiTokens {
    pub(crate) fn new(tokens: impl IntoIterator<Item = (TokenHash, ApiTokenRecord)>) -> ApiTokens {
        ApiTokens { by_hash: RwLock::new(tokens.into_iter().collect()) }
    }

    /// Whose token this is, if it still holds.
    pub(crate) fn find(&self, token: &str, now_unix_s: u64) -> Option<ApiTokenRecord> {
        let by_hash = self.by_hash.read().unwrap_or_else(PoisonError::into_inner);
        by_hash.get(&ca::sha256(token.as_bytes())).filter(|record| record.holds(now_unix_s)).cloned()
    }

    /// Those that hold, by name.
    pub(crate) fn list(&self, now_unix_s: u64) -> Vec<ApiTokenRecord> {
        let by_hash = self.by_hash.read().unwrap_or_else(PoisonError::into_inner);
        let mut tokens: Vec<_> =
            by_hash.values().filter(|record| record.holds(now_unix_s)).cloned().collect();
        tokens.sort_by(|a, b| a.name.cmp(&b.name));
        tokens
    }

    /// The tokens are these now.
    pub(crate) fn replace(&self, tokens: impl IntoIterator<Item = (TokenHash, ApiTokenRecord)>) {
        let tokens = tokens.into_iter().collect();
        *self.by_hash.write().unwrap_or_else(PoisonError::into_inner) = tokens;
    }
}

/// A new token and its hash.
pub(crate) fn generate() -> Result<(String, TokenHash), Unspecified> {
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    aws_lc_rs::rand::fill(secret.as_mut_slice())?;
    let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(*secret));
    let hash = ca::sha256(token.as_bytes());
    Ok((token, hash))
}

/// Whether a token can be called this: one segment of a path that needs no escaping.
pub(crate) fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    name.len() <= NAME_BYTES_MAX
        && name.bytes().all(inner)
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_include_others_as_they_say() {
        use ApiRights::{Admin, Issue, Operate, Read};
        let all = [Read, Issue, Operate, Admin];
        for (rights, allowed) in [
            (Read, &[Read][..]),
            (Issue, &[Issue]),
            (Operate, &[Read, Issue, Operate]),
            (Admin, &[Read, Issue, Operate, Admin]),
        ] {
            let found: Vec<_> = all.into_iter().filter(|needed| rights.allow(*needed)).collect();
            assert_eq!(found, allowed, "{rights:?}");
            assert_eq!(serde_json::to_value(rights).expect("JSON"), rights.name());
        }
    }

    #[test]
    fn a_token_is_known_by_its_hash_until_it_ends() {
        let (token, hash) = generate().expect("random numbers");
        assert_ne!(generate().expect("random numbers").0, token);
        let record = ApiTokenRecord {
            name: "grafana".to_owned(),
            rights: ApiRights::Read,
            created_unix_s: 10,
            expires_unix_s: Some(20),
        };
        let tokens = ApiTokens::new([(hash, record.clone())]);
        assert_eq!(tokens.find(&token, 19), Some(record.clone()));
        assert_eq!((tokens.find(&token, 20), tokens.find(&token[1..], 19)), (None, None));
        assert_eq!((tokens.list(19).len(), tokens.list(20).len()), (1, 0));
        tokens.replace([(hash, ApiTokenRecord { expires_unix_s: None, ..record })]);
        assert!(tokens.find(&token, u64::MAX).is_some());
        tokens.replace([]);
        assert_eq!(tokens.find(&token, 19), None);
    }

    #[test]
    fn names_are_segments_of_a_path() {
        for good in ["grafana", "Token.Service_2", "1", &"a".repeat(63)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-a", ".", "a/b", "a b", "é", "a\u{1b}", &"a".repeat(64)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
