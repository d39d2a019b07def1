//! Checks a client's JWT offline, with the public keys that the controller pushed.
//!
//! A token is EdDSA (Ed25519) and names its key with `kid`. The key decides which namespaces the token may grant. Every
//! link ends when its token does, or when that key is removed; the core sees to it. Every
//! refusal says what is wrong and what to do, and none repeats the token, nor anything of it before its signature held,
//! except the name of its key.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use link_io::Refusal;
use relay_core::{ClientRights, TokenTerms};
use serde::Deserialize;
use std::time::Duration;
use wire_format::control::{TokenKey, limits};
use wire_format::session::RefusalCode;

/// Difference of clocks that is forgiven, seconds.
const LEEWAY_S: u64 = 30;
/// Longest token that is looked at, bytes.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// A token that holds for longer holds for ever, as far as a link is concerned.
const VALID_S_MAX: f64 = 100.0 * 366.0 * 24.0 * 3600.0;
/// As much of a claimed text as a refusal repeats, characters.
const SHOWN_CHARS_MAX: usize = 100;

/// Knows the keys and nothing else.
#[derive(Clone, Debug, Default)]
pub(crate) struct TokenVerifier {
    /// `None` until the controller told.
    keys: Option<Vec<TokenKey>>,
}

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    sub: String,
    /// Seconds since 1970, perhaps with a fraction (RFC 7519 section 2). Checked to be there.
    #[serde(default)]
    exp: f64,
    cascade: Grant,
}

/// The claim `cascade`. A right that is not there is not granted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Grant {
    namespace: String,
    room: String,
    #[serde(default)]
    publish: bool,
    #[serde(default)]
    subscribe: bool,
}

impl TokenVerifier {
    /// Believes tokens of these keys, and of no others.
    pub(crate) fn new(keys: Vec<TokenKey>) -> TokenVerifier {
        TokenVerifier { keys: Some(keys) }
    }

    /// Whether the controller told any keys.
    pub(crate) fn has_keys(&self) -> bool {
        self.keys.as_ref().is_some_and(|keys| !keys.is_empty())
    }

    /// What the token grants now, by this host's clock.
    ///
    /// # Errors
    /// If it grants nothing; the reason may be shown to whoever presented it.
    pub(crate) fn verify(&self, token: &str) -> Result<ClientRights, Refusal> {
        let Some(keys) = &self.keys else {
            let reason = "this relay has not heard from its controller yet and knows no token keys; try again soon, or \
                          another relay";
            return Err(Refusal::new(RefusalCode::Unavailable, reason));
        };
        if token.is_empty() {
            return Err(refused(
                "no token: create one with `relayctl token create` and give it to the client",
            ));
        }
        if token.len() > TOKEN_BYTES_MAX {
            return Err(refused(format!(
                "token of {} bytes: at most {TOKEN_BYTES_MAX} are accepted",
                token.len()
            )));
        }
        let key = self.key_of(token, keys)?;
        let claims = decode(token, key)?;
        let left_s = claims.exp + LEEWAY_S as f64 - jsonwebtoken::get_current_timestamp() as f64;
        let grant = claims.cascade;
        for (what, text) in [("namespace", &grant.namespace), ("room", &grant.room), ("sub", &claims.sub)] {
            if text.len() > limits::NAME_BYTES {
                return Err(refused(format!(
                    "the token's {what} has {} bytes: at most {} are accepted",
                    text.len(),
                    limits::NAME_BYTES
                )));
            }
        }
        if grant.namespace.is_empty() || grant.room.is_empty() {
            return Err(refused(
                "the token's claim `cascade` names no namespace or no room (`*` grants every room)",
            ));
        }
        if let Some(only) = &key.namespace
            && *only != grant.namespace
        {
            return Err(refused(format!(
                "token key {:?} may grant namespace {only:?} only, the token claims {:?}: sign with a key of that \
                 namespace",
                key.id, grant.namespace
            )));
        }
        Ok(ClientRights {
            subject: claims.sub,
            namespace: grant.namespace,
            room_pattern: grant.room,
            publish: grant.publish,
            subscribe: grant.subscribe,
            token: Some(Box::new(TokenTerms {
                key: key.clone(),
                valid_for: Duration::from_secs_f64(left_s.clamp(0.0, VALID_S_MAX)),
            })),
        })
    }

    fn key_of<'a>(&self, token: &str, keys: &'a [TokenKey]) -> Result<&'a TokenKey, Refusal> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| malformed())?;
        if header.alg != Algorithm::EdDSA {
            return Err(refused(format!(
                "the token is signed with {:?}: only EdDSA (Ed25519) is accepted",
                header.alg
            )));
        }
        let Some(id) = header.kid else {
            return Err(refused(
                "the token's header has no `kid`, so its key cannot be found: sign it with one",
            ));
        };
        keys.iter().find(|key| key.id == id).ok_or_else(|| {
            refused(format!(
                "the token is signed by key {:?}, which this overlay does not know: use a token of this \
                 overlay, or register the key at its controller",
                shown(&id)
            ))
        })
    }
}

fn decode(token: &str, key: &TokenKey) -> Result<Claims, Refusal> {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.leeway = LEEWAY_S;
    validation.validate_nbf = true;
    // The overlay is the only audience; tokens that name others besides are not ours to judge.
    validation.validate_aud = false;
    jsonwebtoken::decode::<Claims>(token, &DecodingKey::from_ed_der(&key.public_key), &validation)
        .map(|decoded| decoded.claims)
        .map_err(|error| explained(error.kind(), key))
}

/// The library's enum grows with its versions; what is not told apart here is a malformed token.
fn explained(error: &ErrorKind, key: &TokenKey) -> Refusal {
    if let ErrorKind::ExpiredSignature = error {
        refused("the token has expired: get a new one")
    } else if let ErrorKind::ImmatureSignature = error {
        refused("the token is not valid yet (`nbf`): compare the clocks of this relay and the issuer")
    } else if let ErrorKind::InvalidSignature = error {
        refused(format!(
            "the token's signature does not fit key {:?}: it was signed by someone else or changed",
            key.id
        ))
    } else if let ErrorKind::MissingRequiredClaim(claim) = error {
        refused(format!("the token has no claim `{claim}`: it must say until when it is valid"))
    } else if let ErrorKind::Json(detail) = error {
        refused(format!(
            "the token's claims are not understood ({}): it needs \"cascade\":{{\"namespace\":...,\"room\":...,\
             \"publish\":...,\"subscribe\":...}}",
            shown(&detail.to_string())
        ))
    } else {
        malformed()
    }
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect()
}

fn malformed() -> Refusal {
    refused("this is no JWT, or a damaged one: copy the token whole")
}

fn refused(reason: impl Into<String>) -> Refusal {
    Refusal::new(RefusalCode::Token, reason)
}

#[cfg(test)]
#[path = "client_token_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "client_token_fuzz.rs"]
mod fuzz_target;
