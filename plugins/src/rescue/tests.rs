//! Answers of a model that repeats itself, cut anywhere and cut up differently, as a caller's library puts them together.

use std::collections::HashMap;
use std::fmt::Write;

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::api::Api;
use crate::sse::{Fate, Splitter};

/// Numbers that look random.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) >> 33).unwrap() % bound
    }

    fn word(&mut self) -> String {
        const LETTERS: [char; 12] = ['a', 'b', 'e', ' ', '\n', '"', '\\', 'ä', '/', '😀', '中', '\u{7}'];
        let length = self.below(14);
        (0..length).map(|_| LETTERS[self.below(LETTERS.len())]).collect()
    }

    /// A text in pieces.
    fn pieces(&mut self, text: &str) -> Vec<String> {
        let (mut pieces, mut piece) = (Vec::new(), String::new());
        for letter in text.chars() {
            piece.push(letter);
            if self.below(3) == 0 {
                pieces.push(std::mem::take(&mut piece));
            }
        }
        pieces.extend((!piece.is_empty()).then_some(piece));
        pieces
    }

    /// JSON with letters written in one way or another.
    fn json(&mut self, value: &Value) -> String {
        let mut json = String::new();
        for letter in value.to_string().chars() {
            if !letter.is_ascii() && self.below(2) == 0 {
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    write!(json, "\\u{unit:04x}").unwrap();
                }
            } else {
                json.push(letter);
            }
        }
        json
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Choice {
    reasoning: String,
    content: String,
    calls: Vec<(String, String)>,
    finish: String,
}

type Answer = Vec<Choice>;

fn answer(dice: &mut Dice, api: Api) -> Answer {
    let choices = if matches!(api, Api::Chat) { 1 + dice.below(3) } else { 1 };
    let call = |dice: &mut Dice| (format!("f{}", dice.below(3)), json!({"x": dice.word()}).to_string());
    let choice = |dice: &mut Dice| Choice {
        reasoning: dice.word(),
        content: format!("{}.", dice.word()),
        calls: (0..dice.below(3)).map(|_| call(dice)).collect(),
        finish: if dice.below(2) == 0 { "stop" } else { "length" }.into(),
    };
    (0..choices).map(|_| choice(dice)).collect()
}

/// The answer's events. `run` makes all ids different in each run.
fn events(api: Api, answer: &Answer, run: &str, dice: &mut Dice) -> Vec<String> {
    match api {
        Api::Chat => chat_events(answer, run, dice),
        Api::Responses => responses_events(&answer[0], run, dice),
        _ => messages_events(&answer[0], run, dice),
    }
}

fn chat_events(answer: &Answer, run: &str, dice: &mut Dice) -> Vec<String> {
    let mut queues: Vec<Vec<Value>> = Vec::new();
    for choice in answer {
        let mut deltas = vec![json!({"role": "assistant", "content": ""})];
        deltas.extend(dice.pieces(&choice.reasoning).into_iter().map(|piece| json!({ "reasoning_content": piece })));
        deltas.extend(dice.pieces(&choice.content).into_iter().map(|piece| json!({ "content": piece })));
        // Calls may be mixed.
        let mut calls: Vec<Vec<Value>> = Vec::new();
        for (index, (name, arguments)) in choice.calls.iter().enumerate() {
            let first = json!({"index": index, "id": format!("call_{run}_{index}"), "type": "function", "function": {"name": name, "arguments": ""}});
            let rest = dice.pieces(arguments).into_iter().map(|piece| json!({"index": index, "function": {"arguments": piece}}));
            calls.push(std::iter::once(first).chain(rest).collect());
        }
        while calls.iter().any(|call| !call.is_empty()) {
            let at = dice.below(calls.len());
            if !calls[at].is_empty() {
                deltas.push(json!({ "tool_calls": [calls[at].remove(0)] }));
            }
        }
        queues.push(deltas);
    }
    let frame = |choices: Value| json!({"id": format!("chatcmpl-{run}"), "created": run.len() * 7, "model": format!("m-{run}"), "choices": choices});
    let mut finished = vec![false; answer.len()];
    let mut all = vec![json!({"id": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]})];
    while finished.iter().any(|finished| !finished) {
        let at = dice.below(answer.len());
        if finished[at] {
            continue;
        }
        let delta = if queues[at].is_empty() { json!({}) } else { queues[at].remove(0) };
        finished[at] = queues[at].is_empty() && (delta == json!({}) || dice.below(2) == 0);
        let finish = if finished[at] { json!(answer[at].finish) } else { Value::Null };
        let mut choices = vec![json!({"index": at, "delta": delta, "finish_reason": finish})];
        let other = dice.below(answer.len());
        if other != at && queues[other].len() > 1 {
            choices.push(json!({"index": other, "delta": queues[other].remove(0), "finish_reason": null}));
        }
        all.push(frame(json!(choices)));
    }
    let mut usage = frame(json!([]));
    usage["usage"] = json!({"prompt_tokens": 3, "completion_tokens": 4});
    all.push(usage);
    let mut events: Vec<String> = all.iter().map(|event| format!("data: {}\n\n", dice.json(event))).collect();
    events.push("data: [DONE]\n\n".into());
    events
}

fn typed(mut all: Vec<Value>, numbered: bool, dice: &mut Dice) -> Vec<String> {
    if numbered {
        all.iter_mut().enumerate().for_each(|(number, event)| event["sequence_number"] = json!(number));
    }
    all.iter().map(|event| format!("event: {}\ndata: {}\n\n", event["type"].as_str().unwrap(), dice.json(event))).collect()
}

fn responses_events(choice: &Choice, run: &str, dice: &mut Dice) -> Vec<String> {
    let response =
        |status: &str, output: &[Value]| json!({"id": format!("resp_{run}"), "created_at": run.len(), "status": status, "output": output});
    let mut all = vec![json!({"type": "response.created", "response": response("in_progress", &[])})];
    all.push(json!({"type": "response.in_progress", "response": response("in_progress", &[])}));
    let mut output: Vec<Value> = Vec::new();
    let begin = |all: &mut Vec<Value>, item: Value| {
        all.push(json!({"type": "response.output_item.added", "output_index": 0, "item": item}));
    };
    let texts = [
        (&choice.reasoning, "reasoning", "reasoning_summary_part", "reasoning_summary_text", "summary_index"),
        (&choice.content, "message", "content_part", "output_text", "content_index"),
    ];
    for (text, kind, part, of, at) in texts {
        if text.is_empty() {
            continue;
        }
        let (index, id) = (output.len(), format!("{kind}_{run}"));
        begin(&mut all, json!({"type": kind, "id": id}));
        all.last_mut().unwrap()["output_index"] = json!(index);
        let event = |of: &str, step: &str, more: (&str, Value)| json!({"type": format!("response.{of}.{step}"), "output_index": index, "item_id": id, at: 0, more.0: more.1});
        all.push(event(part, "added", ("part", json!({"type": of, "text": ""}))));
        all.extend(dice.pieces(text).into_iter().map(|piece| event(of, "delta", ("delta", json!(piece)))));
        all.push(event(of, "done", ("text", json!(text))));
        all.push(event(part, "done", ("part", json!({"type": of, "text": text}))));
        output.push(json!({"type": kind, "id": id, "content": [{"type": of, "text": text}]}));
        all.push(json!({"type": "response.output_item.done", "output_index": index, "item": output[index]}));
    }
    for (name, arguments) in &choice.calls {
        let (index, id) = (output.len(), format!("fc_{run}_{}", output.len()));
        let call = |arguments: &str| json!({"type": "function_call", "id": id, "call_id": format!("call_{id}"), "name": name, "arguments": arguments});
        begin(&mut all, call(""));
        all.last_mut().unwrap()["output_index"] = json!(index);
        let event = |step: &str, key: &str, text: &str| json!({"type": format!("response.function_call_arguments.{step}"), "output_index": index, "item_id": id, key: text});
        all.extend(dice.pieces(arguments).iter().map(|piece| event("delta", "delta", piece)));
        all.push(event("done", "arguments", arguments));
        output.push(call(arguments));
        all.push(json!({"type": "response.output_item.done", "output_index": index, "item": output[index]}));
    }
    all.push(json!({"type": "response.completed", "response": response(&choice.finish, &output)}));
    typed(all, true, dice)
}

fn messages_events(choice: &Choice, run: &str, dice: &mut Dice) -> Vec<String> {
    let mut all = vec![json!({"type": "message_start", "message": {"id": format!("msg_{run}"), "role": "assistant", "content": []}})];
    let mut blocks: Vec<(Value, &str, &str, &str)> = vec![];
    if !choice.reasoning.is_empty() {
        blocks.push((json!({"type": "thinking", "thinking": ""}), "thinking_delta", "thinking", &choice.reasoning));
    }
    blocks.push((json!({"type": "text", "text": ""}), "text_delta", "text", &choice.content));
    for (index, (name, arguments)) in choice.calls.iter().enumerate() {
        let block = json!({"type": "tool_use", "id": format!("toolu_{run}_{index}"), "name": name, "input": {}});
        blocks.push((block, "input_json_delta", "partial_json", arguments));
    }
    for (index, (block, kind, key, text)) in blocks.into_iter().enumerate() {
        all.push(json!({"type": "content_block_start", "index": index, "content_block": block}));
        if dice.below(3) == 0 {
            all.push(json!({"type": "ping"}));
        }
        let delta = |delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
        all.extend(dice.pieces(text).into_iter().map(|piece| delta(json!({"type": kind, key: piece}))));
        if kind == "thinking_delta" {
            all.push(delta(json!({"type": "signature_delta", "signature": format!("sig-{run}")})));
        }
        all.push(json!({"type": "content_block_stop", "index": index}));
    }
    all.push(json!({"type": "message_delta", "delta": {"stop_reason": choice.finish}, "usage": {"output_tokens": 3}}));
    all.push(json!({"type": "message_stop"}));
    typed(all, false, dice)
}

/// What a caller's library makes of a stream, as far as it goes; and whether it is whole.
fn read(api: Api, stream: &[u8]) -> (Answer, bool) {
    let mut all: Vec<Value> = Vec::new();
    let mut done = false;
    let mut splitter = Splitter::default();
    splitter.feed(Bytes::copy_from_slice(stream), |event| {
        assert!(!done, "nothing follows the end");
        if event.data.starts_with(b"[DONE]") {
            done = true;
            return Fate::Pass;
        }
        let value: Value = serde_json::from_slice(&event.data).unwrap();
        if api != Api::Chat {
            assert_eq!(event.name, value["type"].as_str().unwrap().as_bytes());
        }
        done |= matches!(value["type"].as_str(), Some("response.completed" | "message_stop"));
        all.push(value);
        Fate::Pass
    });
    let answer = match api {
        Api::Chat => read_chat(&all),
        Api::Responses => vec![read_responses(&all)],
        _ => vec![read_messages(&all)],
    };
    (answer, done)
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn read_chat(all: &[Value]) -> Answer {
    let mut answer = Answer::new();
    let mut names: HashMap<&str, &Value> = HashMap::new();
    let (mut roles, mut ids) = (Vec::new(), Vec::new());
    for chunk in all {
        for name in ["id", "created", "model"] {
            if chunk["id"] != "" {
                assert_eq!(*names.entry(name).or_insert(&chunk[name]), &chunk[name], "{name} stays the same");
            }
        }
        for part in chunk["choices"].as_array().unwrap() {
            let index = usize::try_from(part["index"].as_u64().unwrap()).unwrap();
            answer.resize(answer.len().max(index + 1), Choice::default());
            let (choice, delta) = (&mut answer[index], &part["delta"]);
            if delta["role"].is_string() {
                assert!(!roles.contains(&index), "one role for each choice");
                roles.push(index);
            }
            assert!(choice.finish.is_empty(), "nothing follows the end of a choice");
            choice.reasoning += text_of(&delta["reasoning_content"]);
            choice.content += text_of(&delta["content"]);
            for call in delta["tool_calls"].as_array().unwrap_or(&vec![]) {
                let at = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
                choice.calls.resize(choice.calls.len().max(at + 1), Default::default());
                if call["id"].is_string() {
                    assert!(!ids.contains(&(index, at)), "one name for each call");
                    ids.push((index, at));
                }
                choice.calls[at].0 += text_of(&call["function"]["name"]);
                choice.calls[at].1 += text_of(&call["function"]["arguments"]);
            }
            choice.finish += text_of(&part["finish_reason"]);
        }
    }
    answer
}

fn read_responses(all: &[Value]) -> Choice {
    let mut choice = Choice::default();
    let mut items: Vec<(Value, String)> = Vec::new();
    let mut response = Value::Null;
    for (number, event) in all.iter().enumerate() {
        assert_eq!(event["sequence_number"], json!(number));
        let kind = event["type"].as_str().unwrap();
        if event["response"].is_object() {
            assert!(
                response.is_null()
                    || (&response["id"], &response["created_at"]) == (&event["response"]["id"], &event["response"]["created_at"])
            );
            response = event["response"].clone();
        }
        assert_eq!(kind == "response.created", number == 0);
        let index = event["output_index"].as_u64().map(|index| usize::try_from(index).unwrap());
        if kind == "response.output_item.added" {
            assert_eq!(index, Some(items.len()));
            items.push((event["item"].clone(), String::new()));
        }
        let Some(index) = index else { continue };
        let (item, text) = &mut items[index];
        if event["item_id"].is_string() {
            assert_eq!(event["item_id"], item["id"]);
        }
        if kind.ends_with(".delta") {
            *text += event["delta"].as_str().unwrap();
        }
        if kind.ends_with("text.done") || kind.ends_with("arguments.done") {
            assert_eq!(event.get("text").or(event.get("arguments")), Some(&json!(text)));
        }
        if kind == "response.output_item.done" {
            assert_eq!((&event["item"]["id"], &event["item"]["call_id"]), (&item["id"], &item["call_id"]));
        }
    }
    for (item, text) in &items {
        match item["type"].as_str().unwrap() {
            "reasoning" => choice.reasoning = text.clone(),
            "message" => choice.content = text.clone(),
            _ => choice.calls.push((text_of(&item["name"]).to_owned(), text.clone())),
        }
    }
    if all.last().is_some_and(|event| event["type"] == "response.completed") {
        choice.finish = text_of(&response["status"]).to_owned();
        for (whole, (item, text)) in response["output"].as_array().unwrap().iter().zip(&items) {
            assert_eq!((&whole["id"], &whole["call_id"]), (&item["id"], &item["call_id"]));
            assert!(whole["arguments"] == json!(text) || whole["content"][0]["text"] == json!(text));
        }
    }
    choice
}

fn read_messages(all: &[Value]) -> Choice {
    let mut choice = Choice::default();
    let mut blocks: Vec<(Value, String, usize)> = Vec::new();
    for (number, event) in all.iter().enumerate() {
        let kind = event["type"].as_str().unwrap();
        assert_eq!(kind == "message_start", number == 0);
        let index = event["index"].as_u64().map(|index| usize::try_from(index).unwrap());
        if kind == "content_block_start" {
            assert_eq!(index, Some(blocks.len()));
            blocks.push((event["content_block"].clone(), String::new(), 0));
        }
        if let Some(index) = index {
            let block = &mut blocks[index];
            let delta = &event["delta"];
            block.1 += ["text", "thinking", "partial_json"].iter().find_map(|key| delta[key].as_str()).unwrap_or_default();
            block.2 += usize::from(delta["signature"].is_string());
        }
        choice.finish += text_of(&event["delta"]["stop_reason"]);
    }
    for (block, text, signatures) in blocks {
        assert!(signatures <= 1);
        match block["type"].as_str().unwrap() {
            "thinking" => choice.reasoning = text,
            "text" => choice.content = text,
            _ => choice.calls.push((text_of(&block["name"]).to_owned(), text)),
        }
    }
    choice
}

/// What a gateway passes on of a stream that ends after so many bytes: whole events.
fn whole_events(stream: &str, cut: usize) -> Bytes {
    Splitter::default().feed(Bytes::copy_from_slice(&stream.as_bytes()[..cut]), |_| Fate::Pass)
}

fn sent(api: Api, passed: &Bytes, dice: &mut Dice) -> Sent {
    let mut sent = Sent::new(api, 1 << 20).unwrap();
    let mut rest = passed.clone();
    while !rest.is_empty() {
        let piece = rest.split_to(1 + dice.below(rest.len()));
        sent.pass(piece);
    }
    sent
}

fn spliced(splice: &mut Splice, second: &str, dice: &mut Dice) -> Result<Vec<u8>, Difference> {
    let mut out = Vec::new();
    let mut rest = Bytes::copy_from_slice(second.as_bytes());
    while !rest.is_empty() {
        let piece = rest.split_to(1 + dice.below(rest.len().min(200)));
        out.extend_from_slice(&splice.feed(piece)?);
    }
    out.extend_from_slice(&splice.end()?);
    Ok(out)
}

const APIS: [Api; 3] = [Api::Chat, Api::Responses, Api::Messages];

#[test]
fn wherever_it_is_cut_the_caller_reads_one_whole_answer() {
    let mut dice = Dice(1);
    for round in 0..2_500 {
        let api = APIS[round % 3];
        let answer = answer(&mut dice, api);
        let first = events(api, &answer, "one", &mut dice).concat();
        let second = events(api, &answer, "second", &mut dice).concat();
        for _ in 0..4 {
            let passed = whole_events(&first, dice.below(first.len()));
            let Some(mut splice) = Splice::new(sent(api, &passed, &mut dice)) else {
                let (known, _) = read(api, &passed);
                assert!(!known[0].finish.is_empty(), "only what is over can't be rescued");
                continue;
            };
            let rest = spliced(&mut splice, &second, &mut dice);
            let rest =
                rest.unwrap_or_else(|difference| panic!("{round} {difference}\n{}\n---\n{second}", String::from_utf8_lossy(&passed)));
            let (got, done) = read(api, &[&passed[..], &rest].concat());
            assert_eq!((got, done), (answer.clone(), true), "{round}");
        }
    }
}

/// Another letter, in a text of which this much was sent.
fn change(text: &mut String, sent: &str, dice: &mut Dice) -> bool {
    let letters: Vec<char> = text.chars().collect();
    let count = sent.chars().count();
    if count == 0 {
        return false;
    }
    let at = dice.below(count);
    *text = letters.iter().enumerate().map(|(index, letter)| if index == at { 'Z' } else { *letter }).collect();
    true
}

#[test]
fn an_answer_that_differs_in_what_was_sent_is_never_joined() {
    let mut dice = Dice(2);
    let mut compared = 0;
    for round in 0..6_000 {
        let api = APIS[round % 3];
        let answer = answer(&mut dice, api);
        let first = events(api, &answer, "one", &mut dice).concat();
        let passed = whole_events(&first, dice.below(first.len() + 1));
        let (known, _) = read(api, &passed);
        let Some(index) = (!known.is_empty()).then(|| dice.below(known.len())) else { continue };
        let (known, mut other) = (&known[index], answer.clone());
        let choice = &mut other[index];
        let moved_on = !known.calls.is_empty() || !known.finish.is_empty();
        let changed = match dice.below(7) {
            0 => change(&mut choice.reasoning, &known.reasoning, &mut dice),
            1 => change(&mut choice.content, &known.content, &mut dice),
            2 => known.calls.last().is_some_and(|(_, sent)| change(&mut choice.calls[known.calls.len() - 1].1, sent, &mut dice)),
            3 => known.calls.first().is_some_and(|(name, _)| {
                choice.calls[0].0.push_str("_other");
                !name.is_empty()
            }),
            // It goes on where the first had come to an end.
            4 if moved_on => {
                choice.content.push_str("more");
                true
            }
            5 if moved_on || !known.content.is_empty() => {
                choice.reasoning.push_str("more");
                true
            }
            // It ends before the first did.
            6 if known.content.chars().count() > 1 => {
                choice.content.pop();
                known.content == answer[index].content
            }
            _ => false,
        };
        if !changed {
            continue;
        }
        let second = events(api, &other, "second", &mut dice).concat();
        let Some(mut splice) = Splice::new(sent(api, &passed, &mut dice)) else { continue };
        compared += 1;
        let joined = spliced(&mut splice, &second, &mut dice);
        assert!(joined.is_err(), "{round}\n{}\n---\n{second}", String::from_utf8_lossy(&passed));
    }
    assert!(compared > 1_000, "{compared}");
}

#[test]
fn what_cannot_be_compared_is_not_rescued() {
    let rescued = |api: Api, events: &[&str], most: usize| {
        let mut sent = Sent::new(api, most).unwrap();
        events.iter().for_each(|event| sent.pass(Bytes::from(format!("data: {event}\n\n"))));
        Splice::new(sent).is_some()
    };
    let hello = r#"{"id":"a","choices":[{"index":0,"delta":{"content":"hello"}}]}"#;
    assert!(rescued(Api::Chat, &[hello], 1000));
    assert!(!rescued(Api::Chat, &[hello], 60));
    for chunk in [
        r#"{"choices":[{"index":0,"delta":{"audio":{"id":"x"}}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"content":[1]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"annotations":[1]}}]}"#,
        r#"{"error":{"message":"x"}}"#,
        "no JSON",
    ] {
        assert!(!rescued(Api::Chat, &[hello, chunk], 1000), "{chunk}");
    }
    let item = |kind: &str| format!(r#"{{"type":"response.output_item.added","output_index":0,"item":{{"type":"{kind}","id":"x"}}}}"#);
    assert!(rescued(Api::Responses, &[&item("message")], 1000));
    assert!(!rescued(Api::Responses, &[&item("web_search_call")], 1000));
    assert!(!rescued(Api::Responses, &[r#"{"type":"response.web_search_call.in_progress","output_index":0}"#], 1000));
    let sealed = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"reasoning","id":"x","encrypted_content":"y"}}"#;
    assert!(!rescued(Api::Responses, &[sealed], 1000));
    let tool = r#"{"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use","id":"x","name":"web_search"}}"#;
    assert!(!rescued(Api::Messages, &[tool], 1000));
    assert!(Sent::new(Api::Speech, 1000).is_none());
}

#[test]
fn what_is_held_is_bounded() {
    let chunk = |index: usize, text: &str| format!("data: {}\n\n", json!({"choices": [{"index": index, "delta": {"content": text}}]}));
    let mut sent = Sent::new(Api::Chat, 1000).unwrap();
    sent.pass(chunk(1, "never said again").into());
    let mut splice = Splice::new(sent).unwrap();
    let mut fed = (0..1000).map(|_| splice.feed(chunk(0, "and so on").into()));
    assert_eq!(fed.find(|passed| passed.as_ref() != Ok(&Bytes::new())), Some(Err(Difference::TooMuch)));
}
