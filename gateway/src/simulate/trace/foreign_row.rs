//! A request in another gateway's log, as it is there.

use std::sync::Arc;
use std::time::Duration;

use spillway_plugins::api::Api;
use spillway_plugins::prices::Money;
use spillway_plugins::tokens::Usage;

use crate::clock::Tick;
use crate::simulate::request::{Names, Request};
use crate::simulate::seen::{Answer, Said, Seen, SeenEnd, place_name};

/// A request in another gateway's log. Names are as they are there.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Row {
    pub(super) at: Tick,
    /// Names of its model: what the caller asked for, if known, then others.
    pub(super) models: Vec<String>,
    pub(super) consumer: Option<String>,
    pub(super) api: Option<Api>,
    /// What it used; `None` if the log doesn't say.
    pub(super) usage: Option<Usage>,
    pub(super) took: Option<Duration>,
    /// The backend's name or URL, the deployment there, and the backend's status.
    pub(super) backend: Option<(String, String, u16)>,
    /// The status that the caller got.
    pub(super) status: Option<u16>,
    /// The logging gateway's own limit refused it.
    pub(super) is_limited: bool,
    pub(super) is_cached: bool,
    pub(super) cost: Option<Money>,
}

impl Row {
    /// The request, with the number of its model and with its usage, which may be assumed.
    pub(super) fn request(self, model: u32, usage: Usage, names: &mut Names) -> Request {
        let status = self.status.unwrap_or(200);
        let answered = self.backend.as_ref().map(|(.., status)| *status);
        let end = match status {
            _ if self.is_cached => SeenEnd::Unasked,
            _ if self.is_limited => SeenEnd::Limit("the logging gateway".into(), None),
            429 => SeenEnd::NoBackend,
            408 | 500..=599 => SeenEnd::Failed,
            // A caller's own fault is the backend's answer, too.
            _ if (200..300).contains(&status) || answered.is_some_and(|answered| answered == status) => SeenEnd::Served,
            _ => SeenEnd::Unasked,
        };
        let answers = self.backend.into_iter().map(|(backend, deployment, status)| Answer {
            place: names.number(&place_name(&backend, &deployment)),
            took: if status == 429 { Duration::ZERO } else { self.took.unwrap_or_default() },
            said: Said::of_status(status, None),
            used: None,
        });
        let seen = Seen { answers: answers.collect(), end, status: Some(status), cost: self.cost, took: self.took, ..Seen::default() };
        // A request that failed took as long as its failure, which says nothing about an answer.
        let took = self.took.filter(|_| seen.end == SeenEnd::Served);
        Request {
            at: self.at,
            model,
            consumer: self.consumer.map(|name| names.number(&name)),
            api: self.api.unwrap_or(Api::Chat),
            class: None,
            usage,
            cap: None,
            took,
            first: None,
            deadline: None,
            seen: Some(Arc::new(seen)),
        }
    }
}

/// A time: of RFC 3339, the same without a zone (then UTC), or in seconds or milliseconds since 1970.
pub(super) fn time(text: &str) -> Option<Tick> {
    let nanos = |time: chrono::DateTime<chrono::Utc>| time.timestamp_nanos_opt().and_then(|nanos| u64::try_from(nanos).ok()).map(Tick);
    if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
        return nanos(time.to_utc());
    }
    for form in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%m/%d/%Y, %I:%M:%S%.f %p"] {
        if let Ok(time) = chrono::NaiveDateTime::parse_from_str(text, form) {
            return nanos(time.and_utc());
        }
    }
    let number: f64 = text.parse().ok()?;
    let seconds = if number >= 1e11 { number / 1e3 } else { number };
    (0.0..1e10).contains(&seconds).then(|| Tick((seconds * 1e6).round() as u64 * 1000))
}

/// The last part of a name with slashes.
pub(super) fn last_part(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}
