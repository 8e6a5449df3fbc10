//! `[plugins.guard]`, as it is written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::backends::RawBackendAuth;
use crate::config::scalar::DurationText;

/// What may be asked and answered.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawGuard {
    /// Words and phrases that must not stand in a prompt or answer, whatever their case.
    #[serde(default)]
    pub words: Vec<String>,
    /// name = regular expression of what must not stand there; callers are told the name.
    #[serde(default)]
    pub patterns: BTreeMap<String, String>,
    /// Most tokens of a prompt, about. Default: no bound.
    pub max_prompt_tokens: Option<u64>,
    /// Tools that requests may offer, by name or kind. Default: all.
    pub allowed_tools: Option<Vec<String>>,
    /// Look at answers, too. Default false.
    pub answers: Option<bool>,
    /// Tokens of a stream that stay back until they are looked at. Default 50.
    pub window: Option<u64>,
    /// Let pass what can't be looked at: realtime, uploads, files, batches, conversations and stored responses. Default
    /// false: callers under guard can't use them.
    pub pass_unread: Option<bool>,
    /// Azure AI Content Safety.
    pub content_safety: Option<RawContentSafety>,
}

/// Azure AI Content Safety.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawContentSafety {
    /// The resource's root, such as `https://contoso.cognitiveservices.azure.com`.
    pub url: String,
    /// How the gateway proves itself there. Default `{ type = "none" }`.
    pub auth: Option<RawBackendAuth>,
    /// category = the severity from which on it is blocked; `hate`, `self_harm`, `sexual`, `violence`. Default: each from 4.
    pub categories: Option<BTreeMap<String, u8>>,
    /// How finely severities are told: `four` (0, 2, 4, 6) or `eight` (0 to 7). Default `four`.
    pub severities: Option<RawSeverities>,
    /// Blocklists of the resource.
    #[serde(default)]
    pub blocklists: Vec<String>,
    /// Search prompts, and what tools brought, for attacks. Default false.
    pub prompt_shield: Option<bool>,
    /// How long an answer may take. Default `2s`.
    pub timeout: Option<DurationText>,
    /// What becomes of what can't be judged: `closed` refuses it, `open` lets it pass. Default `closed`.
    pub on_failure: Option<RawOnFailure>,
}

/// How finely severities are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawSeverities {
    /// 0, 2, 4, 6.
    Four,
    /// 0 to 7.
    Eight,
}

/// What becomes of what can't be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawOnFailure {
    /// It passes.
    Open,
    /// It is refused.
    Closed,
}
