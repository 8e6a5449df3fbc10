//! The client of Azure AI Content Safety.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use spillway_plugins::guard::safety::{AnswerError, LONGEST, VERSION, shield_document, shield_judge, shield_prompt};
use spillway_plugins::guard::{Finding, Seen, windows};
use tokio::task::JoinSet;
use tracing::{debug, error, info, warn};

use super::concurrency::Gate;
use crate::backend::auth::{Identities, TokenSource};
use crate::balance::circuit;
use crate::balance::target::Change;
use crate::causes::causes;
use crate::clock::Clock;
use crate::config::{BackendAuth, SafetyRules};
use crate::http_client;
use crate::shares::{FairSlots, Owner};
use crate::telemetry::metrics::Metrics;

/// Characters that neighbouring pieces of a long text share.
const OVERLAP: usize = 500;
/// Most questions at once for one request, for one consumer, and for all. While all places are taken, the next free one
/// goes to the consumer that has the fewest.
const WIDTH: usize = 8;
const EACH: usize = 48;
const AT_ONCE: usize = 64;

/// The content could not be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ServiceUnavailable;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("its circuit is open")]
    Closed,
    #[error("it took too long")]
    TooSlow,
    #[error("there is no token for it")]
    NoToken,
    #[error("it answered {0}")]
    Status(u16),
    #[error("{}", causes(.0))]
    Http(reqwest::Error),
    #[error("{0}")]
    Answer(#[from] AnswerError),
}

impl Failure {
    /// The failure, as far as the service caused it. A bad question doesn't count; an unknown key or path does.
    fn of_the_service(&self) -> Option<circuit::Failure> {
        use circuit::ErrorKind;
        Some(circuit::Failure::Error(match self {
            Failure::Closed | Failure::Status(400 | 413 | 415 | 422) => return None,
            Failure::Status(status) => {
                return http::StatusCode::from_u16(*status).ok().map(circuit::Failure::Status);
            }
            // No question was sent.
            Failure::NoToken => ErrorKind::Connect,
            Failure::Http(error) if error.is_connect() => ErrorKind::Connect,
            Failure::TooSlow => ErrorKind::Timeout,
            Failure::Http(_) | Failure::Answer(_) => ErrorKind::Reset,
        }))
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        Failure::Http(error.without_url())
    }
}

#[derive(Debug)]
enum Proof {
    None,
    Key(HeaderValue),
    Token(Arc<TokenSource>),
}

/// The service.
#[derive(Debug)]
pub(super) struct Service {
    rules: SafetyRules,
    proof: Proof,
    gate: Gate,
    room: Arc<FairSlots<Owner>>,
}

/// A question about a piece of the texts, which is read only when the question is sent.
#[derive(Debug, Clone)]
enum Question {
    Analyze(Range<usize>),
    ShieldPrompt(Range<usize>),
    ShieldDocument(Range<usize>),
}

impl Question {
    fn path(&self) -> &'static str {
        match self {
            Question::Analyze(_) => "text:analyze",
            Question::ShieldPrompt(_) | Question::ShieldDocument(_) => "text:shieldPrompt",
        }
    }

    fn body(&self, rules: &SafetyRules, text: &str) -> Bytes {
        let piece = |range: &Range<usize>| text.get(range.clone()).unwrap_or_default();
        match self {
            Question::Analyze(range) => rules.thresholds.question(piece(range)),
            Question::ShieldPrompt(range) => shield_prompt(piece(range)),
            Question::ShieldDocument(range) => shield_document(piece(range)),
        }
        .into()
    }
}

impl Service {
    pub(super) fn new(rules: SafetyRules, identities: &mut Identities, metrics: &Metrics) -> Self {
        let proof = match &rules.auth {
            BackendAuth::ApiKey(key) => HeaderValue::from_str(key.expose()).map_or(Proof::None, |mut value| {
                value.set_sensitive(true);
                Proof::Key(value)
            }),
            BackendAuth::Token(token) => Proof::Token(identities.get(token, metrics)),
            BackendAuth::None | BackendAuth::Passthrough => Proof::None,
        };
        Service { rules, proof, gate: Gate::new(), room: FairSlots::new(AT_ONCE, EACH) }
    }

    /// The source of its tokens, if it uses tokens.
    pub(super) fn token(&self) -> Option<&Arc<TokenSource>> {
        match &self.proof {
            Proof::Token(source) => Some(source),
            Proof::None | Proof::Key(_) => None,
        }
    }

    /// Checks texts, and whether what a person wrote or a tool returned is an attack. The first finding counts; if
    /// there is none, a missing answer does. A few questions are under way at a time, and the texts are in memory once.
    pub(super) async fn look_at(self: &Arc<Self>, seen: Seen, owner: &Owner, clock: &Clock) -> Result<Option<Finding>, ServiceUnavailable> {
        let seen = Arc::new(seen);
        let mut waiting = self.questions(&seen);
        let mut asked = JoinSet::new();
        let mut result = Ok(None);
        loop {
            while asked.len() < WIDTH
                && let Some(question) = waiting.next()
            {
                let (service, seen, owner, clock) = (Arc::clone(self), Arc::clone(&seen), owner.clone(), clock.clone());
                asked.spawn(async move { service.ask(&question, &seen, owner, &clock).await });
            }
            let Some(answer) = asked.join_next().await else { return result };
            match answer.unwrap_or(Err(ServiceUnavailable)) {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(unavailable) => result = Err(unavailable),
            }
        }
    }

    fn questions<'s>(&self, seen: &'s Seen) -> impl Iterator<Item = Question> + use<'s> {
        let all = Some(0..seen.text.len()).filter(|_| !self.rules.thresholds.is_empty());
        let shielded = if self.rules.shield { (&*seen.said, &*seen.brought) } else { Default::default() };
        let pieces = |range: Range<usize>| pieces(&seen.text, range);
        let analyze = all.into_iter().flat_map(pieces).map(Question::Analyze);
        let said = shielded.0.iter().cloned().flat_map(pieces).map(Question::ShieldPrompt);
        let brought = shielded.1.iter().cloned().flat_map(pieces).map(Question::ShieldDocument);
        analyze.chain(said).chain(brought)
    }

    async fn ask(&self, question: &Question, seen: &Seen, owner: Owner, clock: &Clock) -> Result<Option<Finding>, ServiceUnavailable> {
        let asked = async {
            let _place = tokio::time::timeout(self.rules.timeout, self.room.wait(owner.clone())).await.map_err(|_| Failure::TooSlow)?;
            let pass = self.gate.enter(&owner, clock.now()).ok_or(Failure::Closed)?;
            let answered = tokio::time::timeout(self.rules.timeout, self.send(question, &seen.text, clock)).await;
            let judged = answered.unwrap_or(Err(Failure::TooSlow)).and_then(|answer| self.judge(question, &answer));
            let why = judged.as_ref().err();
            match (pass.end(why.and_then(Failure::of_the_service), clock.now()), why) {
                (Change::Tripped, Some(why)) => {
                    error!(%why, open = self.rules.fails_open, "content safety fails: its circuit is open for all consumers")
                }
                (Change::TrippedForOne, Some(why)) => {
                    let consumer = owner.as_deref();
                    warn!(%why, consumer, open = self.rules.fails_open, "content safety fails for one consumer: its circuit is open for that consumer")
                }
                (Change::Recovered, _) => info!("content safety answers again"),
                _ => {}
            }
            judged
        };
        asked.await.map_err(|why: Failure| {
            debug!(%why, "no answer from content safety");
            ServiceUnavailable
        })
    }

    fn judge(&self, question: &Question, answer: &Bytes) -> Result<Option<Finding>, Failure> {
        let judged = match question {
            Question::Analyze(_) => self.rules.thresholds.judge(answer),
            Question::ShieldPrompt(_) | Question::ShieldDocument(_) => shield_judge(answer),
        };
        Ok(judged?)
    }

    /// The answer's body, or why there is none.
    async fn send(&self, question: &Question, text: &str, clock: &Clock) -> Result<Bytes, Failure> {
        let client = http_client::internet()?;
        let url = format!("{}/contentsafety/{}?api-version={VERSION}", self.rules.url, question.path());
        let body = question.body(&self.rules, text);
        for again in [false, true] {
            let mut request = client.post(&url).header("content-type", "application/json").timeout(self.rules.timeout);
            let mut shown = None;
            request = match &self.proof {
                Proof::None => request,
                Proof::Key(key) => request.header("ocp-apim-subscription-key", key.clone()),
                Proof::Token(source) => {
                    shown = Some((source, source.number()));
                    request.header("authorization", source.header(clock.now()).ok_or(Failure::NoToken)?)
                }
            };
            let answer = request.body(body.clone()).send().await?;
            let status = answer.status();
            if let (401, false, Some((source, number))) = (status.as_u16(), again, shown)
                && source.renew(number, clock, Duration::from_secs(3).min(self.rules.timeout)).await
            {
                continue;
            }
            if !status.is_success() {
                return Err(Failure::Status(status.as_u16()));
            }
            return Ok(answer.bytes().await?);
        }
        Err(Failure::Status(401))
    }
}

/// A part of a text in pieces of a length that the service accepts.
fn pieces(text: &str, part: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let begun = part.start;
    let part = text.get(part).unwrap_or_default();
    let spoken = windows(part, LONGEST, OVERLAP).filter(move |range| !part[range.clone()].trim().is_empty());
    spoken.map(move |range| begun + range.start..begun + range.end)
}
