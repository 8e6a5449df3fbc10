//! The Responses API over a WebSocket that ends in the gateway: each message of the caller becomes a streamed request
//! of its own, which passes through all stages of such a request, and the events of its answer are the messages that go
//! back.
//!
//! So a response that fails can be retried at another target like any other, it is admitted and booked by itself, and
//! the backend need not support WebSockets. A socket adds one thing: the last response that isn't stored is remembered
//! for as long as the connection lives.

mod handshake;
mod message;
mod turn;
mod wire;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use pingora::proxy::Session;
use spillway_plugins::api::Api;
use spillway_plugins::auth::certificate::CertificateNames;
use spillway_plugins::responses_socket::{self as messages, CreateError, Memory};
use tracing::debug;

use super::identify::may_use_api;
use super::intake_outcome::{IntakeError, IntakeOutcome};
use super::refusal::Refusal;
use super::respond::error_body;
use crate::clock::Tick;
use crate::downstream::certificate_names;
use crate::gateway::Gateway;
use crate::request::{BufferShare, Counted, End, Facts, Reply, Timing};
use crate::timer::Timer;
use crate::under_way::UnderWay;
pub(super) use handshake::is_asked;
use turn::{RunningTurn, TurnOutput};
use wire::{Received, Wire, close};

/// Longest life of a socket, as at OpenAI and Azure.
const LONGEST: Duration = Duration::from_secs(60 * 60);
/// The message that its caller gets then, in the words that clients know.
const TOO_OLD: &[u8] = br#"{"error":{"type":"invalid_request_error","code":"websocket_connection_limit_reached","message":"a socket is closed after an hour; open another one","param":null}}"#;
/// How long a caller may take to close a socket that has ended.
const GOODBYE: Duration = Duration::from_secs(2);
/// Most messages that may wait while a response is in progress.
const WAITING: usize = 16;
/// Fewer bytes than this take no share of the budget.
const SMALL: usize = 4096;
/// Most bytes that are written at once, within `write_timeout`.
const PIECE: usize = 64 * 1024;

/// Serves a socket to its end.
///
/// # Errors
/// If it is refused, or the caller leaves before the handshake is complete.
pub(super) async fn serve(
    gateway: &Gateway,
    session: &mut Session,
    facts: &mut Facts,
    timing: &mut Timing,
    counted: &mut Counted,
    reply: &mut Reply,
) -> Result<IntakeOutcome, IntakeError> {
    facts.api = Some(Api::Responses);
    may_use_api(facts, Api::Responses)?;
    let mut place = gateway.sockets.take(facts.owner()).ok_or(Refusal::Overloaded { what: "sockets" })?;
    handshake::accept(session, &facts.id).await?;
    reply.status = Some(101);
    timing.note_first(facts.arrived, gateway.clock.now());
    // Its messages count as requests in flight; the socket itself does not.
    counted.end();
    session.set_read_timeout(None);
    let mut socket = Socket::new(gateway, session, facts);
    let end = Box::pin(socket.run(session, place.asked_back())).await;
    reply.bytes_out = socket.bytes_out;
    reply.end = end;
    Ok(IntakeOutcome::Answered)
}

/// A socket's state.
struct Socket<'g> {
    gateway: &'g Gateway,
    facts: &'g Facts,
    wire: Wire,
    /// Path and headers of each of its requests.
    path: String,
    headers: HeaderMap,
    certificate: Option<CertificateNames>,
    running: Option<RunningTurn>,
    waiting: VecDeque<String>,
    /// Share of the budget for the incomplete message, and for those that wait.
    room: BufferShare,
    /// Share of the budget for a message that is about to be sent.
    sending: Option<BufferShare>,
    /// What is remembered of the last response, and its share of the budget.
    memory: Option<(Memory, BufferShare)>,
    number: u64,
    /// Held while a request runs or bytes are to be sent: the gateway doesn't stop until then.
    busy: Option<UnderWay>,
    /// How it will be closed once no request runs.
    ending: Option<Ending>,
    closes: Tick,
    bytes_out: usize,
}

/// How a socket ends.
struct Ending {
    code: u16,
    reason: &'static str,
    /// The last message that is sent before.
    last: Option<String>,
}

/// The next event on a socket.
enum Event {
    Read(Option<Bytes>),
    Output(Option<TurnOutput>),
    Closing(&'static str),
    Late,
}

impl<'g> Socket<'g> {
    fn new(gateway: &'g Gateway, session: &Session, facts: &'g Facts) -> Self {
        let head = session.req_header();
        Socket {
            gateway,
            facts,
            wire: Wire::new(facts.runtime.config.server.max_body),
            path: String::from_utf8_lossy(head.raw_path()).into_owned(),
            headers: handshake::own_headers(&head.headers),
            certificate: certificate_names(session).cloned(),
            running: None,
            waiting: VecDeque::new(),
            room: BufferShare::of(&gateway.buffered, facts.buffered()),
            sending: None,
            memory: None,
            number: 0,
            busy: None,
            ending: None,
            closes: gateway.clock.now() + LONGEST,
            bytes_out: 0,
        }
    }

    async fn run(&mut self, session: &mut Session, asked_back: impl Future<Output = ()>) -> End {
        let closed = self.gateway.closed.notified();
        tokio::pin!(closed, asked_back);
        closed.as_mut().enable();
        if self.gateway.is_closing() {
            self.end(close::AWAY, STOPS);
        }
        let mut timer = Timer::default();
        loop {
            while self.running.is_none() && !self.wire.is_over() {
                let Some(text) = self.waiting.pop_front() else { break };
                self.busy.get_or_insert_with(|| UnderWay::new(&self.gateway.busy_sockets));
                self.begin(text).await;
                self.has_room();
            }
            if self.running.is_none()
                && !self.wire.is_over()
                && let Some(ending) = &mut self.ending
            {
                if let Some(last) = ending.last.take() {
                    self.wire.say(last);
                }
                self.wire.close(ending.code, ending.reason);
                self.closes = self.gateway.clock.now() + GOODBYE;
            }
            if self.flush(session).await.is_err() {
                return End::CallerLeft;
            }
            if self.wire.is_done() {
                return End::Complete;
            }
            if self.running.is_none() {
                self.busy = None;
            }
            let event = tokio::select! {
                biased;
                output = turn::next(&mut self.running) => Event::Output(output),
                read = session.downstream_session.read_request_body() => Event::Read(read.ok().flatten()),
                () = closed.as_mut(), if self.ending.is_none() => Event::Closing(STOPS),
                () = asked_back.as_mut(), if self.ending.is_none() => Event::Closing("another caller needs a socket"),
                () = timer.until(self.closes, &self.gateway.clock) => Event::Late,
            };
            match event {
                Event::Read(Some(bytes)) => self.receive(&bytes),
                Event::Read(None) if self.wire.is_over() => return End::Complete,
                Event::Read(None) => return End::CallerLeft,
                Event::Output(Some(TurnOutput::Message(text, room))) => {
                    self.wire.say(text);
                    self.sending = room;
                }
                Event::Output(Some(TurnOutput::Over(memory))) => {
                    self.memory = memory.or(self.memory.take());
                    self.running = None;
                }
                Event::Output(None) => {
                    self.refuse(&Refusal::Internal, None);
                    self.running = None;
                }
                Event::Closing(why) => self.end(close::AWAY, why),
                Event::Late if self.wire.is_over() => return End::Complete,
                // The request in progress may finish.
                Event::Late => {
                    self.closes = Tick::NEVER;
                    self.end(close::AWAY, "a socket is closed after an hour");
                    if let Some(ending) = &mut self.ending {
                        ending.last.get_or_insert(messages::error(400, TOO_OLD, &[]));
                    }
                }
            }
        }
    }

    /// From here on no new request starts, and messages are ignored.
    fn end(&mut self, code: u16, reason: &'static str) {
        self.waiting.clear();
        self.wire.ignore_messages();
        self.has_room();
        self.ending.get_or_insert(Ending { code, reason, last: None });
    }

    async fn flush(&mut self, session: &mut Session) -> pingora::Result<()> {
        while let Some(bytes) = self.wire.take_out(PIECE) {
            self.bytes_out += bytes.len();
            session.downstream_session.write_response_body(bytes, false).await?;
        }
        self.sending = None;
        Ok(())
    }

    /// Takes what the caller sends.
    fn receive(&mut self, mut bytes: &[u8]) {
        while let Some(received) = self.wire.receive(&mut bytes) {
            match received {
                Received::Text(text) if self.waiting.len() < WAITING => self.waiting.push_back(text),
                Received::Text(_) => self.refuse(&Refusal::Overloaded { what: "messages that wait on this socket" }, None),
                Received::Broken(code, why) => {
                    match code {
                        close::TOO_LONG => self.refuse(&Refusal::TooLarge { limit: self.facts.runtime.config.server.max_body }, None),
                        _ => self.refuse(&Refusal::Form { what: why }, None),
                    }
                    return self.end(code, why);
                }
            }
        }
        if !self.has_room() {
            self.refuse(&Refusal::Overloaded { what: "messages on sockets" }, None);
            self.end(close::AGAIN, "there is no room for the message");
        }
    }

    /// Adjusts the share of the budget to what is held.
    fn has_room(&mut self) -> bool {
        let held = self.wire.held() + self.waiting.iter().map(String::capacity).sum::<usize>();
        self.room.set(if held <= SMALL { 0 } else { held })
    }

    /// Sends the error for a message that is not a valid request.
    fn no_request(&mut self, error: &CreateError) {
        let code = error.code();
        self.gateway.metrics.requests.rejection(code);
        let error =
            serde_json::json!({ "type": "invalid_request_error", "code": code, "message": error.to_string(), "param": error.field() });
        let body = serde_json::json!({ "error": error }).to_string();
        self.wire.say(messages::error(400, body.as_bytes(), &[]));
    }

    /// Sends the reason why a message is refused.
    fn refuse(&mut self, refusal: &Refusal, field: Option<&'static str>) {
        let shape = refusal.shape();
        self.gateway.metrics.requests.rejection(shape.code);
        debug!(id = %self.facts.id, code = shape.code, "a message on a socket is refused");
        let mut body = error_body(refusal, self.facts.dialect, &self.facts.id);
        if let (Some(field), Ok(mut error)) = (field, serde_json::from_slice::<serde_json::Value>(&body)) {
            error["error"]["param"] = field.into();
            body = error.to_string().into_bytes();
        }
        self.wire.say(messages::error(shape.status.as_u16(), &body, &[]));
    }
}

/// Why a socket is closed when the gateway stops.
const STOPS: &str = "the gateway is stopping";

#[cfg(test)]
mod tests;
