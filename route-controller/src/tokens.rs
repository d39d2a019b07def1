//! Tokens (JWT, EdDSA) that let SFUs publish and subscribe.

use crate::ca;
use crate::clock;
use crate::refusal::Refusal;
use crate::rows::{TokenAnswer, TokenRequest};
use anyhow::Context as _;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use std::cmp::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use wire_format::control::{TokenKey, limits};

/// How long a token is valid if nothing else is asked for.
const TTL_DEFAULT_S: u64 = 3600;
/// Longest that may be asked for.
const TTL_MAX_S: u64 = 366 * 24 * 3600;
/// Tokens begin this long before they are issued, for relays whose clocks are behind.
const BACKDATING_S: u64 = 60;
/// Name of the overlay's first signing key in the store; those that follow it have a slash and their time behind it.
pub(crate) const SIGNING_KEY: &str = "token-signing-key";
const ISSUER: &str = "cascade";
const SUBJECT_DEFAULT: &str = "client";

/// A key signs from this long after it was made: relays in session have it by then, so that no token comes before its key.
const SETTLING_S: u64 = 10;

/// Signs tokens with the overlay's own keys.
pub(crate) struct TokenIssuer {
    /// Oldest first, and never none.
    keys: Mutex<Vec<SigningKey>>,
    ca_sha256: String,
}

/// One of the overlay's own keys.
#[derive(Clone)]
pub(crate) struct SigningKey {
    key: EncodingKey,
    public: TokenKey,
    /// Where the store has it.
    stored_as: String,
    signs_from_unix_s: u64,
}

/// What one of the overlay's own keys does now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum KeyRole {
    /// New tokens are signed with it.
    Signing,
    /// They will be, from then on, seconds since 1970.
    Next { signs_from_unix_s: u64 },
    /// Tokens that were signed with it are still accepted.
    Former,
}

impl SigningKey {
    /// A new private key (PKCS #8), to be stored sealed.
    pub(crate) fn generate() -> anyhow::Result<Vec<u8>> {
        let document = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new())
            .context("cannot make a token signing key")?;
        Ok(document.as_ref().to_vec())
    }

    /// Reads a private key that the store has under that name. `made_unix_s` is 0 for the first key of an overlay.
    pub(crate) fn load(stored_as: String, pkcs8: &[u8], made_unix_s: u64) -> anyhow::Result<SigningKey> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8)
            .map_err(|error| anyhow::anyhow!("the stored token signing key is damaged: {error}"))?;
        let public_key: [u8; 32] =
            pair.public_key().as_ref().try_into().context("an Ed25519 public key has 32 bytes")?;
        let id = hex(&ca::sha256(&public_key)[..8]);
        let public = TokenKey { id, public_key, namespace: None };
        let signs_from_unix_s = if made_unix_s == 0 { 0 } else { made_unix_s + SETTLING_S };
        Ok(SigningKey { key: EncodingKey::from_ed_der(pkcs8), public, stored_as, signs_from_unix_s })
    }

    pub(crate) fn public(&self) -> &TokenKey {
        &self.public
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    iat: u64,
    nbf: u64,
    exp: u64,
    cascade: Rights<'a>,
}

#[derive(Serialize)]
struct Rights<'a> {
    namespace: &'a str,
    room: &'a str,
    publish: bool,
    subscribe: bool,
}

impl TokenIssuer {
    /// Signs with the newest of these keys that has settled; there is at least one, and the oldest comes first. SFUs that
    /// get a token also need the CA's hash: answers carry both.
    pub(crate) fn new(keys: Vec<SigningKey>, ca_sha256: &[u8; 32]) -> TokenIssuer {
        TokenIssuer { keys: Mutex::new(keys), ca_sha256: hex(ca_sha256) }
    }

    fn keys(&self) -> MutexGuard<'_, Vec<SigningKey>> {
        // Each change of the keys is complete before anything can panic.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What relays check tokens with, and what each key does now. The oldest comes first.
    pub(crate) fn public_keys(&self, now_unix_s: u64) -> Vec<(TokenKey, KeyRole)> {
        let keys = self.keys();
        let signing = signing(&keys, now_unix_s);
        let role = |at: usize, key: &SigningKey| match at.cmp(&signing) {
            Ordering::Less => KeyRole::Former,
            Ordering::Equal => KeyRole::Signing,
            Ordering::Greater => KeyRole::Next { signs_from_unix_s: key.signs_from_unix_s },
        };
        keys.iter().enumerate().map(|(at, key)| (key.public.clone(), role(at, key))).collect()
    }

    /// The keys are these now: as the store has them when this controller begins to lead.
    pub(crate) fn replace(&self, keys: Vec<SigningKey>) {
        *self.keys() = keys;
    }

    /// Signs with this key as soon as it has settled.
    pub(crate) fn add(&self, key: SigningKey) {
        self.keys().push(key);
    }

    /// Where the store has one of the keys.
    pub(crate) fn stored_as(&self, id: &str) -> Option<String> {
        self.keys().iter().find(|key| key.public.id == id).map(|key| key.stored_as.clone())
    }

    /// Forgets one of the keys. `false` if it is the last: it stays.
    pub(crate) fn remove(&self, id: &str) -> bool {
        let mut keys = self.keys();
        let others = keys.iter().any(|key| key.public.id != id);
        if others {
            keys.retain(|key| key.public.id != id);
        }
        others
    }

    /// Signs what is asked for, if it makes sense.
    pub(crate) fn issue(&self, request: &TokenRequest) -> Result<TokenAnswer, Refusal> {
        let subject = request.subject.as_deref().unwrap_or(SUBJECT_DEFAULT);
        for (field, text) in
            [("namespace", request.namespace.as_str()), ("room", request.room.as_str()), ("subject", subject)]
        {
            if text.is_empty() || text.len() > limits::NAME_BYTES {
                return Err(Refusal::invalid(
                    format!("{field} has {} bytes", text.len()),
                    format!("give it 1 to {} bytes", limits::NAME_BYTES),
                ));
            }
        }
        if !request.publish && !request.subscribe {
            return Err(Refusal::invalid(
                "the token would allow nothing",
                "set publish, subscribe or both to true",
            ));
        }
        let ttl_s = request.ttl_s.unwrap_or(TTL_DEFAULT_S);
        if ttl_s == 0 || ttl_s > TTL_MAX_S {
            return Err(Refusal::invalid(
                format!("ttl_s is {ttl_s}"),
                format!("give it 1 to {TTL_MAX_S} seconds; a long-lived client should fetch new tokens"),
            ));
        }
        let now = clock::unix_s();
        let claims = Claims {
            iss: ISSUER,
            sub: subject,
            iat: now,
            nbf: now - BACKDATING_S.min(now),
            exp: now + ttl_s,
            cascade: Rights {
                namespace: &request.namespace,
                room: &request.room,
                publish: request.publish,
                subscribe: request.subscribe,
            },
        };
        let key = {
            let keys = self.keys();
            keys[signing(&keys, now)].clone()
        };
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(key.public.id);
        let token = jsonwebtoken::encode(&header, &claims, &key.key).map_err(|error| {
            Refusal::broken(
                format!("signing failed: {error}"),
                "restart the controller; its key may be damaged",
            )
        })?;
        Ok(TokenAnswer { token, expires_unix_s: claims.exp, ca_sha256: self.ca_sha256.clone() })
    }
}

/// The key that signs now: the newest that has settled, or, where none has, the one that comes next.
fn signing(keys: &[SigningKey], now_unix_s: u64) -> usize {
    keys.iter().rposition(|key| key.signs_from_unix_s <= now_unix_s).unwrap_or(0)
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads what [`hex`] writes, of exactly that many bytes.
pub(crate) fn unhex<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    if digits.len() == 2 * BYTES { bytes.try_into().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{DecodingKey, Validation};

    fn request() -> TokenRequest {
        TokenRequest {
            namespace: "demo".to_owned(),
            room: "team-*".to_owned(),
            publish: true,
            subscribe: false,
            subject: Some("sfu-a".to_owned()),
            ttl_s: Some(60),
        }
    }

    fn issuer() -> anyhow::Result<TokenIssuer> {
        let key = SigningKey::load("first".to_owned(), &SigningKey::generate()?, 0)?;
        Ok(TokenIssuer::new(vec![key], &[0xAB; 32]))
    }

    fn kid(issuer: &TokenIssuer) -> anyhow::Result<Option<String>> {
        let answer = issuer.issue(&request()).map_err(anyhow::Error::new)?;
        Ok(jsonwebtoken::decode_header(&answer.token)?.kid)
    }

    #[test]
    fn a_new_key_signs_when_relays_have_had_time_to_hear_of_it() -> anyhow::Result<()> {
        let (issuer, now) = (issuer()?, clock::unix_s());
        let first = issuer.public_keys(now)[0].0.id.clone();
        assert!(!issuer.remove(&first), "the last key stays");
        let next = SigningKey::load("next".to_owned(), &SigningKey::generate()?, now)?;
        let id = next.public().id.clone();
        issuer.add(next);
        let signs_from_unix_s = now + SETTLING_S;
        let roles = |now| issuer.public_keys(now).into_iter().map(|(_, role)| role).collect::<Vec<_>>();
        assert_eq!(roles(signs_from_unix_s - 1), [KeyRole::Signing, KeyRole::Next { signs_from_unix_s }]);
        assert_eq!(roles(signs_from_unix_s), [KeyRole::Former, KeyRole::Signing]);
        assert_eq!(kid(&issuer)?, Some(first.clone()));
        // One that leaked is removed at once, and does not wait.
        assert_eq!(issuer.stored_as(&first).as_deref(), Some("first"));
        assert!(issuer.remove(&first) && issuer.stored_as(&first).is_none());
        assert_eq!((roles(now), kid(&issuer)?), (vec![KeyRole::Signing], Some(id)));
        Ok(())
    }

    #[test]
    fn the_public_key_verifies_what_was_signed() -> anyhow::Result<()> {
        let issuer = issuer()?;
        let public = issuer.public_keys(clock::unix_s()).remove(0).0;
        let answer = issuer.issue(&request()).expect("a sensible request");
        assert_eq!(answer.ca_sha256, "ab".repeat(32));
        let key = DecodingKey::from_ed_der(&public.public_key);
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[ISSUER]);
        validation.validate_nbf = true;
        let token = jsonwebtoken::decode::<serde_json::Value>(&answer.token, &key, &validation)?;
        assert_eq!(token.header.kid.as_deref(), Some(public.id.as_str()));
        assert_eq!(token.claims["sub"], "sfu-a");
        let rights = serde_json::json!({"namespace":"demo","room":"team-*","publish":true,"subscribe":false});
        assert_eq!(token.claims["cascade"], rights);
        assert_eq!(token.claims["exp"], answer.expires_unix_s);
        Ok(())
    }

    #[test]
    fn hexadecimal_there_and_back() {
        assert_eq!(unhex(&hex(&[0x00, 0xAB, 0xFF])), Some([0x00, 0xAB, 0xFF]));
        for wrong in ["00abf", "00abfff", "00abfg", "", "00é9"] {
            assert_eq!(unhex::<3>(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn requests_that_make_no_sense_are_refused() -> anyhow::Result<()> {
        let issuer = issuer()?;
        for bad in [
            TokenRequest { namespace: String::new(), ..request() },
            TokenRequest { room: "x".repeat(256), ..request() },
            TokenRequest { publish: false, ..request() },
            TokenRequest { ttl_s: Some(0), ..request() },
            TokenRequest { ttl_s: Some(u64::MAX), ..request() },
        ] {
            assert!(issuer.issue(&bad).is_err(), "{bad:?}");
        }
        Ok(())
    }
}
