//! Is there room for a request within its limits? What it may need is reserved.

use spillway_plugins::api::Api;
use spillway_plugins::limits::Demand;
use spillway_plugins::prices::Money;
use spillway_plugins::request::RequestFields;
use spillway_plugins::tokens::input_bound;

use super::Gateway;
use super::ctx::RequestCtx;
use super::refusal::Refusal;
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
    let mut scopes = ctx.caller.as_ref().map_or_else(Scopes::new, |caller| caller.consumer.account.scopes(&inquiry.model.name));
    scopes.extend(inquiry.pool.scope.clone());
    if scopes.is_empty() {
        return Ok(());
    }
    let mut demand = Demand { class: ctx.class(), ..Demand::default() };
    if inquiry.object.is_none() {
        let input = input_bound(body, inquiry.fields.encoded);
        let output = completion_cap(inquiry.api, &inquiry.fields, ctx.runtime.config.usage.assume_completion);
        demand.tokens = input.saturating_add(output).min(MOST);
        if scopes.iter().any(|scope| scope.rules.budget.is_some()) {
            demand.cost = dearest(&inquiry.model, input, output);
        }
        ctx.input_bound = Some(input);
    }
    let began = gateway.clock.now();
    let admitted = gateway.limits.admit(&scopes, demand, ctx.moment(began)).await;
    if gateway.limits.shared.is_some() {
        // Other nodes may have been asked.
        ctx.waited += gateway.clock.now().since(began);
    }
    let permit = admitted.map_err(Refusal::from)?;
    ctx.remaining = permit.remaining;
    ctx.permit = Some(permit);
    Ok(())
}

/// Most that is reserved for one request: more than any limit, and sums of it don't overflow.
const MOST: u64 = 1 << 48;

/// The most output that a request may bring, as far as it says.
fn completion_cap(api: Api, fields: &RequestFields, assumed: u64) -> u64 {
    match api {
        Api::Embeddings | Api::Speech => 0,
        _ => fields.max_tokens.unwrap_or(assumed).saturating_mul(fields.choices.unwrap_or(1).max(1)),
    }
}

/// What it costs at most, wherever it goes.
fn dearest(model: &Model, input: u64, output: u64) -> Money {
    let at_most = |price: &DeploymentPrice| match price {
        DeploymentPrice::ByUse(price) => price.at_most(input, output),
        DeploymentPrice::Hourly(_) => Money::default(),
    };
    model.prices.iter().flatten().map(at_most).max().unwrap_or_default()
}
