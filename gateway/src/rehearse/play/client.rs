//! One caller: sends a request, and notes what it sees and when.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::clock::{Clock, Tick};

/// What a caller saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The status; 0 if there was no answer.
    pub(super) status: u16,
    /// The request's id.
    pub(super) id: Option<String>,
    /// `retry-after`, in seconds.
    pub(super) retry_after: Option<u64>,
    /// Until the first byte of the answer's body, or of its head if it has none.
    pub(super) first: Option<Duration>,
    /// Until the end.
    pub(super) took: Duration,
    /// Whether the answer is whole.
    pub(super) whole: bool,
}

/// Sends a request over a connection of its own.
pub(super) async fn ask(clock: &Clock, to: SocketAddr, request: &[u8]) -> Seen {
    let began = clock.now();
    let mut answer = Answer::default();
    // A connection that breaks ends the answer where it is.
    let _ = exchange(clock, to, request, &mut answer).await;
    answer.seen(began, clock.now())
}

/// The bytes of a request.
pub(super) fn request(path: &str, credential: Option<(&str, &str)>, body: &str) -> Vec<u8> {
    let credential = credential.map_or_else(String::new, |(name, value)| format!("{name}: {value}\r\n"));
    let head = "content-type: application/json\r\nconnection: close\r\n";
    format!("POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{credential}{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[derive(Default)]
struct Answer {
    /// The head, once it is complete.
    head: Option<String>,
    /// What has come of the head, then the length of the body and its end.
    bytes: Vec<u8>,
    body: usize,
    first: Option<Tick>,
}

/// Bytes at the end of a body by which its end is known.
const END: usize = 5;

async fn exchange(clock: &Clock, to: SocketAddr, request: &[u8], answer: &mut Answer) -> std::io::Result<()> {
    let mut tcp = TcpStream::connect(to).await?;
    tcp.write_all(request).await?;
    let mut piece = vec![0; 16 * 1024];
    loop {
        let length = tcp.read(&mut piece).await?;
        if length == 0 {
            return Ok(());
        }
        answer.add(&piece[..length], clock.now());
    }
}

impl Answer {
    fn add(&mut self, piece: &[u8], now: Tick) {
        self.bytes.extend_from_slice(piece);
        if self.head.is_none() {
            let Some(end) = self.bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return };
            self.head = Some(String::from_utf8_lossy(&self.bytes[..end]).to_ascii_lowercase());
            self.bytes.drain(..end + 4);
            self.body = self.bytes.len();
        } else {
            self.body += piece.len();
        }
        if self.body > 0 {
            self.first.get_or_insert(now);
        }
        // The rest of a body is not of interest.
        let surplus = self.bytes.len().saturating_sub(END);
        self.bytes.drain(..surplus);
    }

    fn field(&self, name: &str) -> Option<&str> {
        let lines = self.head.as_deref()?.lines();
        lines.filter_map(|line| line.split_once(':')).find(|(field, _)| *field == name).map(|(_, value)| value.trim())
    }

    fn seen(&self, began: Tick, now: Tick) -> Seen {
        let status = self.head.as_deref().and_then(|head| head.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
        let whole = match self.field("content-length").and_then(|length| length.parse::<usize>().ok()) {
            Some(length) => self.body == length,
            None => self.field("transfer-encoding").is_some() && self.bytes.ends_with(b"0\r\n\r\n"),
        };
        Seen {
            status,
            id: self.field("x-request-id").map(str::to_owned),
            retry_after: self.field("retry-after").and_then(|seconds| seconds.parse().ok()),
            first: self.first.map(|first| first.since(began)),
            took: now.since(began),
            whole: status != 0 && whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(pieces: &[&str]) -> Seen {
        let mut answer = Answer::default();
        for (at, piece) in pieces.iter().enumerate() {
            answer.add(piece.as_bytes(), Tick(1_000_000_000 * (at as u64 + 1)));
        }
        answer.seen(Tick(0), Tick(9_000_000_000))
    }

    #[test]
    fn an_answer_is_whole_only_with_its_end() {
        let head = "HTTP/1.1 200 OK\r\nX-Request-Id: Abc\r\nTransfer-Encoding: chunked\r\n\r\n";
        let stream = seen(&[head, "3\r\nabc\r\n", "0\r\n\r\n"]);
        assert!(stream.whole && stream.status == 200 && stream.id.as_deref() == Some("abc"));
        assert_eq!((stream.first, stream.took), (Some(Duration::from_secs(2)), Duration::from_secs(9)));
        assert!(!seen(&[head, "3\r\nabc\r\n"]).whole);
        let plain = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\n";
        assert!(!seen(&[plain, "{"]).whole);
        let refused = seen(&[plain, "{", "}"]);
        assert!(refused.whole && (refused.status, refused.retry_after) == (429, Some(7)));
        assert_eq!(seen(&[]).status, 0);
    }
}
