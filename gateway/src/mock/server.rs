//! The mock on a socket: Azure's paths, headers, limits and faults.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use parking_lot::Mutex;
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream, ServerApp};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::server::ShutdownWatch;
use serde_json::{Value, json};
use spillway_plugins::api::{Api, Dialect};
use spillway_plugins::auth::{Credential, credential};
use spillway_plugins::multipart::{FormError, FormReader, boundary};
use spillway_plugins::service_tier::ServiceTier;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::answer::{Answer, Question, answer, tokens};
use super::body::Body;
use super::buckets::{Arrival, Buckets, Standing};
use super::deployed::{Deployed, Reserved};
use super::fault::MockFault;
use super::forced::{Forced, Switch};
use super::prompt_cache::PromptCache;
use super::settings::{Deployment, Settings};
use super::spill::HeadFacts;
use super::{oversized, refusals};
use crate::clock::Clock;
use crate::config::scalar::DurationText;
use crate::operation::{self, Inference, Operation};

/// Largest body that it accepts.
const MAX_BODY: usize = 64 << 20;

/// A running mock.
pub struct Mock {
    settings: Settings,
    deployed: Mutex<HashMap<String, Deployed>>,
    rng: Mutex<fastrand::Rng>,
    clock: Clock,
    forced: Switch,
    /// Requests that were answered with 200.
    pub served: AtomicU64,
    /// Requests that were refused with 429.
    pub refused: AtomicU64,
}

/// Starts a mock on the current runtime; it runs as long as the returned task.
///
/// # Errors
/// If it can't listen on the address.
pub async fn start(settings: Settings, clock: Clock) -> std::io::Result<(Arc<Mock>, SocketAddr, tokio::task::JoinHandle<()>)> {
    let address = settings.address().map_err(std::io::Error::other)?;
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let rng = settings.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
    let mock = Arc::new(Mock {
        settings,
        deployed: Mutex::default(),
        rng: Mutex::new(rng),
        clock,
        forced: Switch::default(),
        served: AtomicU64::new(0),
        refused: AtomicU64::new(0),
    });
    let app = Arc::clone(&mock);
    let task = tokio::spawn(async move {
        let (_keep, shutdown) = watch::channel(false);
        loop {
            let Ok((tcp, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let _ = tcp.set_nodelay(true);
            let (app, shutdown) = (Arc::clone(&app), shutdown.clone());
            tokio::spawn(async move {
                app.process_new(Box::new(L4Stream::from(tcp)), &shutdown).await;
            });
        }
    });
    Ok((mock, address, task))
}

#[async_trait]
impl HttpServerApp for Mock {
    async fn process_new_http(self: &Arc<Self>, mut session: ServerSession, _: &ShutdownWatch) -> Option<ReusedHttpStream> {
        if !session.read_request().await.ok()? {
            return None;
        }
        session.set_keepalive(Some(60));
        let whole = self.answer(&mut session).await.ok()?;
        if !whole {
            session.shutdown().await;
            return None;
        }
        let settings = HttpPersistentSettings::for_session(&session);
        let stream = session.finish().await.ok()??;
        Some(ReusedHttpStream::from_reusable_stream(stream, settings))
    }
}

/// A request, parsed.
struct MockRequest {
    inference: Inference,
    deployment: String,
    body: Body,
    fault: Option<MockFault>,
    latency: Option<Duration>,
}

/// An error answer.
struct Problem(StatusCode, Value);

fn problem(status: u16, code: &str, message: &str) -> Problem {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Problem(status, json!({ "error": { "code": code, "message": message } }))
}

impl Mock {
    /// Switches a fault on, or off.
    pub fn force(&self, forced: Option<Forced>) {
        self.forced.set(forced);
    }

    /// Answers a request; `false` if the connection must be closed.
    async fn answer(&self, session: &mut ServerSession) -> pingora::Result<bool> {
        let mut asked = match self.read(session).await? {
            Ok(Some(asked)) => asked,
            Ok(None) => {
                let names: Vec<Value> = self
                    .settings
                    .deployments
                    .iter()
                    .map(|one| json!({ "id": one.name, "object": "model", "status": "succeeded" }))
                    .collect();
                return self
                    .write_plain(session, StatusCode::OK, &HeadFacts::default(), &json!({ "object": "list", "data": names }))
                    .await
                    .map(|()| true);
            }
            Err(Problem(status, body)) => return self.write_plain(session, status, &HeadFacts::default(), &body).await.map(|()| true),
        };
        // As Azure, which always names the tier that served.
        asked.body.service_tier.get_or_insert(ServiceTier::Default);
        // `read` has checked it.
        let Some(deployment) = self.settings.deployment(&asked.deployment) else { return Ok(true) };
        let has_tiers = matches!(asked.inference.api, Api::Chat | Api::Responses);
        if has_tiers && asked.body.service_tier == Some(ServiceTier::Flex) && !self.has_flex(deployment) {
            let error = json!({ "type": "resource_unavailable", "code": "flex_unavailable", "message": "There is no capacity for this service tier now.", "param": null });
            self.refused.fetch_add(1, Ordering::Relaxed);
            let body = json!({ "error": error });
            return self.write_plain(session, StatusCode::TOO_MANY_REQUESTS, &HeadFacts::default(), &body).await.map(|()| true);
        }
        let name = asked.deployment.clone();
        let (mut standing, deployment, counters, call) = self.admit(&name, deployment, &mut asked.body);
        let ptu = deployment.limits().ptu;
        let kept = ptu.filter(|_| standing.refused_for.is_none()).map_or(0.0, |ptu| ptu.reserved(&call));
        let mut reserved = Reserved { deployed: &self.deployed, clock: &self.clock, deployment, counters, reserved: kept, used: 0.0 };
        if ptu.is_some_and(|ptu| !ptu.utilisation_header) {
            standing.utilisation = None;
        }
        let fault = asked.fault.or_else(|| self.forced.next(&name)).or_else(|| self.by_chance(deployment));
        if let Some(MockFault::Throttle(ms)) = fault {
            standing.refused_for = Some(Duration::from_millis(ms));
        }
        if let Some(wait) = standing.refused_for {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return self.refuse(session, &standing, wait, deployment.ptu.is_some()).await.map(|()| true);
        }
        if let Some((status, body)) = fault.and_then(refusals::of) {
            self.refused.fetch_add(u64::from(status == StatusCode::TOO_MANY_REQUESTS), Ordering::Relaxed);
            return self.write_plain(session, status, &standing, &body).await.map(|()| true);
        }
        let text = self.text(&asked, deployment);
        let question = Question {
            api: asked.inference.api,
            part: asked.inference.part,
            model: deployment.model.as_deref().unwrap_or(&asked.deployment),
            body: &asked.body,
            text: &text,
            created: self.clock.wall().timestamp(),
            unique: self.rng.lock().u64(..),
            azure: asked.inference.dialect == Dialect::Azure,
        };
        if asked.inference.api == Api::Embeddings && asked.body.inputs.is_none() {
            let Problem(status, body) = problem(400, "BadRequest", "'$.input' is too long: an array has at most 2048 elements.");
            return self.write_plain(session, status, &standing, &body).await.map(|()| true);
        }
        let Some(mut answered) = answer(&question).or_else(|| binary(&asked, &text)) else {
            let Problem(status, body) = problem(404, "404", "Resource not found");
            return self.write_plain(session, status, &standing, &body).await.map(|()| true);
        };
        if let Some(MockFault::Oversized(bytes)) = fault {
            oversized::grow(&mut answered, asked.inference.api, bytes);
        }
        // Also if the caller leaves: a model would have worked, too.
        reserved.used = ptu.map_or(0.0, |ptu| ptu.used(&call, tokens(&text)));
        let whole = self.play(session, deployment, &asked, answered, fault, &standing).await?;
        self.served.fetch_add(1, Ordering::Relaxed);
        Ok(whole)
    }

    /// Parses a request; `None` for a list of models.
    async fn read(&self, session: &mut ServerSession) -> pingora::Result<Result<Option<MockRequest>, Problem>> {
        let mut body = BytesMut::new();
        if session.req_header().headers.contains_key("expect") {
            session.write_continue_response().await?;
        }
        while let Some(piece) = session.read_request_body().await? {
            body.extend_from_slice(&piece);
            if body.len() > MAX_BODY {
                return Ok(Err(problem(413, "RequestEntityTooLarge", "The request is too large.")));
            }
        }
        Ok(self.understand(session, &body.freeze()))
    }

    fn understand(&self, session: &ServerSession, body: &Bytes) -> Result<Option<MockRequest>, Problem> {
        let head = session.req_header();
        let not_found = || problem(404, "404", "Resource not found");
        if !self.settings.keys.is_empty() {
            let known =
                matches!(credential(&head.headers), Credential::Key(key) if self.settings.keys.iter().any(|known| known.as_bytes() == key));
            if !known {
                return Err(problem(
                    401,
                    "401",
                    "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an active subscription and use a correct regional API endpoint for your resource.",
                ));
            }
        }
        let path = head.uri.path();
        let query = head.uri.query().unwrap_or("");
        let inference = match operation::read(&head.method, path, head.uri.query()) {
            Ok(Operation::Inference(inference)) => inference,
            Ok(_) => return Ok(None),
            Err(_) => return Err(not_found()),
        };
        // Only the dated paths need a version.
        if path.starts_with("/openai/")
            && !path.starts_with("/openai/v1/")
            && !query.split('&').any(|pair| pair.starts_with("api-version="))
        {
            return Err(not_found());
        }
        let content_type = head.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or("");
        let no_form = |FormError(what)| problem(400, "BadRequest", what);
        let body = match boundary(content_type).map_err(no_form)? {
            Some(boundary) => {
                let mut form = FormReader::new(boundary);
                form.push(body).map_err(no_form)?;
                Body { model: form.fields().model.clone(), stream: form.fields().stream, ..Body::default() }
            }
            None => {
                Body::read(body).map_err(|error| problem(400, "BadRequest", &format!("The request body is not valid JSON: {error}")))?
            }
        };
        let deployment = inference.model.clone().or_else(|| body.model.clone()).unwrap_or_default();
        if deployment.is_empty() || self.settings.deployment(&deployment).is_none() {
            return Err(problem(
                404,
                "DeploymentNotFound",
                "The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, please wait a moment and try again.",
            ));
        }
        if matches!(inference.api, Api::Chat | Api::Messages) && !body.has_messages {
            return Err(problem(400, "missing_required_parameter", "Missing required parameter: 'messages'."));
        }
        let test_mode = self.settings.test_mode == Some(true);
        let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).filter(|_| test_mode);
        let fault = header("x-mock-fault")
            .map(str::parse)
            .transpose()
            .map_err(|error: super::fault::ParseFaultError| problem(400, "BadRequest", &error.to_string()))?;
        let latency = header("x-mock-latency").and_then(|text| text.parse::<DurationText>().ok()).map(|time| time.0);
        Ok(Some(MockRequest { inference, deployment, body, fault, latency }))
    }

    /// Counts a request, and notes what of its prompt is cached; if the deployment's provisioned throughput is full, at the
    /// one that serves in its place. Returns the deployment that serves, and the name of its counters.
    fn admit<'m>(&'m self, name: &str, deployment: &'m Deployment, body: &mut Body) -> (HeadFacts, &'m Deployment, String, Arrival) {
        let (standing, call) = self.count(name, deployment, body);
        let other = deployment.spillover.as_deref().filter(|_| standing.refused_for.is_some());
        match other.and_then(|other| Some((other, self.settings.deployment(other)?))) {
            Some((other, serves)) => {
                let (standing, call) = self.count(other, serves, body);
                let facts = HeadFacts { standing, spilled: Some((name.to_owned(), other.to_owned())) };
                (facts, serves, serves.counters(other), call)
            }
            None => (standing.into(), deployment, deployment.counters(name), call),
        }
    }

    fn count(&self, name: &str, deployment: &Deployment, body: &mut Body) -> (Standing, Arrival) {
        let (seed, now, limits) = (self.rng.lock().u64(..), self.clock.now(), deployment.limits());
        let mut all = self.deployed.lock();
        let deployed = all
            .entry(deployment.counters(name))
            .or_insert_with(|| Deployed { buckets: Buckets::new(seed), prompts: PromptCache::default() });
        body.cached_tokens = match limits.ptu {
            Some(_) => deployed.prompts.cached(&body.beginnings, now).min(body.prompt_tokens),
            None => 0,
        };
        let call = Arrival { prompt: body.prompt_tokens, cached: body.cached_tokens, cap: body.completion_cap, choices: body.choices };
        (deployed.buckets.admit(&limits, &call, now), call)
    }

    /// Whether there is capacity for the service tier `flex`.
    fn has_flex(&self, deployment: &Deployment) -> bool {
        deployment.flex_available.is_none_or(|share| self.rng.lock().f64() < share)
    }

    fn by_chance(&self, deployment: &Deployment) -> Option<MockFault> {
        let rate = deployment.fault_rate?;
        let hit = self.rng.lock().f64() < rate;
        hit.then(|| deployment.fault.as_deref().and_then(|fault| fault.parse().ok()).unwrap_or(MockFault::Status(500)))
    }

    /// The answer's text: the configured reply, or the name of this mock; cut to the cap as a model's would be.
    fn text(&self, asked: &MockRequest, deployment: &Deployment) -> String {
        let name = self.settings.name.as_deref().unwrap_or("mock");
        let text = self.settings.reply.clone().unwrap_or_else(|| {
            format!(
                "This is {} at {name}. I am only a mock, but I answer in the right shape, at the right pace, and within my limits.",
                deployment.model.as_deref().unwrap_or(&asked.deployment)
            )
        });
        let cap = asked.body.completion_cap.and_then(|cap| usize::try_from(cap).ok());
        match cap {
            Some(cap) => text.chars().take(cap.saturating_mul(4)).collect(),
            None => text,
        }
    }

    fn wait(&self, deployment: &Deployment, base: Option<DurationText>) -> Duration {
        deployment.stray(base, &mut self.rng.lock())
    }

    /// Sends an answer at its pace, with its fault; `false` if the connection must be closed.
    async fn play(
        &self,
        session: &mut ServerSession,
        deployment: &Deployment,
        asked: &MockRequest,
        answer: Answer,
        fault: Option<MockFault>,
        standing: &HeadFacts,
    ) -> pingora::Result<bool> {
        if fault == Some(MockFault::Stall(0)) {
            return stall(session).await;
        }
        let mut first = asked.latency.unwrap_or_else(|| self.wait(deployment, deployment.first_token));
        if let Some(MockFault::Slow(ms)) = fault {
            first += Duration::from_millis(ms);
        }
        let events = match answer {
            Answer::Plain(text) => {
                let length = u32::try_from(tokens(&text)).unwrap_or(0);
                self.clock.sleep(first + self.wait(deployment, deployment.per_token) * length.min(100)).await;
                let half = text.len() / 2;
                if matches!(fault, Some(MockFault::Cut(_))) {
                    session.write_response_header(self.head(StatusCode::OK, "application/json", Some(text.len()), standing)?).await?;
                    session.write_response_body(Bytes::from(text).slice(..half), false).await?;
                    return Ok(false);
                }
                return self.write_text(session, StatusCode::OK, standing, text).await.map(|()| true);
            }
            Answer::Bytes(kind, bytes) => {
                self.clock.sleep(first).await;
                session.write_response_header(self.head(StatusCode::OK, kind, Some(bytes.len()), standing)?).await?;
                session.write_response_body(bytes, true).await?;
                return Ok(true);
            }
            Answer::Stream(events) => events,
        };
        self.clock.sleep(first).await;
        session.write_response_header(self.head(StatusCode::OK, "text/event-stream", None, standing)?).await?;
        let last = events.len().saturating_sub(1);
        for (number, event) in events.into_iter().enumerate() {
            match fault {
                Some(MockFault::Cut(after)) if number == after => return Ok(false),
                Some(MockFault::Stall(after)) if number == after => return stall(session).await,
                Some(MockFault::ErrorEvent) if number == 1 => {
                    let error = json!({ "type": "error", "sequence_number": 2, "error": { "type": "too_many_requests", "code": "too_many_requests", "message": "Rate limit is exceeded. Try again in 2 seconds.", "param": null } });
                    session.write_response_body(format!("event: error\ndata: {error}\n\n").into(), true).await?;
                    return Ok(true);
                }
                Some(MockFault::Malformed) if number == 2 => {
                    session.write_response_body(Bytes::from_static(b"data: {\"choices\": [oops\n\n"), false).await?
                }
                Some(MockFault::NoDone) if number == last => break,
                _ => {}
            }
            session.write_response_body(event, false).await?;
            let pause = self.wait(deployment, deployment.per_token);
            if !pause.is_zero() {
                self.clock.sleep(pause).await;
            }
        }
        session.write_response_body(Bytes::new(), true).await?;
        Ok(true)
    }

    async fn refuse(&self, session: &mut ServerSession, standing: &HeadFacts, wait: Duration, ptu: bool) -> pingora::Result<()> {
        let seconds = wait.as_secs_f64().ceil().max(1.0);
        let message = format!(
            "Requests to the ChatCompletions_Create Operation under Azure OpenAI API have exceeded {} of your current OpenAI pricing tier. Please retry after {seconds} seconds.",
            if ptu { "the provisioned throughput" } else { "token rate limit" }
        );
        let body = json!({ "error": { "code": "429", "message": message } }).to_string();
        let mut head = self.head(StatusCode::TOO_MANY_REQUESTS, "application/json", Some(body.len()), standing)?;
        head.insert_header("retry-after", format!("{seconds}"))?;
        head.insert_header("retry-after-ms", wait.as_millis().max(1).to_string())?;
        session.write_response_header(head).await?;
        session.write_response_body(body.into(), true).await
    }

    async fn write_plain(
        &self,
        session: &mut ServerSession,
        status: StatusCode,
        standing: &HeadFacts,
        body: &Value,
    ) -> pingora::Result<()> {
        self.write_text(session, status, standing, body.to_string()).await
    }

    async fn write_text(&self, session: &mut ServerSession, status: StatusCode, standing: &HeadFacts, text: String) -> pingora::Result<()> {
        session.write_response_header(self.head(status, "application/json", Some(text.len()), standing)?).await?;
        session.write_response_body(text.into(), true).await
    }

    fn head(
        &self,
        status: StatusCode,
        content_type: &str,
        length: Option<usize>,
        standing: &HeadFacts,
    ) -> pingora::Result<Box<ResponseHeader>> {
        let mut head = ResponseHeader::build(status, Some(12))?;
        head.insert_header("content-type", content_type)?;
        match length {
            Some(length) => head.insert_header("content-length", length.to_string())?,
            None => head.insert_header("transfer-encoding", "chunked")?,
        }
        head.insert_header("apim-request-id", format!("{:032x}", self.rng.lock().u128(..)))?;
        head.insert_header("x-ms-region", self.settings.region.as_deref().unwrap_or("Sweden Central"))?;
        let reset = standing.reset.as_secs_f64().ceil().to_string();
        for (pair, kind) in [(standing.tokens, "tokens"), (standing.requests, "requests")] {
            let Some((left, limit)) = pair else { continue };
            head.insert_header(format!("x-ratelimit-limit-{kind}"), limit.to_string())?;
            head.insert_header(format!("x-ratelimit-remaining-{kind}"), left.to_string())?;
            head.insert_header(format!("x-ratelimit-reset-{kind}"), reset.as_str())?;
        }
        for (name, value) in standing.spillover() {
            head.insert_header(name, value)?;
        }
        if let Some(utilisation) = standing.utilisation {
            head.insert_header("azure-openai-deployment-utilization", format!("{:.1}%", utilisation * 100.0))?;
        }
        Ok(Box::new(head))
    }
}

/// Sends nothing until the caller leaves.
async fn stall(session: &mut ServerSession) -> pingora::Result<bool> {
    let _ = session.read_body_or_idle(true).await;
    Ok(false)
}

/// Answers that are not JSON, or have no text.
fn binary(asked: &MockRequest, text: &str) -> Option<Answer> {
    match asked.inference.api {
        Api::Speech => Some(Answer::Bytes("audio/mpeg", Bytes::from(vec![0xff; 4096]))),
        Api::Transcriptions | Api::Translations => {
            let used = tokens(text);
            Some(Answer::Plain(
                json!({ "text": text, "usage": { "type": "tokens", "input_tokens": 10, "output_tokens": used, "total_tokens": used + 10 } })
                    .to_string(),
            ))
        }
        Api::ImageGenerations | Api::ImageEdits => {
            // The smallest PNG: one transparent pixel.
            const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";
            Some(Answer::Plain(
                json!({ "created": 0, "data": [{ "b64_json": PIXEL }], "usage": { "input_tokens": 10, "output_tokens": 100, "total_tokens": 110 } }).to_string(),
            ))
        }
        _ => None,
    }
}
