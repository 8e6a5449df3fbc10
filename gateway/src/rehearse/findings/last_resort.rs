//! Last resorts that hide an outage.

use spillway_plugins::limits::Class;

use super::view::{PoolView, View};
use crate::rehearse::finding::{Finding, Severity};

const CODE: &str = "last-resort-hides-outage";

/// Mocks in pools.
pub(super) fn find(view: &View<'_>) -> Vec<Finding> {
    view.pools().iter().filter_map(|pool| one(view, pool)).collect()
}

fn one(view: &View<'_>, pool: &PoolView<'_>) -> Option<Finding> {
    let at = pool.last_resort(view.config)?;
    let key = format!("{}.members[{at}]", pool.key);
    let name = &pool.config.name;
    let semantic = view.config.plugins.cache.as_ref().and_then(|cache| cache.semantic.as_ref());
    let embeds = |model: &&String| model.contains("embed") || semantic.is_some_and(|semantic| semantic.model == **model);
    if let Some(model) = pool.config.models.iter().find(embeds) {
        let text = if pool.members.is_empty() {
            format!("'{model}' of pool '{name}' answers with made-up vectors and status 200: callers store them.")
        } else {
            format!("The mock of pool '{name}' never answers for '{model}': made-up vectors would be stored. Callers get the error.")
        };
        let remedy = "Remove the mock from this pool: callers of embeddings need the error.";
        return Some(view.finding(CODE, Severity::Warning, &key, text, remedy));
    }
    if pool.members.is_empty() {
        let text = format!("Pool '{name}' has no backend but a mock: its answers are the mock's text, with status 200.");
        let severity = if view.real_backends() > 0 { Severity::Warning } else { Severity::Note };
        return Some(view.finding(CODE, severity, &key, text, "Add a backend."));
    }
    if let Some(caller) = view.callers().iter().find(|caller| caller.class == Class::Batch && caller.may_use(pool.config)) {
        let text = format!(
            "When no backend of pool '{name}' is usable, {} (class batch) gets the mock's text with status 200, and stores it as a result.",
            caller.name
        );
        let remedy = "Give batch consumers models of a pool without a mock: an error is tried again later.";
        return Some(view.finding(CODE, Severity::Warning, &key, text, remedy));
    }
    let text = format!(
        "When no backend of pool '{name}' is usable, callers see status 200 with the mock's text: their monitoring shows no outage."
    );
    let remedy = "Have an alert on spillway_last_resort_total, as deploy/prometheus has.";
    Some(view.finding(CODE, Severity::Note, &key, text, remedy))
}
