//! The Responses API over a WebSocket, which ends here: each message of the caller is a streamed request of its own, with
//! everything that such a request passes through, and the events of its answer are the messages that go back.
//!
//! So a response that meets a failure moves on like any other, is admitted and booked by itself, and a backend need not
//! know of sockets. What a socket adds is one thing: the last response that isn't stored lives as long as the connection.

mod handshake;
mod turn;
mod wire;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use pingora::proxy::Session;
use spillway_plugins::api::Api;
use spillway_plugins::auth::certificate::CertificateNames;
use spillway_plugins::responses_socket::{self as messages, Create, CreateError, Memory};
use tracing::debug;
use tungstenite::Utf8Bytes;
use tungstenite::protocol::frame::coding::CloseCode;

use super::Gateway;
use super::ctx::{End, RequestCtx};
use super::identify::{certificate, may_use_api, may_use_model};
use super::refusal::Refusal;
use super::replay::BufferShare;
use super::respond::error_body;
use super::step::{Next, Stop};
use super::timer::Timer;
use crate::clock::Tick;
pub(super) use handshake::is_asked;
use turn::{Asked, Running, Told};
use wire::{Heard, Wire};

/// A socket lives as long as one of OpenAI's or Azure's.
const LONGEST: Duration = Duration::from_secs(60 * 60);
/// What its caller is told then, in the words that callers know.
const TOO_OLD: &[u8] = br#"{"error":{"type":"invalid_request_error","code":"websocket_connection_limit_reached","message":"a socket lives for an hour; open another one","param":null}}"#;
/// How long a caller may take to close a socket that has ended.
const GOODBYE: Duration = Duration::from_secs(2);
/// Messages that may wait for the response before theirs.
const WAITING: usize = 16;
/// A message that is no longer than this needs no room of its own.
const SMALL: usize = 4096;

/// Serves a socket to its end.
///
/// # Errors
/// If it is refused, or the caller is gone before it stands.
pub(super) async fn serve(gateway: &Gateway, session: &mut Session, ctx: &mut RequestCtx) -> Result<Next, Stop> {
    ctx.api = Some(Api::Responses);
    may_use_api(ctx, Api::Responses)?;
    handshake::accept(session, &ctx.id).await?;
    ctx.status = Some(101);
    ctx.note_first(gateway.clock.now());
    session.set_read_timeout(None);
    let mut socket = Socket::new(gateway, session, ctx);
    let end = Box::pin(socket.run(session)).await;
    ctx.bytes_out = socket.bytes_out;
    ctx.end = end;
    Ok(Next::Answered)
}

/// A socket's state.
struct Socket<'g> {
    gateway: &'g Gateway,
    ctx: &'g RequestCtx,
    wire: Wire,
    /// What each of its requests is sent with.
    path: String,
    headers: HeaderMap,
    certificate: Option<CertificateNames>,
    running: Option<Running>,
    waiting: VecDeque<Utf8Bytes>,
    /// Room for what has come of a message, and for those that wait.
    room: Option<BufferShare>,
    coming: usize,
    /// The last response, and the room for what is known of it.
    memory: Option<(Memory, BufferShare)>,
    number: u64,
    /// How it is to end once nothing runs.
    ending: Option<Ending>,
    closes: Tick,
    bytes_out: usize,
}

/// How a socket ends.
struct Ending {
    code: CloseCode,
    reason: &'static str,
    /// The last message.
    last: Option<String>,
}

/// What happens next on a socket.
enum Event {
    Read(Option<Bytes>),
    Told(Option<Told>),
    Closing,
    Late,
}

impl<'g> Socket<'g> {
    fn new(gateway: &'g Gateway, session: &Session, ctx: &'g RequestCtx) -> Self {
        let head = session.req_header();
        Socket {
            gateway,
            ctx,
            wire: Wire::new(ctx.runtime.config.server.max_body),
            path: String::from_utf8_lossy(head.raw_path()).into_owned(),
            headers: handshake::own_headers(&head.headers),
            certificate: certificate(session).cloned(),
            running: None,
            waiting: VecDeque::new(),
            room: None,
            coming: 0,
            memory: None,
            number: 0,
            ending: None,
            closes: gateway.clock.now() + LONGEST,
            bytes_out: 0,
        }
    }

    async fn run(&mut self, session: &mut Session) -> End {
        let closed = self.gateway.closed.notified();
        tokio::pin!(closed);
        closed.as_mut().enable();
        let mut told_closing = self.gateway.is_closing();
        if told_closing {
            self.end(CloseCode::Away, "the gateway stops");
        }
        let mut timer = Timer::default();
        loop {
            while self.running.is_none() && !self.wire.is_over() {
                let Some(text) = self.waiting.pop_front() else { break };
                self.begin(&text);
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
            let event = tokio::select! {
                biased;
                told = turn::next(&mut self.running) => Event::Told(told),
                read = session.downstream_session.read_request_body() => Event::Read(read.ok().flatten()),
                () = closed.as_mut(), if !told_closing => Event::Closing,
                () = timer.until(self.closes, &self.gateway.clock) => Event::Late,
            };
            match event {
                Event::Read(Some(bytes)) => self.hear(&bytes),
                Event::Read(None) if self.wire.is_over() => return End::Complete,
                Event::Read(None) => return End::CallerLeft,
                Event::Told(Some(Told::Message(text))) => self.wire.say(text),
                Event::Told(Some(Told::Over(memory))) => {
                    self.memory = memory.or(self.memory.take());
                    self.running = None;
                }
                Event::Told(None) => {
                    self.refuse(&Refusal::Internal, None);
                    self.running = None;
                }
                Event::Closing => {
                    told_closing = true;
                    self.end(CloseCode::Away, "the gateway stops");
                }
                Event::Late if self.wire.is_over() => return End::Complete,
                // What runs may end.
                Event::Late => {
                    self.closes = Tick::NEVER;
                    self.end(CloseCode::Away, "a socket lives for an hour");
                    if let Some(ending) = &mut self.ending {
                        ending.last.get_or_insert(messages::error(400, TOO_OLD, &[]));
                    }
                }
            }
        }
    }

    /// Nothing new begins.
    fn end(&mut self, code: CloseCode, reason: &'static str) {
        self.waiting.clear();
        self.ending.get_or_insert(Ending { code, reason, last: None });
    }

    async fn flush(&mut self, session: &mut Session) -> pingora::Result<()> {
        let Some(bytes) = self.wire.take_out() else { return Ok(()) };
        self.bytes_out += bytes.len();
        session.downstream_session.write_response_body(bytes, false).await
    }

    /// Takes what the caller sends.
    fn hear(&mut self, bytes: &[u8]) {
        if self.wire.is_over() && self.ending.is_some() {
            // Only the caller's own close still counts.
            self.wire.feed(bytes);
            while self.wire.next().is_some() {}
            return;
        }
        self.coming += bytes.len();
        if !self.has_room() {
            self.refuse(&Refusal::Overloaded { what: "messages on sockets" }, None);
            return self.end(CloseCode::Again, "no room for the message");
        }
        self.wire.feed(bytes);
        while let Some(heard) = self.wire.next() {
            match heard {
                Heard::Text(text) => {
                    // What remains is the beginning of another one.
                    self.coming = self.coming.min(bytes.len());
                    self.queue(text);
                }
                Heard::Binary => {
                    self.refuse(&Refusal::Form { what: "messages on this socket are text" }, None);
                    return self.end(CloseCode::Unsupported, "messages are text");
                }
                Heard::TooLong => {
                    self.refuse(&Refusal::TooLarge { limit: self.ctx.runtime.config.server.max_body }, None);
                    return self.end(CloseCode::Size, "the message is too long");
                }
                Heard::Broken => {
                    self.refuse(&Refusal::Form { what: "the socket's frames can't be read" }, None);
                    return self.end(CloseCode::Protocol, "frames that can't be read");
                }
            }
        }
        if self.coming == 0 && self.waiting.is_empty() {
            self.room = None;
        }
    }

    fn has_room(&mut self) -> bool {
        let held = self.coming + self.waiting.iter().map(|text| text.len()).sum::<usize>();
        if held <= SMALL {
            self.room = None;
            return true;
        }
        let room = self.room.get_or_insert_with(|| BufferShare::of(&self.gateway.buffered, self.ctx.buffered()));
        room.covers(held)
    }

    fn queue(&mut self, text: Utf8Bytes) {
        if self.ending.is_some() {
            return;
        }
        if self.waiting.len() >= WAITING {
            return self.refuse(&Refusal::Overloaded { what: "messages that wait on this socket" }, None);
        }
        self.waiting.push_back(text);
    }

    /// Begins what a message asks for.
    fn begin(&mut self, text: &str) {
        let create = match Create::read(text) {
            Ok(create) => create,
            Err(error) => return self.no_request(&error),
        };
        self.number += 1;
        // By its name it is the last one, or one that a backend knows.
        let previous = create.previous();
        let known = previous.as_deref().is_some_and(|id| self.memory.as_ref().is_some_and(|(memory, _)| memory.is_of(id)));
        // If it fails it is forgotten.
        let before = if known { self.memory.take() } else { None };
        let before = before.as_ref().map(|(memory, _)| memory);
        let asked = (!create.is_stored() || create.is_warm_up()).then(|| match before {
            Some(before) => before.followed_by(create.items()),
            None => create.items(),
        });
        if create.is_warm_up() {
            return self.warm_up(&create, asked.unwrap_or_default());
        }
        let mut headers = self.headers.clone();
        handshake::number(&mut headers, &self.ctx.id, self.number);
        let asked = Asked {
            path: self.path.clone(),
            headers,
            body: create.body(before).into(),
            certificate: self.certificate.clone(),
            remembered: asked,
            previous,
        };
        self.running = Some(turn::begin(self.gateway, asked, self.ctx.buffered()));
    }

    /// Keeps what is given for the next one; no backend is asked.
    fn warm_up(&mut self, create: &Create<'_>, items: String) {
        let Some(model) = create.model() else { return self.refuse(&spillway_plugins::request::BodyError::NoModel.into(), Some("model")) };
        let runtime = &self.ctx.runtime;
        let allowed = match runtime.model(model) {
            None => Err(Refusal::UnknownModel { model: model.chars().take(128).collect() }),
            Some(known) => may_use_model(self.ctx, Api::Responses, model, &runtime.pools[known.pool].config),
        };
        if let Err(refusal) = allowed {
            return self.refuse(&refusal, Some("model"));
        }
        let id = format!("resp_{}", super::request_id::new());
        let mut room = BufferShare::of(&self.gateway.buffered, self.ctx.buffered());
        if !room.covers(items.len()) {
            return self.refuse(&Refusal::Overloaded { what: "messages on sockets" }, None);
        }
        for message in messages::warm_up(&id, model, self.gateway.clock.wall().timestamp()) {
            self.wire.say(message);
        }
        self.memory = Some((Memory::new(id, items), room));
    }

    fn no_request(&mut self, error: &CreateError) {
        let code = if matches!(error, CreateError::Type(_)) { "unsupported_message" } else { "invalid_json" };
        self.gateway.metrics.rejection(code);
        let error =
            serde_json::json!({ "type": "invalid_request_error", "code": code, "message": error.to_string(), "param": error.field() });
        let body = serde_json::json!({ "error": error }).to_string();
        self.wire.say(messages::error(400, body.as_bytes(), &[]));
    }

    /// Tells why a message is not served.
    fn refuse(&mut self, refusal: &Refusal, field: Option<&'static str>) {
        let shape = refusal.shape();
        self.gateway.metrics.rejection(shape.code);
        debug!(id = %self.ctx.id, code = shape.code, "a message on a socket is refused");
        let mut body = error_body(refusal, self.ctx.dialect, &self.ctx.id);
        if let (Some(field), Ok(mut told)) = (field, serde_json::from_slice::<serde_json::Value>(&body)) {
            told["error"]["param"] = field.into();
            body = told.to_string().into_bytes();
        }
        self.wire.say(messages::error(shape.status.as_u16(), &body, &[]));
    }
}
