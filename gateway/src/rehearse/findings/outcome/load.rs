//! What one consumer did to the others, and retries to the backends.

use super::shown::Shown;
use crate::config::lineage;
use crate::rehearse::fault::FaultKind;
use crate::rehearse::finding::{Finding, Severity};
use crate::rehearse::findings::view::{PoolView, View, refuses};
use crate::rehearse::outcome::PoolSums;

/// So many attempts for a request, in the mean.
const MANY: f64 = 2.5;
/// With fewer requests the first failures, before circuits open, weigh too much.
const ENOUGH: u64 = 20;

/// A flood that hurt others, and attempts that multiplied.
pub(in crate::rehearse::findings) fn find(view: &View<'_>, shown: &Shown<'_>) -> Vec<Finding> {
    if shown.fault.fault.kind == FaultKind::Flood {
        return flood(view, shown).into_iter().collect();
    }
    shown.pools(view).iter().filter_map(|(pool, sums)| attempts(view, shown, pool, sums)).collect()
}

fn flood(view: &View<'_>, shown: &Shown<'_>) -> Option<Finding> {
    let at = shown.fault.fault.consumer?;
    let consumer = view.config.consumers.get(at)?;
    let others = || shown.fault.requests.iter().filter(|request| request.consumer.as_deref() != Some(&*consumer.name));
    let sound = || others().filter(|request| shown.is_sound(&request.pool));
    let (bad, all) = (sound().filter(|request| !request.is_good()).count(), sound().count());
    if bad == 0 {
        return None;
    }
    let mut groups = lineage(&view.config.groups, consumer.group);
    let is_limited = refuses(&consumer.limits.rules) || groups.any(|(_, group)| refuses(&group.rules));
    let text = format!(
        "While '{}' sends too much, {bad} of {all} requests of others fail{}.",
        consumer.name,
        if is_limited { "" } else { ": it has no limits" }
    );
    let key = format!("consumers[{at}].{}", if is_limited { "limits" } else { "name" });
    let remedy = "Give it requests_per_minute, tokens_per_minute or concurrent_requests that leave room for the others.";
    Some(view.finding("flood-hurts-others", Severity::Warning, &key, text, remedy))
}

fn attempts(view: &View<'_>, shown: &Shown<'_>, pool: &PoolView<'_>, sums: &PoolSums) -> Option<Finding> {
    // Those at the tiers above, which are full meanwhile, are not the fault's.
    let full: Vec<_> = shown.fault.fault.full.iter().filter_map(|at| view.config.backends.get(*at)).map(|backend| &*backend.name).collect();
    let requests = shown.fault.requests.iter().filter(|request| request.pool == sums.pool);
    let attempts = requests.flat_map(|request| &request.attempts).filter(|attempt| !full.contains(&&*attempt.backend)).count();
    (sums.requests >= ENOUGH && attempts as f64 > MANY * sums.requests as f64).then(|| {
        let text = format!(
            "With {}, {} requests for pool '{}' make {} attempts: a member that fails is not left alone.",
            shown.said(),
            sums.requests,
            pool.config.name,
            attempts
        );
        let remedy = "Let the circuit open after fewer failures, or keep it open for longer.";
        view.finding("attempts-multiply", Severity::Note, &format!("{}.circuit", pool.key), text, remedy)
    })
}
