//! Circuits that never open, or stay open for too long.

use std::time::Duration;

use http::StatusCode;

use super::view::{PoolView, View, refuses, span};
use crate::balance::circuit::{ErrorKind, Threshold};
use crate::rehearse::finding::{Finding, Severity};

/// So many failures meet callers before the circuit opens, at least: too many.
const MANY: u32 = 100;
/// So many calls within the interval are needed before a percentage counts: a pool with little traffic never has them.
const MANY_CALLS: u32 = 500;
/// A member that works again should not wait for longer.
const LONG: Duration = Duration::from_secs(15 * 60);
/// The first time that it is out.
const LONG_FIRST: Duration = Duration::from_secs(5 * 60);

/// What circuits of pools don't do.
pub(super) fn find(view: &View<'_>) -> Vec<Finding> {
    let pools = view.pools();
    let real = pools.iter().filter(|pool| !pool.members.is_empty());
    real.flat_map(|pool| off(view, pool).or_else(|| too_rare(view, pool)).into_iter().chain(too_long(view, pool))).collect()
}

/// Failures that open nothing.
fn off(view: &View<'_>, pool: &PoolView<'_>) -> Option<Finding> {
    let rules = &pool.config.circuit;
    let statuses =
        [500, 502, 503, 504].iter().filter_map(|code| StatusCode::from_u16(*code).ok()).any(|code| rules.statuses.contains(code));
    let errors = [ErrorKind::Connect, ErrorKind::Reset].iter().any(|kind| rules.errors.contains(kind));
    let (what, key) = match (statuses, errors) {
        (true, true) => return None,
        (false, false) => ("nothing that goes wrong", String::new()),
        (false, true) => ("none of the statuses 500, 502, 503 and 504", ".statuses".to_owned()),
        (true, false) => ("neither a refused nor a broken connection", ".errors".to_owned()),
    };
    let text = format!(
        "In pool '{}', {what} opens a member's circuit: a member that fails gets its share of the requests all the time, and each of them \
         pays for a failed attempt.",
        pool.config.name
    );
    // A health check takes a member out that is down; one that answers but fails stays in.
    let severity = if pool.config.health.is_some() && !errors && statuses { Severity::Note } else { Severity::Warning };
    let remedy = "Leave 'statuses' and 'errors' out: the defaults count server errors and broken connections.";
    Some(view.finding("circuit-off", severity, &format!("{}.circuit{key}", pool.key), text, remedy))
}

/// A threshold that isn't reached.
fn too_rare(view: &View<'_>, pool: &PoolView<'_>) -> Option<Finding> {
    let rules = &pool.config.circuit;
    let (needed, name, many) = match rules.threshold {
        Threshold::Failures(count) => (count, "failures", MANY),
        Threshold::Percent { min_calls, .. } => (min_calls, "min_calls", MANY_CALLS),
    };
    let key = format!("{}.circuit.{name}", pool.key);
    let interval = span(rules.interval);
    match most_calls(view, pool) {
        Some(most) if u64::from(needed) > most => {
            let text = format!(
                "The circuit never opens: '{name}' needs {needed} within {interval}, and the limits let at most {most} requests reach a \
                 member in that time."
            );
            let remedy = format!("Make '{name}' much smaller, such as {}.", if name == "failures" { 5 } else { 10 });
            Some(view.finding("circuit-never-opens", Severity::Warning, &key, text, remedy))
        }
        _ if needed >= many => {
            let text = format!(
                "The circuit opens only after {needed} {} within {interval}: with less traffic it never does, and until then every request \
                 may meet the member that fails.",
                if name == "failures" { "failures" } else { "calls" }
            );
            let remedy = format!("Make '{name}' smaller, such as {}.", if name == "failures" { 5 } else { 10 });
            Some(view.finding("circuit-never-opens", Severity::Warning, &key, text, remedy))
        }
        _ => None,
    }
}

/// The most calls of one member within the circuit's interval that the limits allow; `None` if they allow any number.
fn most_calls(view: &View<'_>, pool: &PoolView<'_>) -> Option<u64> {
    let of_pool = pool.config.limits.requests_per_minute.filter(|_| refuses(&pool.config.limits));
    let per_minute = of_pool.or_else(|| {
        let callers: Vec<_> = view.callers().into_iter().filter(|caller| caller.may_use(pool.config)).collect();
        let is_closed = view.config.plugins.auth.required && !callers.is_empty();
        let unlisted = view.config.plugins.auth.tokens.as_ref().is_some_and(|tokens| tokens.unlisted.is_some());
        let each = |rules: &spillway_plugins::limits::Rules| rules.requests_per_minute.filter(|_| refuses(rules));
        (is_closed && !unlisted).then(|| callers.iter().map(|caller| each(&caller.limits.rules)).sum::<Option<u64>>()).flatten()
    })?;
    let minutes = rules_minutes(pool.config.circuit.interval);
    // A request asks a member once; again only if the pool says so, or if it is the only one.
    let times = (1 + pool.config.retry.same_target + u32::from(pool.choices() == 1)).min(pool.config.retry.max_attempts);
    Some(per_minute.saturating_mul(minutes).saturating_mul(u64::from(times)))
}

/// Whole minutes, rounded up: so often a limit per minute can be used up.
fn rules_minutes(interval: Duration) -> u64 {
    interval.as_secs().div_ceil(60).max(1)
}

/// A member that works again is not asked.
fn too_long(view: &View<'_>, pool: &PoolView<'_>) -> Vec<Finding> {
    let rules = &pool.config.circuit;
    let cases = [
        ("first_trip", rules.first_trip, rules.first_trip > LONG_FIRST, "a failure"),
        ("trip", rules.trip, rules.trip > LONG, "failures that go on"),
        ("max_retry_after", rules.max_retry_after, rules.max_retry_after > LONG && rules.honour_retry_after, "a long Retry-After"),
        ("default_retry_after", rules.default_retry_after, rules.default_retry_after > LONG, "a 429 without Retry-After"),
    ];
    let long = cases.into_iter().filter(|(.., is_long, _)| *is_long);
    long.map(|(name, time, _, after)| {
        let text = format!(
            "After {after}, a member of pool '{}' gets no requests for up to {}, although it may work again at once.",
            pool.config.name,
            span(time)
        );
        let remedy = format!("Make '{name}' shorter; a minute or two is usual.");
        view.finding("circuit-stays-open", Severity::Warning, &format!("{}.circuit.{name}", pool.key), text, remedy)
    })
    .collect()
}
