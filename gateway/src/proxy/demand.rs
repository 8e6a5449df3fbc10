//! What a request is expected to take of provisioned throughput.

use std::time::Duration;

use spillway_plugins::prices::Money;

use crate::balance::provisioned::{Demand, Elsewhere};
use crate::balance::ptu::load::Ask;
use crate::balance::ptu::shares::Caller;
use crate::config::{DeploymentPrice, number_of};
use crate::request::{Facts, ModelRequest, RequestBody};
use crate::runtime::Model;

/// Bytes of a prompt that are a token.
const BYTES_PER_TOKEN: u64 = 4;

/// `None` if no member has any, or the request takes none.
pub(super) fn of(facts: &Facts, body: &RequestBody, model_request: &ModelRequest) -> Option<Demand> {
    let ModelRequest { model, api, fields, .. } = model_request;
    if !model.route.is_provisioned() || model_request.object.is_some() || model_request.is_free() {
        return None;
    }
    // With all its completions; some operations have none.
    let cap = match fields.completion_cap(*api, 0) {
        0 if fields.completion_cap(*api, 1) > 0 => None,
        cap => Some(cap),
    };
    let choices = if cap.is_some() { 1 } else { fields.choices.unwrap_or(1) };
    Some(Demand {
        ask: Ask { prompt: body.bytes as u64 / BYTES_PER_TOKEN, cap, choices },
        caller: caller(facts),
        elsewhere: elsewhere(model),
        needed_by: facts.needed_by,
        takes: model.durations.most(),
        waited: Duration::ZERO,
        may_wait: true,
    })
}

fn caller(facts: &Facts) -> Caller {
    let consumer = facts.consumer();
    let group = consumer.and_then(|consumer| consumer.group).and_then(|group| facts.runtime.config.groups.get(group));
    Caller {
        consumer: consumer.map_or(0, |consumer| consumer.number),
        group: group.map(|group| number_of(&group.name)),
        class: facts.class(),
    }
}

/// The prices of the first member below the provisioned ones that has any.
fn elsewhere(model: &Model) -> Option<Elsewhere> {
    let members = model.route.members();
    let provisioned = members.iter().filter(|member| member.target.provisioned.is_on()).map(|member| member.priority).min()?;
    let below = members.iter().zip(&model.members).filter(|(member, _)| member.priority > provisioned);
    let priced = below.filter_map(|(member, known)| match &known.price {
        Some(DeploymentPrice::ByUse(price)) => Some((member.priority, price)),
        _ => None,
    });
    let (_, price) = priced.min_by_key(|(priority, _)| *priority)?;
    let usd = |money: Option<Money>| money.map(Money::usd);
    let input = usd(price.tokens.input)?;
    Some(Elsewhere { input, cached: usd(price.tokens.cached_input).unwrap_or(input), output: usd(price.tokens.output).unwrap_or(0.0) })
}
