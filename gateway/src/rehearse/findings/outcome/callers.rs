//! Callers got errors although a member of their pool was not touched by the fault.

use std::collections::BTreeSet;

use super::seen::seen;
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
        | FaultKind::Malformed => true,
        // After its first output no other member can continue a stream unseen; a bad prompt is bad everywhere; and answers of a
        // million tokens use up the limits.
        FaultKind::Oversized | FaultKind::Cut | FaultKind::Stall | FaultKind::ContentFilter | FaultKind::ContextTooLong => false,
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
    let fault = &shown.fault.fault;
    // A 429 of one member closes all that share its quota.
    let throttles = matches!(fault.kind, FaultKind::Throttled | FaultKind::ThrottledSilently | FaultKind::SharedQuota);
    let closed: BTreeSet<_> = fault.backends.iter().filter(|_| throttles).flat_map(|at| labels(view, *at)).collect();
    let is_touched = |member: &&MemberView<'_>| {
        let at = member.config.backend;
        fault.backends.contains(&at) || fault.full.contains(&at) || labels(view, at).any(|label| closed.contains(label))
    };
    let untouched: Vec<_> = pool.members.iter().filter(|member| !is_touched(member)).collect();
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

/// The quota pools that deployments of a backend are in.
fn labels<'c>(view: &View<'c>, backend: usize) -> impl Iterator<Item = &'c str> {
    let name = view.config.backends.get(backend).map(|backend| &backend.name);
    view.config.quota_pools.iter().filter(move |(target, _)| Some(&target.backend) == name).map(|(_, label)| &**label)
}

/// The class or the locations of the consumer whose requests failed, if these kept the others out.
fn fenced(
    view: &View<'_>,
    pool: &PoolView<'_>,
    untouched: &[&MemberView<'_>],
    bad: &[&RequestOutcome],
) -> Option<(String, String, &'static str)> {
    let name = bad.iter().find_map(|request| request.consumer.as_deref())?;
    let at = view.config.consumers.iter().position(|consumer| *consumer.name == *name)?;
    let callers = view.callers();
    let caller = callers.get(at)?;
    if untouched.iter().all(|member| !caller.may_be_at(member.backend)) {
        let key = format!("{}.locations", caller.key);
        return Some((
            key,
            format!("they are outside of the locations of {}", caller.name),
            "Allow a further location, or add a backend inside.",
        ));
    }
    let shut = untouched.iter().find(|member| !member.config.serves.accepts(caller.class, false))?;
    let all_shut = untouched.iter().all(|member| !member.config.serves.accepts(caller.class, false) || !caller.may_be_at(member.backend));
    all_shut.then(|| {
        let key = view.written(&["classes", "late_only"].map(|name| format!("{}.{name}", shut.key))).to_owned();
        let cause = format!("in pool '{}' they don't serve class '{}'", pool.config.name, caller.class.label());
        (key, cause, "Let a member of a lower tier serve this class, too.")
    })
}

/// The setting that most likely kept the others out, what it does, and what to change.
fn cause(view: &View<'_>, pool: &PoolView<'_>, untouched: &[&MemberView<'_>], bad: &[&RequestOutcome]) -> (String, String, &'static str) {
    let all = |test: &dyn Fn(&RequestOutcome) -> bool| bad.iter().filter(|request| test(request)).count() * 2 > bad.len();
    let reached = |request: &RequestOutcome| {
        request.attempts.iter().any(|attempt| untouched.iter().any(|member| *member.backend.name == *attempt.backend))
    };
    if let Some(fenced) = fenced(view, pool, untouched, bad) {
        return fenced;
    }
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
