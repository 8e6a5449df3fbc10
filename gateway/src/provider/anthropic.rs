//! `anthropic`: Anthropic, or anything that speaks its API.

use spillway_plugins::api::Api;
use spillway_plugins::semconv;

use super::interface::Provider;
use super::key_header::KeyHeader;

/// Anthropic's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anthropic;

impl Provider for Anthropic {
    fn semconv_name(&self) -> &'static str {
        semconv::ANTHROPIC
    }

    fn price_prefixes(&self) -> Option<&'static [&'static str]> {
        // Microsoft Foundry has an endpoint of this kind, too.
        Some(&["anthropic/", "azure_ai/"])
    }

    fn serves(&self, api: Api) -> bool {
        api == Api::Messages
    }

    fn key_header(&self) -> KeyHeader {
        KeyHeader::plain("x-api-key")
    }

    fn fields_of_list(&self) -> &'static [(&'static str, &'static str)] {
        &[("anthropic-version", "2023-06-01")]
    }
}
