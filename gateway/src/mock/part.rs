//! Answers of sub-operations: the number of input tokens, and a compacted conversation.

use serde_json::{Value, json};
use spillway_plugins::api::Part;

use super::question::{Question, tokens};

/// The answer of a sub-operation.
pub(super) fn answer(part: Part, question: &Question<'_>) -> Value {
    let input = question.body.prompt_tokens;
    match part {
        Part::InputTokens => json!({ "object": "response.input_tokens", "input_tokens": input }),
        Part::CountTokens => json!({ "input_tokens": input }),
        Part::Compact => {
            let output = tokens(question.text);
            json!({
                "id": format!("resp_{:x}", question.unique), "object": "response.compaction", "created_at": question.created,
                "output": [{ "type": "compaction", "id": format!("cmp_{:x}", question.unique), "encrypted_content": "mock" }],
                "usage": { "input_tokens": input, "output_tokens": output, "total_tokens": input + output },
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use spillway_plugins::api::Api;

    use super::super::body::Body;
    use super::*;

    #[test]
    fn each_part_has_its_own_shape() {
        let body = Body::read(br#"{"input":"twelve chars","stream":true}"#).unwrap();
        for (part, object, tokens) in [
            (Part::InputTokens, json!("response.input_tokens"), "/input_tokens"),
            (Part::CountTokens, Value::Null, "/input_tokens"),
            (Part::Compact, json!("response.compaction"), "/usage/input_tokens"),
        ] {
            let question =
                Question { api: Api::Responses, part: Some(part), model: "m", body: &body, text: "x", created: 1, unique: 7, azure: true };
            let Some(super::super::answer::Answer::Plain(text)) = super::super::answer::answer(&question) else { panic!("{part:?}") };
            let answer: Value = serde_json::from_str(&text).unwrap();
            assert_eq!((&answer["object"], answer.pointer(tokens)), (&object, Some(&json!(body.prompt_tokens))));
            assert!(body.prompt_tokens > 0);
        }
    }
}
