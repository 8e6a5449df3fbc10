//! Retries that are not made, and retries that multiply.

use http::StatusCode;

use super::view::{PoolView, View};
use crate::rehearse::finding::{Finding, Severity};

/// A share of retries from which on an outage doubles the load that is left.
const LARGE_SHARE: f64 = 0.5;
/// The same, as a floor per second.
const LARGE_FLOOR: u32 = 200;

/// What the pools' rules for retries lead to.
pub(super) fn find(view: &View<'_>) -> Vec<Finding> {
    let pools = view.pools();
    let real = pools.iter().filter(|pool| !pool.members.is_empty());
    real.flat_map(|pool| {
        let several = pool.choices() > 1;
        let missing = several.then(|| [off(view, pool), too_few(view, pool), throttle(view, pool), failures(view, pool)]);
        missing.into_iter().flatten().flatten().chain(multiply(view, pool)).collect::<Vec<_>>()
    })
    .collect()
}

/// No retry after a failure at all.
fn off(view: &View<'_>, pool: &PoolView<'_>) -> Option<Finding> {
    let retry = &pool.config.retry;
    let (key, why) = match () {
        () if retry.max_attempts == 1 => ("max_attempts", "'max_attempts' is 1"),
        () if retry.budget.share <= 0.0 && retry.budget.floor_per_second == 0 => ("budget", "'budget' allows none"),
        () => return None,
    };
    let text = format!(
        "After a failure (5xx, a broken connection, a timeout) no other member of pool '{}' is tried, because {why}: callers get 502 or \
         504 although others work. Only a 429 goes on to the next member.",
        pool.config.name
    );
    let remedy = match key {
        "budget" => "Leave 'budget' out: by default a fifth of the requests, and ten per second, may be retried.",
        _ => "Make 'max_attempts' at least 2; the default is 4.",
    };
    Some(view.finding("retries-off", Severity::Error, &format!("{}.retry.{key}", pool.key), text, remedy))
}

/// Attempts that are used up before another member, or the next tier, is asked.
fn too_few(view: &View<'_>, pool: &PoolView<'_>) -> Option<Finding> {
    let retry = &pool.config.retry;
    if retry.max_attempts == 1 {
        return None;
    }
    let key = format!("{}.retry.max_attempts", pool.key);
    let remedy = |least: u32| format!("Make 'max_attempts' at least {least}.");
    let again = retry.same_target.saturating_add(1);
    if retry.max_attempts <= again {
        let text = format!(
            "A member of pool '{}' that fails gets each request {again} times ('same_target'), which are all of its {} attempts: no other \
             member is asked, and callers get 502.",
            pool.config.name, retry.max_attempts
        );
        return Some(view.finding("attempts-end-too-early", Severity::Error, &key, text, remedy(again + 1)));
    }
    let first = pool.members.iter().map(|member| member.config.priority).min()?;
    let (upper, lower): (Vec<_>, Vec<_>) = pool.members.iter().partition(|member| member.config.priority == first);
    let members = u32::try_from(PoolView::backends(upper).len()).unwrap_or(u32::MAX);
    (!lower.is_empty() && retry.max_attempts <= members.saturating_add(retry.same_target)).then(|| {
        let text = format!(
            "If all {members} backends of the first tier of pool '{}' fail, a request has used up its {} attempts before the next tier is \
             asked, until circuits open: callers get 502.",
            pool.config.name, retry.max_attempts
        );
        let least = members.saturating_add(retry.same_target).saturating_add(1);
        view.finding("attempts-end-too-early", Severity::Warning, &key, text, remedy(least))
    })
}

/// 429 goes to the caller.
fn throttle(view: &View<'_>, pool: &PoolView<'_>) -> Option<Finding> {
    let retried = pool.config.retry.statuses.contains(StatusCode::TOO_MANY_REQUESTS);
    (!retried).then(|| {
        let text = format!(
            "Callers get each 429 of a member of pool '{}', although others have room, because 429 is not in 'retry.statuses'.",
            pool.config.name
        );
        let key = format!("{}.retry.statuses", pool.key);
        view.finding("throttle-not-retried", Severity::Error, &key, text, "Add 429 to 'retry.statuses', or leave the list out.")
    })
}

/// Server errors go to the caller.
fn failures(view: &View<'_>, pool: &PoolView<'_>) -> Option<Finding> {
    let missing: Vec<_> = [500_u16, 502, 503, 504]
        .into_iter()
        .filter(|code| StatusCode::from_u16(*code).is_ok_and(|code| !pool.config.retry.statuses.contains(code)))
        .map(|code| code.to_string())
        .collect();
    (!missing.is_empty()).then(|| {
        let text = format!(
            "Callers get each {} of a member of pool '{}', although others work, because 'retry.statuses' leaves it out.",
            missing.join(", "),
            pool.config.name
        );
        let key = format!("{}.retry.statuses", pool.key);
        view.finding("failure-not-retried", Severity::Error, &key, text, "Add \"500-599\" to 'retry.statuses', or leave the list out.")
    })
}

/// Requests that are sent several times.
fn multiply(view: &View<'_>, pool: &PoolView<'_>) -> Vec<Finding> {
    let retry = &pool.config.retry;
    let mut found = Vec::new();
    let callers_own: Vec<_> = [400_u16, 413, 422]
        .into_iter()
        .filter(|code| StatusCode::from_u16(*code).is_ok_and(|code| retry.statuses.contains(code)))
        .map(|code| code.to_string())
        .collect();
    if !callers_own.is_empty() && pool.choices() > 1 {
        let text = format!(
            "A request that is itself wrong ({}) is sent to up to {} members of pool '{}', and uses up the retries that failures need.",
            callers_own.join(", "),
            pool.choices().min(retry.max_attempts as usize),
            pool.config.name
        );
        let key = format!("{}.retry.statuses", pool.key);
        found.push(view.finding("bad-requests-retried", Severity::Warning, &key, text, "Leave these statuses out of 'retry.statuses'."));
    }
    let (large_share, large_floor) = (retry.budget.share > LARGE_SHARE, retry.budget.floor_per_second > LARGE_FLOOR);
    if (large_share || large_floor) && retry.max_attempts > 1 {
        let key = format!("{}.retry.budget.{}", pool.key, if large_share { "percent" } else { "floor_per_second" });
        let text = format!(
            "While members of pool '{}' fail, retries may be {}% of the requests and {} per second more: those that are left get up to that \
             much more load, and may fail, too.",
            pool.config.name,
            (retry.budget.share * 100.0).round(),
            retry.budget.floor_per_second
        );
        let remedy = "Keep retries at a fifth of the requests, as by default: circuits end failures that go on.";
        found.push(view.finding("retries-multiply", Severity::Warning, &key, text, remedy));
    }
    let useful = u32::try_from(pool.choices()).unwrap_or(u32::MAX).saturating_add(retry.same_target).saturating_add(1);
    let key = format!("{}.retry.max_attempts", pool.key);
    if retry.max_attempts > useful && view.lines.has(&key) {
        let text = format!(
            "Pool '{}' has {} backends, so that a request makes at most {useful} attempts, not {}.",
            pool.config.name,
            pool.choices(),
            retry.max_attempts
        );
        found.push(view.finding("more-attempts-than-members", Severity::Note, &key, text, "Nothing breaks; write what happens."));
    }
    found
}
