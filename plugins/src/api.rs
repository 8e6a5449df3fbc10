//! The APIs of callers: the operation, and its dialect.

use std::fmt;

/// One operation of the model APIs, independent of the form of its URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Api {
    /// `POST /chat/completions`
    Chat,
    /// `POST /completions`
    Completions,
    /// `POST /embeddings`
    Embeddings,
    /// `POST /responses`
    Responses,
    /// `POST /images/generations`
    ImageGenerations,
    /// `POST /images/edits` (multipart)
    ImageEdits,
    /// `POST /images/variations` (multipart)
    ImageVariations,
    /// `POST /audio/speech`
    Speech,
    /// `POST /audio/transcriptions` (multipart)
    Transcriptions,
    /// `POST /audio/translations` (multipart)
    Translations,
    /// `POST /v1/messages`, Anthropic's dialect
    Messages,
    /// WebSocket `/realtime`
    Realtime,
    /// `/files…`
    Files,
    /// `/batches…`
    Batches,
    /// `/conversations…`
    Conversations,
}

impl Api {
    /// Every operation, in order of declaration: `ALL[api as usize] == api`.
    pub const ALL: [Api; 15] = [
        Api::Chat,
        Api::Completions,
        Api::Embeddings,
        Api::Responses,
        Api::ImageGenerations,
        Api::ImageEdits,
        Api::ImageVariations,
        Api::Speech,
        Api::Transcriptions,
        Api::Translations,
        Api::Messages,
        Api::Realtime,
        Api::Files,
        Api::Batches,
        Api::Conversations,
    ];

    /// The path below the API root, without a leading slash (`chat/completions`).
    pub fn operation(self) -> &'static str {
        match self {
            Api::Chat => "chat/completions",
            Api::Completions => "completions",
            Api::Embeddings => "embeddings",
            Api::Responses => "responses",
            Api::ImageGenerations => "images/generations",
            Api::ImageEdits => "images/edits",
            Api::ImageVariations => "images/variations",
            Api::Speech => "audio/speech",
            Api::Transcriptions => "audio/transcriptions",
            Api::Translations => "audio/translations",
            Api::Messages => "messages",
            Api::Realtime => "realtime",
            Api::Files => "files",
            Api::Batches => "batches",
            Api::Conversations => "conversations",
        }
    }

    /// The operation with this path below the API root.
    pub fn from_operation(operation: &str) -> Option<Api> {
        Api::ALL.into_iter().find(|api| api.operation() == operation)
    }

    /// Whether its requests are about objects that a backend stores, and name no model.
    pub fn is_about_objects(self) -> bool {
        matches!(self, Api::Files | Api::Batches | Api::Conversations)
    }

    /// Whether a plain answer is always a JSON object. Other answers may be audio or text.
    pub fn answers_with_an_object(self) -> bool {
        matches!(self, Api::Chat | Api::Completions | Api::Embeddings | Api::Responses | Api::Messages | Api::ImageGenerations)
    }

    /// Whether a model writes its answers: texts, plain in JSON or as a stream.
    pub fn writes_texts(self) -> bool {
        matches!(self, Api::Chat | Api::Completions | Api::Responses | Api::Messages)
    }

    /// Whether its answers are texts.
    pub fn answers_in_text(self) -> bool {
        self.writes_texts() || matches!(self, Api::Transcriptions | Api::Translations)
    }

    /// Whether its answers are images.
    pub fn makes_images(self) -> bool {
        matches!(self, Api::ImageGenerations | Api::ImageEdits | Api::ImageVariations)
    }

    /// Whether the request body is `multipart/form-data`.
    pub fn is_multipart(self) -> bool {
        matches!(self, Api::ImageEdits | Api::ImageVariations | Api::Transcriptions | Api::Translations)
    }

    /// A short label for metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Api::Chat => "chat",
            Api::Completions => "completions",
            Api::Embeddings => "embeddings",
            Api::Responses => "responses",
            Api::ImageGenerations | Api::ImageEdits | Api::ImageVariations => "images",
            Api::Speech | Api::Transcriptions | Api::Translations => "audio",
            Api::Messages => "messages",
            Api::Realtime => "realtime",
            Api::Files => "files",
            Api::Batches => "batches",
            Api::Conversations => "conversations",
        }
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// A sub-operation: the same request at another path, for something other than an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `POST /responses/compact`: a compacted conversation. Billed as a response.
    Compact,
    /// `POST /responses/input_tokens`: the number of input tokens. Costs nothing.
    InputTokens,
    /// `POST /messages/count_tokens`: the number of input tokens. Costs nothing.
    CountTokens,
}

impl Part {
    const ALL: [(Part, Api); 3] =
        [(Part::Compact, Api::Responses), (Part::InputTokens, Api::Responses), (Part::CountTokens, Api::Messages)];

    /// The path below the API root.
    pub fn operation(self) -> &'static str {
        match self {
            Part::Compact => "responses/compact",
            Part::InputTokens => "responses/input_tokens",
            Part::CountTokens => "messages/count_tokens",
        }
    }

    /// The sub-operation with this path below the API root, and its operation.
    pub fn from_operation(operation: &str) -> Option<(Api, Part)> {
        Part::ALL.into_iter().find(|(part, _)| part.operation() == operation).map(|(part, api)| (api, part))
    }

    /// Whether its requests cost nothing.
    pub fn is_free(self) -> bool {
        matches!(self, Part::InputTokens | Part::CountTokens)
    }
}

/// Whose error format and header names the caller expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// `/v1/…` as at api.openai.com.
    #[default]
    OpenAi,
    /// `/openai/…` as at an Azure OpenAI resource.
    Azure,
    /// `/v1/messages` as at api.anthropic.com.
    Anthropic,
}
