//! The last question in a request, and everything around it.

use std::ops::Range;

use super::Particulars;
use crate::api::Api;
use crate::cache::{CacheKey, key};
use crate::json::{Kind, Reader, Value};

/// A request that may be answered by the answer to a similar one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Equal for requests that differ only in the text of the last message.
    pub scope: CacheKey,
    /// The parts of the text that must be equal.
    pub particulars: Particulars,
    /// The text.
    pub text: String,
}

/// Which requests use the semantic cache, and what may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scoping {
    /// Most messages, without instructions: the last message of a long conversation doesn't show its meaning.
    pub max_messages: usize,
    /// Instructions may differ.
    pub ignore_system: bool,
}

/// Longest text that is compared, in bytes.
const LONGEST: usize = 8 * 1024;

/// Reads a request of `namespace`; `None` if the semantic cache is not for it.
pub fn question(namespace: &str, api: Api, model: &str, body: &[u8], scoping: Scoping) -> Option<Question> {
    let mut blanked = Vec::new();
    let text = match api {
        Api::Chat | Api::Messages => last_message(body, scoping, &mut blanked)?,
        Api::Responses => {
            let input = member(body, None, "input").filter(|input| input.kind == Kind::String)?;
            blanked.push(input.range.clone());
            input.as_str(body)?.into_owned()
        }
        _ => return None,
    };
    if text.trim().is_empty() || text.len() > LONGEST {
        return None;
    }
    if scoping.ignore_system {
        blanked.extend(["system", "instructions"].into_iter().filter_map(|name| member(body, None, name)).map(|value| value.range));
    }
    let scope = key(&format!("semantic:{namespace}"), api, model, &without(body, blanked))?;
    Some(Question { scope, particulars: Particulars::of(&text), text })
}

/// A member of an object, or of the whole body. `None` if it occurs twice.
fn member(body: &[u8], object: Option<&Value>, name: &str) -> Option<Value> {
    let (mut found, mut times) = (None, 0);
    let mut read = |key: &str, value: Value| {
        if key == name {
            found = Some(value);
            times += 1;
        }
    };
    match object {
        Some(object) => Reader::within(body, object).object(&mut read),
        None => Reader::new(body).object(&mut read),
    }
    .ok()?;
    found.filter(|_| times == 1)
}

/// The text of the last message, if a person wrote it and it is only text; its position is added to `blanked`.
fn last_message(body: &[u8], scoping: Scoping, blanked: &mut Vec<Range<usize>>) -> Option<String> {
    let messages = member(body, None, "messages").filter(|messages| messages.kind == Kind::Array)?;
    let mut all = Vec::new();
    Reader::within(body, &messages).array(|message| all.push(message)).ok()?;
    let role = |message: &Value| member(body, Some(message), "role").and_then(|role| role.as_str(body).map(|role| role.into_owned()));
    let is_system = |message: &&Value| matches!(role(message).as_deref(), Some("system" | "developer"));
    let (system, spoken): (Vec<&Value>, Vec<&Value>) = all.iter().filter(|message| message.kind == Kind::Object).partition(is_system);
    let last = all.last().filter(|last| last.kind == Kind::Object && role(last).as_deref() == Some("user"))?;
    if spoken.len() > scoping.max_messages || system.len() + spoken.len() != all.len() {
        return None;
    }
    if scoping.ignore_system {
        blanked.extend(system.iter().map(|message| message.range.clone()));
    }
    let content = member(body, Some(last), "content")?;
    let text = match content.kind {
        Kind::String => content,
        Kind::Array => {
            let mut parts = Vec::new();
            Reader::within(body, &content).array(|part| parts.push(part)).ok()?;
            let [part] = parts.as_slice() else { return None };
            member(body, Some(part).filter(|part| part.kind == Kind::Object), "text").filter(|text| text.kind == Kind::String)?
        }
        _ => return None,
    };
    let value = text.as_str(body)?.into_owned();
    blanked.push(text.range);
    Some(value)
}

/// The body with these values replaced by nulls.
fn without(body: &[u8], mut ranges: Vec<Range<usize>>) -> Vec<u8> {
    ranges.sort_by_key(|range| range.start);
    let mut rest = Vec::with_capacity(body.len());
    let mut at = 0;
    for range in ranges {
        rest.extend_from_slice(&body[at..range.start]);
        rest.extend_from_slice(b"null");
        at = range.end;
    }
    rest.extend_from_slice(&body[at..]);
    rest
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    const SCOPING: Scoping = Scoping { max_messages: 1, ignore_system: false };

    fn of(api: Api, body: &Json, scoping: Scoping) -> Option<Question> {
        question("n", api, "m", body.to_string().as_bytes(), scoping)
    }

    fn chat(system: &str, text: &str) -> Json {
        json!({ "temperature": 1, "messages": [{ "role": "system", "content": system }, { "role": "user", "content": text }] })
    }

    #[test]
    fn only_the_last_text_may_differ() {
        let base = of(Api::Chat, &chat("be kind", "reset my password"), SCOPING).unwrap();
        assert_eq!(base.text, "reset my password");
        assert_eq!(of(Api::Chat, &chat("be kind", "forgot it"), SCOPING).unwrap().scope, base.scope);
        assert_ne!(of(Api::Chat, &chat("be rude", "reset my password"), SCOPING).unwrap().scope, base.scope);
        let mut hotter = chat("be kind", "reset my password");
        hotter["temperature"] = json!(2);
        assert_ne!(of(Api::Chat, &hotter, SCOPING).unwrap().scope, base.scope);
        assert_ne!(of(Api::Messages, &chat("be kind", "reset my password"), SCOPING).unwrap().scope, base.scope);
        assert_ne!(question("o", Api::Chat, "m", chat("be kind", "x").to_string().as_bytes(), SCOPING).unwrap().scope, base.scope);
        let ignoring = Scoping { ignore_system: true, ..SCOPING };
        let scope = |system: &str| of(Api::Chat, &chat(system, "x"), ignoring).unwrap().scope;
        assert_eq!(scope("be kind"), scope("be rude"));
    }

    #[test]
    fn a_text_in_a_part_or_as_input_is_read() {
        let parts = json!({ "messages": [{ "role": "user", "content": [{ "type": "text", "text": "hi" }] }] });
        assert_eq!(of(Api::Chat, &parts, SCOPING).unwrap().text, "hi");
        assert_eq!(of(Api::Responses, &json!({ "instructions": "x", "input": "hi" }), SCOPING).unwrap().text, "hi");
    }

    #[test]
    fn what_a_text_alone_does_not_tell_is_left_alone() {
        let user = |content: Json| json!({ "role": "user", "content": content });
        for body in [
            json!({ "messages": [user(json!("a")), { "role": "assistant", "content": "b" }, user(json!("c"))] }),
            json!({ "messages": [user(json!("a")), { "role": "assistant", "content": "b" }] }),
            json!({ "messages": [user(json!([{ "type": "text", "text": "a" }, { "type": "image_url", "image_url": {} }]))] }),
            json!({ "messages": [user(json!(" "))] }),
            json!({ "messages": [user(json!("x".repeat(10_000)))] }),
            json!({ "messages": [] }),
            json!({ "messages": ["a", user(json!("c"))] }),
        ] {
            assert_eq!(of(Api::Chat, &body, SCOPING), None, "{body}");
        }
        let talk = json!({ "messages": [user(json!("a")), { "role": "assistant", "content": "b" }, user(json!("c"))] });
        assert!(of(Api::Chat, &talk, Scoping { max_messages: 3, ..SCOPING }).is_some());
        assert_eq!(of(Api::Responses, &json!({ "input": [] }), SCOPING), None);
        assert_eq!(of(Api::Embeddings, &json!({ "input": "x" }), SCOPING), None);
        assert_eq!(question("n", Api::Chat, "m", br#"{"messages":[{"role":"user","content":"a","content":"b"}]}"#, SCOPING), None);
    }
}
