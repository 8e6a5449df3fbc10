//! A code becomes an ID token at the token endpoint (RFC 6749, 4.1.3; RFC 7636, 4.5).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::error::{Cause, IssuerCode, SignInError};
use super::login::Login;
use crate::callers::issuer::Endpoints;
use crate::causes::causes;
use crate::clock::Clock;
use crate::config::{Secret, SignInRules};
use crate::http_client;

/// How long an exchange may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Longest answer that is read. A token with 200 groups has about 20 KiB.
const LONGEST: usize = 256 << 10;

/// The members of an answer that are used. Access and refresh tokens are not: they are dropped unread.
#[derive(Deserialize)]
struct TokenAnswer {
    id_token: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

/// Exchanges a code. Returns the ID token, not verified yet.
pub(super) async fn exchange(
    rules: &SignInRules,
    endpoints: &Endpoints,
    code: &str,
    login: &Login,
    clock: &Clock,
) -> Result<Secret, SignInError> {
    let answered = clock.within(LIMIT, send(rules, endpoints, code, login)).await;
    let (status, body) = answered.ok_or_else(|| SignInError::Unreachable(Cause("it took too long".to_owned())))??;
    read(status, &body)
}

async fn send(rules: &SignInRules, endpoints: &Endpoints, code: &str, login: &Login) -> Result<(StatusCode, Vec<u8>), SignInError> {
    let clear = endpoints.token.starts_with("http://");
    // Neither follows redirects: a code must not go elsewhere.
    let client = if clear { http_client::local() } else { http_client::internet() };
    let redirect_uri = SignInRules::redirect_uri(&login.base);
    let mut fields = vec![
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", &redirect_uri),
        ("client_id", &rules.client_id),
        ("code_verifier", &login.verifier),
    ];
    let secret = rules.client_secret.as_ref().map(Secret::expose);
    fields.extend(secret.filter(|_| endpoints.secret_in_body).map(|secret| ("client_secret", secret)));
    let mut request = client.map_err(unreachable)?.post(&endpoints.token);
    request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").header(header::ACCEPT, "application/json");
    if let Some(secret) = secret.filter(|_| !endpoints.secret_in_body) {
        // RFC 6749, 2.3.1: both are encoded first.
        let pair = STANDARD.encode(format!("{}:{}", encoded(&rules.client_id), encoded(secret)));
        request = request.header(header::AUTHORIZATION, format!("Basic {pair}"));
    }
    let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    let mut answer = request.body(body.join("&")).send().await.map_err(unreachable)?;
    let (status, mut text) = (answer.status(), Vec::new());
    while let Some(piece) = answer.chunk().await.map_err(unreachable)? {
        text.extend_from_slice(&piece);
        if text.len() > LONGEST {
            return Err(SignInError::TokenAnswer("an answer that is too long".to_owned()));
        }
    }
    Ok((status, text))
}

/// Without the address, which is in the config.
fn unreachable(error: reqwest::Error) -> SignInError {
    SignInError::Unreachable(Cause(causes(&error.without_url())))
}

fn read(status: StatusCode, body: &[u8]) -> Result<Secret, SignInError> {
    if status.is_redirection() {
        return Err(SignInError::TokenAnswer(format!("a redirect ({}), which is not followed", status.as_u16())));
    }
    let Ok(answer) = serde_json::from_slice::<TokenAnswer>(body) else {
        return Err(SignInError::TokenAnswer(format!("status {} without readable JSON", status.as_u16())));
    };
    if let Some(error) = &answer.error {
        let code = IssuerCode::of(error, answer.error_description.as_deref());
        return Err(match code.code() {
            "invalid_grant" => SignInError::Code(code),
            "invalid_client" | "unauthorized_client" => SignInError::Client(code),
            _ => SignInError::Refused(code),
        });
    }
    match answer.id_token {
        Some(token) if status == StatusCode::OK => Ok(Secret::from(token)),
        _ => Err(SignInError::TokenAnswer(format!("status {} without an ID token", status.as_u16()))),
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
