//! The attempt loop: pick, try, judge, and on to the next target until the caller has an answer.
//!
//! One state machine for every inference request. Nothing is retried after the commit point, tried
//! targets are not tried again, and one deadline covers everything.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header;
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use smallvec::SmallVec;
use spillway_plugins::api::Api;
use spillway_plugins::retry::{Credentials, RateSignal, Verdict, judge, read_signal};
use tracing::{info, warn};

use super::ctx::{AttemptRecord, End, Inquiry, RequestCtx};
use super::deliver::{self, Delivery};
use super::exchange::{Broken, Exchange, Next};
use super::refusal::Refusal;
use super::replay::Pieces;
use super::timer::Timer;
use super::{Gateway, headers, last_resort};
use crate::backend::{Upstream, url};
use crate::balance::circuit::{ErrorKind, Failure};
use crate::balance::route::{NoneReady, Pick, PickRequest};
use crate::balance::target::{Change, Lease, OutageReason, Outcome};
use crate::clock::Tick;

/// How far a request has come.
pub(super) struct Progress {
    /// Members that were tried.
    pub(super) tried: SmallVec<[usize; 8]>,
    /// Those of them that were throttled: they may be tried again after a wait.
    pub(super) throttled: SmallVec<[usize; 8]>,
    /// Attempts that failed.
    pub(super) failures: u32,
    /// How the last attempt failed, if not by a throttle.
    pub(super) last_failure: Option<&'static str>,
    /// Whether that was by running out of time.
    pub(super) last_timed_out: bool,
    /// When everything must be over.
    pub(super) deadline: Tick,
    /// How often throttled members were released to be tried again.
    pub(super) releases: u32,
    /// How much waiting for a target to reopen is left.
    pub(super) patience: Duration,
    pub(super) timer: Timer,
}

impl Progress {
    /// A request that hasn't been tried anywhere.
    pub(super) fn new(inquiry: &Inquiry, arrived: Tick) -> Self {
        Progress {
            tried: SmallVec::new(),
            throttled: SmallVec::new(),
            failures: 0,
            releases: 0,
            last_failure: None,
            last_timed_out: false,
            deadline: arrived + inquiry.pool.config.timeouts.total,
            patience: inquiry.pool.config.retry.wait,
            timer: Timer::default(),
        }
    }

    /// Counts a failed attempt; whether another may be made.
    pub(super) fn may_retry(&mut self, inquiry: &Inquiry, now: Tick) -> bool {
        let rules = &inquiry.pool.config.retry;
        self.failures += 1;
        self.failures < rules.max_attempts && inquiry.pool.budget.try_retry(&rules.budget, now)
    }

    /// What to tell the caller when nobody is left.
    pub(super) fn refusal(&self, model: &str, none: Option<NoneReady>, now: Tick) -> Refusal {
        let model = model.to_owned();
        let retry_after = none.and_then(|none| none.soonest).map(|soonest| soonest.since(now));
        match (self.last_failure, none) {
            (Some(_), _) if self.last_timed_out => Refusal::UpstreamTimeout { model },
            (Some(last), _) => Refusal::UpstreamFailed { model, last },
            (None, Some(none)) if none.fenced_off => Refusal::LocationNotAllowed { model },
            (None, Some(none)) if none.all_throttled => Refusal::AllThrottled { model, retry_after },
            (None, None) if now >= self.deadline => Refusal::UpstreamTimeout { model },
            _ => Refusal::NoneAvailable { model, retry_after },
        }
    }
}

/// What one attempt led to.
enum Step {
    /// The request is over.
    Over(End),
    /// On to another target: it was throttled there.
    Throttled,
    /// On to another target: it failed there.
    Failed,
}

/// Runs a request to its end. The answer, or a refusal, is written to the caller.
pub(super) async fn run(gateway: &Gateway, session: &mut Session, ctx: &mut RequestCtx) -> End {
    let Some(inquiry) = ctx.inquiry.take() else { return End::CallerLeft };
    let mut progress = Progress::new(&inquiry, ctx.arrived);
    inquiry.pool.budget.request(gateway.clock.now());
    let end = attempt_all(gateway, session, ctx, &inquiry, &mut progress).await;
    ctx.inquiry = Some(inquiry);
    end
}

async fn attempt_all(gateway: &Gateway, session: &mut Session, ctx: &mut RequestCtx, inquiry: &Inquiry, progress: &mut Progress) -> End {
    loop {
        let now = gateway.clock.now();
        if now >= progress.deadline {
            return give_up(gateway, session, ctx, inquiry, progress, None).await;
        }
        match pick(inquiry, ctx, progress, now) {
            Ok(pick) => match attempt(gateway, session, ctx, inquiry, progress, pick).await {
                Step::Over(end) => return end,
                Step::Throttled => {}
                Step::Failed if progress.may_retry(inquiry, gateway.clock.now()) => {}
                Step::Failed => return give_up(gateway, session, ctx, inquiry, progress, None).await,
            },
            Err(none) => match wait_for(none, inquiry, progress, now) {
                Some(until) => {
                    progress.patience = progress.patience.saturating_sub(until.since(now));
                    if until > now && !wait(gateway, session, ctx, progress, until).await {
                        return End::CallerLeft;
                    }
                    progress.releases += 1;
                    let throttled = std::mem::take(&mut progress.throttled);
                    progress.tried.retain(|index| !throttled.contains(index));
                }
                None => return give_up(gateway, session, ctx, inquiry, progress, Some(none)).await,
            },
        }
    }
}

/// Asks the selector.
pub(super) fn pick(inquiry: &Inquiry, ctx: &RequestCtx, progress: &Progress, now: Tick) -> Result<Pick, NoneReady> {
    let fence = ctx.consumer.and_then(|index| ctx.runtime.consumers.get(index)).and_then(|consumer| consumer.locations.as_deref());
    let request = PickRequest {
        excluded: inquiry.model.excluded(inquiry.api),
        tried: &progress.tried,
        throttled: &progress.throttled,
        fence,
        affinity_key: inquiry.affinity_key,
    };
    super::with_rng(|rng| inquiry.model.route.pick(&request, now, rng))
}

/// Until when to wait for a target, if that is allowed. A throttled member that has opened again
/// meanwhile needs no waiting, but not for ever: the rounds are bounded like attempts.
fn wait_for(none: NoneReady, inquiry: &Inquiry, progress: &Progress, now: Tick) -> Option<Tick> {
    let soonest = none.soonest.filter(|_| progress.releases < inquiry.pool.config.retry.max_attempts)?;
    (soonest <= now + progress.patience && soonest < progress.deadline).then_some(soonest)
}

/// Waits; `false` if the caller left meanwhile.
async fn wait(gateway: &Gateway, session: &mut Session, ctx: &mut RequestCtx, progress: &mut Progress, until: Tick) -> bool {
    let began = gateway.clock.now();
    let stayed = tokio::select! {
        biased;
        _ = session.downstream_session.read_body_or_idle(true) => false,
        () = progress.timer.until(until, &gateway.clock) => true,
    };
    ctx.waited += gateway.clock.now().since(began);
    stayed
}

/// Nobody is left: the last resort, or a clear refusal.
async fn give_up(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut RequestCtx,
    inquiry: &Inquiry,
    progress: &Progress,
    none: Option<NoneReady>,
) -> End {
    let fenced_off = none.is_some_and(|none| none.fenced_off);
    // Never before a real target: with retries used up there may be one left that wasn't asked.
    let nobody = none.is_some() || pick(inquiry, ctx, progress, gateway.clock.now()).is_err();
    if let Some(reply) = inquiry.pool.last_resort.as_ref().filter(|_| nobody && !fenced_off) {
        match last_resort::answer(gateway, session, ctx, inquiry, reply).await {
            Ok(true) => return End::LastResort,
            Ok(false) => {}
            Err(_) => return End::CallerLeft,
        }
    }
    let refusal = progress.refusal(&inquiry.model.name, none, gateway.clock.now());
    match gateway.refuse(session, ctx, &refusal).await {
        Ok(()) => ctx.end,
        Err(_) => End::CallerLeft,
    }
}

/// One attempt at one target, from the connection to the last byte.
async fn attempt(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut RequestCtx,
    inquiry: &Inquiry,
    progress: &mut Progress,
    pick: Pick,
) -> Step {
    let mut attempt = Attempt::begin(gateway, ctx, inquiry, progress, pick);
    let runtime = Arc::clone(&ctx.runtime);
    let Some(upstream) = runtime.backends[inquiry.model.route.members()[attempt.member].backend].upstream.as_ref() else {
        return attempt.broke(ctx, progress, Broken::Upstream(ErrorKind::Connect));
    };
    attempt.credentials = upstream.auth.credentials();
    let mut exchange = match ask(session, ctx, upstream, &mut attempt, progress).await {
        Ok(exchange) => exchange,
        Err(Unasked::NoCredential) => return attempt.out(ctx, progress, OutageReason::Misconfigured),
        Err(Unasked::Broken(broken)) => return attempt.broke(ctx, progress, broken),
        Err(Unasked::Unsendable) => {
            attempt.finish(ctx, "cancelled");
            return match gateway.refuse(session, ctx, &Refusal::Internal).await {
                Ok(()) => Step::Over(ctx.end),
                Err(_) => Step::Over(End::CallerLeft),
            };
        }
    };
    let status = exchange.head().map_or(http::StatusCode::BAD_GATEWAY, |head| head.status);
    attempt.status = Some(status);
    if let Some(head) = exchange.head() {
        attempt.signal = read_signal(&head.headers, || gateway.clock.wall());
    }
    if status.is_success() {
        return deliver(session, ctx, progress, attempt, exchange, SmallVec::new()).await;
    }
    // A refusal or an error: its body tells which, and is small.
    let began = gateway.clock.now();
    let body = read_error(gateway, session, &mut exchange, progress).await;
    ctx.waited += gateway.clock.now().since(began);
    let (body, broken) = match body {
        Ok(read) => read,
        Err(broken) => return attempt.broke(ctx, progress, broken),
    };
    let text: Bytes = if body.len() == 1 { body[0].clone() } else { body.concat().into() };
    let verdict = judge(status, &text, &inquiry.pool.config.retry.statuses, upstream.auth.credentials());
    match (verdict, broken) {
        // A part must not be delivered as the whole.
        (Verdict::Deliver, Some(broken)) => return attempt.broke(ctx, progress, broken),
        (Verdict::Deliver, None) => return deliver(session, ctx, progress, attempt, exchange, body).await,
        _ => {}
    }
    exchange.release(&gateway.connector).await;
    match verdict {
        Verdict::RateLimited => attempt.throttled(ctx, progress),
        Verdict::OutOfQuota => attempt.out(ctx, progress, OutageReason::OutOfQuota),
        Verdict::Misconfigured => attempt.out(ctx, progress, OutageReason::Misconfigured),
        Verdict::Failed | Verdict::Deliver => {
            attempt.failed(ctx, progress, Failure::Status(status), "failed", status.as_u16() == 408 || status.as_u16() == 504)
        }
    }
}

enum Unasked {
    /// There is nothing to prove our identity with.
    NoCredential,
    /// The request can't be written as this target wants it: no fault of the target's.
    Unsendable,
    Broken(Broken),
}

impl From<pingora::BError> for Unasked {
    fn from(_: pingora::BError) -> Self {
        Unasked::Unsendable
    }
}

/// Connects, sends and reads the head; once more on a fresh connection if a pooled one was stale.
async fn ask(
    session: &mut Session,
    ctx: &mut RequestCtx,
    upstream: &Upstream,
    attempt: &mut Attempt<'_>,
    progress: &mut Progress,
) -> Result<Exchange, Unasked> {
    let gateway = attempt.gateway;
    let timeouts = &attempt.inquiry.pool.config.timeouts;
    let mut fresh = false;
    loop {
        let peer = upstream.peers.next().ok_or(Unasked::Broken(Broken::Upstream(ErrorKind::Connect)))?;
        let (head, body) = request(session, ctx, upstream, attempt)?;
        let began = gateway.clock.now();
        let left = progress.deadline.since(began);
        let first = if attempt.inquiry.fields.stream { timeouts.first_token } else { timeouts.answer };
        let caller = &mut session.downstream_session;
        let asked = async {
            let mut exchange = Exchange::connect(&gateway.connector, peer, fresh, timeouts.connect.min(left), caller).await?;
            exchange.send(head, body, first.min(left), caller).await?;
            let until = (began + first).min(progress.deadline);
            exchange.read_head(until, &gateway.clock, &mut progress.timer, caller).await?;
            Ok(exchange)
        }
        .await;
        ctx.waited += gateway.clock.now().since(began);
        match asked {
            Err(Broken::Stale) if !fresh => {
                gateway.metrics.stale_connections.inc();
                fresh = true;
            }
            Err(broken) => return Err(Unasked::Broken(broken)),
            Ok(exchange) => return Ok(exchange),
        }
    }
}

/// The request as this target gets it.
fn request(
    session: &Session,
    ctx: &RequestCtx,
    upstream: &Upstream,
    attempt: &Attempt<'_>,
) -> Result<(Box<RequestHeader>, Pieces), Unasked> {
    let inquiry = attempt.inquiry;
    let backend = &ctx.runtime.backends[inquiry.model.route.members()[attempt.member].backend].config;
    let deployment: &str = &inquiry.model.route.members()[attempt.member].target.id.deployment;
    let caller = session.req_header();
    let path = url::path(&backend.kind, &upstream.endpoint, inquiry.api, deployment, caller.uri.query());
    let mut head = headers::for_upstream(caller, &path)?;
    let body = body(caller, ctx, inquiry, deployment);
    let length: usize = body.iter().map(Bytes::len).sum();
    head.insert_header(header::HOST, upstream.endpoint.authority.as_str())?;
    head.insert_header(header::CONTENT_LENGTH, length)?;
    head.insert_header(headers::X_REQUEST_ID, ctx.id.as_str())?;
    if inquiry.api == Api::Messages && !caller.headers.contains_key("anthropic-version") {
        head.insert_header("anthropic-version", "2023-06-01")?;
    }
    upstream.auth.authorise(&caller.headers, &mut head).map_err(|_| Unasked::NoCredential)?;
    Ok((head, body))
}

/// The caller's bytes, with the deployment's name in place of the model's where they differ.
fn body(caller: &RequestHeader, ctx: &RequestCtx, inquiry: &Inquiry, deployment: &str) -> Pieces {
    let Some(body) = &ctx.body else { return Pieces::new() };
    match (&inquiry.fields.model_range, &inquiry.fields.model) {
        (Some(_), Some(model)) if model == deployment => body.verbatim(),
        (Some(range), _) if inquiry.api.is_multipart() => body.spliced(range.clone(), deployment.as_bytes()),
        (Some(range), _) => body.spliced(range.clone(), serde_json::Value::from(deployment).to_string().as_bytes()),
        (None, _) if inquiry.api.is_multipart() => body.spliced(0..0, headers::model_part(caller, deployment).as_bytes()),
        // The URL named the model, but the target may want it in the body.
        (None, _) => {
            let at = body.bytes().iter().position(|byte| *byte == b'{').map_or(0, |at| at + 1);
            let empty = body.bytes()[at..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'}');
            let member = format!("\"model\":{}{}", serde_json::Value::from(deployment), if empty { "" } else { "," });
            body.spliced(at..at, member.as_bytes())
        }
    }
}

/// Most that is read of an error's body, and how long.
const ERROR_BYTES: usize = 64 * 1024;
const ERROR_TIME: Duration = Duration::from_secs(5);

async fn read_error(
    gateway: &Gateway,
    session: &mut Session,
    exchange: &mut Exchange,
    progress: &mut Progress,
) -> Result<(SmallVec<[Bytes; 4]>, Option<Broken>), Broken> {
    let until = (gateway.clock.now() + ERROR_TIME).min(progress.deadline);
    let mut body: SmallVec<[Bytes; 4]> = SmallVec::new();
    let mut length = 0;
    while length < ERROR_BYTES {
        match exchange.next(until, &gateway.clock, &mut progress.timer, &mut session.downstream_session).await {
            Ok(Next::Data(bytes)) => {
                length += bytes.len();
                body.push(bytes);
            }
            Ok(Next::End) => return Ok((body, None)),
            Ok(Next::Quiet) => return Ok((body, Some(Broken::TimedOut))),
            Err(Broken::CallerLeft) => return Err(Broken::CallerLeft),
            Err(broken) => return Ok((body, Some(broken))),
        }
    }
    Ok((body, None))
}

/// Hands an answer to the caller and turns what came of it into the next step.
async fn deliver(
    session: &mut Session,
    ctx: &mut RequestCtx,
    progress: &mut Progress,
    mut attempt: Attempt<'_>,
    mut exchange: Exchange,
    prefix: SmallVec<[Bytes; 4]>,
) -> Step {
    let delivery = deliver::deliver(session, ctx, progress, &mut attempt, &mut exchange, prefix).await;
    let gateway = attempt.gateway;
    match delivery {
        Delivery::Complete => {
            attempt.finish(ctx, "ok");
            exchange.release_soon(&gateway.connector).await;
            Step::Over(End::Complete)
        }
        Delivery::Refusal(status) => {
            let outcome = delivered_refusal(status, attempt.signal.retry_after);
            attempt.record(outcome);
            attempt.finish(ctx, if matches!(outcome, Outcome::CallerFault) { "caller_fault" } else { "failed" });
            exchange.release_soon(&gateway.connector).await;
            Step::Over(End::Complete)
        }
        Delivery::Replace(fault) => match fault {
            deliver::Fault::RateLimited => attempt.throttled(ctx, progress),
            deliver::Fault::OutOfQuota => attempt.out(ctx, progress, OutageReason::OutOfQuota),
            deliver::Fault::NoDeployment => attempt.out(ctx, progress, OutageReason::Misconfigured),
            deliver::Fault::Failed => {
                attempt.failed(ctx, progress, Failure::Status(http::StatusCode::INTERNAL_SERVER_ERROR), "failed", false)
            }
            deliver::Fault::Broken(broken) => attempt.broke(ctx, progress, broken),
        },
        Delivery::Cut(kind) => {
            attempt.record(Outcome::Failed { failure: Failure::Error(kind), retry_after: None });
            attempt.finish(ctx, kind.name());
            Step::Over(End::Cut)
        }
        Delivery::CallerLeft => {
            attempt.finish(ctx, "cancelled");
            Step::Over(End::CallerLeft)
        }
    }
}

/// What a delivered answer that is no success says about its target. A 4xx is the caller's fault,
/// whatever the circuit's statuses are; a 429 throttles even where it may not go elsewhere.
pub(super) fn delivered_refusal(status: http::StatusCode, retry_after: Option<Duration>) -> Outcome {
    match status.as_u16() {
        429 => Outcome::Throttled { retry_after },
        408 | 500..=599 => Outcome::Failed { failure: Failure::Status(status), retry_after },
        _ => Outcome::CallerFault,
    }
}

/// One attempt: its slot, and what is known of it.
pub(super) struct Attempt<'g> {
    pub(super) gateway: &'g Gateway,
    pub(super) inquiry: &'g Inquiry,
    pub(super) began: Tick,
    pub(super) member: usize,
    pub(super) status: Option<http::StatusCode>,
    pub(super) signal: RateSignal,
    /// Whose credentials its target sees.
    pub(super) credentials: Credentials,
    lease: Lease,
}

impl<'g> Attempt<'g> {
    /// Takes a pick up: from here on its member counts as tried.
    fn begin(gateway: &'g Gateway, ctx: &RequestCtx, inquiry: &'g Inquiry, progress: &mut Progress, pick: Pick) -> Self {
        progress.tried.push(pick.index);
        note_failover(ctx, inquiry);
        let began = gateway.clock.now();
        Attempt {
            gateway,
            inquiry,
            began,
            member: pick.index,
            status: None,
            signal: RateSignal::default(),
            credentials: Credentials::default(),
            lease: pick.lease,
        }
    }

    /// Tells the target how it went.
    pub(super) fn record(&mut self, outcome: Outcome) {
        record(self.gateway, self.inquiry, self.member, &mut self.lease, outcome);
    }

    /// Writes it down.
    fn finish(self, ctx: &mut RequestCtx, outcome: &'static str) {
        let took = self.gateway.clock.now().since(self.began);
        let status = self.status.map(|status| status.as_u16());
        note(ctx, self.inquiry, AttemptRecord { target: Arc::clone(self.lease.target()), member: self.member, outcome, status, took });
    }

    fn throttled(mut self, ctx: &mut RequestCtx, progress: &mut Progress) -> Step {
        self.record(Outcome::Throttled { retry_after: self.signal.retry_after });
        progress.throttled.push(self.member);
        self.finish(ctx, "throttled");
        Step::Throttled
    }

    /// The member's own fault, like a throttle: the request moves on without using up a retry.
    fn out(mut self, ctx: &mut RequestCtx, progress: &mut Progress, reason: OutageReason) -> Step {
        self.record(Outcome::Out(reason));
        let label = if reason == OutageReason::OutOfQuota { "out_of_quota" } else { "misconfigured" };
        progress.last_failure = Some(label);
        progress.last_timed_out = false;
        self.finish(ctx, label);
        Step::Throttled
    }

    fn failed(mut self, ctx: &mut RequestCtx, progress: &mut Progress, failure: Failure, label: &'static str, timed_out: bool) -> Step {
        self.record(Outcome::Failed { failure, retry_after: self.signal.retry_after });
        progress.last_failure = Some(label);
        progress.last_timed_out = timed_out;
        self.finish(ctx, label);
        Step::Failed
    }

    fn broke(self, ctx: &mut RequestCtx, progress: &mut Progress, broken: Broken) -> Step {
        let kind = match broken {
            Broken::CallerLeft => {
                self.finish(ctx, "cancelled");
                return Step::Over(End::CallerLeft);
            }
            Broken::Upstream(kind) => kind,
            Broken::Stale => ErrorKind::Reset,
            Broken::TimedOut if self.inquiry.fields.stream => ErrorKind::FirstToken,
            Broken::TimedOut => ErrorKind::Timeout,
        };
        self.failed(ctx, progress, Failure::Error(kind), kind.name(), kind.is_timeout())
    }
}

/// Counts a request that leaves the member of its last attempt for another.
pub(super) fn note_failover(ctx: &RequestCtx, inquiry: &Inquiry) {
    if let Some(left) = ctx.attempts.last() {
        inquiry.model.metrics[left.member].failovers.inc();
    }
}

/// Writes an attempt down, in the metrics and for the access log.
pub(super) fn note(ctx: &mut RequestCtx, inquiry: &Inquiry, attempt: AttemptRecord) {
    let metrics = &inquiry.model.metrics[attempt.member];
    metrics.count(attempt.outcome);
    if matches!(attempt.outcome, "ok" | "caller_fault") {
        metrics.served.inc();
    }
    ctx.attempts.push(attempt);
}

/// Tells a target how an attempt went, and the operator if that changed anything.
pub(super) fn record(gateway: &Gateway, inquiry: &Inquiry, member: usize, lease: &mut Lease, outcome: Outcome) {
    let change = lease.record(outcome, &inquiry.pool.config.circuit, gateway.clock.now());
    let target = &lease.target().id;
    let pool = &inquiry.pool.config.name;
    match change {
        Change::None => {}
        Change::Throttled(wait) => inquiry.model.metrics[member].throttled_seconds.inc_by(wait.as_secs_f64()),
        Change::Tripped => warn!(%target, %pool, ?outcome, "circuit opened"),
        Change::Recovered => info!(%target, %pool, "recovered"),
        Change::Out(OutageReason::OutOfQuota) => warn!(%target, %pool, "out of quota: taken out until a probe succeeds"),
        Change::Out(OutageReason::Misconfigured) => {
            warn!(%target, %pool, "refuses our credentials or doesn't know the deployment: taken out until a probe succeeds");
        }
    }
}
