use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::guard::Rules;

const WORD: &str = "project heron";

fn rules() -> Rules {
    let patterns = [("case".to_owned(), r"\bCN-[0-9]{6}\b".to_owned())];
    Rules::new(&patterns, &[WORD.to_owned()], None, None).unwrap()
}

fn read(api: Api, body: &Value) -> PromptText {
    PromptText::read(api, body.to_string().as_bytes()).unwrap()
}

fn is_blocked(api: Api, body: &Value) -> bool {
    rules().request(&read(api, body), body.to_string().as_bytes()).is_some()
}

fn seen(api: Api, body: &Value) -> String {
    read(api, body).into_seen().text
}

#[test]
fn a_word_is_found_wherever_a_model_could_read_it() {
    let chat = |message: Value| json!({ "model": "m", "messages": [message] });
    let part = |part: Value| chat(json!({ "role": "user", "content": [part] }));
    for body in [
        chat(json!({ "role": "user", "content": WORD })),
        chat(json!({ "role": "user", "name": WORD, "content": "x" })),
        chat(json!({ "role": WORD, "content": "x" })),
        chat(json!({ "role": "user", "content": { "text": WORD } })),
        chat(json!({ "role": "assistant", "refusal": WORD })),
        chat(json!({ "role": "assistant", "reasoning": WORD })),
        chat(json!({ "role": "assistant", "newfangled": { "deep": [[WORD]] } })),
        chat(json!({ "role": "assistant", "tool_calls": [{ "id": "1", "function": { "name": "f", "arguments": WORD } }] })),
        chat(json!({ "role": "assistant", "tool_calls": [{ "id": "1", "function": { "name": "f", "arguments": { WORD: 1 } } }] })),
        chat(json!({ "role": "tool", "tool_call_id": WORD, "content": "x" })),
        part(json!({ "type": "newfangled", "blob": WORD })),
        part(json!({ "type": "image_url", "image_url": { "url": WORD } })),
        part(json!({ "type": "text", "text": { "value": WORD } })),
        part(json!({ "type": WORD })),
        part(json!({ "type": "file", "file": { "filename": WORD, "file_id": "f" } })),
        part(json!({ "type": "x", "data": WORD })),
        part(json!({ "type": "base64", "data": WORD })),
        json!({ "messages": [], "documents": [{ "title": "x", "text": WORD }] }),
        json!({ "messages": [], "documents": [{ WORD: "x" }] }),
        json!({ "messages": [], "chat_template": format!("{{% say %}}{WORD}") }),
        json!({ "messages": [], "chat_template_kwargs": { "a": WORD } }),
        json!({ "messages": [], "newfangled": [WORD] }),
        json!({ "messages": [], WORD: 1 }),
        json!({ "messages": [], "tool_choice": { "function": { "name": WORD } } }),
        json!({ "messages": [], "tools": [{ "type": "function", "function": { "name": "f", "parameters": { "properties": { WORD: {} } } } }] }),
        json!({ "messages": [], "tools": [{ "type": "function", "function": { "name": "f", "parameters": { "type": WORD } } }] }),
        json!({ "messages": [], "data_sources": [{ "parameters": { "role_information": WORD } }] }),
        json!({ "messages": [], "stop": [WORD] }),
        json!({ "messages": WORD }),
        json!({ "messages": { "content": WORD } }),
        json!({ "messages": [WORD] }),
    ] {
        assert!(is_blocked(Api::Chat, &body), "{body}");
    }
    for body in [
        json!({ "instructions": WORD }),
        json!({ "input": WORD }),
        json!({ "input": [{ "type": "function_call_output", "call_id": "c", "output": WORD }] }),
        json!({ "input": [{ "type": "mcp_call", "output": [{ "newfangled": WORD }] }] }),
        json!({ "input": [{ "type": "reasoning", "summary": [{ "type": "summary_text", "text": WORD }] }] }),
        json!({ "input": [{ "type": "newfangled_call", "result": WORD }] }),
        json!({ "prompt": { "id": "p", "variables": { "city": WORD } } }),
        json!({ "text": { "format": { "type": "json_schema", "schema": { "description": WORD } } } }),
    ] {
        assert!(is_blocked(Api::Responses, &body), "{body}");
    }
    for body in [
        json!({ "system": [{ "type": "text", "text": WORD }] }),
        json!({ "messages": [{ "role": "user", "content": [{ "type": "document", "source": { "type": "text", "data": "CN-123456" } }] }] }),
        json!({ "messages": [{ "role": "user", "content": [{ "type": "document", "source": { "data": "CN-123456", "type": "text" } }] }] }),
        json!({ "messages": [{ "role": "user", "content": [{ "type": "tool_result", "content": [{ "type": "text", "text": WORD }] }] }] }),
        json!({ "messages": [{ "role": "assistant", "content": [{ "type": "tool_use", "id": "t", "name": "f", "input": { "id": WORD } }] }] }),
    ] {
        assert!(is_blocked(Api::Messages, &body), "{body}");
    }
    assert!(is_blocked(Api::Completions, &json!({ "prompt": ["a", WORD] })));
    assert!(is_blocked(Api::Completions, &json!({ "prompt": "a", "suffix": WORD })));
    assert!(is_blocked(Api::Embeddings, &json!({ "input": [WORD] })));
    assert!(is_blocked(Api::Speech, &json!({ "input": "x", "instructions": WORD })));
}

#[test]
fn what_is_known_to_be_no_text_is_not_read() {
    let image = "iVBORw0KGgo".repeat(100);
    let body = json!({
        "model": "CN-123456", "user": "CN-123456", "metadata": { "a": "CN-123456" }, "service_tier": "CN-123456",
        "tool_choice": { "type": "function", "function": { "name": "CN-123456" } },
        "tools": [{ "type": "mcp", "server_url": "https://CN-123456", "authorization": "CN-123456", "headers": { "x": "CN-123456" } }],
        "data_sources": [{ "type": "azure_search", "parameters": { "authentication": { "key": "CN-123456" } } }],
        "messages": [
            { "role": "user", "content": [
                { "type": "image_url", "image_url": { "url": format!("data:image/png;base64,{image}"), "detail": "CN-123456" } },
                { "type": "image_url", "image_url": "https://host/CN-123456.png" },
                { "type": "file", "file": { "file_id": "CN-123456" } },
                { "type": "input_audio", "input_audio": { "data": image, "format": "wav" } },
            ] },
            { "role": "assistant", "tool_calls": [{ "id": "CN-123456", "type": "function", "function": { "name": "f", "arguments": "{}" } }] },
            { "role": "tool", "tool_call_id": "CN-123456", "content": "x" },
        ],
    });
    assert!(!is_blocked(Api::Chat, &body), "{}", seen(Api::Chat, &body));
    let asked = read(Api::Chat, &body);
    assert!((4 * ATTACHMENT..4 * ATTACHMENT + 200).contains(&asked.tokens()), "{}", asked.tokens());
}

#[test]
fn what_a_model_sees_joined_is_judged_joined() {
    let said = |parts: &[Value]| json!({ "messages": [{ "role": "user", "content": parts }] });
    let text = |text: &str| json!({ "type": "text", "text": text });
    let image = json!({ "type": "image_url", "image_url": { "url": "https://host/x" } });
    for body in [
        said(&[text("project"), text("heron")]),
        said(&[text("pro"), text("ject heron")]),
        said(&[text("project "), image.clone(), text("heron")]),
        said(&[text("pro"), json!({ "type": "refusal", "refusal": "ject heron" })]),
        said(&[json!({ "type": "text", "text": "project", "decoy": "x" }), text("heron")]),
        said(&[json!({ "type": "newfangled", "blob": "proj" }), json!({ "type": "newfangled", "blob": "ect heron" })]),
        json!({ "messages": [{ "role": "user", "content": "project" }, { "role": "user", "content": "heron" }] }),
        json!({ "messages": [{ "content": "project", "role": "user" }, { "content": [text("heron")], "role": "user" }] }),
    ] {
        assert!(is_blocked(Api::Chat, &body), "{body}");
    }
    for body in [
        json!({ "messages": [{ "role": "user", "content": "project" }, { "role": "assistant", "content": "heron" }] }),
        json!({ "messages": [{ "role": "assistant", "tool_calls": [{ "function": { "name": "f", "arguments": { "a": "project", "b": "heron" } } }] }] }),
    ] {
        assert!(!is_blocked(Api::Chat, &body), "{body}");
    }
    // Inputs of one request have nothing to do with each other.
    assert!(!is_blocked(Api::Embeddings, &json!({ "input": ["project", "heron"] })));
}

#[test]
fn what_is_said_and_brought_is_told_apart() {
    let parts = |api, body: Value| {
        let seen = read(api, &body).into_seen();
        let texts = |ranges: &[Range<usize>]| ranges.iter().map(|range| seen.text[range.clone()].trim().to_owned()).collect::<Vec<_>>();
        (texts(&seen.said), texts(&seen.brought))
    };
    let chat = json!({ "documents": ["doc"], "messages": [
        { "role": "user", "content": "old" }, { "role": "assistant", "content": "yes" },
        { "content": "new", "role": "user" }, { "role": "user", "content": "newer" }, { "role": "tool", "content": "found" },
    ] });
    assert_eq!(parts(Api::Chat, chat), (vec!["new\nnewer".to_owned()], vec!["doc".to_owned(), "found".to_owned()]));
    let messages = json!({ "system": "s", "messages": [
        { "role": "assistant", "content": [{ "type": "tool_use", "name": "f", "input": {} }] },
        { "role": "user", "content": [{ "type": "tool_result", "content": "found" }, { "type": "text", "text": "and now?" }] },
    ] });
    assert_eq!(parts(Api::Messages, messages), (vec!["and now?".to_owned()], vec!["found".to_owned()]));
    let responses = json!({ "instructions": "i", "input": [
        { "role": "user", "content": "u" }, { "output": "ran", "type": "function_call_output" },
        { "type": "web_search_call", "action": { "query": "q" }, "results": [{ "text": "page" }] }, { "role": "user", "content": "last" },
    ] });
    assert_eq!(parts(Api::Responses, responses), (vec!["last".to_owned()], vec!["ran".to_owned(), "page".to_owned()]));
    assert_eq!(parts(Api::Responses, json!({ "input": "hi" })), (vec!["hi".to_owned()], vec![]));
}

#[test]
fn what_can_not_be_read_in_one_way_is_refused() {
    for (api, body) in [
        (Api::Chat, "[]"),
        (Api::Chat, "{"),
        (Api::Chat, r#"{"metadata":{"a":1,"a":2}}"#),
        (Api::Chat, r#"{"messages":[],"x":"\ud800"}"#),
        (Api::Completions, r#"{"prompt":[1,2,3]}"#),
        (Api::Completions, r#"{"prompt":[[1,2],[3]]}"#),
        (Api::Completions, r#"{"prompt":"x","prompt_embeds":"AAAA"}"#),
        (Api::Embeddings, r#"{"input":[[1]]}"#),
        (Api::Chat, r#"{"messages":[],"prompt_token_ids":[1]}"#),
    ] {
        assert!(PromptText::read(api, body.as_bytes()).is_err(), "{body}");
    }
}

/// A message's content that says a text in a way of its own.
fn content() -> impl Strategy<Value = fn(&str, usize) -> Value> {
    let ways: Vec<fn(&str, usize) -> Value> = vec![
        |text, _| text.into(),
        |text, _| json!([{ "type": "text", "text": text }]),
        |text, at| json!([{ "type": "text", "text": text[..at] }, { "type": "text", "text": text[at..] }]),
        |text, at| json!([{ "type": "input_text", "text": text[..at] }, { "type": "image_url" }, { "type": "refusal", "refusal": text[at..] }]),
        |text, at| json!([{ "type": "text", "text": text[..at], "more": "decoy" }, { "type": "text", "text": text[at..] }]),
        |text, _| json!([{ "type": "newfangled", "blob": text }]),
        |text, at| json!([{ "type": "newfangled", "blob": text[..at] }, { "type": "newfangled", "blob": text[at..] }]),
        |text, _| json!([{ "newfangled": { "deep": [{ "er": text }] } }]),
    ];
    prop::sample::select(ways)
}

/// A word written in a way that shows the same.
fn disguised(word: &str, how: &[u8]) -> String {
    let wide = |c: char| char::from_u32(u32::from(c) + 0xfee0).filter(|_| c.is_ascii_graphic()).unwrap_or(c);
    let tag = |c: char| char::from_u32(u32::from(c) + 0xe0000).unwrap_or(c);
    let mut out = String::new();
    for (c, how) in word.chars().zip(how) {
        match how {
            0 => out.extend(['\u{200b}', c]),
            1 => out.push(wide(c)),
            2 => out.extend([c, '\u{ad}', '\u{2060}']),
            3 => out.extend(['\u{202e}', c.to_ascii_uppercase()]),
            4 => out.push(tag(c)),
            5 => out.extend([c, '\u{fe0f}']),
            _ => out.push(c),
        }
    }
    out
}

proptest! {
    /// No invisible or wide letters, no split over parts and no unknown part can hide a word.
    #[test]
    fn nothing_hides_a_word(how in prop::collection::vec(0u8..10, 13), content in content(), at in 0usize..100, before in "[a-z ]{0,10}", api in 0..3) {
        let text = format!("{before} {} and more", disguised(WORD, &how));
        let at = (0..=at % text.len()).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let message = json!({ "role": "user", "content": content(&text, at) });
        let (api, body) = match api {
            0 => (Api::Chat, json!({ "messages": [message] })),
            1 => (Api::Responses, json!({ "input": [message] })),
            _ => (Api::Messages, json!({ "messages": [message] })),
        };
        prop_assert!(is_blocked(api, &body), "{}", body);
    }

    /// Any input is handled, and the text that is seen is about as long as the input.
    #[test]
    fn any_text_is_survived(text in "[\\[\\]{}:,\"a1 ]{0,60}", words in prop::collection::vec("\\PC{0,6}", 0..6)) {
        for api in Api::ALL {
            let _ = PromptText::read(api, text.as_bytes());
            let body = json!({ "messages": words, "input": [{ "role": "user", "content": words }], "prompt": words, "x": { "y": words } });
            if let Ok(asked) = PromptText::read(api, body.to_string().as_bytes()) {
                let seen = asked.into_seen();
                prop_assert!(seen.said.iter().chain(&seen.brought).all(|range| seen.text.get(range.clone()).is_some()));
            }
        }
    }
}

#[test]
fn a_text_that_cannot_be_decoded_is_not_passed_over() {
    let long = "x".repeat(1000);
    for wrong in [r"\q", r"\u12", r"\ud800"] {
        for body in [
            format!(r#"{{"messages":[{{"role":"user","content":"{long}{wrong}"}}]}}"#),
            format!(r#"{{"messages":[],"newfangled":["{long}{wrong}"]}}"#),
            format!(r#"{{"messages":[{{"role":"user","content":"x","id":"{long}{wrong}"}}]}}"#),
        ] {
            assert!(PromptText::read(Api::Chat, body.as_bytes()).is_err(), "{body}");
        }
    }
}
