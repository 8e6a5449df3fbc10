//! Memory to read into, which all connections of a thread share. What comes is copied out of it: so it takes as much memory as
//! it has bytes, and a connection on which nothing comes needs none.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};

/// Most bytes of one read.
pub(crate) const LENGTH: usize = 4 * 1024;

thread_local!(static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; LENGTH].into()));

/// Adds what comes to `buffer`, [`LENGTH`] bytes at most, and returns how much it was; 0 at the end.
pub(crate) fn poll_read<R: AsyncRead + Unpin>(reader: &mut R, cx: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
    SHARED.with_borrow_mut(|shared| {
        let mut read = ReadBuf::new(shared);
        ready!(Pin::new(reader).poll_read(cx, &mut read))?;
        buffer.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    })
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn what_comes_is_added_and_nothing_else() {
        let long = vec![b'x'; LENGTH + 10];
        let (mut reader, mut buffer) = (&long[..], BytesMut::from(&b"before"[..]));
        let mut counts = Vec::new();
        for _ in 0..3 {
            counts.push(poll_fn(|cx| poll_read(&mut reader, cx, &mut buffer)).await.unwrap());
        }
        assert_eq!(counts, [LENGTH, 10, 0]);
        let mut short = &b"short"[..];
        poll_fn(|cx| poll_read(&mut short, cx, &mut buffer)).await.unwrap();
        assert_eq!(buffer, [b"before", &long[..], b"short"].concat());
    }
}
