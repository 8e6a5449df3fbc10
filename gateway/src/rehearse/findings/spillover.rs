//! Lower tiers that can't serve what the first one serves.

use spillway_plugins::api::Api;

use super::view::{MemberView, PoolView, View, list};
use crate::rehearse::finding::{Finding, Severity};

const CODE: &str = "weaker-spillover";

/// Lower tiers with a smaller context window, or without an API of the first one.
pub(super) fn find(view: &View<'_>) -> Vec<Finding> {
    let pools = view.pools();
    pools.iter().flat_map(|pool| context(view, pool).into_iter().chain(api(view, pool))).collect()
}

/// The members of the first tier, and the others.
fn tiers<'p, 'c>(pool: &'p PoolView<'c>) -> (Vec<&'p MemberView<'c>>, Vec<&'p MemberView<'c>>) {
    let first = pool.members.iter().map(|member| member.config.priority).min();
    pool.members.iter().partition(|member| Some(member.config.priority) == first)
}

fn context(view: &View<'_>, pool: &PoolView<'_>) -> Vec<Finding> {
    let (first, lower) = tiers(pool);
    let window =
        |member: &MemberView<'_>, model: &str| member.config.context.or_else(|| view.config.prices.traits(member.backend, model).context);
    let mut found = Vec::new();
    for model in &pool.config.models {
        let Some(most) = first.iter().filter_map(|member| window(member, model)).max() else { continue };
        let is_small = |member: &&MemberView<'_>| window(member, model).is_some_and(|window| window < most);
        let others_do = lower.iter().any(|member| !is_small(member));
        for member in lower.iter().copied().filter(is_small) {
            let text = format!(
                "'{}' takes prompts for '{model}' of up to {} tokens, the first tier of pool '{}' up to {most}: when the first tier is full \
                 or out, longer prompts {}.",
                member.backend.name,
                window(member, model).unwrap_or_default(),
                pool.config.name,
                if others_do { "pass this member over" } else { "get 400 or 429, however much room is left here" }
            );
            let severity = if others_do { Severity::Note } else { Severity::Warning };
            let remedy =
                "Add a member with the same window below the first tier, or bound prompts for all with plugins.guard.max_prompt_tokens.";
            found.push(view.finding(CODE, severity, view.written(&[format!("{}.context", member.key), member.key.clone()]), text, remedy));
        }
    }
    found
}

fn api(view: &View<'_>, pool: &PoolView<'_>) -> Vec<Finding> {
    let (first, lower) = tiers(pool);
    let served = |members: &[&MemberView<'_>], api: Api| members.iter().any(|member| member.backend.kind.provider().serves(api));
    let is_claude = pool.config.models.iter().any(|model| model.contains("claude"));
    // The APIs that callers of such models use; a backend's kind serves more than its models do.
    let used: &[Api] = if is_claude { &[Api::Messages] } else { &[Api::Chat, Api::Responses, Api::Embeddings] };
    let lost: Vec<_> = used.iter().filter(|api| served(&first, **api) && !served(&lower, **api)).map(|api| api.label()).collect();
    let Some(member) = lower.first().filter(|_| !lost.is_empty()) else { return Vec::new() };
    let text = format!(
        "No member below the first tier of pool '{}' serves {}: when the first tier is full or out, such requests get 429 or 503. Spillway \
         doesn't translate between APIs.",
        pool.config.name,
        list(lost)
    );
    let remedy = "Add a member below the first tier that serves the same API.";
    vec![view.finding(CODE, Severity::Error, &member.key, text, remedy)]
}
