//! The guard reads what a model reads, however it is written: nothing of a request or an answer hides a word.

use serde_json::{Value, json};
use spillway_testkit::backend::{Reply, ScriptedBackend};
use spillway_testkit::safety::{ContentSafety, KEY};

use crate::support::*;

const RULES: &str =
    "[plugins.guard]\nwords = [\"project heron\", \"größe\"]\npatterns = { case = '\\bCN-[0-9]{6}\\b' }\nanswers = true\nwindow = 5\n";

fn parts(parts: &[&str]) -> Value {
    let parts: Vec<Value> = parts.iter().map(|text| json!({ "type": "text", "text": text })).collect();
    json!({ "model": "m", "messages": [{ "role": "user", "content": parts }] })
}

fn message(message: Value) -> Value {
    json!({ "model": "m", "messages": [message] })
}

fn called(arguments: &str) -> Value {
    let call = json!({ "id": "c", "type": "function", "function": { "name": "f", "arguments": arguments } });
    message(json!({ "role": "assistant", "content": null, "tool_calls": [call] }))
}

#[tokio::test]
async fn no_prompt_hides_a_word() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("fine"))).await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", RULES)).await;
    let tags: String = "project heron".chars().map(|c| char::from_u32(0xe0000 + u32::from(c)).unwrap()).collect();
    for body in [
        parts(&["project", "heron"]),
        parts(&["pro", "ject heron"]),
        parts(&["pro\u{200b}ject her\u{ad}on"]),
        parts(&["ｐｒｏｊｅｃｔ ｈｅｒｏｎ"]),
        parts(&[&tags]),
        parts(&["about _Project Heron_ now"]),
        parts(&["about p\u{336}r\u{336}o\u{336}ject her\u{305}on now"]),
        parts(&["about __CN-123456__ now"]),
        message(json!({ "role": "tool", "tool_call_id": "c", "content": r#"{"q":"gr\u00f6\u00dfe"}"# })),
        message(json!({ "role": "tool", "tool_call_id": "c", "content": r#"{"q":"{\"q\":\"project\\nheron\"}"}"# })),
        called(r#"{"q":"gr\u00f6\u00dfe"}"#),
        called(r#"{"q":"project\nheron"}"#),
        message(json!({ "role": "user", "name": "project heron", "content": "x" })),
        message(json!({ "role": "user", "content": [{ "type": "newfangled", "blob": "project heron" }] })),
        message(json!({ "role": "user", "content": "x", "newfangled": [{ "deep": "project heron" }] })),
        json!({ "model": "m", "messages": [], "documents": [{ "text": "project heron" }] }),
        json!({ "model": "m", "messages": [], "chat_template": "project heron" }),
    ] {
        let answer = gateway.post("/v1/chat/completions", &body).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "content_blocked"), "{body}");
    }
    assert_eq!(backend.count(), 0, "nothing of it reached a model");
    for body in [parts(&["project", "of herons"]), message(json!({ "role": "user", "content": "fine \u{1f469}\u{200d}\u{1f680}" }))] {
        assert_eq!(gateway.post("/v1/chat/completions", &body).await.status, 200, "{body}");
    }
}

/// The settings of an API hold words of the API, and some texts that the model reads.
#[tokio::test]
async fn no_setting_hides_a_word() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, json!({ "content": [], "choices": [{}], "usage": {} }).to_string())).await;
    let rules = "[plugins.guard]\nwords = [\"kestrel\", \"mp3\", \"auto\"]\n";
    let members = [member("a", &backend, 1), Member { name: "b", backend: &backend, priority: 1, extra: "kind = \"anthropic\"" }];
    let gateway = Gateway::start(&config(&members, "", rules)).await;
    let status = async |path: &str, name: &str, value: Value| {
        let mut body = json!({ "model": "m", "max_tokens": 9, "messages": [{ "role": "user", "content": "hi" }] });
        body[name] = value;
        let request = spillway_testkit::client::post(path, &[], body.to_string().as_bytes());
        spillway_testkit::client::ask(gateway.address, request).await.unwrap().status
    };
    let named = json!({ "type": "object", "properties": { "kestrel": { "type": "string" } } });
    let told = json!({ "type": "object", "properties": { "x": { "type": "string", "enum": ["kestrel"] } } });
    for schema in [named, told] {
        let format = json!({ "type": "json_schema", "schema": schema });
        assert_eq!(status("/v1/messages", "output_config", json!({ "effort": "low", "format": format })).await, 403, "{format}");
        assert_eq!(status("/v1/messages", "output_format", format.clone()).await, 403, "{format}");
    }
    let edits = json!({ "edits": [{ "type": "compact_20260112", "instructions": "kestrel" }] });
    assert_eq!(status("/v1/messages", "context_management", edits).await, 403);
    let place = json!({ "user_location": { "type": "approximate", "approximate": { "city": "kestrel" } } });
    assert_eq!(status("/v1/chat/completions", "web_search_options", place).await, 403);
    assert_eq!(backend.count(), 0);
    // These are words of the API.
    assert_eq!(status("/v1/chat/completions", "audio", json!({ "format": "mp3", "voice": "kestrel" })).await, 200);
    assert_eq!(status("/v1/chat/completions", "reasoning", json!({ "summary": "auto" })).await, 200);
}

/// A wrong escape far inside of a text is the backend's to refuse, but the guard lets nothing pass that it can't read.
#[tokio::test]
async fn what_cannot_be_decoded_does_not_pass_the_guard() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("fine"))).await;
    let open = consumer("open", "guard = false") + &consumer("guarded", "");
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &(RULES.to_owned() + &open))).await;
    let long = "words ".repeat(200);
    for wrong in [r"\q", r"\u12"] {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{long}{wrong}"}}]}}"#);
        let status = async |key: &str| {
            let request = spillway_testkit::client::post("/v1/chat/completions", &[("api-key", key)], body.as_bytes());
            spillway_testkit::client::ask(gateway.address, request).await.unwrap().status
        };
        assert!(matches!(status("guarded").await, 400 | 403), "{wrong}");
        assert_eq!(backend.count(), 0, "{wrong}");
        assert_eq!(status("open").await, 200, "{wrong}");
        assert_eq!(backend.received().pop().unwrap().body, body.as_bytes(), "the bytes don't change");
        backend.forget();
    }
}

#[tokio::test]
async fn no_answer_hides_a_word() {
    for pieces in [
        &["about _project", " heron_", " on now"][..],
        &["about _CN-", "123456_", " on now"],
        &["about pro\u{200b}", "\u{200b}\u{200b}ject her", "on now"],
        &["ｐｒｏ", "ｊｅｃｔ ", "ｈｅｒｏｎ"],
    ] {
        let whole = pieces.concat();
        let events: Vec<String> =
            std::iter::once(role()).chain(pieces.iter().map(|piece| delta(piece))).chain([stop(), DONE.to_owned()]).collect();
        stops(events, answer(&whole), ["on now", "ｈｅｒｏｎ"]).await;
    }
}

/// The answer is stopped, as a stream of these `events` and as a `plain` one, before `unseen` reaches the caller.
async fn stops(events: Vec<String>, plain: String, unseen: [&str; 2]) {
    let backend = ScriptedBackend::start(move |request| {
        if request.json()["stream"] == json!(true) { Reply::sse(events.clone()) } else { Reply::json(200, plain.clone()) }
    })
    .await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", RULES)).await;
    for stream in [false, true] {
        let answer = gateway.post("/v1/chat/completions", &chat(stream)).await;
        let text = answer.text();
        assert!(answer.status == 403 || text.contains("content_filter"), "{stream}: {text}");
        assert!(unseen.iter().all(|part| !text.contains(part)), "{stream}: {text}");
    }
}

/// In the arguments of a call a word is written as in JSON, and comes in pieces.
#[tokio::test]
async fn no_call_hides_a_word() {
    let far = r"\u0020".repeat(150);
    for pieces in
        [&[r#"{"q":"project"#, r#"\nheron"}"#][..], &[r#"{"q":"gr\u00"#, r#"f6\u00dfe"}"#], &[r#"{"q":"project"#, &far, r#"heron"}"#]]
    {
        let whole = pieces.concat();
        let call =
            |arguments: &str| json!([{ "index": 0, "id": "c", "type": "function", "function": { "name": "f", "arguments": arguments } }]);
        let event = |delta: Value| {
            let choice = json!({ "index": 0, "delta": delta, "finish_reason": null });
            let chunk = json!({ "id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice] });
            format!("data: {chunk}\n\n")
        };
        let deltas = pieces.iter().map(|piece| event(json!({ "tool_calls": call(piece) })));
        let events: Vec<String> = std::iter::once(role()).chain(deltas).chain([stop(), DONE.to_owned()]).collect();
        let message = json!({ "role": "assistant", "content": null, "tool_calls": call(&whole) });
        let plain = json!({ "id": "c", "model": "m", "choices": [{ "index": 0, "message": message, "finish_reason": "tool_calls" }] });
        stops(events, plain.to_string(), ["heron", "dfe"]).await;
    }
}

#[tokio::test]
async fn the_service_is_asked_about_what_is_seen() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("fine"))).await;
    let service = ContentSafety::start().await;
    let rest = format!(
        "[plugins.guard]\n[plugins.guard.content_safety]\nurl = \"{}/\"\nauth = {{ type = \"api-key\", key = \"{KEY}\" }}\nprompt_shield = true\n",
        service.backend.url()
    );
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &rest)).await;
    for body in [
        parts(&["[ha\u{200b}te:4]"]),
        parts(&["［ｈａｔｅ：４］"]),
        message(json!({ "role": "user", "content": "x", "newfangled": "[hate:4]" })),
        json!({ "model": "m", "messages": [], "documents": [{ "text": "[attack]" }] }),
    ] {
        assert_eq!(gateway.post("/v1/chat/completions", &body).await.status, 403, "{body}");
    }
    assert_eq!(backend.count(), 0);
    // Credentials for a tool's server are nobody else's.
    let tools = json!({ "model": "m", "input": "hi", "tools": [
        { "type": "mcp", "server_label": "l", "server_url": "https://host", "authorization": "CANARY-1", "headers": { "x": "CANARY-2" } },
    ] });
    assert_eq!(gateway.post("/v1/responses", &tools).await.status, 200);
    assert!(service.backend.received().iter().all(|asked| !asked.json().to_string().contains("CANARY")));
}
