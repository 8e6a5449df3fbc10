//! One caller's connection, from accept to close.

use std::sync::Arc;
use std::time::Duration;

use pingora::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream, ServerApp};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use socket2::{SockRef, TcpKeepalive};
use spillway_plugins::auth::certificate;
use tokio::net::TcpStream;

use super::head_guard::{Accepted, HeadGuard};
use super::http1_connection::{self, Waiting};
use super::http2_heads::PREFACE;
use super::service::Service;
use crate::connection_phase::{PHASE, Phase};
use crate::downstream::Http1Session;
use crate::downstream::socket::Socket;
use crate::gateway::Gateway;
use crate::listener_tls as tls;
use crate::read_ahead::ReadAhead;

/// Requests on one connection before it is closed, so that callers are distributed over the nodes again.
const REQUESTS: u32 = 10_000;

/// Serves a connection to its end.
pub(super) async fn serve(service: Service, tcp: TcpStream) {
    let Service { proxy, gateway, shutdown, idle_end } = service;
    let runtime = gateway.runtime.load_full();
    let server = &runtime.config.server;
    let _ = tcp.set_nodelay(true);
    // To notice a caller that vanished; a silent WebSocket is not disturbed.
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15)).with_retries(4);
    let _ = SockRef::from(&tcp).set_tcp_keepalive(&keepalive);
    let (socket, certificate, http2) = match &runtime.tls {
        None => {
            let http2 = server.h2c && tokio::time::timeout(server.header_timeout, speaks_http2(&tcp)).await.unwrap_or(false);
            (Socket::Plain(tcp), None, http2)
        }
        Some(tls) => match tokio::time::timeout(server.header_timeout, tls.acceptor().accept(ReadAhead::new(tcp))).await {
            Ok(Ok(stream)) => {
                let session = stream.get_ref().1;
                let http2 = session.alpn_protocol() == Some(b"h2");
                let certificate = session.peer_certificates().and_then(<[_]>::first).and_then(|leaf| certificate::names(leaf));
                (Socket::Tls(Box::new(stream)), certificate, http2)
            }
            Ok(Err(error)) => return gateway.metrics.listeners.tls_failure(tls::failure(&error)),
            Err(_) => return gateway.metrics.listeners.tls_failure("timeout"),
        },
    };
    let (header_timeout, fast_path) = (server.header_timeout, server.fast_path && !http2);
    // A connection may last longer than many configs.
    drop(runtime);
    let metrics = Arc::clone(&gateway.metrics);
    let guard = |accepted: Accepted, phase: &Arc<Phase>| {
        HeadGuard::new(accepted, Arc::clone(phase), gateway.clock.clone(), header_timeout, Arc::clone(&metrics), http2)
    };
    if http2 {
        let phase = Phase::new(gateway.clock.now() + header_timeout);
        let guard = guard(Accepted { socket, certificate, read: Vec::new() }, &phase);
        proxy.process_new(Box::new(guard), &shutdown).await;
        return;
    }
    let (accepted, phase) = if fast_path {
        let mut waiting = Waiting::new(gateway.clock.now(), header_timeout, REQUESTS);
        let mut session = Http1Session::new(socket, certificate);
        if !http1_connection::serve(&gateway, &mut session, &mut waiting, idle_end).await {
            return;
        }
        let (socket, read, certificate) = session.into_parts();
        (Accepted { socket, certificate, read: read.into() }, Phase::in_head(waiting.deadline))
    } else {
        (Accepted { socket, certificate, read: Vec::new() }, Phase::new(gateway.clock.now() + header_timeout))
    };
    let guard = Box::new(guard(accepted, &phase));
    // On the heap: a connection of the other kind doesn't reserve memory for it.
    Box::pin(PHASE.scope(Arc::clone(&phase), serve_http1(proxy, gateway, guard, phase, shutdown))).await;
}

async fn serve_http1(proxy: Arc<HttpProxy<Gateway>>, gateway: Gateway, stream: Stream, phase: Arc<Phase>, shutdown: ShutdownWatch) {
    let mut session = ServerSession::new_http1(stream);
    // No timer of Pingora's: the guard has its own.
    session.set_keepalive(if *shutdown.borrow() { None } else { Some(0) });
    session.set_keepalive_reuses_remaining(Some(REQUESTS));
    loop {
        let next: Option<(Stream, Option<HttpPersistentSettings>)> =
            proxy.process_new_http(session, &shutdown).await.map(ReusedHttpStream::consume);
        let Some((stream, settings)) = next else { return };
        phase.request_ends(gateway.clock.now() + gateway.runtime.load().config.server.keepalive);
        session = ServerSession::new_http1(stream);
        if let Some(settings) = settings {
            settings.apply_to_session(&mut session);
        }
    }
}

/// Looks at the first bytes without reading them. Pingora's own check needs 24 bytes to recognise HTTP/1, and waits for
/// ever; the caller of this has a timeout.
async fn speaks_http2(tcp: &TcpStream) -> bool {
    let mut seen = [0; PREFACE.len()];
    let mut pause = Duration::from_millis(1);
    loop {
        match tcp.peek(&mut seen).await {
            Ok(0) | Err(_) => return false,
            Ok(n) if !PREFACE.starts_with(&seen[..n]) => return false,
            Ok(n) if n == PREFACE.len() => return true,
            // A part of the preface. Peeking would return it again at once, so wait a little.
            Ok(_) => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
