//! Health checks that never fail.

use http::StatusCode;

use super::view::{PoolView, View};
use crate::rehearse::finding::{Finding, Severity};

/// Checks for which a server error is healthy.
pub(super) fn find(view: &View<'_>) -> Vec<Finding> {
    view.pools().iter().filter_map(|pool| one(view, pool)).collect()
}

fn one(view: &View<'_>, pool: &PoolView<'_>) -> Option<Finding> {
    let health = pool.config.health.as_ref()?;
    let passes = |code: &u16| StatusCode::from_u16(*code).is_ok_and(|code| health.statuses.contains(code));
    [500, 502, 503, 504].iter().any(passes).then(|| {
        let text =
            format!("The health check of pool '{}' counts server errors as healthy: a member that fails stays in.", pool.config.name);
        let key = format!("{}.health.statuses", pool.key);
        let remedy = "Leave 'statuses' out: by default any answer but a server error is healthy.";
        view.finding("health-never-fails", Severity::Warning, &key, text, remedy)
    })
}
