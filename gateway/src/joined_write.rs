//! Writes several pieces in one system call: short ones are copied together first, which costs less than handing the
//! kernel a list of them.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

/// Most bytes that are copied together.
const SHORT: usize = 2048;

// Where they are copied to: used again for each write of a thread.
thread_local!(static JOINED: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(SHORT)));

/// Writes of these pieces what the writer takes.
pub(crate) fn poll_write<W: AsyncWrite + ?Sized>(
    writer: Pin<&mut W>,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let mut filled = pieces.iter().filter(|piece| !piece.is_empty());
    if let (Some(only), None) = (filled.next(), filled.next()) {
        return writer.poll_write(cx, only);
    }
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    if length > SHORT {
        return writer.poll_write_vectored(cx, pieces);
    }
    JOINED.with_borrow_mut(|joined| {
        joined.clear();
        for piece in pieces {
            joined.extend_from_slice(piece);
        }
        writer.poll_write(cx, joined)
    })
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn every_byte_is_written_once_and_in_order() {
        for lengths in [vec![0, 4, 200, 2], vec![0, 0, 7], vec![1500, 600], vec![2048, 1], vec![1, 2047], vec![]] {
            let parts: Vec<Vec<u8>> = lengths.iter().zip(b'a'..).map(|(length, letter)| vec![letter; *length]).collect();
            let whole = parts.concat();
            let (mut near, mut far) = tokio::io::duplex(4096);
            let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
            let written = poll_fn(|cx| poll_write(Pin::new(&mut near), cx, &slices)).await.unwrap();
            drop(near);
            let mut read = Vec::new();
            far.read_to_end(&mut read).await.unwrap();
            // A pipe in memory takes the first piece of a list; a socket takes them all.
            assert!(read.len() == written && whole.starts_with(&read), "{lengths:?}");
            assert!(written == whole.len() || whole.len() > SHORT, "{lengths:?}");
        }
    }
}
