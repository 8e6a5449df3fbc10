//! Identifies the caller, and checks what it may do.

use std::time::Duration;

use crate::downstream::Session;
use spillway_plugins::api::Api;
use spillway_plugins::auth::certificate::CertificateNames;
use spillway_plugins::auth::jwt::TokenError;
use spillway_plugins::service_tier::ServiceTier;

use super::refusal::Refusal;
use super::traced;
use crate::callers::{Caller, Denied, Missing, lacks_grant};
use crate::config::PoolConfig;
use crate::gateway::Gateway;
use crate::request::{Facts, Timing};
use crate::self_request::{self, OnBehalfOf};

/// Longest wait for the issuer's keys, if a token was signed with an unknown one.
const KEYS: Duration = Duration::from_secs(2);

/// Identifies the caller.
///
/// # Errors
/// If the caller can't be identified and must be. The reason is counted and logged, but not sent to the caller: all
/// these answers are the same.
pub(super) async fn identify(gateway: &Gateway, session: &Session<'_>, facts: &mut Facts, timing: &mut Timing) -> Result<(), Refusal> {
    let sent = match own_request(gateway, session) {
        Some(OnBehalfOf::Itself { caller, trace }) => {
            facts.caller = caller;
            traced::join_own(trace, facts);
            facts.internal = true;
            return Ok(());
        }
        Some(OnBehalfOf::Sent { certificate }) => certificate,
        None => None,
    };
    let certificate = sent.as_ref().or_else(|| session.certificate());
    let now = facts.arrived_at.timestamp();
    let seen = facts.runtime.callers.tokens.as_ref().map_or(0, |tokens| tokens.issuer.number());
    let mut found = look_up(session, certificate, facts, now);
    if let (Err(Denied::Token(TokenError::UnknownKey)), Some(tokens)) = (&found, &facts.runtime.callers.tokens) {
        let began = gateway.clock.now();
        if tokens.issuer.renew(seen, &gateway.clock, KEYS).await {
            found = look_up(session, certificate, facts, now);
        }
        timing.waited += gateway.clock.now().since(began);
    }
    let denied = match found {
        Ok(caller) => {
            facts.caller = Some(caller);
            return Ok(());
        }
        Err(denied) => denied,
    };
    if denied != Denied::TwoCredentials && !facts.runtime.callers.required {
        return Ok(());
    }
    gateway.metrics.callers.failed(denied.label());
    tracing::debug!(id = %facts.id, reason = denied.label(), "caller not identified");
    Err(match denied {
        Denied::TwoCredentials => Refusal::TwoCredentials,
        Denied::NotListed => Refusal::NotListed,
        Denied::TooMany => Refusal::TooManyConsumers,
        _ => Refusal::Unauthorized,
    })
}

/// On whose behalf the gateway asks, if it made this request itself.
fn own_request(gateway: &Gateway, session: &Session<'_>) -> Option<OnBehalfOf> {
    gateway.internal.take(session.rare_field(&self_request::HEADER)?.as_bytes())
}

fn look_up(session: &Session<'_>, certificate: Option<&CertificateNames>, facts: &Facts, now: i64) -> Result<Caller, Denied> {
    facts.runtime.callers.identify(&session.req_header().headers, certificate, now)
}

/// Whether the caller may use this kind of API.
///
/// # Errors
/// 403, with what is missing.
pub(super) fn may_use_api(facts: &Facts, api: Api) -> Result<(), Refusal> {
    match facts.caller.as_ref().filter(|_| !facts.internal).and_then(|caller| caller.lacks_for_api(api)) {
        None => Ok(()),
        Some(missing) => {
            let rights = facts.consumer().map(|consumer| &consumer.rights);
            let (roles, scopes) = rights.map_or((&[][..], &[][..]), |rights| (rights.roles.as_slice(), rights.scopes.as_slice()));
            Err(refusal(missing, "", "", api, roles, scopes))
        }
    }
}

/// Whether the caller may use a model.
///
/// # Errors
/// 403, with what is missing.
pub(super) fn may_use_model(facts: &Facts, api: Api, model: &str, pool: &PoolConfig) -> Result<(), Refusal> {
    if facts.internal {
        return Ok(());
    }
    let missing = facts.caller.as_ref().map_or_else(|| anonymous(pool), |caller| caller.lacks_for_model(model, pool));
    missing.map_or(Ok(()), |missing| Err(refusal(missing, model, &pool.name, api, &pool.roles, &pool.scopes)))
}

/// Whether the caller may ask for these service tiers: the body's, that of its speed, and that of a header which it may send.
///
/// # Errors
/// 403, with the tiers that it may ask for.
pub(super) fn may_ask_for_tiers(facts: &Facts, tiers: [Option<ServiceTier>; 3]) -> Result<(), Refusal> {
    let allowed = facts.consumer().and_then(|consumer| consumer.rights.service_tiers.as_ref());
    let Some(allowed) = allowed.filter(|_| !facts.internal) else { return Ok(()) };
    let refused = |tier: &ServiceTier| *tier != ServiceTier::Default && !allowed.contains(tier);
    let Some(tier) = tiers.into_iter().flatten().find(refused) else { return Ok(()) };
    let names = allowed.iter().filter(|tier| **tier != ServiceTier::Default).chain([&ServiceTier::Default]);
    let names: Vec<String> = names.map(|tier| format!("'{}'", tier.label())).collect();
    Err(Refusal::ServiceTierNotAllowed { tier: tier.label(), allowed: names.join(" or ") })
}

/// Whether the caller may use a model that its request names in addition to its own, such as for a tool. A backend may
/// know models that the gateway doesn't.
///
/// # Errors
/// 403, with what is missing.
pub(super) fn may_name_model(facts: &Facts, api: Api, model: &str) -> Result<(), Refusal> {
    if let Some(known) = facts.runtime.model(model) {
        return may_use_model(facts, api, model, &facts.runtime.pools[known.pool].config);
    }
    // The name may be a deployment's, in any pool. So only a caller that may use all pools may send it, or one with the
    // name in its list.
    let allowed = |caller: &Caller| match caller.has_some_models() {
        true => caller.allows_model(model),
        false => caller.consumer.rights.pools.is_none() && may_use_every_pool(facts),
    };
    match facts.internal || facts.caller.as_ref().map_or_else(|| may_use_every_pool(facts), allowed) {
        true => Ok(()),
        // The text comes from the caller: shorten it.
        false => Err(Refusal::ModelNotAllowed { model: model.chars().take(128).collect() }),
    }
}

/// Whether the caller may use every pool.
pub(super) fn may_use_every_pool(facts: &Facts) -> bool {
    facts.runtime.pools.iter().all(|pool| lacks_for_pool(facts, &pool.config).is_none())
}

fn lacks_for_pool(facts: &Facts, pool: &PoolConfig) -> Option<Missing> {
    facts.caller.as_ref().map_or_else(|| anonymous(pool), |caller| caller.lacks_for_pool(pool))
}

/// Whether the caller may use a pool for a request that names no model.
///
/// # Errors
/// 403, with what is missing.
pub(super) fn may_use_pool(facts: &Facts, api: Api, pool: &PoolConfig) -> Result<(), Refusal> {
    lacks_for_pool(facts, pool).map_or(Ok(()), |missing| Err(refusal(missing, "", &pool.name, api, &pool.roles, &pool.scopes)))
}

fn anonymous(pool: &PoolConfig) -> Option<Missing> {
    lacks_grant(None, &pool.roles, &pool.scopes)
}

fn refusal(missing: Missing, model: &str, pool: &str, api: Api, roles: &[String], scopes: &[String]) -> Refusal {
    match missing {
        Missing::Api => Refusal::ApiNotAllowed { api: api.label() },
        Missing::Model => Refusal::ModelNotAllowed { model: model.to_owned() },
        Missing::Pool => Refusal::PoolNotAllowed { model: model.to_owned(), pool: pool.to_owned() },
        Missing::Role => Refusal::GrantMissing { kind: "role", needed: roles.join("' or '") },
        Missing::Scope => Refusal::GrantMissing { kind: "scope", needed: scopes.join("' or '") },
    }
}

#[cfg(test)]
mod tests;
