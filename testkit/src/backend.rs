//! A backend that does as it is told, and remembers what it was asked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::wire::{Ended, Head, Reader};

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// Method, path with query, and headers.
    pub head: Head,
    /// The body's bytes.
    pub body: Vec<u8>,
    /// Whether the body was whole.
    pub ended: Ended,
    /// Which connection it came on, from 0.
    pub connection: usize,
}

impl Received {
    /// Path and query.
    pub fn path(&self) -> &str {
        &self.head.line[1]
    }

    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// One thing that a backend does while it answers.
#[derive(Debug, Clone)]
pub enum Step {
    /// Writes bytes and flushes.
    Write(Vec<u8>),
    /// Lets time pass.
    Pause(Duration),
    /// Waits until the test says so.
    Until(Arc<Notify>),
    /// Closes the connection as if all were well.
    Close,
    /// Resets the connection.
    Reset,
    /// Does nothing until the other side hangs up.
    Hang,
    /// Sends every frame that it gets back without its mask, as after a WebSocket upgrade; frames are short ones.
    Echo,
}

/// What a backend answers.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    framing: Framing,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length,
    Chunked,
    Close,
    Raw,
}

impl Reply {
    /// An answer with a JSON body.
    pub fn json(status: u16, body: impl Into<String>) -> Self {
        Reply {
            status,
            headers: vec![("content-type".into(), "application/json".into())],
            framing: Framing::Length,
            steps: vec![Step::Write(body.into().into_bytes())],
        }
    }

    /// A stream of these events, each a chunk of its own.
    pub fn sse<I: Into<Vec<u8>>>(events: impl IntoIterator<Item = I>) -> Self {
        let steps = events.into_iter().map(|event| Step::Write(event.into())).collect();
        Reply { status: 200, headers: vec![("content-type".into(), "text/event-stream".into())], framing: Framing::Chunked, steps }
    }

    /// Bytes without any head.
    pub fn raw(steps: impl IntoIterator<Item = Step>) -> Self {
        Reply { status: 0, headers: Vec::new(), framing: Framing::Raw, steps: steps.into_iter().collect() }
    }

    /// A 429 that says when to come back.
    pub fn throttled(retry_after_ms: u64) -> Self {
        Reply::json(429, r#"{"error":{"code":"429","message":"Requests have exceeded the rate limit of your current pricing tier."}}"#)
            .header("retry-after-ms", retry_after_ms.to_string())
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.retain(|(n, _)| n != name);
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Takes a header away.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(n, _)| n != name);
        self
    }

    /// Adds a step.
    pub fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Ends the body with the connection instead of framing it.
    pub fn until_close(mut self) -> Self {
        self.framing = Framing::Close;
        self
    }

    /// Sends the body in chunks.
    pub fn chunked(mut self) -> Self {
        self.framing = Framing::Chunked;
        self
    }
}

type Handler = dyn Fn(&Received) -> Reply + Send + Sync;

/// A running backend. Dropped, it is gone at once, connections included.
pub struct ScriptedBackend {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    connections: Arc<AtomicUsize>,
    hung_up: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for ScriptedBackend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ScriptedBackend {
    /// Starts a backend that answers every request by `handler`.
    ///
    /// # Panics
    /// If no port can be had.
    pub async fn start(handler: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0", handler).await
    }

    /// Starts a backend at an address.
    ///
    /// # Panics
    /// If the address can't be had.
    pub async fn start_at(address: &str, handler: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).await.unwrap_or_else(|error| panic!("{address}: {error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("{error}"));
        let received = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let hung_up = Arc::new(AtomicUsize::new(0));
        let shared = (Arc::clone(&received), Arc::clone(&connections), Arc::clone(&hung_up));
        let handler: Arc<Handler> = Arc::new(handler);
        let task = tokio::spawn(async move {
            let mut alive = tokio::task::JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let number = shared.1.fetch_add(1, Ordering::SeqCst);
                let (received, hung_up, handler) = (Arc::clone(&shared.0), Arc::clone(&shared.2), Arc::clone(&handler));
                alive.spawn(async move {
                    serve(tcp, number, &received, &*handler).await;
                    hung_up.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        ScriptedBackend { address, received, connections, hung_up, task }
    }

    /// Its root URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything it was asked, in order.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().clone()
    }

    /// Forgets what it was asked.
    pub fn forget(&self) {
        self.received.lock().clear();
    }

    /// How many requests it got.
    pub fn count(&self) -> usize {
        self.received.lock().len()
    }

    /// How many connections were made to it.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// How many of them are over.
    pub fn hung_up(&self) -> usize {
        self.hung_up.load(Ordering::SeqCst)
    }
}

async fn serve(tcp: TcpStream, number: usize, received: &Mutex<Vec<Received>>, handler: &Handler) {
    let _ = tcp.set_nodelay(true);
    let mut reader = Reader::new(tcp);
    while let Ok(Some(head)) = reader.head().await {
        if head.header("expect").is_some() && reader.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_err() {
            return;
        }
        let Ok((body, ended)) = reader.body(&head, false).await else { return };
        let request = Received { head, body, ended, connection: number };
        let reply = handler(&request);
        received.lock().push(request);
        if !answer(&mut reader, reply).await {
            return;
        }
    }
}

/// A server's frames with what a caller's say, which are taken.
fn echoes(got: &mut Vec<u8>) -> Vec<u8> {
    let mut frames = Vec::new();
    while let [first, second, mask @ ..] = &got[..]
        && let length = usize::from(second & 0x7f)
        && let Some(payload) = mask.get(4..4 + length)
    {
        frames.extend([*first, second & 0x7f]);
        frames.extend(payload.iter().zip(mask[..4].iter().cycle()).map(|(byte, mask)| byte ^ mask));
        got.drain(..6 + length);
    }
    frames
}

/// Plays a reply; `false` if the connection is over.
async fn answer(reader: &mut Reader<TcpStream>, reply: Reply) -> bool {
    let length: usize = reply.steps.iter().map(|step| if let Step::Write(bytes) = step { bytes.len() } else { 0 }).sum();
    let mut head = format!("HTTP/1.1 {} Scripted\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    match reply.framing {
        Framing::Length if !reply.headers.iter().any(|(name, _)| name == "content-length") => {
            head += &format!("content-length: {length}\r\n")
        }
        Framing::Chunked => head += "transfer-encoding: chunked\r\n",
        Framing::Close => head += "connection: close\r\n",
        Framing::Length | Framing::Raw => {}
    }
    head += "\r\n";
    if reply.framing != Framing::Raw && reader.get_mut().write_all(head.as_bytes()).await.is_err() {
        return false;
    }
    for step in reply.steps {
        let done = match step {
            Step::Write(bytes) if reply.framing == Framing::Chunked => {
                let chunk = [format!("{:x}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat();
                reader.get_mut().write_all(&chunk).await.is_ok()
            }
            Step::Write(bytes) => reader.get_mut().write_all(&bytes).await.is_ok(),
            Step::Pause(time) => {
                tokio::time::sleep(time).await;
                true
            }
            Step::Until(signal) => {
                signal.notified().await;
                true
            }
            Step::Close => false,
            Step::Reset => {
                let _ = reader.get_mut().set_zero_linger();
                false
            }
            Step::Hang => {
                let _ = reader.head().await;
                false
            }
            Step::Echo => {
                let (mut got, mut raw) = (Vec::new(), [0; 4096]);
                while let Ok(n) = tokio::io::AsyncReadExt::read(reader.get_mut(), &mut raw).await {
                    got.extend_from_slice(&raw[..n]);
                    if n == 0 || reader.get_mut().write_all(&echoes(&mut got)).await.is_err() {
                        break;
                    }
                }
                false
            }
        };
        if !done {
            let _ = reader.get_mut().shutdown().await;
            return false;
        }
    }
    match reply.framing {
        Framing::Chunked => reader.get_mut().write_all(b"0\r\n\r\n").await.is_ok(),
        Framing::Close => false,
        Framing::Length | Framing::Raw => true,
    }
}
