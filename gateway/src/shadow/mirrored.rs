//! Reads a mirrored request: a copy of the caller's own, or a report of a request and of what came of it.
//!
//! A copy has the caller's path and body, and may say what came of it in headers: `x-shadow-status`, `x-shadow-backend`,
//! `x-shadow-deployment`, `x-shadow-duration-ms`. A report is a `POST` to [`REPORT`] with an object of JSON; its names are those of the
//! columns of `spillway simulate --csv`.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use serde::Deserialize;
use serde_json::Value;
use spillway_plugins::api::Api;
use spillway_plugins::limits::Class;
use spillway_plugins::prices::Money;
use spillway_plugins::request::read_fields;
use spillway_plugins::tokens::{Usage, input_bound};

use crate::clock::Tick;
use crate::operation::{self, Operation};

/// The path of reports.
pub const REPORT: &str = "/outcome";
/// Longest name that is kept.
const LONGEST: usize = 256;
/// Bytes of a prompt that are a token.
const BYTES_PER_TOKEN: u64 = 4;
/// Completion tokens of a request of which only the prompt is known, if it sets no lower cap.
const GUESS: u64 = 256;
/// More tokens than any request has: what one report says must not outweigh all others.
const MOST: u64 = 1 << 24;
/// More than any request costs.
const DEAREST: Money = Money(1000 * Money::USD.0);

/// A mirrored request. It has no content and no credential.
#[derive(Debug, Clone, PartialEq)]
pub struct Mirrored {
    /// When it came, in nanoseconds since 1970.
    pub at: Tick,
    /// The model asked for.
    pub model: String,
    /// Its consumer, if known.
    pub consumer: Option<Arc<str>>,
    /// The operation.
    pub api: Api,
    /// What it used, or is thought to use.
    pub usage: Usage,
    /// Upper bound of the tokens in its prompt, if the body was seen.
    pub prompt_bound: Option<u64>,
    /// The most tokens that it allows its answers to have together.
    pub cap: Option<u64>,
    /// Its class, if that isn't its consumer's.
    pub class: Option<Class>,
    /// How long it may take, if that isn't what its consumer's config says.
    pub deadline: Option<Duration>,
    /// What came of it, if that is known.
    pub came: Option<Came>,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Came {
    /// The status that the caller got.
    pub status: u16,
    /// The backend's name, host or URL, and the deployment there.
    pub backend: Option<(String, String)>,
    /// How long it took.
    pub took: Option<Duration>,
    /// What it cost.
    pub cost: Option<Money>,
}

/// Reads a copy of a request. `consumer`: whose key it has.
///
/// # Errors
/// Why it is no request that can be shadowed.
pub fn copy(
    (method, path, query): (&Method, &str, Option<&str>),
    headers: &HeaderMap,
    body: &[u8],
    consumer: Option<Arc<str>>,
    at: Tick,
) -> Result<Mirrored, &'static str> {
    let Ok(Operation::Inference(inference)) = operation::read(method, path, query) else { return Err("it is no request for a model") };
    let api = inference.api;
    let fields = match body.is_empty() || api.is_multipart() {
        true => None,
        false => Some(read_fields(body).map_err(|_| "its body can't be read")?),
    };
    let named = fields.as_ref().and_then(|fields| fields.model.clone());
    let model = inference.model.or(named).ok_or("it names no model")?;
    let fields = fields.unwrap_or_default();
    let cap = fields.cap().map(|_| fields.completion_cap(api, 0).min(MOST));
    let generates = fields.completion_cap(api, 1) > 0;
    let output = if generates { cap.unwrap_or(GUESS).min(GUESS) } else { 0 };
    Ok(Mirrored {
        at,
        model: shortened(&model),
        consumer,
        api,
        usage: Usage { input: (body.len() as u64 / BYTES_PER_TOKEN).min(MOST), output, ..Usage::default() },
        prompt_bound: Some(input_bound(body, fields.encoded)),
        cap,
        class: None,
        deadline: None,
        came: came_in(headers),
    })
}

/// What came of a request, in its copy's headers.
fn came_in(headers: &HeaderMap) -> Option<Came> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim).filter(|text| !text.is_empty());
    let status = text("x-shadow-status")?.parse().ok().filter(is_status)?;
    let backend = text("x-shadow-backend").map(|name| (shortened(name), shortened(text("x-shadow-deployment").unwrap_or_default())));
    let took = text("x-shadow-duration-ms").and_then(|text| text.parse::<f64>().ok()).and_then(milliseconds);
    Some(Came { status, backend, took, cost: None })
}

/// A report, as it is posted. Numbers may be texts.
#[derive(Debug, Deserialize)]
struct Report {
    model: String,
    consumer: Option<String>,
    api: Option<String>,
    bytes: Option<Value>,
    input: Option<Value>,
    output: Option<Value>,
    cached: Option<Value>,
    cap: Option<Value>,
    class: Option<String>,
    deadline_s: Option<Value>,
    status: Option<Value>,
    backend: Option<String>,
    deployment: Option<String>,
    duration_ms: Option<Value>,
    cost_usd: Option<Value>,
}

/// Reads a report. Names that it has beside the known ones are ignored.
///
/// # Errors
/// Why it can't be used.
pub fn report(body: &[u8], at: Tick) -> Result<Mirrored, &'static str> {
    let report: Report = serde_json::from_slice(body).map_err(|_| "it is no JSON object with a model")?;
    if report.model.is_empty() {
        return Err("it names no model");
    }
    let number = |value: &Option<Value>| {
        let value = value.as_ref()?;
        value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()).filter(|number| number.is_finite() && *number >= 0.0)
    };
    let count = |value: &Option<Value>| number(value).map(|count| (count as u64).min(MOST));
    let cap = count(&report.cap).filter(|cap| *cap > 0);
    let input = count(&report.input).or_else(|| Some(count(&report.bytes)? / BYTES_PER_TOKEN)).unwrap_or(0);
    let output = count(&report.output).unwrap_or_else(|| cap.unwrap_or(GUESS).min(GUESS));
    let status = number(&report.status).map(|status| status as u16).filter(is_status);
    let name = |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(shortened);
    Ok(Mirrored {
        at,
        model: shortened(&report.model),
        consumer: name(&report.consumer).map(Into::into),
        api: report.api.as_deref().and_then(|name| Api::ALL.into_iter().find(|api| api.label() == name)).unwrap_or(Api::Chat),
        usage: Usage { input, output, cached_input: count(&report.cached).unwrap_or(0).min(input), ..Usage::default() },
        prompt_bound: None,
        cap,
        class: report.class.as_deref().and_then(|name| Class::ALL.into_iter().find(|class| class.label() == name)),
        deadline: number(&report.deadline_s).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        came: status.map(|status| Came {
            status,
            backend: name(&report.backend).map(|backend| (backend, name(&report.deployment).unwrap_or_default())),
            took: number(&report.duration_ms).and_then(milliseconds),
            cost: number(&report.cost_usd).and_then(Money::from_usd).map(|cost| cost.min(DEAREST)),
        }),
    })
}

fn is_status(status: &u16) -> bool {
    (100..600).contains(status)
}

fn milliseconds(number: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(number / 1e3).ok().filter(|span| *span < Duration::from_secs(86_400))
}

fn shortened(name: &str) -> String {
    name.chars().filter(|letter| !letter.is_control()).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Tick = Tick(1_793_491_200_000_000_000);

    fn post(path: &str, body: &str) -> Result<Mirrored, &'static str> {
        copy((&Method::POST, path, None), &HeaderMap::new(), body.as_bytes(), None, NOW)
    }

    #[test]
    fn a_copy_is_read_as_the_gateway_reads_requests() {
        let body = r#"{"model":"gpt-4o","max_tokens":90,"n":2,"messages":[{"role":"user","content":"hi"}]}"#;
        let copy = post("/v1/chat/completions", body).unwrap();
        assert_eq!((copy.model.as_str(), copy.api, copy.cap, copy.came.as_ref()), ("gpt-4o", Api::Chat, Some(180), None));
        assert_eq!((copy.usage.input, copy.usage.output), (body.len() as u64 / 4, 180));
        let dated = post("/openai/deployments/mine/embeddings", r#"{"input":"x"}"#).unwrap();
        assert_eq!((dated.model.as_str(), dated.api, dated.usage.output), ("mine", Api::Embeddings, 0));
        for (path, body) in [("/", "{}"), ("/v1/chat/completions", "rubbish"), ("/v1/chat/completions", "{}"), ("/v1/models", "")] {
            assert!(post(path, body).is_err(), "{path} {body}");
        }
    }

    #[test]
    fn a_copy_may_say_what_came_of_it() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-shadow-status", "429"), ("x-shadow-backend", "https://x.example"), ("x-shadow-duration-ms", "12.5")] {
            headers.insert(name, value.parse().unwrap());
        }
        let copy = copy((&Method::POST, "/v1/embeddings", None), &headers, br#"{"model":"m","input":"x"}"#, None, NOW).unwrap();
        let came = copy.came.unwrap();
        assert_eq!(
            (came.status, came.backend.unwrap().0.as_str(), came.took),
            (429, "https://x.example", Some(Duration::from_micros(12_500)))
        );
        headers.insert("x-shadow-status", "many".parse().unwrap());
        assert_eq!(came_in(&headers), None);
    }

    #[test]
    fn a_report_has_the_names_of_the_csv() {
        let report = report(
            br#"{"model":"m","consumer":"crm","input":"100","output":7,"cached":400,"status":200,"backend":"x.example","deployment":"d",
                "duration_ms":"1500","cost_usd":0.5,"class":"batch","cap":null,"more":[1]}"#,
            NOW,
        )
        .unwrap();
        assert_eq!(report.usage, Usage { input: 100, output: 7, cached_input: 100, ..Usage::default() });
        assert_eq!((report.consumer.as_deref(), report.class, report.cap), (Some("crm"), Some(Class::Batch), None));
        let came = report.came.unwrap();
        assert_eq!((came.status, came.took, came.cost), (200, Some(Duration::from_millis(1500)), Money::from_usd(0.5)));
        assert!(super::report(b"{\"status\":200}", NOW).is_err() && super::report(b"[]", NOW).is_err());
    }

    proptest! {
        #[test]
        fn rubbish_is_refused_and_never_more(body in prop::collection::vec(any::<u8>(), 0..300), path in "/[ -~]{0,40}") {
            let _ = copy((&Method::POST, &path, None), &HeaderMap::new(), &body, None, NOW);
            let _ = report(&body, NOW);
        }

        #[test]
        fn whatever_is_reported_is_bounded(model in ".{1,400}", input in any::<i64>(), output in any::<f64>(), status in any::<i32>(), cost in any::<f64>()) {
            let body = serde_json::json!({ "model": model, "input": input, "output": output, "status": status, "cost_usd": cost }).to_string();
            if let Ok(report) = report(body.as_bytes(), NOW) {
                prop_assert!(report.usage.input <= MOST && report.usage.output <= MOST && report.model.chars().count() <= LONGEST);
                let is_bounded = |came: Came| (100..600).contains(&came.status) && came.cost.is_none_or(|cost| cost <= DEAREST);
                prop_assert!(report.came.is_none_or(is_bounded));
            }
        }
    }
}
