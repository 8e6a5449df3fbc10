//! The content guard at work: rules of one's own, and the content safety service.

mod gate;
mod service;

use std::sync::Arc;

use spillway_plugins::api::Api;
use spillway_plugins::guard::{Asked, Finding, Seen, Spoken};

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
    /// Equal for rules that judge answers alike: kept answers are given only to those who would have got them.
    pub fingerprint: u64,
}

/// What a look at a content came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It may pass.
    Passed,
    /// Nobody could say, and then it may.
    Unchecked,
    /// It may not.
    Blocked(Finding),
    /// Nobody could say, and then it may not.
    Unknown,
}

impl Guard {
    /// With these rules. Nothing is asked yet.
    pub fn new(rules: GuardRules, identities: &mut Identities, metrics: &Metrics) -> Self {
        let service = rules.safety.clone().map(|safety| Arc::new(Service::new(safety, identities, metrics)));
        Guard { service, metrics: metrics.guard.clone(), fingerprint: rules.fingerprint(), rules }
    }

    /// Looks at the body of a request by the rules of one's own; what the service has to look at, if there is one.
    ///
    /// # Errors
    /// What is blocked. What can't be read, or be read in two ways, may never pass: it is the caller's doing.
    pub fn request(&self, api: Api, body: &[u8]) -> Result<Option<Seen>, Finding> {
        let asked = Some(api).filter(|api| is_read(*api)).and_then(|api| Asked::read(api, body).ok());
        let finding = match &asked {
            None => Some(Finding::Unreadable),
            Some(asked) => self.rules.local.request(asked, body),
        };
        if let Some(finding) = finding {
            self.metrics.blocked("request", &finding);
            return Err(finding);
        }
        Ok(asked.filter(|_| self.service.is_some()).map(Asked::into_seen))
    }

    /// Has the service look at what was seen in a request of `owner`'s.
    pub async fn ask(&self, seen: Seen, owner: &Owner, clock: &Clock) -> Judgement {
        let Some(service) = &self.service else { return Judgement::Passed };
        let asked = service.look_at(seen, owner, clock).await;
        self.judged("request", asked)
    }

    /// Where the service's tokens come from, if it takes any.
    pub fn token(&self) -> Option<&Arc<TokenSource>> {
        self.service.as_ref()?.token()
    }

    /// Whether a service is asked, and texts are held for as long as that takes.
    pub fn asks(&self) -> bool {
        self.service.is_some()
    }

    /// Whether answers are looked at.
    pub fn reads_answers(&self) -> bool {
        self.rules.answers && (self.rules.local.reads_texts() || self.service.is_some())
    }

    /// Looks at what a part of an answer to `owner` says.
    pub async fn answer(&self, said: &Spoken, owner: &Owner, clock: &Clock) -> Judgement {
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

    /// An answer that can't be read.
    pub fn unreadable(&self) -> Judgement {
        self.judged("answer", Err(service::Unavailable))
    }

    /// Something whose content can't be looked at, of a kind of API: it is refused, unless the rules say otherwise.
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

    fn judged(&self, side: &'static str, asked: Result<Option<Finding>, service::Unavailable>) -> Judgement {
        match asked {
            Ok(None) => Judgement::Passed,
            Ok(Some(finding)) => self.blocked(side, finding),
            Err(service::Unavailable) => {
                self.metrics.unchecked.inc();
                if self.rules.fails_open() { Judgement::Unchecked } else { Judgement::Unknown }
            }
        }
    }
}

/// Whether an API's requests are texts in JSON.
fn is_read(api: Api) -> bool {
    matches!(api, Api::Chat | Api::Completions | Api::Responses | Api::Messages | Api::Embeddings | Api::ImageGenerations | Api::Speech)
}
