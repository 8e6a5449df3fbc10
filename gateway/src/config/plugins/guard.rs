//! `[plugins.guard]`: which prompts and answers the guard blocks.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use spillway_plugins::guard::Rules;
use spillway_plugins::guard::safety::{Category, Thresholds};

use crate::config::BackendAuth;
use crate::config::checker::Checker;
use crate::config::raw::RawBackendAuth;
use crate::config::scalar::DurationText;
use crate::config::validate::backends;

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

/// The guard: which prompts and answers it blocks.
#[derive(Debug, Clone, PartialEq)]
pub struct GuardRules {
    /// The rules that need no service.
    pub local: Rules,
    /// Whether answers are checked, too.
    pub answers: bool,
    /// Tokens of a stream that are held back until they are checked.
    pub window: u64,
    /// Whether APIs are allowed whose content can't be checked.
    pub pass_unread: bool,
    /// The content safety service.
    pub safety: Option<SafetyRules>,
}

impl GuardRules {
    /// Equal for rules that give the same result for answers.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.answers.hash(&mut hasher);
        self.local.fingerprint().hash(&mut hasher);
        if let Some(safety) = &self.safety {
            (&safety.url, &safety.thresholds).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Whether what can't be checked is allowed.
    pub fn fails_open(&self) -> bool {
        self.safety.as_ref().is_some_and(|safety| safety.fails_open)
    }
}

/// The content safety service, and what it is asked to check.
#[derive(Debug, Clone, PartialEq)]
pub struct SafetyRules {
    /// Its root URL, without a slash at the end.
    pub url: String,
    /// The gateway's credential for it.
    pub auth: BackendAuth,
    /// The severities from which on content is blocked.
    pub thresholds: Thresholds,
    /// Whether prompts are checked for attacks.
    pub shield: bool,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Whether content is allowed if the service can't check it.
    pub fails_open: bool,
}

const KEY: &str = "plugins.guard";

pub(super) fn read(raw: Option<&RawGuard>, check: &mut Checker<'_>) -> Option<GuardRules> {
    let raw = raw?;
    for (at, _) in raw.words.iter().enumerate().filter(|(_, word)| word.trim().is_empty()) {
        check.problem(&format!("{KEY}.words[{at}]"), "must not be empty");
    }
    let patterns: Vec<(String, String)> = raw.patterns.iter().map(|(name, pattern)| (name.clone(), pattern.clone())).collect();
    let local = Rules::new(&patterns, &raw.words, raw.max_prompt_tokens, raw.allowed_tools.clone());
    let local = local.map_err(|error| check.problem(&format!("{KEY}.patterns"), error.to_string())).ok();
    let safety = raw.content_safety.as_ref().map(|raw| safety(raw, check));
    let window = raw.window.unwrap_or(50);
    if !(1..=10_000).contains(&window) {
        check.problem(&format!("{KEY}.window"), "must be from 1 to 10000");
    }
    Some(GuardRules { local: local?, answers: raw.answers.unwrap_or(false), window, pass_unread: raw.pass_unread.unwrap_or(false), safety })
}

fn safety(raw: &RawContentSafety, check: &mut Checker<'_>) -> SafetyRules {
    let key = format!("{KEY}.content_safety");
    check.https(&format!("{key}.url"), &raw.url, true);
    let auth = backends::auth(raw.auth.as_ref(), &key, check);
    if matches!(auth, BackendAuth::Passthrough) {
        check.problem(&format!("{key}.auth"), "'passthrough' is not possible: callers have no credentials for this service");
    }
    let eight = raw.severities == Some(RawSeverities::Eight);
    let mut blocked_from = if raw.categories.is_some() { [None; 4] } else { [Some(4); 4] };
    for (name, from) in raw.categories.iter().flatten() {
        match Category::ALL.iter().position(|category| category.label() == name) {
            Some(index) => blocked_from[index] = Some(*from),
            None => check.unknown_value(&format!("{key}.categories"), "category", name, Category::ALL.map(Category::label)),
        }
        let most = if eight { 7 } else { 6 };
        if !(1..=most).contains(from) {
            check.problem(&format!("{key}.categories"), format!("the severity of '{name}' must be from 1 to {most}"));
        }
    }
    let thresholds = Thresholds { blocked_from, eight, blocklists: raw.blocklists.clone() };
    let shield = raw.prompt_shield.unwrap_or(false);
    if thresholds.is_empty() && !shield {
        check.problem(&key, "checks nothing: it has no categories, no blocklists and no prompt_shield");
    }
    SafetyRules {
        url: raw.url.trim_end_matches('/').to_owned(),
        auth,
        thresholds,
        shield,
        timeout: check.span(raw.timeout, 2, &format!("{key}.timeout")),
        fails_open: raw.on_failure == Some(RawOnFailure::Open),
    }
}
