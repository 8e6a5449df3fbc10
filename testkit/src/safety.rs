//! A mock of Azure AI Content Safety: severities, lists, shields and the limits of the real service.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::backend::{Received, Reply, ScriptedBackend};

/// The service. The text decides the result: `[hate:4]` has that severity, `[listed]` is in the blocklist `internal`,
/// `[attack]` is an attack.
pub struct ContentSafety {
    /// The backend below; it counts requests.
    pub backend: ScriptedBackend,
    instead: Arc<Mutex<Option<Reply>>>,
}

/// Its key.
pub const KEY: &str = "CANARY-content-safety";

impl ContentSafety {
    /// Starts it on a free port.
    pub async fn start() -> Self {
        let instead: Arc<Mutex<Option<Reply>>> = Arc::default();
        let scripted = Arc::clone(&instead);
        let backend = ScriptedBackend::start(move |request| {
            let scripted = scripted.lock().clone();
            scripted.unwrap_or_else(|| answer(request))
        })
        .await;
        ContentSafety { backend, instead }
    }

    /// Sends this answer to all requests, or (`None`) the normal answers.
    pub fn down(&self, reply: Option<Reply>) {
        *self.instead.lock() = reply;
    }
}

fn error(status: u16, code: &str) -> Reply {
    Reply::json(status, json!({ "error": { "code": code, "message": code } }).to_string())
}

fn answer(request: &Received) -> Reply {
    let by_key = request.header("ocp-apim-subscription-key") == Some(KEY);
    let by_token = request.header("authorization").is_some_and(|value| value.starts_with("Bearer "));
    if !by_key && !by_token {
        return error(401, "401");
    }
    let target = request.path().to_owned();
    let Some((path, "api-version=2024-09-01")) = target.split_once('?') else { return error(404, "404") };
    let body = request.json();
    match path {
        "/contentsafety/text:analyze" => analyze(&body),
        "/contentsafety/text:shieldPrompt" => shield(&body),
        _ => error(404, "404"),
    }
}

/// Longest text, in characters.
const LONGEST: usize = 10_000;

fn analyze(body: &Value) -> Reply {
    let text = body["text"].as_str().unwrap_or("");
    if text.is_empty() || text.chars().count() > LONGEST {
        return error(400, "InvalidRequestBody");
    }
    let step = if body["outputType"] == "EightSeverityLevels" { 1 } else { 2 };
    let severity = |category: &str| {
        let found = text.split_once(&format!("[{}:", category.to_lowercase())).and_then(|(_, rest)| rest[..1].parse::<u8>().ok());
        found.unwrap_or(0) / step * step
    };
    let asked = body["categories"].as_array().cloned().unwrap_or_default();
    let found: Vec<Value> =
        asked.iter().filter_map(Value::as_str).map(|category| json!({ "category": category, "severity": severity(category) })).collect();
    let listed = body["blocklistNames"].as_array().is_some_and(|names| names.contains(&json!("internal"))) && text.contains("[listed]");
    let hit = json!({ "blocklistName": "internal", "blocklistItemId": "1", "blocklistItemText": "[listed]" });
    Reply::json(200, json!({ "blocklistsMatch": if listed { vec![hit] } else { Vec::new() }, "categoriesAnalysis": found }).to_string())
}

fn shield(body: &Value) -> Reply {
    let prompt = body["userPrompt"].as_str().unwrap_or("");
    let documents: Vec<&str> = body["documents"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let length: usize = documents.iter().map(|text| text.chars().count()).sum();
    if prompt.chars().count() > LONGEST || length > LONGEST || documents.len() > 5 {
        return error(400, "InvalidRequestBody");
    }
    let attacks = |text: &str| json!({ "attackDetected": text.contains("[attack]") });
    let documents: Vec<Value> = documents.iter().map(|text| attacks(text)).collect();
    Reply::json(200, json!({ "userPromptAnalysis": attacks(prompt), "documentsAnalysis": documents }).to_string())
}
