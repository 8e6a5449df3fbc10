//! Spans in OTLP over HTTP (`/v1/traces`), in its JSON encoding.
//!
//! Source: opentelemetry-proto 1.x `trace.proto` and its JSON mapping: ids in hexadecimal, numbers of 64 bits as texts.
//!
//! Written directly as bytes, without a tree of values: a busy gateway has thousands of spans a second.

use std::io::Write as _;

use serde::Serialize;

use super::context::{SpanId, Trace};
use super::span::{RequestSpan, Tell, Value};
use crate::semconv;

const SERVER: u8 = 2;
const CLIENT: u8 = 3;
const ERROR: u8 = 2;
/// A span's flags: it is known that its parent is from another system.
const PARENT_KNOWN: u32 = 0x100;
const PARENT_REMOTE: u32 = 0x200;

/// The process that sends the spans.
#[derive(Debug, Clone, Copy)]
pub struct Resource<'r> {
    /// The program's version.
    pub version: &'r str,
    /// The name of the process.
    pub instance: &'r str,
}

/// Spans that are sent together.
#[derive(Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    spans: usize,
}

impl Batch {
    /// Without spans.
    pub fn new(resource: Resource<'_>) -> Self {
        let mut bytes = Vec::with_capacity(16 * 1024);
        bytes.extend_from_slice(b"{\"resourceSpans\":[{\"resource\":{\"attributes\":[");
        let mut attributes = Attributes { bytes: &mut bytes, any: false };
        attributes.add(semconv::SERVICE_NAME, "spillway".into());
        attributes.add(semconv::SERVICE_VERSION, resource.version.into());
        attributes.add(semconv::SERVICE_INSTANCE, resource.instance.into());
        bytes.extend_from_slice(b"]},\"scopeSpans\":[{\"scope\":{\"name\":\"spillway\",\"version\":");
        json(&mut bytes, resource.version);
        bytes.extend_from_slice(b"},\"spans\":[");
        Batch { bytes, spans: 0 }
    }

    /// The number of spans in it.
    pub fn spans(&self) -> usize {
        self.spans
    }

    /// Adds a request's spans.
    pub fn push(&mut self, request: &RequestSpan) {
        let name = request.name();
        let remote = if request.trace.parent.is_some() { PARENT_KNOWN | PARENT_REMOTE } else { PARENT_KNOWN };
        let span = Span {
            trace: &request.trace,
            id: request.trace.span,
            parent: request.trace.parent,
            flags: remote,
            name: &name,
            kind: SERVER,
            began: request.began,
            ended: request.ended,
            error: request.error().is_some(),
        };
        self.span(&span, |to| request.attributes(to));
        for (index, attempt) in request.attempts.iter().enumerate() {
            let name = request.attempt_name(attempt);
            let span = Span {
                trace: &request.trace,
                id: attempt.id,
                parent: Some(request.trace.span),
                flags: PARENT_KNOWN,
                name: &name,
                kind: CLIENT,
                began: attempt.began,
                ended: attempt.ended,
                error: attempt.error().is_some(),
            };
            self.span(&span, |to| request.attempt_attributes(index, to));
        }
    }

    fn span(&mut self, span: &Span<'_>, attributes: impl FnOnce(&mut Attributes<'_>)) {
        let Span { trace, id, parent, flags, name, kind, began, ended, error } = *span;
        if self.spans > 0 {
            self.bytes.push(b',');
        }
        self.spans += 1;
        let bytes = &mut self.bytes;
        // Writing to memory doesn't fail.
        let _ = write!(bytes, "{{\"traceId\":\"{}\",\"spanId\":\"{id}\"", trace.id);
        if let Some(parent) = parent {
            let _ = write!(bytes, ",\"parentSpanId\":\"{parent}\"");
        }
        if let Some(state) = trace.state.as_ref().and_then(|state| state.to_str().ok()) {
            bytes.extend_from_slice(b",\"traceState\":");
            json(bytes, state);
        }
        let flags = flags | u32::from(trace.flags());
        let _ =
            write!(bytes, ",\"flags\":{flags},\"kind\":{kind},\"startTimeUnixNano\":\"{began}\",\"endTimeUnixNano\":\"{ended}\",\"name\":");
        json(bytes, name);
        if error {
            let _ = write!(bytes, ",\"status\":{{\"code\":{ERROR}}}");
        }
        bytes.extend_from_slice(b",\"attributes\":[");
        attributes(&mut Attributes { bytes, any: false });
        bytes.extend_from_slice(b"]}");
    }

    /// The complete request.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(b"]}]}]}");
        self.bytes
    }
}

struct Span<'s> {
    trace: &'s Trace,
    id: SpanId,
    parent: Option<SpanId>,
    flags: u32,
    name: &'s str,
    kind: u8,
    began: u64,
    ended: u64,
    error: bool,
}

/// Attributes in OTLP's form.
struct Attributes<'b> {
    bytes: &'b mut Vec<u8>,
    any: bool,
}

impl Tell for Attributes<'_> {
    fn add(&mut self, name: &'static str, value: Value<'_>) {
        let begin: &[u8] = if self.any { b",{\"key\":" } else { b"{\"key\":" };
        self.any = true;
        self.bytes.extend_from_slice(begin);
        json(self.bytes, name);
        let _ = match value {
            Value::Text(text) => {
                self.bytes.extend_from_slice(b",\"value\":{\"stringValue\":");
                json(self.bytes, &*text);
                self.bytes.write_all(b"}}")
            }
            Value::Count(count) => write!(self.bytes, ",\"value\":{{\"intValue\":\"{count}\"}}}}"),
            Value::Seconds(time) => write!(self.bytes, ",\"value\":{{\"doubleValue\":{}}}}}", time.as_secs_f64()),
            Value::Flag(flag) => write!(self.bytes, ",\"value\":{{\"boolValue\":{flag}}}}}"),
        };
    }
}

/// Texts can always be serialised.
fn json(bytes: &mut Vec<u8>, text: &(impl Serialize + ?Sized)) {
    let _ = serde_json::to_writer(bytes, text);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::super::span::tests::example;
    use super::*;

    fn written(requests: &[RequestSpan]) -> Json {
        let mut batch = Batch::new(Resource { version: "1.2.3", instance: "gw-1" });
        requests.iter().for_each(|request| batch.push(request));
        assert_eq!(batch.spans(), requests.iter().map(RequestSpan::spans).sum::<usize>());
        serde_json::from_slice(&batch.finish()).unwrap()
    }

    #[test]
    fn a_batch_is_what_collectors_read() {
        let mut second = example();
        second.id = "with \"quotes\" and \u{1}".into();
        second.trace.state = Some("a=1".parse().unwrap());
        second.trace.parent = Some(SpanId::new(9));
        (second.status, second.end) = (502, "refused");
        let body = written(&[example(), second]);
        let resource = &body["resourceSpans"][0]["resource"]["attributes"];
        assert_eq!(resource[2], json!({ "key": "service.instance.id", "value": { "stringValue": "gw-1" } }));
        let spans = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
        assert_eq!(spans.len(), 6);
        let (request, attempt, failed) = (&spans[0], &spans[1], &spans[3]);
        assert_eq!(request["traceId"], json!(format!("{:032x}", 0xab)));
        assert_eq!((&request["spanId"], &request["parentSpanId"], &request["kind"]), (&json!("0000000000000001"), &Json::Null, &json!(2)));
        assert_eq!((&request["startTimeUnixNano"], &request["endTimeUnixNano"]), (&json!("1000000000"), &json!("3000000000")));
        assert_eq!((&request["flags"], &request["status"]), (&json!(0x103), &Json::Null));
        assert_eq!((&attempt["parentSpanId"], &attempt["kind"], &attempt["traceId"]), (&request["spanId"], &json!(3), &request["traceId"]));
        assert_eq!((&attempt["name"], &attempt["status"]), (&json!("chat gpt4o"), &json!({ "code": 2 })));
        assert_eq!((&failed["traceState"], &failed["parentSpanId"]), (&json!("a=1"), &json!("0000000000000009")));
        assert_eq!((&failed["flags"], &failed["status"]["code"]), (&json!(0x303), &json!(2)));
        let attribute = |span: &Json, name: &str| {
            span["attributes"].as_array().unwrap().iter().find(|attribute| attribute["key"] == name).map(|found| found["value"].clone())
        };
        assert_eq!(attribute(&spans[2], "gen_ai.usage.output_tokens"), Some(json!({ "intValue": "20" })));
        assert_eq!(attribute(request, "gen_ai.response.time_to_first_chunk"), Some(json!({ "doubleValue": 1.5 })));
        assert_eq!(attribute(request, "gen_ai.request.stream"), Some(json!({ "boolValue": true })));
        assert_eq!(attribute(failed, "spillway.request.id"), Some(json!({ "stringValue": "with \"quotes\" and \u{1}" })));
    }

    #[test]
    fn one_without_spans_is_valid() {
        assert_eq!(written(&[])["resourceSpans"][0]["scopeSpans"][0]["spans"], json!([]));
    }
}
