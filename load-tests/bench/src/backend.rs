//! The backends: two addresses that answer at once. The first refuses every third request of those
//! that ask for it; a request for a stream gets one.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::certificates::{Certificates, Pipe};

pub struct Backend {
    pub first: SocketAddr,
    pub second: SocketAddr,
}

/// Chunks of a stream, and the pause before each so that they don't arrive together.
pub const CHUNKS: usize = 50;
const PAUSE: Duration = Duration::from_millis(3);

static REFUSALS: AtomicU64 = AtomicU64::new(0);

impl Backend {
    pub async fn start() -> Self {
        Backend { first: listen(true, None).await, second: listen(false, None).await }
    }

    /// With TLS.
    pub async fn start_tls(certificates: &Certificates) -> Self {
        let acceptor = || Some(certificates.acceptor.clone());
        Backend { first: listen(true, acceptor()).await, second: listen(false, acceptor()).await }
    }
}

async fn listen(may_refuse: bool, tls: Option<TlsAcceptor>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let _ = tcp.set_nodelay(true);
            let tls = tls.clone();
            tokio::spawn(async move {
                match tls {
                    None => serve(Box::new(tcp), may_refuse).await,
                    Some(tls) => {
                        if let Ok(secured) = tls.accept(tcp).await {
                            serve(Box::new(secured), may_refuse).await;
                        }
                    }
                }
            });
        }
    });
    address
}

/// Where `what` stands in `bytes`.
pub fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The length of a body, by its head.
pub fn content_length(head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    head.lines().find_map(|line| line.strip_prefix("content-length:")).and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

/// Reads requests, one after the other.
pub struct Requests {
    buffer: Vec<u8>,
    scratch: Vec<u8>,
}

impl Requests {
    /// With room for a head and for a piece of a body.
    pub fn new(head: usize, piece: usize) -> Self {
        Requests { buffer: Vec::with_capacity(head), scratch: vec![0; piece] }
    }

    /// The head of the next request, whose body is read, too; `None` if the connection has ended.
    pub async fn next(&mut self, tcp: &mut (impl AsyncRead + Unpin + ?Sized)) -> Option<Vec<u8>> {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            if tcp.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return None;
            }
        };
        let head = self.buffer[..end].to_vec();
        let mut left = content_length(&head).saturating_sub(self.buffer.len() - end);
        self.buffer.clear();
        while left > 0 {
            match tcp.read(&mut self.scratch).await {
                Ok(n) if n > 0 => left = left.saturating_sub(n),
                _ => return None,
            }
        }
        Some(head)
    }
}

async fn serve(mut tcp: Box<dyn Pipe>, may_refuse: bool) {
    let mut requests = Requests::new(128 * 1024, 256 * 1024);
    while let Some(mode) = requests.next(&mut *tcp).await {
        let done = if find(&mode, b"x-bench: stream").is_some() {
            stream(&mut *tcp).await
        } else if find(&mode, b"x-bench: hold").is_some() {
            hold(&mut *tcp).await
        } else if may_refuse && find(&mode, b"x-bench: refuse").is_some() && REFUSALS.fetch_add(1, Ordering::Relaxed).is_multiple_of(3) {
            // A Retry-After of a microsecond: the very next request meets this target again.
            tcp.write_all(b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\nretry-after-ms: 0.001\r\ncontent-length: 24\r\n\r\n{\"error\":{\"code\":\"429\"}}").await
        } else {
            tcp.write_all(ANSWER).await
        };
        // TLS keeps what was written until it is flushed.
        if done.is_err() || tcp.flush().await.is_err() {
            return;
        }
    }
}

/// A whole answer.
pub const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-ratelimit-remaining-requests: 999\r\nx-ratelimit-limit-requests: 1000\r\nx-ratelimit-remaining-tokens: 99999\r\nx-ratelimit-limit-tokens: 100000\r\napim-request-id: 7f1e0f7e-2f0c-4b5e-9d0e-2f0c4b5e9d0e\r\ncontent-length: 323\r\n\r\n{\"id\":\"chatcmpl-abc\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"A spillway lets water that a dam can't hold run off where it does no harm.\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":200,\"completion_tokens\":18,\"total_tokens\":218}}";

/// The head of a stream.
pub const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

fn chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

/// A chunk's event, as chat streams have them.
pub const WORD: &str = "data: {\"id\":\"chatcmpl-abc\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" spillway\"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n";

fn event(delta: &str, finish: &str) -> Vec<u8> {
    chunk(&WORD.replace("{\"content\":\" spillway\"}", delta).replace("\"finish_reason\":null", &format!("\"finish_reason\":{finish}")))
}

/// A chunk with a word.
pub fn word() -> Vec<u8> {
    event("{\"content\":\" spillway\"}", "null")
}

/// The last chunks of a stream.
pub fn last_events() -> Vec<u8> {
    let usage = "data: {\"id\":\"chatcmpl-abc\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"gpt-4o\",\"choices\":[],\"usage\":{\"prompt_tokens\":200,\"completion_tokens\":49,\"total_tokens\":249}}\n\n";
    [event("{}", "\"stop\""), chunk(usage), chunk("data: [DONE]\n\n"), b"0\r\n\r\n".to_vec()].concat()
}

async fn stream(tcp: &mut dyn Pipe) -> std::io::Result<()> {
    tcp.write_all(HEAD).await?;
    let word = word();
    for _ in 0..CHUNKS - 1 {
        tcp.write_all(&word).await?;
        tcp.flush().await?;
        tokio::time::sleep(PAUSE).await;
    }
    tcp.write_all(&last_events()).await
}

/// A stream that has begun and then waits until the other side hangs up.
async fn hold(tcp: &mut dyn Pipe) -> std::io::Result<()> {
    tcp.write_all(HEAD).await?;
    tcp.write_all(&event("{\"content\":\"a\"}", "null")).await?;
    tcp.flush().await?;
    let mut end = [0; 1];
    tcp.read_exact(&mut end).await.map(|_| ())
}
