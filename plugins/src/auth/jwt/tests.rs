use serde_json::{Value, json};
use spillway_testkit::tokens::{SigningKey, base64url, hmac_token, unsigned};

use super::*;

const TENANT_ID: &str = "11111111-2222-3333-4444-555555555555";
const NOW: i64 = 1_800_000_000;

fn rules() -> Rules {
    Rules {
        issuers: vec![format!("https://login.microsoftonline.com/{TENANT_ID}/v2.0"), format!("https://sts.windows.net/{TENANT_ID}/")],
        audiences: vec!["api://spillway".into()],
        tenants: Vec::new(),
        algorithms: vec![Algorithm::RS256],
        skew: Duration::from_secs(300),
    }
}

fn claims() -> Value {
    json!({
        "iss": format!("https://login.microsoftonline.com/{TENANT_ID}/v2.0"), "aud": "api://spillway", "tid": TENANT_ID,
        "azp": "app-1", "roles": ["caller", "admin"], "scp": "read write", "nbf": NOW - 10, "exp": NOW + 3600,
    })
}

fn with(key: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    claims[key] = value.into();
    claims
}

fn keys(jwks: &[Value]) -> KeySet {
    install_crypto();
    KeySet::parse(json!({ "keys": jwks }).to_string().as_bytes()).unwrap()
}

fn check(token: &str, rules: &Rules) -> Result<Verified, TokenError> {
    let (rsa, ec) = (SigningKey::rsa("a"), SigningKey::rsa("b"));
    verify(token.as_bytes(), rules, &keys(&[rsa.jwk("a"), ec.jwk("b")]), NOW)
}

fn error(token: &str) -> TokenError {
    check(token, &rules()).unwrap_err()
}

#[test]
fn a_good_token_says_who_calls() {
    let verified = check(&SigningKey::rsa("a").token("a", &claims()), &rules()).unwrap();
    assert_eq!(verified.claims.consumer("azp"), Some("app-1"));
    assert_eq!(verified.claims.roles(), ["caller", "admin"]);
    assert_eq!(verified.claims.scopes(), ["read", "write"]);
    assert_eq!(verified.expires, NOW + 3900);
    let mut v1 = with("iss", format!("https://sts.windows.net/{TENANT_ID}/"));
    v1.as_object_mut().unwrap().remove("azp");
    v1["appid"] = "app-2".into();
    v1["aud"] = json!(["other", "api://spillway"]);
    let verified = check(&SigningKey::rsa("b").token("b", &v1), &rules()).unwrap();
    assert_eq!(verified.claims.consumer("azp"), Some("app-2"), "version 1 of Entra's tokens");
}

#[test]
fn every_wrong_claim_is_told_apart() {
    let key = SigningKey::rsa("a");
    let wrong = |claims: Value| error(&key.token("a", &claims));
    assert_eq!(wrong(with("aud", "api://other")), TokenError::Audience);
    assert_eq!(wrong(with("aud", json!(["x", "y"]))), TokenError::Audience);
    assert_eq!(wrong(with("aud", Value::Null)), TokenError::Audience);
    assert_eq!(wrong(with("iss", "https://evil.example")), TokenError::Issuer);
    assert_eq!(wrong(with("iss", format!("https://login.microsoftonline.com/{TENANT_ID}/v2.0/"))), TokenError::Issuer);
    assert_eq!(wrong(with("iss", Value::Null)), TokenError::Issuer);
    assert_eq!(wrong(with("exp", NOW - 301)), TokenError::Expired);
    assert_eq!(wrong(with("exp", "soon")), TokenError::Malformed);
    assert_eq!(wrong(with("exp", Value::Null)), TokenError::Malformed, "a token without an end is none");
    assert_eq!(wrong(with("nbf", NOW + 301)), TokenError::NotYetValid);
    assert_eq!(wrong(with("nbf", "later")), TokenError::Malformed);
    let tenants = Rules { tenants: vec!["99999999-2222-3333-4444-555555555555".into()], ..rules() };
    assert_eq!(check(&key.token("a", &claims()), &tenants).unwrap_err(), TokenError::Tenant);
}

#[test]
fn clocks_may_differ_by_the_skew_and_no_more() {
    let key = SigningKey::rsa("a");
    let good = |claims: Value| check(&key.token("a", &claims), &rules()).is_ok();
    assert!(good(with("exp", NOW - 299)) && !good(with("exp", NOW - 300)));
    assert!(good(with("nbf", NOW + 300)) && !good(with("nbf", NOW + 301)));
    assert!(good(with("exp", NOW as f64 + 0.5)), "times may have fractions");
    assert!(!good(with("exp", i64::MIN)) && good(with("exp", i64::MAX)), "no overflow");
}

#[test]
fn no_algorithm_is_taken_for_another() {
    let (key, ec) = (SigningKey::rsa("a"), SigningKey::ec());
    let none = format!("{}.", unsigned(&json!({ "alg": "none", "kid": "a" }), &claims()));
    assert!(!looks_like_token(none.as_bytes()), "without a signature it is not even looked at as a token");
    assert_eq!(error(&none), TokenError::Algorithm);
    assert_eq!(error(&format!("{}.{}", unsigned(&json!({ "alg": "NoNe", "kid": "a" }), &claims()), base64url("x"))), TokenError::Algorithm);
    let public = key.public_bytes();
    assert_eq!(error(&hmac_token("a", &public, &claims())), TokenError::Algorithm);
    let lax = Rules { algorithms: vec![Algorithm::RS256, Algorithm::HS256], ..rules() };
    assert!(check(&hmac_token("a", &public, &claims()), &lax).is_err(), "not even if somebody configured it");
    // A key of the wrong kind is not the token's key.
    let both = Rules { algorithms: vec![Algorithm::RS256, Algorithm::ES256], ..rules() };
    let forged = ec.token("a", &claims());
    assert_eq!(verify(forged.as_bytes(), &both, &keys(&[key.jwk("a")]), NOW).unwrap_err(), TokenError::UnknownKey);
    assert!(verify(forged.as_bytes(), &both, &keys(&[key.jwk("a"), ec.jwk("a")]), NOW).is_ok(), "one id, two kinds");
    assert_eq!(verify(forged.as_bytes(), &rules(), &keys(&[ec.jwk("a")]), NOW).unwrap_err(), TokenError::Algorithm, "only as configured");
}

#[test]
fn a_signature_holds_for_its_bytes_only() {
    let token = SigningKey::rsa("a").token("a", &claims());
    assert_eq!(error(&SigningKey::rsa("b").token("a", &claims())), TokenError::Signature, "another key under a known id");
    let parts: Vec<&str> = token.split('.').collect();
    let other = unsigned(&json!({ "alg": "RS256", "kid": "a" }), &with("azp", "admin"));
    assert_eq!(error(&format!("{other}.{}", parts[2])), TokenError::Signature);
    assert_eq!(error(&SigningKey::rsa("a").token("c", &claims())), TokenError::UnknownKey);
    let header = json!({ "alg": "RS256", "kid": "a", "crit": ["exp"] });
    assert_eq!(error(&SigningKey::rsa("a").sign(&header, &claims())), TokenError::Malformed, "an extension that must be understood");
    for broken in ["a.b.c", "..", "e30.e30.e30", &token[..token.len() - 8], &format!("{token}=")] {
        assert!(check(broken, &rules()).is_err(), "{broken}");
    }
}

#[test]
fn tenants_may_share_an_issuer() {
    let many =
        Rules { issuers: vec!["https://login.microsoftonline.com/{tenantid}/v2.0".into()], tenants: vec![TENANT_ID.into()], ..rules() };
    let key = SigningKey::rsa("a");
    assert!(check(&key.token("a", &claims()), &many).is_ok());
    let other = "99999999-2222-3333-4444-555555555555";
    let mut theirs = with("tid", other);
    assert_eq!(check(&key.token("a", &theirs), &many).unwrap_err(), TokenError::Issuer, "tid and iss must agree");
    theirs["iss"] = format!("https://login.microsoftonline.com/{other}/v2.0").into();
    assert_eq!(check(&key.token("a", &theirs), &many).unwrap_err(), TokenError::Tenant);
    let mut trick = with("tid", "x/../evil");
    trick["iss"] = "https://login.microsoftonline.com/x/../evil/v2.0".into();
    assert_eq!(check(&key.token("a", &trick), &many).unwrap_err(), TokenError::Issuer, "a tenant is a GUID");
}

#[test]
fn a_key_may_say_whose_tokens_it_signs() {
    let key = SigningKey::rsa("a");
    for (issuer, good) in [
        ("https://login.microsoftonline.com/{tenantid}/v2.0".to_owned(), true),
        (format!("https://login.microsoftonline.com/{TENANT_ID}/v2.0"), true),
        ("https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0".to_owned(), false),
    ] {
        let mut jwk = key.jwk("a");
        jwk["issuer"] = issuer.clone().into();
        for iss in [format!("https://login.microsoftonline.com/{TENANT_ID}/v2.0"), format!("https://sts.windows.net/{TENANT_ID}/")] {
            let token = key.token("a", &with("iss", iss.clone()));
            let got = verify(token.as_bytes(), &rules(), &keys(std::slice::from_ref(&jwk)), NOW);
            assert_eq!(got.is_ok(), good, "{issuer} {iss}");
        }
    }
}

#[test]
fn key_sets_are_read_leniently_and_used_strictly() {
    install_crypto();
    let key = SigningKey::rsa("a");
    let mut encryption = key.jwk("e");
    encryption["use"] = "enc".into();
    let text = json!({ "keys": [encryption, { "kty": "new" }, { "kty": "oct", "k": "AAAA", "kid": "s" }, 3, key.jwk("a")] }).to_string();
    let set = KeySet::parse(text.as_bytes()).unwrap();
    assert_eq!(set.len(), 1);
    let anonymous = key.sign(&json!({ "alg": "RS256" }), &claims());
    assert!(verify(anonymous.as_bytes(), &rules(), &set, NOW).is_ok(), "one key, no id");
    let two = keys(&[key.jwk("a"), SigningKey::rsa("b").jwk("b")]);
    assert_eq!(verify(anonymous.as_bytes(), &rules(), &two, NOW).unwrap_err(), TokenError::UnknownKey);
    assert_eq!(KeySet::parse(b"<html>").unwrap_err(), JwksError::Malformed);
    assert_eq!(KeySet::parse(br#"{"keys":[]}"#).unwrap_err(), JwksError::Empty);
}

#[test]
fn tokens_are_told_from_keys() {
    for token in ["a.b.c", "eyJ0.eyJh.s-_g"] {
        assert!(looks_like_token(token.as_bytes()), "{token}");
    }
    for key in ["spw_abc", "a.b", "a..c", ".b.c", "a.b.c.d", "a b.c.d", "a+.b.c", ""] {
        assert!(!looks_like_token(key.as_bytes()), "{key}");
    }
}
