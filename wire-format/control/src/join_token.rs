//! What an operator hands to a new relay.

use crate::{check_relay_name, limits};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use wire_format::control::limits::NAME_BYTES;

const PREFIX: &str = "cascade-join-v1.";

/// The part of a join token that proves the right to join. Works once.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinSecret(pub [u8; 32]);

impl fmt::Debug for JoinSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinSecret(..)")
    }
}

/// Lets one relay of a given name join. Its text form is `cascade-join-v1.` and, in base64url, a JSON object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinToken {
    /// Where the controllers' gRPC is, `HOST:PORT`, in order of preference; at least one.
    pub controllers: Vec<String>,
    /// SHA-256 of the CA certificate's DER.
    pub ca_sha256: [u8; 32],
    /// The relay's name.
    pub name: String,
    /// The relay's region, unless its own configuration tells one.
    pub region: Option<String>,
    /// Proves the right to join.
    pub secret: JoinSecret,
}

/// Why a text is no join token. Never repeats the text: it may hold a secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JoinTokenError {
    /// Something else was pasted.
    #[error("not a join token: it should begin with {PREFIX:?} and be copied whole")]
    Prefix,
    /// Cut off or mangled.
    #[error("the join token is damaged: copy it whole, or create a new one")]
    Malformed,
    /// A list or text in it is empty, too long, or no relay's name.
    #[error("the join token's {0} is empty, too long or malformed: create a new one")]
    OutOfRange(&'static str),
}

/// The JSON within.
#[derive(Serialize, Deserialize)]
struct Body {
    controllers: Vec<String>,
    ca_sha256: String,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    secret: String,
}

impl JoinToken {
    /// The text to hand over. It holds the secret: show it once, store it nowhere.
    pub fn to_text(&self) -> String {
        let body = Body {
            controllers: self.controllers.clone(),
            ca_sha256: hex(&self.ca_sha256),
            name: self.name.clone(),
            region: self.region.clone(),
            secret: URL_SAFE_NO_PAD.encode(self.secret.0),
        };
        let json = serde_json::to_vec(&body).expect("a struct of strings is always JSON");
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json))
    }
}

impl FromStr for JoinToken {
    type Err = JoinTokenError;

    fn from_str(text: &str) -> Result<JoinToken, JoinTokenError> {
        let body = text.trim().strip_prefix(PREFIX).ok_or(JoinTokenError::Prefix)?;
        if text.len() > limits::JOIN_TOKEN_BYTES {
            return Err(JoinTokenError::Malformed);
        }
        let json = URL_SAFE_NO_PAD.decode(body).map_err(|_| JoinTokenError::Malformed)?;
        let body: Body = serde_json::from_slice(&json).map_err(|_| JoinTokenError::Malformed)?;
        let lengths = [
            ("controllers", body.controllers.len(), limits::CONTROLLERS),
            ("region", body.region.as_ref().map_or(1, String::len), NAME_BYTES),
        ];
        for (field, length, max) in lengths {
            if length == 0 || length > max {
                return Err(JoinTokenError::OutOfRange(field));
            }
        }
        check_relay_name(&body.name).map_err(|_| JoinTokenError::OutOfRange("name"))?;
        let secret = URL_SAFE_NO_PAD.decode(&body.secret).map_err(|_| JoinTokenError::Malformed)?;
        Ok(JoinToken {
            controllers: body.controllers,
            ca_sha256: unhex(&body.ca_sha256).ok_or(JoinTokenError::Malformed)?,
            name: body.name,
            region: body.region,
            secret: JoinSecret(secret.try_into().map_err(|_| JoinTokenError::Malformed)?),
        })
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            controllers: vec!["controller.example:4710".into()],
            ca_sha256: [0xA5; 32],
            name: "fra-1".into(),
            region: Some("eu-central".into()),
            secret: JoinSecret([7; 32]),
        }
    }

    #[test]
    fn text_form_holds_everything() {
        let text = token().to_text();
        assert!(text.starts_with(PREFIX));
        assert_eq!(text.parse(), Ok(token()));
        assert_eq!(format!(" {text}\n").parse(), Ok(token()), "pasted with white space");
    }

    #[test]
    fn debug_hides_the_secret() {
        let shown = format!("{:?}", token());
        assert!(shown.contains("fra-1") && !shown.contains("7, 7"), "{shown}");
    }

    #[test]
    fn refusals_say_what_to_do() {
        let text = token().to_text();
        assert_eq!("hello".parse::<JoinToken>(), Err(JoinTokenError::Prefix));
        assert_eq!(text[..text.len() - 3].parse::<JoinToken>(), Err(JoinTokenError::Malformed));
        let nameless = JoinToken { name: String::new(), ..token() }.to_text();
        assert_eq!(nameless.parse::<JoinToken>(), Err(JoinTokenError::OutOfRange("name")));
        let huge = "x".repeat(limits::JOIN_TOKEN_BYTES);
        assert_eq!(format!("{PREFIX}{huge}").parse::<JoinToken>(), Err(JoinTokenError::Malformed));
    }
}
