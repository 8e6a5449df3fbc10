//! Bounds on what one request may ask for: output tokens, answers, messages, tools, images.

mod content;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::api::Api;
use crate::checks::{CheckedRequest, ConfigReport, Rejection, RejectionStatus, RequestCheck};

/// Bounds on what one request may ask for. All rules whose models and consumers fit a request apply to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestRules {
    /// Models to which the rules apply. A request fits if it names one of them, also as a fallback or for a tool.
    /// Default: all.
    pub models: Option<Vec<String>>,
    /// Consumers to which the rules apply. Default: all callers.
    pub consumers: Option<Vec<String>>,
    /// Instead: consumers to which the rules don't apply.
    #[serde(default)]
    pub except_consumers: Vec<String>,
    /// Most output tokens that a request may ask for, in `max_tokens`, `max_completion_tokens` or `max_output_tokens`.
    /// A request that sets none of them is not refused, see `require_output_cap`.
    pub max_output_tokens: Option<u64>,
    /// Refuse chats, completions, responses and messages that don't limit their output tokens. Default false.
    pub require_output_cap: Option<bool>,
    /// Most answers that a request may ask for, in `n` or `best_of`; in completions, for each prompt of a list.
    pub max_choices: Option<u64>,
    /// Most messages of a chat or of Anthropic's messages, most items in the `input` of a response.
    pub max_messages: Option<u64>,
    /// Most tools that a request may offer: functions, built-in tools, MCP servers, data sources, also within its
    /// conversation. 0 allows none.
    pub max_tools: Option<u64>,
    /// Allow images in prompts. Default true.
    pub allow_images: Option<bool>,
}

/// The code of all its rejections.
const CODE: &str = "request_out_of_bounds";

impl RequestCheck for RequestRules {
    fn verify(&self, report: &mut dyn ConfigReport) {
        for (list, names) in [("models", &self.models), ("consumers", &self.consumers)] {
            if names.as_ref().is_some_and(Vec::is_empty) {
                report.problem(list, "an empty list fits no request; leave it out, and the rules apply to all");
            }
        }
        for (at, model) in self.models.iter().flatten().enumerate() {
            report.expect_model(&format!("models[{at}]"), model);
        }
        for (at, consumer) in self.consumers.iter().flatten().enumerate() {
            report.expect_consumer(&format!("consumers[{at}]"), consumer);
        }
        for (at, consumer) in self.except_consumers.iter().enumerate() {
            report.expect_consumer(&format!("except_consumers[{at}]"), consumer);
        }
        if self.consumers.is_some() && !self.except_consumers.is_empty() {
            report.problem("except_consumers", "give either 'consumers' or 'except_consumers'");
        }
        for (key, most) in
            [("max_output_tokens", self.max_output_tokens), ("max_choices", self.max_choices), ("max_messages", self.max_messages)]
        {
            if most == Some(0) {
                report.problem(key, "must be at least 1");
            }
        }
        let bounds = [self.max_output_tokens, self.max_choices, self.max_messages, self.max_tools];
        if bounds.iter().all(Option::is_none) && self.require_output_cap != Some(true) && self.allow_images != Some(false) {
            report.problem("", "bounds nothing: set at least one of its limits");
        }
    }

    fn check(&self, request: &CheckedRequest<'_>) -> Result<(), Rejection> {
        if !self.applies_to(request) {
            return Ok(());
        }
        self.check_output(request)?;
        self.check_choices(request)?;
        self.check_content(request)
    }
}

impl RequestRules {
    fn applies_to(&self, request: &CheckedRequest<'_>) -> bool {
        let lists = |names: &[String], name: &str| names.iter().any(|one| one == name);
        let named = |models: &Vec<String>| {
            lists(models, request.model) || request.fields.further_models.iter().any(|further| lists(models, further))
        };
        self.models.as_ref().is_none_or(named)
            && self.consumers.as_ref().is_none_or(|names| request.consumer.is_some_and(|consumer| lists(names, consumer)))
            && !request.consumer.is_some_and(|consumer| lists(&self.except_consumers, consumer))
    }

    fn check_output(&self, request: &CheckedRequest<'_>) -> Result<(), Rejection> {
        let fields = request.fields;
        let caps = [
            ("max_tokens", fields.max_tokens),
            ("max_completion_tokens", fields.max_completion_tokens),
            ("max_output_tokens", fields.max_output_tokens),
        ];
        for (field, asked) in caps.into_iter().filter_map(|(field, cap)| Some((field, cap?))) {
            bounded(field, asked, self.max_output_tokens, "output token")?;
        }
        if self.require_output_cap != Some(true) || request.part.is_some() {
            return Ok(());
        }
        let (field, given) = match request.api {
            Api::Chat => ("max_completion_tokens", fields.max_tokens.or(fields.max_completion_tokens)),
            Api::Completions | Api::Messages => ("max_tokens", fields.max_tokens),
            Api::Responses => ("max_output_tokens", fields.max_output_tokens),
            _ => return Ok(()),
        };
        if given.is_some() {
            return Ok(());
        }
        let allowed = self.max_output_tokens.map(|most| format!("; {}", at_most(most, "output token"))).unwrap_or_default();
        Err(rejection(field, format!("'{field}' is missing: a request must limit its output tokens here{allowed}")))
    }

    fn check_choices(&self, request: &CheckedRequest<'_>) -> Result<(), Rejection> {
        let Some(most) = self.max_choices else { return Ok(()) };
        let each = request.fields.choices.unwrap_or(1).max(1);
        let prompts = if request.api == Api::Completions { request.fields.prompts.max(1) } else { 1 };
        let asked = each.saturating_mul(prompts);
        if asked <= most {
            return Ok(());
        }
        let field = if each <= most { "prompt" } else { content::larger(request.body, "n", "best_of") };
        bounded(field, asked, Some(most), "answer")
    }

    fn check_content(&self, request: &CheckedRequest<'_>) -> Result<(), Rejection> {
        if let Some(most) = self.max_messages
            && let Some(field) = content::messages_field(request.api)
        {
            let unit = if field == "input" { "item" } else { "message" };
            bounded(field, content::count(request.body, field), Some(most), unit)?;
        }
        if let Some(most) = self.max_tools {
            let unknown = |_| {
                let field = content::messages_field(request.api).unwrap_or("tools");
                rejection(
                    field,
                    format!("'{field}' can be read in two ways (a name is given twice), so it is not known which tools it has"),
                )
            };
            let (field, count) = content::tools(request.body).map_err(unknown)?;
            bounded(field, count, Some(most), "tool")?;
        }
        if self.allow_images != Some(false) {
            return Ok(());
        }
        match content::image(request.body) {
            Ok(None) => Ok(()),
            Ok(Some(field)) => Err(rejection(field, format!("'{field}' has an image: only prompts without images are allowed here"))),
            Err(field) => {
                let message =
                    format!("'{field}' can be read in two ways (a name is given twice), so it is not known whether it has images");
                Err(rejection(field, message))
            }
        }
    }
}

/// Refuses more than `most` of something.
fn bounded(field: &str, asked: u64, most: Option<u64>, unit: &str) -> Result<(), Rejection> {
    match most.filter(|most| asked > *most) {
        Some(most) => {
            let plural = if asked == 1 { "" } else { "s" };
            Err(rejection(field, format!("'{field}' asks for {asked} {unit}{plural}; {}", at_most(most, unit))))
        }
        None => Ok(()),
    }
}

/// What is allowed, in words.
fn at_most(most: u64, unit: &str) -> String {
    match most {
        0 => format!("no {unit}s are allowed here"),
        1 => format!("at most 1 {unit} is allowed here"),
        _ => format!("at most {most} {unit}s are allowed here"),
    }
}

fn rejection(field: &str, message: String) -> Rejection {
    Rejection { status: RejectionStatus::BadRequest, code: CODE, field: Some(field.to_owned()), message }
}
