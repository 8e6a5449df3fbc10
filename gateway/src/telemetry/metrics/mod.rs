//! Prometheus metrics. The values of every label are bounded: they come from the config, never from a caller. Metrics
//! are looked up when the config is loaded, so that a request only adds numbers.

mod counters;
mod system;

use std::path::Path;

use parking_lot::Mutex;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};
use spillway_plugins::api::Api;
use spillway_plugins::limits::{Alert, LimitKind, Rank};

use crate::attempt_outcome::AttemptOutcome;
use crate::balance::member_state::MemberState;
use crate::balance::route::Member;
use crate::balance::snapshot::member_state;
use crate::clock::Tick;
use system::SystemMetrics;

pub use counters::{
    CacheMetrics, CacheResult, ConfigMetrics, ConsumerMetrics, GuardMetrics, IssuerMetrics, LedgerMetrics, MemberMetrics, PromptLogMetrics,
    RequestMetrics, TokenMetrics, TraceMetrics, UpgradeMetrics,
};

/// Durations of whole requests and of first tokens, in seconds.
const SECONDS: [f64; 15] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0];
/// The gateway's own time, in seconds: from 25 µs up.
const OVERHEAD: [f64; 12] = [25e-6, 50e-6, 100e-6, 200e-6, 400e-6, 800e-6, 1.6e-3, 3.2e-3, 6.4e-3, 12.8e-3, 51.2e-3, 204.8e-3];

/// Statuses with a counter of their own; others count as `other`.
const STATUSES: [u16; 14] = [101, 200, 400, 401, 403, 404, 408, 413, 429, 499, 500, 502, 503, 504];

/// The results of changed certificate files, as labels.
const RELOADS: [&str; 2] = ["loaded", "refused"];

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    system: Mutex<SystemMetrics>,
    requests: IntCounterVec,
    attempts: IntCounterVec,
    tier_served: IntCounterVec,
    target_state: IntGaugeVec,
    target_in_flight: IntGaugeVec,
    throttled_seconds: prometheus::CounterVec,
    failovers: IntCounterVec,
    rescues: IntCounterVec,
    duration: HistogramVec,
    first_token: HistogramVec,
    tokens: [IntCounterVec; 5],
    estimated_tokens: IntCounterVec,
    usage_unknown: IntCounterVec,
    cost: prometheus::CounterVec,
    cost_unknown: IntCounterVec,
    consumer_requests: IntCounterVec,
    consumer_tokens: [IntCounterVec; 2],
    consumer_cost: prometheus::CounterVec,
    limit_refusals: IntCounterVec,
    limit_shadowed: IntCounterVec,
    limit_alerts: IntCounterVec,
    /// Whether limits are shared with other nodes.
    pub limits_shared: IntGauge,
    /// The config's metrics.
    pub config: ConfigMetrics,
    /// 1 while the gateway is stopping.
    pub stopping: IntGauge,
    /// Upgrades that succeeded, and that failed.
    pub upgrades: UpgradeMetrics,
    /// The ledger's metrics.
    pub ledger: LedgerMetrics,
    /// The guard's metrics.
    pub guard: GuardMetrics,
    /// The prompt log's metrics.
    pub prompt_log: PromptLogMetrics,
    /// The metrics of spans.
    pub traces: TraceMetrics,
    /// The cache's metrics.
    pub cache: CacheMetrics,
    rejections: IntCounterVec,
    last_resorts: IntCounterVec,
    auth_failures: IntCounterVec,
    key_set_fetches: IntCounterVec,
    key_set_fetched: IntGauge,
    tls_failures: IntCounterVec,
    tls_reloads: IntCounterVec,
    /// When the listeners' certificate expires, in seconds since 1970.
    pub tls_expires: IntGauge,
    token_fetches: IntCounterVec,
    token_expires: IntGaugeVec,
    token_usable: IntGaugeVec,
    /// The gateway's own time per request.
    pub overhead: Histogram,
    /// Requests in flight.
    pub in_flight: IntGauge,
    /// Connections of callers.
    pub connections: IntGauge,
    /// Connections refused because there were too many.
    pub connections_refused: IntCounter,
    /// Heads that were not HTTP, answered before there was a request.
    pub bad_heads: IntCounter,
    /// Heads that took too long.
    pub head_timeouts: IntCounter,
    /// Bytes of request bodies kept for retries.
    pub buffered: IntGauge,
    /// Pooled connections that were already closed, replaced without counting as an attempt.
    pub stale_connections: IntCounter,
    /// Events of streams that were left out because they are not JSON.
    pub malformed_events: IntCounter,
    /// Stored objects that other nodes don't know.
    pub pins_dropped: IntCounter,
    /// Calls to Redis that failed.
    pub redis_failures: IntCounter,
    /// Requests that ended with a panic.
    pub panics: IntCounter,
    /// Access-log lines that could not be written.
    pub access_log_dropped: IntCounter,
}

/// Sums over everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Requests that ended.
    pub requests: u64,
    /// Those for which callers got a 429.
    pub throttled: u64,
    /// Moves to another target.
    pub failovers: u64,
    /// Answers of a last resort.
    pub last_resort: u64,
}

/// The outcomes of attempts at a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberTotals {
    /// Served.
    pub served: u64,
    /// Throttled.
    pub throttled: u64,
    /// Failed.
    pub failed: u64,
}

/// The sum of the counters with a label for which `fits` is true.
fn sum(counters: &IntCounterVec, fits: impl Fn(&str, &str) -> bool) -> u64 {
    let families = prometheus::core::Collector::collect(counters);
    let series = families.iter().flat_map(|family| family.get_metric());
    let fitting = series.filter(|series| series.get_label().iter().any(|label| fits(label.name(), label.value())));
    fitting.map(|series| series.get_counter().get_value() as u64).sum()
}

/// Consumers with series of their own; the others share one, to limit the number of series.
pub const CONSUMERS: usize = 100;

/// The kind of a limit's owner, as a label.
fn rank_label(rank: Rank) -> &'static str {
    match rank {
        Rank::Consumer => "consumer",
        Rank::ConsumerModel => "consumer_model",
        Rank::Group => "group",
        Rank::Pool => "pool",
    }
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// Only if two metrics had the same name.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<IntCounterVec> {
            let vec = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(vec.clone()))?;
            Ok(vec)
        };
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<IntGaugeVec> {
            let vec = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(vec.clone()))?;
            Ok(vec)
        };
        let histograms = |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<HistogramVec> {
            let vec = HistogramVec::new(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()), labels)?;
            registry.register(Box::new(vec.clone()))?;
            Ok(vec)
        };
        let money = |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<prometheus::CounterVec> {
            let vec = prometheus::CounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(vec.clone()))?;
            Ok(vec)
        };
        let consumer: &[&str] = &["consumer"];
        let throttled_seconds = prometheus::CounterVec::new(
            Opts::new("spillway_target_throttled_seconds_total", "Seconds for which a target was throttled by its own answers."),
            &["pool", "backend", "deployment"],
        )?;
        registry.register(Box::new(throttled_seconds.clone()))?;
        let overhead = Histogram::with_opts(
            HistogramOpts::new(
                "spillway_overhead_seconds",
                "The gateway's own time until the first byte of an answer, without waiting for callers or upstreams.",
            )
            .buckets(OVERHEAD.to_vec()),
        )?;
        registry.register(Box::new(overhead.clone()))?;
        let info = gauges("spillway_build_info", "Always 1; the version is a label.", &["version"])?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let member = &["pool", "backend", "deployment"];
        let cache_results = counters("spillway_cache_requests_total", "Requests that the cache could answer, by result.", &["result"])?;
        let cache_saved = counters("spillway_cache_saved_tokens_total", "Tokens that no model had to process, by kind.", &["kind"])?;
        Ok(Metrics {
            requests: counters("spillway_requests_total", "Requests that ended, by the caller's status.", &["pool", "api", "status"])?,
            attempts: counters(
                "spillway_attempts_total",
                "Attempts at targets, by outcome.",
                &["pool", "backend", "deployment", "outcome"],
            )?,
            tier_served: counters("spillway_tier_served_total", "Requests served, by the tier that served them.", &["pool", "priority"])?,
            target_state: gauges(
                "spillway_target_state",
                "1 for the state that a target is in.",
                &["pool", "backend", "deployment", "state"],
            )?,
            target_in_flight: gauges("spillway_target_in_flight", "Requests in flight at a target.", member)?,
            failovers: counters(
                "spillway_failovers_total",
                "Requests that left a target for another one before the caller noticed.",
                member,
            )?,
            rescues: counters("spillway_rescues_total", "Broken streams that were to be continued, by result.", &["pool", "result"])?,
            duration: histograms("spillway_request_duration_seconds", "Duration of whole requests.", &["pool", "api"])?,
            first_token: histograms("spillway_time_to_first_token_seconds", "Time from an attempt's start to its first output.", member)?,
            tokens: [
                counters("spillway_input_tokens_total", "Input tokens that answers reported, cached ones included.", member)?,
                counters("spillway_output_tokens_total", "Output tokens that answers reported, reasoning included.", member)?,
                counters("spillway_cached_input_tokens_total", "Of the input tokens: read from the provider's cache.", member)?,
                counters("spillway_cache_write_tokens_total", "Of the input tokens: written to the provider's cache.", member)?,
                counters("spillway_reasoning_tokens_total", "Of the output tokens: reasoning.", member)?,
            ],
            estimated_tokens: counters(
                "spillway_estimated_tokens_total",
                "Tokens of answers that reported none, estimated: callers that left, streams that broke.",
                member,
            )?,
            usage_unknown: counters("spillway_usage_unknown_total", "Attempts with unknown usage.", member)?,
            cost: money("spillway_cost_usd_total", "Cost of attempts that are paid by use, in US dollars.", member)?,
            cost_unknown: counters("spillway_cost_unknown_total", "Attempts with unknown cost.", member)?,
            consumer_requests: counters("spillway_consumer_requests_total", "Requests by consumer that used something.", consumer)?,
            consumer_tokens: [
                counters("spillway_consumer_input_tokens_total", "Input tokens by consumer, estimates included.", consumer)?,
                counters("spillway_consumer_output_tokens_total", "Output tokens by consumer, estimates included.", consumer)?,
            ],
            consumer_cost: money(
                "spillway_consumer_cost_usd_total",
                "Cost of attempts that are paid by use, by consumer, in US dollars.",
                consumer,
            )?,
            limit_refusals: counters("spillway_limit_refusals_total", "Requests refused by a limit.", &["scope", "limit"])?,
            limit_shadowed: counters(
                "spillway_limit_shadowed_total",
                "Requests that a limit in shadow mode would have refused.",
                &["scope", "limit"],
            )?,
            limit_alerts: counters(
                "spillway_limit_alerts_total",
                "Times that a quota or budget reached 80 or 100 percent.",
                &["scope", "limit", "percent"],
            )?,
            limits_shared: gauge("spillway_limits_shared", "Whether limits are shared with the other nodes; 0 without Redis.")?,
            config: ConfigMetrics::new(
                gauge("spillway_config_reload_successful", "Whether the config that was read last is active.")?,
                gauge("spillway_config_loaded_timestamp_seconds", "When the active config was loaded.")?,
                &counters("spillway_config_reloads_total", "Times that the config was re-read, by result.", &["result"])?,
            ),
            stopping: gauge("spillway_stopping", "1 while the gateway is stopping or has handed over.")?,
            upgrades: UpgradeMetrics::new(&counters("spillway_upgrades_total", "Upgrades to another process, by result.", &["result"])?),
            ledger: LedgerMetrics {
                up: gauge("spillway_ledger_up", "Whether the ledger can be written; 0 without one.")?,
                rows: counter("spillway_ledger_rows_total", "Rows that the ledger has written.")?,
                dropped: counter("spillway_ledger_rows_dropped_total", "Rows that the ledger has lost.")?,
                waiting: gauge("spillway_ledger_waiting_rows", "Rows that wait to be written.")?,
                failures: counter("spillway_ledger_failures_total", "Times that the ledger could not be written or was broken.")?,
            },
            guard: GuardMetrics {
                blocked: counters(
                    "spillway_guard_blocked_total",
                    "Contents that the guard has blocked, by side and finding.",
                    &["side", "finding"],
                )?,
                unchecked: counter("spillway_guard_unchecked_total", "Contents that could not be checked.")?,
            },
            prompt_log: PromptLogMetrics {
                records: counter("spillway_prompt_log_records_total", "Records that the prompt log has written.")?,
                dropped: counter("spillway_prompt_log_dropped_total", "Records that the prompt log has lost.")?,
                export_dropped: counter("spillway_prompt_log_export_dropped_total", "Records that the collector didn't accept.")?,
            },
            traces: TraceMetrics {
                exported: counter("spillway_trace_spans_exported_total", "Spans that the collector has accepted.")?,
                dropped: counter("spillway_trace_spans_dropped_total", "Spans that the collector didn't accept.")?,
            },
            cache: CacheMetrics {
                results: CacheResult::ALL.map(|result| cache_results.with_label_values(&[result.label()])).to_vec(),
                saved: ["input", "output"].map(|kind| cache_saved.with_label_values(&[kind])),
                bytes: gauge("spillway_cache_bytes", "Bytes of cached answers in memory.")?,
                entries: gauge("spillway_cache_entries", "Cached answers in memory.")?,
                questions: gauge("spillway_cache_questions", "Questions that the semantic cache knows.")?,
                embedding_failures: counter("spillway_cache_embedding_failures_total", "Questions that could not be embedded.")?,
                dry_hits: counter("spillway_cache_dry_run_hits_total", "Requests that the semantic cache would have answered.")?,
            },
            rejections: counters("spillway_rejections_total", "Answers of the gateway's own, by error code.", &["code"])?,
            last_resorts: counters("spillway_last_resort_total", "Requests that the pool's last resort answered.", &["pool"])?,
            auth_failures: counters("spillway_auth_failures_total", "Callers that are not known, by reason.", &["reason"])?,
            key_set_fetches: counters(
                "spillway_key_set_fetches_total",
                "Fetches of the token issuer's public keys, by outcome.",
                &["outcome"],
            )?,
            key_set_fetched: gauge(
                "spillway_key_set_fetched_timestamp_seconds",
                "When the token issuer's public keys were last fetched, in seconds since 1970.",
            )?,
            tls_failures: counters(
                "spillway_tls_handshake_failures_total",
                "TLS handshakes with callers that failed, by reason.",
                &["reason"],
            )?,
            tls_reloads: counters("spillway_tls_reloads_total", "Changes of the listeners' certificate files, by result.", &["outcome"])?,
            tls_expires: gauge(
                "spillway_tls_certificate_expiry_timestamp_seconds",
                "When the listeners' certificate expires, in seconds since 1970; 0 without TLS.",
            )?,
            token_fetches: counters(
                "spillway_token_fetches_total",
                "Fetches of an identity's token, by outcome.",
                &["identity", "outcome"],
            )?,
            token_expires: gauges(
                "spillway_token_expiry_timestamp_seconds",
                "When an identity's token expires, in seconds since 1970.",
                &["identity"],
            )?,
            token_usable: gauges("spillway_token_usable", "Whether an identity has a valid token.", &["identity"])?,
            in_flight: gauge("spillway_in_flight_requests", "Requests in flight.")?,
            connections: gauge("spillway_connections", "Connections of callers.")?,
            connections_refused: counter("spillway_connections_refused_total", "Connections refused because there were too many.")?,
            bad_heads: counter("spillway_bad_heads_total", "Heads that were not HTTP.")?,
            head_timeouts: counter("spillway_head_timeouts_total", "Heads that took too long.")?,
            buffered: gauge("spillway_buffered_bytes", "Bytes of request bodies kept for retries.")?,
            malformed_events: counter(
                "spillway_malformed_events_total",
                "Events of streams that were left out because they are not JSON.",
            )?,
            stale_connections: counter(
                "spillway_stale_connections_total",
                "Pooled connections that were already closed and were replaced.",
            )?,
            pins_dropped: counter("spillway_stored_objects_unshared_total", "Stored objects that other nodes don't know.")?,
            redis_failures: counter("spillway_redis_failures_total", "Calls to Redis that failed.")?,
            panics: counter("spillway_panics_total", "Requests that ended with a panic.")?,
            access_log_dropped: counter("spillway_access_log_dropped_total", "Access-log lines that could not be written.")?,
            throttled_seconds,
            overhead,
            system: Mutex::new(SystemMetrics::new(&registry)?),
            registry,
        })
    }

    /// Shows how full the state directory's file system is.
    ///
    /// # Errors
    /// Only if it is called twice.
    pub fn watch_state(&self, folder: &Path) -> prometheus::Result<()> {
        self.system.lock().watch(folder, &self.registry)
    }

    /// Exports all results for a pool's broken streams from the start.
    pub fn expose_rescues(&self, pool: &str) {
        ["ok", "differs", "failed"].into_iter().for_each(|result| drop(self.rescues.with_label_values(&[pool, result])));
    }

    /// Counts a broken stream that was to be continued: `ok`, `differs` or `failed`.
    pub fn rescued(&self, pool: &str, result: &str) {
        self.rescues.with_label_values(&[pool, result]).inc();
    }

    /// The counters of a pool's requests of one API.
    pub fn request(&self, pool: &str, api: Option<Api>) -> RequestMetrics {
        let api = api.map_or("none", Api::label);
        let names: Vec<String> = STATUSES.iter().map(u16::to_string).collect();
        let statuses = names.iter().map(String::as_str).chain(["other"]);
        RequestMetrics {
            by_status: statuses.map(|status| self.requests.with_label_values(&[pool, api, status])).collect(),
            duration: self.duration.with_label_values(&[pool, api]),
        }
    }

    /// The counters of a member.
    pub fn member(&self, pool: &str, backend: &str, deployment: &str, priority: u32) -> MemberMetrics {
        let labels = [pool, backend, deployment];
        MemberMetrics {
            by_outcome: AttemptOutcome::ALL.map(|outcome| self.attempts.with_label_values(&[pool, backend, deployment, outcome.label()])),
            served: self.tier_served.with_label_values(&[pool, &priority.to_string()]),
            first_token: self.first_token.with_label_values(&labels),
            throttled_seconds: self.throttled_seconds.with_label_values(&labels),
            failovers: self.failovers.with_label_values(&labels),
            tokens: std::array::from_fn(|kind| self.tokens[kind].with_label_values(&labels)),
            estimated_tokens: self.estimated_tokens.with_label_values(&labels),
            usage_unknown: self.usage_unknown.with_label_values(&labels),
            cost: self.cost.with_label_values(&labels),
            cost_unknown: self.cost_unknown.with_label_values(&labels),
        }
    }

    /// The counters of a consumer.
    pub fn consumer(&self, name: &str) -> ConsumerMetrics {
        ConsumerMetrics {
            requests: self.consumer_requests.with_label_values(&[name]),
            tokens: std::array::from_fn(|kind| self.consumer_tokens[kind].with_label_values(&[name])),
            cost: self.consumer_cost.with_label_values(&[name]),
        }
    }

    /// Counts a request that a limit refused.
    pub fn limit_refused(&self, rank: Rank, kind: LimitKind) {
        self.limit_refusals.with_label_values(&[rank_label(rank), kind.label()]).inc();
    }

    /// Counts a request that a limit in shadow mode would have refused.
    pub fn limit_shadowed(&self, rank: Rank, kind: LimitKind) {
        self.limit_shadowed.with_label_values(&[rank_label(rank), kind.label()]).inc();
    }

    /// Counts a quota or budget that is almost used up.
    pub fn limit_alert(&self, rank: Rank, alert: Alert) {
        self.limit_alerts.with_label_values(&[rank_label(rank), alert.kind.label(), &alert.percent.to_string()]).inc();
    }

    /// The counter of a pool's last-resort answers.
    pub fn last_resort(&self, pool: &str) -> IntCounter {
        self.last_resorts.with_label_values(&[pool])
    }

    /// The counters of the token issuer's keys.
    pub fn issuer(&self) -> IssuerMetrics {
        IssuerMetrics {
            fetched: self.key_set_fetches.with_label_values(&["fetched"]),
            failed: self.key_set_fetches.with_label_values(&["failed"]),
            at: self.key_set_fetched.clone(),
        }
    }

    /// Exports these reasons from the start.
    pub fn expose_auth_failures(&self, reasons: impl IntoIterator<Item = &'static str>) {
        reasons.into_iter().for_each(|reason| drop(self.auth_failures.with_label_values(&[reason])));
    }

    /// Exports these reasons, and the results of changed files, from the start.
    pub fn expose_tls_failures(&self, reasons: impl IntoIterator<Item = &'static str>) {
        reasons.into_iter().for_each(|reason| drop(self.tls_failures.with_label_values(&[reason])));
        RELOADS.iter().for_each(|outcome| drop(self.tls_reloads.with_label_values(&[outcome])));
    }

    /// Counts a caller that is not known, by a label of `Denied`.
    pub fn auth_failure(&self, reason: &'static str) {
        self.auth_failures.with_label_values(&[reason]).inc();
    }

    /// Counts a handshake with a caller that failed, by a label of `tls::FAILURES`.
    pub fn tls_failure(&self, reason: &'static str) {
        self.tls_failures.with_label_values(&[reason]).inc();
    }

    /// Counts a change of the listeners' certificate files.
    pub fn tls_reload(&self, good: bool) {
        self.tls_reloads.with_label_values(&[RELOADS[usize::from(!good)]]).inc();
    }

    /// The counters of an identity's token.
    pub fn token(&self, identity: &str) -> TokenMetrics {
        TokenMetrics {
            acquired: self.token_fetches.with_label_values(&[identity, "acquired"]),
            failed: self.token_fetches.with_label_values(&[identity, "failed"]),
            expires: self.token_expires.with_label_values(&[identity]),
            usable: self.token_usable.with_label_values(&[identity]),
        }
    }

    /// Counts an answer of the gateway's own.
    pub fn rejection(&self, code: &'static str) {
        self.rejections.with_label_values(&[code]).inc();
    }

    /// The sums that the status page shows.
    pub fn totals(&self) -> Totals {
        let throttled = |label: &str, value: &str| label == "status" && value == "429";
        Totals {
            requests: sum(&self.requests, |_, _| true),
            throttled: sum(&self.requests, throttled),
            failovers: sum(&self.failovers, |_, _| true),
            last_resort: sum(&self.last_resorts, |_, _| true),
        }
    }

    /// The outcomes of attempts at a member.
    pub fn member_totals(&self, pool: &str, backend: &str, deployment: &str) -> MemberTotals {
        let of = |outcome: AttemptOutcome| self.attempts.with_label_values(&[pool, backend, deployment, outcome.label()]).get();
        let failures = AttemptOutcome::ALL.into_iter().filter(|outcome| outcome.is_failure());
        MemberTotals { served: of(AttemptOutcome::Ok), throttled: of(AttemptOutcome::Throttled), failed: failures.map(of).sum() }
    }

    /// All metrics in Prometheus's text format, with the current states of `members` (each with its pool's name).
    pub fn render<'r>(&self, members: impl Iterator<Item = (&'r str, &'r Member)>, now: Tick) -> Vec<u8> {
        // Held to the end: two requests at once must not see each other's resets.
        let system = self.system.lock();
        system.read();
        // Removes members that a reload has removed.
        self.target_state.reset();
        self.target_in_flight.reset();
        for (pool, member) in members {
            let id = &member.target.id;
            let current = member_state(member, now).0;
            for state in MemberState::ALL {
                self.target_state.with_label_values(&[pool, &*id.backend, &*id.deployment, state.label()]).set(i64::from(state == current));
            }
            let in_flight = i64::from(member.target.in_flight());
            self.target_in_flight.with_label_values(&[pool, &*id.backend, &*id.deployment]).set(in_flight);
        }
        let mut text = Vec::with_capacity(16 * 1024);
        // Writing to a Vec can't fail, and the families come from the registry itself.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        drop(system);
        text
    }
}
