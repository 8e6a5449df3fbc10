//! Provisioned throughput whose price isn't known.

use super::view::View;
use crate::rehearse::finding::{Finding, Severity};

/// Deployments with 'ptu' and without a price per hour.
pub(super) fn find(view: &View<'_>) -> Vec<Finding> {
    let all = view.config.backends.iter().enumerate().flat_map(|(at, backend)| {
        let unpriced = backend.ptu.keys().filter(|deployment| !backend.prices.contains_key(*deployment));
        unpriced.map(move |deployment| (at, backend, deployment))
    });
    all.map(|(at, backend, deployment)| {
        let text = format!(
            "'{deployment}' at '{}' is paid by the hour, and the config doesn't say how much: budgets don't count it, and reports and simulations \
             have it as 0.",
            backend.name
        );
        let remedy = format!("Set usd_per_hour: prices = {{ \"{deployment}\" = {{ usd_per_hour = … }} }}, what all its PTUs cost an hour.");
        view.finding("ptu-without-price", Severity::Note, &format!("backends[{at}].ptu.{deployment}"), text, remedy)
    })
    .collect()
}
