//! A backend for embeddings: texts with the same words have the same direction, in any order.

use serde_json::{Value, json};

use crate::backend::{Received, Reply, ScriptedBackend};

/// Components of an embedding.
const DIMENSIONS: usize = 64;

/// The embedding of a text: a component for each word, by its hash (FNV-1a).
pub fn embedding(text: &str) -> Vec<f32> {
    let mut vector = vec![0.0; DIMENSIONS];
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    for word in words {
        let hash = word
            .to_lowercase()
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        // Each word sets several components, so that two words seldom share all of them.
        for shift in [0, 16, 32] {
            let bits = hash >> shift;
            vector[(bits % DIMENSIONS as u64) as usize] += if bits & 0x100 == 0 { 1.0 } else { -1.0 };
        }
    }
    vector
}

/// Answers a request for embeddings of one text or several; each word is a token.
pub fn answer(request: &Received) -> Reply {
    let body = request.json();
    let texts: Vec<&str> = match &body["input"] {
        Value::String(text) => vec![text],
        Value::Array(texts) => texts.iter().filter_map(Value::as_str).collect(),
        _ => return Reply::json(400, json!({ "error": { "message": "no input" } }).to_string()),
    };
    let tokens: usize = texts.iter().map(|text| text.split_whitespace().count()).sum();
    let data: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| json!({ "object": "embedding", "index": index, "embedding": embedding(text) }))
        .collect();
    let usage = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
    Reply::json(200, json!({ "object": "list", "model": body["model"], "data": data, "usage": usage }).to_string())
}

/// Starts a backend on a free port.
pub async fn start() -> ScriptedBackend {
    ScriptedBackend::start(answer).await
}
