//! A failover that took too long.

use std::time::Duration;

use super::shown::Shown;
use crate::rehearse::fault::FaultKind;
use crate::rehearse::finding::{Finding, Severity};
use crate::rehearse::findings::view::{CallerView, PoolView, View, span};
use crate::rehearse::outcome::RequestOutcome;

/// Most people have left by then.
const LONG: Duration = Duration::from_secs(60);

/// Requests that were answered after their consumer's deadline, or very late.
pub(in crate::rehearse::findings) fn find(view: &View<'_>, shown: &Shown<'_>) -> Vec<Finding> {
    if matches!(shown.fault.fault.kind, FaultKind::None | FaultKind::Flood | FaultKind::Reload | FaultKind::Upgrade) {
        return Vec::new();
    }
    let callers = view.callers();
    shown.pools(view).iter().filter_map(|(pool, _)| one(view, shown, pool, &callers)).collect()
}

fn one(view: &View<'_>, shown: &Shown<'_>, pool: &PoolView<'_>, callers: &[CallerView<'_>]) -> Option<Finding> {
    let good: Vec<_> = shown.fault.requests.iter().filter(|request| *request.pool == *pool.config.name && request.is_good()).collect();
    let deadline = |request: &RequestOutcome| {
        let at = view.config.consumers.iter().position(|consumer| request.consumer.as_deref() == Some(&*consumer.name))?;
        callers.get(at)?.deadline
    };
    let late = good.iter().filter(|request| deadline(request).is_some_and(|deadline| request.added >= deadline)).count();
    let most = good.iter().map(|request| request.added).max()?;
    let (severity, code, text) = if late > 0 {
        let text = format!(
            "With {}, {late} of {} answers of pool '{}' came after their consumer's deadline (up to {} late).",
            shown.said(),
            good.len(),
            pool.config.name,
            span(Duration::from_secs(most.as_secs()))
        );
        (Severity::Warning, "deadline-before-failover", text)
    } else if most >= LONG {
        let text = format!(
            "With {}, callers of pool '{}' wait up to {} longer.",
            shown.said(),
            pool.config.name,
            span(Duration::from_secs(most.as_secs()))
        );
        (Severity::Note, "slow-failover", text)
    } else {
        return None;
    };
    let is_stream = good.iter().filter(|request| request.added == most).all(|request| request.stream);
    let name = if is_stream { "first_token" } else { "answer" };
    let remedy = format!("Make 'timeouts.{name}' shorter: so long a silent member is waited for.");
    Some(view.finding(code, severity, &format!("{}.timeouts.{name}", pool.key), text, remedy))
}
