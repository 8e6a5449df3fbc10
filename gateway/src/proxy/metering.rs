//! What a request used, booked: in the metrics, in the ledger, against its limits.
//!
//! A whole answer is booked right before its last bytes go to the caller, so that whoever has seen its end
//! finds it counted. Whatever ends otherwise is booked when its attempt ends; what nobody reports is
//! estimated, by a thread of its own, because a tokenizer takes longer than a request should wait.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};
use spillway_plugins::api::Api;
use spillway_plugins::json::Encoded;
use spillway_plugins::limits::{Permit, Used};
use spillway_plugins::prices::Money;
use spillway_plugins::tokens::{Encoding, Metered, OutputMeter, Provenance, Reported, Usage, answer_tokens, input_bound, prompt_tokens};

use super::Gateway;
use super::attempt::Running;
use super::ctx::{Inquiry, RequestCtx};
use crate::callers::LiveConsumer;
use crate::clock::{Tick, micros};
use crate::config::DeploymentPrice;
use crate::config::UsageRules;
use crate::ledger::{Cost, Ledger, Row};
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
    fn new(ctx: &RequestCtx, inquiry: &Inquiry, running: &Running, outcome: &'static str, answered: bool, now: Tick) -> Self {
        let row = Row {
            at: ctx.arrived_at.timestamp_millis(),
            request: ctx.id.as_bytes().into(),
            attempt: ctx.attempts.len() + 1,
            answered,
            consumer: ctx.consumer().map(|consumer| Arc::clone(&consumer.name)),
            tags: ctx.tags.clone(),
            api: inquiry.api,
            place: Arc::clone(&inquiry.model.places[running.member]),
            outcome,
            status: running.status.map(|status| status.as_u16()),
            metered: Metered::unknown(),
            cost: Cost::Unknown,
            cache: None,
            first_us: ctx.first.filter(|_| answered).map(micros),
            us: micros(now.since(running.began)),
        };
        let consumer = ctx.caller.as_ref().map(|caller| Arc::clone(&caller.consumer));
        Charge { row, model: Arc::clone(&inquiry.model), member: running.member, consumer }
    }

    /// Counts it, and prices it.
    fn count(&mut self, metered: Metered) -> Used {
        let cost = cost(self.model.prices[self.member].as_ref(), &metered);
        self.model.metrics[self.member].count_usage(&metered, cost);
        self.row.metered = metered;
        self.row.cost = cost;
        let paid = if let Cost::Known(money) = cost { money } else { Money::default() };
        if let Some(consumer) = &self.consumer {
            consumer.account.metrics.count(&metered.usage, paid);
        }
        Used { tokens: metered.usage.tokens(), cost: paid }
    }

    fn book(mut self, gateway: &Gateway, metered: Metered) -> Used {
        let used = self.count(metered);
        if let Some(ledger) = &gateway.ledger {
            ledger.write(self.row);
        }
        used
    }
}

/// What something used costs.
fn cost(price: Option<&DeploymentPrice>, metered: &Metered) -> Cost {
    match price {
        Some(DeploymentPrice::Hourly(money)) => Cost::Hourly(*money),
        Some(DeploymentPrice::ByUse(price)) if metered.source != Provenance::Unknown => {
            price.cost(&metered.usage).map_or(Cost::Unknown, Cost::Known)
        }
        Some(DeploymentPrice::ByUse(_)) | None => Cost::Unknown,
    }
}

/// What an estimate is made of.
struct Evidence {
    api: Api,
    encoding: Encoding,
    /// The request's body, if it is short enough to be read.
    body: Option<Bytes>,
    /// Its length otherwise, in tokens.
    bound: u64,
    /// The text of a stream.
    output: OutputMeter,
    /// What a stream that isn't whole has told.
    so_far: Reported,
    /// A plain answer that reports nothing.
    answer: Option<Bytes>,
    images: u64,
    encoded: Encoded,
}

impl Evidence {
    fn new(ctx: &mut RequestCtx, inquiry: &Inquiry) -> Self {
        Evidence {
            api: inquiry.api,
            encoding: Encoding::of(&inquiry.model.name),
            body: ctx.body.as_ref().map(|body| body.bytes().clone()).filter(|body| body.len() <= KEPT),
            bound: ctx.input_bound.unwrap_or(ctx.bytes_in as u64 / 4),
            output: std::mem::take(&mut ctx.output),
            so_far: ctx.so_far,
            answer: ctx.answer.take(),
            images: inquiry.fields.choices.unwrap_or(1),
            encoded: inquiry.fields.encoded,
        }
    }

    /// What a stream has told before it ended too early.
    fn told_so_far(&self, output: u64) -> Option<Usage> {
        self.so_far.so_far(self.api, output)
    }

    /// By length alone, without reading anything.
    fn hastily(&self) -> Metered {
        let input = self.body.as_deref().map_or(self.bound, |body| input_bound(body, self.encoded));
        let output = self.output.bound() + self.answer.as_ref().map_or(0, |answer| answer.len() as u64 / 4);
        Metered::estimated(self.told_so_far(output).unwrap_or(Usage { input, output, ..Usage::default() }))
    }

    fn metered(&self) -> Metered {
        let body = self.body.as_deref().unwrap_or_default();
        if self.api == Api::Speech {
            let fields: Value = serde_json::from_slice(body).unwrap_or_default();
            let characters = fields["input"].as_str().map(|text| text.chars().count() as u64);
            return characters.map_or_else(Metered::unknown, |characters| Metered::estimated(Usage { characters, ..Usage::default() }));
        }
        if self.api.is_multipart() || self.api == Api::Realtime {
            return Metered::unknown();
        }
        if self.api.makes_images() {
            return Metered::estimated(Usage { images: self.images, ..Usage::default() });
        }
        let input = if body.is_empty() { self.bound } else { prompt_tokens(body, self.encoding) };
        let output = self.output.tokens(self.encoding) + self.answer.as_deref().map_or(0, |answer| answer_tokens(answer, self.encoding));
        Metered::estimated(self.told_so_far(output).unwrap_or(Usage { input, output, ..Usage::default() }))
    }
}

/// An estimate to be made and booked.
pub(super) struct Estimate {
    charge: Charge,
    evidence: Evidence,
    /// What the answer told, if it did.
    told: Option<Usage>,
    permit: Option<Permit>,
    used: Used,
}

impl Estimate {
    /// Makes it, and settles what was reserved.
    pub(super) fn book(self, gateway: &Gateway) {
        let metered = self.told.map_or_else(|| self.evidence.metered(), Metered::reported);
        self.book_as(gateway, metered);
    }

    fn book_as(self, gateway: &Gateway, metered: Metered) {
        let used = self.charge.book(gateway, metered);
        if let Some(permit) = self.permit {
            gateway.limits.settle(permit, sum(self.used, used), gateway.limits.now());
        }
    }
}

fn sum(one: Used, other: Used) -> Used {
    Used { tokens: one.tokens.saturating_add(other.tokens), cost: one.cost + other.cost }
}

/// Books a whole answer that is as good as delivered, and settles what was reserved. Where the ledger is strict
/// that takes waiting: the row is safe when what this returns has ended.
pub(super) fn book_answer<'r>(
    gateway: &'r Gateway,
    ctx: &'r mut RequestCtx,
    inquiry: &Inquiry,
    running: &Running,
) -> Option<Pin<Box<dyn Future<Output = ()> + Send + 'r>>> {
    if std::mem::replace(&mut ctx.booked, true) || inquiry.object.is_some() {
        return None;
    }
    let now = gateway.clock.now();
    let outcome = if running.filtered { "caller_fault" } else { "ok" };
    let charge = Charge::new(ctx, inquiry, running, outcome, true, now);
    if let Some(ledger) = gateway.ledger.as_ref().filter(|ledger| ledger.is_strict()) {
        let evidence = Evidence::new(ctx, inquiry);
        // On the heap: the way of all other requests need not have room for it.
        return Some(Box::pin(book_strictly(gateway, ledger, ctx, charge, evidence)));
    }
    match ctx.usage {
        Some(metered) => {
            let used = sum(ctx.used, charge.book(gateway, metered));
            if let Some(permit) = ctx.permit.take() {
                gateway.limits.settle(permit, used, ctx.moment(now));
            }
        }
        None => estimate(gateway, ctx, inquiry, charge),
    }
    None
}

/// Whoever waits for the row waits for the estimate, too.
async fn book_strictly(gateway: &Gateway, ledger: &Ledger, ctx: &mut RequestCtx, mut charge: Charge, evidence: Evidence) {
    let began = gateway.clock.now();
    let metered = match ctx.usage {
        Some(metered) => metered,
        None => tokio::task::spawn_blocking(move || evidence.metered()).await.unwrap_or_else(|_| Metered::unknown()),
    };
    ctx.usage = Some(metered);
    let used = sum(ctx.used, charge.count(metered));
    if let Some(permit) = ctx.permit.take() {
        gateway.limits.settle(permit, used, ctx.moment(gateway.clock.now()));
    }
    ledger.write_through(charge.row).await;
    ctx.waited += gateway.clock.now().since(began);
}

/// Books one of several answers of a socket.
pub(super) fn book_turn(gateway: &Gateway, ctx: &mut RequestCtx, inquiry: &Inquiry, running: &Running, metered: Metered) {
    let charge = Charge::new(ctx, inquiry, running, "ok", !ctx.booked, gateway.clock.now());
    ctx.booked = true;
    let used = charge.book(gateway, metered);
    ctx.used = sum(ctx.used, used);
    let total = ctx.usage.get_or_insert(Metered::reported(Usage::default()));
    total.usage.add(&metered.usage);
}

/// Books an attempt that ended without [`book_answer`], if it may have cost something.
pub(super) fn book_attempt(gateway: &Gateway, ctx: &mut RequestCtx, inquiry: &Inquiry, running: &Running, outcome: &'static str) {
    if ctx.booked || inquiry.object.is_some() {
        return;
    }
    let begun = ctx.status.is_some();
    let may_cost = match outcome {
        "ok" | "idle" | "first_token" | "timeout" | "reset" => true,
        // A caller that leaves before anything was sent left in time.
        "cancelled" => running.sent || begun,
        // The prompt is billed, though the filter stopped it.
        "caller_fault" => running.filtered,
        _ => false,
    };
    if !may_cost {
        return;
    }
    let charge = Charge::new(ctx, inquiry, running, outcome, begun, gateway.clock.now());
    // Of an answer that had begun well the prompt is known at least. One that is replaced is not the last.
    let begun = begun || (outcome == "cancelled" && running.status.is_some_and(|status| status.is_success()));
    match ctx.usage {
        Some(metered) if begun => {
            ctx.booked = true;
            ctx.used = sum(ctx.used, charge.book(gateway, metered));
        }
        None if begun => {
            ctx.booked = true;
            estimate(gateway, ctx, inquiry, charge);
        }
        _ => ctx.used = sum(ctx.used, charge.book(gateway, Metered::unknown())),
    }
}

/// Hands an estimate to its thread; if that has too much to do, what is known at once is booked.
fn estimate(gateway: &Gateway, ctx: &mut RequestCtx, inquiry: &Inquiry, charge: Charge) {
    let evidence = Evidence::new(ctx, inquiry);
    if let Some(permit) = &mut ctx.permit {
        permit.release_slot();
    }
    let estimate = Estimate { charge, evidence, told: None, permit: ctx.permit.take(), used: ctx.used };
    gateway.estimator.hand_over(gateway, estimate);
}

/// What is to be booked of an answer whose caller left, once it has been read on. It counts as booked.
pub(super) fn hand_over(ctx: &mut RequestCtx, inquiry: &Inquiry, running: &Running, now: Tick) -> Estimate {
    ctx.booked = true;
    let charge = Charge::new(ctx, inquiry, running, "cancelled", true, now);
    let evidence = Evidence::new(ctx, inquiry);
    Estimate { charge, evidence, told: None, permit: ctx.permit.take(), used: ctx.used }
}

impl Estimate {
    /// More text came meanwhile, and more was told, though not to the end.
    pub(super) fn has_read(&mut self, output: OutputMeter, so_far: Reported) {
        self.evidence.output = output;
        self.evidence.so_far = so_far;
    }

    /// The answer has told what it used, after all.
    pub(super) fn is_told(&mut self, reported: &Reported) {
        self.told = reported.usage(self.evidence.api);
    }

    /// As [`Estimate::book`], by length alone.
    pub(super) fn book_hastily(self, gateway: &Gateway) {
        let metered = self.evidence.hastily();
        self.book_as(gateway, metered);
    }
}

/// Books an answer that was known already (`how`): it used nothing and costs nothing.
pub(super) async fn book_cached(gateway: &Gateway, ctx: &mut RequestCtx, how: &'static str) {
    ctx.booked = true;
    let now = gateway.clock.now();
    if let Some(permit) = ctx.permit.take() {
        gateway.limits.settle(permit, Used::default(), ctx.moment(now));
    }
    if let Some(consumer) = ctx.consumer() {
        consumer.account.metrics.count(&Usage::default(), Money::default());
    }
    let (Some(ledger), Some(inquiry)) = (&gateway.ledger, &ctx.inquiry) else { return };
    let row = Row {
        at: ctx.arrived_at.timestamp_millis(),
        request: ctx.id.as_bytes().into(),
        attempt: 1,
        answered: true,
        consumer: ctx.consumer().map(|consumer| Arc::clone(&consumer.name)),
        tags: ctx.tags.clone(),
        api: inquiry.api,
        place: Arc::clone(&inquiry.model.cache_place),
        outcome: "ok",
        status: ctx.status,
        metered: Metered::reported(Usage::default()),
        cost: Cost::Known(Money::default()),
        cache: Some(how),
        first_us: ctx.first.map(micros),
        us: micros(now.since(ctx.arrived)),
    };
    if ledger.is_strict() {
        ledger.write_through(row).await;
    } else {
        ledger.write(row);
    }
}

/// The end of every request: what is still reserved is settled.
pub(super) fn settle(gateway: &Gateway, ctx: &mut RequestCtx) {
    if let Some(permit) = ctx.permit.take() {
        gateway.limits.settle(permit, ctx.used, ctx.moment(gateway.clock.now()));
    }
}
