//! Kinds of API, as they are written.

use schemars::JsonSchema;
use serde::Deserialize;
use spillway_plugins::api::Api;

/// A kind of API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawApiKind {
    /// Chat completions.
    Chat,
    /// Completions of a text.
    Completions,
    /// Embeddings.
    Embeddings,
    /// Responses.
    Responses,
    /// Images: made, edited, varied.
    Images,
    /// Speech, transcriptions and translations.
    Audio,
    /// Anthropic's Messages.
    Messages,
    /// Realtime, over a WebSocket.
    Realtime,
    /// Stored files.
    Files,
    /// Batches.
    Batches,
    /// Stored conversations.
    Conversations,
}

impl RawApiKind {
    /// The kind of an API.
    fn of(api: Api) -> Self {
        match api {
            Api::Chat => RawApiKind::Chat,
            Api::Completions => RawApiKind::Completions,
            Api::Embeddings => RawApiKind::Embeddings,
            Api::Responses => RawApiKind::Responses,
            Api::ImageGenerations | Api::ImageEdits | Api::ImageVariations => RawApiKind::Images,
            Api::Speech | Api::Transcriptions | Api::Translations => RawApiKind::Audio,
            Api::Messages => RawApiKind::Messages,
            Api::Realtime => RawApiKind::Realtime,
            Api::Files => RawApiKind::Files,
            Api::Batches => RawApiKind::Batches,
            Api::Conversations => RawApiKind::Conversations,
        }
    }

    /// Whether an API is of this kind.
    pub fn includes(self, api: Api) -> bool {
        RawApiKind::of(api) == self
    }
}

#[cfg(test)]
mod tests {
    use serde::de::IntoDeserializer as _;
    use serde::de::value::{Error, StrDeserializer};

    use super::*;

    #[test]
    fn every_api_can_be_listed_by_its_label() {
        for api in Api::ALL {
            let label: StrDeserializer<'_, Error> = api.label().into_deserializer();
            let kind = RawApiKind::deserialize(label).unwrap_or_else(|error| panic!("{api}: {error}"));
            assert!(kind.includes(api), "{api}");
        }
    }
}
