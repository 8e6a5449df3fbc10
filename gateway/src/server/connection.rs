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

use super::head_guard::HeadGuard;
use super::http2_heads::PREFACE;
use super::tls_or_plain::Socket;
use crate::connection_phase::{PHASE, Phase};
use crate::gateway::Gateway;
use crate::listener_tls as tls;

/// Requests on one connection before it is closed, so that callers are distributed over the nodes again.
const REQUESTS: u32 = 10_000;

/// Serves a connection to its end.
pub(super) async fn serve(proxy: Arc<HttpProxy<Gateway>>, gateway: Gateway, tcp: TcpStream, shutdown: ShutdownWatch) {
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
        Some(tls) => match tokio::time::timeout(server.header_timeout, tls.acceptor().accept(tcp)).await {
            Ok(Ok(stream)) => {
                let session = stream.get_ref().1;
                let http2 = session.alpn_protocol() == Some(b"h2");
                let certificate = session.peer_certificates().and_then(<[_]>::first).and_then(|leaf| certificate::names(leaf));
                (Socket::Tls(Box::new(stream)), certificate, http2)
            }
            Ok(Err(error)) => return gateway.metrics.tls_failure(tls::failure(&error)),
            Err(_) => return gateway.metrics.tls_failure("timeout"),
        },
    };
    let phase = Phase::new(gateway.clock.now() + server.header_timeout);
    let metrics = Arc::clone(&gateway.metrics);
    let guard = HeadGuard::new(socket, certificate, Arc::clone(&phase), gateway.clock.clone(), server.header_timeout, metrics, http2);
    // A connection may last longer than many configs.
    drop(runtime);
    if http2 {
        proxy.process_new(Box::new(guard), &shutdown).await;
        return;
    }
    PHASE.scope(Arc::clone(&phase), serve_http1(proxy, gateway, Box::new(guard), phase, shutdown)).await;
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
