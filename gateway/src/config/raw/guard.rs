//! `[plugins.guard]`, as it is written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::backends::RawBackendAuth;
use crate::config::scalar::DurationText;

/// The guard: which prompts and answers it blocks.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawGuard {
    /// Words and phrases that must not occur in a prompt or answer, in upper or lower case.
    #[serde(default)]
    pub words: Vec<String>,
    /// name = regular expression of a text that must not occur; callers see only the name.
    #[serde(default)]
    pub patterns: BTreeMap<String, String>,
    /// Most tokens of a prompt, approximately. Default: no limit.
    pub max_prompt_tokens: Option<u64>,
    /// Tools that requests may offer, by name or kind. Default: all.
    pub allowed_tools: Option<Vec<String>>,
    /// Check answers, too. Default false.
    pub answers: Option<bool>,
    /// Tokens of a stream that are held back until they are checked. Default 50.
    pub window: Option<u64>,
    /// Allow APIs whose content can't be checked: realtime, uploads, files, batches, conversations and stored
    /// responses. Default false: callers with a guard can't use them.
    pub pass_unread: Option<bool>,
    /// Azure AI Content Safety.
    pub content_safety: Option<RawContentSafety>,
}

/// Azure AI Content Safety.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawContentSafety {
    /// The resource's root URL, such as `https://contoso.cognitiveservices.azure.com`.
    pub url: String,
    /// The gateway's credential for it. Default `{ type = "none" }`.
    pub auth: Option<RawBackendAuth>,
    /// category = the severity from which on it is blocked; `hate`, `self_harm`, `sexual`, `violence`. Default: 4 for
    /// each.
    pub categories: Option<BTreeMap<String, u8>>,
    /// The scale of severities: `four` (0, 2, 4, 6) or `eight` (0 to 7). Default `four`.
    pub severities: Option<RawSeverities>,
    /// Blocklists of the resource.
    #[serde(default)]
    pub blocklists: Vec<String>,
    /// Check prompts, and the results of tools, for attacks. Default false.
    pub prompt_shield: Option<bool>,
    /// Timeout of an answer. Default `2s`.
    pub timeout: Option<DurationText>,
    /// If content can't be checked: `closed` refuses it, `open` allows it. Default `closed`.
    pub on_failure: Option<RawOnFailure>,
}

/// The scale of severities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawSeverities {
    /// 0, 2, 4, 6.
    Four,
    /// 0 to 7.
    Eight,
}

/// What happens if content can't be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawOnFailure {
    /// It is allowed.
    Open,
    /// It is refused.
    Closed,
}
