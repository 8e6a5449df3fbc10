//! The head of a request to a backend: one builder for both drivers, the retry loop and Pingora's own.

use http::{HeaderName, Method, header};
use pingora::http::RequestHeader;
use spillway_plugins::api::{Api, Part};
use spillway_plugins::auth::digest;
use spillway_plugins::trace::SpanId;

use super::{headers, traced, transformed};
use crate::backend::{Upstream, url};
use crate::clock::Tick;
use crate::config::Endpoint;
use crate::http1::fields::HeadFields as _;
use crate::http1::request_head::{RequestHead, Unwritable};
use crate::provider::{BackendKind, Signing};
use crate::request::{Facts, ModelRequest};

/// How the body is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// Whole, with this length.
    Whole(usize),
    /// As it arrives, with the caller's length, corrected for edits.
    Streamed(Option<usize>),
    /// No body: it becomes a WebSocket.
    Socket,
}

/// What the request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestTarget<'a> {
    /// An operation of a model.
    Model { api: Api, part: Option<Part>, deployment: &'a str },
    /// A stored object: its path below the API's root.
    Stored { path: &'a str },
    /// The rest of a response: its path below the API's root, and the query.
    Rest { path: &'a str, query: &'a str },
}

/// Everything that decides what a head contains, except the caller's transforms, its trace and the backend's
/// credential.
pub(super) struct UpstreamRequest<'a> {
    pub(super) caller: &'a RequestHeader,
    /// Usually withheld fields that this consumer may send.
    pub(super) allowed: &'a [http::HeaderName],
    pub(super) kind: &'a BackendKind,
    pub(super) endpoint: &'a Endpoint,
    pub(super) target: RequestTarget<'a>,
    pub(super) framing: Framing,
    pub(super) id: &'a str,
    /// The consumer's name.
    pub(super) owner: Option<&'a str>,
}

impl UpstreamRequest<'_> {
    /// The head.
    ///
    /// # Errors
    /// If the path or the id can't be written in a head.
    pub(super) fn head(&self) -> Result<RequestHead, Unwritable> {
        let query = self.caller.uri.query();
        let path = match self.target {
            RequestTarget::Model { api, part, deployment } => url::path(self.kind, self.endpoint, (api, part), deployment, query),
            RequestTarget::Stored { path } => url::object_path(self.kind, self.endpoint, path, query),
            RequestTarget::Rest { path, query } => url::object_path(self.kind, self.endpoint, path, Some(query)),
        };
        let mut head = RequestHead::new(self.method(), path.as_bytes())?;
        head.require(&header::HOST, self.endpoint.authority.as_bytes())?;
        let is_rest = matches!(self.target, RequestTarget::Rest { .. });
        for (name, value) in headers::passed_on(self.caller, self.allowed) {
            match (name, self.owner) {
                ("content-length", _) => {}
                ("content-type", _) if is_rest => {}
                ("idempotency-key", Some(owner)) => head.add(&IDEMPOTENCY_KEY, own_key(owner, value).as_bytes()),
                _ => head.add_parsed(name, value),
            }
        }
        let length = match self.framing {
            Framing::Whole(length) if *head.method() == Method::POST => Some(length),
            Framing::Streamed(length) => length,
            Framing::Whole(_) | Framing::Socket => None,
        };
        if let Some(length) = length {
            head.add_own(&header::CONTENT_LENGTH, itoa::Buffer::new().format(length).as_bytes());
        } else if self.framing == Framing::Streamed(None) {
            head.add_own(&header::TRANSFER_ENCODING, b"chunked");
        }
        if self.framing == Framing::Socket {
            self.upgrade(&mut head)?;
        }
        head.require(&headers::X_REQUEST_ID, self.id.as_bytes())?;
        // A compressed answer would have to be decoded to count its usage.
        head.add_own(&header::ACCEPT_ENCODING, b"identity");
        if matches!(self.target, RequestTarget::Model { api: Api::Messages, .. }) && head.get("anthropic-version").is_none() {
            head.add(&headers::ANTHROPIC_VERSION, b"2023-06-01");
        }
        Ok(head)
    }

    fn method(&self) -> Method {
        match (self.target, self.framing) {
            (RequestTarget::Rest { .. }, _) => Method::GET,
            (RequestTarget::Model { .. }, Framing::Whole(_)) => Method::POST,
            _ => self.caller.method.clone(),
        }
    }

    /// Makes it a WebSocket request. No extension is offered, because compressed frames would hide their usage.
    /// Subprotocols that contain credentials are left out.
    fn upgrade(&self, head: &mut RequestHead) -> Result<(), Unwritable> {
        head.add(&header::CONNECTION, b"Upgrade");
        head.add(&header::UPGRADE, b"websocket");
        for name in [header::SEC_WEBSOCKET_KEY, header::SEC_WEBSOCKET_VERSION] {
            if let Some(value) = self.caller.headers.get(&name) {
                head.add(&name, value.as_bytes());
            }
        }
        if let Some(offered) = headers::subprotocols(&self.caller.headers) {
            head.require(&header::SEC_WEBSOCKET_PROTOCOL, offered.as_bytes())?;
        }
        Ok(())
    }
}

/// `idempotency-key`
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A consumer's own form of such a key: consumers share the backend's account, and none may get the answer to another one's
/// request by its key.
fn own_key(owner: &str, key: &[u8]) -> String {
    digest(&[owner.as_bytes(), b"\0", key].concat()).to_string()
}

/// Why there is no head.
pub(super) enum NoHead {
    /// The gateway has no credential for the backend.
    NoCredential,
    /// It can't be written.
    Unsendable,
}

impl From<Unwritable> for NoHead {
    fn from(_: Unwritable) -> Self {
        NoHead::Unsendable
    }
}

/// The head for a member of a request's model: as in [`UpstreamRequest`], plus the attempt's trace, the transforms of
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
) -> Result<RequestHead, NoHead> {
    let own_tier = model_request.own_tier_of(member);
    let member = &model_request.model.route.members()[member];
    let target = match (rest, &model_request.object) {
        (Some((path, query)), _) => RequestTarget::Rest { path, query },
        (None, Some(path)) => RequestTarget::Stored { path },
        (None, None) => RequestTarget::Model { api: model_request.api, part: model_request.part, deployment: &member.target.id.deployment },
    };
    let request = UpstreamRequest {
        caller,
        allowed: facts.allowed_headers(),
        kind: &facts.runtime.backends[member.backend].config.kind,
        endpoint: &upstream.endpoint,
        target,
        framing,
        id: &facts.id,
        owner: facts.consumer().map(|consumer| &*consumer.name),
    };
    let mut head = request.head()?;
    if own_tier.is_some() {
        // It would win over the body.
        head.remove(&headers::X_MS_SERVICE_TIER);
    }
    traced::add_to_request(facts, span, &mut head);
    transformed::request(facts, model_request, &mut head);
    upstream.auth.authorise(&caller.headers, &mut head, now, &signing).map_err(|_| NoHead::NoCredential)?;
    Ok(head)
}

#[cfg(test)]
mod tests;
