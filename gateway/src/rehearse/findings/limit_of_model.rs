//! Limits for models that their consumer may not use.

use super::view::{CallerView, View};
use crate::rehearse::finding::{Finding, Severity};

/// Limits of consumers for single models that the consumer's rights exclude.
pub(super) fn find(view: &View<'_>) -> Vec<Finding> {
    view.callers().iter().flat_map(|caller| one(view, caller)).collect()
}

fn one(view: &View<'_>, caller: &CallerView<'_>) -> Vec<Finding> {
    let may_use = |model: &String| view.config.pools.iter().any(|pool| pool.models.contains(model) && caller.may_use_model(pool, model));
    let never = caller.limits.models.keys().filter(|model| !may_use(model));
    never
        .map(|model| {
            let text = format!(
                "The limits of {} for '{model}' never apply: it may not use that model, because of its 'models' or 'pools'.",
                caller.name
            );
            let key = format!("{}.limits.models.{model}", caller.key);
            let remedy = format!("Allow '{model}', or remove these limits.");
            view.finding("limit-never-applies", Severity::Warning, &key, text, remedy)
        })
        .collect()
}
