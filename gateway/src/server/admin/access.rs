//! Checks who sends a request to the admin listener.

use http::{Method, StatusCode, header};
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;

use super::actor::Actor;
use super::answer::{Answer, problem};
use super::state::Admin;

impl Admin {
    /// Who sends a request, or why it is refused.
    pub(super) fn actor(&self, session: &ServerSession) -> Result<Actor, Answer> {
        let runtime = self.gateway.runtime.load();
        let token = runtime.config.server.admin_token.as_ref();
        let head = session.req_header();
        let actor = match token {
            None => Actor::Local,
            Some(token) if has_token(head, token.expose()) => Actor::Token,
            Some(_) => return Err(problem(StatusCode::UNAUTHORIZED, "send the admin token as 'Authorization: Bearer'")),
        };
        if actor == Actor::Local && !names_an_address(head) {
            let message =
                "without server.admin_token this listener accepts only an IP address or 'localhost' as host, to prevent DNS rebinding";
            return Err(problem(StatusCode::FORBIDDEN, message));
        }
        if is_foreign(head) {
            return Err(problem(StatusCode::FORBIDDEN, "requests from pages of other origins are refused"));
        }
        Ok(actor)
    }
}

/// Whether a request has the admin token. Digests are compared, so that the time tells nothing.
fn has_token(head: &RequestHeader, token: &str) -> bool {
    let given = head.headers.get(header::AUTHORIZATION).map(http::HeaderValue::as_bytes);
    let wanted = spillway_plugins::auth::digest(format!("Bearer {token}").as_bytes());
    given.is_some_and(|given| spillway_plugins::auth::digest(given).equals(&wanted))
}

/// Whether the request's host is an address, or `localhost`.
fn names_an_address(head: &RequestHeader) -> bool {
    let host = head.headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or("");
    let name =
        host.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or_else(|| host.split(':').next().unwrap_or(""), |(name, _)| name);
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok()
}

/// Whether the request is from a page of another origin. Only the status page itself can send the header that changes
/// need.
fn is_foreign(head: &RequestHeader) -> bool {
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    // Requests for images and the like have no origin, but this header names the kind of their source.
    if text("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none") {
        return true;
    }
    if !head.headers.contains_key(header::ORIGIN) {
        return false;
    }
    let (Some(origin), Some(host)) = (text("origin"), text("host")) else { return true };
    let same = origin.split_once("://").is_some_and(|(_, origin)| origin == host);
    let marked = head.method == Method::GET || head.headers.contains_key("x-spillway-admin");
    !(same && marked)
}
