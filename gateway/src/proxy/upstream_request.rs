//! The head of a request as a backend gets it: one builder for both drivers, the attempt loop and Pingora's own.

use http::{HeaderValue, Method, header};
use pingora::http::RequestHeader;
use spillway_plugins::api::{Api, Part};
use spillway_plugins::trace::SpanId;

use super::{headers, traced, transformed};
use crate::backend::{Upstream, url};
use crate::clock::Tick;
use crate::config::Endpoint;
use crate::provider::{BackendKind, Signing};
use crate::request::{Facts, ModelRequest};

/// How the body is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// Whole, with this length.
    Whole(usize),
    /// As it comes, with the length that the caller gave, corrected for what is edited.
    Streamed(Option<usize>),
    /// None: it becomes a WebSocket.
    Socket,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// An operation of a model.
    Model { api: Api, part: Option<Part>, deployment: &'a str },
    /// Something that is stored: its path below the API's root.
    Stored { path: &'a str },
    /// The rest of a response: its path below the API's root, and the query.
    Rest { path: &'a str, query: &'a str },
}

/// Everything that decides what a head says, apart from the caller's transforms, its trace and the backend's credential.
pub(super) struct UpstreamRequest<'a> {
    pub(super) caller: &'a RequestHeader,
    /// Withheld fields that this consumer may send.
    pub(super) allowed: &'a [http::HeaderName],
    pub(super) kind: &'a BackendKind,
    pub(super) endpoint: &'a Endpoint,
    pub(super) target: Target<'a>,
    pub(super) framing: Framing,
    pub(super) id: &'a str,
}

impl UpstreamRequest<'_> {
    /// The head.
    ///
    /// # Errors
    /// If path or id can't stand in one.
    pub(super) fn head(&self) -> pingora::Result<Box<RequestHeader>> {
        let query = self.caller.uri.query();
        let path = match self.target {
            Target::Model { api, part, deployment } => url::path(self.kind, self.endpoint, (api, part), deployment, query),
            Target::Stored { path } => url::object_path(self.kind, self.endpoint, path, query),
            Target::Rest { path, query } => url::object_path(self.kind, self.endpoint, path, Some(query)),
        };
        let mut head = headers::for_upstream(self.caller, &path, self.allowed)?;
        head.set_method(self.method());
        match self.framing {
            Framing::Whole(length) if head.method == Method::POST => head.insert_header(header::CONTENT_LENGTH, length)?,
            Framing::Streamed(Some(length)) => head.insert_header(header::CONTENT_LENGTH, length)?,
            Framing::Streamed(None) => {
                head.remove_header(&header::CONTENT_LENGTH);
                head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
            }
            Framing::Whole(_) | Framing::Socket => drop(head.remove_header(&header::CONTENT_LENGTH)),
        }
        if let Target::Rest { .. } = self.target {
            head.remove_header(&header::CONTENT_TYPE);
        }
        if self.framing == Framing::Socket {
            self.upgrade(&mut head)?;
        }
        head.insert_header(header::HOST, self.endpoint.authority.as_str())?;
        head.insert_header(headers::X_REQUEST_ID, self.id)?;
        // What is compressed would have to be decoded to be counted.
        head.insert_header(header::ACCEPT_ENCODING, "identity")?;
        if matches!(self.target, Target::Model { api: Api::Messages, .. }) && !self.caller.headers.contains_key("anthropic-version") {
            head.insert_header("anthropic-version", "2023-06-01")?;
        }
        Ok(head)
    }

    fn method(&self) -> Method {
        match (self.target, self.framing) {
            (Target::Rest { .. }, _) => Method::GET,
            (Target::Model { .. }, Framing::Whole(_)) => Method::POST,
            _ => self.caller.method.clone(),
        }
    }

    /// What makes it a WebSocket. No extension is offered: compressed frames would not tell what they cost. Subprotocols that
    /// are credentials are left out.
    fn upgrade(&self, head: &mut RequestHeader) -> pingora::Result<()> {
        head.insert_header(header::CONNECTION, "Upgrade")?;
        head.insert_header(header::UPGRADE, HeaderValue::from_static("websocket"))?;
        for name in [header::SEC_WEBSOCKET_KEY, header::SEC_WEBSOCKET_VERSION] {
            if let Some(value) = self.caller.headers.get(&name) {
                head.insert_header(name, value.clone())?;
            }
        }
        if let Some(offered) = headers::subprotocols(&self.caller.headers) {
            head.insert_header(header::SEC_WEBSOCKET_PROTOCOL, offered)?;
        }
        Ok(())
    }
}

/// Why there is no head.
pub(super) enum NoHead {
    /// There is nothing to prove the gateway's identity with.
    NoCredential,
    /// It can't be written.
    Unsendable,
}

impl From<pingora::BError> for NoHead {
    fn from(_: pingora::BError) -> Self {
        NoHead::Unsendable
    }
}

/// The head for a member of a request's model: as [`UpstreamRequest`] says, with the attempt's trace, the transforms of
/// consumer and pool, and the backend's credential.
///
/// # Errors
/// [`NoHead`]
pub(super) fn head_for(
    facts: &Facts,
    model_request: &ModelRequest,
    (member, upstream): (usize, &Upstream),
    caller: &RequestHeader,
    rest: Option<(&str, &str)>,
    framing: Framing,
    (span, now, signing): (Option<SpanId>, Tick, Signing<'_>),
) -> Result<Box<RequestHeader>, NoHead> {
    let member = &model_request.model.route.members()[member];
    let target = match (rest, &model_request.object) {
        (Some((path, query)), _) => Target::Rest { path, query },
        (None, Some(path)) => Target::Stored { path },
        (None, None) => Target::Model { api: model_request.api, part: model_request.part, deployment: &member.target.id.deployment },
    };
    let request = UpstreamRequest {
        caller,
        allowed: facts.allowed_headers(),
        kind: &facts.runtime.backends[member.backend].config.kind,
        endpoint: &upstream.endpoint,
        target,
        framing,
        id: &facts.id,
    };
    let mut head = request.head()?;
    traced::tell_upstream(facts, span, &mut head)?;
    transformed::request(facts, model_request, &mut head);
    upstream.auth.authorise(&caller.headers, &mut head, now, &signing).map_err(|_| NoHead::NoCredential)?;
    Ok(head)
}

#[cfg(test)]
mod tests;
