//! Waits that can't help.

use std::time::Duration;

use http::StatusCode;
use spillway_plugins::limits::Class;

use super::view::{PoolView, View, span};
use crate::rehearse::finding::{Finding, Severity};

const CODE: &str = "wait-never-helps";

/// `retry.wait` and `patience` that no request profits from.
pub(super) fn find(view: &View<'_>) -> Vec<Finding> {
    view.pools().iter().flat_map(|pool| wait(view, pool).into_iter().chain(patience(view, pool))).collect()
}

fn wait(view: &View<'_>, pool: &PoolView<'_>) -> Option<Finding> {
    let (retry, circuit) = (&pool.config.retry, &pool.config.circuit);
    let key = format!("{}.retry.wait", pool.key);
    if retry.wait.is_zero() || !view.lines.has(&key) {
        return None;
    }
    let warning = |text, remedy: &str| Some(view.finding(CODE, Severity::Warning, &key, text, remedy));
    if !circuit.honour_retry_after && circuit.default_retry_after > retry.wait {
        let text = format!(
            "No request waits: each 429 closes its member for {} ('default_retry_after', because 'honour_retry_after' is off), which is \
             longer than 'wait' ({}). Callers get 429 at once.",
            span(circuit.default_retry_after),
            span(retry.wait)
        );
        return warning(text, "Make 'wait' longer than 'default_retry_after', or set honour_retry_after = true.");
    }
    if retry.queue == 0 {
        let text = "No request waits: 'queue' has no places. Callers get 429 at once.".to_owned();
        return warning(text, "Give 'queue' as many places as requests may wait at the same time.");
    }
    if !retry.statuses.contains(StatusCode::TOO_MANY_REQUESTS) {
        let text = "No request waits: 429 is not in 'retry.statuses', so callers get it at once.".to_owned();
        return warning(text, "Add 429 to 'retry.statuses'.");
    }
    if pool.members.is_empty() {
        let text = "No request waits: no member of this pool is a real backend.".to_owned();
        return Some(view.finding(CODE, Severity::Note, &key, text, "Leave 'wait' out, or add a backend."));
    }
    let users: Vec<_> = view.callers().into_iter().filter(|caller| caller.may_use(pool.config)).collect();
    let longest = users.iter().map(|caller| caller.deadline).max_by_key(|deadline| deadline.unwrap_or(Duration::MAX)).flatten()?;
    (longest <= retry.wait && users.iter().all(|caller| caller.deadline.is_some())).then(|| {
        let text = format!(
            "A request that waits for 'wait' ({}) is answered after every deadline of this pool's consumers (the longest is {}).",
            span(retry.wait),
            span(longest)
        );
        view.finding(CODE, Severity::Warning, &key, text, "Make 'wait' shorter than the deadlines.")
    })
}

fn patience(view: &View<'_>, pool: &PoolView<'_>) -> Vec<Finding> {
    let Some(steering) = &pool.config.steering else { return Vec::new() };
    let total = pool.config.timeouts.total;
    let long = Class::ALL.into_iter().filter(|class| steering.patience[*class as usize] >= total);
    long.map(|class| {
        let text = format!(
            "No request waits for {} ('patience'): a request may take {} in all, and leaves in time for the next tier.",
            span(steering.patience[class as usize]),
            span(total)
        );
        let key = format!("{}.patience.{}", pool.key, class.label());
        view.finding(CODE, Severity::Warning, &key, text, "Make 'timeouts.total' of this pool longer, or 'patience' shorter.")
    })
    .collect()
}
