//! Books what a request used: in the metrics, in the ledger, and against its limits.
//!
//! A whole answer is booked right before its last bytes are sent to the caller: once the caller has seen the end, the
//! usage is counted. Everything else is booked when its attempt ends.
//!
//! One rule applies to all: an attempt that may have cost something is booked with its reported usage, or else with the
//! upper bound that was reserved for it. Only a whole answer that shows all of its text is estimated instead. A
//! separate thread does this, because a tokenizer takes longer than a request should wait.

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
use super::usage_bound;
use crate::attempt_outcome::AttemptOutcome;
use crate::callers::LiveConsumer;
use crate::clock::{Tick, micros};
use crate::config::DeploymentPrice;
use crate::config::UsageRules;
use crate::gateway::Gateway;
use crate::ledger::{Cost, Ledger, MemberLabels, Row};
use crate::request::{Facts, Metering, ModelRequest};
use crate::runtime::Model;

/// Longest body that is kept for an estimate while its answer is delivered. For longer bodies the estimate uses their
/// length.
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

/// An attempt to be booked: all that is known except its usage.
struct Charge {
    row: Row,
    model: Arc<Model>,
    member: usize,
    consumer: Option<Arc<LiveConsumer>>,
}

impl Charge {
    /// An attempt that ends `now`; `answered` if the caller got its answer, or a part of it.
    fn new(
        books: &Books<'_>,
        model_request: &ModelRequest,
        attempt: &AttemptState,
        outcome: AttemptOutcome,
        answered: bool,
        now: Tick,
    ) -> Self {
        let row = Row {
            at: books.facts.arrived_at.timestamp_millis(),
            request: books.facts.id.as_bytes().into(),
            attempt: books.attempts.records.len() + 1,
            answered,
            consumer: books.facts.consumer().map(|consumer| Arc::clone(&consumer.name)),
            tags: books.facts.tags.clone(),
            api: model_request.api,
            place: Arc::clone(&model_request.model.places[attempt.member]),
            outcome: outcome.label(),
            status: attempt.status.map(|status| status.as_u16()),
            metered: Metered::unknown(),
            cost: Cost::Unknown,
            cache: None,
            first_us: books.timing.first.filter(|_| answered).map(micros),
            us: micros(now.since(attempt.began)),
        };
        let consumer = books.facts.caller.as_ref().map(|caller| Arc::clone(&caller.consumer));
        Charge { row, model: Arc::clone(&model_request.model), member: attempt.member, consumer }
    }

    fn price(&self) -> Option<&DeploymentPrice> {
        self.model.prices[self.member].as_ref()
    }

    /// Counts it in the metrics, and computes its cost.
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

/// The usage that is booked for an attempt, and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    /// Reported by the backend.
    Reported(Usage),
    /// Estimated from the texts, if all of them were seen.
    Estimated(Usage),
    /// The upper bound.
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
        // A kind of token without a price is charged at the highest price of the others.
        let (usage, known) = match self {
            Settled::Reported(usage) | Settled::Estimated(usage) => (usage, price.cost(&usage)),
            Settled::Bound(usage) => (usage, None),
        };
        known.or_else(|| Some(price.at_most(&usage)).filter(|money| money.0 > 0)).map_or(Cost::Unknown, Cost::Known)
    }
}

/// What is known of an attempt whose usage is not reported.
struct Evidence {
    api: Api,
    /// The request's body, if it is short enough to be tokenized.
    body: Option<Bytes>,
    /// What was reserved for it.
    bound: Usage,
    /// Whether the answer ended.
    whole: bool,
    /// A content filter stopped the prompt: there is no answer.
    filtered: bool,
    /// The measured text of a stream.
    output: OutputMeter,
    /// Usage that a stream has reported before it broke.
    so_far: Reported,
    /// A plain answer that reports no usage.
    answer: Option<Bytes>,
    /// The caller asked for a stream's usage in a way that servers read differently: the usage may have been left out
    /// for that reason.
    oddly_asked: bool,
    /// The caller asked for reasoning, which the answer may not show.
    reasons: bool,
}

impl Evidence {
    fn new(books: &mut Books<'_>, model_request: &ModelRequest, attempt: &AttemptState) -> Self {
        Evidence {
            api: model_request.api,
            body: books.body.kept.as_ref().map(|body| body.bytes().clone()).filter(|body| body.len() <= KEPT),
            bound: usage_bound::of(books.facts, books.body, model_request),
            whole: books.metering.whole,
            filtered: attempt.filtered,
            output: std::mem::take(&mut books.metering.output),
            so_far: books.metering.so_far,
            answer: books.metering.plain.take(),
            oddly_asked: model_request.fields.stream && model_request.fields.stream_options == StreamOptions::Odd,
            reasons: model_request.fields.reasoning == Some(true),
        }
    }

    /// The upper bound of the usage: what was reserved, or what was seen if that is more. For the prompt it uses what
    /// the backend reported before the stream broke.
    fn bound(&self) -> Settled {
        let seen = self.output.bound().max(self.answer.as_ref().map_or(0, |answer| answer.len() as u64 / 4));
        let output = if self.filtered { 0 } else { self.bound.output.max(seen) };
        Settled::Bound(self.so_far.so_far(self.api, output).unwrap_or(Usage { output, ..self.bound }))
    }

    /// Whether its texts are enough for an estimate.
    fn is_readable(&self) -> bool {
        let shown = self.filtered || self.answer.is_some() || !self.output.is_empty() || matches!(self.api, Api::Embeddings | Api::Speech);
        self.body.is_some() && (self.api.makes_images() || shown) && (self.whole || self.filtered)
    }

    /// The usage according to its texts. `model` and `deployment` are the names that choose the tokenizer.
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

    /// The estimate from its texts, if they are enough and there is a price for it; else the upper bound.
    fn settled(&self, place: &MemberLabels, price: Option<&DeploymentPrice>) -> Settled {
        let read = self.read(&place.model, &place.deployment).filter(|usage| match price {
            Some(DeploymentPrice::ByUse(price)) => price.cost(usage).is_some(),
            Some(DeploymentPrice::Hourly(_)) | None => true,
        });
        read.map_or_else(|| self.bound(), Settled::Estimated)
    }
}

/// An estimate that is still to be made and booked.
pub(super) struct Estimate {
    charge: Charge,
    evidence: Evidence,
    /// The usage that the answer reported, if it did.
    reported: Option<Usage>,
    permit: Option<Permit>,
}

impl Estimate {
    /// Makes and books the estimate, and settles what was reserved.
    pub(super) fn book(self, gateway: &Gateway) {
        let settled = self.reported.map_or_else(|| self.evidence.settled(&self.charge.row.place, self.charge.price()), Settled::Reported);
        self.book_as(gateway, settled);
    }

    /// Sends it to the estimator's thread.
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

/// Books a whole answer whose last bytes are sent next, and settles what was reserved. If the ledger is strict, the
/// returned future must be awaited: then the row is stored.
pub(super) fn book_answer<'r>(
    gateway: &'r Gateway,
    mut books: Books<'r>,
    model_request: &ModelRequest,
    attempt: &AttemptState,
) -> Option<Pin<Box<dyn Future<Output = ()> + Send + 'r>>> {
    if std::mem::replace(&mut books.metering.booked, true) || model_request.object.is_some() || model_request.is_free() {
        return None;
    }
    let now = gateway.clock.now();
    let outcome = if attempt.filtered { AttemptOutcome::CallerFault } else { AttemptOutcome::Ok };
    let charge = Charge::new(&books, model_request, attempt, outcome, true, now);
    if let Some(ledger) = gateway.ledger.as_ref().filter(|ledger| ledger.is_strict()) {
        let evidence = Evidence::new(&mut books, model_request, attempt);
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
        None => estimate(gateway, &mut books, model_request, attempt, charge),
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
            let (model, member, place) = (Arc::clone(&charge.model), charge.member, Arc::clone(&charge.row.place));
            let read = tokio::task::spawn_blocking(move || evidence.settled(&place, model.prices[member].as_ref()));
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
    attempt: &AttemptState,
    reported: Option<Usage>,
) {
    let settled = reported.map_or_else(|| Settled::Bound(usage_bound::of(books.facts, books.body, model_request)), Settled::Reported);
    book_settled(gateway, books, model_request, attempt, settled);
}

/// Books so many turns of a socket whose usage can't be reported any more, each at its upper bound.
pub(super) fn book_unsettled(gateway: &Gateway, books: &mut Books<'_>, model_request: &ModelRequest, attempt: &AttemptState, turns: u32) {
    if turns > 0 {
        let bound = usage_bound::of(books.facts, books.body, model_request).times(turns.into());
        book_settled(gateway, books, model_request, attempt, Settled::Bound(bound));
    }
}

fn book_settled(gateway: &Gateway, books: &mut Books<'_>, model_request: &ModelRequest, attempt: &AttemptState, settled: Settled) {
    let now = gateway.clock.now();
    let charge = Charge::new(books, model_request, attempt, AttemptOutcome::Ok, !books.metering.booked, now);
    books.metering.booked = true;
    let used = charge.book(gateway, settled);
    if let Some(permit) = &books.metering.permit {
        gateway.limits.book(permit, used, books.facts.timestamps(now));
    }
    let total = books.metering.usage.get_or_insert(Metered::reported(Usage::default()));
    total.usage.add(&settled.metered().usage);
}

/// Whether an attempt with this outcome may have cost something, though no usage is reported.
fn may_have_cost(attempt: &AttemptState, outcome: AttemptOutcome) -> bool {
    match attempt.status {
        // The prompt is billed even if the filter stopped it. Other refusals are free.
        Some(status) if !status.is_success() && !status.is_informational() => attempt.filtered,
        status => (attempt.sent || status.is_some()) && outcome.may_have_cost(status.is_some()),
    }
}

/// Books an attempt that ended without [`book_answer`], if it may have cost something.
pub(super) fn book_attempt(
    gateway: &Gateway,
    books: &mut Books<'_>,
    model_request: &ModelRequest,
    attempt: &AttemptState,
    outcome: AttemptOutcome,
) {
    // A socket is booked turn by turn.
    if books.metering.booked || model_request.object.is_some() || model_request.is_free() || model_request.api == Api::Realtime {
        return;
    }
    // The caller's answer is not this part, but the one that continues it.
    let answered = books.reply.status.is_some() && !books.continued;
    let reported = books.metering.usage.map(|metered| metered.usage);
    if reported.is_some() || may_have_cost(attempt, outcome) {
        let now = gateway.clock.now();
        let charge = Charge::new(books, model_request, attempt, outcome, answered, now);
        if answered || outcome == AttemptOutcome::Cancelled {
            books.metering.booked = true;
            match reported {
                Some(usage) => settle_at(gateway, books, charge, Settled::Reported(usage)),
                None => estimate(gateway, books, model_request, attempt, charge),
            }
            return;
        }
        let settled = reported.map_or_else(|| Evidence::new(books, model_request, attempt).bound(), Settled::Reported);
        let used = charge.book(gateway, settled);
        // The reservation stays for the next attempt.
        if let Some(permit) = &books.metering.permit {
            gateway.limits.book(permit, used, books.facts.timestamps(now));
        }
    }
    if !answered {
        // What this attempt reported says nothing about the next one.
        (books.metering.usage, books.metering.whole, books.metering.plain) = (None, false, None);
        (books.metering.so_far, books.metering.output) = (Reported::default(), OutputMeter::default());
    }
}

/// Books an attempt, and settles what was reserved for its request.
fn settle_at(gateway: &Gateway, books: &mut Books<'_>, charge: Charge, settled: Settled) {
    let used = charge.book(gateway, settled);
    if let Some(permit) = books.metering.permit.take() {
        gateway.limits.settle(permit, used, books.facts.timestamps(gateway.clock.now()));
    }
}

/// Books an attempt without reported usage: at its upper bound, which is known at once, or by an estimate from its
/// texts, which the estimator's thread makes. If that thread is overloaded, the upper bound is booked.
fn estimate(gateway: &Gateway, books: &mut Books<'_>, model_request: &ModelRequest, attempt: &AttemptState, charge: Charge) {
    let evidence = Evidence::new(books, model_request, attempt);
    if !evidence.is_readable() {
        let settled = evidence.bound();
        books.metering.usage = Some(settled.metered());
        return settle_at(gateway, books, charge, settled);
    }
    if let Some(permit) = &mut books.metering.permit {
        permit.release_slot();
    }
    let estimate = Estimate { charge, evidence, reported: None, permit: books.metering.permit.take() };
    estimate.hand_over(gateway);
}

/// Prepares the booking of an answer whose caller left, for after the rest has been read. From here on it counts as
/// booked.
pub(super) fn hand_over(books: &mut Books<'_>, model_request: &ModelRequest, attempt: &AttemptState, now: Tick) -> Estimate {
    books.metering.booked = true;
    let charge = Charge::new(books, model_request, attempt, AttemptOutcome::Cancelled, books.reply.status.is_some(), now);
    let evidence = Evidence::new(books, model_request, attempt);
    Estimate { charge, evidence, reported: None, permit: books.metering.permit.take() }
}

impl Estimate {
    /// Adds what was read since: more text, and more reported usage. `whole`: the answer ended.
    pub(super) fn has_read(&mut self, output: OutputMeter, so_far: Reported, whole: bool) {
        self.evidence.output = output;
        self.evidence.so_far = so_far;
        self.evidence.whole = whole;
    }

    /// The answer has reported its usage after all.
    pub(super) fn set_reported(&mut self, reported: &Reported) {
        self.reported = reported.usage(self.evidence.api);
    }

    /// Like [`Estimate::book`], but without tokenizing any text.
    pub(super) fn book_by_length(self, gateway: &Gateway) {
        let settled = self.reported.map_or_else(|| self.evidence.bound(), Settled::Reported);
        self.book_as(gateway, settled);
    }
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
        gateway.limits.settle(permit, Used::default(), facts.timestamps(gateway.clock.now()));
    }
}
