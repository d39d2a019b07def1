use super::*;
use jsonwebtoken::{EncodingKey, Header, get_current_timestamp};
use serde_json::{Value, json};

pub(super) struct Issuer {
    id: &'static str,
    key: rcgen::KeyPair,
}

impl Issuer {
    pub(super) fn new(id: &'static str) -> Issuer {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
        Issuer { id, key }
    }

    pub(super) fn public(&self, namespace: Option<&str>) -> TokenKey {
        let public_key = self.key.public_key_raw().try_into().expect("32 bytes");
        TokenKey { id: self.id.to_owned(), public_key, namespace: namespace.map(str::to_owned) }
    }

    pub(super) fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.id.to_owned()), ..Header::new(Algorithm::EdDSA) };
        let key = EncodingKey::from_ed_der(&self.key.serialize_der());
        jsonwebtoken::encode(&header, claims, &key).expect("signed")
    }
}

pub(super) fn claims(expires_in_s: i64) -> Value {
    let now = i64::try_from(get_current_timestamp()).expect("before the year 292 billion");
    json!({
        "iss": "test", "sub": "sfu-a", "exp": now + expires_in_s, "nbf": now - 5,
        "cascade": {"namespace": "demo", "room": "call-*", "publish": true, "subscribe": false},
    })
}

pub(super) fn knowing(keys: Vec<TokenKey>) -> TokenVerifier {
    TokenVerifier::new(keys)
}

fn reason(verifier: &TokenVerifier, token: &str) -> String {
    let refusal = verifier.verify(token).expect_err("refused");
    assert_eq!(refusal.code, RefusalCode::Token, "{}", refusal.reason);
    let signature = token.rsplit('.').next().expect("a last part");
    assert!(signature.is_empty() || !refusal.reason.contains(signature), "{}", refusal.reason);
    refusal.reason
}

#[test]
fn a_good_token_gives_its_rights() {
    let issuer = Issuer::new("k1");
    let mut rights = knowing(vec![issuer.public(None)]).verify(&issuer.sign(&claims(60))).expect("granted");
    let terms = rights.token.take().expect("a token ends");
    assert_eq!(terms.key, issuer.public(None));
    let (least, most) = (60 + LEEWAY_S - 5, 60 + LEEWAY_S);
    assert!((least..=most).contains(&terms.valid_for.as_secs()), "{:?}", terms.valid_for);
    let expected = ClientRights {
        subject: "sfu-a".to_owned(),
        namespace: "demo".to_owned(),
        room_pattern: "call-*".to_owned(),
        publish: true,
        subscribe: false,
        token: None,
    };
    assert_eq!(rights, expected);
    knowing(vec![issuer.public(Some("demo"))]).verify(&issuer.sign(&claims(60))).expect("its own namespace");
}

#[test]
fn times_are_checked_with_little_leeway() {
    let issuer = Issuer::new("k1");
    let verifier = knowing(vec![issuer.public(None)]);
    verifier.verify(&issuer.sign(&claims(-10))).expect("within the leeway");
    assert!(reason(&verifier, &issuer.sign(&claims(-45))).contains("expired"));
    let mut early = claims(600);
    early["nbf"] = json!(get_current_timestamp() + 45);
    assert!(reason(&verifier, &issuer.sign(&early)).contains("not valid yet"));
    let mut fractional = claims(60);
    fractional["exp"] = json!(get_current_timestamp() as f64 + 60.5);
    verifier.verify(&issuer.sign(&fractional)).expect("RFC 7519 allows fractions");
    let mut far = claims(60);
    far["exp"] = json!(u64::MAX);
    let far = verifier.verify(&issuer.sign(&far)).expect("granted").token.expect("it has terms");
    assert_eq!(far.valid_for, Duration::from_secs_f64(VALID_S_MAX));
    let mut endless = claims(60);
    endless.as_object_mut().expect("an object").remove("exp");
    assert!(reason(&verifier, &issuer.sign(&endless)).contains("no claim `exp`"));
}

#[test]
fn a_foreign_signature_is_refused() {
    let (ours, theirs) = (Issuer::new("k1"), Issuer::new("k2"));
    let verifier = knowing(vec![ours.public(None)]);
    assert!(
        reason(&verifier, &theirs.sign(&claims(60))).contains("key \"k2\", which this overlay does not know")
    );
    let impostor = Issuer { id: "k1", key: theirs.key };
    assert!(reason(&verifier, &impostor.sign(&claims(60))).contains("signature does not fit key \"k1\""));
}

#[test]
fn a_key_of_one_namespace_grants_no_other() {
    let issuer = Issuer::new("k1");
    let verifier = knowing(vec![issuer.public(Some("other"))]);
    let reason = reason(&verifier, &issuer.sign(&claims(60)));
    assert!(reason.contains("may grant namespace \"other\" only") && reason.contains("\"demo\""), "{reason}");
}

#[test]
fn other_algorithms_are_refused() {
    let issuer = Issuer::new("k1");
    let verifier = knowing(vec![issuer.public(None)]);
    let header = Header { kid: Some("k1".to_owned()), ..Header::new(Algorithm::HS256) };
    // The classic attack: the public key, which everybody knows, as the secret of a symmetric algorithm.
    let secret = EncodingKey::from_secret(&issuer.public(None).public_key);
    let token = jsonwebtoken::encode(&header, &claims(60), &secret).expect("signed");
    assert!(reason(&verifier, &token).contains("only EdDSA"));
    let none = "eyJhbGciOiJub25lIiwia2lkIjoiazEifQ.e30.";
    assert!(reason(&verifier, none).contains("no JWT"));
}

#[test]
fn what_is_no_token_is_refused() {
    let issuer = Issuer::new("k1");
    let verifier = knowing(vec![issuer.public(None)]);
    let good = issuer.sign(&claims(60));
    assert!(reason(&verifier, "").contains("no token"));
    assert!(reason(&verifier, "hello").contains("no JWT"));
    assert!(reason(&verifier, &good[..good.len() / 2]).contains("JWT"));
    assert!(reason(&verifier, &"x".repeat(TOKEN_BYTES_MAX + 1)).contains("at most"));
    let unnamed = Header::new(Algorithm::EdDSA);
    let key = EncodingKey::from_ed_der(&issuer.key.serialize_der());
    let token = jsonwebtoken::encode(&unnamed, &claims(60), &key).expect("signed");
    assert!(reason(&verifier, &token).contains("no `kid`"));
}

#[test]
fn the_grant_is_read_strictly() {
    let issuer = Issuer::new("k1");
    let verifier = knowing(vec![issuer.public(None)]);
    let with = |grant: Value| {
        let mut claims = claims(60);
        claims["cascade"] = grant;
        issuer.sign(&claims)
    };
    let missing = reason(&verifier, &with(json!({"namespace": "demo"})));
    assert!(missing.contains("missing field `room`"), "{missing}");
    let unknown = reason(&verifier, &with(json!({"namespace": "d", "room": "*", "only_user": "u"})));
    assert!(unknown.contains("unknown field `only_user`"), "{unknown}");
    assert!(reason(&verifier, &with(json!({"namespace": "", "room": "*"}))).contains("no namespace"));
    let long = "n".repeat(limits::NAME_BYTES + 1);
    assert!(reason(&verifier, &with(json!({"namespace": long, "room": "*"}))).contains("256 bytes"));
    let rights = verifier.verify(&with(json!({"namespace": "d", "room": "*"}))).expect("grants nothing");
    assert!(!rights.publish && !rights.subscribe, "a right that is not there is not granted");
}

#[test]
fn without_keys_nobody_is_judged() {
    let refusal = TokenVerifier::default().verify("anything").expect_err("no keys");
    assert_eq!(refusal.code, RefusalCode::Unavailable);
    let issuer = Issuer::new("k1");
    assert!(reason(&knowing(vec![]), &issuer.sign(&claims(60))).contains("does not know"));
}
