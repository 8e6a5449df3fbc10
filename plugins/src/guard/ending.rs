//! The end of a stream that is broken off because of what it holds: in the shape of its API, as its own filter would
//! end it.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::api::Api;

/// The last events of a stream of `choices` choices. `id` names the answer, `sequence` is the number of the last typed
/// event.
pub fn ending(api: Api, id: &str, choices: u64, sequence: Option<u64>) -> Bytes {
    let typed = |value: &Value| format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap_or_default());
    let each = |choice: &dyn Fn(u64) -> Value, object: &str| {
        let chunk = |index| json!({ "id": id, "object": object, "created": 0, "model": "", "choices": [choice(index)] });
        let chunks: String = (0..choices.clamp(1, 128)).map(|index| format!("data: {}\n\n", chunk(index))).collect();
        chunks + "data: [DONE]\n\n"
    };
    let text = match api {
        Api::Responses => {
            let response = json!({
                "id": id, "object": "response", "created_at": 0, "model": "", "status": "incomplete", "error": null,
                "incomplete_details": { "reason": "content_filter" }, "output": [], "parallel_tool_calls": true, "tools": [], "tool_choice": "auto",
            });
            typed(&json!({ "type": "response.incomplete", "sequence_number": sequence.map_or(0, |n| n + 1), "response": response }))
        }
        Api::Messages => {
            let delta = json!({ "stop_reason": "refusal", "stop_sequence": null });
            typed(&json!({ "type": "message_delta", "delta": delta, "usage": { "output_tokens": 0 } }))
                + &typed(&json!({ "type": "message_stop" }))
        }
        Api::Completions => {
            each(&|index| json!({ "index": index, "text": "", "logprobs": null, "finish_reason": "content_filter" }), "text_completion")
        }
        _ => each(&|index| json!({ "index": index, "delta": {}, "finish_reason": "content_filter" }), "chat.completion.chunk"),
    };
    text.into()
}
