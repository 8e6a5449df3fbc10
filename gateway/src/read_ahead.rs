//! Reads what is encrypted in long pieces. TLS asks for one record at a time, 16 KiB, and each read costs a call and an acknowledgement.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes of one read.
const LENGTH: usize = 64 * 1024;

thread_local!(static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; LENGTH].into()));

/// A connection of which more is read than is asked for, if it has more: what was asked for last was all there. What is left of a long
/// piece is kept, [`LENGTH`] bytes at most; otherwise it takes no memory.
#[derive(Debug)]
pub struct ReadAhead<T> {
    inner: T,
    ahead: Vec<u8>,
    /// How many bytes of `ahead` were given on.
    given: usize,
    /// The last read had as much as was asked for.
    more: bool,
}

impl<T> ReadAhead<T> {
    /// Reads from this connection.
    pub fn new(inner: T) -> Self {
        ReadAhead { inner, ahead: Vec::new(), given: 0, more: false }
    }

    /// The connection. What was read ahead is no longer in it.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for ReadAhead<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let ReadAhead { inner, ahead, given, more } = self.get_mut();
        let room = buf.remaining();
        if let Some(rest) = ahead.get(*given..).filter(|rest| !rest.is_empty()) {
            let count = rest.len().min(room);
            buf.put_slice(&rest[..count]);
            *given += count;
            if *given == ahead.len() {
                (*ahead, *given) = (Vec::new(), 0);
            }
            return Poll::Ready(Ok(()));
        }
        if !*more {
            ready!(Pin::new(inner).poll_read(cx, buf))?;
            *more = room > 0 && buf.remaining() == 0;
            return Poll::Ready(Ok(()));
        }
        SHARED.with_borrow_mut(|shared| {
            let mut read = ReadBuf::new(shared);
            ready!(Pin::new(inner).poll_read(cx, &mut read))?;
            let read = read.filled();
            let (asked, rest) = read.split_at(read.len().min(room));
            buf.put_slice(asked);
            rest.clone_into(ahead);
            *more = asked.len() == room;
            Poll::Ready(Ok(()))
        })
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for ReadAhead<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

impl<T: AsRawFd> AsRawFd for ReadAhead<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// Gives what it has, a piece at each read, and counts the reads.
    struct Pieces<'p>(Vec<&'p [u8]>, &'p AtomicUsize);

    impl AsyncRead for Pieces<'_> {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            match self.0.first_mut() {
                None => {}
                Some([]) => {
                    self.0.remove(0);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(piece) => {
                    let (now, later) = piece.split_at(piece.len().min(buf.remaining()));
                    buf.put_slice(now);
                    *piece = later;
                }
            }
            Poll::Ready(Ok(()))
        }
    }

    async fn read(reader: &mut ReadAhead<Pieces<'_>>, most: usize) -> Vec<u8> {
        let mut bytes = vec![0; most];
        let count = reader.read(&mut bytes).await.unwrap();
        bytes.truncate(count);
        bytes
    }

    #[tokio::test]
    async fn a_long_text_takes_few_reads_and_a_short_one_no_memory() {
        let (long, reads) = (vec![b'x'; 1 << 20], AtomicUsize::new(0));
        let mut reader = ReadAhead::new(Pieces(vec![&long], &reads));
        let mut all = 0;
        while all < long.len() {
            all += read(&mut reader, 16 * 1024).await.len();
            assert!(reader.ahead.len() <= LENGTH);
        }
        assert!(reads.load(Ordering::Relaxed) <= 2 + long.len() / LENGTH, "{reads:?} reads");
        assert_eq!(reader.ahead.capacity(), 0, "nothing is left of it");
        let mut reader = ReadAhead::new(Pieces(vec![b"one", b"", b"two", b"", b"three"], &reads));
        for expected in ["one", "two", "three", ""] {
            assert_eq!(read(&mut reader, 4096).await, expected.as_bytes());
            assert_eq!(reader.ahead.capacity(), 0);
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_came(
            lengths in prop::collection::vec(prop_oneof![0..40usize, 4000..70_000usize], 0..6),
            rooms in prop::collection::vec(prop_oneof![1..60usize, 4000..20_000usize], 1..6),
        ) {
            let text: Vec<u8> = (0..lengths.iter().sum()).map(|at: usize| (at % 251) as u8).collect();
            let mut rest = &text[..];
            let mut pieces = Vec::new();
            for length in lengths {
                let (piece, later) = rest.split_at(length);
                (rest, pieces) = (later, [&pieces[..], &[piece, b""]].concat());
            }
            let reads = AtomicUsize::new(0);
            let mut reader = ReadAhead::new(Pieces(pieces, &reads));
            let all = async {
                let mut all = Vec::new();
                for room in rooms.iter().cycle() {
                    let came = read(&mut reader, *room).await;
                    if came.is_empty() {
                        break;
                    }
                    all.extend(came);
                }
                all
            };
            let all = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(all);
            prop_assert!(all == text);
        }
    }
}
