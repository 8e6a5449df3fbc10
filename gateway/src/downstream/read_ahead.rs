//! A connection below TLS that reads more at once than TLS asks for.
//!
//! rustls asks for 4 KiB at a time, a quarter of a record: a body of a megabyte would take 250 calls of the system. Once a
//! read has filled what it was given, more is likely to be there, and the next one is made with more room. Requests that
//! are shorter than that, and connections on which nothing comes, need no memory here.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Room for a read if more than a little is likely to be there.
const ROOM: usize = 64 * 1024;

/// A TCP connection, and the bytes that were read and not taken.
#[derive(Debug)]
pub struct ReadAhead {
    tcp: TcpStream,
    bytes: BytesMut,
    /// The last read filled what it was given.
    more: bool,
}

impl ReadAhead {
    /// A connection from which nothing was read yet.
    pub fn new(tcp: TcpStream) -> Self {
        ReadAhead { tcp, bytes: BytesMut::new(), more: false }
    }
}

impl AsRawFd for ReadAhead {
    fn as_raw_fd(&self) -> RawFd {
        self.tcp.as_raw_fd()
    }
}

impl AsyncRead for ReadAhead {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let ReadAhead { tcp, bytes, more } = self.get_mut();
        if bytes.is_empty() {
            if !*more || tcp.poll_read_ready(cx)?.is_pending() {
                *bytes = BytesMut::new();
                ready!(Pin::new(tcp).poll_read(cx, buf))?;
                *more = buf.remaining() == 0;
                return Poll::Ready(Ok(()));
            }
            bytes.reserve(ROOM);
            let read = std::pin::pin!(tcp.read_buf(bytes)).poll(cx);
            if read.is_pending() {
                *bytes = BytesMut::new();
            }
            *more = ready!(read)? > buf.remaining();
        }
        let count = bytes.len().min(buf.remaining());
        buf.put_slice(&bytes[..count]);
        bytes.advance(count);
        if bytes.is_empty() && !*more {
            *bytes = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ReadAhead {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write(cx, bytes)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn all_bytes_come_in_their_order_whatever_is_asked_for_at_a_time() {
        for asked in [1, 100, 4096, 100_000] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut theirs = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let mut ours = ReadAhead::new(listener.accept().await.unwrap().0);
            let sent: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
            let (first, rest) = sent.split_at(50);
            theirs.write_all(first).await.unwrap();
            let mut read = vec![0; asked];
            let mut all = Vec::new();
            while all.len() < first.len() {
                let count = ours.read(&mut read).await.unwrap();
                all.extend_from_slice(&read[..count]);
            }
            let writer = tokio::spawn({
                let rest = rest.to_owned();
                async move {
                    theirs.write_all(&rest).await.unwrap();
                    theirs.shutdown().await.unwrap();
                    theirs
                }
            });
            loop {
                match ours.read(&mut read).await.unwrap() {
                    0 => break,
                    count => all.extend_from_slice(&read[..count]),
                }
            }
            assert!(all == sent, "{asked} bytes at a time");
            assert_eq!(ours.bytes.capacity(), 0, "at the end no memory is kept");
            writer.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_connection_that_waits_keeps_no_memory() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut theirs = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut ours = ReadAhead::new(listener.accept().await.unwrap().0);
        theirs.write_all(&[7; 200_000]).await.unwrap();
        let mut all = vec![0; 200_000];
        ours.read_exact(&mut all).await.unwrap();
        let mut one = [0];
        let waits = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut ours).poll_read(cx, &mut ReadBuf::new(&mut one)).is_pending()));
        assert!(waits.await);
        assert_eq!(ours.bytes.capacity(), 0);
    }
}
