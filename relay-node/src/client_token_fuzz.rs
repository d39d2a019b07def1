//! Fuzz target of the token check: any text, any claims under a good signature, and a good token with a few changes. Only
//! what the issuer signed grants anything, and no more than its key may.

use super::tests::{Issuer, claims, knowing};
use jsonwebtoken::get_current_timestamp;
use serde_json::{Value, json};
use std::panic::AssertUnwindSafe;
use wire_format::control::limits::NAME_BYTES;

#[test]
fn client_token() {
    // Signing changes nothing in a key, whatever the library keeps inside.
    let issuer = AssertUnwindSafe(Issuer::new("k1"));
    let verifier = knowing(vec![issuer.public(Some("demo"))]);
    let good = issuer.sign(&claims(600));
    verifier.verify(&good).expect("a good token");
    fuzz::target!("client-token").for_each(|bytes: &[u8]| {
        let (mode, rest) = bytes.split_first().unwrap_or((&0, &[]));
        match mode % 3 {
            // A text.
            0 => assert!(verifier.verify(&String::from_utf8_lossy(rest)).is_err(), "nobody signed it"),
            // Claims that the issuer signed.
            1 => {
                let Ok(Value::Object(mut claims)) = serde_json::from_slice(rest) else { return };
                claims.entry("exp").or_insert_with(|| json!(get_current_timestamp() + 600));
                if let Ok(rights) = verifier.verify(&issuer.sign(&Value::Object(claims))) {
                    assert_eq!(rights.namespace, "demo", "the only namespace of its key");
                    assert!((1..=NAME_BYTES).contains(&rights.room_pattern.len()));
                    assert!(rights.subject.len() <= NAME_BYTES);
                }
            }
            // A good token with changes: pairs of a place and another character.
            _ => {
                let mut changed = good.clone().into_bytes();
                for pair in rest.chunks_exact(2) {
                    let at = usize::from(pair[0]) * 2 % changed.len();
                    changed[at] = b' ' + pair[1] % 95;
                }
                let changed = String::from_utf8(changed).expect("ASCII");
                assert_eq!(verifier.verify(&changed).is_ok(), changed == good, "{changed}");
            }
        }
    });
}
