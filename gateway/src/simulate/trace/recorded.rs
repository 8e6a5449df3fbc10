//! Traffic from the gateway's own ledger, with all that it decided: attempts from the ledger, and refusals, if it records them.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use spillway_plugins::api::Api;
use spillway_plugins::limits::{Class, LimitKind};
use spillway_plugins::prices::Money;
use spillway_plugins::retry::ThrottleScope;
use spillway_plugins::tokens::Usage;

use super::{Trace, TraceError, Unused};
use crate::clock::Tick;
use crate::ledger::attempts::{AttemptRows, Attempted};
use crate::ledger::refusals::{Refusal, RefusalRows};
use crate::simulate::request::{Names, Request};
use crate::simulate::seen::{Answer, Said, Seen, SeenEnd, place_name};

/// All requests in a ledger.
#[derive(Debug)]
pub struct RecordedTrace {
    attempts: AttemptRows,
    refusals: RefusalRows,
    next_attempt: Option<Attempted>,
    next_refusal: Option<Refusal>,
    /// Requests of the same millisecond.
    ready: VecDeque<Request>,
}

/// What is known of one attempt: its row in the ledger, and its refusal.
#[derive(Debug, Default)]
struct Part {
    row: Option<Attempted>,
    refusal: Option<Refusal>,
}

/// What is known of one request.
#[derive(Debug, Default)]
struct Group {
    parts: BTreeMap<u32, Part>,
    /// The gateway's own refusal.
    own: Option<Refusal>,
}

impl RecordedTrace {
    /// Those in `folder` that arrived from `since` on, before `until`, in milliseconds since 1970.
    ///
    /// # Errors
    /// [`TraceError::Ledger`]
    pub fn new(folder: &Path, since: i64, until: i64) -> Result<Self, TraceError> {
        let mut attempts = AttemptRows::new(folder, since, until, false)?;
        let mut refusals = RefusalRows::new(folder, since, until)?;
        let (next_attempt, next_refusal) = (attempts.next_row()?, refusals.next_row()?);
        Ok(RecordedTrace { attempts, refusals, next_attempt, next_refusal, ready: VecDeque::new() })
    }

    /// Whether refusals are recorded there.
    pub fn has_refusals(&self) -> bool {
        self.refusals.are_recorded()
    }

    /// Reads the requests of the next millisecond. Returns whether there is one.
    fn read(&mut self, names: &mut Names) -> Result<bool, TraceError> {
        let of_attempt = self.next_attempt.as_ref().map(|row| row.at);
        let of_refusal = self.next_refusal.as_ref().map(|row| row.at.div_euclid(1000));
        let Some(now) = [of_attempt, of_refusal].into_iter().flatten().min() else { return Ok(false) };
        let mut groups: BTreeMap<Vec<u8>, Group> = BTreeMap::new();
        while let Some(row) = self.next_attempt.take_if(|row| row.at == now) {
            let group = groups.entry(row.request.as_bytes().to_vec()).or_default();
            let attempt = row.attempt;
            group.parts.entry(attempt).or_default().row = Some(row);
            self.next_attempt = self.attempts.next_row()?;
        }
        while let Some(row) = self.next_refusal.take_if(|row| row.at.div_euclid(1000) == now) {
            let group = groups.entry(row.request.to_vec()).or_default();
            match row.attempt {
                0 => group.own = Some(row),
                attempt => group.parts.entry(attempt).or_default().refusal = Some(row),
            }
            self.next_refusal = self.refusals.next_row()?;
        }
        self.ready.extend(groups.into_values().filter_map(|group| group.request(names)));
        Ok(true)
    }
}

impl Trace for RecordedTrace {
    fn next(&mut self, names: &mut Names) -> Result<Option<Request>, TraceError> {
        while self.ready.is_empty() {
            if !self.read(names)? {
                return Ok(None);
            }
        }
        Ok(self.ready.pop_front())
    }

    fn unused(&self) -> Unused {
        Unused::default()
    }
}

/// What all attempts of a request have in common.
struct Facts {
    /// In microseconds since 1970.
    arrived: i64,
    model: Arc<str>,
    consumer: Option<Arc<str>>,
    api: Option<Api>,
    class: Option<Class>,
    cap: Option<u64>,
    bound: Option<u64>,
}

impl Group {
    fn facts(&self) -> Option<Facts> {
        let refusal = self.own.as_ref().or_else(|| self.parts.values().find_map(|part| part.refusal.as_ref()));
        if let Some(refusal) = refusal {
            return Some(Facts {
                arrived: refusal.at,
                model: Arc::clone(&refusal.model),
                consumer: refusal.consumer.clone(),
                api: refusal.api,
                class: Some(refusal.class),
                cap: refusal.cap,
                bound: refusal.tokens.filter(|_| refusal.owner.is_empty()),
            });
        }
        let row = self.parts.values().find_map(|part| part.row.as_ref())?;
        Some(Facts {
            arrived: row.at * 1000 + i64::from(row.at_us),
            model: row.kind.model.as_str().into(),
            consumer: row.consumer.as_deref().map(Into::into),
            api: row.kind.api,
            class: row.kind.class,
            cap: row.cap,
            bound: row.reserved,
        })
    }

    fn request(self, names: &mut Names) -> Option<Request> {
        let facts = self.facts()?;
        let answered = self.parts.values().find_map(|part| part.row.as_ref().filter(|row| row.is_answered));
        let is_unasked =
            answered.is_some_and(|row| row.is_cached || Said::of(&row.kind.outcome, None, None, ThrottleScope::Quota).is_none());
        let mut seen = Seen { is_ours: true, prompt_bound: facts.bound, ..Seen::default() };
        if !is_unasked {
            seen.answers.extend(self.parts.values().filter_map(|part| part.answer(names)));
        }
        let last_served = seen.answers.last().is_some_and(|answer| matches!(answer.said, Said::Served(_)));
        seen.end = match &self.own {
            _ if is_unasked => SeenEnd::Unasked,
            _ if answered.is_some() => SeenEnd::Served,
            Some(own) if !own.owner.is_empty() => {
                let kind = LimitKind::ALL.into_iter().find(|kind| kind.label() == &*own.outcome);
                SeenEnd::Limit(Arc::clone(&own.owner), kind)
            }
            Some(own) => match &*own.outcome {
                "rate_limit_exceeded" | "no_backend_available" => SeenEnd::NoBackend,
                "upstream_error" | "upstream_timeout" => SeenEnd::Failed,
                // Other refusals come after the limits, and don't depend on deployments.
                _ => SeenEnd::Unasked,
            },
            None if last_served => SeenEnd::Served,
            None => SeenEnd::Failed,
        };
        seen.status = answered.map_or_else(|| self.own.as_ref().and_then(|own| own.status), |row| row.status);
        seen.cost = answered.and_then(|row| row.cost).map(Money);
        let limit = self.own.as_ref().filter(|own| !own.owner.is_empty());
        seen.demand = limit.and_then(|own| Some((own.tokens?, Money(own.cost.unwrap_or(0)))));
        seen.took = self.own.as_ref().map(|own| micros(own.took));
        // When it was admitted: limits and deployments were decided on then.
        let admitted = match (limit, self.parts.values().next()) {
            (Some(own), _) => own.began,
            (None, Some(part)) if !is_unasked => part.admitted(),
            _ => 0,
        };
        let at = u64::try_from(facts.arrived.saturating_add(admitted)).unwrap_or(0);
        Some(Request {
            at: Tick(at.saturating_mul(1000)),
            model: names.number(&facts.model),
            consumer: facts.consumer.as_deref().map(|name| names.number(name)),
            api: facts.api.unwrap_or(Api::Chat),
            class: facts.class,
            usage: answered.map_or_else(Usage::default, |row| row.usage),
            cap: facts.cap,
            took: answered.map(|row| Duration::from_micros(row.us)),
            first: answered.and_then(Attempted::first),
            deadline: None,
            seen: Some(Arc::new(seen)),
        })
    }
}

impl Part {
    /// From the request's arrival until it was admitted, in microseconds.
    fn admitted(&self) -> i64 {
        match (&self.refusal, &self.row) {
            (Some(refusal), _) => refusal.began - refusal.waited,
            (None, Some(row)) => {
                let signed = |micros: Option<u64>| i64::try_from(micros.unwrap_or(0)).unwrap_or(0);
                signed(row.began_us) - signed(row.waited_us)
            }
            (None, None) => 0,
        }
        .max(0)
    }

    fn answer(&self, names: &mut Names) -> Option<Answer> {
        let scope = |refusal: &Refusal| if refusal.of_deployment { ThrottleScope::Deployment } else { ThrottleScope::Quota };
        let wait = self.refusal.as_ref().and_then(|refusal| refusal.retry_after).map(micros);
        if let Some(row) = &self.row {
            let scope = self.refusal.as_ref().map(scope).unwrap_or_default();
            let said = Said::of(&row.kind.outcome, row.status, wait, scope)?;
            let used = (!row.is_answered).then_some((row.usage, row.cost.map(Money)));
            return Some(Answer {
                place: names.number(&place_name(&row.kind.backend, &row.kind.deployment)),
                took: Duration::from_micros(row.us),
                said: if row.is_answered { Said::Served(wait) } else { said },
                used,
            });
        }
        let refusal = self.refusal.as_ref()?;
        Some(Answer {
            place: names.number(&place_name(&refusal.backend, &refusal.deployment)),
            took: micros(refusal.took),
            said: Said::of(&refusal.outcome, refusal.status, wait, scope(refusal))?,
            used: None,
        })
    }
}

fn micros(count: i64) -> Duration {
    Duration::from_micros(u64::try_from(count).unwrap_or(0))
}
