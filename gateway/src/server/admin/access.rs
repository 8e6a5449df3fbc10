//! Checks who sends a request to the admin listener.

use http::{Method, StatusCode, header};
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use spillway_plugins::auth::digest;

use super::actor::{Actor, SignedIn};
use super::refusal::{Reason, Refusal};
use super::sign_in::cookies;
use super::state::Admin;
use crate::config::{Server, origin_of};
use crate::sign_in::Sessions;

/// The header with the session's CSRF token, for changes by a person who has signed in.
const CSRF: &str = "x-spillway-csrf";

/// Headers, beside `x-forwarded-…`, that proxies add.
const FORWARDED: [&str; 6] = ["forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip"];

impl Admin {
    /// Who sends a request, or why it is refused.
    pub(super) fn actor(&self, session: &ServerSession) -> Result<Actor, Box<Refusal>> {
        let runtime = self.gateway.runtime.load();
        let (server, head) = (&runtime.config.server, session.req_header());
        if is_foreign(head, server) {
            return Err(Refusal::new(
                Reason::Origin,
                StatusCode::FORBIDDEN,
                "requests from pages of other origins are refused; a page of this origin sends 'x-spillway-admin: 1' with changes",
            ));
        }
        let refused = |reason, message| Err(Refusal::new(reason, StatusCode::UNAUTHORIZED, message));
        match (&server.admin_token, &server.sign_in) {
            (Some(token), _) if has_token(head, token.expose()) => Ok(Actor::Token(digest(token.expose().as_bytes()))),
            (None, None) => match is_elsewhere(session) {
                None => Ok(Actor::Local),
                Some(message) => Err(Refusal::new(Reason::Elsewhere, StatusCode::FORBIDDEN, message)),
            },
            // A token that is sent must be right: a session doesn't stand in for it.
            (token, Some(_)) if !head.headers.contains_key(header::AUTHORIZATION) => match self.signed_in(head)? {
                Some(signed_in) => Ok(Actor::Person(signed_in)),
                None if token.is_some() => {
                    refused(Reason::Session, "sign in with a browser, or send the admin token as 'Authorization: Bearer'")
                }
                None => refused(Reason::Session, "sign in with a browser; for programs, set server.admin_token"),
            },
            (Some(_), _) if sends_a_token(head) => refused(Reason::Token, "the admin token is wrong: it must be server.admin_token"),
            (Some(_), _) => {
                let reason = if head.headers.contains_key(header::AUTHORIZATION) { Reason::Token } else { Reason::Session };
                refused(reason, "send the admin token as 'Authorization: Bearer'")
            }
            (None, Some(_)) => refused(Reason::Token, "there is no admin token: sign in with a browser, or set server.admin_token"),
        }
    }

    /// The person whose live session a request has, if any.
    fn signed_in(&self, head: &RequestHeader) -> Result<Option<SignedIn>, Box<Refusal>> {
        let runtime = self.gateway.runtime.load();
        let Some(sign_in) = &runtime.sign_in else { return Ok(None) };
        let Some(token) = cookies::session(head) else { return Ok(None) };
        if self.gateway.has_handed_over() {
            // A session may have ended there meanwhile.
            let message = "another process has taken over: send the request again, on a new connection";
            return Err(Refusal::new(Reason::Session, StatusCode::SERVICE_UNAVAILABLE, message));
        }
        let found = sign_in.session(&self.gateway.sign_in, token, self.gateway.clock.now(), is_use(head));
        let Some((session, role)) = found else { return Ok(None) };
        let signed_in = SignedIn { session, role };
        let changes = !matches!(head.method, Method::GET | Method::HEAD);
        let given = head.headers.get(CSRF).and_then(|value| value.to_str().ok());
        if changes && !given.is_some_and(|given| Sessions::is_csrf_of(token, given)) {
            let message = "changes need the session's CSRF token as 'x-spillway-csrf'; GET /api/session has it";
            return Err(Refusal::new(Reason::Csrf, StatusCode::FORBIDDEN, message).of(Actor::Person(signed_in)));
        }
        Ok(Some(signed_in))
    }

    /// Whether somebody who was let in before is still let in. This doesn't use a session.
    pub(super) fn is_still_in(&self, actor: &Actor) -> bool {
        let runtime = self.gateway.runtime.load();
        let server = &runtime.config.server;
        match actor {
            Actor::Local => server.admin_token.is_none() && server.sign_in.is_none(),
            Actor::Token(known) => server.admin_token.as_ref().is_some_and(|token| digest(token.expose().as_bytes()).equals(known)),
            Actor::Person(SignedIn { session, role }) => runtime
                .sign_in
                .as_ref()
                .is_some_and(|sign_in| sign_in.is_live(&self.gateway.sign_in, session, *role, self.gateway.clock.now())),
        }
    }
}

/// Whether a request shows that the person is there. What pages ask by themselves doesn't.
fn is_use(head: &RequestHeader) -> bool {
    let has_query = |wanted: &str| head.uri.query().is_some_and(|query| query.split('&').any(|pair| pair.starts_with(wanted)));
    match head.uri.path() {
        "/api/events" | "/api/me" => false,
        "/api/session" => head.uri.query() == Some("present=true"),
        // A search is repeated for as long as its text stands there.
        "/api/status" => !has_query("consumer="),
        // The status page repeats it.
        "/api/limits" => !has_query("rows="),
        _ => true,
    }
}

/// Whether a request has some token, right or wrong.
fn sends_a_token(head: &RequestHeader) -> bool {
    let given = head.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    given.and_then(|given| given.strip_prefix("Bearer ")).is_some_and(|token| !token.trim().is_empty())
}

/// Whether a request has the admin token. Digests are compared, so that the time tells nothing.
fn has_token(head: &RequestHeader, token: &str) -> bool {
    let given = head.headers.get(header::AUTHORIZATION).map(http::HeaderValue::as_bytes);
    let wanted = digest(format!("Bearer {token}").as_bytes());
    given.is_some_and(|given| digest(given).equals(&wanted))
}

/// Why a request is not one that somebody on this machine sends directly; `None` if it is. The listener may have another
/// address than the config has by now, and a proxy on this machine sends requests of others.
fn is_elsewhere(session: &ServerSession) -> Option<&'static str> {
    let head = session.req_header();
    let is_here = session.client_addr().and_then(|address| address.as_inet()).is_some_and(|peer| peer.ip().to_canonical().is_loopback());
    let is_forwarded = |name: &str| name.starts_with("x-forwarded-") || FORWARDED.contains(&name);
    if !is_here {
        return Some("without server.admin_token or [server.sign_in] this listener accepts only requests from this machine");
    }
    if head.headers.keys().any(|name| is_forwarded(name.as_str())) {
        return Some("a proxy has forwarded this request: set server.admin_token or [server.sign_in], so that only those it is for get in");
    }
    (!names_an_address(head))
        .then_some("without server.admin_token this listener accepts only an IP address or 'localhost' as host, to prevent DNS rebinding")
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
fn is_foreign(head: &RequestHeader, server: &Server) -> bool {
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    // Requests for images and the like have no origin, but this header names the kind of their source.
    if text("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none") {
        return true;
    }
    if !head.headers.contains_key(header::ORIGIN) {
        return false;
    }
    let (Some(origin), Some(host)) = (text("origin"), text("host")) else { return true };
    // A proxy in front may send another host.
    let portal = server.portal.listener.as_ref().map(|listener| origin_of(&listener.url));
    let own = server.sign_in.as_ref().is_some_and(|rules| rules.origin() == origin) || portal == Some(origin);
    // Where a cookie lets in, only the configured origin is the page's own.
    let has_cookie_only = server.sign_in.is_some() && !head.headers.contains_key(header::AUTHORIZATION);
    let same = own || (!has_cookie_only && origin.split_once("://").is_some_and(|(_, origin)| origin == host));
    let marked = head.method == Method::GET || head.headers.contains_key("x-spillway-admin");
    !(same && marked)
}
