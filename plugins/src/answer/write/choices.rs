//! Chats and legacy completions as chunks: for each choice an opening, its output, and its finish reason.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Lines, Object, filled, list, object};

/// Fields of an answer that its chunks don't repeat unchanged.
const NOT_HEAD: [&str; 6] = ["object", "choices", "usage", "error", "prompt_filter_results", "prompt_annotations"];

/// The fields of a message that have a chunk of their own.
const OWN_CHUNK: [&str; 5] = ["role", "content", "refusal", "tool_calls", "function_call"];

/// The stream under construction.
struct Chunks<'a> {
    lines: Lines,
    /// The fields that every chunk repeats.
    head: Object,
    /// The usage, if the caller asked for it.
    usage: Option<&'a Value>,
}

/// Streams a chat. `None` if a choice is unfinished or contains audio, which can't be split.
pub(in crate::answer) fn chat(answer: &Object, include_usage: bool) -> Option<Bytes> {
    let mut chunks = Chunks::open(answer, "chat.completion.chunk", include_usage)?;
    for (index, choice) in finished_choices(answer)? {
        let Some(Value::Object(message)) = choice.get("message") else { return None };
        if message.get("audio").is_some_and(|audio| !audio.is_null()) {
            return None;
        }
        chunks.add_message(index, choice, message)?;
    }
    Some(chunks.finish())
}

/// Streams a legacy completion. `None` if a choice is unfinished.
pub(in crate::answer) fn completions(answer: &Object, include_usage: bool) -> Option<Bytes> {
    let mut chunks = Chunks::open(answer, "text_completion", include_usage)?;
    for (index, choice) in finished_choices(answer)? {
        let text = choice.get("text").and_then(Value::as_str)?;
        let mut output = extras(choice);
        output.extend(object([("text", text.into()), ("logprobs", choice.get("logprobs").cloned().unwrap_or_default())]));
        chunks.add(index, output, Value::Null);
        chunks.add(index, object([("text", "".into()), ("logprobs", Value::Null)]), finish_reason(choice));
    }
    Some(chunks.finish())
}

impl<'a> Chunks<'a> {
    /// `None` if the usage is asked for but not known.
    fn open(answer: &'a Object, kind: &str, include_usage: bool) -> Option<Self> {
        let usage = answer.get("usage").filter(|usage| usage.is_object());
        if include_usage && usage.is_none() {
            return None;
        }
        let mut head: Object =
            answer.iter().filter(|(key, _)| !NOT_HEAD.contains(&key.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect();
        head.insert("object".to_owned(), kind.into());
        let mut chunks = Chunks { lines: Lines::default(), head, usage: usage.filter(|_| include_usage) };
        for filters in ["prompt_filter_results", "prompt_annotations"] {
            if let Some(found) = answer.get(filters) {
                // As at Azure: this chunk has none of the answer's fields.
                let chunk = json!({"id": "", "object": "", "created": 0, "model": "", "choices": [], filters: found});
                chunks.lines.data(chunk);
            }
        }
        Some(chunks)
    }

    fn add_message(&mut self, index: u64, choice: &Object, message: &Object) -> Option<()> {
        let mut opening = object([("role", message.get("role").cloned().unwrap_or_else(|| "assistant".into()))]);
        opening.insert("content".to_owned(), if message.get("content").is_some_and(Value::is_string) { "".into() } else { Value::Null });
        if message.contains_key("refusal") {
            opening.insert("refusal".to_owned(), Value::Null);
        }
        let mut deltas = vec![opening];
        let others: Object = message
            .iter()
            .filter(|(key, _)| !OWN_CHUNK.contains(&key.as_str()) && *key != "audio")
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        if !others.is_empty() {
            deltas.push(others);
        }
        for key in ["content", "refusal"] {
            match message.get(key) {
                Some(Value::String(text)) if key == "refusal" || !text.is_empty() => deltas.push(object([(key, text.as_str().into())])),
                None | Some(Value::Null | Value::String(_)) => {}
                Some(_) => return None,
            }
        }
        if let Some(call) = message.get("function_call").filter(|call| call.is_object()) {
            deltas.push(object([("function_call", call.clone())]));
        }
        for (position, call) in list(message, "tool_calls").iter().enumerate() {
            let mut call = call.as_object()?.clone();
            call.insert("index".to_owned(), position.into());
            deltas.push(object([("tool_calls", json!([call]))]));
        }
        // Further data about the output goes with its first chunk, or else with the last one.
        let first_output = 1;
        deltas.push(Object::new());
        let last = deltas.len() - 1;
        for (position, delta) in deltas.into_iter().enumerate() {
            let mut fields = if position == first_output { extras(choice) } else { Object::new() };
            if let Some(logprobs) = choice.get("logprobs") {
                fields.insert("logprobs".to_owned(), if position == first_output { logprobs.clone() } else { Value::Null });
            }
            fields.insert("delta".to_owned(), delta.into());
            self.add(index, fields, if position == last { finish_reason(choice) } else { Value::Null });
        }
        Some(())
    }

    fn add(&mut self, index: u64, mut choice: Object, finish_reason: Value) {
        choice.insert("index".to_owned(), index.into());
        choice.insert("finish_reason".to_owned(), finish_reason);
        self.add_chunk(json!([choice]), self.usage.map(|_| Value::Null));
    }

    fn add_chunk(&mut self, choices: Value, usage: Option<Value>) {
        let mut chunk = self.head.clone();
        chunk.insert("choices".to_owned(), choices);
        if let Some(usage) = usage {
            chunk.insert("usage".to_owned(), usage);
        }
        self.lines.data(Value::from(chunk));
    }

    fn finish(mut self) -> Bytes {
        if let Some(usage) = self.usage {
            self.add_chunk(json!([]), Some(usage.clone()));
        }
        self.lines.data("[DONE]");
        self.lines.finish()
    }
}

/// The choices with their numbers; `None` if there are none or one is unfinished.
fn finished_choices(answer: &Object) -> Option<Vec<(u64, &Object)>> {
    let choices = list(answer, "choices");
    let numbered = |(position, choice): (usize, &'_ Value)| choice.get("index").and_then(Value::as_u64).unwrap_or(position as u64);
    let all: Option<Vec<_>> = choices
        .iter()
        .enumerate()
        .map(|found| {
            let choice = found.1.as_object()?;
            filled(choice, "finish_reason")?;
            Some((numbered(found), choice))
        })
        .collect();
    all.filter(|all| !all.is_empty())
}

fn finish_reason(choice: &Object) -> Value {
    choice.get("finish_reason").cloned().unwrap_or_default()
}

/// A choice's fields besides its output, such as the results of filters.
fn extras(choice: &Object) -> Object {
    const OUTPUT: [&str; 5] = ["index", "message", "text", "logprobs", "finish_reason"];
    choice.iter().filter(|(key, _)| !OUTPUT.contains(&key.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect()
}
