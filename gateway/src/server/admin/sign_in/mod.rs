//! Sign-in on the admin listener: the redirect to the issuer, the way back, sign-out, and who is signed in.

pub(super) mod cookies;
mod failure;
mod issuer_logout;
mod record;
mod who;

use http::{HeaderValue, Method, StatusCode, header};
use pingora::protocols::http::ServerSession;
use serde_json::json;

use super::actor::Actor;
use super::answer::{Answer, answer, json_answer, problem};
use super::refusal::{Reason, Refusal};
use super::state::Admin;
use super::surface::Surface;
use crate::sign_in::{Asked, ReturnTo, SignIn, SignInError};

/// The error where sign-in is not configured.
const MISSING: &str = "there is no sign-in here: set [server.sign_in]";

impl Admin {
    /// The answer of one of the paths with which persons sign in and out; `None` for other paths. They need no
    /// session.
    pub(super) async fn sign_in_answer(
        &self,
        session: &ServerSession,
        surface: Surface,
        parameter: impl Fn(&str) -> Option<String>,
    ) -> Option<Answer> {
        let head = session.req_header();
        let path = head.uri.path();
        if !matches!(path, "/sign-in" | "/sign-in/callback" | "/sign-out" | "/api/session") {
            return None;
        }
        let method = if path == "/sign-out" { Method::POST } else { Method::GET };
        if head.method != method {
            return Some(problem(StatusCode::METHOD_NOT_ALLOWED, &format!("this path takes only {method}")));
        }
        if path == "/api/session" {
            return Some(self.who(session).await);
        }
        let Some(sign_in) = self.gateway.runtime.load().sign_in.clone() else {
            return Some(problem(StatusCode::NOT_FOUND, MISSING));
        };
        Some(match path {
            "/sign-in" => {
                let is_true = |name: &str| parameter(name).is_some_and(|value| value == "true");
                // An address from outside is never followed: a page that is not on the list is the listener's first one.
                let return_to = parameter("return_to").as_deref().and_then(ReturnTo::from_path).unwrap_or_else(|| surface.first_page());
                let asked = Asked { return_to, again: is_true("again"), fresh: is_true("fresh") };
                self.begin(session, &sign_in, surface, asked).await
            }
            "/sign-in/callback" => self.come_back(session, &sign_in, surface).await,
            _ => self.sign_out(session, parameter("all").is_some_and(|all| all == "true")).await,
        })
    }

    /// The answer to a request whose sender is not let in. A cookie whose session has ended goes.
    pub(super) async fn not_let_in(&self, session: &ServerSession, refusal: Box<Refusal>) -> Answer {
        let has_ended = refusal.reason == Reason::Session
            && refusal.answer.status() == StatusCode::UNAUTHORIZED
            && cookies::session(session.req_header()).is_some();
        let mut answer = self.refused(session, refusal).await;
        if has_ended {
            answer.headers_mut().append(header::SET_COOKIE, cookies::delete_session());
        }
        answer
    }

    /// Sends the browser to the issuer.
    async fn begin(&self, session: &ServerSession, sign_in: &SignIn, surface: Surface, asked: Asked) -> Answer {
        let base = self.base_url(sign_in, surface);
        // With single sign-on a link on any page would sign in somebody who didn't ask for it: the page has a button.
        let site = session.req_header().headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        if !matches!(site, None | Some(b"same-origin" | b"none")) {
            return redirect(&format!("{base}{}", asked.return_to.path()), std::iter::empty());
        }
        let now = self.gateway.clock.wall().timestamp();
        match sign_in.begin(&self.gateway.sign_in, &base, asked, now) {
            Ok(started) => redirect(&started.location, cookies::set_login(&started.cookie).into_iter()),
            Err(error) => self.failed(session, sign_in, surface, &error).await,
        }
    }

    /// The browser comes back from the issuer.
    async fn come_back(&self, session: &ServerSession, sign_in: &SignIn, surface: Surface) -> Answer {
        let head = session.req_header();
        let query = head.uri.query().unwrap_or("");
        match sign_in.finish(&self.gateway.sign_in, query, cookies::login(head), &self.gateway.clock).await {
            Ok(finished) => {
                // A session that this browser had before ends: nothing of it may go on under another name.
                if let Some(before) = cookies::session(head) {
                    self.gateway.sign_in.sessions.end_token(before);
                }
                self.gateway.metrics.sign_in.count("ok");
                self.record_session(session, "session.begin", &finished.person, finished.role).await;
                redirect(&finished.location, cookies::set_session(&finished.token).into_iter().chain([cookies::delete_login()]))
            }
            Err(error) => self.failed(session, sign_in, surface, &error).await,
        }
    }

    /// Counts a failure, records it, and explains it.
    async fn failed(&self, session: &ServerSession, sign_in: &SignIn, surface: Surface, error: &SignInError) -> Answer {
        self.gateway.metrics.sign_in.count(error.label());
        self.record_failure(session, error).await;
        let mut page = failure::page(error, &self.base_url(sign_in, surface), surface.first_page());
        // A login that can still be finished stays.
        if !matches!(error, SignInError::State | SignInError::NoLogin | SignInError::Busy | SignInError::NotReady) {
            page.headers_mut().append(header::SET_COOKIE, cookies::delete_login());
        }
        page
    }

    /// Ends the session, or all sessions of its person.
    async fn sign_out(&self, session: &ServerSession, all: bool) -> Answer {
        let signed_in = match self.actor(session) {
            Ok(Actor::Person(signed_in)) => signed_in,
            Ok(_) => return problem(StatusCode::BAD_REQUEST, "no person is signed in: the admin token has no session"),
            Err(refusal) => return self.not_let_in(session, refusal).await,
        };
        let (sessions, person) = (&self.gateway.sign_in.sessions, &signed_in.session.person);
        let ended = if all { sessions.end_all(Some(&person.subject)) } else { usize::from(sessions.end(&signed_in.session.id)) };
        self.record_session(session, if all { "session.end-all" } else { "session.end" }, person, signed_in.role).await;
        let mut answer = json_answer(StatusCode::OK, &json!({ "result": "signed out", "sessions": ended }));
        answer.headers_mut().append(header::SET_COOKIE, cookies::delete_session());
        // What a page of this listener has stored goes, too.
        let has_path = self.gateway.runtime.load().sign_in.as_ref().is_some_and(|sign_in| sign_in.rules.url != sign_in.rules.origin());
        // Below a path the storage belongs to other applications, too.
        let kinds = if has_path { "\"cache\"" } else { "\"cache\", \"storage\"" };
        answer.headers_mut().insert("clear-site-data", HeaderValue::from_static(kinds));
        answer
    }
}

/// A redirect that sets cookies.
fn redirect(location: &str, cookies: impl Iterator<Item = HeaderValue>) -> Answer {
    let mut answer = answer(StatusCode::SEE_OTHER, "text/plain; charset=utf-8", Vec::new());
    let headers = answer.headers_mut();
    match HeaderValue::from_str(location) {
        Ok(location) => headers.insert(header::LOCATION, location),
        Err(_) => return problem(StatusCode::BAD_GATEWAY, "the issuer's metadata has an address that is none"),
    };
    for cookie in cookies {
        headers.append(header::SET_COOKIE, cookie);
    }
    answer
}
