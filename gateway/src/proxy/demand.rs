//! What a request is expected to take of provisioned throughput.

use std::time::Duration;

use crate::balance::provisioned::Demand;
use crate::balance::ptu::load::Ask;
use crate::balance::ptu::shares::Caller;
use crate::config::number_of;
use crate::request::{Facts, ModelRequest, RequestBody};

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
    // A request that waits for room must still have the time to be answered elsewhere.
    let timeout = facts.arrived + model_request.pool.config.timeouts.total;
    let choices = if cap.is_some() { 1 } else { fields.choices.unwrap_or(1) };
    Some(Demand {
        ask: Ask { prompt: body.bytes as u64 / BYTES_PER_TOKEN, cap, choices },
        caller: caller(facts),
        elsewhere: model.elsewhere,
        needed_by: Some(facts.needed_by.map_or(timeout, |needed_by| needed_by.min(timeout))),
        takes: model.durations.most(),
        waited: Duration::ZERO,
        may_wait: true,
        is_new: true,
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
