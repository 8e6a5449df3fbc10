//! The callers: a few connections that ask as fast as they are answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::backend::{CHUNKS, find};
use crate::certificates::{Pipe, Trust};
use crate::consumer_key::key;
use crate::median;
use crate::process::Proxy;

#[derive(Debug, Clone, Copy)]
pub enum Case {
    /// A JSON body of this size; `refuse` lets every third meet a 429 first.
    Plain { body: usize, refuse: bool },
    /// A JSON body of 1 KiB, each with another prompt.
    Unique,
    /// A JSON body of 1 KiB from one of so many consumers.
    Consumers(usize),
    /// Streams; what is counted is their chunks.
    Stream,
}

/// What each request has in place of the last one's.
#[derive(Debug, Clone, Copy)]
enum Changes {
    Nothing,
    /// Eight digits of its prompt.
    Prompt,
    /// The number of its key, of so many.
    Key(usize),
}

/// Digits that are replaced, in a prompt or in a key.
const DIGITS: &[u8] = b"00000000";

/// A request, and what changes in it from one to the next.
#[derive(Debug)]
struct Template {
    bytes: Vec<u8>,
    changes: Changes,
    at: usize,
}

impl Template {
    fn new(case: Case) -> Self {
        let (bytes, changes) = match case {
            Case::Plain { body, refuse } => (request(body, if refuse { "refuse" } else { "plain" }), Changes::Nothing),
            Case::Stream => (request(1 << 10, "stream"), Changes::Nothing),
            Case::Unique => (replaced(request(1 << 10, "plain"), "A spillw", "00000000"), Changes::Prompt),
            Case::Consumers(count) => {
                (replaced(request(1 << 10, "plain"), "Bearer test", &format!("Bearer {}", key(0))), Changes::Key(count))
            }
        };
        let at = find(&bytes, DIGITS).unwrap_or(0);
        Template { bytes, changes, at }
    }

    /// The next request, in a copy of the bytes.
    fn next(&self, copy: &mut [u8]) {
        let number = match self.changes {
            Changes::Nothing => return,
            Changes::Prompt => fastrand::usize(..100_000_000),
            Changes::Key(count) => fastrand::usize(..count),
        };
        copy[self.at..self.at + DIGITS.len()].copy_from_slice(format!("{number:08}").as_bytes());
    }
}

fn replaced(bytes: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    String::from_utf8(bytes).expect("text").replacen(from, to, 1).into_bytes()
}

pub const CONNECTIONS: usize = 8;
const STREAMS: usize = 64;

/// A request with a body of this size; the backends do what its mode says.
pub fn request(body: usize, mode: &str) -> Vec<u8> {
    let frame =
        r#"{"model":"m","temperature":0.7,"messages":[{"role":"system","content":"You are helpful."},{"role":"user","content":""}]}"#;
    // Prose with a line break every 80 characters or so, as prompts have.
    let prose = "A spillway lets the water that a dam can not hold run off where it does no harm.\\n";
    let mut text: String = prose.chars().cycle().take(body.saturating_sub(frame.len())).collect();
    if text.ends_with('\\') {
        text.pop();
        text.push(' ');
    }
    let body = frame.replacen("\"content\":\"\"", &format!("\"content\":\"{text}\""), 1);
    format!("POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\nauthorization: Bearer test\r\nuser-agent: OpenAI/Python 1.60.0\r\naccept: application/json\r\nx-bench: {mode}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Connects, with TLS if there is something to trust.
async fn connect(address: SocketAddr, trust: Option<&Trust>) -> Box<dyn Pipe> {
    let tcp = TcpStream::connect(address).await.expect("the proxy listens");
    let _ = tcp.set_nodelay(true);
    match trust {
        Some(trust) => trust.connect(tcp).await,
        None => Box::new(tcp),
    }
}

/// Sends a request and reads a plain answer to its end; whether the connection can be used again.
async fn ask(tcp: &mut dyn Pipe, request: &[u8], buffer: &mut Vec<u8>) -> std::io::Result<bool> {
    tcp.write_all(request).await?;
    tcp.flush().await?;
    buffer.clear();
    loop {
        if let Some(end) = find(buffer, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
            assert!(head.starts_with("http/1.1 200"), "{head}");
            let length: usize =
                head.lines().find_map(|line| line.strip_prefix("content-length:")).and_then(|value| value.trim().parse().ok()).unwrap_or(0);
            while buffer.len() < end + 4 + length {
                if tcp.read_buf(buffer).await? == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
            }
            return Ok(!head.contains("\r\nconnection: close"));
        }
        if tcp.read_buf(buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Sends a request and reads a stream to its last chunk.
async fn follow(tcp: &mut dyn Pipe, request: &[u8], buffer: &mut Vec<u8>) -> std::io::Result<()> {
    tcp.write_all(request).await?;
    tcp.flush().await?;
    buffer.clear();
    while !buffer.ends_with(b"0\r\n\r\n") {
        if tcp.read_buf(buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    assert!(buffer.starts_with(b"HTTP/1.1 200"));
    Ok(())
}

/// How long the callers go on.
#[derive(Debug, Clone, Copy)]
enum Until {
    Time(Instant),
    /// Requests of each connection.
    Count(usize),
}

/// The callers of one case. Their connections stay open between runs.
pub struct Callers {
    address: SocketAddr,
    trust: Option<Trust>,
    case: Case,
    request: Arc<Template>,
    open: Vec<Box<dyn Pipe>>,
}

impl Callers {
    /// Connects.
    pub async fn new(proxy: &Proxy, case: Case) -> Self {
        Self::many(proxy, case, if matches!(case, Case::Stream) { STREAMS } else { CONNECTIONS }).await
    }

    /// On so many connections.
    pub async fn many(proxy: &Proxy, case: Case, connections: usize) -> Self {
        let (address, trust) = (proxy.address, proxy.trust.clone());
        let mut open = Vec::with_capacity(connections);
        for _ in 0..connections {
            open.push(connect(address, trust.as_ref()).await);
        }
        Callers { address, trust, case, request: Arc::new(Template::new(case)), open }
    }

    /// Asks for a time. Returns how many requests (or chunks) were done.
    pub async fn run(&mut self, time: Duration) -> u64 {
        self.go(Until::Time(Instant::now() + time), None).await
    }

    /// The same, with how long each request took.
    pub async fn run_timed(&mut self, time: Duration) -> Vec<Duration> {
        let mut times = Vec::new();
        self.go(Until::Time(Instant::now() + time), Some(&mut times)).await;
        times
    }

    async fn go(&mut self, until: Until, mut all_times: Option<&mut Vec<Duration>>) -> u64 {
        let timed = all_times.is_some();
        let mut all = JoinSet::new();
        for mut tcp in self.open.drain(..) {
            let (address, trust, case, request) = (self.address, self.trust.clone(), self.case, Arc::clone(&self.request));
            all.spawn(async move {
                let mut buffer = Vec::with_capacity(64 * 1024);
                let mut bytes = request.bytes.clone();
                let (mut requests, mut times) = (0, Vec::new());
                while match until {
                    Until::Time(end) => Instant::now() < end,
                    Until::Count(count) => requests < count,
                } {
                    requests += 1;
                    request.next(&mut bytes);
                    let began = Instant::now();
                    match case {
                        Case::Stream => follow(&mut *tcp, &bytes, &mut buffer).await.expect("a stream"),
                        // The gateway ends a connection after some thousand requests.
                        _ => {
                            if !ask(&mut *tcp, &bytes, &mut buffer).await.expect("an answer") {
                                tcp = connect(address, trust.as_ref()).await;
                            }
                        }
                    }
                    if timed {
                        times.push(began.elapsed());
                    }
                }
                (tcp, requests as u64, times)
            });
        }
        let mut done = 0;
        while let Some(joined) = all.join_next().await {
            let (tcp, requests, times) = joined.expect("a caller");
            self.open.push(tcp);
            if let Some(all) = &mut all_times {
                all.extend(times);
            }
            done += requests;
        }
        match self.case {
            Case::Stream => done * CHUNKS as u64,
            _ => done,
        }
    }
}

/// Runs a case so many times on each connection.
pub async fn run_count(proxy: &Proxy, case: Case, count: usize) {
    Callers::new(proxy, case).await.go(Until::Count(count), None).await;
}

/// Median time of a 1 KiB request, one at a time, in microseconds.
pub async fn median_micros(address: SocketAddr, count: usize) -> f64 {
    let request = request(1 << 10, "plain");
    let mut tcp = TcpStream::connect(address).await.expect("the proxy listens");
    let _ = tcp.set_nodelay(true);
    let mut buffer = Vec::with_capacity(64 * 1024);
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        ask(&mut tcp, &request, &mut buffer).await.expect("an answer");
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    median(&mut times)
}

/// Median time to a stream's first event, in microseconds.
pub async fn first_chunk_micros(address: SocketAddr, count: usize) -> f64 {
    let request = request(1 << 10, "hold");
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let mut tcp = TcpStream::connect(address).await.expect("the proxy listens");
        let _ = tcp.set_nodelay(true);
        let began = Instant::now();
        tcp.write_all(&request).await.expect("a request");
        read_event(&mut tcp).await;
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    median(&mut times)
}

async fn read_event(tcp: &mut TcpStream) {
    let mut buffer = Vec::with_capacity(4096);
    while find(&buffer, b"\n\n").is_none() {
        assert!(tcp.read_buf(&mut buffer).await.expect("an event") > 0, "the stream ended early");
    }
}

/// Opens connections, asks once on each, and keeps them.
pub async fn hold_idle(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let request = request(1 << 10, "plain");
    let mut buffer = Vec::with_capacity(4096);
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        let mut tcp = TcpStream::connect(address).await.expect("the proxy listens");
        ask(&mut tcp, &request, &mut buffer).await.expect("an answer");
        held.push(tcp);
    }
    held
}

/// Opens streams that have begun, and keeps them.
pub async fn hold_streams(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let request = request(1 << 10, "hold");
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        let mut tcp = TcpStream::connect(address).await.expect("the proxy listens");
        tcp.write_all(&request).await.expect("a request");
        read_event(&mut tcp).await;
        held.push(tcp);
    }
    held
}
