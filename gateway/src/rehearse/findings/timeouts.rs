//! Time that isn't enough for a second try.

use std::time::Duration;

use spillway_plugins::tokens::may_reason;

use super::view::{PoolView, View, span};
use crate::rehearse::finding::{Finding, Severity};

const CODE: &str = "total-too-short";

/// Pools in which a member that takes a request and stays silent leaves no time for the next one.
pub(super) fn find(view: &View<'_>) -> Vec<Finding> {
    let several = |pool: &&PoolView<'_>| pool.choices() > 1 && pool.config.retry.max_attempts > 1;
    view.pools().iter().filter(several).flat_map(|pool| one(view, pool)).collect()
}

fn one(view: &View<'_>, pool: &PoolView<'_>) -> Vec<Finding> {
    let timeouts = &pool.config.timeouts;
    let place = |name: &str| view.written(&["total", name].map(|name| format!("{}.timeouts.{name}", pool.key))).to_owned();
    let mut found = Vec::new();
    if is_short(timeouts.first_token, timeouts.total) {
        let text = format!(
            "A member that takes a stream and stays silent uses 'first_token' ({}) of the {} that a request may take in all: the next \
             member has less time than its own first token may need, and callers get 504.",
            span(timeouts.first_token),
            span(timeouts.total)
        );
        let remedy = format!("Make 'total' at least twice 'first_token' ({}), or 'first_token' shorter.", span(timeouts.first_token * 2));
        found.push(view.finding(CODE, Severity::Error, &place("first_token"), text, remedy));
    }
    if is_short(timeouts.answer, timeouts.total) {
        let is_default = !view.lines.has(&format!("{}.timeouts.answer", pool.key));
        let text = format!(
            "A member that takes a plain request (no stream) and stays silent uses 'answer' ({}{}) of the {} that a request may take in \
             all: the next member has less time than its own answer may need, and callers get 504.",
            span(timeouts.answer),
            if is_default { ", the default" } else { "" },
            span(timeouts.total)
        );
        let remedy = "Set 'answer' to at most half of 'total'.";
        found.push(view.finding(CODE, Severity::Warning, &place("answer"), text, remedy));
    }
    found.extend(tier(view, pool));
    found.extend(thinking(view, pool));
    found
}

/// Not twice within the whole.
fn is_short(one: Duration, total: Duration) -> bool {
    one.saturating_mul(2) > total
}

/// A whole tier that stays silent: the time until the next one is asked.
fn tier(view: &View<'_>, pool: &PoolView<'_>) -> Option<Finding> {
    let (timeouts, retry) = (&pool.config.timeouts, &pool.config.retry);
    let first = pool.members.iter().map(|member| member.config.priority).min()?;
    let (upper, lower): (Vec<_>, Vec<_>) = pool.members.iter().partition(|member| member.config.priority == first);
    let members = u32::try_from(PoolView::backends(upper).len()).unwrap_or(u32::MAX);
    let rounds = members.saturating_add(1);
    if lower.is_empty() || members < 2 || retry.max_attempts < rounds {
        return None;
    }
    let cases = [("first_token", timeouts.first_token, "streams"), ("answer", timeouts.answer, "plain requests")];
    let (name, each, what) =
        cases.into_iter().find(|(_, each, _)| each.saturating_mul(rounds) > timeouts.total && !is_short(*each, timeouts.total))?;
    let text = format!(
        "If all {members} backends of the first tier of pool '{}' stay silent, {what} use {members} times '{name}' ({}) of the {} that a \
         request may take in all: the next tier has less time than its own answer may need.",
        pool.config.name,
        span(each),
        span(timeouts.total)
    );
    let key = view.written(&["total", name].map(|name| format!("{}.timeouts.{name}", pool.key))).to_owned();
    let remedy = format!("Make 'total' at least {rounds} times '{name}', or '{name}' shorter.");
    Some(view.finding(CODE, Severity::Warning, &key, text, remedy))
}

/// Models that think: a silent member isn't given up before `thinking` is over.
fn thinking(view: &View<'_>, pool: &PoolView<'_>) -> Option<Finding> {
    let timeouts = &pool.config.timeouts;
    let reasons = |model: &String| {
        let by_table = |backend| view.config.prices.traits(backend, model).reasons;
        may_reason(model) || pool.members.iter().any(|member| by_table(member.backend))
    };
    let model = pool.config.models.iter().find(|model| reasons(model) && !model.contains("embed"))?;
    is_short(timeouts.thinking, timeouts.total).then(|| {
        let text = format!(
            "'{model}' may think for 'thinking' ({}) before its first output, out of the {} that a request may take in all: a member that \
             stays silent for as long leaves no time for another one.",
            span(timeouts.thinking),
            span(timeouts.total)
        );
        let key = format!("{}.timeouts.thinking", pool.key);
        let severity = if view.lines.has(&key) { Severity::Warning } else { Severity::Note };
        view.finding("thinking-takes-all", severity, &key, text, "Set 'thinking' to at most half of 'total'.")
    })
}
