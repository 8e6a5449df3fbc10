//! Things beside the backends that every request needs. They may be needed on purpose, so these are notes; what their loss
//! does to callers is in `outcome/dependency.rs`.

use super::view::View;
use crate::config::WhenLost;
use crate::rehearse::finding::{Finding, Severity};

pub(super) const CODE: &str = "dependency-stops-all";

/// Settings that refuse requests while something else is lost.
pub(super) fn find(view: &View<'_>) -> Vec<Finding> {
    let config = view.config;
    let mut found = Vec::new();
    if config.redis.as_ref().is_some_and(|redis| redis.quotas_when_lost == WhenLost::Refuse) {
        let text = "While Redis can't be reached, every consumer with a quota or a budget gets 503.";
        let remedy = "With quotas_when_lost = \"share\" each node goes on with its share.";
        found.push(view.finding(CODE, Severity::Note, "redis.quotas_when_lost", text, remedy));
    }
    if config.ledger.as_ref().is_some_and(|ledger| ledger.required) {
        let text = "While the ledger can't be written (a full disk), every request gets 503.";
        let remedy = "With required = false requests go on, and rows that are lost are counted; have an alert on the disk's free space.";
        found.push(view.finding(CODE, Severity::Note, "ledger.required", text, remedy));
    }
    found
}
