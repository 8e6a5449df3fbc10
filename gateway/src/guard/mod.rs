//! The content guard at work: rules of one's own, and the content safety service.

mod gate;
mod service;

use std::sync::Arc;

use spillway_plugins::guard::Finding;
use spillway_plugins::prompt::{Prompt, Role};

use crate::backend::auth::Identities;
use crate::clock::Clock;
use crate::config::GuardRules;
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
}

/// What a look at a content came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It may pass.
    Passed,
    /// It may not.
    Blocked(Finding),
    /// Nobody could say, and then it may not.
    Unknown,
}

impl Guard {
    /// With these rules. Nothing is asked yet.
    pub fn new(rules: GuardRules, identities: &mut Identities, metrics: &Metrics) -> Self {
        let service = rules.safety.clone().map(|safety| Arc::new(Service::new(safety, identities, metrics)));
        Guard { service, metrics: metrics.guard.clone(), rules }
    }

    /// Looks at a prompt of about so many `tokens`.
    pub async fn prompt(&self, prompt: &Prompt, tokens: u64, clock: &Clock) -> Judgement {
        if let Some(finding) = self.rules.local.prompt(prompt, tokens) {
            return self.blocked("request", finding);
        }
        let Some(service) = &self.service else { return Judgement::Passed };
        let mut texts = String::new();
        let mut documents = Vec::new();
        for message in &prompt.messages {
            texts.push_str(&message.text);
            texts.push('\n');
            for call in &message.calls {
                texts.push_str(&call.arguments);
                texts.push('\n');
            }
            if message.role == Role::Tool {
                documents.push(message.text.clone());
            }
        }
        let asked = service.prompt(texts, prompt.last_user().unwrap_or("").to_owned(), documents, clock).await;
        self.judged("request", asked)
    }

    /// Whether answers are looked at.
    pub fn reads_answers(&self) -> bool {
        self.rules.answers && (self.rules.local.reads_texts() || self.service.is_some())
    }

    /// Looks at a part of an answer.
    pub async fn answer(&self, text: &str, clock: &Clock) -> Judgement {
        if let Some(finding) = self.rules.local.text(text) {
            return self.blocked("answer", finding);
        }
        match &self.service {
            Some(service) if !text.trim().is_empty() => {
                let asked = service.text(text.to_owned(), clock).await;
                self.judged("answer", asked)
            }
            _ => Judgement::Passed,
        }
    }

    /// Something that can't be looked at.
    pub fn unreadable(&self, side: &'static str) -> Judgement {
        self.judged(side, Err(service::Unavailable))
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
                if self.rules.fails_open() { Judgement::Passed } else { Judgement::Unknown }
            }
        }
    }
}
