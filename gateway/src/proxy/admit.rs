//! Checks a request against its limits, and reserves what it may use.

use spillway_plugins::limits::{Demand, LimitKind, Path, Permit, Remaining};
use spillway_plugins::prices::Money;
use spillway_plugins::tokens::Usage;

use super::refusal::Refusal;
use super::usage_bound;
use crate::config::DeploymentPrice;
use crate::gateway::Gateway;
use crate::request::{Facts, Metering, ModelRequest, RequestBody, Timing};

/// What an admitted request has reserved.
pub(super) struct Admitted {
    permit: Option<Permit>,
    remaining: Remaining,
    /// Upper bound of the tokens in its prompt, if a limit needed it.
    input_bound: Option<u64>,
}

impl Admitted {
    /// Stores it in the request's state.
    pub(super) fn reserve(self, body: &mut RequestBody, metering: &mut Metering) {
        body.input_bound = self.input_bound;
        (metering.permit, metering.remaining) = (self.permit, self.remaining);
    }
}

/// Admits a request with this body, or the part that was read; `bytes` is how many bytes have arrived.
///
/// # Errors
/// 429 for rates, 403 for quotas and budgets, 503 if the limits can't be checked.
pub(super) async fn admit(
    gateway: &Gateway,
    facts: &Facts,
    model_request: &ModelRequest,
    timing: &mut Timing,
    body: &[u8],
    bytes: usize,
) -> Result<Admitted, Refusal> {
    if gateway.ledger.as_ref().is_some_and(|ledger| !ledger.may_serve()) {
        return Err(Refusal::NoLedger);
    }
    let mut path = facts.caller.as_ref().map_or_else(Path::new, |caller| caller.consumer.account.path(&model_request.model.name));
    path.extend(model_request.pool.scope.clone());
    if path.is_empty() {
        return Ok(Admitted { permit: None, remaining: Remaining::default(), input_bound: None });
    }
    let mut demand = Demand { class: facts.class(), ..Demand::default() };
    let mut input_bound = None;
    if model_request.object.is_none() {
        let input = usage_bound::input(model_request, body);
        let bound = usage_bound::usage(model_request, input, body.len().max(bytes), facts.runtime.config.usage.assume_completion);
        demand.tokens = bound.tokens();
        if path.steps().iter().any(|step| step.scope.rules.has(LimitKind::Budget)) {
            demand.cost = max_cost(model_request, &bound);
        }
        input_bound = Some(input);
    }
    let began = gateway.clock.now();
    let admitted = gateway.limits.admit(&path, demand, facts.timestamps(began)).await;
    if gateway.limits.shared.is_some() || !gateway.limits.decides() {
        // Other nodes or another process may have been asked, which takes time that is not the gateway's own.
        timing.waited += gateway.clock.now().since(began);
    }
    let permit = admitted.map_err(Refusal::from)?;
    Ok(Admitted { remaining: permit.remaining, permit: Some(permit), input_bound })
}

/// The highest cost that it can have, at any member: in the service tier that is asked for, or in the default one.
fn max_cost(model_request: &ModelRequest, bound: &Usage) -> Money {
    let at_most = |member: usize, price: &DeploymentPrice| match price {
        DeploymentPrice::ByUse(price) => {
            let asked = model_request.service_tier_at(member);
            price.at_most(bound, None).max(asked.map_or(Money::default(), |tier| price.at_most(bound, Some(tier))))
        }
        DeploymentPrice::Hourly(_) => Money::default(),
    };
    let members = model_request.model.members.iter().enumerate();
    members.filter_map(|(index, member)| Some(at_most(index, member.price.as_ref()?))).max().unwrap_or_default()
}

#[cfg(test)]
mod tests;
