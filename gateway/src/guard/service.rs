//! Asks Azure AI Content Safety.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use spillway_plugins::guard::safety::{AnswerError, LONGEST, VERSION, shield_document, shield_judge, shield_prompt};
use spillway_plugins::guard::{Finding, windows};
use tokio::task::JoinSet;
use tracing::{debug, error, info};

use super::gate::Gate;
use crate::backend::auth::{Identities, TokenSource};
use crate::clock::Clock;
use crate::config::{BackendAuth, SafetyRules};
use crate::outbound;
use crate::shares::{Owner, Places};
use crate::telemetry::metrics::Metrics;

/// Characters that neighbouring pieces of a long text share.
const OVERLAP: usize = 500;
/// Questions at once for one request, for one consumer, and for all. While all are taken, the next place is for the
/// consumer that has least.
const WIDTH: usize = 8;
const EACH: usize = 48;
const AT_ONCE: usize = 64;

/// Nobody can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unavailable;

/// Why there is no judgement.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("its circuit is open")]
    Closed,
    #[error("it takes too long")]
    TooSlow,
    #[error("there is no token for it")]
    NoToken,
    #[error("it answers {0}")]
    Status(u16),
    #[error("{0}")]
    Http(reqwest::Error),
    #[error("{0}")]
    Answer(#[from] AnswerError),
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
    room: Arc<Places<Owner>>,
}

/// An operation of the service.
#[derive(Debug, Clone, Copy)]
enum Operation {
    Analyze,
    Shield,
}

impl Operation {
    fn path(self) -> &'static str {
        match self {
            Operation::Analyze => "text:analyze",
            Operation::Shield => "text:shieldPrompt",
        }
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
        Service { rules, proof, gate: Gate::new(), room: Places::new(AT_ONCE, EACH) }
    }

    /// Where its tokens come from, if it takes any.
    pub(super) fn token(&self) -> Option<&Arc<TokenSource>> {
        match &self.proof {
            Proof::Token(source) => Some(source),
            Proof::None | Proof::Key(_) => None,
        }
    }

    /// What it finds in a text.
    pub(super) async fn text(self: &Arc<Self>, text: &str, owner: &Owner, clock: &Clock) -> Result<Option<Finding>, Unavailable> {
        self.all(self.questions(text), owner, clock).await
    }

    /// What it finds in the texts of a request, and whether what the person `said` or what was `brought` is an attack.
    pub(super) async fn request(
        self: &Arc<Self>,
        texts: &str,
        said: &str,
        brought: &[&str],
        owner: &Owner,
        clock: &Clock,
    ) -> Result<Option<Finding>, Unavailable> {
        let mut questions = self.questions(texts);
        if self.rules.shield {
            questions.extend(pieces(said).map(|piece| (Operation::Shield, shield_prompt(piece))));
            let brought = brought.iter().flat_map(|document| pieces(document));
            questions.extend(brought.map(|piece| (Operation::Shield, shield_document(piece))));
        }
        self.all(questions, owner, clock).await
    }

    fn questions(&self, text: &str) -> Vec<(Operation, Vec<u8>)> {
        if self.rules.thresholds.is_empty() {
            return Vec::new();
        }
        pieces(text).map(|piece| (Operation::Analyze, self.rules.thresholds.question(piece))).collect()
    }

    /// Asks everything, a few questions at a time; the first finding counts. An answer that is missing counts if there
    /// is no finding.
    async fn all(
        self: &Arc<Self>,
        questions: Vec<(Operation, Vec<u8>)>,
        owner: &Owner,
        clock: &Clock,
    ) -> Result<Option<Finding>, Unavailable> {
        let mut waiting = questions.into_iter();
        let mut asked = JoinSet::new();
        let mut result = Ok(None);
        loop {
            while asked.len() < WIDTH
                && let Some((operation, body)) = waiting.next()
            {
                let (service, owner, clock) = (Arc::clone(self), owner.clone(), clock.clone());
                asked.spawn(async move { service.ask(operation, body, owner, &clock).await });
            }
            let Some(answer) = asked.join_next().await else { return result };
            match answer.unwrap_or(Err(Unavailable)) {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(unavailable) => result = Err(unavailable),
            }
        }
    }

    async fn ask(&self, operation: Operation, body: Vec<u8>, owner: Owner, clock: &Clock) -> Result<Option<Finding>, Unavailable> {
        let asked = async {
            let _place = tokio::time::timeout(self.rules.timeout, self.room.wait(owner)).await.map_err(|_| Failure::TooSlow)?;
            let pass = self.gate.enter(clock.now()).ok_or(Failure::Closed)?;
            let answered = tokio::time::timeout(self.rules.timeout, self.send(operation, body, clock)).await;
            let judged = answered.unwrap_or(Err(Failure::TooSlow)).and_then(|answer| self.judge(operation, &answer));
            // What is wrong with one question says nothing of the service; a key or path that it doesn't know does.
            let good = matches!(judged, Ok(_) | Err(Failure::Status(400 | 413 | 415 | 422)));
            if pass.end(good, clock.now()) {
                match &judged {
                    Ok(_) => info!("content safety answers again"),
                    Err(why) => {
                        error!(%why, open = self.rules.fails_open, "content safety can't be asked: for a while nobody waits for it")
                    }
                }
            }
            judged
        };
        asked.await.map_err(|why: Failure| {
            debug!(%why, "content safety could not be asked");
            Unavailable
        })
    }

    fn judge(&self, operation: Operation, answer: &Bytes) -> Result<Option<Finding>, Failure> {
        let judged = match operation {
            Operation::Analyze => self.rules.thresholds.judge(answer),
            Operation::Shield => shield_judge(answer),
        };
        Ok(judged?)
    }

    /// The answer's body, or why there is none.
    async fn send(&self, operation: Operation, body: Vec<u8>, clock: &Clock) -> Result<Bytes, Failure> {
        let client = outbound::internet()?;
        let url = format!("{}/contentsafety/{}?api-version={VERSION}", self.rules.url, operation.path());
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
                && source.renew(number, clock.now(), Duration::from_secs(3).min(self.rules.timeout)).await
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

/// A text in pieces that the service takes.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    windows(text, LONGEST, OVERLAP).into_iter().filter(|piece| !piece.trim().is_empty())
}
