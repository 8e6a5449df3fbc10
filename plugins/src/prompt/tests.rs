use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// What `with` finds in the prompt of a body, if it has one.
fn read_in<T>(api: Api, body: &[u8], with: impl FnOnce(Prompt<'_>) -> T) -> Option<T> {
    let tree = Tree::parse(body)?;
    read(api, &tree).map(with)
}

/// `role:text:attachments:name(arguments)…` for every message.
fn shown(api: Api, body: Value) -> Vec<String> {
    let one = |one: &Message<'_>| {
        let calls: String = one.calls.iter().map(|call| format!(":{}({})", call.name, call.arguments)).collect();
        format!("{}:{}:{}{calls}", one.role.name(), one.text, one.attachments)
    };
    read_in(api, body.to_string().as_bytes(), |prompt| prompt.messages.iter().map(one).collect()).unwrap()
}

#[test]
fn a_chat() {
    let body = json!({"model": "m", "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "No jokes."}]},
        {"role": "user", "name": "ann", "content": [
            {"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
            {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}, {"type": "file", "file": {"file_id": "f"}},
            {"type": "text", "text": "And why?"}]},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{\"x\":1}"}},
            {"id": "2", "type": "custom", "custom": {"name": "run", "input": "ls"}}]},
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "a cat"}]},
        {"role": "function", "name": "old", "content": "42"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}], "audio": {"id": "a"}},
        {"role": "assistant", "content": "hm", "refusal": "Never.", "function_call": {"name": "old", "arguments": "{}"}},
        {"role": "narrator", "content": "Later."},
        {"content": [{"type": "newfangled", "blob": "x"}]},
    ]});
    let expected = [
        "system:Be brief.:0",
        "system:No jokes.:0",
        "user:What is this?\nAnd why?:3",
        "assistant::0:look({\"x\":1}):run(ls)",
        "tool:a cat:0",
        "tool:42:0",
        "assistant:No.:1",
        "assistant:hm\nNever.:0:old({})",
        "user:Later.:0",
        "user::1",
    ];
    assert_eq!(shown(Api::Chat, body), expected);
}

#[test]
fn messages_of_anthropic() {
    let body = json!({"system": [{"type": "text", "text": "A"}, {"type": "text", "text": "B", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "redacted_thinking", "data": "x"},
            {"type": "text", "text": "Looking."}, {"type": "tool_use", "id": "t", "name": "look", "input": {"x": 1}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "cat"}, {"type": "image", "source": {}}]},
            {"type": "tool_result", "tool_use_id": "u", "content": "dog"},
            {"type": "text", "text": "Well?"},
            {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "plain"}},
            {"type": "document", "source": {"type": "base64", "data": "AA"}},
            {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "chunk"}]}},
            {"type": "search_result", "source": "http://x", "title": "S", "content": [{"type": "text", "text": "found"}]}]},
        {"role": "user", "content": []},
    ]});
    let expected = [
        "system:A\nB:0",
        "user:Hi:0",
        "assistant:hm\nLooking.:0:look({\"x\":1})",
        "tool:cat:1",
        "tool:dog:0",
        "user:Well?\nT\nplain\nchunk\nS\nfound:1",
        "user::0",
    ];
    assert_eq!(shown(Api::Messages, body), expected);
    assert_eq!(shown(Api::Messages, json!({"system": "S", "messages": []})), ["system:S:0"]);
}

#[test]
fn responses() {
    assert_eq!(shown(Api::Responses, json!({"instructions": "I", "input": "Hi"})), ["system:I:0", "user:Hi:0"]);
    let body = json!({"prompt": {"id": "p", "variables": {"city": "Paris", "pic": {"type": "input_image", "file_id": "f"}}}, "input": [
        {"role": "developer", "content": "D"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Q"}, {"type": "input_image", "image_url": "u"},
            {"type": "input_file", "file_id": "f"}]},
        {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "A", "annotations": []}, {"type": "refusal", "refusal": "N"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "42"},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "x"}, {"type": "input_image", "image_url": "u"}]},
        {"type": "custom_tool_call", "name": "g", "input": "ls"},
        {"type": "custom_tool_call_output", "output": "ok"},
        {"type": "computer_call", "action": {"type": "click"}},
        {"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": "u"}},
        {"type": "shell_call_output", "output": [{"stdout": "out", "stderr": "err"}]},
        {"type": "mcp_call", "name": "m", "arguments": "{}", "output": "res"},
        {"type": "web_search_call", "action": {"query": "cats"}},
        {"type": "image_generation_call", "result": "AAAA"},
        {"type": "item_reference", "id": "msg_1"},
    ]});
    let expected = [
        "user:Paris:1",
        "system:D:0",
        "user:Q:2",
        "assistant:hm:0",
        "assistant:A\nN:0",
        "assistant::0:f({})",
        "tool:42:0",
        "tool:x:1",
        "assistant::0:g(ls)",
        "tool:ok:0",
        "assistant::0:computer({\"type\":\"click\"})",
        "tool::1",
        "tool:out\nerr:0",
        "assistant::0:m({})",
        "tool:res:0",
        "assistant::0:web_search({\"query\":\"cats\"})",
        "assistant::1:image_generation()",
        "user::1",
    ];
    assert_eq!(shown(Api::Responses, body), expected);
}

#[test]
fn what_is_no_conversation() {
    assert_eq!(shown(Api::Completions, json!({"prompt": "P", "suffix": "S"})), ["user:S:0", "user:P:0"]);
    assert_eq!(shown(Api::Completions, json!({"prompt": ["a", "b"]})), ["user:a:0", "user:b:0"]);
    assert_eq!(shown(Api::Completions, json!({"prompt": [1, 2, 3]})), ["user::1"]);
    assert_eq!(shown(Api::Embeddings, json!({"input": [[1, 2], [3]]})), ["user::1", "user::1"]);
    assert_eq!(shown(Api::Embeddings, json!({"input": "x"})), ["user:x:0"]);
    assert_eq!(shown(Api::ImageGenerations, json!({"prompt": "a cat"})), ["user:a cat:0"]);
    assert_eq!(shown(Api::Speech, json!({"input": "hi", "instructions": "softly", "voice": "v"})), ["system:softly:0", "user:hi:0"]);
    assert_eq!(shown(Api::Completions, json!({})), Vec::<String>::new());
}

#[test]
fn names_of_tools() {
    let names = |api, body: Value| {
        let owned = |prompt: Prompt<'_>| prompt.tools.into_iter().map(std::borrow::Cow::into_owned).collect::<Vec<_>>();
        read_in(api, body.to_string().as_bytes(), owned).unwrap()
    };
    let chat = json!({"tools": [{"type": "function", "function": {"name": "f"}}, {"type": "custom", "custom": {"name": "c"}}],
        "functions": [{"name": "old"}], "web_search_options": {}});
    assert_eq!(names(Api::Chat, chat), ["f", "c", "old", "web_search"]);
    let responses = json!({"tools": [{"type": "function", "name": "f"}, {"type": "web_search"}, {"type": "mcp", "server_label": "l"},
        {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "in"}]}]});
    assert_eq!(names(Api::Responses, responses), ["f", "web_search", "mcp", "namespace", "n", "in"]);
    let anthropic = json!({"tools": [{"name": "a", "input_schema": {}}, {"type": "web_search_20250305", "name": "web_search"}],
        "mcp_servers": [{"type": "url", "name": "s", "url": "u"}]});
    assert_eq!(names(Api::Messages, anthropic), ["a", "web_search_20250305", "web_search", "url", "s"]);
}

#[test]
fn what_has_no_prompt() {
    for body in ["", "[]", "\"x\"", "{", "null"] {
        assert_eq!(read_in(Api::Chat, body.as_bytes(), |_| ()), None, "{body}");
    }
    assert_eq!(read_in(Api::Files, b"{}", |_| ()), None);
    assert_eq!(read_in(Api::Transcriptions, b"{}", |_| ()), None);
}

const NAMES: &str = "messages|input|prompt|system|instructions|content|type|text|role|tools|functions|function|name|output|tool_calls\
                     |function_call|source|data|variables|action|arguments|summary|audio|custom|results|title";
const TEXTS: &str = "text|image|document|tool_result|tool_use|reasoning|x_call|x_output|user|assistant|content|message|";

fn arbitrary() -> impl Strategy<Value = Value> {
    let pick = |list: &'static str| prop::sample::select(list.split('|').collect::<Vec<_>>());
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        pick(TEXTS).prop_map(Value::from),
        "\\PC{0,5}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        let member = (pick(NAMES), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..5).prop_map(Value::from),
            prop::collection::vec(member, 0..6)
                .prop_map(|list| Value::Object(list.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_is_survived(value in arbitrary(), list in prop::collection::vec(arbitrary(), 0..4)) {
        let body = json!({"messages": list.clone(), "input": list, "prompt": value.clone(), "system": value.clone(), "tools": value.clone(), "instructions": value});
        for api in Api::ALL {
            let _ = read_in(api, body.to_string().as_bytes(), |_| ());
            let _ = read_in(api, body["prompt"].to_string().as_bytes(), |_| ());
        }
    }

    #[test]
    fn any_bytes_are_survived(body in prop::collection::vec(any::<u8>(), 0..100)) {
        for api in Api::ALL {
            let _ = read_in(api, &body, |_| ());
        }
    }
}
