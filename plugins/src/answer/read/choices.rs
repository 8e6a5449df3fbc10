//! Chunks of chats and legacy completions: `choices[]` with a `delta` or a `text`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::event::{EventContent, Object, Read, for_each, index_of, take_object};
use super::merge::{append, keep_first, keep_worst};

/// The kind of a choice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A `message`, in chats.
    Message,
    /// A `text`, in legacy completions.
    Text,
}

/// Fields of a chunk that are not part of a whole answer, or are handled separately.
const NOT_HEAD: [&str; 3] = ["object", "obfuscation", "usage"];

/// The answer so far.
#[derive(Default)]
struct Chunks {
    head: Object,
    choices: BTreeMap<u64, Choice>,
    error: Option<Value>,
    done: bool,
    unreadable: bool,
}

/// One choice so far.
#[derive(Default)]
struct Choice {
    /// The fields except those below.
    fields: Object,
    message: Object,
    calls: BTreeMap<u64, Object>,
}

/// Reads a stream.
pub(super) fn read(events: &[u8], form: Form) -> Option<Read> {
    let mut chunks = Chunks::default();
    for_each(events, |told| {
        if chunks.done {
            return;
        }
        match told {
            EventContent::Object(_, chunk) => chunks.take(chunk),
            EventContent::Done => chunks.done = true,
            EventContent::Unreadable => chunks.unreadable = true,
        }
    });
    chunks.finish(form)
}

impl Chunks {
    fn take(&mut self, mut chunk: Object) {
        if let Some(error) = chunk.remove("error").filter(|error| !error.is_null()) {
            self.error = Some(error);
            return;
        }
        if let Some(Value::Array(choices)) = chunk.remove("choices") {
            for choice in choices {
                match choice {
                    Value::Object(choice) => self.take_choice(choice),
                    _ => self.unreadable = true,
                }
            }
        }
        for filters in ["prompt_filter_results", "prompt_annotations"] {
            if let Some(found) = chunk.remove(filters) {
                self.unreadable |= !append(&mut self.head, filters.to_owned(), found);
            }
        }
        // Some backends report usage in every chunk; the last one is complete.
        if let Some(usage) = take_object(&mut chunk, "usage") {
            self.head.insert("usage".to_owned(), usage.into());
        }
        // The chunks of Azure's filters have neither the answer's id nor its model.
        if chunk.get("id").and_then(Value::as_str) != Some("") {
            for (key, value) in chunk {
                if !NOT_HEAD.contains(&key.as_str()) {
                    keep_first(&mut self.head, key, value);
                }
            }
        }
    }

    fn take_choice(&mut self, choice: Object) {
        let into = self.choices.entry(index_of(&choice, "index").unwrap_or(0)).or_default();
        for (key, value) in choice {
            match (key.as_str(), value) {
                // Offsets belong to a chunk: they say which part of the text was checked.
                ("index" | "content_filter_offsets", _) => {}
                ("delta", Value::Object(delta)) => self.unreadable |= !into.take_delta(delta),
                ("delta", value) => self.unreadable |= !value.is_null(),
                ("text" | "logprobs", value) => self.unreadable |= !append(&mut into.fields, key, value),
                (_, value) => keep_worst(&mut into.fields, key, value),
            }
        }
    }

    fn finish(mut self, form: Form) -> Option<Read> {
        if self.choices.is_empty() && self.head.is_empty() && self.error.is_none() {
            return None;
        }
        let finished = |choice: &Choice| choice.fields.get("finish_reason").is_some_and(Value::is_string);
        // Without the end mark, a further choice or the usage may be missing.
        let whole = self.done && !self.unreadable && self.error.is_none() && !self.choices.is_empty();
        let whole = whole && self.choices.values().all(finished);
        let object = if form == Form::Message { "chat.completion" } else { "text_completion" };
        self.head.insert("object".to_owned(), object.into());
        let choices: Vec<Value> = self.choices.into_iter().map(|(index, choice)| choice.finish(index, form)).collect();
        self.head.insert("choices".to_owned(), choices.into());
        if let Some(error) = self.error {
            self.head.insert("error".to_owned(), error);
        }
        Some(Read { answer: self.head.into(), whole })
    }
}

impl Choice {
    /// False if it can't be parsed.
    fn take_delta(&mut self, delta: Object) -> bool {
        let mut fits = true;
        for (key, value) in delta {
            fits &= match (key.as_str(), value) {
                ("role", role) => {
                    keep_first(&mut self.message, key, role);
                    true
                }
                ("tool_calls", Value::Array(calls)) => self.take_calls(calls),
                ("tool_calls", Value::Null) => true,
                ("function_call", Value::Object(call)) => {
                    let function = self.message.entry(key).or_insert_with(|| Map::new().into());
                    if !function.is_object() {
                        *function = Map::new().into();
                    }
                    function.as_object_mut().is_some_and(|function| take_function(function, call))
                }
                // Pieces of encoded audio can't be joined; audio is read only for its transcript.
                ("audio", Value::Object(audio)) => {
                    let _ = append(&mut self.message, key, audio.into());
                    false
                }
                (_, value) => append(&mut self.message, key, value),
            };
        }
        fits
    }

    fn take_calls(&mut self, calls: Vec<Value>) -> bool {
        let mut fits = true;
        for call in calls {
            fits &= self.take_call(call);
        }
        fits
    }

    fn take_call(&mut self, call: Value) -> bool {
        let Value::Object(call) = call else { return false };
        let id = call.get("id").and_then(Value::as_str).filter(|id| !id.is_empty());
        let last = self.calls.last_key_value().map(|(index, _)| *index);
        // If the backend doesn't number calls, an id begins the next one.
        let index = index_of(&call, "index").unwrap_or(match (last, id) {
            (None, _) => 0,
            (Some(last), Some(_)) => last.saturating_add(1),
            (Some(last), None) => last,
        });
        let into = self.calls.entry(index).or_default();
        // Two calls with the same index would be mixed up.
        let known = into.get("id").and_then(Value::as_str).filter(|id| !id.is_empty());
        let mut fits = known.is_none() || id.is_none() || known == id;
        for (key, value) in call {
            match (key.as_str(), value) {
                ("index", _) => {}
                (_, Value::Object(more)) => {
                    let function = into.entry(key).or_insert_with(|| Map::new().into());
                    fits &= function.as_object_mut().is_some_and(|function| take_function(function, more));
                }
                (_, value) => keep_first(into, key, value),
            }
        }
        fits
    }

    fn finish(mut self, index: u64, form: Form) -> Value {
        let mut choice = self.fields;
        choice.insert("index".to_owned(), index.into());
        choice.entry("finish_reason").or_insert(Value::Null);
        if form == Form::Text {
            choice.entry("text").or_insert_with(|| "".into());
            choice.entry("logprobs").or_insert(Value::Null);
            return choice.into();
        }
        let message = &mut self.message;
        message.entry("role").or_insert_with(|| "assistant".into());
        if !self.calls.is_empty() {
            let calls: Vec<Value> = self.calls.into_values().map(Value::from).collect();
            message.insert("tool_calls".to_owned(), calls.into());
        }
        let instead = ["tool_calls", "function_call", "refusal"].iter().any(|key| message.get(*key).is_some_and(|value| !value.is_null()));
        let content = message.entry("content").or_insert(Value::Null);
        // Many backends begin every stream with an empty content.
        if instead && content == "" {
            *content = Value::Null;
        }
        choice.insert("message".to_owned(), self.message.into());
        choice.into()
    }
}

/// The name comes once, the arguments in pieces.
fn take_function(into: &mut Object, more: Object) -> bool {
    let mut fits = true;
    for (key, value) in more {
        match key.as_str() {
            "arguments" | "input" => fits &= append(into, key, value),
            _ => keep_first(into, key, value),
        }
    }
    fits
}
