//! `[plugins.prompt_log]`: what is recorded of prompts and answers; and of a consumer's.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use spillway_plugins::prompt_log::Level;
use spillway_plugins::prompt_log::redact::{Class, Redactor};

use crate::config::checker::Checker;
use crate::config::otlp::{self, OtlpRules, RawOtlp};
use crate::config::scalar::{DurationText, SizeText};

/// The prompt log: prompts and answers in a file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPromptLog {
    /// Turns it on. Default false.
    pub enabled: Option<bool>,
    /// The file; rotated files are in the same folder, with a time in their names.
    pub path: Option<String>,
    /// How much is recorded. Default `redacted`.
    pub level: Option<RawLogLevel>,
    /// The share of requests that are recorded, 0 to 1. Default 1.
    pub sample: Option<f64>,
    /// What is removed from prompts and answers before anything is written. Default: all kinds.
    pub redact: Option<Vec<RawRedaction>>,
    /// name = your own regular expression: matching text is replaced by the name.
    #[serde(default)]
    pub patterns: BTreeMap<String, String>,
    /// Longest text of a message that is recorded; the rest is cut, and the record says so. Default `32KiB`.
    pub max_message: Option<SizeText>,
    /// Size at which a new file is begun. Default `100MiB`.
    pub rotate_size: Option<SizeText>,
    /// Time after which a new file is begun. Default `1d`.
    pub rotate_every: Option<DurationText>,
    /// How long rotated files are kept. Default `30d`.
    pub keep: Option<DurationText>,
    /// Compress rotated files. Default true.
    pub compress: Option<bool>,
    /// Send the records to an OpenTelemetry collector, too, as log events.
    pub otlp: Option<RawOtlp>,
}

/// How much is recorded of a request.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawLogLevel {
    /// Nothing.
    Off,
    /// Everything except prompt and answer.
    Metadata,
    /// Prompt and answer, without sensitive texts.
    Redacted,
    /// Prompt and answer, unchanged.
    Full,
}

/// What is removed from prompts and answers.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawRedaction {
    /// Mail addresses.
    Email,
    /// Telephone numbers.
    Phone,
    /// Bank accounts.
    Iban,
    /// Payment cards.
    Card,
    /// Keys and tokens of known shape, passwords in assignments.
    Secret,
}

/// What the prompt log records of a consumer's prompts and answers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawConsumerLog {
    /// How much is recorded. Default: the level of `plugins.prompt_log`.
    pub level: Option<RawLogLevel>,
    /// The share of its requests that are recorded, 0 to 1. Default: the share of `plugins.prompt_log`.
    pub sample: Option<f64>,
}

/// The prompt log: what it records of prompts and answers, and where.
#[derive(Debug, PartialEq)]
pub struct PromptLogRules {
    /// The file.
    pub path: PathBuf,
    /// How much is recorded of the requests of a consumer without a level of its own.
    pub level: Level,
    /// The share of requests that are recorded, 0 to 1.
    pub sample: f64,
    /// Removes sensitive texts.
    pub redactor: Redactor,
    /// Longest text of a message that is recorded, in bytes.
    pub max_message: usize,
    /// Size at which a new file is begun, in bytes.
    pub rotate_size: u64,
    /// Time after which a new file is begun.
    pub rotate_every: Duration,
    /// How long rotated files are kept.
    pub keep: Duration,
    /// Whether rotated files are compressed.
    pub compress: bool,
    /// The OpenTelemetry collector that gets the records, too.
    pub otlp: Option<OtlpRules>,
}

/// A consumer's own settings of the prompt log.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ConsumerLog {
    /// How much is recorded.
    pub level: Option<Level>,
    /// The share of requests that are recorded, 0 to 1.
    pub sample: Option<f64>,
}

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
        sample: check.sample(raw.sample, KEY).unwrap_or(1.0),
        redactor: redactor?,
        max_message: check.size(raw.max_message, 32 << 10, &format!("{KEY}.max_message")),
        rotate_size: check.size(raw.rotate_size, 100 << 20, &format!("{KEY}.rotate_size")) as u64,
        rotate_every: check.span(raw.rotate_every, DAY, &format!("{KEY}.rotate_every")),
        keep: check.span(raw.keep, 30 * DAY, &format!("{KEY}.keep")),
        compress: raw.compress.unwrap_or(true),
        otlp: raw.otlp.as_ref().map(|raw| {
            let key = format!("{KEY}.otlp");
            // Prompts are sent to it: plain HTTP is allowed only on this machine.
            check.https(&format!("{key}.url"), &raw.url, true);
            otlp::read(raw, &key, check)
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
    if let Some(path) = &raw.path {
        check.file_path(&format!("{KEY}.path"), path);
    }
    Some(Arc::new(rules))
}

/// A consumer's own settings.
pub(in crate::config) fn consumer(raw: Option<&RawConsumerLog>, key: &str, check: &mut Checker<'_>) -> ConsumerLog {
    raw.map_or_else(ConsumerLog::default, |raw| ConsumerLog { level: raw.level.map(level), sample: check.sample(raw.sample, key) })
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
