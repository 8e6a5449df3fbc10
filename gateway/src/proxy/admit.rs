//! Is there room for a request within its limits? What it may need is reserved.

use spillway_plugins::limits::Demand;
use spillway_plugins::prices::Money;
use spillway_plugins::tokens::Usage;

use super::ctx::RequestCtx;
use super::refusal::Refusal;
use super::{Gateway, bound};
use crate::config::DeploymentPrice;
use crate::limits::Scopes;
use crate::runtime::Model;

/// Admits a request with this body, or what was read of it.
///
/// # Errors
/// 429 for rates, 403 for quotas and budgets, 503 if nobody can count it.
pub(super) async fn admit(gateway: &Gateway, ctx: &mut RequestCtx, body: &[u8]) -> Result<(), Refusal> {
    if gateway.ledger.as_ref().is_some_and(|ledger| !ledger.may_serve()) {
        return Err(Refusal::NoLedger);
    }
    let Some(inquiry) = &ctx.inquiry else { return Ok(()) };
    let mut scopes = ctx.facts.caller.as_ref().map_or_else(Scopes::new, |caller| caller.consumer.account.scopes(&inquiry.model.name));
    scopes.extend(inquiry.pool.scope.clone());
    if scopes.is_empty() {
        return Ok(());
    }
    let mut demand = Demand { class: ctx.facts.class(), ..Demand::default() };
    if inquiry.object.is_none() {
        let input = bound::input(inquiry, body);
        let bound = bound::usage(inquiry, input, body.len().max(ctx.body.bytes), ctx.facts.runtime.config.usage.assume_completion);
        demand.tokens = bound.tokens();
        if scopes.iter().any(|scope| scope.rules.budget.is_some()) {
            demand.cost = dearest(&inquiry.model, &bound);
        }
        ctx.body.input_bound = Some(input);
    }
    let began = gateway.clock.now();
    let admitted = gateway.limits.admit(&scopes, demand, ctx.facts.moment(began)).await;
    if gateway.limits.shared.is_some() {
        // Other nodes may have been asked.
        ctx.timing.waited += gateway.clock.now().since(began);
    }
    let permit = admitted.map_err(Refusal::from)?;
    ctx.metering.remaining = permit.remaining;
    ctx.metering.permit = Some(permit);
    Ok(())
}

/// What it costs at most, wherever it goes.
fn dearest(model: &Model, bound: &Usage) -> Money {
    let at_most = |price: &DeploymentPrice| match price {
        DeploymentPrice::ByUse(price) => price.at_most(bound),
        DeploymentPrice::Hourly(_) => Money::default(),
    };
    model.prices.iter().flatten().map(at_most).max().unwrap_or_default()
}
