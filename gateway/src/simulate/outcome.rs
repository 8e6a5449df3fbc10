//! What a run came to, in figures that can be compared.

use std::sync::Arc;

use serde::Serialize;
use spillway_plugins::prices::Money;

use super::tally::{HOUR, Sums, Tally};
use super::world::Deployment;
use crate::clock::Tick;

/// What a scenario came to.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The scenario's name.
    pub name: String,
    /// Of all hours together.
    pub total: Figures,
    /// Of each hour in which something happened.
    pub hours: Vec<HourFigures>,
    /// Models that no pool has, and how many requests asked for them.
    pub unknown_models: Vec<(Arc<str>, u64)>,
    /// What the figures don't know.
    pub notes: Vec<String>,
}

/// The figures of an hour.
#[derive(Debug, Clone, Serialize)]
pub struct HourFigures {
    /// The hour's beginning.
    pub hour: String,
    /// Its figures.
    #[serde(flatten)]
    pub figures: Figures,
}

/// The figures of an hour, or of all.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Requests of models that a pool has.
    pub requests: u64,
    /// Those of them that no deployment could take in time: their callers get 429.
    pub refused: u64,
    /// What each tier did.
    pub tiers: Vec<TierFigures>,
    /// Requests of models with a PTU that another deployment served.
    pub spilled_requests: u64,
    /// Their tokens.
    pub spilled_tokens: u64,
    /// 429s of PTU deployments.
    pub ptu_429s: u64,
    /// 429s of other deployments.
    pub other_429s: u64,
    /// Requests that waited.
    pub waited: u64,
    /// The wait that 95 % of the requests don't exceed, in seconds.
    pub wait_p95_seconds: f64,
    /// Requests with a deadline.
    pub deadlines: u64,
    /// Those of them that missed it.
    pub missed_deadlines: u64,
    /// The work of all PTU deployments as a share of what they could do, with what reached them past the gateway; `None`
    /// without one.
    pub ptu_utilisation: Option<f64>,
    /// What was paid by use, in USD, as far as prices are known.
    pub by_use_usd: f64,
    /// What PTUs cost, in USD, by the hours begun; `None` if a price is not known.
    pub ptu_usd: Option<f64>,
    /// Requests by use whose price is not known.
    pub unpriced: u64,
    /// What the same requests would cost by pay-as-you-go alone, in USD, with as many cached tokens.
    pub pay_as_you_go_usd: f64,
    /// Those of them that have no such price.
    pub pay_as_you_go_unpriced: u64,
    /// The price per hour of all PTU deployments below which they pay, in USD; `None` without one, or if prices are missing.
    pub break_even_usd_per_hour: Option<f64>,
    /// The same for one PTU; `None` if the config doesn't say how many there are.
    pub break_even_usd_per_ptu_hour: Option<f64>,
}

/// What one tier did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TierFigures {
    /// Its priority.
    pub tier: u32,
    /// Requests that it served.
    pub requests: u64,
    /// Its share of the requests that were served.
    pub share: f64,
    /// Their tokens.
    pub tokens: u64,
    /// What it cost, in USD, as far as prices are known.
    pub cost_usd: f64,
}

/// The time that a run covers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    /// The first request's arrival.
    pub(super) from: Tick,
    /// The last one's.
    pub(super) last: Tick,
    /// The end of the last call.
    pub(super) to: Tick,
}

impl Figures {
    /// What was paid in all, in USD, as far as prices are known.
    pub fn cost_usd(&self) -> f64 {
        self.by_use_usd + self.ptu_usd.unwrap_or(0.0)
    }

    /// What is saved against pay-as-you-go alone, in USD; below 0 if that would be cheaper; `None` if prices are missing.
    pub fn saved_usd(&self) -> Option<f64> {
        let known = self.unpriced == 0 && self.pay_as_you_go_unpriced == 0 && self.ptu_usd.is_some();
        known.then(|| self.pay_as_you_go_usd - self.cost_usd())
    }

    /// `hours`: hours that PTUs are paid for. `seconds`: how long they could work.
    fn new(sums: &Sums, deployments: &[Deployment], hours: u64, seconds: f64) -> Self {
        let provisioned = || deployments.iter().filter(|deployment| deployment.is_provisioned);
        let hourly = |deployment: &Deployment| deployment.per_hour.map_or(0.0, Money::usd) * hours as f64;
        let served: u64 = sums.tiers.values().map(|tier| tier.requests).sum();
        let mut tiers: Vec<TierFigures> = sums
            .tiers
            .iter()
            .map(|(tier, of)| TierFigures {
                tier: *tier,
                requests: of.requests,
                share: of.requests as f64 / served.max(1) as f64,
                tokens: of.tokens,
                cost_usd: of.paid.usd(),
            })
            .collect();
        for deployment in deployments.iter().filter(|deployment| deployment.per_hour.is_some()) {
            match tiers.iter_mut().find(|tier| tier.tier == deployment.tier) {
                Some(tier) => tier.cost_usd += hourly(deployment),
                // It costs as much if it serves nothing.
                None => {
                    let idle = TierFigures { tier: deployment.tier, requests: 0, share: 0.0, tokens: 0, cost_usd: hourly(deployment) };
                    tiers.push(idle);
                }
            }
        }
        tiers.sort_by_key(|tier| tier.tier);
        let could: f64 = provisioned().filter_map(|deployment| deployment.per_second).sum::<f64>() * seconds;
        let busy = |(index, seconds): (&usize, &f64)| Some(deployments.get(*index)?.per_second? * seconds);
        let did: f64 = sums.busy.iter().filter_map(busy).sum();
        let by_use_usd = sums.tiers.values().map(|tier| tier.paid).sum::<Money>().usd();
        let unpriced = sums.tiers.values().map(|tier| tier.unpriced).sum();
        let is_known = provisioned().next().is_some() && unpriced == 0 && sums.alone_unpriced == 0 && hours > 0;
        let break_even = is_known.then(|| ((sums.alone.usd() - by_use_usd) / hours as f64).max(0.0));
        let units: Option<u32> = provisioned().map(|deployment| deployment.units).sum();
        let is_priced = provisioned().all(|deployment| deployment.per_hour.is_some());
        Figures {
            requests: sums.requests,
            refused: sums.refused,
            tiers,
            spilled_requests: sums.spilled,
            spilled_tokens: sums.spilled_tokens,
            ptu_429s: sums.throttled[0],
            other_429s: sums.throttled[1],
            waited: sums.waits.count(),
            wait_p95_seconds: sums.waits.quantile(0.95),
            deadlines: sums.deadlines,
            missed_deadlines: sums.missed,
            ptu_utilisation: (could > 0.0).then(|| did / could),
            by_use_usd,
            ptu_usd: is_priced.then(|| deployments.iter().map(hourly).sum()),
            unpriced,
            pay_as_you_go_usd: sums.alone.usd(),
            pay_as_you_go_unpriced: sums.alone_unpriced,
            break_even_usd_per_hour: break_even,
            break_even_usd_per_ptu_hour: break_even.zip(units.filter(|units| *units > 0)).map(|(usd, units)| usd / f64::from(units)),
        }
    }
}

impl Outcome {
    pub(super) fn new(name: String, deployments: &[Deployment], tally: &Tally, span: Span, unknown: Vec<(Arc<str>, u64)>) -> Self {
        let mut total = Sums::default();
        tally.hours.values().for_each(|sums| total.add(sums));
        let seconds = |from: Tick, to: Tick| to.since(from).as_secs_f64();
        let hours = tally.hours.iter().map(|(hour, sums)| {
            let (from, to) = (Tick(hour * HOUR).max(span.from), Tick((hour + 1) * HOUR).min(span.to));
            let is_paid = u64::from(*hour <= span.last.0 / HOUR);
            HourFigures { hour: time_text(Tick(hour * HOUR)), figures: Figures::new(sums, deployments, is_paid, seconds(from, to)) }
        });
        let paid = span.last.0 / HOUR - span.from.0 / HOUR + 1;
        let mut notes = Vec::new();
        for deployment in deployments {
            let id = &deployment.id;
            match (deployment.is_provisioned, deployment.per_hour) {
                (true, None) => notes.push(format!("{id} has no `usd_per_hour`: the cost is without it")),
                (false, Some(_)) => notes.push(format!("{id} has a price per hour, but no `ptu`: it takes every request")),
                _ => {}
            }
        }
        Outcome {
            name,
            total: Figures::new(&total, deployments, paid, seconds(span.from, span.to)),
            hours: hours.collect(),
            unknown_models: unknown,
            notes,
        }
    }
}

/// The same with microseconds.
pub(super) fn precise_time_text(at: Tick) -> String {
    let time = chrono::DateTime::from_timestamp_nanos(i64::try_from(at.0).unwrap_or(i64::MAX));
    time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

/// A time in the form of RFC 3339.
pub fn time_text(at: Tick) -> String {
    let time = chrono::DateTime::from_timestamp_nanos(i64::try_from(at.0).unwrap_or(i64::MAX));
    time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
