//! Guards a caller's connection between requests and while a head arrives, where Pingora has no limits: its timeouts
//! are per read, and an idle connection has none after the first request.
//!
//! If Pingora writes something while no request is under way, it is its own error page for a head that is not HTTP; it
//! is replaced by an error in our format.

use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use pingora::http::ResponseHeader;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID, UniqueIDType,
};
use spillway_plugins::auth::certificate::CertificateNames;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufWriter, ReadBuf};
use tokio::time::Sleep;

use super::chunks::Chunks;
use super::head::Head;
use super::http2_heads::Http2Heads;
use crate::clock::Clock;
use crate::connection_phase::Phase;
use crate::downstream::socket::Socket;
use crate::telemetry::metrics::Metrics;

/// Small, because there can be many connections.
const WRITE_BUFFER: usize = 8 * 1024;

/// Longest head. A longer one is refused with an error.
const MOST_HEAD: usize = 64 * 1024;
/// Bytes that are read and dropped after a refusal, so that the answer arrives.
const DROPPED: usize = 1 << 20;
/// Most bytes of the next request that a caller may send while it waits for its answer.
const AHEAD: usize = 64 * 1024;

/// A connection that Pingora will read.
pub(super) struct Accepted {
    pub(super) socket: Socket,
    /// The names in the caller's certificate.
    pub(super) certificate: Option<CertificateNames>,
    /// Bytes that were read already.
    pub(super) read: Vec<u8>,
}

/// A caller's connection.
pub struct HeadGuard {
    inner: BufWriter<Socket>,
    digest: Arc<SocketDigest>,
    certificate: Option<Arc<ProxyDigest>>,
    phase: Arc<Phase>,
    clock: Clock,
    header_timeout: Duration,
    metrics: Arc<Metrics>,
    sleep: Option<Pin<Box<Sleep>>>,
    /// The heads on an HTTP/2 connection.
    http2: Option<Http2Heads>,
    replaced: bool,
    error_page: Vec<u8>,
    /// The state and length of the current head.
    head: Head,
    head_bytes: usize,
    /// The state of the current body, as chunks.
    chunks: Chunks,
    /// How much may still be dropped after a refused head.
    dropped: Option<usize>,
    /// The bytes of the next request.
    ahead: Vec<u8>,
}

impl std::fmt::Debug for HeadGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Guard({:?})", self.phase)
    }
}

impl HeadGuard {
    /// Guards a connection. On an `http2` connection only the time of its heads is limited: its frames have no phases.
    pub(super) fn new(
        accepted: Accepted,
        phase: Arc<Phase>,
        clock: Clock,
        header_timeout: Duration,
        metrics: Arc<Metrics>,
        http2: bool,
    ) -> Self {
        let Accepted { socket, certificate, read } = accepted;
        let digest = Arc::new(SocketDigest::from_raw_fd(socket.as_raw_fd()));
        // Head and first bytes are sent together; larger writes are not buffered.
        let inner = BufWriter::with_capacity(WRITE_BUFFER, socket);
        // Pingora passes this to every request of the connection; there is no better place for it.
        let certificate = certificate.and_then(|names| {
            let head = ResponseHeader::build(200, None).ok()?;
            Some(Arc::new(ProxyDigest::new(Box::new(head), Some(Box::new(names)))))
        });
        HeadGuard {
            inner,
            digest,
            certificate,
            phase,
            clock,
            header_timeout,
            metrics,
            sleep: None,
            http2: http2.then(Http2Heads::default),
            replaced: false,
            error_page: Vec::new(),
            head: Head::default(),
            head_bytes: 0,
            chunks: Chunks::default(),
            dropped: None,
            ahead: read,
        }
    }

    fn unguarded(&self) -> bool {
        self.http2.is_some() || self.phase.is_request()
    }

    /// Ends the connection if a head takes too long. All of its requests are from one caller.
    fn poll_http2(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        let Some(heads) = &mut self.http2 else { return read };
        let ended = heads.push(&buf.filled()[before..]);
        if !heads.is_under_way() {
            self.phase.request_begins();
        } else if ended || !self.phase.is_head() {
            self.phase.http2_head_begins(self.clock.now() + self.header_timeout);
        }
        if self.phase.is_head() && self.poll_deadline(cx).is_ready() {
            self.metrics.listeners.head_timeouts.inc();
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }

    /// While an answer is under way, only the end of the connection is reported: other bytes are kept for the next
    /// request. Pingora would read one byte and then stop watching.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut piece = [0; 1024];
        loop {
            if self.ahead.len() >= AHEAD {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "too much of the next request was sent ahead")));
            }
            let mut read = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.ahead.extend_from_slice(read.filled());
        }
    }

    /// Returns the bytes that were kept. `true` if there were any.
    fn take_ahead(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        // As they are: Pingora may already have the beginning of the head that they belong to.
        let some = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead[..some]);
        self.ahead.drain(..some);
        some > 0
    }

    /// Sends an error about a head, and reads on for a while, so that the caller gets it.
    fn poll_refused(&mut self, cx: &mut Context<'_>, status: &str, code: &str, message: &str) -> Poll<io::Result<()>> {
        if self.dropped.is_none() {
            self.dropped = Some(0);
            self.replaced = true;
            self.metrics.listeners.bad_heads.inc();
            let page = error_page(status, code, message);
            let _ = Pin::new(&mut self.inner).poll_write(cx, &page);
            let _ = Pin::new(&mut self.inner).poll_flush(cx);
        }
        let mut piece = [0; 4096];
        loop {
            let mut read = ReadBuf::new(&mut piece);
            match Pin::new(&mut self.inner).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) if !read.filled().is_empty() && self.dropped.is_some_and(|dropped| dropped < DROPPED) => {
                    self.dropped = self.dropped.map(|dropped| dropped + read.filled().len());
                }
                Poll::Ready(_) => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                Poll::Pending => {
                    ready!(self.poll_deadline(cx));
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
    }

    /// Whether the time for a head is over.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let left = self.phase.deadline().since(self.clock.now());
            if left.is_zero() {
                self.sleep = None;
                return Poll::Ready(());
            }
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(left)));
            ready!(sleep.as_mut().poll(cx));
            // The timer was for an earlier deadline, or this one has passed: check again.
            self.sleep = None;
        }
    }
}

const ONE_SPACE: &str = "the request line must be a method, a target and a version, with one space between them";

/// The answer to a head that is not HTTP, or never became complete. There is no request that it could name.
fn error_page(status: &str, code: &str, message: &str) -> Vec<u8> {
    let body = format!(r#"{{"error":{{"message":"{message}","type":"invalid_request_error","param":null,"code":"{code}"}}}}"#);
    let id = format!("{:032x}", fastrand::u128(..));
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nx-request-id: {id}\r\nconnection: close\r\n\r\n{body}", body.len()).into_bytes()
}

impl AsyncRead for HeadGuard {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.http2.is_some() {
            return self.poll_http2(cx, buf);
        }
        if self.phase.is_answer() {
            return self.poll_end(cx);
        }
        let before = buf.filled().len();
        if self.head.is_wrong() && !self.unguarded() {
            return self.poll_refused(cx, "400 Bad Request", "invalid_request", ONE_SPACE);
        }
        if self.head_bytes >= MOST_HEAD && !self.unguarded() && self.phase.is_head() {
            let what = "the request head is longer than 64 KiB";
            return self.poll_refused(cx, "431 Request Header Fields Too Large", "head_too_large", what);
        }
        let read = match !self.ahead.is_empty() && self.take_ahead(buf) {
            true => Poll::Ready(Ok(())),
            false => Pin::new(&mut self.inner).poll_read(cx, buf),
        };
        if self.unguarded() {
            return match read {
                Poll::Ready(Ok(())) if self.phase.is_chunked() => {
                    self.chunks.push(&buf.filled()[before..]);
                    // Pingora reports the broken chunks that it notices by errors of its own.
                    Poll::Ready(if self.chunks.is_broken() { Err(io::ErrorKind::InvalidData.into()) } else { Ok(()) })
                }
                read => read,
            };
        }
        match read {
            Poll::Ready(done) => {
                let came = buf.filled().len() > before;
                // Line ends after a body are not the beginning of a request.
                let begins = buf.filled()[before..].iter().any(|byte| !matches!(byte, b'\r' | b'\n'));
                if begins && self.phase.head_begins(|| self.clock.now() + self.header_timeout) {
                    (self.head, self.head_bytes, self.chunks) = (Head::default(), 0, Chunks::default());
                }
                self.head_bytes += buf.filled().len() - before;
                let body = self.head.push(&buf.filled()[before..]);
                self.chunks.push(body);
                self.phase.chunks_are_broken(self.chunks.is_broken());
                if came && self.head.is_wrong() {
                    buf.set_filled(before);
                    return self.poll_refused(cx, "400 Bad Request", "invalid_request", ONE_SPACE);
                }
                Poll::Ready(done)
            }
            Poll::Pending => {
                ready!(self.poll_deadline(cx));
                if self.phase.is_head() {
                    self.metrics.listeners.head_timeouts.inc();
                    let page = error_page("408 Request Timeout", "request_timeout", "the request head did not arrive in time");
                    // One attempt: a caller that sends slowly may also not read.
                    let _ = Pin::new(&mut self.inner).poll_write(cx, &page);
                    let _ = Pin::new(&mut self.inner).poll_flush(cx);
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                // An idle connection ends as if the caller had closed it.
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for HeadGuard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.unguarded() {
            return Pin::new(&mut self.inner).poll_write(cx, bytes);
        }
        if !self.replaced {
            self.replaced = true;
            self.metrics.listeners.bad_heads.inc();
            self.error_page = error_page("400 Bad Request", "invalid_request", "the request head is not valid HTTP");
        }
        while !self.error_page.is_empty() {
            let this = &mut *self;
            let written = ready!(Pin::new(&mut this.inner).poll_write(cx, &this.error_page))?;
            this.error_page.drain(..written);
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Everything important was flushed. What a caller doesn't read must not delay the end of its connection.
        let _ = Pin::new(&mut self.inner).poll_flush(cx);
        Pin::new(self.inner.get_mut()).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for HeadGuard {
    async fn shutdown(&mut self) {
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for HeadGuard {
    fn id(&self) -> UniqueIDType {
        self.inner.get_ref().as_raw_fd()
    }
}

impl Ssl for HeadGuard {
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.http2.is_some().then_some(ALPN::H2)
    }
}

impl GetTimingDigest for HeadGuard {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        vec![None]
    }
}

impl GetProxyDigest for HeadGuard {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.certificate.clone()
    }
}

impl GetSocketDigest for HeadGuard {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.digest))
    }
}

impl Peek for HeadGuard {}
