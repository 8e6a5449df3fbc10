//! The charge for an attempt: its row in the ledger, its counters, its cost.

use std::sync::Arc;

use spillway_plugins::limits::Used;
use spillway_plugins::prices::Money;
use spillway_plugins::tokens::{Metered, Usage};

use crate::attempt_outcome::AttemptOutcome;
use crate::callers::LiveConsumer;
use crate::clock::{Tick, micros};
use crate::config::DeploymentPrice;
use crate::gateway::Gateway;
use crate::ledger::{Cost, Row};
use crate::proxy::attempt_state::AttemptState;
use crate::proxy::books::Books;
use crate::request::ModelRequest;
use crate::runtime::Model;

/// An attempt to be booked: all that is known except its usage.
pub(super) struct Charge {
    pub(super) row: Row,
    pub(super) model: Arc<Model>,
    pub(super) member: usize,
    consumer: Option<Arc<LiveConsumer>>,
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
        let row = Row {
            at: books.facts.arrived_at.timestamp_millis(),
            request: books.facts.id.as_bytes().into(),
            attempt: books.attempts.records.len() + 1,
            answered,
            consumer: books.facts.consumer().map(|consumer| Arc::clone(&consumer.name)),
            tags: books.facts.tags.clone(),
            api: model_request.api,
            place: Arc::clone(&model_request.model.members[state.member].place),
            outcome: outcome.label(),
            status: state.status.map(|status| status.as_u16()),
            metered: Metered::unknown(),
            cost: Cost::Unknown,
            cache: None,
            first_us: books.timing.first.filter(|_| answered).map(micros),
            us: micros(now.since(state.began)),
        };
        let consumer = books.facts.caller.as_ref().map(|caller| Arc::clone(&caller.consumer));
        Charge { row, model: Arc::clone(&model_request.model), member: state.member, consumer }
    }

    pub(super) fn price(&self) -> Option<&DeploymentPrice> {
        self.model.members[self.member].price.as_ref()
    }

    /// Counts it in the metrics, and computes its cost.
    pub(super) fn count(&mut self, settled: Settled) -> Used {
        let (metered, cost) = (settled.metered(), settled.cost(self.price()));
        self.model.members[self.member].metrics.count_usage(&metered, cost);
        self.row.metered = metered;
        self.row.cost = cost;
        let paid = if let Cost::Known(money) = cost { money } else { Money::default() };
        if let Some(consumer) = &self.consumer {
            consumer.account.metrics.count(&metered.usage, paid);
        }
        Used { tokens: metered.usage.tokens(), cost: paid }
    }

    pub(super) fn book(mut self, gateway: &Gateway, settled: Settled) -> Used {
        let used = self.count(settled);
        if let Some(ledger) = &gateway.ledger {
            ledger.write(self.row);
        }
        used
    }
}

/// The usage that is booked for an attempt, and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// Reported by the backend.
    Reported(Usage),
    /// Estimated from the texts, if all of them were seen.
    Estimated(Usage),
    /// The upper bound.
    Bound(Usage),
}

impl Settled {
    pub(super) fn metered(self) -> Metered {
        match self {
            Settled::Reported(usage) => Metered::reported(usage),
            Settled::Estimated(usage) | Settled::Bound(usage) => Metered::estimated(usage),
        }
    }

    pub(super) fn cost(self, price: Option<&DeploymentPrice>) -> Cost {
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
