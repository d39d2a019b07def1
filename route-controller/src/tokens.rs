//! Tokens (JWT, EdDSA) that let SFUs publish and subscribe.

use crate::ca;
use crate::clock;
use crate::refusal::Refusal;
use crate::rows::{TokenAnswer, TokenRequest};
use anyhow::Context as _;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use wire_format::control::{TokenKey, limits};

/// How long a token is valid if nothing else is asked for.
const TTL_DEFAULT_S: u64 = 3600;
/// Longest that may be asked for.
const TTL_MAX_S: u64 = 366 * 24 * 3600;
/// Tokens begin this long before they are issued, for relays whose clocks are behind.
const BACKDATING_S: u64 = 60;
const ISSUER: &str = "cascade";
const SUBJECT_DEFAULT: &str = "client";

/// Signs tokens with the overlay's own key.
pub(crate) struct TokenIssuer {
    key: EncodingKey,
    public: TokenKey,
    ca_sha256: String,
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
    /// A new private key (PKCS #8), to be stored sealed.
    pub(crate) fn generate() -> anyhow::Result<Vec<u8>> {
        let document = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new())
            .context("cannot make the token signing key")?;
        Ok(document.as_ref().to_vec())
    }

    /// Signs with this private key. SFUs that get a token also need the CA's hash: answers carry both.
    pub(crate) fn new(pkcs8: &[u8], ca_sha256: &[u8; 32]) -> anyhow::Result<TokenIssuer> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8)
            .map_err(|error| anyhow::anyhow!("the stored token signing key is damaged: {error}"))?;
        let public_key: [u8; 32] =
            pair.public_key().as_ref().try_into().context("an Ed25519 public key has 32 bytes")?;
        let id = hex(&ca::sha256(&public_key)[..8]);
        let public = TokenKey { id, public_key, namespace: None };
        Ok(TokenIssuer { key: EncodingKey::from_ed_der(pkcs8), public, ca_sha256: hex(ca_sha256) })
    }

    /// What relays check tokens with.
    pub(crate) fn public_key(&self) -> &TokenKey {
        &self.public
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
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.public.id.clone());
        let token = jsonwebtoken::encode(&header, &claims, &self.key).map_err(|error| {
            Refusal::broken(
                format!("signing failed: {error}"),
                "restart the controller; its key may be damaged",
            )
        })?;
        Ok(TokenAnswer { token, expires_unix_s: claims.exp, ca_sha256: self.ca_sha256.clone() })
    }
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

    #[test]
    fn the_public_key_verifies_what_was_signed() -> anyhow::Result<()> {
        let issuer = TokenIssuer::new(&TokenIssuer::generate()?, &[0xAB; 32])?;
        let answer = issuer.issue(&request()).expect("a sensible request");
        assert_eq!(answer.ca_sha256, "ab".repeat(32));
        let key = DecodingKey::from_ed_der(&issuer.public_key().public_key);
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[ISSUER]);
        validation.validate_nbf = true;
        let token = jsonwebtoken::decode::<serde_json::Value>(&answer.token, &key, &validation)?;
        assert_eq!(token.header.kid.as_deref(), Some(issuer.public_key().id.as_str()));
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
        let issuer = TokenIssuer::new(&TokenIssuer::generate()?, &[0; 32])?;
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
