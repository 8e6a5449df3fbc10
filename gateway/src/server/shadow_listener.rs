//! The listeners for mirrored requests. Each gets an empty 204 as soon as it is read; whatever it is, it waits for nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, header};
use pingora::apps::{HttpPersistentSettings, ReusedHttpStream};
use pingora::http::ResponseHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::head_guard::{Accepted, HeadGuard};
use crate::connection_phase::Phase;
use crate::downstream::socket::Socket;
use crate::gateway::Gateway;
use crate::shadow::Shadow;
use crate::shadow::mirrored::{self, Mirrored, REPORT};
use crate::telemetry::metrics::Mirrored as Counted;

/// Most connections; further ones are closed.
const CONNECTIONS: usize = 1024;
/// Longest time for a body, and for a write.
const PATIENCE: Duration = Duration::from_secs(10);

/// The shadow, if there is one, and the tasks that accept mirrored requests for it.
type Started = (Option<Arc<Shadow>>, Vec<JoinHandle<()>>);

/// Starts the shadow and its listeners, if the config has one.
///
/// # Errors
/// If its thread can't be started.
pub(super) fn start(gateway: &Gateway, listeners: Vec<TcpListener>, shutdown: &watch::Receiver<bool>) -> std::io::Result<Started> {
    let Some(rules) = gateway.runtime.load().config.shadow.clone() else { return Ok((None, Vec::new())) };
    let shadow = Arc::new(Shadow::start(gateway.clone(), rules.queue)?);
    let mirror = ShadowListener { gateway: gateway.clone(), shadow: Arc::clone(&shadow), max_body: rules.max_body };
    let mirror = Arc::new(mirror);
    let accept = |listener: TcpListener| tokio::spawn(Arc::clone(&mirror).accept(listener, shutdown.clone()));
    Ok((Some(shadow), listeners.into_iter().map(accept).collect()))
}

/// What all connections share.
struct ShadowListener {
    gateway: Gateway,
    shadow: Arc<Shadow>,
    max_body: usize,
}

impl ShadowListener {
    /// Accepts until the shutdown.
    async fn accept(self: Arc<Self>, listener: TcpListener, mut shutdown: watch::Receiver<bool>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = shutdown.wait_for(|down| *down) => return,
            };
            let Ok((tcp, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                self.gateway.metrics.shadow.count(Counted::Dropped);
                continue;
            };
            let (listener, shutdown) = (Arc::clone(&self), shutdown.clone());
            tokio::spawn(async move {
                let _place = place;
                listener.connection(tcp, shutdown).await;
            });
        }
    }

    /// Serves a connection to its end. The guard sets deadlines for heads and idle connections.
    async fn connection(&self, tcp: TcpStream, shutdown: watch::Receiver<bool>) {
        let (clock, metrics) = (&self.gateway.clock, &self.gateway.metrics);
        let times = || {
            let server = &self.gateway.runtime.load().config.server;
            (server.header_timeout, server.keepalive)
        };
        let phase = Phase::new(clock.now() + times().0);
        let accepted = Accepted { socket: Socket::Plain(tcp), certificate: None, read: Vec::new() };
        let guard = HeadGuard::new(accepted, Arc::clone(&phase), clock.clone(), times().0, Arc::clone(metrics), false);
        let mut session = ServerSession::new_http1(Box::new(guard));
        loop {
            // No timer of Pingora's: the guard has its own.
            session.set_keepalive(Some(0));
            if !matches!(session.read_request().await, Ok(true)) {
                return;
            }
            phase.request_begins();
            session.set_write_timeout(Some(PATIENCE));
            if *shutdown.borrow() || self.gateway.is_closing() {
                session.set_keepalive(None);
            }
            let Some(stream) = self.serve(session).await else { return };
            phase.request_ends(clock.now() + times().1);
            session = ServerSession::new_http1(stream);
        }
    }

    /// Reads a request, hands it over and answers. Returns the connection, if it stays open.
    async fn serve(&self, mut session: ServerSession) -> Option<Stream> {
        let body = tokio::time::timeout(PATIENCE, self.body(&mut session)).await.unwrap_or(None);
        match body.as_deref().map(|body| self.read(&session, body)) {
            Some(Ok(mirrored)) => self.shadow.take(mirrored),
            Some(Err(why)) => {
                tracing::debug!(why, "a mirrored request can't be shadowed");
                self.gateway.metrics.shadow.count(Counted::Unreadable);
            }
            None => {
                self.gateway.metrics.shadow.count(Counted::TooLarge);
                session.set_keepalive(None);
            }
        }
        let mut head = ResponseHeader::build(StatusCode::NO_CONTENT, None).ok()?;
        if body.is_none() {
            head.insert_header(header::CONNECTION, "close").ok()?;
        }
        session.write_response_header(Box::new(head)).await.ok()?;
        let settings = HttpPersistentSettings::for_session(&session);
        let stream = session.finish().await.ok()??;
        Some(ReusedHttpStream::from_reusable_stream(stream, settings).consume().0)
    }

    /// The whole body; `None` if it is too long, or breaks off.
    async fn body(&self, session: &mut ServerSession) -> Option<Vec<u8>> {
        let mut body: Vec<u8> = Vec::new();
        loop {
            let piece: Option<Bytes> = session.read_request_body().await.ok()?;
            let Some(piece) = piece else { return Some(body) };
            if body.len() + piece.len() > self.max_body {
                return None;
            }
            body.extend_from_slice(&piece);
        }
    }

    fn read(&self, session: &ServerSession, body: &[u8]) -> Result<Mirrored, &'static str> {
        let head = session.req_header();
        let now = self.gateway.clock.wall();
        let at = crate::clock::Tick(now.timestamp_nanos_opt().and_then(|nanos| u64::try_from(nanos).ok()).unwrap_or(0));
        if head.uri.path() == REPORT {
            return match head.method {
                Method::POST => mirrored::report(body, at),
                _ => Err("a report is posted"),
            };
        }
        let consumer = self.gateway.runtime.load().callers.holder_of_key(&head.headers, now.timestamp());
        mirrored::copy((&head.method, head.uri.path(), head.uri.query()), &head.headers, body, consumer, at)
    }
}
