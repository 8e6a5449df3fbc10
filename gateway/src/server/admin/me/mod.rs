//! What people who sign in see of themselves: the page `/me`, and its API.

mod keys;
mod left;
mod models;
mod overview;
mod page;
mod policy;
pub(super) mod usage;

use http::{Method, StatusCode};
use pingora::protocols::http::ServerSession;

use super::actor::{Actor, Role, SignedIn};
use super::acts::Who;
use super::answer::{Answer, problem};
use super::body;
use super::state::Admin;
use super::surface::Surface;
use crate::config::PersonNames;

const PATHS: &str = "known paths: GET /api/me, POST /api/me/keys, POST /api/me/keys/ID/rotate, DELETE /api/me/keys/ID";

/// The person who asks.
struct Asker<'p> {
    /// What decides what is theirs.
    names: PersonNames<'p>,
    /// The issuer that knows them.
    issuer: String,
    /// Their name for people.
    name: &'p str,
    role: Role,
}

impl Asker<'_> {
    /// Who they are, for a key: a subject is unique only at its issuer.
    fn owner(&self) -> String {
        format!("{} at {}", self.names.subject, self.issuer)
    }
}

impl Admin {
    /// The page, if people can sign in.
    pub(super) fn own_page(&self) -> Answer {
        match self.gateway.runtime.load().sign_in {
            Some(_) => page::page(),
            None => problem(StatusCode::NOT_FOUND, "this page is for people who sign in: set [server.sign_in]"),
        }
    }

    /// Answers a request to the page's API.
    pub(super) async fn own(&self, session: &mut ServerSession, actor: &Actor, who: &Who, surface: Surface) -> Answer {
        let Actor::Person(SignedIn { session: found, role }) = actor else {
            return problem(StatusCode::FORBIDDEN, "this is for people who sign in; the admin token owns no consumer");
        };
        // Before a body is waited for.
        let Some(_place) = self.answers_of.enter(actor) else {
            session.set_keepalive(None);
            return problem(StatusCode::TOO_MANY_REQUESTS, "you have too many requests at once; wait for their answers");
        };
        let person = &found.person;
        let names = PersonNames { subject: &person.subject, names: person.email.as_slice(), groups: &person.groups, roles: &person.roles };
        let issuer = self.gateway.runtime.load().sign_in.as_ref().map_or_else(String::new, |sign_in| sign_in.rules.issuer.name.clone());
        let asker = Asker { names, issuer, name: &person.name, role: *role };
        let head = session.req_header();
        let (method, path) = (head.method.clone(), head.uri.path().to_owned());
        let parts: Vec<&str> = path["/api/me".len()..].split('/').skip(1).collect();
        let body = match (&method, parts.as_slice()) {
            (&Method::GET, []) => return self.overview(&asker, surface).await,
            (&Method::DELETE, ["keys", id]) => return self.revoke_own_key(&asker, who, id).await,
            (&Method::POST, ["keys"] | ["keys", _, "rotate"]) => body::read(session, &self.gateway.clock).await,
            (_, [] | ["keys"] | ["keys", _] | ["keys", _, "rotate"]) => return problem(StatusCode::METHOD_NOT_ALLOWED, PATHS),
            _ => return problem(StatusCode::NOT_FOUND, PATHS),
        };
        match (body, parts.as_slice()) {
            (Ok(body), ["keys", id, _]) => self.rotate_own_key(&asker, who, id, &body).await,
            (Ok(body), _) => self.make_own_key(&asker, who, &body).await,
            (Err(refusal), _) => refusal,
        }
    }
}
