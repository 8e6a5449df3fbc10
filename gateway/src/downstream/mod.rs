//! The caller's side of a request: what the stages read from a caller and write to it, whoever speaks HTTP there.

mod date;
mod http1_session;
mod http1_write;
mod known_head;
mod pingora_session;
mod reply_head;
pub mod request_heads;
pub mod socket;
pub mod strict_head;

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use pingora::http::RequestHeader;
use pingora::protocols::http::HttpTask;
use spillway_plugins::auth::certificate::CertificateNames;

use crate::timer::Timer;

pub use http1_session::{Http1Session, Next};
pub(crate) use pingora_session::{PingoraSession, certificate_names};
pub use reply_head::ReplyHead;

pub use crate::http1::fields::HeadFields;

/// A caller's session.
pub enum Session<'s> {
    /// Pingora speaks HTTP.
    Pingora(PingoraSession<'s>),
    /// The gateway itself speaks HTTP/1.1.
    Http1(&'s mut Http1Session),
}

impl<'s> From<&'s mut pingora::proxy::Session> for Session<'s> {
    fn from(session: &'s mut pingora::proxy::Session) -> Self {
        Session::Pingora(PingoraSession::from(session))
    }
}

impl Session<'_> {
    /// The request's head.
    pub fn req_header(&self) -> &RequestHeader {
        match self {
            Session::Pingora(session) => session.req_header(),
            Session::Http1(session) => session.head(),
        }
    }

    /// The request's head, to change it.
    pub fn req_header_mut(&mut self) -> &mut RequestHeader {
        match self {
            Session::Pingora(session) => session.req_header_mut(),
            Session::Http1(session) => session.head_mut(),
        }
    }

    /// The first value of a field of the request's head: for names that few requests have.
    pub fn rare_field(&self, name: &HeaderName) -> Option<&HeaderValue> {
        match self {
            Session::Pingora(session) => session.req_header().headers.get(name),
            Session::Http1(session) => session.rare_field(name),
        }
    }

    /// The names in the client certificate of the connection.
    pub fn certificate(&self) -> Option<&CertificateNames> {
        match self {
            Session::Pingora(session) => certificate_names(session),
            Session::Http1(session) => session.certificate(),
        }
    }

    /// Pingora's session, for protocols that only Pingora speaks: upgrades, HTTP/2, bodies without a length.
    pub fn pingora(&mut self) -> Option<&mut pingora::proxy::Session> {
        match self {
            Session::Pingora(session) => Some(session),
            Session::Http1(_) => None,
        }
    }

    /// The gateway's own connection, if it is one.
    pub fn http1(&mut self) -> Option<&mut Http1Session> {
        match self {
            Session::Pingora(_) => None,
            Session::Http1(session) => Some(session),
        }
    }

    /// Sets the time limits, and what happens to a connection whose request is answered before its body was read.
    pub fn set_limits(&mut self, body_timeout: Duration, write_timeout: Duration) {
        match self {
            Session::Pingora(session) => {
                session.set_read_timeout(Some(body_timeout));
                session.set_write_timeout(Some(write_timeout));
                session.set_total_drain_timeout(Some(Duration::from_secs(5)));
                session.set_close_on_response_before_downstream_finish(true);
                // An empty line after a body belongs to the start of the next request: it is no error.
                session.set_pipelining_enabled(true);
            }
            Session::Http1(session) => session.set_write_timeout(write_timeout),
        }
    }

    /// Reading may take as long as it likes from here on.
    pub fn clear_read_timeout(&mut self) {
        match self {
            Session::Pingora(session) => session.set_read_timeout(None),
            Session::Http1(_) => {}
        }
    }

    /// The connection ends after this answer.
    pub fn close_after(&mut self) {
        match self {
            Session::Pingora(session) => session.set_keepalive(None),
            Session::Http1(session) => session.close_after(),
        }
    }

    /// How long a write may take.
    pub fn write_timeout(&self) -> Option<Duration> {
        match self {
            Session::Pingora(session) => session.get_write_timeout(),
            Session::Http1(session) => session.write_timeout(),
        }
    }

    /// Whether the connection carries one request after the other, not several at once.
    pub fn is_http1(&self) -> bool {
        match self {
            Session::Pingora(session) => session.as_http1().is_some(),
            Session::Http1(_) => true,
        }
    }

    /// Whether the caller asks for another protocol on this connection.
    pub fn is_upgrade(&self) -> bool {
        match self {
            Session::Pingora(session) => session.is_upgrade_req(),
            Session::Http1(_) => false,
        }
    }

    /// The bytes of the head, if it may have more than one meaning.
    pub fn raw_head(&self) -> Option<Bytes> {
        match self {
            Session::Pingora(session) => session.as_http1().is_some().then(|| session.to_h1_raw()),
            Session::Http1(_) => None,
        }
    }

    /// Tells the caller that the body may come.
    ///
    /// # Errors
    /// If nothing more can be written to the caller.
    pub async fn write_continue(&mut self) -> pingora::Result<()> {
        match self {
            Session::Pingora(session) => session.write_continue_response().await,
            Session::Http1(_) => Ok(()),
        }
    }

    /// Whether the whole body was read.
    pub fn is_body_done(&mut self) -> bool {
        match self {
            Session::Pingora(session) => session.downstream_session.is_body_done(),
            Session::Http1(session) => session.body_left() == 0,
        }
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// If it can't be read to its end.
    pub async fn read_body(&mut self) -> pingora::Result<Option<Bytes>> {
        match self {
            Session::Pingora(session) => session.downstream_session.read_request_body().await,
            Session::Http1(session) => session.read_body().await,
        }
    }

    /// The timer of the connection's last request: mostly it is armed, and serves the next one as it is.
    pub fn take_timer(&mut self) -> Timer {
        match self {
            Session::Pingora(_) => Timer::default(),
            Session::Http1(session) => std::mem::take(&mut session.timer),
        }
    }

    /// Keeps a timer for the connection's next request.
    pub fn put_timer(&mut self, timer: Timer) {
        if let Session::Http1(session) = self {
            session.timer = timer;
        }
    }

    /// Waits until the caller leaves.
    pub async fn left(&mut self) {
        match self {
            Session::Pingora(session) => drop(session.downstream_session.read_body_or_idle(true).await),
            Session::Http1(session) => poll_fn(|cx| session.poll_left(cx)).await,
        }
    }

    /// Writes a part of an answer: its head, bytes of its body, and with `over` its end.
    ///
    /// # Errors
    /// If nothing more can be written to the caller.
    pub async fn write(&mut self, head: Option<ReplyHead>, body: Bytes, over: bool) -> pingora::Result<()> {
        match self {
            // On the heap: it is far larger than the other, which would be moved with its length.
            Session::Pingora(session) => Box::pin(session.downstream_session.response_duplex_vec(tasks(head, body, over))).await.map(drop),
            Session::Http1(session) => session.write(head, body, over).await,
        }
    }

    /// Writes bytes of a body whose head was written, and with `over` its end: for the pieces of a stream.
    ///
    /// # Errors
    /// If nothing more can be written to the caller.
    pub async fn write_body(&mut self, body: Bytes, over: bool) -> pingora::Result<()> {
        match self {
            Session::Pingora(session) => Box::pin(session.downstream_session.response_duplex_vec(tasks(None, body, over))).await.map(drop),
            Session::Http1(session) => session.write_body(body, over).await,
        }
    }

    /// Whether a part of a response can still be queued when its stream is reset.
    pub fn is_http2(&self) -> bool {
        match self {
            Session::Pingora(session) => session.is_http2(),
            Session::Http1(_) => false,
        }
    }

    /// Breaks the connection off, or the stream of an HTTP/2 connection.
    pub async fn shutdown(&mut self) {
        match self {
            Session::Pingora(session) => session.downstream_session.shutdown().await,
            Session::Http1(session) => session.end().await,
        }
    }
}

/// The same in Pingora's form.
fn tasks(head: Option<ReplyHead>, body: Bytes, over: bool) -> Vec<HttpTask> {
    let mut tasks = Vec::with_capacity(2);
    if let Some(head) = head {
        tasks.push(HttpTask::Header(head.to_pingora(), over && body.is_empty()));
    }
    if !body.is_empty() {
        tasks.push(HttpTask::Body(Some(body), over));
    } else if over && tasks.is_empty() {
        tasks.push(HttpTask::Done);
    }
    tasks
}
