//! What differs between kinds of backends: one file for each kind, all behind [`Provider`].
//!
//! To add a kind: a file here, and in this file a variant of [`RawKind`] and of [`BackendKind`], with a line in
//! [`RawKind::with`] and in [`BackendKind::provider`].

mod anthropic;
mod azure_openai;
mod interface;
mod key_header;
mod mock;
mod openai;
mod refused;
mod signer;
mod url;

use schemars::JsonSchema;
use serde::Deserialize;

use anthropic::Anthropic;
pub use azure_openai::AzureOpenAi;
pub use interface::{ModelInBody, Provider};
pub use key_header::KeyHeader;
pub use mock::Mock;
use openai::OpenAi;
pub use refused::Refused;
pub use signer::{Signer, Signing};
pub use url::{Operation, Url};

/// The API of a backend.
// These words are in the configuration reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawKind {
    /// An Azure OpenAI resource.
    AzureOpenai,
    /// OpenAI, or any service with its API.
    Openai,
    /// Anthropic, or any service with its API.
    Anthropic,
    /// Answered by the gateway itself, as a last resort.
    Mock,
}

/// Keys of a backend that only some kinds have.
#[derive(Debug, Clone, Copy)]
pub struct OwnKeys<'a> {
    /// Whether Azure's dated API is asked.
    pub dated: bool,
    /// Its version.
    pub api_version: Option<&'a str>,
    /// What a mock answers.
    pub reply: Option<&'a str>,
}

/// The API of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendKind {
    /// Azure OpenAI.
    AzureOpenAi(AzureOpenAi),
    /// OpenAI's API.
    OpenAi,
    /// Anthropic's API.
    Anthropic,
    /// Answers in the gateway itself.
    Mock(Mock),
}

impl RawKind {
    /// The kind of a backend that has these keys.
    pub fn with(self, keys: OwnKeys<'_>) -> BackendKind {
        match self {
            RawKind::AzureOpenai if keys.dated => BackendKind::AzureOpenAi(AzureOpenAi::dated(keys.api_version)),
            RawKind::AzureOpenai => BackendKind::AzureOpenAi(AzureOpenAi::V1),
            RawKind::Openai => BackendKind::OpenAi,
            RawKind::Anthropic => BackendKind::Anthropic,
            RawKind::Mock => BackendKind::Mock(Mock::new(keys.reply)),
        }
    }
}

impl BackendKind {
    /// What this kind says of itself.
    pub fn provider(&self) -> &dyn Provider {
        match self {
            BackendKind::AzureOpenAi(azure) => azure,
            BackendKind::OpenAi => &OpenAi,
            BackendKind::Anthropic => &Anthropic,
            BackendKind::Mock(mock) => mock,
        }
    }
}
