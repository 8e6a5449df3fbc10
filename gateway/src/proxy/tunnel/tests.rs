//! The hooks of Pingora's loop, called as it calls them.

mod drivers;
mod sockets;
mod uploads;

use std::time::Duration;

use spillway_plugins::api::Api;
use spillway_plugins::multipart::FormReader;

use super::*;
use crate::balance::target::Unavailable;
use crate::proxy::ctx::RequestCtx;
use crate::proxy::fixtures::{self, CHAT, CallerEnd, Setup, buffer, consumer, context, facts, facts_of, gateway, get};
use crate::request::RequestBody;

const ASKS: [(&str, &str); 4] = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// A request that was taken in for Pingora's loop.
struct Line {
    gateway: Gateway,
    session: Box<Session>,
    _caller: CallerEnd,
    ctx: RequestCtx,
}

async fn line(gateway: Gateway, facts: Facts, api: Api, request: &str, tunnel: Tunnel) -> Line {
    for backend in &gateway.runtime.load().backends {
        backend.upstream.as_ref().unwrap().peers.set(&["192.0.2.1:80".parse().unwrap()]);
    }
    let (session, caller) = fixtures::pingora_session(request).await;
    let mut ctx = context(&gateway, facts, api, CHAT);
    (ctx.body, ctx.tunnel) = (RequestBody::default(), Some(Box::new(tunnel)));
    ctx.model_request.as_mut().unwrap().fields = Default::default();
    Line { gateway, session, _caller: caller, ctx }
}

async fn socket_of(setup: Setup<'_>) -> Line {
    let gateway = setup.gateway();
    let facts = facts(&gateway);
    line(gateway, facts, Api::Realtime, &get("/v1/realtime?model=m", &ASKS), Tunnel::web_socket()).await
}

const BEGUN: &str = "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nabc";

/// An upload of which this has come. The path names its model.
async fn upload_of(setup: Setup<'_>) -> Line {
    let gateway = setup.gateway();
    let mut form = FormReader::new("XX");
    form.push(BEGUN.as_bytes()).unwrap();
    let fields = [("content-type", "multipart/form-data; boundary=XX"), ("content-length", "5000000")];
    let request = get("/openai/deployments/m/audio/transcriptions", &fields).replacen("GET", "POST", 1);
    let tunnel = Tunnel::upload(buffer(&gateway, BEGUN).finish(), Some(form));
    let facts = facts(&gateway);
    line(gateway, facts, Api::Transcriptions, &request, tunnel).await
}

impl Line {
    fn tunnel(&self) -> &Tunnel {
        self.ctx.tunnel.as_ref().unwrap()
    }

    async fn peer(&mut self) -> pingora::Result<Box<HttpPeer>> {
        peer(&self.gateway, self.ctx.tunnelled()).await
    }

    /// The member that is chosen.
    async fn member(&mut self) -> usize {
        assert!(self.peer().await.is_ok());
        self.tunnel().attempt.as_ref().unwrap().member
    }

    fn head(&mut self) -> pingora::Result<RequestHeader> {
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        request(&self.gateway, &self.session, &mut head, self.ctx.tunnelled().unwrap())?;
        Ok(head)
    }

    fn judge(&mut self, status: u16) -> pingora::Result<()> {
        let head = ResponseHeader::build(status, None).unwrap();
        judge_head(&self.gateway, &head, self.ctx.tunnelled().unwrap())
    }

    fn closed(&self, member: usize) -> Option<Unavailable> {
        let target = &self.ctx.model_request.as_ref().unwrap().model.route.members()[member].target;
        target.closed(self.gateway.clock.now())
    }

    fn outcomes(&self) -> Vec<&'static str> {
        self.ctx.attempts.records.iter().map(|made| made.outcome.label()).collect()
    }

    fn finish(&mut self, error: Option<&Error>) -> End {
        finish(&self.gateway, self.ctx.tunnelled().unwrap(), error);
        self.ctx.reply.end
    }
}

fn field(head: &RequestHeader, name: &str) -> Option<String> {
    head.headers.get(name).map(|value| value.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn the_selector_is_asked_until_nobody_is_left() {
    let mut socket = socket_of(Setup { pool: "timeouts = { connect = \"3s\", answer = \"9s\" }", ..Setup::default() }).await;
    let peer = socket.peer().await.unwrap();
    assert_eq!((peer.options.total_connection_timeout, peer.options.read_timeout), (Some(Duration::from_secs(3)), None));
    assert_eq!((socket.tunnel().attempt.as_ref().unwrap().member, socket.tunnel().prefix_due), (0, false));
    assert_eq!(socket.member().await, 1, "each is tried once");
    let error = socket.peer().await.unwrap_err();
    assert_eq!(error.etype(), &ErrorType::ConnectNoRoute);
    let refusal = refusal(&socket.gateway, socket.ctx.tunnelled()).unwrap();
    assert_eq!(refusal, Refusal::NoneAvailable { model: "m".to_owned(), retry_after: None });
    let mut upload = upload_of(Setup { pool: "timeouts = { answer = \"9s\" }", ..Setup::default() }).await;
    assert_eq!(upload.peer().await.unwrap().options.read_timeout, Some(Duration::from_secs(9)));
    assert!(upload.tunnel().prefix_due && !upload.tunnel().retry_state.as_ref().unwrap().key.whole);
    assert!(super::peer(&upload.gateway, None).await.is_err());
}

#[tokio::test]
async fn a_target_gets_the_request_in_its_own_form() {
    let backend = "auth = { type = \"api-key\", key = \"secret\" }\ndeployments = { m = \"deployed\" }";
    let mut socket = socket_of(Setup { backend, ..Setup::default() }).await;
    socket.member().await;
    let head = socket.head().unwrap();
    assert_eq!((head.method.as_str(), head.raw_path()), ("GET", &b"/v1/realtime?model=deployed"[..]));
    assert_eq!((field(&head, "upgrade").as_deref(), field(&head, "authorization").as_deref()), (Some("websocket"), Some("Bearer secret")));
    assert!(socket.tunnel().attempt.as_ref().unwrap().sent);
    let mut upload = upload_of(Setup { backend, ..Setup::default() }).await;
    upload.member().await;
    let head = upload.head().unwrap();
    let part = headers::model_part(upload.session.req_header(), "deployed").len();
    assert_eq!((head.method.as_str(), field(&head, "content-length")), ("POST", Some((5_000_000 + part).to_string())));
    assert_eq!(field(&head, "transfer-encoding"), None);
}

#[tokio::test]
async fn one_without_a_credential_is_passed_over() {
    let mut socket = socket_of(Setup { backend: "auth = { type = \"managed-identity\" }", ..Setup::default() }).await;
    socket.gateway.runtime.load().backends[0].upstream.as_ref().unwrap().credential.set(true);
    assert_eq!(socket.member().await, 0);
    let error = socket.head().unwrap_err();
    assert!(error.retry() && socket.tunnel().attempt.is_none());
    assert_eq!((socket.outcomes(), socket.closed(0)), (vec!["no_credential"], None));
}

#[tokio::test]
async fn a_socket_moves_on_until_it_is_one() {
    let mut socket = socket_of(Setup::default()).await;
    socket.member().await;
    assert!(socket.judge(100).is_ok() && !socket.tunnel().answered, "that says nothing yet");
    let error = socket.judge(429).unwrap_err();
    assert!(error.retry() && matches!(socket.closed(0), Some(Unavailable::Throttled(_))));
    assert_eq!(socket.member().await, 1);
    assert!(socket.judge(101).is_ok() && socket.tunnel().answered);
    assert_eq!((socket.ctx.reply.status, socket.outcomes()), (Some(101), vec!["throttled"]));
    let hung_up = Error::explain(ErrorType::ConnectionClosed, "hung up").into_up();
    assert_eq!((socket.finish(Some(&hung_up)), socket.outcomes()), (End::Cut, vec!["throttled", "reset"]), "it broke off without a word");
}

#[tokio::test]
async fn a_socket_that_is_refused_everywhere_has_no_retry_left() {
    let mut socket = socket_of(Setup { pool: "retry = { max_attempts = 2 }", ..Setup::default() }).await;
    socket.member().await;
    assert!(socket.judge(500).unwrap_err().retry());
    socket.member().await;
    assert!(!socket.judge(504).unwrap_err().retry());
    assert_eq!(socket.outcomes(), ["failed", "failed"]);
    let told = refusal(&socket.gateway, socket.ctx.tunnelled()).unwrap();
    assert_eq!(told, Refusal::UpstreamTimeout { model: "m".to_owned(), retry_after: None });
    let mut socket = socket_of(Setup::default()).await;
    socket.member().await;
    assert!(socket.judge(401).unwrap_err().retry() && matches!(socket.closed(0), Some(Unavailable::Out(..))));
}

#[tokio::test]
async fn an_upload_has_what_its_one_target_says() {
    for (status, outcome, closed) in [(200, "ok", false), (400, "caller_fault", false), (500, "failed", false), (429, "throttled", true)] {
        let mut upload = upload_of(Setup::default()).await;
        upload.member().await;
        assert!(upload.judge(status).is_ok(), "{status}");
        assert_eq!((upload.ctx.reply.status, upload.tunnel().answer.is_some()), (Some(status), status == 200));
        assert_eq!(
            (upload.finish(None), upload.outcomes(), upload.closed(0).is_some()),
            (End::Complete, vec![outcome], closed),
            "{status}"
        );
    }
    let mut upload = upload_of(Setup::default()).await;
    upload.member().await;
    assert!(!upload.judge(401).unwrap_err().retry());
    let told = refusal(&upload.gateway, upload.ctx.tunnelled()).unwrap();
    assert!(
        matches!(told, Refusal::UpstreamFailed { last: "misconfigured", upstream: None, .. }),
        "what is said of the gateway's key is not for the caller"
    );
}

#[tokio::test]
async fn an_error_before_the_answer_may_be_tried_elsewhere() {
    let failed = |kind| Error::explain(kind, "x").into_up();
    let broke = |line: &mut Line, error: BError, connecting| broke(&line.gateway, line.ctx.tunnelled(), error, connecting).retry();
    let mut upload = upload_of(Setup::default()).await;
    upload.member().await;
    assert!(broke(&mut upload, failed(ErrorType::ConnectRefused), true), "nothing was sent");
    upload.member().await;
    assert!(!broke(&mut upload, failed(ErrorType::ReadTimedout), false), "a part of it was sent");
    assert_eq!(upload.outcomes(), ["connect", "timeout"]);
    for (kind, again) in [(ErrorType::ConnectRefused, true), (ErrorType::ConnectTimedout, false), (ErrorType::TLSHandshakeTimedout, false)]
    {
        let mut upload = upload_of(Setup { pool: "retry = { max_attempts = 1 }", ..Setup::default() }).await;
        upload.member().await;
        assert_eq!(broke(&mut upload, failed(kind.clone()), true), again, "{kind:?}: lost time is counted");
    }
    let mut socket = socket_of(Setup::default()).await;
    socket.member().await;
    assert!(broke(&mut socket, failed(ErrorType::ConnectionClosed), false));
    socket.member().await;
    let left = Error::explain(ErrorType::ConnectionClosed, "x").into_down();
    assert!(!broke(&mut socket, left, false));
    assert_eq!(socket.outcomes(), ["reset", "cancelled"]);
    let mut answered = socket_of(Setup::default()).await;
    answered.member().await;
    answered.judge(101).unwrap();
    assert!(!broke(&mut answered, failed(ErrorType::ConnectionClosed), false) && answered.tunnel().attempt.is_some());
    assert!(!super::broke(&answered.gateway, None, failed(ErrorType::ConnectRefused), true).retry());
}

#[tokio::test]
async fn how_an_answer_ended_is_how_its_attempt_did() {
    let error = |up: bool| {
        let error = Error::explain(ErrorType::ConnectionClosed, "x");
        if up { error.into_up() } else { error.into_down() }
    };
    for (error, end, outcome) in [(error(true), End::Cut, "reset"), (error(false), End::Cut, "cancelled")] {
        let mut upload = upload_of(Setup::default()).await;
        upload.member().await;
        upload.judge(200).unwrap();
        assert_eq!((upload.finish(Some(&error)), upload.outcomes()), (end, vec![outcome]));
    }
    let mut none = upload_of(Setup::default()).await;
    assert_eq!((none.finish(None), none.outcomes().len()), (End::CallerLeft, 0), "there was no attempt");
}

#[tokio::test]
async fn a_head_goes_out_as_the_other_drivers_do() {
    let pool = "transform = { response_headers = { set = { x-pool = \"1\" } } }";
    let gateway = Setup { pool, ..Setup::default() }.gateway();
    let fields: Vec<_> = ASKS.iter().copied().chain([("sec-websocket-protocol", "realtime, openai-insecure-api-key.k")]).collect();
    let facts = facts(&gateway);
    let mut socket = line(gateway, facts, Api::Realtime, &get("/v1/realtime?model=m", &fields), Tunnel::web_socket()).await;
    socket.member().await;
    socket.judge(101).unwrap();
    let mut head = ResponseHeader::build(101, None).unwrap();
    for (name, value) in [("server", "theirs"), ("sec-websocket-extensions", "x"), ("sec-websocket-protocol", "openai-insecure-api-key.k")]
    {
        head.insert_header(name, value).unwrap();
    }
    response(&socket.session, &mut head, &socket.ctx.tunnelled().unwrap()).unwrap();
    let field = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let names = ["server", "sec-websocket-extensions", "sec-websocket-protocol", "x-pool", "x-request-id", "x-spillway-backend"];
    let expected = [None, None, Some("realtime"), Some("1"), Some("the-id"), Some("a")];
    assert_eq!(names.map(field), expected.map(|text| text.map(str::to_owned)));
}

#[test]
fn a_failed_handshake_is_another_fault_than_a_failed_connection() {
    for (kind, expected) in [
        (ErrorType::TLSHandshakeFailure, ErrorKind::Tls),
        (ErrorType::InvalidCert, ErrorKind::Tls),
        (ErrorType::ConnectTimedout, ErrorKind::Connect),
    ] {
        assert_eq!(connect_error(&kind), expected);
    }
}
