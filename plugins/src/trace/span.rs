//! The spans of a request: one as the server of its caller, and one for each attempt, as the client of a backend. They
//! don't contain prompts and answers, which have events of their own in the prompt log, with the same ids.
//!
//! A span is assembled when a request has ended, from data that exists anyway; its texts are made by the exporter.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use smallvec::SmallVec;

use super::context::{SpanId, Trace};
use super::route::route;
use crate::api::Api;
use crate::semconv;
use crate::tokens::Usage;

/// The target of attempts: one member of a pool.
#[derive(Debug, PartialEq, Eq)]
pub struct SpanTarget {
    /// The vendor of its API, such as `azure.ai.openai`.
    pub provider: &'static str,
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The backend.
    pub backend: Arc<str>,
    /// The deployment there.
    pub deployment: Arc<str>,
    /// The tier.
    pub tier: u32,
    /// The location of the backend.
    pub location: Option<Arc<str>>,
}

/// One attempt.
#[derive(Debug, Clone)]
pub struct AttemptSpan {
    /// The span's id, which its upstream got.
    pub id: SpanId,
    /// The target.
    pub place: Arc<SpanTarget>,
    /// When it began, in nanoseconds since 1970.
    pub began: u64,
    /// When it ended.
    pub ended: u64,
    /// How long the request waited for a target before this attempt.
    pub waited: Duration,
    /// The outcome's label.
    pub outcome: &'static str,
    /// Whether that is an error.
    pub is_error: bool,
    /// The upstream's status.
    pub status: Option<u16>,
}

/// One request.
#[derive(Debug, Clone)]
pub struct RequestSpan {
    /// Its place in its trace.
    pub trace: Trace,
    /// When it arrived, in nanoseconds since 1970.
    pub began: u64,
    /// When it ended.
    pub ended: u64,
    /// Its id.
    pub id: String,
    /// The consumer, if known.
    pub consumer: Option<Arc<str>>,
    /// The method.
    pub method: Method,
    /// The path as it came: only its template is exported.
    pub path: String,
    /// The operation, if the path has one.
    pub api: Option<Api>,
    /// The model, if it is in the config.
    pub model: Option<Arc<str>>,
    /// Its pool.
    pub pool: Option<Arc<str>>,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// Most tokens of an answer.
    pub max_tokens: Option<u64>,
    /// The number of answers.
    pub choices: Option<u64>,
    /// The status that the caller got; 499 if it left before.
    pub status: u16,
    /// How it ended.
    pub end: &'static str,
    /// The error code, if the gateway answered itself.
    pub code: Option<&'static str>,
    /// The result of the cache.
    pub cache: Option<&'static str>,
    /// Time from its arrival to the first output.
    pub first: Option<Duration>,
    /// The gateway's own time until then.
    pub overhead: Duration,
    /// The usage of the answer, if it is known at once.
    pub usage: Option<Usage>,
    /// Every attempt in order.
    pub attempts: SmallVec<[AttemptSpan; 2]>,
}

/// A value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'v> {
    /// A text.
    Text(Cow<'v, str>),
    /// A count.
    Count(u64),
    /// A time.
    Seconds(Duration),
    /// Yes or no.
    Flag(bool),
}

impl<'v, T: Into<Cow<'v, str>>> From<T> for Value<'v> {
    fn from(text: T) -> Self {
        Value::Text(text.into())
    }
}

/// Accepts attributes.
pub trait Tell {
    /// Adds one.
    fn add(&mut self, name: &'static str, value: Value<'_>);

    /// Adds one, if it has a value.
    fn add_known<'v>(&mut self, name: &'static str, value: Option<impl Into<Value<'v>>>) {
        if let Some(value) = value {
            self.add(name, value.into());
        }
    }
}

impl RequestSpan {
    /// The number of its spans.
    pub fn spans(&self) -> usize {
        1 + self.attempts.len()
    }

    fn operation(&self) -> Option<&'static str> {
        semconv::operation(self.api?.label())
    }

    /// Its name: few different ones.
    pub fn name(&self) -> Cow<'_, str> {
        match (self.operation(), &self.model) {
            (Some(operation), Some(model)) => format!("{operation} {model}").into(),
            _ => match self.route() {
                Some(route) => format!("{} {route}", known_method(&self.method)).into(),
                None => known_method(&self.method).into(),
            },
        }
    }

    fn route(&self) -> Option<String> {
        route(&self.path, self.api?)
    }

    /// The error, if it was not the caller's fault.
    pub fn error(&self) -> Option<Cow<'static, str>> {
        match self.end {
            "cut" => Some("cut".into()),
            _ if self.status >= 500 => Some(self.code.map_or_else(|| self.status.to_string().into(), Cow::from)),
            _ => None,
        }
    }

    /// Adds its attributes.
    pub fn attributes(&self, to: &mut impl Tell) {
        let method = known_method(&self.method);
        to.add(semconv::METHOD, method.into());
        to.add_known(semconv::ROUTE, self.route());
        to.add(semconv::STATUS, Value::Count(self.status.into()));
        to.add_known(semconv::ERROR_TYPE, self.error());
        self.asked(to);
        to.add(semconv::REQUEST_ID, self.id.as_str().into());
        to.add(semconv::END, self.end.into());
        to.add_known(semconv::CODE, self.code);
        to.add_known(semconv::CACHE, self.cache);
        to.add(semconv::ATTEMPTS, Value::Count(self.attempts.len() as u64));
        to.add(semconv::OVERHEAD, Value::Seconds(self.overhead));
        if let Some(first) = self.first.filter(|_| self.stream && self.status == 200) {
            to.add(semconv::FIRST_CHUNK, Value::Seconds(first));
        }
    }

    /// Attributes of the request and of each of its attempts.
    fn asked(&self, to: &mut impl Tell) {
        to.add_known(semconv::CONSUMER, self.consumer.as_deref());
        to.add_known(semconv::POOL, self.pool.as_deref());
        let Some(operation) = self.operation() else { return };
        to.add(semconv::OPERATION, operation.into());
        to.add_known(semconv::REQUEST_MODEL, self.model.as_deref());
        to.add(semconv::REQUEST_STREAM, Value::Flag(self.stream));
        to.add_known(semconv::REQUEST_MAX_TOKENS, self.max_tokens.map(Value::Count));
        to.add_known(semconv::REQUEST_CHOICES, self.choices.map(Value::Count));
    }

    /// An attempt's name.
    pub fn attempt_name(&self, attempt: &AttemptSpan) -> Cow<'_, str> {
        match self.operation() {
            Some(operation) => format!("{operation} {}", attempt.place.deployment).into(),
            None => known_method(&self.method).into(),
        }
    }

    /// Adds the attributes of the attempt at `index`.
    pub fn attempt_attributes(&self, index: usize, to: &mut impl Tell) {
        let Some(attempt) = self.attempts.get(index) else { return };
        let place = &*attempt.place;
        to.add(semconv::PROVIDER, place.provider.into());
        to.add(semconv::SERVER_ADDRESS, place.host.as_str().into());
        to.add(semconv::SERVER_PORT, Value::Count(place.port.into()));
        to.add_known(semconv::STATUS, attempt.status.map(|status| Value::Count(status.into())));
        to.add_known(semconv::ERROR_TYPE, attempt.error());
        self.asked(to);
        if place.provider != semconv::ANTHROPIC {
            to.add_known(semconv::OPENAI_API, self.api.and_then(|api| semconv::openai_api(api.label())));
        }
        to.add(semconv::BACKEND, (&*place.backend).into());
        to.add(semconv::DEPLOYMENT, (&*place.deployment).into());
        to.add(semconv::TIER, Value::Count(place.tier.into()));
        to.add_known(semconv::LOCATION, place.location.as_deref());
        to.add(semconv::ATTEMPT, Value::Count(index as u64 + 1));
        to.add(semconv::OUTCOME, attempt.outcome.into());
        if !attempt.waited.is_zero() {
            to.add(semconv::WAITED, Value::Seconds(attempt.waited));
        }
        if index + 1 == self.attempts.len() {
            self.answered(attempt, to);
        }
    }

    /// The answer's attributes. Only the last attempt has them, so that sums over spans count them once.
    fn answered(&self, attempt: &AttemptSpan, to: &mut impl Tell) {
        if let Some(first) = self.first.filter(|_| self.stream && attempt.status == Some(200)) {
            let before = Duration::from_nanos(attempt.began.saturating_sub(self.began));
            to.add(semconv::FIRST_CHUNK, Value::Seconds(first.saturating_sub(before)));
        }
        let Some(usage) = &self.usage else { return };
        to.add(semconv::INPUT_TOKENS, Value::Count(usage.input));
        to.add(semconv::OUTPUT_TOKENS, Value::Count(usage.output));
        let parts = [
            (semconv::CACHE_READ_TOKENS, usage.cached_input),
            (semconv::CACHE_CREATION_TOKENS, usage.cache_write),
            (semconv::REASONING_TOKENS, usage.reasoning),
        ];
        for (name, count) in parts.into_iter().filter(|(_, count)| *count > 0) {
            to.add(name, Value::Count(count));
        }
    }
}

impl AttemptSpan {
    /// The error.
    pub fn error(&self) -> Option<Cow<'static, str>> {
        match (self.is_error, self.status) {
            (false, _) => None,
            (true, Some(status))
                if StatusCode::from_u16(status).is_ok_and(|status| status.is_client_error() || status.is_server_error()) =>
            {
                Some(status.to_string().into())
            }
            (true, _) => Some(self.outcome.into()),
        }
    }
}

/// The method if it is a known one: a caller may send any text.
fn known_method(method: &Method) -> &'static str {
    let known = [
        (Method::GET, "GET"),
        (Method::POST, "POST"),
        (Method::DELETE, "DELETE"),
        (Method::PUT, "PUT"),
        (Method::PATCH, "PATCH"),
        (Method::HEAD, "HEAD"),
        (Method::OPTIONS, "OPTIONS"),
    ];
    known.iter().find(|(known, _)| known == method).map_or("_OTHER", |(_, name)| name)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::context::TraceId;
    use super::*;

    /// A stream that was throttled at one place and answered at the next.
    pub fn example() -> RequestSpan {
        let place = |backend: &str, tier| {
            Arc::new(SpanTarget {
                provider: semconv::AZURE,
                host: format!("{backend}.openai.azure.com"),
                port: 443,
                backend: backend.into(),
                deployment: "gpt4o".into(),
                tier,
                location: None,
            })
        };
        let attempt = |id, place, began, ended, outcome, status| AttemptSpan {
            id: SpanId::new(id),
            place,
            began,
            ended,
            waited: Duration::ZERO,
            outcome,
            is_error: outcome != "ok",
            status: Some(status),
        };
        RequestSpan {
            trace: Trace::new(TraceId::new(0xab), SpanId::new(1), None, true),
            began: 1_000_000_000,
            ended: 3_000_000_000,
            id: "r1".into(),
            consumer: Some("crm".into()),
            method: Method::POST,
            path: "/openai/deployments/gpt-4o/chat/completions".into(),
            api: Some(Api::Chat),
            model: Some("gpt-4o".into()),
            pool: Some("chat".into()),
            stream: true,
            max_tokens: Some(100),
            choices: None,
            status: 200,
            end: "ok",
            code: None,
            cache: None,
            first: Some(Duration::from_millis(1500)),
            overhead: Duration::from_micros(80),
            usage: Some(Usage { input: 10, output: 20, cached_input: 4, ..Usage::default() }),
            attempts: [
                attempt(2, place("ptu", 1), 1_000_100_000, 1_100_000_000, "throttled", 429),
                attempt(3, place("payg", 2), 1_200_000_000, 3_000_000_000, "ok", 200),
            ]
            .into(),
        }
    }

    impl Tell for Vec<(&'static str, String)> {
        fn add(&mut self, name: &'static str, value: Value<'_>) {
            assert!(self.iter().all(|(other, _)| *other != name), "{name} twice");
            self.push((
                name,
                match value {
                    Value::Text(text) => text.into_owned(),
                    Value::Count(count) => count.to_string(),
                    Value::Seconds(time) => time.as_secs_f64().to_string(),
                    Value::Flag(flag) => flag.to_string(),
                },
            ));
        }
    }

    fn get<'t>(told: &'t [(&str, String)], name: &str) -> Option<&'t str> {
        told.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_str())
    }

    fn of_request(span: &RequestSpan) -> Vec<(&'static str, String)> {
        let mut told = Vec::new();
        span.attributes(&mut told);
        told
    }

    fn of_attempt(span: &RequestSpan, index: usize) -> Vec<(&'static str, String)> {
        let mut told = Vec::new();
        span.attempt_attributes(index, &mut told);
        told
    }

    #[test]
    fn a_request_and_its_attempts_are_told() {
        let span = example();
        assert_eq!((span.name().as_ref(), span.spans(), span.error()), ("chat gpt-4o", 3, None));
        let request = of_request(&span);
        for (name, value) in [
            ("http.request.method", Some("POST")),
            ("http.route", Some("/openai/deployments/{deployment}/chat/completions")),
            ("http.response.status_code", Some("200")),
            ("gen_ai.operation.name", Some("chat")),
            ("gen_ai.request.model", Some("gpt-4o")),
            ("gen_ai.request.max_tokens", Some("100")),
            ("gen_ai.response.time_to_first_chunk", Some("1.5")),
            ("spillway.consumer", Some("crm")),
            ("spillway.request.id", Some("r1")),
            ("spillway.attempts", Some("2")),
            ("error.type", None),
            ("gen_ai.usage.input_tokens", None),
        ] {
            assert_eq!(get(&request, name), value, "{name}");
        }
        let (first, second) = (of_attempt(&span, 0), of_attempt(&span, 1));
        assert_eq!(span.attempt_name(&span.attempts[0]), "chat gpt4o");
        for (name, one, other) in [
            ("server.address", Some("ptu.openai.azure.com"), Some("payg.openai.azure.com")),
            ("gen_ai.provider.name", Some("azure.ai.openai"), Some("azure.ai.openai")),
            ("error.type", Some("429"), None),
            ("spillway.outcome", Some("throttled"), Some("ok")),
            ("spillway.tier", Some("1"), Some("2")),
            ("spillway.attempt", Some("1"), Some("2")),
            ("gen_ai.usage.input_tokens", None, Some("10")),
            ("gen_ai.usage.cache_read.input_tokens", None, Some("4")),
            ("gen_ai.usage.reasoning.output_tokens", None, None),
            ("gen_ai.response.time_to_first_chunk", None, Some("1.3")),
        ] {
            assert_eq!((get(&first, name), get(&second, name)), (one, other), "{name}");
        }
    }

    #[test]
    fn errors_are_those_of_the_side_that_made_them() {
        let mut span = example();
        for (status, end, code, expected) in [
            (429, "refused", Some("rate_limit_exceeded"), None),
            (502, "refused", Some("upstream_error"), Some("upstream_error")),
            (500, "ok", None, Some("500")),
            (200, "cut", None, Some("cut")),
            (499, "caller_left", None, None),
        ] {
            (span.status, span.end, span.code) = (status, end, code);
            assert_eq!(span.error().as_deref(), expected, "{status} {end}");
        }
        for (outcome, status, expected) in [
            ("caller_fault", Some(400), Some("400")),
            ("failed", Some(200), Some("failed")),
            ("connect", None, Some("connect")),
            ("cancelled", Some(200), None),
        ] {
            (span.attempts[0].outcome, span.attempts[0].status) = (outcome, status);
            span.attempts[0].is_error = !matches!(outcome, "ok" | "cancelled");
            assert_eq!(span.attempts[0].error().as_deref(), expected, "{outcome}");
        }
    }

    #[test]
    fn what_a_caller_made_up_names_nothing() {
        let mut span = example();
        (span.api, span.model, span.path) = (None, None, "/v1/sk-secret".into());
        span.method = Method::from_bytes(b"WHATEVER").unwrap();
        assert_eq!(span.name(), "_OTHER");
        let told = of_request(&span);
        assert!(told.iter().all(|(_, value)| !value.contains("secret") && !value.contains("WHATEVER")), "{told:?}");
        (span.api, span.method, span.path) = (Some(Api::Files), Method::GET, "/v1/files/file-1".into());
        assert_eq!((span.name().as_ref(), get(&of_request(&span), "gen_ai.operation.name")), ("GET /v1/files/{id}", None));
    }
}
