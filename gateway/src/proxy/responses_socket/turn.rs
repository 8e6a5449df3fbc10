//! One request of a socket: sent through the gateway like any other, its answer told as messages.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use spillway_plugins::auth::certificate::CertificateNames;
use spillway_plugins::responses_socket::{self as messages, Memory, Turn};
use spillway_plugins::sse::{Fate, Splitter};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::internal::{self, AsWhom};
use crate::proxy::Gateway;
use crate::proxy::refusal::Refusal;
use crate::proxy::replay::BufferShare;
use crate::proxy::respond::error_body;

/// Longest event: an image is one.
const LONGEST: usize = 32 << 20;
/// An event that is no longer than this needs no room of its own.
const SMALL: usize = 64 * 1024;
/// Longest answer that is no stream.
const LONGEST_PLAIN: usize = 4 << 20;
/// Messages that may wait to be sent.
const WAITING: usize = 8;
/// What of an answer's head is told with an error.
const TOLD: [&str; 4] = ["retry-after", "retry-after-ms", "x-should-retry", "x-request-id"];

/// What is asked for.
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) certificate: Option<CertificateNames>,
    /// What is to be remembered of it, if the connection is to.
    pub(super) remembered: Option<String>,
    /// The response that it goes on from.
    pub(super) previous: Option<String>,
}

/// What is told of it.
pub(super) enum Told {
    /// A message.
    Message(String),
    /// The last thing: what the connection knows of it from now on.
    Over(Option<(Memory, BufferShare)>),
}

/// A request under way; given up when dropped.
pub(super) struct Running {
    told: mpsc::Receiver<Told>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is told next; never, if nothing runs.
pub(super) async fn next(running: &mut Option<Running>) -> Option<Told> {
    match running {
        Some(running) => running.told.recv().await,
        None => std::future::pending().await,
    }
}

/// Begins a request whose caller's bodies have what is counted in `held`.
pub(super) fn begin(gateway: &Gateway, asked: Asked, held: Option<Arc<AtomicUsize>>) -> Running {
    let (tell, told) = mpsc::channel(WAITING);
    let gateway = gateway.clone();
    let task = tokio::spawn(async move {
        let room = BufferShare::of(&gateway.buffered, held.clone());
        let mut teller = Teller { tell, room, kept: BufferShare::of(&gateway.buffered, held) };
        // Whoever listened may be gone: then nobody misses it.
        let _ = teller.run(&gateway, asked).await;
    });
    Running { told, task: task.abort_handle() }
}

/// The caller's side is gone.
struct Gone;

struct Teller {
    tell: mpsc::Sender<Told>,
    /// Room for an event that has not ended.
    room: BufferShare,
    /// Room for what is remembered.
    kept: BufferShare,
}

impl Teller {
    async fn tell(&self, told: Told) -> Result<(), Gone> {
        self.tell.send(told).await.map_err(|_| Gone)
    }

    async fn refuse(&self, refusal: &Refusal) -> Result<(), Gone> {
        let body = error_body(refusal, spillway_plugins::api::Dialect::OpenAi, "");
        self.tell(Told::Message(messages::error(refusal.shape().status.as_u16(), &body, &[]))).await
    }

    async fn run(&mut self, gateway: &Gateway, asked: Asked) -> Result<(), Gone> {
        let whom = AsWhom::Sent { certificate: asked.certificate };
        let answer = match gateway.internal.ask(&asked.path, asked.headers, asked.body, whom).await {
            Ok(answer) => answer,
            Err(_) => {
                self.refuse(&Refusal::Overloaded { what: "requests in flight" }).await?;
                return self.tell(Told::Over(None)).await;
            }
        };
        let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is_stream = kind.trim_start().to_ascii_lowercase().starts_with("text/event-stream");
        let memory = match answer.status() {
            StatusCode::OK if is_stream => self.stream(answer.into_body(), Turn::new(asked.remembered)).await?,
            StatusCode::OK => self.plain(answer, Turn::new(asked.remembered)).await?,
            _ => {
                self.error(answer, asked.previous).await?;
                None
            }
        };
        let memory = memory.map(|memory| (memory, std::mem::replace(&mut self.kept, BufferShare::new(&gateway.buffered))));
        self.tell(Told::Over(memory)).await
    }

    /// An answer that is an error.
    async fn error(&self, answer: http::Response<Incoming>, previous: Option<String>) -> Result<(), Gone> {
        let status = answer.status().as_u16();
        let headers = answer.headers().clone();
        let told: Vec<(&str, &str)> = TOLD.iter().filter_map(|name| Some((*name, headers.get(*name)?.to_str().ok()?))).collect();
        let body = internal::read(answer, LONGEST_PLAIN).await.unwrap_or_default();
        let mut error = messages::error(status, &body, &told);
        if let Some(previous) = previous {
            error = messages::of_previous(error, &previous);
        }
        self.tell(Told::Message(error)).await
    }

    /// The answer of a backend that doesn't stream.
    async fn plain(&mut self, answer: http::Response<Incoming>, mut turn: Turn) -> Result<Option<Memory>, Gone> {
        let body = internal::read(answer, LONGEST_PLAIN).await.unwrap_or_default();
        match std::str::from_utf8(&body).ok().filter(|text| text.trim_start().starts_with('{')) {
            Some(text) => {
                let message = turn.event(&messages::whole(text));
                self.remember(&mut turn);
                self.tell(Told::Message(message)).await?;
                Ok(turn.memory())
            }
            None => {
                self.refuse(&Refusal::Internal).await?;
                Ok(None)
            }
        }
    }

    async fn stream(&mut self, mut body: Incoming, mut turn: Turn) -> Result<Option<Memory>, Gone> {
        let mut splitter = Splitter::keeping(LONGEST);
        let (mut coming, mut fits) = (0, true);
        while let Some(frame) = body.frame().await {
            let Some(piece) = frame.ok().and_then(|frame| frame.into_data().ok()) else { break };
            coming += piece.len();
            fits &= coming <= SMALL || (coming <= LONGEST && self.room.covers(coming));
            let mut ready = Vec::new();
            if fits {
                splitter.feed(piece, |event| {
                    coming = 0;
                    if let (Ok(data), None) = (std::str::from_utf8(&event.data), event.cut) {
                        if data.starts_with('{') {
                            ready.push(turn.event(data));
                        }
                    } else {
                        fits = false;
                    }
                    Fate::Pass
                });
            }
            self.remember(&mut turn);
            for message in ready {
                self.tell(Told::Message(message)).await?;
            }
            if !fits {
                self.refuse(&Refusal::Overloaded { what: "an event of this length on a socket" }).await?;
                return Ok(None);
            }
        }
        if !turn.is_over() {
            // The gateway ends its streams with an event that says how; this one broke.
            self.refuse(&Refusal::Internal).await?;
            return Ok(None);
        }
        Ok(turn.memory())
    }

    /// Takes room for what is remembered. Without, nobody goes on from it.
    fn remember(&mut self, turn: &mut Turn) {
        if !self.kept.covers(turn.held()) {
            turn.forget();
        }
    }
}
