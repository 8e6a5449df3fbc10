//! The gateway's own identities, which authenticate it to backends.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::registration::Registration;

/// The tokens of identities.
#[derive(Debug)]
pub struct IdentityFamilies {
    fetches: IntCounterVec,
    expires: IntGaugeVec,
    usable: IntGaugeVec,
}

impl IdentityFamilies {
    pub(super) fn new(to: &Registration<'_>) -> prometheus::Result<Self> {
        Ok(IdentityFamilies {
            fetches: to.counters(
                "spillway_token_fetches_total",
                "Fetches of an identity's token, by outcome.",
                &["identity", "outcome"],
            )?,
            expires: to.gauges(
                "spillway_token_expiry_timestamp_seconds",
                "When an identity's token expires, in seconds since 1970.",
                &["identity"],
            )?,
            usable: to.gauges("spillway_token_usable", "Whether an identity has a valid token.", &["identity"])?,
        })
    }

    /// The counters of an identity's token.
    pub fn of(&self, identity: &str) -> TokenMetrics {
        TokenMetrics {
            acquired: self.fetches.with_label_values(&[identity, "acquired"]),
            failed: self.fetches.with_label_values(&[identity, "failed"]),
            expires: self.expires.with_label_values(&[identity]),
            usable: self.usable.with_label_values(&[identity]),
        }
    }
}

/// An identity's counters, looked up once.
#[derive(Debug, Clone)]
pub struct TokenMetrics {
    acquired: IntCounter,
    failed: IntCounter,
    expires: IntGauge,
    usable: IntGauge,
}

impl TokenMetrics {
    /// A token was fetched that is valid until `expires`, in seconds since 1970.
    pub fn fetched(&self, expires: i64) {
        self.acquired.inc();
        self.expires.set(expires);
        self.usable.set(1);
    }

    /// None could be fetched.
    pub fn failed(&self) {
        self.failed.inc();
    }

    /// The last one has expired.
    pub fn lost(&self) {
        self.usable.set(0);
    }
}
