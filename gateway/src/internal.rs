//! Requests of the gateway to itself: over a connection in memory, through the whole gateway, as the caller for whom
//! they are made. So they have its tiers, limits and accounting.

use std::collections::HashMap;
use std::time::Duration;

use http::HeaderName;
use parking_lot::Mutex;
use ring::rand::{SecureRandom as _, SystemRandom};
use spillway_plugins::trace::Parent;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;

use crate::callers::Caller;

/// `x-spillway-internal`: the number of a request of the gateway's own.
pub const HEADER: HeaderName = HeaderName::from_static("x-spillway-internal");
/// Requests that may wait to be taken in.
const QUEUE: usize = 256;
/// Longest answer.
const LONGEST: usize = 4 << 20;
/// Room of a connection in each direction.
const PIPE: usize = 64 * 1024;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InternalError {
    /// Too many at once, or the gateway stops.
    #[error("there is no room for it")]
    Busy,
    /// It took too long.
    #[error("it took too long")]
    TimedOut,
    /// The answer is no success.
    #[error("the answer is {0}")]
    Status(u16),
    /// The answer can't be read.
    #[error("the answer can't be read")]
    Broken,
}

/// For whom a request is made.
#[derive(Debug)]
pub struct AsWhom {
    /// The caller, if it is known.
    pub caller: Option<Caller>,
    /// The request's span, where there are traces.
    pub trace: Option<Parent>,
}

/// Where requests to oneself begin and end.
#[derive(Debug)]
pub struct Internal {
    connections: mpsc::Sender<DuplexStream>,
    /// Requests under way: their numbers, and as whom they are made.
    as_whom: Mutex<HashMap<u128, AsWhom>>,
    random: SystemRandom,
}

/// Forgets a number when it is over.
struct Numbered<'i>(&'i Internal, u128);

impl Drop for Numbered<'_> {
    fn drop(&mut self) {
        self.0.as_whom.lock().remove(&self.1);
    }
}

impl Internal {
    /// Nothing is taken in until somebody serves the connections.
    pub fn new() -> (Self, mpsc::Receiver<DuplexStream>) {
        let (connections, receiver) = mpsc::channel(QUEUE);
        (Internal { connections, as_whom: Mutex::default(), random: SystemRandom::new() }, receiver)
    }

    /// For whom a request is made that shows this number; `None` if it isn't one of these. A number is good once.
    pub fn take(&self, number: &[u8]) -> Option<AsWhom> {
        let number = u128::from_str_radix(std::str::from_utf8(number).ok()?, 16).ok()?;
        self.as_whom.lock().remove(&number)
    }

    /// Sends a JSON body and returns the answer's, if that is a success within `limit`.
    ///
    /// # Errors
    /// [`InternalError`]
    pub async fn post(&self, path: &str, body: &[u8], whom: AsWhom, id: &str, limit: Duration) -> Result<Vec<u8>, InternalError> {
        // Whoever knew it could ask as this caller: no generator that can be seen through.
        let mut number = [0; 16];
        self.random.fill(&mut number).map_err(|_| InternalError::Busy)?;
        let number = u128::from_le_bytes(number);
        self.as_whom.lock().insert(number, whom);
        let _numbered = Numbered(self, number);
        let asked = async {
            let (mut ours, theirs) = tokio::io::duplex(PIPE);
            self.connections.try_send(theirs).map_err(|_| InternalError::Busy)?;
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: internal\r\ncontent-type: application/json\r\n{HEADER}: {number:032x}\r\nx-request-id: {id}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            ours.write_all(head.as_bytes()).await.map_err(|_| InternalError::Broken)?;
            ours.write_all(body).await.map_err(|_| InternalError::Broken)?;
            read_answer(&mut ours).await
        };
        tokio::time::timeout(limit, asked).await.unwrap_or(Err(InternalError::TimedOut))
    }
}

/// Reads a whole answer with a length: the gateway's own answers to short requests have one.
async fn read_answer(connection: &mut DuplexStream) -> Result<Vec<u8>, InternalError> {
    let mut bytes = Vec::with_capacity(16 * 1024);
    loop {
        if let Some((status, begin, length)) = head(&bytes)? {
            if status != 200 {
                return Err(InternalError::Status(status));
            }
            if bytes.len() >= begin + length {
                return bytes.get(begin..begin + length).map(<[u8]>::to_vec).ok_or(InternalError::Broken);
            }
        }
        if bytes.len() > LONGEST || connection.read_buf(&mut bytes).await.map_err(|_| InternalError::Broken)? == 0 {
            return Err(InternalError::Broken);
        }
    }
}

/// Status, begin of the body and its length, once the head is there.
fn head(bytes: &[u8]) -> Result<Option<(u16, usize, usize)>, InternalError> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut answer = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(begin) = answer.parse(bytes).map_err(|_| InternalError::Broken)? else { return Ok(None) };
    let status = answer.code.ok_or(InternalError::Broken)?;
    let length = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
    match length {
        Some(length) => Ok(Some((status, begin, length))),
        None if status != 200 => Ok(Some((status, begin, 0))),
        None => Err(InternalError::Broken),
    }
}
