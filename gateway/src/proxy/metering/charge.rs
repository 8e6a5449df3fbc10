//! The charge for an attempt: its row in the ledger, its counters, its cost.

use std::sync::Arc;

use spillway_plugins::limits::Used;
use spillway_plugins::prices::Money;
use spillway_plugins::service_tier::ServiceTier;
use spillway_plugins::tokens::{Metered, Part, Usage};

use super::parts::{self, PricedPart, priced};
use super::settled::Settled;
use crate::attempt_outcome::AttemptOutcome;
use crate::callers::LiveConsumer;
use crate::clock::{Tick, micros};
use crate::config::DeploymentPrice;
use crate::gateway::Gateway;
use crate::ledger::row::RequestId;
use crate::ledger::{Cost, Row};
use crate::proxy::attempt_state::AttemptState;
use crate::proxy::books::Books;
use crate::request::ModelRequest;
use crate::runtime::{Model, Runtime, Spilled};

/// An attempt to be booked: all that is known except its usage.
pub(super) struct Charge {
    pub(super) row: Row,
    pub(super) model: Arc<Model>,
    pub(super) member: usize,
    /// The deployment that served it in the member's place.
    spilled: Option<Arc<Spilled>>,
    consumer: Option<Arc<LiveConsumer>>,
    /// The service tier that was asked for.
    asked: Option<ServiceTier>,
    /// What it used at other prices.
    parts: Vec<PricedPart>,
}

/// The most tokens that a request allows its answers to have together, if it sets a maximum.
pub(in crate::proxy) fn cap(model_request: &ModelRequest) -> Option<u64> {
    model_request.fields.cap().map(|_| model_request.fields.completion_cap(model_request.api, 0))
}

impl Charge {
    /// An attempt that ends `now`; `answered` if the caller got its answer, or a part of it.
    pub(super) fn new(
        books: &Books<'_>,
        model_request: &ModelRequest,
        state: &AttemptState,
        outcome: AttemptOutcome,
        answered: bool,
        now: Tick,
    ) -> Self {
        let spilled = state.spilled_to.clone();
        let row = Row {
            at: books.facts.arrived_at.timestamp_millis(),
            at_us: books.facts.micros_of_arrival(),
            request: RequestId::from_slice(books.facts.id.as_bytes()),
            attempt: books.attempts.records.len() + 1,
            answered,
            consumer: books.facts.consumer().map(|consumer| Arc::clone(&consumer.name)),
            tags: books.facts.tags.clone(),
            api: model_request.api,
            place: Arc::clone(spilled.as_ref().map_or(&model_request.model.members[state.member].place, |spilled| &spilled.place)),
            outcome: outcome.label(),
            status: state.status.map(|status| status.as_u16()),
            metered: Metered::unknown(),
            service_tier: books.metering.service_tier,
            cost: Cost::Unknown,
            cost_estimated: false,
            cache: None,
            first_us: books.timing.first.filter(|_| answered).map(micros),
            us: micros(now.since(state.began)),
            class: books.facts.class(),
            cap: cap(model_request),
            reserved: books.body.input_bound,
            waited_us: micros(state.waited),
            began_us: micros(state.began.since(books.facts.arrived)),
        };
        let consumer = books.facts.caller.as_ref().map(|caller| Arc::clone(&caller.consumer));
        let asked = model_request.service_tier_at(state.member);
        let parts = books.metering.parts.as_deref().map_or_else(Vec::new, |parts| priced(&books.facts.runtime, &row.place, parts));
        Charge { row, model: Arc::clone(&model_request.model), member: state.member, spilled, consumer, asked, parts }
    }

    /// Notes how the answer says that it was served.
    pub(super) fn note_served(&mut self, runtime: &Runtime, tier: Option<ServiceTier>, parts: Option<&[Part]>) {
        self.row.service_tier = tier;
        self.parts = parts.map_or_else(Vec::new, |parts| priced(runtime, &self.row.place, parts));
    }

    /// The price of the deployment that served it.
    pub(super) fn price(&self) -> Option<&DeploymentPrice> {
        self.spilled.as_ref().map_or(&self.model.members[self.member].price, |spilled| &spilled.price).as_ref()
    }

    /// Counts it in the metrics, and computes its cost.
    pub(super) fn count(&mut self, settled: Settled) -> Used {
        let metered = settled.metered();
        let (cost, exact) = parts::cost(settled, &self.parts, self.price(), self.row.service_tier, self.asked);
        self.model.members[self.member].metrics.count_usage(&metered, self.row.service_tier, cost);
        self.row.metered = metered;
        (self.row.cost, self.row.cost_estimated) = (cost, !exact);
        let paid = if let Cost::Known(money) = cost { money } else { Money::default() };
        if let Some(consumer) = &self.consumer {
            consumer.account.metrics.count(&metered.usage, paid);
        }
        Used { tokens: metered.usage.tokens(), cost: paid }
    }

    /// Writes an attempt that used nothing to the ledger.
    pub(super) fn note(mut self, gateway: &Gateway) {
        self.row.metered = Metered::reported(Usage::default());
        self.row.cost = Cost::Known(Money::default());
        if let Some(ledger) = &gateway.ledger {
            ledger.write(self.row);
        }
    }

    pub(super) fn book(mut self, gateway: &Gateway, settled: Settled) -> Used {
        let used = self.count(settled);
        if let Some(ledger) = &gateway.ledger {
            ledger.write(self.row);
        }
        used
    }
}
