//! The end of a stream that is stopped because of its content: in the format of its API, as its own content filter
//! would end it.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::api::Api;

/// The parts of a stream that its end must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamEnding {
    /// The members of a chunk except its choices.
    beside: Vec<(String, Value)>,
    /// Choices that have begun.
    choices: BTreeSet<u64>,
    /// The content block that has begun and not ended.
    block: Option<u64>,
    /// Output tokens reported so far.
    tokens: u64,
    /// The response as it was at its beginning.
    response: Option<Value>,
}

impl StreamEnding {
    /// Records an event that is sent to the caller.
    pub fn note(&mut self, data: &[u8]) {
        let Ok(event) = serde_json::from_slice::<Value>(data) else { return };
        match event["type"].as_str() {
            Some("content_block_start") => self.block = event["index"].as_u64(),
            Some("content_block_stop") => self.block = None,
            Some("message_start") => self.tokens = event["message"]["usage"]["output_tokens"].as_u64().unwrap_or(0),
            Some("response.created") => self.response = Some(event["response"].clone()),
            _ => {}
        }
        let choices = event["choices"].as_array().into_iter().flatten();
        self.choices.extend(choices.filter_map(|choice| choice["index"].as_u64()));
        if self.beside.is_empty() && event["id"].as_str().is_some_and(|id| !id.is_empty()) {
            for name in ["id", "created", "model", "system_fingerprint"] {
                self.beside.extend(event.get(name).map(|value| (name.to_owned(), value.clone())));
            }
        }
    }

    /// The last events of the stream. `sequence` is the number of the last typed event that was sent.
    pub fn events(&self, api: Api, sequence: Option<u64>) -> Bytes {
        let typed = |value: &Value| format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap_or_default());
        let text = match api {
            Api::Responses => {
                let mut response = self.response.clone().unwrap_or_else(|| json!({ "id": "", "object": "response", "output": [] }));
                response["status"] = "incomplete".into();
                response["incomplete_details"] = json!({ "reason": "content_filter" });
                typed(&json!({ "type": "response.incomplete", "sequence_number": sequence.map_or(0, |n| n + 1), "response": response }))
            }
            Api::Messages => {
                let stop = self.block.map(|index| typed(&json!({ "type": "content_block_stop", "index": index }))).unwrap_or_default();
                let delta = json!({ "stop_reason": "refusal", "stop_sequence": null });
                stop + &typed(&json!({ "type": "message_delta", "delta": delta, "usage": { "output_tokens": self.tokens } }))
                    + &typed(&json!({ "type": "message_stop" }))
            }
            Api::Completions => self.choices("text_completion", &|choice| choice["text"] = "".into()),
            _ => self.choices("chat.completion.chunk", &|choice| choice["delta"] = json!({})),
        };
        text.into()
    }

    fn choices(&self, object: &str, fill: &dyn Fn(&mut Value)) -> String {
        let mut text = String::new();
        let first = BTreeSet::from([0]);
        for index in if self.choices.is_empty() { &first } else { &self.choices } {
            let mut choice = json!({ "index": index, "logprobs": null, "finish_reason": "content_filter" });
            fill(&mut choice);
            let mut chunk = json!({ "object": object, "choices": [choice] });
            self.beside.iter().for_each(|(name, value)| chunk[name] = value.clone());
            text += &format!("data: {chunk}\n\n");
        }
        text + "data: [DONE]\n\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(api: Api, events: &[Value]) -> String {
        let mut ending = StreamEnding::default();
        events.iter().for_each(|event| ending.note(event.to_string().as_bytes()));
        String::from_utf8(ending.events(api, Some(4)).to_vec()).unwrap()
    }

    #[test]
    fn the_end_fits_to_what_went_before() {
        let chunk = |index: u64| json!({ "id": "c1", "model": "m", "created": 5, "choices": [{ "index": index, "delta": {} }] });
        let chat = ended(Api::Chat, &[chunk(0), chunk(2)]);
        assert_eq!(chat.matches("\"finish_reason\":\"content_filter\"").count(), 2);
        assert!(
            chat.contains("\"index\":2")
                && chat.contains("\"id\":\"c1\"")
                && chat.contains("\"model\":\"m\"")
                && chat.ends_with("data: [DONE]\n\n")
        );
        let begun = json!({ "type": "content_block_start", "index": 1, "content_block": {} });
        let messages = ended(Api::Messages, &[json!({ "type": "message_start", "message": { "usage": { "output_tokens": 3 } } }), begun]);
        let names: Vec<&str> = messages.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
        assert_eq!(names, ["content_block_stop", "message_delta", "message_stop"]);
        assert!(messages.contains("\"refusal\"") && messages.contains("\"output_tokens\":3"));
        let response = ended(Api::Responses, &[json!({ "type": "response.created", "response": { "id": "r1", "status": "in_progress" } })]);
        assert!(
            response.starts_with("event: response.incomplete\n")
                && response.contains("\"id\":\"r1\"")
                && response.contains("\"sequence_number\":5")
        );
    }
}
