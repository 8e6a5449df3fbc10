//! A caller that sends exact bytes, and returns exactly what came back.

use std::io;
use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::wire::{Ended, Head, Reader};

/// An answer as it arrived.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// First line and headers.
    pub head: Head,
    /// The body's bytes.
    pub body: Vec<u8>,
    /// Whether the body was complete.
    pub ended: Ended,
}

impl Response {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null if it isn't JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The error code of an OpenAI-shaped error.
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or("").to_owned()
    }
}

/// A caller's connection.
#[derive(Debug)]
pub struct Connection {
    reader: Reader<TcpStream>,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        Ok(Connection { reader: Reader::new(tcp) })
    }

    /// Sends bytes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes.as_ref()).await
    }

    /// Reads an answer to its end.
    pub async fn answer(&mut self) -> io::Result<Response> {
        let (status, head) = self.answer_head().await?;
        let (body, ended) = self.reader.body(&head, !matches!(status, 204 | 304)).await?;
        Ok(Response { status, head, body, ended })
    }

    /// Reads only the head of an answer.
    pub async fn answer_head(&mut self) -> io::Result<(u16, Head)> {
        let head = self.reader.head().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = head.line[1].parse().map_err(|_| io::ErrorKind::InvalidData)?;
        Ok((status, head))
    }

    /// Reads exactly so many bytes, as of a socket after its upgrade.
    pub async fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        match self.reader.exactly(count).await? {
            (bytes, Ended::Whole) => Ok(bytes),
            (_, Ended::Cut) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Reads one chunk of a chunked answer; an empty one is the end, `None` a cut-off connection.
    pub async fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.reader.chunk().await
    }

    /// Reads a chunked answer's head, and its chunks until `text` has arrived.
    ///
    /// # Errors
    /// If the answer ends before that.
    pub async fn until(&mut self, text: &str) -> io::Result<()> {
        self.answer_head().await?;
        let mut body = Vec::new();
        while !String::from_utf8_lossy(&body).contains(text) {
            let chunk = self.chunk().await?.filter(|chunk| !chunk.is_empty());
            body.extend(chunk.ok_or(io::ErrorKind::UnexpectedEof)?);
        }
        Ok(())
    }

    /// The next message of a WebSocket: the first byte of its frame, and its payload.
    pub async fn message(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let head = self.bytes(2).await?;
        let length = match head[1] {
            126 => self.bytes(2).await?,
            127 => self.bytes(8).await?,
            length => vec![length],
        };
        let length = length.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte));
        Ok((head[0], self.bytes(length).await?))
    }

    /// The socket.
    pub fn socket(&mut self) -> &mut TcpStream {
        self.reader.get_mut()
    }
}

/// A request's bytes: POST with a JSON body and these additional headers.
pub fn post(path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head =
        format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

/// A caller's WebSocket frame: masked, and in one piece.
pub fn frame(text: &str) -> Vec<u8> {
    const MASK: [u8; 4] = [9, 99, 199, 29];
    let length = text.len() as u64;
    let mut frame = vec![0x81];
    match length {
        0..126 => frame.push(0x80 | length as u8),
        126..65_536 => frame.extend([&[0x80 | 126], &(length as u16).to_be_bytes()[..]].concat()),
        _ => frame.extend([&[0x80 | 127], &length.to_be_bytes()[..]].concat()),
    }
    frame.extend(MASK);
    frame.extend(text.bytes().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Sends one request on a connection of its own and reads the answer.
pub async fn ask(address: SocketAddr, request: impl AsRef<[u8]>) -> io::Result<Response> {
    let mut connection = Connection::open(address).await?;
    connection.send(request).await?;
    connection.answer().await
}

/// GETs a path.
pub async fn get(address: SocketAddr, path: &str) -> io::Result<Response> {
    ask(address, format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")).await
}
