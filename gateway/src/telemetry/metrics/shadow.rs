//! Mirrored requests.

use prometheus::{IntCounterVec, IntGauge};

use super::registration::Registration;

/// Counters of mirrored requests.
#[derive(Debug, Clone)]
pub struct ShadowMetrics {
    requests: IntCounterVec,
    /// Those that wait to be looked at.
    pub waiting: IntGauge,
}

/// What became of a mirrored request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mirrored {
    /// It was counted.
    Taken,
    /// Too many waited, or were connected, or the memory for bodies was used up.
    Dropped,
    /// Its body is too long.
    TooLarge,
    /// It is no request of an API, or its body can't be read.
    Unreadable,
    /// Too many were under way in the shadow, or the config can't be shadowed.
    LeftOut,
}

impl Mirrored {
    const ALL: [Mirrored; 5] = [Mirrored::Taken, Mirrored::Dropped, Mirrored::TooLarge, Mirrored::Unreadable, Mirrored::LeftOut];

    fn label(self) -> &'static str {
        match self {
            Mirrored::Taken => "taken",
            Mirrored::Dropped => "dropped",
            Mirrored::TooLarge => "too_large",
            Mirrored::Unreadable => "unreadable",
            Mirrored::LeftOut => "left_out",
        }
    }
}

impl ShadowMetrics {
    pub(super) fn new(to: &Registration<'_>) -> prometheus::Result<Self> {
        let requests = to.counters("spillway_shadow_requests_total", "Mirrored requests, by what became of them.", &["result"])?;
        for result in Mirrored::ALL {
            requests.with_label_values(&[result.label()]);
        }
        Ok(ShadowMetrics {
            requests,
            waiting: to.gauge("spillway_shadow_waiting_requests", "Mirrored requests that wait to be looked at.")?,
        })
    }

    /// Counts one.
    pub fn count(&self, result: Mirrored) {
        self.requests.with_label_values(&[result.label()]).inc();
    }
}
