//! Sign-in of persons.

use prometheus::{IntCounterVec, IntGauge};

use super::callers::IssuerMetrics;
use super::registration::Registration;

/// Sign-in of persons.
#[derive(Debug)]
pub struct SignInMetrics {
    results: IntCounterVec,
    logouts: IntCounterVec,
    /// Live sessions.
    pub sessions: IntGauge,
    key_set_fetches: IntCounterVec,
    key_set_fetched: IntGauge,
}

impl SignInMetrics {
    pub(super) fn new(to: &Registration<'_>) -> prometheus::Result<Self> {
        Ok(SignInMetrics {
            results: to.counters("spillway_sign_ins_total", "Persons who signed in or tried to, by result.", &["result"])?,
            logouts: to.counters(
                "spillway_sign_in_logouts_total",
                "Wishes of the issuer to end persons' sessions, by the channel on which they came, and result.",
                &["channel", "result"],
            )?,
            sessions: to.gauge("spillway_sign_in_sessions", "Persons' sessions that are live.")?,
            key_set_fetches: to.counters(
                "spillway_sign_in_key_set_fetches_total",
                "Fetches of the public keys of the issuer with which persons sign in, by outcome.",
                &["outcome"],
            )?,
            key_set_fetched: to.gauge(
                "spillway_sign_in_key_set_fetched_timestamp_seconds",
                "When the public keys of the issuer with which persons sign in were last fetched, in seconds since 1970.",
            )?,
        })
    }

    /// Exports these results from the start.
    pub fn expose(&self, results: impl IntoIterator<Item = &'static str>) {
        results.into_iter().for_each(|result| drop(self.results.with_label_values(&[result])));
        for channel in ["back", "front"] {
            ["ok", "none", "refused"].iter().for_each(|result| drop(self.logouts.with_label_values(&[channel, result])));
        }
    }

    /// Counts a sign-in.
    pub fn count(&self, result: &'static str) {
        self.results.with_label_values(&[result]).inc();
    }

    /// Counts a wish of the issuer to end sessions.
    pub fn logout(&self, channel: &'static str, result: &'static str) {
        self.logouts.with_label_values(&[channel, result]).inc();
    }

    /// The counters of the issuer's keys.
    pub fn issuer(&self) -> IssuerMetrics {
        IssuerMetrics::new(&self.key_set_fetches, self.key_set_fetched.clone())
    }
}
