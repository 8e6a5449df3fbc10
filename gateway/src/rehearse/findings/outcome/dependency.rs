//! The loss of something beside the backends stopped the callers.

use super::shown::Shown;
use crate::rehearse::fault::FaultKind;
use crate::rehearse::finding::{Finding, Severity};
use crate::rehearse::findings::dependency::CODE;
use crate::rehearse::findings::view::View;

/// A share of bad requests from which on it stops the callers.
const HALF: f64 = 0.5;

/// Redis, the ledger's disk or a token issuer.
pub(in crate::rehearse::findings) fn find(view: &View<'_>, shown: &Shown<'_>) -> Vec<Finding> {
    let fault = &shown.fault.fault;
    let (severity, key, remedy) = match fault.kind {
        FaultKind::RedisSlow | FaultKind::RedisGone => (
            Severity::Warning,
            view.written(&["redis.quotas_when_lost".to_owned(), "redis".to_owned()]).to_owned(),
            "Set quotas_when_lost = \"share\": each node goes on with its share.",
        ),
        FaultKind::LedgerFull => {
            (Severity::Warning, "ledger.required".to_owned(), "Set required = false, and have an alert on the disk's free space.")
        }
        // Tokens that were fetched before serve on for hours: nothing in the config can replace their issuer.
        FaultKind::TokenIssuerGone | FaultKind::CallerIssuerGone => {
            (Severity::Note, fault.place.key.clone(), "Have an alert on spillway_token_fetches_total and spillway_key_set_fetches_total.")
        }
        _ => return Vec::new(),
    };
    let pools = shown.pools(view);
    let sound = pools.iter().filter(|(pool, _)| shown.is_sound(&pool.config.name)).map(|(_, sums)| sums);
    let (good, all) = sound.fold((0, 0), |(good, all), sums| (good + sums.good, all + sums.requests));
    let bad = all - good;
    if all == 0 || (bad as f64) < HALF * all as f64 {
        return Vec::new();
    }
    let text = format!("With {}, {bad} of {all} requests fail, although every backend works.", shown.said());
    vec![view.finding(CODE, severity, &key, text, remedy)]
}
