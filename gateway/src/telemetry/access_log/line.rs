//! What is logged of a request.

use smallvec::SmallVec;
use spillway_plugins::tokens::Metered;
use spillway_plugins::trace::{SpanId, TraceId};

use crate::telemetry::log_time::LogTime;

/// One attempt of a request.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(serde::Serialize))]
pub struct AttemptLine<'a> {
    /// The backend's name.
    pub backend: &'a str,
    /// The name of the deployment there that served it, or was asked.
    pub deployment: &'a str,
    /// The deployment that was asked, if the backend itself had another one serve it.
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    pub spilled_from: Option<&'a str>,
    /// The outcome: `ok`, `throttled`, `failed`, an error kind …
    pub outcome: &'static str,
    /// The upstream's status, if it answered.
    pub status: Option<u16>,
    /// How long it took, in microseconds.
    pub us: u64,
    /// The backend's message about its failure, cut and redacted.
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    pub said: Option<&'a str>,
    /// The pooled connection was already closed: the next entry is the same attempt on a new connection.
    #[cfg_attr(test, serde(skip_serializing_if = "std::ops::Not::not"))]
    pub stale: bool,
}

/// One request.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(serde::Serialize))]
pub struct RequestLine<'a> {
    /// When it arrived.
    pub time: LogTime,
    /// Its id.
    pub id: &'a str,
    /// The trace that it belongs to, and its span there, if there are traces.
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    pub trace_id: Option<TraceId>,
    /// Its span.
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    pub span_id: Option<SpanId>,
    /// The caller, if known.
    pub consumer: Option<&'a str>,
    /// The method.
    pub method: &'a str,
    /// The API, or `-`.
    pub api: &'static str,
    /// The model asked for.
    pub model: Option<&'a str>,
    /// The pool that served it.
    pub pool: Option<&'a str>,
    /// The status that the caller got; 499 if it left before one was sent.
    pub status: u16,
    /// How it ended: `ok`, `refused`, `last_resort`, `cut`, `caller_left`.
    pub end: &'static str,
    /// The error code, if the gateway answered itself.
    pub code: Option<&'a str>,
    /// Whether the answer was streamed.
    pub stream: bool,
    /// The result of the cache, if there is one: `hit`, `miss`, `bypass`.
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    pub cache: Option<&'a str>,
    /// The result of continuing a broken stream, if that was tried: `ok`, `differs`, `failed`.
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    pub rescued: Option<&'a str>,
    /// Every attempt in order.
    #[cfg_attr(test, serde(serialize_with = "as_list"))]
    pub attempts: SmallVec<[AttemptLine<'a>; 2]>,
    /// The service tier that served it, if the answer names it.
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    pub service_tier: Option<&'a str>,
    /// The answer's usage, if it is known at once; estimates are only in the ledger.
    pub usage: Option<Metered>,
    /// Bytes of the request's body.
    pub bytes_in: usize,
    /// Bytes of the answer's body.
    pub bytes_out: usize,
    /// Time to the first output, in microseconds.
    pub first_us: Option<u64>,
    /// Time in all, in microseconds.
    pub us: u64,
    /// The part of it that the gateway itself used, in microseconds.
    pub overhead_us: u64,
}

#[cfg(test)]
fn as_list<S: serde::Serializer>(attempts: &[AttemptLine<'_>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(attempts)
}
