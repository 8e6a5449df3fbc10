//! One request of a socket: it is sent through the gateway like any other, and its answer goes back as messages.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use spillway_plugins::api::Dialect;
use spillway_plugins::auth::certificate::CertificateNames;
use spillway_plugins::responses_socket::{self as messages, Memory, Turn};
use spillway_plugins::sse::{Fate, Splitter};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::gateway::Gateway;
use crate::proxy::offload::of_length;
use crate::proxy::refusal::Refusal;
use crate::proxy::respond::error_body;
use crate::request::BufferShare;
use crate::self_request::{self, OnBehalfOf};
use crate::shares::Owner;

/// Longest event, and longest plain answer: it may contain an image.
const LONGEST: usize = 32 << 20;
/// Longest error.
const LONGEST_ERROR: usize = 1 << 20;
/// Fewer bytes than this take no share of the budget.
const SMALL: usize = 64 * 1024;
/// Most messages that may wait to be sent.
const WAITING: usize = 8;
/// Headers of an answer that are sent with an error.
const TOLD: [&str; 4] = ["retry-after", "retry-after-ms", "x-should-retry", "x-request-id"];
/// There is no memory for an event or an answer.
const NO_ROOM: Refusal = Refusal::Overloaded { what: "events on sockets" };

/// A request to be sent.
pub(super) struct TurnRequest {
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    /// The body returns its share of the budget when it is sent.
    pub(super) body: Bytes,
    pub(super) certificate: Option<CertificateNames>,
    /// What the connection remembers of it, if it must, and the share of the budget for that.
    pub(super) remembered: Option<(Memory, BufferShare)>,
    /// The response that it continues.
    pub(super) previous: Option<String>,
    pub(super) owner: Owner,
    /// Counts the bytes that its consumer's bodies take.
    pub(super) held: Option<Arc<AtomicUsize>>,
}

/// An output of a request in progress.
pub(super) enum TurnOutput {
    /// A message to the caller, and the share of the budget if it is long.
    Message(String, Option<BufferShare>),
    /// The last output: what the connection remembers from now on.
    Over(Option<(Memory, BufferShare)>),
}

/// A request in progress; dropping it cancels the request.
pub(super) struct RunningTurn {
    outputs: mpsc::Receiver<TurnOutput>,
    task: AbortHandle,
}

impl Drop for RunningTurn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The next output; never, if no request runs.
pub(super) async fn next(running: &mut Option<RunningTurn>) -> Option<TurnOutput> {
    match running {
        Some(running) => running.outputs.recv().await,
        None => std::future::pending().await,
    }
}

/// Starts a request.
pub(super) fn begin(gateway: &Gateway, asked: TurnRequest) -> RunningTurn {
    let (output, outputs) = mpsc::channel(WAITING);
    let gateway = gateway.clone();
    let task = tokio::spawn(async move {
        let room = BufferShare::of(&gateway.buffered, asked.held.clone());
        let mut runner = TurnRunner { gateway, output, room, owner: asked.owner.clone(), held: asked.held.clone(), kept: None };
        let memory = match runner.run(asked).await {
            Ok(memory) => memory.zip(runner.kept.take()),
            Err(Stop::Refused(refusal)) => {
                let body = error_body(&refusal, Dialect::OpenAi, "");
                let error = messages::error(refusal.shape().status.as_u16(), &body, &[]);
                let _ = runner.output.send(TurnOutput::Message(error, None)).await;
                None
            }
            Err(Stop::Gone) => return,
        };
        // If the socket is closed, this is not needed.
        let _ = runner.output.send(TurnOutput::Over(memory)).await;
    });
    RunningTurn { outputs, task: task.abort_handle() }
}

/// Why a request ends before its answer does.
enum Stop {
    /// The socket is closed.
    Gone,
    Refused(Refusal),
}

struct TurnRunner {
    gateway: Gateway,
    output: mpsc::Sender<TurnOutput>,
    owner: Owner,
    held: Option<Arc<AtomicUsize>>,
    /// Share of the budget for the incomplete event.
    room: BufferShare,
    /// Share of the budget for what is remembered.
    kept: Option<BufferShare>,
}

impl TurnRunner {
    async fn run(&mut self, asked: TurnRequest) -> Result<Option<Memory>, Stop> {
        let (memory, kept) = asked.remembered.unzip();
        self.kept = kept;
        let whom = OnBehalfOf::Sent { certificate: asked.certificate };
        let busy = |_| Stop::Refused(Refusal::Overloaded { what: "requests in flight" });
        let answer = self.gateway.internal.ask(&asked.path, asked.headers, asked.body, whom).await.map_err(busy)?;
        let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is_stream = kind.trim_start().to_ascii_lowercase().starts_with("text/event-stream");
        match answer.status() {
            StatusCode::OK if is_stream => self.stream(answer.into_body(), Turn::new(memory)).await,
            StatusCode::OK => self.plain(answer.into_body(), Turn::new(memory)).await,
            _ => self.error(answer, asked.previous).await.map(|()| None),
        }
    }

    /// Sends a message; a long one takes a share of the budget until it is sent.
    async fn say(&self, message: String) -> Result<(), Stop> {
        let mut room = None;
        if message.len() > SMALL {
            let share = room.insert(BufferShare::of(&self.gateway.buffered, self.held.clone()));
            if !share.covers(message.len()) {
                return Err(Stop::Refused(NO_ROOM));
            }
        }
        self.output.send(TurnOutput::Message(message, room)).await.map_err(|_| Stop::Gone)
    }

    /// Sends the error in an answer.
    async fn error(&self, answer: http::Response<Incoming>, previous: Option<String>) -> Result<(), Stop> {
        let status = answer.status().as_u16();
        let headers = answer.headers().clone();
        let told: Vec<(&str, &str)> = TOLD.iter().filter_map(|name| Some((*name, headers.get(*name)?.to_str().ok()?))).collect();
        let body = self_request::read(answer, LONGEST_ERROR).await.unwrap_or_default();
        let mut error = messages::error(status, &body, &told);
        if let Some(previous) = previous {
            error = messages::of_previous(error, &previous);
        }
        self.say(error).await
    }

    /// Sends the answer of a backend that doesn't stream.
    async fn plain(&mut self, mut body: Incoming, turn: Turn) -> Result<Option<Memory>, Stop> {
        let mut text = Vec::new();
        while let Some(frame) = body.frame().await {
            let Some(piece) = frame.ok().and_then(|frame| frame.into_data().ok()) else { return Err(Stop::Refused(Refusal::Internal)) };
            text.extend_from_slice(&piece);
            self.has_room(text.len())?;
        }
        match String::from_utf8(text) {
            Ok(text) if text.trim_start().starts_with('{') => {
                let (turn, message) = self.read(turn, text, |text| messages::whole(&text)).await?;
                self.say(message).await?;
                Ok(self.remembered(turn))
            }
            _ => Err(Stop::Refused(Refusal::Internal)),
        }
    }

    async fn stream(&mut self, mut body: Incoming, mut turn: Turn) -> Result<Option<Memory>, Stop> {
        let mut splitter = Splitter::keeping(LONGEST);
        while let Some(frame) = body.frame().await {
            let Some(piece) = frame.ok().and_then(|frame| frame.into_data().ok()) else { break };
            // The answer is read to its end even if no more messages come, so that its request ends well.
            if turn.is_over() {
                continue;
            }
            let (mut events, mut cut) = (Vec::new(), false);
            splitter.feed(piece, |event| {
                match std::str::from_utf8(&event.data) {
                    Ok(data) if event.cut.is_none() => events.push(data.trim().to_owned()),
                    _ => cut = true,
                }
                Fate::Pass
            });
            self.has_room(if cut { usize::MAX } else { splitter.held() })?;
            for data in events.into_iter().filter(|data| data.starts_with('{')) {
                let message;
                (turn, message) = self.read(turn, data, |data| data).await?;
                self.remember(&mut turn);
                self.say(message).await?;
                if turn.is_over() {
                    break;
                }
            }
        }
        match turn.is_over() {
            true => Ok(self.remembered(turn)),
            // The gateway ends its streams with an event that says how they ended; this one broke.
            false => Err(Stop::Refused(Refusal::Internal)),
        }
    }

    /// Adjusts the share of the budget to what is held.
    fn has_room(&mut self, held: usize) -> Result<(), Stop> {
        match held <= LONGEST && self.room.set(if held > SMALL { held } else { 0 }) {
            true => Ok(()),
            false => Err(Stop::Refused(NO_ROOM)),
        }
    }

    /// Reads a response's event or answer. A long one is read on a blocking thread.
    async fn read(&self, mut turn: Turn, told: String, to_event: fn(String) -> String) -> Result<(Turn, String), Stop> {
        let length = told.len();
        let work = move || {
            let message = turn.event(&to_event(told));
            (turn, message)
        };
        of_length(&self.gateway.turns, self.owner.clone(), length, work).await.map_err(Stop::Refused)
    }

    /// Takes a share of the budget for what is remembered. If there is none, no later message can continue this
    /// response.
    fn remember(&mut self, turn: &mut Turn) {
        if self.kept.as_mut().is_some_and(|kept| !kept.covers(turn.held())) {
            turn.forget();
            self.kept = None;
        }
    }

    fn remembered(&mut self, mut turn: Turn) -> Option<Memory> {
        self.remember(&mut turn);
        turn.memory()
    }
}
