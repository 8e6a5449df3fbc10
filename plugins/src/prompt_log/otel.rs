//! A record as an OpenTelemetry log event, in OTLP's JSON encoding.
//!
//! Source: opentelemetry-proto 1.x `logs.proto` and its JSON mapping. The names are in [`crate::semconv`].

use chrono::DateTime;
use serde_json::{Map, Value, json};

use crate::semconv;

/// A request for OTLP over HTTP (`/v1/logs`) with these events.
pub fn request(version: &str, events: &[Value]) -> Value {
    let resource = attributes([(semconv::SERVICE_NAME, json!("spillway")), (semconv::SERVICE_VERSION, json!(version))]);
    json!({ "resourceLogs": [{
        "resource": { "attributes": resource },
        "scopeLogs": [{ "scope": { "name": "spillway.prompt_log", "version": version }, "logRecords": events }],
    }] })
}

/// The event of a record of the prompt log; `None` if it is not a record.
pub fn event(record: &[u8]) -> Option<Value> {
    let record: Value = serde_json::from_slice(record).ok()?;
    let time = DateTime::parse_from_rfc3339(record["time"].as_str()?).ok()?.timestamp_nanos_opt()?;
    let status = record["status"].as_u64().unwrap_or(0);
    let operation = semconv::operation(record["api"].as_str()?);
    let usage = &record["usage"];
    let last = record["attempts"].as_array().and_then(|attempts| attempts.last());
    let mut fields: Vec<(&str, Value)> = vec![
        (semconv::OPERATION, json!(operation)),
        (semconv::REQUEST_MODEL, record["model"].clone()),
        (semconv::REQUEST_STREAM, record["stream"].clone()),
        (semconv::INPUT_TOKENS, usage["input"].clone()),
        (semconv::OUTPUT_TOKENS, usage["output"].clone()),
        (semconv::CACHE_READ_TOKENS, usage["cached_input"].clone()),
        (semconv::REASONING_TOKENS, usage["reasoning"].clone()),
        (semconv::STATUS, record["status"].clone()),
        (semconv::REQUEST_ID, record["id"].clone()),
        (semconv::CONSUMER, record["consumer"].clone()),
        (semconv::POOL, record["pool"].clone()),
        (semconv::BACKEND, last.map_or(Value::Null, |attempt| attempt["backend"].clone())),
        (semconv::DEPLOYMENT, last.map_or(Value::Null, |attempt| attempt["deployment"].clone())),
        (semconv::ATTEMPTS, json!(record["attempts"].as_array().map_or(0, Vec::len))),
        (semconv::CACHE, record["cache"].clone()),
    ];
    if status >= 400 {
        fields.push((semconv::ERROR_TYPE, if record["code"].is_string() { record["code"].clone() } else { json!(status.to_string()) }));
    }
    let prompt = record["prompt"].as_array().map_or(&[][..], Vec::as_slice);
    let (system, input): (Vec<&Value>, Vec<&Value>) = prompt.iter().partition(|message| message["role"] == "system");
    let completion = record["completion"].as_array().map_or(&[][..], Vec::as_slice);
    if !system.is_empty() {
        fields.push((semconv::SYSTEM_INSTRUCTIONS, system.into_iter().flat_map(parts).collect()));
    }
    if !input.is_empty() {
        fields.push((semconv::INPUT_MESSAGES, input.into_iter().map(message).collect()));
    }
    if !completion.is_empty() {
        fields.push((semconv::OUTPUT_MESSAGES, completion.iter().map(message).collect()));
        fields.push((semconv::FINISH_REASONS, completion.iter().filter_map(|message| message.get("finish").cloned()).collect()));
    }
    let mut event = json!({
        "timeUnixNano": time.to_string(),
        "severityNumber": if status >= 500 { 17 } else { 9 },
        "eventName": semconv::EVENT,
        "attributes": attributes(fields),
    });
    // In the request's span, if it has one.
    for (name, id) in [("traceId", &record["trace_id"]), ("spanId", &record["span_id"])] {
        if id.is_string() {
            event[name] = id.clone();
        }
    }
    Some(event)
}

/// A message in the form of the conventions.
fn message(message: &Value) -> Value {
    let mut fields = Map::new();
    fields.insert("role".to_owned(), message["role"].clone());
    fields.insert("parts".to_owned(), parts(message).collect());
    if let Some(finish) = message.get("finish") {
        fields.insert("finish_reason".to_owned(), finish.clone());
    }
    fields.into()
}

fn parts(message: &Value) -> impl Iterator<Item = Value> {
    let text = message["text"].as_str().filter(|text| !text.is_empty()).map(|text| json!({ "type": "text", "content": text }));
    let calls = message["calls"].as_array().into_iter().flatten();
    text.into_iter().chain(calls.map(|call| json!({ "type": "tool_call", "name": call["name"], "arguments": call["arguments"] })))
}

/// Attributes in OTLP's form; those without a value are left out.
fn attributes<'n>(fields: impl IntoIterator<Item = (&'n str, Value)>) -> Value {
    fields.into_iter().filter_map(|(name, value)| Some(json!({ "key": name, "value": any_value(&value)? }))).collect()
}

/// A value in OTLP's form.
fn any_value(value: &Value) -> Option<Value> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(value) => json!({ "boolValue": value }),
        // JavaScript's numbers can't hold 64 bits: so they are texts.
        Value::Number(number) if number.is_i64() || number.is_u64() => json!({ "intValue": number.to_string() }),
        Value::Number(number) => json!({ "doubleValue": number }),
        Value::String(text) => json!({ "stringValue": text }),
        Value::Array(list) => json!({ "arrayValue": { "values": list.iter().filter_map(any_value).collect::<Vec<_>>() } }),
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| (name.as_str(), value.clone()));
            json!({ "kvlistValue": { "values": attributes(members) } })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_becomes_an_event() {
        let record = json!({
            "time": "2026-11-25T12:00:00.500Z", "id": "r1", "trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331", "consumer": "crm", "api": "chat", "model": "m", "pool": "p", "status": 200,
            "stream": true, "attempts": [{ "backend": "a", "deployment": "d" }], "usage": { "input": 3, "output": 4, "cached_input": 0 },
            "prompt": [{ "role": "system", "text": "be kind" }, { "role": "user", "text": "hi" }],
            "completion": [{ "role": "assistant", "text": "hello", "calls": [{ "name": "f", "arguments": "{}" }], "finish": "stop" }],
        });
        let event = event(record.to_string().as_bytes()).unwrap();
        assert_eq!((&event["timeUnixNano"], &event["eventName"]), (&json!("1795608000500000000"), &json!(semconv::EVENT)));
        assert_eq!((&event["traceId"], &event["spanId"]), (&record["trace_id"], &record["span_id"]));
        let attribute = |name: &str| {
            let mut all = event["attributes"].as_array().unwrap().iter();
            all.find(|attribute| attribute["key"] == name).map(|attribute| attribute["value"].clone()).unwrap_or_default()
        };
        assert_eq!(attribute("gen_ai.usage.input_tokens"), json!({ "intValue": "3" }));
        assert_eq!(attribute("gen_ai.request.model"), json!({ "stringValue": "m" }));
        assert_eq!(attribute("spillway.backend"), json!({ "stringValue": "a" }));
        assert_eq!(attribute("error.type"), Value::Null);
        let output = attribute("gen_ai.output.messages").to_string();
        assert!(output.contains("\"hello\"") && output.contains("\"tool_call\"") && output.contains("finish_reason"), "{output}");
        assert!(attribute("gen_ai.system_instructions").to_string().contains("be kind"));
        assert!(!attribute("gen_ai.input.messages").to_string().contains("be kind"));
        assert_eq!(super::event(b"{}"), None);
    }
}
