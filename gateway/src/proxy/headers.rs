//! Which headers are passed on, in both directions.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};
use smallvec::SmallVec;
use spillway_plugins::fields::{is_callers_own, is_hop_by_hop, is_like_another, is_withheld};
use spillway_plugins::limits::{Counter, Remaining};

use crate::clock::micros;
use crate::downstream::{HeadFields, ReplyHead};
use crate::http1::answer_head::AnswerHead;

/// `x-accel-buffering`
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// `x-ms-service-tier`: at Azure it wins over the body's service tier.
pub const X_MS_SERVICE_TIER: HeaderName = HeaderName::from_static("x-ms-service-tier");
/// `anthropic-version`
pub const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
/// `x-request-id`
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// `x-spillway-backend`: the backend that answered.
const X_SPILLWAY_BACKEND: HeaderName = HeaderName::from_static("x-spillway-backend");
/// `x-spillway-cache`: what the cache did for the request.
pub const X_SPILLWAY_CACHE: HeaderName = HeaderName::from_static("x-spillway-cache");
/// `x-spillway-cache-score`: how similar the question is whose cached answer this is, 0 to 1.
pub const X_SPILLWAY_CACHE_SCORE: HeaderName = HeaderName::from_static("x-spillway-cache-score");
/// `x-spillway-trace-id`: the trace that the request is part of.
pub const X_SPILLWAY_TRACE_ID: HeaderName = HeaderName::from_static("x-spillway-trace-id");
/// `x-spillway-attempts`: how many attempts it took.
const X_SPILLWAY_ATTEMPTS: HeaderName = HeaderName::from_static("x-spillway-attempts");
/// `x-spillway-overhead-us`: the gateway's own time until the first byte.
const X_SPILLWAY_OVERHEAD_US: HeaderName = HeaderName::from_static("x-spillway-overhead-us");

/// Fields of an upstream that refer to its own host, not to the gateway. A redirect to another host could contain the
/// gateway's credential.
fn is_upstreams_own(name: &str) -> bool {
    matches!(
        name,
        "location"
            | "content-location"
            | "refresh"
            | "set-cookie"
            | "alt-svc"
            | "strict-transport-security"
            | "x-request-id"
            | "server"
            | "nel"
            | "report-to"
    ) || name.starts_with("x-spillway-")
        || name.starts_with("access-control-")
}

/// The fields that a `Connection` field names as hop-by-hop.
pub(super) fn nominated(headers: &HeaderMap) -> SmallVec<[&str; 4]> {
    nominated_in(headers.get_all(header::CONNECTION).into_iter().map(HeaderValue::as_bytes))
}

/// The same, from the values of the `Connection` fields.
fn nominated_in<'h>(values: impl Iterator<Item = &'h [u8]>) -> SmallVec<[&'h str; 4]> {
    let mut names = SmallVec::new();
    // Each element by itself: one that is no text hides no other.
    for name in values.flat_map(|value| value.split(|byte| *byte == b',')) {
        names.extend(std::str::from_utf8(name).ok().map(str::trim));
    }
    names
}

/// Whether a name is in the list, in any letter case.
pub(super) fn is_among(name: &str, nominated: &[&str]) -> bool {
    nominated.iter().any(|other| other.eq_ignore_ascii_case(name))
}

/// Whether a caller's field is not passed on. A consumer may be `allowed` to send fields that are usually withheld.
fn stays_here(name: &str, allowed: &[HeaderName]) -> bool {
    is_callers_own(name) || (is_withheld(name) && !allowed.iter().any(|other| other == name)) || is_like_another(name)
}

/// The caller's fields that are passed on to an upstream, including those it is `allowed` to send.
pub fn passed_on<'c>(caller: &'c RequestHeader, allowed: &'c [HeaderName]) -> impl Iterator<Item = (&'c str, &'c [u8])> {
    let nominated = nominated(&caller.headers);
    let stays = move |name: &str| is_hop_by_hop(name) || stays_here(name, allowed) || is_among(name, &nominated);
    caller.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).filter(move |(name, _)| !stays(name))
}

/// Whether the comma-separated fields of this name contain a word.
pub fn says(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|said| said.trim().eq_ignore_ascii_case(word))
}

/// Whether a request asks for a WebSocket (RFC 6455, 4.1) and for no other protocol.
pub fn asks_for_websocket(headers: &HeaderMap) -> bool {
    says(headers, &header::CONNECTION, "upgrade")
        && headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && headers.get_all(header::UPGRADE).iter().count() == 1
}

/// The WebSocket subprotocols that a caller offers, except those that contain its credential or its account.
pub fn subprotocols(headers: &HeaderMap) -> Option<String> {
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let kept: Vec<&str> = offered.flat_map(|value| value.split(',')).map(str::trim).filter(|name| is_subprotocol(name)).collect();
    (!kept.is_empty()).then(|| kept.join(", "))
}

/// Whether an offered subprotocol is a real one, not a credential in its place.
fn is_subprotocol(name: &str) -> bool {
    let credentials = ["openai-insecure-api-key.", "openai-organization.", "openai-project.", "openai-ephemeral-user-token."];
    !name.is_empty() && !credentials.iter().any(|start| name.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start)))
}

/// The subprotocol in the answer to the caller: the upstream's choice, if the caller offered it; otherwise the first
/// one offered. A browser closes the connection if it offered some and none is chosen.
pub fn chosen_subprotocol(headers: &HeaderMap, chosen: Option<&HeaderValue>) -> Option<HeaderValue> {
    let offered = subprotocols(headers)?;
    let chosen = chosen.and_then(|chosen| chosen.to_str().ok()).filter(|chosen| offered.split(", ").any(|name| name == *chosen));
    HeaderValue::from_str(chosen.unwrap_or_else(|| offered.split(", ").next().unwrap_or_default())).ok()
}

/// Removes fields that refer to the upstream's own host (Pingora's own loop passes the head on unchanged).
pub fn strip_upstream(head: &mut impl HeadFields) {
    head.remove_where(is_upstreams_own);
}

/// Keeps servers on the way from collecting the events of a stream.
pub fn never_buffered(head: &mut impl HeadFields) {
    head.set(&header::CACHE_CONTROL, b"no-cache");
    head.set(&X_ACCEL_BUFFERING, b"no");
}

/// A form part with the model's name, for the start of a form that names its model only in the URL.
pub fn model_part(caller: &RequestHeader, deployment: &str) -> String {
    let content_type = caller.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let boundary = spillway_plugins::multipart::boundary(content_type).ok().flatten().unwrap_or("");
    format!("--{boundary}\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{deployment}\r\n")
}

/// The length of the body according to `headers`, if they have it.
pub fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Adds where the answer came from (no `backend` for a refusal), how many attempts were made, and the gateway's own
/// part of the time.
pub fn describe(head: &mut impl HeadFields, backend: Option<&str>, attempts: usize, overhead: Option<Duration>) {
    if let Some(backend) = backend {
        head.set(&X_SPILLWAY_BACKEND, backend.as_bytes());
    }
    let mut digits = itoa::Buffer::new();
    head.set_own(&X_SPILLWAY_ATTEMPTS, digits.format(attempts).as_bytes());
    head.set_own(&X_SPILLWAY_OVERHEAD_US, digits.format(micros(overhead.unwrap_or_default())).as_bytes());
}

/// Adds what is left of the caller's rates, in OpenAI's form. If the caller has limits here, those of the upstream are
/// removed.
pub fn rate_limits(head: &mut impl HeadFields, remaining: &Remaining) {
    if has_rates(remaining) {
        head.remove_where(is_rate);
        add_rates(head, remaining);
    }
}

fn has_rates(remaining: &Remaining) -> bool {
    remaining.requests.is_some() || remaining.tokens.is_some()
}

/// Whether a field is about rate limits, in any vendor's form.
fn is_rate(name: &str) -> bool {
    // This is called for every field of every answer; most begin with other letters.
    matches!(name.as_bytes(), [b'x', b'-', b'r', ..] | [b'a', b'n', ..])
        && (name.starts_with("x-ratelimit-") || name.starts_with("anthropic-ratelimit-"))
}

/// Adds each rate that there is to send.
fn add_rates(head: &mut impl HeadFields, remaining: &Remaining) {
    let mut digits = itoa::Buffer::new();
    for (names, counter) in [(&REQUESTS, remaining.requests), (&TOKENS, remaining.tokens)] {
        let (Some(Counter { limit, remaining, reset }), [of_limit, of_remaining, of_reset]) = (counter, names) else { continue };
        head.add_own(of_limit, digits.format(limit).as_bytes());
        head.add_own(of_remaining, digits.format(remaining).as_bytes());
        head.add_own(of_reset, go_duration(reset, &mut [0; 32]));
    }
}

/// Header names for a rate's limit, what is left of it, and when it is full again.
type RateNames = [HeaderName; 3];

static REQUESTS: RateNames = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
static TOKENS: RateNames = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

/// Writes a duration in the format of Go, which OpenAI uses: `12ms`, `1.5s`, `1m0s`. Returns what is written.
fn go_duration(time: Duration, text: &mut [u8; 32]) -> &[u8] {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let mut digits = itoa::Buffer::new();
    let mut end = 0;
    let mut put = |part: &[u8]| {
        // The longest has 24 bytes.
        if let Some(place) = text.get_mut(end..end + part.len()) {
            place.copy_from_slice(part);
            end += part.len();
        }
    };
    if millis < 1000 {
        put(digits.format(millis).as_bytes());
        put(b"ms");
        return &text[..end];
    }
    if millis >= 60_000 {
        put(digits.format(millis / 60_000).as_bytes());
        put(b"m");
    }
    put(digits.format(millis % 60_000 / 1000).as_bytes());
    let rest = millis % 1000;
    if rest > 0 {
        let thousandths = [b'.', b'0' + (rest / 100) as u8, b'0' + (rest / 10 % 10) as u8, b'0' + (rest % 10) as u8];
        let zeros = thousandths.iter().rev().take_while(|digit| **digit == b'0').count();
        put(&thousandths[..thousandths.len() - zeros]);
    }
    put(b"s");
    &text[..end]
}

/// The head of an upstream's answer, as a map or as it came.
pub trait UpstreamHead {
    /// The status.
    fn status(&self) -> StatusCode;

    /// The fields: names in small letters, and values.
    fn fields(&self) -> impl Iterator<Item = (&str, &[u8])>;
}

impl UpstreamHead for ResponseHeader {
    fn status(&self) -> StatusCode {
        self.status
    }

    fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
    }
}

impl UpstreamHead for AnswerHead {
    fn status(&self) -> StatusCode {
        self.status
    }

    fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.iter()
    }
}

/// How an answer's body is sent to a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// As long as the upstream's head says, if it does.
    Upstreams,
    /// So long.
    Of(usize),
    /// In chunks.
    Chunked,
}

/// The head for the caller, made from an upstream's head and what is left of the caller's rates.
pub fn for_caller(upstream: &impl UpstreamHead, request_id: &str, length: Length, remaining: &Remaining) -> ReplyHead {
    let rates = has_rates(remaining);
    let nominated = nominated_in(upstream.fields().filter(|(name, _)| *name == "connection").map(|(_, value)| value));
    let stays = |name: &str| is_hop_by_hop(name) || is_upstreams_own(name) || (rates && is_rate(name)) || is_among(name, &nominated);
    let mut head = ReplyHead::new(upstream.status());
    head.add(&X_REQUEST_ID, request_id.as_bytes());
    add_rates(&mut head, remaining);
    for (name, value) in upstream.fields() {
        let is_passed_on = !stays(name) && (length == Length::Upstreams || name != "content-length");
        if is_passed_on {
            head.add_parsed(name, value);
        }
    }
    match length {
        Length::Upstreams => {}
        Length::Of(length) => head.add_own(&header::CONTENT_LENGTH, itoa::Buffer::new().format(length).as_bytes()),
        Length::Chunked => head.add_own(&header::TRANSFER_ENCODING, b"chunked"),
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_hops_and_our_own_stay_here() {
        let mut caller = RequestHeader::build("POST", b"/", None).unwrap();
        for (name, value) in [
            ("authorization", "Bearer x"),
            ("api-key", "x"),
            ("x-api-key", "x"),
            ("cookie", "x"),
            ("x-spillway-debug", "x"),
            ("x-ms-spillover-deployment", "x"),
            ("x-ms-service-tier", "priority"),
            ("content-encoding", "gzip"),
            ("connection", "close, X-Secret"),
            ("x-secret", "x"),
            ("te", "trailers"),
            ("host", "evil"),
            ("x-forwarded-host", "evil"),
            ("expect", "100-continue"),
            ("content-type", "application/json"),
            ("openai-beta", "a"),
            ("x-custom", "1"),
        ] {
            caller.append_header(name, value).unwrap();
        }
        let names = |allowed: &[HeaderName]| {
            let mut names: Vec<String> = passed_on(&caller, allowed).map(|(name, _)| name.to_owned()).collect();
            names.sort_unstable();
            names
        };
        assert_eq!(names(&[]), ["content-type", "openai-beta", "x-custom"]);
        let allowed = [HeaderName::from_static("x-ms-service-tier"), HeaderName::from_static("authorization")];
        assert_eq!(names(&allowed), ["content-type", "openai-beta", "x-custom", "x-ms-service-tier"]);
    }

    #[test]
    fn a_subprotocol_is_no_place_for_a_key() {
        let offer = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(value));
            headers
        };
        let browser = offer("realtime, openai-insecure-api-key.sk-1,OpenAI-Organization.o, openai-beta.realtime-v1");
        assert_eq!(subprotocols(&browser).as_deref(), Some("realtime, openai-beta.realtime-v1"));
        assert_eq!(subprotocols(&offer("openai-insecure-api-key.sk-1")), None);
        let chosen = |value: &'static str| chosen_subprotocol(&browser, Some(&HeaderValue::from_static(value)));
        assert_eq!(chosen("openai-beta.realtime-v1").unwrap(), "openai-beta.realtime-v1");
        assert_eq!(chosen("openai-insecure-api-key.sk-1").unwrap(), "realtime");
        assert_eq!(chosen_subprotocol(&browser, None).unwrap(), "realtime");
        assert_eq!(chosen_subprotocol(&HeaderMap::new(), Some(&HeaderValue::from_static("x"))), None);
    }

    fn pairs(head: &ReplyHead) -> Vec<(&str, &str)> {
        head.iter().map(|(name, value)| (name, std::str::from_utf8(value).unwrap())).collect()
    }

    #[test]
    fn resets_are_told_as_openai_tells_them() {
        let told = |millis| String::from_utf8(go_duration(Duration::from_millis(millis), &mut [0; 32]).to_vec()).unwrap();
        assert_eq!([told(0), told(12), told(1500), told(60_000), told(90_951)], ["0ms", "12ms", "1.5s", "1m0s", "1m30.951s"]);
        assert_eq!([told(1020), told(61_005)], ["1.02s", "1m1.005s"]);
        let counter = |limit| Some(Counter { limit, remaining: limit / 2, reset: Duration::from_secs(2) });
        let remaining = Remaining { requests: counter(10), tokens: counter(1000) };
        let mut head = ReplyHead::new(http::StatusCode::OK);
        add_rates(&mut head, &remaining);
        let values = pairs(&head);
        assert_eq!(values[..2], [("x-ratelimit-limit-requests", "10"), ("x-ratelimit-remaining-requests", "5")]);
        assert_eq!(values[4..], [("x-ratelimit-remaining-tokens", "500"), ("x-ratelimit-reset-tokens", "2s")]);
    }

    #[test]
    fn every_choice_of_rates_stands_under_its_names() {
        let counter = |limit| Some(Counter { limit, remaining: limit - 1, reset: Duration::from_secs(1) });
        let upstream = ResponseHeader::build(200, None).unwrap();
        for (requests, tokens) in [(None, None), (counter(10), None), (None, counter(20)), (counter(10), counter(20))] {
            let head = for_caller(&upstream, "id", Length::Upstreams, &Remaining { requests, tokens });
            let told = |name: &str| head.get(name).map(|value| std::str::from_utf8(value).unwrap());
            assert_eq!(told("x-request-id"), Some("id"));
            assert_eq!(told("x-ratelimit-limit-requests"), requests.map(|_| "10"));
            assert_eq!(told("x-ratelimit-remaining-requests"), requests.map(|_| "9"));
            assert_eq!(told("x-ratelimit-reset-requests"), requests.map(|_| "1s"));
            assert_eq!(told("x-ratelimit-limit-tokens"), tokens.map(|_| "20"));
            assert_eq!(told("x-ratelimit-remaining-tokens"), tokens.map(|_| "19"));
            assert_eq!(told("x-ratelimit-reset-tokens"), tokens.map(|_| "1s"));
        }
    }

    #[test]
    fn an_upstreams_rates_are_told_to_those_who_have_none_here() {
        let mut upstream = ResponseHeader::build(200, None).unwrap();
        for name in ["x-ratelimit-limit-requests", "anthropic-ratelimit-tokens-limit", "x-ratelimit-of-theirs"] {
            upstream.insert_header(name, "99").unwrap();
        }
        let tokens = Some(Counter { limit: 20, remaining: 19, reset: Duration::from_secs(1) });
        for (remaining, rates) in [
            (Remaining::default(), vec!["anthropic-ratelimit-tokens-limit", "x-ratelimit-limit-requests", "x-ratelimit-of-theirs"]),
            (
                Remaining { requests: None, tokens },
                vec!["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"],
            ),
        ] {
            let head = for_caller(&upstream, "id", Length::Upstreams, &remaining).to_pingora();
            let mut other = upstream.clone();
            rate_limits(&mut other, &remaining);
            for head in [&*head, &other] {
                let mut told: Vec<_> = head.headers.keys().map(HeaderName::as_str).filter(|name| name.contains("ratelimit")).collect();
                told.sort_unstable();
                assert_eq!(told, rates);
            }
        }
    }

    #[test]
    fn an_upstream_speaks_for_itself_only() {
        let mut upstream = ResponseHeader::build(200, None).unwrap();
        for (name, value) in [
            ("set-cookie", "a"),
            ("alt-svc", "h3"),
            ("connection", "keep-alive"),
            ("x-request-id", "theirs"),
            ("content-type", "text/plain"),
            ("x-spillway-backend", "forged"),
            ("content-length", "3"),
        ] {
            upstream.append_header(name, value).unwrap();
        }
        let head = for_caller(&upstream, "ours", Length::Upstreams, &Remaining::default());
        let mut pairs = pairs(&head);
        pairs.sort_unstable();
        assert_eq!(pairs, [("content-length", "3"), ("content-type", "text/plain"), ("x-request-id", "ours")]);
    }
}
