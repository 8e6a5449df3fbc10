//! Connections to backends: TCP, and TLS over it.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::BytesMut;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncBufRead as _, AsyncReadExt as _, AsyncWrite as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::read_ahead::ReadAhead;
use crate::{joined_write, scratch};

/// A silent connection is probed after this, this often, and is broken after this many probes without an answer.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 3);
/// A connection is broken if the other side doesn't acknowledge what was sent for this long.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// TCP failed.
    #[error("can't connect: {0}")]
    Tcp(io::Error),
    /// The TLS handshake failed.
    #[error("TLS: {0}")]
    Tls(io::Error),
}

/// How to speak TLS with a backend.
#[derive(Debug, Clone)]
pub struct ClientTls {
    /// Made once for a backend, so that it resumes its sessions; `None` if it can't be had.
    pub config: Option<Arc<ClientConfig>>,
    /// The name that its certificate must have.
    pub name: String,
}

/// What came on an idle connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing, and it is open.
    Nothing,
    /// It has ended, or can't be used any more.
    Ended,
    /// An answer that nothing had asked for.
    Stray,
}

impl News {
    /// By the first bytes that came; none at the end.
    pub(super) fn of(bytes: &[u8]) -> Self {
        const ANSWER: &[u8] = b"HTTP/";
        let length = bytes.len().min(ANSWER.len());
        // Servers may say so that they close a connection because no request came.
        let is_goodbye = bytes.get(9..12) == Some(b"408");
        if length > 0 && bytes[..length] == ANSWER[..length] && !is_goodbye { News::Stray } else { News::Ended }
    }
}

/// An open connection. Dropping it closes it.
#[derive(Debug)]
pub enum Transport {
    /// In the clear.
    Tcp(TcpStream),
    /// Encrypted.
    Tls(Box<TlsStream<ReadAhead<TcpStream>>>),
    /// In memory.
    #[cfg(test)]
    Memory(Box<dyn Pipe>),
}

/// A connection in memory.
#[cfg(test)]
pub trait Pipe: tokio::io::AsyncRead + tokio::io::AsyncWrite + std::fmt::Debug + Send + Sync + Unpin {}

#[cfg(test)]
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + std::fmt::Debug + Send + Sync + Unpin> Pipe for T {}

impl Transport {
    /// Connects.
    ///
    /// # Errors
    /// [`ConnectError`]
    pub async fn open(address: SocketAddr, tls: Option<&ClientTls>) -> Result<Self, ConnectError> {
        let tcp = TcpStream::connect(address).await.map_err(ConnectError::Tcp)?;
        set_options(&tcp).map_err(ConnectError::Tcp)?;
        let Some(tls) = tls else { return Ok(Transport::Tcp(tcp)) };
        // Never without a name: then nothing would be verified.
        let name = ServerName::try_from(tls.name.clone()).map_err(|error| ConnectError::Tls(io::Error::other(error)))?;
        let config = tls.config.clone().ok_or_else(|| ConnectError::Tls(io::ErrorKind::Unsupported.into()))?;
        let stream = TlsConnector::from(config).connect(name, ReadAhead::new(tcp)).await.map_err(ConnectError::Tls)?;
        Ok(Transport::Tls(Box::new(stream)))
    }

    /// Adds what comes to `buffer`, about `room` bytes at most, and returns how much it was; 0 at the end. As long as
    /// nothing comes an empty buffer gets no memory.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>, buffer: &mut BytesMut, room: usize) -> Poll<io::Result<usize>> {
        match self {
            Transport::Tcp(tcp) => {
                if buffer.is_empty() {
                    if room <= scratch::LENGTH {
                        return scratch::poll_read(tcp, cx, buffer);
                    }
                    ready!(tcp.poll_read_ready(cx))?;
                }
                reserve(buffer, room);
                std::pin::pin!(tcp.read_buf(buffer)).poll(cx)
            }
            Transport::Tls(tls) => {
                let mut tls = Pin::new(&mut **tls);
                let bytes = ready!(tls.as_mut().poll_fill_buf(cx))?;
                let count = bytes.len();
                buffer.extend_from_slice(bytes);
                tls.consume(count);
                Poll::Ready(Ok(count))
            }
            #[cfg(test)]
            Transport::Memory(pipe) => {
                reserve(buffer, room);
                std::pin::pin!(pipe.read_buf(buffer)).poll(cx)
            }
        }
    }

    /// Writes of these slices what it takes.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Transport::Tcp(tcp) => joined_write::poll_write(Pin::new(tcp), cx, slices),
            Transport::Tls(tls) => joined_write::poll_write(Pin::new(&mut **tls), cx, slices),
            #[cfg(test)]
            Transport::Memory(pipe) => Pin::new(pipe).poll_write_vectored(cx, slices),
        }
    }

    /// Sends what was written but not sent.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Transport::Tcp(_) => Poll::Ready(Ok(())),
            Transport::Tls(tls) => Pin::new(&mut **tls).poll_flush(cx),
            #[cfg(test)]
            Transport::Memory(pipe) => Pin::new(pipe).poll_flush(cx),
        }
    }

    /// What comes next in short pieces is acknowledged with every second one instead of each by itself, or 40 ms after it came. That is
    /// Linux' delayed acknowledgement (`TCP_QUICKACK` in tcp(7)), which it leaves again if a sender waits for it.
    pub(super) fn acknowledge_late(&self) {
        let tcp = match self {
            Transport::Tcp(tcp) => tcp,
            Transport::Tls(tls) => tls.get_ref().0.get_ref(),
            #[cfg(test)]
            Transport::Memory(_) => return,
        };
        // Without it, it only takes more time.
        #[cfg(target_os = "linux")]
        let _ = tcp.set_quickack(false);
    }

    /// What came since the last answer, as far as the runtime knows: it asks the system only if there is news.
    pub(super) fn news(&mut self) -> News {
        let mut cx = Context::from_waker(Waker::noop());
        let mut first = [0; 16];
        let count = match self {
            Transport::Tcp(tcp) => match tcp.try_read(&mut first) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return News::Nothing,
                read => read.unwrap_or(0),
            },
            // A session ticket is news, but not for HTTP.
            Transport::Tls(tls) => match Pin::new(&mut **tls).poll_fill_buf(&mut cx) {
                Poll::Pending => return News::Nothing,
                Poll::Ready(read) => return News::of(read.unwrap_or_default()),
            },
            #[cfg(test)]
            Transport::Memory(pipe) => match std::pin::pin!(pipe.read(&mut first)).poll(&mut cx) {
                Poll::Pending => return News::Nothing,
                Poll::Ready(read) => read.unwrap_or(0),
            },
        };
        News::of(first.get(..count).unwrap_or_default())
    }

    #[cfg(test)]
    pub(super) fn is_quiet(&mut self) -> bool {
        self.news() == News::Nothing
    }
}

/// Makes room for a read, if there is too little.
fn reserve(buffer: &mut BytesMut, room: usize) {
    if buffer.capacity() - buffer.len() < room / 2 {
        buffer.reserve(room);
    }
}

fn set_options(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let socket = SockRef::from(tcp);
    let (time, interval, retries) = KEEPALIVE;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(time).with_interval(interval).with_retries(retries))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(())
}

#[cfg(test)]
mod tests;
