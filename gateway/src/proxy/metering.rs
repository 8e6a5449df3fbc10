//! What a request used, booked: in the metrics, in the ledger, against its limits.
//!
//! A whole answer is booked right before its last bytes go to the caller, so that whoever has seen its end
//! finds it counted. Whatever ends otherwise is booked when its attempt ends.
//!
//! There is one rule for all: whatever may have cost something is booked as reported, else at the bound that was
//! reserved for it. Only a whole answer that shows all of its text is estimated instead; by a thread of its own,
//! because a tokenizer takes longer than a request should wait.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};
use spillway_plugins::api::Api;
use spillway_plugins::limits::{Permit, Used};
use spillway_plugins::prices::Money;
use spillway_plugins::request::StreamOptions;
use spillway_plugins::tokens::{Encoding, Metered, OutputMeter, Reported, Usage, answer_tokens, may_reason, prompt_tokens};

use super::attempt_state::AttemptState;
use super::books::Books;
use super::bound;
use crate::attempt_outcome::AttemptOutcome;
use crate::callers::LiveConsumer;
use crate::clock::{Tick, micros};
use crate::config::DeploymentPrice;
use crate::config::UsageRules;
use crate::gateway::Gateway;
use crate::ledger::{Cost, Ledger, Place, Row};
use crate::request::{Facts, Metering, ModelRequest};
use crate::runtime::Model;

/// Longest body that is kept for an estimate while its answer is delivered; longer ones are estimated by
/// their length.
pub(super) const KEPT: usize = 64 * 1024;

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

/// An attempt to be booked: all that is known but for what it used.
struct Charge {
    row: Row,
    model: Arc<Model>,
    member: usize,
    consumer: Option<Arc<LiveConsumer>>,
}

impl Charge {
    /// Of an attempt that ends `now`; `answered` if the caller got its answer, or a part of it.
    fn new(
        books: &Books<'_>,
        model_request: &ModelRequest,
        running: &AttemptState,
        outcome: AttemptOutcome,
        answered: bool,
        now: Tick,
    ) -> Self {
        let row = Row {
            at: books.facts.arrived_at.timestamp_millis(),
            request: books.facts.id.as_bytes().into(),
            attempt: books.attempts.made.len() + 1,
            answered,
            consumer: books.facts.consumer().map(|consumer| Arc::clone(&consumer.name)),
            tags: books.facts.tags.clone(),
            api: model_request.api,
            place: Arc::clone(&model_request.model.places[running.member]),
            outcome: outcome.label(),
            status: running.status.map(|status| status.as_u16()),
            metered: Metered::unknown(),
            cost: Cost::Unknown,
            cache: None,
            first_us: books.timing.first.filter(|_| answered).map(micros),
            us: micros(now.since(running.began)),
        };
        let consumer = books.facts.caller.as_ref().map(|caller| Arc::clone(&caller.consumer));
        Charge { row, model: Arc::clone(&model_request.model), member: running.member, consumer }
    }

    fn price(&self) -> Option<&DeploymentPrice> {
        self.model.prices[self.member].as_ref()
    }

    /// Counts it, and prices it.
    fn count(&mut self, settled: Settled) -> Used {
        let (metered, cost) = (settled.metered(), settled.cost(self.price()));
        self.model.metrics[self.member].count_usage(&metered, cost);
        self.row.metered = metered;
        self.row.cost = cost;
        let paid = if let Cost::Known(money) = cost { money } else { Money::default() };
        if let Some(consumer) = &self.consumer {
            consumer.account.metrics.count(&metered.usage, paid);
        }
        Used { tokens: metered.usage.tokens(), cost: paid }
    }

    fn book(mut self, gateway: &Gateway, settled: Settled) -> Used {
        let used = self.count(settled);
        if let Some(ledger) = &gateway.ledger {
            ledger.write(self.row);
        }
        used
    }
}

/// What an attempt is booked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    /// What its backend said.
    Reported(Usage),
    /// What its text has, where all of it was seen.
    Estimated(Usage),
    /// What it may have used at most.
    Bound(Usage),
}

impl Settled {
    fn metered(self) -> Metered {
        match self {
            Settled::Reported(usage) => Metered::reported(usage),
            Settled::Estimated(usage) | Settled::Bound(usage) => Metered::estimated(usage),
        }
    }

    fn cost(self, price: Option<&DeploymentPrice>) -> Cost {
        let price = match price {
            Some(DeploymentPrice::Hourly(money)) => return Cost::Hourly(*money),
            Some(DeploymentPrice::ByUse(price)) => price,
            None => return Cost::Unknown,
        };
        // What has no price of its own is paid as the dearest that has one.
        let (usage, known) = match self {
            Settled::Reported(usage) | Settled::Estimated(usage) => (usage, price.cost(&usage)),
            Settled::Bound(usage) => (usage, None),
        };
        known.or_else(|| Some(price.at_most(&usage)).filter(|money| money.0 > 0)).map_or(Cost::Unknown, Cost::Known)
    }
}

/// What is known of an attempt whose usage nobody reports.
struct Evidence {
    api: Api,
    /// The request's body, if it is short enough to be read.
    body: Option<Bytes>,
    /// What was reserved for it.
    bound: Usage,
    /// The answer came to its end.
    whole: bool,
    /// A content filter stopped the prompt: there is no answer.
    filtered: bool,
    /// The text of a stream.
    output: OutputMeter,
    /// What a stream that isn't whole has told.
    so_far: Reported,
    /// A plain answer that reports nothing.
    answer: Option<Bytes>,
    /// Its caller asked for a stream's usage in a way that servers read differently: what isn't told may be hidden.
    oddly_asked: bool,
    /// Its caller asked for thinking, which may not be shown.
    reasons: bool,
}

impl Evidence {
    fn new(books: &mut Books<'_>, model_request: &ModelRequest, running: &AttemptState) -> Self {
        Evidence {
            api: model_request.api,
            body: books.body.kept.as_ref().map(|body| body.bytes().clone()).filter(|body| body.len() <= KEPT),
            bound: bound::of(books.facts, books.body, model_request),
            whole: books.metering.whole,
            filtered: running.filtered,
            output: std::mem::take(&mut books.metering.output),
            so_far: books.metering.so_far,
            answer: books.metering.plain.take(),
            oddly_asked: model_request.fields.stream && model_request.fields.stream_options == StreamOptions::Odd,
            reasons: model_request.fields.reasoning == Some(true),
        }
    }

    /// What it may have used at most: what was reserved, or what was seen, if that is more. Of the prompt, what the
    /// backend told before the end.
    fn bound(&self) -> Settled {
        let seen = self.output.bound().max(self.answer.as_ref().map_or(0, |answer| answer.len() as u64 / 4));
        let output = if self.filtered { 0 } else { self.bound.output.max(seen) };
        Settled::Bound(self.so_far.so_far(self.api, output).unwrap_or(Usage { output, ..self.bound }))
    }

    /// Whether its texts may tell what it used, once they are read.
    fn is_readable(&self) -> bool {
        let shown = self.filtered || self.answer.is_some() || !self.output.is_empty() || matches!(self.api, Api::Embeddings | Api::Speech);
        self.body.is_some() && (self.api.makes_images() || shown) && (self.whole || self.filtered)
    }

    /// What its texts tell. `model` and `deployment` are its names.
    fn read(&self, model: &str, deployment: &str) -> Option<Usage> {
        let body = self.body.as_deref().filter(|_| self.is_readable())?;
        if self.api == Api::Speech {
            let fields: Value = serde_json::from_slice(body).ok()?;
            let characters = fields["input"].as_str()?.chars().count() as u64;
            return Some(Usage { characters, ..Usage::default() });
        }
        if self.api.makes_images() {
            return Some(Usage { images: self.bound.images, ..Usage::default() });
        }
        if !self.filtered && (self.oddly_asked || self.reasons || may_reason(model) || may_reason(deployment)) {
            return None;
        }
        let encoding = Encoding::of(model);
        let input = prompt_tokens(body, encoding);
        let output = self.output.tokens(encoding) + self.answer.as_deref().map_or(0, |answer| answer_tokens(answer, encoding));
        Some(self.so_far.so_far(self.api, output).unwrap_or(Usage { input, output, ..Usage::default() }))
    }

    /// What its texts tell, if they do and there is a price for it; else its bound.
    fn settled(&self, place: &Place, price: Option<&DeploymentPrice>) -> Settled {
        let read = self.read(&place.model, &place.deployment).filter(|usage| match price {
            Some(DeploymentPrice::ByUse(price)) => price.cost(usage).is_some(),
            Some(DeploymentPrice::Hourly(_)) | None => true,
        });
        read.map_or_else(|| self.bound(), Settled::Estimated)
    }
}

/// An estimate to be made and booked.
pub(super) struct Estimate {
    charge: Charge,
    evidence: Evidence,
    /// What the answer told, if it did.
    told: Option<Usage>,
    permit: Option<Permit>,
}

impl Estimate {
    /// Makes it, and settles what was reserved.
    pub(super) fn book(self, gateway: &Gateway) {
        let settled = self.told.map_or_else(|| self.evidence.settled(&self.charge.row.place, self.charge.price()), Settled::Reported);
        self.book_as(gateway, settled);
    }

    /// Hands it to the thread that reads texts.
    pub(super) fn hand_over(self, gateway: &Gateway) {
        let of = gateway.clone();
        gateway.estimator.hand_over(move |has_time| if has_time { self.book(&of) } else { self.book_by_length(&of) });
    }

    fn book_as(self, gateway: &Gateway, settled: Settled) {
        let used = self.charge.book(gateway, settled);
        if let Some(permit) = self.permit {
            gateway.limits.settle(permit, used, gateway.limits.now());
        }
    }
}

/// Books a whole answer that is as good as delivered, and settles what was reserved. Where the ledger is strict
/// that takes waiting: the row is safe when what this returns has ended.
pub(super) fn book_answer<'r>(
    gateway: &'r Gateway,
    mut books: Books<'r>,
    model_request: &ModelRequest,
    running: &AttemptState,
) -> Option<Pin<Box<dyn Future<Output = ()> + Send + 'r>>> {
    if std::mem::replace(&mut books.metering.booked, true) || model_request.object.is_some() || model_request.is_free() {
        return None;
    }
    let now = gateway.clock.now();
    let outcome = if running.filtered { AttemptOutcome::CallerFault } else { AttemptOutcome::Ok };
    let charge = Charge::new(&books, model_request, running, outcome, true, now);
    if let Some(ledger) = gateway.ledger.as_ref().filter(|ledger| ledger.is_strict()) {
        let evidence = Evidence::new(&mut books, model_request, running);
        // On the heap: the way of all other requests need not have room for it.
        return Some(Box::pin(book_strictly(gateway, ledger, books, charge, evidence)));
    }
    match books.metering.usage {
        Some(metered) => {
            let used = charge.book(gateway, Settled::Reported(metered.usage));
            if let Some(permit) = books.metering.permit.take() {
                gateway.limits.settle(permit, used, books.facts.moment(now));
            }
        }
        None => estimate(gateway, &mut books, model_request, running, charge),
    }
    None
}

/// Whoever waits for the row waits for the estimate, too.
async fn book_strictly(gateway: &Gateway, ledger: &Ledger, books: Books<'_>, mut charge: Charge, evidence: Evidence) {
    let began = gateway.clock.now();
    let settled = match books.metering.usage {
        Some(metered) => Settled::Reported(metered.usage),
        None => {
            let bound = evidence.bound();
            let (model, member, place) = (Arc::clone(&charge.model), charge.member, Arc::clone(&charge.row.place));
            let read = tokio::task::spawn_blocking(move || evidence.settled(&place, model.prices[member].as_ref()));
            read.await.unwrap_or(bound)
        }
    };
    books.metering.usage = Some(settled.metered());
    let used = charge.count(settled);
    if let Some(permit) = books.metering.permit.take() {
        gateway.limits.settle(permit, used, books.facts.moment(gateway.clock.now()));
    }
    ledger.write_through(charge.row).await;
    books.timing.waited += gateway.clock.now().since(began);
}

/// Books one of several answers of a socket at once: what is reserved stays so for the next one. Of one that doesn't
/// tell what it used, the bound.
pub(super) fn book_turn(
    gateway: &Gateway,
    books: &mut Books<'_>,
    model_request: &ModelRequest,
    running: &AttemptState,
    told: Option<Usage>,
) {
    let settled = told.map_or_else(|| Settled::Bound(bound::of(books.facts, books.body, model_request)), Settled::Reported);
    book_settled(gateway, books, model_request, running, settled);
}

/// Books so many turns of a socket of which nobody will tell what they used, each at its bound.
pub(super) fn book_unsettled(gateway: &Gateway, books: &mut Books<'_>, model_request: &ModelRequest, running: &AttemptState, turns: u32) {
    if turns > 0 {
        let bound = bound::of(books.facts, books.body, model_request).times(turns.into());
        book_settled(gateway, books, model_request, running, Settled::Bound(bound));
    }
}

fn book_settled(gateway: &Gateway, books: &mut Books<'_>, model_request: &ModelRequest, running: &AttemptState, settled: Settled) {
    let now = gateway.clock.now();
    let charge = Charge::new(books, model_request, running, AttemptOutcome::Ok, !books.metering.booked, now);
    books.metering.booked = true;
    let used = charge.book(gateway, settled);
    if let Some(permit) = &books.metering.permit {
        gateway.limits.book(permit, used, books.facts.moment(now));
    }
    let total = books.metering.usage.get_or_insert(Metered::reported(Usage::default()));
    total.usage.add(&settled.metered().usage);
}

/// Whether an attempt that ended like this may have cost something, though nothing is reported.
fn may_have_cost(running: &AttemptState, outcome: AttemptOutcome) -> bool {
    match running.status {
        // The prompt is billed, though the filter stopped it. Other refusals are not.
        Some(status) if !status.is_success() && !status.is_informational() => running.filtered,
        status => (running.sent || status.is_some()) && outcome.may_have_cost(status.is_some()),
    }
}

/// Books an attempt that ended without [`book_answer`], if it may have cost something.
pub(super) fn book_attempt(
    gateway: &Gateway,
    books: &mut Books<'_>,
    model_request: &ModelRequest,
    running: &AttemptState,
    outcome: AttemptOutcome,
) {
    // A socket is booked by its turns.
    if books.metering.booked || model_request.object.is_some() || model_request.is_free() || model_request.api == Api::Realtime {
        return;
    }
    // A part of an answer that another one continues is not what the caller got.
    let answered = books.reply.status.is_some() && !books.continued;
    let told = books.metering.usage.map(|metered| metered.usage);
    if told.is_some() || may_have_cost(running, outcome) {
        let now = gateway.clock.now();
        let charge = Charge::new(books, model_request, running, outcome, answered, now);
        if answered || outcome == AttemptOutcome::Cancelled {
            books.metering.booked = true;
            match told {
                Some(usage) => settle_at(gateway, books, charge, Settled::Reported(usage)),
                None => estimate(gateway, books, model_request, running, charge),
            }
            return;
        }
        let settled = told.map_or_else(|| Evidence::new(books, model_request, running).bound(), Settled::Reported);
        let used = charge.book(gateway, settled);
        // What is reserved stays so for the next attempt.
        if let Some(permit) = &books.metering.permit {
            gateway.limits.book(permit, used, books.facts.moment(now));
        }
    }
    if !answered {
        // What it told is nothing of the next one.
        (books.metering.usage, books.metering.whole, books.metering.plain) = (None, false, None);
        (books.metering.so_far, books.metering.output) = (Reported::default(), OutputMeter::default());
    }
}

/// Books an attempt, and settles what was reserved for its request.
fn settle_at(gateway: &Gateway, books: &mut Books<'_>, charge: Charge, settled: Settled) {
    let used = charge.book(gateway, settled);
    if let Some(permit) = books.metering.permit.take() {
        gateway.limits.settle(permit, used, books.facts.moment(gateway.clock.now()));
    }
}

/// Books what nobody reports: at its bound, which is known at once, or by its texts. Those are for the thread that reads
/// them; if that has too much to do, the bound is booked after all.
fn estimate(gateway: &Gateway, books: &mut Books<'_>, model_request: &ModelRequest, running: &AttemptState, charge: Charge) {
    let evidence = Evidence::new(books, model_request, running);
    if !evidence.is_readable() {
        let settled = evidence.bound();
        books.metering.usage = Some(settled.metered());
        return settle_at(gateway, books, charge, settled);
    }
    if let Some(permit) = &mut books.metering.permit {
        permit.release_slot();
    }
    let estimate = Estimate { charge, evidence, told: None, permit: books.metering.permit.take() };
    estimate.hand_over(gateway);
}

/// What is to be booked of an answer whose caller left, once it has been read on. It counts as booked.
pub(super) fn hand_over(books: &mut Books<'_>, model_request: &ModelRequest, running: &AttemptState, now: Tick) -> Estimate {
    books.metering.booked = true;
    let charge = Charge::new(books, model_request, running, AttemptOutcome::Cancelled, books.reply.status.is_some(), now);
    let evidence = Evidence::new(books, model_request, running);
    Estimate { charge, evidence, told: None, permit: books.metering.permit.take() }
}

impl Estimate {
    /// More text came meanwhile, and more was told. `whole`: the answer came to its end.
    pub(super) fn has_read(&mut self, output: OutputMeter, so_far: Reported, whole: bool) {
        self.evidence.output = output;
        self.evidence.so_far = so_far;
        self.evidence.whole = whole;
    }

    /// The answer has told what it used, after all.
    pub(super) fn is_told(&mut self, reported: &Reported) {
        self.told = reported.usage(self.evidence.api);
    }

    /// As [`Estimate::book`], without reading any text.
    pub(super) fn book_by_length(self, gateway: &Gateway) {
        let settled = self.told.map_or_else(|| self.evidence.bound(), Settled::Reported);
        self.book_as(gateway, settled);
    }
}

/// Books an answer that was known already (`how`): it used nothing and costs nothing.
pub(super) async fn book_cached(gateway: &Gateway, books: Books<'_>, model_request: &ModelRequest, how: &'static str) {
    let place = |model: &Model| Arc::clone(&model.cache_place);
    book_unasked(gateway, books, model_request, "ok", Some(how), place).await;
}

/// Books a request whose prompt was judged, and doesn't pass: it used nothing of a model, and was a request all the same.
pub(super) async fn book_judged(gateway: &Gateway, books: Books<'_>, model_request: &ModelRequest, outcome: &'static str) {
    let place = |model: &Model| Arc::clone(&model.guard_place);
    book_unasked(gateway, books, model_request, outcome, None, place).await;
}

/// Books a request for which no member was asked.
async fn book_unasked(
    gateway: &Gateway,
    books: Books<'_>,
    model_request: &ModelRequest,
    outcome: &'static str,
    cache: Option<&'static str>,
    place: impl FnOnce(&Model) -> Arc<Place>,
) {
    books.metering.booked = true;
    let now = gateway.clock.now();
    if let Some(permit) = books.metering.permit.take() {
        gateway.limits.settle(permit, Used::default(), books.facts.moment(now));
    }
    if let Some(consumer) = books.facts.consumer() {
        consumer.account.metrics.count(&Usage::default(), Money::default());
    }
    let Some(ledger) = &gateway.ledger else { return };
    let row = Row {
        at: books.facts.arrived_at.timestamp_millis(),
        request: books.facts.id.as_bytes().into(),
        attempt: 1,
        answered: true,
        consumer: books.facts.consumer().map(|consumer| Arc::clone(&consumer.name)),
        tags: books.facts.tags.clone(),
        api: model_request.api,
        place: place(&model_request.model),
        outcome,
        status: books.reply.status,
        metered: Metered::reported(Usage::default()),
        cost: Cost::Known(Money::default()),
        cache,
        first_us: books.timing.first.map(micros),
        us: micros(now.since(books.facts.arrived)),
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
        gateway.limits.settle(permit, Used::default(), facts.moment(gateway.clock.now()));
    }
}

#[cfg(test)]
mod tests;
