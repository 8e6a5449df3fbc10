//! Asks Azure AI Content Safety.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use secrecy::ExposeSecret as _;
use spillway_plugins::guard::safety::{LONGEST, VERSION, shield_judge, shield_question};
use spillway_plugins::guard::{Finding, windows};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use super::gate::Gate;
use crate::backend::auth::{Identities, TokenSource};
use crate::clock::Clock;
use crate::config::{BackendAuth, SafetyRules};
use crate::outbound;
use crate::telemetry::metrics::Metrics;

/// Characters that neighbouring pieces of a long text share.
const OVERLAP: usize = 500;
/// Most pieces of one text: more is not looked at, and so not known.
const MOST: usize = 128;

/// Nobody can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unavailable;

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
            BackendAuth::ApiKey(key) => HeaderValue::from_str(key.expose_secret()).map_or(Proof::None, |mut value| {
                value.set_sensitive(true);
                Proof::Key(value)
            }),
            BackendAuth::Token(token) => Proof::Token(identities.get(token, metrics)),
            BackendAuth::None | BackendAuth::Passthrough => Proof::None,
        };
        Service { rules, proof, gate: Gate::new() }
    }

    /// What it finds in a text.
    pub(super) async fn text(self: &Arc<Self>, text: String, clock: &Clock) -> Result<Option<Finding>, Unavailable> {
        self.all(self.questions(&text), clock).await
    }

    /// What it finds in the texts of a prompt, and whether its last message or what tools brought is an attack.
    pub(super) async fn prompt(
        self: &Arc<Self>,
        texts: String,
        user: String,
        documents: Vec<String>,
        clock: &Clock,
    ) -> Result<Option<Finding>, Unavailable> {
        let mut questions = self.questions(&texts);
        if self.rules.shield {
            questions.extend(windows(&user, LONGEST, OVERLAP).into_iter().map(|piece| (Operation::Shield, shield_question(piece, &[]))));
            let pieces = documents.iter().flat_map(|document| windows(document, LONGEST, OVERLAP));
            questions.extend(pieces.map(|piece| (Operation::Shield, shield_question("", &[piece]))));
        }
        self.all(questions, clock).await
    }

    fn questions(&self, text: &str) -> Vec<(Operation, Vec<u8>)> {
        if self.rules.thresholds.is_empty() {
            return Vec::new();
        }
        let pieces = windows(text, LONGEST, OVERLAP).into_iter().filter(|piece| !piece.trim().is_empty());
        pieces.map(|piece| (Operation::Analyze, self.rules.thresholds.question(piece))).collect()
    }

    /// Asks everything at once; the first finding counts. An answer that is missing counts if there is no finding.
    async fn all(self: &Arc<Self>, questions: Vec<(Operation, Vec<u8>)>, clock: &Clock) -> Result<Option<Finding>, Unavailable> {
        if questions.len() > MOST {
            return Err(Unavailable);
        }
        let mut asked = JoinSet::new();
        for (operation, body) in questions {
            let (service, clock) = (Arc::clone(self), clock.clone());
            asked.spawn(async move { service.ask(operation, body, &clock).await });
        }
        let mut result = Ok(None);
        while let Some(answer) = asked.join_next().await {
            match answer.unwrap_or(Err(Unavailable)) {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(unavailable) => result = Err(unavailable),
            }
        }
        result
    }

    async fn ask(&self, operation: Operation, body: Vec<u8>, clock: &Clock) -> Result<Option<Finding>, Unavailable> {
        let pass = self.gate.enter(clock.now()).ok_or(Unavailable)?;
        let answered = tokio::time::timeout(self.rules.timeout, self.send(operation, body, clock)).await;
        let judged = match answered {
            Ok(Ok(answer)) => self.judge(operation, &answer),
            Ok(Err(why)) => Err(why),
            Err(_) => Err("it takes too long".to_owned()),
        };
        let changed = pass.end(judged.is_ok(), clock.now());
        judged
            .map_err(|why| {
                if changed {
                    error!(why, open = self.rules.fails_open, "content safety can't be asked: for a while nobody waits for it");
                } else {
                    warn!(why, "content safety could not be asked");
                }
                Unavailable
            })
            .inspect(|_| {
                if changed {
                    info!("content safety answers again");
                }
            })
    }

    fn judge(&self, operation: Operation, answer: &Bytes) -> Result<Option<Finding>, String> {
        let judged = match operation {
            Operation::Analyze => self.rules.thresholds.judge(answer),
            Operation::Shield => shield_judge(answer),
        };
        judged.map_err(|error| error.to_string())
    }

    /// The answer's body, or why there is none.
    async fn send(&self, operation: Operation, body: Vec<u8>, clock: &Clock) -> Result<Bytes, String> {
        let client = outbound::internet().map_err(|error| error.to_string())?;
        let url = format!("{}/contentsafety/{}?api-version={VERSION}", self.rules.url, operation.path());
        for again in [false, true] {
            let mut request = client.post(&url).header("content-type", "application/json").timeout(self.rules.timeout);
            let mut shown = None;
            request = match &self.proof {
                Proof::None => request,
                Proof::Key(key) => request.header("ocp-apim-subscription-key", key.clone()),
                Proof::Token(source) => {
                    shown = Some((source, source.number()));
                    request.header("authorization", source.header(clock.now()).ok_or("there is no token for it")?)
                }
            };
            let answer = request.body(body.clone()).send().await.map_err(|error| error.without_url().to_string())?;
            let status = answer.status();
            if let (401, false, Some((source, number))) = (status.as_u16(), again, shown)
                && source.renew(number, clock.now(), Duration::from_secs(3).min(self.rules.timeout)).await
            {
                continue;
            }
            if !status.is_success() {
                return Err(format!("it answers {status}"));
            }
            return answer.bytes().await.map_err(|error| error.without_url().to_string());
        }
        Err("it refuses the token".to_owned())
    }
}
