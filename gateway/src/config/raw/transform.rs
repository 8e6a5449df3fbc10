//! `transform` of a pool or a consumer, as it is written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// What becomes of requests on their way: parameters of chats, completions, responses and messages, and headers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawTransform {
    /// Parameters that get this value, whatever the caller says.
    #[serde(default)]
    pub set: BTreeMap<String, Value>,
    /// Parameters that get this value where the caller says nothing.
    #[serde(default)]
    pub default: BTreeMap<String, Value>,
    /// The most that a numeric parameter may say. A cap on `max_tokens` holds for its other names, too, and is put in where
    /// none is given.
    #[serde(default)]
    pub cap: BTreeMap<String, f64>,
    /// Parameters that are taken out.
    #[serde(default)]
    pub remove: Vec<String>,
    /// A system prompt that stands before everything a caller sends, in chat, responses and messages.
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
    /// Headers that get this value, whatever stood there.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Headers that are taken out.
    #[serde(default)]
    pub remove: Vec<String>,
}
