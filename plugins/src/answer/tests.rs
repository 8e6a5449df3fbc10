use proptest::prelude::*;
use serde_json::json;

use super::*;

fn stream(events: &[Value]) -> Vec<u8> {
    let text: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    (text + "data: [DONE]\n\n").into_bytes()
}

fn value(bytes: Option<Bytes>) -> Value {
    serde_json::from_slice(&bytes.unwrap()).unwrap()
}

/// A chat as Azure streams it: the filter first, then the answer, a late word of the filter, and the usage.
fn azure() -> Vec<Value> {
    let chunk = |choice: Value| json!({ "id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "m", "system_fingerprint": "f", "choices": [choice] });
    let safe = json!({ "hate": { "filtered": false, "severity": "safe" } });
    vec![
        json!({ "id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": [{ "prompt_index": 0, "content_filter_results": safe }] }),
        chunk(json!({ "index": 0, "delta": { "role": "assistant", "content": "" }, "finish_reason": null })),
        chunk(json!({ "index": 0, "delta": { "content": "Hel" }, "finish_reason": null, "logprobs": { "content": [{ "token": "Hel" }] } })),
        chunk(json!({ "index": 0, "delta": { "content": "lo" }, "finish_reason": null, "logprobs": { "content": [{ "token": "lo" }] } })),
        chunk(json!({ "index": 0, "delta": {}, "finish_reason": "stop" })),
        json!({ "id": "", "object": "", "created": 0, "model": "", "choices": [{ "index": 0, "finish_reason": null, "content_filter_results": safe }] }),
        json!({ "id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "m", "choices": [], "usage": { "prompt_tokens": 3, "completion_tokens": 2 } }),
    ]
}

#[test]
fn a_chat_is_put_together() {
    let plain = value(to_plain(Api::Chat, &stream(&azure())));
    assert_eq!(
        (&plain["id"], &plain["object"], &plain["created"], &plain["model"]),
        (&json!("c1"), &json!("chat.completion"), &json!(5), &json!("m"))
    );
    let choice = &plain["choices"][0];
    assert_eq!((&choice["message"]["content"], &choice["finish_reason"]), (&json!("Hello"), &json!("stop")));
    assert_eq!(choice["logprobs"]["content"].as_array().unwrap().len(), 2);
    assert_eq!(choice["content_filter_results"]["hate"]["severity"], "safe");
    assert_eq!((&plain["usage"]["prompt_tokens"], &plain["prompt_filter_results"][0]["prompt_index"]), (&json!(3), &json!(0)));
}

#[test]
fn calls_are_put_together_by_their_index() {
    let call = |piece: Value| json!({ "id": "c", "choices": [{ "index": 0, "delta": { "tool_calls": [piece] }, "finish_reason": null }] });
    let events = [
        call(json!({ "index": 0, "id": "t1", "type": "function", "function": { "name": "f", "arguments": "" } })),
        call(json!({ "index": 0, "function": { "arguments": "{\"a\":" } })),
        call(json!({ "index": 1, "id": "t2", "type": "function", "function": { "name": "g", "arguments": "{}" } })),
        call(json!({ "index": 0, "function": { "arguments": "1}" } })),
        json!({ "id": "c", "choices": [{ "index": 0, "delta": {}, "finish_reason": "tool_calls" }] }),
    ];
    let plain = value(to_plain(Api::Chat, &stream(&events)));
    let calls = json!([
        { "id": "t1", "type": "function", "function": { "name": "f", "arguments": "{\"a\":1}" } },
        { "id": "t2", "type": "function", "function": { "name": "g", "arguments": "{}" } },
    ]);
    assert_eq!((&plain["choices"][0]["message"]["tool_calls"], &plain["choices"][0]["message"]["content"]), (&calls, &Value::Null));
    assert!(facts(Api::Chat, &stream(&events), true).unwrap().calls_tools);
    // And the other way round.
    assert_eq!(
        value(to_plain(Api::Chat, &to_stream(Api::Chat, plain.to_string().as_bytes(), false).unwrap()))["choices"],
        plain["choices"]
    );
}

#[test]
fn the_usage_is_told_to_those_who_ask() {
    let with = Bytes::from(stream(&azure()));
    let without = with_usage(Api::Chat, &with, false).unwrap();
    assert_eq!(with_usage(Api::Chat, &with, true).as_ref(), Some(&with));
    assert!(!String::from_utf8_lossy(&without).contains("prompt_tokens") && without.ends_with(b"data: [DONE]\n\n"));
    assert!(String::from_utf8_lossy(&without).contains("prompt_filter_results"));
    assert_eq!(with_usage(Api::Chat, &without, true), None);
    assert_eq!(with_usage(Api::Chat, &without, false).as_ref(), Some(&without));
    let answer =
        json!({ "id": "c", "choices": [{ "index": 0, "message": { "role": "assistant", "content": "x" }, "finish_reason": "stop" }] });
    assert_eq!(to_stream(Api::Chat, answer.to_string().as_bytes(), true), None, "nothing is made up");
}

fn message() -> Value {
    json!({
        "id": "m1", "type": "message", "role": "assistant", "model": "c", "stop_reason": "tool_use", "stop_sequence": null,
        "content": [
            { "type": "thinking", "thinking": "hm", "signature": "s" },
            { "type": "text", "text": "Hello" },
            { "type": "tool_use", "id": "t", "name": "f", "input": { "a": [1, "é"] } },
        ],
        "usage": { "input_tokens": 5, "output_tokens": 7 },
    })
}

#[test]
fn messages_there_and_back() {
    let stream = to_stream(Api::Messages, message().to_string().as_bytes(), false).unwrap();
    let text = String::from_utf8(stream.to_vec()).unwrap();
    assert!(text.starts_with("event: message_start\n") && text.ends_with("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"));
    assert_eq!(value(to_plain(Api::Messages, &stream)), message());
    let said = super::text(Api::Messages, &stream, true);
    assert_eq!((said[0].text.as_str(), said[0].calls[0].arguments.as_str()), ("hm\nHello", "{\"a\":[1,\"é\"]}"));
    assert_eq!(facts(Api::Messages, &stream, true), Some(Facts { complete: true, calls_tools: true, filtered: false }));
}

fn response() -> Value {
    json!({
        "id": "r1", "object": "response", "created_at": 5, "status": "completed", "model": "m", "error": null, "incomplete_details": null,
        "output": [
            { "id": "rs", "type": "reasoning", "summary": [{ "type": "summary_text", "text": "hm" }] },
            { "id": "ms", "type": "message", "role": "assistant", "status": "completed", "content": [{ "type": "output_text", "text": "Hello", "annotations": [] }] },
        ],
        "usage": { "input_tokens": 5, "output_tokens": 7, "total_tokens": 12 },
    })
}

#[test]
fn responses_there_and_back() {
    let stream = to_stream(Api::Responses, response().to_string().as_bytes(), false).unwrap();
    assert_eq!(value(to_plain(Api::Responses, &stream)), response());
    let events = Events::read(&stream);
    let numbers: Vec<u64> = events.data.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
    assert_eq!(events.of("response.output_text.delta").next().unwrap()["delta"], "Hello");
    assert_eq!(super::text(Api::Responses, &stream, true)[0].text, "hm\nHello");
    // Of one that was cut, what came.
    let half = &stream[..stream.windows(20).position(|w| w == b"response.output_text".as_slice()).unwrap() + 400];
    assert_eq!(super::text(Api::Responses, half, true)[0].text, "Hello");
    assert_eq!(to_plain(Api::Responses, half), None);
}

#[test]
fn facts_of_every_kind() {
    let chat = |choice: Value| facts(Api::Chat, json!({ "choices": [choice] }).to_string().as_bytes(), false).unwrap();
    let said = json!({ "role": "assistant", "content": "x" });
    let good = Facts { complete: true, calls_tools: false, filtered: false };
    assert_eq!(chat(json!({ "message": said, "finish_reason": "stop" })), good);
    assert!(!chat(json!({ "message": said, "finish_reason": null })).complete);
    assert!(chat(json!({ "message": said, "finish_reason": "content_filter" })).filtered);
    let marks = |name: &str| json!({ "jailbreak": { name: true } });
    assert!(chat(json!({ "message": said, "finish_reason": "stop", "content_filter_results": marks("filtered") })).filtered);
    assert!(chat(json!({ "message": said, "finish_reason": "stop", "content_filter_results": marks("detected") })).filtered);
    assert!(chat(json!({ "message": { "function_call": { "name": "f" } }, "finish_reason": "stop" })).calls_tools);
    assert_eq!(facts(Api::Chat, b"{\"error\":{}}", false), Some(Facts::default()));
    assert_eq!(facts(Api::Chat, b"[]", false), None);
    assert_eq!(facts(Api::Embeddings, b"{\"data\":[{}]}", false), Some(good));
    let mut searched = response();
    searched["output"][0]["type"] = json!("web_search_call");
    assert!(facts(Api::Responses, searched.to_string().as_bytes(), false).unwrap().calls_tools);
    let whole = stream(&azure());
    assert_eq!(facts(Api::Chat, &whole, true), Some(good));
    assert!(!facts(Api::Chat, &whole[..whole.len() - 14], true).unwrap().complete, "no [DONE]");
    let mut broken = azure();
    broken.push(json!({ "error": { "message": "x" } }));
    assert!(!facts(Api::Chat, &stream(&broken), true).unwrap().complete);
}

fn any_choice(index: usize) -> impl Strategy<Value = Value> {
    let text = "[ -~\u{e9}\u{1f600}\n]{0,20}";
    (proptest::option::of(text), proptest::collection::vec((text, text), 0..3), "stop|length|tool_calls").prop_map(
        move |(content, calls, finish)| {
            let mut message = json!({ "role": "assistant", "content": content.filter(|text| !text.is_empty()) });
            if !calls.is_empty() {
                let call =
                    |(name, arguments)| json!({ "id": "t", "type": "function", "function": { "name": name, "arguments": arguments } });
                message["tool_calls"] = calls.into_iter().map(call).collect();
            }
            json!({ "index": index, "message": message, "finish_reason": finish, "logprobs": null })
        },
    )
}

proptest! {
    #[test]
    fn chats_there_and_back(one in any_choice(0), other in proptest::option::of(any_choice(1)), usage in any::<bool>()) {
        let mut answer = json!({ "id": "c", "object": "chat.completion", "created": 1, "model": "m" });
        answer["choices"] = std::iter::once(one).chain(other).collect();
        if usage {
            answer["usage"] = json!({ "prompt_tokens": 1 });
        }
        let stream = to_stream(Api::Chat, answer.to_string().as_bytes(), usage).unwrap();
        prop_assert_eq!(value(to_plain(Api::Chat, &stream)), answer);
    }

    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..60), cut in 0usize..2000) {
        let mut texts = vec![bytes];
        for whole in [stream(&azure()), to_stream(Api::Messages, message().to_string().as_bytes(), false).unwrap().to_vec()] {
            texts.push(whole[..cut.min(whole.len())].to_vec());
        }
        for text in texts {
            for api in Api::ALL {
                let _ = (to_plain(api, &text), to_stream(api, &text, true), with_usage(api, &text.clone().into(), false));
                let _ = (facts(api, &text, true), facts(api, &text, false), super::text(api, &text, true), super::text(api, &text, false));
            }
        }
    }
}
