//! A record as a log event for a collector. Source: opentelemetry-proto 1.x `logs.proto`; the names are in
//! [`crate::semconv`].

use std::io::Write as _;

use chrono::DateTime;
use serde_json::{Map, Value, json};

use crate::otlp::{self, AddAttribute, Attributes, Resource};
use crate::semconv;

/// A request to a collector (`/v1/logs`) with these events.
pub fn request(resource: Resource<'_>, events: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1024 + events.iter().map(|event| event.len() + 1).sum::<usize>());
    bytes.extend_from_slice(b"{\"resourceLogs\":[{\"resource\":{\"attributes\":");
    resource.write(&mut bytes);
    bytes.extend_from_slice(b"},\"scopeLogs\":[{\"scope\":{\"name\":\"spillway.prompt_log\",\"version\":");
    otlp::json(&mut bytes, resource.version);
    bytes.extend_from_slice(b"},\"logRecords\":[");
    for (index, event) in events.iter().enumerate() {
        if index > 0 {
            bytes.push(b',');
        }
        bytes.extend_from_slice(event);
    }
    bytes.extend_from_slice(b"]}]}]}");
    bytes
}

/// The event of a record of the prompt log, as JSON; `None` if it is not a record.
pub fn event(record: &[u8]) -> Option<Vec<u8>> {
    let record: Value = serde_json::from_slice(record).ok()?;
    let time = DateTime::parse_from_rfc3339(record["time"].as_str()?).ok()?.timestamp_nanos_opt()?;
    let status = record["status"].as_u64().unwrap_or(0);
    let operation = semconv::operation(record["api"].as_str()?);
    let severity = if status >= 500 { 17 } else { 9 };
    let mut bytes = Vec::with_capacity(1024);
    // Writing to memory doesn't fail.
    let _ = write!(bytes, "{{\"timeUnixNano\":\"{time}\",\"severityNumber\":{severity},\"eventName\":\"{}\"", semconv::EVENT);
    // In the request's span, if it has one.
    for (name, id) in [("traceId", &record["trace_id"]), ("spanId", &record["span_id"])] {
        if let Some(id) = id.as_str() {
            let _ = write!(bytes, ",\"{name}\":");
            otlp::json(&mut bytes, id);
        }
    }
    bytes.extend_from_slice(b",\"attributes\":");
    Attributes::write(&mut bytes, |to| attributes(&record, operation, status, to));
    bytes.push(b'}');
    Some(bytes)
}

fn attributes(record: &Value, operation: Option<&str>, status: u64, to: &mut Attributes<'_>) {
    let usage = &record["usage"];
    let attempts = record["attempts"].as_array().map_or(&[][..], Vec::as_slice);
    let last = attempts.last().unwrap_or(&Value::Null);
    to.add_json(semconv::OPERATION, &json!(operation));
    for (name, value) in [
        (semconv::REQUEST_MODEL, &record["model"]),
        (semconv::REQUEST_STREAM, &record["stream"]),
        (semconv::INPUT_TOKENS, &usage["input"]),
        (semconv::OUTPUT_TOKENS, &usage["output"]),
        (semconv::CACHE_READ_TOKENS, &usage["cached_input"]),
        (semconv::REASONING_TOKENS, &usage["reasoning"]),
        (semconv::STATUS, &record["status"]),
        (semconv::REQUEST_ID, &record["id"]),
        (semconv::CONSUMER, &record["consumer"]),
        (semconv::POOL, &record["pool"]),
        (semconv::BACKEND, &last["backend"]),
        (semconv::DEPLOYMENT, &last["deployment"]),
        (semconv::CACHE, &record["cache"]),
    ] {
        to.add_json(name, value);
    }
    to.add(semconv::ATTEMPTS, otlp::Value::Count(attempts.len() as u64));
    if status >= 400 {
        match record["code"].as_str() {
            Some(code) => to.add(semconv::ERROR_TYPE, code.into()),
            None => to.add(semconv::ERROR_TYPE, status.to_string().into()),
        }
    }
    let prompt = record["prompt"].as_array().map_or(&[][..], Vec::as_slice);
    let (system, input): (Vec<&Value>, Vec<&Value>) = prompt.iter().partition(|message| message["role"] == "system");
    let completion = record["completion"].as_array().map_or(&[][..], Vec::as_slice);
    if !system.is_empty() {
        to.add_json(semconv::SYSTEM_INSTRUCTIONS, &system.into_iter().flat_map(parts).collect());
    }
    if !input.is_empty() {
        to.add_json(semconv::INPUT_MESSAGES, &input.into_iter().map(message).collect());
    }
    if !completion.is_empty() {
        to.add_json(semconv::OUTPUT_MESSAGES, &completion.iter().map(message).collect());
        to.add_json(semconv::FINISH_REASONS, &completion.iter().filter_map(|message| message.get("finish").cloned()).collect());
    }
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
        let whole = request(Resource { version: "1", instance: None }, &[event.clone(), event]);
        let whole: Value = serde_json::from_slice(&whole).unwrap();
        let events = &whole["resourceLogs"][0]["scopeLogs"][0]["logRecords"];
        assert_eq!((events.as_array().unwrap().len(), &events[0]), (2, &events[1]));
        let event = &events[0];
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
