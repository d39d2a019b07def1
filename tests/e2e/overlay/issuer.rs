//! A token service beside the controller, which signs what a test asks for.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use route_controller::TokenKeyRequest;
use serde_json::json;

/// Its one key.
pub struct Issuer {
    id: &'static str,
    key: Ed25519KeyPair,
}

impl Issuer {
    pub fn new(id: &'static str) -> Issuer {
        Issuer { id, key: Ed25519KeyPair::generate().expect("random numbers") }
    }

    pub fn key(&self, namespace: Option<&str>) -> TokenKeyRequest {
        let public_key = URL_SAFE_NO_PAD.encode(self.key.public_key().as_ref());
        TokenKeyRequest { id: self.id.to_owned(), public_key, namespace: namespace.map(str::to_owned) }
    }

    /// A token for every room of a namespace that expires at `exp`, seconds since 1970.
    pub fn token(&self, namespace: &str, exp: u64) -> String {
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = part(json!({ "alg": "EdDSA", "typ": "JWT", "kid": self.id }));
        let grant = json!({ "namespace": namespace, "room": "*", "publish": true, "subscribe": true });
        let claims =
            part(json!({ "iss": self.id, "sub": "stranger", "exp": exp, "nbf": 0, "cascade": grant }));
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(format!("{header}.{claims}").as_bytes()));
        format!("{header}.{claims}.{signature}")
    }
}

/// In the year 2100, and in 2020.
pub const LATER: u64 = 4_102_444_800;
pub const LONG_AGO: u64 = 1_577_836_800;
