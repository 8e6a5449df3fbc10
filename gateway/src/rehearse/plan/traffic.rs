//! The requests of a rehearsal: which consumer asks for which model, and when.

use std::time::Duration;

use serde_json::{Value, json};
use spillway_plugins::api::Api;
use spillway_plugins::limits::Rules;

use super::credential::{Caller, callers};
use super::derive::takes_requests;
use crate::config::{Config, PoolConfig, lineage};
use crate::rehearse::fault::{Fault, FaultKind};

/// Requests to each pool.
const REQUESTS: u32 = 24;
/// Requests to all pools together, about: the gateway remembers so many.
const ALL: u32 = 900;
/// Time between two of them, unless a limit asks for more.
const PAUSE: Duration = Duration::from_millis(2500);
/// Models of a pool that are asked for, in turn.
const MODELS: usize = 2;
/// The completion cap of a request.
const CAP: u64 = 40;
/// Less than any of these requests uses.
const LEAST: u64 = 20;
/// More than any of these requests reserves.
const TOKENS: u64 = 120;
/// Requests of a flood: at least, at most.
const FLOOD: (u64, u64) = (60, 240);
/// How long a flood lasts.
const FLOOD_TIME: Duration = Duration::from_secs(60);

/// One request to send.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::rehearse) struct Planned {
    /// The pool's index.
    pub(in crate::rehearse) pool: usize,
    /// The model.
    pub(in crate::rehearse) model: String,
    /// The operation.
    pub(in crate::rehearse) api: Api,
    /// Whether a stream is asked for.
    pub(in crate::rehearse) stream: bool,
    /// Who asks.
    pub(in crate::rehearse) caller: Caller,
    /// When, from the beginning.
    pub(in crate::rehearse) at: Duration,
    /// Whether it belongs to a flood.
    pub(in crate::rehearse) floods: bool,
}

/// The requests of a fault, in order of time, and why some pools have none.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::rehearse) struct Plan {
    pub(in crate::rehearse) requests: Vec<Planned>,
    pub(in crate::rehearse) notes: Vec<String>,
}

/// Plans the requests of a fault.
pub(in crate::rehearse) fn plan(config: &Config, fault: &Fault) -> Plan {
    let mut plan = Plan::default();
    let crowd = u32::try_from(fault.pools.len().max(1)).unwrap_or(1);
    let mut flooded = false;
    for index in &fault.pools {
        let pool = &config.pools[*index];
        if !(0..pool.members.len()).any(|at| takes_requests(config, pool, at)) {
            plan.notes.push(format!("{}: every answer is the last resort's, so there is nothing to rehearse", pool.name));
            continue;
        }
        let models: Vec<(&String, Api)> = pool.models.iter().take(MODELS).map(|model| (model, api(config, pool, model))).collect();
        let is_other = |caller: &Caller| fault.consumer.is_none_or(|at| caller.consumer != Some(at));
        let caller = |model: &str, api: Api| callers(config, pool, model, api).into_iter().find(is_other);
        let mut callable = Vec::new();
        for (model, api) in models {
            match caller(model, api) {
                Some(caller) => callable.push((model, api, caller)),
                None if fault.kind == FaultKind::Flood => {}
                None => plan.notes.push(format!("{}: no consumer may ask for {model}, so it is not rehearsed", pool.name)),
            }
        }
        let pauses = callable.iter().map(|(model, _, caller)| pause(config, pool, caller, model) * crowd);
        let pause = pauses.max().unwrap_or(PAUSE);
        for number in (0..REQUESTS.min(ALL / crowd).max(4)).filter(|_| !callable.is_empty()) {
            // Each model has streams and plain answers.
            let (model, api, caller) = &callable[(number / 2) as usize % callable.len()];
            plan.requests.push(Planned {
                pool: *index,
                model: (*model).clone(),
                api: *api,
                stream: number % 2 == 1 && *api != Api::Embeddings,
                caller: caller.clone(),
                at: pause * number,
                floods: false,
            });
        }
        if let (Some(consumer), false) = (fault.consumer, flooded) {
            let flood = flood(config, *index, consumer);
            flooded = !flood.is_empty();
            plan.requests.extend(flood);
        }
    }
    plan.requests.sort_by_key(|request| request.at);
    plan
}

/// Three times what a consumer's limit allows, within a minute; at most [`FLOOD`].
fn flood(config: &Config, index: usize, consumer: usize) -> Vec<Planned> {
    let pool = &config.pools[index];
    let Some((model, api, caller)) = pool.models.iter().find_map(|model| {
        let api = api(config, pool, model);
        let caller = callers(config, pool, model, api).into_iter().find(|caller| caller.consumer == Some(consumer))?;
        Some((model, api, caller))
    }) else {
        return Vec::new();
    };
    let limits = rules(config, pool, &caller, model);
    let requests = limits.iter().filter_map(|rules| rules.requests_per_minute);
    let tokens = limits.iter().filter_map(|rules| rules.tokens_per_minute.map(|tokens| tokens / LEAST));
    let allowed = requests.chain(tokens).min().unwrap_or(FLOOD.1);
    let count = allowed.saturating_mul(3).clamp(FLOOD.0, FLOOD.1);
    let pause = FLOOD_TIME / u32::try_from(count).unwrap_or(u32::MAX);
    let one = |number: u64| Planned {
        pool: index,
        model: model.clone(),
        api,
        stream: false,
        caller: caller.clone(),
        at: pause * u32::try_from(number).unwrap_or(u32::MAX),
        floods: true,
    };
    (0..count).map(one).collect()
}

/// The operation that most members of a pool serve, and that fits the model.
fn api(config: &Config, pool: &PoolConfig, model: &str) -> Api {
    if model.contains("embedding") {
        return Api::Embeddings;
    }
    let serving = |api: Api| {
        let serves = |at: &usize| config.backends[pool.members[*at].backend].kind.provider().serves(api);
        (0..pool.members.len()).filter(|at| takes_requests(config, pool, *at)).filter(serves).count()
    };
    let allowed = |api: Api| !callers(config, pool, model, api).is_empty();
    let all = [Api::Chat, Api::Messages, Api::Responses, Api::Completions, Api::Embeddings];
    // Of equal ones, the first.
    all.into_iter().rev().filter(|api| allowed(*api)).max_by_key(|api| serving(*api)).unwrap_or(Api::Chat)
}

/// All limits that a request counts for.
fn rules<'c>(config: &'c Config, pool: &'c PoolConfig, caller: &Caller, model: &str) -> Vec<&'c Rules> {
    let mut all = vec![&pool.limits];
    if let Some(consumer) = caller.consumer.map(|at| &config.consumers[at]) {
        all.push(&consumer.limits.rules);
        all.extend(consumer.limits.models.get(model));
        all.extend(lineage(&config.groups, consumer.group).map(|(_, group)| &group.rules));
    } else if let Some(unlisted) = config.plugins.auth.tokens.as_ref().and_then(|tokens| tokens.unlisted.as_ref()) {
        all.push(&unlisted.limits.rules);
        all.extend(lineage(&config.groups, unlisted.group).map(|(_, group)| &group.rules));
    }
    all
}

/// The time between two requests that keeps within all limits per minute: they are not what is rehearsed.
fn pause(config: &Config, pool: &PoolConfig, caller: &Caller, model: &str) -> Duration {
    let rules = rules(config, pool, caller, model);
    let requests = rules.iter().filter_map(|rules| rules.requests_per_minute).map(|limit| 60.0 / limit.max(1) as f64);
    let tokens = rules.iter().filter_map(|rules| rules.tokens_per_minute).map(|limit| 60.0 * TOKENS as f64 / limit.max(1) as f64);
    let longest = requests.chain(tokens).fold(0.0, f64::max) * 1.1;
    PAUSE.max(Duration::from_secs_f64(longest.min(3600.0)))
}

impl Planned {
    /// Its path, and its body.
    pub(in crate::rehearse) fn request(&self, number: usize) -> (&'static str, Value) {
        // No two are equal: none is answered from a cache.
        let text = format!("Rehearsal, request {number}.");
        let messages = json!([{ "role": "user", "content": text }]);
        let Planned { model, stream, .. } = self;
        match self.api {
            Api::Embeddings => ("/v1/embeddings", json!({ "model": model, "input": text })),
            Api::Completions => ("/v1/completions", json!({ "model": model, "stream": stream, "max_tokens": CAP, "prompt": text })),
            Api::Responses => ("/v1/responses", json!({ "model": model, "stream": stream, "max_output_tokens": CAP, "input": text })),
            Api::Messages => ("/v1/messages", json!({ "model": model, "stream": stream, "max_tokens": CAP, "messages": messages })),
            _ => ("/v1/chat/completions", json!({ "model": model, "stream": stream, "max_tokens": CAP, "messages": messages })),
        }
    }
}
