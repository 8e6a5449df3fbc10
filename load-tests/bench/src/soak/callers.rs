//! Callers of all kinds at a given rate, and what they see.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::backend::{content_length, find};
use crate::callers::request;

/// What one caller asks for.
#[derive(Debug, Clone, Copy)]
enum Ask {
    Small,
    Large,
    Stream,
    /// A stream whose caller leaves after its first events.
    Leave,
}

/// How often, of 100 requests.
const ASKS: [(Ask, u32); 4] = [(Ask::Small, 80), (Ask::Large, 5), (Ask::Stream, 10), (Ask::Leave, 5)];

/// What one caller saw of one request.
#[derive(Debug, Clone, Copy)]
enum End {
    Whole,
    /// Another status than 200.
    Refused,
    /// The connection ended before an answer.
    Broken,
    /// A stream ended with an error.
    Cut,
    Left,
}

/// What all of them saw.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    whole: u64,
    pub refused: u64,
    pub broken: u64,
    pub cut: u64,
    pub left: u64,
}

impl Seen {
    pub fn requests(&self) -> u64 {
        self.whole + self.refused + self.broken + self.cut + self.left
    }
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    ends: [AtomicU64; 5],
}

/// Callers under way.
#[derive(Debug)]
pub struct Crowd {
    shared: Arc<Shared>,
    callers: JoinSet<()>,
}

impl Crowd {
    /// So many callers, with so many requests a second together, or as many as are answered.
    pub fn start(address: SocketAddr, count: usize, rate: Option<f64>) -> Self {
        let shared = Arc::new(Shared::default());
        let pause = rate.map(|rate| Duration::from_secs_f64(count as f64 / rate));
        let mut callers = JoinSet::new();
        for _ in 0..count {
            callers.spawn(call(address, pause, Arc::clone(&shared)));
        }
        Crowd { shared, callers }
    }

    /// What they have seen so far.
    pub fn seen(&self) -> Seen {
        let [whole, refused, broken, cut, left] = self.shared.ends.each_ref().map(|count| count.load(Ordering::Relaxed));
        Seen { whole, refused, broken, cut, left }
    }

    /// Lets them finish, and tells what they have seen.
    pub async fn stop(mut self) -> Seen {
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.callers.join_next().await {
            ended.expect("a caller");
        }
        self.seen()
    }
}

async fn call(address: SocketAddr, pause: Option<Duration>, shared: Arc<Shared>) {
    let (mut tcp, mut buffer) = (None, Vec::with_capacity(16 * 1024));
    let mut next = Instant::now() + pause.map_or(Duration::ZERO, |pause| pause.mul_f64(fastrand::f64()));
    while !shared.stop.load(Ordering::Relaxed) {
        if let Some(pause) = pause {
            tokio::time::sleep_until(next).await;
            next += pause;
        }
        let end = match one(&mut tcp, address, draw(), &mut buffer).await {
            Ok(end) => end,
            Err(_) => End::Broken,
        };
        if !matches!(end, End::Whole | End::Refused) {
            tcp = None;
        }
        shared.ends[end as usize].fetch_add(1, Ordering::Relaxed);
    }
}

fn draw() -> Ask {
    let mut number = fastrand::u32(..100);
    for (ask, share) in ASKS {
        match number.checked_sub(share) {
            Some(rest) => number = rest,
            None => return ask,
        }
    }
    Ask::Small
}

async fn one(kept: &mut Option<TcpStream>, address: SocketAddr, ask: Ask, buffer: &mut Vec<u8>) -> std::io::Result<End> {
    let tcp = match kept {
        Some(tcp) => tcp,
        None => {
            let tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            kept.insert(tcp)
        }
    };
    let (size, mode) = match ask {
        Ask::Small => (1 << 10, "plain"),
        Ask::Large => (120 << 10, "plain"),
        Ask::Stream | Ask::Leave => (1 << 10, "stream"),
    };
    tcp.write_all(&request(size, mode)).await?;
    buffer.clear();
    let head = loop {
        if let Some(at) = find(buffer, b"\r\n\r\n") {
            break at + 4;
        }
        if tcp.read_buf(buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    };
    let (ok, closes) = (buffer.starts_with(b"HTTP/1.1 200"), find(&buffer[..head], b"connection: close").is_some());
    let chunked = find(&buffer[..head], b"transfer-encoding: chunked").is_some();
    let length = content_length(&buffer[..head]);
    while if chunked { !buffer.ends_with(b"\r\n0\r\n\r\n") } else { buffer.len() < head + length } {
        if matches!(ask, Ask::Leave) && buffer.len() > head + 1000 {
            return Ok(End::Left);
        }
        if tcp.read_buf(buffer).await? == 0 {
            return if chunked { Ok(End::Cut) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) };
        }
    }
    let cut = chunked && find(buffer, b"[DONE]").is_none();
    if closes {
        *kept = None;
    }
    Ok(if !ok {
        End::Refused
    } else if cut {
        End::Cut
    } else {
        End::Whole
    })
}
