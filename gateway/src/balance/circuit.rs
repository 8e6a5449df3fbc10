//! The circuit breaker: closed, open until a point in time, half-open with one probe at a time.
//!
//! The rule is like that of an Azure API Management backend circuit breaker: a number of failures (or a percentage of a
//! minimum number of calls) within a sliding interval opens the circuit, for a short time at first, and for twice as
//! long after each failed probe, up to `trip`; or for the Retry-After of the answer that opened it.
//!
//! A number alone would close a busy target for a fraction of its calls that fail. So failures that are a small share of
//! the calls ([`LEAST_PERCENT`]) don't open it, and connections that fail do only if no other one was made meanwhile.

use std::collections::VecDeque;
use std::time::Duration;

use http::StatusCode;
use spillway_plugins::retry::StatusSet;

use crate::clock::Tick;

/// Ways in which an attempt fails without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorKind {
    /// No connection.
    Connect,
    /// No TLS.
    Tls,
    /// The head of a plain answer didn't come in time.
    Timeout,
    /// The connection broke.
    Reset,
    /// A stream brought no output in time.
    FirstToken,
    /// A stream sent nothing for too long.
    Idle,
}

impl ErrorKind {
    /// All kinds with the names they have in the config, in metrics and in logs.
    pub const NAMES: [(&'static str, ErrorKind); 6] = [
        ("connect", ErrorKind::Connect),
        ("tls", ErrorKind::Tls),
        ("timeout", ErrorKind::Timeout),
        ("reset", ErrorKind::Reset),
        ("first_token", ErrorKind::FirstToken),
        ("idle", ErrorKind::Idle),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// Whether a caller's request can cause it.
    pub fn is_provokable(self) -> bool {
        !matches!(self, ErrorKind::Connect | ErrorKind::Tls)
    }

    /// Whether time ran out, rather than a connection broke.
    pub fn is_timeout(self) -> bool {
        matches!(self, ErrorKind::Timeout | ErrorKind::FirstToken | ErrorKind::Idle)
    }
}

/// What went wrong with an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The upstream answered with this status.
    Status(StatusCode),
    /// There was no (whole) answer.
    Error(ErrorKind),
}

impl Failure {
    /// Whether a caller's request can cause it.
    pub fn is_provokable(self) -> bool {
        match self {
            Failure::Status(_) => true,
            Failure::Error(kind) => kind.is_provokable(),
        }
    }
}

/// When the circuit opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threshold {
    /// This many failures within the interval, if they are at least [`LEAST_PERCENT`] of the calls.
    Failures(u32),
    /// This percentage of calls, once there were `min_calls` within the interval.
    Percent {
        /// 1 to 100.
        percent: u32,
        /// Calls from which on the percentage counts.
        min_calls: u32,
    },
}

/// The rules of one pool's circuits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CircuitRules {
    /// When to open.
    pub threshold: Threshold,
    /// The sliding window.
    pub interval: Duration,
    /// Statuses that count as failures.
    pub statuses: StatusSet,
    /// Errors that count as failures.
    pub errors: Vec<ErrorKind>,
    /// How long to stay open at first.
    pub first_trip: Duration,
    /// How long to stay open at most.
    pub trip: Duration,
    /// Whether a Retry-After sets how long the circuit is open (and how long a throttle lasts).
    pub honour_retry_after: bool,
    /// The longest Retry-After that is used.
    pub max_retry_after: Duration,
    /// The throttle's length if there is no Retry-After.
    pub default_retry_after: Duration,
}

impl Default for CircuitRules {
    fn default() -> Self {
        CircuitRules {
            threshold: Threshold::Failures(5),
            interval: Duration::from_secs(60),
            statuses: StatusSet::failure_default(),
            // No timeouts: time also runs out when a model thinks for long.
            errors: vec![ErrorKind::Connect, ErrorKind::Tls, ErrorKind::Reset],
            first_trip: Duration::from_secs(5),
            trip: Duration::from_secs(30),
            honour_retry_after: true,
            max_retry_after: Duration::from_secs(120),
            default_retry_after: Duration::from_secs(10),
        }
    }
}

impl CircuitRules {
    /// Whether `failure` counts towards the circuit.
    pub fn counts(&self, failure: Failure) -> bool {
        match failure {
            Failure::Status(status) => self.statuses.contains(status),
            Failure::Error(kind) => self.errors.contains(&kind),
        }
    }

    /// How long a 429 with this Retry-After throttles its target.
    pub fn throttle_for(&self, retry_after: Option<Duration>) -> Duration {
        retry_after.filter(|_| self.honour_retry_after).map_or(self.default_retry_after, |wait| wait.min(self.max_retry_after))
    }

    /// How long the circuit stays open with this Retry-After, after so many failed probes.
    pub(super) fn trip_for(&self, retry_after: Option<Duration>, failed_probes: u32) -> Duration {
        let doubled = self.first_trip.saturating_mul(1 << failed_probes.min(16)).min(self.trip);
        retry_after.filter(|_| self.honour_retry_after).map_or(doubled, |wait| wait.min(self.max_retry_after))
    }
}

/// The state of a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// Requests pass.
    #[default]
    Closed,
    /// No requests before `until`.
    Open {
        /// When the first probe may be sent.
        until: Tick,
        /// Whether a 429 opened it: then it is a limit, not a defect.
        limited: bool,
    },
}

/// Failures open the circuit only if they are at least this share of the calls since the first of them, in percent.
pub const LEAST_PERCENT: u64 = 10;

/// Number of slices that the interval of a percentage rule is counted in.
const SLICES: u64 = 10;

/// A counted failure.
#[derive(Debug, Clone, Copy)]
struct Counted {
    at: Tick,
    /// The consumer that met it; see [`Circuit::failed`].
    by: u64,
    /// Whether no connection came about.
    is_connect: bool,
    /// How many calls had succeeded before.
    served_before: u64,
}

/// One target's circuit. Half-open is an open circuit whose time is over: the target lets one probe through and reports
/// its result.
#[derive(Debug, Default)]
pub struct Circuit {
    phase: Phase,
    /// Counted failures, oldest first; at most as many as the threshold.
    failures: VecDeque<Counted>,
    /// Calls that have succeeded.
    served: u64,
    /// The consumer that met the last counted failure.
    last: u64,
    /// Failed probes in a row.
    failed_probes: u32,
    /// (slice number, calls, failures) for percentage rules.
    slices: VecDeque<(u64, u32, u32)>,
}

impl Circuit {
    /// A circuit that is open, after so many failed probes.
    pub fn open(until: Tick, limited: bool, failed_probes: u32) -> Self {
        Circuit { phase: Phase::Open { until, limited }, failed_probes, ..Circuit::default() }
    }

    /// How many probes in a row have failed.
    pub fn failed_probes(&self) -> u32 {
        self.failed_probes
    }

    /// Its state.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Counts a failure. Returns whether this opened the circuit.
    ///
    /// While it is open, only its own probe (`probe`) can extend it: answers to requests that were under way when it
    /// opened say nothing new.
    ///
    /// `by` is the consumer that met it. Of several failures in a row that one consumer met, one counts, and the
    /// failures of a single consumer don't open the circuit. 0 stands for callers that are not told apart, or for a
    /// failure that no caller can cause: each of them counts.
    pub fn failed(
        &mut self,
        failure: Failure,
        by: u64,
        probe: bool,
        retry_after: Option<Duration>,
        rules: &CircuitRules,
        now: Tick,
    ) -> bool {
        let limited = failure == Failure::Status(StatusCode::TOO_MANY_REQUESTS);
        if let Phase::Open { until, .. } = self.phase {
            if probe {
                self.failed_probes = self.failed_probes.saturating_add(1);
                self.phase = Phase::Open { until: until.max(now + rules.trip_for(retry_after, self.failed_probes)), limited };
            }
            return false;
        }
        if by != 0 && by == self.last {
            return false;
        }
        self.last = by;
        if !self.crosses_threshold(by, !failure.is_provokable(), rules, now) {
            return false;
        }
        self.failures.clear();
        self.slices.clear();
        self.failed_probes = 0;
        self.phase = Phase::Open { until: now + rules.trip_for(retry_after, 0), limited };
        true
    }

    /// Counts a success of a call that began at `began`. A probe's success closes the circuit; returns whether it did. One
    /// consumer's success removes failures that others met before.
    pub fn succeeded(&mut self, by: u64, probe: bool, began: Tick, rules: &CircuitRules, now: Tick) -> bool {
        if let Phase::Open { .. } = self.phase {
            if probe {
                *self = Circuit::default();
            }
            return probe;
        }
        if matches!(rules.threshold, Threshold::Percent { .. }) {
            self.slice(rules, now).1 += 1;
        } else if !self.failures.is_empty() {
            self.served += 1;
            self.failures.retain(|failure| by == 0 || failure.by == by || failure.by == 0);
            self.answered(began);
        }
        false
    }

    /// A connection was made: those that failed before are no sign that the target is down.
    pub fn connected(&mut self) {
        self.failures.retain(|failure| !failure.is_connect);
    }

    /// A call that began at `began` was answered, over whatever connection: connections that had failed before it began
    /// are no sign that the target is down. Calls that began before say nothing: a server that stops still answers them.
    pub fn answered(&mut self, began: Tick) {
        self.failures.retain(|failure| !failure.is_connect || failure.at > began);
    }

    fn crosses_threshold(&mut self, by: u64, is_connect: bool, rules: &CircuitRules, now: Tick) -> bool {
        // Two counted failures are from two consumers.
        let least = if by == 0 { 1 } else { 2 };
        match rules.threshold {
            Threshold::Failures(count) => {
                let count = (count as usize).max(least);
                self.failures.push_back(Counted { at: now, by, is_connect, served_before: self.served });
                while self.failures.len() > count || self.failures.front().is_some_and(|first| now.since(first.at) > rules.interval) {
                    self.failures.pop_front();
                }
                let failed = self.failures.len() as u64;
                let served = self.failures.front().map_or(0, |first| self.served - first.served_before);
                self.failures.len() >= count && failed * 100 >= (failed + served) * LEAST_PERCENT
            }
            Threshold::Percent { percent, min_calls } => {
                let slice = self.slice(rules, now);
                slice.1 += 1;
                slice.2 += 1;
                let (calls, failed) = self.slices.iter().fold((0u64, 0u64), |(c, f), s| (c + u64::from(s.1), f + u64::from(s.2)));
                failed >= least as u64 && calls >= u64::from(min_calls) && failed * 100 >= calls * u64::from(percent)
            }
        }
    }

    fn slice(&mut self, rules: &CircuitRules, now: Tick) -> &mut (u64, u32, u32) {
        let width = (u64::try_from(rules.interval.as_nanos()).unwrap_or(u64::MAX) / SLICES).max(1);
        let number = now.0 / width;
        self.slices.retain(|(slice, _, _)| slice + SLICES > number);
        let current = self.slices.iter().position(|(slice, _, _)| *slice == number).unwrap_or_else(|| {
            self.slices.push_back((number, 0, 0));
            self.slices.len() - 1
        });
        &mut self.slices[current]
    }

    /// Whether it is closed and nothing was counted.
    pub fn is_clear(&self) -> bool {
        self.phase == Phase::Closed && self.failures.is_empty() && self.slices.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const FAILURE: Failure = Failure::Error(ErrorKind::Reset);

    fn at(seconds: u64) -> Tick {
        Tick::default() + SECOND * u32::try_from(seconds).unwrap()
    }

    fn rules(threshold: Threshold) -> CircuitRules {
        CircuitRules { threshold, interval: SECOND * 60, first_trip: SECOND * 30, trip: SECOND * 30, ..CircuitRules::default() }
    }

    #[test]
    fn opens_on_failures_within_the_interval_only() {
        let rules = rules(Threshold::Failures(3));
        let mut circuit = Circuit::default();
        assert!(!circuit.failed(FAILURE, 0, false, None, &rules, at(0)));
        assert!(!circuit.failed(FAILURE, 0, false, None, &rules, at(50)));
        assert!(!circuit.failed(FAILURE, 0, false, None, &rules, at(61)), "the first has left the window");
        assert!(circuit.failed(FAILURE, 0, false, None, &rules, at(100)));
        assert_eq!(circuit.phase(), Phase::Open { until: at(130), limited: false });
    }

    #[test]
    fn percentage_needs_a_minimum_of_calls() {
        let rules = rules(Threshold::Percent { percent: 50, min_calls: 10 });
        let mut circuit = Circuit::default();
        for second in 0..5 {
            assert!(!circuit.failed(FAILURE, 0, false, None, &rules, at(second)));
        }
        for second in 5..9 {
            circuit.succeeded(0, false, at(second), &rules, at(second));
        }
        assert!(circuit.failed(FAILURE, 0, false, None, &rules, at(10)), "6 of 10");
        let mut aged = Circuit::default();
        for _ in 0..9 {
            aged.failed(FAILURE, 0, false, None, &rules, at(0));
        }
        assert!(!aged.failed(FAILURE, 0, false, None, &rules, at(70)), "the nine have left the window");
    }

    #[test]
    fn only_the_probe_moves_an_open_circuit_and_only_forward() {
        let rules = rules(Threshold::Failures(1));
        let mut circuit = Circuit::default();
        assert!(circuit.failed(FAILURE, 0, false, Some(SECOND * 100), &rules, at(0)));
        circuit.failed(FAILURE, 0, false, Some(SECOND * 110), &rules, at(1));
        assert!(!circuit.succeeded(0, false, at(2), &rules, at(2)));
        assert_eq!(circuit.phase(), Phase::Open { until: at(100), limited: false });
        circuit.failed(FAILURE, 0, true, Some(SECOND), &rules, at(50));
        assert_eq!(circuit.phase(), Phase::Open { until: at(100), limited: false }, "never earlier");
        circuit.failed(FAILURE, 0, true, None, &rules, at(100));
        assert_eq!(circuit.phase(), Phase::Open { until: at(130), limited: false });
        assert!(circuit.succeeded(0, true, at(130), &rules, at(130)));
        assert_eq!(circuit.phase(), Phase::Closed);
    }

    #[test]
    fn connections_that_fail_open_it_only_if_none_is_made_meanwhile() {
        const NO_CONNECTION: Failure = Failure::Error(ErrorKind::Connect);
        let rules = rules(Threshold::Failures(3));
        let mut circuit = Circuit::default();
        let fails = |circuit: &mut Circuit, second| circuit.failed(NO_CONNECTION, 0, false, None, &rules, at(second));
        assert!(!fails(&mut circuit, 1) && !fails(&mut circuit, 2));
        circuit.connected();
        assert!(!fails(&mut circuit, 3) && !fails(&mut circuit, 4));
        circuit.answered(at(4));
        assert!(!fails(&mut circuit, 5) && !fails(&mut circuit, 6));
        circuit.answered(at(4));
        assert!(fails(&mut circuit, 7), "what began before they failed says nothing about them");
    }

    #[test]
    fn a_small_share_of_failures_does_not_open_it() {
        let rules = rules(Threshold::Failures(3));
        for (served, opens) in [(13, true), (14, false)] {
            let mut circuit = Circuit::default();
            circuit.failed(FAILURE, 0, false, None, &rules, at(1));
            circuit.failed(FAILURE, 0, false, None, &rules, at(2));
            for _ in 0..2 * served {
                circuit.succeeded(0, false, at(2), &rules, at(3));
            }
            assert_eq!(circuit.failed(FAILURE, 0, false, None, &rules, at(4)), opens, "3 of {}", 3 + 2 * served);
            let again = (0..2).any(|_| circuit.failed(FAILURE, 0, false, None, &rules, at(5)));
            assert_eq!(again, !opens, "the next failures count anew");
        }
    }

    proptest::proptest! {
        /// Connections fail and are made, in any order: the circuit opens at the failure that is the `count`th in a row
        /// within the interval, and at no other.
        #[test]
        fn only_connections_that_fail_in_a_row_open_it(
            steps in proptest::collection::vec((0u8..4, 0u64..30), 0..200),
            count in 1u32..6,
        ) {
            let rules = rules(Threshold::Failures(count));
            let (mut circuit, mut now, mut row) = (Circuit::default(), at(0), Vec::new());
            for (what, later) in steps {
                now = now + SECOND * u32::try_from(later).unwrap();
                match what {
                    0 => (circuit.connected(), row.clear()).1,
                    1 => (circuit.succeeded(7, false, now, &rules, now), row.clear()).1,
                    _ => {
                        let kind = if what == 2 { ErrorKind::Connect } else { ErrorKind::Tls };
                        row.push(now);
                        row.retain(|failed| now.since(*failed) <= rules.interval);
                        let opens = circuit.failed(Failure::Error(kind), 0, false, None, &rules, now);
                        proptest::prop_assert_eq!(opens, row.len() >= count as usize);
                        if opens {
                            (circuit, row) = (Circuit::default(), Vec::new());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn retry_after_is_capped_and_can_be_ignored() {
        let mut rules = rules(Threshold::Failures(1));
        assert_eq!(rules.throttle_for(Some(SECOND * 86_400)), SECOND * 120);
        assert_eq!(rules.throttle_for(None), SECOND * 10);
        rules.honour_retry_after = false;
        assert_eq!(rules.throttle_for(Some(SECOND)), SECOND * 10);
        assert_eq!(rules.trip_for(Some(SECOND), 0), SECOND * 30);
    }

    #[test]
    fn opens_for_a_short_time_first_and_for_longer_while_probes_fail() {
        let rules = CircuitRules { threshold: Threshold::Failures(1), ..CircuitRules::default() };
        let mut circuit = Circuit::default();
        let (mut now, mut waits) = (at(0), Vec::new());
        circuit.failed(FAILURE, 0, false, None, &rules, now);
        for _ in 0..5 {
            let Phase::Open { until, .. } = circuit.phase() else { panic!("it is open") };
            waits.push(until.since(now).as_secs());
            now = until;
            circuit.failed(FAILURE, 0, true, None, &rules, now);
        }
        assert_eq!((waits, circuit.failed_probes()), (vec![5, 10, 20, 30, 30], 5));
        circuit.succeeded(0, true, now, &rules, now);
        circuit.failed(FAILURE, 0, false, None, &rules, now);
        assert_eq!(circuit.phase(), Phase::Open { until: now + SECOND * 5, limited: false }, "a success begins anew");
        let short = CircuitRules { trip: SECOND, ..rules };
        assert_eq!(short.trip_for(None, 0), SECOND, "never longer than the longest");
    }
}
