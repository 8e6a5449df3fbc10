//! A backend that follows a script, and records the requests that it gets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
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
    /// Whether the body was complete.
    pub ended: Ended,
    /// The number of its connection, from 0.
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

    /// The body as JSON; null if it isn't JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// One step of a backend's answer.
#[derive(Debug, Clone)]
pub enum Step {
    /// Writes bytes and flushes.
    Write(Vec<u8>),
    /// Waits for a time.
    Pause(Duration),
    /// Waits for a notification by the test.
    Until(Arc<Notify>),
    /// Closes the connection normally.
    Close,
    /// Resets the connection.
    Reset,
    /// Does nothing until the client closes the connection.
    Hang,
    /// Sends every frame that it gets back without its mask, as after a WebSocket upgrade; only for short frames.
    Echo,
}

/// A backend's answer.
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

    /// Bytes without a head.
    pub fn raw(steps: impl IntoIterator<Item = Step>) -> Self {
        Reply { status: 0, headers: Vec::new(), framing: Framing::Raw, steps: steps.into_iter().collect() }
    }

    /// A 429 with a Retry-After.
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

    /// Removes a header.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(n, _)| n != name);
        self
    }

    /// Adds a step.
    pub fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Marks the body's end by closing the connection instead of by framing.
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

/// A running backend. When dropped, it is stopped at once, with its connections.
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
    /// Starts a backend that answers every request with `handler`.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start(handler: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0", handler).await
    }

    /// Starts a backend at an address.
    ///
    /// # Panics
    /// If it can't listen on the address.
    pub async fn start_at(address: &str, handler: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        let listener = listen(address).unwrap_or_else(|error| panic!("{address}: {error}"));
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

    /// All requests so far, in order.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().clone()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.received.lock().clear();
    }

    /// The number of requests so far.
    pub fn count(&self) -> usize {
        self.received.lock().len()
    }

    /// The number of connections made to it.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The number of connections that have ended.
    pub fn hung_up(&self) -> usize {
        self.hung_up.load(Ordering::SeqCst)
    }
}

/// Connections that wait in the kernel to be accepted: on a busy machine hundreds come at once.
const BACKLOG: u32 = 4096;

fn listen(address: &str) -> std::io::Result<TcpListener> {
    let address: SocketAddr = address.parse().map_err(std::io::Error::other)?;
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
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

/// A server's frames with the content of the caller's frames, which are removed.
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

/// Plays a reply; `false` if the connection has ended.
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
