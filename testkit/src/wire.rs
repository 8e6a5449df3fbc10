//! A minimal HTTP/1.1 for both sides of a connection, which can also misbehave on either side.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Headers in the order in which they came, with names in lower case.
pub type Headers = Vec<(String, String)>;

/// A message's first line and headers.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// The three words of the first line.
    pub line: [String; 3],
    /// The headers.
    pub headers: Headers,
}

impl Head {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// At the end of its framing.
    Whole,
    /// The connection closed before that.
    Cut,
}

/// A connection's reader, with bytes that were read ahead.
#[derive(Debug)]
pub struct Reader<S> {
    stream: S,
    buffer: Vec<u8>,
}

impl<S: AsyncRead + Unpin> Reader<S> {
    /// Reads from `stream`.
    pub fn new(stream: S) -> Self {
        Reader { stream, buffer: Vec::new() }
    }

    /// The connection.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    async fn more(&mut self) -> io::Result<bool> {
        self.buffer.reserve(64 * 1024);
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }

    async fn until(&mut self, end: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut from = 0;
        loop {
            if let Some(at) = self.buffer[from..].windows(end.len()).position(|window| window == end) {
                return Ok(Some(self.buffer.drain(..from + at + end.len()).collect()));
            }
            from = self.buffer.len().saturating_sub(end.len());
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    /// Reads a head; `None` if the connection closed instead.
    pub async fn head(&mut self) -> io::Result<Option<Head>> {
        let Some(bytes) = self.until(b"\r\n\r\n").await? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        let mut lines = text.trim_end().split("\r\n");
        let mut words = lines.next().unwrap_or("").splitn(3, ' ').map(str::to_owned);
        let mut line = || words.next().unwrap_or_default();
        let line = [line(), line(), line()];
        let headers = lines.filter_map(|line| line.split_once(':')).map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned())).collect();
        Ok(Some(Head { line, headers }))
    }

    /// Reads exactly `length` bytes, or fewer if the connection closes.
    pub async fn exactly(&mut self, length: usize) -> io::Result<(Vec<u8>, Ended)> {
        while self.buffer.len() < length {
            if !self.more().await.unwrap_or(false) {
                return Ok((std::mem::take(&mut self.buffer), Ended::Cut));
            }
        }
        Ok((self.buffer.drain(..length).collect(), Ended::Whole))
    }

    /// Reads one chunk of a chunked body; an empty one is the end, `None` a cut-off connection.
    pub async fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Ok(Some(line)) = self.until(b"\r\n").await else { return Ok(None) };
        let size = String::from_utf8_lossy(&line);
        let size = usize::from_str_radix(size.trim().split(';').next().unwrap_or(""), 16).map_err(|_| io::ErrorKind::InvalidData)?;
        let (mut bytes, ended) = self.exactly(size + 2).await?;
        if ended == Ended::Cut {
            return Ok(None);
        }
        bytes.truncate(size);
        Ok(Some(bytes))
    }

    /// Reads a body as its head frames it. `to_end` is for answers without a length.
    pub async fn body(&mut self, head: &Head, to_end: bool) -> io::Result<(Vec<u8>, Ended)> {
        if head.header("transfer-encoding").is_some_and(|te| te.to_ascii_lowercase().contains("chunked")) {
            let mut body = Vec::new();
            loop {
                match self.chunk().await? {
                    Some(chunk) if chunk.is_empty() => return Ok((body, Ended::Whole)),
                    Some(chunk) => body.extend_from_slice(&chunk),
                    None => return Ok((body, Ended::Cut)),
                }
            }
        }
        if let Some(length) = head.header("content-length").and_then(|length| length.parse().ok()) {
            return self.exactly(length).await;
        }
        if to_end {
            while self.more().await.unwrap_or(false) {}
            return Ok((std::mem::take(&mut self.buffer), Ended::Whole));
        }
        Ok((Vec::new(), Ended::Whole))
    }
}
