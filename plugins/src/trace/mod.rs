//! Distributed traces: a request's place in its caller's trace, and the spans for a collector.
//!
//! | part | question |
//! |---|---|
//! | [`context`] | which trace does it belong to, and which headers do upstreams get? |
//! | [`sample`] | is it sampled? |
//! | [`span`] | what do its spans contain? |
//! | [`route`] | what is its path, without names that callers chose? |
//! | [`otlp`] | how is it serialised? |

pub mod context;
pub mod otlp;
pub mod route;
pub mod sample;
pub mod span;

use std::time::Duration;

use http::HeaderMap;

pub use context::{Parent, SpanId, Trace, TraceId};
pub use sample::Sampler;
pub use span::{AttemptSpan, RequestSpan, SpanTarget};

/// Adds a request to its caller's trace, or begins one. `random` are fresh random bits for a trace and a span.
pub fn begin(headers: &HeaderMap, sampler: &Sampler, random: (u128, u64), now: Duration) -> Trace {
    let parent = context::read(headers);
    let trace = parent.as_ref().map_or_else(|| TraceId::new(random.0), |parent| parent.trace);
    let sampled = sampler.decide(parent.as_ref(), trace, random.1, now);
    Trace::new(trace, SpanId::new(random.1), parent, sampled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_joins_its_callers_trace_or_begins_one() {
        let sampler = Sampler::new(0.0, 1);
        let mut headers = HeaderMap::new();
        let alone = begin(&headers, &sampler, (5, 6), Duration::ZERO);
        assert_eq!((alone.id, alone.span, alone.parent, alone.sampled), (TraceId::new(5), SpanId::new(6), None, false));
        headers.insert("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap());
        headers.insert("tracestate", "a=1".parse().unwrap());
        let joined = begin(&headers, &sampler, (5, 6), Duration::ZERO);
        assert_eq!(joined.id.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!((joined.span, joined.parent.unwrap().to_string().as_str()), (SpanId::new(6), "b7ad6b7169203331"));
        assert!(joined.sampled && joined.state.is_some());
        // One a second was allowed: the next is as the gateway itself decides, in the same trace.
        let next = begin(&headers, &sampler, (5, 7), Duration::ZERO);
        assert_eq!((next.id, next.sampled), (joined.id, false));
    }
}
