//! Well-formed answers of every API, plain and streamed, generated from a text.

use bytes::Bytes;
use serde_json::{Value, json};
use spillway_plugins::api::Api;

use super::body::Body;
use super::part;
pub use super::question::{Question, tokens};

/// An answer: one JSON text, or the events of a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// `application/json`
    Plain(String),
    /// `text/event-stream`, event by event.
    Stream(Vec<Bytes>),
    /// Bytes of another type (speech, images).
    Bytes(&'static str, Bytes),
}

/// The answer to a question; `None` for an API that the mock doesn't have, or for too many embeddings.
pub fn answer(question: &Question<'_>) -> Option<Answer> {
    let stream = question.body.stream;
    let plain = |value: Value| Some(Answer::Plain(value.to_string()));
    if let Some(part) = question.part {
        return plain(part::answer(part, question));
    }
    match question.api {
        Api::Chat if stream => Some(Answer::Stream(chat_stream(question))),
        Api::Chat => plain(chat(question)),
        Api::Completions if stream => Some(Answer::Stream(completion_stream(question))),
        Api::Completions => plain(completion(question)),
        Api::Responses if stream => Some(Answer::Stream(response_stream(question))),
        Api::Responses => plain(response(question, "completed", true)),
        Api::Messages if stream => Some(Answer::Stream(message_stream(question))),
        Api::Messages => plain(message(question)),
        Api::Embeddings => embeddings(question).map(Answer::Plain),
        _ => None,
    }
}

fn data(value: &Value) -> Bytes {
    format!("data: {value}\n\n").into()
}

fn event(value: &Value) -> Bytes {
    format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap_or("message")).into()
}

/// The text in pieces as a model would stream it: words with their spaces.
fn pieces(text: &str) -> Vec<&str> {
    text.split_inclusive(' ').collect()
}

fn chat_usage(question: &Question<'_>) -> Value {
    let (input, output) = (question.body.prompt_tokens, tokens(question.text));
    json!({ "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
        "prompt_tokens_details": { "cached_tokens": question.body.cached_tokens }, "completion_tokens_details": { "reasoning_tokens": 0 } })
}

fn safe() -> Value {
    let category = json!({ "filtered": false, "severity": "safe" });
    json!({ "hate": category, "self_harm": category, "sexual": category, "violence": category })
}

fn choices(question: &Question<'_>) -> u64 {
    question.body.choices.clamp(1, 128)
}

fn chat(q: &Question<'_>) -> Value {
    let list: Vec<Value> = (0..choices(q))
        .map(|index| {
            let mut choice = json!({ "index": index, "message": { "role": "assistant", "content": q.text, "refusal": null }, "finish_reason": "stop", "logprobs": null });
            if q.azure {
                choice["content_filter_results"] = safe();
            }
            choice
        })
        .collect();
    let mut answer = json!({ "id": format!("chatcmpl-{:x}", q.unique), "object": "chat.completion", "created": q.created, "model": q.model, "choices": list, "usage": chat_usage(q) });
    if q.azure {
        answer["prompt_filter_results"] = json!([{ "prompt_index": 0, "content_filter_results": safe() }]);
    }
    with_tier(answer, q)
}

/// Adds the service tier, if one is known.
fn with_tier(mut answer: Value, q: &Question<'_>) -> Value {
    if let Some(tier) = q.body.service_tier {
        answer["service_tier"] = json!(tier.label());
    }
    answer
}

fn chat_stream(q: &Question<'_>) -> Vec<Bytes> {
    let chunk = |choices: Value, usage: Value| {
        let chunk = json!({ "id": format!("chatcmpl-{:x}", q.unique), "object": "chat.completion.chunk", "created": q.created, "model": q.model, "choices": choices, "usage": usage });
        with_tier(chunk, q)
    };
    let mut events = Vec::new();
    if q.azure {
        events.push(data(&json!({ "id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": [{ "prompt_index": 0, "content_filter_results": safe() }] })));
    }
    for index in 0..choices(q) {
        let delta = |delta: Value, finish: Value| {
            let mut choice = json!({ "index": index, "delta": delta, "finish_reason": finish, "logprobs": null });
            if q.azure {
                choice["content_filter_results"] = json!({});
            }
            data(&chunk(json!([choice]), Value::Null))
        };
        events.push(delta(json!({ "role": "assistant", "content": "", "refusal": null }), Value::Null));
        events.extend(pieces(q.text).into_iter().map(|piece| delta(json!({ "content": piece }), Value::Null)));
        events.push(delta(json!({}), json!("stop")));
    }
    if q.body.include_usage {
        events.push(data(&chunk(json!([]), chat_usage(q))));
    }
    events.push(Bytes::from_static(b"data: [DONE]\n\n"));
    events
}

fn completion(q: &Question<'_>) -> Value {
    let list: Vec<Value> =
        (0..choices(q)).map(|index| json!({ "index": index, "text": q.text, "finish_reason": "stop", "logprobs": null })).collect();
    json!({ "id": format!("cmpl-{:x}", q.unique), "object": "text_completion", "created": q.created, "model": q.model, "choices": list, "usage": chat_usage(q) })
}

fn completion_stream(q: &Question<'_>) -> Vec<Bytes> {
    let chunk = |text: &str, finish: Value| {
        data(&json!({ "id": format!("cmpl-{:x}", q.unique), "object": "text_completion", "created": q.created, "model": q.model,
            "choices": [{ "index": 0, "text": text, "finish_reason": finish, "logprobs": null }] }))
    };
    let mut events: Vec<Bytes> = pieces(q.text).into_iter().map(|piece| chunk(piece, Value::Null)).collect();
    events.push(chunk("", json!("stop")));
    if q.body.include_usage {
        events.push(data(&json!({ "id": format!("cmpl-{:x}", q.unique), "object": "text_completion", "created": q.created, "model": q.model, "choices": [], "usage": chat_usage(q) })));
    }
    events.push(Bytes::from_static(b"data: [DONE]\n\n"));
    events
}

fn response_item(q: &Question<'_>, whole: bool) -> Value {
    let content = if whole { json!([{ "type": "output_text", "text": q.text, "annotations": [], "logprobs": [] }]) } else { json!([]) };
    json!({ "type": "message", "id": format!("msg_{:x}", q.unique), "status": if whole { "completed" } else { "in_progress" }, "role": "assistant", "content": content })
}

fn response(q: &Question<'_>, status: &str, whole: bool) -> Value {
    let (input, output) = (q.body.prompt_tokens, tokens(q.text));
    let usage = json!({ "input_tokens": input, "input_tokens_details": { "cached_tokens": q.body.cached_tokens }, "output_tokens": output, "output_tokens_details": { "reasoning_tokens": 0 }, "total_tokens": input + output });
    let response = json!({ "id": format!("resp_{:x}", q.unique), "object": "response", "created_at": q.created, "status": status, "model": q.model,
        "output": if whole { json!([response_item(q, true)]) } else { json!([]) },
        "usage": if whole { usage } else { Value::Null },
        "error": null, "incomplete_details": null, "instructions": q.body.instructions, "metadata": {}, "parallel_tool_calls": true,
        "previous_response_id": null, "temperature": 1.0, "top_p": 1.0, "tool_choice": "auto", "tools": [], "text": { "format": { "type": "text" } },
        "truncation": "disabled", "max_output_tokens": null, "reasoning": { "effort": null, "summary": null } });
    with_tier(response, q)
}

fn response_stream(q: &Question<'_>) -> Vec<Bytes> {
    let id = format!("msg_{:x}", q.unique);
    let part = |text: &str| json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] });
    let mut list = vec![
        json!({ "type": "response.created", "response": response(q, "in_progress", false) }),
        json!({ "type": "response.in_progress", "response": response(q, "in_progress", false) }),
        json!({ "type": "response.output_item.added", "output_index": 0, "item": response_item(q, false) }),
        json!({ "type": "response.content_part.added", "item_id": id, "output_index": 0, "content_index": 0, "part": part("") }),
    ];
    list.extend(pieces(q.text).into_iter().map(|piece| {
        json!({ "type": "response.output_text.delta", "item_id": id, "output_index": 0, "content_index": 0, "delta": piece, "logprobs": [] })
    }));
    list.extend([
        json!({ "type": "response.output_text.done", "item_id": id, "output_index": 0, "content_index": 0, "text": q.text, "logprobs": [] }),
        json!({ "type": "response.content_part.done", "item_id": id, "output_index": 0, "content_index": 0, "part": part(q.text) }),
        json!({ "type": "response.output_item.done", "output_index": 0, "item": response_item(q, true) }),
        json!({ "type": "response.completed", "response": response(q, "completed", true) }),
    ]);
    for (number, value) in list.iter_mut().enumerate() {
        value["sequence_number"] = json!(number);
    }
    list.iter().map(event).collect()
}

fn message(q: &Question<'_>) -> Value {
    json!({ "id": format!("msg_{:x}", q.unique), "type": "message", "role": "assistant", "model": q.model, "content": [{ "type": "text", "text": q.text }],
        "stop_reason": "end_turn", "stop_sequence": null, "usage": { "input_tokens": q.body.prompt_tokens, "output_tokens": tokens(q.text) } })
}

fn message_stream(q: &Question<'_>) -> Vec<Bytes> {
    let mut start = message(q);
    start["content"] = json!([]);
    start["stop_reason"] = Value::Null;
    start["usage"]["output_tokens"] = json!(1);
    let mut events = vec![
        event(&json!({ "type": "message_start", "message": start })),
        event(&json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } })),
        event(&json!({ "type": "ping" })),
    ];
    events.extend(
        pieces(q.text)
            .into_iter()
            .map(|piece| event(&json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": piece } }))),
    );
    events.extend([
        event(&json!({ "type": "content_block_stop", "index": 0 })),
        event(&json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn", "stop_sequence": null }, "usage": { "output_tokens": tokens(q.text) } })),
        event(&json!({ "type": "message_stop" })),
    ]);
    events
}

/// Most bytes of a request's vectors as text: a number has a comma, a sign, and up to sixteen digits.
pub fn embeddings_length(body: &Body) -> usize {
    let each = if body.base64 { 6 } else { 18 };
    body.inputs.as_ref().map_or(0, Vec::len).saturating_mul(body.dimensions.saturating_mul(each) + 64)
}

/// Written piece by piece: a JSON tree of many vectors would need far more memory than their text.
fn embeddings(q: &Question<'_>) -> Option<String> {
    use std::fmt::Write;
    let inputs = q.body.inputs.as_ref()?;
    let mut text = String::from("{\"object\":\"list\",\"data\":[");
    for (index, seed) in inputs.iter().enumerate() {
        let vector = unit_vector(*seed, q.body.dimensions);
        let comma = if index > 0 { "," } else { "" };
        // Writing to a string can't fail.
        let _ = write!(text, "{comma}{{\"object\":\"embedding\",\"index\":{index},\"embedding\":");
        if q.body.base64 {
            let _ = write!(text, "\"{}\"", encode_base64(&vector));
        } else {
            for (number, x) in vector.iter().enumerate() {
                let _ = write!(text, "{}{x}", if number > 0 { "," } else { "[" });
            }
            text.push(']');
        }
        text.push('}');
    }
    let used = q.body.prompt_tokens;
    let rest = json!({ "model": q.model, "usage": { "prompt_tokens": used, "total_tokens": used } }).to_string();
    let _ = write!(text, "],{}", rest.trim_start_matches('{'));
    Some(text)
}

/// A vector of length 1 that depends only on the text's number.
fn unit_vector(seed: u64, dimensions: usize) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let raw: Vec<f32> = (0..dimensions).map(|_| rng.f32() * 2.0 - 1.0).collect();
    let length = raw.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    raw.into_iter().map(|x| x / length).collect()
}

/// Little-endian floats in base64, as for `encoding_format: "base64"`.
fn encode_base64(vector: &[f32]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0u32, |word, byte| (word << 8) | u32::from(*byte)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            let index = (word >> (18 - 6 * digit)) & 63;
            text.push(if digit <= group.len() { char::from(ALPHABET[index as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_plugins::stream::StreamWatch;

    fn ask(api: Api, body: Value) -> Answer {
        let body = Body::read(body.to_string().as_bytes()).unwrap();
        answer(&Question { api, part: None, model: "m", body: &body, text: "one two three", created: 1, unique: 7, azure: true }).unwrap()
    }

    fn plain(answer: Answer) -> Value {
        let Answer::Plain(text) = answer else { panic!() };
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn streams_are_whole_by_our_own_rules() {
        for api in [Api::Chat, Api::Completions, Api::Responses, Api::Messages] {
            let Answer::Stream(events) = ask(api, json!({ "stream": true, "stream_options": { "include_usage": true } })) else {
                panic!("{api}")
            };
            let mut watch = StreamWatch::new(api, 1, false);
            for event in events {
                let _ = watch.feed(event);
            }
            let state = watch.state();
            assert!(state.content && state.finished && state.done && state.fault.is_none(), "{api}: {state:?}");
        }
    }

    #[test]
    fn every_choice_is_there() {
        let value = plain(ask(Api::Chat, json!({ "n": 3 })));
        assert_eq!(value["choices"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn embeddings_in_both_encodings() {
        let floats = plain(ask(Api::Embeddings, json!({ "input": ["a", "b"], "dimensions": 4 })));
        assert_eq!((floats["data"].as_array().unwrap().len(), floats["data"][1]["embedding"].as_array().unwrap().len()), (2, 4));
        assert_eq!((&floats["model"], &floats["usage"]["total_tokens"]), (&json!("m"), &json!(6)));
        let text = plain(ask(Api::Embeddings, json!({ "input": "a", "dimensions": 4, "encoding_format": "base64" })));
        assert_eq!(text["data"][0]["embedding"].as_str().unwrap().len(), 24);
        assert_eq!(encode_base64(&[1.0]), "AACAPw==");
    }

    #[test]
    fn the_length_of_embeddings_is_known_before() {
        for body in [json!({ "input": ["a", "b", "c"] }), json!({ "input": vec!["x"; 9], "encoding_format": "base64", "dimensions": 4096 })]
        {
            let body = Body::read(body.to_string().as_bytes()).unwrap();
            let question =
                Question { api: Api::Embeddings, part: None, model: "m", body: &body, text: "", created: 1, unique: 7, azure: true };
            let length = embeddings(&question).unwrap().len();
            assert!(length < embeddings_length(&body) + 256, "{length}");
        }
    }
}
