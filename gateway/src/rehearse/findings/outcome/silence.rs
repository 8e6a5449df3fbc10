//! Faults that callers see, and of which no alert tells.

use super::shown::Shown;
use crate::rehearse::fault::FaultKind;
use crate::rehearse::finding::{Finding, Severity};
use crate::rehearse::findings::view::View;

/// A share of bad requests from which on somebody should be told.
const SHARE: f64 = 0.2;

/// A fault that many callers saw, without an alert.
pub(in crate::rehearse::findings) fn find(view: &View<'_>, shown: &Shown<'_>) -> Vec<Finding> {
    // Prompts that are bad, and a caller that sends too much, are refused on purpose.
    if matches!(shown.fault.fault.kind, FaultKind::ContentFilter | FaultKind::ContextTooLong | FaultKind::Oversized | FaultKind::Flood) {
        return Vec::new();
    }
    let (good, all) = shown.fault.pools.iter().fold((0, 0), |(good, all), sums| (good + sums.good, all + sums.requests));
    let bad = all - good;
    if bad == 0 || (bad as f64) < SHARE * all as f64 || !shown.fault.alerts.is_empty() {
        return Vec::new();
    }
    let fault = &shown.fault.fault;
    let text = format!("With {}, {bad} of {all} requests fail, and none of the alerts in deploy/prometheus fires.", shown.said());
    let remedy = "Have an alert of your own for it, such as on callers' statuses.";
    vec![view.finding("no-alert", Severity::Note, &fault.place.key, text, remedy)]
}
