//! The issuer of callers' tokens: metadata, public keys, and tokens for the callers of a rehearsal, signed with a key that
//! exists only as long as it runs.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::config::TokenRules;

/// Its key's name.
const KEY_ID: &str = "rehearsal";

/// An issuer.
pub(in crate::rehearse) struct CallerIssuer {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl CallerIssuer {
    /// With a new key; `None` if the system has no random numbers.
    pub(in crate::rehearse) fn new() -> Option<Self> {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).ok()?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).ok()?;
        Some(CallerIssuer { pair, random })
    }

    /// Serves its metadata and its public key, as the issuer that `rules` expect.
    ///
    /// # Errors
    /// If there is no port.
    pub(in crate::rehearse) async fn serve(&self, rules: &TokenRules) -> std::io::Result<SocketAddr> {
        let point = self.pair.public_key().as_ref();
        let base64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        // Of an uncompressed point: a byte that says so, then both coordinates.
        let (x, y) = (base64(point.get(1..33).unwrap_or_default()), base64(point.get(33..).unwrap_or_default()));
        let key = json!({ "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": KEY_ID, "x": x, "y": y });
        let (keys, issuer) = (json!({ "keys": [key] }).to_string(), rules.issuer.name.clone());
        super::serve(move |path, at| match path {
            "/keys" => Some(keys.clone()),
            _ => Some(json!({ "issuer": issuer, "jwks_uri": format!("http://{at}/keys") }).to_string()),
        })
        .await
    }

    /// A token with which `rules` let its holder in, valid for a day: `claim` names the consumer.
    pub(in crate::rehearse) fn token(
        &self,
        rules: &TokenRules,
        claim: &str,
        roles: &[String],
        scopes: &[String],
        now: DateTime<Utc>,
    ) -> String {
        let tenant = rules.issuer.rules.tenants.first().cloned().unwrap_or_else(|| "rehearsal".to_owned());
        let issuer =
            rules.issuer.rules.issuers.first().map_or_else(|| rules.issuer.name.clone(), |issuer| issuer.replace("{tenantid}", &tenant));
        let now = now.timestamp();
        let mut claims = json!({
            "iss": issuer, "aud": rules.issuer.rules.audiences.first(), "tid": tenant, "iat": now - 60, "nbf": now - 60, "exp": now + 86_400,
            "roles": roles, "scp": scopes.join(" "),
        });
        claims[&rules.consumer_claim] = Value::from(claim);
        let header = json!({ "typ": "JWT", "alg": "ES256", "kid": KEY_ID });
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
        // Without random numbers there is no signature, and the token is refused.
        let signed = self.pair.sign(&self.random, message.as_bytes()).map(|signed| URL_SAFE_NO_PAD.encode(signed)).unwrap_or_default();
        format!("{message}.{signed}")
    }
}
