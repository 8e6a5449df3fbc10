//! Rows of LiteLLM's spend logs (`LiteLLM_SpendLogs`): exported from its database, or from `GET /spend/logs/v2`.
//!
//! Fields as in `SpendLogsPayload` of LiteLLM's `litellm/proxy/_types.py`: `request_id`, `call_type`, `startTime`, `endTime`,
//! `model`, `model_group`, `api_base`, `prompt_tokens`, `completion_tokens`, `spend`, `user`, `team_id`, `end_user`, `cache_hit`,
//! `status`, and `metadata` (JSON as text) with `user_api_key_alias`, `error_information.error_code` and
//! `additional_usage_values`. A row is a whole request: backends that refused it before another one answered are not in it.

use serde_json::Value;
use spillway_plugins::api::Api;
use spillway_plugins::prices::Money;
use spillway_plugins::tokens::Usage;

use super::foreign_row::{Row, last_part, time};
use super::records::{Record, count, number, text};

/// One row.
///
/// # Errors
/// What is wrong.
pub(super) fn row(record: &Record) -> Result<Row, String> {
    let begins = text(record, "startTime").ok_or("it has no startTime")?;
    let at = time(begins).ok_or_else(|| format!("startTime '{begins}' is not a time"))?;
    let took = text(record, "endTime").and_then(time).map(|end| end.since(at));
    let (group, model) = (text(record, "model_group"), text(record, "model"));
    let deployment = model.map(last_part);
    let models: Vec<String> = [group, model, deployment].into_iter().flatten().map(str::to_owned).collect();
    if models.is_empty() {
        return Err("it names no model".to_owned());
    }
    let metadata = metadata(record);
    let has_failed = text(record, "status").is_some_and(|status| status.eq_ignore_ascii_case("failure"));
    let status = if has_failed { error_code(&metadata).unwrap_or(500) } else { 200 };
    let is_cached = record.get("cache_hit").is_some_and(|hit| hit.as_bool() == Some(true) || hit.as_str().is_some_and(is_true));
    let counts = (count(record, "prompt_tokens"), count(record, "completion_tokens"));
    let usage = match counts {
        (Some(input), Some(output)) if !has_failed => {
            let cached_input = cached(&metadata).min(input);
            Some(Usage { input, output, cached_input, ..Usage::default() })
        }
        _ if has_failed => None,
        _ => return Err("prompt_tokens or completion_tokens is missing, or not a number of tokens".to_owned()),
    };
    let api_base = text(record, "api_base").filter(|_| !is_cached);
    Ok(Row {
        at,
        models,
        consumer: consumer(record, &metadata),
        api: text(record, "call_type").map(api),
        usage,
        took,
        backend: api_base.map(|base| (base.to_owned(), deployment.unwrap_or_default().to_owned(), status)),
        status: Some(status),
        // LiteLLM's own limits answer 429 without having chosen a deployment.
        is_limited: status == 429 && api_base.is_none(),
        is_cached,
        cost: number(record, "spend").filter(|_| !has_failed).and_then(Money::from_usd),
    })
}

fn is_true(text: &str) -> bool {
    text.eq_ignore_ascii_case("true")
}

/// `metadata`, which is JSON in a text.
fn metadata(record: &Record) -> Value {
    match record.get("metadata") {
        Some(Value::String(text)) => serde_json::from_str(text).unwrap_or_default(),
        Some(value) => value.clone(),
        None => Value::Null,
    }
}

fn error_code(metadata: &Value) -> Option<u16> {
    let code = metadata.pointer("/error_information/error_code")?;
    let number = code.as_u64().or_else(|| code.as_str()?.trim().parse().ok())?;
    u16::try_from(number).ok().filter(|status| (400..600).contains(status))
}

fn cached(metadata: &Value) -> u64 {
    let paths = [
        "/additional_usage_values/prompt_tokens_details/cached_tokens",
        "/additional_usage_values/cache_read_input_tokens",
        "/usage_object/prompt_tokens_details/cached_tokens",
    ];
    paths.iter().find_map(|path| metadata.pointer(path)?.as_u64()).unwrap_or(0)
}

/// Who called: the key's name, else the user, the team or the end user.
fn consumer(record: &Record, metadata: &Value) -> Option<String> {
    let alias = metadata.get("user_api_key_alias").and_then(Value::as_str).filter(|alias| !alias.is_empty());
    let name = alias.or_else(|| ["user", "team_id", "end_user"].into_iter().find_map(|name| text(record, name)))?;
    Some(name.to_owned())
}

fn api(call_type: &str) -> Api {
    match call_type.strip_prefix('a').unwrap_or(call_type) {
        "embedding" => Api::Embeddings,
        "text_completion" => Api::Completions,
        "responses" => Api::Responses,
        "image_generation" => Api::ImageGenerations,
        "speech" => Api::Speech,
        "transcription" => Api::Transcriptions,
        "nthropic_messages" | "anthropic_messages" => Api::Messages,
        _ => Api::Chat,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::clock::Tick;

    fn record(value: Value) -> Record {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn an_answered_request_and_a_refused_one() {
        let row = row(&record(json!({
            "request_id": "chatcmpl-1", "call_type": "acompletion", "api_key": "hash", "spend": 0.0123, "total_tokens": 1100,
            "prompt_tokens": 1000, "completion_tokens": 100, "startTime": "2026-11-01T08:00:00.250Z", "endTime": "2026-11-01T08:00:03.250Z",
            "model": "azure/gpt4o-ptu", "model_group": "gpt-4o", "api_base": "https://sweden.openai.azure.com/", "user": "u1", "team_id": "t1",
            "cache_hit": "False", "status": "success",
            "metadata": "{\"user_api_key_alias\": \"crm\", \"additional_usage_values\": {\"prompt_tokens_details\": {\"cached_tokens\": 400}}}",
        })))
        .unwrap();
        assert_eq!(row.models, ["gpt-4o", "azure/gpt4o-ptu", "gpt4o-ptu"]);
        assert_eq!((row.at, row.took), (Tick(1_793_520_000_250_000_000), Some(Duration::from_secs(3))));
        assert_eq!(row.usage, Some(Usage { input: 1000, output: 100, cached_input: 400, ..Usage::default() }));
        assert_eq!(row.backend, Some(("https://sweden.openai.azure.com/".to_owned(), "gpt4o-ptu".to_owned(), 200)));
        assert_eq!((row.consumer.as_deref(), row.cost, row.api), (Some("crm"), Money::from_usd(0.0123), Some(Api::Chat)));
        assert!(!row.is_cached && !row.is_limited);
    }

    #[test]
    fn failures_say_their_status() {
        let failed = |api_base: &str, code: Value| {
            row(&record(json!({
                "startTime": "2026-11-01 08:00:00.25", "endTime": "2026-11-01 08:00:00.3", "model": "gpt-4o", "api_base": api_base,
                "prompt_tokens": 0, "completion_tokens": 0, "spend": 0, "status": "failure", "cache_hit": "",
                "metadata": json!({ "error_information": { "error_code": code, "error_class": "RateLimitError" } }).to_string(),
            })))
            .unwrap()
        };
        let by_backend = failed("https://x.openai.azure.com", json!("429"));
        assert_eq!((by_backend.status, by_backend.is_limited, by_backend.usage), (Some(429), false, None));
        let by_limit = failed("", json!(429));
        assert!(by_limit.is_limited && by_limit.backend.is_none());
        assert_eq!(failed("https://x", json!("")).status, Some(500), "it doesn't say");
    }

    #[test]
    fn what_is_no_row_says_why() {
        for (value, word) in [
            (json!({ "model": "m" }), "startTime"),
            (json!({ "startTime": "yesterday", "model": "m" }), "not a time"),
            (json!({ "startTime": "2026-11-01T08:00:00Z" }), "no model"),
            (json!({ "startTime": "2026-11-01T08:00:00Z", "model": "m", "prompt_tokens": "many" }), "prompt_tokens"),
        ] {
            let error = row(&record(value)).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
