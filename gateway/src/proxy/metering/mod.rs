//! Books what a request used: in the metrics, in the ledger, and against its limits.
//!
//! A whole answer is booked right before its last bytes are sent to the caller: once the caller has seen the end, the
//! usage is counted. Everything else is booked when its attempt ends.
//!
//! One rule applies to all: an attempt that may have cost something is booked with its reported usage, or else with the
//! upper bound that was reserved for it. Only a whole answer that shows all of its text is estimated instead. A
//! separate thread does this, because a tokenizer takes longer than a request should wait.

mod charge;
mod estimate;
mod evidence;
mod parts;
mod settled;

use std::pin::Pin;
use std::sync::Arc;

use serde_json::{Map, Value};
use spillway_plugins::api::Api;
use spillway_plugins::limits::Used;
use spillway_plugins::prices::Money;
use spillway_plugins::tokens::{Metered, OutputMeter, Reported, Usage};

use super::attempt_state::AttemptState;
use super::books::Books;
use super::usage_bound;
use crate::attempt_outcome::AttemptOutcome;
use crate::clock::{Tick, micros};
use crate::config::UsageRules;
use crate::gateway::Gateway;
use crate::ledger::row::RequestId;
use crate::ledger::{Cost, Ledger, MemberLabels, Row};
use crate::request::{Facts, Metering, ModelRequest};
use crate::runtime::Model;
use charge::Charge;

pub(super) use charge::cap;
use evidence::Evidence;
use settled::Settled;

pub(super) use estimate::Estimate;
pub(super) use evidence::KEPT;

/// Longest value of a tag header, in characters.
const TAG: usize = 64;

/// The configured tag headers that a caller sent, as a JSON object.
pub(super) fn tags(rules: &UsageRules, headers: &http::HeaderMap) -> Option<Arc<str>> {
    let mut tags = Map::new();
    for name in &rules.tags {
        if let Some(value) = headers.get(name) {
            let text: String = String::from_utf8_lossy(value.as_bytes()).chars().filter(|c| !c.is_control()).take(TAG).collect();
            tags.insert(name.as_str().to_owned(), Value::from(text));
        }
    }
    (!tags.is_empty()).then(|| Value::Object(tags).to_string().into())
}

/// Books a whole answer whose last bytes are sent `now`, and settles what was reserved. If the ledger is strict, the
/// returned future must be awaited: then the row is stored.
pub(super) fn book_answer<'r>(
    gateway: &'r Gateway,
    mut books: Books<'r>,
    model_request: &ModelRequest,
    state: &AttemptState,
    now: Tick,
) -> Option<Pin<Box<dyn Future<Output = ()> + Send + 'r>>> {
    if std::mem::replace(&mut books.metering.booked, true) || model_request.object.is_some() || model_request.is_free() {
        return None;
    }
    let outcome = if state.filtered { AttemptOutcome::CallerFault } else { AttemptOutcome::Ok };
    let charge = Charge::new(&books, model_request, state, outcome, true, now);
    if let Some(ledger) = gateway.ledger.as_ref().filter(|ledger| ledger.is_strict()) {
        let evidence = Evidence::new(&mut books, model_request, state);
        // On the heap, so that all other requests don't reserve memory for it.
        return Some(Box::pin(book_strictly(gateway, ledger, books, charge, evidence)));
    }
    match books.metering.usage {
        Some(metered) => {
            let used = charge.book(gateway, Settled::Reported(metered.usage));
            if let Some(permit) = books.metering.permit.take() {
                gateway.limits.settle(permit, used, books.facts.timestamps(now));
            }
        }
        None => estimate(gateway, &mut books, model_request, state, charge, now),
    }
    None
}

/// Waits for the row, and so for the estimate.
async fn book_strictly(gateway: &Gateway, ledger: &Ledger, books: Books<'_>, mut charge: Charge, evidence: Evidence) {
    let began = gateway.clock.now();
    let settled = match books.metering.usage {
        Some(metered) => Settled::Reported(metered.usage),
        None => {
            let bound = evidence.bound();
            let (price, place) = (charge.price().cloned(), Arc::clone(&charge.row.place));
            let tokenizers = Arc::clone(&gateway.tokenizers);
            let read = tokio::task::spawn_blocking(move || evidence.settled(&place, price.as_ref(), &tokenizers));
            read.await.unwrap_or(bound)
        }
    };
    books.metering.usage = Some(settled.metered());
    let used = charge.count(settled);
    if let Some(permit) = books.metering.permit.take() {
        gateway.limits.settle(permit, used, books.facts.timestamps(gateway.clock.now()));
    }
    ledger.write_through(charge.row).await;
    books.timing.waited += gateway.clock.now().since(began);
}

/// Books one of the answers on a socket at once; the reservation stays for the next one. If the answer did not report
/// its usage, the upper bound is booked.
pub(super) fn book_turn(
    gateway: &Gateway,
    books: &mut Books<'_>,
    model_request: &ModelRequest,
    state: &AttemptState,
    reported: Option<Usage>,
) {
    let settled = reported.map_or_else(|| Settled::Bound(usage_bound::of(books.facts, books.body, model_request)), Settled::Reported);
    book_settled(gateway, books, model_request, state, settled);
}

/// Books so many turns of a socket whose usage can't be reported any more, each at its upper bound.
pub(super) fn book_unsettled(gateway: &Gateway, books: &mut Books<'_>, model_request: &ModelRequest, state: &AttemptState, turns: u32) {
    if turns > 0 {
        let bound = usage_bound::of(books.facts, books.body, model_request).times(turns.into());
        book_settled(gateway, books, model_request, state, Settled::Bound(bound));
    }
}

fn book_settled(gateway: &Gateway, books: &mut Books<'_>, model_request: &ModelRequest, state: &AttemptState, settled: Settled) {
    let now = gateway.clock.now();
    let charge = Charge::new(books, model_request, state, AttemptOutcome::Ok, !books.metering.booked, now);
    books.metering.booked = true;
    let used = charge.book(gateway, settled);
    if let Some(permit) = &books.metering.permit {
        gateway.limits.book(permit, used, books.facts.timestamps(now));
    }
    let total = books.metering.usage.get_or_insert(Metered::reported(Usage::default()));
    total.usage.add(&settled.metered().usage);
}

/// Whether an attempt with this outcome may have cost something, though no usage is reported.
fn may_have_cost(state: &AttemptState, outcome: AttemptOutcome) -> bool {
    match state.status {
        // The prompt is billed even if the filter stopped it. Other refusals are free.
        Some(status) if !status.is_success() && !status.is_informational() => state.filtered,
        status => (state.sent || status.is_some()) && outcome.may_have_cost(status.is_some()),
    }
}

/// Books an attempt that ended without [`book_answer`], if it may have cost something.
pub(super) fn book_attempt(
    gateway: &Gateway,
    books: &mut Books<'_>,
    model_request: &ModelRequest,
    state: &AttemptState,
    outcome: AttemptOutcome,
) {
    // A socket is booked turn by turn.
    if books.metering.booked || model_request.object.is_some() || model_request.is_free() || model_request.api == Api::Realtime {
        return;
    }
    if outcome == AttemptOutcome::FlexUnavailable {
        // It costs nothing, but the ledger tells how often there is no capacity.
        let charge = Charge::new(books, model_request, state, outcome, false, gateway.clock.now());
        charge.note(gateway);
        return forget(books.metering);
    }
    // The caller's answer is not this part, but the one that continues it.
    let answered = books.reply.status.is_some() && !books.continued;
    let reported = books.metering.usage.map(|metered| metered.usage);
    if reported.is_some() || may_have_cost(state, outcome) {
        let now = gateway.clock.now();
        let charge = Charge::new(books, model_request, state, outcome, answered, now);
        if answered || outcome == AttemptOutcome::Cancelled {
            books.metering.booked = true;
            match reported {
                Some(usage) => settle_at(gateway, books, charge, Settled::Reported(usage), now),
                None => estimate(gateway, books, model_request, state, charge, now),
            }
            return;
        }
        let settled = reported.map_or_else(|| Evidence::new(books, model_request, state).bound(), Settled::Reported);
        let used = charge.book(gateway, settled);
        // The reservation stays for the next attempt.
        if let Some(permit) = &books.metering.permit {
            gateway.limits.book(permit, used, books.facts.timestamps(now));
        }
    }
    if !answered {
        forget(books.metering);
    }
}

/// What an attempt reported says nothing about the next one.
fn forget(metering: &mut Metering) {
    (metering.usage, metering.service_tier, metering.whole, metering.plain) = (None, None, false, None);
    (metering.so_far, metering.output, metering.length, metering.parts) = (Reported::default(), OutputMeter::default(), 0, None);
}

/// Books an attempt, and settles what was reserved for its request.
fn settle_at(gateway: &Gateway, books: &mut Books<'_>, charge: Charge, settled: Settled, now: Tick) {
    let used = charge.book(gateway, settled);
    if let Some(permit) = books.metering.permit.take() {
        gateway.limits.settle(permit, used, books.facts.timestamps(now));
    }
}

/// Books an attempt without reported usage: at its upper bound, which is known at once, or by an estimate from its
/// texts, which the estimator's thread makes. If that thread is overloaded, the upper bound is booked.
fn estimate(gateway: &Gateway, books: &mut Books<'_>, model_request: &ModelRequest, state: &AttemptState, charge: Charge, now: Tick) {
    let evidence = Evidence::new(books, model_request, state);
    if !evidence.is_readable() {
        let settled = evidence.bound();
        books.metering.usage = Some(settled.metered());
        return settle_at(gateway, books, charge, settled, now);
    }
    if let Some(permit) = &mut books.metering.permit {
        permit.release_slot();
    }
    let estimate =
        Estimate { charge, evidence, reported: None, permit: books.metering.permit.take(), runtime: Arc::clone(&books.facts.runtime) };
    estimate.hand_over(gateway);
}

/// Prepares the booking of an answer whose caller left, for after the rest has been read. From here on it counts as
/// booked.
pub(super) fn hand_over(books: &mut Books<'_>, model_request: &ModelRequest, state: &AttemptState, now: Tick) -> Estimate {
    books.metering.booked = true;
    let charge = Charge::new(books, model_request, state, AttemptOutcome::Cancelled, books.reply.status.is_some(), now);
    let evidence = Evidence::new(books, model_request, state);
    Estimate { charge, evidence, reported: None, permit: books.metering.permit.take(), runtime: Arc::clone(&books.facts.runtime) }
}

/// Books an answer from the cache (`how`): it used nothing and costs nothing.
pub(super) async fn book_cached(gateway: &Gateway, books: Books<'_>, model_request: &ModelRequest, how: &'static str) {
    let place = |model: &Model| Arc::clone(&model.cache_labels);
    book_unasked(gateway, books, model_request, "ok", Some(how), place).await;
}

/// Books a request whose prompt the guard stopped: it used no tokens, but counts as a request.
pub(super) async fn book_judged(gateway: &Gateway, books: Books<'_>, model_request: &ModelRequest, outcome: &'static str) {
    let place = |model: &Model| Arc::clone(&model.guard_labels);
    book_unasked(gateway, books, model_request, outcome, None, place).await;
}

/// Books a request that was sent to no member.
async fn book_unasked(
    gateway: &Gateway,
    books: Books<'_>,
    model_request: &ModelRequest,
    outcome: &'static str,
    cache: Option<&'static str>,
    place: impl FnOnce(&Model) -> Arc<MemberLabels>,
) {
    books.metering.booked = true;
    let now = gateway.clock.now();
    if let Some(permit) = books.metering.permit.take() {
        gateway.limits.settle(permit, Used::default(), books.facts.timestamps(now));
    }
    if let Some(consumer) = books.facts.consumer() {
        consumer.account.metrics.count(&Usage::default(), Money::default());
    }
    let Some(ledger) = &gateway.ledger else { return };
    let row = Row {
        at: books.facts.arrived_at.timestamp_millis(),
        at_us: books.facts.micros_of_arrival(),
        request: RequestId::from_slice(books.facts.id.as_bytes()),
        attempt: 1,
        answered: true,
        consumer: books.facts.consumer().map(|consumer| Arc::clone(&consumer.name)),
        tags: books.facts.tags.clone(),
        api: model_request.api,
        place: place(&model_request.model),
        outcome,
        status: books.reply.status,
        metered: Metered::reported(Usage::default()),
        service_tier: None,
        cost: Cost::Known(Money::default()),
        cost_estimated: false,
        cache,
        first_us: books.timing.first.map(micros),
        us: micros(now.since(books.facts.arrived)),
        class: books.facts.class(),
        cap: cap(model_request),
        reserved: books.body.input_bound,
        waited_us: 0,
        began_us: 0,
    };
    if ledger.is_strict() {
        ledger.write_through(row).await;
    } else {
        ledger.write(row);
    }
}

/// The end of every request: what is still reserved was not used.
pub(super) fn settle(gateway: &Gateway, facts: &Facts, metering: &mut Metering) {
    if let Some(permit) = metering.permit.take() {
        gateway.limits.settle(permit, Used::default(), facts.timestamps(gateway.clock.now()));
    }
}

#[cfg(test)]
mod tests;
