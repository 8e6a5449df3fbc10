//! Requests that fail although nothing is wrong.

use super::seen::seen;
use crate::rehearse::finding::{Finding, Severity};
use crate::rehearse::findings::view::View;
use crate::rehearse::outcome::FaultOutcome;

/// Pools that don't serve everything while there is no fault.
pub(in crate::rehearse::findings) fn find(view: &View<'_>, baseline: &FaultOutcome) -> Vec<Finding> {
    let failing = baseline.pools.iter().filter(|sums| sums.good < sums.requests);
    failing
        .map(|sums| {
            let bad: Vec<_> = baseline.requests.iter().filter(|request| request.pool == sums.pool && !request.is_good()).collect();
            let text = format!(
                "{} of {} requests for pool '{}' fail although nothing is wrong ({}).",
                bad.len(),
                sums.requests,
                sums.pool,
                seen(&bad)
            );
            let at = view.config.pools.iter().position(|pool| *pool.name == *sums.pool);
            let key = at.map_or_else(|| "pools".to_owned(), |at| format!("pools[{at}].name"));
            let remedy = "See what refuses them: limits, rights, request rules, the guard.";
            view.finding("fails-without-fault", Severity::Error, &key, text, remedy)
        })
        .collect()
}
