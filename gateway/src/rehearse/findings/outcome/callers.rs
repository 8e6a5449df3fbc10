//! Callers got errors although a member of their pool was not touched by the fault.

use std::collections::BTreeMap;

use super::shown::Shown;
use crate::rehearse::fault::FaultKind;
use crate::rehearse::finding::{Finding, Severity};
use crate::rehearse::findings::view::{MemberView, PoolView, View, list};
use crate::rehearse::outcome::{RequestOutcome, Served};

/// A share of bad requests up to which it may be the price of finding out.
const FEW: f64 = 0.05;

/// One finding for each pool that had a way out and didn't take it.
pub(in crate::rehearse::findings) fn find(view: &View<'_>, shown: &Shown<'_>) -> Vec<Finding> {
    if !is_of_backends(shown.fault.fault.kind) {
        return Vec::new();
    }
    let pools = shown.pools(view);
    pools
        .iter()
        .filter(|(pool, _)| shown.is_sound(&pool.config.name))
        .filter_map(|(pool, sums)| one(view, shown, pool, sums.requests))
        .collect()
}

/// Whether other members can make up for it.
fn is_of_backends(kind: FaultKind) -> bool {
    match kind {
        FaultKind::Throttled
        | FaultKind::ThrottledSilently
        | FaultKind::SharedQuota
        | FaultKind::Failing
        | FaultKind::Refused
        | FaultKind::TierOut
        | FaultKind::LocationOut
        | FaultKind::DnsGone
        | FaultKind::TlsBroken
        | FaultKind::KeyRevoked
        | FaultKind::TokenExpired
        | FaultKind::RoleMissing
        | FaultKind::SlowFirstToken
        | FaultKind::Silence
        | FaultKind::Malformed
        | FaultKind::Oversized => true,
        // After its first output no other member can continue a stream unseen, and a bad prompt is bad everywhere.
        FaultKind::Cut | FaultKind::Stall | FaultKind::ContentFilter | FaultKind::ContextTooLong => false,
        FaultKind::None
        | FaultKind::RedisSlow
        | FaultKind::RedisGone
        | FaultKind::LedgerFull
        | FaultKind::TokenIssuerGone
        | FaultKind::CallerIssuerGone
        | FaultKind::Flood
        | FaultKind::Reload
        | FaultKind::Upgrade => false,
    }
}

fn one(view: &View<'_>, shown: &Shown<'_>, pool: &PoolView<'_>, requests: u64) -> Option<Finding> {
    let touched = &shown.fault.fault.backends;
    let untouched: Vec<_> = pool.members.iter().filter(|member| !touched.contains(&member.config.backend)).collect();
    if untouched.is_empty() || untouched.len() == pool.members.len() {
        return None;
    }
    let bad: Vec<_> = shown.bad(&pool.config.name).collect();
    if bad.is_empty() {
        return None;
    }
    let (key, cause, remedy) = cause(view, pool, &untouched, &bad);
    let text = format!(
        "With {}, {} of {requests} requests for pool '{}' failed ({}), although {} worked: {cause}.",
        shown.said(),
        bad.len(),
        pool.config.name,
        seen(&bad),
        list(PoolView::backends(untouched.iter().copied())),
    );
    let severity = if bad.len() as f64 <= FEW * requests as f64 { Severity::Warning } else { Severity::Error };
    Some(view.finding("caller-saw-failure", severity, &key, text, remedy))
}

/// What callers saw: `3 × 502, 1 × 503`.
fn seen(bad: &[&RequestOutcome]) -> String {
    let mut statuses: BTreeMap<&str, BTreeMap<u16, usize>> = BTreeMap::new();
    for request in bad {
        let how = match request.served {
            Served::LastResort => "the last resort",
            _ if request.status == 0 => "no answer",
            _ if request.status == 200 => "broken off",
            _ => "",
        };
        *statuses.entry(how).or_default().entry(request.status).or_default() += 1;
    }
    let counted = statuses.iter().flat_map(|(how, by_status)| {
        by_status.iter().map(move |(status, count)| if how.is_empty() { format!("{count} × {status}") } else { format!("{count} × {how}") })
    });
    counted.collect::<Vec<_>>().join(", ")
}

/// The setting that most likely kept the others out, what it does, and what to change.
fn cause(view: &View<'_>, pool: &PoolView<'_>, untouched: &[&MemberView<'_>], bad: &[&RequestOutcome]) -> (String, String, &'static str) {
    let all = |test: &dyn Fn(&RequestOutcome) -> bool| bad.iter().filter(|request| test(request)).count() * 2 > bad.len();
    let reached = |request: &RequestOutcome| {
        request.attempts.iter().any(|attempt| untouched.iter().any(|member| *member.backend.name == *attempt.backend))
    };
    let by_gateway = |request: &RequestOutcome| matches!(request.served, Served::Gateway { .. } | Served::LastResort);
    let narrow = untouched.iter().find_map(|member| Some((member, member.backend.max_concurrent?)));
    let retry = &pool.config.retry;
    if let Some((member, slots)) = narrow.filter(|_| all(&|request| by_gateway(request) && !reached(request))) {
        let key = format!("backends[{}].max_concurrent", member.config.backend);
        let cause = format!("'{}' takes only {slots} requests at a time", member.backend.name);
        return (key, cause, "Make 'max_concurrent' as large as what flows over to it, or add a member beside it.");
    }
    if all(&|request| matches!(request.served, Served::Member { .. }) && request.status >= 400) {
        let key = format!("{}.retry.statuses", pool.key);
        return (key, "the answer of the member that failed was delivered".to_owned(), "Add these statuses to 'retry.statuses'.");
    }
    if all(&|request| request.status == 504) {
        let key = view.written(&["total", "first_token"].map(|name| format!("{}.timeouts.{name}", pool.key))).to_owned();
        return (key, "the time was over before they were asked".to_owned(), "Make 'total' longer, or 'first_token' and 'answer' shorter.");
    }
    if all(&|request| request.attempts.len() >= retry.max_attempts as usize && !reached(request)) {
        let key = format!("{}.retry.max_attempts", pool.key);
        return (key, "the attempts were used up before they were asked".to_owned(), "Make 'max_attempts' at least the number of members.");
    }
    if all(&|request| !request.attempts.is_empty() && !reached(request)) && view.lines.has(&format!("{}.retry.budget", pool.key)) {
        let key = format!("{}.retry.budget", pool.key);
        return (key, "no retry was left for them".to_owned(), "Allow more retries in 'retry.budget', or leave it out.");
    }
    let key = format!("{}.members", pool.key);
    (
        key,
        "they did not get these requests".to_owned(),
        "Let a member of a lower tier serve them: look at fences, classes, weights and limits.",
    )
}
