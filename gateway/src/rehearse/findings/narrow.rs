//! Lower tiers with fewer places than what may flow over.

use super::view::{CallerView, PoolView, View, list, refuses};
use crate::rehearse::finding::{Finding, Severity};

/// So many times more requests than places.
const FAR: u64 = 4;

/// Pools whose lower tiers take far fewer requests at a time than the first tier, or than limits admit.
pub(super) fn find(view: &View<'_>) -> Vec<Finding> {
    let callers = view.callers();
    view.pools().iter().filter_map(|pool| one(view, pool, &callers)).collect()
}

fn one(view: &View<'_>, pool: &PoolView<'_>, callers: &[CallerView<'_>]) -> Option<Finding> {
    let first = pool.members.iter().map(|member| member.config.priority).min()?;
    let (upper, lower): (Vec<_>, Vec<_>) = pool.members.iter().partition(|member| member.config.priority == first);
    let places = lower.iter().map(|member| member.backend.max_concurrent.map(u64::from)).sum::<Option<u64>>()?;
    let narrowest = lower.iter().min_by_key(|member| member.backend.max_concurrent)?;
    let of_upper = upper.iter().map(|member| member.backend.max_concurrent.map(u64::from)).sum::<Option<u64>>();
    // An answer takes a second, at least.
    let at_once = |rules: &spillway_plugins::limits::Rules| {
        let admitted = [rules.concurrent, rules.requests_per_minute.map(|rate| rate / 60)].into_iter().flatten().min();
        admitted.filter(|_| refuses(rules))
    };
    let users = callers.iter().filter(|caller| caller.may_use(pool.config));
    let of_limits = at_once(&pool.config.limits).or_else(|| users.filter_map(|caller| at_once(&caller.limits.rules)).max());
    let (expected, why) = match (of_upper, of_limits) {
        (Some(places), _) => (places, "the first tier takes"),
        (None, Some(admitted)) => (admitted, "the limits admit"),
        (None, None) => return None,
    };
    (expected >= places.saturating_mul(FAR)).then(|| {
        let text = format!(
            "Below its first tier, pool '{}' takes {places} requests at a time ('max_concurrent' of {}), and {why} {expected}: when the \
             first tier is full or out, most callers get 429.",
            pool.config.name,
            list(PoolView::backends(lower.iter().copied()))
        );
        let key = format!("backends[{}].max_concurrent", narrowest.config.backend);
        let remedy = "Make 'max_concurrent' as large as what may flow over, or leave it out.";
        view.finding("narrow-spillover", Severity::Warning, &key, text, remedy)
    })
}
