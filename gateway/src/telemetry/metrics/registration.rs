//! Makes metrics and registers them.

use prometheus::core::Collector;
use prometheus::{
    Counter, CounterVec, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Where metrics are registered. Each method makes one under a name, with its help, and fails only if the name is taken.
pub(super) struct Registration<'r>(pub(super) &'r Registry);

impl Registration<'_> {
    fn register<M: Collector + Clone + 'static>(&self, metric: M) -> prometheus::Result<M> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    /// A counter.
    pub(super) fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.register(IntCounter::new(name, help)?)
    }

    /// Counters with labels.
    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.register(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    /// A counter of fractions.
    pub(super) fn fraction(&self, name: &str, help: &str) -> prometheus::Result<Counter> {
        self.register(Counter::new(name, help)?)
    }

    /// Counters of fractions, such as money, with labels.
    pub(super) fn fractions(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<CounterVec> {
        self.register(CounterVec::new(Opts::new(name, help), labels)?)
    }

    /// A gauge.
    pub(super) fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.register(IntGauge::new(name, help)?)
    }

    /// Gauges with labels.
    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    /// Gauges of fractions, with labels.
    pub(super) fn levels(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
        self.register(GaugeVec::new(Opts::new(name, help), labels)?)
    }

    /// A histogram of seconds.
    pub(super) fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
        self.register(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?)
    }

    /// Histograms of seconds, with labels.
    pub(super) fn histograms(&self, name: &str, help: &str, buckets: &[f64], labels: &[&str]) -> prometheus::Result<HistogramVec> {
        self.register(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)?)
    }
}

/// Durations of whole requests and of first tokens, in seconds.
pub(super) const SECONDS: [f64; 15] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0];

/// The sum of the counters with a label for which `fits` is true.
pub(super) fn sum(counters: &IntCounterVec, fits: impl Fn(&str, &str) -> bool) -> u64 {
    let families = Collector::collect(counters);
    let series = families.iter().flat_map(|family| family.get_metric());
    let fitting = series.filter(|series| series.get_label().iter().any(|label| fits(label.name(), label.value())));
    fitting.map(|series| series.get_counter().get_value() as u64).sum()
}
