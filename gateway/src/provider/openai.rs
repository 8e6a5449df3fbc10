//! `openai`: OpenAI, or anything that speaks its API.

use spillway_plugins::api::Api;
use spillway_plugins::semconv;

use super::interface::Provider;

/// OpenAI's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenAi;

impl Provider for OpenAi {
    fn semconv_name(&self) -> &'static str {
        semconv::OPENAI
    }

    fn price_prefixes(&self) -> Option<&'static [&'static str]> {
        Some(&["openai/"])
    }

    fn serves(&self, api: Api) -> bool {
        api != Api::Messages
    }
}
