//! What a listener serves: everything, or only what is for people who sign in.

use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, header};
use pingora::http::RequestHeader;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::answer::{Answer, answer, problem};
use super::refusal::{Reason, Refusal};
use super::rooms::Rooms;
use super::state::Admin;
use crate::downstream::socket::Socket;
use crate::listener_tls as tls;
use crate::read_ahead::ReadAhead;
use crate::sign_in::{ReturnTo, SignIn};

/// The path of the page of one's own.
pub(super) const PAGE: &str = "/me";

/// Whether a path belongs to that page's API.
pub(super) fn is_own_api(path: &str) -> bool {
    path == "/api/me" || path.starts_with("/api/me/")
}

/// What a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Surface {
    /// The admin listener: everything.
    Whole,
    /// The listener for people: signing in and out, the page of one's own, and its API. Nothing of operators, whatever the
    /// role of the one who asks.
    People,
}

impl Surface {
    /// Whether it serves a path.
    pub(super) fn serves(self, path: &str) -> bool {
        let is_for_people = || path == PAGE || is_own_api(path) || path == "/api/session" || is_sign_in(path);
        self == Surface::Whole || is_for_people()
    }

    /// The answer to a request for what it doesn't have.
    pub(super) fn other_answer(self, head: &RequestHeader) -> Option<Answer> {
        let path = head.uri.path();
        if self == Surface::People && head.method == Method::GET && path == "/" {
            let mut to_page = answer(StatusCode::SEE_OTHER, "text/plain", Vec::new());
            to_page.headers_mut().insert(header::LOCATION, HeaderValue::from_static(PAGE));
            return Some(to_page);
        }
        if !self.serves(path) {
            let message = "this listener has only the page /me, its API /api/me, and signing in and out";
            return Some(problem(StatusCode::NOT_FOUND, message));
        }
        None
    }

    /// Why it doesn't serve a request, if it doesn't. Many can reach the listener for people: nobody may try out admin
    /// tokens there.
    pub(super) fn refusal(self, head: &RequestHeader) -> Option<Box<Refusal>> {
        let has_token = self == Surface::People && head.headers.contains_key(header::AUTHORIZATION);
        let message = "this listener takes no tokens: sign in with a browser";
        has_token.then(|| Refusal::new(Reason::Token, StatusCode::UNAUTHORIZED, message))
    }

    /// The page that somebody sees first after signing in.
    pub(super) fn first_page(self) -> ReturnTo {
        if self == Surface::Whole { ReturnTo::Status } else { ReturnTo::Own }
    }
}

/// Whether a path belongs to signing in or out.
fn is_sign_in(path: &str) -> bool {
    path == "/sign-out" || is_open(path)
}

/// Whether a path belongs to what is used without a session: signing in, and signing out by the issuer.
pub(super) fn is_open(path: &str) -> bool {
    path == "/sign-in" || path.starts_with("/sign-in/") || path.starts_with("/sign-out/")
}

impl Admin {
    /// The rooms of a listener.
    pub(super) fn rooms(&self, surface: Surface) -> &Rooms {
        let [whole, people] = &self.rooms;
        if surface == Surface::Whole { whole } else { people }
    }

    /// The external base address of a listener.
    pub(super) fn base_url(&self, sign_in: &SignIn, surface: Surface) -> String {
        let runtime = self.gateway.runtime.load();
        let portal = runtime.config.server.portal.listener.as_ref().filter(|_| surface == Surface::People);
        portal.map_or(&sign_in.rules.url, |listener| &listener.url).clone()
    }

    /// A connection, with TLS if the listener for people has it; `None` if the handshake fails or takes too long.
    pub(super) async fn secured(&self, tcp: TcpStream, surface: Surface, limit: Duration) -> Option<Socket> {
        let settings = match surface {
            Surface::Whole => None,
            Surface::People => self.gateway.runtime.load().tls.as_ref().map(|tls| tls.http1()),
        };
        let Some(settings) = settings else { return Some(Socket::Plain(tcp)) };
        let failures = &self.gateway.metrics.listeners;
        match tokio::time::timeout(limit, TlsAcceptor::from(settings).accept(ReadAhead::new(tcp))).await {
            Ok(Ok(stream)) => Some(Socket::Tls(Box::new(stream))),
            Ok(Err(error)) => {
                failures.tls_failure(tls::failure(&error));
                None
            }
            Err(_) => {
                failures.tls_failure("timeout");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_get_nothing_of_operators() {
        for path in [
            "/me",
            "/api/me",
            "/api/me/keys",
            "/api/me/keys/k/rotate",
            "/api/session",
            "/sign-in",
            "/sign-in/callback",
            "/sign-out",
            "/sign-out/back-channel",
        ] {
            assert!(Surface::People.serves(path), "{path}");
        }
        for path in ["/", "/metrics", "/api/keys", "/api/meter", "/api/status", "/me/", "/sign-inx", "/api/audit", "/healthz", "/api/me2"] {
            assert!(!Surface::People.serves(path) && Surface::Whole.serves(path), "{path}");
        }
    }
}
