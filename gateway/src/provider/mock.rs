//! `mock`: the gateway itself answers, as a last resort.

use spillway_plugins::api::Api;
use spillway_plugins::semconv;

use super::interface::Provider;

const REPLY: &str = "The assistant is unavailable at the moment. Please try again in a few minutes.";

/// What the gateway answers itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mock {
    reply: String,
}

impl Mock {
    /// A mock with this reply, or the usual one.
    pub fn new(reply: Option<&str>) -> Self {
        Mock { reply: reply.unwrap_or(REPLY).to_owned() }
    }
}

impl Provider for Mock {
    fn semconv_name(&self) -> &'static str {
        semconv::OPENAI
    }

    fn price_prefixes(&self) -> Option<&'static [&'static str]> {
        None
    }

    fn serves(&self, api: Api) -> bool {
        api != Api::Realtime && !api.is_about_objects()
    }

    fn own_answer(&self) -> Option<&str> {
        Some(&self.reply)
    }
}
