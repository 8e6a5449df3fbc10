use super::*;
use crate::retry::Fault;
use crate::service_tier::ServiceTier;

fn watch(api: Api, events: &[&str]) -> StreamState {
    let mut watch = StreamWatch::new(api, 1, false);
    for event in events {
        let _ = watch.feed(Bytes::from(format!("{event}\n\n")));
    }
    watch.state().clone()
}

#[test]
fn openings_are_no_content() {
    let chat = [
        ": ping",
        r#"data: {"choices":[],"prompt_filter_results":[{"prompt_index":0}]}"#,
        r#"data: {"choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"finish_reason":null}]}"#,
        r#"data: {"choices":[{"index":0,"content_filter_results":{},"content_filter_offsets":{"check_offset":4}}]}"#,
    ];
    assert_eq!(watch(Api::Chat, &chat), StreamState::default());
    let responses =
        ["response.created", "response.queued", "response.in_progress", "response.output_item.added", "response.content_part.added"]
            .map(|kind| format!("event: {kind}\ndata: {{\"type\":\"{kind}\",\"sequence_number\":3}}"));
    let state = watch(Api::Responses, &responses.each_ref().map(String::as_str));
    assert!(!state.content && state.fault.is_none());
    assert_eq!(state.sequence, Some(3));
    let messages =
        [r#"data: {"type":"message_start","message":{}}"#, r#"data: {"type":"ping"}"#, r#"data: {"type":"content_block_start","index":0}"#];
    assert_eq!(watch(Api::Messages, &messages), StreamState::default());
}

#[test]
fn what_is_no_json_is_left_out() {
    for (api, good) in
        [(Api::Chat, r#"{"choices":[]}"#), (Api::Responses, r#"{"type":"response.created"}"#), (Api::Messages, r#"{"type":"ping"}"#)]
    {
        for bad in ["{\"choices\":[{\"delta\":", "this is no JSON", "7"] {
            let mut watch = StreamWatch::new(api, 1, false);
            let passed = watch.feed(Bytes::from(format!("data: {good}\n\ndata: {bad}\n\n: comment\n\ndata:\n\ndata: {good}\n\n")));
            assert_eq!(passed, format!("data: {good}\n\n: comment\n\ndata:\n\ndata: {good}\n\n"), "{api} {bad}");
            assert_eq!(watch.state().malformed, 1);
        }
    }
}

#[test]
fn tools_that_a_server_runs_commit() {
    for kind in [
        "mcp_call.in_progress",
        "mcp_list_tools.in_progress",
        "web_search_call.searching",
        "code_interpreter_call.interpreting",
        "image_generation_call.generating",
        "output_text.annotation.added",
        "shell_call_command.added",
    ] {
        assert!(watch(Api::Responses, &[&format!(r#"data: {{"type":"response.{kind}"}}"#)]).content, "{kind}");
    }
    assert!(!watch(Api::Responses, &[r#"data: {"type":"keepalive","sequence_number":3}"#]).content);
}

#[test]
fn output_commits() {
    for delta in [
        r#"{"content":"a"}"#,
        r#"{"refusal":"no"}"#,
        r#"{"tool_calls":[{"index":0}]}"#,
        r#"{"audio":{"id":"x"}}"#,
        r#"{"reasoning_content":"hm"}"#,
    ] {
        let event = format!(r#"data: {{"choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}"#);
        assert!(watch(Api::Chat, &[&event]).content, "{delta}");
    }
    assert!(watch(Api::Completions, &[r#"data: {"choices":[{"text":"a","index":0}]}"#]).content);
    assert!(watch(Api::Responses, &[r#"data: {"type":"response.function_call_arguments.delta","delta":"{"}"#]).content);
    assert!(watch(Api::Messages, &[r#"data: {"type":"content_block_delta","delta":{"type":"thinking_delta"}}"#]).content);
    assert!(watch(Api::Speech, &[r#"data: {"type":"speech.audio.delta","audio":"AA"}"#]).content);
}

#[test]
fn every_choice_must_finish() {
    let text = |index: u32| format!(r#"data: {{"choices":[{{"index":{index},"delta":{{"content":"a"}},"finish_reason":null}}]}}"#);
    let stop = |index: u32| format!(r#"data: {{"choices":[{{"index":{index},"delta":{{}},"finish_reason":"stop"}}]}}"#);
    assert!(!watch(Api::Chat, &[&text(0), &text(1), &stop(0)]).finished);
    let both = watch(Api::Chat, &[&text(0), &text(1), &stop(0), &stop(1)]);
    assert!(both.finished && !both.done);
    assert!(!watch(Api::Chat, &[&text(0), &stop(0), &text(1)]).finished, "one ended before the other began");
    let mut asked_for_two = StreamWatch::new(Api::Chat, 2, false);
    let _ = asked_for_two.feed(Bytes::from(format!("{}\n\n{}\n\n", text(0), stop(0))));
    assert!(!asked_for_two.state().finished);
    assert!(watch(Api::Chat, &[&text(0), "data: [DONE]"]).done);
}

#[test]
fn failures_inside_a_success() {
    let limited = r#"data: {"type":"error","sequence_number":2,"error":{"type":"too_many_requests","code":"too_many_requests","message":"slow down"}}"#;
    let failed = r#"data: {"type":"response.failed","response":{"status":"failed","error":null}}"#;
    assert_eq!(watch(Api::Responses, &[limited, failed]).fault, Some(Fault::RateLimited));
    assert_eq!(watch(Api::Responses, &[failed]).fault, Some(Fault::Failed));
    let nested = r#"data: {"type":"response.failed","response":{"error":{"code":"rate_limit_exceeded","message":"x"}}}"#;
    assert_eq!(watch(Api::Responses, &[nested]).fault, Some(Fault::RateLimited));
    assert_eq!(watch(Api::Chat, &[r#"data: {"error":{"message":"x","type":"server_error","code":null}}"#]).fault, Some(Fault::Failed));
    assert_eq!(watch(Api::Messages, &[r#"data: {"type":"error","error":{"type":"overloaded_error"}}"#]).fault, Some(Fault::Failed));
    assert_eq!(watch(Api::Chat, &[r#"data: {"error":{"code":"content_filter"}}"#]).fault, Some(Fault::ContentFilter));
}

#[test]
fn terminal_events() {
    for kind in ["response.completed", "response.incomplete"] {
        let state = watch(Api::Responses, &[&format!(r#"data: {{"type":"{kind}"}}"#)]);
        assert!(state.finished && state.done, "{kind}");
    }
    let stop = [r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#, r#"data: {"type":"message_stop"}"#];
    assert!(!watch(Api::Messages, &stop[..1]).done && watch(Api::Messages, &stop[..1]).finished);
    assert!(watch(Api::Messages, &stop).done);
}

#[test]
fn the_usage_of_every_kind_of_stream_is_read() {
    use crate::tokens::Usage;
    let usage = |api: Api, events: &[&str]| {
        let mut watch = StreamWatch::new(api, 1, false);
        for event in events {
            watch.feed(format!("data: {event}\n\n").into());
        }
        watch.state().reported.usage(api)
    };
    let counts = |input, output| Some(Usage { input, output, ..Usage::default() });
    assert_eq!(
        usage(Api::Chat, &[r#"{"choices":[],"usage":null}"#, r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":6}}"#]),
        counts(5, 6)
    );
    assert_eq!(usage(Api::Chat, &[r#"{"choices":[]}"#]), None);
    let completed = r#"{"type":"response.completed","response":{"id":"r","usage":{"input_tokens":5,"output_tokens":6}}}"#;
    assert_eq!(usage(Api::Responses, &[completed]), counts(5, 6));
    let started = r#"{"type":"message_start","message":{"usage":{"input_tokens":5,"cache_read_input_tokens":7,"output_tokens":1}}}"#;
    let delta = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":6}}"#;
    let expected = Usage { input: 12, output: 6, cached_input: 7, ..Usage::default() };
    assert_eq!(usage(Api::Messages, &[started, delta]), Some(expected));
    // What was reported before the output is not all of it.
    assert_eq!(usage(Api::Messages, &[started]), None);
    assert_eq!(usage(Api::Messages, &[started, r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#]), None);
    assert_eq!(usage(Api::Messages, &[r#"{"type":"message_start","message":{"usage":{}}}"#, delta]), None, "there was a prompt");
    let image = r#"{"type":"image_generation.completed","b64_json":"x","usage":{"input_tokens":5,"output_tokens":100}}"#;
    let images = Usage { input: 15, output: 300, output_image: 300, ..Usage::default() };
    assert_eq!(usage(Api::ImageGenerations, &[image; 3]), Some(images), "each image reports its own");
    let done = r#"{"type":"transcript.text.done","text":"x","usage":{"type":"tokens","input_tokens":5,"output_tokens":6}}"#;
    assert_eq!(usage(Api::Transcriptions, &[done]), counts(5, 6));
}

#[test]
fn no_output_is_no_report_of_a_text() {
    let usage = |events: &[&str]| watch(Api::Chat, events).usage(Api::Chat).map(|usage| usage.output);
    let none = r#"data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":0}}"#;
    let text = r#"data: {"choices":[{"index":0,"delta":{"content":"hello"},"finish_reason":"stop"}]}"#;
    assert_eq!(usage(&[none]), Some(0));
    assert_eq!(usage(&[none, text]), None);
    assert_eq!(usage(&[none, text, r#"data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":6}}"#]), Some(6));
}

#[test]
fn the_chunk_that_only_tells_the_usage_is_taken_out_if_nobody_asked() {
    let output = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}],\"usage\":null}\n\n";
    let last = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1}}\n\n";
    let filters = "data: {\"choices\":[],\"prompt_filter_results\":[],\"usage\":{\"prompt_tokens\":1}}\n\n";
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":6}}\n\n";
    let done = "data: [DONE]\n\n";
    let whole = [filters, output, last, usage, done].concat();
    for (hide, expected) in [(false, whole.clone()), (true, [filters, output, last, done].concat())] {
        for size in [1, 3, 50, whole.len()] {
            let mut watch = StreamWatch::new(Api::Chat, 1, hide);
            let out: Vec<u8> = whole.as_bytes().chunks(size).flat_map(|piece| watch.feed(piece.to_vec().into())).collect();
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{hide} {size}");
            assert_eq!(watch.state().reported.usage(Api::Chat).map(|usage| usage.output), Some(6));
        }
    }
}

#[test]
fn a_wrong_escape_makes_an_event_unreadable_however_long_its_text_is() {
    for (api, event) in [
        (Api::Chat, r#"{"choices":[{"index":0,"delta":{"content":"TEXT"}}]}"#),
        (Api::Responses, r#"{"type":"response.output_text.delta","delta":"TEXT"}"#),
    ] {
        for length in [1, 5000] {
            let wrong = format!("data: {}", event.replace("TEXT", &format!("{}\\q", "x".repeat(length))));
            assert_eq!(watch(api, &[&wrong]).malformed, 1, "{api} {length}");
        }
    }
}

#[test]
fn the_service_tier_is_read_in_every_kind_of_stream() {
    let tier = |api: Api, events: &[&str]| watch(api, events).reported.service_tier();
    let chunk = |tier: &str, text: &str| {
        format!(r#"data: {{"choices":[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":null}}],"service_tier":{tier}}}"#)
    };
    let last = r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"service_tier":"default"}"#;
    let (first, second, none) = (chunk(r#""flex""#, "a"), chunk(r#""flex""#, "b"), chunk("null", "c"));
    // The second chunk has the form of the first one, and is not read as JSON.
    assert_eq!(tier(Api::Chat, &[&first, &second, &none]), Some(ServiceTier::Flex));
    assert_eq!(tier(Api::Chat, &[&first, &second, last]), Some(ServiceTier::Default), "the last one counts");
    let responses = |first: &str, last: &str| {
        let event = |kind: &str, tier: &str| {
            format!(
                r#"data: {{"type":"response.{kind}","response":{{"id":"r","service_tier":{tier},"tools":[{{"service_tier":"scale"}}]}}}}"#
            )
        };
        tier(Api::Responses, &[&event("created", first), &event("completed", last)])
    };
    assert_eq!(responses(r#""auto""#, r#""priority""#), Some(ServiceTier::Priority));
    assert_eq!(responses(r#""flex""#, "null"), Some(ServiceTier::Flex));
    assert_eq!(responses(r#""auto""#, "null"), None);
    let messages = [
        r#"data: {"type":"message_start","message":{"usage":{"input_tokens":1,"output_tokens":1,"service_tier":"priority"}}}"#,
        r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}}"#,
    ];
    assert_eq!(tier(Api::Messages, &messages), Some(ServiceTier::Priority));
    let long = format!(
        r#"data: {{"type":"response.completed","response":{{"id":"r","output":["{}"],"service_tier":"flex"}}}}"#,
        "x".repeat(300_000)
    );
    assert_eq!(tier(Api::Responses, &[&long]), Some(ServiceTier::Flex), "an event that is not kept as a whole");
}
