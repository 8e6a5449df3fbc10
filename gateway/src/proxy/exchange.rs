//! One exchange with an upstream: connect, send, read, each with its bound, and each watching
//! whether the caller is still there.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header;
use pingora::connectors::http::Connector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{ErrorType, Result};

use super::headers;
use super::timer::Timer;
use crate::balance::circuit::ErrorKind;
use crate::clock::{Clock, Tick};
use crate::request::Pieces;

/// Why an exchange ended without what was asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// The upstream's fault.
    Upstream(ErrorKind),
    /// A pooled connection turned out to be closed before a byte of the answer came.
    Stale,
    /// The time for this step ran out.
    TimedOut,
    /// The caller is gone.
    CallerLeft,
}

/// What came next of an answer.
#[derive(Debug)]
pub(super) enum BodyEvent {
    /// Bytes.
    Data(Bytes),
    /// The end.
    End,
    /// Nothing yet, for as long as asked.
    Quiet,
}

/// An open exchange. Dropped, it closes its connection: the upstream stops working.
pub(super) struct Exchange {
    /// On the heap: an exchange goes through many hands.
    session: Box<HttpSession>,
    peer: Arc<HttpPeer>,
    reused: bool,
}

impl Exchange {
    /// Gets a connection, from the pool if there is one and it isn't to be `fresh`.
    ///
    /// # Errors
    /// [`Broken`]
    pub(super) async fn connect(
        connector: &Connector,
        peer: Arc<HttpPeer>,
        fresh: bool,
        limit: Duration,
        caller: &mut ServerSession,
    ) -> Result<Self, Broken> {
        // A group of its own finds nothing in the pool.
        let unpooled = fresh.then(|| HttpPeer { group_key: peer.group_key ^ 1, ..(*peer).clone() });
        let connected = {
            // On the heap: with TLS and all it is several kilobytes, which a stream need not keep.
            let connecting = Box::pin(connector.get_http_session(unpooled.as_ref().unwrap_or(&*peer)));
            tokio::select! {
                biased;
                connected = pingora_timeout::timeout(limit, connecting) => connected,
                _ = caller.read_body_or_idle(true) => return Err(Broken::CallerLeft),
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
        caller: &mut ServerSession,
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
            _ = caller.read_body_or_idle(true) => return Err(Broken::CallerLeft),
        };
        match sent {
            Ok(Ok(())) => Ok(()),
            // An upstream may answer and close before it has read everything: look for the answer.
            Ok(Err(_)) if !reused => Ok(()),
            Ok(Err(_)) => Err(Broken::Stale),
            Err(_) => Err(Broken::TimedOut),
        }
    }

    /// Reads the head of the answer, past any informational ones.
    ///
    /// # Errors
    /// [`Broken`]
    pub(super) async fn read_head(
        &mut self,
        until: Tick,
        clock: &Clock,
        timer: &mut Timer,
        caller: &mut ServerSession,
    ) -> Result<(), Broken> {
        loop {
            let read = {
                let reading = std::pin::pin!(self.session.read_response_header());
                tokio::select! {
                    biased;
                    read = reading => read,
                    _ = caller.read_body_or_idle(true) => return Err(Broken::CallerLeft),
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
            // An upgrade nobody asked for can't be delivered.
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

    /// Whether only the end of the connection ends the body, so that a cut looks like an end.
    pub(super) fn ends_with_connection(&self) -> bool {
        self.head()
            .is_some_and(|head| !head.headers.contains_key(header::CONTENT_LENGTH) && !head.headers.contains_key(header::TRANSFER_ENCODING))
            && matches!(*self.session, HttpSession::H1(_))
    }

    /// The body's length, if the head tells.
    pub(super) fn content_length(&self) -> Option<usize> {
        headers::content_length(&self.head()?.headers)
    }

    /// Reads what comes next of the body, or says at `until` that nothing came; reading can go on
    /// after that.
    ///
    /// # Errors
    /// [`Broken`]
    pub(super) async fn next(
        &mut self,
        until: Tick,
        clock: &Clock,
        timer: &mut Timer,
        caller: &mut ServerSession,
    ) -> Result<BodyEvent, Broken> {
        let reading = std::pin::pin!(self.session.read_response_body());
        let read = tokio::select! {
            biased;
            read = reading => read,
            _ = caller.read_body_or_idle(true) => return Err(Broken::CallerLeft),
            () = timer.until(until, clock) => return Ok(BodyEvent::Quiet),
        };
        match read {
            Ok(Some(bytes)) => Ok(BodyEvent::Data(bytes)),
            Ok(None) => Ok(BodyEvent::End),
            Err(_) => Err(Broken::Upstream(ErrorKind::Reset)),
        }
    }

    /// Gives the connection back if its answer was read to the end; else closes it.
    pub(super) async fn release(mut self, connector: &Connector) {
        if self.session.response_done() {
            // Without an idle timeout: it would be a task and a timer per request. The pool is bounded,
            // notices connections that the other side closes, and stale ones are replaced unseen.
            connector.release_http_session(*self.session, &*self.peer, None).await;
        }
    }

    /// Reads the rest of an answer whose caller is gone, for so long at most and until `each` says that it is enough;
    /// whether it came to its end.
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

    /// Reads an answer that is as good as over to its end, in the background, so that its
    /// connection can be used again.
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

/// What is read of an answer's rest for the sake of its connection.
const DRAIN_BYTES: usize = 64 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// Whether TLS or the connection itself failed.
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
