//! Use by consumer.

use prometheus::{CounterVec, IntCounter, IntCounterVec};
use spillway_plugins::prices::Money;
use spillway_plugins::tokens::Usage;

use super::registration::Registration;

/// Consumers with series of their own; the others share one, to limit the number of series.
pub const CONSUMERS: usize = 100;

/// What consumers used.
#[derive(Debug)]
pub struct ConsumerFamilies {
    requests: IntCounterVec,
    tokens: [IntCounterVec; 2],
    cost: CounterVec,
}

impl ConsumerFamilies {
    pub(super) fn new(to: &Registration<'_>) -> prometheus::Result<Self> {
        let consumer: &[&str] = &["consumer"];
        Ok(ConsumerFamilies {
            requests: to.counters("spillway_consumer_requests_total", "Requests by consumer that used something.", consumer)?,
            tokens: [
                to.counters("spillway_consumer_input_tokens_total", "Input tokens by consumer, estimates included.", consumer)?,
                to.counters("spillway_consumer_output_tokens_total", "Output tokens by consumer, estimates included.", consumer)?,
            ],
            cost: to.fractions(
                "spillway_consumer_cost_usd_total",
                "Cost of attempts that are paid by use, by consumer, in US dollars.",
                consumer,
            )?,
        })
    }

    /// The counters of a consumer.
    pub fn of(&self, name: &str) -> ConsumerMetrics {
        ConsumerMetrics {
            requests: self.requests.with_label_values(&[name]),
            tokens: std::array::from_fn(|kind| self.tokens[kind].with_label_values(&[name])),
            cost: self.cost.with_label_values(&[name]),
        }
    }
}

/// A consumer's counters, looked up once. Above [`CONSUMERS`] the others share one set.
#[derive(Debug, Clone)]
pub struct ConsumerMetrics {
    requests: IntCounter,
    tokens: [IntCounter; 2],
    cost: prometheus::Counter,
}

impl ConsumerMetrics {
    /// Counts a request that was answered or may have cost something.
    pub fn count(&self, usage: &Usage, cost: Money) {
        self.requests.inc();
        self.tokens[0].inc_by(usage.input);
        self.tokens[1].inc_by(usage.output);
        if cost.0 > 0 {
            self.cost.inc_by(cost.usd());
        }
    }
}
