//! Deadlines of consumers that are over before a failover begins.

use super::view::{CallerView, PoolView, View, span};
use crate::rehearse::finding::{Finding, Severity};

/// Consumers whose deadline is shorter than a silent member is waited for.
pub(super) fn find(view: &View<'_>) -> Vec<Finding> {
    let pools = view.pools();
    view.callers().iter().filter_map(|caller| one(view, caller, &pools)).collect()
}

fn one(view: &View<'_>, caller: &CallerView<'_>, pools: &[PoolView<'_>]) -> Option<Finding> {
    let deadline = caller.deadline?;
    let is_slow = |pool: &&PoolView<'_>| pool.choices() > 1 && caller.may_use(pool.config) && pool.config.timeouts.first_token >= deadline;
    let pool = pools.iter().find(is_slow)?;
    let text = format!(
        "The requests of {} need their answers within {}, but pool '{}' waits {} for a silent member before it asks another one: by then \
         the answer comes too late.",
        caller.name,
        span(deadline),
        pool.config.name,
        span(pool.config.timeouts.first_token)
    );
    let remedy = format!("Make '{}.timeouts.first_token' clearly shorter than the deadline, or the deadline longer.", pool.key);
    Some(view.finding("deadline-before-failover", Severity::Warning, &format!("{}.deadline", caller.key), text, remedy))
}
