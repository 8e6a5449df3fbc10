//! The content guard: its own rules, and the content safety service.

mod concurrency;
mod service;

use std::sync::Arc;

use spillway_plugins::api::Api;
use spillway_plugins::guard::{AnswerText, Finding, PromptText, Seen};

use crate::backend::auth::{Identities, TokenSource};
use crate::clock::Clock;
use crate::config::GuardRules;
use crate::shares::Owner;
use crate::telemetry::metrics::{GuardMetrics, Metrics};
use service::Service;

/// The guard.
#[derive(Debug)]
pub struct Guard {
    /// Its rules.
    pub rules: GuardRules,
    /// Its counters.
    pub metrics: GuardMetrics,
    service: Option<Arc<Service>>,
    /// Equal for rules that give the same result for answers: a cached answer is given only under the rules that it was
    /// checked with.
    pub fingerprint: u64,
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// Allowed.
    Passed,
    /// It could not be checked, and is allowed.
    Unchecked,
    /// Blocked.
    Blocked(Finding),
    /// It could not be checked, and is refused.
    Unknown,
}

impl Guard {
    /// With these rules. Sends nothing yet.
    pub fn new(rules: GuardRules, identities: &mut Identities, metrics: &Metrics) -> Self {
        let service = rules.safety.clone().map(|safety| Arc::new(Service::new(safety, identities, metrics)));
        Guard { service, metrics: metrics.guard.clone(), fingerprint: rules.fingerprint(), rules }
    }

    /// Checks the body of a request with the guard's own rules. Returns what the service has to check, if there is a
    /// service.
    ///
    /// # Errors
    /// What is blocked. A body that can't be read, or can be read in two ways, is never allowed: that is the caller's
    /// fault.
    pub fn request(&self, api: Api, body: &[u8]) -> Result<Option<Seen>, Finding> {
        let asked = Some(api).filter(|api| is_read(*api)).and_then(|api| PromptText::read(api, body).ok());
        let finding = match &asked {
            None => Some(Finding::Unreadable),
            Some(asked) => self.rules.local.request(asked, body),
        };
        if let Some(finding) = finding {
            self.metrics.blocked("request", &finding);
            return Err(finding);
        }
        Ok(asked.filter(|_| self.service.is_some()).map(PromptText::into_seen))
    }

    /// Has the service check the texts of a request of `owner`.
    pub async fn ask(&self, seen: Seen, owner: &Owner, clock: &Clock) -> Judgement {
        let Some(service) = &self.service else { return Judgement::Passed };
        let asked = service.look_at(seen, owner, clock).await;
        self.judged("request", asked)
    }

    /// The source of the service's tokens, if it uses tokens.
    pub fn token(&self) -> Option<&Arc<TokenSource>> {
        self.service.as_ref()?.token()
    }

    /// Whether there is a service: then texts are kept in memory until it has answered.
    pub fn asks(&self) -> bool {
        self.service.is_some()
    }

    /// Whether answers are checked.
    pub fn reads_answers(&self) -> bool {
        self.rules.answers && (self.rules.local.reads_texts() || self.service.is_some())
    }

    /// Checks the texts of a part of an answer to `owner`.
    pub async fn answer(&self, said: &AnswerText, owner: &Owner, clock: &Clock) -> Judgement {
        if said.is_empty() {
            return Judgement::Passed;
        }
        if let Some(finding) = self.rules.local.answer(said) {
            return self.blocked("answer", finding);
        }
        match &self.service {
            Some(service) => {
                let asked = service.look_at(Seen { text: said.seen(), ..Seen::default() }, owner, clock).await;
                self.judged("answer", asked)
            }
            None => Judgement::Passed,
        }
    }

    /// The result for an answer that can't be read.
    pub fn unreadable(&self) -> Judgement {
        self.judged("answer", Err(service::ServiceUnavailable))
    }

    /// The finding for an API whose content can't be checked: it is refused, unless the rules allow it.
    pub fn unread(&self, api: Api) -> Option<Finding> {
        if self.rules.pass_unread {
            return None;
        }
        let finding = Finding::Unread(api.label());
        self.metrics.blocked("request", &finding);
        Some(finding)
    }

    fn blocked(&self, side: &'static str, finding: Finding) -> Judgement {
        self.metrics.blocked(side, &finding);
        Judgement::Blocked(finding)
    }

    fn judged(&self, side: &'static str, asked: Result<Option<Finding>, service::ServiceUnavailable>) -> Judgement {
        match asked {
            Ok(None) => Judgement::Passed,
            Ok(Some(finding)) => self.blocked(side, finding),
            Err(service::ServiceUnavailable) => {
                self.metrics.unchecked.inc();
                if self.rules.fails_open() { Judgement::Unchecked } else { Judgement::Unknown }
            }
        }
    }
}

/// Whether an API's requests are texts in JSON.
fn is_read(api: Api) -> bool {
    api.writes_texts() || matches!(api, Api::Embeddings | Api::ImageGenerations | Api::Speech)
}
