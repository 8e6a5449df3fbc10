//! `[plugins.guard]`.

use spillway_plugins::guard::Rules;
use spillway_plugins::guard::safety::{Category, Thresholds};

use super::checker::Checker;
use super::{backends, server};
use crate::config::raw::{RawContentSafety, RawGuard, RawOnFailure, RawSeverities};
use crate::config::{BackendAuth, GuardRules, SafetyRules};

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
            None => check.unknown(&format!("{key}.categories"), "category", name, Category::ALL.map(Category::label)),
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
        timeout: server::span(raw.timeout, 2, &format!("{key}.timeout"), check),
        fails_open: raw.on_failure == Some(RawOnFailure::Open),
    }
}
