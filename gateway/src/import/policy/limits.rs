//! Policies that limit.

use super::element::Element;
use super::wishes::Wish;
use crate::import::draft::DraftLimits;
use crate::import::finding::Findings;

/// Whose limit it is.
enum Whose {
    /// One for all callers together.
    All,
    /// One for each caller.
    Each,
    Unclear,
}

fn whose(element: &Element<'_, '_>, findings: &mut Findings) -> Whose {
    let key = element.attribute("counter-key").or_else(|| element.attribute("key")).unwrap_or_default();
    let compact: String = key.chars().filter(|c| !c.is_whitespace()).collect();
    if compact.starts_with("@(") || compact.starts_with("@{") {
        let of_caller = ["@(context.Subscription.Id)", "@(context.Subscription.Key)", "@(context.Subscription?.Id)", "@(context.User.Id)"];
        if of_caller.contains(&compact.as_str()) || compact.starts_with("@(context.Subscription?.Id??") {
            return Whose::Each;
        }
        findings.manual(
            element.place(),
            "a block in a comment, [[consumers]]",
            format!("counted by the expression {key}: Spillway counts by consumer, group or pool; choose one and set its limits"),
        );
        return Whose::Unclear;
    }
    Whose::All
}

fn grant(element: &Element<'_, '_>, limits: DraftLimits, each: bool, wish: &mut Wish, findings: &mut Findings) {
    if limits == DraftLimits::default() {
        return;
    }
    let whose = if each { Whose::Each } else { whose(element, findings) };
    match whose {
        Whose::All => {
            let own = &mut wish.limits;
            own.requests_per_minute = own.requests_per_minute.or(limits.requests_per_minute);
            own.tokens_per_minute = own.tokens_per_minute.or(limits.tokens_per_minute);
            own.concurrent_requests = own.concurrent_requests.or(limits.concurrent_requests);
            own.token_quota = own.token_quota.or(limits.token_quota);
            findings.approximate(element.place(), "pools[].limits", "one counter for all callers, now for each pool of this policy");
        }
        Whose::Each => {
            findings.manual(
                element.place(),
                "a block in a comment, [[consumers]]",
                "each subscription had these limits: make a consumer of each, with these limits",
            );
            wish.per_consumer.push((element.place(), limits));
        }
        Whose::Unclear => wish.per_consumer.push((element.place(), limits)),
    }
}

pub(super) fn tokens(element: &Element<'_, '_>, wish: &mut Wish, findings: &mut Findings) {
    let mut limits = DraftLimits { tokens_per_minute: element.positive("tokens-per-minute", findings), ..DraftLimits::default() };
    if let Some(quota) = element.positive("token-quota", findings) {
        let period = match element.attribute("token-quota-period").unwrap_or_default().to_ascii_lowercase().as_str() {
            "hourly" => Some("hour"),
            "daily" => Some("day"),
            "weekly" => Some("week"),
            "monthly" => Some("month"),
            "yearly" => Some("year"),
            _ => None,
        };
        match period {
            Some(period) => {
                limits.token_quota = Some((quota, period));
                findings.approximate(
                    element.at("token-quota"),
                    format!("token_quota = {{ tokens = {quota}, period = \"{period}\" }}"),
                    "periods begin at midnight UTC, weeks on Monday",
                );
            }
            None => findings.unsupported(element.at("token-quota-period"), "must be Hourly, Daily, Weekly, Monthly or Yearly"),
        }
    }
    if element.attribute("tokens-per-minute").is_some() && limits.tokens_per_minute.is_some() {
        findings.approximate(
            element.at("tokens-per-minute"),
            format!("tokens_per_minute = {}", limits.tokens_per_minute.unwrap_or_default()),
            "in any 60 seconds, reserved before the answer: prompt and completion cap, then corrected to what was used",
        );
    }
    if element.attribute("estimate-prompt-tokens").is_some_and(|text| text == "false") {
        findings.approximate(element.at("estimate-prompt-tokens"), "", "Spillway always reserves an estimate of the prompt");
    }
    for (name, value) in element.attributes() {
        if name.ends_with("-header-name") {
            let own = match name.as_str() {
                "retry-after-header-name" => "retry-after",
                "remaining-tokens-header-name" => "x-ratelimit-remaining-tokens",
                _ => "none",
            };
            findings.approximate(element.at(&name), format!("the header {own} instead of {value}"), "names of headers are fixed");
        } else if name.ends_with("-variable-name") {
            findings.unsupported(element.at(&name), "there are no policy variables");
        }
    }
    element.unknown(&["counter-key", "tokens-per-minute", "token-quota", "token-quota-period", "estimate-prompt-tokens"], findings);
    grant(element, limits, false, wish, findings);
}

/// `rate-limit` counts by subscription, `rate-limit-by-key` by a key.
pub(super) fn requests(element: &Element<'_, '_>, wish: &mut Wish, findings: &mut Findings) {
    let (calls, period) = (element.positive("calls", findings), element.positive("renewal-period", findings));
    let Some((calls, period)) = calls.zip(period) else {
        return findings.manual(
            element.place(),
            "",
            "set requests_per_minute of consumers by hand: calls or renewal-period is not a number",
        );
    };
    let per_minute = calls.saturating_mul(60).div_ceil(period);
    let became = format!("requests_per_minute = {per_minute}");
    if period == 60 {
        findings.exact(element.at("calls"), became);
    } else {
        findings.approximate(element.at("calls"), became, format!("{calls} calls per {period} s, as a rate per minute"));
    }
    let limits = DraftLimits { requests_per_minute: Some(per_minute), ..DraftLimits::default() };
    element.unknown(&["calls", "renewal-period", "counter-key"], findings);
    grant(element, limits, element.name() == "rate-limit", wish, findings);
}

pub(super) fn concurrency(element: &Element<'_, '_>, wish: &mut Wish, findings: &mut Findings) {
    let limits = DraftLimits { concurrent_requests: element.positive("max-count", findings), ..DraftLimits::default() };
    grant(element, limits, false, wish, findings);
}
