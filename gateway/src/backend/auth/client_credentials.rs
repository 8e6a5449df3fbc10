//! `client-credentials`: an application with a secret, or with a certificate whose key signs an assertion (the file is
//! re-read for every token).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use azure_core::credentials::{Secret, TokenCredential};
use azure_core::http::ClientMethodOptions;
use azure_identity::{
    ClientAssertion, ClientAssertionCredential, ClientAssertionCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use super::fetch::{FetchError, Fetched};
use super::transport::TokenTransport;
use crate::config::{ClientCredentials, ClientProof, pem};
use crate::http_client;

/// Entra's address, unless the config or the environment sets another.
const AUTHORITY: &str = "https://login.microsoftonline.com";

/// Fetches a token.
pub(super) async fn fetch(identity: &ClientCredentials, scope: &str, wall: DateTime<Utc>) -> Result<Fetched, FetchError> {
    let transport = TokenTransport::new(http_client::internet()?);
    let client_options = transport.options(identity.authority.as_deref());
    let credential: Arc<dyn TokenCredential> = match &identity.proof {
        ClientProof::Secret(secret) => ClientSecretCredential::new(
            &identity.tenant_id,
            identity.client_id.clone(),
            Secret::new(secret.expose().to_owned()),
            Some(ClientSecretCredentialOptions { client_options }),
        )?,
        ClientProof::Certificate(path) => ClientAssertionCredential::new(
            identity.tenant_id.clone(),
            identity.client_id.clone(),
            Certificate { path: path.clone(), audience: audience(identity), client_id: identity.client_id.clone(), wall },
            Some(ClientAssertionCredentialOptions { client_options }),
        )?,
    };
    let got = credential.get_token(&[scope], None).await;
    transport.outcome(got, wall)
}

fn audience(identity: &ClientCredentials) -> String {
    let authority = identity.authority.clone().or_else(|| std::env::var("AZURE_AUTHORITY_HOST").ok());
    let authority = authority.as_deref().unwrap_or(AUTHORITY).trim_end_matches('/');
    format!("{authority}/{}/oauth2/v2.0/token", identity.tenant_id)
}

#[derive(Debug)]
struct Certificate {
    path: PathBuf,
    audience: String,
    client_id: String,
    wall: DateTime<Utc>,
}

#[async_trait::async_trait]
impl ClientAssertion for Certificate {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        let now = self.wall.timestamp();
        let claims = json!({
            "aud": self.audience, "iss": self.client_id, "sub": self.client_id,
            "jti": format!("{:032x}", fastrand::u128(..)), "nbf": now - 60, "iat": now, "exp": now + 600,
        });
        assertion(&self.path, &claims).map_err(|what| azure_core::Error::with_message(azure_core::error::ErrorKind::Credential, what))
    }
}

/// A signed assertion with the certificate's thumbprint (Entra: "certificate credentials").
fn assertion(path: &Path, claims: &serde_json::Value) -> Result<String, String> {
    let chain = pem::certificates(path).map_err(|error| error.to_string())?;
    let key = pem::private_key(path).map_err(|error| error.to_string())?;
    let certificate = chain.first().map_or(&[][..], |first| first.as_ref());
    let mut header = Header::new(Algorithm::PS256);
    header.x5t_s256 = Some(URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, certificate)));
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_rsa_der(key.secret_der()))
        .map_err(|_| format!("{}: its key can't sign (an RSA key is needed)", path.display()))
}
