//! A pool from which there is nowhere to go.

use super::view::{PoolView, View, list};
use crate::rehearse::finding::{Finding, Severity};

/// Pools with one backend, or with provisioned throughput only.
pub(super) fn find(view: &View<'_>) -> Vec<Finding> {
    view.pools().iter().filter_map(|pool| one(view, pool)).collect()
}

fn one(view: &View<'_>, pool: &PoolView<'_>) -> Option<Finding> {
    let name = &pool.config.name;
    let backends = list(PoolView::backends(&pool.members));
    let (severity, text) = match pool.choices() {
        0 => return None,
        _ if pool.members.iter().all(|member| view.is_provisioned(pool, member)) => (
            Severity::Error,
            format!("Pool '{name}' has only provisioned throughput ({backends}): when that is full or out, callers get 429 or 503."),
        ),
        // With a single backend in the whole config there is nothing that could be added from it.
        1 if view.real_backends() == 1 => {
            (Severity::Note, format!("Pool '{name}' has only {backends}: when that is full or out, callers get 429 or 503."))
        }
        1 => (Severity::Warning, format!("Pool '{name}' has only {backends}: when that is full or out, callers get 429 or 503.")),
        _ => return None,
    };
    let remedy = "Add a member with a higher 'priority' number: a deployment that is paid by use, in another region.";
    Some(view.finding("no-lower-tier", severity, &format!("{}.members", pool.key), text, remedy))
}
