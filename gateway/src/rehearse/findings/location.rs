//! A pool whose members are all in one location.

use super::view::{PoolView, View};
use crate::rehearse::finding::{Finding, Severity};

/// Pools with several backends in one known location.
pub(super) fn find(view: &View<'_>) -> Vec<Finding> {
    view.pools().iter().filter(|pool| pool.choices() > 1).filter_map(|pool| one(view, pool)).collect()
}

fn one(view: &View<'_>, pool: &PoolView<'_>) -> Option<Finding> {
    let mut locations = pool.members.iter().map(|member| member.backend.location.as_deref());
    let first = locations.next()??;
    if !locations.all(|location| location == Some(first)) {
        return None;
    }
    let text = format!(
        "All {} backends of pool '{}' are in '{first}': an outage of that region takes the pool out.",
        pool.choices(),
        pool.config.name
    );
    let remedy = "Add a member in another region, in a lower tier if it is farther away.";
    Some(view.finding("one-location", Severity::Warning, &format!("{}.members", pool.key), text, remedy))
}
