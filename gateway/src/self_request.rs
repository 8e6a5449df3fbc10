//! Requests that the gateway sends to itself: over a connection in memory, through all stages, on behalf of the caller
//! for whom they are made. So that caller's tiers, limits and accounting apply.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use ring::rand::{SecureRandom as _, SystemRandom};
use spillway_plugins::auth::certificate::CertificateNames;
use spillway_plugins::trace::Parent;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use crate::callers::Caller;

/// `x-spillway-internal`: the number that identifies a request of the gateway to itself.
pub const HEADER: HeaderName = HeaderName::from_static("x-spillway-internal");
/// Connections that may wait to be accepted.
const QUEUE: usize = 256;
/// Longest answer that is read into memory.
const LONGEST: usize = 4 << 20;
/// Buffer of a connection in each direction.
const PIPE: usize = 64 * 1024;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InternalError {
    /// Too many at once, or the gateway is stopping.
    #[error("too many internal requests at once, or the gateway is stopping")]
    Busy,
    /// It took too long.
    #[error("it took too long")]
    TimedOut,
    /// The answer is not a success.
    #[error("the answer's status is {0}")]
    Status(u16),
    /// The answer can't be read.
    #[error("the answer can't be read")]
    Broken,
}

/// On whose behalf a request is made.
#[derive(Debug)]
pub enum OnBehalfOf {
    /// The gateway needs something for a request of this caller, which was admitted already.
    Itself {
        /// The caller, if it is known.
        caller: Option<Caller>,
        /// The request's span, if it is traced.
        trace: Option<Parent>,
    },
    /// The request is the caller's own, with its headers, but it did not come over HTTP.
    Sent {
        /// The client certificate of its connection, if it has one.
        certificate: Option<CertificateNames>,
    },
}

/// Sends requests of the gateway to itself.
#[derive(Debug)]
pub struct Internal {
    connections: mpsc::Sender<DuplexStream>,
    /// Requests under way: by number, on whose behalf they are made.
    as_whom: Mutex<HashMap<u128, OnBehalfOf>>,
    random: SystemRandom,
}

/// Removes a number when its request is over.
struct Numbered<'i>(&'i Internal, u128);

impl Drop for Numbered<'_> {
    fn drop(&mut self) {
        self.0.as_whom.lock().remove(&self.1);
    }
}

impl Internal {
    /// Connections are accepted once somebody serves the receiver.
    pub fn new() -> (Self, mpsc::Receiver<DuplexStream>) {
        let (connections, receiver) = mpsc::channel(QUEUE);
        (Internal { connections, as_whom: Mutex::default(), random: SystemRandom::new() }, receiver)
    }

    /// On whose behalf the request with this number is made; `None` if the number is not known. A number is valid once.
    pub fn take(&self, number: &[u8]) -> Option<OnBehalfOf> {
        let number = u128::from_str_radix(std::str::from_utf8(number).ok()?, 16).ok()?;
        self.as_whom.lock().remove(&number)
    }

    /// Sends a JSON body with these headers. Returns the answer's head and body; if they are dropped, the connection is
    /// closed.
    ///
    /// # Errors
    /// [`InternalError`]
    pub async fn ask(&self, path: &str, headers: HeaderMap, body: Bytes, whom: OnBehalfOf) -> Result<Response<Incoming>, InternalError> {
        // Cryptographic randomness: whoever guessed the number could send requests as this caller.
        let mut number = [0; 16];
        self.random.fill(&mut number).map_err(|_| InternalError::Busy)?;
        let number = u128::from_le_bytes(number);
        let mut request = Request::post(path).body(Full::new(body)).map_err(|_| InternalError::Broken)?;
        *request.headers_mut() = headers;
        request.headers_mut().insert(HEADER, HeaderValue::from_str(&format!("{number:032x}")).map_err(|_| InternalError::Broken)?);
        request.headers_mut().entry(header::HOST).or_insert(HeaderValue::from_static("internal"));
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        self.as_whom.lock().insert(number, whom);
        let _numbered = Numbered(self, number);
        let (ours, theirs) = tokio::io::duplex(PIPE);
        self.connections.try_send(theirs).map_err(|_| InternalError::Busy)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(ours)).await.map_err(|_| InternalError::Broken)?;
        // It ends with the answer, or when the answer is dropped.
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(|_| InternalError::Broken)
    }

    /// Sends a JSON body and returns the answer's body, if the answer is a success within `limit`.
    ///
    /// # Errors
    /// [`InternalError`]
    pub async fn post(&self, path: &str, body: Bytes, whom: OnBehalfOf, id: &str, limit: Duration) -> Result<Bytes, InternalError> {
        let mut headers = HeaderMap::new();
        headers.insert("x-request-id", HeaderValue::from_str(id).map_err(|_| InternalError::Broken)?);
        let asked = async {
            let answer = self.ask(path, headers, body, whom).await?;
            match answer.status().as_u16() {
                200 => read(answer, LONGEST).await,
                status => Err(InternalError::Status(status)),
            }
        };
        tokio::time::timeout(limit, asked).await.unwrap_or(Err(InternalError::TimedOut))
    }
}

/// Reads a whole answer.
///
/// # Errors
/// If the connection breaks, or the answer is longer than `longest`.
pub async fn read(answer: Response<Incoming>, longest: usize) -> Result<Bytes, InternalError> {
    let body = Limited::new(answer.into_body(), longest).collect().await.map_err(|_| InternalError::Broken)?;
    Ok(body.to_bytes())
}
