//! The issuer ends sessions: `POST /sign-out/back-channel` with a logout token, `GET /sign-out/front-channel` in a hidden frame
//! of its page.

use std::borrow::Cow;

use http::{HeaderValue, Method, StatusCode, header};
use pingora::protocols::http::ServerSession;
use serde_json::json;
use tracing::{info, warn};

use super::super::answer::{Answer, answer, json_answer, problem};
use super::super::body;
use super::super::refusal::Reason;
use super::super::state::Admin;
use super::{MISSING, record};
use crate::sign_in::{LoggedOut, LogoutError};

const BACK: &str = "/sign-out/back-channel";
const FRONT: &str = "/sign-out/front-channel";

impl Admin {
    /// The answer to the issuer's wish to end sessions; `None` for other paths. A back-channel request proves by its token that it
    /// is the issuer's, and a front-channel one knows the issuer's session.
    pub(in crate::server::admin) async fn issuer_logout(
        &self,
        session: &mut ServerSession,
        method: &Method,
        path: &str,
        parameter: impl Fn(&str) -> Option<String>,
    ) -> Option<Answer> {
        let (channel, takes) = match path {
            BACK => ("back", Method::POST),
            FRONT => ("front", Method::GET),
            _ => return None,
        };
        if *method != takes {
            return Some(problem(StatusCode::METHOD_NOT_ALLOWED, &format!("this path takes only {takes}")));
        }
        let Some(sign_in) = self.gateway.runtime.load().sign_in.clone() else {
            return Some(problem(StatusCode::NOT_FOUND, MISSING));
        };
        let ended = if channel == "back" {
            let token = match logout_token(session, &self.gateway.clock).await {
                Ok(token) => token,
                Err(refusal) => return Some(self.refused_logout(channel, StatusCode::BAD_REQUEST, &refusal)),
            };
            sign_in.log_out(&self.gateway.sign_in, &token, &self.gateway.clock).await
        } else {
            sign_in.log_out_in_browser(&self.gateway.sign_in, parameter("iss").as_deref(), parameter("sid").as_deref())
        };
        Some(match ended {
            Ok(ended) => {
                self.logged_out(session, channel, &ended).await;
                done()
            }
            // The issuer may try again.
            Err(error @ LogoutError::NotReady) => self.refused_logout(channel, StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
            Err(error) => self.refused_logout(channel, StatusCode::BAD_REQUEST, &error.to_string()),
        })
    }

    /// Counts, logs and records what has ended.
    async fn logged_out(&self, session: &ServerSession, channel: &'static str, ended: &LoggedOut) {
        self.gateway.metrics.sign_in.logout(channel, if ended.is_empty() { "none" } else { "ok" });
        for person in ended {
            info!(what = "session.end-by-issuer", channel, subject = person.subject, "the issuer ends a session");
            // Counted and logged if it fails.
            let _ = self.record(record::by_issuer(session, person, channel)).await;
        }
    }

    /// An answer in the form of Back-Channel Logout 1.0, 2.8. Anybody can cause it, so it is logged at most once a second.
    fn refused_logout(&self, channel: &'static str, status: StatusCode, why: &str) -> Answer {
        self.gateway.metrics.sign_in.logout(channel, "refused");
        if self.refusals.admits(Reason::Token, self.gateway.clock.now()) {
            warn!(channel, why, "a request to end sessions is refused");
        }
        json_answer(status, &json!({ "error": "invalid_request", "error_description": why }))
    }
}

/// The answer of Back-Channel Logout 1.0, 2.8. The issuer's page embeds it in a frame, so there is no policy against that; it is
/// empty.
fn done() -> Answer {
    let mut done = answer(StatusCode::OK, "text/plain; charset=utf-8", Vec::new());
    done.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"));
    done
}

/// The token in the body of a request: a form with the field `logout_token` (2.5).
async fn logout_token(session: &mut ServerSession, clock: &crate::clock::Clock) -> Result<String, Cow<'static, str>> {
    let kind = session.req_header().headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    if !kind.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err("the body must be of type application/x-www-form-urlencoded".into());
    }
    let body = body::read(session, clock).await.map_err(|_| "the body could not be read to its end, or is longer than 64 KiB")?;
    let text = String::from_utf8(body).map_err(|_| "the body is not UTF-8")?;
    let mut tokens = text.split('&').filter_map(|pair| pair.strip_prefix("logout_token="));
    let token = tokens.next().filter(|_| tokens.next().is_none()).ok_or("the body must have the field 'logout_token' once")?;
    let token = percent_encoding::percent_decode_str(token).decode_utf8().map_err(|_| "the token is not UTF-8")?;
    Ok(token.into_owned())
}
