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
    /// It is sent, and after a while the connection is closed.
    Leaves(Duration),
    /// So many bytes of it are sent, and then the connection is closed.
    Breaks(usize),
    /// It is sent in pieces, with pauses.
    Drips(usize),
    /// It is sent, and the sending side is closed.
    HalfCloses,
    /// So many bytes of the answer are read.
    Sips(usize),
    /// Something follows it.
    Trails,
}

/// How long anybody waits for an answer.
const PATIENCE: Duration = Duration::from_millis(800);

impl Manner {
    /// Some manner; most are polite, since most harm is in what is sent.
    pub fn any(rng: &mut Rng) -> Self {
        match rng.u8(0..12) {
            0 => Manner::Leaves(Duration::from_millis(rng.u64(0..60))),
            1 => Manner::Breaks(rng.usize(0..600)),
            2 => Manner::Drips(rng.usize(1..200)),
            3 => Manner::HalfCloses,
            4 => Manner::Sips(rng.usize(0..3000)),
            5 => Manner::Trails,
            _ => Manner::Polite,
        }
    }

    /// Sends a request, and is gone after a while. Whatever goes wrong on the way, it was meant to.
    pub async fn send(self, address: SocketAddr, request: &[u8]) {
        let _ = tokio::time::timeout(PATIENCE * 2, self.bring(address, request)).await;
    }

    async fn bring(self, address: SocketAddr, request: &[u8]) {
        let Ok(mut connection) = Connection::open(address).await else { return };
        match self {
            Manner::Polite => {
                if connection.send(request).await.is_ok() {
                    read(&mut connection, usize::MAX, PATIENCE).await;
                }
            }
            Manner::Leaves(after) => {
                let _ = connection.send(request).await;
                read(&mut connection, usize::MAX, after).await;
            }
            Manner::Breaks(after) => {
                let _ = connection.send(&request[..request.len().min(after)]).await;
            }
            Manner::Drips(size) => {
                for piece in request.chunks(size.max(request.len() / 20 + 1)) {
                    if connection.send(piece).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
                read(&mut connection, usize::MAX, PATIENCE).await;
            }
            Manner::HalfCloses => {
                let _ = connection.send(request).await;
                let _ = connection.socket().shutdown().await;
                read(&mut connection, usize::MAX, PATIENCE).await;
            }
            Manner::Sips(bytes) => {
                let _ = connection.send(request).await;
                read(&mut connection, bytes, PATIENCE).await;
                let _ = connection.socket().set_zero_linger();
            }
            Manner::Trails => {
                let _ = connection.send([request, b"\r\nGET /smuggled HTTP/1.1\r\n"].concat()).await;
                read(&mut connection, usize::MAX, PATIENCE / 4).await;
            }
        }
    }
}

/// Reads until the other side closes, `most` bytes have come, or nothing comes for a while.
async fn read(connection: &mut Connection, most: usize, patience: Duration) {
    let mut buffer = vec![0; 16 * 1024];
    let mut count = 0;
    let until = tokio::time::Instant::now() + patience;
    while count < most {
        let room = buffer.len().min(most - count);
        match tokio::time::timeout_at(until, connection.socket().read(&mut buffer[..room])).await {
            Ok(Ok(read)) if read > 0 => count += read,
            _ => return,
        }
    }
}
