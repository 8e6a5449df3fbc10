//! One exchange with an upstream: connect, send, read. Each step has a time limit and watches whether the caller is
//! still connected.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header;
use pingora::connectors::http::Connector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{ErrorType, Result};

use super::headers;
use crate::balance::circuit::ErrorKind;
use crate::clock::{Clock, Tick};
use crate::downstream::Session;
use crate::request::Pieces;
use crate::timer::Timer;

/// Why a step of an exchange failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// The upstream's fault.
    Upstream(ErrorKind),
    /// A pooled connection was already closed before a byte of the answer came.
    Stale,
    /// The time for this step ran out.
    TimedOut,
    /// The caller has closed its connection.
    CallerLeft,
}

/// The next event while reading an answer's body.
#[derive(Debug)]
pub(super) enum BodyEvent {
    /// Bytes.
    Data(Bytes),
    /// The end.
    End,
    /// No bytes for the given time.
    Quiet,
}

/// An open exchange. Dropping it closes the connection, so that the upstream stops working.
pub(super) struct Exchange {
    /// On the heap, because an exchange is moved often.
    session: Box<HttpSession>,
    peer: Arc<HttpPeer>,
    reused: bool,
}

impl Exchange {
    /// Gets a connection: from the pool if it has one, or a new one if `fresh`.
    ///
    /// # Errors
    /// [`Broken`]
    pub(super) async fn connect(
        connector: &Connector,
        peer: Arc<HttpPeer>,
        fresh: bool,
        limit: Duration,
        caller: &mut Session<'_>,
    ) -> Result<Self, Broken> {
        // With a group key of its own it finds nothing in the pool.
        let unpooled = fresh.then(|| HttpPeer { group_key: peer.group_key ^ 1, ..(*peer).clone() });
        let connected = {
            // On the heap: with TLS it is several kilobytes, which a stream need not keep.
            let connecting = Box::pin(connector.get_http_session(unpooled.as_ref().unwrap_or(&*peer)));
            tokio::select! {
                biased;
                connected = pingora_timeout::timeout(limit, connecting) => connected,
                _ = caller.left() => return Err(Broken::CallerLeft),
            }
        };
        match connected {
            Ok(Ok((session, reused))) => Ok(Exchange { session: Box::new(session), peer, reused }),
            Ok(Err(error)) => Err(Broken::Upstream(connect_error(error.etype()))),
            Err(_) => Err(Broken::Upstream(ErrorKind::Connect)),
        }
    }

    /// Sends head and body.
    ///
    /// # Errors
    /// [`Broken::Stale`] or [`Broken::Upstream`]
    pub(super) async fn send(
        &mut self,
        head: Box<RequestHeader>,
        body: Pieces,
        limit: Duration,
        caller: &mut Session<'_>,
    ) -> Result<(), Broken> {
        let reused = self.reused;
        let session = &mut self.session;
        let sending = std::pin::pin!(async {
            session.write_request_header(head).await?;
            let last = body.len().saturating_sub(1);
            for (index, piece) in body.into_iter().enumerate() {
                session.write_request_body(piece, index == last).await?;
            }
            session.finish_request_body().await
        });
        let sent = tokio::select! {
            biased;
            sent = pingora_timeout::timeout(limit, sending) => sent,
            _ = caller.left() => return Err(Broken::CallerLeft),
        };
        match sent {
            Ok(Ok(())) => Ok(()),
            // An upstream may answer and close before it has read the whole request: look for the answer.
            Ok(Err(_)) if !reused => Ok(()),
            Ok(Err(_)) => Err(Broken::Stale),
            Err(_) => Err(Broken::TimedOut),
        }
    }

    /// Reads the head of the answer; informational heads (1xx) are skipped.
    ///
    /// # Errors
    /// [`Broken`]
    pub(super) async fn read_head(
        &mut self,
        until: Tick,
        clock: &Clock,
        timer: &mut Timer,
        caller: &mut Session<'_>,
    ) -> Result<(), Broken> {
        loop {
            let read = {
                let reading = std::pin::pin!(self.session.read_response_header());
                tokio::select! {
                    biased;
                    read = reading => read,
                    _ = caller.left() => return Err(Broken::CallerLeft),
                    () = timer.until(until, clock) => return Err(Broken::TimedOut),
                }
            };
            match read {
                Ok(()) => {}
                Err(error) if self.reused && closed(error.etype()) => return Err(Broken::Stale),
                Err(_) => return Err(Broken::Upstream(ErrorKind::Reset)),
            }
            let status = self.session.response_header().map_or(0, |head| head.status.as_u16());
            if status >= 200 {
                break;
            }
            // An upgrade that was not asked for can't be delivered.
            if status == 101 {
                return Err(Broken::Upstream(ErrorKind::Reset));
            }
        }
        if let HttpSession::H1(session) = &mut *self.session {
            session.respect_keepalive();
        }
        Ok(())
    }

    /// The head of the answer.
    pub(super) fn head(&self) -> Option<&ResponseHeader> {
        self.session.response_header()
    }

    /// Whether the body ends with the connection, so that a broken answer looks like a complete one.
    pub(super) fn ends_with_connection(&self) -> bool {
        self.head()
            .is_some_and(|head| !head.headers.contains_key(header::CONTENT_LENGTH) && !head.headers.contains_key(header::TRANSFER_ENCODING))
            && matches!(*self.session, HttpSession::H1(_))
    }

    /// The body's length, if the head has it.
    pub(super) fn content_length(&self) -> Option<usize> {
        headers::content_length(&self.head()?.headers)
    }

    /// Reads the next bytes of the body. Returns `Quiet` if none came before `until`; reading can continue after that.
    ///
    /// # Errors
    /// [`Broken`]
    pub(super) async fn next(
        &mut self,
        until: Tick,
        clock: &Clock,
        timer: &mut Timer,
        caller: &mut Session<'_>,
    ) -> Result<BodyEvent, Broken> {
        let reading = std::pin::pin!(self.session.read_response_body());
        let read = tokio::select! {
            biased;
            read = reading => read,
            _ = caller.left() => return Err(Broken::CallerLeft),
            () = timer.until(until, clock) => return Ok(BodyEvent::Quiet),
        };
        match read {
            Ok(Some(bytes)) => Ok(BodyEvent::Data(bytes)),
            Ok(None) => Ok(BodyEvent::End),
            Err(_) => Err(Broken::Upstream(ErrorKind::Reset)),
        }
    }

    /// Returns the connection to the pool if its answer was read to the end; otherwise closes it.
    pub(super) async fn release(mut self, connector: &Connector) {
        if self.session.response_done() {
            // No idle timeout: it would need a task and a timer per request. The pool is bounded and notices
            // connections that the other side closes; a stale one is replaced before the caller notices.
            connector.release_http_session(*self.session, &*self.peer, None).await;
        }
    }

    /// Reads the rest of an answer whose caller has left, until `limit` or until `each` says that it is enough. Returns
    /// whether the answer ended.
    pub(super) async fn read_rest(&mut self, limit: Duration, mut each: impl FnMut(Bytes) -> bool) -> bool {
        let rest = async {
            while let Ok(Some(bytes)) = self.session.read_response_body().await {
                if each(bytes) {
                    break;
                }
            }
        };
        tokio::time::timeout(limit, rest).await.is_ok() && self.session.response_done()
    }

    /// Reads the last bytes of an answer in the background, so that its connection can be used again.
    pub(super) async fn release_soon(mut self, connector: &Arc<Connector>) {
        if self.session.response_done() {
            return self.release(connector).await;
        }
        let connector = Arc::clone(connector);
        tokio::spawn(async move {
            let rest = async {
                let mut left = DRAIN_BYTES;
                while let Ok(Some(bytes)) = self.session.read_response_body().await {
                    left = left.saturating_sub(bytes.len());
                    if left == 0 {
                        break;
                    }
                }
            };
            let _ = tokio::time::timeout(DRAIN_TIME, rest).await;
            self.release(&connector).await;
        });
    }
}

/// Most bytes that are read so that a connection can be used again.
const DRAIN_BYTES: usize = 64 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// Whether TLS or the TCP connection failed.
pub(super) fn connect_error(kind: &ErrorType) -> ErrorKind {
    match kind {
        ErrorType::TLSHandshakeFailure
        | ErrorType::TLSHandshakeTimedout
        | ErrorType::InvalidCert
        | ErrorType::HandshakeError
        | ErrorType::TLSWantX509Lookup => ErrorKind::Tls,
        _ => ErrorKind::Connect,
    }
}

fn closed(kind: &ErrorType) -> bool {
    matches!(kind, ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError)
}

#[cfg(test)]
mod tests;
