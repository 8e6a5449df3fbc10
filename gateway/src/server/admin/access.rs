//! Checks who sends a request to the admin listener.

use http::{Method, StatusCode, header};
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;

use super::actor::{Actor, SignedIn};
use super::answer::{Answer, problem};
use super::sign_in::cookies;
use super::state::Admin;
use crate::config::{Server, origin_of};
use crate::sign_in::Sessions;

/// The header with the session's CSRF token, for changes by a person who has signed in.
const CSRF: &str = "x-spillway-csrf";

impl Admin {
    /// Who sends a request, or why it is refused.
    pub(super) fn actor(&self, session: &ServerSession) -> Result<Actor, Answer> {
        let runtime = self.gateway.runtime.load();
        let (server, head) = (&runtime.config.server, session.req_header());
        if is_foreign(head, server) {
            return Err(problem(StatusCode::FORBIDDEN, "requests from pages of other origins are refused"));
        }
        match (&server.admin_token, &server.sign_in) {
            (Some(token), _) if has_token(head, token.expose()) => Ok(Actor::Token),
            (None, None) if names_an_address(head) => Ok(Actor::Local),
            (None, None) => {
                let message = "without server.admin_token this listener accepts only an IP address or 'localhost' as host, to prevent \
                               DNS rebinding";
                Err(problem(StatusCode::FORBIDDEN, message))
            }
            // A token that is sent must be right: a session doesn't stand in for it.
            (token, Some(_)) if !head.headers.contains_key(header::AUTHORIZATION) => {
                self.signed_in(head)?.map(Actor::Person).ok_or_else(|| match token {
                    Some(_) => {
                        problem(StatusCode::UNAUTHORIZED, "sign in with a browser, or send the admin token as 'Authorization: Bearer'")
                    }
                    None => problem(StatusCode::UNAUTHORIZED, "sign in with a browser; for programs, set server.admin_token"),
                })
            }
            (Some(_), _) => Err(problem(StatusCode::UNAUTHORIZED, "send the admin token as 'Authorization: Bearer'")),
            (None, Some(_)) => {
                Err(problem(StatusCode::UNAUTHORIZED, "there is no admin token: sign in with a browser, or set server.admin_token"))
            }
        }
    }

    /// The person whose live session a request has, if any.
    fn signed_in(&self, head: &RequestHeader) -> Result<Option<SignedIn>, Answer> {
        let runtime = self.gateway.runtime.load();
        let Some(sign_in) = &runtime.sign_in else { return Ok(None) };
        let Some(token) = cookies::session(head) else { return Ok(None) };
        // Pages ask for these by themselves: that is no use by a person.
        let uses = !matches!(head.uri.path(), "/api/events" | "/api/me");
        let found = sign_in.session(&self.gateway.sign_in, token, self.gateway.clock.now(), uses);
        let Some((session, role)) = found else { return Ok(None) };
        let changes = !matches!(head.method, Method::GET | Method::HEAD);
        let given = head.headers.get(CSRF).and_then(|value| value.to_str().ok());
        if changes && !given.is_some_and(|given| Sessions::is_csrf_of(token, given)) {
            return Err(problem(
                StatusCode::FORBIDDEN,
                "changes need the session's CSRF token as 'x-spillway-csrf'; GET /api/session has it",
            ));
        }
        Ok(Some(SignedIn { session, role }))
    }

    /// Whether somebody who was let in before is still let in. This doesn't use a session.
    pub(super) fn is_still_in(&self, actor: &Actor) -> bool {
        let Actor::Person(SignedIn { session, role }) = actor else { return true };
        let runtime = self.gateway.runtime.load();
        runtime.sign_in.as_ref().is_some_and(|sign_in| sign_in.is_live(&self.gateway.sign_in, session, *role, self.gateway.clock.now()))
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
    let same = own || origin.split_once("://").is_some_and(|(_, origin)| origin == host);
    let marked = head.method == Method::GET || head.headers.contains_key("x-spillway-admin");
    !(same && marked)
}
