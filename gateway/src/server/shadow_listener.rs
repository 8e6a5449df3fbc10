//! The listeners for mirrored requests. Each gets an empty 204 as soon as it is read; whatever it is, it waits for nothing.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode, header};
use pingora::apps::{HttpPersistentSettings, ReusedHttpStream};
use pingora::http::ResponseHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::head_guard::{Accepted, HeadGuard};
use crate::config::SHADOW_MEMORY;
use crate::connection_phase::Phase;
use crate::downstream::socket::Socket;
use crate::gateway::Gateway;
use crate::shadow::mirrored::{self, Mirrored, REPORT};
use crate::shadow::{Shadow, thread};
use crate::telemetry::metrics::Mirrored as Counted;

/// Most connections of all listeners together; further ones are closed.
const CONNECTIONS: u32 = 128;
/// Longest time for a body, and for a write.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of a refused body that are read and thrown away, and how long: otherwise the answer might not arrive.
const THROWN_AWAY: usize = 1 << 20;
const LINGER: Duration = Duration::from_secs(1);

/// The shadow, if there is one, and tasks that end when its listeners are closed.
type Started = (Option<Arc<Shadow>>, Vec<JoinHandle<()>>);

/// Starts the shadow and its listeners, if the config has one. They have a thread of their own: reading bodies takes no time from
/// the threads that serve callers.
///
/// # Errors
/// If a thread can't be started, or can't listen.
pub(super) fn start(gateway: &Gateway, listeners: Vec<TcpListener>, shutdown: &watch::Receiver<bool>) -> io::Result<Started> {
    let Some(rules) = gateway.runtime.load().config.shadow.clone() else { return Ok((None, Vec::new())) };
    let shadow = Arc::new(Shadow::start(gateway.clone(), rules.queue)?);
    let mirror = Arc::new(ShadowListener {
        gateway: gateway.clone(),
        shadow: Arc::clone(&shadow),
        max_body: rules.max_body,
        places: Arc::new(Semaphore::new(CONNECTIONS as usize)),
        memory: Arc::new(Semaphore::new(SHADOW_MEMORY)),
    });
    let listeners = listeners.into_iter().map(TcpListener::into_std).collect::<io::Result<Vec<_>>>()?;
    let (started, has_started) = sync_channel(1);
    let (closed, is_closed) = oneshot::channel();
    let shutdown = shutdown.clone();
    thread::start("shadow-listener", move || {
        let (runtime, listeners) = match listening(listeners) {
            Ok(listening) => listening,
            Err(error) => return drop(started.send(Err(error))),
        };
        let _ = started.send(Ok(()));
        runtime.block_on(mirror.serve_all(listeners, shutdown, closed));
    })?;
    has_started.recv().map_err(|_| io::ErrorKind::BrokenPipe)??;
    let closing = async move { drop(is_closed.await) };
    Ok((Some(shadow), vec![tokio::spawn(closing)]))
}

/// A runtime on the current thread alone, and the listeners on it.
fn listening(listeners: Vec<std::net::TcpListener>) -> io::Result<(Runtime, Vec<TcpListener>)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let on_it = runtime.enter();
    let listeners = listeners.into_iter().map(TcpListener::from_std).collect::<io::Result<_>>()?;
    drop(on_it);
    Ok((runtime, listeners))
}

/// What all connections share.
struct ShadowListener {
    gateway: Gateway,
    shadow: Arc<Shadow>,
    max_body: usize,
    /// One for each connection.
    places: Arc<Semaphore>,
    /// One for each byte of a body.
    memory: Arc<Semaphore>,
}

impl ShadowListener {
    /// Serves until the shutdown. `closed` is dropped when nothing is accepted any more; what was accepted before has some time.
    async fn serve_all(self: Arc<Self>, listeners: Vec<TcpListener>, shutdown: watch::Receiver<bool>, closed: oneshot::Sender<()>) {
        let mut accepting = JoinSet::new();
        for listener in listeners {
            accepting.spawn(Arc::clone(&self).accept(listener, shutdown.clone()));
        }
        while accepting.join_next().await.is_some() {}
        drop(closed);
        let _ = tokio::time::timeout(PATIENCE, self.places.acquire_many(CONNECTIONS)).await;
    }

    /// Accepts until the shutdown.
    async fn accept(self: Arc<Self>, listener: TcpListener, mut shutdown: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = shutdown.wait_for(|down| *down) => return,
            };
            let Ok((tcp, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
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
        let body = tokio::time::timeout(PATIENCE, self.body(&mut session)).await.unwrap_or(Err(Counted::Unreadable));
        match body.as_ref().map(|body| self.read(&session, &body.bytes)) {
            Ok(Ok(mirrored)) => self.shadow.take(mirrored),
            Ok(Err(why)) => {
                tracing::debug!(why, "a mirrored request can't be shadowed");
                self.gateway.metrics.shadow.count(Counted::Unreadable);
            }
            Err(why) => {
                self.gateway.metrics.shadow.count(*why);
                session.set_keepalive(None);
            }
        }
        let mut head = ResponseHeader::build(StatusCode::NO_CONTENT, None).ok()?;
        if body.is_err() {
            head.insert_header(header::CONNECTION, "close").ok()?;
        }
        session.write_response_header(Box::new(head)).await.ok()?;
        if body.is_err() {
            let _ = tokio::time::timeout(LINGER, throw_away(&mut session)).await;
        }
        drop(body);
        let settings = HttpPersistentSettings::for_session(&session);
        let stream = session.finish().await.ok()??;
        Some(ReusedHttpStream::from_reusable_stream(stream, settings).consume().0)
    }

    /// The whole body.
    ///
    /// # Errors
    /// As what the request counts, if there is none.
    async fn body(&self, session: &mut ServerSession) -> Result<Body, Counted> {
        let headers = &session.req_header().headers;
        if length(headers).is_some_and(|length| length > self.max_body as u64) {
            return Err(Counted::TooLarge);
        }
        if headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
            session.write_continue_response().await.map_err(|_| Counted::Unreadable)?;
        }
        let mut body = Body::default();
        while let Some(piece) = session.read_request_body().await.map_err(|_| Counted::Unreadable)? {
            if body.bytes.len() + piece.len() > self.max_body {
                return Err(Counted::TooLarge);
            }
            body.push(&piece, &self.memory, self.max_body)?;
        }
        Ok(body)
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

/// A body, and its share of the memory for all of them.
#[derive(Default)]
struct Body {
    bytes: Vec<u8>,
    taken: Option<OwnedSemaphorePermit>,
}

impl Body {
    /// Appends a piece. `most`: the longest that the body may become.
    ///
    /// # Errors
    /// If the memory is used up.
    fn push(&mut self, piece: &[u8], memory: &Arc<Semaphore>, most: usize) -> Result<(), Counted> {
        let (capacity, needed) = (self.bytes.capacity(), self.bytes.len() + piece.len());
        if needed > capacity {
            let wanted = needed.max((capacity * 2).min(most));
            let more = u32::try_from(wanted - capacity).map_err(|_| Counted::Dropped)?;
            let permit = Arc::clone(memory).try_acquire_many_owned(more).map_err(|_| Counted::Dropped)?;
            match &mut self.taken {
                Some(taken) => taken.merge(permit),
                none => *none = Some(permit),
            }
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }
}

/// The length that a head names.
fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// Reads what is left of a refused body, up to a bound.
async fn throw_away(session: &mut ServerSession) {
    let mut left = THROWN_AWAY;
    while let Ok(Some(piece)) = session.read_request_body().await {
        left = match left.checked_sub(piece.len()) {
            Some(left) => left,
            None => return,
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bodies_hold_no_more_memory_than_they_have_taken(
            pieces in prop::collection::vec((0..4_usize, 0..700_usize), 0..60), memory in 1..6000_usize,
        ) {
            const MOST: usize = 4096;
            let all = Arc::new(Semaphore::new(memory));
            let mut bodies: Vec<Body> = (0..4).map(|_| Body::default()).collect();
            for (at, length) in pieces {
                if bodies[at].bytes.len() + length > MOST || bodies[at].push(&vec![1; length], &all, MOST).is_err() {
                    bodies[at] = Body::default();
                }
                let held: usize = bodies.iter().map(|body| body.bytes.capacity()).sum();
                prop_assert_eq!(held, memory - all.available_permits());
            }
            drop(bodies);
            prop_assert_eq!(all.available_permits(), memory);
        }
    }
}
