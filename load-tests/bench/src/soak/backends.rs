//! Backends that fail in every way that a gateway can hide, and one way that it can't.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use crate::backend::{ANSWER, Backend, CHUNKS, HEAD, Requests, find, last_events, word};

/// What a backend does with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Answer,
    /// Answers, and closes the connection without saying so: it is stale when it is used again.
    AnswerAndClose,
    Slow,
    Throttle,
    Fail,
    /// Closes the connection before an answer.
    Reset,
    /// An answer that is no HTTP.
    Garbage,
    /// Ends a stream before its last event.
    Cut,
}

/// How often, of 1,000 requests; the rest is answered.
const FAULTS: [(Act, u32); 7] =
    [(Act::AnswerAndClose, 20), (Act::Slow, 5), (Act::Throttle, 30), (Act::Fail, 10), (Act::Reset, 10), (Act::Garbage, 2), (Act::Cut, 5)];

fn draw(faults: &[(Act, u32)]) -> Act {
    let mut number = fastrand::u32(..1000);
    for (act, share) in faults {
        match number.checked_sub(*share) {
            Some(rest) => number = rest,
            None => return *act,
        }
    }
    Act::Answer
}

/// The first one has all faults, the second only closes connections.
pub async fn start() -> Backend {
    Backend { first: listen(&FAULTS).await, second: listen(&FAULTS[..1]).await }
}

async fn listen(faults: &'static [(Act, u32)]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(serve(tcp, faults));
        }
    });
    address
}

async fn serve(mut tcp: TcpStream, faults: &[(Act, u32)]) {
    let _ = tcp.set_nodelay(true);
    let mut requests = Requests::new(8 * 1024, 64 * 1024);
    while let Some(head) = requests.next(&mut tcp).await {
        let streams = find(&head, b"x-bench: stream").is_some();
        if !matches!(answer(&mut tcp, draw(faults), streams).await, Ok(true)) {
            return;
        }
    }
}

/// Answers. `false`: the connection must be closed.
async fn answer(tcp: &mut TcpStream, act: Act, streams: bool) -> std::io::Result<bool> {
    match act {
        Act::Throttle => {
            let body = "{\"error\":{\"code\":\"429\"}}";
            let head = "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\nretry-after-ms: 20\r\ncontent-length: ";
            tcp.write_all(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes()).await?;
            return Ok(true);
        }
        Act::Fail => {
            tcp.write_all(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n").await?;
            return Ok(true);
        }
        Act::Reset => return Ok(false),
        Act::Garbage => {
            tcp.write_all(b"\x16\x03\x01 this is no HTTP\r\n\r\n").await?;
            return Ok(false);
        }
        Act::Slow => tokio::time::sleep(Duration::from_millis(200)).await,
        Act::Answer | Act::AnswerAndClose | Act::Cut => {}
    }
    match streams {
        false => tcp.write_all(ANSWER).await?,
        true => {
            tcp.write_all(HEAD).await?;
            for number in 0..CHUNKS {
                if act == Act::Cut && number == CHUNKS / 2 {
                    return Ok(false);
                }
                tcp.write_all(&word()).await?;
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            tcp.write_all(&last_events()).await?;
        }
    }
    Ok(act != Act::AnswerAndClose)
}
