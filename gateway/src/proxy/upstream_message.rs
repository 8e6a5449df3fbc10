//! The upstream's own error message, shortened and redacted: for logs, and for callers that get no better answer.

use std::sync::{Arc, LazyLock};

use serde_json::Value;
use spillway_plugins::prompt_log::redact::{Class, Redactor};

/// Most bytes of it that are kept.
const MOST: usize = 1024;

/// The message of an error body, or its text if it has none. `None` if it is empty.
pub(super) fn of(body: &[u8]) -> Option<Arc<str>> {
    static REDACTOR: LazyLock<Option<Redactor>> = LazyLock::new(|| Redactor::new(&Class::NAMES.map(|(_, class)| class), &[]).ok());
    let message = serde_json::from_slice::<Value>(body).ok().and_then(|body| {
        let error = [&body["error"], &body["response"]["error"], &body].into_iter().find(|error| error.is_object() || error.is_string())?;
        error["message"].as_str().or(error.as_str()).map(str::to_owned)
    });
    let text = message.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    let end = text.floor_char_boundary(MOST.min(text.len()));
    // Without a redactor nothing is shown.
    let told = REDACTOR.as_ref()?.redact(text[..end].trim()).replace(|c: char| c.is_control(), " ");
    (!told.is_empty()).then(|| told.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_told_cut_and_redacted() {
        let told = |body: &str| of(body.as_bytes()).map(|told| told.to_string());
        assert_eq!(told(r#"{"error":{"message":"The server had an error.","type":"server_error"}}"#).unwrap(), "The server had an error.");
        assert_eq!(told(r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#).unwrap(), "Overloaded");
        assert_eq!(told(r#"{"error":"down"}"#).unwrap(), "down");
        assert_eq!(told(r#"{"message":"no healthy upstream"}"#).unwrap(), "no healthy upstream");
        assert_eq!(told("<html>\n502</html>\n").unwrap(), "<html> 502</html>");
        assert_eq!(told(""), None);
        assert_eq!(told("  "), None);
        assert_eq!(told(&"é".repeat(3000)).unwrap().len(), 1024);
        let secret =
            told(r#"{"error":{"message":"key sk-proj-abcdefghijklmnopqrstuvwxyz0123456789 of anna@example.com failed"}}"#).unwrap();
        assert!(!secret.contains("abcdefghij") && !secret.contains("anna@"), "{secret}");
    }
}
