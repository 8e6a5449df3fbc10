//! How the hostile consumer brings its bytes, and how it leaves.

use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;
use spillway_testkit::client::Connection;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// How a request is sent, and what becomes of its answer.
#[derive(Debug, Clone, Copy)]
pub enum Manner {
    /// It is sent and its answer read.
    Polite,
    /// The same, however long it takes.
    Waits,
    /// It is sent, and after a while the connection is closed.
    Leaves(Duration),
    /// So many bytes of it are sent, and then the connection is closed.
    Breaks(usize),
    /// So many hundredths of it are sent, and no more for longer than anybody should have to wait.
    Stops(usize),
    /// It is sent in pieces, with pauses.
    Drips(usize),
    /// It is sent, and the sending side is closed.
    HalfCloses,
    /// So many bytes of the answer are read.
    Sips(usize),
    /// Something follows it.
    Trails,
}

/// What was answered.
#[derive(Debug)]
pub struct Heard {
    pub bytes: Vec<u8>,
    /// The other side had nothing more to say.
    pub whole: bool,
}

/// How long it waits for an answer, mostly.
const PATIENCE: Duration = Duration::from_millis(600);
/// Longer than the ordinary consumer ever waits, unless it has to wait for somebody.
const STOP: Duration = Duration::from_millis(2500);
/// Longer than any timeout of the gateway.
const LONG: Duration = Duration::from_secs(8);

impl Manner {
    /// Some manner; most are polite, since most harm is in what is sent.
    pub fn any(rng: &mut Rng) -> Self {
        match rng.u8(0..15) {
            0 => Manner::Leaves(Duration::from_millis(rng.u64(0..60))),
            1 => Manner::Breaks(rng.usize(0..600)),
            2 => Manner::Drips(rng.usize(1..200)),
            3 => Manner::HalfCloses,
            4 => Manner::Sips(rng.usize(0..3000)),
            5 => Manner::Trails,
            6 => Manner::Waits,
            7 => Manner::Stops(rng.usize(1..100)),
            _ => Manner::Polite,
        }
    }

    /// Sends a request, and is gone after a while. Whatever goes wrong on the way, it was meant to.
    pub async fn send(self, address: SocketAddr, request: &[u8]) -> Heard {
        let mut heard = Heard { bytes: Vec::new(), whole: false };
        let _ = tokio::time::timeout(LONG, self.bring(address, request, &mut heard)).await;
        // Closing the sending side may be taken for leaving.
        heard.whole &= !matches!(self, Manner::HalfCloses);
        heard
    }

    async fn bring(self, address: SocketAddr, request: &[u8], heard: &mut Heard) -> std::io::Result<()> {
        let mut connection = Connection::open(address).await?;
        let (most, patience) = match self {
            Manner::Stops(after) => {
                connection.send(&request[..request.len() * after / 100]).await?;
                tokio::time::sleep(STOP).await;
                return Ok(());
            }
            Manner::Breaks(after) => return connection.send(&request[..request.len().min(after)]).await,
            Manner::Drips(size) => {
                for piece in request.chunks(size.max(request.len() / 20 + 1)) {
                    connection.send(piece).await?;
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
                (usize::MAX, PATIENCE)
            }
            Manner::HalfCloses => {
                connection.send(request).await?;
                connection.socket().shutdown().await?;
                (usize::MAX, PATIENCE)
            }
            Manner::Trails => {
                connection.send([request, b"\r\nGET /smuggled HTTP/1.1\r\n"].concat()).await?;
                (usize::MAX, PATIENCE / 4)
            }
            Manner::Leaves(after) => (usize::MAX, after),
            Manner::Sips(bytes) => (bytes, PATIENCE),
            Manner::Waits => (usize::MAX, LONG),
            Manner::Polite => (usize::MAX, PATIENCE),
        };
        if !matches!(self, Manner::Drips(_) | Manner::HalfCloses | Manner::Trails) {
            // A refusal may come while it is still being sent.
            let _ = connection.send(request).await;
        }
        read(&mut connection, most, patience, heard).await;
        if matches!(self, Manner::Sips(_)) {
            connection.socket().set_zero_linger()?;
        }
        Ok(())
    }
}

/// Reads until the other side closes, `most` bytes have come, or nothing comes for a while.
async fn read(connection: &mut Connection, most: usize, patience: Duration, heard: &mut Heard) {
    let mut buffer = vec![0; 16 * 1024];
    let until = tokio::time::Instant::now() + patience;
    while heard.bytes.len() < most {
        let room = buffer.len().min(most - heard.bytes.len());
        match tokio::time::timeout_at(until, connection.socket().read(&mut buffer[..room])).await {
            Ok(Ok(read)) if read > 0 => heard.bytes.extend_from_slice(&buffer[..read]),
            Ok(_) => {
                heard.whole = true;
                return;
            }
            Err(_) => return,
        }
    }
}
