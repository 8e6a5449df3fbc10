//! A trace context that is taken is handed on as one that is taken, with the same trace.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spillway_fuzz::headers;
use spillway_plugins::trace::context::{SpanId, TRACEPARENT, TRACESTATE, Trace, TraceId, read};

fuzz_target!(|input: &[u8]| {
    let mut given = headers(input);
    let Some(parent) = read(&given) else { return };
    assert_eq!(given.get_all(TRACEPARENT).iter().count(), 1);
    let trace = Trace::new(TraceId::new(1), SpanId::new(7), Some(parent.clone()), parent.sampled);
    assert_eq!((trace.id, trace.parent), (parent.trace, Some(parent.span)));
    trace.write(trace.span, &mut given);
    let written = read(&given).expect("what was written can be read");
    assert_eq!((written.trace, written.span, written.sampled), (parent.trace, SpanId::new(7), parent.sampled));
    assert_eq!(written.state, parent.state, "a state that was handed on once is handed on again");
    assert!(given.get_all(TRACESTATE).iter().count() <= 1);
});
