//! `[plugins.prompt_log]`.

use std::sync::Arc;

use spillway_plugins::prompt_log::Level;
use spillway_plugins::prompt_log::redact::{Class, Redactor};

use super::checker::Checker;
use super::server;
use crate::config::raw::{RawConsumerLog, RawLogLevel, RawOtlp, RawPromptLog, RawRedaction};
use crate::config::{ConsumerLog, OtlpRules, PromptLogRules};

const KEY: &str = "plugins.prompt_log";
const DAY: u64 = 86_400;

pub(super) fn read(raw: Option<&RawPromptLog>, check: &mut Checker<'_>) -> Option<Arc<PromptLogRules>> {
    let raw = raw?;
    let classes: Vec<Class> = match &raw.redact {
        Some(given) => given.iter().map(|class| redaction(*class)).collect(),
        None => Class::NAMES.map(|(_, class)| class).to_vec(),
    };
    let own: Vec<(String, String)> = raw.patterns.iter().map(|(name, pattern)| (name.clone(), pattern.clone())).collect();
    let redactor = Redactor::new(&classes, &own).map_err(|error| check.problem(&format!("{KEY}.patterns"), error.to_string())).ok();
    let rules = PromptLogRules {
        path: raw.path.clone().unwrap_or_default().into(),
        level: raw.level.map_or(Level::default(), level),
        sample: share(raw.sample, KEY, check).unwrap_or(1.0),
        redactor: redactor?,
        max_message: server::size(raw.max_message, 32 << 10, &format!("{KEY}.max_message"), check),
        rotate_size: server::size(raw.rotate_size, 100 << 20, &format!("{KEY}.rotate_size"), check) as u64,
        rotate_every: server::span(raw.rotate_every, DAY, &format!("{KEY}.rotate_every"), check),
        keep: server::span(raw.keep, 30 * DAY, &format!("{KEY}.keep"), check),
        compress: raw.compress.unwrap_or(true),
        otlp: raw.otlp.as_ref().map(|raw| {
            let key = format!("{KEY}.otlp");
            // Prompts are sent to it: plain HTTP is allowed only on this machine.
            check.https(&format!("{key}.url"), &raw.url, true);
            otlp(raw, &key, check)
        }),
    };
    if rules.rotate_every > rules.keep {
        check.problem(&format!("{KEY}.rotate_every"), "is longer than 'keep': records would be kept longer than that");
    }
    if raw.enabled != Some(true) {
        return None;
    }
    if raw.path.as_ref().is_none_or(String::is_empty) {
        check.problem(KEY, "'path' is missing");
    }
    Some(Arc::new(rules))
}

/// A collector. The caller has checked its URL.
pub(super) fn otlp(raw: &RawOtlp, key: &str, check: &mut Checker<'_>) -> OtlpRules {
    let mut headers = Vec::new();
    for (name, value) in &raw.headers {
        let key = format!("{key}.headers.{name}");
        if name.parse::<http::HeaderName>().is_err() {
            check.problem(&key, format!("'{name}' is not a header name"));
        }
        headers.extend(check.secret(&key, value).map(|value| (name.clone(), value)));
    }
    OtlpRules { url: raw.url.trim_end_matches('/').to_owned(), headers }
}

/// A consumer's own settings.
pub(super) fn consumer(raw: Option<&RawConsumerLog>, key: &str, check: &mut Checker<'_>) -> ConsumerLog {
    raw.map_or_else(ConsumerLog::default, |raw| ConsumerLog { level: raw.level.map(level), sample: share(raw.sample, key, check) })
}

pub(super) fn share(given: Option<f64>, key: &str, check: &mut Checker<'_>) -> Option<f64> {
    if given.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
        check.problem(&format!("{key}.sample"), "must be from 0 to 1");
    }
    given
}

fn level(raw: RawLogLevel) -> Level {
    match raw {
        RawLogLevel::Off => Level::Off,
        RawLogLevel::Metadata => Level::Metadata,
        RawLogLevel::Redacted => Level::Redacted,
        RawLogLevel::Full => Level::Full,
    }
}

fn redaction(raw: RawRedaction) -> Class {
    match raw {
        RawRedaction::Email => Class::Email,
        RawRedaction::Phone => Class::Phone,
        RawRedaction::Iban => Class::Iban,
        RawRedaction::Card => Class::Card,
        RawRedaction::Secret => Class::Secret,
    }
}
