//! What stands for services around the gateway: the issuer of its own tokens, the issuer of callers' tokens, and Redis.

mod issuer;
mod redis;
mod tokens;

pub(super) use issuer::CallerIssuer;
pub(super) use redis::silent_redis;
pub(super) use tokens::token_service;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// An address where nothing listens.
pub(super) const NOWHERE: ([u8; 4], u16) = ([127, 0, 0, 1], 1);

/// Serves JSON over HTTP: `answer` gets the path of each request, and the server's own address.
async fn serve(answer: impl Fn(&str, SocketAddr) -> Option<String> + Send + Sync + 'static) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            // Who asks sees a connection that ends.
            tokio::spawn(async move { drop(one(tcp, |path: &str| answer(path, address)).await) });
        }
    });
    Ok(address)
}

async fn one(mut tcp: TcpStream, answer: impl Fn(&str) -> Option<String>) -> std::io::Result<()> {
    let (mut text, mut piece) = (Vec::new(), [0; 4096]);
    while !has_all(&text) {
        let length = tcp.read(&mut piece).await?;
        if length == 0 {
            return Ok(());
        }
        text.extend_from_slice(&piece[..length]);
    }
    let text = String::from_utf8_lossy(&text);
    let path = text.split(' ').nth(1).unwrap_or_default();
    let (status, body) = answer(path).map_or(("404 Not Found", "{}".to_owned()), |body| ("200 OK", body));
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    tcp.write_all((head + &body).as_bytes()).await
}

/// Whether a request is there with its body.
fn has_all(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    body.len() >= length.unwrap_or(0)
}
