//! `transform` of a pool or a consumer, as it is written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// Changes to requests: parameters of chats, completions, responses and messages, and headers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawTransform {
    /// Parameters that get this value, whatever the caller sends.
    #[serde(default)]
    pub set: BTreeMap<String, Value>,
    /// Parameters that get this value if the caller sends none.
    #[serde(default)]
    pub default: BTreeMap<String, Value>,
    /// The maximum of a numeric parameter. A cap on `max_tokens` also applies to its other names, and is added if the
    /// caller sends none.
    #[serde(default)]
    pub cap: BTreeMap<String, f64>,
    /// Parameters that are removed.
    #[serde(default)]
    pub remove: Vec<String>,
    /// A system prompt that is put before everything a caller sends, in chat, responses and messages.
    pub system_prompt: Option<String>,
    /// Headers of requests to backends.
    pub request_headers: Option<RawHeaderChanges>,
    /// Headers of answers to callers.
    pub response_headers: Option<RawHeaderChanges>,
}

/// Headers added and removed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawHeaderChanges {
    /// Headers that get this value, whatever value they had.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Headers that are removed.
    #[serde(default)]
    pub remove: Vec<String>,
}
