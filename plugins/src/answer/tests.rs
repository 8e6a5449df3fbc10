use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::json::Tree;

const APIS: [Api; 5] = [Api::Chat, Api::Completions, Api::Responses, Api::Messages, Api::Embeddings];

/// The messages of an answer, whose text stays until the end of the tests.
fn text(api: Api, answer: &[u8], streamed: bool) -> Vec<Message<'static>> {
    let Some(plain) = assembled(api, answer, streamed) else { return Vec::new() };
    let Some(tree) = Tree::parse(plain.into_owned().leak()) else { return Vec::new() };
    super::text(api, Box::leak(Box::new(tree))).unwrap_or_default()
}

fn stream_of(events: &[Value]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for event in events {
        if let Some(kind) = event["type"].as_str() {
            bytes.extend(format!("event: {kind}\n").into_bytes());
        }
        bytes.extend(format!("data: {event}\n\n").into_bytes());
    }
    bytes
}

fn with_done(events: &[Value]) -> Vec<u8> {
    [stream_of(events), b"data: [DONE]\n\n".to_vec()].concat()
}

fn plain(api: Api, events: &[u8]) -> Option<Value> {
    to_plain(api, events).map(|bytes| serde_json::from_slice(&bytes).unwrap())
}

fn streamed(api: Api, answer: &Value, include_usage: bool) -> Option<Bytes> {
    to_stream(api, answer.to_string().as_bytes(), include_usage)
}

fn chunk(choices: Value) -> Value {
    json!({"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "gpt", "system_fingerprint": null, "choices": choices, "obfuscation": "xx"})
}

fn delta(index: u64, delta: Value, finish: Option<&str>) -> Value {
    chunk(json!([{"index": index, "delta": delta, "finish_reason": finish, "logprobs": null}]))
}

/// What Azure's asynchronous filter sends between and after the others.
fn late_filter(filtered: bool, severity: &str) -> Value {
    json!({"id": "", "object": "", "created": 0, "model": "", "choices": [{
        "index": 0, "finish_reason": null, "content_filter_results": {"hate": {"filtered": filtered, "severity": severity}},
        "content_filter_offsets": {"check_offset": 4, "start_offset": 0, "end_offset": 9}}]})
}

fn azure() -> Vec<Value> {
    let mut counts = chunk(json!([]));
    counts["usage"] = json!({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7});
    counts["service_tier"] = json!("default");
    vec![
        json!({"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": [
            {"prompt_index": 0, "content_filter_results": {"hate": {"filtered": false, "severity": "safe"}}}]}),
        delta(0, json!({"role": "assistant", "content": "", "refusal": null}), None),
        delta(0, json!({"content": "He"}), None),
        late_filter(false, "low"),
        delta(0, json!({"content": "llo"}), None),
        delta(0, json!({}), Some("stop")),
        late_filter(false, "safe"),
        counts,
    ]
}

#[test]
fn an_azure_chat_is_assembled() {
    let expected = json!({
        "id": "c1", "object": "chat.completion", "created": 7, "model": "gpt", "system_fingerprint": null, "service_tier": "default",
        "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {"hate": {"filtered": false, "severity": "safe"}}}],
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello", "refusal": null}, "logprobs": null, "finish_reason": "stop",
            "content_filter_results": {"hate": {"filtered": false, "severity": "low"}}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}});
    assert_eq!(plain(Api::Chat, &with_done(&azure())), Some(expected.clone()));
    let again = streamed(Api::Chat, &expected, true).unwrap();
    assert_eq!(plain(Api::Chat, &again), Some(expected));
    assert!(again.starts_with(br#"data: {"choices":[],"created":0"#));
}

#[test]
fn calls_refusals_reasoning_and_logprobs_are_assembled() {
    let piece = |token: &str| json!([{"index": 1, "delta": {"content": token}, "finish_reason": null, "logprobs": {"content": [{"token": token, "logprob": -0.5}], "refusal": null}}]);
    let events = [
        delta(0, json!({"role": "assistant", "content": ""}), None),
        delta(0, json!({"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]}), None),
        delta(0, json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"x\":"}}]}), None),
        delta(0, json!({"tool_calls": [{"index": 1, "id": "b", "type": "custom", "custom": {"name": "g", "input": "p"}}]}), None),
        delta(0, json!({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}, {"index": 1, "custom": {"input": "q"}}]}), None),
        chunk(piece("a")),
        chunk(piece("b")),
        delta(2, json!({"refusal": "n"}), None),
        delta(2, json!({"refusal": "o", "reasoning_content": "hm"}), Some("stop")),
        delta(1, json!({"function_call": {"name": "h", "arguments": "{"}}), None),
        delta(1, json!({"function_call": {"arguments": "}"}}), Some("function_call")),
        delta(0, json!({}), Some("tool_calls")),
    ];
    let answer = plain(Api::Chat, &with_done(&events)).unwrap();
    assert_eq!(
        answer["choices"][0]["message"],
        json!({"role": "assistant", "content": null, "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
            {"id": "b", "type": "custom", "custom": {"name": "g", "input": "pq"}}]})
    );
    assert_eq!(
        answer["choices"][1]["logprobs"],
        json!({"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -0.5}], "refusal": null})
    );
    assert_eq!(answer["choices"][2]["message"], json!({"role": "assistant", "content": null, "refusal": "no", "reasoning_content": "hm"}));
    assert!(facts(Api::Chat, &with_done(&events), true).unwrap().calls_tools);
    let messages = text(Api::Chat, answer.to_string().as_bytes(), false);
    assert_eq!(messages[0].calls, [("f", "{\"x\":1}"), ("g", "pq")].map(|(n, a)| Call { name: n.into(), arguments: a.into() }));
    assert_eq!((&*messages[1].text, &*messages[1].calls[0].name), ("ab", "h"));
    assert_eq!(messages[2].text, "no");
}

#[test]
fn what_cannot_be_joined_is_not_assembled() {
    let call = |id: &str, index: Option<u64>| {
        let mut call = json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
        if let Some(index) = index {
            call["index"] = index.into();
        }
        delta(0, json!({"tool_calls": [call]}), None)
    };
    let end = delta(0, json!({}), Some("stop"));
    assert!(plain(Api::Chat, &with_done(&[call("a", Some(0)), call("b", Some(0)), end.clone()])).is_none());
    let unnumbered = plain(Api::Chat, &with_done(&[call("a", None), call("b", None), end.clone()])).unwrap();
    assert_eq!(unnumbered["choices"][0]["message"]["tool_calls"].as_array().unwrap().len(), 2);
    let audio = with_done(&[delta(0, json!({"audio": {"id": "x", "data": "AA", "transcript": "hi"}}), None), end.clone()]);
    assert!(plain(Api::Chat, &audio).is_none());
    assert_eq!(text(Api::Chat, &audio, true)[0].text, "hi");
    let broken = [stream_of(&[delta(0, json!({"content": "a"}), None)]), b"data: {\n\n".to_vec(), with_done(&[end])].concat();
    assert!(plain(Api::Chat, &broken).is_none());
}

#[test]
fn an_error_inside_a_stream_is_not_complete() {
    let error = json!({"error": {"message": "x", "type": "server_error", "param": null, "code": null}});
    let events = with_done(&[delta(0, json!({"content": "Hi"}), Some("stop")), error.clone()]);
    assert!(plain(Api::Chat, &events).is_none());
    assert!(!facts(Api::Chat, &events, true).unwrap().complete);
    assert_eq!(text(Api::Chat, &events, true)[0].text, "Hi");
    for api in APIS {
        assert_eq!(facts(api, error.to_string().as_bytes(), false), Some(AnswerFacts::default()), "{api}");
        assert!(streamed(api, &error, false).is_none());
    }
    let filter = json!({"error": {"code": "content_filter", "message": "x"}});
    assert!(facts(Api::Chat, filter.to_string().as_bytes(), false).unwrap().filtered);
    let mut overloaded = anthropic();
    overloaded.push(json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}));
    assert!(plain(Api::Messages, &stream_of(&overloaded)).is_none());
    let failed = [
        json!({"type": "response.created", "response": {"id": "r", "status": "in_progress", "output": []}}),
        json!({"type": "error", "sequence_number": 1, "error": {"code": "too_many_requests"}}),
        json!({"type": "response.failed", "response": {"id": "r", "status": "failed", "error": null, "output": []}}),
    ];
    assert!(plain(Api::Responses, &stream_of(&failed)).is_none());
    assert!(!facts(Api::Responses, &stream_of(&failed), true).unwrap().complete);
}

#[test]
fn a_completion_is_assembled() {
    let chunk = |text: &str, finish: Option<&str>| {
        json!({"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": [
        {"index": 0, "text": text, "logprobs": {"tokens": [text], "token_logprobs": [-1.0]}, "finish_reason": finish}]})
    };
    let events = with_done(&[chunk("a", None), chunk("b", Some("length"))]);
    let expected = json!({"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": [
        {"index": 0, "text": "ab", "logprobs": {"tokens": ["a", "b"], "token_logprobs": [-1.0, -1.0]}, "finish_reason": "length"}]});
    assert_eq!(plain(Api::Completions, &events), Some(expected.clone()));
    assert_eq!(plain(Api::Completions, &streamed(Api::Completions, &expected, false).unwrap()), Some(expected.clone()));
    assert!(streamed(Api::Completions, &expected, true).is_none(), "no usage is known");
    assert_eq!(
        text(Api::Completions, &events, true),
        [Message { role: "assistant".into(), text: "ab".into(), calls: vec![], finish: Some("length".into()) }]
    );
}

fn anthropic() -> Vec<Value> {
    let block = |index: u64, block: Value, deltas: &[Value]| {
        let mut events = vec![json!({"type": "content_block_start", "index": index, "content_block": block})];
        events.extend(deltas.iter().map(|delta| json!({"type": "content_block_delta", "index": index, "delta": delta})));
        events.push(json!({"type": "content_block_stop", "index": index}));
        events
    };
    let mut events = vec![
        json!({"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant", "model": "claude", "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 5, "cache_read_input_tokens": 2, "output_tokens": 1}}}),
        json!({"type": "ping"}),
    ];
    events.extend(block(
        0,
        json!({"type": "thinking", "thinking": "", "signature": ""}),
        &[
            json!({"type": "thinking_delta", "thinking": "h"}),
            json!({"type": "thinking_delta", "thinking": "m"}),
            json!({"type": "signature_delta", "signature": "s"}),
        ],
    ));
    events.extend(block(
        1,
        json!({"type": "text", "text": "", "citations": []}),
        &[
            json!({"type": "text_delta", "text": "Hé"}),
            json!({"type": "citations_delta", "citation": {"type": "char_location", "cited_text": "x"}}),
            json!({"type": "text_delta", "text": "llo"}),
        ],
    ));
    events.extend(block(
        2,
        json!({"type": "tool_use", "id": "t", "name": "f", "input": {}}),
        &[
            json!({"type": "input_json_delta", "partial_json": ""}),
            json!({"type": "input_json_delta", "partial_json": "{\"x\":"}),
            json!({"type": "input_json_delta", "partial_json": "1}"}),
        ],
    ));
    events.extend(block(3, json!({"type": "tool_use", "id": "u", "name": "g", "input": {}}), &[]));
    events.push(json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null}, "usage": {"output_tokens": 9, "input_tokens": null}}));
    events.push(json!({"type": "message_stop"}));
    events
}

#[test]
fn an_anthropic_message_is_assembled() {
    let expected = json!({"id": "m", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "tool_use", "stop_sequence": null,
        "content": [{"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "Héllo", "citations": [{"type": "char_location", "cited_text": "x"}]},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}}, {"type": "tool_use", "id": "u", "name": "g", "input": {}}],
        "usage": {"input_tokens": 5, "cache_read_input_tokens": 2, "output_tokens": 9}});
    let events = stream_of(&anthropic());
    assert_eq!(plain(Api::Messages, &events), Some(expected.clone()));
    assert_eq!(plain(Api::Messages, &streamed(Api::Messages, &expected, false).unwrap()), Some(expected.clone()));
    let known = AnswerFacts { complete: true, calls_tools: true, filtered: false };
    assert_eq!(facts(Api::Messages, &events, true), Some(known));
    assert_eq!(facts(Api::Messages, expected.to_string().as_bytes(), false), Some(known));
    let said = &text(Api::Messages, &events, true)[0];
    assert_eq!((&*said.text, &*said.calls[0].arguments, &*said.calls[1].arguments), ("Héllo", "{\"x\":1}", "{}"));
    let cut = text(Api::Messages, &stream_of(&anthropic()[..15]), true);
    assert_eq!(cut[0].calls[0].arguments, "{\"x\":", "the arguments as far as they came");
    let refused = json!({"content": [], "stop_reason": "refusal"});
    assert!(facts(Api::Messages, refused.to_string().as_bytes(), false).unwrap().filtered);
}

fn response(output: Value) -> Value {
    json!({"id": "resp_1", "object": "response", "created_at": 5, "completed_at": 6, "status": "completed", "error": null, "incomplete_details": null,
        "model": "gpt", "output": output, "usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}})
}

fn said(text: &str) -> Value {
    json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [
        {"type": "output_text", "text": text, "annotations": [{"type": "url_citation", "url": "u"}], "logprobs": []}, {"type": "refusal", "refusal": "no"}]})
}

#[test]
fn a_response_is_streamed_piece_by_piece() {
    let answer = response(json!([
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
        said("Héllo"),
        {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{\"x\":1}", "status": "completed"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"}]));
    let events = streamed(Api::Responses, &answer, false).unwrap();
    assert_eq!(plain(Api::Responses, &events), Some(answer.clone()));
    let lines = String::from_utf8(events.to_vec()).unwrap();
    let names: Vec<&str> = lines.lines().filter_map(|line| line.strip_prefix("event: response.")).collect();
    assert_eq!(names[..4], ["created", "in_progress", "output_item.added", "reasoning_summary_part.added"]);
    assert_eq!(
        names[8..14],
        [
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.annotation.added",
            "output_text.done",
            "content_part.done"
        ]
    );
    assert_eq!(names.last(), Some(&"completed"));
    let numbers: Vec<u64> = lines
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str::<Value>(data).unwrap()["sequence_number"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (0..names.len() as u64).collect::<Vec<_>>());
    let messages = text(Api::Responses, &events, true);
    assert_eq!((&*messages[0].text, &*messages[0].calls[0].name), ("Héllono", "f"));
    let end = lines.find("event: response.completed").unwrap();
    let cut = text(Api::Responses, &lines.as_bytes()[..end], true);
    assert_eq!((&cut[0].text, &cut[0].calls, &cut[0].finish), (&messages[0].text, &messages[0].calls, &None));
    assert!(plain(Api::Responses, &lines.as_bytes()[..end]).is_none());
}

#[test]
fn pieces_of_a_response_tell_the_text_so_far() {
    let events = [
        json!({"type": "response.created", "response": {"id": "r", "status": "in_progress", "output": []}}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "role": "assistant", "content": []}}),
        json!({"type": "response.content_part.added", "output_index": 0, "content_index": 0, "part": {"type": "output_text", "text": ""}}),
        json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "He"}),
        json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "l"}),
        json!({"type": "response.output_item.added", "output_index": 1, "item": {"type": "function_call", "name": "f", "arguments": ""}}),
        json!({"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "{"}),
    ];
    let call = Call { name: "f".into(), arguments: "{".into() };
    assert_eq!(
        text(Api::Responses, &stream_of(&events), true),
        [Message { role: "assistant".into(), text: "Hel".into(), calls: vec![call], finish: None }]
    );
}

#[test]
fn facts_of_responses() {
    let of = |answer: &Value| facts(Api::Responses, answer.to_string().as_bytes(), false).unwrap();
    assert_eq!(of(&response(json!([said("x")]))), AnswerFacts { complete: true, ..AnswerFacts::default() });
    assert!(of(&response(json!([{"type": "web_search_call"}]))).calls_tools);
    let mut incomplete = response(json!([said("x")]));
    incomplete["status"] = "incomplete".into();
    incomplete["incomplete_details"] = json!({"reason": "content_filter"});
    assert_eq!(of(&incomplete), AnswerFacts { filtered: true, ..AnswerFacts::default() });
    let events = streamed(Api::Responses, &incomplete, false).unwrap();
    assert_eq!(facts(Api::Responses, &events, true), Some(of(&incomplete)));
    assert_eq!(plain(Api::Responses, &events), Some(incomplete));
}

#[test]
fn facts_of_chats_and_embeddings() {
    let known = AnswerFacts { complete: true, ..AnswerFacts::default() };
    assert_eq!(facts(Api::Chat, &with_done(&azure()), true), Some(known));
    let mut late = azure();
    late.insert(4, late_filter(true, "high"));
    assert!(facts(Api::Chat, &with_done(&late), true).unwrap().filtered, "a later clean window hides nothing");
    let prompt = json!({"choices": [{"finish_reason": "stop"}], "prompt_filter_results": [{"content_filter_results": {"jailbreak": {"filtered": true}}}]});
    assert!(facts(Api::Chat, prompt.to_string().as_bytes(), false).unwrap().filtered);
    let stopped = json!({"choices": [{"finish_reason": "stop"}, {"finish_reason": "content_filter"}]});
    assert!(facts(Api::Completions, stopped.to_string().as_bytes(), false).unwrap().filtered);
    let embedded = |data: Value| facts(Api::Embeddings, json!({"data": data}).to_string().as_bytes(), false).unwrap().complete;
    assert!(embedded(json!([{"embedding": [0.5]}])) && !embedded(json!([])));
    assert!(
        facts(Api::Speech, b"{}", false).is_none() && facts(Api::Chat, b"[]", false).is_none() && facts(Api::Chat, b"", true).is_none()
    );
}

#[test]
fn the_usage_chunk_is_kept_or_taken_out() {
    let (with, without) = (with_done(&azure()), with_done(&azure()[..7]));
    assert_eq!(with_usage(Api::Chat, &with, true).unwrap(), with);
    assert_eq!(with_usage(Api::Chat, &with, false).unwrap(), without);
    assert_eq!(with_usage(Api::Chat, &without, false).unwrap(), without);
    assert_eq!(with_usage(Api::Chat, &without, true), None);
    assert_eq!(with_usage(Api::Chat, b"data: {\"choices\":[],\"usage\":{}}\n\n: tail", false).unwrap(), &b": tail"[..]);
    assert_eq!(with_usage(Api::Messages, b"x", true).unwrap(), &b"x"[..]);
}

#[test]
fn no_prefix_of_a_stream_is_whole() {
    let chat: Value = plain(Api::Chat, &with_done(&azure())).unwrap();
    let message = plain(Api::Messages, &stream_of(&anthropic())).unwrap();
    for (api, answer) in [(Api::Chat, chat), (Api::Messages, message), (Api::Responses, response(json!([said("x")])))] {
        let events = streamed(api, &answer, api == Api::Chat).unwrap();
        for end in 0..events.len() {
            let cut = &events[..end];
            assert!(to_plain(api, cut).is_none(), "{api} {end}");
            assert!(facts(api, cut, true).is_none_or(|facts| !facts.complete), "{api} {end}");
            let _ = text(api, cut, true);
        }
    }
}

#[test]
fn every_line_ending_is_read() {
    for ending in ["\r\n", "\r"] {
        let events = String::from_utf8(with_done(&azure())).unwrap().replace('\n', ending);
        assert!(to_plain(Api::Chat, events.as_bytes()).is_some(), "{ending:?}");
    }
}

fn words() -> impl Strategy<Value = String> {
    "\\PC{0,12}|[a-zé😀\n\"\\\\]{1,8}"
}

fn chat_choice() -> impl Strategy<Value = Value> {
    let call = (words(), words()).prop_map(
        |(id, text)| json!({"id": format!("i{id}"), "type": "function", "function": {"name": format!("f{id}"), "arguments": text}}),
    );
    let refusal = proptest::option::of("\\PC{1,6}");
    (proptest::option::of(words()), refusal, proptest::collection::vec(call, 0..3), any::<bool>(), any::<bool>()).prop_map(
        |(content, refusal, calls, logprobs, filters)| {
            let instead = refusal.is_some() || !calls.is_empty();
            let content = content.filter(|content| !instead || !content.is_empty());
            let mut message = json!({"role": "assistant", "content": content, "refusal": refusal});
            if !calls.is_empty() {
                message["tool_calls"] = calls.into();
            }
            let logprobs = logprobs.then(|| json!({"content": [{"token": "a", "logprob": -0.25}], "refusal": null}));
            let mut choice = json!({"message": message, "finish_reason": "stop", "logprobs": logprobs});
            if filters {
                choice["content_filter_results"] = json!({"hate": {"filtered": false, "severity": "safe"}});
            }
            choice
        },
    )
}

fn text_choice() -> impl Strategy<Value = Value> {
    words().prop_map(|text| json!({"text": text, "logprobs": null, "finish_reason": "length"}))
}

fn answer_of(choices: Vec<Value>, usage: bool, object: &str) -> Value {
    let choices = choices.into_iter().enumerate().map(|(index, mut choice)| {
        choice["index"] = index.into();
        choice
    });
    let mut answer = json!({"id": "c", "object": object, "created": 3, "model": "m", "system_fingerprint": null, "choices": choices.collect::<Vec<_>>()});
    if usage {
        answer["usage"] = json!({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3});
        answer["prompt_filter_results"] = json!([{"prompt_index": 0, "content_filter_results": {}}]);
    }
    answer
}

fn block() -> impl Strategy<Value = Value> {
    prop_oneof![
        words().prop_map(|text| json!({"type": "text", "text": text})),
        words().prop_map(|text| json!({"type": "text", "text": text, "citations": [{"cited_text": text}]})),
        (words(), words()).prop_map(|(text, signature)| json!({"type": "thinking", "thinking": text, "signature": signature})),
        words().prop_map(|text| json!({"type": "redacted_thinking", "data": text})),
        (words(), words()).prop_map(|(key, value)| json!({"type": "tool_use", "id": "t", "name": "f", "input": {key: [value, 1, null]}})),
    ]
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf =
        prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), (0u64..3).prop_map(Value::from), words().prop_map(Value::from)];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let key = "id|type|delta|index|choices|message|content|text|tool_calls|function|function_call|arguments|usage|response|output|item|part|error|input|logprobs|status|stop_reason|finish_reason|output_tokens|content_block|output_index";
        prop_oneof![proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from), proptest::collection::btree_map(key, inner, 0..5).prop_map(|map| json!(map))]
    })
}

fn read_all(bytes: &[u8]) {
    for api in APIS {
        let _ = (to_plain(api, bytes), to_stream(api, bytes, false), to_stream(api, bytes, true), with_usage(api, bytes, false));
        for streamed in [false, true] {
            let _ = (facts(api, bytes, streamed), text(api, bytes, streamed));
        }
    }
}

proptest! {
    #[test]
    fn a_chat_survives_the_way_there_and_back(choices in proptest::collection::vec(chat_choice(), 1..4), usage: bool) {
        let answer = answer_of(choices, usage, "chat.completion");
        let events = streamed(Api::Chat, &answer, usage).unwrap();
        prop_assert_eq!(plain(Api::Chat, &events), Some(answer.clone()));
        prop_assert_eq!(text(Api::Chat, &events, true), text(Api::Chat, answer.to_string().as_bytes(), false));
        prop_assert_eq!(facts(Api::Chat, &events, true), facts(Api::Chat, answer.to_string().as_bytes(), false));
    }

    #[test]
    fn a_completion_survives_the_way_there_and_back(choices in proptest::collection::vec(text_choice(), 1..4), usage: bool) {
        let answer = answer_of(choices, usage, "text_completion");
        prop_assert_eq!(plain(Api::Completions, &streamed(Api::Completions, &answer, usage).unwrap()), Some(answer));
    }

    #[test]
    fn a_message_survives_the_way_there_and_back(content in proptest::collection::vec(block(), 0..4), output: u32) {
        let answer = json!({"id": "m", "type": "message", "role": "assistant", "model": "c", "content": content, "stop_reason": "end_turn",
            "stop_sequence": null, "usage": {"input_tokens": 3, "output_tokens": output}});
        prop_assert_eq!(plain(Api::Messages, &streamed(Api::Messages, &answer, false).unwrap()), Some(answer));
    }

    #[test]
    fn a_response_survives_the_way_there_and_back(texts in proptest::collection::vec(words(), 0..4)) {
        let answer = response(texts.iter().map(|text| said(text)).collect());
        prop_assert_eq!(plain(Api::Responses, &streamed(Api::Responses, &answer, true).unwrap()), Some(answer));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        read_all(&bytes);
    }

    #[test]
    fn arbitrary_json_never_panics(values in proptest::collection::vec((any_json(), 0usize..12), 1..6)) {
        const KINDS: [&str; 12] = ["", "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "error",
            "response.created", "response.output_item.added", "response.content_part.added", "response.output_text.delta", "response.completed"];
        let mut bytes = Vec::new();
        for (value, kind) in values {
            read_all(value.to_string().as_bytes());
            bytes.extend(format!("event: {}\ndata: {value}\n\n", KINDS[kind]).into_bytes());
        }
        read_all(&bytes);
        // Known beginnings, followed by anything.
        read_all(&[stream_of(&azure()), stream_of(&anthropic()), bytes].concat());
    }
}
